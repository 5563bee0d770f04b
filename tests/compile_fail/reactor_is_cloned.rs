//! A reactor, and with it the producing end of each of its rings, is there once.

fn main() {}

fn cloned<T: Clone>() {}

fn twice() {
    cloned::<fanin::Reactor>(); //~ E0277
}
