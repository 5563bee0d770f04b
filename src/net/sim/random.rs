//! Chance, from a seed.
//!
//! In: one `u64`, or the bytes of a fuzzer. Out: the same numbers again. Never here: any other source of
//! chance.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// A generator of which one seed repeats every number (splitmix: Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    /// What is taken first, by whoever asks first, from the end; of no length when a seed decides all.
    script: Option<Rc<RefCell<Vec<u8>>>>,
}

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            script: None,
        }
    }

    /// From bytes, which this generator and its forks share: each choice takes one, and once there are
    /// none left, the seed decides, which the first eight are.
    #[cfg(feature = "fuzz")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (seed, script) = bytes.split_at(bytes.len().min(8));
        let mut eight = [0; 8];
        eight[..seed.len()].copy_from_slice(seed);
        let script = script.iter().rev().copied().collect();
        Self {
            state: u64::from_le_bytes(eight),
            script: Some(Rc::new(RefCell::new(script))),
        }
    }

    /// The next byte of the script, if there is one.
    fn scripted(&self) -> Option<usize> {
        let script = self.script.as_ref()?;
        script.borrow_mut().pop().map(usize::from)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        if let Some(byte) = self.scripted() {
            // A byte reaches all of a small range, and both ends of a large one.
            return if n <= 256 {
                byte % n
            } else {
                byte * (n - 1) / 255
            };
        }
        (self.any() % n as u64) as usize
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True so many times of 1,000.
    pub fn permille(&mut self, permille: u16) -> bool {
        if permille == 0 {
            return false;
        }
        if let Some(byte) = self.scripted() {
            // Zeros are quiet.
            return (255 - byte) * 1000 / 256 < usize::from(permille);
        }
        self.any() % 1000 < u64::from(permille)
    }

    /// One of them.
    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Another generator, of which this one's later numbers tell nothing.
    pub fn fork(&mut self) -> Self {
        Self {
            state: self.any(),
            script: self.script.clone(),
        }
    }
}
