//! What a consumer says of itself: why it ended, how far it is behind.

use std::fmt;
use std::time::Duration;

use crate::ring::End;

/// Why a consumer gets no more batches. It says so once all of its rings have ended and are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ended {
    /// The reactors have drained, and everything they published was released: the good end. What a drain did
    /// not read in its time is in the books of the connections that it ended.
    Drained,
    /// The whole was stopped; what was not released was booked as abandoned.
    Stopped,
    /// A reactor ended without a word (it panicked, or its thread did); what it had published came.
    ReactorGone,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drained => "drained: everything that was published was delivered",
            Self::Stopped => "stopped before everything was delivered",
            Self::ReactorGone => "a reactor is gone",
        })
    }
}

impl std::error::Error for Ended {}

impl From<End> for Ended {
    fn from(end: End) -> Self {
        match end {
            End::Drained => Self::Drained,
            End::Stopped => Self::Stopped,
            End::ReactorGone => Self::ReactorGone,
        }
    }
}

/// How far a consumer is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// Bytes of peers that are published to it and not released.
    pub bytes: u64,
    /// How long ago, by the wall clock, the oldest of them was received. Best effort: to 10 ms, wrong
    /// where the clock was set, `None` when nothing waits.
    pub oldest: Option<Duration>,
}
