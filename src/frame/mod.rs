//! Where a message ends.
//!
//! In: the bytes of one connection as they were read, split anywhere. Out: cuts, in order: these
//! bytes are whole messages, those are one message cut short, these are discarded, the rest is the
//! beginning of a message that is not whole yet.
//! Never here: a copy, a socket, a clock, a ring.

mod ahead;
mod contract;
mod counted;
mod custom;
mod cut;
mod delimited;
#[cfg(feature = "fuzz")]
pub(crate) mod driver;
#[cfg(feature = "fuzz")]
pub(crate) mod framers;
mod messages;
mod name;
#[cfg(feature = "fuzz")]
pub(crate) mod slow;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use crate::close::DiscardReason;

pub use self::contract::framer_contract;
pub(crate) use self::cut::{Cut, Limits, OversizePolicy, Partial};
pub use self::messages::MessageIter;
pub use self::name::ParseFramingError;

use self::counted::Last;
use self::cut::Cuts;

/// How a listener's peers mark the end of a message.
///
/// A message's size is counted without its delimiter or prefix.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Framing {
    /// Messages end with LF (RFC 6587, 3.4.2: non-transparent framing). A CR belongs to its message.
    #[default]
    Line,
    /// Messages end with NUL, as Python's `SysLogHandler` sends them.
    Nul,
    /// Messages end with this byte.
    Byte(u8),
    /// `MSG-LEN SP MSG` (RFC 6587, 3.4.1: octet counting).
    Octet,
    /// [`Framing::Octet`] or [`Framing::Line`], decided once by a connection's first bytes: up to ten
    /// digits without a leading zero, a space and `<` are octet counting.
    Auto,
    /// A big-endian `u16` says how many bytes follow.
    U16,
    /// A big-endian `u32` says how many bytes follow.
    U32,
    /// A LEB128 number says how many bytes follow, as protobuf's delimited streams have it.
    Varint,
    /// An embedder's own.
    Custom(Arc<dyn Framer>),
}

/// What [`Framing::Auto`] settles to, where a consumer needs them behind a reference.
static LINE: Framing = Framing::Line;
static OCTET: Framing = Framing::Octet;

impl Framing {
    /// Whether a count before the message says where it ends, rather than a delimiter behind it. It
    /// decides what happens to an oversize message when nobody chose, and to one cut short by the end
    /// of the stream. [`Framing::Auto`] is counted only once settled so; a custom one if it does not
    /// deliver what is unterminated.
    pub fn is_counted(&self) -> bool {
        match self {
            Self::Octet | Self::U16 | Self::U32 | Self::Varint => true,
            Self::Line | Self::Nul | Self::Byte(_) | Self::Auto => false,
            Self::Custom(framer) => !framer.delivers_unterminated(),
        }
    }

    /// The largest message that may pass: `max`, or less if the prefix cannot say as much.
    pub fn max_message(&self, max: usize) -> usize {
        match self {
            Self::U16 => max.min(usize::from(u16::MAX)),
            Self::Octet | Self::U32 | Self::Varint => max.min(u32::MAX as usize),
            Self::Line | Self::Nul | Self::Byte(_) | Self::Auto | Self::Custom(_) => max,
        }
    }

    /// The framing's place in an `Opened` record, below 16 so that it shares a byte there with other
    /// facts. 0 is [`Framing::Auto`], which no record carries: it is settled before the first one.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Auto => 0,
            Self::Line => 1,
            Self::Nul => 2,
            Self::Byte(_) => 3,
            Self::Octet => 4,
            Self::U16 => 5,
            Self::U32 => 6,
            Self::Varint => 7,
            Self::Custom(_) => 8,
        }
    }

    /// The framing of a connection: what its listener's became by its first bytes. `None` if the
    /// listener's cannot have become this one.
    pub(crate) fn from_code(code: u8, listener: &Self) -> Option<&Self> {
        match listener {
            Self::Auto => [&LINE, &OCTET].into_iter().find(|f| f.code() == code),
            other => (other.code() == code).then_some(other),
        }
    }

    /// The byte that ends a message, if it is one byte that does.
    fn delimiter(&self) -> Option<u8> {
        match self {
            Self::Line => Some(b'\n'),
            Self::Nul => Some(0),
            Self::Byte(byte) => Some(*byte),
            _ => None,
        }
    }
}

