//! fanin (front page to be written)

mod books;
mod close;
mod config;
mod conn;
mod consumer;
mod frame;
pub mod net;
mod peer;
mod ring;
mod status;

pub use crate::books::{Books, Tally};
pub use crate::close::{CloseReason, DiscardReason, PauseCause, Reason, RefuseReason};
pub use crate::config::{
    Config, Deadlines, Keepalive, Listen, ListenAddr, OnConsumerGone, OnOversize, Route,
};
pub use crate::consumer::{Batch, Consumer, Ended, Lag, Mark, Messages, Record, Records};
pub use crate::frame::{Framer, Framing, MessageIter, ParseFramingError, Scan, framer_contract};
pub use crate::peer::{ConnectionId, Peer};
pub use crate::ring::Wake;
pub use crate::status::{
    BoundAddr, ByteCounts, ClosedInfo, ConnectionCounts, ConnectionInfo, ListenerStatus,
    MemoryBound, Pauses, Peak, RingStatus, Snapshot,
};
