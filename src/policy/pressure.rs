//! Is there so much pressure, for so long, that nobody new should come in?
//!
//! ```text
//!         level: goes up while every consumer has a full ring, down while one has not
//!  Open ──────────── the level is at the top: `after` ────────────► Shut
//!    ▲                                                               │
//!    └──────────────── the level is down at nothing ─────────────────┘
//! ```
//!
//! In: whether it presses, and the time. Out: open or shut. Never here: a ring or a listener.
//!
//! The level makes it slow both ways: rings that are full and empty by turns press for the part of the time
//! in which they are full, and nothing opens and shuts faster than once in `after`.

use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Pressure {
    after: Duration,
    level: Duration,
    looked: Duration,
    presses: bool,
    shut: bool,
}

impl Pressure {
    pub(crate) fn new(after: Duration) -> Self {
        Self {
            after,
            level: Duration::ZERO,
            looked: Duration::ZERO,
            presses: false,
            shut: false,
        }
    }

    /// It presses now, or does not; until now it was as it was said last. Returns whether all should be
    /// shut.
    pub(crate) fn look(&mut self, presses: bool, now: Duration) -> bool {
        let passed = now.saturating_sub(self.looked);
        self.looked = now;
        self.level = match self.presses {
            true => self.level.saturating_add(passed).min(self.after),
            false => self.level.saturating_sub(passed),
        };
        self.presses = presses;
        if presses && self.level == self.after {
            self.shut = true;
        } else if !presses && self.level.is_zero() {
            self.shut = false;
        }
        self.shut
    }

    /// When to look again, if nothing changes.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        match (self.shut, self.presses) {
            (false, true) => Some(self.looked.saturating_add(self.after - self.level)),
            (true, false) => Some(self.looked.saturating_add(self.level)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_shuts_after_its_time_and_opens_after_the_same_time_without() {
        let mut pressure = Pressure::new(s(10));
        assert!(!pressure.look(true, s(100)));
        assert_eq!(pressure.poll_timeout(), Some(s(110)));
        assert!(!pressure.look(true, s(109)));
        assert_eq!(pressure.poll_timeout(), Some(s(110)));
        assert!(pressure.look(true, s(110)));
        assert_eq!(pressure.poll_timeout(), None);
        assert!(pressure.look(false, s(200)), "not at once");
        assert_eq!(pressure.poll_timeout(), Some(s(210)));
        assert!(!pressure.look(false, s(210)));
    }

    #[test]
    fn what_comes_and_goes_presses_for_the_part_of_the_time_in_which_it_is_there() {
        let (mut mostly, mut seldom) = (Pressure::new(s(10)), Pressure::new(s(10)));
        let (mut shuts, mut ever) = (0, false);
        let mut before = false;
        for second in 0..300 {
            let shut = mostly.look(second % 3 != 0, s(second));
            shuts += u64::from(shut && !before);
            before = shut;
            ever |= seldom.look(second % 3 == 0, s(second));
        }
        assert_eq!((shuts, ever), (1, false), "once, and it stays so");
    }

    proptest! {
        #[test]
        fn it_never_changes_twice_within_its_time_and_always_when_it_said(
            steps in prop::collection::vec((prop::bool::ANY, 1u64..30), 1..200),
        ) {
            let mut pressure = Pressure::new(s(20));
            let (mut now, mut shut) = (0, false);
            let mut changed: Option<u64> = None;
            for (presses, time) in steps {
                let due = pressure.poll_timeout();
                now += time;
                // Whoever sleeps until it is due looks then.
                if let Some(due) = due.filter(|due| *due <= s(now)) {
                    let as_before = pressure.presses;
                    let next = pressure.look(as_before, due);
                    prop_assert_ne!(next, shut, "it was due");
                    if let Some(before) = changed {
                        prop_assert!(due.as_secs() - before >= 20);
                    }
                    (shut, changed) = (next, Some(due.as_secs()));
                }
                let next = pressure.look(presses, s(now));
                if next != shut {
                    if let Some(before) = changed {
                        prop_assert!(now - before >= 20);
                    }
                    (shut, changed) = (next, Some(now));
                }
            }
        }
    }
}
