//! A reactor's seconds of fairness, for any thread.
//!
//! In: the sums of one reactor, at the end of each turn. Out: the same, whole, for whoever
//! asks. Never here: a lock, or a wait of the one who writes.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::policy::{Fairness, Mean, Share, Shares, WORDS};
use crate::status;

/// Two copies, of which the one with the parity of `turn` is whole, and the other is written next. Sums of
/// which one is of this turn and another one of the next would make an index that never was.
#[derive(Debug, Default)]
pub(crate) struct Published {
    turn: AtomicU64,
    copies: [[AtomicU64; WORDS]; 2],
}

impl Published {
    /// Only the one writer may call this.
    pub(crate) fn set(&self, fairness: &Fairness) {
        let turn = self.turn.load(Ordering::Relaxed) + 1;
        // Release: whoever sees one of the words below sees the turn before as well, and that its copy, which
        // this is, is no longer the whole one.
        fence(Ordering::Release);
        let copy = &self.copies[turn as usize & 1];
        for (word, new) in copy.iter().zip(fairness.to_words()) {
            word.store(new, Ordering::Relaxed);
        }
        // Release: whoever sees it sees the words.
        self.turn.store(turn, Ordering::Release);
    }

    pub(crate) fn read(&self) -> Fairness {
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            let copy = &self.copies[turn as usize & 1];
            let words = std::array::from_fn(|at| copy[at].load(Ordering::Relaxed));
            // Acquire: pairs with the fence of `set`.
            fence(Ordering::Acquire);
            // Another time only where a turn has ended meanwhile: one that stands still in `set` holds up nobody.
            if self.turn.load(Ordering::Relaxed) == turn {
                return Fairness::from_words(words);
            }
        }
    }
}

/// What was read of each connection in the second in which it was last read, by the connections' keys. Those that
/// have sent nothing yet take no room.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Share>);

pub(super) const PLACE_BYTES: usize = size_of::<Share>();

impl Table {
    #[inline]
    pub(super) fn of(&mut self, key: u32) -> &mut Share {
        let place = key as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, Share::default());
        }
        &mut self.0[place]
    }

    /// A connection has come: what its place's former tenant got is not its own.
    pub(super) fn open(&mut self, key: u32) {
        if let Some(share) = self.0.get_mut(key as usize) {
            *share = Share::default();
        }
    }
}

/// The last seconds of all reactors, as a snapshot shows them.
#[derive(Debug, Default)]
pub(super) struct Sum {
    last: Shares,
    mean: Mean,
}

impl Sum {
    /// Of another reactor. Its clock may be ahead of the one that says which second it is now.
    pub(super) fn add(&mut self, fairness: &Fairness, second: u32, ended: bool) {
        let second = second.max(fairness.second());
        if let Some(last) = second.checked_sub(1) {
            self.last.merge(&fairness.of(last));
        }
        // Of one that has ended, the last second will not get any longer.
        let until = if ended { u32::MAX } else { second };
        self.mean.merge(&fairness.mean_until(until));
    }

    pub(super) fn status(&self) -> status::Fairness {
        status::Fairness {
            index: self.last.index(),
            connections: self.last.connections,
            mean: self.mean.index(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// What two connections got by then, of which the second got as often twice as much.
    fn after(reads: u64) -> Fairness {
        let mut fairness = Fairness::default();
        let mut shares = [Share::default(); 2];
        for read in 0..reads {
            fairness.handle_time(Duration::from_millis(100 * read));
            for (share, bytes) in shares.iter_mut().zip([10, 20]) {
                fairness.handle_read(share, bytes);
            }
        }
        fairness
    }

    #[test]
    fn what_is_read_was_written_as_a_whole_whoever_writes_meanwhile() {
        const TURNS: u64 = 1_000_000;
        let published = Published::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 1..=TURNS {
                    published.set(&Fairness::from_words([turn; WORDS]));
                }
            });
            let mut seen = 0;
            while seen < TURNS {
                let words = published.read().to_words();
                assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
                assert!(words[0] >= seen, "{seen} was there before {}", words[0]);
                seen = words[0];
            }
        });
    }

    #[test]
    fn a_snapshot_shows_the_second_that_is_over_of_all_reactors_together() {
        let mut sum = Sum::default();
        assert_eq!(sum.status().index, None);
        // 20 reads in two seconds here, one in the first second there.
        sum.add(&after(20), 2, false);
        sum.add(&after(1), 2, false);
        let status = sum.status();
        assert_eq!((status.connections, status.index), (2, Some(0.9)));
        let all_alike = status.mean.unwrap();
        assert!((all_alike - 0.9).abs() < 1e-9);
        let mut sum = Sum::default();
        sum.add(&after(20), 1, false);
        sum.add(&after(10), 1, false);
        assert_eq!(sum.status().connections, 4);
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_hide_a_second() {
        let mut sum = Sum::default();
        sum.add(&after(11), 0, false);
        assert_eq!(sum.status().connections, 2);
    }

    #[test]
    fn the_last_second_counts_when_it_is_over_or_the_reactor_has_ended() {
        let mean = |second, ended| {
            let mut sum = Sum::default();
            sum.add(&after(5), second, ended);
            sum.status().mean
        };
        assert_eq!(mean(0, false), None);
        assert!(mean(1, false).is_some());
        assert!(mean(0, true).is_some());
    }
}
