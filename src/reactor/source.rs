//! What each source has open, and how often it comes: two tables that all reactors share.
//!
//! In: peers that were accepted, and that end. Out: yes, or why not. Never here: a lock, an entry for
//! somebody, or a table that is full.
//!
//! Each table is four rows of cells. A source has one cell in each row, chosen by a hash that nobody
//! outside can know, and is counted in all four. A cell may count others too, never fewer than its
//! own: so the least of the four decides, nobody ever has more than the limit, and who is refused too
//! early has met others in each row at once, who have used up the limit in each of its cells.
//!
//! How seldom that is: with `M` connections in all there are at most `M / n` cells in a row that
//! count `n` or more of others, and a row has `8 M` cells. So of those who may still open `n` connections by
//! their limit, at most one in `(8 n)^4` is refused: for the last one, 1 in 4,096, with ten left
//! 1 in 40 million, however many addresses somebody else has. (Reactors that look at the same time may
//! add one each.)

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::rows::{LEAST_CELLS, LEAST_CELLS_OF_BUCKETS, Table, width};
use crate::close::RefuseReason;
use crate::peer::Peer;
use crate::policy::rate::nanos;
use crate::policy::{Pace, ROWS, Seed, Source};
use crate::ring::shared::{AtomicU32, AtomicU64};

/// What a source may have, and may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceLimits {
    pub(crate) connections: Option<usize>,
    pub(crate) connects_per_sec: Option<u32>,
    pub(crate) ipv6_prefix: u8,
}

impl SourceLimits {
    /// Bytes of the tables: of connections, and of how often they come.
    pub(crate) fn table_bytes(&self, max_connections: usize) -> [usize; 2] {
        let open = ROWS * width(max_connections, LEAST_CELLS) * size_of::<AtomicU32>();
        let pace = ROWS * width(max_connections, LEAST_CELLS_OF_BUCKETS) * size_of::<AtomicU64>();
        [
            self.connections.map_or(0, |_| open),
            self.connects_per_sec.map_or(0, |_| pace),
        ]
    }
}

/// The limits of sources, over all reactors.
#[derive(Debug)]
pub(crate) struct Sources {
    ipv6_prefix: u8,
    seed: Seed,
    open: Option<(u32, Table<AtomicU32>)>,
    pace: Option<(Pace, Table<AtomicU64>)>,
}

impl Sources {
    /// `None`: nothing is limited.
    pub(crate) fn new(limits: SourceLimits, max_connections: usize, seed: Seed) -> Option<Self> {
        let open = limits.connections.map(|limit| {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            (limit, Table::new(width(max_connections, LEAST_CELLS)))
        });
        let pace = limits.connects_per_sec.map(|per_sec| {
            let width = width(max_connections, LEAST_CELLS_OF_BUCKETS);
            (Pace::new(per_sec), Table::new(width))
        });
        (open.is_some() || pace.is_some()).then_some(Self {
            ipv6_prefix: limits.ipv6_prefix,
            seed,
            open,
            pace,
        })
    }

    fn numbers(&self, peer: &Peer) -> Option<[u32; ROWS]> {
        let source = Source::of(peer, self.ipv6_prefix)?;
        Some(self.seed.numbers(source))
    }

    /// Somebody has come. What it takes is given back by [`Sources::leave`], if it was let in.
    pub(crate) fn enter(&self, peer: &Peer, now: Duration) -> Result<(), RefuseReason> {
        let Some(numbers) = self.numbers(peer) else {
            return Ok(());
        };
        if let Some((limit, table)) = &self.open
            && !enter(table.of(numbers), *limit)
        {
            return Err(RefuseReason::Source);
        }
        if let Some((pace, table)) = &self.pace
            && !take(table.of(numbers), pace, nanos(now))
        {
            self.give_back(numbers);
            return Err(RefuseReason::SourceRate);
        }
        Ok(())
    }

    /// It has gone.
    pub(crate) fn leave(&self, peer: &Peer) {
        if let Some(numbers) = self.numbers(peer) {
            self.give_back(numbers);
        }
    }

    fn give_back(&self, numbers: [u32; ROWS]) {
        if let Some((_, table)) = &self.open {
            for cell in table.of(numbers) {
                cell.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

/// Counts one more, unless its source has as many as it may have.
///
/// Who comes at the same time, at several reactors, is in the order of the last row. Whoever is not the
/// first there sees all who are before it in the other rows too, for they were counted there first; and
/// whoever is let in by the other rows was counted in the last one before those whom it did not see. So
/// neither way lets in one too many, and of those who want the last place the first gets it.
fn enter(cells: [&AtomicU32; ROWS], limit: u32) -> bool {
    let [others @ .., last] = cells;
    for cell in others {
        cell.fetch_add(1, Ordering::SeqCst);
    }
    let before = last.fetch_add(1, Ordering::SeqCst);
    let is_in = before < limit || others.iter().any(|c| c.load(Ordering::SeqCst) <= limit);
    if !is_in {
        for cell in cells {
            cell.fetch_sub(1, Ordering::SeqCst);
        }
    }
    is_in
}

/// Takes one out of the buckets of its source, if there is one; in the same order.
fn take(cells: [&AtomicU64; ROWS], pace: &Pace, now: u64) -> bool {
    let taken = |cell: &AtomicU64| {
        let taken = |full_at| Some(pace.taken(full_at, now));
        let before = cell.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken);
        pace.taken(before.unwrap_or_else(|unchanged| unchanged), now)
    };
    let [others @ .., last] = cells;
    for cell in others {
        taken(cell);
    }
    let may = |full_at| pace.allows(full_at, now);
    let is_in = may(taken(last)) || others.iter().any(|c| may(c.load(Ordering::SeqCst)));
    if !is_in {
        // None of them is full before a second has passed: what is given back is what was taken.
        for cell in cells {
            cell.fetch_sub(pace.gap, Ordering::SeqCst);
        }
    }
    is_in
}

#[cfg(feature = "sim")]
impl Sources {
    /// Panics unless the table is what these connections make of it, and none of them is beyond its limit.
    pub(crate) fn check(&self, peers: &[Peer]) {
        let Some((limit, table)) = &self.open else {
            return;
        };
        let mut cells = vec![0; table.cells.len()];
        let mut open = std::collections::HashMap::new();
        for peer in peers {
            let Some(source) = Source::of(peer, self.ipv6_prefix) else {
                continue;
            };
            let of = open.entry(source).or_insert(0);
            *of += 1;
            assert!(*of <= *limit, "{source:?} has {of} connections of {limit}");
            for (row, number) in self.seed.numbers(source).into_iter().enumerate() {
                cells[row * table.width + (number as usize & (table.width - 1))] += 1;
            }
        }
        for (cell, due) in table.cells.iter().zip(cells) {
            let counted = cell.load(Ordering::SeqCst);
            assert_eq!(counted, due, "a cell counts others than are there");
        }
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
