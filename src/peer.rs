//! Who a record is from: a connection's name, and its peer.
//!
//! In: what accept told. Out: values that are copied into records and lists.
//! Never here: a lookup, a name service, anything that waits.

use std::fmt;
use std::net::SocketAddr;

/// A connection's name: unique in the process, never reused within 2^32 connections of a reactor.
///
/// Reactor (8 bits), generation (32 bits) and slot (24 bits). The generation counts the accepts of
/// the reactor, so that a name of a slot's former tenant never meets its present one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// Slots of one reactor: what 24 bits can name.
pub(crate) const MAX_SLOTS: usize = 1 << 24;
/// Reactors of one process: what 8 bits can name.
pub(crate) const MAX_REACTORS: usize = 1 << 8;

impl ConnectionId {
    pub(crate) fn new(reactor: u8, generation: u32, slot: u32) -> Self {
        debug_assert!((slot as usize) < MAX_SLOTS);
        Self(u64::from(reactor) << 56 | u64::from(generation) << 24 | u64::from(slot))
    }

    pub(crate) fn reactor(self) -> usize {
        (self.0 >> 56) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 24) as u32
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }

    /// The name as a number, for logs and for [`ConnectionId::from_u64`].
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The name that [`ConnectionId::as_u64`] gave.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            self.reactor(),
            self.generation(),
            self.slot()
        )
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

/// The other end of a connection.
///
/// An IPv4 peer of a dual-stack listener is given as IPv4. Flow label and scope of an IPv6 peer are
/// not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// Connected over TCP, from this address.
    Tcp(SocketAddr),
    /// Connected over a Unix socket; the kernel's word (`SO_PEERCRED`) for who it was at connect.
    Unix {
        /// Process id; 0 when it is not known, as for a peer of another PID namespace.
        pid: u32,
        /// User id; `u32::MAX` when it is not known. Where the process is not known, the user is not
        /// either today.
        uid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { pid, uid } => write!(f, "unix:pid={pid},uid={uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_parts_apart() {
        let id = ConnectionId::new(255, u32::MAX - 1, (MAX_SLOTS - 1) as u32);
        assert_eq!(id.reactor(), 255);
        assert_eq!(id.generation(), u32::MAX - 1);
        assert_eq!(id.slot() as usize, MAX_SLOTS - 1);
        assert_eq!(ConnectionId::from_u64(id.as_u64()), id);
    }
}
