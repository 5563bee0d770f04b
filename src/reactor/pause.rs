//! Who is not read now, why, and who sees to it that reading goes on.
//!
//! In: a full ring, spent staging, an operator. Out: queues in the order of waiting, and the time that
//! each pause took. Never here: a change of registration, which only an event brings about.

use std::time::Duration;

use super::slots::Place;
use super::{Reactor, tick_of, tick_time};
use crate::close::{CloseReason, PauseCause, Reason};
use crate::net::Net;
use crate::policy::{OF_SPENT_STAGING, Unfinished, is_victim};
use crate::status::Pauses;

/// Connections that are called in one turn because staging has room again, and holders of staging that are
/// looked at in one.
const FEED_BUDGET: usize = 256;
const WEIGH_BUDGET: usize = 256;

impl<N: Net> Reactor<N> {
    /// Puts a connection where it belongs: where it is read or tells what it has to tell, or where it rests. One that stands
    /// in a queue stays there, unless it rests and has something to say now, or waits to tell something and may be read.
    pub(super) fn line_up(&mut self, key: u32) {
        let slot = &self.slots[key];
        let conn = &slot.conn;
        let lane = &mut self.lanes[usize::from(slot.consumer)];
        let wants = slot.is_ready() || conn.is_closed();
        match slot.place {
            Place::Nowhere => {}
            Place::Resting if wants => self.leave_rest(key),
            // Who only has something to tell is read in between, where reading goes on.
            Place::Owing
                if lane.is_blocked()
                    && slot.is_ready()
                    && conn.may_be_served()
                    && !conn.is_closed() =>
            {
                lane.owing.remove(&mut self.slots, key);
            }
            _ => return,
        }
        let slot = &self.slots[key];
        let lane = &self.lanes[usize::from(slot.consumer)];
        if wants && slot.conn.is_discarding() {
            self.lingering.push(&mut self.slots, key);
        } else if wants && slot.conn.may_be_served() {
            self.join_fifo(key);
        } else if lane.discards && slot.owes() {
            self.join_owing(key);
        } else {
            self.begin_rest(key);
        }
    }

    fn join_fifo(&mut self, key: u32) {
        let slot = &mut self.slots[key];
        let lane = &mut self.lanes[usize::from(slot.consumer)];
        slot.queued_at = self.tick;
        slot.blocked_mark = lane.mark(self.now);
        lane.fifo.push(&mut self.slots, key);
    }

    /// It waits until there is room to tell what it has to tell.
    pub(super) fn join_owing(&mut self, key: u32) {
        let slot = &mut self.slots[key];
        let lane = &mut self.lanes[usize::from(slot.consumer)];
        slot.queued_at = self.tick;
        lane.owing.push(&mut self.slots, key);
    }

    /// Takes a connection out of its queue, and books how long it was held up there.
    pub(super) fn dequeue(&mut self, key: u32) {
        self.book_wait(key);
        self.leave_queue(key);
    }

    /// The same of one whose wait is booked.
    pub(super) fn leave_queue(&mut self, key: u32) {
        match self.slots[key].place {
            Place::Nowhere | Place::Dead => {}
            Place::Resting => self.leave_rest(key),
            Place::Staging => self.leave_starved(key),
            Place::Rate => {
                if let Some(rates) = &mut self.rates {
                    rates.remove(&mut self.slots, key);
                }
            }
            Place::Lingering => self.lingering.remove(&mut self.slots, key),
            Place::Owing => {
                let lane = usize::from(self.slots[key].consumer);
                self.lanes[lane].owing.remove(&mut self.slots, key);
            }
            Place::Ring => {
                let lane = usize::from(self.slots[key].consumer);
                self.lanes[lane].fifo.remove(&mut self.slots, key);
            }
        }
    }

    /// For how long it has been waiting for its ring, as far as that is not booked.
    pub(super) fn waited(&self, key: u32) -> Duration {
        let slot = &self.slots[key];
        if slot.place != Place::Ring || slot.conn.is_closed() {
            return Duration::ZERO;
        }
        self.lasted(key)
    }

    /// The same of one that stands in the FIFO.
    pub(super) fn lasted(&self, key: u32) -> Duration {
        let slot = &self.slots[key];
        let lane = &self.lanes[usize::from(slot.consumer)];
        lane.since(slot.blocked_mark, self.now)
    }

    /// Books the wait for its ring up to now: before a read, whose bytes have not waited.
    pub(super) fn book_wait(&mut self, key: u32) {
        let waited = self.waited(key);
        if waited.is_zero() {
            return;
        }
        let slot = &mut self.slots[key];
        let lane = &self.lanes[usize::from(slot.consumer)];
        slot.blocked_mark = lane.mark(self.now);
        // The whole ticks of all its waits together: else what each of them is short of one would be lost.
        let before = slot.pauses(PauseCause::Ring).time;
        slot.add_pause(PauseCause::Ring, waited);
        let ticks = tick_of(before + waited).wrapping_sub(tick_of(before));
        slot.conn.handle_held(ticks);
        self.counters.add_pause(PauseCause::Ring, waited);
    }

    /// What it has been paused for, the present pauses included.
    pub(super) fn pauses_so_far(&self, key: u32) -> Vec<(PauseCause, Pauses)> {
        let slot = &self.slots[key];
        let waited = self.waited(key);
        let present = |cause| match cause {
            PauseCause::Ring => waited,
            cause => {
                let took = slot.conn.paused_for(cause, self.tick);
                took.map_or(Duration::ZERO, tick_time)
            }
        };
        let so_far = |cause: &PauseCause| {
            let mut pauses = slot.pauses(*cause);
            let time = present(*cause);
            pauses.count += u64::from(!time.is_zero());
            pauses.time += time;
            (*cause, pauses)
        };
        let all = PauseCause::ALL.iter().map(so_far);
        all.filter(|(_, pauses)| pauses.count > 0).collect()
    }

