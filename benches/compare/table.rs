//! The table of a row, and all of it as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::run::{Candidate, Cost};
use crate::common::stats::Summary;
use crate::rows::Row;

/// The runs of each receiver, in the order of the rounds.
pub(crate) type Runs = Vec<(Candidate, Vec<Cost>)>;

/// A ratio: what of whom, over what of which base.
struct Ratio {
    name: String,
    base: &'static str,
    of: fn(&Cost) -> Duration,
    over: fn(&Cost) -> Duration,
}

fn ratios(row: &Row) -> Vec<Ratio> {
    let [first, second] = row.bases();
    let cpu: fn(&Cost) -> Duration = |cost| cost.cpu;
    let reactor: fn(&Cost) -> Duration = |cost| cost.reactor;
    let wall: fn(&Cost) -> Duration = |cost| cost.wall;
    let ratio = |what: &str, base, of, over| Ratio {
        name: format!("{what}/{base}"),
        base,
        of,
        over,
    };
    vec![
        ratio("CPU", first, cpu, cpu),
        // Over the whole of the base: the floor has one thread.
        ratio("reactor", first, reactor, cpu),
        ratio("CPU", second, cpu, cpu),
        ratio("wall", first, wall, wall),
    ]
}

/// Of one round each: what the machine did meanwhile was the same for both.
fn paired(runs: &Runs, costs: &[Cost], ratio: &Ratio) -> Option<Summary> {
    let (_, base) = runs.iter().find(|(c, _)| c.name == ratio.base)?;
    let of = costs.iter().zip(base);
    let seconds = |time: Duration| time.as_secs_f64();
    let divided = of.map(|(cost, base)| seconds((ratio.of)(cost)) / seconds((ratio.over)(base)));
    Summary::of(divided.collect::<Vec<_>>()).filter(|summary| summary.median > 0.0)
}

fn summary(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> Summary {
    Summary::of(costs.iter().map(of)).expect("at least one round")
}

pub(crate) fn text(row: &Row, runs: &Runs) -> String {
    let mut text = String::new();
    let mut line = |cells: Vec<String>| {
        let mut cells = cells.into_iter();
        let _ = write!(text, "{:<13}", cells.next().unwrap_or_default());
        for cell in cells {
            let _ = write!(text, " {cell:>17}");
        }
        text.push('\n');
    };
    let ratios = ratios(row);
    let mut head = vec![String::new(), "CPU ms (min-max)".to_owned()];
    head.extend(ratios.iter().map(|ratio| ratio.name.clone()));
    head.extend(["peak MiB", "switches v+i", "senders' CPU"].map(str::to_owned));
    let is_timed = runs
        .iter()
        .any(|(_, costs)| costs.iter().any(|c| c.latency.is_some()));
    if is_timed {
        head.push("us p50/99/99.9".to_owned());
    }
    line(head);
    for (candidate, costs) in runs {
        let cpu = summary(costs, |cost| cost.cpu.as_secs_f64() * 1e3);
        let mut cells = vec![short(&candidate.name)];
        cells.push(format!("{:.0} ({:.0}-{:.0})", cpu.median, cpu.min, cpu.max));
        for ratio in &ratios {
            cells.push(match paired(runs, costs, ratio) {
                Some(s) => format!("{:.2} [{:.2} {:.2}]", s.median, s.low, s.high),
                None => "-".to_owned(),
            });
        }
        let median = |of: fn(&Cost) -> f64| summary(costs, of).median;
        cells.push(format!(
            "{:.1}",
            median(|cost| cost.peak_kib as f64 / 1024.0)
        ));
        cells.push(format!(
            "{:.0}+{:.0}",
            median(|cost| cost.voluntary as f64),
            median(|cost| cost.involuntary as f64)
        ));
        // Near 1, it was the senders that everybody waited for.
        let share = |cost: &Cost| cost.sender_cpu.as_secs_f64() / cost.wall.as_secs_f64();
        cells.push(format!("{:.2} of wall", summary(costs, share).median));
        if is_timed {
            let at = |place: usize| {
                let of = |cost: &Cost| cost.latency.map_or(f64::NAN, |l| l[place] as f64 / 1e3);
                summary(costs, of).median
            };
            cells.push(format!("{:.0}/{:.0}/{:.0}", at(0), at(1), at(2)));
        }
        line(cells);
    }
    if is_timed {
        text.push_str(&latencies(runs));
    }
    text.pop();
    text
}

/// The paired ratios of the latencies over those of the bare hand-off.
fn latencies(runs: &Runs) -> String {
    let mut text = String::new();
    let Some((_, base)) = runs.iter().find(|(c, _)| c.name == "bare") else {
        return text;
    };
    for (candidate, costs) in runs.iter().filter(|(c, _)| c.name != "bare") {
        let _ = write!(text, "{} / bare:", candidate.name);
        for (place, name) in ["p50", "p99", "p99.9"].iter().enumerate() {
            let both = costs.iter().zip(base).filter_map(|(cost, base)| {
                Some(cost.latency?[place] as f64 / base.latency?[place] as f64)
            });
            if let Some(s) = Summary::of(both.collect::<Vec<_>>()) {
                let _ = write!(text, " {name} {:.2} [{:.2} {:.2}]", s.median, s.low, s.high);
            }
        }
        text.push('\n');
    }
    text
}

/// The end of a path says which build it is.
fn short(name: &str) -> String {
    let skip = name.chars().count().saturating_sub(13);
    name.chars().skip(skip).collect()
}

pub(crate) fn json(all: &[(Row, Runs)]) -> Value {
    let rows = all.iter().map(|(row, runs)| {
        let ratios = ratios(row);
        let candidates = runs.iter().map(|(candidate, costs)| {
            let summaries = ratios.iter().filter_map(|ratio| {
                let s = paired(runs, costs, ratio)?;
                let value = json!({
                    "median": s.median, "low": s.low, "high": s.high, "min": s.min, "max": s.max,
                });
                Some((ratio.name.clone(), value))
            });
            json!({
                "name": candidate.name,
                "ratios": summaries.collect::<serde_json::Map<_, _>>(),
                "runs": costs.iter().map(cost).collect::<Vec<_>>(),
            })
        });
        let (bytes, messages) = row.traffic.totals();
        json!({
            "row": row.name,
            "what": row.to_string(),
            "bytes": bytes,
            "messages": messages,
            "candidates": candidates.collect::<Vec<_>>(),
        })
    });
    Value::Array(rows.collect())
}

fn cost(cost: &Cost) -> Value {
    json!({
        "cpu": cost.cpu.as_secs_f64(),
        "reactor_cpu": cost.reactor.as_secs_f64(),
        "consumer_cpu": cost.consumer.as_secs_f64(),
        "wall": cost.wall.as_secs_f64(),
        "peak_kib": cost.peak_kib,
        "switches": { "voluntary": cost.voluntary, "involuntary": cost.involuntary },
        "sender_cpu": cost.sender_cpu.as_secs_f64(),
        "latency_ns": cost.latency,
    })
}
