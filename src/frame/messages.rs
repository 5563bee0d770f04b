//! The consumer's side: the messages in bytes that the reactor cut.

use std::fmt;
use std::iter::FusedIterator;

use memchr::{memchr, memchr_iter};

use super::counted::Last;
use super::{Framing, ahead, delimited, fold, split};

/// The messages of a record, without their marks.
///
/// To count them is cheaper than to walk through them: [`Iterator::count`] of a framing with delimiters only
/// counts these. [`Iterator::for_each`] and [`Iterator::fold`] walk faster than a loop does, above all through
/// short messages, whose delimiters are found many at once.
#[derive(Clone)]
pub struct MessageIter<'b> {
    /// What was not given yet, marks included.
    bytes: &'b [u8],
    /// How many bytes there were in the beginning.
    whole: usize,
    marks: Marks<'b>,
}

/// How the messages are marked.
#[derive(Clone)]
enum Marks<'b> {
    /// They are not: the bytes are one message, given once.
    Bare { given: bool },
    /// By this byte behind each.
    Delimiter(u8),
    /// In any other way.
    Other { framing: &'b Framing, last: Last },
}

impl<'b> MessageIter<'b> {
    /// Through messages with their marks.
    pub(crate) fn new(framing: &'b Framing, bytes: &'b [u8]) -> Self {
        let marks = match framing.delimiter() {
            Some(delimiter) => Marks::Delimiter(delimiter),
            None => Marks::Other {
                framing,
                last: Last::default(),
            },
        };
        Self::with(marks, bytes)
    }

    /// Through a single message that has none.
    pub(crate) fn bare(bytes: &'b [u8]) -> Self {
        Self::with(Marks::Bare { given: false }, bytes)
    }

    fn with(marks: Marks<'b>, bytes: &'b [u8]) -> Self {
        let whole = bytes.len();
        Self {
            bytes,
            whole,
            marks,
        }
    }

    /// How many bytes of [`Messages::raw`](crate::Messages::raw) the messages took that were given so
    /// far, marks included: a place for [`Messages::mark_within`](crate::Messages::mark_within).
    pub fn taken(&self) -> usize {
        self.whole - self.bytes.len()
    }
}

impl<'b> Iterator for MessageIter<'b> {
    type Item = &'b [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        let (message, after) = match &mut self.marks {
            Marks::Delimiter(delimiter) => {
                let end = memchr(*delimiter, self.bytes)?;
                ahead::look(self.bytes);
                (&self.bytes[..end], &self.bytes[end + 1..])
            }
            Marks::Other { framing, last } => split(framing, last, self.bytes)?,
            Marks::Bare { given: true } => return None,
            Marks::Bare { given } => {
                *given = true;
                self.bytes.split_at(self.bytes.len())
            }
        };
        self.bytes = after;
        Some(message)
    }

    #[inline]
    fn fold<B, F: FnMut(B, &'b [u8]) -> B>(self, init: B, mut f: F) -> B {
        match self.marks {
            Marks::Delimiter(delimiter) => delimited::fold(delimiter, self.bytes, init, f),
            Marks::Other { framing, .. } => fold(framing, self.bytes, init, f),
            Marks::Bare { given: true } => init,
            Marks::Bare { given: false } => f(init, self.bytes),
        }
    }

    fn count(self) -> usize {
        match self.marks {
            Marks::Delimiter(delimiter) => memchr_iter(delimiter, self.bytes).count(),
            Marks::Other { .. } | Marks::Bare { .. } => self.fold(0, |count, _| count + 1),
        }
    }
}

impl FusedIterator for MessageIter<'_> {}

impl fmt::Debug for MessageIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
