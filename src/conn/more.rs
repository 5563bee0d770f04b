//! What few connections need: made at the first pause, the first discarded byte, the first look.
//!
//! In: what the machine and the reactor note. Out: the same. Never here: anything that every connection
//! has, but the window of a least rate, where there is one.

use super::Tick;
use crate::books::Gap;
use crate::close::{PauseCause, Reason};

/// The causes of a pause.
const CAUSES: usize = PauseCause::ALL.len();

#[derive(Debug, Default)]
pub(crate) struct More {
    pub(super) discarded: u64,
    /// When an eviction was due last that was put off, because the kernel held bytes.
    pub(super) idle_looked: Option<Tick>,
    pub(super) message_looked: Option<Tick>,
    pub(super) window: Option<Window>,
    /// How often each cause held it up, and for how many microseconds in all.
    pauses: [(u32, u64); CAUSES],
    /// When each cause that holds now began to.
    pub(super) paused_at: [Tick; CAUSES],
    /// When the first of those that hold now under which its clocks stand still did.
    pub(super) frozen_at: Tick,
    /// Discarded, and not yet told to the consumer.
    pub(crate) gap: Option<Gap>,
    /// Bytes that the kernel held when it was closed.
    pub(crate) unread: u64,
    /// The system did not say how many.
    pub(crate) is_unread_unknown: bool,
}

/// What the least rate is weighed by.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) since: Tick,
    /// It is the second of a look.
    pub(super) is_looked: bool,
    /// What had been received when it began.
    pub(super) from: u64,
}

/// Bytes of it in the sum of promise 1.
pub(crate) const MORE_BYTES: usize = size_of::<More>();

impl More {
    pub(crate) fn add_pause(&mut self, cause: PauseCause, micros: u64) {
        let (count, sum) = &mut self.pauses[cause.index()];
        *count = count.saturating_add(1);
        *sum += micros;
    }

    /// How often, and for how many microseconds in all.
    pub(crate) fn pauses(&self, cause: PauseCause) -> (u32, u64) {
        self.pauses[cause.index()]
    }
}
