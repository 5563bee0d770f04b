//! What can be seen from outside: counts, lists and the sum of promise 1.
//!
//! In: numbers that the reactors keep. Out: plain values, nobody's lock held.
//! Never here: a number that only looks plausible.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::books::{Books, Tally};
use crate::bytes::Bytes;
use crate::close::{CloseReason, DiscardReason, PauseCause, RefuseReason};
use crate::peer::{ConnectionId, Peer};

/// Everything that is counted, summed over the reactors. At most one turn old.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Connections.
    pub connections: ConnectionCounts,
    /// Bytes, as the peers sent them.
    pub bytes: ByteCounts,
    /// Bytes that the kernel still held for connections when they were closed, and for peers when they were
    /// turned away. Who still waited to be accepted is not among them.
    pub unread: u64,
    /// Pauses of connections, by cause.
    pub pauses: Vec<(PauseCause, Pauses)>,
    /// Which rates hold connections up.
    pub rates: RateCounts,
    /// The most there has been at once.
    pub peak: Peak,
    /// One for each reactor and consumer.
    pub rings: Vec<RingStatus>,
    /// One for each consumer: how far it is behind.
    pub consumers: Vec<ConsumerStatus>,
    /// One for each listener and reactor.
    pub listeners: Vec<ListenerStatus>,
    /// How evenly connections were read.
    pub fairness: Fairness,
    /// How often pressure shut the listeners.
    pub shuts: u64,
    /// Turns that took more than 50 ms.
    pub long_turns: u64,
    /// What the bytes cost us.
    pub work: Work,
    /// Have the reactors ended?
    pub ended: bool,
}

/// How evenly connections were read, of those that had something to say.
///
/// Jain's index: the square of a sum by the sum of the squares and their number, over the bytes that were
/// read of each connection in one second. 1 says that all got the same, 1/n that one of n got all. A
/// connection of which nothing was read in that second had nothing to say, or was held up all the time, and does
/// not count. Where senders are held up by full rings it says how evenly fanin serves them; where nobody is, how
/// evenly they have something to say.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Fairness {
    /// Of the last whole second of each reactor, all connections together; `None` if nothing was read in it.
    pub index: Option<f64>,
    /// Of how many connections something was read in it.
    pub connections: u64,
    /// Over all seconds so far in which a reactor read from more than one connection, each reactor by itself; a
    /// second with more connections counts for more.
    pub mean: Option<f64>,
}

/// Work done for the bytes that were received, beside reading them.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Work {
    /// Bytes that a framing looked at.
    pub scanned: u64,
    /// Bytes copied from one of our buffers to another.
    pub copied: u64,
}

/// Connections, counted.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Open now.
    pub open: u64,
    /// Open, and paused now because staging is spent.
    pub held_by_staging: u64,
    /// Open, and paused by a rate now.
    pub held_by_rate: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Turned away, by reason.
    pub refused: Tally<RefuseReason>,
    /// Ended, by reason.
    pub closed: Tally<CloseReason>,
}

/// Bytes, counted. `received = published + discarded + staged` and
/// `published = delivered + abandoned + in_rings`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByteCounts {
    /// Read from sockets.
    pub received: u64,
    /// Put into rings.
    pub published: u64,
    /// Released by consumers.
    pub delivered: u64,
    /// Read, and not to be delivered, by reason.
    pub discarded: Tally<DiscardReason>,
    /// Published, and never to be delivered: the consumer is gone, or the time was up.
    pub abandoned: u64,
    /// Parts of messages that wait for their rest.
    pub staged: u64,
    /// Published, and neither released nor given up yet.
    pub in_rings: u64,
}

impl Snapshot {
    /// Do both ledgers balance? Meaningful when [`Snapshot::ended`], or while nothing moves.
    ///
    /// At the end nothing may be left anywhere: not staged, not in a ring, neither by what was published
    /// and not delivered, nor by the ring's positions, which are counted apart; but for the ring of a
    /// consumer that was given up ([`RingStatus::unwalked`]).
    pub fn balanced(&self) -> bool {
        let b = &self.bytes;
        let is_empty = |ring: &RingStatus| ring.occupied == 0 || ring.unwalked;
        b.received == b.published + b.discarded.total() + b.staged
            && b.published == b.delivered + b.abandoned + b.in_rings
            && (!self.ended || b.staged == 0 && b.in_rings == 0 && self.rings.iter().all(is_empty))
    }
}

