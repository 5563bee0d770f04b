//! Messages that begin with their size. Hops from prefix to prefix.

use super::cut::Cuts;
use super::{Limits, OversizePolicy, Partial, fold_parts};
use crate::close::DiscardReason;

/// Digits of the largest count that RFC 6587's octet counting can carry here, u32's largest.
pub(super) const OCTET_DIGITS: usize = 10;

/// Bytes of the longest prefix: ten digits and a space.
const LONGEST_PREFIX: usize = OCTET_DIGITS + 1;

/// What a message's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Not enough of them.
    Short,
    /// No legal count, whatever follows.
    Invalid,
    /// After `len` bytes of prefix come `size` of message.
    Is { len: usize, size: u32 },
}

/// A message, and what comes after it.
type Parts<'b> = (&'b [u8], &'b [u8]);

/// Messages that begin with the same prefix. One comparison says whether the next one does, and the processor goes on
/// to the one after it without waiting for what the bytes mean: a size that has to be worked out first makes each
/// message wait for the one before.
#[derive(Clone, Copy, Debug)]
struct Alike {
    word: u64,
    mask: u64,
    len: usize,
    whole: usize,
}

impl Alike {
    /// As the one at the beginning of `bytes`, with so long a prefix and of this size.
    fn new(bytes: &[u8], (len, size): (usize, usize)) -> Option<Self> {
        let unused = size_of::<u64>().checked_sub(len)?;
        let mask = u64::MAX >> (8 * unused);
        let word = u64::from_le_bytes(*bytes.first_chunk()?) & mask;
        let whole = len + size;
        Some(Self {
            word,
            mask,
            len,
            whole,
        })
    }

    #[inline]
    fn split<'b>(&self, bytes: &'b [u8]) -> Option<Parts<'b>> {
        let word = u64::from_le_bytes(*bytes.first_chunk()?);
        if word & self.mask != self.word {
            return None;
        }
        let (message, after) = bytes.split_at_checked(self.whole)?;
        Some((&message[self.len..], after))
    }
}

/// The last message, by its prefix's length and its size. Neighbours are often alike.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    seen: Option<(usize, usize)>,
    alike: Option<Alike>,
}

impl Last {
    /// The message at the beginning of `bytes`, and what comes after it, if it is whole.
    #[inline]
    pub(super) fn split<'b>(
        &mut self,
        prefix: impl Fn(&[u8]) -> Prefix,
        bytes: &'b [u8],
    ) -> Option<Parts<'b>> {
        if let Some(parts) = self.alike.and_then(|alike| alike.split(bytes)) {
            return Some(parts);
        }
        let (len, parts) = split(prefix, usize::MAX, bytes)?;
        let seen = (len, parts.0.len());
        self.alike = match self.seen.replace(seen) == Some(seen) {
            true => Alike::new(bytes, seen),
            false => None,
        };
        Some(parts)
    }
}

/// The length of the first prefix, its message, and what comes after, if it is whole and no larger than `max`.
#[inline]
fn split(prefix: impl Fn(&[u8]) -> Prefix, max: usize, bytes: &[u8]) -> Option<(usize, Parts<'_>)> {
    match prefix(bytes) {
        Prefix::Is { len, size } if size as usize <= max => {
            Some((len, bytes[len..].split_at_checked(size as usize)?))
        }
        _ => None,
    }
}

/// `MSG-LEN SP`, where `MSG-LEN = NONZERO-DIGIT *DIGIT` (RFC 6587, 3.4.1).
pub(super) fn octet(bytes: &[u8]) -> Prefix {
    let mut size = 0_u64;
    for (at, byte) in bytes.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return match u32::try_from(size) {
                Ok(size) if *byte == b' ' && at > 0 => Prefix::Is { len: at + 1, size },
                _ => Prefix::Invalid,
            };
        }
        size = size * 10 + u64::from(digit);
        // No zero in front. And no need to wait for the space: more digits make it no smaller.
        if size == 0 || size > u64::from(u32::MAX) {
            return Prefix::Invalid;
        }
    }
    Prefix::Short
}

/// A big-endian u16.
pub(super) fn u16(bytes: &[u8]) -> Prefix {
    bytes
        .first_chunk()
        .map_or(Prefix::Short, |count| Prefix::Is {
            len: 2,
            size: u16::from_be_bytes(*count).into(),
        })
}

/// A big-endian u32.
pub(super) fn u32(bytes: &[u8]) -> Prefix {
    bytes
        .first_chunk()
        .map_or(Prefix::Short, |count| Prefix::Is {
            len: 4,
            size: u32::from_be_bytes(*count),
        })
}

/// LEB128, at most five bytes. Zeros at its end are legal, as protobuf's own readers take them.
pub(super) fn varint(bytes: &[u8]) -> Prefix {
    let mut size = 0_u32;
    for (at, byte) in bytes.iter().enumerate() {
        // The fifth byte has u32's upper four bits, and none may follow it.
        if at == 4 && *byte > 0x0f {
            return Prefix::Invalid;
        }
        size |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Prefix::Is { len: at + 1, size };
        }
    }
    Prefix::Short
}

