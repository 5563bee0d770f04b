//! A release in part gives room back too.

fn main() {}

fn partly(consumer: &mut fanin::Consumer) {
    let mut batch = consumer.wait().unwrap();
    let records = batch.records();
    batch.release_until(records.mark_here()); //~ E0502
    drop(records);
}
