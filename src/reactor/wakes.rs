//! Who is woken at the end of a turn.
//!
//! In: what the turn has published. Out: a wake-up for each consumer that is to look. Never here: one that is left
//! asleep without a turn that follows.

use super::{Lane, Phase, Reactor};
use crate::net::Net;
use crate::ring::Parked;

impl<N: Net> Reactor<N> {
    /// Turns follow one another from now on.
    pub(crate) fn run_on(&mut self) {
        self.runs = true;
        self.lanes.iter_mut().for_each(Lane::let_sleep_on);
    }

    pub(super) fn wake_consumers(&mut self) {
        let goes_on = self.goes_on();
        // No longer than said, however long this turn took.
        let now = match goes_on && self.lanes.iter().any(Lane::has_work) {
            true => self.net.now(),
            false => self.now,
        };
        Parked::notify_each(self.lanes.iter_mut().filter_map(|lane| {
            let wakes = lane.takes_wake(now, goes_on);
            wakes.then_some(&*lane.parked)
        }));
    }

    /// Does another turn follow at once while there is something to be read?
    pub(crate) fn goes_on(&self) -> bool {
        self.runs && self.phase == Phase::Running
    }
}
