//! A reactor, and with it the producing end of each of its rings, belongs to one thread at a time.

fn main() {}

fn shared<T: Sync>() {}

fn everywhere() {
    shared::<fanin::Reactor>(); //~ E0277
}
