//! Waking, one primitive both ways: say that you sleep, fence, look again at the same predicate,
//! sleep; the other side publishes, fences, looks, wakes.
//!
//! In: "I am going to sleep", "something happened". Out: at most one wake for each sleep.
//! Never here: what the predicate is, a wait of the side that wakes.

use std::fmt;
use std::task::Waker;

use super::sync::{AtomicBool, Mutex, Ordering, fence};

/// How a reactor is made to look around again: by a consumer, at most once for each time that a reactor
/// waits for room, and once when it is dropped; by a handle that has an order; by other reactors.
///
/// It is called on whatever thread that is. It must not block, and what its caller did before must be
/// visible to the reactor when it comes back from its poll.
pub trait Wake: Send + Sync {
    /// Ends the reactor's present or next wait.
    fn wake(&self);
}

/// Where one consumer sleeps; it covers all of its rings.
///
/// The sleeper is a [`Waker`], so that a thread, a task of any async runtime and a simulation are
/// the same thing to a reactor.
pub(crate) struct Parked {
    parked: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Parked {
    pub(crate) fn new() -> Self {
        Self {
            parked: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// The consumer's side, before it looks for the last time: `waker` is to be woken from now on.
    ///
    /// The lock is held elsewhere only for the length of one `Option::take`.
    pub(crate) fn prepare(&self, waker: Waker) {
        let mut slot = self.waker.lock().unwrap_or_else(|e| e.into_inner());
        let former = slot.replace(waker);
        drop(slot);
        // Somebody else's code runs under no lock of ours.
        drop(former);
        // Release: whoever reads this `true` finds the lock of the registration above free.
        self.parked.store(true, Ordering::Release);
        // Between "I sleep" and the last look. Its partner stands in `notify_each`, between what was
        // published and the look at who sleeps. Of two SeqCst fences one is first: if ours, the reactor's load sees `true`;
        // if the reactor's, our look sees what it published. Without both, each side could read the
        // other's old value, and nobody would wake.
        fence(Ordering::SeqCst);
    }

    /// The consumer's side, when the last look found something.
    pub(crate) fn cancel(&self) {
        // Relaxed: a reactor that misses it wakes a consumer that is awake, which costs one look.
        self.parked.store(false, Ordering::Relaxed);
    }

    /// The other side, after it has published: wakes those who sleep. One fence for them all, so call
    /// it once a turn, for all rings and consumers together.
    pub(crate) fn notify_each<'p>(all: impl IntoIterator<Item = &'p Self>) {
        let mut all = all.into_iter().peekable();
        if all.peek().is_none() {
            return;
        }
        // Between what was published and the look at who sleeps; its partner stands in `prepare`.
        fence(Ordering::SeqCst);
        all.for_each(Self::notify);
    }

    fn notify(&self) {
        // Relaxed: the two fences order it, as said in `prepare`. The common case ends here.
        if !self.parked.load(Ordering::Relaxed) {
            return;
        }
        // AcqRel: of several reactors one gets the `true`, and it has seen the registration.
        if !self.parked.swap(false, Ordering::AcqRel) {
            return;
        }
        // Never a wait. If the lock is taken, then
        // - by the consumer: it registers anew, after the registration that our swap saw. Its fence
        //   and its look come after that, and what we published is before our own fence: either that
        //   look sees it, or our swap would have seen the newer `true`, after whose registration the
        //   lock was free. So this consumer will not sleep on what we have published.
        // - by another reactor: it got an older `true` and is about to take the waker. It locked after
        //   the registration that we saw (or that registration would have waited for it), so the
        //   waker that it wakes is the present one.
        let taken = match self.waker.try_lock() {
            Ok(mut slot) => slot.take(),
            Err(std::sync::TryLockError::Poisoned(e)) => e.into_inner().take(),
            Err(std::sync::TryLockError::WouldBlock) => None,
        };
        // Outside the lock: a waker is somebody else's code, and may drop or poll what it likes.
        if let Some(waker) = taken {
            waker.wake();
        }
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("parked", &self.parked.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl std::task::Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_sleep_is_one_wake() {
        let counts = Arc::new(Counts::default());
        let waker = Waker::from(Arc::clone(&counts));
        let woken = || counts.0.load(Ordering::Relaxed);
        let parked = Parked::new();
        parked.notify();
        assert_eq!(woken(), 0, "nobody slept");
        parked.prepare(waker.clone());
        parked.notify();
        parked.notify();
        assert_eq!(woken(), 1);
        parked.prepare(waker);
        parked.cancel();
        parked.notify();
        assert_eq!(woken(), 1, "it had found something");
    }

    #[test]
    fn a_registration_under_way_is_not_waited_for() {
        let counts = Arc::new(Counts::default());
        let parked = Parked::new();
        parked.prepare(Waker::from(Arc::clone(&counts)));
        let registering = parked.waker.lock().unwrap();
        parked.notify();
        drop(registering);
        assert_eq!(counts.0.load(Ordering::Relaxed), 0);
    }
}
