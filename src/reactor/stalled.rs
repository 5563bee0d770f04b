//! Consumers that get nowhere: found, told, and what is done about them.
//!
//! ```text
//!          nothing released for the consumer stall timeout, while records wait
//!  Going ─────────────────────────────────────────────────────────────────────► Stalled
//!    ▲                             a release, or nothing waits                     │
//!    └─────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! In: the positions of each ring, in each turn. Out: evictions, a few at a time; or the end of the whole.
//! Never here: a judgement of a consumer that is slow. It holds up its connections, and is not stalled.

use std::time::Duration;

use super::{Lane, Phase, Reactor, RunError, TICK, tick_time, ticks};
use crate::close::CloseReason;
use crate::conn::{Tick, has_come};
use crate::edges;
use crate::net::Net;

/// Connections of a stalled consumer that are ended in one step, and time between two steps: their peers
/// come back, and are to do so one after the other (4,000 a second).
const EVICT_BUDGET: usize = 32;
const EVICT_EVERY: Duration = TICK;
/// Slots looked at in one step, for those of this consumer.
const LOOK_BUDGET: usize = 256;

/// What is done about a stalled consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStall {
    Wait,
    Evict,
    Stop,
}

/// When a consumer is stalled, and what then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallPolicy {
    pub(crate) after: Option<Duration>,
    pub(crate) then: OnStall,
}

/// How a lane's consumer gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Going,
    Stalled {
        /// When the next ones are evicted.
        next: Duration,
        /// Slots from here on have not been looked at.
        from: u32,
        /// When it stalled. Who has come since has not waited for it yet.
        since: Tick,
    },
}

impl Pace {
    fn label(self) -> &'static str {
        match self {
            Self::Going => "going",
            Self::Stalled { .. } => "stalled",
        }
    }
}

impl<N: Net> Reactor<N> {
    /// Once a turn: how do the consumers get on?
    pub(super) fn watch_consumers(&mut self) {
        let Some(stall) = self.consumer_stall.after else {
            return self.note_progress(None);
        };
        self.note_progress(Some(stall));
        for lane in 0..self.lanes.len() {
            let is_still = !self.lanes[lane].gone && self.lanes[lane].progress.still() >= stall;
            match (self.lanes[lane].pace, is_still) {
                (Pace::Going, true) => self.stall(lane),
                (Pace::Stalled { .. }, false) => self.set_pace(lane, Pace::Going),
                _ => {}
            }
            if self.consumer_stall.then == OnStall::Evict {
                self.evict_some(lane, stall);
            }
        }
    }

    /// A consumer has stalled, here or elsewhere, and the whole is to end for that: at the beginning of a
    /// turn, as any other end, so that whatever closes in it is read for as long as the drain says.
    pub(super) fn obey_stall(&mut self) {
        if self.consumer_stall.then == OnStall::Stop
            && let Some(consumer) = self.together.ends_for()
        {
            self.end_for(consumer);
        }
    }

    fn note_progress(&mut self, stall: Option<Duration>) {
        let now = self.now;
        for (lane, counters) in self.lanes.iter_mut().zip(&self.counters.rings) {
            let (position, released) = match lane.gone {
                true => (0, (0, 0)),
                false => {
                    let (released, delivered) =
                        (lane.producer.released(), lane.producer.delivered());
                    (lane.producer.position(), (released, delivered))
                }
            };
            let still = lane.progress.look(position, released, stall, now);
            let since = |at: Duration| at.as_micros() as u64 + 1;
            counters
                .oldest_since
                .set(lane.progress.oldest().map_or(0, since));
            counters.still_since.set(match still.is_zero() {
                true => 0,
                false => since(now.saturating_sub(still)),
            });
        }
    }

    fn set_pace(&mut self, lane: usize, next: Pace) {
        edges::note("consumer", self.lanes[lane].pace.label(), next.label());
        self.lanes[lane].pace = next;
        let stalled = u64::from(next != Pace::Going);
        let counters = &self.counters.rings[lane];
        counters.stalled.set(stalled);
        counters.stalls.add(stalled);
    }

    fn stall(&mut self, lane: usize) {
        let (next, since) = (self.now, self.tick);
        self.set_pace(
            lane,
            Pace::Stalled {
                next,
                from: 0,
                since,
            },
        );
        if self.consumer_stall.then == OnStall::Stop {
            self.together.end_for(lane);
        }
    }

