//! A batch lies in its consumer's ring.

fn main() {}

fn batch(mut consumer: fanin::Consumer) {
    let batch = consumer.wait().unwrap();
    drop(consumer); //~ E0505
    batch.release();
}
