//! When an empty ring is begun anew at its start, so that a large one stays in the cache.
//!
//! In: positions, and room that ran out. Out: whether it is time. Never here: the room itself.
//!
//! Until its consumer has passed what was skipped, a ring that was begun anew has no more room than what was
//! written before. A consumer that keeps up passes it at once. One that takes all there is and then is away
//! for a while would have a small ring instead of a large one each time: so where that room ran out, the ring
//! is left alone for a lap, and for twice as many each time that it runs out again.

/// Laps for which a ring is left alone at most.
const MOST_LAPS: u64 = 256;

#[derive(Clone, Copy, Debug)]
pub(super) struct StartOver {
    /// Bytes from the start of the ring on; `usize::MAX`: never.
    from: usize,
    /// Nor before this position.
    not_before: u64,
    /// Laps for which it is left alone the next time.
    laps: u64,
    /// The room ran out since it was begun anew.
    ran_out: bool,
}

impl StartOver {
    pub(super) const NEVER: Self = Self::from(usize::MAX);

    pub(super) const fn from(bytes: usize) -> Self {
        Self {
            from: bytes,
            not_before: 0,
            laps: 1,
            ran_out: false,
        }
    }

    pub(super) const fn later(self, bytes: usize) -> Self {
        Self::from(self.from.saturating_add(bytes))
    }

    /// Is it time, at this position, which is so far from the start?
    pub(super) fn is_due(&self, position: u64, offset: usize) -> bool {
        offset >= self.from && position >= self.not_before
    }

    /// It was begun anew.
    pub(super) fn handle_begun(&mut self) {
        if !self.ran_out {
            self.laps = 1;
        }
        self.ran_out = false;
    }

    /// There is no room, and the consumer has not passed what was skipped.
    pub(super) fn handle_no_room(&mut self, position: u64, capacity: usize) {
        if self.ran_out {
            return;
        }
        self.ran_out = true;
        self.not_before = position + self.laps * capacity as u64;
        self.laps = (2 * self.laps).min(MOST_LAPS);
    }
}
