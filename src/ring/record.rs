//! How a record lies in a ring: pure functions between values and bytes.
//!
//! In: a header and what belongs to it. Out: bytes, and back.
//! Never here: a pointer cast; the ring's storage is aligned to nothing.
//!
//! ```text
//!  0       4    5     6    8                16
//!  ┌───────┬────┬─────┬────┬────────────────┬──────────── ─ ─ ┬─────────┐
//!  │ len   │kind│flags│ 0  │ id             │ payload (len)   │ to 16   │   little endian
//!  └───────┴────┴─────┴────┴────────────────┴──────────── ─ ─ ┴─────────┘
//! ```
//!
//! Every record begins at a multiple of 16, so that what is left before the wrap is nothing or at
//! least a header, and a padding record always fits there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::books::Books;
pub(crate) use crate::books::Gap;
use crate::close::{CloseReason, DiscardReason, Reason};
use crate::peer::Peer;

/// Bytes of a header; also the alignment of records.
pub(crate) const HEADER: usize = 16;
/// Bytes of an `Opened` record.
pub(crate) const OPENED_LEN: usize = record_len(Opened::PAYLOAD);
/// Bytes of a `Gap` record.
pub(crate) const GAP_LEN: usize = record_len(Gap::PAYLOAD);
/// Bytes of a `Closed` record.
pub(crate) const CLOSED_LEN: usize = record_len(Closed::PAYLOAD);
/// Bytes of a `Time` record.
pub(crate) const TIME_LEN: usize = record_len(0);

/// The payload is one message without its marks; else it is whole messages, marks and all.
pub(crate) const WHOLE: u8 = 1;
/// The message was larger than the largest and lost its end.
pub(crate) const TRUNCATED: u8 = 2;
/// The stream ended before the message's delimiter came.
pub(crate) const UNTERMINATED: u8 = 4;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Bytes of a peer; `id` is the connection.
    Data = 1,
    /// The first record of a connection.
    Opened = 2,
    /// The last record of a connection.
    Closed = 3,
    /// Bytes of a connection were discarded here.
    Gap = 4,
    /// What follows was received at this time; `id` is wall nanoseconds since the epoch.
    Time = 5,
    /// Nothing, up to the wrap.
    Padding = 6,
}

impl Kind {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Data,
            2 => Self::Opened,
            3 => Self::Closed,
            4 => Self::Gap,
            5 => Self::Time,
            6 => Self::Padding,
            _ => return None,
        })
    }
}

/// A record's first 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// Bytes of payload, without what aligns the next record.
    pub(crate) len: u32,
    pub(crate) id: u64,
}

impl Header {
    /// The header of `len` bytes of a connection.
    pub(crate) fn data(id: u64, flags: u8, len: usize) -> Self {
        Self {
            kind: Kind::Data,
            flags,
            len: u32::try_from(len).expect("a record is smaller than 4 GiB"),
            id,
        }
    }

    /// Bytes that the whole record takes.
    pub(crate) fn record_len(&self) -> usize {
        record_len(self.len as usize)
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        Some(Self {
            len: u32_at(bytes, 0),
            kind: Kind::from_code(bytes[4])?,
            flags: bytes[5],
            id: u64_at(bytes, 8),
        })
    }
}

/// Bytes that a record with this payload takes in a ring.
pub(crate) const fn record_len(payload: usize) -> usize {
    // Not `next_multiple_of`, whose remainder and overflow cost each record a few branches.
    (HEADER + payload + (HEADER - 1)) & !(HEADER - 1)
}

/// Writes a header into the first 16 bytes of `buf`.
pub(crate) fn write_header(buf: &mut [u8], header: Header) {
    buf[0..4].copy_from_slice(&header.len.to_le_bytes());
    buf[4] = header.kind as u8;
    buf[5] = header.flags;
    buf[6..8].fill(0);
    buf[8..16].copy_from_slice(&header.id.to_le_bytes());
}

/// Writes a whole `Time` record and says how long it is.
pub(crate) fn write_time(buf: &mut [u8], wall_nanos: u64) -> usize {
    let header = Header {
        kind: Kind::Time,
        flags: 0,
        len: 0,
        id: wall_nanos,
    };
    write_header(buf, header);
    TIME_LEN
}

/// Writes the header of a padding record of `total` bytes; what follows it stays as it is.
pub(crate) fn write_padding(buf: &mut [u8], total: usize) {
    let header = Header {
        kind: Kind::Padding,
        flags: 0,
        len: u32::try_from(total - HEADER).expect("no padding is as long as 4 GiB"),
        id: 0,
    };
    write_header(buf, header);
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*bytes[at..].first_chunk().expect("the length was checked"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the length was checked"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the length was checked"))
}

