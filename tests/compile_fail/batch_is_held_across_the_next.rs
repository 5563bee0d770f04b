//! One batch at a time: the next one begins where this one was released.

fn main() {}

fn two(consumer: &mut fanin::Consumer) {
    let first = consumer.wait().unwrap();
    let second = consumer.wait().unwrap(); //~ E0499
    first.release();
    second.release();
}
