//! Room for parts of messages, in a bound of its own.
//!
//! In: a size. Out: a block, which is a unit times a power of two, and whose neighbours join it when both
//! are free (buddies: Knowlton, 1965). Blocks lie in segments, which come as they are needed and stay: so
//! holes lie inside of the bound, where an allocator's come on top of it.
//! Never here: whose a block is.
//!
//! ```text
//!  order 2            2            wholly free: its order + 1
//!  order 1       0         2       else the better of its halves; 0: nothing free
//!  order 0     0   0     1   1
//!              └─┬─┘
//!                a block of order 1
//! ```

/// Segments are at least so large; one holds a block of the highest order at least.
const SEGMENT: usize = 1 << 20;
/// What the allocator takes for a segment beside its bytes: its marks, what is left of the last pages, and its
/// place in what goes over all.
const SEGMENT_EDGES: usize = 3 * 4096;

#[derive(Debug)]
pub(crate) struct Arena {
    /// Bytes of a block of order 0.
    unit: usize,
    /// Units of a segment, a power of two.
    per_segment: usize,
    /// Units that may still come in further segments.
    left: usize,
    segments: Vec<Segment>,
    /// What each of them has free, as the root of its tree says: side by side, where they are gone through.
    free: Vec<u8>,
    used: usize,
}

#[derive(Debug)]
struct Segment {
    bytes: Vec<u8>,
    /// A heap in an array, the root at 1: how large a block is free below each node, as its order + 1.
    tree: Vec<u8>,
}

/// A place in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    segment: u32,
    /// In units.
    at: u32,
    order: u8,
}

/// The smallest block for which a block of the highest order is just large enough for `largest` bytes:
/// from 256 to 511 bytes, or `largest`, if that is less.
const fn unit(largest: usize) -> usize {
    let mut unit = if largest < 256 { 256 } else { largest };
    while unit >= 512 {
        unit = unit.div_ceil(2);
    }
    unit
}

/// What an arena of this budget takes at most, with its books.
pub(crate) fn most(budget: usize, largest: usize) -> usize {
    let (unit, units) = shape(largest);
    let segments = (budget / unit).div_ceil(units);
    budget.saturating_add(segments.saturating_mul(2 * units + SEGMENT_EDGES))
}

/// The bytes of the block for `len` of at most `largest` bytes.
pub(crate) fn class(len: usize, largest: usize) -> usize {
    let unit = unit(largest);
    unit * len.div_ceil(unit).next_power_of_two()
}

/// The smallest block, and how many of it are in a segment.
fn shape(largest: usize) -> (usize, usize) {
    let unit = unit(largest);
    let highest = largest.div_ceil(unit).next_power_of_two();
    (unit, highest.max((SEGMENT / unit).next_power_of_two()))
}

impl Arena {
    /// At most `budget` bytes, in blocks of at most `largest`.
    pub(crate) fn new(budget: usize, largest: usize) -> Self {
        let (unit, per_segment) = shape(largest);
        Self {
            unit,
            per_segment,
            left: budget / unit,
            segments: Vec::new(),
            free: Vec::new(),
            used: 0,
        }
    }

    /// The bytes of the smallest block that holds `len`.
    pub(crate) fn class(&self, len: usize) -> usize {
        self.unit << self.order(len)
    }

    fn order(&self, len: usize) -> u8 {
        let units = len.div_ceil(self.unit).next_power_of_two();
        units.trailing_zeros() as u8
    }

    pub(crate) fn room(&self, block: Block) -> usize {
        self.unit << block.order
    }

    /// The smallest block's bytes.
    pub(crate) fn unit(&self) -> usize {
        self.unit
    }

    /// Bytes of all blocks that are taken.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The bytes of the largest block that a new segment would have; 0: there will be none.
    pub(crate) fn fresh(&self) -> usize {
        let units = self.left.min(self.per_segment);
        units.checked_ilog2().map_or(0, |order| self.unit << order)
    }

    /// The bytes of the largest block that could be had, if `own` were given back; 0: none.
    pub(crate) fn largest_free(&self, own: Option<Block>) -> usize {
        let held = self.free.iter().copied();
        let joined = own.map_or(0, |own| self.segments[own.segment as usize].free_with(own));
        let held = match held.max().unwrap_or(0).max(joined) {
            0 => 0,
            free => self.unit << (free - 1),
        };
        held.max(self.fresh())
    }

    /// A block for so many bytes. The smallest that is free is split, so that large ones stay whole.
    pub(crate) fn take(&mut self, len: usize) -> Option<Block> {
        let order = self.order(len);
        let free = self.free.iter().copied();
        let fitting = free.enumerate().filter(|(_, free)| *free > order);
        let segment = match fitting.min_by_key(|(_, free)| *free) {
            Some((segment, _)) => segment,
            None => self.grow(order)?,
        };
        let at = self.segments[segment].take(order);
        self.note_free(segment);
        self.used += self.unit << order;
        Some(Block {
            segment: segment as u32,
            at,
            order,
        })
    }

