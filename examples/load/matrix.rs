//! The cases, all of them or a selection in which every pair of values meets.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::message::{Plan, Sizes, Wire, splitmix};
use crate::run::{Case, Pace, Sink, run};
use crate::send::{Writes, raise_descriptor_limit};

const FRAMINGS: [&str; 9] = [
    "line",
    "nul",
    "byte:0x7c",
    "octet",
    "auto-line",
    "auto-octet",
    "u16",
    "u32",
    "varint",
];
const CONNECTIONS: [u64; 4] = [1, 50, 1_000, 18_000];
/// `1` is made as long as it takes to tell the connections apart; the last is `--max-message`'s default.
const SIZES: [&str; 4] = ["1", "1-300", "256", "65536"];
const WRITES: [Writes; 4] = [Writes::Bulk, Writes::Whole, Writes::Pieces, Writes::Bytes];
const SINKS: [(Sink, Pace); 6] = [
    (Sink::File, Pace::Fast),
    (Sink::Stdout, Pace::Slow),
    (Sink::Stdout, Pace::Stop),
    (Sink::Tcp, Pace::Fast),
    (Sink::Tcp, Pace::Slow),
    (Sink::Tcp, Pace::Stop),
];
/// Reactors, consumers, ring, and whether the listener is a Unix socket.
const SHAPES: [(usize, usize, &str, bool); 4] = [
    (1, 1, "4MiB", false),
    (1, 1, "512KiB", true),
    (1, 2, "512KiB", false),
    (2, 2, "4MiB", false),
];
const COUNTS: [usize; 6] = [
    FRAMINGS.len(),
    CONNECTIONS.len(),
    SIZES.len(),
    WRITES.len(),
    SINKS.len(),
    SHAPES.len(),
];
/// Descriptors that each process needs beside its connections.
const SPARE_DESCRIPTORS: u64 = 200;

type Choice = [usize; 6];

/// 18,000 messages of 64 KiB in flight are 1.2 GB in the sender: not a test of the program. 2,000 of
/// them byte by byte are 131 million system calls: longer than a message may take.
fn is_sensible(choice: &Choice) -> bool {
    let (connections, writes) = (CONNECTIONS[choice[1]], WRITES[choice[3]]);
    let too_many = match writes {
        Writes::Bytes => 1_000,
        _ => 18_000,
    };
    !(connections >= too_many && SIZES[choice[2]] == "65536")
}

fn all() -> Vec<Choice> {
    let mut choices = vec![[0; 6]];
    for (dimension, &count) in COUNTS.iter().enumerate() {
        choices = choices
            .into_iter()
            .flat_map(|choice| {
                (0..count).map(move |value| {
                    let mut choice = choice;
                    choice[dimension] = value;
                    choice
                })
            })
            .collect();
    }
    choices.retain(is_sensible);
    choices
}

fn pairs(choice: &Choice) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..6).flat_map(move |a| (a + 1..6).map(move |b| (a, choice[a], b, choice[b])))
}

/// Greedy: of many random candidates always the one with the most pairs not seen yet.
fn pairwise(mut seed: u64) -> Vec<Choice> {
    let all = all();
    let mut missing: std::collections::HashSet<_> = all.iter().flat_map(pairs).collect();
    let mut selection = Vec::new();
    while !missing.is_empty() {
        let worth = |choice: &Choice| pairs(choice).filter(|pair| missing.contains(pair)).count();
        let mut best = (0, all[0]);
        for _ in 0..3000 {
            seed = splitmix(seed);
            let candidate = all[(seed % all.len() as u64) as usize];
            let worth = worth(&candidate);
            if worth > best.0 {
                best = (worth, candidate);
            }
        }
        if best.0 == 0 {
            best.1 = *all
                .iter()
                .max_by_key(|c| worth(c))
                .expect("there are cases");
        }
        for pair in pairs(&best.1) {
            missing.remove(&pair);
        }
        selection.push(best.1);
    }
    selection
}

