//! What a reactor counts, and the connection limit that all reactors share.
//!
//! In: additions of one reactor. Out: numbers for any thread. Never here: a lock.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::books::{Counter, CounterBy};
use crate::close::{CloseReason, DiscardReason, PauseCause, Reason, RefuseReason};
use crate::ring::Wake;
use crate::ring::shared::{AtomicU64, AtomicUsize};
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
    pauses: [PauseCounter; 3],
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

/// The connection limit, over all reactors.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Places taken: by connections, by slots that are not free yet, by a look at a backlog.
    open: AtomicUsize,
    max: usize,
    connections: AtomicU64,
    /// A bit for each reactor that found no slot free.
    waiting: AtomicU64,
    wakers: OnceLock<Vec<Arc<dyn Wake>>>,
}

impl Admission {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            max,
            connections: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            wakers: OnceLock::new(),
        }
    }

    /// Once all reactors exist.
    pub(crate) fn set_wakers(&self, wakers: Vec<Arc<dyn Wake>>) {
        let _ = self.wakers.set(wakers);
    }

    /// Takes a place for a connection, if one is free.
    pub(crate) fn enter(&self, reactor: usize) -> bool {
        if self.try_enter() {
            return true;
        }
        // Say that we wait, and look again: a place given back in between would wake nobody.
        self.waiting.fetch_or(1 << reactor, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.try_enter() {
            self.waiting.fetch_and(!(1 << reactor), Ordering::SeqCst);
            return true;
        }
        false
    }

    /// Counts a connection; how many there are now. Counts only: nothing is ordered by them.
    pub(crate) fn connect(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn try_enter(&self) -> bool {
        let taken = |open| (open < self.max).then_some(open + 1);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, taken)
            .is_ok()
    }

    /// Is nobody to be told of a free place? Asked by the reactor itself.
    pub(crate) fn is_waiting(&self, reactor: usize) -> bool {
        self.waiting.load(Ordering::SeqCst) & 1 << reactor != 0
    }

    /// Gives a place back, and wakes the reactors that wait for one.
    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiting = self.waiting.swap(0, Ordering::SeqCst);
        for (reactor, waker) in self.wakers.get().into_iter().flatten().enumerate() {
            if waiting & 1 << reactor != 0 {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    struct Bell(AtomicBool);
    impl Wake for Bell {
        fn wake(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_free_place_wakes_only_who_waits_for_it() {
        let bells: Vec<_> = (0..2)
            .map(|_| Arc::new(Bell(AtomicBool::new(false))))
            .collect();
        let admission = Admission::new(1);
        admission.set_wakers(bells.iter().map(|b| b.clone() as Arc<dyn Wake>).collect());
        assert!(admission.enter(0));
        assert!(!admission.enter(1));
        assert!(admission.is_waiting(1) && !admission.is_waiting(0));
        admission.leave();
        assert!(bells[1].0.load(Ordering::SeqCst) && !bells[0].0.load(Ordering::SeqCst));
        assert!(admission.enter(1));
    }
}
