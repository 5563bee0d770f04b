//! Buckets that all reactors take from: one for each listener, and one for each source there is.
//!
//! In: what was taken, or what somebody wants in advance. Out: what the bucket is then. Never here: a lock,
//! an entry for somebody, or a table that is full.
//!
//! A listener's bucket is one cell. A source's is one cell in each of four rows ([`super::source`] says
//! why): what it takes is taken out of all four, and the fullest says what there is. A cell is as empty as
//! its own source makes it or emptier, so nobody ever gets more than its limit; who waits too early has met
//! others in each row at once, who have used up what they may.

use std::sync::atomic::Ordering;

use super::rows::{LEAST_CELLS_OF_BUCKETS, Table, width};
use crate::policy::ROWS;
use crate::policy::rate::{Bucket, Limit};
use crate::ring::shared::AtomicU64;

/// A limit for bytes and one for messages.
pub(crate) type Both = [Option<Limit>; 2];

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Listener(u8),
    Source([u32; ROWS]),
}

/// A bucket's cells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cells<'c> {
    One([&'c AtomicU64; 1]),
    Rows([&'c AtomicU64; ROWS]),
}

/// All buckets, for bytes and for messages.
#[derive(Debug)]
pub(crate) struct Common {
    listeners: Box<[[AtomicU64; 2]]>,
    sources: [Option<Table<AtomicU64>>; 2],
}

/// Bytes of the tables for the sources.
pub(crate) fn table_bytes(max_connections: usize) -> usize {
    ROWS * width(max_connections, LEAST_CELLS_OF_BUCKETS) * size_of::<AtomicU64>()
}

impl Common {
    pub(crate) fn new(listeners: usize, source: &Both, max_connections: usize) -> Self {
        let table = |limit: &Option<Limit>| {
            let width = width(max_connections, LEAST_CELLS_OF_BUCKETS);
            limit.map(|_| Table::new(width))
        };
        Self {
            listeners: (0..listeners).map(|_| Default::default()).collect(),
            sources: source.each_ref().map(table),
        }
    }

    /// The bucket of one kind, for which there is a limit.
    pub(super) fn of(&self, owner: Owner, kind: usize) -> Cells<'_> {
        match owner {
            Owner::Listener(listener) => Cells::One([&self.listeners[usize::from(listener)][kind]]),
            Owner::Source(numbers) => {
                let table = self.sources[kind].as_ref().expect("there is a limit");
                Cells::Rows(table.of(numbers))
            }
        }
    }
}

impl Cells<'_> {
    fn all(&self) -> &[&AtomicU64] {
        match self {
            Self::One(cells) => cells,
            Self::Rows(cells) => cells,
        }
    }

    fn least(cells: &[&AtomicU64]) -> u64 {
        let all = cells.iter().map(|cell| cell.load(Ordering::SeqCst));
        all.min().unwrap_or(u64::MAX)
    }

    /// What the bucket is now.
    pub(super) fn look(&self) -> Bucket {
        Bucket::from_full_at(Self::least(self.all()))
    }

    /// Takes, and returns what the bucket is then.
    ///
    /// Who takes at the same time, at several reactors, is in the order of the last row: whoever is second
    /// there has seen the first one in the other rows too, and is told what is left by both. Were each told
    /// what it found in the row in which it was first, both would come at once for what is there once.
    pub(super) fn take(&self, limit: &Limit, n: u64, now: u64) -> Bucket {
        let take = |cell: &AtomicU64| {
            let taken = |full_at| {
                let mut bucket = Bucket::from_full_at(full_at);
                bucket.take(limit, n, now);
                bucket.full_at()
            };
            let before = cell.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |full_at| {
                Some(taken(full_at))
            });
            taken(before.unwrap_or_else(|unchanged| unchanged))
        };
        let (last, others) = self.all().split_last().expect("a bucket has a cell");
        for cell in others {
            take(cell);
        }
        let last = take(last);
        Bucket::from_full_at(last.min(Self::least(others)))
    }

    /// Sets back the cells that are as they were after a draw. In the others somebody has taken since, and
    /// nobody knows any more which time was missed.
    pub(super) fn set_back(&self, after: Bucket, without: Bucket) {
        for cell in self.all() {
            let (after, without) = (after.full_at(), without.full_at());
            _ = cell.compare_exchange(after, without, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
#[path = "common_tests.rs"]
mod tests;
