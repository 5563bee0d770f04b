//! Does a consumer get anywhere, and how far is it behind?
//!
//! In: the two positions of a ring and the time, in each turn. Out: for how long nothing has been released
//! while records wait, and how long the oldest of them has waited. Never here: a ring, or what is done
//! about it.

use std::collections::VecDeque;
use std::time::Duration;

/// What to do when a consumer has stalled ([`Config::consumer_stall`](crate::Config::consumer_stall)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnConsumerStall {
    /// Nothing: its connections are held for as long as it takes, or until [`Deadlines::stall`](crate::Deadlines::stall).
    #[default]
    Wait,
    /// End its connections, the longest waiting first, a few at a time, for as long as it is stalled, and
    /// send new ones to consumers that are not.
    Evict,
    /// Drain, then end with [`RunError::ConsumerStalled`](crate::RunError::ConsumerStalled).
    Stop,
}

/// A ring is looked at so often in the time after which its consumer is stalled: so late is a stall known
/// at most, and so often does a reactor wake that has nothing else to do.
const LOOKS: u32 = 4;

/// Positions of which the time is remembered, for each ring.
const MARKS: usize = 64;

/// How a consumer gets on with one ring.
#[derive(Debug)]
pub(crate) struct Progress {
    released: u64,
    delivered: u64,
    holds: bool,
    /// Time that was seen to pass without a release while the ring held records.
    still: Duration,
    looked: Duration,
    /// After how long a consumer is stalled; `None`: never.
    stall: Option<Duration>,
    /// How often to look for that.
    every: Option<Duration>,
    trail: Trail,
}

impl Progress {
    /// `stall`: after how long without a release a consumer is stalled; `None`: never.
    pub(crate) fn new(stall: Option<Duration>) -> Self {
        Self {
            released: 0,
            delivered: 0,
            holds: false,
            still: Duration::ZERO,
            looked: Duration::ZERO,
            stall,
            every: stall.map(|stall| stall / LOOKS),
            trail: Trail::new(),
        }
    }

    /// Was the ring empty at the last look, and has nothing been published since? Then there is nothing to see.
    pub(crate) fn is_quiet(&self, position: u64) -> bool {
        !self.holds && self.trail.last == position
    }

    /// A turn: so much is in the ring's two positions now, and so many bytes of peers were delivered, of
    /// which a record may be released in part. Returns for how long nothing has been released.
    ///
    /// Of the time since the last look at most two intervals count: when nobody looked for longer, the
    /// whole machine stood still, and the consumer too.
    pub(crate) fn look(
        &mut self,
        position: u64,
        (released, delivered): (u64, u64),
        now: Duration,
    ) -> Duration {
        let passed = now.saturating_sub(self.looked);
        self.looked = now;
        self.trail.note(position, now);
        self.trail.forget(released);
        let holds = released < position;
        let is_as_before = self.released == released && self.delivered == delivered;
        let goes_on = self.holds && holds && is_as_before;
        self.still = match goes_on {
            true => self.still + self.every.map_or(passed, |every| passed.min(2 * every)),
            false => Duration::ZERO,
        };
        self.holds = holds;
        self.released = released;
        self.delivered = delivered;
        self.still
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.is_some_and(|stall| self.still >= stall)
    }

    /// When to look again, if nothing else happens.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let every = self.every.filter(|_| self.holds)?;
        Some(self.looked.saturating_add(every))
    }

    /// When the oldest record that is not released was published.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.trail.oldest()
    }

    /// For how long nothing has been released, as far as it was seen.
    pub(crate) fn still(&self) -> Duration {
        self.still
    }
}

/// When a ring's positions were reached: few of them, and the older the coarser.
#[derive(Debug)]
struct Trail {
    /// Up to here everything was published by then.
    marks: VecDeque<(u64, Duration)>,
    last: u64,
}

impl Trail {
    fn new() -> Self {
        Self {
            marks: VecDeque::with_capacity(MARKS),
            last: 0,
        }
    }

    fn note(&mut self, position: u64, now: Duration) {
        if position == self.last {
            return;
        }
        self.last = position;
        if self.marks.len() == MARKS {
            // Of each two the later position with the earlier time: nothing seems younger than it is.
            for _ in 0..MARKS / 2 {
                let two = (self.marks.pop_front(), self.marks.pop_front());
                if let (Some((_, at)), Some((upto, _))) = two {
                    self.marks.push_back((upto, at));
                }
            }
        }
        self.marks.push_back((position, now));
    }

    fn forget(&mut self, released: u64) {
        while self
            .marks
            .front()
            .is_some_and(|(upto, _)| *upto <= released)
        {
            self.marks.pop_front();
        }
    }