/// How often, and for how long in all.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Pauses {
    /// Pauses that have ended.
    pub count: u64,
    /// How long they took together.
    pub time: Duration,
}

/// What each rate does ([`Rates`](crate::Rates)). A connection waits for one at a time.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RateCounts {
    /// Those of single connections.
    pub connection: RateCount,
    /// Those of sources.
    pub source: RateCount,
    /// Those of listeners.
    pub listener: RateCount,
}

/// Who is held up by a rate, and was.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RateCount {
    /// Connections that wait for it now.
    pub held: u64,
    /// Waits that have ended.
    pub paused: Pauses,
}

impl RateCounts {
    pub(crate) fn held(&self) -> u64 {
        self.connection.held + self.source.held + self.listener.held
    }
}

impl RateCount {
    pub(crate) fn add(&mut self, other: Self) {
        self.held += other.held;
        self.paused.count += other.paused.count;
        self.paused.time += other.paused.time;
    }
}

/// The most there has been at once.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Peak {
    /// Open connections.
    pub connections: u64,
    /// Bytes in one ring, headers included.
    pub ring_bytes: u64,
    /// Bytes of staging in use in one reactor, by size class.
    pub staging_bytes: u64,
}

/// One ring: from one reactor to one consumer.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RingStatus {
    /// The reactor that fills it.
    pub reactor: usize,
    /// The consumer that empties it.
    pub consumer: usize,
    /// Its size, in bytes.
    pub capacity: u64,
    /// Bytes in it, headers included.
    pub occupied: u64,
    /// Bytes of peers put into it.
    pub published: u64,
    /// Bytes of peers released from it.
    pub delivered: u64,
    /// Bytes of peers that will never be released.
    pub abandoned: u64,
    /// `abandoned` was not found by walking the ring but by what had not been released.
    pub unwalked: bool,
    /// Connections bound to it.
    pub connections: u64,
    /// For how long it has been full, if it is.
    pub blocked_for: Option<Duration>,
    /// How often it was full, and how long in all, the present time included.
    pub blocked: Pauses,
    /// How long ago the oldest record in it was published, if there is one. Best effort: older rather
    /// than younger than it is.
    pub oldest: Option<Duration>,
    /// For how long nothing has been released from it, while there is something.
    pub still_for: Option<Duration>,
    /// Its consumer is stalled: see [`ConsumerStatus::stalled`].
    pub stalled: bool,
    /// How often its consumer has stalled, the present time included.
    pub stalls: u64,
}

/// One consumer, over its rings.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// Its number.
    pub consumer: usize,
    /// Bytes of peers that are published to it and not released.
    pub lag_bytes: u64,
    /// How long ago the oldest record that it has not released was published. As good as
    /// [`RingStatus::oldest`].
    pub lag: Option<Duration>,
    /// For how long it has released nothing from one of its rings, while there is something.
    pub still_for: Option<Duration>,
    /// For at least [`Config::consumer_stall`](crate::Config::consumer_stall).
    pub stalled: bool,
    /// How often it has stalled, counted for each ring.
    pub stalls: u64,
    /// For how long one of its rings has been full, if one is.
    pub blocked_for: Option<Duration>,
    /// How often its rings were full.
    pub blocks: u64,
    /// Connections bound to it.
    pub connections: u64,
    /// Connections bound to it whose ring is full.
    pub held: u64,
}

impl ConsumerStatus {
    pub(crate) fn new(consumer: usize) -> Self {
        Self {
            consumer,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, ring: &RingStatus) {
        self.lag_bytes += ring.unreleased();
        self.lag = self.lag.max(ring.oldest);
        self.still_for = self.still_for.max(ring.still_for);
        self.stalled |= ring.stalled;
        self.stalls += ring.stalls;
        self.blocked_for = self.blocked_for.max(ring.blocked_for);
        self.blocks += ring.blocked.count;
        self.connections += ring.connections;
        if ring.blocked_for.is_some() {
            self.held += ring.connections;
        }
    }
}

impl RingStatus {
    /// Bytes of peers that are in the ring still.
    pub(crate) fn unreleased(&self) -> u64 {
        self.published
            .saturating_sub(self.delivered + self.abandoned)
    }
}

/// What a listener is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// The reactor it belongs to.
    pub reactor: usize,
    /// Where it listens, as in [`BoundAddr`]'s text form.
    pub address: BoundAddr,
    /// `ready`, `full`, `limited`, `pressure` or `closed`.
    pub state: &'static str,
    /// How often it could not be opened again after pressure, or could not be accepted from though somebody may wait.
    pub failures: u64,
    /// The `errno` of the last time.
    pub error: Option<i32>,
    /// Connections it has accepted.
    pub accepted: u64,
}

