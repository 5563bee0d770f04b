//! Messages that end with one byte.
//!
//! Hops backwards: the last delimiter within `max + 1` bytes of the last boundary ends a run of
//! messages of which none can be too large, however many they are. None there, with as many bytes
//! present, is a message that is too large, exactly. Every byte is looked at once at most.

use memchr::{memchr, memrchr};

use super::ahead;
use super::cut::Cuts;
use super::{Limits, OversizePolicy, Partial};
use crate::close::DiscardReason;

pub(super) fn cut(
    delimiter: u8,
    limits: &Limits,
    partial: &mut Partial,
    staged: &[u8],
    fresh: &[u8],
    mut cuts: Cuts<'_>,
) -> usize {
    let seen = staged.len();
    let end = seen + fresh.len();
    // As it mostly is where peers write whole messages.
    if fresh.last() == Some(&delimiter) && end - 1 <= limits.max && !partial.is_skipping() {
        cuts.messages(0, end);
        cuts.rest(partial, end, end, 0);
        return 1;
    }
    let mut examined = 0;
    // Where the message begins that has not ended yet.
    let mut start = 0;
    // Between `start` and here is no delimiter.
    let mut known = seen;
    if partial.is_skipping() {
        let Some(at) = memchr(delimiter, fresh) else {
            cuts.discard(fresh.len(), 0, DiscardReason::Oversize);
            return fresh.len();
        };
        examined = at + 1;
        start = examined;
        known = start;
        cuts.discard(examined, 0, DiscardReason::Oversize);
    }
    let mut whole = start;
    loop {
        let reach = end.min(start.saturating_add(limits.max).saturating_add(1));
        if known < reach {
            if let Some(at) = memrchr(delimiter, &fresh[known - seen..reach - seen]) {
                start = known + at + 1;
                examined += reach - start + 1;
                known = reach;
                continue;
            }
            examined += reach - known;
            known = reach;
        }
        if reach - start <= limits.max {
            break;
        }

        cuts.messages(whole, start);
        let kept = match limits.oversize {
            OversizePolicy::Truncate => limits.max,
            OversizePolicy::Discard => 0,
            OversizePolicy::Close => {
                cuts.close(partial, end - start, DiscardReason::Oversize);
                return examined;
            }
        };
        cuts.truncated(start, start + kept);
        let Some(at) = memchr(delimiter, &fresh[known - seen..]) else {
            cuts.discard(end - start - kept, 1, DiscardReason::Oversize);
            *partial = Partial::SkipTo {
                tail: [0; 6],
                len: 0,
            };
            return examined + (end - known);
        };
        examined += at + 1;
        let next = known + at + 1;
        cuts.discard(next - start - kept, 1, DiscardReason::Oversize);
        (start, whole, known) = (next, next, next);
    }
    cuts.messages(whole, start);
    cuts.rest(partial, start, end, 0);
    examined
}

/// Bytes that are looked at as one.
const BLOCK: usize = 64;
/// As many messages in a row say of which size the next ones may be; in the beginning the first one alone does.
const FEW: usize = 4;
/// Below this size, on average, it is cheaper to look at blocks than to search for each delimiter by itself. Not if
/// they are all alike, and longer than a block: then a processor knows beforehand where each search ends.
const SHORT: usize = 120;
/// After so many bytes by blocks it is seen anew of which size they are.
const STRETCH: usize = 8192;

/// Folds the messages of `bytes`: one by one, and by blocks where they are short.
#[inline]
pub(super) fn fold<'b, B>(
    delimiter: u8,
    mut bytes: &'b [u8],
    init: B,
    mut f: impl FnMut(B, &'b [u8]) -> B,
) -> B {
    let mut all = init;
    let (mut few, mut came, mut before) = (1, 0, bytes.len());
    let (mut last, mut are_alike) = (None, true);
    while let Some(end) = memchr(delimiter, bytes) {
        all = f(all, &bytes[..end]);
        ahead::look(bytes);
        bytes = &bytes[end + 1..];
        came += 1;
        are_alike &= last.replace(end).is_none_or(|last| last == end);
        if came < few {
            continue;
        }
        let took = before - bytes.len();
        let dense = if are_alike { BLOCK } else { BLOCK * 3 / 4 };
        if took <= few * dense {
            (all, bytes) = fold_dense(delimiter, bytes, all, &mut f);
        } else if took < few * SHORT && !are_alike {
            (all, bytes) = fold_uneven(delimiter, bytes, all, &mut f);
        }
        (few, came, before) = (FEW, 0, bytes.len());
        (last, are_alike) = (None, true);
    }
    all
}

