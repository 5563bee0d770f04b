//! What a user may choose, and what is refused.
//!
//! In: a [`Config`] of plain values. Out: a [`Checked`] one, the only kind that can bind.
//! Above all rooms, imported by none of them: each room is handed its own parameters.

mod bind;
mod budgets;
mod check;
mod kernel;
mod listen;
mod never;
mod overload;
mod rates;
mod source;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::Framing;
use crate::net::Keepalive;
use crate::policy::{AtLimit, Budgets, Coalesce, LeastRate, OnConsumerStall, Route};

pub use self::bind::{BindError, Fanin};
pub use self::check::{Checked, ConfigError, ConfigErrors};
pub use self::never::NeverFires;
pub use self::rates::{Rate, Rates};
pub use self::source::PerSource;

/// All settings. Fill in what matters and take the rest from [`Config::default`]:
///
/// ```
/// use fanin::{Config, Framing};
/// let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
/// config.framing = Framing::Auto;
/// config.consumers = 2;
/// let checked = config.validate().unwrap();
/// println!("{}", checked.memory());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; at least one.
    pub listeners: Vec<Listen>,
    /// The framing of listeners that have none of their own.
    pub framing: Framing,
    /// Consumers, each with one ring from every reactor. 1 to 64.
    pub consumers: usize,
    /// Reactors, each a thread of its own. 1 to 64.
    pub reactors: usize,
    /// Bytes of each ring, a power of two; `None`: the smallest of at least 4 MiB that fits
    /// `max_message`. As long as its consumer keeps up, a ring is begun anew after some 256 KiB more than
    /// [`Budgets::bytes`], and a quarter of the ring more where [`Reactor::run`](crate::Reactor::run) turns it, so that it
    /// stays in the cache; not under [`OnFull::Discard`], where it has all of its room at any time.
    pub ring_bytes: Option<usize>,
    /// Where a full ring resumes, in bytes; `None`: half of the ring.
    pub ring_low_bytes: Option<usize>,
    /// Where a ring counts as full, in bytes; `None`: 7/8 of the ring.
    pub ring_high_bytes: Option<usize>,
    /// The largest message in bytes, without delimiter or prefix.
    pub max_message: usize,
    /// What to do with a larger one; `None`: truncate where a delimiter ends messages, close where a
    /// count begins them.
    pub on_oversize: Option<OnOversize>,
    /// Connections at once, over all reactors.
    pub max_connections: usize,
    /// What happens to who comes when that many are connected, or as many as its listener may have.
    pub at_max_connections: AtLimit,
    /// What one sender may have of them. Off by default.
    pub per_source: PerSource,
    /// Bytes for parts of messages, over all reactors; each has at least as many as `max_message`.
    pub staging_bytes: usize,
    /// `SO_RCVBUF` of each connection in bytes, before the kernel doubles it; 0: the kernel grows it as it likes, up
    /// to what `net.ipv4.tcp_rmem` allows. Few senders that are distant are not held up then; many that are paused
    /// hold megabytes each in the kernel.
    pub receive_buffer: usize,
    /// Whether messages that come close together are read together, which costs less, and makes them wait.
    pub coalesce: Coalesce,
    /// What is done in one turn of a reactor before others have theirs.
    pub budgets: Budgets,
    /// `listen(2)`'s backlog.
    pub backlog: u32,
    /// The clocks of a connection.
    pub deadlines: Deadlines,
    /// How fast an unfinished message must come at the least; `None`: as slowly as it likes, until
    /// [`Deadlines::message`].
    pub least_rate: Option<LeastRate>,
    /// How vanished peers are found.
    pub keepalive: Keepalive,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged. `None`: the kernel's default.
    pub user_timeout: Option<Duration>,
    /// What may come in in a second. Off by default.
    pub rates: Rates,
    /// Which consumer a new connection is bound to.
    pub route: Route,
    /// What to do when a consumer is dropped or panics.
    pub on_consumer_gone: OnConsumerGone,
    /// What becomes of what comes while a ring is full.
    pub on_full: OnFull,
    /// When nobody new is let in because the consumers do not keep up.
    pub pressure: Pressure,
    /// A consumer that releases nothing for so long, while records wait for it, is stalled: the
    /// [`Snapshot`](crate::Snapshot) says so.
    pub consumer_stall: Option<Duration>,
    /// What else is done about a stalled consumer.
    pub on_consumer_stall: OnConsumerStall,
    /// How long the drain takes that a lost or a stalled consumer sets off.
    pub drain_timeout: Duration,
}

