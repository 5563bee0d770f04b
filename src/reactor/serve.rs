//! One read of one connection: the kernel's bytes into the ring.
//!
//! In: the head of a ring's FIFO. Out: records, or the beginning of a message in staging.
//! Never here: a second read, or a byte that is looked at twice.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use super::lane::Lane;
use super::pieces::Pieces;
use super::slots::{Readiness, Slot, token};
use super::writer::{INTRODUCTION, introduction_len};
use super::{Listening, Reactor, system};
use crate::close::CloseReason;
use crate::conn::PeerEnd;
use crate::edges;
use crate::frame::{self, Cut, Framing, Limits};
use crate::net::{Net, Watch};
use crate::ring::record;

/// How often a ring is told the time.
const TIME_EVERY: Duration = Duration::from_millis(10);
/// What an oversize message adds at most: a gap for its prefix (48), header and alignment of its record
/// (31), a gap for its rest (48), header and alignment of the record of messages that follows (31). One
/// of them may have begun in the staged part; each other one takes more than `max_message` of the read.
const PER_OVERSIZE: usize = 160;
/// What stands around them: header and alignment of the record in front (31), and the gap of bytes that
/// follow no framing behind (48). A gap that is pending stands in front of all; where no record does, because
/// the first message is too large, it takes 17 more. Of those, 3 are left over above, and the others are less
/// than a claim is rounded up by: records are whole multiples of a header.
const EDGES: usize = 80;
/// The smallest read for which a claim is made.
pub(crate) const SMALLEST_READ: usize = 4 << 10;
/// The most that is read at once: all that a default receive buffer holds (some 92 KiB), so that a connection that
/// is behind is read by one call.
pub(crate) const LARGEST_READ: usize = 128 << 10;

/// The claim that a read of `n` bytes behind `staged` ones needs, whatever they turn out to be.
pub(crate) fn claim_len(staged: usize, n: usize, max_message: usize) -> usize {
    let oversize = n / max_message.max(1);
    let exact = fixed_len(staged) + n + PER_OVERSIZE * oversize;
    exact.next_multiple_of(record::HEADER)
}

fn fixed_len(staged: usize) -> usize {
    INTRODUCTION + EDGES + staged + PER_OVERSIZE
}

/// The inverse: the largest read for which a claim of `len` bytes is enough.
fn read_len(len: usize, staged: usize, max_message: usize) -> usize {
    let max = max_message.max(1);
    let room = len - fixed_len(staged);
    let (whole, rest) = (room / (max + PER_OVERSIZE), room % (max + PER_OVERSIZE));
    whole * max + rest.min(max - 1)
}

/// What became of the head of a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Read once; it stands at the tail again if there may be more.
    Read(usize),
    /// Its claim did not fit: it stays the head.
    NoRoom,
    /// Nothing was read of it.
    Out,
}

/// A read that brought something, and what became of that.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Bytes that were asked for, and that came.
    pub(super) asked: usize,
    pub(super) bytes: usize,
    /// Bytes that were looked at to cut it.
    pub(super) scanned: usize,
    /// All of it belongs to a message that had begun before, and goes on.
    pub(super) goes_on: bool,
    pub(super) published: u64,
    pub(super) discarded: u64,
    /// Bytes that are staged now.
    pub(super) staged: usize,
    pub(super) copied: usize,
    /// Messages that ended. Where they are published, only if a rate asks for them.
    pub(super) messages: u64,
    pub(super) closing: Option<CloseReason>,
}

pub(crate) fn framing_of<'a, S>(listener: &'a Framing, slot: &Slot<S>) -> &'a Framing {
    match listener {
        Framing::Auto if slot.conn.framing == Framing::Octet.code() => &Framing::Octet,
        Framing::Auto if slot.conn.framing == Framing::Line.code() => &Framing::Line,
        other => other,
    }
}

