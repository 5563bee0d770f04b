//! How a connection ends: the farewell, the last records, the free slot.
//!
//! In: a reason. Out: `Closed`, once, with the books. Never here: a descriptor that waits for room.

use std::io::ErrorKind;

use super::serve::{self, Served};
use super::slots::Place;
use super::writer::{Writer, farewell_len};
use super::{Gate, LARGEST_READ, REMEMBERED, Reactor, TICK, system};
use crate::books::Gap;
use crate::close::{CloseReason, DiscardReason, Farewell};
use crate::conn::PeerEnd;
use crate::frame::{self, AtEnd, Framing};
use crate::net::Net;
use crate::ring::record::{self, Closed};
use crate::status::ClosedInfo;

impl<N: Net> Reactor<N> {
    /// Begins to close a connection, as its reason's farewell says.
    pub(crate) fn begin_close(&mut self, key: u32, reason: CloseReason) {
        let until = match self.phase.read_until() {
            // Counted from now: as an absolute time, a distant end would wrap.
            Some(until) => super::clock(until.saturating_sub(self.now)),
            None => self.clocks.linger,
        };
        let until = self.tick.wrapping_add(until);
        if self.slots[key].stream.is_none() {
            return;
        }
        if reason.farewell() == Farewell::AtOnce {
            return self.end(key, reason);
        }
        self.book_pauses(key);
        if !self.slots[key].conn.handle_close(reason, until) {
            return self.rearm(key);
        }
        if let Some(stream) = &self.slots[key].stream {
            self.net.finish(stream);
        }
        if reason.farewell() == Farewell::Discard {
            self.dequeue(key);
            self.discard_part(key, DiscardReason::Lingering);
        } else if matches!(self.slots[key].place, Place::Staging | Place::Rate) {
            self.dequeue(key);
        }
        // What the kernel holds is read now: an edge may have been spent on it already.
        self.slots[key].mark_ready();
        self.line_up(key);
        self.rearm(key);
    }

    /// Who has left with nothing unread holds no descriptor from now on. Most of those who left in this turn
    /// have been read to their end. But who still stands in a FIFO may find its ring full by the time at which a
    /// read would say so.
    pub(super) fn let_go(&mut self) {
        let mut leaving = std::mem::take(&mut self.leaving);
        for key in leaving.drain(..) {
            self.end_if_gone(key);
        }
        self.leaving = leaving;
    }

    /// Ends whoever has left, if the kernel holds nothing of it. Did it?
    pub(super) fn end_if_gone(&mut self, key: u32) -> bool {
        let slot = &self.slots[key];
        let end = slot.conn.peer_end();
        if slot.stream.is_none() || end == PeerEnd::Sending || !self.is_drained(key) {
            return false;
        }
        match end {
            PeerEnd::Reset { .. } => self.end_broken(key),
            _ => self.end(key, CloseReason::Eof),
        }
        true
    }

