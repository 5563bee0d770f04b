//! The child process in which one design runs.
//!
//! In: lines on standard input: when to start, when to stop; its end is ours. Out: the port, how much was
//! delivered so far, and in the end the result, each as a line. Never here: more than one design.

use std::io::{self, BufRead, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use fanin::{BoundAddr, CloseReason, DiscardReason, Fanin, Handle, Reason, Record, Snapshot};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Value, json};

use super::designs::{self, Build};
use super::desk::{Desk, Pace, WINDOW};
use super::naive;
use super::scenario::Scenario;

/// How long the library may drain at the end: who still holds bytes then has lost them.
const DRAIN: Duration = Duration::from_millis(300);
/// A reactor that has not ended by then never will.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args, Clone, Debug)]
pub(crate) struct Server {
    #[arg(long)]
    pub(crate) design: String,
    #[command(flatten)]
    pub(crate) scenario: Scenario,
}

/// Lines from the parent. Without a parent there is no reason to be.
pub(super) fn orders() -> Receiver<String> {
    let (sender, orders) = channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        std::process::exit(1);
    });
    orders
}

/// A line to the parent.
pub(super) fn tell(line: impl std::fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

pub(super) fn start_time(orders: &Receiver<String>) -> Result<u64> {
    let line = orders.recv()?;
    let time = line.strip_prefix("start ").context("start TIME")?;
    Ok(time.parse()?)
}

/// What runs.
enum Running {
    Naive(Arc<naive::Counts>),
    /// With the places that it has.
    Fanin(Handle, usize),
}

impl Server {
    pub(crate) fn run(&self) -> Result<()> {
        crate::cli::limits::raise();
        let scenario = &self.scenario;
        if let Some(most) = scenario.descriptors {
            let limit = Rlimit {
                current: Some(most),
                maximum: Some(most),
            };
            setrlimit(Resource::Nofile, limit)?;
        }
        let design = designs::of_name(&self.design).context("no such design")?;
        let orders = orders();
        let (running, desk) = match design.build {
            Build::Naive(build) => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                tell(format_args!("listening {}", listener.local_addr()?.port()))?;
                let start = start_time(&orders)?;
                let desk = Arc::new(Mutex::new(Desk::new(scenario, start)));
                let pace = |consumer| Pace::new(scenario, consumer, start);
                let paces = (0..scenario.consumers()).map(pace).collect();
                let counts = naive::start(build(scenario), listener, Arc::clone(&desk), paces);
                (Running::Naive(counts), desk)
            }
            build => {
                let config = designs::config(build, scenario).expect("one of ours");
                let places = config.max_connections;
                let fanin = config.validate()?.bind()?;
                let Some(BoundAddr::Tcp(address)) = fanin.handle.local_addrs().first() else {
                    bail!("no address");
                };
                tell(format_args!("listening {}", address.port()))?;
                let start = start_time(&orders)?;
                let desk = Arc::new(Mutex::new(Desk::new(scenario, start)));
                let handle = serve(fanin, &desk, |consumer| {
                    Pace::new(scenario, consumer, start)
                });
                (Running::Fanin(handle, places), desk)
            }
        };
        let last = loop {
            match orders.recv_timeout(WINDOW) {
                Ok(line) => break line,
                Err(RecvTimeoutError::Timeout) => {
                    let delivered = desk.lock().unwrap().delivered();
                    tell(format_args!("delivered {delivered}"))?;
                }
                Err(error) => bail!(error),
            }
        };
        let senders: Value = serde_json::from_str(&last)?;
        let list = |name: &str| -> Vec<u64> {
            let list = senders[name].as_array();
            list.into_iter()
                .flatten()
                .filter_map(Value::as_u64)
                .collect()
        };
        let mut result = json!({});
        running.end(scenario, &mut result);
        let report = desk.lock().unwrap().report(&list("sent"), &list("told"));
        result
            .as_object_mut()
            .expect("made above")
            .extend(report.as_object().cloned().into_iter().flatten());
        tell(format_args!("result {result}"))?;
        // The threads of naive designs wait for ever.
        std::process::exit(0);
    }
}

