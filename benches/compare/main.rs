//! What fanin costs beside less, and beside what one would write instead: the same traffic, in turn.
//!
//! ```text
//! cargo bench --bench compare                     # the default rows, 7 rounds, some four minutes
//! cargo bench --bench compare -- --rows lines-64,conns-10000 --rounds 15 --mib 1024 --with tokio
//! cargo bench --bench compare -- --list           # the rows and the receivers there are
//! ```
//!
//! Other options: `--candidates A,B` (instead of the default ones), `--program PATH` (another build of the
//! program beside this one; can be repeated), `--json FILE` (every run, and the summaries).
//!
//! `docs/performance.md` says what the words mean.
#![allow(missing_docs, reason = "a program, not an interface")]

#[path = "../common/mod.rs"]
mod common;
mod rows;
mod table;

use std::time::Instant;

use common::run::{Candidate, run};
use common::{number, option};
use rows::Row;
use table::Runs;

fn main() {
    if common::is_child() {
        return;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_set = |name: &str| args.iter().any(|arg| arg == name);
    if is_set("--list") {
        return rows::list();
    }
    // `cargo bench` says `--bench`; `cargo test --benches` does not, and once is enough to see that it works.
    let is_smoke = is_set("--test") || !is_set("--bench");
    let mut rows = rows::chosen(option(&args, "--rows"));
    let mut rounds = number(&args, "--rounds", 7);
    if is_smoke {
        rows.iter_mut().for_each(Row::shrink);
        rounds = 1;
    } else if option(&args, "--mib").is_some() {
        let mib = number(&args, "--mib", 0);
        rows.iter_mut().for_each(|row| row.resize(mib << 20));
    }
    assert!(rounds > 0, "--rounds needs at least 1");
    let programs: Vec<&str> = args
        .iter()
        .zip(args.iter().skip(1))
        .filter(|(name, _)| *name == "--program")
        .map(|(_, path)| path.as_str())
        .collect();

    let began = Instant::now();
    let mut all = Vec::new();
    for row in rows {
        let candidates = row.candidates(
            option(&args, "--candidates"),
            option(&args, "--with").unwrap_or(""),
            &programs,
        );
        println!("\n{row}; {rounds} rounds");
        let runs = play(&row, candidates, rounds);
        println!("{}", table::text(&row, &runs));
        all.push((row, runs));
    }
    println!("\n{:.0} s in all", began.elapsed().as_secs_f64());
    if let Some(path) = option(&args, "--json") {
        std::fs::write(path, table::json(&all).to_string()).expect("the file can be written");
        println!("written to {path}");
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
