//! The consumer's end: read, release, and leave an estate.
//!
//! In: what was released. Out: the contiguous run of records that stands first.
//! Never here: what a record means to anybody.

use std::fmt;

use ringbuf::HeapCons;
use ringbuf::traits::{Consumer as _, Observer as _};

use super::record::{Header, Kind, Walk};
use super::sync::{Arc, Ordering, fence};
use super::{End, Estate, RingObserver, Shared, add};

/// The reading end of a ring. Dropped, it hands itself over to the reactor, or does its own books if
/// the reactor has gone before.
pub(crate) struct RingConsumer {
    /// `None` only while it is dropped.
    cons: Option<HeapCons<u8>>,
    shared: Arc<Shared>,
    /// The same as the shared one, which only this writes.
    released: u64,
    /// Bytes of the first record's payload that were delivered already.
    taken: usize,
    /// It was handed over once, and is not to be handed over again.
    inherited: bool,
}

impl RingConsumer {
    pub(super) fn new(cons: HeapCons<u8>, shared: Arc<Shared>) -> Self {
        Self {
            cons: Some(cons),
            shared,
            released: 0,
            taken: 0,
            inherited: false,
        }
    }

    pub(super) fn from_estate(estate: Estate, shared: Arc<Shared>) -> Self {
        Self {
            cons: Some(estate.cons),
            shared,
            released: estate.released,
            taken: estate.taken,
            inherited: true,
        }
    }

    fn cons(&self) -> &HeapCons<u8> {
        self.cons.as_ref().expect("there until it is dropped")
    }

    /// Whole records from the first unreleased one to the wrap, or to the last one published.
    pub(crate) fn readable(&self) -> &[u8] {
        self.cons().as_slices().0
    }

    /// All records that are there, also those behind the wrap.
    pub(crate) fn walk(&self) -> impl Iterator<Item = (usize, Header, &[u8])> {
        let (run, behind) = self.cons().as_slices();
        Walk::new(run).chain(Walk::new(behind))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cons().is_empty()
    }

    /// Bytes ever released, which is where [`RingConsumer::readable`] begins.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    /// Bytes of peers ever delivered by this end.
    pub(crate) fn delivered(&self) -> u64 {
        self.shared.delivered()
    }

    /// Bytes of the first record's payload that were delivered already.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Has the producer declared the end? Ask this first, and then whether the ring is empty: in the
    /// other order, records published in between would be overlooked.
    pub(crate) fn end(&self) -> Option<End> {
        // Acquire, the partner of the Release store in `finish`.
        End::from_code(self.shared.producer.0.end.load(Ordering::Acquire))
    }

    /// Releases up to `position`, of which `payload` bytes were delivered since the last release;
    /// `taken` bytes of the record that is then first were delivered as well, and are in `payload`.
    pub(crate) fn release(&mut self, position: u64, taken: usize, payload: u64) {
        add(&self.shared.consumer.0.delivered, payload);
        self.advance(position);
        self.taken = taken;
    }

    fn advance(&mut self, position: u64) {
        let bytes = (position - self.released) as usize;
        if bytes == 0 {
            return;
        }
        let cons = self.cons.as_mut().expect("there until it is dropped");
        let skipped = cons.skip(bytes);
        assert_eq!(skipped, bytes, "more was released than was there");
        self.released = position;
        // Release, after ringbuf's own index: whoever reads this finds the room.
        self.shared
            .consumer
            .0
            .released
            .store(position, Ordering::Release);
        // Between "released" and the look at who waits for it; see `Producer::wait_for`.
        fence(Ordering::SeqCst);
        // Relaxed: the fences order it.
        let target = self.shared.producer.0.wake_at.load(Ordering::Relaxed);
        if target != 0 && position >= target && self.take_wait(target) {
            self.shared.wake.wake();
        }
    }

    /// Takes the wait for `target`: one wake for each wait. Not whatever stands there by now: the reactor
    /// may have come round for another reason and sleep on a later target, and a wake before that is
    /// reached would be its last. It judged the later one with the release above in view: of two SeqCst
    /// fences ours was first, or we would have seen its target instead.
    pub(super) fn take_wait(&self, target: u64) -> bool {
        let wake_at = &self.shared.producer.0.wake_at;
        wake_at
            .compare_exchange(target, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Walks what is in the ring, books its payload as abandoned, releases it and says how much it was.
    pub(crate) fn abandon_rest(&mut self) -> u64 {
        let mut lost = 0;
        loop {
            let run = self.readable();
            if run.is_empty() {
                break;
            }
            let len = run.len() as u64;
            let mut walk = Walk::new(run);
            let payload: u64 = walk
                .by_ref()
                .filter(|(_, header, _)| header.kind == Kind::Data)
                .map(|(_, header, _)| u64::from(header.len))
                .sum();
            if walk.left() > 0 {
                // Not our records any more. This may run while a panic unwinds: count what is
                // missing, say that it was not walked, and do not panic again.
                return lost + self.shared.abandon_unwalked();
            }
            let payload = payload - self.taken as u64;
            self.taken = 0;
            self.shared.abandon(payload);
            lost += payload;
            self.advance(self.released + len);
        }
        lost
    }

    pub(crate) fn observer(&self) -> RingObserver {
        RingObserver(Arc::clone(&self.shared))
    }
}

impl Drop for RingConsumer {
    fn drop(&mut self) {
        if self.inherited {
            self.abandon_rest();
            return;
        }
        let handed_over = {
            let mut handover = self
                .shared
                .handover
                .lock()
                .unwrap_or_else(|e| e.into_inner());
            if !handover.no_heir {
                handover.estate = self.cons.take().map(|cons| Estate {
                    cons,
                    released: self.released,
                    taken: self.taken,
                });
            }
            !handover.no_heir
        };
        if !handed_over {
            self.abandon_rest();
        }
        // Release: whoever sees it finds the estate, and the lock free.
        self.shared.consumer.0.gone.store(true, Ordering::Release);
        self.shared.wake.wake();
    }
}

impl fmt::Debug for RingConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RingConsumer")
            .field(&self.observer())
            .finish()
    }
}
