//! What comes to a full ring where that is to be discarded: read, cut as usual, and counted.
//!
//! In: the head of the FIFO of a blocked ring. Out: whole messages fewer, and a gap that is owed to the
//! consumer. Never here: half a message given up while the other half is delivered. What has begun is staged,
//! as at any other time, and is whole when it ends.

use super::Reactor;
use super::serve::{self, Read, Served};
use super::slots::{Place, Slot};
use super::writer::{INTRODUCTION, Writer};
use crate::close::DiscardReason;
use crate::frame::{Cut, MessageIter};
use crate::net::Net;
use crate::ring::record;

impl<N: Net> Reactor<N> {
    /// Reads the head of a blocked FIFO once, into scratch. Returns how many bytes were read.
    pub(super) fn serve_full(&mut self, key: u32) -> usize {
        if self.slots[key].conn.is_closed() {
            // Its end is told when there is room.
            self.dequeue(key);
            self.owe(key);
            return 0;
        }
        let Some(asked) = self.may_read(key) else {
            return 0;
        };
        let slot = &mut self.slots[key];
        let listening = &self.listeners[usize::from(slot.listener)];
        let staged = slot.conn.staged();
        let Some(stream) = &slot.stream else { return 0 };
        let whole = &mut self.scratch[..staged + asked];
        let bytes = match self.net.read(stream, &mut whole[staged..]) {
            Ok(bytes @ 1..) => bytes,
            nothing => {
                self.read_nothing(key, nothing);
                return 0;
            }
        };

        // Before anybody can see what became of them.
        self.counters.received.add(bytes as u64);
        let old_part = self.staging.bytes(slot.part);
        let end = staged + bytes;
        let (front, fresh) = whole[..end].split_at_mut(staged);
        let parts = (old_part, &*fresh);
        let scanned = serve::cut(listening, &self.octet_limits, slot, parts, &mut self.cuts);
        let goes_on = serve::goes_on(&self.cuts, staged > 0, slot.conn.partial().is_skipping());
        let mut read = Read {
            asked,
            bytes,
            scanned,
            goes_on,
            ..Read::default()
        };
        let mut rest = end;
        if let [Cut::Rest { start: 0 }] = *self.cuts {
            rest = staged;
            read.staged = staged;
        } else {
            // Messages are counted from their first byte on, which may be staged.
            front.copy_from_slice(old_part);
            read.copied = staged;
            slot.unstage(&mut self.staging);
            let framing = serve::framing_of(&listening.framing, slot);
            for cut in &self.cuts {
                let (bytes, messages, reason) = match *cut {
                    Cut::Messages { start, end } => {
                        let messages = MessageIter::new(framing, &whole[start..end]).count();
                        (end - start, messages as u64, DiscardReason::RingFull)
                    }
                    // It counts with the discarded rest of it.
                    Cut::Truncated { start, end } => (end - start, 0, DiscardReason::RingFull),
                    Cut::Discard {
                        bytes,
                        messages,
                        reason,
                    } => (bytes, messages, reason),
                    Cut::Rest { start } => {
                        rest = start;
                        continue;
                    }
                    Cut::Close { reason } => {
                        read.closing = Some(reason);
                        continue;
                    }
                };
                read.messages += messages;
                read.discarded += bytes as u64;
                self.counters.discarded.add(reason, bytes as u64);
                owe_gap(slot, reason, bytes as u64, messages);
            }
        }
        read.staged += end - rest;
        read.copied += slot.stage(key, &whole[rest..end], &mut self.staging);
        self.after_read(key, &read);
        bytes
    }

    /// Puts a connection that is not to be read now where it can tell what it owes, if it does.
    pub(super) fn owe(&mut self, key: u32) {
        let slot = &mut self.slots[key];
        let lane = &mut self.lanes[usize::from(slot.consumer)];
        let owes = slot.conn.is_closed() || slot.owes();
        if lane.discards && owes && slot.place == Place::Nowhere {
            slot.queued_at = self.tick;
            lane.owing.push(&mut self.slots, key);
        }
    }

    /// There is room: what is owed is told.
    pub(super) fn tell_owed(&mut self, key: u32) -> Served {
        if self.slots[key].conn.is_closed() {
            return match self.publish_end(key) {
                true => Served::Out,
                false => Served::NoRoom,
            };
        }
        let lane_place = usize::from(self.slots[key].consumer);
        let tell_time = self.time_due(&self.lanes[lane_place]);
        let id = self.id(key);
        let slot = &mut self.slots[key];
        let lane = &mut self.lanes[lane_place];
        let room = INTRODUCTION + record::GAP_LEN;
        let Some(mut claim) = lane.producer.claim(room, room) else {
            return Served::NoRoom;
        };
        let mut writer = Writer::new(claim.bytes(), id);
        writer.introduce(slot, tell_time);
        writer.tell_gap(slot);
        let used = writer.at;
        claim.commit(used, 0);
        lane.handle_published(self.now, tell_time);
        lane.owing.remove(&mut self.slots, key);
        match self.slots[key].is_ready() {
            true => self.enqueue(key),
            false => self.begin_rest(key),
        }
        Served::Out
    }
}

/// A gap that there is no room to tell. Gaps of several reasons are one by then: that of the full ring, if
/// that is among them, without which each of the others would have had a gap of its own.
fn owe_gap<S>(slot: &mut Slot<S>, reason: DiscardReason, bytes: u64, messages: u64) {
    match &mut slot.conn.more().gap {
        Some((first, b, m)) => {
            if reason == DiscardReason::RingFull {
                *first = reason;
            }
            *b += bytes;
            *m += messages;
        }
        none => *none = Some((reason, bytes, messages)),
    }
}
