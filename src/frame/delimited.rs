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

/// Folds the messages of `bytes`. After two short ones in a row more are likely: as long as blocks have delimiters,
/// all of a block are found at once, and none is searched for anew. After one alone they are not: where short and
/// long ones take turns, blocks would be looked at in vain.
#[inline]
pub(super) fn fold<'b, B>(
    delimiter: u8,
    mut bytes: &'b [u8],
    init: B,
    mut f: impl FnMut(B, &'b [u8]) -> B,
) -> B {
    let mut all = init;
    let mut is_short = true;
    while let Some(end) = memchr(delimiter, bytes) {
        all = f(all, &bytes[..end]);
        ahead::look(bytes, end + 1);
        bytes = &bytes[end + 1..];
        let was_short = std::mem::replace(&mut is_short, end < BLOCK);
        if !(was_short && is_short) {
            continue;
        }

        let (blocks, _) = bytes.as_chunks();
        let (mut start, mut at) = (0, 0);
        for block in blocks {
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
        bytes = &bytes[start..];
        is_short = false;
    }
    all
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
}
