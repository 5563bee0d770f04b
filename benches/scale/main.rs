//! How the cost grows: with connections, consumers, reactors and the ring; and what a connection takes.
//!
//! ```text
//! cargo bench --bench scale                            # all of it, some three minutes
//! cargo bench --bench scale -- --only memory,connections --rounds 7
//! cargo bench --bench scale -- --svg docs/scale.svg    # and draws it
//! ```
#![allow(missing_docs, reason = "a program, not an interface")]

mod chart;
#[path = "../common/mod.rs"]
mod common;
mod memory;

use std::path::PathBuf;
use std::time::Instant;

use chart::Panel;
use clap::{Parser, ValueEnum};
use common::framing::Framing;
use common::process;
use common::run::{Candidate, run};
use common::send::{Manner, Sizes, Traffic};
use common::stats::Summary;
use fanin::Config;

const MIB: usize = 1 << 20;

/// Shows how the cost grows.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench scale --")]
struct Options {
    /// These alone.
    #[arg(long, value_name = "A,B", value_enum, value_delimiter = ',', default_values_t = Growth::value_variants().to_vec())]
    only: Vec<Growth>,
    /// Runs for each point.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Draws what grew.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Runs each point once, small.
    #[arg(long)]
    test: bool,
    /// What `cargo bench` says; `cargo test --benches` does not, and once is enough to see that it works.
    #[arg(long, hide = true)]
    bench: bool,
}

/// With what.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Growth {
    /// The memory of a connection.
    Memory,
    Connections,
    Consumers,
    Reactors,
    Ring,
}

fn main() {
    if common::is_child() {
        return;
    }
    let options = Options::parse();
    let is_smoke = options.test || !options.bench;
    process::raise_descriptor_limit();
    let began = Instant::now();
    let scale = Scale {
        rounds: if is_smoke { 1 } else { options.rounds.into() },
        share: if is_smoke { 16 } else { 1 },
    };
    let mut panels = Vec::new();
    for growth in options.only {
        match growth {
            Growth::Memory => memory::print(scale.share),
            Growth::Connections => panels.push(scale.connections()),
            Growth::Consumers => panels.push(scale.consumers()),
            Growth::Reactors => panels.push(scale.reactors()),
            Growth::Ring => panels.push(scale.rings()),
        }
    }
    println!("\n{:.0} s in all", began.elapsed().as_secs_f64());
    if let Some(path) = options.svg {
        std::fs::write(&path, chart::svg(&panels)).expect("the file can be written");
        println!("drawn in {}", path.display());
    }
}

struct Scale {
    rounds: usize,
    /// Only this part of the work.
    share: usize,
}

fn lines(connections: usize, write: usize, bytes: usize) -> Traffic {
    Traffic {
        framing: Framing::Line,
        sizes: Sizes::one(256),
        connections,
        write,
        bytes,
        manner: Manner::Flood,
    }
}

fn library(options: &[&str]) -> Candidate {
    Candidate::own("library").with("library", options)
}

impl Scale {
    /// Nanoseconds of processor time for each KiB: the median, and the least and largest.
    fn cost(&self, candidate: &Candidate, traffic: &Traffic) -> Summary {
        let kib = traffic.totals().0 as f64 / 1024.0;
        let runs = (0..self.rounds).map(|_| run(candidate, traffic).cpu.as_nanos() as f64 / kib);
        Summary::of(runs.collect::<Vec<_>>()).expect("at least one round")
    }

    fn point(&self, panel: &mut Panel, line: &str, x: f64, candidate: &Candidate, of: &Traffic) {
        let cost = self.cost(candidate, of);
        println!(
            "{:>22} {x:>10}  {:>7.0} ns/KiB ({:.0}-{:.0})",
            line, cost.median, cost.min, cost.max
        );
        panel.add(line, x, cost.median);
    }

    fn connections(&self) -> Panel {
        println!("\nconnections: 1 KiB writes of 256-byte lines");
        let mut panel = Panel::new("connections", "CPU ns for each KiB, 1 KiB writes");
        for connections in [1, 10, 100, 1_000, 10_000, 18_000] {
            let connections = (connections / self.share).max(1);
            let traffic = lines(connections, 1 << 10, 64 * MIB / self.share);
            let x = connections as f64;
            self.point(&mut panel, "floor", x, &Candidate::own("floor"), &traffic);
            self.point(&mut panel, "fanin", x, &library(&[]), &traffic);
        }
        panel
    }

    fn consumers(&self) -> Panel {
        println!("\nconsumers: 256-byte lines in 256 KiB writes, 64 connections");
        let mut panel = Panel::new("consumers", "CPU ns for each KiB, large writes");
        let traffic = lines(64, 256 << 10, 512 * MIB / self.share);
        for consumers in [1, 2, 4, 8] {
            let candidate = library(&["--consumers", &consumers.to_string()]);
            self.point(
                &mut panel,
                "fanin",
                f64::from(consumers),
                &candidate,
                &traffic,
            );
        }
        panel
    }

    fn reactors(&self) -> Panel {
        println!("\nreactors: the same; on two cores this is what they cost, not what they gain");
        let mut panel = Panel::new("reactors", "CPU ns for each KiB, large writes");
        let traffic = lines(64, 256 << 10, 512 * MIB / self.share);
        for reactors in [1, 2, 4] {
            let candidate = library(&["--reactors", &reactors.to_string()]);
            self.point(
                &mut panel,
                "fanin",
                f64::from(reactors),
                &candidate,
                &traffic,
            );
        }
        panel
    }

    /// Each with short lines, and with lines as large as it may hold.
    fn rings(&self) -> Panel {
        println!("\nring: KiB; 256-byte lines over 50 connections, and the largest legal over 2");
        let mut panel = Panel::new("ring, KiB", "CPU ns for each KiB, large writes");
        for kib in [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10] {
            let largest = largest_message(kib << 10);
            let (ring, most) = ((kib << 10).to_string(), largest.to_string());
            let candidate = library(&["--ring", &ring, "--max-message", &most]);
            let short = lines(50, 256 << 10, 512 * MIB / self.share);
            self.point(&mut panel, "256 B", kib as f64, &candidate, &short);
            let size = largest + 1;
            let long = Traffic {
                sizes: Sizes::one(size),
                write: size * (256_usize << 10).div_ceil(size),
                ..lines(2, 0, 256 * MIB / self.share)
            };
            let name = format!("largest ({largest} B)");
            let cost = self.cost(&candidate, &long);
            println!(
                "{name:>22} {kib:>10}  {:>7.0} ns/KiB ({:.0}-{:.0})",
                cost.median, cost.min, cost.max
            );
            panel.add("largest", kib as f64, cost.median);
        }
        panel
    }
}

/// Legal for a ring of so many bytes.
fn largest_message(ring: usize) -> usize {
    let is_legal = |size: usize| {
        let mut config = Config::listen("tcp://127.0.0.1:0").expect("an address");
        (config.ring_bytes, config.max_message) = (Some(ring), size);
        config.validate().is_ok()
    };
    let (mut legal, mut illegal) = (1, ring);
    while illegal - legal > 1 {
        let middle = legal.midpoint(illegal);
        if is_legal(middle) {
            legal = middle;
        } else {
            illegal = middle;
        }
    }
    legal
}
