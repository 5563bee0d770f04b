//! What a fuzzer's bytes are read as.
//!
//! In: bytes. Out: small values, zeros when the bytes are at their end; text. Never here: a value that is
//! refused.

#[derive(Clone, Debug)]
pub(super) struct Input<'d>(&'d [u8]);

impl<'d> Input<'d> {
    pub(super) fn new(data: &'d [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below `n`, which is at most 256.
    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub(super) fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'d [u8] {
        self.0
    }
}

/// Text from bytes: what can be typed is itself, and any other byte is a word, so that a fuzzer need not
/// spell them.
pub fn text(data: &[u8], words: &[&str]) -> String {
    let mut text = String::new();
    for byte in data {
        match byte {
            b'\n' | b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(words[usize::from(*other) % words.len()]),
        }
    }
    text
}