    /// Ends a connection that is broken and holds nothing unread. What broke it only a read tells: RST, or
    /// keepalive that has given its peer up.
    pub(super) fn end_broken(&mut self, key: u32) {
        let Some(stream) = &self.slots[key].stream else {
            return;
        };
        let reason = match self.net.read(stream, &mut self.scratch) {
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::WouldBlock | ErrorKind::Interrupted => {
                    CloseReason::Reset
                }
                _ => system(&error),
            },
            Ok(_) => CloseReason::Reset,
        };
        self.end(key, reason);
    }

    /// Reads those who have been evicted into scratch, so that closing them is no RST: in turns, and all of them
    /// together no more than those who send to one ring.
    pub(crate) fn linger(&mut self) {
        let mut bytes = 0;
        for _ in 0..self.budgets.reads {
            let Some(key) = self.lingering.head() else {
                return;
            };
            self.lingering.remove(&mut self.slots, key);
            if let Served::Read(n) = self.discard(key) {
                self.line_up(key);
                bytes += n;
            }
            if bytes >= self.budgets.bytes {
                return;
            }
        }
    }

    fn discard(&mut self, key: u32) -> Served {
        let slot = &mut self.slots[key];
        let Some(stream) = &slot.stream else {
            return Served::Out;
        };
        match self.net.read(stream, &mut self.scratch[..LARGEST_READ]) {
            Ok(n @ 1..) => {
                self.fairness.handle_read(self.shares.of(key), n);
                slot.conn.handle_read(n, self.tick);
                let staged = slot.conn.staged();
                slot.conn.handle_cut(0, n as u64, staged);
                self.counters.received.add(n as u64);
                self.add_discard(key, DiscardReason::Lingering, n as u64, 0);
                return Served::Read(n);
            }
            Ok(_) => self.end(key, CloseReason::Eof),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => return Served::Read(0),
                ErrorKind::WouldBlock => self.note_drained(key),
                _ => self.end(key, CloseReason::Reset),
            },
        }
        Served::Out
    }

    /// Books discarded bytes, for the totals and for the next gap.
    fn add_discard(&mut self, key: u32, reason: DiscardReason, bytes: u64, messages: u64) {
        self.counters.discarded.add(reason, bytes);
        self.slots[key].owe_gap(Gap::new(reason, bytes, messages));
    }

    /// The beginning of a message that will not come to its end.
    fn discard_part(&mut self, key: u32, reason: DiscardReason) {
        let slot = &mut self.slots[key];
        let staged = slot.conn.staged();
        if staged > 0 {
            slot.conn.handle_cut(0, staged as u64, 0);
            self.add_discard(key, reason, staged as u64, 1);
        }
        self.slots[key].unstage(&mut self.staging);
    }

    /// Closes the descriptor now. The slot stays until `Closed` has room in the ring.
    pub(crate) fn end(&mut self, key: u32, reason: CloseReason) {
        let slot = &mut self.slots[key];
        let Some(stream) = slot.stream.take() else {
            return;
        };
        let unread = match reason {
            CloseReason::Eof => Some(0),
            _ => self.net.unread(&stream),
        };
        self.net.close(stream);
        self.book_pauses(key);
        let slot = &mut self.slots[key];
        let reason = slot.conn.handle_end(reason);
        self.counters.closed.add(reason, 1);
        match unread {
            Some(0) => {}
            Some(unread) => {
                slot.conn.more().unread = unread;
                self.counters.unread.add(unread);
            }
            None => slot.conn.more().is_unread_unknown = true,
        }
        self.counters.open.sub(1);
        self.admission.disconnect();
        self.leave_source(key);
        self.wheel.unset(&mut self.slots, key);
        let slot = &self.slots[key];
        if slot.conn.books().received == 0 || self.lanes[usize::from(slot.consumer)].is_gone() {
            return self.bury(key);
        }
        if slot.place != Place::Ring {
            self.dequeue(key);
            self.line_up(key);
        }
    }

    /// Publishes what is staged, the gap and `Closed`, and frees the slot.
    pub(crate) fn publish_end(&mut self, key: u32) -> Served {
        let lane_place = usize::from(self.slots[key].consumer);
        let tell_time = self.time_due(&self.lanes[lane_place]);
        let id = self.id(key);
        let slot = &mut self.slots[key];
        let lane = &mut self.lanes[lane_place];
        let Some(reason) = slot.conn.reason() else {
            return Served::Out;
        };
        let staged = slot.conn.staged();
        let room = farewell_len(staged);
        let Some(mut claim) = lane.producer.claim(room, room) else {
            return Served::NoRoom;
        };

        let listener = &self.listeners[usize::from(slot.listener)].framing;
        let framing = match serve::framing_of(listener, slot) {
            // Too short to tell.
            Framing::Auto => {
                slot.conn.framing = Framing::Line.code();
                &Framing::Line
            }
            settled => settled,
        };
        let cut = match frame::at_end(framing, slot.conn.partial(), staged) {
            // Only its peer can say that a message without its delimiter is whole, and only of what was
            // read to its end. One that was still sending when its time was up, or whose rest the kernel
            // may have held, is cut, and half a message looks like a whole one.
            AtEnd::Deliver if !slot.conn.has_finished() || !slot.was_drained() => {
                AtEnd::Discard(DiscardReason::CutAtEnd)
            }
            AtEnd::Deliver if reason.farewell() != Farewell::Deliver => {
                AtEnd::Discard(DiscardReason::CutAtEnd)
            }
            cut => cut,
        };
        let mut writer = Writer::new(claim.bytes(), id);
        writer.introduce(slot, tell_time);
        match cut {
            AtEnd::Nothing => {}
            AtEnd::Deliver => {
                writer.tell_gap(slot);
                let flags = record::WHOLE | record::UNTERMINATED;
                writer.data(flags, self.staging.bytes(slot.part));
                slot.conn.handle_cut(staged as u64, 0, 0);
            }
            AtEnd::Discard(why) => {
                self.counters.discarded.add(why, staged as u64);
                writer.add_gap(slot, Gap::new(why, staged as u64, 1));
                slot.conn.handle_cut(0, staged as u64, 0);
            }
        }
        writer.tell_gap(slot);
        let books = slot.conn.books();
        debug_assert!(books.balanced(), "{books:?}");
        writer.closed(&Closed { reason, books });
        let (used, published) = (writer.at, writer.published);
        claim.commit(used, published);
        self.counters.published.add(published);
        lane.handle_published(self.now, tell_time);
        self.bury(key);
        Served::Out
    }

    /// Ends a slot without another record, and remembers it.
    pub(crate) fn bury(&mut self, key: u32) {
        if self.slots[key].place == Place::Dead {
            return;
        }
        self.dequeue(key);
        let why = match self.lanes[usize::from(self.slots[key].consumer)].is_gone() {
            true => DiscardReason::ConsumerGone,
            false => DiscardReason::CutAtEnd,
        };
        self.discard_part(key, why);
        self.wheel.unset(&mut self.slots, key);
        let id = self.id(key);
        let paused = self.pauses_so_far(key);
        let at = self.wall();
        let slot = &mut self.slots[key];
        slot.place = Place::Dead;
        if self.closed.len() == REMEMBERED {
            self.closed.pop_front();
        }
        self.closed.push_back(ClosedInfo {
            id,
            peer: slot.peer(),
            listener: usize::from(slot.listener),
            consumer: usize::from(slot.consumer),
            reason: slot.conn.reason().expect("it has ended"),
            at,
            age: TICK * self.tick.wrapping_sub(slot.conn.opened()),
            books: slot.conn.books(),
            unread: slot.unread(),
            paused,
        });
        self.dead.push(key);
    }
}

impl<N: Net> Drop for Reactor<N> {
    /// Whatever it was dropped for, the other reactors may have its places, its rings are full for nobody, and they do
    /// not wait for its word. (Listeners that were closed stay so: the first one alone binds them again.)
    fn drop(&mut self) {
        for key in self.slots.all() {
            self.admission.leave(usize::from(self.slots[key].listener));
            if self.slots[key].stream.is_some() {
                self.admission.disconnect();
                self.leave_source(key);
            }
        }
        for consumer in 0..self.lanes.len() {
            self.together.set_full(self.index, consumer, false);
        }
        if self.gate.as_ref().is_some_and(Gate::is_first) {
            self.together.set_shut(false);
        }
    }
}
