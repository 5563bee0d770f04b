//! A consumer belongs to one thread at a time.

fn main() {}

fn shared<T: Sync>() {}

fn everywhere() {
    shared::<fanin::Consumer>(); //~ E0277
}
