//! Nor can a batch leave the function whose consumer it is.

fn main() {}

fn batch(mut consumer: fanin::Consumer) -> fanin::Batch<'static> {
    consumer.wait().unwrap() //~ E0515
}
