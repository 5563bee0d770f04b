//! The way to one consumer: its ring, and the FIFO of the connections that have something for it.
//!
//! ```text
//!            high mark, or a claim that fails: wait_for(low mark)
//!  Flowing ────────────────────────────────────────────────────────► Blocked{since, resume_at}
//!   ▲ │ ▲              released position ≥ the low mark                  │
//!   │ │ └────────────────────────────────────────────────────────────────┘
//!   │ └──── the consumer is gone: nothing is published any more ────► Shut{since}
//!   └────────────────── its last connection has ended ───────────────────┘
//! ```
//!
//! In: room, and the lack of it. Out: blocked or not, and for how long in all.
//! Never here: a connection's state.

use std::sync::Arc;
use std::time::Duration;

use super::slots::{Fifo, Place};
use super::stalled::Pace;
use crate::edges;
use crate::policy::Progress;
use crate::ring::{Parked, Producer};

/// Milliseconds for which a ring has been blocked. They wrap: nobody waits for fifty days.
pub(crate) type Mark = u32;

/// For so long a consumer may sleep on while more is read for it: some four turns under load.
const SLEEPS_ON: Duration = Duration::from_micros(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Flowing,
    Blocked {
        since: Duration,
        /// The released position at which it flows again.
        resume_at: u64,
    },
    Shut {
        since: Duration,
    },
}

impl Flow {
    fn label(self) -> &'static str {
        match self {
            Self::Flowing => "flowing",
            Self::Blocked { .. } => "blocked",
            Self::Shut { .. } => "shut",
        }
    }
}

/// What becomes of what its connections have to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// It goes into the ring.
    Publishes,
    /// It waits until there is room.
    Waits,
    /// It is read, and discarded.
    Discards,
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) producer: Producer,
    pub(crate) parked: Arc<Parked>,
    pub(crate) fifo: Fifo,
    /// Those that have only something to tell: a gap, or that they have ended. Used where what comes to
    /// a full ring is discarded; elsewhere they stand in the FIFO with all the others.
    pub(crate) owing: Fifo,
    /// What comes while it is blocked is discarded.
    pub(crate) discards: bool,
    flow: Flow,
    /// Time spent blocked, without the present block.
    blocked: Duration,
    low: usize,
    high: usize,
    pub(crate) connections: usize,
    /// Since when its consumer is to be woken for what was published.
    wake_owed: Option<Duration>,
    /// When the last `Time` record was written.
    pub(crate) told_time: Option<Duration>,
    pub(crate) progress: Progress,
    pub(crate) pace: Pace,
}

impl Lane {
    /// `stall` as [`Progress::new`] has it.
    pub(crate) fn new(
        producer: Producer,
        parked: Arc<Parked>,
        low: usize,
        high: usize,
        stall: Option<Duration>,
    ) -> Self {
        Self {
            producer,
            parked,
            fifo: Fifo::new(Place::Ring),
            owing: Fifo::new(Place::Owing),
            discards: false,
            flow: Flow::Flowing,
            blocked: Duration::ZERO,
            low,
            high,
            connections: 0,
            wake_owed: None,
            told_time: None,
            progress: Progress::new(stall),
            pace: Pace::Going,
        }
    }

    fn enter(&mut self, next: Flow) {
        edges::note("ring", self.flow.label(), next.label());
        self.flow = next;
    }

    pub(crate) fn flow(&self) -> Flow {
        self.flow
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.flow != Flow::Flowing
    }

