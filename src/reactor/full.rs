//! What comes to a full ring where that is to be discarded: read, cut as usual, and counted.
//!
//! In: the head of the FIFO of a blocked ring. Out: whole messages fewer, and a gap that is owed to the
//! consumer. Never here: half a message given up while the other half is delivered. What has begun is staged,
//! as at any other time, and is whole when it ends.

use super::Reactor;
use super::serve::{self, Read, Served};
use super::writer::{INTRODUCTION, Writer};
use crate::books::Gap;
use crate::close::DiscardReason;
use crate::frame::{Cut, MessageIter};
use crate::net::Net;
use crate::ring::record;

impl<N: Net> Reactor<N> {
    /// Reads the head of a blocked FIFO once, into scratch.
    pub(super) fn serve_full(&mut self, key: u32) -> Served {
        if self.slots[key].conn.is_closed() {
            // Its end is told when there is room.
            self.dequeue(key);
            self.join_owing(key);
            return Served::Out;
        }
        let Some(asked) = self.may_read(key) else {
            return Served::Out;
        };
        let slot = &mut self.slots[key];
        let listening = &self.listeners[usize::from(slot.listener)];
        let staged = slot.conn.staged();
        let Some(stream) = &slot.stream else {
            return Served::Out;
        };
        let whole = &mut self.scratch[..staged + asked];
        let bytes = match self.net.read(stream, &mut whole[staged..]) {
            Ok(bytes @ 1..) => bytes,
            nothing => return self.read_nothing(key, nothing),
        };

        // Before anybody can see what became of them.
        self.counters.received.add(bytes as u64);
        let old_part = self.staging.bytes(slot.part);
        let end = staged + bytes;
        let (front, fresh) = whole[..end].split_at_mut(staged);
        let parts = (old_part, &*fresh);
        let mut read = Read {
            asked,
            ..serve::cut(listening, &self.octet_limits, slot, parts, &mut self.cuts)
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
                let gap = match *cut {
                    Cut::Messages { start, end } => {
                        let messages = MessageIter::new(framing, &whole[start..end]).count();
                        ring_full(end - start, messages as u64)
                    }
                    // It counts with the discarded rest of it.
                    Cut::Truncated { start, end } => ring_full(end - start, 0),
                    Cut::Discard {
                        bytes,
                        messages,
                        reason,
                    } => Gap::new(reason, bytes as u64, messages),
                    Cut::Rest { start } => {
                        rest = start;
                        continue;
                    }
                    Cut::Close { reason } => {
                        read.closing = Some(reason);
                        continue;
                    }
                };
                read.messages += gap.messages;
                read.discarded += gap.bytes;
                self.counters.discarded.add(gap.reason, gap.bytes);
                slot.owe_gap(gap);
            }
        }
        read.staged += end - rest;
        read.copied += slot.stage(key, &whole[rest..end], &mut self.staging);
        self.after_read(key, &read);
        Served::Read(bytes)
    }

    /// There is room: one that has not ended tells the gap that it owes.
    pub(super) fn tell_owed(&mut self, key: u32) -> Served {
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
        self.line_up(key);
        Served::Out
    }
}

fn ring_full(bytes: usize, messages: u64) -> Gap {
    Gap::new(DiscardReason::RingFull, bytes as u64, messages)
}
