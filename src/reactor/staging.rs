//! Parts of messages that wait for their rest.
//!
//! In: bytes of one connection's unfinished message. Out: the same bytes, together. A budget over all.
//! Never here: what a message is.
//!
//! Parts lie in an arena, in blocks that double as they grow, and are linked in the order in which their
//! messages began. The oldest holder of each ring may go beyond the budget, up to one largest message, in
//! a reserve that is its ring's: without that, holders wait for one another for ever, or for another
//! ring's consumer. It does so in small steps, because what a step reads beyond the end of its message is
//! the beginning of another one, which is not the oldest: so a smallest part for each connection may come
//! on top.

use slab::Slab;

use super::arena::{Arena, Block};
use super::slots::{self, Slice};
use super::wheel::NONE;

#[derive(Debug)]
pub(crate) struct Staging {
    parts: Slab<Part>,
    /// Those of the slab that were ever taken.
    entries: u32,
    arena: Arena,
    #[cfg(feature = "sim")]
    budget: usize,
    /// For each ring, where its oldest part lies if the arena has no place for it.
    reserves: Vec<Vec<u8>>,
    /// Bytes of parts that lie beside the arena.
    beside: usize,
    /// Bytes that are staged: what the books call staged.
    held: usize,
    /// The most bytes that one part can have.
    largest: usize,
    /// For each ring: its holders, in the order in which their messages began.
    orders: Vec<Order>,
    /// Room was given back, and nobody has been called for it.
    freed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Part {
    place: Place,
    len: usize,
    slot: u32,
    ring: u8,
    older: u32,
    newer: u32,
}

/// Where a part lies.
#[derive(Debug)]
enum Place {
    Arena(Block),
    /// Its ring's reserve.
    Reserve,
    /// A smallest part of its own.
    Own(Vec<u8>),
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
            entries: 0,
            arena: Arena::new(budget, largest),
            #[cfg(feature = "sim")]
            budget,
            reserves: vec![Vec::new(); rings],
            beside: 0,
            held: 0,
            largest,
            orders: vec![nobody; rings],
            freed: false,
        }
    }

    /// Charged bytes.
    pub(crate) fn used(&self) -> usize {
        self.arena.used() + self.beside
    }

    /// Staged bytes, without what their blocks leave unused.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The most that so many connections may ever use.
    #[cfg(feature = "sim")]
    pub(crate) fn most(&self, connections: usize) -> usize {
        let reserves = self.reserves.len() * self.arena.class(self.largest);
        self.budget + reserves + connections * self.arena.unit()
    }

    /// How much may be read at once, at most `want`, so that all that the read may leave over has a
    /// place: the part as it grows, or the beginning of a message behind its own. 0: nothing, for now.
    pub(crate) fn may_read(&self, key: PartKey, ring: u8, want: usize) -> usize {
        let part = self.parts.get(key as usize);
        let len = part.map_or(0, |part| part.len);
        let most = (len + want).min(self.largest);
        // As nearly always: no segment is looked at for that.
        if most <= self.arena.fresh() {
            return want;
        }
        let block = part.and_then(|part| match part.place {
            Place::Arena(block) => Some(block),
            Place::Reserve | Place::Own(_) => None,
        });
        let free = self.arena.largest_free(block);
        if self.arena.class(most) <= free {
            return want;
        }
        let oldest = self.orders[usize::from(ring)].oldest;
        let room = if oldest == NONE || oldest == key {
            free.max(self.arena.unit())
        } else {
            free.max(part.map_or(0, |part| self.room(part))) - len
        };
        room.min(want)
    }

    fn room(&self, part: &Part) -> usize {
        match &part.place {
            Place::Arena(block) => self.arena.room(*block),
            Place::Reserve => self.arena.class(self.largest),
            Place::Own(_) => self.arena.unit(),
        }
    }

    pub(crate) fn bytes(&self, key: PartKey) -> &[u8] {
        let Some(part) = self.parts.get(key as usize) else {
            return &[];
        };
        let bytes = match &part.place {
            Place::Arena(block) => self.arena.bytes(*block),
            Place::Reserve => &self.reserves[usize::from(part.ring)],
            Place::Own(bytes) => bytes,
        };
        &bytes[..part.len]
    }

    /// Adds to `slot`'s part, or begins one: at most what [`Staging::may_read`] allowed. Returns its key
    /// and the bytes that had to be moved to a larger block.
    pub(crate) fn append(
        &mut self,
        key: PartKey,
        slot: u32,
        ring: u8,
        fresh: &[u8],
    ) -> (PartKey, usize) {
        let (key, moved) = match key {
            NONE => (self.begin(slot, ring, fresh.len()), 0),
            key => (key, self.grow(key, fresh.len())),
        };
        let part = &mut self.parts[key as usize];
        let bytes = match &mut part.place {
            Place::Arena(block) => self.arena.bytes_mut(*block),
            Place::Reserve => &mut self.reserves[usize::from(part.ring)],
            Place::Own(bytes) => bytes,
        };
        bytes[part.len..part.len + fresh.len()].copy_from_slice(fresh);
        part.len += fresh.len();
        self.held += fresh.len();
        (key, moved)
    }

    fn begin(&mut self, slot: u32, ring: u8, len: usize) -> PartKey {
        let order = &mut self.orders[usize::from(ring)];
        let older = order.newest;
        let place = match self.arena.take(len) {
            Some(block) => Place::Arena(block),
            None => {
                let smallest = self.arena.unit();
                assert!(len <= smallest, "{len} bytes were not allowed");
                self.beside += smallest;
                Place::Own(vec![0; smallest])
            }
        };
        let key = self.parts.insert(Part {
            place,
            len: 0,
            slot,
            ring,
            older,
            newer: NONE,
        }) as PartKey;
        self.entries = self.entries.max(key + 1);
        match older {
            NONE => order.oldest = key,
            older => self.parts[older as usize].newer = key,
        }
        order.newest = key;
        key
    }

    /// Makes room for `more` bytes. Returns the bytes that had to be moved for it.
    fn grow(&mut self, key: PartKey, more: usize) -> usize {
        let part = &self.parts[key as usize];
        let len = part.len;
        if len + more <= self.room(part) {
            return 0;
        }
        let ring = usize::from(part.ring);
        // Its own block may be half of the one that it gets: so that is given back first.
        if let Place::Arena(old) = part.place {
            self.arena.give_back(old);
        }
        let part = &mut self.parts[key as usize];
        let Some(new) = self.arena.take(len + more) else {
            assert_eq!(
                self.orders[ring].oldest, key,
                "the oldest alone goes beyond"
            );
            let largest = self.arena.class(self.largest);
            let reserve = &mut self.reserves[ring];
            reserve.resize(largest, 0);
            self.beside += largest;
            match &part.place {
                Place::Arena(old) => {
                    self.freed = true;
                    reserve[..len].copy_from_slice(&self.arena.bytes(*old)[..len]);
                }
                Place::Own(bytes) => {
                    self.beside -= bytes.len();
                    reserve[..len].copy_from_slice(&bytes[..len]);
                }
                Place::Reserve => unreachable!("a reserve has room for the largest part"),
            }
            part.place = Place::Reserve;
            return len;
        };
        let moved = match &part.place {
            Place::Arena(old) => self.arena.copy(*old, new, len),
            Place::Own(bytes) => {
                self.beside -= bytes.len();
                self.arena.bytes_mut(new)[..len].copy_from_slice(&bytes[..len]);
                len
            }
            Place::Reserve => unreachable!("a reserve has room for the largest part"),
        };
        part.place = Place::Arena(new);
        self.freed |= moved > 0;
        moved
    }

    /// Gives a part up.
    pub(crate) fn release(&mut self, key: PartKey) {
        let Some(part) = self.parts.try_remove(key as usize) else {
            return;
        };
        self.freed = true;
        match part.place {
            Place::Arena(block) => self.arena.give_back(block),
            Place::Reserve => self.beside -= self.arena.class(self.largest),
            Place::Own(bytes) => self.beside -= bytes.len(),
        }
        self.held -= part.len;
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

    /// Was room given back since [`Staging::forget_freed`]: with a part, or where one lay before it grew?
    pub(crate) fn has_freed(&self) -> bool {
        self.freed
    }

    /// Whoever waits is called, or will look anew.
    pub(crate) fn forget_freed(&mut self) {
        self.freed = false;
    }

    /// The slots that hold parts: at most so many, from the part `from` on.
    pub(crate) fn holders(&self, from: PartKey, most: usize) -> Slice {
        let find = |key| Some(self.parts.get(key as usize)?.slot);
        slots::slice(from, most, self.entries, find)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: usize = 256;

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
    fn holders_are_found_in_slices_of_what_is_looked_at() {
        let mut staging = Staging::new(1 << 20, 4096, 1);
        let parts: Vec<_> = (0..100)
            .map(|slot| staging.append(NONE, slot, 0, b"begun").0)
            .collect();
        let slice = |staging: &Staging, from, most| {
            let Slice { keys, next, left } = staging.holders(from, most);
            (keys, next, left)
        };
        assert_eq!(slice(&staging, 0, 4), (vec![0, 1, 2, 3], Some(4), 0));
        assert_eq!(slice(&staging, 98, 4), (vec![98, 99], None, 2));
        parts[..99].iter().for_each(|part| staging.release(*part));
        assert_eq!(slice(&staging, 0, 2), (vec![], Some(64), 0));
        assert_eq!(slice(&staging, 64, 2), (vec![99], None, 0));
        assert_eq!(slice(&staging, 99, 1), (vec![99], None, 0));
        assert_eq!(slice(&staging, 100, 1), (vec![], None, 1));
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
        assert!(!staging.has_freed());
        staging.append(oldest, 0, 0, &[1; 512]);
        assert!(staging.has_freed(), "its place is to be had");
        let (third, _) = staging.append(NONE, 2, 0, &[3; 512]);
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