    /// The consumer is; nothing is published any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.pace, Pace::Gone(_))
    }

    pub(crate) fn service(&self) -> Service {
        match self.flow {
            Flow::Flowing => Service::Publishes,
            Flow::Blocked { .. } if self.discards => Service::Discards,
            // Nobody is read for a consumer that is gone.
            Flow::Blocked { .. } | Flow::Shut { .. } => Service::Waits,
        }
    }

    /// Are its connections held up?
    pub(crate) fn is_pausing(&self) -> bool {
        self.service() == Service::Waits
    }

    /// Who is served next, if anybody is now.
    pub(crate) fn next(&self) -> Option<u32> {
        match self.service() {
            // What is owed comes first, for it is older.
            Service::Publishes => self.owing.head().or_else(|| self.fifo.head()),
            Service::Waits => None,
            Service::Discards => self.fifo.head(),
        }
    }

    /// Is there somebody to be served now?
    pub(crate) fn has_work(&self) -> bool {
        self.next().is_some()
    }

    /// What may wait for a consumer that sleeps on.
    fn enough(&self) -> usize {
        self.low / 2
    }

    /// Its consumer may sleep on from now on: what waits for it then has room, too, in a ring that was begun anew.
    pub(crate) fn let_sleep_on(&mut self) {
        self.producer.start_over_later(self.enough());
    }

    /// Something was published in the turn that began at `now`, and the time with it, if that was to be told.
    pub(crate) fn handle_published(&mut self, now: Duration, tell_time: Option<u64>) {
        self.wake_owed.get_or_insert(now);
        if tell_time.is_some() {
            self.told_time = Some(now);
        }
    }

    /// At the end of a turn: is its consumer to be woken? A wake-up is dear to who sleeps and to who is
    /// interrupted for it. `goes_on`: another turn follows at once if there is more to be read; then it may
    /// sleep until enough waits for it, or something has waited for long enough.
    pub(crate) fn takes_wake(&mut self, now: Duration, goes_on: bool) -> bool {
        let Some(since) = self.wake_owed else {
            return false;
        };
        let may_sleep = self.may_leave_asleep(goes_on)
            && self.producer.occupied() < self.enough()
            && now < since + SLEEPS_ON;
        if !may_sleep {
            self.wake_owed = None;
        }
        !may_sleep
    }

    fn may_leave_asleep(&self, goes_on: bool) -> bool {
        // Where a full ring loses messages, all of its room is to be had.
        goes_on && !self.discards && self.has_work()
    }

    /// Whoever is owed a wake-up is in a turn that follows.
    #[cfg(feature = "sim")]
    pub(crate) fn check_wake(&self, goes_on: bool) {
        let is_left = self.wake_owed.is_some();
        assert!(!is_left || self.may_leave_asleep(goes_on), "left asleep");
    }

    /// Who has been waiting for room for the longest time.
    pub(crate) fn longest_waiting(&self) -> Option<u32> {
        match self.service() {
            Service::Discards => self.owing.head(),
            _ => self.fifo.head().or_else(|| self.owing.head()),
        }
    }

    pub(crate) fn is_high(&self) -> bool {
        self.producer.occupied() >= self.high
    }

    /// Is nothing in the ring that a consumer could still release?
    pub(crate) fn is_released(&self) -> bool {
        self.is_gone() || self.producer.released() == self.producer.position()
    }

    /// Time spent blocked until `now`: a clock that stands still while the ring holds nobody up.
    pub(crate) fn blocked_until(&self, now: Duration) -> Duration {
        match self.flow {
            Flow::Blocked { since, .. } | Flow::Shut { since } if self.is_pausing() => {
                self.blocked + now.saturating_sub(since)
            }
            _ => self.blocked,
        }
    }

    /// The same as a mark, which tells by how much it went on until a later one.
    pub(crate) fn mark(&self, now: Duration) -> Mark {
        self.blocked_until(now).as_millis() as Mark
    }

    /// For how long it has been blocked since `mark`.
    pub(crate) fn since(&self, mark: Mark, now: Duration) -> Duration {
        Duration::from_millis(self.mark(now).wrapping_sub(mark).into())
    }

    /// There is no room. `false`: there is by now.
    pub(crate) fn block(&mut self, now: Duration) -> bool {
        let resume_at = self.producer.position().saturating_sub(self.low as u64);
        if self.producer.wait_for(resume_at) {
            return false;
        }
        self.enter(Flow::Blocked {
            since: now,
            resume_at,
        });
        true
    }

    /// The consumer is gone, and its connections are about to end: there is no room for any of them.
    pub(crate) fn shut(&mut self, now: Duration) {
        self.enter(Flow::Shut { since: now });
    }

    /// One that is full flows again at its low mark, and not later, and it is certain that somebody will look at it
    /// then.
    #[cfg(feature = "sim")]
    pub(crate) fn check_flow(&self, at: usize) {
        match self.flow {
            Flow::Flowing => {}
            Flow::Blocked { resume_at, .. } => {
                let low = self.low as u64;
                let is_in_time = resume_at + low <= self.producer.position().max(low);
                assert!(is_in_time, "lane {at} resumes below its low mark");
                let wait = self.producer.waits_for();
                // A drain that waits for all of it has the place of this wait, when nobody is left to be read.
                let is_drained = self.fifo.is_empty() && wait > resume_at;
                let is_looked_at =
                    wait == resume_at || is_drained || self.producer.released() >= resume_at;
                assert!(
                    is_looked_at,
                    "lane {at} is blocked, and nobody will wake for it"
                );
            }
            Flow::Shut { .. } => {
                let ends = matches!(self.pace, Pace::Gone(evicting) if !evicting.is_over());
                assert!(ends, "lane {at} is shut, and nobody ends its connections");
            }
        }
    }

    /// Is there room again? Returns how long it was blocked, if it flows from now on.
    pub(crate) fn resume(&mut self, now: Duration) -> Option<Duration> {
        let since = match (self.flow, self.pace) {
            // The wait is not taken back: by now it may be a drain's, for all that is in the ring.
            (Flow::Blocked { since, resume_at }, _) if self.producer.released() >= resume_at => {
                since
            }
            (Flow::Shut { since }, Pace::Gone(evicting)) if evicting.is_over() => since,
            _ => return None,
        };
        self.blocked = self.blocked_until(now);
        self.enter(Flow::Flowing);
        Some(now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{RingConsumer, Wake, ring};
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A ring of 1 KiB with so many smallest records in it, and a low mark of so many.
    fn holding(records: u64, low: usize) -> (Lane, RingConsumer, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        let parked = Arc::new(Parked::new());
        let (producer, consumer) = ring(1024, counts.clone(), parked.clone()).unwrap();
        let mut lane = Lane::new(producer, parked, 16 * low, 1024, None);
        for _ in 0..records {
            let mut claim = lane.producer.claim(16, 16).unwrap();
            crate::ring::record::write_time(claim.bytes(), 1);
            claim.commit(16, 0);
        }
        (lane, consumer, counts)
    }

    /// Blocked above a low mark of 16 bytes, with 64 in the ring.
    fn blocked() -> (Lane, RingConsumer, Arc<Counts>) {
        let (mut lane, consumer, counts) = holding(4, 1);
        assert!(lane.block(Duration::ZERO));
        (lane, consumer, counts)
    }

    #[test]
    fn a_blocked_ring_flows_again_at_its_low_mark_and_its_reactor_is_woken_once() {
        let (mut lane, mut consumer, counts) = blocked();
        consumer.release(32, 0, 0);
        assert_eq!(lane.resume(Duration::from_secs(1)), None);
        consumer.release(48, 0, 0);
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
        let took = lane.resume(Duration::from_secs(3));
        assert_eq!(took, Some(Duration::from_secs(3)));
        consumer.release(64, 0, 0);
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_ring_that_was_blocked_when_the_drain_began_to_wait_for_it_still_ends_the_drain() {
        let (mut lane, mut consumer, counts) = blocked();
        assert!(!lane.producer.wait_for(64), "all of it");
        consumer.release(48, 0, 0);
        assert!(lane.resume(Duration::from_secs(1)).is_some());
        consumer.release(64, 0, 0);
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
    }

    proptest! {
        /// However a consumer takes it: one wake, in the release that brings it down to the low mark.
        #[test]
        fn a_ring_is_blocked_from_when_it_is_full_until_it_is_low(
            records in 1u64..=64,
            low in 0usize..64,
            releases in prop::collection::vec(1u64..9, 1..64),
        ) {
            let (mut lane, mut consumer, counts) = holding(records, low);
            let is_low = |released: u64| records - released <= low as u64;
            let mut is_blocked = lane.block(Duration::ZERO);
            prop_assert_eq!(is_blocked, !is_low(0), "there is room by now");
            let mut released = 0;
            for records_more in releases {
                released = records.min(released + records_more);
                consumer.release(16 * released, 0, 0);
                prop_assert_eq!(lane.resume(Duration::ZERO).is_some(), is_blocked && is_low(released));
                is_blocked &= !is_low(released);
                prop_assert_eq!(lane.is_blocked(), is_blocked);
                let wakes = usize::from(is_low(released) && !is_low(0));
                prop_assert_eq!(counts.0.load(Ordering::Relaxed), wakes);
            }
        }
    }
}
