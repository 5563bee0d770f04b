//! The reactor in a program of one's own: a thread that reads, a thread that consumes, and a handle that
//! ends both. Counts messages and bytes of each peer, and prints what each connection came to.
//!
//! ```text
//! cargo run --release --example embed                  # tcp://127.0.0.1:5140; ends when stdin does
//! cargo run --release --example embed tcp://[::1]:0    # any free port
//! ```

use std::error::Error;
use std::io::Read;
use std::thread;
use std::time::Duration;

use fanin::{Config, Consumer, Ended, Record};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let config = Config::listen(address.as_deref().unwrap_or("tcp://127.0.0.1:5140"))?;
    let fanin = config.validate()?.bind()?;
    println!("listening on {}", fanin.handle.local_addrs()[0]);

    let consumers: Vec<_> = fanin
        .consumers
        .into_iter()
        .map(|consumer| thread::spawn(move || consume(consumer)))
        .collect();
    let reactors: Vec<_> = fanin
        .reactors
        .into_iter()
        .map(|reactor| thread::spawn(move || reactor.run()))
        .collect();

    // Whatever tells this program to end; here it is the end of its input.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    fanin.handle.drain(Duration::from_secs(10));
    for reactor in reactors {
        reactor.join().expect("a reactor does not panic")?;
    }
    for consumer in consumers {
        let messages = consumer.join().expect("a consumer does not panic")?;
        println!("{messages} messages");
    }
    assert!(fanin.handle.snapshot().balanced());
    Ok(())
}

/// Until everything was delivered; how many messages that was.
fn consume(mut consumer: Consumer) -> Result<u64, Ended> {
    let mut count = 0;
    loop {
        let batch = match consumer.wait() {
            Ok(batch) => batch,
            Err(Ended::Drained) => return Ok(count),
            Err(other) => return Err(other),
        };
        for record in batch.records() {
            match record {
                Record::Messages(messages) => count += messages.count() as u64,
                Record::Gap {
                    peer,
                    reason,
                    bytes,
                    ..
                } => println!("{peer}: {bytes} bytes are not delivered: {reason}"),
                Record::Closed {
                    peer,
                    reason,
                    books,
                    ..
                } => println!("{peer}: {reason} after {} bytes", books.received),
                // A new kind of record is no error.
                _ => {}
            }
        }
        // Not before this are the messages delivered: a return above would have them come again.
        batch.release();
    }
}
