//! The rates of all connections, sources and listeners, measured a second time: from what arrived, and when.
//!
//! In: what a reactor's slots look like after each turn. Out: nothing, or a panic that names who was read
//! though its bucket was empty. Never here: a bucket of the reactor's own.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::ledger::source;
use super::plan::Plan;
use crate::config::{PerSource, Rate, Rates};
use crate::peer::{ConnectionId, Peer};
use crate::reactor::{Seen, Sight};

/// A bucket that is kept as everybody draws it: so much is in it, and it fills.
#[derive(Clone, Copy, Debug)]
struct Meter {
    per_sec: f64,
    most: f64,
    level: f64,
    at: Duration,
    /// What did not go into the full bucket when time passed last.
    spilled: f64,
}

impl Meter {
    fn new(per_sec: u64, burst: Duration, at: Duration) -> Self {
        let most = per_sec as f64 * burst.as_secs_f64();
        Self {
            per_sec: per_sec as f64,
            most,
            level: most,
            at,
            spilled: 0.0,
        }
    }

    fn pass(&mut self, now: Duration) {
        let came = |from: Duration, to: Duration| (to - from).as_secs_f64() * self.per_sec;
        if now > self.at {
            let level = self.level + came(self.at, now);
            self.level = level.min(self.most);
            self.spilled = level - self.level;
            self.at = now;
        } else {
            // The turn of another reactor that began earlier: nothing of this had been spilled by then.
            let back = self.spilled.min(came(now, self.at));
            self.level += back;
            self.spilled -= back;
        }
    }
}

impl Meter {
    /// Takes so much of what several reactors share. Was it there, but for what each of them may have in hand:
    /// what it drew in advance, or one read by what it saw while another one read?
    fn is_within(&mut self, bytes: u64, now: Duration, reactors: f64) -> bool {
        self.pass(now);
        self.level -= bytes as f64;
        let quantum = (self.per_sec / 10.0)
            .max(SMALLEST_READ)
            .min(self.most / 2.0);
        let in_hand = quantum.max(self.most.min(LARGEST_READ));
        self.level + reactors * (in_hand + SLACK) >= 0.0
    }
}

#[derive(Debug)]
struct Connection {
    received: u64,
    messages: u64,
    meters: [Option<Meter>; 2],
}

/// What a float may be wrong by, and the one byte that may always be read.
const SLACK: f64 = 2.0;
/// The smallest read: what one may bring of messages that nobody knows yet.
const SMALLEST_READ: f64 = 4096.0;
/// What a read takes at most of a bucket that is shared.
const LARGEST_READ: f64 = 16384.0;

#[derive(Debug)]
pub(super) struct Meters {
    rates: Rates,
    has_rates: bool,
    reactors: f64,
    /// Where the messages of each port begin in its stream, and where the last one ends.
    starts: Vec<Vec<u64>>,
    connections: HashMap<ConnectionId, Connection>,
    listeners: Vec<Option<Meter>>,
    rates_of_listeners: Vec<Rate>,
    sources: HashMap<u16, Meter>,
    per_source: PerSource,
    /// When connections of each source came.
    came: HashMap<u16, Vec<Duration>>,
    known: HashSet<ConnectionId>,
}

fn port(peer: &Peer) -> u16 {
    match peer {
        Peer::Tcp(address) => address.port(),
        other => panic!("{other:?}"),
    }
}

