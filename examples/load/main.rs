//! The load tool: senders that write numbered messages, a checker that accounts for every one, and a
//! matrix of both around the program.
//!
//! ```text
//! cargo build --release --bins --examples
//! target/release/examples/load matrix                     # everything: some hours
//! target/release/examples/load matrix --ci --minutes 8    # every pair of values
//! target/release/examples/load run --connections 50 --framing octet --sink stdout --pace stop
//! target/release/examples/load run --corrupt loss         # has to fail, with status 1
//! target/release/examples/load prove                      # the checker notices every kind of mistake
//! ```
#![allow(missing_docs, reason = "a program, not an interface")]

mod checker;
mod matrix;
mod message;
mod run;
mod send;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};

use checker::{Checker, Corrupt, Lines};
use message::{Plan, Sizes, Wire};
use run::{Case, Pace, Sink};
use send::{Target, Writes};

#[derive(Parser)]
#[command(about = "Sends numbered messages through fanin and accounts for every one of them")]
struct Args {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Write messages to ADDRESS, and print a summary as JSON
    Send {
        /// tcp://ADDRESS:PORT or unix:///path
        #[arg(long)]
        to: String,
        #[command(flatten)]
        plan: PlanArgs,
        #[arg(long, value_enum, default_value = "whole")]
        writes: Writes,
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Seconds until the whole has failed
        #[arg(long, default_value_t = 600)]
        timeout: u64,
    },
    /// Compare FILE, written with `--output line`, with what `send` wrote; status 1 if they differ
    Check {
        file: PathBuf,
        #[command(flatten)]
        plan: PlanArgs,
        /// Make this mistake while reading, to see it noticed
        #[arg(long, value_enum)]
        corrupt: Option<Corrupt>,
    },
    /// Start the program and a sender, end the program by SIGTERM, check content, books, exit code
    Run {
        /// The program; without it the one that was built beside this tool
        #[arg(long)]
        fanin: Option<PathBuf>,
        #[command(flatten)]
        plan: PlanArgs,
        #[arg(long, value_enum, default_value = "whole")]
        writes: Writes,
        #[arg(long, value_enum, default_value = "file")]
        sink: Sink,
        #[arg(long, value_enum, default_value = "fast")]
        pace: Pace,
        /// Seconds for which `--pace stop` stops
        #[arg(long, default_value_t = 10)]
        stop_for: u64,
        /// Listen on a Unix socket
        #[arg(long)]
        unix: bool,
        #[arg(long, default_value_t = 1)]
        consumers: usize,
        #[arg(long, default_value_t = 1)]
        reactors: usize,
        #[arg(long, default_value = "4MiB")]
        ring: String,
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Seconds until the whole has failed
        #[arg(long, default_value_t = 120)]
        timeout: u64,
        /// Make this mistake in the output, to see it noticed
        #[arg(long, value_enum)]
        corrupt: Option<Corrupt>,
    },
    /// Run the documented cases
    Matrix {
        /// The program; without it the one that was built beside this tool
        #[arg(long)]
        fanin: Option<PathBuf>,
        /// A selection in which every pair of values meets, instead of every combination
        #[arg(long)]
        ci: bool,
        /// Begin no case after so many minutes
        #[arg(long)]
        minutes: Option<f64>,
        /// Seconds for which a stopped sink stops
        #[arg(long, default_value_t = 10)]
        stop_for: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Show that the checker passes what is right and fails on every kind of mistake
    Prove,
}

#[derive(clap::Args)]
struct PlanArgs {
    #[arg(long, default_value_t = 50)]
    connections: u64,
    /// Messages of each connection
    #[arg(long, default_value_t = 1000)]
    messages: u64,
    /// Bytes of each message: one number, or A-B
    #[arg(long, default_value = "256")]
    size: String,
    /// line, nul, byte:0xNN, octet, auto-line, auto-octet, u16, u32 or varint
    #[arg(long, default_value = "line")]
    framing: String,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl PlanArgs {
    fn plan(&self) -> Result<Plan> {
        let plan = Plan {
            seed: self.seed,
            connections: self.connections,
            messages: self.messages,
            sizes: Sizes::parse(&self.size)?,
            wire: Wire::parse(&self.framing)?,
        };
        plan.validate()?;
        Ok(plan)
    }
}

/// The inverse of [`PlanArgs::plan`], for the sender's process.
fn plan_args(plan: &Plan) -> Vec<String> {
    let framing = match plan.wire {
        Wire::AutoLine => "auto-line".into(),
        Wire::AutoOctet => "auto-octet".into(),
        wire => wire.option(),
    };
    vec![
        format!("--connections={}", plan.connections),
        format!("--messages={}", plan.messages),
        format!("--size={}-{}", plan.sizes.least, plan.sizes.most),
        format!("--framing={framing}"),
        format!("--seed={}", plan.seed),
    ]
}

fn main() -> ExitCode {
    match act(Args::parse().mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(mode: Mode) -> Result<()> {
    match mode {
        Mode::Send {
            to,
            plan,
            writes,
            threads,
            timeout,
        } => {
            let timeout = Duration::from_secs(timeout);
            let sum = send::send(
                &Target::parse(&to)?,
                &plan.plan()?,
                writes,
                threads,
                timeout,
            )?;
            println!("{sum}");
            Ok(())
        }
        Mode::Check {
            file,
            plan,
            corrupt,
        } => {
            let mut checker = Checker::new(plan.plan()?, corrupt);
            let mut lines = Lines::default();
            let mut from =
                std::fs::File::open(&file).with_context(|| format!("{}", file.display()))?;
            let mut buffer = vec![0; 1 << 20];
            loop {
                let n = from.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                lines.feed(&buffer[..n], |line| checker.line(line));
            }
            checker.torn(lines.rest());
            let verdict = checker.finish();
            println!("{verdict}");
            ensure!(verdict.is_clean(), "the output is not what was sent");
            Ok(())
        }
        Mode::Run {
            fanin,
            plan,
            writes,
            sink,
            pace,
            stop_for,
            unix,
            consumers,
            reactors,
            ring,
            threads,
            timeout,
            corrupt,
        } => {
            let case = Case {
                plan: plan.plan()?,
                writes,
                sink,
                pace,
                stop_for: Duration::from_secs(stop_for),
                unix,
                consumers,
                reactors,
                ring,
                threads,
                timeout: Duration::from_secs(timeout),
                corrupt,
            };
            ensure!(
                sink != Sink::File || pace == Pace::Fast,
                "a file is always fast: --pace {pace:?} needs --sink stdout or tcp"
            );
            let outcome = run::run(&fanin.map_or_else(run::beside, Ok)?, &case)?;
            println!("{}", outcome.verdict);
            println!(
                "{:.1} s, {} B sent, memory {} B",
                outcome.seconds, outcome.bytes, outcome.memory
            );
            for complaint in &outcome.complaints {
                println!("{complaint}");
            }
            ensure!(outcome.is_clean(), "failed");
            Ok(())
        }
        Mode::Matrix {
            fanin,
            ci,
            minutes,
            stop_for,
            seed,
        } => {
            let fanin = fanin.map_or_else(run::beside, Ok)?;
            matrix::matrix(&fanin, ci, minutes, Duration::from_secs(stop_for), seed)
        }
        Mode::Prove => prove(),
    }
}

/// A clean output, and each mistake in it: for messages with names, with short ones, with escapes.
fn prove() -> Result<()> {
    for (framing, connections, size) in [
        ("line", 50, "256"),
        ("octet", 50, "30-3000"),
        ("line", 1, "1"),
        ("nul", 1000, "2-300"),
        ("auto-line", 18_000, "3"),
        ("auto-octet", 50, "3-300"),
    ] {
        let args = PlanArgs {
            connections,
            messages: 20,
            size: size.into(),
            framing: framing.into(),
            seed: 1,
        };
        let plan = args.plan()?;
        let (mut text, mut output) = (Vec::new(), Vec::new());
        // Round robin, as a fair receiver would have them.
        for seq in 0..plan.messages {
            for conn in 0..plan.connections {
                plan.text(conn, seq, &mut text);
                plan.line(&text, &mut output);
            }
        }
        for corrupt in [None].into_iter().chain(Corrupt::ALL.map(Some)) {
            let mut checker = Checker::new(plan, corrupt);
            let mut lines = Lines::default();
            for piece in output.chunks(1000) {
                lines.feed(piece, |line| checker.line(line));
            }
            checker.torn(lines.rest());
            let verdict = checker.finish();
            println!(
                "{framing} conns={connections} size={size} {corrupt:?}: {}",
                verdict.to_string().lines().next().unwrap_or_default()
            );
            if verdict.is_clean() != corrupt.is_none() {
                bail!("the checker was wrong about that");
            }
        }
    }
    Ok(())
}
