//! Only a configuration that was checked has a `bind`.

fn main() {
    let config = fanin::Config::listen("tcp://127.0.0.1:0").unwrap();
    let _ = config.bind(); //~ E0599
}
