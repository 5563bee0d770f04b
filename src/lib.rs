//! fanin (front page to be written)

mod books;
mod close;
mod config;
mod frame;
mod peer;
mod status;

pub use crate::books::{Books, Tally};
pub use crate::close::{CloseReason, DiscardReason, PauseCause, Reason, RefuseReason};
pub use crate::config::{
    Config, Deadlines, Keepalive, Listen, ListenAddr, OnConsumerGone, OnOversize, Route,
};
pub use crate::frame::{Framer, Framing, MessageIter, ParseFramingError, Scan, framer_contract};
pub use crate::peer::{ConnectionId, Peer};
pub use crate::status::{
    BoundAddr, ByteCounts, ClosedInfo, ConnectionCounts, ConnectionInfo, ListenerStatus,
    MemoryBound, Pauses, Peak, RingStatus, Snapshot,
};
