//! What a reactor counts.
//!
//! In: additions of one reactor. Out: numbers for any thread. Never here: a lock.

use std::time::Duration;

use super::fairness::Published;
use crate::books::{Counter, CounterBy, Moment};
use crate::close::{CloseReason, DiscardReason, PauseCause, Reason, RefuseReason};
use crate::policy::rate::Scope;
use crate::status::{Pauses, RateCount};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) open: Counter,
    pub(crate) accepted: Counter,
    pub(crate) refused: CounterBy<RefuseReason>,
    pub(crate) closed: CounterBy<CloseReason>,
    pub(crate) received: Counter,
    pub(crate) published: Counter,
    pub(crate) discarded: CounterBy<DiscardReason>,
    pub(crate) staged: Counter,
    pub(crate) unread: Counter,
    pauses: [PauseCounter; PauseCause::ALL.len()],
    rates: [RateCounter; Scope::COUNT],
    /// Those that wait for staging now.
    pub(crate) held_by_staging: Counter,
    /// The most connections of all reactors, as this one saw it when it accepted one.
    pub(crate) peak_open: Counter,
    pub(crate) peak_ring: Counter,
    pub(crate) peak_staging: Counter,
    pub(crate) long_turns: Counter,
    /// How often pressure shut all listeners; of the first reactor.
    pub(crate) shuts: Counter,
    /// Bytes that a framing looked at, and bytes copied between our own buffers: what makes a
    /// byte-by-byte sender's cost visible.
    pub(crate) scanned: Counter,
    pub(crate) copied: Counter,
    pub(crate) fairness: Published,
    /// 1 once the reactor has ended.
    pub(crate) ended: Counter,
    pub(crate) rings: Vec<RingCounters>,
    pub(crate) listeners: Vec<ListenerCounters>,
}

#[derive(Debug, Default)]
struct PauseCounter {
    count: Counter,
    micros: Counter,
}

/// Those that wait for a rate now, and pauses by it that have ended.
#[derive(Debug, Default)]
struct RateCounter {
    held: Counter,
    paused: PauseCounter,
}

impl PauseCounter {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2);
        self.count.add(1);
        self.micros.add(micros);
    }

    fn read(&self) -> Pauses {
        Pauses {
            count: self.count.read(),
            time: Duration::from_micros(self.micros.read()),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct RingCounters {
    pub(crate) connections: Counter,
    /// Blocks that have ended, and their time.
    pub(crate) blocks: Counter,
    pub(crate) blocked_micros: Counter,
    /// When the present block began.
    pub(crate) blocked_since: Moment,
    /// When the oldest record that is not released was published, and since when nothing has been released while
    /// there is one.
    pub(crate) oldest_since: Moment,
    pub(crate) still_since: Moment,
    /// 1 while its consumer is stalled, and how often it was.
    pub(crate) stalled: Counter,
    pub(crate) stalls: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) accepted: Counter,
    /// Its place in [`STATES`](super::listener::STATES).
    pub(crate) state: Counter,
    /// How often it could not be opened again or accepted from, and what the system said the last time.
    pub(crate) failures: Counter,
    pub(crate) errno: Counter,
}

impl Counters {
    pub(crate) fn new(rings: usize, listeners: usize) -> Self {
        Self {
            rings: (0..rings).map(|_| RingCounters::default()).collect(),
            listeners: (0..listeners)
                .map(|_| ListenerCounters::default())
                .collect(),
            ..Self::default()
        }
    }

    /// Somebody was turned away, with so much that nobody had read.
    pub(crate) fn refuse(&self, reason: RefuseReason, unread: u64) {
        self.refused.add(reason, 1);
        self.unread.add(unread);
    }

    pub(crate) fn add_pause(&self, cause: PauseCause, time: Duration) {
        self.pauses[cause.index()].add(time);
    }

    pub(crate) fn pauses(&self, cause: PauseCause) -> Pauses {
        self.pauses[cause.index()].read()
    }

    /// A connection begins to wait for a rate.
    pub(crate) fn hold_for_rate(&self, scope: Scope) {
        self.rates[scope as usize].held.add(1);
    }

    /// Its wait has ended.
    pub(crate) fn add_wait_for_rate(&self, scope: Scope, time: Duration) {
        let RateCounter { held, paused } = &self.rates[scope as usize];
        held.sub(1);
        paused.add(time);
    }

    pub(crate) fn rate(&self, scope: Scope) -> RateCount {
        let RateCounter { held, paused } = &self.rates[scope as usize];
        RateCount {
            held: held.read(),
            paused: paused.read(),
        }
    }
}
