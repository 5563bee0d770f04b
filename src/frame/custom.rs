//! Messages whose ends an embedder finds. What it says is checked before a byte moves: a framer that
//! contradicts itself, or would have us keep more than a message takes, costs its connection only.

use super::cut::Cuts;
use super::{Framer, Limits, OversizePolicy, Partial, Scan};
use crate::close::DiscardReason;

/// Bytes that a message's marks may take beside it. Claims are sized for as many.
const MARKS_MAX: usize = 16;

/// The offending message, or the first byte about which the framer erred, begins here.
struct Contradiction(usize);

pub(super) fn cut(
    framer: &dyn Framer,
    limits: &Limits,
    partial: &mut Partial,
    staged: &[u8],
    fresh: &[u8],
    mut cuts: Cuts<'_>,
) -> usize {
    let end = staged.len() + fresh.len();
    let mut examined = 0;
    let walked = walk(
        framer,
        limits,
        partial,
        staged,
        fresh,
        &mut cuts,
        &mut examined,
    );
    if let Err(Contradiction(at)) = walked {
        cuts.close(partial, end - at, DiscardReason::Framing);
    }
    examined
}

fn walk(
    framer: &dyn Framer,
    limits: &Limits,
    partial: &mut Partial,
    staged: &[u8],
    fresh: &[u8],
    cuts: &mut Cuts<'_>,
    examined: &mut usize,
) -> Result<(), Contradiction> {
    let seen = staged.len();
    let end = seen + fresh.len();
    let mut start = 0;
    match *partial {
        Partial::SkipCount(left) => start = cuts.skip(partial, left as usize, end, 0),
        Partial::SkipTo { tail, len } => {
            *examined += end;
            start = resync(framer, partial, &tail[..usize::from(len)], fresh, 0)?;
            cuts.discard(start, 0, DiscardReason::Oversize);
        }
        Partial::Message { need } if end < need as usize => {
            cuts.rest(partial, 0, end, need as usize);
            return Ok(());
        }
        Partial::Message { .. } | Partial::Between => {}
    }

    while !partial.is_skipping() {
        if start > 0 && start < seen {
            // A message ended in what was staged, which the framer had denied.
            return Err(Contradiction(start));
        }
        // Only the first message of a read can have begun before it.
        let (old, new) = if start == 0 {
            (staged, fresh)
        } else {
            (&[][..], &fresh[start - seen..])
        };
        *examined += new.len();
        let scan = framer.scan(old, new, limits.max);
        let (Scan::Whole { end: at, .. }
        | Scan::Oversize { end: at, .. }
        | Scan::Invalid { end: at }) = scan;
        if at > new.len() {
            return Err(Contradiction(start));
        }
        // The position is one in `fresh`, but none there means that the staged message goes on.
        let next = if at == 0 { start } else { end - new.len() + at };
        cuts.messages(start, next);
        start = next;
        let present = end - start;
        let most = limits.max.saturating_add(MARKS_MAX);
        match scan {
            Scan::Whole { need, .. } => {
                // A rest of `need` bytes would be whole.
                let is_whole = (1..=present).contains(&need);
                if is_whole || present > most || need > most {
                    return Err(Contradiction(start));
                }
                cuts.rest(partial, start, end, need);
                return Ok(());
            }
            Scan::Invalid { .. } => {
                cuts.close(partial, present, DiscardReason::Protocol);
                return Ok(());
            }
            Scan::Oversize { prefix, size, .. } => {
                let is_large = size.is_none_or(|size| size > limits.max);
                let is_countable = size.is_none_or(|size| u32::try_from(size).is_ok());
                let is_there = present > 0 && prefix <= present && prefix <= MARKS_MAX;
                if !(is_large && is_countable && is_there) {
                    return Err(Contradiction(start));
                }
                // The message counts where its first discarded byte is: in its prefix, or behind what is kept.
                let need = limits.max + prefix.max(1);
                let kept = match limits.oversize {
                    OversizePolicy::Truncate if present < need => {
                        cuts.rest(partial, start, end, need);
                        return Ok(());
                    }
                    OversizePolicy::Truncate => limits.max,
                    OversizePolicy::Discard => 0,
                    OversizePolicy::Close => {
                        cuts.close(partial, present, DiscardReason::Oversize);
                        return Ok(());
                    }
                };
                let body = start + prefix;
                cuts.discard(prefix, 1, DiscardReason::Oversize);
                cuts.truncated(body, body + kept);
                let messages = u64::from(prefix == 0);
                let dropped = body + kept;
                start = match size {
                    Some(size) => {
                        dropped + cuts.skip(partial, size - kept, end - dropped, messages)
                    }
                    None => {
                        // The framer said that no message ends in what was staged.
                        let from = dropped.max(seen);
                        let mut before = [0; 6];
                        let tail = tail(staged, &fresh[..from - seen], start, &mut before);
                        *examined += end - from;
                        let next = resync(framer, partial, tail, &fresh[from - seen..], from)
                            .map_err(|_| Contradiction(dropped))?;
                        // Claims are sized for it: a read holds only so many that are too large.
                        if !partial.is_skipping() && next - body <= limits.max {
                            return Err(Contradiction(dropped));
                        }
                        cuts.discard(next - dropped, messages, DiscardReason::Oversize);
                        next
                    }
                };
            }
        }
    }
    Ok(())
}

/// Where the message that is skipped ends, if it does in `fresh`, which begins at `from`; else where
/// `fresh` does, and there is more to skip.
fn resync(
    framer: &dyn Framer,
    partial: &mut Partial,
    tail: &[u8],
    fresh: &[u8],
    from: usize,
) -> Result<usize, Contradiction> {
    match framer.resync(tail, fresh) {
        // An end before these bytes would have been found when they had not come yet.
        Some(at) if at == 0 || at > fresh.len() => Err(Contradiction(from)),
        Some(at) => {
            *partial = Partial::Between;
            Ok(from + at)
        }
        None => {
            let mut kept = [0; 6];
            let len = self::tail(tail, fresh, 0, &mut kept).len();
            *partial = Partial::SkipTo {
                tail: kept,
                len: u8::try_from(len).expect("six at most"),
            };
            Ok(from + fresh.len())
        }
    }
}

/// The last bytes of `first` and `second`, as many as there is room for, none from before `start`.
fn tail<'t>(first: &[u8], second: &[u8], start: usize, room: &'t mut [u8; 6]) -> &'t [u8] {
    let end = first.len() + second.len();
    let from = start.max(end.saturating_sub(room.len()));
    let bytes = first.iter().chain(second).skip(from);
    for (place, byte) in room.iter_mut().zip(bytes) {
        *place = *byte;
    }
    &room[..end - from]
}

/// As the framer says, unless it would go on for ever.
pub(super) fn split<'b>(framer: &dyn Framer, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
    let (message, after) = framer.split(bytes)?;
    (after.len() < bytes.len()).then_some((message, after))
}
