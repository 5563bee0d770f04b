//! Records are borrowed from the ring, where the reactor writes as soon as they are released.

fn main() {}

fn borrowed(consumer: &mut fanin::Consumer) {
    let batch = consumer.wait().unwrap();
    let record = batch.records().next();
    batch.release(); //~ E0505
    println!("{record:?}");
}
