//! One record as an embedder sees it.

use std::time::{Duration, SystemTime};

use super::batch::Mark;
use super::peers::Entry;
use crate::books::Books;
use crate::close::{CloseReason, DiscardReason};
use crate::frame::Framing;
use crate::frame::MessageIter;
use crate::peer::{ConnectionId, Peer};
use crate::ring::record::{TRUNCATED, UNTERMINATED, WHOLE, record_len};

/// What a [`Batch`](crate::Batch) holds, in the order in which it happened to each connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Record<'b> {
    /// The first record of a connection. One that never sent a byte has none.
    #[non_exhaustive]
    Opened {
        /// The connection.
        who: ConnectionId,
        /// Its other end.
        peer: Peer,
        /// Which listener accepted it, by its place in the configuration.
        listener: usize,
        /// How its messages end; settled, where the listener's is [`Framing::Auto`].
        framing: Framing,
    },
    /// Messages of one connection.
    Messages(Messages<'b>),
    /// Bytes of a connection that are not delivered, where they would have been.
    #[non_exhaustive]
    Gap {
        /// The connection.
        who: ConnectionId,
        /// Its other end.
        peer: Peer,
        /// Why.
        reason: DiscardReason,
        /// How many bytes.
        bytes: u64,
        /// How many messages they are of. One of which a part was delivered is counted here, too.
        messages: u64,
    },
    /// The last record of a connection. It may have none if it was ended because nothing was taken of its ring, or
    /// because its reactor stopped.
    #[non_exhaustive]
    Closed {
        /// The connection.
        who: ConnectionId,
        /// Its other end.
        peer: Peer,
        /// Why it ended.
        reason: CloseReason,
        /// Its ledger. `published` is what the `Messages` of this connection held together: a
        /// consumer can prove it wrong.
        books: Books,
    },
}

/// Whole messages of one connection, as they lie in the ring.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'b> {
    pub(super) raw: &'b [u8],
    pub(super) who: ConnectionId,
    /// Unpacked only where it is asked for.
    pub(super) from: &'b Entry,
    pub(super) flags: u8,
    /// By listener.
    pub(super) framings: &'b [Framing],
    /// Everything before this record.
    pub(super) before: Mark,
}

impl<'b> Messages<'b> {
    /// The connection.
    pub fn who(&self) -> ConnectionId {
        self.who
    }

    /// Its other end.
    pub fn peer(&self) -> Peer {
        self.from.peer()
    }

    /// Which listener accepted it, by its place in the configuration.
    pub fn listener(&self) -> usize {
        self.from.listener()
    }

    /// When the reactor read the last of these bytes, or up to 10 ms later than that says.
    pub fn received(&self) -> SystemTime {
        wall(self.before.time)
    }

    /// The bytes as the peer sent them, delimiters and prefixes included; for a whole message
    /// ([`Messages::is_whole`]) the message alone.
    pub fn raw(&self) -> &'b [u8] {
        self.raw
    }

    /// How these messages end.
    pub fn framing(&self) -> &'b Framing {
        self.from.framing(self.framings)
    }

    /// The messages, without delimiters and prefixes.
    // Inlined, so that what is left of them stays in registers: handed over through memory, as two halves that
    // are read as one, counted messages took twice the time.
    #[inline]
    pub fn iter(&self) -> MessageIter<'b> {
        if self.is_whole() {
            MessageIter::bare(self.raw)
        } else {
            MessageIter::new(self.framing(), self.raw)
        }
    }

    /// How many messages there are; cheaper than iterating.
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// Is [`Messages::raw`] one message without its marks, which cannot be split again?
    pub fn is_whole(&self) -> bool {
        self.flags & WHOLE != 0
    }

    /// Is it one message that was larger than the largest, and lost its end?
    pub fn is_truncated(&self) -> bool {
        self.flags & TRUNCATED != 0
    }

    /// Is it one message whose delimiter never came, because the stream ended?
    pub fn is_unterminated(&self) -> bool {
        self.flags & UNTERMINATED != 0
    }

    /// Everything up to the end of these messages, for
    /// [`Batch::release_until`](crate::Batch::release_until).
    pub fn mark(&self) -> Mark {
        let record = record_len(self.before.taken + self.raw.len());
        Mark {
            position: self.before.position + record as u64,
            taken: 0,
            delivered: self.before.delivered + self.raw.len() as u64,
            ..self.before
        }
    }

    /// Everything before these messages, and of them the first `bytes` of [`Messages::raw`], which
    /// should end with a message ([`MessageIter::taken`]): the rest comes again from there. A part of
    /// a whole message ([`Messages::is_whole`]) is nothing of it.
    ///
    /// # Panics
    ///
    /// When `bytes` is more than there are.
    pub fn mark_within(&self, bytes: usize) -> Mark {
        assert!(
            bytes <= self.raw.len(),
            "a mark at {bytes} of {} bytes",
            self.raw.len()
        );
        if bytes == self.raw.len() {
            return self.mark();
        }
        if self.is_whole() || bytes == 0 {
            return self.before;
        }
        Mark {
            taken: self.before.taken + bytes,
            delivered: self.before.delivered + bytes as u64,
            ..self.before
        }
    }
}

impl<'b> IntoIterator for Messages<'b> {
    type Item = &'b [u8];
    type IntoIter = MessageIter<'b>;

    fn into_iter(self) -> MessageIter<'b> {
        self.iter()
    }
}

/// A `Time` record's number as a time.
pub(super) fn wall(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}