/// A peer as 18 bytes and a kind: address and port, or process and user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedPeer {
    pub(crate) address: [u8; 16],
    /// Little endian.
    pub(crate) port: [u8; 2],
    /// 1: IPv4, 2: IPv6, 3: Unix. Never 0, so that a zeroed entry of a table is nobody.
    pub(crate) kind: u8,
}

impl PackedPeer {
    pub(crate) fn pack(peer: Peer) -> Self {
        let mut address = [0; 16];
        let (port, kind) = match peer {
            Peer::Tcp(SocketAddr::V4(v4)) => {
                address[..4].copy_from_slice(&v4.ip().octets());
                (v4.port(), 1)
            }
            Peer::Tcp(SocketAddr::V6(v6)) => {
                address = v6.ip().octets();
                (v6.port(), 2)
            }
            Peer::Unix { pid, uid } => {
                address[..4].copy_from_slice(&pid.to_le_bytes());
                address[4..8].copy_from_slice(&uid.to_le_bytes());
                (0, 3)
            }
        };
        Self {
            address,
            port: u16::to_le_bytes(port),
            kind,
        }
    }

    pub(crate) fn unpack(self) -> Option<Peer> {
        let tcp = |ip: IpAddr| Peer::Tcp(SocketAddr::new(ip, u16::from_le_bytes(self.port)));
        let v4 = *self.address.first_chunk::<4>()?;
        Some(match self.kind {
            1 => tcp(IpAddr::V4(Ipv4Addr::from(v4))),
            2 => tcp(IpAddr::V6(Ipv6Addr::from(self.address))),
            3 => Peer::Unix {
                pid: u32_at(&self.address, 0),
                uid: u32_at(&self.address, 4),
            },
            _ => return None,
        })
    }
}

macro_rules! whole_record {
    ($name:ident, $payload:literal) => {
        impl $name {
            const PAYLOAD: usize = $payload;

            /// Writes the whole record, header and all, and says how long it is.
            pub(crate) fn write(&self, id: u64, buf: &mut [u8]) -> usize {
                let header = Header {
                    kind: Kind::$name,
                    flags: 0,
                    len: Self::PAYLOAD as u32,
                    id,
                };
                write_header(buf, header);
                self.encode(&mut buf[HEADER..]);
                record_len(Self::PAYLOAD)
            }
        }
    };
}

/// A connection begins: who it is, and what a consumer needs to split its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) peer: Peer,
    /// The listener's place in the configuration.
    pub(crate) listener: u8,
    /// [`Framing::code`](crate::Framing) of the settled framing.
    pub(crate) framing: u8,
}

whole_record!(Opened, 24);

impl Opened {
    pub(crate) fn encode(&self, buf: &mut [u8]) {
        let packed = PackedPeer::pack(self.peer);
        buf[0..16].copy_from_slice(&packed.address);
        buf[16..18].copy_from_slice(&packed.port);
        buf[18] = packed.kind;
        buf[19] = self.listener;
        buf[20] = self.framing;
        buf[21..24].fill(0);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::PAYLOAD }>()?;
        let packed = PackedPeer {
            address: *bytes.first_chunk()?,
            port: [bytes[16], bytes[17]],
            kind: bytes[18],
        };
        Some(Self {
            peer: packed.unpack()?,
            listener: bytes[19],
            framing: bytes[20],
        })
    }
}

whole_record!(Gap, 24);

impl Gap {
    pub(crate) fn encode(&self, buf: &mut [u8]) {
        buf[0..8].fill(0);
        buf[0] = self.reason.index() as u8;
        buf[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        buf[16..24].copy_from_slice(&self.messages.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::PAYLOAD }>()?;
        Some(Self {
            reason: DiscardReason::from_index(bytes[0])?,
            bytes: u64_at(bytes, 8),
            messages: u64_at(bytes, 16),
        })
    }
}

/// A connection ended, with its books; nothing is staged any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) reason: CloseReason,
    pub(crate) books: Books,
}

whole_record!(Closed, 32);

