//! When a consumer that finds nothing looks again in a moment, instead of sleeping until it is woken.
//!
//! In: how much it has taken, and the time. Out: whether it is worth to doze. Never here: a clock, a sleep.
//!
//! A wake-up is dear for who wakes, for who is woken, and for who is interrupted by it. The small writes of one sender
//! at full speed wake a consumer every ten microseconds, for some ten KiB each. Whoever dozes is woken by nobody, and finds
//! more. At less than full speed nobody dozes, so that nobody waits for it.

use std::time::{Duration, Instant};

/// How long a doze is. The kernel adds its timer slack, 50 us.
pub(super) const DOZE: Duration = Duration::from_micros(50);
/// How long it takes at most, but for a machine that is busy.
pub(super) const LONGEST: Duration = Duration::from_micros(100);
/// What has to come in so much time: a timer is as dear as some wake-ups.
const WORTH: u128 = 48 << 10;
/// Who finds more than this at once is not woken often.
const OFTEN: u64 = 256 << 10;

/// What was taken until it last found nothing, and when that was.
#[derive(Debug)]
pub(super) struct Doze {
    taken: u64,
    since: Instant,
}

impl Doze {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            taken: 0,
            since: now,
        }
    }

    /// There is nothing more; `taken` bytes were taken so far, and a batch holds at most `batch_max`. Is it worth
    /// to look again in a moment?
    pub(super) fn is_worth_it(&mut self, taken: u64, batch_max: usize, now: Instant) -> bool {
        let took = taken - self.taken;
        let passed = now.saturating_duration_since(self.since);
        *self = Self { taken, since: now };
        // What comes meanwhile, if it comes as it did.
        let comes = u128::from(took) * LONGEST.as_nanos() / passed.as_nanos().max(1);
        took <= OFTEN && (WORTH..=batch_max as u128).contains(&comes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    /// So many KiB were taken in so many microseconds, with batches of so many KiB.
    fn dozes(kib: u64, micros: u64, batch_max: u64) -> bool {
        let start = Instant::now();
        let mut doze = Doze::new(start);
        assert!(!doze.is_worth_it(3 * KIB, 512 << 10, start + Duration::from_secs(1)));
        let now = start + Duration::from_secs(1) + Duration::from_micros(micros);
        doze.is_worth_it((3 + kib) * KIB, (batch_max * KIB) as usize, now)
    }

    #[test]
    fn only_who_is_woken_often_for_little_of_much_dozes() {
        assert!(dozes(10, 10, 512));
        assert!(dozes(100, 100, 512), "what a doze brought");
        assert!(!dozes(4, 10, 512), "less than full speed");
        assert!(!dozes(0, 0, 512), "it was woken for nothing");
        assert!(!dozes(300, 100, 512), "it is not woken often");
        assert!(!dozes(200, 10, 512), "more than a batch would come");
        assert!(!dozes(10, 10, 64), "the ring is small");
        assert!(!dozes(200, 1_000_000, 512), "after a silence");
    }
}
