//! How long there is nothing to do, and whether there is more to do than to read.
//!
//! In: what every part of the reactor is to be woken for. Out: how long the next poll may take, a nap before it, and
//! whether a turn has chores. Never here: anything else that is done about it.
//!
//! Nearly every turn under load has nothing but bytes to read. All else that a turn may have to do has a reason
//! that can be seen at once: somebody woke the reactor, a deadline has come, or something is not as it
//! nearly always is. Where there is none, the chores are not gone through, and what they were to be done for
//! next is still known. Nothing here may depend on how many connections there are.

use std::time::Duration;

use super::lane::Flow;
use super::stalled::Pace;
use super::{Gate, Lane, Phase, Reactor, tick_of, tick_time};
use crate::conn::{Tick, has_come};
use crate::edges;
use crate::net::Net;

/// Later than any deadline.
pub(super) const NEVER: Duration = Duration::MAX;

impl<N: Net> Reactor<N> {
    /// How long it would sleep now.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn sleeps(&self) -> Option<Duration> {
        self.patience(self.net.now(), None)
    }

    /// How long nothing is to be done, as far as we know.
    pub(super) fn patience(&self, now: Duration, at_most: Option<Duration>) -> Option<Duration> {
        if self.lanes.iter().any(Lane::has_work) {
            return Some(Duration::ZERO);
        }
        let mut soonest = self.due;
        if let Some(tick) = self.wheel.next_tick() {
            soonest = soonest.min(starts_at(tick, now));
        }
        if let Some(most) = at_most {
            soonest = soonest.min(now.saturating_add(most));
        }
        (soonest != NEVER).then(|| soonest.saturating_sub(now))
    }

    /// Before a wait of at most `timeout`: the next turn is not to begin too soon after the last one. Returns what is
    /// left to be waited.
    pub(super) fn nap(&mut self, now: Duration, timeout: Option<Duration>) -> Option<Duration> {
        let Some(spacing) = &mut self.spacing else {
            return timeout;
        };
        let received = self.counters.received.read();
        let before = spacing.label();
        let apart = spacing.handle_turn(self.events.len(), received, now);
        let is_full = self.lanes.iter().any(Lane::is_blocked);
        if is_full {
            spacing.handle_full(now);
        }
        if spacing.label() != before {
            edges::note("turns", before, spacing.label());
        }
        if is_full {
            // There may be room at any moment.
            return timeout;
        }
        let left = (self.now + apart).saturating_sub(now);
        let nap = timeout.map_or(left, |timeout| left.min(timeout));
        if !nap.is_zero() {
            self.net.nap(nap);
        }
        timeout.map(|timeout| timeout - nap)
    }

    /// Is there more to do than to read? `woken`: somebody woke this reactor.
    pub(super) fn has_chores(&self, woken: bool) -> bool {
        let deadline = self.wheel.next_tick();
        woken
            || self.due <= self.now
            || deadline.is_some_and(|tick| has_come(self.tick, tick))
            || self.is_unusual()
    }

    /// Is anything not as it nearly always is?
    pub(super) fn is_unusual(&self) -> bool {
        let flows = |lane: &Lane| lane.flow() == Flow::Flowing && lane.pace == Pace::Going;
        !self.lanes.iter().all(flows)
            || !self.listeners.iter().all(|l| l.machine.is_idle())
            || !self.leaving.is_empty()
            || !self.lingering.is_empty()
            || !self.starved.is_empty()
            || !self.dead.is_empty()
            || self.rates.is_some()
            || self.phase != Phase::Running
    }

    /// When the chores are to be done again, if nothing happens: after they were done. Deadlines of
    /// connections are the wheel's, which knows its next one.
    pub(super) fn next_chores(&self) -> Duration {
        if self.is_busy() {
            return Duration::ZERO;
        }
        let mut soonest = NEVER;
        let mut wake_at = |at: Option<Duration>| {
            if let Some(at) = at {
                soonest = soonest.min(at);
            }
        };
        for (place, listening) in self.listeners.iter().enumerate() {
            wake_at(listening.machine.poll_timeout());
            wake_at(self.makes_room_at(place));
        }
        for lane in 0..self.lanes.len() {
            wake_at(self.stalls_at(lane));
            wake_at(self.watches_at(lane));
        }
        let gate = self.gate.as_ref().filter(|_| self.phase == Phase::Running);
        wake_at(gate.and_then(Gate::poll_timeout));
        let rates = self.rates.as_ref().and_then(|rates| rates.next_tick());
        wake_at(rates.map(|tick| starts_at(tick, self.now)));
        wake_at(self.starved_at());
        wake_at(self.phase.poll_timeout(self.is_closed()));
        soonest
    }

    /// Is there something to do at once?
    fn is_busy(&self) -> bool {
        self.listeners.iter().any(|l| l.machine.may_accept())
            || self.overlooks_room()
            || self.rates.as_ref().is_some_and(|rates| rates.is_busy())
            || !self.lingering.is_empty()
            || self.bulk.is_some()
            || self.calls_starved()
            || self.weighs_holders()
            || !self.answers.is_empty()
            || self.phase.is_busy()
    }
}

/// When a tick begins, or now.
fn starts_at(tick: Tick, now: Duration) -> Duration {
    let ahead = tick.wrapping_sub(tick_of(now));
    // Half of all ticks are ahead, the others have passed.
    match ahead < 1 << 31 {
        true => now + tick_time(ahead),
        false => now,
    }
}
