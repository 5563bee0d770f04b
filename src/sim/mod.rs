//! The same reactor, over a network and a clock that a seed decides.
//!
//! In: a `u64`. Out: what happened and how often, or a panic that names what broke. The production code
//! runs, whole reactors with their consumers; simulated are the peers, the kernel and the time. Everything
//! happens in one thread, so that one seed is one run, for ever.
//!
//! Never here: a wait, a real clock, a socket.
//!
//! Your own consumer and configuration can be simulated: see [`Simulation`].

mod clocks;
mod consume;
mod end;
mod ledger;
mod meters;
mod operator;
mod plan;
mod send;
mod shares;
mod world;

use std::fmt;
use std::time::Duration;

use self::plan::Plan;
use self::world::{Told, World};
use crate::books::Tally;
use crate::close::{CloseReason, DiscardReason, RefuseReason};
use crate::config::Config;
use crate::consumer::{Batch, Ended};
use crate::edges;
pub use crate::edges::{Edge, Edges};
pub use crate::net::sim::{Fault, Faults, Random};
use crate::peer::{ConnectionId, Peer};

/// What one run came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// How often each fault happened.
    pub faults: Faults,
    /// How often a machine went from one state to another.
    pub edges: Edges,
    /// Connections that ended, by reason.
    pub closed: Tally<CloseReason>,
    /// Peers that were turned away, by reason.
    pub refused: Tally<RefuseReason>,
    /// Bytes that were not delivered, by reason.
    pub discarded: Tally<DiscardReason>,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Messages delivered.
    pub messages: u64,
    /// What was delivered of each connection that was opened for a consumer, in the order of their ids.
    pub delivered: Vec<Delivered>,
    /// Steps taken by anybody.
    pub steps: u64,
    /// Time that passed in the simulation.
    pub time: Duration,
    /// Every event in words, if [`Options::trace`] asked for it.
    pub trace: Vec<String>,
}

/// What consumers released of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The connection.
    pub who: ConnectionId,
    /// Its other end.
    pub peer: Peer,
    /// Its messages.
    pub messages: u64,
    /// Bytes of them, marks included.
    pub bytes: u64,
    /// Why it ended, if its consumer was told.
    pub closed: Option<CloseReason>,
}

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// A fault that does not happen.
    pub without: Option<Fault>,
    /// Keep every event in words. On a panic it is printed.
    pub trace: bool,
}

/// Runs one seed, of which everything is chance.
///
/// ```
/// let first = fanin::sim::run(4711, fanin::sim::Options::default());
/// let again = fanin::sim::run(4711, fanin::sim::Options::default());
/// assert_eq!(first.steps, again.steps);
/// ```
///
/// # Panics
///
/// As [`Simulation::run`].
pub fn run(seed: u64, options: Options) -> Outcome {
    Simulation::new().options(options).run(seed)
}

/// Runs what a fuzzer says: its first eight bytes are a seed, the others decide before the seed does.
#[cfg(feature = "fuzz")]
pub(crate) fn run_bytes(bytes: &[u8]) -> Outcome {
    Simulation::new().play(Random::from_bytes(bytes))
}

/// A consumer's work, for a simulation: the body of the loop around
/// [`Consumer::wait`](crate::Consumer::wait).
///
/// A closure is one, if the end does not matter to it.
pub trait Consume {
    /// One batch: to be released, released in part, or dropped, after which it comes again. Returns how
    /// long the work on it takes, in simulated time; the next batch comes after that.
    fn batch(&mut self, batch: Batch<'_>) -> Duration;

    /// There are no more.
    fn ended(&mut self, ended: Ended) {
        let _ = ended;
    }
}

impl<F: FnMut(Batch<'_>) -> Duration> Consume for F {
    fn batch(&mut self, batch: Batch<'_>) -> Duration {
        self(batch)
    }
}

/// What a peer sends, and the messages that should come of it.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The bytes on the wire.
    pub bytes: Vec<u8>,
    /// The messages in them, without marks. One larger than the largest counts as it does in the
    /// configuration: truncated, discarded, or the end of the connection.
    pub messages: Vec<Vec<u8>>,
}

type Consumers = Box<dyn Fn(usize) -> Box<dyn Consume>>;
type Peers = Box<dyn Fn(&mut Random, usize) -> Stream>;

