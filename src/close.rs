//! Why a connection ended, why one was not let in, why bytes were not delivered, and why reading
//! stopped for a while.
//!
//! In: nothing. Out: the vocabulary that the books, the records, the reports and the tests share.
//! Never here: a decision; whoever names a reason has taken it already.

use std::fmt;

/// A closed set of reasons, so that a counter can be kept for each and printed by name.
pub trait Reason: Copy + fmt::Debug + 'static {
    /// Every reason of the set, in the order of [`Reason::index`].
    const ALL: &'static [Self];
    /// The reason's place in [`Reason::ALL`].
    fn index(self) -> usize;
    /// The name in reports and metrics: lower case, words joined by `_`.
    fn label(self) -> &'static str;
}

/// Why a connection ended. Every accepted connection ends once, with one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer finished (FIN) and all it had sent was read.
    Eof,
    /// The peer reset the connection (RST); what it had sent before was read first.
    Reset,
    /// No byte came for the idle timeout, while we would have read one.
    Idle,
    /// A message was begun and not finished within the message timeout, while we would have read it.
    Message,
    /// Bytes waited, but the consumer's ring made no room for them within the stall timeout.
    Stall,
    /// The connection reached its largest age.
    Age,
    /// A message was larger than the largest, and the policy is to close.
    Oversize,
    /// The bytes do not follow the framing (RFC 6587: a count that is no number, for example).
    Protocol,
    /// Somebody asked for it through [`Handle::close`](crate::Handle::close).
    Operator,
    /// The whole is draining or was stopped.
    Shutdown,
    /// The consumer that this connection was bound to is gone.
    ConsumerGone,
    /// The consumer that this connection was bound to has released nothing for the consumer stall
    /// timeout, and the policy is to evict.
    ConsumerStalled,
    /// It had been at rest the longest when another one wanted its place, and the policy at the limit is to evict.
    Evicted,
    /// A system call failed for this connection, with this `errno`.
    System(u8),
    /// A message was begun, and over a window less of it came than the least rate, while we would have
    /// read it.
    Trickle,
}

/// What a [`CloseReason`] allows to happen between the decision to close and the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Read on until FIN or the linger deadline, and deliver it.
    Deliver,
    /// Read on until FIN or the linger deadline, and count it as discarded: closing with unread
    /// bytes makes the kernel send RST, which destroys data both ways.
    Discard,
    /// Close the descriptor now.
    AtOnce,
}

impl CloseReason {
    pub(crate) fn farewell(self) -> Farewell {
        match self {
            Self::Eof | Self::Age | Self::Operator | Self::Shutdown => Farewell::Deliver,
            Self::Idle | Self::Message | Self::Oversize | Self::Protocol | Self::Trickle => {
                Farewell::Discard
            }
            Self::Reset
            | Self::Stall
            | Self::ConsumerGone
            | Self::ConsumerStalled
            | Self::Evicted
            | Self::System(_) => Farewell::AtOnce,
        }
    }

    pub(crate) fn errno(self) -> u8 {
        match self {
            Self::System(errno) => errno,
            _ => 0,
        }
    }

    /// The inverse of `(index, errno)`, as a `Closed` record carries them.
    pub(crate) fn from_parts(index: u8, errno: u8) -> Option<Self> {
        match Self::ALL.get(usize::from(index)) {
            Some(Self::System(_)) => Some(Self::System(errno)),
            other => other.copied(),
        }
    }
}