    fn oldest(&self) -> Option<Duration> {
        self.marks.front().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STALL: Option<Duration> = Some(Duration::from_secs(10));

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_consumer_that_releases_nothing_is_still_until_it_releases() {
        let mut progress = Progress::new(STALL);
        assert_eq!(progress.look(100, (0, 0), s(1)), s(0), "it has just come");
        assert_eq!(progress.look(200, (0, 0), s(3)), s(2));
        assert_eq!(progress.look(200, (0, 0), s(8)), s(7));
        assert_eq!((progress.still(), progress.is_stalled()), (s(7), false));
        assert_eq!(progress.look(200, (1, 0), s(9)), s(0), "a little is enough");
        assert_eq!(progress.look(200, (1, 0), s(10)), s(1));
        assert_eq!(
            progress.look(200, (1, 7), s(11)),
            s(0),
            "a part of a record"
        );
        assert_eq!(progress.look(200, (200, 0), s(11)), s(0), "nothing waits");
        assert_eq!(progress.look(200, (200, 0), s(100)), s(0));
        assert_eq!(progress.poll_timeout(), None);
        assert!(progress.is_quiet(200));
        assert!(!progress.is_quiet(201), "something was published");
    }

    #[test]
    fn a_consumer_is_stalled_when_its_time_has_passed_and_not_before() {
        let mut progress = Progress::new(STALL);
        for (now, is_stalled) in [(0, false), (5, false), (9, false), (10, true), (11, true)] {
            progress.look(100, (0, 0), s(now));
            assert_eq!(progress.is_stalled(), is_stalled, "{now}");
            assert!(!progress.is_quiet(100), "somebody waits for it");
        }
        let mut never = Progress::new(None);
        (0..100).for_each(|now| _ = never.look(100, (0, 0), s(now)));
        assert!(!never.is_stalled());
    }

    #[test]
    fn of_many_positions_each_two_become_one() {
        let mut progress = Progress::new(STALL);
        for n in 1..=MARKS as u64 + 1 {
            progress.look(n, (0, 0), s(n));
        }
        assert_eq!(progress.trail.marks.len(), MARKS / 2 + 1);
        progress.look(MARKS as u64 + 1, (2, 0), s(99));
        assert_eq!(progress.oldest(), Some(s(3)));
    }

    #[test]
    fn the_time_that_a_machine_stood_still_is_nobodys() {
        let mut progress = Progress::new(STALL);
        progress.look(100, (0, 0), s(1));
        assert_eq!(progress.look(100, (0, 0), s(100_000)), s(5));
        assert_eq!(progress.poll_timeout(), Some(s(100_000) + s(10) / 4));
    }

    proptest! {
        /// Who does not look at a quiet ring is told the same.
        #[test]
        fn a_quiet_ring_need_not_be_looked_at(
            steps in prop::collection::vec((0u64..3, 0u64..3, 0u64..9), 0..200),
        ) {
            let (mut every, mut some) = (Progress::new(STALL), Progress::new(STALL));
            let (mut position, mut released, mut now) = (0, 0, 0);
            for (published, taken, seconds) in steps {
                position += published;
                released = position.min(released + taken);
                now += seconds;
                every.look(position, (released, released), s(now));
                if !some.is_quiet(position) {
                    some.look(position, (released, released), s(now));
                }
                let told = |p: &Progress| (p.still(), p.is_stalled(), p.oldest(), p.poll_timeout());
                prop_assert_eq!(told(&every), told(&some));
            }
        }

        /// However it is looked at: what waits is never said to be younger than it is, nor older than the
        /// first that may still be there with marks as coarse as they are.
        #[test]
        fn the_oldest_is_no_younger_than_it_is(
            steps in prop::collection::vec((0u64..50, 0u64..60, 1u64..9), 1..300),
        ) {
            let mut progress = Progress::new(STALL);
            let (mut position, mut released, mut now) = (0, 0, 0);
            let mut published = Vec::new();
            for (more, less, time) in steps {
                now += time;
                position += more;
                published.extend(std::iter::repeat_n(now, more as usize));
                released = (released + less).min(position);
                progress.look(position, (released, 0), s(now));
                let oldest = published.get(released as usize).map(|at| s(*at));
                match (progress.oldest(), oldest) {
                    (None, None) => {}
                    (Some(told), Some(oldest)) => prop_assert!(told <= oldest, "{told:?} {oldest:?}"),
                    other => prop_assert!(false, "{other:?}"),
                }
                prop_assert!(progress.trail.marks.len() <= MARKS);
            }
        }
    }
}
