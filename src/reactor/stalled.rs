//! Consumers that get nowhere: found, told, and what is done about them.
//!
//! ```text
//!          nothing released for the consumer stall timeout, while records wait
//!  Going ─────────────────────────────────────────────────────────────────────► Stalled
//!    │ ▲                           a release, or nothing waits                   │ │
//!    │ └─────────────────────────────────────────────────────────────────────────┘ │
//!    └──────────────────────── dropped ────────► Gone ◄────────────────────────────┘
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
use crate::policy::{OnConsumerStall, Progress};

/// Connections of a consumer, stalled or gone, that are ended in one step, and time between two steps: their
/// peers come back, and are to do so one after the other (4,000 a second).
pub(super) const EVICT_BUDGET: usize = 32;
const EVICT_EVERY: Duration = TICK;
/// Slots looked at in one step, for those of this consumer.
const LOOK_BUDGET: usize = 256;

/// When a consumer is stalled, and what then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallPolicy {
    pub(crate) after: Option<Duration>,
    pub(crate) then: OnConsumerStall,
}

/// How a lane's consumer gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Going,
    Stalled(Evicting),
    Gone(Evicting),
}

/// Its connections are being ended, where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicting {
    /// When the next ones are.
    pub(crate) next: Duration,
    /// Slots from here on have not been looked at.
    from: Option<u32>,
    /// When it began. Who has come since has not waited yet.
    since: Tick,
}

impl Evicting {
    /// Nobody is left.
    pub(super) const OVER: Self = Self {
        next: Duration::ZERO,
        from: None,
        since: 0,
    };

    fn begin(now: Duration, since: Tick) -> Self {
        Self {
            next: now,
            from: Some(0),
            since,
        }
    }

    /// Have all been looked at who were there?
    pub(super) fn is_over(&self) -> bool {
        self.from.is_none()
    }
}

impl Pace {
    fn label(self) -> &'static str {
        match self {
            Self::Going => "going",
            Self::Stalled(_) => "stalled",
            Self::Gone(_) => "gone",
        }
    }
}

impl<N: Net> Reactor<N> {
    /// Once a turn: how do the consumers get on?
    pub(super) fn watch_consumers(&mut self) {
        for place in 0..self.lanes.len() {
            let lane = &self.lanes[place];
            let position = lane.producer.position();
            if lane.is_gone() || lane.progress.is_quiet(position) {
                continue;
            }
            self.note_progress(place, position);
            let lane = &self.lanes[place];
            match (lane.pace, lane.progress.is_stalled()) {
                (Pace::Going, true) => self.stall(place),
                (Pace::Stalled(_), false) => self.set_pace(place, Pace::Going),
                _ => {}
            }
        }
    }

    /// Where that is what is done about it.
    pub(super) fn evict_stalled(&mut self) {
        for lane in 0..self.lanes.len() {
            self.evict_some(lane);
        }
    }

    /// A consumer has stalled, here or elsewhere, and the whole is to end for that: at the beginning of a
    /// turn, as any other end, so that whatever closes in it is read for as long as the drain says.
    pub(super) fn obey_stall(&mut self) {
        if self.consumer_stall.then == OnConsumerStall::Stop
            && let Some(consumer) = self.together.ends_for()
        {
            self.end_for(consumer);
        }
    }

    fn note_progress(&mut self, lane: usize, position: u64) {
        let (lane, counters) = (&mut self.lanes[lane], &self.counters.rings[lane]);
        let released = (lane.producer.released(), lane.producer.delivered());
        let still = lane.progress.look(position, released, self.now);
        if let Some(at) = lane.progress.poll_timeout() {
            self.due = self.due.min(at);
        }
        counters.oldest_since.set(lane.progress.oldest());
        let since = (!still.is_zero()).then(|| self.now.saturating_sub(still));
        counters.still_since.set(since);
    }

    pub(super) fn set_pace(&mut self, lane: usize, next: Pace) {
        edges::note("consumer", self.lanes[lane].pace.label(), next.label());
        self.lanes[lane].pace = next;
        let stalled = u64::from(matches!(next, Pace::Stalled(_)));
        let counters = &self.counters.rings[lane];
        counters.stalled.set(stalled);
        counters.stalls.add(stalled);
    }

    /// Its consumer is gone: nobody gets on, or has to.
    pub(super) fn forget_progress(&mut self, lane: usize) {
        self.lanes[lane].progress = Progress::new(None);
        let counters = &self.counters.rings[lane];
        counters.oldest_since.set(None);
        counters.still_since.set(None);
    }

    fn stall(&mut self, lane: usize) {
        let evicting = Evicting::begin(self.now, self.tick);
        self.set_pace(lane, Pace::Stalled(evicting));
        if self.consumer_stall.then == OnConsumerStall::Stop {
            self.together.end_for(lane);
        }
    }