impl<N: Net> Reactor<N> {
    /// What a `Time` record would say, if one is due on this lane.
    pub(crate) fn time_due(&self, lane: &Lane) -> Option<u64> {
        let now = self.now;
        let due = lane.told_time.is_none_or(|told| now >= told + TIME_EVERY);
        due.then(|| {
            let wall = self
                .net
                .wall(self.now)
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)
        })
    }

    /// Serves the head of a FIFO that flows, which has not ended.
    pub(crate) fn serve(&mut self, key: u32) -> Served {
        let Some(asked) = self.may_read(key) else {
            return Served::Out;
        };
        let lane_place = usize::from(self.slots[key].consumer);
        let tell_time = self.time_due(&self.lanes[lane_place]);
        let id = self.id(key);
        let slot = &mut self.slots[key];
        let lane = &mut self.lanes[lane_place];
        let listening = &self.listeners[usize::from(slot.listener)];
        let max = listening.limits.max;

        let staged = slot.conn.staged();
        let smallest = claim_len(staged, asked.min(SMALLEST_READ), max);
        let most = claim_len(staged, asked, max);
        let Some(mut claim) = lane.producer.claim(smallest, most) else {
            return Served::NoRoom;
        };
        let buf = claim.bytes();
        let asked = match buf.len() < most {
            true => asked.min(read_len(buf.len(), staged, max)),
            false => asked,
        };
        // Where the bytes belong if nothing is cut out of them.
        let start = introduction_len(slot, tell_time) + record::HEADER;
        let at = start + staged;
        let Some(stream) = &slot.stream else {
            return Served::Out;
        };
        let bytes = match self.net.read(stream, &mut buf[at..at + asked]) {
            Ok(bytes @ 1..) => bytes,
            nothing => {
                drop(claim);
                return self.read_nothing(key, nothing);
            }
        };

        // Before anybody can see what became of them.
        self.counters.received.add(bytes as u64);
        let parts = (self.staging.bytes(slot.part), &buf[at..at + bytes]);
        let mut read = Read {
            asked,
            ..cut(listening, &self.octet_limits, slot, parts, &mut self.cuts)
        };
        let counts = self.rates.as_ref().is_some_and(|r| r.counts_messages());
        let framing = framing_of(&listening.framing, slot);
        let pieces = Pieces {
            key,
            id,
            slot,
            tell_time,
            room: buf,
            start,
            at,
            end: at + bytes,
            cuts: &self.cuts,
            counted_as: counts.then_some(framing),
            staging: &mut self.staging,
        };
        let used = match *self.cuts {
            [Cut::Rest { start: 0 }] => pieces.stage(&mut read),
            [Cut::Messages { start: 0, end }]
            | [Cut::Messages { start: 0, end }, Cut::Rest { .. }]
                if pieces.slot.gap().is_none() =>
            {
                pieces.publish_in_place(end, &mut read)
            }
            _ => pieces.publish_piece_by_piece(&mut self.scratch, &self.counters, &mut read),
        };
        claim.commit(used, read.published);
        if used > 0 {
            lane.handle_published(self.now, tell_time);
        }
        self.after_read(key, &read);
        Served::Read(bytes)
    }

    /// How many bytes to ask the kernel for. `None`: none now, and it waits where it will be called from.
    pub(super) fn may_read(&mut self, key: u32) -> Option<usize> {
        self.book_wait(key);
        let allowed = self.meter(key)?;
        let slot = &self.slots[key];
        let want = allowed.min(LARGEST_READ);
        // What the read may leave over must have a place, before it is taken from the kernel.
        match self.staging.may_read(slot.part, slot.consumer, want) {
            0 => {
                self.starve(key);
                None
            }
            n => Some(n),
        }
    }

    /// What comes of a read once all of its bytes have found their place.
    pub(super) fn after_read(&mut self, key: u32, read: &Read) {
        let slot = &mut self.slots[key];
        slot.conn.handle_read(read.bytes, self.tick);
        if !read.goes_on {
            slot.conn.handle_message(self.tick);
        }
        slot.conn
            .handle_cut(read.published, read.discarded, read.staged);
        debug_assert!(slot.conn.books().balanced(), "{:?}", slot.conn.books());
        // A short read means drained, unless the peer has ended: then it is read to its end.
        let is_drained = read.bytes < read.asked && slot.conn.peer_end() == PeerEnd::Sending;

        self.counters.scanned.add(read.scanned as u64);
        self.counters.published.add(read.published);
        self.counters.copied.add(read.copied as u64);
        self.fairness.handle_read(self.shares.of(key), read.bytes);
        if let Some(rates) = &mut self.rates {
            rates.take(key, read.bytes, read.messages, self.now);
        }

        self.leave_queue(key);
        if let Some(reason) = read.closing {
            return self.begin_close(key, reason);
        }
        if is_drained {
            self.note_drained(key);
        } else {
            // Who is gone is not ended by another read: until that the ring may be full, and hold its descriptor.
            self.end_if_gone(key);
        }
        self.line_up(key);
        self.rearm_after_read(key);
    }

    /// A read that brought no bytes.
    pub(super) fn read_nothing(&mut self, key: u32, read: io::Result<usize>) -> Served {
        let Err(error) = read else {
            // Its event may still be on its way.
            self.slots[key].conn.handle_fin(self.tick);
            self.end(key, CloseReason::Eof);
            return Served::Out;
        };
        match error.kind() {
            io::ErrorKind::WouldBlock => self.rest(key),
            io::ErrorKind::Interrupted => {
                self.dequeue(key);
                self.line_up(key);
            }
            io::ErrorKind::ConnectionReset => self.end(key, CloseReason::Reset),
            _ => self.end(key, system(&error)),
        }
        Served::Out
    }

    /// Does the kernel hold nothing of it?
    pub(super) fn is_drained(&self, key: u32) -> bool {
        let stream = self.slots[key].stream.as_ref();
        stream.is_none_or(|stream| self.net.unread(stream) == Some(0))
    }

    /// It has nothing to be read, and is out of service until the next event.
    pub(super) fn rest(&mut self, key: u32) {
        self.dequeue(key);
        self.note_drained(key);
        self.line_up(key);
        self.rearm(key);
    }

    /// Whoever had been switched to hang-ups alone is watched for bytes again. Bytes that came in between
    /// raise an edge.
    pub(super) fn note_drained(&mut self, key: u32) {
        let slot = &mut self.slots[key];
        let before = std::mem::replace(&mut slot.readiness, Readiness::Drained);
        if before != Readiness::Unwatched {
            return;
        }
        edges::note("registration", "hang-up", "read");
        self.watch(key, Watch::Read);
    }

    pub(super) fn watch(&mut self, key: u32, watch: Watch) {
        let slot = &self.slots[key];
        let Some(stream) = &slot.stream else { return };
        let token = token(slot.generation, key);
        if let Err(error) = self.net.watch(stream, token, watch) {
            self.end(key, system(&error));
        }
    }
}

