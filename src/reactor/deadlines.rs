//! What time does: one wheel for the clocks of all connections, and one deadline for each full ring.
//!
//! In: the turn's tick. Out: evictions, each of which has looked once more.
//! Never here: a clock of its own.

use std::time::Duration;

use super::lane::Flow;
use super::slots::Place;
use super::{Reactor, clock, tick_time, ticks, wheel};
use crate::close::{CloseReason, PauseCause};
use crate::conn::{Expired, State, Tick, has_come, sooner};
use crate::net::Net;
use crate::policy::{Unfinished, is_victim};

/// Deadlines handled in one turn.
const TIMER_BUDGET: usize = 256;

impl<N: Net> Reactor<N> {
    /// Sets the wheel for the connection's next deadline, if that is sooner than what is set.
    pub(super) fn rearm(&mut self, key: u32) {
        let slot = &self.slots[key];
        let waiting =
            slot.place == Place::Ring && self.lanes[usize::from(slot.consumer)].is_pausing();
        let deadline = slot.conn.poll_timeout(&self.clocks, waiting);
        let until = sooner(self.rate_until(key), self.half_of_drain(key));
        let Some(tick) = sooner(deadline, until) else {
            return;
        };
        let set = slot.wheel_tick();
        if set.is_none_or(|set| set != tick && has_come(set, tick)) {
            self.wheel.set(&mut self.slots, key, tick);
        }
    }

    /// When whoever is leaving is read no more, because all are: half of a drain waits for no ring.
    fn half_of_drain(&self, key: u32) -> Option<Tick> {
        let half = self.phase.read_until()?;
        let is_leaving = matches!(self.slots[key].conn.state(), State::Draining { .. });
        // Counted from now: as an absolute time, a distant end would wrap.
        let left = half.saturating_sub(self.now);
        is_leaving.then(|| match left.is_zero() {
            true => self.tick,
            false => self.tick.wrapping_add(clock(left)),
        })
    }

    /// The same after a read, which mostly puts off what is due: what is set comes too early, and sets the
    /// wheel anew.
    pub(super) fn rearm_after_read(&mut self, key: u32) {
        let slot = &self.slots[key];
        let is_early = |set| slot.conn.is_put_off(&self.clocks, set);
        if !slot.wheel_tick().is_some_and(is_early) {
            self.rearm(key);
        }
    }

    pub(super) fn fire_timers(&mut self) {
        let mut budget = TIMER_BUDGET * wheel::TAKEN;
        while let Some(key) = self.wheel.expired(&mut self.slots, self.tick, &mut budget) {
            if self
                .rate_until(key)
                .is_some_and(|at| has_come(self.tick, at))
            {
                self.resume(key, PauseCause::Rate);
                continue;
            }
            if !self.lanes[usize::from(self.slots[key].consumer)].is_pausing() {
                // What it waited for its ring is over: so the deadline that is set next lies ahead.
                self.book_wait(key);
            }
            if self
                .half_of_drain(key)
                .is_some_and(|at| has_come(self.tick, at))
            {
                self.end(key, CloseReason::Shutdown);
                continue;
            }
            let frozen = ticks(self.waited(key));
            let conn = &self.slots[key].conn;
            match conn.handle_timeout(&self.clocks, frozen, self.tick) {
                Expired::Nothing => self.rearm(key),
                Expired::Look(reason) => self.look(key, reason),
                Expired::Weigh => self.weigh(key),
                Expired::Close(reason) if self.is_overlooked(key, reason) => self.look(key, reason),
                Expired::Close(reason) => self.begin_close(key, reason),
                Expired::End(reason) => self.end(key, reason),
            }
        }
    }

    /// A window of the least rate is over.
    fn weigh(&mut self, key: u32) {
        let Some(least) = self.least_rate else { return };
        let conn = &mut self.slots[key].conn;
        // However late we are: what came is held against one window.
        let message = Unfinished {
            bytes: conn.window_bytes(),
            took: least.window,
            is_held: false,
        };
        if !is_victim(&message, &least) {
            conn.handle_window(self.tick);
            self.rearm(key);
        } else if conn.looked(CloseReason::Trickle).is_none()
            || self.is_overlooked(key, CloseReason::Trickle)
        {
            self.look(key, CloseReason::Trickle);
        } else {
            self.begin_close(key, CloseReason::Trickle);
        }
    }

    /// An eviction looks once more before it acts: at an urgent mark a short read is not a drained
    /// socket, and after a suspended machine all clocks come at once.
    pub(super) fn look(&mut self, key: u32, reason: CloseReason) {
        let slot = &mut self.slots[key];
        let Some(stream) = &slot.stream else { return };
        let rests = matches!(slot.place, Place::Nowhere | Place::Resting);
        if rests && self.net.unread(stream) == Some(0) {
            return self.begin_close(key, reason);
        }
        slot.conn.handle_look(reason, self.tick);
        slot.mark_ready();
        self.line_up(key);
        self.rearm(key);
    }

    /// Has it been looked for, has bytes, and stood in line since then? A line of very many who send all they can is
    /// longer than that wait; it is ours.
    fn is_overlooked(&self, key: u32, reason: CloseReason) -> bool {
        let slot = &self.slots[key];
        let has_waited = |looked| has_come(looked, slot.conn.last_read());
        matches!(slot.place, Place::Ring | Place::Owing)
            && slot.conn.looked(reason).is_some_and(has_waited)
            && !self.is_drained(key)
    }

    /// When the head of a blocked FIFO has waited for too long. The FIFO is in the order of waiting, so
    /// that one deadline a ring is enough.
    pub(super) fn stalls_at(&self, lane: usize) -> Option<Duration> {
        // Those whose consumer is gone are on their way out, each in its turn.
        let Flow::Blocked { since, .. } = self.lanes[lane].flow() else {
            return None;
        };
        let head = self.lanes[lane].longest_waiting()?;
        // Back from now: as a time since the start, a tick would mean another one after 397 days.
        let ticks = self.tick.wrapping_sub(self.slots[head].queued_at);
        let queued = self.now.saturating_sub(tick_time(ticks));
        Some(since.max(queued).saturating_add(self.stall?))
    }

    pub(super) fn fire_stalls(&mut self) {
        for lane in 0..self.lanes.len() {
            for _ in 0..TIMER_BUDGET {
                match self.stalls_at(lane) {
                    Some(at) if at <= self.now => {}
                    _ => break,
                }
                let Some(key) = self.lanes[lane].longest_waiting() else {
                    break;
                };
                if self.slots[key].conn.is_closed() {
                    // It only waits to say that it has ended; nobody listens.
                    self.bury(key);
                } else if self.slots[key].place == Place::Owing {
                    // It only waits to tell a gap, and is read all the same.
                    self.dequeue(key);
                    self.line_up(key);
                } else if self.is_drained(key) {
                    // After a full read it stands in line to see whether there is more: there is not.
                    if !self.end_if_gone(key) {
                        self.rest(key);
                    }
                } else {
                    self.dequeue(key);
                    self.end(key, CloseReason::Stall);
                }
            }
        }
    }
}
