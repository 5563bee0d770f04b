//! The table: what each column means, and what a design came to.
//!
//! In: what senders and consumer counted, and samples. Out: rows, as text and as JSON.
//! Never here: a number that was not measured.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::designs::Design;
use super::desk::WINDOW;
use super::scenario::Scenario;
use super::watch::Sample;

/// No message is later than this: the backlog is gone.
const RECOVERED: Duration = Duration::from_millis(250);
/// In so many windows in a row that have messages.
const STEADY: usize = 3;

/// Each column, and what it is: the one place that defines them.
pub(crate) const COLUMNS: [(&str, &str); 19] = [
    ("design", "What ran; explained under what came of it."),
    (
        "due",
        "Messages that senders had to send: rate times the time for which each was there.",
    ),
    (
        "sent",
        "Messages whose last byte the kernel of the sender has taken. What is due and not sent stayed with the sender, \
         which knows it.",
    ),
    (
        "delivered",
        "Messages that the consumer took, each with its checksum, each number once.",
    ),
    (
        "lost",
        "Sent and not delivered, by number, when the run ended: 5 s after the senders at the latest, at once where the \
         consumer hangs. told + counted + nobody.",
    ),
    (
        "told",
        "Of the lost: their sender knows. It got an error or an end of the connection after it had sent them, or reset \
         the connection itself.",
    ),
    (
        "counted",
        "Of the other lost: the server has counted them in a number that an operator can read (fanin: bytes discarded, \
         abandoned and left unread, divided by a message's).",
    ),
    ("nobody", "Of the lost: the rest. Nobody knows."),
    (
        "refused",
        "Connections that were not let in: closed at once by the server, or never accepted, or failed to connect.",
    ),
    (
        "closed",
        "Connections that the server ended although their sender wanted to go on; it comes again 0.3 s later.",
    ),
    (
        "stuck",
        "Connections whose sender had left for a second, of which the server still held the descriptor (and, in the \
         designs with a thread for each, the thread), and of whose sender no message was delivered after that.",
    ),
    (
        "held",
        "As stuck, but a message of that sender was delivered later: the descriptor held what was still to be delivered.",
    ),
    (
        "peak",
        "The most memory of the server's process (VmHWM), the lab's own accounts included. Socket buffers are not in it.",
    ),
    (
        "p50",
        "Of the delivered, half were no later than this, from the time at which they were due at the sender to the \
         consumer. A sender that was held up is late as well.",
    ),
    ("p99", "The same for 99 of 100."),
    ("p999", "The same for 999 of 1,000."),
    (
        "cpu",
        "CPU seconds of the server's process, user and system, the consumer's checks included.",
    ),
    (
        "jain",
        "Jain's index of fairness over the senders that had something to say, of delivered/due: 1 if all got the same \
         part through, 1/n if one got all.",
    ),
    (
        "recover",
        "From the end of the last stall that ended among senders until no message was later than 250 ms, in three \
         tenths of a second in a row; never: not before the next stall or the end; -: there was no such stall.",
    ),
];

/// After a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    NoStall,
    Never,
    After(Duration),
}

/// What a design came to.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) design: &'static Design,
    pub(crate) due: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) told: u64,
    pub(crate) counted: u64,
    pub(crate) refused: u64,
    /// How often each layer acted, by its reason.
    pub(crate) acts: Vec<(String, u64)>,
    pub(crate) stuck: usize,
    pub(crate) held: usize,
    /// Microseconds.
    pub(crate) latency: [Option<u64>; 3],
    pub(crate) jain: f64,
    pub(crate) recovery: Recovery,
    pub(crate) samples: Vec<Sample>,
    /// Messages and the worst latency in microseconds, in each tenth of a second.
    pub(crate) windows: Vec<(u64, u64)>,
}