/// As in the library's first example, with the desk for a sink.
fn serve(fanin: Fanin, desk: &Arc<Mutex<Desk>>, pace: impl Fn(usize) -> Pace) -> Handle {
    for (number, mut consumer) in fanin.consumers.into_iter().enumerate() {
        let (desk, mut pace) = (Arc::clone(desk), pace(number));
        thread::spawn(move || {
            while let Ok(batch) = consumer.wait() {
                for record in batch.records() {
                    let Record::Messages(messages) = record else {
                        continue;
                    };
                    // The part of a message at the end of a stream is no message.
                    for text in messages.iter().filter(|_| !messages.is_unterminated()) {
                        pace.wait();
                        desk.lock().unwrap().take(text);
                    }
                }
                batch.release();
            }
        });
    }
    for reactor in fanin.reactors {
        thread::spawn(move || reactor.run());
    }
    fanin.handle
}

impl Running {
    /// Ends it as its kind can be ended, and says what it counted itself, in messages.
    fn end(&self, scenario: &Scenario, result: &mut Value) {
        match self {
            Self::Naive(counts) => {
                result["accepted"] = counts.accepted.load(Ordering::Relaxed).into();
                result["refused"] = counts.refused.load(Ordering::Relaxed).into();
                let dropped = counts.dropped.load(Ordering::Relaxed);
                result["counted"] = dropped.into();
                // With each message that is given up goes its connection.
                result["acts"] = json!([["closed.deadline", dropped]]);
            }
            Self::Fanin(handle, places) => {
                // What the drain does was none of the layers'.
                let seen = handle.snapshot();
                let refused = seen.connections.refused.total();
                result["accepted"] = (seen.connections.accepted + refused).into();
                result["refused"] = refused.into();
                result["acts"] = json!(acts(&seen, scenario, *places));
                handle.drain(DRAIN);
                let deadline = Instant::now() + PATIENCE;
                while !handle.snapshot().ended && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(5));
                }
                let seen = handle.snapshot();
                let bytes = seen.bytes.discarded.total() + seen.bytes.abandoned + seen.unread;
                result["counted"] = (bytes / (scenario.size as u64 + 1)).into();
                result["balanced"] = seen.balanced().into();
            }
        }
    }
}

/// How often each layer acted, by the name that its reason has in a report.
fn acts(seen: &Snapshot, scenario: &Scenario, places: usize) -> Vec<(String, u64)> {
    let size = scenario.size as u64 + 1;
    let by_us = |reason: &CloseReason| {
        let not = [CloseReason::Eof, CloseReason::Reset];
        !not.contains(reason) && !matches!(reason, CloseReason::System(_))
    };
    let closed = seen.connections.closed.iter();
    let closed = closed.filter(|(reason, _)| by_us(reason));
    let closed = closed.map(|(reason, n)| (format!("closed.{}", reason.label()), n));
    let refused = seen.connections.refused.iter();
    let refused = refused.map(|(reason, n)| (format!("refused.{}", reason.label()), n));
    let pauses = seen.pauses.iter();
    let pauses = pauses.map(|(cause, pauses)| (format!("pauses.{}", cause.label()), pauses.count));
    let discarded = seen
        .bytes
        .discarded
        .count(DiscardReason::RingFull)
        .div_ceil(size);
    let others = [
        ("discarded.ring_full".to_owned(), discarded),
        ("shuts".to_owned(), seen.shuts),
        (
            "places.full".to_owned(),
            u64::from(seen.peak.connections >= places as u64),
        ),
    ];
    let all = closed.chain(refused).chain(pauses).chain(others);
    all.filter(|(_, n)| *n > 0).collect()
}
