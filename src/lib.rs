//! fanin takes messages from very many connections and hands them to a few consumer threads: in bounded
//! memory, never blocking the thread that reads, never losing a byte that it cannot account for.

#[cfg(not(target_os = "linux"))]
compile_error!("fanin runs on Linux only: its paused connections are observed by EPOLLRDHUP");

mod books;
mod close;
mod config;
mod conn;
mod consumer;
mod frame;
pub mod net;
mod peer;
mod policy;
mod reactor;
mod ring;
mod status;

pub use crate::books::{Books, Tally};
pub use crate::close::{CloseReason, DiscardReason, PauseCause, Reason, RefuseReason};
pub use crate::config::{
    BindError, Checked, Config, ConfigError, ConfigErrors, Deadlines, Fanin, Listen, ListenAddr,
    OnConsumerGone, OnOversize,
};
pub use crate::consumer::{Batch, Consumer, Ended, Lag, Mark, Messages, Record, Records};
pub use crate::frame::{Framer, Framing, MessageIter, ParseFramingError, Scan, framer_contract};
pub use crate::net::Keepalive;
pub use crate::peer::{ConnectionId, Peer};
pub use crate::policy::Route;
pub use crate::reactor::{Handle, Query, Reactor, RunError, Target, Turn};
pub use crate::ring::Wake;
pub use crate::status::{
    BoundAddr, ByteCounts, ClosedInfo, ConnectionCounts, ConnectionInfo, ListenerStatus,
    MemoryBound, Pauses, Peak, RingStatus, Snapshot, Work,
};