/// Folds messages of which a block has several, or each one: all its delimiters are found at once. Returns what is left,
/// from one that is longer than two blocks, or after two pages.
#[inline]
fn fold_dense<'b, B>(
    delimiter: u8,
    bytes: &'b [u8],
    init: B,
    mut f: impl FnMut(B, &'b [u8]) -> B,
) -> (B, &'b [u8]) {
    let mut all = init;
    let (mut start, mut at) = (0, 0);
    let (blocks, _) = bytes.as_chunks();
    for block in blocks.iter().take(STRETCH / BLOCK) {
        let mut ends = places(delimiter, block);
        if ends == 0 && at - start >= BLOCK {
            break;
        }
        while ends != 0 {
            let end = at + ends.trailing_zeros() as usize;
            all = f(all, &bytes[start..end]);
            start = end + 1;
            ends &= ends - 1;
        }
        ahead::look_at_page(bytes, at);
        at += BLOCK;
    }
    (all, &bytes[start..])
}

/// As many blocks are searched before what is in them is given.
const TOGETHER: usize = 16;
const SPAN: usize = TOGETHER * BLOCK;

/// Folds messages of which most blocks have one end or none. Which it is cannot be guessed where they are of all
/// sizes, so that nothing is decided by it: where the first one is, is written down in any case. Returns what is left,
/// once they are longer, or after two pages.
#[inline]
fn fold_uneven<'b, B>(
    delimiter: u8,
    bytes: &'b [u8],
    init: B,
    mut f: impl FnMut(B, &'b [u8]) -> B,
) -> (B, &'b [u8]) {
    let mut all = init;
    let (spans, _) = bytes.as_chunks::<SPAN>();
    if spans.is_empty() {
        return (all, bytes);
    }
    let mut ends = [0; SPAN];
    let (mut start, mut at) = (0, 0);
    for span in spans.iter().take(STRETCH / SPAN) {
        ahead::look_at_page(bytes, at);
        let came = find(delimiter, span, &mut ends);
        for &end in &ends[..came] {
            let end = at + usize::from(end);
            all = f(all, &bytes[start..end]);
            start = end + 1;
        }
        at += SPAN;
        if came * SHORT < SPAN {
            break;
        }
    }
    (all, &bytes[start..])
}

/// Writes down where in `span` the delimiters stand, and returns how many there are.
#[inline]
fn find(delimiter: u8, span: &[u8; SPAN], ends: &mut [u16; SPAN]) -> usize {
    let (blocks, _) = span.as_chunks();
    let mut came = 0;
    // There are no more ends than there is room for: the remainder only spares a look whether it is so.
    let mut note = |came: usize, end: u16| ends[came % SPAN] = end;
    for (at, block) in (0..).step_by(BLOCK).zip(blocks) {
        let mut left = places(delimiter, block);
        // None is as good as one at the end, which is not counted.
        note(came, at + (left | 1 << 63).trailing_zeros() as u16);
        came += usize::from(left != 0);
        left &= left.wrapping_sub(1);
        while left != 0 {
            note(came, at + left.trailing_zeros() as u16);
            came += 1;
            left &= left - 1;
        }
    }
    came
}

/// A bit for each delimiter, the lowest for the first byte.
fn places(delimiter: u8, block: &[u8; BLOCK]) -> u64 {
    let is_delimiter = block.map(|byte| u8::from(byte == delimiter));
    let (words, _) = is_delimiter.as_chunks();
    words.iter().rev().fold(0, |places, word| {
        // The factor brings the lowest bit of each byte to its place among the highest eight.
        let eight = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        places << 8 | eight
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is overlooked in a block is found one by one: nobody else would notice.
        #[test]
        fn every_delimiter_of_a_block_has_its_bit(
            block in prop::collection::vec(0u8..4, BLOCK),
            delimiter in 0u8..4,
            other in any::<u8>(),
        ) {
            let block: [u8; BLOCK] = block.try_into().unwrap();
            let block = block.map(|byte| byte ^ other);
            let delimiter = delimiter ^ other;
            let ends = (0..BLOCK).filter(|at| block[*at] == delimiter);
            let bits = ends.fold(0, |bits: u64, at| bits | 1 << at);
            prop_assert_eq!(places(delimiter, &block), bits);
        }
    }
    proptest! {
        /// As many in a stretch as there can be, too, and few enough for each way of walking.
        #[test]
        fn what_is_folded_ends_where_a_delimiter_is(
            stretches in prop::collection::vec((1_usize..300, 0_usize..3000), 1..8),
            seed in any::<u64>(),
        ) {
            let mut random = seed;
            let mut bytes = Vec::new();
            for (sparse, len) in stretches {
                for _ in 0..len {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let is_end = ((random >> 33) as usize).is_multiple_of(sparse);
                    bytes.push(if is_end { b'\n' } else { b'x' });
                }
            }
            let given = fold(b'\n', &bytes, Vec::new(), |mut all, message| {
                all.push(message);
                all
            });
            let mut whole: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            whole.pop();
            prop_assert_eq!(given, whole);
        }
    }
}