impl Reason for CloseReason {
    const ALL: &'static [Self] = &[
        Self::Eof,
        Self::Reset,
        Self::Idle,
        Self::Message,
        Self::Stall,
        Self::Age,
        Self::Oversize,
        Self::Protocol,
        Self::Operator,
        Self::Shutdown,
        Self::ConsumerGone,
        Self::System(0),
        Self::ConsumerStalled,
        Self::Trickle,
        Self::Evicted,
    ];

    fn index(self) -> usize {
        match self {
            Self::Eof => 0,
            Self::Reset => 1,
            Self::Idle => 2,
            Self::Message => 3,
            Self::Stall => 4,
            Self::Age => 5,
            Self::Oversize => 6,
            Self::Protocol => 7,
            Self::Operator => 8,
            Self::Shutdown => 9,
            Self::ConsumerGone => 10,
            Self::System(_) => 11,
            Self::ConsumerStalled => 12,
            Self::Trickle => 13,
            Self::Evicted => 14,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Message => "message",
            Self::Stall => "stall",
            Self::Age => "age",
            Self::Oversize => "oversize",
            Self::Protocol => "protocol",
            Self::Operator => "operator",
            Self::Shutdown => "shutdown",
            Self::ConsumerGone => "consumer_gone",
            Self::System(_) => "system",
            Self::ConsumerStalled => "consumer_stalled",
            Self::Trickle => "trickle",
            Self::Evicted => "evicted",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => {
                let error = std::io::Error::from_raw_os_error(i32::from(*errno));
                write!(f, "system: {error}")
            }
            other => f.write_str(other.label()),
        }
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl Reason for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn index(self) -> usize { self as usize }
            fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.label()) }
        }
    };
}

reasons! {
    /// Why a peer that had connected was turned away before it became a connection.
    RefuseReason {
        /// The process or the system had no descriptor left; the reserve one was used to tell the peer.
        Descriptors => "descriptors",
        /// The whole is draining and every slot is taken.
        Shutdown => "shutdown",
        /// Every place is taken, of the whole or of its listener, and the policy at the limit is to refuse.
        Full => "full",
        /// Its source has as many connections as one may have.
        Source => "source",
        /// Its source has opened as many connections in a second as one may.
        SourceRate => "source_rate",
    }
}

reasons! {
    /// Why bytes that were read will not be delivered.
    DiscardReason {
        /// They belong to a message larger than the largest.
        Oversize => "oversize",
        /// The stream ended inside a message that only means something whole, or we ended it before the
        /// peer did, inside any.
        CutAtEnd => "cut_at_end",
        /// They do not follow the framing, or come after bytes that do not.
        Protocol => "protocol",
        /// They were read after the connection had been evicted, only so that closing is no RST.
        Lingering => "lingering",
        /// A [`Framer`](crate::Framer) contradicted itself or asked for the impossible.
        Framing => "framing",
        /// The connection's consumer is gone.
        ConsumerGone => "consumer_gone",
        /// The ring had no room for them, and the policy is to discard.
        RingFull => "ring_full",
    }
}

reasons! {
    /// Why a connection is not read for now.
    PauseCause {
        /// The ring of its consumer is full.
        Ring => "ring",
        /// The staging budget is spent on partial messages of others.
        Staging => "staging",
        /// Somebody asked for it through [`Handle::pause`](crate::Handle::pause).
        Operator => "operator",
        /// What it, its source or its listener may send in a second is used up for now.
        Rate => "rate",
    }
}

impl DiscardReason {
    pub(crate) fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_reason_knows_its_place<R: Reason + PartialEq>() {
        for (place, reason) in R::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place, "{reason:?}");
        }
        let mut labels: Vec<_> = R::ALL.iter().map(|r| r.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), R::ALL.len(), "two reasons share a label");
    }

    #[test]
    fn reasons_are_counted_and_named_apart() {
        every_reason_knows_its_place::<CloseReason>();
        every_reason_knows_its_place::<RefuseReason>();
        every_reason_knows_its_place::<DiscardReason>();
        every_reason_knows_its_place::<PauseCause>();
    }

    #[test]
    fn a_close_reason_survives_its_record() {
        for reason in CloseReason::ALL
            .iter()
            .copied()
            .chain([CloseReason::System(104)])
        {
            let there = u8::try_from(reason.index()).unwrap();
            assert_eq!(CloseReason::from_parts(there, reason.errno()), Some(reason));
        }
        assert_eq!(CloseReason::from_parts(200, 0), None);
    }
}