/// What a [`Framer`] or a built-in framing found in the bytes of one connection.
///
/// Positions are relative to the start of `fresh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Whole messages, none too large, end at `end`, and nothing whole follows. 0 when none ends in
    /// these bytes. `need` is the size, prefix included, of the message that begins there, when its
    /// first bytes say so, and 0 when they do not.
    Whole {
        /// Where the last whole message ends.
        end: usize,
        /// Bytes that the next message takes in all; 0: not known.
        need: usize,
    },
    /// Whole messages end at `end`; the next one is larger than the largest.
    Oversize {
        /// Where the last whole message before it ends.
        end: usize,
        /// Bytes of its prefix.
        prefix: usize,
        /// Its bytes after the prefix, delimiter included, if the prefix says so.
        size: Option<usize>,
    },
    /// Whole messages end at `end`; what follows does not follow the framing.
    Invalid {
        /// Where the last whole message before it ends.
        end: usize,
    },
}

/// A framing of an embedder's own: where messages end, said twice, once for the reactor and once for
/// the consumer. The two must agree.
///
/// It keeps no state between messages and is asked from several threads.
pub trait Framer: Send + Sync + 'static {
    /// Where the last whole message of `staged` followed by `fresh` ends.
    ///
    /// `staged` is the beginning of one message that was left over and was seen before (no message
    /// ends in it); `fresh` was not. `max` is the largest legal size of a message.
    fn scan(&self, staged: &[u8], fresh: &[u8], max: usize) -> Scan;

    /// The first message of `bytes` without its marks, and what comes after it; `None` if `bytes` do
    /// not begin with a whole message, which for bytes that `scan` let pass is a contradiction.
    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])>;

    /// Where, in `fresh`, an oversize message of unknown size ends. `tail` are its last bytes before
    /// `fresh`, at most six, for a delimiter that was cut in two.
    fn resync(&self, tail: &[u8], fresh: &[u8]) -> Option<usize>;

    /// What a partial message at the end of a stream means: `true` for framings with delimiters,
    /// where it is delivered and flagged; `false` for counted ones, where it is discarded.
    fn delivers_unterminated(&self) -> bool;

    /// The name in reports.
    fn name(&self) -> &str;
}

impl fmt::Debug for dyn Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Framer({})", self.name())
    }
}

/// Cuts what was just read. `staged` is the beginning of one message, left over by the cuts before
/// (the bytes of their `Rest`), `fresh` what follows it; positions in `cuts` count from the first byte
/// of `staged`. Every byte of both is in exactly one cut. See [`Cut`] for their order.
///
/// [`Framing::Auto`] must have been settled before. A connection that was undecided at its end is a line.
///
/// Returns the bytes that were looked at, which is what the work is proportional to.
pub(crate) fn cut(
    framing: &Framing,
    limits: &Limits,
    partial: &mut Partial,
    staged: &[u8],
    fresh: &[u8],
    cuts: &mut Vec<Cut>,
) -> usize {
    debug_assert!(!matches!(framing, Framing::Auto), "settled first");
    debug_assert!(!partial.is_skipping() || staged.is_empty());
    let cuts = Cuts::start(cuts);
    match framing {
        Framing::Line | Framing::Auto => {
            delimited::cut(b'\n', limits, partial, staged, fresh, cuts)
        }
        Framing::Nul => delimited::cut(0, limits, partial, staged, fresh, cuts),
        Framing::Byte(byte) => delimited::cut(*byte, limits, partial, staged, fresh, cuts),
        Framing::Octet => counted::cut(counted::octet, limits, partial, staged, fresh, cuts),
        Framing::U16 => counted::cut(counted::u16, limits, partial, staged, fresh, cuts),
        Framing::U32 => counted::cut(counted::u32, limits, partial, staged, fresh, cuts),
        Framing::Varint => counted::cut(counted::varint, limits, partial, staged, fresh, cuts),
        Framing::Custom(framer) => custom::cut(&**framer, limits, partial, staged, fresh, cuts),
    }
}