/// Puts it together.
pub(super) fn row(
    design: &'static Design,
    scenario: &Scenario,
    senders: &Value,
    server: &Value,
    samples: Vec<Sample>,
    (stuck, held): (usize, usize),
) -> Row {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let list = |value: &Value| -> Vec<u64> {
        value.as_array().into_iter().flatten().map(number).collect()
    };
    let (due, sent) = (list(&senders["due"]), list(&senders["sent"]));
    let (lost, told) = (number(&server["lost"]), number(&server["told"]));
    let windows = server["windows"].as_array().into_iter().flatten();
    let windows: Vec<_> = windows.map(|w| (number(&w[0]), number(&w[1]))).collect();
    let never = number(&senders["connects"]).saturating_sub(number(&server["accepted"]));
    Row {
        design,
        due: due.iter().sum(),
        sent: sent.iter().sum(),
        delivered: number(&server["delivered"]),
        lost,
        told,
        counted: number(&server["counted"]).min(lost - told),
        refused: number(&server["refused"]) + never + number(&senders["failed_connects"]),
        acts: serde_json::from_value(server["acts"].clone()).unwrap_or_default(),
        stuck,
        held,
        latency: ["p50_us", "p99_us", "p999_us"].map(|name| server[name].as_u64()),
        jain: jain(&list(&server["count_by_sender"]), &due),
        recovery: recovery(scenario, &windows),
        samples,
        windows,
    }
}

/// Jain's index of `got / due`.
fn jain(got: &[u64], due: &[u64]) -> f64 {
    let parts = got.iter().zip(due).filter(|(_, due)| **due > 0);
    let parts: Vec<_> = parts.map(|(got, due)| *got as f64 / *due as f64).collect();
    let sum: f64 = parts.iter().sum();
    let squares: f64 = parts.iter().map(|part| part * part).sum();
    if squares == 0.0 {
        return 0.0;
    }
    sum * sum / (parts.len() as f64 * squares)
}

fn recovery(scenario: &Scenario, windows: &[(u64, u64)]) -> Recovery {
    let Some(from) = scenario.last_recovery() else {
        return Recovery::NoStall;
    };
    let later = scenario.stalls.iter().map(|stall| stall.at);
    let until = later
        .filter(|at| *at > from)
        .min()
        .unwrap_or(scenario.length());
    let time = |place: usize| WINDOW * place as u32;
    let inside = |place: &usize| time(*place) >= from && time(*place + 1) <= until;
    let busy = (0..windows.len())
        .filter(inside)
        .filter(|place| windows[*place].0 > 0);
    let busy: Vec<_> = busy.collect();
    let calm = |places: &[usize]| {
        let bound = RECOVERED.as_micros() as u64;
        places.iter().all(|place| windows[*place].1 <= bound)
    };
    let found = busy.windows(STEADY).find(|places| calm(places));
    found.map_or(Recovery::Never, |places| {
        Recovery::After(time(places[0]) - from)
    })
}

impl Row {
    pub(crate) fn nobody(&self) -> u64 {
        self.lost - self.told - self.counted
    }

    /// How often the layers acted whose reasons begin so.
    pub(crate) fn acted(&self, reasons: &str) -> u64 {
        let acts = self.acts.iter();
        let acts = acts.filter(|(reason, _)| reason.starts_with(reasons));
        acts.map(|(_, n)| n).sum()
    }

    pub(crate) fn closed(&self) -> u64 {
        self.acted("closed.")
    }

    fn last(&self) -> Sample {
        self.samples.last().copied().unwrap_or_default()
    }

    pub(crate) fn peak_kib(&self) -> u64 {
        self.samples.iter().map(|s| s.peak_kib).max().unwrap_or(0)
    }

    /// In the order of [`COLUMNS`], no cell with a blank in it.
    pub(crate) fn cells(&self) -> [String; COLUMNS.len()] {
        let recovery = match self.recovery {
            Recovery::NoStall => "-".into(),
            Recovery::Never => "never".into(),
            Recovery::After(time) => format!("{:.1}s", time.as_secs_f64()),
        };
        let [p50, p99, p999] = self.latency.map(|time| time.map_or("-".into(), micros));
        [
            self.design.name.into(),
            self.due.to_string(),
            self.sent.to_string(),
            self.delivered.to_string(),
            self.lost.to_string(),
            self.told.to_string(),
            self.counted.to_string(),
            self.nobody().to_string(),
            self.refused.to_string(),
            self.closed().to_string(),
            self.stuck.to_string(),
            self.held.to_string(),
            format!("{:.1}MiB", self.peak_kib() as f64 / 1024.0),
            p50,
            p99,
            p999,
            format!("{:.2}s", self.last().cpu_millis as f64 / 1000.0),
            format!("{:.3}", self.jain),
            recovery,
        ]
    }

