//! The connection limits, which all reactors share: one of the whole, and one of each listener that has one.
//!
//! In: reactors that want a place, or give one back. Out: yes or no, and a wake when there is one.
//! Never here: a lock; or what is done at the limit.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};

use crate::ring::Wake;
use crate::ring::shared::{AtomicU64, AtomicUsize};

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The listener's own.
    Listener,
    Whole,
}

/// One limit.
#[derive(Debug)]
struct Gate {
    /// Places taken: by connections, by slots that are not free yet, by a look at a backlog.
    taken: AtomicUsize,
    max: usize,
    /// A bit for each reactor that found no place free.
    waiting: AtomicU64,
}

impl Gate {
    fn new(max: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            max,
            waiting: AtomicU64::new(0),
        }
    }

    /// Takes a place, if one is free.
    fn try_enter(&self) -> bool {
        let taken = |taken| (taken < self.max).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, taken)
            .is_ok()
    }

    /// The same, and else says that this reactor waits for one.
    fn enter(&self, reactor: usize) -> bool {
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

    fn is_waiting(&self, reactor: usize) -> bool {
        self.waiting.load(Ordering::SeqCst) & 1 << reactor != 0
    }

    /// Gives a place back. Returns the reactors that wait for one.
    fn leave(&self) -> u64 {
        self.taken.fetch_sub(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        match self.waiting.load(Ordering::SeqCst) {
            0 => 0,
            _ => self.waiting.swap(0, Ordering::SeqCst),
        }
    }
}

/// The limits, over all reactors.
#[derive(Debug)]
pub(crate) struct Admission {
    whole: Gate,
    listeners: Vec<Option<Gate>>,
    connections: AtomicU64,
    wakers: OnceLock<Vec<Arc<dyn Wake>>>,
}

impl Admission {
    /// `listeners`: the limit of each, if it has one.
    pub(crate) fn new(max: usize, listeners: impl Iterator<Item = Option<usize>>) -> Self {
        Self {
            whole: Gate::new(max),
            listeners: listeners.map(|max| max.map(Gate::new)).collect(),
            connections: AtomicU64::new(0),
            wakers: OnceLock::new(),
        }
    }

    /// Once all reactors exist.
    pub(crate) fn set_wakers(&self, wakers: Vec<Arc<dyn Wake>>) {
        let _ = self.wakers.set(wakers);
    }

    /// Takes a place for a connection of this listener, if one is free. Else the reactor is woken when there
    /// may be one.
    pub(crate) fn enter(&self, reactor: usize, listener: usize) -> bool {
        let own = &self.listeners[listener];
        if own.as_ref().is_some_and(|own| !own.enter(reactor)) {
            return false;
        }
        let has_entered = self.whole.enter(reactor);
        if let (false, Some(own)) = (has_entered, own) {
            self.wake(own.leave());
        }
        has_entered
    }

    /// The same for who does not wait.
    pub(crate) fn try_enter(&self, listener: usize) -> bool {
        let own = &self.listeners[listener];
        if own.as_ref().is_some_and(|own| !own.try_enter()) {
            return false;
        }
        let has_entered = self.whole.try_enter();
        if let (false, Some(own)) = (has_entered, own) {
            self.wake(own.leave());
        }
        has_entered
    }

    /// Gives a place back, and wakes the reactors that wait for one.
    pub(crate) fn leave(&self, listener: usize) {
        let own = self.listeners[listener].as_ref().map_or(0, Gate::leave);
        self.wake(own | self.whole.leave());
    }

    fn wake(&self, waiting: u64) {
        if waiting == 0 {
            return;
        }
        for (reactor, waker) in self.wakers.get().into_iter().flatten().enumerate() {
            if waiting & 1 << reactor != 0 {
                waker.wake();
            }
        }
    }

    /// At which limit does this reactor wait for a place? None: it may try. Asked by the reactor itself.
    pub(crate) fn waits_at(&self, reactor: usize, listener: usize) -> Option<Limit> {
        let own = &self.listeners[listener];
        if own.as_ref().is_some_and(|own| own.is_waiting(reactor)) {
            return Some(Limit::Listener);
        }
        self.whole.is_waiting(reactor).then_some(Limit::Whole)
    }

    /// Counts a connection; how many there are now. Counts only: nothing is ordered by them.
    pub(crate) fn connect(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Panics unless so many places are taken of each listener.
    #[cfg(feature = "sim")]
    pub(crate) fn check(&self, slots: &[usize]) {
        let taken = |gate: &Gate| gate.taken.load(Ordering::SeqCst);
        let all: usize = slots.iter().sum();
        assert_eq!(taken(&self.whole), all, "places taken of the whole");
        for (at, (gate, slots)) in self.listeners.iter().zip(slots).enumerate() {
            let of_gate = gate.as_ref().map_or(*slots, taken);
            assert_eq!(of_gate, *slots, "places taken of listener {at}");
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

    impl Bell {
        fn has_rung(&self) -> bool {
            self.0.swap(false, Ordering::SeqCst)
        }
    }

    fn bells(admission: &Admission) -> Vec<Arc<Bell>> {
        let bells: Vec<_> = (0..2)
            .map(|_| Arc::new(Bell(AtomicBool::new(false))))
            .collect();
        admission.set_wakers(bells.iter().map(|b| b.clone() as Arc<dyn Wake>).collect());
        bells
    }

    #[test]
    fn a_free_place_wakes_only_who_waits_for_it() {
        let admission = Admission::new(1, [None].into_iter());
        let bells = bells(&admission);
        assert!(admission.enter(0, 0));
        assert!(!admission.enter(1, 0));
        assert_eq!(admission.waits_at(1, 0), Some(Limit::Whole));
        assert_eq!(admission.waits_at(0, 0), None);
        admission.leave(0);
        assert!(bells[1].has_rung() && !bells[0].has_rung());
        assert!(admission.enter(1, 0));
    }

    #[test]
    fn a_listener_has_its_own_limit_within_that_of_the_whole() {
        let admission = Admission::new(3, [Some(1), Some(9)].into_iter());
        let bells = bells(&admission);
        assert!(admission.enter(0, 0));
        assert!(!admission.enter(1, 0));
        assert_eq!(admission.waits_at(1, 0), Some(Limit::Listener));
        assert_eq!(admission.waits_at(1, 1), None, "the other one has room");
        assert!(admission.enter(1, 1) && admission.enter(1, 1));
        assert!(!admission.enter(0, 1));
        assert_eq!(admission.waits_at(0, 1), Some(Limit::Whole));
        // Of a place that the whole does not have, none is taken of the listener.
        admission.check(&[1, 2]);
        admission.leave(0);
        assert!(bells[0].has_rung() && bells[1].has_rung());
        assert!(admission.enter(1, 0));
    }

    #[test]
    fn who_does_not_wait_is_not_woken_and_takes_nothing() {
        let admission = Admission::new(2, [Some(1), Some(2)].into_iter());
        let bells = bells(&admission);
        assert!(admission.try_enter(0) && !admission.try_enter(0));
        assert!(admission.try_enter(1) && !admission.try_enter(1));
        admission.check(&[1, 1]);
        assert_eq!(admission.waits_at(0, 0), None);
        admission.leave(0);
        assert!(!bells[0].has_rung() && !bells[1].has_rung());
        assert!(admission.try_enter(1));
    }
}
