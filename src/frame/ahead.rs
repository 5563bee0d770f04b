//! Memory that will be walked through soon is asked for before.
//!
//! In: how far a walk through messages has got. Out: nothing. Never here: a byte that matters.
//!
//! What another thread has just written is in the cache of its core. A processor fetches ahead by itself where
//! bytes are only searched; where each search ends after a few of them it falls behind, and every message waits
//! for its own. To look at a byte, whatever it is, asks for all of its line.

use std::hint::black_box;

/// How far ahead: as much as is walked through while memory answers.
const AHEAD: usize = 2048;
const LINE: usize = 64;
/// No processor fetches ahead beyond the end of one.
const PAGE: usize = 4096;

/// A walk message by message has come to `bytes`. As many lines are asked for each time, since how many a message has
/// would have to be guessed; of a longer one a processor fetches the rest by itself.
#[inline]
pub(super) fn look(bytes: &[u8]) {
    for line in 0..4 {
        black_box(bytes.get(AHEAD + line * LINE).copied());
    }
}

/// A walk block by block has come to `at`. It goes on evenly: to have been told of each page is enough for a
/// processor that fetches ahead.
#[inline]
pub(super) fn look_at_page(bytes: &[u8], at: usize) {
    if at.is_multiple_of(PAGE) {
        black_box(bytes.get(at + 2 * PAGE).copied());
    }
}
