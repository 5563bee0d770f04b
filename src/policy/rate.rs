//! How much may come in a second: token buckets that pause, and never drop.
//!
//! In: how much was taken, and when. Out: how much more may be taken now, or when to ask again.
//! Never here: a clock, a connection, a wait.
//!
//! A bucket is one number: when it is full again. What is in it follows from that and the time, so that
//! nothing is refilled and no rounding adds up; it is known for a read only afterwards how many messages
//! it brought, so a bucket may go below zero, and then is waited for.
//!
//! ```text
//!         full_at ≤ now: full                   now ─── burst ───► full_at: empty       later: in debt
//! ```
//!
//! Two marks keep anybody from being woken for a byte (haproxy#2476): reading goes on while there is a
//! read worth a system call (`floor`), and who had to wait is called again when there is a tenth of a
//! second's worth (`quantum`). Neither is more than half of the bucket, else it would spill meanwhile.

use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// Bytes below which a read is not worth its system call.
const LEAST_BYTES: u64 = 4 << 10;
/// Who waits does so for as long, if the bucket is large enough: ten wakes a second for each connection.
const QUANTUM: Duration = Duration::from_millis(100);

/// Nanoseconds, for some 500 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whose bucket it is, from the inside out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Connection,
    Source,
    Listener,
}

impl Scope {
    pub(crate) const COUNT: usize = 3;
}

/// So much in a second, and so much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    per_sec: u64,
    // In nanoseconds that it takes to come: what a full bucket holds, and the two marks.
    burst: u64,
    floor: u64,
    quantum: u64,
}

impl Limit {
    pub(crate) fn bytes(per_sec: u64, burst: Duration) -> Self {
        Self::new(per_sec, burst, LEAST_BYTES)
    }

    pub(crate) fn messages(per_sec: u64, burst: Duration) -> Self {
        Self::new(per_sec, burst, 1)
    }

    fn new(per_sec: u64, burst: Duration, least: u64) -> Self {
        let (per_sec, burst) = (per_sec.max(1), nanos(burst));
        let mut limit = Self {
            per_sec,
            burst,
            floor: 0,
            quantum: 0,
        };
        limit.floor = limit.time(least).min(burst / 2);
        limit.quantum = limit.floor.max(nanos(QUANTUM)).min(burst / 2);
        limit
    }

    /// Does whoever obeys all of these, each for a part of what it takes, obey this limit too? What may have
    /// come at once is a full bucket, and what was drawn out of it before.
    pub(crate) fn is_kept_by(&self, outer: &[Self]) -> bool {
        let at_once = |outer: &Self| outer.tokens(outer.burst.saturating_add(outer.quantum));
        let at_once = outer.iter().map(at_once).fold(0, u64::saturating_add);
        let left = self.tokens(self.burst).saturating_sub(at_once);
        // Rounded down, twice.
        left > self.tokens(self.floor).saturating_add(2)
    }

    /// For how long `n` have to be waited for. Rounded up: a nanosecond a read at most.
    fn time(&self, n: u64) -> u64 {
        let time = (u128::from(n) * u128::from(SECOND)).div_ceil(u128::from(self.per_sec));
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// How many come in that time.
    fn tokens(&self, time: u64) -> u64 {
        let tokens = u128::from(time) * u128::from(self.per_sec) / u128::from(SECOND);
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}

/// What one connection may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// In nanoseconds since the start.
    full_at: u64,
}

impl Bucket {
    /// A bucket that somebody else keeps as a number.
    pub(crate) const fn from_full_at(full_at: u64) -> Self {
        Self { full_at }
    }

    pub(crate) fn full_at(self) -> u64 {
        self.full_at
    }

    /// How much may be taken now; at least one. `None`: it has to be waited for.
    pub(crate) fn allows(self, limit: &Limit, now: u64) -> Option<u64> {
        let level = limit.burst.checked_sub(self.full_at.saturating_sub(now))?;
        (level >= limit.floor).then(|| limit.tokens(level).max(1))
    }

    /// Takes what has come already: more than is there, if need be.
    pub(crate) fn take(&mut self, limit: &Limit, n: u64, now: u64) {
        self.full_at = self.full_at.max(now).saturating_add(limit.time(n));
    }

