//! The same for the bytes of a message.

fn main() {}

fn outlives<'a>(consumer: &'a mut fanin::Consumer, kept: &mut Vec<&'a [u8]>) {
    let batch = consumer.wait().unwrap();
    for record in batch.records() { //~ E0597
        if let fanin::Record::Messages(messages) = record {
            kept.extend(messages.iter());
        }
    }
}
