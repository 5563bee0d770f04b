//! For an embedder's tests: do the two halves of a [`Framer`] agree?

use super::cut::Cuts;
use super::{Cut, Framer, Limits, OversizePolicy, Partial, custom};
use crate::close::{CloseReason, DiscardReason};

/// What became of an input.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    delivered: Vec<Vec<u8>>,
    truncated: Vec<Vec<u8>>,
    discarded: usize,
    close: Option<CloseReason>,
    unfinished: Vec<u8>,
}

/// Checks that `framer` finds the same messages in `input` however it arrives: at once, in two reads
/// split at every place, and byte by byte; that what [`Framer::scan`] lets pass is what
/// [`Framer::split`] takes apart, none larger than `max`; and that an oversize message is truncated or
/// discarded alike. The error says where they disagree.
///
/// The work grows with the square of the input: a few dozen bytes, with delimiters and sizes around
/// `max`, find more than many do.
///
/// ```
/// use fanin::{Framer, Scan, framer_contract};
///
/// /// Messages end with `;`.
/// struct Semicolons;
///
/// impl Framer for Semicolons {
///     fn scan(&self, staged: &[u8], fresh: &[u8], max: usize) -> Scan {
///         let (mut end, mut size) = (0, staged.len());
///         for (at, byte) in fresh.iter().enumerate() {
///             if *byte == b';' {
///                 (end, size) = (at + 1, 0);
///             } else if size == max {
///                 return Scan::Oversize { end, prefix: 0, size: None };
///             } else {
///                 size += 1;
///             }
///         }
///         Scan::Whole { end, need: 0 }
///     }
///     fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
///         let at = bytes.iter().position(|byte| *byte == b';')?;
///         Some((&bytes[..at], &bytes[at + 1..]))
///     }
///     fn resync(&self, _tail: &[u8], fresh: &[u8]) -> Option<usize> {
///         Some(fresh.iter().position(|byte| *byte == b';')? + 1)
///     }
///     fn delivers_unterminated(&self) -> bool {
///         true
///     }
///     fn name(&self) -> &str {
///         "semicolons"
///     }
/// }
///
/// framer_contract(&Semicolons, b"a;;four;fives;b;unfinished", 4).unwrap();
/// ```
pub fn framer_contract(framer: &dyn Framer, input: &[u8], max: usize) -> Result<(), String> {
    for oversize in [
        OversizePolicy::Truncate,
        OversizePolicy::Discard,
        OversizePolicy::Close,
    ] {
        let limits = Limits { max, oversize };
        let whole = read(framer, &limits, [input])
            .map_err(|why| format!("{oversize:?}, all at once: {why}"))?;
        let differ = |how: String, other: Result<Outcome, String>| match other {
            Ok(same) if same == whole => Ok(()),
            Ok(other) => Err(format!(
                "{oversize:?}, {how}: {other:?}, but all at once: {whole:?}"
            )),
            Err(why) => Err(format!("{oversize:?}, {how}: {why}")),
        };
        for at in 0..=input.len() {
            let (first, second) = input.split_at(at);
            let outcome = read(framer, &limits, [first, second]);
            differ(format!("split after {at} bytes"), outcome)?;
        }
        let outcome = read(framer, &limits, input.chunks(1));
        differ("byte by byte".to_owned(), outcome)?;
    }
    Ok(())
}

/// What a reactor would do.
fn read<'i>(
    framer: &dyn Framer,
    limits: &Limits,
    reads: impl IntoIterator<Item = &'i [u8]>,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let mut partial = Partial::default();
    let mut list = Vec::new();
    for fresh in reads {
        if outcome.close.is_some() {
            outcome.discarded += fresh.len();
            continue;
        }
        let staged = std::mem::take(&mut outcome.unfinished);
        let cuts = Cuts::start(&mut list);
        custom::cut(framer, limits, &mut partial, &staged, fresh, cuts);
        let bytes = [&staged, fresh].concat();
        for cut in &list {
            match *cut {
                Cut::Messages { start, end } => {
                    take_apart(
                        framer,
                        &bytes[start..end],
                        limits.max,
                        &mut outcome.delivered,
                    )?;
                }
                Cut::Truncated { start, end } => {
                    outcome.truncated.push(bytes[start..end].to_vec());
                }
                Cut::Discard {
                    reason: DiscardReason::Framing,
                    ..
                } => {
                    return Err("scan or resync said what cannot be".to_owned());
                }
                Cut::Discard { bytes, .. } => outcome.discarded += bytes,
                Cut::Rest { start } => outcome.unfinished = bytes[start..].to_vec(),
                Cut::Close { reason } => outcome.close = Some(reason),
            }
        }
    }
    Ok(outcome)
}

fn take_apart(
    framer: &dyn Framer,
    mut bytes: &[u8],
    max: usize,
    messages: &mut Vec<Vec<u8>>,
) -> Result<(), String> {
    while !bytes.is_empty() {
        let (message, after) = custom::split(framer, bytes)
            .ok_or_else(|| format!("scan let {bytes:?} pass, split finds no message there"))?;
        if message.len() > max {
            let size = message.len();
            return Err(format!("scan let a message of {size} bytes pass"));
        }
        messages.push(message.to_vec());
        bytes = after;
    }
    Ok(())
}
