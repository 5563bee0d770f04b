//! The two ledgers, and the counters that every other room adds to.
//!
//! In: one writer for each counter, adding. Out: sums that anybody may read at any time.
//! Never here: a subtraction that makes a book balance.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::close::{DiscardReason, Reason};

/// A connection's ledger, in bytes as the peer sent them. It balances at every turn's end:
/// `received = published + discarded + staged`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Books {
    /// Read from the socket.
    pub received: u64,
    /// Put into the consumer's ring, with the delimiters and prefixes of whole messages.
    pub published: u64,
    /// Not to be delivered; the reasons are in the `Gap` records and in the totals.
    pub discarded: u64,
    /// The part of a message that waits here for its rest.
    pub staged: u64,
}

impl Books {
    /// Does every byte that was received have its place?
    pub fn balanced(&self) -> bool {
        self.received == self.published + self.discarded + self.staged
    }
}

/// Bytes of a connection that will not be delivered, in the place where they would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) reason: DiscardReason,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

impl Gap {
    pub(crate) fn new(reason: DiscardReason, bytes: u64, messages: u64) -> Self {
        Self {
            reason,
            bytes,
            messages,
        }
    }

    /// What is discarded next to it, for whatever reason, is in it too.
    pub(crate) fn grow(&mut self, by: Self) {
        self.bytes += by.bytes;
        self.messages += by.messages;
    }
}

/// A counter with one writer and any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Only the one writer may call this: it is a load and a store, not a locked addition.
    pub(crate) fn add(&self, n: u64) {
        // Relaxed: a reader wants a recent number, and orders nothing by it.
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// As [`Counter::add`].
    pub(crate) fn sub(&self, n: u64) {
        self.set(self.read() - n);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn raise_to(&self, n: u64) {
        if n > self.read() {
            self.set(n);
        }
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A time since a reactor's start, or none, as a counter: microseconds plus one, or 0.
#[derive(Debug, Default)]
pub(crate) struct Moment(Counter);

impl Moment {
    pub(crate) fn set(&self, at: Option<Duration>) {
        self.0.set(at.map_or(0, |at| at.as_micros() as u64 + 1));
    }

    pub(crate) fn read(&self) -> Option<Duration> {
        self.0.read().checked_sub(1).map(Duration::from_micros)
    }
}

/// The most reasons that any set of them has.
const MOST_REASONS: usize = 16;

/// A counter for each reason of a set.
#[derive(Debug)]
pub(crate) struct CounterBy<R> {
    counters: [Counter; MOST_REASONS],
    set: PhantomData<R>,
}

impl<R: Reason> Default for CounterBy<R> {
    fn default() -> Self {
        const { assert!(R::ALL.len() <= MOST_REASONS) };
        Self {
            counters: Default::default(),
            set: PhantomData,
        }
    }
}

impl<R: Reason> CounterBy<R> {
    pub(crate) fn add(&self, reason: R, n: u64) {
        self.counters[reason.index()].add(n);
    }

    pub(crate) fn read(&self) -> Tally<R> {
        let mut tally = Tally::default();
        for reason in R::ALL {
            tally.counts[reason.index()] = self.counters[reason.index()].read();
        }
        tally
    }
}

/// How many of each reason: what a [`Snapshot`](crate::Snapshot) shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally<R> {
    counts: [u64; MOST_REASONS],
    set: PhantomData<R>,
}

impl<R> Default for Tally<R> {
    fn default() -> Self {
        Self {
            counts: [0; MOST_REASONS],
            set: PhantomData,
        }
    }
}

impl<R: Reason> Tally<R> {
    /// How many there were for this reason.
    pub fn count(&self, reason: R) -> u64 {
        self.counts[reason.index()]
    }

    /// How many there were for all reasons together.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (R, u64)> + '_ {
        R::ALL
            .iter()
            .map(|reason| (*reason, self.counts[reason.index()]))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }
}
