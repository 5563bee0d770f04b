//! Who waits because enough came in this second, and who calls it again.
//!
//! In: buckets, and what each read took out of them. Out: smaller reads, and waits that time ends. Never
//! here: a discarded byte, or a timer for everybody who waits for the same bucket.
//!
//! Who has used up its own bucket waits by itself, with its entry in the wheel set to when it may go on.
//! Those whose source's or listener's bucket is used up stand in one line ([`super::line`]), for which one
//! time is kept: then the first are called, as many as will about use it up, and go to the tails of their
//! rings' FIFOs. Who had its read stands behind those who still wait. Who has to wait in both lines does so
//! in one after the other, and has its turn in the first until it has had its read.
//!
//! What a farewell still reads is counted and not held up.

use std::sync::Arc;
use std::time::Duration;

use super::common::{Both, Common};
use super::line::{Lines, MESSAGES, Reads, Rules, tick_at};
use super::slots::{Place, Slot, Slots};
use super::wheel::NONE;
use super::{Reactor, SMALLEST_READ};
use crate::close::PauseCause;
use crate::conn::Tick;
use crate::frame::{Cut, Framing, MessageIter};
use crate::net::Net;
use crate::peer::Peer;
use crate::policy::rate::{Bucket, Scope, mean_len, nanos};
use crate::policy::{Seed, Source};

/// Those who are called in one turn: of one line, and of all.
const LINE_CALLS: usize = 64;
const CALL_BUDGET: usize = 256;

/// The most that one read takes out of a bucket that is shared: those who stand in line have a read each,
/// and where the first one took all that there was, one was measured to get four times what another got.
const FAIR_READ: u64 = 16 << 10;

/// What a reactor is told of rates, if there are any.
#[derive(Clone, Debug)]
pub(crate) struct RateParts {
    pub(crate) connection: Both,
    pub(crate) source: Both,
    /// For each listener.
    pub(crate) listeners: Arc<[Both]>,
    pub(crate) common: Arc<Common>,
    pub(crate) reactors: usize,
    /// What makes a source, and where it is found.
    pub(crate) ipv6_prefix: u8,
    pub(crate) seed: Seed,
}

/// The buckets that connections share, from the inside out.
const SHARED: [Scope; 2] = [Scope::Source, Scope::Listener];

/// What a connection has of it.
#[derive(Debug)]
struct Shaped {
    own: [Bucket; 2],
    /// The lines of its [`SHARED`] buckets; none where nothing is limited.
    lines: [u32; SHARED.len()],
    /// It stood at the head of that line, and need not stand behind those who are there now.
    called: [bool; SHARED.len()],
    /// What it waits for, or waited for last.
    held_by: Scope,
    /// When its own buckets let it go on, while it waits for them.
    until: Tick,
    /// Bytes of a message, as far as they are known; 0: they are not.
    mean: u32,
    /// What the last read brought.
    last: u32,
}

/// Bytes of it in the sum of promise 1.
pub(crate) const SHAPED_BYTES: usize = size_of::<Shaped>();

impl Shaped {
    const NOTHING: Self = Self {
        own: [Bucket::from_full_at(0); 2],
        lines: [NONE; SHARED.len()],
        called: [false; SHARED.len()],
        held_by: Scope::Connection,
        until: 0,
        mean: 0,
        last: 0,
    };

    fn reads<S>(&self, slot: &Slot<S>) -> Reads {
        Reads {
            mean: self.mean,
            staged: slot.conn.staged() as u64,
            smallest: SMALLEST_READ as u64,
        }
    }

    /// Its lines, and which of its buckets they are for.
    fn lines(&self) -> impl Iterator<Item = (usize, u32)> + use<> {
        let all = self.lines.into_iter().enumerate();
        all.filter(|(_, line)| *line != NONE)
    }

    /// The line in which it stands, if it stands in one.
    fn line(&self) -> u32 {
        match self.held_by {
            Scope::Source => self.lines[0],
            _ => self.lines[1],
        }
    }
}

#[derive(Debug)]
pub(crate) struct Rates {
    connection: Both,
    /// Where sources are limited.
    sources: Option<(u8, Seed)>,
    counts_messages: bool,
    lines: Lines,
    /// By the connections' keys.
    shaped: Vec<Shaped>,
}

