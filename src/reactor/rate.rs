//! Who waits because enough came in this second, and who calls it again.
//!
//! In: buckets, and what each read took out of them. Out: smaller reads, and waits that time ends. Never
//! here: a discarded byte, or a timer for everybody who waits for the same bucket.
//!
//! Who has used up its own bucket waits by itself, with its entry in the wheel set to when it may go on.
//! Those whose listener's bucket is used up stand in one queue, for which one time is kept: then the
//! first are called, as many as will about use it up, and go to the tails of their rings' FIFOs. Who had
//! its read stands behind those who still wait.
//!
//! What a farewell still reads is counted and not held up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::slots::{Fifo, Place, Slot, Slots};
use super::{READ_SIZES, Reactor, TICK};
use crate::close::PauseCause;
use crate::conn::Tick;
use crate::frame::{Cut, Framing, MessageIter};
use crate::net::Net;
use crate::policy::rate::{Bucket, Limit, Share, mean_len, nanos};
use crate::ring::shared::AtomicU64;

/// Those who are called from one queue in one turn.
const CALL_BUDGET: usize = 64;

/// The most that one read takes out of a bucket that is shared: those who stand in line have a read each,
/// and where the first one took all that there was, one was measured to get four times what another got.
const FAIR_READ: u64 = READ_SIZES[2] as u64;

const BYTES: usize = 0;
const MESSAGES: usize = 1;

/// A limit for bytes and one for messages.
pub(crate) type Both = [Option<Limit>; 2];

/// A listener's buckets, common to all reactors. Nothing is ordered by them.
#[derive(Debug, Default)]
pub(crate) struct Common([AtomicU64; 2]);

impl Common {
    /// Takes, and returns what the bucket is then.
    fn take(&self, kind: usize, limit: &Limit, n: u64, now: u64) -> Bucket {
        let taken = |full_at| {
            let mut bucket = Bucket::from_full_at(full_at);
            bucket.take(limit, n, now);
            bucket
        };
        let before = self.0[kind]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                Some(taken(full_at).full_at())
            })
            .unwrap_or_else(|unchanged| unchanged);
        taken(before)
    }
}

/// What a reactor is told of rates, if there are any.
#[derive(Debug)]
pub(crate) struct RateParts {
    pub(crate) connection: Both,
    pub(crate) listener: Both,
    /// For each listener.
    pub(crate) common: Arc<[Common]>,
    pub(crate) reactors: usize,
}

/// What a connection has of it.
#[derive(Debug, Default)]
pub(crate) struct Shaped {
    own: [Bucket; 2],
    /// When its own buckets let it go on, while it waits for them.
    until: Tick,
    /// Bytes of a message, as far as they are known; 0: they are not.
    mean: u32,
    /// What the last read brought.
    last: u32,
    /// It stood at the head of its queue, and need not stand behind those who are there now.
    called: bool,
}

/// Bytes of it in the sum of promise 1.
pub(crate) const SHAPED_BYTES: usize = size_of::<Shaped>();

/// A listener's part in this reactor.
#[derive(Debug)]
struct Pool {
    shares: [Share; 2],
    waiting: Fifo,
}

#[derive(Debug)]
pub(crate) struct Rates {
    parts: RateParts,
    pools: Vec<Pool>,
    /// By the connections' keys.
    shaped: Vec<Shaped>,
}

/// So many messages, in bytes.
fn in_bytes(n: u64, mean: u32, staged: u64) -> u64 {
    let bytes = match mean {
        // The smallest read tells.
        0 => READ_SIZES[0] as u64,
        mean => n.saturating_mul(mean.into()),
    };
    // What is larger than all before is read in larger and larger pieces.
    bytes.max(staged)
}

impl Pool {
    fn settle(&mut self, now: u64) {
        self.shares.iter_mut().for_each(|share| share.settle(now));
    }

    /// How many bytes may be read now.
    fn allows(&self, limits: &Both, mean: u32, staged: u64) -> Option<u64> {
        let mut most = u64::MAX;
        for (kind, limit) in limits.iter().enumerate() {
            let Some(limit) = limit else { continue };
            let n = self.shares[kind].allows(limit)?;
            most = most.min(match kind {
                BYTES => n,
                _ => in_bytes(n, mean, staged),
            });
        }
        Some(most)
    }

    /// Asks the common buckets for what is lacking.
    fn draw(&mut self, parts: &RateParts, common: &Common, now: u64) {
        for (kind, limit) in parts.listener.iter().enumerate() {
            let Some(limit) = limit else { continue };
            let share = &mut self.shares[kind];
            if let Some(n) = share.wants(limit, parts.reactors) {
                let bucket = common.take(kind, limit, n, now);
                share.draw(limit, n, bucket, now);
            }
        }
    }

