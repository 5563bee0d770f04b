//! Chance, from a seed.
//!
//! In: one `u64`. Out: the same numbers again. Never here: any other source of chance.

use std::ops::RangeInclusive;

/// A generator of which one seed repeats every number (splitmix: Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.any() % n as u64) as usize
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True so many times of 1,000.
    pub fn permille(&mut self, permille: u16) -> bool {
        permille > 0 && self.any() % 1000 < u64::from(permille)
    }

    /// One of them.
    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Another generator, of which this one's later numbers tell nothing.
    pub fn fork(&mut self) -> Self {
        Self(self.any())
    }
}
