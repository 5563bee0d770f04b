//! Nor can it be taken from the reactor that holds it, which would be a second way into the ring.

fn main() {}

fn producer(reactor: fanin::Reactor) {
    let _ = reactor.lanes; //~ E0616
}