    /// Books the pause by a cause that is about to end.
    fn book_pause(&mut self, key: u32, cause: PauseCause) {
        let slot = &mut self.slots[key];
        let Some(took) = slot.conn.paused_for(cause, self.tick) else {
            return;
        };
        let took = tick_time(took);
        slot.add_pause(cause, took);
        self.counters.add_pause(cause, took);
        if cause == PauseCause::Rate {
            let scope = self.held_by(key);
            self.counters.add_wait_for_rate(scope, took);
        }
        if cause == PauseCause::Staging {
            self.counters.held_by_staging.sub(1);
        }
    }

    /// It is about to close: whatever held it up ends with that.
    pub(super) fn book_pauses(&mut self, key: u32) {
        self.book_wait(key);
        self.book_pause(key, PauseCause::Staging);
        self.book_pause(key, PauseCause::Operator);
        self.book_pause(key, PauseCause::Rate);
    }

    pub(super) fn resume_lanes(&mut self) {
        for (lane, counters) in self.lanes.iter_mut().zip(&self.counters.rings) {
            if let Some(took) = lane.resume(self.now) {
                counters.blocks.add(1);
                counters.blocked_micros.add(took.as_micros() as u64);
                counters.blocked_since.set(None);
            }
        }
    }

    pub(super) fn block_lane(&mut self, lane: usize) -> bool {
        let now = self.now;
        let blocked = self.lanes[lane].block(now);
        if blocked {
            self.counters.rings[lane].blocked_since.set(Some(now));
        }
        blocked
    }

    /// Staging was given back: everybody who waited for it by then tries again, so many in a turn.
    pub(super) fn feed_starved(&mut self) {
        // First, for what it gives back is had in this turn.
        if self.starved_at().is_some_and(|at| at <= self.now) {
            self.starved_since = self.now;
            self.weigh_from = Some(0);
        }
        self.close_slow_holders();
        let mut left = FEED_BUDGET;
        while left > 0 && self.calls_starved() {
            if self.last_called.is_none() {
                self.staging.forget_freed();
                self.last_called = self.starved.tail();
                // Not all of it has been spent all the time.
                self.starved_since = self.now;
            }
            // Those who find no room again stand behind the last one.
            let Some(key) = self.starved.head() else {
                break;
            };
            self.leave_starved(key);
            self.resume(key, PauseCause::Staging);
            left -= 1;
        }
    }

    /// Is anybody to be called who waits for staging?
    pub(super) fn calls_starved(&self) -> bool {
        !self.starved.is_empty() && (self.staging.has_freed() || self.last_called.is_some())
    }

    fn leave_starved(&mut self, key: u32) {
        if self.last_called == Some(key) {
            self.last_called = self.starved.before(&self.slots, key);
        }
        self.starved.remove(&mut self.slots, key);
    }

    pub(super) fn starved_at(&self) -> Option<Duration> {
        if self.starved.is_empty() {
            return None;
        }
        Some(self.starved_since + tick_time(self.clocks.message?))
    }

    /// Are holders of spent staging being looked at?
    pub(super) fn weighs_holders(&self) -> bool {
        !self.starved.is_empty() && self.weigh_from.is_some()
    }

    /// Staging has been spent for a whole message timeout: whoever sends its message too slowly gives
    /// its place to others, while there are any.
    fn close_slow_holders(&mut self) {
        let Some(from) = self.weigh_from.take() else {
            return;
        };
        if self.starved.is_empty() {
            return;
        }
        let holders = self.staging.holders(from, WEIGH_BUDGET);
        self.weigh_from = holders.next;
        for key in holders.keys {
            let slot = &self.slots[key];
            let blocked = self.lanes[usize::from(slot.consumer)].is_pausing();
            let held = tick_of(self.waited(key));
            let message = Unfinished {
                bytes: slot.conn.staged() as u64,
                took: tick_time(slot.conn.message_took(held, self.tick)),
                is_held: slot.place == Place::Ring && blocked || slot.conn.is_frozen(),
            };
            if is_victim(&message, &OF_SPENT_STAGING) {
                self.begin_close(key, CloseReason::Message);
            }
        }
    }

    pub(super) fn starve(&mut self, key: u32) {
        self.dequeue(key);
        self.hold(key, PauseCause::Staging);
        if self.starved.is_empty() {
            self.starved_since = self.now;
            // It has seen what was given back.
            self.staging.forget_freed();
        }
        self.starved.push(&mut self.slots, key);
        // Its clocks run here; while it waited for its ring they stood still.
        self.rearm(key);
    }

    pub(super) fn pause(&mut self, key: u32, cause: PauseCause) {
        self.hold(key, cause);
        if self.slots[key].place == Place::Ring && !self.slots[key].conn.may_be_served() {
            self.dequeue(key);
            self.line_up(key);
        }
    }

    pub(super) fn hold(&mut self, key: u32, cause: PauseCause) {
        let slot = &mut self.slots[key];
        if slot.conn.handle_pause(cause, self.tick) {
            self.leave_rest(key);
            if cause == PauseCause::Rate {
                self.counters.hold_for_rate(self.held_by(key));
            }
            if cause == PauseCause::Staging {
                self.counters.held_by_staging.add(1);
            }
        }
    }

    pub(super) fn resume(&mut self, key: u32, cause: PauseCause) {
        self.book_pause(key, cause);
        self.slots[key].conn.handle_resume(cause, self.tick);
        self.line_up(key);
        // Another cause may hold it still, under which its clocks run.
        self.rearm(key);
    }
}