/// A listener. As text it is an address with its settings behind a `?`:
///
/// ```
/// let listen = "tcp://0.0.0.0:6514?framing=octet&max-connections=500&listener-bytes=10MiB";
/// let listen: fanin::Listen = listen.parse().unwrap();
/// assert_eq!(listen.max_connections, Some(500));
/// assert_eq!(listen.rate.bytes_per_sec, Some(10 << 20));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listen {
    /// Where.
    pub address: ListenAddr,
    /// Its framing, if not [`Config::framing`].
    pub framing: Option<Framing>,
    /// Connections of this listener at once, over all reactors; `None`: only [`Config::max_connections`] counts.
    pub max_connections: Option<usize>,
    /// Its own rate, of all its connections together; what is `None` is as [`Rates::listener`] says.
    pub rate: Rate,
}

/// Where a listener listens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ListenAddr {
    /// A TCP address; port 0 lets the kernel choose.
    Tcp(std::net::SocketAddr),
    /// A Unix stream socket at this path. A socket that nobody listens on any more is replaced.
    Unix(PathBuf),
    /// A listening socket that somebody else opened (socket activation).
    Inherited(Arc<OwnedFd>),
}

/// What to do with a message larger than the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOversize {
    /// Deliver its first `max_message` bytes, flagged, and discard the rest.
    Truncate,
    /// Discard all of it, and go on at the next boundary.
    Discard,
    /// Close the connection.
    Close,
}

/// The clocks of a connection. `None` is off. All but `stall` are 99 days at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// Without a byte for so long: evicted. Generous, because a plain syslog sender loses a message
    /// when a quiet connection is closed under it.
    pub idle: Option<Duration>,
    /// A message begun and not finished for so long: evicted.
    pub message: Option<Duration>,
    /// Waiting for its consumer's ring for so long: closed.
    pub stall: Option<Duration>,
    /// Connected for so long: closed, what it has sent is read first. Up to a tenth later, by the
    /// connection, so that those who came at once do not all come again at once.
    pub age: Option<Duration>,
    /// How long a closing connection may go on sending. Where what it sends is delivered, the time in which its ring is
    /// full does not count, but in a drain.
    pub linger: Duration,
}

/// What to do when a consumer is dropped or panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnConsumerGone {
    /// Drain the others, then end with an error.
    #[default]
    Stop,
    /// Close its connections, 32 every 8 ms, and send new ones to the others; with the last one gone, as
    /// `Stop`. Those whose turn has not come are not read.
    Reroute,
}

/// What becomes of what comes while a ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnFull {
    /// It is not read: TCP holds its senders, and nothing is lost.
    #[default]
    Pause,
    /// It is read and discarded, in whole messages, until the ring is down to its low mark: the newest
    /// are lost, nobody is held up. Each connection has a [`Gap`](crate::Record::Gap) in their place.
    Discard,
}

/// When nobody new is let in because the consumers do not keep up. Off by default.
///
/// It presses while every consumer has a full ring: with one that has room, whoever comes can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pressure {
    /// All listeners are shut when it has pressed for so long, and opened again when it has not for as
    /// long. Rings that are full and have room by turns press for the part of the time in which they are
    /// full. `None`: never.
    pub after: Option<Duration>,
    /// What that is.
    pub action: PressureAction,
}

/// What listeners do under [`Pressure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PressureAction {
    /// They stop accepting: who comes waits in the backlog, and is not told.
    #[default]
    StopAccepting,
    /// They close their sockets, and bind and listen again at the same addresses later: who comes is
    /// refused, and goes elsewhere, and who waits in the backlog is reset. Not possible for
    /// [`ListenAddr::Inherited`].
    CloseListener,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            framing: Framing::Line,
            consumers: 1,
            reactors: 1,
            ring_bytes: None,
            ring_low_bytes: None,
            ring_high_bytes: None,
            max_message: 64 << 10,
            on_oversize: None,
            max_connections: 10_000,
            at_max_connections: AtLimit::default(),
            per_source: PerSource::default(),
            staging_bytes: 64 << 20,
            receive_buffer: 64 << 10,
            coalesce: Coalesce::Auto,
            budgets: Budgets::default(),
            backlog: 1024,
            deadlines: Deadlines::default(),
            least_rate: None,
            keepalive: Keepalive::default(),
            user_timeout: None,
            rates: Rates::default(),
            route: Route::default(),
            on_consumer_gone: OnConsumerGone::default(),
            on_full: OnFull::default(),
            pressure: Pressure::default(),
            consumer_stall: Some(Duration::from_secs(10)),
            on_consumer_stall: OnConsumerStall::default(),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(3600)),
            message: Some(Duration::from_secs(30)),
            stall: Some(Duration::from_secs(300)),
            age: None,
            linger: Duration::from_secs(2),
        }
    }
}
