//! The reactor's end: claim, fill, commit.
//!
//! In: how much room a read needs. Out: contiguous room, or nothing; then a position to wait for.
//! Never here: a wait, a claim that outlives a turn.

use std::fmt;

use ringbuf::HeapProd;
use ringbuf::traits::{Producer as _, Raw as _};

use super::record::{self, HEADER};
use super::start_over::StartOver;
use super::sync::{Arc, Ordering, fence};
use super::{End, Parked, RingConsumer, RingObserver, Shared, add};

/// The writing end of a ring.
pub(crate) struct Producer {
    /// `None` only while it is dropped.
    prod: Option<HeapProd<u8>>,
    shared: Arc<Shared>,
    /// The same as the shared one, which only this writes.
    position: u64,
    origin: u64,
    start_over: StartOver,
    ended: bool,
}

/// Room in the ring for records, contiguous. Dropped, it costs nothing and leaves nothing.
#[must_use = "room that is not committed is given back"]
pub(crate) struct Claim<'p> {
    producer: &'p mut Producer,
    /// Bytes before the wrap that become padding with the commit.
    padding: usize,
    len: usize,
}

impl Producer {
    pub(super) fn new(prod: HeapProd<u8>, shared: Arc<Shared>) -> Self {
        Self {
            prod: Some(prod),
            shared,
            position: 0,
            origin: 0,
            start_over: StartOver::NEVER,
            ended: false,
        }
    }

    fn prod(&mut self) -> &mut HeapProd<u8> {
        self.prod.as_mut().expect("there until it is dropped")
    }

    /// From now on a ring that its consumer has emptied is begun anew at its start, once so many bytes of it
    /// were written; see [`StartOver`] for when not. Until the consumer has passed the padding, there is room
    /// for no more than what was written.
    pub(crate) fn start_over_from(&mut self, bytes: usize) {
        // No padding is longer than its header can say.
        let least = self.shared.capacity.saturating_sub(u32::MAX as usize);
        self.start_over = StartOver::from(bytes.max(least));
    }

    /// By so many bytes later than was said.
    pub(crate) fn start_over_later(&mut self, bytes: usize) {
        self.start_over = self.start_over.later(bytes);
    }

    /// Contiguous room of at least `min` and at most `want` bytes, in steps of 16; `None` if there is
    /// none now. The rest before the wrap is skipped when it is smaller than `min`, or when it is
    /// smaller than `want` and less than a sixteenth of what follows: a small claim makes a small read. Or when
    /// it is time to start over.
    ///
    /// While no more than `low` bytes are occupied, all padding included, a claim of at most
    /// `(capacity - low) / 2` always succeeds, wherever the wrap stands: the larger of the two vacant parts
    /// has that much.
    pub(crate) fn claim(&mut self, min: usize, want: usize) -> Option<Claim<'_>> {
        assert!(!self.ended, "a claim after the end was declared");
        let min = min.max(HEADER).next_multiple_of(HEADER);
        let want = (want & !(HEADER - 1)).max(min);
        let capacity = self.shared.capacity;
        // Positions and ringbuf's indices began at 0 together and advance together.
        let offset = (self.position & (capacity as u64 - 1)) as usize;
        // As `released` has it, of which ringbuf's own index is never behind: there is room for all of this.
        let vacant = capacity - (self.position - self.released()) as usize;
        let first = vacant.min(capacity - offset);
        let second = vacant - first;
        let is_due = vacant == capacity && self.start_over.is_due(self.position, offset);
        let (padding, room) = if is_due && second >= want {
            (first, second)
        } else if first >= want {
            (0, first)
        } else if offset + first < capacity {
            // It ends at the reader, not at the wrap: there is nothing behind it to skip to.
            (0, first)
        } else if (first < min || first < second / 16) && second >= min {
            (first, second)
        } else {
            (0, first)
        };
        if room < min {
            if self.released() < self.origin {
                self.start_over.handle_no_room(self.position, capacity);
            }
            return None;
        }
        Some(Claim {
            producer: self,
            padding,
            len: room.min(want),
        })
    }

    /// Writes the padding before the wrap, which the commit publishes.
    fn pad(&mut self, padding: usize) {
        let (first, _) = self.prod().vacant_slices_mut();
        record::write_padding(initialised(first), padding);
        if self.released() == self.position {
            self.origin = self.position + padding as u64;
            let origin = &self.shared.producer.0.origin;
            origin.store(self.origin, Ordering::Relaxed);
            let offset = self.shared.capacity - padding;
            if self.start_over.is_due(self.position, offset) {
                self.start_over.handle_begun();
            }
        }
    }

    /// Bytes ever written, headers and padding included.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes ever released, headers and padding included.
    pub(crate) fn released(&self) -> u64 {
        // Acquire, the partner of the Release store in the consumer's release: it was stored after
        // ringbuf's read index, so room that this number promises is there for `claim`.
        self.shared.consumer.0.released.load(Ordering::Acquire)
    }

    /// Bytes of peers ever released; those of a record that was released in part included.
    pub(crate) fn delivered(&self) -> u64 {
        self.shared.delivered()
    }

    /// Bytes in the ring, headers and padding included, but not padding in front of all of them; what was
    /// just released may still be in it.
    pub(crate) fn occupied(&self) -> usize {
        (self.position - self.released().max(self.origin)) as usize
    }

    /// Asks to be woken once `target` bytes have been released. `true`: they have been already, and
    /// nobody will wake who was not about to. One target at a time; a new one replaces the old one.
    pub(crate) fn wait_for(&mut self, target: u64) -> bool {
        if self.released() >= target {
            self.clear_wait();
            return true;
        }
        // Relaxed: the fence orders it before our last look.
        self.shared
            .producer
            .0
            .wake_at
            .store(target, Ordering::Relaxed);
        // Between "wake me at" and the last look; its partner stands in the consumer's release,
        // between storing the released position and looking at `wake_at`. Whichever of the two is
        // first, the other side sees the store before it: never do both look past each other.
        fence(Ordering::SeqCst);
        if self.released() >= target {
            self.clear_wait();
            return true;
        }
        false
    }

    /// The position that wakes, 0 for none.
    #[cfg(feature = "sim")]
    pub(crate) fn waits_for(&self) -> u64 {
        self.shared.producer.0.wake_at.load(Ordering::Relaxed)
    }

    /// Takes a [`Producer::wait_for`] back. A wake that is under way still comes.
    pub(crate) fn clear_wait(&mut self) {
        // Relaxed: a consumer that misses it wakes once for nothing.
        self.shared.producer.0.wake_at.store(0, Ordering::Relaxed);
    }

    /// Was the consumer dropped?
    pub(crate) fn is_consumer_gone(&self) -> bool {
        // Acquire: the estate was laid down before.
        self.shared.consumer.0.gone.load(Ordering::Acquire)
    }

    /// The reading end that a dropped consumer left, once. It books what is still in the ring when it
    /// is dropped, so keep it for as long as records may be published.
    pub(crate) fn take_estate(&mut self) -> Option<RingConsumer> {
        if !self.is_consumer_gone() {
            return None;
        }
        // The consumer has said that it is gone after it let go of this lock: no wait.
        let mut handover = self
            .shared
            .handover
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        let estate = handover.estate.take()?;
        drop(handover);
        Some(RingConsumer::from_estate(estate, Arc::clone(&self.shared)))
    }

    /// For a consumer that hangs: books as abandoned whatever it has not released, without a walk, and
    /// says so in the observer. What it should still release later counts as delivered after all.
    pub(crate) fn abandon_unreleased(&mut self) -> u64 {
        self.shared.abandon_unwalked()
    }

    /// No more records will come. What is in the ring can still be read, unless it is `Stopped`.
    pub(crate) fn finish(&mut self, end: End) {
        self.ended = true;
        // Release: a consumer that sees the end sees every record that was committed before it.
        self.shared
            .producer
            .0
            .end
            .store(end as u8, Ordering::Release);
        Parked::notify_each([&*self.shared.parked]);
    }

    pub(crate) fn observer(&self) -> RingObserver {
        RingObserver(Arc::clone(&self.shared))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // First the endpoint, then the word: fields are dropped after this body, and a consumer that
        // woke before that would find ringbuf's producer still held.
        self.prod = None;
        let estate = {
            let mut handover = self
                .shared
                .handover
                .lock()
                .unwrap_or_else(|e| e.into_inner());
            handover.no_heir = true;
            handover.estate.take()
        };
        if let Some(estate) = estate {
            // Dropping it does its books.
            drop(RingConsumer::from_estate(estate, Arc::clone(&self.shared)));
        }
        if !self.ended {
            self.finish(End::ReactorGone);
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Producer").field(&self.observer()).finish()
    }
}

