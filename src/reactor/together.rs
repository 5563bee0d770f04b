//! What one reactor finds out, and all have to know.
//!
//! In: the news of one reactor. Out: the same for all of them, and a wake. Never here: a lock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crate::ring::Wake;
use crate::ring::shared::AtomicU64;

#[derive(Debug, Default)]
pub(crate) struct Together {
    /// The consumer that stalled first, plus one, where that is the end of the whole.
    stalled: AtomicU64,
    wakers: OnceLock<Vec<Arc<dyn Wake>>>,
}

impl Together {
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