impl Rates {
    pub(crate) fn new(parts: RateParts, tick: Tick) -> Self {
        let counts = |limits: &Both| limits[MESSAGES].is_some();
        let counts_messages = [&parts.connection, &parts.source].into_iter().any(counts)
            || parts.listeners.iter().any(counts);
        let is_of_sources = parts.source.iter().any(Option::is_some);
        let rules = Rules {
            source: parts.source,
            listeners: parts.listeners,
            common: parts.common,
            reactors: parts.reactors,
        };
        Self {
            connection: parts.connection,
            sources: is_of_sources.then_some((parts.ipv6_prefix, parts.seed)),
            counts_messages,
            lines: Lines::new(rules, tick),
            shaped: Vec::new(),
        }
    }

    /// A connection that has just come.
    pub(super) fn open(&mut self, key: u32, listener: u8, peer: &Peer) {
        let place = key as usize;
        if place >= self.shaped.len() {
            self.shaped.resize_with(place + 1, || Shaped::NOTHING);
        }
        let source = self.sources.and_then(|(prefix, seed)| {
            let source = Source::of(peer, prefix)?;
            Some(self.lines.join(seed.numbers(source)))
        });
        let lines = [source, self.lines.of_listener(listener)];
        self.shaped[place] = Shaped {
            lines: lines.map(|line| line.unwrap_or(NONE)),
            ..Shaped::NOTHING
        };
    }

    /// One whose slot is free.
    pub(super) fn close(&mut self, key: u32) {
        let [source, _] = self.shaped[key as usize].lines;
        if source != NONE {
            self.lines.leave(source);
        }
    }

    /// Are there limits for messages, which have to be counted?
    pub(super) fn counts_messages(&self) -> bool {
        self.counts_messages
    }

    /// A read has brought so much.
    pub(super) fn take(&mut self, key: u32, bytes: usize, messages: u64, now: Duration) {
        let now = nanos(now);
        let taken = [bytes as u64, messages];
        let shaped = &mut self.shaped[key as usize];
        for (_, line) in shaped.lines() {
            self.lines.take(line, taken, now);
        }
        for (kind, limit) in self.connection.iter().enumerate() {
            if let Some(limit) = limit {
                shaped.own[kind].take(limit, taken[kind], now);
            }
        }
        shaped.called = [false; SHARED.len()];
        shaped.mean = mean_len(shaped.mean, bytes, messages);
        shaped.last = bytes as u32;
    }

    pub(super) fn remove<S>(&mut self, slots: &mut Slots<S>, key: u32) {
        let line = self.shaped[key as usize].line();
        self.lines.remove(slots, line, key);
    }

    /// What it waits for, or waited for last.
    pub(super) fn held_by(&self, key: u32) -> Scope {
        self.shaped[key as usize].held_by
    }

    /// Is there a line whose turn has come?
    pub(super) fn is_busy(&self) -> bool {
        self.lines.is_busy()
    }

    /// When somebody in a line is to be called.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        self.lines.next_tick()
    }

    /// The next one of a line, while its bucket has more than what is promised to those before.
    fn call_next<S>(
        &mut self,
        slots: &mut Slots<S>,
        line: u32,
        promised: &mut u64,
        now: Duration,
    ) -> Option<u32> {
        let key = self.lines[line].waiting.head()?;
        let shaped = &mut self.shaped[key as usize];
        let reads = shaped.reads(&slots[key]);
        let offered = self.lines.offers(line, reads, nanos(now))?;
        if *promised >= offered {
            return None;
        }
        *promised += match shaped.last {
            0 => FAIR_READ,
            last => last.into(),
        };
        let (place, _) = shaped.lines().find(|(_, of)| *of == line)?;
        shaped.called[place] = true;
        self.lines.remove(slots, line, key);
        Some(key)
    }
}

#[cfg(feature = "sim")]
impl Rates {
    /// Panics unless its lines are what these connections make of them.
    pub(super) fn check<S>(&self, slots: &Slots<S>, keys: &[u32]) {
        let mut all: std::collections::HashMap<u32, [usize; 2]> = Default::default();
        for key in keys {
            let shaped = &self.shaped[*key as usize];
            for (_, line) in shaped.lines() {
                let [connections, waiting] = all.entry(line).or_default();
                *connections += 1;
                let waits = slots[*key].place == Place::Rate && shaped.line() == line;
                *waiting += usize::from(waits);
            }
        }
        self.lines.check(slots, &all);
    }

