//! Who is not read now, why, and who sees to it that reading goes on.
//!
//! In: a full ring, spent staging, an operator. Out: queues in the order of waiting, and the time that
//! each pause took. Never here: a change of registration, which only an event brings about.

use std::time::Duration;

use super::slots::Place;
use super::{Reactor, tick_time, ticks};
use crate::close::{CloseReason, PauseCause};
use crate::net::Net;

impl<N: Net> Reactor<N> {
    /// Puts a connection where it will be read: at the tail of its ring's FIFO, or with those that are
    /// read into scratch.
    pub(super) fn enqueue(&mut self, key: u32) {
        let slot = &mut self.slots[key];
        if slot.place != Place::Nowhere {
            return;
        }
        if slot.conn.is_discarding() {
            return self.lingering.push(&mut self.slots, key);
        }
        if !slot.conn.may_be_served() {
            return;
        }
        let lane = &mut self.lanes[usize::from(slot.consumer)];
        slot.queued_at = self.tick;
        slot.blocked_mark = lane.blocked_until(self.now.since_start);
        lane.fifo.push(&mut self.slots, key);
    }

    /// Takes a connection out of its queue, and books how long it was held up there.
    pub(super) fn dequeue(&mut self, key: u32) {
        match self.slots[key].place {
            Place::Nowhere | Place::Dead => {}
            Place::Staging => self.starved.remove(&mut self.slots, key),
            Place::Lingering => self.lingering.remove(&mut self.slots, key),
            Place::Ring => {
                let slot = &mut self.slots[key];
                let lane = &mut self.lanes[usize::from(slot.consumer)];
                let waited = lane.blocked_until(self.now.since_start) - slot.blocked_mark;
                if !waited.is_zero() {
                    slot.conn.handle_waited(ticks(waited));
                    slot.add_pause(PauseCause::Ring, waited);
                    self.counters.add_pause(PauseCause::Ring, waited);
                }
                lane.fifo.remove(&mut self.slots, key);
            }
        }
    }

    pub(super) fn resume_lanes(&mut self) {
        for (lane, counters) in self.lanes.iter_mut().zip(&self.counters.rings) {
            if let Some(took) = lane.resume(self.now.since_start) {
                counters.blocks.add(1);
                counters.blocked_micros.add(took.as_micros() as u64);
                counters.blocked_since.set(0);
            }
        }
    }

    pub(super) fn block_lane(&mut self, lane: usize) -> bool {
        let now = self.now.since_start;
        let blocked = self.lanes[lane].block(now);
        if blocked {
            self.counters.rings[lane]
                .blocked_since
                .set(now.as_micros() as u64 + 1);
        }
        blocked
    }

    /// Staging was given back: everybody who waits for it tries again, in this turn.
    pub(super) fn feed_starved(&mut self) {
        if std::mem::take(&mut self.staging_freed) {
            // Stolen whole: those who find no room again join a new queue.
            while let Some(key) = self.starved.head() {
                self.starved.remove(&mut self.slots, key);
                self.resume(key, PauseCause::Staging);
            }
            self.starved_since = None;
        }
        if self
            .starved_at()
            .is_some_and(|at| at <= self.now.since_start)
        {
            self.close_slow_holders();
        }
    }

    pub(super) fn starved_at(&self) -> Option<Duration> {
        Some(self.starved_since? + tick_time(self.clocks.message?))
    }

    /// Staging has been spent for a whole message timeout: whoever sends its message at less than
    /// 1 KiB/s gives its place to others.
    pub(super) fn close_slow_holders(&mut self) {
        self.starved_since = Some(self.now.since_start);
        let holders: Vec<u32> = self.staging.holders().collect();
        for key in holders {
            let conn = &self.slots[key].conn;
            let took = tick_time(self.tick.wrapping_sub(conn.message_since()).min(1 << 30));
            if (conn.staged() as f64) < 1024.0 * took.as_secs_f64() {
                self.begin_close(key, CloseReason::Message);
            }
        }
    }

    pub(super) fn starve(&mut self, key: u32) {
        self.dequeue(key);
        self.slots[key]
            .conn
            .handle_pause(PauseCause::Staging, self.tick);
        if self.slots[key].conn.is_paused_by(PauseCause::Staging) {
            self.starved.push(&mut self.slots, key);
            self.starved_since.get_or_insert(self.now.since_start);
        }
    }

    pub(super) fn pause(&mut self, key: u32, cause: PauseCause) {
        self.slots[key].conn.handle_pause(cause, self.tick);
        if self.slots[key].place == Place::Ring && !self.slots[key].conn.may_be_served() {
            self.dequeue(key);
        }
    }

    pub(super) fn resume(&mut self, key: u32, cause: PauseCause) {
        let slot = &mut self.slots[key];
        if let Some(paused) = slot.conn.handle_resume(cause, self.tick) {
            slot.add_pause(cause, tick_time(paused));
            self.counters.add_pause(cause, tick_time(paused));
            if slot.ready {
                self.enqueue(key);
            }
            self.rearm(key);
        }
    }
}