    /// A further segment, if there may be one with a block of this order.
    fn grow(&mut self, order: u8) -> Option<usize> {
        let units = self.left.min(self.per_segment);
        if units >> order == 0 {
            return None;
        }
        self.left -= units;
        let segment = Segment::new(units, self.per_segment, self.unit);
        self.free.push(segment.tree[1]);
        self.segments.push(segment);
        Some(self.segments.len() - 1)
    }

    fn note_free(&mut self, segment: usize) {
        self.free[segment] = self.segments[segment].tree[1];
    }

    /// Gives a block back. Its bytes are what they were until another is taken and written to.
    pub(crate) fn give_back(&mut self, block: Block) {
        self.used -= self.room(block);
        self.segments[block.segment as usize].give_back(block);
        self.note_free(block.segment as usize);
    }

    pub(crate) fn bytes(&self, block: Block) -> &[u8] {
        let at = block.at as usize * self.unit;
        &self.segments[block.segment as usize].bytes[at..at + self.room(block)]
    }

    pub(crate) fn bytes_mut(&mut self, block: Block) -> &mut [u8] {
        let at = block.at as usize * self.unit;
        let room = self.room(block);
        &mut self.segments[block.segment as usize].bytes[at..at + room]
    }

    /// Copies the first `len` bytes of a block, which may just have been given back, into another.
    /// Returns how many bytes had to be copied.
    pub(crate) fn copy(&mut self, from: Block, to: Block, len: usize) -> usize {
        let (old, new) = (from.segment as usize, to.segment as usize);
        let (start, place) = (from.at as usize * self.unit, to.at as usize * self.unit);
        if (old, start) == (new, place) {
            return 0;
        }
        if old == new {
            let bytes = &mut self.segments[old].bytes;
            bytes.copy_within(start..start + len, place);
        } else {
            let both = self.segments.get_disjoint_mut([old, new]);
            let [old, new] = both.expect("two segments, of which both are there");
            new.bytes[place..place + len].copy_from_slice(&old.bytes[start..start + len]);
        }
        len
    }
}

impl Segment {
    /// Of so many units; the tree has leaves for `leaves`, the rest of which are never free.
    fn new(units: usize, leaves: usize, unit: usize) -> Self {
        let mut segment = Self {
            // Zeroed by the kernel, page by page, as they are used.
            bytes: vec![0; units * unit],
            tree: vec![0; 2 * leaves],
        };
        segment.tree[leaves..leaves + units].fill(1);
        let mut first = leaves;
        for order in 0.. {
            first /= 2;
            if first == 0 {
                break;
            }
            for node in first..2 * first {
                segment.tree[node] = segment.of_halves(node, order);
            }
        }
        segment
    }

    /// What is free below a node whose halves are of this order.
    fn of_halves(&self, node: usize, order: u8) -> u8 {
        joined(self.tree[2 * node], self.tree[2 * node + 1], order)
    }

    fn leaf(&self, at: u32) -> usize {
        self.tree.len() / 2 + at as usize
    }

    /// There is a block of this order; takes it.
    fn take(&mut self, order: u8) -> u32 {
        let mut node = 1;
        let mut below = (self.tree.len() / 2).ilog2() as u8;
        while below > order {
            below -= 1;
            let (left, right) = (self.tree[2 * node], self.tree[2 * node + 1]);
            // The tighter of those that fit.
            let is_left = left > order && (right <= order || left <= right);
            node = 2 * node + usize::from(!is_left);
        }
        debug_assert_eq!(self.tree[node], order + 1, "a block that is wholly free");
        self.set(node, order, 0);
        ((node << order) - self.tree.len() / 2) as u32
    }

    fn give_back(&mut self, block: Block) {
        let node = self.leaf(block.at) >> block.order;
        debug_assert_eq!(self.tree[node], 0, "a block that is taken");
        self.set(node, block.order, block.order + 1);
    }

    fn set(&mut self, mut node: usize, mut order: u8, free: u8) {
        self.tree[node] = free;
        while node > 1 {
            node /= 2;
            self.tree[node] = self.of_halves(node, order);
            order += 1;
        }
    }

    /// The order + 1 of the largest block if this one were free.
    fn free_with(&self, block: Block) -> u8 {
        let mut node = self.leaf(block.at) >> block.order;
        let mut free = block.order + 1;
        let mut order = block.order;
        while node > 1 {
            free = joined(free, self.tree[node ^ 1], order);
            node /= 2;
            order += 1;
        }
        free
    }
}