    /// When whoever waits for it may go on.
    pub(crate) fn goes_on_at(self, limit: &Limit) -> u64 {
        self.full_at.saturating_sub(limit.burst - limit.quantum)
    }

    /// When what was taken last was paid for.
    fn even_at(self, limit: &Limit) -> u64 {
        self.full_at.saturating_sub(limit.burst)
    }
}

/// One reactor's part of a bucket that several share, for those who wait for it there.
///
/// Where nobody waits, whoever reads takes out of the common bucket what it has read; reactors that look at
/// the same time may read once each what is there once, and wait for it afterwards. Where somebody waits, its
/// reactor takes a quantum at a time, in advance, and comes for it when it is there. So reactors take
/// turns, in the order in which they asked: were they to look into the bucket when they happen to wake, the
/// first to look would have it all, every time. And no connection is held below the limit because the others
/// are at another reactor, as it would be if the rate were shared out for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// What may be taken.
    tokens: u64,
    /// What was drawn last. It has come, or not yet.
    drawn: u64,
    is_to_come: bool,
    /// What the common bucket was then.
    bucket: Bucket,
}

impl Share {
    /// How much may be taken now; at least one.
    pub(crate) fn allows(&self, limit: &Limit) -> Option<u64> {
        let floor = limit.tokens(limit.floor).max(1);
        (self.tokens >= floor).then_some(self.tokens)
    }

    /// Takes what has come already, as far as there is some. The rest is the common bucket's to give.
    #[must_use]
    pub(crate) fn take(&mut self, n: u64) -> u64 {
        let rest = n.saturating_sub(self.tokens);
        self.tokens = self.tokens.saturating_sub(n);
        rest
    }

    /// What was drawn has come.
    pub(crate) fn settle(&mut self, limit: &Limit, now: u64) {
        if self.comes_at(limit).is_some_and(|at| at <= now) {
            self.tokens = self.tokens.saturating_add(self.drawn);
            self.is_to_come = false;
        }
    }

    /// How many are to be drawn by one of so many reactors; `None`: there are enough, or some are to come.
    pub(crate) fn wants(&self, limit: &Limit, reactors: usize) -> Option<u64> {
        if self.is_to_come || self.allows(limit).is_some() {
            return None;
        }
        let part = limit.quantum / reactors.max(1) as u64;
        let quantum = limit.tokens(part.max(limit.floor));
        Some(quantum.saturating_sub(self.tokens).max(1))
    }

    /// So many were taken out of the common bucket, which is like this now.
    pub(crate) fn draw(&mut self, limit: &Limit, n: u64, bucket: Bucket, now: u64) {
        debug_assert!(!self.is_to_come, "one draw at a time");
        *self = Self {
            tokens: self.tokens,
            drawn: n,
            is_to_come: true,
            bucket,
        };
        self.settle(limit, now);
    }

    /// When the next ones come, if any are to.
    pub(crate) fn comes_at(&self, limit: &Limit) -> Option<u64> {
        self.is_to_come.then(|| self.bucket.even_at(limit))
    }

    /// The common bucket after the last draw, and what it would have been without what is left of that. As
    /// long as it is the same, nobody has taken since, and no time was missed: it can be set back.
    pub(crate) fn unused(&self, limit: &Limit) -> Option<(Bucket, Bucket)> {
        let left = match self.is_to_come {
            true => self.drawn,
            false => self.drawn.min(self.tokens),
        };
        // Rounded down: no more than was taken.
        let time = u128::from(left) * u128::from(SECOND) / u128::from(limit.per_sec);
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let without = Bucket::from_full_at(self.bucket.full_at.saturating_sub(time));
        (left > 0).then_some((self.bucket, without))
    }
}

/// How many bytes a message has, as far as is known: a read of a few messages is to bring no more than
/// that. It follows what comes within a few reads. 0: nothing is known.
pub(crate) fn mean_len(before: u32, bytes: usize, messages: u64) -> u32 {
    if messages == 0 {
        return before;
    }
    let now = (bytes as u64).div_ceil(messages);
    let before = if before == 0 { now } else { before.into() };
    let mean = (3 * before + now).div_ceil(4);
    u32::try_from(mean).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
