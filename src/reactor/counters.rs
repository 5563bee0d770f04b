//! What a reactor counts.
//!
//! In: additions of one reactor. Out: numbers for any thread. Never here: a lock.

use std::time::Duration;

use super::fairness::Published;
use crate::books::{Counter, CounterBy};
use crate::close::{CloseReason, DiscardReason, PauseCause, Reason, RefuseReason};
use crate::status::Pauses;

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
    /// Those that wait for a rate now.
    pub(crate) held_by_rate: Counter,
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

#[derive(Debug, Default)]
pub(crate) struct RingCounters {
    pub(crate) connections: Counter,
    /// Blocks that have ended, and their time.
    pub(crate) blocks: Counter,
    pub(crate) blocked_micros: Counter,
    /// When the present block began, in microseconds since the reactor's start, plus one; 0: it flows.
    pub(crate) blocked_since: Counter,
    /// In the same way: when the oldest record that is not released was published, and since when nothing
    /// has been released while there is one.
    pub(crate) oldest_since: Counter,
    pub(crate) still_since: Counter,
    /// 1 while its consumer is stalled, and how often it was.
    pub(crate) stalled: Counter,
    pub(crate) stalls: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) accepted: Counter,
    /// 0 ready, 1 full, 2 limited, 3 closed, 4 pressure.
    pub(crate) state: Counter,
    /// How often it could not be opened again, and what the system said the last time.
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
        let counter = &self.pauses[cause.index()];
        counter.count.add(1);
        counter
            .micros
            .add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2));
    }

    pub(crate) fn pauses(&self, cause: PauseCause) -> Pauses {
        let counter = &self.pauses[cause.index()];
        Pauses {
            count: counter.count.read(),
            time: Duration::from_micros(counter.micros.read()),
        }
    }
}