pub(super) fn cut(
    prefix: impl Fn(&[u8]) -> Prefix,
    limits: &Limits,
    partial: &mut Partial,
    staged: &[u8],
    fresh: &[u8],
    mut cuts: Cuts<'_>,
) -> usize {
    let seen = staged.len();
    let end = seen + fresh.len();
    let mut examined = 0;
    let mut start = 0;
    match *partial {
        Partial::SkipCount(left) => start = cuts.skip(partial, left as usize, end, 0),
        // A peer that sends byte by byte costs nothing here until its message is whole.
        Partial::Message { need } if end < need as usize => {
            cuts.rest(partial, 0, end, need as usize);
            return 0;
        }
        _ => {}
    }
    if partial.is_skipping() {
        return 0;
    }
    let mut whole = start;
    // Bytes that the message at `start` needs; 0: its prefix does not say yet.
    let mut need = 0;
    while start < end {
        // All that are whole; only the first message of a read can have its prefix in both parts.
        if start >= seen {
            let add = |sum, message: &[u8]| sum + message.len();
            let (messages, rest) = fold(&prefix, limits.max, &fresh[start - seen..], 0, add);
            examined += end - rest.len() - start - messages;
            start = end - rest.len();
        }
        let mut joined = [0; LONGEST_PREFIX];
        let (len, size) = match prefix(head(staged, fresh, start, &mut joined)) {
            Prefix::Is { len, size } => (len, size as usize),
            Prefix::Short => {
                examined += end - start;
                break;
            }
            Prefix::Invalid => {
                cuts.messages(whole, start);
                cuts.close(partial, end - start, DiscardReason::Protocol);
                return examined + LONGEST_PREFIX.min(end - start);
            }
        };
        examined += len;
        let present = end - start - len;
        if size <= limits.max {
            if size <= present {
                start += len + size;
                continue;
            }
            need = len + size;
            break;
        }

        match limits.oversize {
            OversizePolicy::Truncate if present < limits.max => {
                need = len + limits.max;
                break;
            }
            OversizePolicy::Truncate => {
                cuts.messages(whole, start);
                cuts.discard(len, 1, DiscardReason::Oversize);
                let body = start + len;
                start = body + limits.max;
                cuts.truncated(body, start);
                start += cuts.skip(partial, size - limits.max, end - start, 0);
            }
            OversizePolicy::Discard => {
                cuts.messages(whole, start);
                cuts.discard(len, 1, DiscardReason::Oversize);
                start += len;
                start += cuts.skip(partial, size, present, 0);
            }
            OversizePolicy::Close => {
                cuts.messages(whole, start);
                cuts.close(partial, end - start, DiscardReason::Oversize);
                return examined;
            }
        }
        if partial.is_skipping() {
            return examined;
        }
        whole = start;
    }
    cuts.messages(whole, start);
    cuts.rest(partial, start, end, need);
    examined
}

/// The bytes from `start` on, at least as many as the longest prefix has if they are there. Only the
/// first message of a read can have its prefix in both parts.
fn head<'a>(
    staged: &[u8],
    fresh: &'a [u8],
    start: usize,
    joined: &'a mut [u8; LONGEST_PREFIX],
) -> &'a [u8] {
    let Some(before) = staged.get(start..).filter(|before| !before.is_empty()) else {
        return &fresh[start - staged.len()..];
    };
    let old = before.len().min(LONGEST_PREFIX);
    let new = fresh.len().min(LONGEST_PREFIX - old);
    joined[..old].copy_from_slice(&before[..old]);
    joined[old..old + new].copy_from_slice(&fresh[..new]);
    &joined[..old + new]
}

/// Folds the whole messages at the beginning of `bytes`, as far as none is larger than `max`, and says what
/// comes after them. Only after two that are alike the next ones are compared with them.
#[inline]
pub(super) fn fold<'b, B>(
    prefix: impl Fn(&[u8]) -> Prefix,
    max: usize,
    mut bytes: &'b [u8],
    init: B,
    mut f: impl FnMut(B, &'b [u8]) -> B,
) -> (B, &'b [u8]) {
    let mut all = init;
    let mut last = None;
    while let Some((len, (message, after))) = split(&prefix, max, bytes) {
        all = f(all, message);
        let seen = (len, message.len());
        let begins = std::mem::replace(&mut bytes, after);
        if last.replace(seen) == Some(seen)
            && let Some(alike) = Alike::new(begins, seen)
        {
            (all, bytes) = fold_parts(bytes, all, &mut f, |rest| alike.split(rest));
        }
    }
    (all, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams of few bits besides the two prefixes, so that one is soon taken for another if anything is.
    #[test]
    fn only_the_same_prefix_is_taken_for_the_last() {
        for first in 0..0x80 {
            for (second, more) in (0..=u8::MAX).flat_map(|byte| [(byte, 0), (byte, 1)]) {
                let size = usize::from(first);
                let one = [&[first][..], &vec![0; size]].concat();
                let third = [&[second, more][..], &[0; 300]].concat();
                let bytes = [&one[..], &one, &third].concat();
                // Two that are alike are what the third is compared with.
                let mut last = Last::default();
                let (message, rest) = last.split(varint, &bytes).unwrap();
                assert_eq!(message, &one[1..]);
                assert_eq!(last.split(varint, rest), Some((message, &third[..])));
                let alone = Last::default().split(varint, &third);
                assert_eq!(last.split(varint, &third), alone, "{first} {second} {more}");
            }
        }
    }
    #[test]
    fn a_prefix_that_is_not_seen_in_one_look_is_compared_with_none() {
        assert!(Alike::new(b"1000000 x", (8, 1_000_000)).is_some());
        assert!(Alike::new(b"10000000 x", (9, 10_000_000)).is_none());
        assert!(
            Alike::new(b"4 abcde", (2, 4)).is_none(),
            "too near to the end"
        );
    }
}
