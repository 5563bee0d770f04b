//! Where a message ends.
//!
//! In: the bytes of one connection as they were read, split anywhere. Out: cuts, in order: these
//! bytes are whole messages, those are one message cut short, these are discarded, the rest is the
//! beginning of a message that is not whole yet.
//! Never here: a copy, a socket, a clock, a ring.

use std::fmt;
use std::sync::Arc;

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
