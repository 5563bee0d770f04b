//! How long there is nothing to do.
//!
//! In: what every part of the reactor is to be woken for. Out: how long the next poll may take. Never here:
//! anything that is done about it.
//!
//! A reactor asks this before each sleep, so that it costs as much as the wake-up's own work if it is done
//! carelessly: nothing here may depend on how many connections there are.

use std::time::Duration;

use super::{Gate, Lane, Phase, Reactor, tick_of, tick_time};
use crate::conn::Tick;
use crate::net::Net;

impl<N: Net> Reactor<N> {
    /// How long it would sleep now.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn sleeps(&self) -> Option<Duration> {
        self.patience(self.net.now(), None)
    }

    /// How long nothing is to be done, as far as we know.
    pub(super) fn patience(&self, now: Duration, at_most: Option<Duration>) -> Option<Duration> {
        if self.is_busy() {
            return Some(Duration::ZERO);
        }
        let mut soonest = at_most.map(|most| now.saturating_add(most));
        let mut wake_at = |at: Option<Duration>| {
            if let Some(at) = at
                && soonest.is_none_or(|soonest| at < soonest)
            {
                soonest = Some(at);
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
        for tick in [self.wheel.next_tick(), rates].into_iter().flatten() {
            wake_at(Some(starts_at(tick, now)));
        }
        wake_at(self.starved_at());
        wake_at(self.phase.poll_timeout(self.is_closed()));
        soonest.map(|at| at.saturating_sub(now))
    }

    /// Is there something to do at once?
    fn is_busy(&self) -> bool {
        self.lanes.iter().any(Lane::has_work)
            || self.listeners.iter().any(|l| l.machine.may_accept())
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