    /// A consumer is gone, and others are not: its connections are ended one after the other.
    pub(super) fn begin_to_evict(&mut self, lane: usize) {
        let now = self.now;
        self.lanes[lane].pace = Pace::Gone(Evicting::begin(now, self.tick));
        // Until its turn comes nobody is read.
        self.lanes[lane].shut(now);
        self.counters.rings[lane].blocked_since.set(Some(now));
    }

    /// When there is something to do here, if nothing else happens.
    pub(super) fn watches_at(&self, lane: usize) -> Option<Duration> {
        let lane = &self.lanes[lane];
        let looks = lane.progress.poll_timeout();
        looks.into_iter().chain(self.evicts_at(lane)).min()
    }

    fn evicts_at(&self, lane: &Lane) -> Option<Duration> {
        let evicting = self.evicting(lane)?;
        let next = evicting.next;
        let head = lane.longest_waiting().filter(|_| lane.is_blocked());
        match head {
            _ if !evicting.is_over() => Some(next),
            None => None,
            Some(head) if self.has_waited(head, evicting.since) => Some(next),
            Some(head) => {
                let waited = tick_time(self.tick.wrapping_sub(self.slots[head].queued_at));
                let left = tick_time(self.stall_ticks()).saturating_sub(waited);
                Some(next.max(self.now + left))
            }
        }
    }

    /// Are its connections being ended?
    fn evicting(&self, lane: &Lane) -> Option<Evicting> {
        match lane.pace {
            Pace::Going => None,
            Pace::Stalled(evicting) => self.evicts().then_some(evicting),
            Pace::Gone(evicting) => Some(evicting),
        }
    }

    fn stall_ticks(&self) -> Tick {
        ticks(self.consumer_stall.after.unwrap_or_default())
    }

    /// Has one that waits for a consumer that has stalled then waited for long enough? Who was there has. Who
    /// came later, because all consumers are stalled, has a whole timeout: ended at once it would come back
    /// at once, as often as it can. So has who only waits to say that it has ended. For a consumer that is gone
    /// nobody waits at all.
    fn has_waited(&self, key: u32, since: Tick) -> bool {
        let slot = &self.slots[key];
        let was_there = has_come(since, slot.conn.opened());
        self.lanes[usize::from(slot.consumer)].is_gone()
            || was_there && !slot.conn.is_closed()
            || has_come(self.tick, slot.queued_at.wrapping_add(self.stall_ticks()))
    }

    fn evicts(&self) -> bool {
        self.consumer_stall.then == OnConsumerStall::Evict
    }

    /// May a new connection be bound to it? Not to one whose connections are being ended.
    pub(super) fn takes_new(&self, lane: usize) -> bool {
        match self.lanes[lane].pace {
            Pace::Going => true,
            Pace::Stalled(_) => !self.evicts(),
            Pace::Gone(_) => false,
        }
    }

    /// Ends some of the connections of a consumer that is stalled or gone: first those that wait for it, the
    /// longest waiting first; then the others, which would wait as soon as they had something to say.
    fn evict_some(&mut self, lane: usize) {
        let now = self.now;
        let Some(evicting) = self.evicting(&self.lanes[lane]) else {
            return;
        };
        if evicting.next > now {
            return;
        }
        let Evicting { from, since, .. } = evicting;
        let is_gone = self.lanes[lane].is_gone();
        let reason = match is_gone {
            true => CloseReason::ConsumerGone,
            false => CloseReason::ConsumerStalled,
        };
        let mut left = self.evict_budget;
        while left > 0 && self.lanes[lane].is_blocked() {
            let Some(key) = self.lanes[lane].longest_waiting() else {
                break;
            };
            if !self.has_waited(key, since) {
                break;
            }
            match self.slots[key].conn.is_closed() {
                // It keeps a place that a new one could have.
                true => self.bury(key),
                false => {
                    self.dequeue(key);
                    self.end(key, reason);
                }
            }
            left -= 1;
        }
        let mut from = from;
        if left > 0
            && let Some(first) = from
        {
            let slice = self.slots.slice(first, LOOK_BUDGET);
            from = slice.next;
            for key in slice.keys {
                let slot = &self.slots[key];
                // To one that is gone nobody is bound any more; and ticks wrap, for who has been there long.
                let was_there = is_gone || has_come(since, slot.conn.opened());
                if usize::from(slot.consumer) != lane || slot.stream.is_none() || !was_there {
                    continue;
                }
                if left == 0 {
                    from = Some(key);
                    break;
                }
                self.end(key, reason);
                left -= 1;
            }
        }
        let next = now + EVICT_EVERY;
        let evicting = Evicting { next, from, since };
        self.lanes[lane].pace = match is_gone {
            true => Pace::Gone(evicting),
            false => Pace::Stalled(evicting),
        };
        if is_gone && evicting.is_over() {
            // It is no full ring any more.
            self.resume_lanes();
        }
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