    /// The row, and then each sample and each tenth of a second.
    pub(crate) fn raw(&self) -> Vec<Value> {
        let mut lines = vec![json!({
            "kind": "row", "design": self.design.name, "due": self.due, "sent": self.sent, "delivered": self.delivered,
            "lost": self.lost, "told": self.told, "counted": self.counted, "nobody": self.nobody(),
            "refused": self.refused, "closed": self.closed(), "acts": self.acts, "stuck": self.stuck, "held": self.held, "peak_kib": self.peak_kib(),
            "latency_us": self.latency, "cpu_ms": self.last().cpu_millis, "jain": self.jain,
            "recover_ms": match self.recovery {
                Recovery::After(time) => json!(time.as_millis() as u64),
                Recovery::Never => json!("never"),
                Recovery::NoStall => Value::Null,
            },
        })];
        lines.extend(self.samples.iter().map(|s| {
            json!({
                "kind": "sample", "design": self.design.name, "ms": s.millis, "descriptors": s.descriptors,
                "present": s.present, "threads": s.threads, "rss_kib": s.rss_kib, "cpu_ms": s.cpu_millis,
            })
        }));
        lines.extend(self.windows.iter().enumerate().map(|(place, (count, worst))| {
            let ms = (WINDOW * place as u32).as_millis() as u64;
            json!({
                "kind": "window", "design": self.design.name, "ms": ms, "delivered": count, "worst_us": worst,
            })
        }));
        lines
    }
}

fn micros(time: u64) -> String {
    match time {
        0..1_000 => format!("{time}us"),
        1_000..10_000 => format!("{:.1}ms", time as f64 / 1e3),
        10_000..1_000_000 => format!("{}ms", time / 1_000),
        _ => format!("{:.2}s", time as f64 / 1e6),
    }
}

/// The table for a terminal: one line for the names, one for each design.
pub(crate) fn table(rows: &[Row]) -> String {
    let names = COLUMNS.map(|(name, _)| name.to_owned());
    let lines: Vec<_> = [names]
        .into_iter()
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|cells| cells[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for cells in &lines {
        let _ = write!(text, "{:width$}", cells[0], width = widths[0]);
        for (cell, width) in cells.iter().zip(&widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::scenario::tests::scenario;
    use super::*;

    #[test]
    fn fairness_is_one_for_equals_and_a_part_for_one_of_many() {
        assert_eq!(jain(&[10, 20], &[10, 20]), 1.0);
        assert_eq!(jain(&[10, 0, 0, 0], &[10, 10, 10, 10]), 0.25);
        // Who had nothing to say is not counted.
        assert_eq!(jain(&[10, 0], &[10, 0]), 1.0);
        assert_eq!(jain(&[0, 0], &[5, 5]), 0.0);
    }

    #[test]
    fn recovery_begins_at_the_stalls_end_and_is_steady() {
        let of = |words: &[&str], windows: &[(u64, u64)]| recovery(&scenario(words), windows);
        let stalled = ["--seconds", "2", "--stall", "500ms@500ms"];
        let mut windows = vec![(5, 1_000); 5];
        windows.extend([(0, 0); 5]);
        // Late, early once, late again, then steady, with a silence in it.
        windows.extend([
            (9, 900_000),
            (9, 9_000),
            (9, 300_000),
            (9, 9_000),
            (0, 0),
            (9, 9_000),
            (9, 250_000),
        ]);
        assert_eq!(
            of(&stalled, &windows),
            Recovery::After(Duration::from_millis(300))
        );
        assert_eq!(of(&stalled, &windows[..15]), Recovery::Never);
        assert_eq!(of(&["--stall", "none"], &windows), Recovery::NoStall);
    }
}
