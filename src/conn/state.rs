//! The states of a connection, and how its peer ended.
//!
//! In: nothing. Out: names and questions. Never here: what leads from one to the next.

use super::Tick;
use crate::close::{CloseReason, Farewell, PauseCause};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Read whenever there is something.
    Open,
    /// Not read, for the causes that are set; observed all the same.
    Paused { since: Tick, causes: Causes },
    /// Going to close; read or not as the reason's [`Farewell`] says.
    Draining { reason: CloseReason, until: Tick },
    /// The descriptor is closed. What is staged and `Closed` may still have to be published.
    Closed { reason: CloseReason },
}

/// Causes of a pause that hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Causes(u8);

impl Causes {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn has(self, cause: PauseCause) -> bool {
        self.0 & 1 << cause as u8 != 0
    }

    pub(crate) fn with(self, cause: PauseCause) -> Self {
        Self(self.0 | 1 << cause as u8)
    }

    pub(super) fn without(self, cause: PauseCause) -> Self {
        Self(self.0 & !(1 << cause as u8))
    }
}

impl State {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused { .. } => "paused",
            Self::Draining { reason, .. } => match reason.farewell() {
                Farewell::Deliver => "draining, delivers",
                Farewell::Discard => "draining, discards",
                Farewell::AtOnce => "draining, at once",
            },
            Self::Closed { .. } => "closed",
        }
    }
}

/// How the peer ended its side, as far as we have noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerEnd {
    Sending,
    Fin { at: Tick },
    Reset { at: Tick },
}

/// The same without its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Not,
    Fin,
    Reset,
}

impl PeerEnd {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Fin { .. } => "fin",
            Self::Reset { .. } => "reset",
        }
    }
}
