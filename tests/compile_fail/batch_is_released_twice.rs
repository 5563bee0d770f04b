//! What was released is the reactor's again.

fn main() {}

fn twice(consumer: &mut fanin::Consumer) {
    let batch = consumer.wait().unwrap();
    batch.release();
    batch.release(); //~ E0382
}
