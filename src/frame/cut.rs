//! The words of this room: what is known of a connection between two reads, what may not pass, and
//! what a read is cut into.

use crate::close::{CloseReason, DiscardReason};

/// What becomes of a message that is larger than the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OversizePolicy {
    /// Its beginning is delivered and flagged, the rest discarded.
    Truncate,
    /// All of it is discarded.
    Discard,
    /// It is discarded with all that follows it.
    Close,
}

/// What may pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the largest message, without delimiter or prefix; exactly as many are legal.
    pub(crate) max: usize,
    pub(crate) oversize: OversizePolicy,
}

/// What a connection is in the middle of, between two reads.
///
/// ```text
///              first bytes                too large, end not seen
///   Between ──────────────► Message ─────────────────────────────► SkipCount / SkipTo
///      ▲  ▲                    │                                           │
///      │  └────────────────────┘ its last byte                             │
///      └───────────────────────────────────────────────────────────────────┘ its last byte
/// ```
///
/// Eight bytes, since every connection has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Partial {
    /// No message is begun; nothing is staged.
    #[default]
    Between,
    /// The beginning of a message is staged.
    Message {
        /// Bytes from its first on before which nothing can be decided; 0: not known. Until they
        /// are there a read is not looked at.
        need: u32,
    },
    /// This many more bytes belong to a message that is not delivered; nothing is staged.
    SkipCount(u32),
    /// Bytes up to the next delimiter belong to such a message; nothing is staged.
    SkipTo {
        /// Its last bytes, for an embedder's delimiter that was cut in two.
        tail: [u8; 6],
        /// How many of them there are.
        len: u8,
    },
}

impl Partial {
    /// Whether the beginning of a message waits to become whole.
    #[cfg(feature = "fuzz")]
    pub(crate) fn is_message(&self) -> bool {
        matches!(self, Self::Message { .. })
    }

    /// Whether the next bytes belong to a message that is not delivered.
    pub(crate) fn is_skipping(&self) -> bool {
        matches!(self, Self::SkipCount(_) | Self::SkipTo { .. })
    }
}

/// A part of what was read, in the order in which it was read. Positions count from the first staged
/// byte, on through the fresh ones.
///
/// Marks (prefix, delimiter) of a message that is not delivered as it came are discarded with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Whole messages with their marks.
    Messages { start: usize, end: usize },
    /// The beginning of one message that is too large, without any mark.
    Truncated { start: usize, end: usize },
    /// As many bytes that are not delivered. A message counts once, where its first ones are.
    Discard {
        bytes: usize,
        messages: u64,
        reason: DiscardReason,
    },
    /// From here on: the beginning of a message, to be staged. The last cut.
    Rest { start: usize },
    /// The connection is to be closed; all bytes from the offending message on are discarded already.
    /// The last cut.
    Close { reason: CloseReason },
}

/// The caller's list of cuts, being filled.
#[derive(Debug)]
pub(super) struct Cuts<'c>(&'c mut Vec<Cut>);

impl<'c> Cuts<'c> {
    pub(super) fn start(list: &'c mut Vec<Cut>) -> Self {
        list.clear();
        Self(list)
    }

    pub(super) fn messages(&mut self, start: usize, end: usize) {
        if start < end {
            self.0.push(Cut::Messages { start, end });
        }
    }

    pub(super) fn truncated(&mut self, start: usize, end: usize) {
        if start < end {
            self.0.push(Cut::Truncated { start, end });
        }
    }

    /// Neighbours of one reason are one cut: a read may be full of messages that are too large.
    pub(super) fn discard(&mut self, bytes: usize, messages: u64, reason: DiscardReason) {
        if bytes == 0 {
            return;
        }
        if let Some(Cut::Discard {
            bytes: before,
            messages: also,
            reason: same,
        }) = self.0.last_mut()
            && *same == reason
        {
            *before += bytes;
            *also += messages;
        } else {
            self.0.push(Cut::Discard {
                bytes,
                messages,
                reason,
            });
        }
    }

    /// Bytes `start..end` are the beginning of a message, about which nothing can be said before
    /// `need` of them are there.
    pub(super) fn rest(&mut self, partial: &mut Partial, start: usize, end: usize, need: usize) {
        *partial = if start < end {
            self.0.push(Cut::Rest { start });
            // What does not fit is not remembered: the message's first bytes are asked again.
            let need = u32::try_from(need).unwrap_or(0);
            Partial::Message { need }
        } else {
            Partial::Between
        };
    }

    /// The last `bytes` bytes are an offending message and all that follows it.
    pub(super) fn close(&mut self, partial: &mut Partial, bytes: usize, why: DiscardReason) {
        *partial = Partial::Between;
        self.discard(bytes, 1, why);
        let reason = match why {
            DiscardReason::Oversize => CloseReason::Oversize,
            _ => CloseReason::Protocol,
        };
        self.0.push(Cut::Close { reason });
    }

    /// Discards the `size` bytes of an oversize message of which `present` may be there; what is not
    /// there is left to skip. Returns how many were.
    pub(super) fn skip(
        &mut self,
        partial: &mut Partial,
        size: usize,
        present: usize,
        messages: u64,
    ) -> usize {
        let bytes = size.min(present);
        self.discard(bytes, messages, DiscardReason::Oversize);
        *partial = match u32::try_from(size - bytes) {
            Ok(0) => Partial::Between,
            Ok(left) => Partial::SkipCount(left),
            Err(_) => unreachable!("sizes beyond u32 are no framing"),
        };
        bytes
    }
}
