//! Framings as an embedder would write them: for tests and fuzzers.
//!
//! In: bytes. Out: where messages end. Never here: one that is wrong.

use super::{Framer, Scan};

/// Messages end with these bytes: two, or as many as a delimiter can have and be found again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until(&'static [u8]);

pub(crate) const CRLF: Until = Until(b"\r\n");
#[cfg(test)]
pub(crate) const SEVEN: Until = Until(b"<-end->");

impl Until {
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        bytes.windows(self.0.len()).position(|few| few == self.0)
    }

    /// So many bytes at the end of `open` may be the beginning of the delimiter.
    fn begun(&self, open: &[u8]) -> usize {
        let is_begun = |n: &usize| open.ends_with(&self.0[..*n]);
        (1..self.0.len()).rev().find(is_begun).unwrap_or(0)
    }
}

impl Framer for Until {
    fn scan(&self, staged: &[u8], fresh: &[u8], max: usize) -> Scan {
        let bytes = [staged, fresh].concat();
        let (mut start, mut end) = (0, 0);
        loop {
            let open = &bytes[start..];
            let found = self.find(open);
            let size = found.unwrap_or_else(|| open.len() - self.begun(open));
            if size > max {
                return Scan::Oversize {
                    end,
                    prefix: 0,
                    size: None,
                };
            }
            if found.is_none() {
                return Scan::Whole { end, need: 0 };
            }
            start += size + self.0.len();
            end = start - staged.len();
        }
    }

    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let at = self.find(bytes)?;
        Some((&bytes[..at], &bytes[at + self.0.len()..]))
    }

    fn resync(&self, tail: &[u8], fresh: &[u8]) -> Option<usize> {
        let bytes = [tail, fresh].concat();
        Some(self.find(&bytes)? + self.0.len() - tail.len())
    }

    fn delivers_unterminated(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        match self.0 {
            b"\r\n" => "crlf",
            _ => "until",
        }
    }
}

/// One byte says how many follow, and never none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct U8;

impl Framer for U8 {
    fn scan(&self, staged: &[u8], fresh: &[u8], max: usize) -> Scan {
        let bytes = [staged, fresh].concat();
        let (mut start, mut end) = (0, 0);
        while let Some(size) = bytes.get(start).map(|size| usize::from(*size)) {
            if size == 0 {
                return Scan::Invalid { end };
            }
            if size > max {
                return Scan::Oversize {
                    end,
                    prefix: 1,
                    size: Some(size),
                };
            }
            if bytes.len() - start < 1 + size {
                return Scan::Whole {
                    end,
                    need: 1 + size,
                };
            }
            start += 1 + size;
            end = start - staged.len();
        }
        Scan::Whole { end, need: 0 }
    }

    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let (size, after) = bytes.split_first()?;
        after.split_at_checked(usize::from(*size))
    }

    fn resync(&self, _tail: &[u8], _fresh: &[u8]) -> Option<usize> {
        unreachable!("its sizes are known")
    }

    fn delivers_unterminated(&self) -> bool {
        false
    }

    fn name(&self) -> &str {
        "u8"
    }
}
