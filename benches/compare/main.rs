//! What fanin costs beside less, and beside what one would write instead: the same traffic, in turn.
//!
//! ```text
//! cargo bench --bench compare                     # the default rows, 7 rounds, some four minutes
//! cargo bench --bench compare -- --rows lines-64,conns-10000 --rounds 15 --mib 1024 --with tokio
//! cargo bench --bench compare -- --list           # the rows and the receivers there are
//! cargo bench --bench compare -- --help           # all options
//! ```
//!
//! `docs/performance.md` says what the words mean.
#![allow(missing_docs, reason = "a program, not an interface")]

#[path = "../common/mod.rs"]
mod common;
mod rows;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use common::run::{Candidate, run};
use rows::{Chosen, Row};
use table::Runs;

/// Runs the same traffic into fanin, and into less and other receivers, in turn.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench compare --")]
struct Options {
    /// Prints the rows and the receivers there are.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    chosen: Chosen,
    /// Runs of each receiver in each row.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// MiB to send in the rows with large writes; in those with small ones in proportion.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    mib: Option<u16>,
    /// Writes every run, and the summaries.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Runs each row once, small.
    #[arg(long)]
    test: bool,
    /// What `cargo bench` says; `cargo test --benches` does not, and once is enough to see that it works.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    if common::is_child() {
        return;
    }
    let options = Options::parse();
    if options.list {
        // Who reads it may leave after the first line.
        let _ = std::io::stdout().write_all(rows::list().as_bytes());
        return;
    }
    let mut rows = options.chosen.rows().unwrap_or_else(|error| error.exit());
    let mut rounds = usize::from(options.rounds);
    if options.test || !options.bench {
        rows.iter_mut().for_each(|(row, _)| row.shrink());
        rounds = 1;
    } else if let Some(mib) = options.mib {
        rows.iter_mut()
            .for_each(|(row, _)| row.resize(usize::from(mib)));
    }

    let began = Instant::now();
    let mut all = Vec::new();
    for (row, candidates) in rows {
        println!("\n{row}; {rounds} rounds");
        let runs = play(&row, candidates, rounds);
        println!("{}", table::text(&row, &runs));
        all.push((row, runs));
    }
    println!("\n{:.0} s in all", began.elapsed().as_secs_f64());
    if let Some(path) = options.json {
        std::fs::write(&path, table::json(&all).to_string()).expect("the file can be written");
        println!("written to {}", path.display());
    }
}

/// In turn, each round beginning with another one, so that each comes first as often as any other.
fn play(row: &Row, candidates: Vec<Candidate>, rounds: usize) -> Runs {
    let mut runs: Runs = candidates.into_iter().map(|c| (c, Vec::new())).collect();
    // Not counted: caches, and ports that were never used.
    run(&runs[0].0, &row.traffic);
    for round in 0..rounds {
        eprint!("\rround {} of {rounds} ", round + 1);
        for place in 0..runs.len() {
            let count = runs.len();
            // Forwards and backwards, so that nobody always follows the same one.
            let step = if round % 2 == 0 {
                place
            } else {
                count - 1 - place
            };
            let (candidate, costs) = &mut runs[(round + step) % count];
            costs.push(run(candidate, &row.traffic));
            eprint!(".");
        }
    }
    eprintln!();
    runs
}
