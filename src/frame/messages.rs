//! The consumer's side: the messages in bytes that the reactor cut.

use std::fmt;
use std::iter::FusedIterator;

use super::counted::Last;
use super::{Framing, split};

/// The messages of a record, without their marks. Counting them is cheaper than walking through them:
/// [`Iterator::count`] of a framing with delimiters only counts these.
#[derive(Clone)]
pub struct MessageIter<'b> {
    bytes: &'b [u8],
    marks: Marks<'b>,
}

/// How the messages are marked.
#[derive(Clone)]
enum Marks<'b> {
    /// They are not: the bytes are one message, given once.
    Bare { given: bool },
    /// By delimiters, of which memchr finds one after the other without starting anew each time.
    Delimiters {
        ends: memchr::Memchr<'b>,
        start: usize,
    },
    /// In any other way; there were so many bytes in the beginning.
    Other {
        framing: &'b Framing,
        last: Last,
        whole: usize,
    },
}

impl<'b> MessageIter<'b> {
    /// Through messages with their marks.
    pub(crate) fn new(framing: &'b Framing, bytes: &'b [u8]) -> Self {
        let marks = match framing.delimiter() {
            Some(delimiter) => Marks::Delimiters {
                ends: memchr::memchr_iter(delimiter, bytes),
                start: 0,
            },
            None => Marks::Other {
                framing,
                last: Last::default(),
                whole: bytes.len(),
            },
        };
        Self { bytes, marks }
    }

    /// Through a single message that has none.
    pub(crate) fn bare(bytes: &'b [u8]) -> Self {
        let marks = Marks::Bare { given: false };
        Self { bytes, marks }
    }

    /// How many bytes of [`Messages::raw`](crate::Messages::raw) the messages took that were given so
    /// far, marks included: a place for [`Messages::mark_within`](crate::Messages::mark_within).
    pub fn taken(&self) -> usize {
        match &self.marks {
            Marks::Bare { given: false } => 0,
            Marks::Bare { given: true } => self.bytes.len(),
            Marks::Delimiters { start, .. } => *start,
            Marks::Other { whole, .. } => whole - self.bytes.len(),
        }
    }
}

impl<'b> Iterator for MessageIter<'b> {
    type Item = &'b [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        match &mut self.marks {
            Marks::Delimiters { ends, start } => {
                let end = ends.next()?;
                let message = &self.bytes[*start..end];
                *start = end + 1;
                Some(message)
            }
            Marks::Other { framing, last, .. } => {
                let (message, after) = split(framing, last, self.bytes)?;
                self.bytes = after;
                Some(message)
            }
            Marks::Bare { given } => {
                let first = !std::mem::replace(given, true);
                first.then_some(self.bytes)
            }
        }
    }

    #[inline]
    fn fold<B, F: FnMut(B, &'b [u8]) -> B>(self, init: B, mut f: F) -> B {
        let mut all = init;
        if let Marks::Delimiters { ends, mut start } = self.marks {
            for end in ends {
                all = f(all, &self.bytes[start..end]);
                start = end + 1;
            }
            return all;
        }
        for message in self {
            all = f(all, message);
        }
        all
    }

    fn count(self) -> usize {
        match self.marks {
            Marks::Delimiters { ends, .. } => ends.count(),
            Marks::Bare { given } => usize::from(!given),
            Marks::Other { .. } => self.fold(0, |count, _| count + 1),
        }
    }
}

impl FusedIterator for MessageIter<'_> {}

impl fmt::Debug for MessageIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
