//! One thread for everything: the reactor's turn and the consumer in a loop of one's own. Nothing is
//! handed to another thread, so nobody is woken and the messages are still in the cache.
//!
//! ```text
//! cargo run --release --example one_thread             # prints a line each second, until SIGINT
//! cargo run --release --example one_thread tcp://127.0.0.1:0 3    # drains after 3 seconds
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use fanin::{Config, Ended, Record, Turn};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or("tcp://127.0.0.1:5140".into());
    let seconds: Option<u64> = args.next().map(|text| text.parse()).transpose()?;

    let config = Config::listen(&address)?;
    let mut fanin = config.validate()?.bind()?;
    let (mut reactor, mut consumer) = (fanin.reactors.remove(0), fanin.consumers.remove(0));
    println!("listening on {}", fanin.handle.local_addrs()[0]);

    let began = Instant::now();
    let mut said = 0;
    let (mut messages, mut bytes) = (0, 0);
    loop {
        // Not longer than until this loop has something of its own to do.
        let until = Duration::from_secs(said + 1).saturating_sub(began.elapsed());
        if reactor.turn(Some(until))? == Turn::Ended {
            break;
        }
        // All there is, before the reactor waits again: it would not be woken for it.
        loop {
            let batch = match consumer.try_next() {
                Ok(Some(batch)) => batch,
                Ok(None) | Err(Ended::Drained) => break,
                Err(other) => return Err(other.into()),
            };
            for record in batch.records() {
                if let Record::Messages(some) = record {
                    messages += some.count() as u64;
                    bytes += some.raw().len() as u64;
                }
            }
            batch.release();
        }
        if began.elapsed().as_secs() > said {
            said = began.elapsed().as_secs();
            println!("{said} s: {messages} messages, {bytes} bytes");
            if seconds.is_some_and(|most| said >= most) {
                fanin.handle.drain(Duration::from_secs(1));
            }
        }
    }
    assert!(fanin.handle.snapshot().balanced());
    Ok(())
}