    /// When the line in which it stands goes on, as its bucket has it.
    pub(super) fn line_goes_on_at(&self, key: u32, now: Duration) -> Duration {
        let line = self.shaped[key as usize].line();
        self.lines.goes_on_at(line, nanos(now))
    }

    /// The tick by which a connection's own buckets let it go on.
    pub(super) fn own_goes_on_at(&self, key: u32) -> Tick {
        let shaped = &self.shaped[key as usize];
        let limits = self.connection.iter().zip(shaped.own);
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
        let now = nanos(self.now);
        let shaped = &mut rates.shaped[key as usize];
        let reads = shaped.reads(slot);
        let mut most = u64::MAX;
        let mut until = None;
        for (kind, limit) in rates.connection.iter().enumerate() {
            let Some(limit) = limit else { continue };
            let bucket = shaped.own[kind];
            match bucket.allows(limit, now) {
                Some(n) => most = most.min(reads.bytes(kind, n)),
                None => until = until.max(Some(bucket.goes_on_at(limit))),
            }
        }
        if let Some(until) = until {
            // As far as the wheel's ticks reach: somebody else's clock is no excuse for a wrap.
            let ahead = tick_at(until).wrapping_sub(self.tick).min(1 << 30);
            shaped.until = self.tick.wrapping_add(ahead);
            self.hold_for_rate(key, Scope::Connection);
            self.rearm(key);
            self.line_up(key);
            return None;
        }
        for (place, line) in shaped.lines() {
            let is_next = shaped.called[place];
            match rates.lines.allows(line, is_next, reads, now) {
                Some(n) => most = most.min(n).min(FAIR_READ),
                None => {
                    self.wait_in_line(key, place);
                    return None;
                }
            }
        }
        Some(usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn hold_for_rate(&mut self, key: u32, scope: Scope) {
        self.dequeue(key);
        if let Some(rates) = &mut self.rates {
            rates.shaped[key as usize].held_by = scope;
        }
        self.hold(key, PauseCause::Rate);
    }

    fn wait_in_line(&mut self, key: u32, place: usize) {
        self.hold_for_rate(key, SHARED[place]);
        if let Some(rates) = &mut self.rates {
            let shaped = &mut rates.shaped[key as usize];
            shaped.called[place] = false;
            rates.lines.push(&mut self.slots, shaped.lines[place], key);
        }
    }

    /// What a pause by a rate is counted for.
    pub(super) fn held_by(&self, key: u32) -> Scope {
        let rates = self.rates.as_ref();
        rates.map_or(Scope::Connection, |rates| rates.held_by(key))
    }

    /// When it may go on, if it waits for its own bucket.
    pub(super) fn rate_until(&self, key: u32) -> Option<Tick> {
        let slot = &self.slots[key];
        let waits = slot.place != Place::Rate && slot.conn.is_paused_by(PauseCause::Rate);
        let rates = self.rates.as_ref().filter(|_| waits)?;
        Some(rates.shaped[key as usize].until)
    }

    /// Calls those who wait in the lines whose turn has come, as far as it goes.
    pub(super) fn feed_rates(&mut self) {
        let Some(rates) = &mut self.rates else { return };
        let mut left = CALL_BUDGET;
        // Each has one turn.
        for _ in 0..rates.lines.turn(self.tick) {
            if left == 0 {
                return;
            }
            left -= self.feed_line(left.min(LINE_CALLS));
        }
    }

    /// Calls the first ones of the next line. Returns how many, and one for a look.
    fn feed_line(&mut self, most: usize) -> usize {
        let Some(line) = self.rates.as_mut().and_then(|rates| rates.lines.next()) else {
            return 0;
        };
        let (mut promised, mut called) = (0, 0);
        while called < most {
            let Some(rates) = &mut self.rates else { break };
            let now = self.now;
            let Some(key) = rates.call_next(&mut self.slots, line, &mut promised, now) else {
                break;
            };
            called += 1;
            self.resume(key, PauseCause::Rate);
        }
        if let Some(rates) = &mut self.rates {
            rates.lines.rest(line);
        }
        called.max(1)
    }
}
