//! How much of a connection is read at once.
//!
//! In: what reads brought. Out: the size of the next one. Never here: what there is room for.

/// A read that is filled is followed by a larger one; two in a row that bring less than a quarter, by a
/// smaller one. A fixed size of 64 KiB was measured to thrash against the ring's room. The largest takes all
/// that a default receive buffer holds (some 92 KiB), so that a connection that is behind is read by one call.
pub(crate) const READ_SIZES: [usize; 6] =
    [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, LARGEST_READ];

/// The most that is read at once.
pub(crate) const LARGEST_READ: usize = 128 << 10;

/// A place in [`READ_SIZES`], and in the lowest bit whether the last read brought little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadSize(u8);

impl ReadSize {
    pub(crate) const FIRST: Self = Self::of(2);

    const fn of(place: usize) -> Self {
        Self((place as u8) << 1)
    }

    fn place(self) -> usize {
        usize::from(self.0 >> 1)
    }

    pub(crate) fn bytes(self) -> usize {
        READ_SIZES[self.place()]
    }

    /// After a read of `read` bytes, where `asked` were asked for.
    pub(crate) fn after(self, read: usize, asked: usize) -> Self {
        let bytes = self.bytes();
        let brought_little = self.0 & 1 != 0;
        if read == bytes {
            Self::of((self.place() + 1).min(READ_SIZES.len() - 1))
        } else if asked < bytes || read >= bytes / 4 {
            Self::of(self.place())
        } else if brought_little {
            Self::of(self.place().saturating_sub(1))
        } else {
            Self(self.0 | 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read at once, after reads that brought so much of what was asked for.
    fn after(reads: &[usize]) -> usize {
        let read = |size: ReadSize, read: &usize| size.after(*read, size.bytes());
        reads.iter().fold(ReadSize::FIRST, read).bytes()
    }

    #[test]
    fn full_reads_grow_and_two_small_ones_shrink() {
        assert_eq!(after(&[]), 16 << 10);
        assert_eq!(after(&[16 << 10]), 32 << 10);
        assert_eq!(after(&[16 << 10, 32 << 10, 64 << 10]), 128 << 10);
        assert_eq!(after(&[16 << 10, 32 << 10, 64 << 10, 128 << 10]), 128 << 10);
        assert_eq!(after(&[1]), 16 << 10);
        assert_eq!(after(&[1, 1]), 8 << 10);
        assert_eq!(after(&[1, 4 << 10, 1]), 16 << 10, "not in a row");
        assert_eq!(after(&[1, 1, 1]), 8 << 10, "two each time");
        assert_eq!(after(&[1; 9]), 4 << 10);
    }

    #[test]
    fn who_was_not_asked_for_all_says_nothing_by_bringing_little() {
        let size = ReadSize::FIRST.after(1, 16 << 10);
        assert_eq!(size.after(1, 8 << 10).after(1, 16 << 10).bytes(), 16 << 10);
        assert_eq!(size.after(8 << 10, 8 << 10).bytes(), 16 << 10);
    }
}