/// What two halves of this order have free together.
fn joined(left: u8, right: u8, order: u8) -> u8 {
    if left == order + 1 && right == order + 1 {
        order + 2
    } else {
        left.max(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_block_is_hardly_larger_than_the_largest_part() {
        for largest in [
            1,
            255,
            256,
            257,
            511,
            512,
            1000,
            65_552,
            1 << 20,
            16_777_232,
        ] {
            let arena = Arena::new(1 << 30, largest);
            let class = arena.class(largest);
            assert!(class >= largest, "{class} for {largest}");
            assert!(
                largest < 256 || class - largest <= largest / 100,
                "{class} for {largest}"
            );
            assert!((256..512).contains(&arena.class(1)));
        }
    }

    #[test]
    fn all_of_a_budget_can_be_had_and_no_more() {
        let mut arena = Arena::new(5 << 20, 4096);
        let blocks: Vec<_> = std::iter::from_fn(|| arena.take(1)).collect();
        assert_eq!(blocks.len(), (5 << 20) / 256);
        assert_eq!((arena.used(), arena.largest_free(None)), (5 << 20, 0));
        assert_eq!(arena.largest_free(Some(blocks[3])), 256);
        for block in blocks {
            arena.give_back(block);
        }
        assert_eq!((arena.used(), arena.largest_free(None)), (0, 1 << 20));
    }

    #[test]
    fn a_budget_that_nobody_could_have_costs_nothing() {
        let mut arena = Arena::new(usize::MAX, 65_552);
        assert!(arena.take(65_552).is_some());
        assert_eq!(arena.segments.len(), 1);
    }

    #[test]
    fn a_part_takes_its_bytes_along_into_another_segment() {
        // Each segment is one largest block.
        let mut arena = Arena::new(2 << 20, 1 << 20);
        let (before, small) = (arena.take(256).unwrap(), arena.take(1000).unwrap());
        arena.bytes_mut(before).fill(1);
        arena.bytes_mut(small)[..1000].fill(7);
        let large = arena.take(1 << 20).unwrap();
        assert_ne!(small.segment, large.segment);
        arena.give_back(small);
        assert_eq!(arena.copy(small, large, 1000), 1000);
        let (copied, rest) = arena.bytes(large).split_at(1000);
        assert!(copied.iter().all(|byte| *byte == 7));
        assert!(rest.iter().all(|byte| *byte == 0));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Take(usize),
        GiveBack(usize),
        Move(usize, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (1..=5000usize).prop_map(Op::Take),
            any::<usize>().prop_map(Op::GiveBack),
            (any::<usize>(), 1..=5000usize).prop_map(|(which, len)| Op::Move(which, len)),
        ]
    }

    proptest! {
        /// Blocks never overlap, keep what is in them, and what is said to be free can be had.
        #[test]
        fn blocks_are_what_was_asked_for(
            budget in 0..100_000usize,
            ops in prop::collection::vec(op(), 1..200),
        ) {
            let mut arena = Arena::new(budget, 5000);
            let mut held: Vec<(Block, u8, usize)> = Vec::new();
            for (n, op) in ops.into_iter().enumerate() {
                let mark = n as u8;
                match op {
                    Op::Take(len) => {
                        let free = arena.largest_free(None);
                        let block = arena.take(len);
                        prop_assert_eq!(block.is_some(), arena.class(len) <= free);
                        if let Some(block) = block {
                            prop_assert!(arena.room(block) >= len);
                            arena.bytes_mut(block).fill(mark);
                            held.push((block, mark, len));
                        }
                    }
                    Op::GiveBack(which) if !held.is_empty() => {
                        let (block, ..) = held.swap_remove(which % held.len());
                        arena.give_back(block);
                    }
                    Op::Move(which, len) if !held.is_empty() => {
                        let which = which % held.len();
                        let (old, mark, had) = held[which];
                        let free = arena.largest_free(Some(old));
                        if arena.class(len) <= free {
                            arena.give_back(old);
                            let new = arena.take(len).expect("it was said to be free");
                            let both = had.min(len);
                            let copied = arena.copy(old, new, both);
                            prop_assert!(copied == 0 || copied == both);
                            prop_assert!(arena.bytes(new)[..both].iter().all(|b| *b == mark));
                            arena.bytes_mut(new).fill(mark);
                            held[which] = (new, mark, len);
                        }
                    }
                    _ => {}
                }
                let sum: usize = held.iter().map(|(block, ..)| arena.room(*block)).sum();
                prop_assert_eq!(arena.used(), sum);
                prop_assert!(sum <= budget);
                for (block, mark, _) in &held {
                    prop_assert!(arena.bytes(*block).iter().all(|byte| byte == mark));
                }
            }
        }
    }
}