/// What the end of a stream makes of the bytes that are staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// None are, or what they belonged to was dealt with already.
    Nothing,
    /// They are one message, to be flagged as unterminated.
    Deliver,
    /// They only meant something whole.
    Discard(DiscardReason),
}

/// Decides about `staged_len` staged bytes when no more will come.
pub(crate) fn at_end(framing: &Framing, partial: Partial, staged_len: usize) -> AtEnd {
    // A size that is known and not reached is a promise broken, whatever the framing.
    let counted = framing.is_counted() || matches!(partial, Partial::Message { need: 1.. });
    match (staged_len, counted) {
        (0, _) => AtEnd::Nothing,
        (_, false) => AtEnd::Deliver,
        (_, true) => AtEnd::Discard(DiscardReason::CutAtEnd),
    }
}

/// What [`Framing::Auto`] is for a connection that begins with `staged` and `fresh`; `None`: more
/// bytes are needed, of which there are never more than eleven. Until then no message ends in them,
/// for they are digits and a space. Undecided at the end of the stream means a line.
pub(crate) fn settle(staged: &[u8], fresh: &[u8]) -> Option<Framing> {
    let mut digits = 0;
    let mut counted = false;
    for byte in staged.iter().chain(fresh) {
        match byte {
            b'<' if counted => return Some(Framing::Octet),
            b' ' if digits > 0 && !counted => counted = true,
            b'0' if digits == 0 => return Some(Framing::Line),
            b'0'..=b'9' if digits < counted::OCTET_DIGITS && !counted => digits += 1,
            _ => return Some(Framing::Line),
        }
    }
    None
}

/// The first message of `bytes` without its marks, and what comes after it; `None` if `bytes` do not
/// begin with a whole one. [`MessageIter`] asks it of framings without delimiters alone.
fn split<'b>(framing: &Framing, last: &mut Last, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
    match framing {
        Framing::Line | Framing::Nul | Framing::Byte(_) | Framing::Auto => None,
        Framing::Octet => last.split(counted::octet, bytes),
        Framing::U16 => last.split(counted::u16, bytes),
        Framing::U32 => last.split(counted::u32, bytes),
        Framing::Varint => last.split(counted::varint, bytes),
        Framing::Custom(framer) => custom::split(&**framer, bytes),
    }
}

/// Folds the messages of `bytes` as [`split`] finds them. Which framing it is is asked once.
fn fold<'b, B>(framing: &Framing, bytes: &'b [u8], init: B, f: impl FnMut(B, &'b [u8]) -> B) -> B {
    let (all, _) = match framing {
        Framing::Line | Framing::Nul | Framing::Byte(_) | Framing::Auto => (init, bytes),
        Framing::Octet => counted::fold(counted::octet, usize::MAX, bytes, init, f),
        Framing::U16 => counted::fold(counted::u16, usize::MAX, bytes, init, f),
        Framing::U32 => counted::fold(counted::u32, usize::MAX, bytes, init, f),
        Framing::Varint => counted::fold(counted::varint, usize::MAX, bytes, init, f),
        Framing::Custom(framer) => {
            fold_parts(bytes, init, f, |rest| custom::split(&**framer, rest))
        }
    };
    all
}

/// Folds what `split` takes from `bytes`, one after the other, and says what it leaves.
#[inline]
fn fold_parts<'b, B>(
    mut bytes: &'b [u8],
    init: B,
    mut f: impl FnMut(B, &'b [u8]) -> B,
    mut split: impl FnMut(&'b [u8]) -> Option<(&'b [u8], &'b [u8])>,
) -> (B, &'b [u8]) {
    let mut all = init;
    while let Some((message, after)) = split(bytes) {
        all = f(all, message);
        bytes = after;
    }
    (all, bytes)
}
