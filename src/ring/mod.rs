//! From one reactor to one consumer: records in a ring of bytes.
//!
//! In: claims of contiguous room, committed. Out: contiguous runs of whole records, released.
//! Never here: a socket, a clock, a wait; the only `unsafe` of the crate is here.
//!
//! Positions count every byte that was ever written, headers and padding included, and never wrap:
//! `released <= position <= released + capacity`. Beside them, payload counts the peers' bytes alone:
//! `published = delivered + abandoned + what is in the ring`.

#![allow(unsafe_code)]

use std::collections::TryReserveError;
use std::fmt;

use ringbuf::storage::Heap;
use ringbuf::traits::Split as _;
use ringbuf::{HeapCons, SharedRb};

use self::sync::{Arc, AtomicBool, AtomicU8, AtomicU64, Mutex, Ordering};

mod consumer;
#[cfg(feature = "fuzz")]
pub(crate) mod model;
#[cfg(all(test, loom))]
mod models;
#[cfg(feature = "sim")]
pub(crate) mod others;
mod producer;
pub(crate) mod record;
mod start_over;
mod sync;
// A model checker's atomics work in a model alone.
#[cfg(all(test, not(loom)))]
mod tests;
mod wake;

pub(crate) use self::consumer::RingConsumer;
pub(crate) use self::producer::Producer;
pub(crate) use self::sync::shared;
pub(crate) use self::wake::Parked;
pub use self::wake::Wake;

/// Why no more records will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    /// Drained: nothing more will be read, and all that is in the ring is to be delivered.
    Drained = 1,
    /// Stopped; what is still in the ring is not to be delivered.
    Stopped = 2,
    /// The producer was dropped without a word: its thread panicked or failed.
    ReactorGone = 3,
}

impl End {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::Drained),
            2 => Some(Self::Stopped),
            _ => Some(Self::ReactorGone),
        }
    }
}

/// A cache line pair of its own, so that the two ends do not slow each other down by writing.
#[repr(align(128))]
struct Padded<T>(T);

/// What the producer writes and others read.
#[derive(Default)]
struct ProducerSide {
    position: AtomicU64,
    /// What is before it was released, or is padding: where an empty ring was begun anew.
    origin: AtomicU64,
    published: AtomicU64,
    /// The released position at which the consumer wakes the reactor; 0: it need not.
    wake_at: AtomicU64,
    end: AtomicU8,
}

/// What the consumer writes and others read.
#[derive(Default)]
struct ConsumerSide {
    released: AtomicU64,
    delivered: AtomicU64,
    /// Found by a walk, by whoever holds the reading end: the consumer at a stop, else its heir.
    abandoned: AtomicU64,
    /// Nobody will walk: see `Shared::abandoned`.
    unwalked: AtomicBool,
    gone: AtomicBool,
}

/// The reading end without its owner.
struct Estate {
    cons: HeapCons<u8>,
    released: u64,
    taken: usize,
}

/// Where the reading end waits for the reactor when its consumer was dropped.
#[derive(Default)]
struct Handover {
    estate: Option<Estate>,
    /// Nobody will come for it: a consumer that is dropped from now on does its own books.
    no_heir: bool,
}

struct Shared {
    producer: Padded<ProducerSide>,
    consumer: Padded<ConsumerSide>,
    capacity: usize,
    /// Locked once at the end of each side's life, for a move: no turn waits for it.
    handover: Mutex<Handover>,
    /// Ends the reactor's wait.
    wake: Arc<dyn Wake>,
    /// Where the consumer sleeps.
    parked: Arc<Parked>,
}

impl Shared {
    fn published(&self) -> u64 {
        // Relaxed, here and for the other counters: each has one writer at a time, and whoever reads
        // it from elsewhere wants a recent number and orders nothing by it.
        self.producer.0.published.load(Ordering::Relaxed)
    }

    fn delivered(&self) -> u64 {
        self.consumer.0.delivered.load(Ordering::Relaxed)
    }

    /// Without a walk it is what is missing, for as long as it is: what a consumer releases after its
    /// time was up is delivered, and not lost as well.
    fn abandoned(&self) -> u64 {
        if self.consumer.0.unwalked.load(Ordering::Relaxed) {
            return self.published().saturating_sub(self.delivered());
        }
        self.consumer.0.abandoned.load(Ordering::Relaxed)
    }

    /// Books what a walk has found.
    fn abandon(&self, payload: u64) {
        add(&self.consumer.0.abandoned, payload);
    }

