//! The producing end of a ring has no name outside of the library.

fn main() {}

fn push(producer: &mut fanin::ring::Producer) { //~ E0603
    let _ = producer;
}