    /// When there is something to do here, if nothing else happens.
    pub(super) fn watches_at(&self, lane: usize) -> Option<Duration> {
        let stall = self.consumer_stall.after?;
        let lane = &self.lanes[lane];
        let looks = lane.progress.poll_timeout(stall).filter(|_| !lane.gone);
        looks.into_iter().chain(self.evicts_at(lane, stall)).min()
    }

    fn evicts_at(&self, lane: &Lane, stall: Duration) -> Option<Duration> {
        let Pace::Stalled { next, from, since } = lane.pace else {
            return None;
        };
        if !self.evicts() {
            return None;
        }
        let head = lane.longest_waiting().filter(|_| lane.is_blocked());
        match head {
            _ if from != u32::MAX => Some(next),
            None => None,
            Some(head) if self.has_waited(head, since, stall) => Some(next),
            Some(head) => {
                let waited = tick_time(self.tick.wrapping_sub(self.slots[head].queued_at));
                let left = tick_time(ticks(stall)).saturating_sub(waited);
                Some(next.max(self.now + left))
            }
        }
    }

    /// Has one that waits for a consumer that has stalled then waited for long enough? Who was there has. Who
    /// came later, because all consumers are stalled, has a whole timeout: ended at once it would come back
    /// at once, as often as it can. So has who only waits to say that it has ended.
    fn has_waited(&self, key: u32, since: Tick, stall: Duration) -> bool {
        let slot = &self.slots[key];
        let was_there = has_come(since, slot.conn.opened());
        was_there && !slot.conn.is_closed()
            || has_come(self.tick, slot.queued_at.wrapping_add(ticks(stall)))
    }

    fn evicts(&self) -> bool {
        self.consumer_stall.then == OnStall::Evict
    }

    /// May a new connection be bound to it? Not to one whose connections are being ended.
    pub(super) fn takes_new(&self, lane: usize) -> bool {
        let lane = &self.lanes[lane];
        !lane.gone && (lane.pace == Pace::Going || !self.evicts())
    }

    /// Ends some of a stalled consumer's connections: first those that wait for it, the longest waiting
    /// first; then the others, which would wait as soon as they had something to say.
    fn evict_some(&mut self, lane: usize, stall: Duration) {
        let now = self.now;
        let Pace::Stalled { next, from, since } = self.lanes[lane].pace else {
            return;
        };
        if next > now {
            return;
        }
        let mut left = EVICT_BUDGET;
        while left > 0 && self.lanes[lane].is_blocked() {
            let Some(key) = self.lanes[lane].longest_waiting() else {
                break;
            };
            if !self.has_waited(key, since, stall) {
                break;
            }
            match self.slots[key].conn.is_closed() {
                // It keeps a place that a new one could have.
                true => self.bury(key),
                false => {
                    self.dequeue(key);
                    self.end(key, CloseReason::ConsumerStalled);
                }
            }
            left -= 1;
        }
        let mut from = from;
        if left > 0 && from != u32::MAX {
            let keys = self.slots.keys(from, LOOK_BUDGET);
            from = match keys.last() {
                Some(last) if keys.len() == LOOK_BUDGET => last + 1,
                _ => u32::MAX,
            };
            for key in keys {
                let slot = &self.slots[key];
                let was_there = has_come(since, slot.conn.opened());
                if usize::from(slot.consumer) != lane || slot.stream.is_none() || !was_there {
                    continue;
                }
                if left == 0 {
                    from = key;
                    break;
                }
                self.end(key, CloseReason::ConsumerStalled);
                left -= 1;
            }
        }
        let next = now + EVICT_EVERY;
        self.lanes[lane].pace = Pace::Stalled { next, from, since };
    }

    /// The whole ends for this consumer, which may still take what it has within the drain's time.
    fn end_for(&mut self, consumer: usize) {
        if self.phase != Phase::Running {
            return;
        }
        let time = self.lanes[consumer].progress.still();
        self.failure.get_or_insert(RunError::ConsumerStalled {
            consumer,
            time: time.max(self.consumer_stall.after.unwrap_or_default()),
        });
        self.begin_drain(self.drain_timeout);
    }
}