impl Closed {
    pub(crate) fn encode(&self, buf: &mut [u8]) {
        debug_assert_eq!(self.books.staged, 0, "what was staged has been discarded");
        buf[0..8].fill(0);
        buf[0] = self.reason.index() as u8;
        buf[2..4].copy_from_slice(&u16::from(self.reason.errno()).to_le_bytes());
        buf[8..16].copy_from_slice(&self.books.received.to_le_bytes());
        buf[16..24].copy_from_slice(&self.books.published.to_le_bytes());
        buf[24..32].copy_from_slice(&self.books.discarded.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::PAYLOAD }>()?;
        Some(Self {
            reason: CloseReason::from_parts(bytes[0], u8::try_from(u16_at(bytes, 2)).ok()?)?,
            books: Books {
                received: u64_at(bytes, 8),
                published: u64_at(bytes, 16),
                discarded: u64_at(bytes, 24),
                staged: 0,
            },
        })
    }
}

/// The records of a contiguous run, with their offsets; ends at the first that is none.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Walk<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes that the walk did not get over: not 0 at its end is a bug of ours, since only our own
    /// producer writes here.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
}

impl<'b> Iterator for Walk<'b> {
    /// Where the record begins, its header, its payload.
    type Item = (usize, Header, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        let header = Header::read(rest)?;
        let whole = rest.get(..header.record_len())?;
        let at = self.at;
        self.at += whole.len();
        Some((at, header, &whole[HEADER..HEADER + header.len as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(kind: Kind, bytes: &[u8], id: u64) -> &[u8] {
        let mut walk = Walk::new(bytes);
        let (at, header, payload) = walk.next().expect("one record");
        assert_eq!((at, header.kind, header.id), (0, kind, id));
        assert_eq!(walk.left(), 0);
        assert!(walk.next().is_none());
        payload
    }

    #[test]
    fn records_are_as_long_as_the_sizes_say() {
        assert_eq!(
            (OPENED_LEN, GAP_LEN, CLOSED_LEN, TIME_LEN),
            (48, 48, 48, 16)
        );
        assert_eq!(
            (record_len(1), record_len(16), record_len(17)),
            (32, 32, 48)
        );
    }

    #[test]
    fn every_peer_survives_its_record() {
        for peer in [
            Peer::Tcp("192.0.2.1:514".parse().unwrap()),
            Peer::Tcp("[2001:db8::7]:65535".parse().unwrap()),
            Peer::Unix {
                pid: 7,
                uid: u32::MAX,
            },
        ] {
            let opened = Opened {
                peer,
                listener: 255,
                framing: 8,
            };
            let mut buf = [0xff; OPENED_LEN];
            assert_eq!(opened.write(9, &mut buf), OPENED_LEN);
            let payload = round_trip(Kind::Opened, &buf, 9);
            assert_eq!(Opened::decode(payload), Some(opened));
            assert_eq!(PackedPeer::pack(peer).unpack(), Some(peer));
        }
    }

    #[test]
    fn every_reason_survives_its_record() {
        for reason in CloseReason::ALL
            .iter()
            .copied()
            .chain([CloseReason::System(104)])
        {
            let books = Books {
                received: u64::MAX,
                published: 2,
                discarded: 3,
                staged: 0,
            };
            let closed = Closed { reason, books };
            let mut buf = [0xff; CLOSED_LEN];
            assert_eq!(closed.write(1, &mut buf), CLOSED_LEN);
            assert_eq!(
                Closed::decode(round_trip(Kind::Closed, &buf, 1)),
                Some(closed)
            );
        }
        for reason in DiscardReason::ALL {
            let gap = Gap {
                reason: *reason,
                bytes: 1 << 40,
                messages: 3,
            };
            let mut buf = [0xff; GAP_LEN];
            assert_eq!(gap.write(2, &mut buf), GAP_LEN);
            assert_eq!(Gap::decode(round_trip(Kind::Gap, &buf, 2)), Some(gap));
        }
    }

    #[test]
    fn what_is_no_record_is_not_read() {
        assert_eq!(Header::read(&[0; 15]), None);
        assert_eq!(Header::read(&[0; 16]), None, "kind 0 is nothing");
        assert_eq!(Opened::decode(&[0; 24]), None, "peer kind 0 is nobody");
        assert_eq!(Gap::decode(&[200; 24]), None);
        assert_eq!(Closed::decode(&[0; 31]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_a_panic(bytes in proptest::collection::vec(0u8..8, 0..200)) {
            let mut walk = Walk::new(&bytes);
            let walked: usize = walk.by_ref().map(|(_, header, _)| header.record_len()).sum();
            prop_assert_eq!(walked + walk.left(), bytes.len());
        }

        #[test]
        fn a_header_survives(len: u32, flags: u8, id: u64) {
            let mut buf = [0xff; HEADER];
            let header = Header { kind: Kind::Data, flags, len, id };
            write_header(&mut buf, header);
            prop_assert_eq!(Header::read(&buf), Some(header));
        }
    }
}
