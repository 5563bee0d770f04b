//! When a consumer that finds nothing looks again in a moment, instead of sleeping until it is woken.
//!
//! In: how much it has taken, and the time. Out: whether it is worth to doze. Never here: a clock, a sleep.
//!
//! A wake-up is dear for who wakes, for who is woken, and for who is interrupted by it. The small writes of one sender
//! at full speed wake a consumer every ten microseconds, for some ten KiB each. Whoever dozes is woken by nobody, and
//! finds more. Where less comes, a timer is as dear as the wake-ups that it saves, and everybody would wait for it.
//! Where more comes each time, a doze was measured to be dearer than a wake-up: presumably since who is woken runs where
//! the reactor just ran, and finds in the cache what that wrote.

use std::time::{Duration, Instant};

/// How long a doze is. The kernel adds its timer slack, 50 us.
pub(super) const DOZE: Duration = Duration::from_micros(50);
/// How long it takes then.
pub(super) const LONGEST: Duration = Duration::from_micros(100);
/// Bytes that have to come in so much time for a doze to be worth it: some 490 MB a second.
const WORTH: u64 = 48 << 10;
/// Where each wake-up brings so many bytes, no doze is worth it.
const MUCH: u64 = 16 << 10;
/// Dozes in a row. Then it is woken for a while, since only so is it seen how much that brings.
const ROW: u32 = 256;

#[derive(Debug)]
pub(super) struct Doze {
    /// Bytes that it may take between two looks at its pace.
    most: u64,
    /// What it had taken at the last look, and when that was.
    taken: u64,
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So often since the last look at its pace.
    Woken { times: u64 },
    /// So often more, if its pace lasts.
    Dozing { left: u32 },
}

impl Doze {
    pub(super) fn new(most: usize, now: Instant) -> Self {
        Self {
            most: most as u64,
            taken: 0,
            since: now,
            state: State::Woken { times: 0 },
        }
    }

    /// Dozes, whatever comes.
    #[cfg(test)]
    pub(super) fn always() -> Self {
        Self {
            // No time has passed since.
            since: Instant::now() + Duration::from_secs(86400),
            state: State::Dozing { left: ROW },
            ..Self::new(0, Instant::now())
        }
    }

    /// There is nothing more, after `taken` bytes since the beginning. Is it worth to look again in a moment?
    pub(super) fn handle_nothing(&mut self, taken: u64, now: Instant) -> bool {
        if let State::Woken { times } = &mut self.state {
            *times += 1;
        }
        let passed = now.saturating_duration_since(self.since);
        // A few reads in a row are no pace yet.
        if passed >= LONGEST {
            self.state = self.next(taken - self.taken, passed);
            (self.taken, self.since) = (taken, now);
        }
        matches!(self.state, State::Dozing { .. })
    }

    /// After so many bytes in so much time.
    fn next(&self, took: u64, passed: Duration) -> State {
        let (least, left) = match self.state {
            State::Woken { times } if took < times * MUCH => (WORTH, ROW),
            // The pace of one that dozes wavers.
            State::Dozing { left: left @ 1.. } => (WORTH / 2, left - 1),
            _ => return State::Woken { times: 0 },
        };
        let comes = u128::from(took) * LONGEST.as_nanos() / passed.as_nanos();
        if took <= self.most && comes >= u128::from(least) {
            State::Dozing { left }
        } else {
            State::Woken { times: 0 }
        }
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
        assert_eq!(dozes(512, &[(15, 15); 7])[6..], [true], "little enough");
        let never = |most, turn, why| assert_eq!(dozes(most, &[turn; 20]), [false; 20], "{why}");
        never(512, (4, 10), "less than full speed");
        never(512, (16, 16), "much each time");
        never(512, (600, 300), "it is not woken often");
        never(90, (10, 10), "the ring is small");
        never(0, (10, 10), "never");
        never(0, (0, 100), "never, and woken for nothing");
        never(512, (0, 100), "woken for nothing");
    }

    #[test]
    fn wake_ups_that_brought_little_do_not_hide_those_that_bring_much() {
        let turns = [[(1, 10); 30].as_slice(), &[(40, 16); 20]].concat();
        assert_eq!(dozes(512, &turns), [false; 50]);
    }

    /// At a pace, and then in these turns.
    fn afterwards(turns: &[(u64, u64)]) -> Vec<bool> {
        let all = dozes(512, &[&[(10, 10); 10], turns].concat());
        assert!(all[9]);
        all[10..].to_vec()
    }

    #[test]
    fn who_came_to_a_pace_dozes_until_it_falls_behind_it() {
        assert_eq!(
            afterwards(&[(120, 100), (24, 100), (0, 60), (0, 60), (10, 10)]),
            [true, true, true, false, false]
        );
        assert_eq!(afterwards(&[(23, 100)]), [false], "less than half of it");
        assert_eq!(afterwards(&[(300, 1_000_000)]), [false], "a silence");
        assert_eq!(afterwards(&[(512, 300)]), [true], "a long doze");
        assert_eq!(afterwards(&[(513, 300)]), [false], "more than it may take");
    }

    #[test]
    fn after_a_row_of_dozes_it_is_seen_what_a_wake_up_brings() {
        let row = [(200, 100); ROW as usize];
        let little = afterwards(&[row.as_slice(), &[(200, 100)], &[(10, 10); 10]].concat());
        assert_eq!(little[..row.len()], [true; ROW as usize]);
        assert_eq!(
            little[row.len()..],
            [[false; 10].as_slice(), &[true]].concat()
        );
        let much = afterwards(&[row.as_slice(), &[(200, 100)], &[(40, 16); 20]].concat());
        assert_eq!(much[row.len()..], [false; 21]);
    }
}
