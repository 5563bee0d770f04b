//! How much of a turn each ring and each listener has.
//!
//! In: numbers that a user chose. Out: the same. Never here: a turn.

/// What is done in one turn of a reactor before others have theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budgets {
    /// Reads for one ring: of as many connections, if so many have something to say. As many again for all who
    /// are on their way out and send on.
    pub reads: usize,
    /// Bytes that these reads bring; the one that goes beyond is the last.
    pub bytes: usize,
    /// Connections that are accepted from one listener, so that a storm of them does not starve those that are
    /// there.
    pub accepts: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            reads: 64,
            // What one thread both reads and visits is in its cache then; with two, larger turns save nothing.
            bytes: 256 << 10,
            // memcached, HAProxy and quinn have such a budget, 4 to 64.
            accepts: 16,
        }
    }
}
