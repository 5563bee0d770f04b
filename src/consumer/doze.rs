//! When a consumer that finds nothing looks again in a moment, instead of sleeping until it is woken.
//!
//! In: how much it has taken, and the time. Out: whether it is worth to doze. Never here: a clock, a sleep.
//!
//! A wake-up is dear for who wakes, for who is woken, and for who is interrupted by it. The small writes of one sender
//! at full speed wake a consumer every ten microseconds, for some ten KiB each. Whoever dozes is woken by nobody, and
//! finds more. Where less comes, a timer is as dear as the wake-ups that it saves, and everybody would wait for it.

use std::time::{Duration, Instant};

/// How long a doze is. The kernel adds its timer slack, 50 us.
pub(super) const DOZE: Duration = Duration::from_micros(50);
/// How long it takes then.
pub(super) const LONGEST: Duration = Duration::from_micros(100);
/// Bytes that have to come in so much time for a doze to be worth it: 480 MiB a second.
const WORTH: u128 = 48 << 10;

#[derive(Debug)]
pub(super) struct Doze {
    /// Bytes that it may find afterwards.
    most: u64,
    /// What it had taken when its pace was last looked at, and when that was.
    taken: u64,
    since: Instant,
    is_worth_it: bool,
}

impl Doze {
    pub(super) fn new(most: usize, now: Instant) -> Self {
        Self {
            most: most as u64,
            taken: 0,
            since: now,
            is_worth_it: false,
        }
    }

    /// There is nothing more, after `taken` bytes since the beginning. Is it worth to look again in a moment?
    pub(super) fn handle_nothing(&mut self, taken: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        // A few reads in a row are no pace yet.
        if passed >= LONGEST {
            let took = taken - self.taken;
            let comes = u128::from(took) * LONGEST.as_nanos() / passed.as_nanos();
            // Who takes more is not woken often.
            self.is_worth_it = took <= self.most && comes >= WORTH;
            (self.taken, self.since) = (taken, now);
        }
        self.is_worth_it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many KiB a turn of so many microseconds: does it doze after each?
    fn dozes(most: usize, turns: &[(u64, u64)]) -> Vec<bool> {
        let (mut taken, mut now) = (0, Instant::now());
        let mut doze = Doze::new(most << 10, now);
        let turn = |(kib, micros): &(u64, u64)| {
            taken += kib << 10;
            now += Duration::from_micros(*micros);
            doze.handle_nothing(taken, now)
        };
        turns.iter().map(turn).collect()
    }

    #[test]
    fn only_who_is_woken_often_for_little_of_much_dozes() {
        assert_eq!(
            dozes(512, &[(10, 10); 20])[8..],
            [[false].as_slice(), &[true; 11]].concat()
        );
        assert_eq!(dozes(512, &[(120, 100)]), [true], "what a doze brought");
        assert_eq!(
            dozes(512, &[(4, 10); 20]),
            [false; 20],
            "less than full speed"
        );
        assert_eq!(dozes(512, &[(600, 300)]), [false], "it is not woken often");
        assert_eq!(dozes(100, &[(120, 100)]), [false], "the ring is small");
        assert_eq!(dozes(0, &[(120, 100)]), [false], "never");
        assert_eq!(dozes(512, &[(0, 100)]), [false], "woken for nothing");
    }

    #[test]
    fn who_came_to_a_pace_dozes_until_it_falls_behind_it() {
        let silence = [(120, 100), (0, 60), (0, 60), (10, 10), (300, 1_000_000)];
        assert_eq!(dozes(512, &silence), [true, true, false, false, false]);
    }
}
