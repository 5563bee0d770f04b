//! What a connection tells its consumer: records, one after the other, in a claim.
//!
//! In: what happened to it. Out: the time where that is due, who it is before anything else of it, its messages,
//! its gaps, its end. Never here: a decision about what becomes of a byte.

use super::slots::Slot;
use crate::books::Gap;
use crate::peer::ConnectionId;
use crate::ring::record::{self, Closed, Header, Opened};

/// Room for a `Time` and an `Opened` record in front.
pub(super) const INTRODUCTION: usize = record::TIME_LEN + record::OPENED_LEN;

/// What [`Writer::introduce`] will write.
pub(super) fn introduction_len<S>(slot: &Slot<S>, tell_time: Option<u64>) -> usize {
    let time = if tell_time.is_some() {
        record::TIME_LEN
    } else {
        0
    };
    let opened = if slot.conn.is_introduced {
        0
    } else {
        record::OPENED_LEN
    };
    time + opened
}

/// Room for all that a connection can have left to tell when it ends: a gap, what is staged or the gap that it
/// leaves, and its books.
pub(super) fn farewell_len(staged: usize) -> usize {
    let last = record::record_len(staged).max(record::GAP_LEN);
    INTRODUCTION + record::GAP_LEN + last + record::CLOSED_LEN
}

/// The records of one connection in a claim.
pub(super) struct Writer<'a> {
    buf: &'a mut [u8],
    id: ConnectionId,
    /// Bytes written.
    pub(super) at: usize,
    /// Bytes of the peer among them.
    pub(super) published: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buf: &'a mut [u8], id: ConnectionId) -> Self {
        Self {
            buf,
            id,
            at: 0,
            published: 0,
        }
    }

    /// The time, if this ring has not been told it for a while; and the connection, if not yet.
    pub(super) fn introduce<S>(&mut self, slot: &mut Slot<S>, tell_time: Option<u64>) {
        if let Some(nanos) = tell_time {
            self.at += record::write_time(&mut self.buf[self.at..], nanos);
        }
        if !slot.conn.is_introduced {
            let opened = Opened {
                peer: slot.peer(),
                listener: slot.listener,
                framing: slot.conn.framing,
            };
            self.at += opened.write(self.id.as_u64(), &mut self.buf[self.at..]);
            slot.conn.is_introduced = true;
        }
    }

    pub(super) fn data(&mut self, flags: u8, bytes: &[u8]) {
        let at = self.at + record::HEADER;
        self.buf[at..at + bytes.len()].copy_from_slice(bytes);
        self.data_in_place(flags, bytes.len());
    }

    /// The payload stands where it belongs already.
    pub(super) fn data_in_place(&mut self, flags: u8, len: usize) {
        let header = Header::data(self.id.as_u64(), flags, len);
        self.at += header.record_len();
        record::write_header(&mut self.buf[self.at - header.record_len()..], header);
        self.published += len as u64;
    }

    /// Of neighbouring gaps of one reason there is one, which stays pending.
    pub(super) fn add_gap<S>(&mut self, slot: &mut Slot<S>, gap: Gap) {
        match &mut slot.conn.more().gap {
            Some(pending) if pending.reason == gap.reason => pending.grow(gap),
            _ => {
                self.tell_gap(slot);
                slot.conn.more().gap = Some(gap);
            }
        }
    }

    /// Writes the gap that is pending, if any.
    pub(super) fn tell_gap<S>(&mut self, slot: &mut Slot<S>) {
        if let Some(gap) = slot.take_gap() {
            self.at += gap.write(self.id.as_u64(), &mut self.buf[self.at..]);
        }
    }

    pub(super) fn closed(&mut self, closed: &Closed) {
        self.at += closed.write(self.id.as_u64(), &mut self.buf[self.at..]);
    }
}