/// Cuts what was read.
pub(super) fn cut<S, L>(
    listening: &Listening<L>,
    octet_limits: &Limits,
    slot: &mut Slot<S>,
    (staged, fresh): (&[u8], &[u8]),
    cuts: &mut Vec<Cut>,
) -> Read {
    let listener = &listening.framing;
    if matches!(listener, Framing::Auto)
        && slot.conn.framing == Framing::Auto.code()
        && let Some(settled) = frame::settle(staged, fresh)
    {
        slot.conn.framing = settled.code();
    }
    let framing = framing_of(listener, slot);
    let partial = slot.conn.partial_mut();
    let scanned = match framing {
        Framing::Auto => {
            cuts.clear();
            cuts.push(Cut::Rest { start: 0 });
            0
        }
        Framing::Octet => frame::cut(&Framing::Octet, octet_limits, partial, staged, fresh, cuts),
        other => frame::cut(other, &listening.limits, partial, staged, fresh, cuts),
    };
    Read {
        bytes: fresh.len(),
        scanned,
        goes_on: goes_on(cuts, !staged.is_empty(), partial.is_skipping()),
        ..Read::default()
    }
}

/// Does all that was read belong to a message that had begun before, and goes on? `staged`: its beginning
/// was. `skips`: what goes on is not to be delivered; it counts as a message where that is first said,
/// which may be long after it began.
fn goes_on(cuts: &[Cut], staged: bool, skips: bool) -> bool {
    let mut told = 0;
    for cut in cuts {
        match *cut {
            Cut::Rest { start } => return start == 0 && staged,
            Cut::Messages { .. } | Cut::Close { .. } => return false,
            Cut::Discard { messages, .. } => told += messages,
            Cut::Truncated { .. } => {}
        }
    }
    skips && told == u64::from(staged)
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
