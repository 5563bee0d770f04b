//! Who wants to keep a record copies it.

fn main() {}

fn outlives(consumer: &mut fanin::Consumer) {
    let record = {
        let batch = consumer.wait().unwrap();
        batch.records().next() //~ E0597
    };
    println!("{record:?}");
}
