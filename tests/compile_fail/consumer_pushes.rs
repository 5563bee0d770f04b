//! A consumer only takes: there is nothing by which it could put something into its ring.

fn main() {}

fn push(consumer: &mut fanin::Consumer) {
    consumer.push(b"message\n"); //~ E0599
}