    /// When all that is lacking has come, if something is.
    fn comes_at(&self) -> Option<u64> {
        self.shares.iter().filter_map(Share::comes_at).max()
    }
}

impl Rates {
    pub(crate) fn new(parts: RateParts) -> Self {
        let pool = |_: &Common| Pool {
            shares: [Share::default(); 2],
            waiting: Fifo::new(Place::Rate),
        };
        Self {
            pools: parts.common.iter().map(pool).collect(),
            shaped: Vec::new(),
            parts,
        }
    }

    /// A connection that has just come.
    pub(super) fn open(&mut self, key: u32) {
        let place = key as usize;
        if place >= self.shaped.len() {
            self.shaped.resize_with(place + 1, Shaped::default);
        }
        self.shaped[place] = Shaped::default();
    }

    /// Are there limits for messages, which have to be counted?
    pub(super) fn counts_messages(&self) -> bool {
        self.parts.connection[MESSAGES].is_some() || self.parts.listener[MESSAGES].is_some()
    }

    /// A read has brought so much.
    pub(super) fn take<S>(
        &mut self,
        key: u32,
        slot: &Slot<S>,
        bytes: usize,
        messages: u64,
        now: Duration,
    ) {
        let now = nanos(now);
        let taken = [bytes as u64, messages];
        let pool = &mut self.pools[usize::from(slot.listener)];
        for (share, n) in pool.shares.iter_mut().zip(taken) {
            share.take(n);
        }
        let shaped = &mut self.shaped[key as usize];
        for (kind, limit) in self.parts.connection.iter().enumerate() {
            if let Some(limit) = limit {
                shaped.own[kind].take(limit, taken[kind], now);
            }
        }
        shaped.called = false;
        shaped.mean = mean_len(shaped.mean, bytes, messages);
        shaped.last = bytes as u32;
    }

    pub(super) fn remove<S>(&mut self, slots: &mut Slots<S>, key: u32) {
        let listener = usize::from(slots[key].listener);
        self.pools[listener].waiting.remove(slots, key);
    }

    /// When somebody in a queue is to be called; in the past: now.
    pub(super) fn wakes_at(&self) -> Option<Duration> {
        let wakes = |pool: &Pool| {
            let is_waiting = !pool.waiting.is_empty();
            is_waiting.then(|| Duration::from_nanos(pool.comes_at().unwrap_or(0)))
        };
        self.pools.iter().filter_map(wakes).min()
    }
}

#[cfg(feature = "sim")]
impl Rates {
    /// Those who wait for a listener, by walking its queue.
    pub(super) fn waiting<S>(&self, slots: &Slots<S>, listener: usize) -> usize {
        self.pools[listener].waiting.len(slots)
    }

    /// When the queue of this one's listener goes on, as its bucket has it.
    pub(super) fn line_goes_on_at<S>(&self, slots: &Slots<S>, key: u32) -> Duration {
        let pool = &self.pools[usize::from(slots[key].listener)];
        let head = pool.waiting.head().expect("somebody waits");
        let mean = self.shaped[head as usize].mean;
        match pool.allows(&self.parts.listener, mean, slots[head].conn.staged() as u64) {
            Some(_) => Duration::ZERO,
            None => Duration::from_nanos(pool.comes_at().expect("nothing is to come for a queue")),
        }
    }

    /// The tick by which a connection's own buckets let it go on.
    pub(super) fn own_goes_on_at(&self, key: u32) -> Tick {
        let shaped = &self.shaped[key as usize];
        let limits = self.parts.connection.iter().zip(shaped.own);
        let at = limits.filter_map(|(limit, bucket)| Some(bucket.goes_on_at(limit.as_ref()?)));
        tick_at(at.max().expect("a limit"))
    }
}

/// The messages that end in these cuts of `whole`.
pub(super) fn messages_in(framing: &Framing, cuts: &[Cut], whole: &[u8]) -> u64 {
    let count = |cut: &Cut| match *cut {
        Cut::Messages { start, end } => {
            MessageIter::new(framing, &whole[start..end]).count() as u64
        }
        // With its rest, of one that was truncated.
        Cut::Discard { messages, .. } => messages,
        Cut::Truncated { .. } | Cut::Rest { .. } | Cut::Close { .. } => 0,
    };
    cuts.iter().map(count).sum()
}

