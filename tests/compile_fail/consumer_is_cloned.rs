//! A consumer is there once.

fn main() {}

fn cloned<T: Clone>() {}

fn twice() {
    cloned::<fanin::Consumer>(); //~ E0277
}