/// Where a listener listens, the real port included.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoundAddr {
    /// A TCP address.
    Tcp(std::net::SocketAddr),
    /// A Unix socket's path; `None` for a socket without a name.
    Unix(Option<PathBuf>),
}

impl fmt::Display for BoundAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(Some(path)) => write!(f, "unix://{}", path.display()),
            Self::Unix(None) => f.write_str("unix://(unnamed)"),
        }
    }
}

/// A live connection, as a list shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its name.
    pub id: ConnectionId,
    /// Its other end.
    pub peer: Peer,
    /// Which listener accepted it, by its place in the configuration.
    pub listener: usize,
    /// The consumer it is bound to.
    pub consumer: usize,
    /// `open`, `paused`, `draining` or `closed`.
    pub state: &'static str,
    /// Why it is paused; empty unless it is.
    pub causes: Vec<PauseCause>,
    /// Why it is closing, if it is.
    pub closing: Option<CloseReason>,
    /// For how long it has been in this state.
    pub state_for: Duration,
    /// For how long it has been connected.
    pub age: Duration,
    /// For how long nothing has been read from it.
    pub quiet_for: Duration,
    /// When its FIN was noticed.
    pub fin_at: Option<SystemTime>,
    /// When its RST was noticed.
    pub reset_at: Option<SystemTime>,
    /// Its ledger.
    pub books: Books,
    /// Bytes that the kernel holds for it, unread.
    pub unread: u64,
    /// How often and how long it has been paused in all, by cause, the present pause included.
    pub paused: Vec<(PauseCause, Pauses)>,
}

/// A connection that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClosedInfo {
    /// Its name.
    pub id: ConnectionId,
    /// Its other end.
    pub peer: Peer,
    /// Which listener had accepted it.
    pub listener: usize,
    /// The consumer it was bound to.
    pub consumer: usize,
    /// Why it ended.
    pub reason: CloseReason,
    /// When it ended.
    pub at: SystemTime,
    /// How long it had lived.
    pub age: Duration,
    /// Its ledger.
    pub books: Books,
    /// Bytes that the kernel still held for it.
    pub unread: u64,
    /// How long it had been paused in all, by cause.
    pub paused: Vec<(PauseCause, Pauses)>,
}

/// Promise 1: the most memory that a configuration can take, as a sum with its terms.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryBound {
    /// Name and bytes of each term in this process.
    pub user: Vec<(String, u64)>,
    /// Name and bytes of each term in the kernel.
    pub kernel: Vec<(String, u64)>,
}

impl MemoryBound {
    /// Bytes in this process.
    pub fn user_bytes(&self) -> u64 {
        saturating_sum(&self.user)
    }

    /// Bytes in the kernel's socket buffers.
    pub fn kernel_bytes(&self) -> u64 {
        saturating_sum(&self.kernel)
    }
}

/// A sum that is too large for its number is as good as none: the largest.
fn saturating_sum(terms: &[(String, u64)]) -> u64 {
    let bytes = terms.iter().map(|(_, bytes)| *bytes);
    bytes.fold(0, u64::saturating_add)
}

impl fmt::Display for MemoryBound {
    /// Two lines: this process, and the kernel's socket buffers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |terms: &[(String, u64)]| {
            let terms: Vec<_> = terms
                .iter()
                .map(|(name, bytes)| format!("{} ({name})", Bytes(*bytes)))
                .collect();
            terms.join(" + ")
        };
        writeln!(
            f,
            "memory at most {} = {}",
            Bytes(self.user_bytes()),
            sum(&self.user)
        )?;
        write!(
            f,
            "in the kernel at most {} = {}",
            Bytes(self.kernel_bytes()),
            sum(&self.kernel)
        )
    }
}