/// The first tick that has not begun before.
fn tick_at(nanos: u64) -> Tick {
    nanos.div_ceil(TICK.as_nanos() as u64) as Tick
}

impl<N: Net> Reactor<N> {
    /// How many bytes a read of it may bring now. `None`: it waits, in no FIFO of a ring any more.
    pub(super) fn meter(&mut self, key: u32) -> Option<usize> {
        let Some(rates) = &mut self.rates else {
            return Some(usize::MAX);
        };
        let slot = &self.slots[key];
        if slot.conn.reason().is_some() {
            return Some(usize::MAX);
        }
        let now = nanos(self.now.since_start);
        let (listener, staged) = (usize::from(slot.listener), slot.conn.staged() as u64);
        let shaped = &mut rates.shaped[key as usize];
        let (called, mean) = (shaped.called, shaped.mean);
        let mut most = u64::MAX;
        let mut until = None;
        for (kind, limit) in rates.parts.connection.iter().enumerate() {
            let Some(limit) = limit else { continue };
            let bucket = shaped.own[kind];
            match bucket.allows(limit, now) {
                Some(n) if kind == BYTES => most = most.min(n),
                Some(n) => most = most.min(in_bytes(n, mean, staged)),
                None => until = until.max(Some(bucket.goes_on_at(limit))),
            }
        }
        if let Some(until) = until {
            // As far as the wheel's ticks reach: somebody else's clock is no excuse for a wrap.
            let ahead = tick_at(until).wrapping_sub(self.tick).min(1 << 30);
            shaped.until = self.tick.wrapping_add(ahead);
            self.dequeue(key);
            self.hold(key, PauseCause::Rate);
            self.rearm(key);
            self.owe(key);
            return None;
        }
        if rates.parts.listener.iter().any(Option::is_some) {
            let pool = &mut rates.pools[listener];
            pool.settle(now);
            let is_next = called || pool.waiting.is_empty();
            let mut allowed = pool.allows(&rates.parts.listener, mean, staged);
            if allowed.is_none() && is_next {
                pool.draw(&rates.parts, &rates.parts.common[listener], now);
                allowed = pool.allows(&rates.parts.listener, mean, staged);
            }
            let Some(n) = allowed.filter(|_| is_next) else {
                self.wait_in_line(key, listener);
                return None;
            };
            most = most.min(n).min(FAIR_READ);
        }
        Some(usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn wait_in_line(&mut self, key: u32, listener: usize) {
        self.dequeue(key);
        self.hold(key, PauseCause::Rate);
        if let Some(rates) = &mut self.rates {
            rates.shaped[key as usize].called = false;
            rates.pools[listener].waiting.push(&mut self.slots, key);
        }
    }

    /// When it may go on, if it waits for its own bucket.
    pub(super) fn rate_until(&self, key: u32) -> Option<Tick> {
        let slot = &self.slots[key];
        let waits = slot.place != Place::Rate && slot.conn.is_paused_by(PauseCause::Rate);
        let rates = self.rates.as_ref().filter(|_| waits)?;
        Some(rates.shaped[key as usize].until)
    }

    /// Calls those who wait for a listener's bucket, as far as it goes.
    pub(super) fn feed_rates(&mut self) {
        if self.rates.is_none() {
            return;
        }
        for listener in 0..self.listeners.len() {
            let mut promised = 0;
            for _ in 0..CALL_BUDGET {
                let Some(key) = self.call_next(listener, &mut promised) else {
                    break;
                };
                self.resume(key, PauseCause::Rate);
                // Who is paused by an operator, too, may have a gap to tell.
                self.owe(key);
            }
        }
    }

    /// The next one of a queue, while its bucket has more than what is promised to those before.
    fn call_next(&mut self, listener: usize, promised: &mut u64) -> Option<u32> {
        let rates = self.rates.as_mut()?;
        let pool = &mut rates.pools[listener];
        let key = pool.waiting.head()?;
        let now = nanos(self.now.since_start);
        pool.settle(now);
        let staged = self.slots[key].conn.staged() as u64;
        let shaped = &mut rates.shaped[key as usize];
        let limits = &rates.parts.listener;
        let allowed = match pool.allows(limits, shaped.mean, staged) {
            Some(allowed) => allowed,
            None => {
                pool.draw(&rates.parts, &rates.parts.common[listener], now);
                pool.allows(limits, shaped.mean, staged)?
            }
        };
        if *promised >= allowed {
            return None;
        }
        *promised += match shaped.last {
            0 => FAIR_READ,
            last => last.into(),
        };
        shaped.called = true;
        pool.waiting.remove(&mut self.slots, key);
        Some(key)
    }
}
