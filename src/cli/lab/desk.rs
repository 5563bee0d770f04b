//! The consumer: the same for every design. It checks and counts each message, and keeps the time that it
//! is told to keep.
//!
//! In: messages. Out: who got through, how late, and what is missing. Never here: how a message came.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::message::{self, now};
use super::plan;
use super::scenario::Scenario;

/// The charts have a point for each.
pub(crate) const WINDOW: Duration = Duration::from_millis(100);

/// Keeps the consumer to its rate, and makes it stand still when it is to.
#[derive(Debug)]
pub(crate) struct Pace {
    scenario: Scenario,
    consumer: usize,
    start: u64,
    next: u64,
}

impl Pace {
    /// For one of the consumers, from 0 on.
    pub(crate) fn new(scenario: &Scenario, consumer: usize, start: u64) -> Self {
        Self {
            scenario: scenario.clone(),
            consumer,
            start,
            next: 0,
        }
    }

    /// Returns when the next message may be taken.
    pub(crate) fn wait(&mut self) {
        loop {
            let t = Duration::from_nanos(now().saturating_sub(self.start));
            let Some(stall) = self.scenario.stall_of(self.consumer, t) else {
                break;
            };
            thread::sleep(stall.end() - t);
        }
        if let Some(rate) = self.scenario.consumer_rates[self.consumer].0 {
            let now = now();
            // What was not taken in a pause is not made up for.
            self.next = self.next.max(now.saturating_sub(5_000_000)) + 1_000_000_000 / rate;
            if self.next > now + 1_000_000 {
                thread::sleep(Duration::from_nanos(self.next - now));
            }
        }
    }
}

/// How many took how long: sixteen steps for each doubling, in microseconds.
#[derive(Debug)]
struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    fn place(micros: u64) -> usize {
        let bits = 64 - micros.leading_zeros() as usize;
        if bits <= 5 {
            return micros as usize;
        }
        let shift = bits - 5;
        (shift << 4) + (micros >> shift) as usize
    }

    /// The largest number with this place.
    fn value(place: usize) -> u64 {
        if place < 32 {
            return place as u64;
        }
        let shift = (place >> 4) - 1;
        let base = (place - (shift << 4)) as u64;
        ((base + 1) << shift) - 1
    }

    fn quantile(&self, q: f64) -> Option<u64> {
        let all: u64 = self.counts.iter().sum();
        let rank = ((all as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(place, count)| {
            seen += count;
            (seen >= rank).then(|| Self::value(place))
        })
    }
}

/// What came from one sender.
#[derive(Clone, Debug, Default)]
struct Row {
    /// Numbers that there can be.
    most: u64,
    /// A bit for each.
    came: Vec<u64>,
    count: u64,
    last: u64,
}

impl Row {
    fn has(&self, number: u64) -> bool {
        self.came[(number / 64) as usize] >> (number % 64) & 1 == 1
    }
}

/// What was delivered.
#[derive(Debug)]
pub(crate) struct Desk {
    start: u64,
    rows: Vec<Row>,
    delivered: u64,
    corrupt: u64,
    twice: u64,
    latency: Histogram,
    /// Messages, and the worst latency in microseconds.
    windows: Vec<(u64, u64)>,
}

impl Desk {
    pub(crate) fn new(scenario: &Scenario, start: u64) -> Self {
        let plans = plan::plans(scenario);
        let row = |plan: &plan::Plan| {
            let most = plan.most(scenario) + 1;
            Row {
                most,
                came: vec![0; most.div_ceil(64) as usize],
                ..Row::default()
            }
        };
        Self {
            start,
            rows: plans.iter().map(row).collect(),
            delivered: 0,
            corrupt: 0,
            twice: 0,
            latency: Histogram {
                counts: vec![0; 1024],
            },
            windows: Vec::new(),
        }
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn take(&mut self, text: &[u8]) {
        let now = now();
        let read = message::read(text);
        let known = read.and_then(|message| {
            let row = self.rows.get_mut(message.sender)?;
            (message.number < row.most).then_some((message, row))
        });
        let Some((message, row)) = known else {
            self.corrupt += 1;
            return;
        };
        if row.has(message.number) {
            self.twice += 1;
            return;
        }
        row.came[(message.number / 64) as usize] |= 1 << (message.number % 64);
        row.count += 1;
        row.last = now;
        self.delivered += 1;
        let micros = now.saturating_sub(message.due) / 1000;
        self.latency.counts[Histogram::place(micros)] += 1;
        let window = (now.saturating_sub(self.start) / WINDOW.as_nanos() as u64) as usize;
        if self.windows.len() <= window {
            self.windows.resize(window + 1, (0, 0));
        }
        let (count, worst) = &mut self.windows[window];
        *count += 1;
        *worst = (*worst).max(micros);
    }

    /// The result. `sent` and `told` are by sender: how many messages its kernel took, and below which
    /// number it knows of a failure.
    pub(crate) fn report(&self, sent: &[u64], told: &[u64]) -> Value {
        let (mut lost, mut lost_told, mut unsent) = (0, 0, 0);
        for (place, row) in self.rows.iter().enumerate() {
            let (sent, told) = (sent[place], told[place]);
            let missing = |from, to| (from..to).filter(|n| !row.has(*n)).count() as u64;
            lost += missing(0, sent);
            lost_told += missing(0, told.min(sent));
            unsent += (sent..row.most).filter(|n| row.has(*n)).count() as u64;
        }
        let quantile = |q| self.latency.quantile(q);
        json!({
            "delivered": self.delivered,
            "lost": lost,
            "told": lost_told,
            // A message that came and was never sent, or not as it was: the accounts are wrong.
            "corrupt": self.corrupt,
            "twice": self.twice,
            "unsent": unsent,
            "p50_us": quantile(0.5),
            "p99_us": quantile(0.99),
            "p999_us": quantile(0.999),
            "windows": self.windows,
            "count_by_sender": self.rows.iter().map(|row| row.count).collect::<Vec<_>>(),
            "last_by_sender": self.rows.iter().map(|row| row.last).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::tests::scenario;
    use super::*;

    #[test]
    fn a_place_holds_numbers_within_a_sixteenth() {
        let mut last = 0;
        for micros in (0..4000).chain([10_000, 1 << 20, (1 << 40) + 3]) {
            let place = Histogram::place(micros);
            assert!(place >= last && place < 1024, "{micros}");
            last = place;
            let value = Histogram::value(place);
            assert!(
                value >= micros && value <= micros + micros / 16,
                "{micros}: {value}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_told_apart_by_who_was_told() {
        let scenario = scenario(&["--senders=2", "--rate=10", "--seconds=1", "--tricklers=0%"]);
        let mut desk = Desk::new(&scenario, 0);
        let mut line = Vec::new();
        for (sender, number) in [(0, 0), (0, 3), (0, 3), (1, 0)] {
            message::write(&mut line, sender, number, now(), 64);
            desk.take(&line[..64]);
        }
        line[5] ^= 1;
        desk.take(&line[..64]);
        // Of sender 0, 1 and 2 are missing below 4, and 4 and 5 beyond; sender 1 was never told.
        let report = desk.report(&[6, 2], &[4, 0]);
        for (name, number) in [
            ("delivered", 3),
            ("lost", 5),
            ("told", 2),
            ("twice", 1),
            ("corrupt", 1),
            ("unsent", 0),
        ] {
            assert_eq!(report[name], number, "{name}");
        }
        assert_eq!(desk.report(&[3, 2], &[0, 0])["unsent"], 1);
    }
}
