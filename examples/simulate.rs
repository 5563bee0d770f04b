//! Runs the simulation for as long as one likes, from seed to seed.
//!
//! ```text
//! cargo run --release --example simulate -- --seconds 60
//! cargo run --release --example simulate -- --seed 4711            # one seed, with every event in words
//! cargo run --release --example simulate -- --seconds 10 --from 1000000 --runs 2000
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fanin::sim::{Edges, Fault, Faults, Options, run};
use fanin::{CloseReason, Reason};

#[derive(Debug, Parser)]
#[command(about = "Whole reactors over a simulated network, from a seed")]
struct Args {
    /// For so long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// At most so many seeds
    #[arg(long, default_value_t = u64::MAX)]
    runs: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This seed alone, with every event in words
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut options = Options::default();
    if let Some(seed) = args.seed {
        options.trace = true;
        let outcome = run(seed, options);
        outcome.trace.iter().for_each(|line| println!("{line}"));
        println!("seed {seed} holds: {} messages", outcome.messages);
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let time = Duration::from_secs(args.seconds);
    let mut said = began;
    let mut seed = args.from;
    let mut faults = Faults::none();
    let mut edges = Edges::new();
    let mut closed = [0; CloseReason::ALL.len()];
    let (mut messages, mut steps, mut accepted) = (0, 0, 0);
    while began.elapsed() < time && seed - args.from < args.runs {
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| run(seed, options))) else {
            let (runs, took) = (seed - args.from + 1, began.elapsed().as_secs_f64());
            println!(
                "seed {seed} fails after {runs} runs, {took:.2} s; every event of it: --seed {seed}"
            );
            return ExitCode::FAILURE;
        };
        faults.add(&outcome.faults);
        for (edge, count) in outcome.edges {
            *edges.entry(edge).or_default() += count;
        }
        for (count, (_, n)) in closed.iter_mut().zip(outcome.closed.iter()) {
            *count += n;
        }
        messages += outcome.messages;
        steps += outcome.steps;
        accepted += outcome.accepted;
        seed += 1;
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            println!(
                "{} runs, {} a second",
                seed - args.from,
                rate(seed - args.from, began)
            );
        }
    }
    let runs = seed - args.from;
    println!(
        "{runs} runs, {} a second: {steps} steps, {accepted} connections, {messages} messages",
        rate(runs, began)
    );
    for fault in Fault::ALL {
        println!("{:>20} {}", format!("{fault:?}"), faults.happened(*fault));
    }
    for (reason, count) in CloseReason::ALL.iter().zip(closed) {
        println!("{:>20} {count}", reason.label());
    }
    for ((machine, from, to), count) in edges {
        println!("{:>20} {count}", format!("{machine}: {from} -> {to}"));
    }
    ExitCode::SUCCESS
}

fn rate(runs: u64, since: Instant) -> u64 {
    (runs as f64 / since.elapsed().as_secs_f64()) as u64
}