impl Claim<'_> {
    /// Bytes of room, a multiple of 16.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The room. It begins at a record boundary; what it holds is old and means nothing.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let (first, second) = self.producer.prod().vacant_slices_mut();
        let part = if self.padding > 0 { second } else { first };
        // The consumer can only have made the parts larger since the claim, at their ends.
        initialised(&mut part[..self.len])
    }

    /// Publishes the first `used` bytes: records, each aligned to 16, that hold `payload` bytes of
    /// peers. Nothing is published when `used` is 0.
    ///
    /// The consumer is not woken; that is done at the end of a turn, by [`Parked::notify_each`].
    pub(crate) fn commit(self, used: usize, payload: u64) {
        // Always checked: ringbuf does not check an advance, and one too far is undefined behaviour.
        assert!(used <= self.len, "{used} bytes committed of {}", self.len);
        assert!(
            used.is_multiple_of(HEADER),
            "{used} bytes are no whole records"
        );
        if used == 0 {
            return;
        }
        let Claim {
            producer, padding, ..
        } = self;
        if padding > 0 {
            producer.pad(padding);
        }
        let advance = padding + used;
        producer.position += advance as u64;
        // Counted before it can be delivered, so that no observer sees more delivered than published.
        add(&producer.shared.producer.0.published, payload);
        producer
            .shared
            .producer
            .0
            .position
            .store(producer.position, Ordering::Relaxed);
        // SAFETY: `padding + used` bytes are vacant: `used <= len` was asserted, `claim` took `len`
        // from the part that follows `padding` (all of the first part, or nothing) of the room that
        // `released` promises, which is never ahead of ringbuf's read index, and since then this
        // producer was borrowed by the claim, so nobody advanced, and the consumer only adds room. They
        // are initialised (see `initialised`), and no reference into them is alive: the one that `bytes`
        // gave borrowed the claim. The Release store of the index inside is what publishes the bytes.
        unsafe { producer.prod().advance_write_index(advance) };
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("padding", &self.padding)
            .field("len", &self.len)
            .finish()
    }
}

/// Vacant room of one of our rings as bytes.
fn initialised(room: &mut [std::mem::MaybeUninit<u8>]) -> &mut [u8] {
    // SAFETY: all storage of a ring was zeroed when it was made (`super::ring`), bytes were only ever
    // written to it since, as bytes, and a `u8` once initialised stays so. The layout is the same,
    // and the exclusive borrow passes on. What is written through the result is initialised again.
    unsafe { &mut *(std::ptr::from_mut(room) as *mut [u8]) }
}
