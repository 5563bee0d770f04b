//! fanin takes messages from very many connections and hands them to a few consumer threads: in bounded
//! memory, never blocking the thread that reads, never losing a byte that it cannot account for.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use fanin::{Config, Ended, Record};
//!
//! let fanin = Config::listen("tcp://127.0.0.1:0")?.validate()?.bind()?;
//! # fanin.handle.drain(std::time::Duration::from_secs(1));
//! let mut threads = Vec::new();
//! for mut consumer in fanin.consumers {
//!     threads.push(std::thread::spawn(move || loop {
//!         let batch = match consumer.wait() {
//!             Ok(batch) => batch,
//!             Err(end) => break assert_eq!(end, Ended::Drained),
//!         };
//!         for record in batch.records() {
//!             if let Record::Messages(messages) = record {
//!                 for text in messages.iter() {
//!                     println!("{}: {}", messages.peer(), text.escape_ascii());
//!                 }
//!             }
//!         }
//!         batch.release(); // delivered
//!     }));
//! }
//! for reactor in fanin.reactors {
//!     threads.push(std::thread::spawn(move || reactor.run().unwrap()));
//! }
//! // Until `fanin.handle.drain(..)` or `.stop()`, from any thread.
//! threads.into_iter().for_each(|thread| thread.join().unwrap());
//! # Ok(())
//! # }
//! ```
//!
//! # The journey of a byte
//!
//! ```text
//!  peer ──► kernel socket buffer
//!             │ an edge; its token names a slot and the slot's generation        net, reactor::slots
//!             ▼
//!    reactor: the connection joins the FIFO of those that are ready for its ring  reactor::lane
//!             │ the head claims room for a read                                   ring
//!             │     └─ none: the ring is Blocked, and all behind it wait          reactor::pause
//!             ▼
//!    recv into the claim, behind the room for a header and the staged bytes       reactor::serve
//!             │ where does the last whole message end?                            frame
//!             │     ├─ up to there: a record, committed
//!             │     └─ the rest: staged, a part of one message                    reactor::staging
//!             ▼
//!    ring (bytes, one producer, one consumer): [header|messages…][header|…][padding]
//!             │ at the end of a turn that leaves nothing to be read: wake the consumers that sleep
//!             │     └─ there is more: when enough waits for them, or half a millisecond later
//!             ▼
//!    consumer: a Batch on loan ── records ── release: delivered                   consumer
//!             │ enough is released for whom the ring was full: wake the reactor
//!             ▼
//!    reactor: serves the FIFO again, head first
//! ```
//!
//! The kernel copies a byte into the ring, and the consumer reads it there. Only the parts of a message
//! that came in several reads are copied once more, when the message is whole.
//!
//! # Promises
//!
//! 1. **Bounded.** Memory is a sum that is known before the first connection: [`Checked::memory`].
//! 2. **Nothing blocks.** A reactor waits in its poll and nowhere else. A full ring pauses the connections
//!    that feed it, and no others.
//! 3. **Nothing leaks.** Each accepted connection ends once, with one [`CloseReason`]. A paused one stays
//!    observed: its peer's FIN or RST is noticed, and its deadlines run, while it is not read.
//! 4. **Closed books.** Two ledgers without a remainder: for connections `received = published +
//!    discarded + staged` ([`Books`]), for rings `published = delivered + abandoned + in the ring`
//!    ([`RingStatus`]). [`Record::Closed`] carries a connection's books, so that a consumer can prove
//!    them wrong.
//! 5. **Order.** A connection's messages arrive in order, once each, at one consumer; where something was
//!    discarded in between, a [`Record::Gap`] stands in its place.
//! 6. **Everything explains itself.** Each pause has a cause, a ring and a duration ([`ConnectionInfo`]);
//!    each end, refusal and discard has a reason.
//!
//! What they do not promise: that a sender which was told nothing knows what arrived. Plain TCP
//! acknowledges what the kernel took, and a server that ends can lose what it had not read; it is counted
//! ([`Snapshot::unread`]), not delivered.
//!
//! # Under overload
//!
//! A consumer that is slow lets its ring fill. At the high mark the ring is blocked: the reactor stops
//! reading the connections that are bound to it, TCP holds their senders, and reading goes on, the longest
//! waiting first, once the ring is down to its low mark. That alone loses nothing. What else is to happen is
//! said layer by layer, in the order in which they fire; `docs/overload.md` says of each when to use it,
//! what it costs and what the sender sees:
//!
//! | layer | settings | in `docs/overload.md` |
//! |---|---|---|
//! | message | [`Config::max_message`], [`Config::on_oversize`], [`Deadlines::message`], [`Config::least_rate`](field@Config::least_rate) | Least rate |
//! | ring | [`Config::ring_bytes`], [`Config::on_full`]; [`Config::consumer_stall`], [`Config::on_consumer_stall`], [`Config::on_consumer_gone`] | Ring full: pause or discard; Stalled consumers |
//! | connection | [`Deadlines::idle`], [`Deadlines::stall`], [`Deadlines::age`]; [`Rates::connection`] | Age, and the herd; Rates |
//! | source | [`Config::per_source`]; [`Rates::source`] | Per source; Rates |
//! | global | [`Config::max_connections`], [`Config::at_max_connections`], [`Config::staging_bytes`] | Connection limits |
//! | listener | [`Listen::max_connections`]; [`Config::pressure`]; [`Rates::listener`] | Connection limits; Listeners under pressure; Rates |
//! | types | none: a consumer cannot push, a batch cannot outlive it, [`Config`] cannot bind before it is [`Checked`] | |
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use fanin::{AtLimit, Config, LeastRate, OnConsumerStall, PressureAction};
//!
//! let mut config = Config::listen("tcp://127.0.0.1:0")?;
//! // A message of at most 8 KiB, that comes with at least 100 bytes a second.
//! config.max_message = 8 << 10;
//! config.least_rate = Some(LeastRate::new(100, Duration::from_secs(10)));
//! // Two consumers: if one gets nowhere, its senders are to come to the other.
//! config.consumers = 2;
//! config.on_consumer_stall = OnConsumerStall::Evict;
//! // Nobody has more than 1 MiB a second.
//! config.rates.connection.bytes_per_sec = Some(1 << 20);
//! // Behind a balancer: whoever finds no room here goes elsewhere at once.
//! config.max_connections = 2_000;
//! config.at_max_connections = AtLimit::Refuse;
//! config.pressure.after = Some(Duration::from_secs(5));
//! config.pressure.action = PressureAction::CloseListener;
//!
//! let checked = config.validate()?; // or all that is wrong with it
//! assert_eq!(checked.never_fires(), []); // no limit is hidden by another one
//! println!("{}", checked.memory());
//! # Ok(())
//! # }
//! ```
//!
//! A consumer that is dropped or panics ends its connections ([`OnConsumerGone`]); one that hangs holds up its
//! own connections, and a drain only for as long as the drain was given. In the program all this is set by
//! options or in a file, and `fanin check` shows it.
//!
//! # One thread
//!
//! [`Reactor::turn`] and [`Consumer::try_next`] may stand in one loop: see `examples/one_thread.rs`.
//! [`Consumer::poll_next`] serves tasks of any async runtime.
//!
//! # Features
//!
//! - `cli` (default): the program `fanin`. Without it the library depends on mio, ringbuf, slab, memchr,
//!   socket2 and rustix alone.
//! - `sim`: whole reactors over a simulated network, a run for each seed, also with a consumer and a
//!   configuration of your own. Not stable.
//!
//! Linux only. All `unsafe` stands in one room, `ring`.

