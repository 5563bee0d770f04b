//! Where what was read goes: whole messages to the consumer, the beginning of one into staging.
//!
//! In: a read in its claim, and how it was cut. Out: records, and a byte less nowhere. Never here: where a message
//! ends, a read, a commit.

use super::Counters;
use super::rate::messages_in;
use super::serve::Read;
use super::slots::Slot;
use super::staging::Staging;
use super::writer::Writer;
use crate::books::Gap;
use crate::close::CloseReason;
use crate::frame::{Cut, Framing};
use crate::peer::ConnectionId;
use crate::ring::record;

/// What a read of one connection brought, and what had been staged before.
pub(super) struct Pieces<'a, S> {
    pub(super) key: u32,
    pub(super) id: ConnectionId,
    pub(super) slot: &'a mut Slot<S>,
    /// The time that the ring is to be told.
    pub(super) tell_time: Option<u64>,
    /// The claim.
    pub(super) room: &'a mut [u8],
    /// Where in it the staged part belongs.
    pub(super) start: usize,
    /// Where what was read begins, and where it ends.
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) cuts: &'a [Cut],
    /// How to count messages, if that is asked for.
    pub(super) counted_as: Option<&'a Framing>,
    pub(super) staging: &'a mut Staging,
}

/// Each says what became of the read, and how many bytes of the claim are used.
impl<S> Pieces<'_, S> {
    /// All of it belongs to one message, which is not whole yet.
    pub(super) fn stage(self, read: &mut Read) -> usize {
        read.staged = self.end - self.start;
        let fresh = &self.room[self.at..self.end];
        read.copied = self.slot.stage(self.key, fresh, self.staging);
        0
    }

    /// Whole messages up to `whole`, which stay where they were read to, and perhaps the beginning of one more.
    pub(super) fn publish_in_place(self, whole: usize, read: &mut Read) -> usize {
        let old_part = self.staging.bytes(self.slot.part);
        self.room[self.start..self.at].copy_from_slice(old_part);
        self.slot.unstage(self.staging);
        let all = &self.room[self.start..self.end];
        let rest = &all[whole..];
        read.messages = self.messages_in(all);
        read.staged = rest.len();
        read.copied = (self.at - self.start) + self.slot.stage(self.key, rest, self.staging);
        let mut writer = Writer::new(self.room, self.id);
        writer.introduce(self.slot, self.tell_time);
        writer.data_in_place(0, whole);
        read.published = writer.published;
        writer.at
    }

    /// Something is cut, discarded or wrong: records and gaps take turns, from a copy.
    pub(super) fn publish_piece_by_piece(
        self,
        scratch: &mut [u8],
        counters: &Counters,
        read: &mut Read,
    ) -> usize {
        let all = &mut scratch[..self.end - self.start];
        let (old_part, fresh) = all.split_at_mut(self.at - self.start);
        old_part.copy_from_slice(self.staging.bytes(self.slot.part));
        fresh.copy_from_slice(&self.room[self.at..self.end]);
        self.slot.unstage(self.staging);
        read.messages = self.messages_in(all);
        let mut writer = Writer::new(self.room, self.id);
        writer.introduce(self.slot, self.tell_time);
        let placed = place(&mut writer, self.slot, self.cuts, all, counters);
        let rest = &all[placed.rest..];
        read.closing = placed.closing;
        read.discarded = placed.discarded;
        read.published = writer.published;
        read.staged = rest.len();
        read.copied = all.len() + read.published as usize;
        read.copied += self.slot.stage(self.key, rest, self.staging);
        // The time alone is no reason to wake anybody: it is told with what comes next.
        match writer.at {
            record::TIME_LEN if self.tell_time.is_some() => 0,
            used => used,
        }
    }

    fn messages_in(&self, all: &[u8]) -> u64 {
        let count = |framing| messages_in(framing, self.cuts, all);
        self.counted_as.map_or(0, count)
    }
}

/// What became of what was cut, beside the records.
pub(super) struct Placed {
    pub(super) discarded: u64,
    /// Where the beginning of a message begins that is to be staged.
    pub(super) rest: usize,
    pub(super) closing: Option<CloseReason>,
}

/// Writes the cuts of `whole`: records and gaps take turns. A gap whose message goes on is not told yet.
pub(super) fn place<S>(
    writer: &mut Writer<'_>,
    slot: &mut Slot<S>,
    cuts: &[Cut],
    whole: &[u8],
    counters: &Counters,
) -> Placed {
    let mut placed = Placed {
        discarded: 0,
        rest: whole.len(),
        closing: None,
    };
    for cut in cuts {
        match *cut {
            Cut::Messages { start, end } => {
                writer.tell_gap(slot);
                writer.data(0, &whole[start..end]);
            }
            Cut::Truncated { start, end } => {
                writer.tell_gap(slot);
                let flags = record::WHOLE | record::TRUNCATED;
                writer.data(flags, &whole[start..end]);
            }
            Cut::Discard {
                bytes,
                messages,
                reason,
            } => {
                let bytes = bytes as u64;
                placed.discarded += bytes;
                counters.discarded.add(reason, bytes);
                writer.add_gap(slot, Gap::new(reason, bytes, messages));
            }
            Cut::Rest { start } => placed.rest = start,
            Cut::Close { reason } => placed.closing = Some(reason),
        }
    }
    if !slot.conn.partial().is_skipping() {
        writer.tell_gap(slot);
    }
    placed
}
