//! Parts of messages that wait for their rest.
//!
//! In: bytes of one connection's unfinished message. Out: the same bytes, together. A budget over all.
//! Never here: what a message is.
//!
//! Buffers grow by size class (256 B, doubling), are charged by class, and are linked in the order in
//! which their messages began. The oldest holder of each ring may go beyond the budget, up to one largest
//! message: without that, holders wait for one another for ever, or for another ring's consumer. It does
//! so in small steps, because what a step
//! reads beyond the end of its message is the beginning of another one, which is not the oldest: so a
//! smallest part for each connection may come on top.

use slab::Slab;

use super::wheel::NONE;

/// The smallest part, and the step of who goes beyond the budget.
pub(crate) const SMALLEST: usize = 256;

#[derive(Debug)]
pub(crate) struct Staging {
    parts: Slab<Part>,
    budget: usize,
    used: usize,
    /// Bytes that are staged: what the books call staged.
    held: usize,
    /// The most bytes that one part can have.
    largest: usize,
    /// For each ring: its holders, in the order in which their messages began.
    orders: Vec<Order>,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    slot: u32,
    ring: u8,
    older: u32,
    newer: u32,
}

/// A connection's part; [`NONE`] where there is none.
pub(crate) type PartKey = u32;

impl Staging {
    pub(crate) fn new(budget: usize, largest: usize, rings: usize) -> Self {
        let nobody = Order {
            oldest: NONE,
            newest: NONE,
        };
        Self {
            parts: Slab::new(),
            budget,
            used: 0,
            held: 0,
            largest,
            orders: vec![nobody; rings],
        }
    }

    fn class(&self, len: usize) -> usize {
        len.next_power_of_two()
            .max(SMALLEST)
            .min(self.largest.max(SMALLEST))
    }

    /// Charged bytes.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Staged bytes, without what their classes leave unused.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The most that so many connections may ever use.
    #[cfg(feature = "sim")]
    pub(crate) fn most(&self, connections: usize) -> usize {
        self.budget + self.orders.len() * self.class(self.largest) + connections * SMALLEST
    }

    /// How much may be read at once, at most `want`, so that all that the read may leave over has a
    /// place: the part as it grows, or the beginning of a message behind its own. 0: nothing, for now.
    pub(crate) fn may_read(&self, key: PartKey, ring: u8, want: usize) -> usize {
        let part = self.parts.get(key as usize);
        let (len, held) = part.map_or((0, 0), |part| (part.bytes.len(), part.bytes.capacity()));
        let free = self.budget.saturating_sub(self.used - held);
        if self.class((len + want).min(self.largest)) <= free {
            return want;
        }
        // The largest class that still fits.
        let mut fits = 0;
        let mut class = SMALLEST;
        while class <= free {
            fits = class;
            class *= 2;
        }
        let oldest = self.orders[usize::from(ring)].oldest;
        let most = if oldest == NONE || oldest == key {
            fits.max(SMALLEST)
        } else {
            fits.max(held) - len
        };
        most.min(want)
    }

    pub(crate) fn bytes(&self, key: PartKey) -> &[u8] {
        self.parts.get(key as usize).map_or(&[], |part| &part.bytes)
    }

    /// Adds to `slot`'s part, or begins one. Returns its key and the bytes that had to be moved to a
    /// larger class.
    pub(crate) fn append(
        &mut self,
        key: PartKey,
        slot: u32,
        ring: u8,
        fresh: &[u8],
    ) -> (PartKey, usize) {
        let key = match key {
            NONE => self.begin(slot, ring),
            key => key,
        };
        let len = self.parts[key as usize].bytes.len() + fresh.len();
        let class = self.class(len).max(len);
        let part = &mut self.parts[key as usize];
        let held = part.bytes.capacity();
        let mut moved = 0;
        if class > held {
            let mut larger = Vec::with_capacity(class);
            larger.extend_from_slice(&part.bytes);
            moved = part.bytes.len();
            part.bytes = larger;
            self.used = self.used - held + self.parts[key as usize].bytes.capacity();
        }
        self.parts[key as usize].bytes.extend_from_slice(fresh);
        self.held += fresh.len();
        (key, moved)
    }

    fn begin(&mut self, slot: u32, ring: u8) -> PartKey {
        let order = &mut self.orders[usize::from(ring)];
        let older = order.newest;
        let key = self.parts.insert(Part {
            bytes: Vec::new(),
            slot,
            ring,
            older,
            newer: NONE,
        }) as PartKey;
        match older {
            NONE => order.oldest = key,
            older => self.parts[older as usize].newer = key,
        }
        order.newest = key;
        key
    }

    /// Gives a part up.
    pub(crate) fn release(&mut self, key: PartKey) {
        let Some(part) = self.parts.try_remove(key as usize) else {
            return;
        };
        self.used -= part.bytes.capacity();
        self.held -= part.bytes.len();
        let order = &mut self.orders[usize::from(part.ring)];
        match part.older {
            NONE => order.oldest = part.newer,
            older => self.parts[older as usize].newer = part.newer,
        }
        match part.newer {
            NONE => order.newest = part.older,
            newer => self.parts[newer as usize].older = part.older,
        }
    }

    /// The slots that hold parts.
    pub(crate) fn holders(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts.iter().map(|(_, part)| part.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_grows_by_class_and_gives_everything_back() {
        let mut staging = Staging::new(1 << 20, 65_536, 1);
        let (key, _) = staging.append(NONE, 7, 0, b"hello ");
        let (same, _) = staging.append(key, 7, 0, &[b'x'; 300]);
        assert_eq!(key, same);
        assert_eq!(staging.bytes(key).len(), 306);
        assert_eq!(staging.used(), 512);
        staging.release(key);
        assert_eq!(staging.used(), 0);
        assert_eq!(staging.bytes(key), b"");
    }

    #[test]
    fn byte_by_byte_moves_each_byte_at_most_once_more() {
        let mut staging = Staging::new(1 << 20, 65_536, 1);
        let (mut key, mut moved) = (NONE, 0);
        for _ in 0..65_536 {
            let (k, m) = staging.append(key, 0, 0, b"x");
            key = k;
            moved += m;
        }
        assert!(moved <= 65_536, "{moved}");
    }

    #[test]
    fn only_the_oldest_holder_goes_beyond_the_budget() {
        let mut staging = Staging::new(1024, 4096, 2);
        let (oldest, _) = staging.append(NONE, 0, 0, &[1; 512]);
        let (younger, _) = staging.append(NONE, 1, 0, &[2; 500]);
        assert_eq!(
            staging.may_read(younger, 0, 4096),
            12,
            "the budget is spent"
        );
        assert_eq!(
            staging.may_read(NONE, 0, 4096),
            0,
            "and nobody else may begin"
        );
        assert_eq!(
            staging.may_read(NONE, 1, 4096),
            SMALLEST,
            "but in another ring"
        );
        assert_eq!(
            staging.may_read(oldest, 0, 4096),
            512,
            "by steps that would fit as a part of their own"
        );
        staging.append(oldest, 0, 0, &[1; 512]);
        let (third, _) = staging.append(NONE, 2, 0, &[3; 256]);
        assert_eq!(staging.may_read(third, 0, 4096), 0);
        assert_eq!(
            staging.may_read(oldest, 0, 4096),
            SMALLEST,
            "by the smallest, where none would"
        );
        staging.release(oldest);
        assert_eq!(
            staging.may_read(younger, 0, 4096),
            512,
            "the next in age takes its place"
        );
    }
}