fn case(choice: &Choice, seed: u64, stop_for: Duration) -> Result<Case> {
    let wire = Wire::parse(FRAMINGS[choice[0]])?;
    let connections = CONNECTIONS[choice[1]];
    let mut sizes = Sizes::parse(SIZES[choice[2]])?;
    sizes.least = sizes.least.max(Plan::least_size(wire, connections));
    sizes.most = sizes.most.max(sizes.least);
    if wire == Wire::U16 {
        sizes.most = sizes.most.min(65_535);
        sizes.least = sizes.least.min(65_535);
    }
    let writes = WRITES[choice[3]];
    let (sink, pace) = SINKS[choice[4]];
    let (reactors, consumers, ring, unix) = SHAPES[choice[5]];
    // A system call costs about a microsecond on each side: some seconds for each way of writing.
    let bytes: u64 = match writes {
        Writes::Bulk => 64 << 20,
        Writes::Whole => (sizes.mean() as u64 * 500_000).min(64 << 20),
        Writes::Pieces => 32 << 20,
        Writes::Bytes => 1 << 20,
    };
    let a_message = sizes.mean() as u64 + 2;
    let messages = (bytes / a_message).clamp(1, 2_000_000) / connections;
    let plan = Plan {
        seed,
        connections,
        messages: messages.max(2),
        sizes,
        wire,
    };
    Ok(Case {
        plan,
        writes,
        sink,
        pace,
        stop_for,
        unix,
        consumers,
        reactors,
        ring: ring.into(),
        threads: 2,
        timeout: Duration::from_secs(90) + stop_for,
        corrupt: None,
    })
}

pub(crate) fn matrix(
    fanin: &Path,
    ci: bool,
    minutes: Option<f64>,
    stop_for: Duration,
    seed: u64,
) -> Result<()> {
    let began = Instant::now();
    let choices = if ci { pairwise(seed) } else { all() };
    println!(
        "{} cases{}, seed {seed}",
        choices.len(),
        if ci {
            " (every pair of values of the full matrix)"
        } else {
            ""
        }
    );
    let limit = raise_descriptor_limit()?;
    let (mut ran, mut failed, mut skipped, mut left) = (0, 0, 0, 0);
    for (number, choice) in choices.iter().enumerate() {
        let case = case(choice, splitmix(seed ^ number as u64), stop_for)?;
        let name = format!(
            "{:>4} {} conns={} size={} messages={} writes={:?} sink={:?}/{:?} reactors={} consumers={} ring={}{}",
            number + 1,
            FRAMINGS[choice[0]],
            case.plan.connections,
            SIZES[choice[2]],
            case.plan.messages,
            case.writes,
            case.sink,
            case.pace,
            case.reactors,
            case.consumers,
            case.ring,
            if case.unix { " unix" } else { "" },
        );
        if case.plan.connections + SPARE_DESCRIPTORS > limit {
            println!(
                "SKIP load-{}: {limit} descriptors at most ({name})",
                case.plan.connections
            );
            skipped += usize::from(!is_allowed_to_skip(&format!(
                "load-{}",
                case.plan.connections
            )));
            continue;
        }
        if minutes.is_some_and(|most| began.elapsed().as_secs_f64() > most * 60.0) {
            left = choices.len() - number;
            break;
        }
        ran += 1;
        match run(fanin, &case) {
            Ok(outcome) if outcome.is_clean() => println!(
                "ok   {name}: {:.1} s, {:.1} MB, memory {:.1} MB",
                outcome.seconds,
                outcome.bytes as f64 / 1e6,
                outcome.memory as f64 / 1e6
            ),
            Ok(outcome) => {
                failed += 1;
                println!("FAIL {name}: {}", outcome.verdict);
                for complaint in &outcome.complaints {
                    println!("  {complaint}");
                }
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error:#}");
            }
        }
    }
    println!(
        "{ran} ran, {failed} failed, {:.0} s",
        began.elapsed().as_secs_f64()
    );
    ensure!(
        skipped == 0,
        "{skipped} cases were skipped that .ci/allowed-skips does not list"
    );
    ensure!(failed == 0, "{failed} cases failed");
    ensure!(left == 0, "the time was up before {left} cases had run");
    Ok(())
}

fn is_allowed_to_skip(name: &str) -> bool {
    let allowed = std::fs::read_to_string(".ci/allowed-skips").unwrap_or_default();
    allowed
        .lines()
        .any(|line| line.split('#').next().unwrap_or_default().trim() == name)
}
