//! What one reactor finds out, and all have to know.
//!
//! In: the news of one reactor. Out: the same for all of them, and a wake. Never here: a lock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crate::ring::Wake;
use crate::ring::shared::AtomicU64;

#[derive(Debug)]
pub(crate) struct Together {
    /// For each consumer, a bit for each reactor whose ring to it is full.
    full: Vec<AtomicU64>,
    /// A bit for each consumer that is gone.
    gone: AtomicU64,
    /// How often all listeners were to be shut, or to be opened again: what the first reactor says, and the others do.
    shuts: AtomicU64,
    /// The consumer that stalled first, plus one, where that is the end of the whole.
    stalled: AtomicU64,
    wakers: OnceLock<Vec<Arc<dyn Wake>>>,
}

/// How often listeners were shut and opened again, in turns: so that who looks seldom knows of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shuts(u64);

impl Shuts {
    pub(crate) fn is_shut(self) -> bool {
        self.0 % 2 == 1
    }
}

impl Together {
    pub(crate) fn new(consumers: usize) -> Self {
        Self {
            full: (0..consumers).map(|_| AtomicU64::new(0)).collect(),
            gone: AtomicU64::new(0),
            shuts: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            wakers: OnceLock::new(),
        }
    }

    /// Once all reactors exist.
    pub(crate) fn set_wakers(&self, wakers: Vec<Arc<dyn Wake>>) {
        let _ = self.wakers.set(wakers);
    }

    fn wake_all(&self) {
        self.wakers
            .get()
            .into_iter()
            .flatten()
            .for_each(|w| w.wake());
    }

    /// A reactor's ring to this consumer is full, or is not any more. The first reactor looks at it.
    pub(crate) fn set_full(&self, reactor: usize, consumer: usize, full: bool) {
        let bit = 1 << reactor;
        // AcqRel, and before the wake: whoever is woken by it sees it.
        match full {
            true => self.full[consumer].fetch_or(bit, Ordering::AcqRel),
            false => self.full[consumer].fetch_and(!bit, Ordering::AcqRel),
        };
        self.wake_first(reactor);
    }

    pub(crate) fn set_gone(&self, reactor: usize, consumer: usize) {
        self.gone.fetch_or(1 << consumer, Ordering::AcqRel);
        self.wake_first(reactor);
    }

    fn wake_first(&self, by: usize) {
        if let Some(first) = self
            .wakers
            .get()
            .and_then(|all| all.first())
            .filter(|_| by != 0)
        {
            first.wake();
        }
    }

    /// Has every consumer that is there a full ring?
    pub(crate) fn presses(&self) -> bool {
        let gone = self.gone.load(Ordering::Acquire);
        let there = self
            .full
            .iter()
            .enumerate()
            .filter(|(c, _)| gone & 1 << c == 0);
        let mut full = there
            .map(|(_, full)| full.load(Ordering::Acquire) != 0)
            .peekable();
        full.peek().is_some() && full.all(|full| full)
    }

    /// The first reactor has decided.
    pub(crate) fn set_shut(&self, shut: bool) {
        if self.shuts().is_shut() != shut {
            self.shuts.fetch_add(1, Ordering::AcqRel);
            self.wake_all();
        }
    }

    pub(crate) fn shuts(&self) -> Shuts {
        Shuts(self.shuts.load(Ordering::Acquire))
    }

    /// There is something for this reactor.
    pub(crate) fn wake(&self, reactor: usize) {
        if let Some(waker) = self.wakers.get().and_then(|all| all.get(reactor)) {
            waker.wake();
        }
    }

    /// A consumer has stalled, and the whole is to end for that.
    pub(crate) fn end_for(&self, consumer: usize) {
        // Release, and before the wakes: whoever is woken by them sees it. The first one stands.
        let first = self.stalled.compare_exchange(
            0,
            consumer as u64 + 1,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if first.is_ok() {
            self.wake_all();
        }
    }

    /// For which consumer's stall the whole is to end.
    pub(crate) fn ends_for(&self) -> Option<usize> {
        (self.stalled.load(Ordering::Acquire) as usize).checked_sub(1)
    }
}