/// What to simulate: what is not set is up to the seed.
///
/// Each run checks by itself that every message is released once and in its order, that the books balance
/// after each turn, that memory stays below its bound, and that everything comes to its end. A consumer of
/// one's own is simulated to see what *it* makes of batches that come again, of peers that vanish, of
/// the end. This one writes to a store that fails now and then; what it wrote is what it released:
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use std::time::Duration;
///
/// use fanin::sim::{Consume, Simulation};
/// use fanin::{Batch, Config, Framing, Record};
///
/// struct Store {
///     lines: Rc<Cell<u64>>,
///     writes: u64,
/// }
///
/// impl Store {
///     fn write(&mut self, _line: &[u8]) -> Result<(), ()> {
///         self.writes += 1;
///         if self.writes % 5 == 0 {
///             return Err(());
///         }
///         self.lines.set(self.lines.get() + 1);
///         Ok(())
///     }
/// }
///
/// impl Consume for Store {
///     fn batch(&mut self, mut batch: Batch<'_>) -> Duration {
///         let mut failed = None;
///         'batch: for record in batch.records() {
///             let Record::Messages(messages) = record else { continue };
///             let mut lines = messages.iter();
///             let mut written = 0;
///             while let Some(line) = lines.next() {
///                 if self.write(line).is_err() {
///                     failed = Some(messages.mark_within(written));
///                     break 'batch;
///                 }
///                 written = lines.taken();
///             }
///         }
///         match failed {
///             Some(mark) => batch.release_until(mark), // the rest comes again
///             None => batch.release(),
///         }
///         Duration::from_millis(3)
///     }
/// }
///
/// let mut config = Config::listen("tcp://127.0.0.1:0").unwrap(); // nothing listens there
/// config.framing = Framing::Line;
/// config.max_message = 512;
/// config.ring_bytes = Some(32 << 10);
///
/// let lines = Rc::new(Cell::new(0));
/// let simulation = Simulation::of(config).consumers({
///     let lines = lines.clone();
///     move |_index| Store { lines: lines.clone(), writes: 0 }
/// });
/// for seed in 0..20 {
///     lines.set(0);
///     let outcome = simulation.run(seed);
///     assert_eq!(lines.get(), outcome.messages, "seed {seed}");
/// }
/// ```
///
/// A [`Config`] goes with it as it would be bound, and is refused as it would be, except for what is the
/// kernel's: addresses, socket options and backlog are not used.
#[derive(Default)]
pub struct Simulation {
    options: Options,
    config: Option<Config>,
    consume: Option<Consumers>,
    peers: Option<Peers>,
}

impl Simulation {
    /// Everything is up to the seed.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this configuration.
    pub fn of(config: Config) -> Self {
        Self {
            config: Some(config),
            ..Self::default()
        }
    }

    /// With these options.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// With these consumers: made anew for each run, by their index.
    pub fn consumers<C: Consume + 'static>(mut self, make: impl Fn(usize) -> C + 'static) -> Self {
        self.consume = Some(Box::new(move |index| Box::new(make(index))));
        self
    }

    /// With peers that send this to the listener of that place in the configuration. Without, they send
    /// lines of letters, framed as the listener asks; what a [`Framing::Custom`](crate::Framing::Custom)
    /// asks is known to you alone. How a peer cuts its stream into pieces, and how it ends, is up to the
    /// seed.
    pub fn peers(mut self, make: impl Fn(&mut Random, usize) -> Stream + 'static) -> Self {
        self.peers = Some(Box::new(make));
        self
    }

    /// Runs one seed.
    ///
    /// # Panics
    ///
    /// When an invariant does not hold, a message is lost, doubled, changed or out of order, books do not
    /// balance, or something that should come to its end does not; also when the configuration is not
    /// legal, or has a custom framing and nobody says what its peers send.
    pub fn run(&self, seed: u64) -> Outcome {
        self.play(Random::new(seed))
    }

    fn play(&self, mut random: Random) -> Outcome {
        edges::begin();
        let plan = Plan::new(&mut random, self);
        let world = World::new(&plan, self, &mut random);
        let _told = Told::new(&world);
        world.play(&plan)
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("options", &self.options)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
