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

use std::time::Instant;

use chart::Panel;
use common::framing::Framing;
use common::run::{Candidate, run};
use common::send::{Manner, Traffic};
use common::stats::Summary;
use common::{number, option, process};
use fanin::Config;

const MIB: usize = 1 << 20;

fn main() {
    if common::is_child() {
        return;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_set = |name: &str| args.iter().any(|arg| arg == name);
    let is_smoke = is_set("--test") || !is_set("--bench");
    process::raise_descriptor_limit();
    let began = Instant::now();
    let scale = Scale {
        rounds: number(&args, "--rounds", if is_smoke { 1 } else { 5 }),
        share: if is_smoke { 16 } else { 1 },
    };
    let only = option(&args, "--only");
    let wants = |name: &str| only.is_none_or(|only| only.split(',').any(|one| one == name));
    let mut panels = Vec::new();
    if wants("memory") {
        memory::print(scale.share);
    }
    for (name, draw) in [
        ("connections", Scale::connections as fn(&Scale) -> Panel),
        ("consumers", Scale::consumers),
        ("reactors", Scale::reactors),
        ("ring", Scale::rings),
    ] {
        if wants(name) {
            panels.push(draw(&scale));
        }
    }
    println!("\n{:.0} s in all", began.elapsed().as_secs_f64());
    if let Some(path) = option(&args, "--svg") {
        std::fs::write(path, chart::svg(&panels)).expect("the file can be written");
        println!("drawn in {path}");
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
        size: 256,
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
        let kib = traffic.total_bytes() as f64 / 1024.0;
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
                size,
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