#[cfg(not(target_os = "linux"))]
compile_error!("fanin runs on Linux only: its paused connections are observed by EPOLLRDHUP");

mod books;
mod bytes;
mod close;
mod config;
mod conn;
mod consumer;
mod edges;
mod frame;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod net;
mod peer;
mod policy;
mod reactor;
mod ring;
#[cfg(all(test, feature = "sim"))]
mod scenes;
#[cfg(feature = "sim")]
pub mod sim;
mod status;
#[cfg(test)]
mod table;
mod words;

pub use crate::books::{Books, Tally};
pub use crate::bytes::{Bytes, ParseBytesError};
pub use crate::close::{CloseReason, DiscardReason, PauseCause, Reason, RefuseReason};
pub use crate::config::{
    BindError, Checked, Config, ConfigError, ConfigErrors, Deadlines, Fanin, Listen, ListenAddr,
    NeverFires, OnConsumerGone, OnFull, OnOversize, PerSource, Pressure, PressureAction, Rate,
    Rates,
};
pub use crate::consumer::{Batch, Consumer, Ended, Lag, Mark, Messages, Record, Records};
pub use crate::frame::{Framer, Framing, MessageIter, ParseFramingError, Scan, framer_contract};
pub use crate::net::Keepalive;
pub use crate::peer::{ConnectionId, Peer};
pub use crate::policy::{AtLimit, Budgets, Coalesce, LeastRate, OnConsumerStall, Route};
pub use crate::reactor::{Handle, Query, Reactor, RunError, Target, Turn};
pub use crate::ring::Wake;
pub use crate::status::{
    BoundAddr, ByteCounts, ClosedInfo, ConnectionCounts, ConnectionInfo, ConsumerStatus, Fairness,
    ListenerStatus, MemoryBound, Pauses, Peak, RateCount, RateCounts, RingStatus, Snapshot, Work,
};

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