impl Meters {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            rates: plan.config.rates,
            has_rates: plan.config.has_rates(),
            reactors: plan.config.reactors as f64,
            starts: plan.scripts.iter().map(|s| s.starts.clone()).collect(),
            connections: HashMap::new(),
            listeners: vec![None; plan.config.listeners.len()],
            rates_of_listeners: plan.config.rates_of_listeners().collect(),
            sources: HashMap::new(),
            per_source: plan.config.per_source,
            came: HashMap::new(),
            known: HashSet::new(),
        }
    }

    /// A reactor has had a turn.
    pub(super) fn look(&mut self, sight: &Sight) {
        if let Some(per_sec) = self.per_source.connects_per_sec {
            for seen in &sight.all {
                if self.known.insert(seen.id) {
                    self.note_coming(seen, sight.now, per_sec);
                }
            }
        }
        if !self.has_rates {
            return;
        }
        for seen in &sight.all {
            // What a farewell reads is held up by no rate.
            if seen.open && seen.reason.is_none() {
                self.measure(seen, sight.now);
            } else {
                self.connections.remove(&seen.id);
            }
        }
    }

    /// In no window more than a second's worth, and what the window's time brings.
    fn note_coming(&mut self, seen: &Seen, now: Duration, per_sec: u32) {
        let source = source(port(&seen.peer), self.per_source.ipv6_prefix);
        let came = self.came.entry(source).or_default();
        came.push(now);
        // Several reactors, each with the time at which its turn began.
        came.sort_unstable();
        for (first, from) in came.iter().enumerate() {
            for (n, to) in came[first..].iter().enumerate() {
                let due = per_sec as f64 * (1.0 + (*to - *from).as_secs_f64());
                let is_within = n as f64 + 1.0 <= due + 1e-6;
                assert!(is_within, "source {source} came too often: {came:?}");
            }
        }
    }

    /// No source has more than it may; all reactors are at rest, and these are connected.
    pub(super) fn check_open(&self, open: &[Peer]) {
        let Some(limit) = self.per_source.connections else {
            return;
        };
        let mut counts: HashMap<u16, usize> = HashMap::new();
        for peer in open {
            let source = source(port(peer), self.per_source.ipv6_prefix);
            let count = counts.entry(source).or_default();
            *count += 1;
            assert!(
                *count <= limit,
                "source {source} has {count} connections of {limit}"
            );
        }
    }

    fn measure(&mut self, seen: &Seen, now: Duration) {
        let messages = self.messages(seen);
        let Rates {
            connection:
                Rate {
                    bytes_per_sec,
                    messages_per_sec,
                    ..
                },
            burst,
            ..
        } = self.rates;
        let one = self
            .connections
            .entry(seen.id)
            .or_insert_with(|| Connection {
                received: 0,
                messages: 0,
                meters: [bytes_per_sec, messages_per_sec]
                    .map(|rate| rate.map(|rate| Meter::new(rate, burst, now))),
            });
        let bytes = seen.received - one.received;
        let news = [bytes, messages.saturating_sub(one.messages)];
        one.received = seen.received;
        one.messages = messages.max(one.messages);
        for (place, (meter, n)) in one.meters.iter_mut().zip(news).enumerate() {
            let Some(meter) = meter else { continue };
            meter.pass(now);
            assert!(
                bytes == 0 || meter.level + SLACK >= 0.0,
                "{}: was read though its bucket was empty: {meter:?}",
                seen.id
            );
            meter.level -= n as f64;
            assert!(
                place != 0 || meter.level + SLACK >= 0.0,
                "{}: was read beyond its rate: {meter:?}",
                seen.id
            );
        }
        if let Some(rate) = self.rates_of_listeners[seen.listener].bytes_per_sec {
            let meter = &mut self.listeners[seen.listener];
            let meter = meter.get_or_insert_with(|| Meter::new(rate, burst, now));
            let is_within = meter.is_within(bytes, now, self.reactors);
            let listener = seen.listener;
            assert!(
                is_within,
                "listener {listener}: was read beyond its rate: {meter:?}"
            );
        }
        if let Some(rate) = self.rates.source.bytes_per_sec {
            let source = source(port(&seen.peer), self.per_source.ipv6_prefix);
            let meter = self.sources.entry(source);
            let meter = meter.or_insert_with(|| Meter::new(rate, burst, now));
            let is_within = meter.is_within(bytes, now, self.reactors);
            assert!(
                is_within,
                "source {source}: was read beyond its rate: {meter:?}"
            );
        }
    }

    /// Messages that came to their end, where it is known.
    fn messages(&self, seen: &Seen) -> u64 {
        let starts = &self.starts[usize::from(port(&seen.peer)) - 1];
        let begun = starts.partition_point(|start| *start <= seen.received);
        begun.saturating_sub(1) as u64
    }
}