    /// From now on everything that is not delivered is abandoned. Returns how much more that is.
    fn abandon_unwalked(&self) -> u64 {
        let before = self.abandoned();
        self.consumer.0.unwalked.store(true, Ordering::Relaxed);
        self.abandoned().saturating_sub(before)
    }
}

/// Adds to a counter that only the caller writes: a load and a store, not a locked addition.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// The smallest page of the machines that run Linux.
const PAGE: usize = 4096;

/// A ring of `capacity` bytes, a power of two of at least 64. `wake` ends the reactor's wait, `parked`
/// is where the consumer sleeps.
///
/// The memory is taken at once, every page of it: a machine that has too little says so at the start
/// and not under overload, and no page fault falls into a turn.
///
/// # Errors
///
/// The machine does not promise so much memory.
pub(crate) fn ring(
    capacity: usize,
    wake: Arc<dyn Wake>,
    parked: Arc<Parked>,
) -> Result<(Producer, RingConsumer), TryReserveError> {
    assert!(
        capacity.is_power_of_two() && capacity >= 64,
        "a ring of {capacity} bytes"
    );
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(capacity)?;
    zeros.resize(capacity, 0u8);
    let mut zeros = zeros.into_boxed_slice();
    for page in zeros.chunks_mut(PAGE) {
        // Zeros that the optimiser does not know to be there already.
        page[0] = std::hint::black_box(0);
    }
    let zeros = Box::into_raw(zeros);
    // SAFETY: the pointer comes from `Box::into_raw` just now and is owned by nobody else;
    // `MaybeUninit<u8>` has the layout of `u8`, so the slice, its length and its allocation are the
    // same.
    let storage = unsafe { Box::from_raw(zeros as *mut [std::mem::MaybeUninit<u8>]) };
    // SAFETY: nothing is between read index 0 and write index 0. That the items outside are
    // initialised breaks nothing: `u8` needs no drop. Our own promise is the other way round, and
    // `Claim::bytes` rests on it: all bytes of the storage are initialised now, and nothing ever
    // makes a `u8` slot of ringbuf 0.6 uninitialised again. (`Heap` from a boxed slice, not from a
    // `Vec`, whose spare capacity would become part of the ring, and was never written.)
    let rb = unsafe { SharedRb::from_raw_parts(Heap::from(storage), 0, 0) };
    let (prod, cons) = rb.split();
    let shared = Arc::new(Shared {
        producer: Padded(ProducerSide::default()),
        consumer: Padded(ConsumerSide::default()),
        capacity,
        handover: Mutex::default(),
        wake,
        parked,
    });
    let consumer = RingConsumer::new(cons, Arc::clone(&shared));
    Ok((Producer::new(prod, shared), consumer))
}

/// A ring's counters, for anybody, at any time. Each is recent; together they are no moment.
#[derive(Clone)]
pub(crate) struct RingObserver(Arc<Shared>);

impl RingObserver {
    /// Bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Bytes ever written, headers and padding included.
    pub(crate) fn position(&self) -> u64 {
        self.0.producer.0.position.load(Ordering::Relaxed)
    }

    /// Bytes ever released, headers and padding included.
    pub(crate) fn released(&self) -> u64 {
        self.0.consumer.0.released.load(Ordering::Relaxed)
    }

    /// Bytes in the ring, clamped: the positions are read one after the other. Not the padding in front of
    /// all of them.
    pub(crate) fn occupied(&self) -> u64 {
        // The position first: what is written, released or skipped meanwhile makes it less, not more.
        let position = self.position();
        let origin = self.0.producer.0.origin.load(Ordering::Relaxed);
        position
            .saturating_sub(self.released().max(origin))
            .min(self.0.capacity as u64)
    }

    /// Bytes of peers ever published.
    pub(crate) fn published(&self) -> u64 {
        self.0.published()
    }

    /// Bytes of peers ever released.
    pub(crate) fn delivered(&self) -> u64 {
        self.0.delivered()
    }

    /// Bytes of peers that will never be released.
    pub(crate) fn abandoned(&self) -> u64 {
        self.0.abandoned()
    }

    /// Was `abandoned` found by what was missing, not by a walk over the records?
    pub(crate) fn is_unwalked(&self) -> bool {
        self.0.consumer.0.unwalked.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for RingObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.capacity())
            .field("position", &self.position())
            .field("released", &self.released())
            .field("published", &self.published())
            .field("delivered", &self.delivered())
            .field("abandoned", &self.abandoned())
            .finish_non_exhaustive()
    }
}
