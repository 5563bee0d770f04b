//! One design, played: its process, the senders' process, and what was seen of them.
//!
//! In: a design and a scenario. Out: a row of the table, with its samples. Never here: a child that
//! outlives us, or that is ended by anything but its own handle.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::designs::Design;
use super::desk::WINDOW;
use super::message::now;
use super::plan::{self, Plan};
use super::row::{self, Row};
use super::scenario::Scenario;
use super::watch::{Sample, Watched};

/// Both processes are up by then.
const BEFORE: Duration = Duration::from_millis(200);
/// Stuck or held is asked so long after a sender left.
pub(crate) const AFTER: Duration = Duration::from_secs(1);
/// A consumer that works may take what is left for so long after the senders' end.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Without a delivery for so long nothing more will come.
const SILENCE: Duration = Duration::from_millis(800);
/// More than a scenario takes, on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Server,
    Senders,
}

type Line = (Who, String);

/// A child. It ends when its standard input does, and is ended when this goes.
struct Part {
    child: Child,
    orders: ChildStdin,
}

impl Part {
    fn start(who: Who, words: &[String], lines: &Sender<Line>) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().context("piped above")?;
        let said = BufReader::new(child.stdout.take().context("piped above")?);
        let lines = lines.clone();
        thread::spawn(move || {
            let said = said.lines().map_while(Result::ok);
            for line in said.chain(["ended".to_owned()]) {
                let _ = lines.send((who, line));
            }
        });
        Ok(Self { child, orders })
    }

    fn order(&mut self, line: impl std::fmt::Display) -> Result<()> {
        Ok(writeln!(self.orders, "{line}")?)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sender that has left: its number, its address, when, and whether the server still held it a second later.
#[derive(Clone, Copy, Debug)]
struct Left {
    sender: usize,
    address: SocketAddrV4,
    at: u64,
    looked: Option<(u64, bool)>,
}

struct Play<'a> {
    scenario: &'a Scenario,
    plans: Vec<Plan>,
    start: u64,
    watched: Watched,
    samples: Vec<Sample>,
    left: Vec<Left>,
    delivered: u64,
    /// When it last grew.
    delivered_at: u64,
    /// The senders' result, and when it came.
    sent: Option<(Value, u64)>,
}

/// Plays it, and gives its row.
pub(crate) fn play(design: &'static Design, scenario: &Scenario) -> Result<Row> {
    let (sender, lines) = channel();
    let mut words = vec!["lab-server".to_owned(), format!("--design={}", design.name)];
    words.extend(scenario.words());
    let mut server = Part::start(Who::Server, &words, &sender)?;
    let port = heard(&lines, "listening ")?.parse()?;
    let mut words = vec!["lab-senders".to_owned(), format!("--port={port}")];
    words.extend(scenario.words());
    let mut senders = Part::start(Who::Senders, &words, &sender)?;
    let watched = Watched::new(server.child.id(), port);
    let start = now() + BEFORE.as_nanos() as u64;
    server.order(format_args!("start {start}"))?;
    senders.order(format_args!("start {start}"))?;

    let mut play = Play {
        scenario,
        plans: plan::plans(scenario),
        start,
        watched,
        samples: Vec::new(),
        left: Vec::new(),
        delivered: 0,
        delivered_at: start,
        sent: None,
    };
    play.watch(&lines)?;
    let (sent, _) = play.sent.take().context("watched until it was there")?;
    server.order(json!({ "sent": sent["sent"], "told": sent["told"] }))?;
    let server: Value = serde_json::from_str(&heard(&lines, "result ")?)?;
    for wrong in ["corrupt", "twice", "unsent"] {
        ensure!(
            server[wrong] == 0,
            "{}: {wrong}: {}",
            design.name,
            server[wrong]
        );
    }
    ensure!(
        server["balanced"] != false,
        "{}: its books do not balance",
        design.name
    );
    let last: Vec<u64> = serde_json::from_value(server["last_by_sender"].clone())?;
    let open = |left: &&Left| left.looked.is_some_and(|(_, open)| open);
    let open: Vec<_> = play.left.iter().filter(open).collect();
    // Whose messages still came after the look had held them.
    let holds = |left: &&&Left| left.looked.is_some_and(|(at, _)| last[left.sender] > at);
    let held = open.iter().filter(holds).count();
    Ok(row::row(
        design,
        scenario,
        &sent,
        &server,
        play.samples,
        (open.len() - held, held),
    ))
}

/// Waits for a line of this kind.
fn heard(lines: &Receiver<Line>, kind: &str) -> Result<String> {
    loop {
        let (who, line) = lines.recv_timeout(PATIENCE)?;
        if let Some(rest) = line.strip_prefix(kind) {
            return Ok(rest.to_owned());
        }
        ensure!(
            line != "ended" || who == Who::Senders,
            "the design's process has ended"
        );
    }
}

impl Play<'_> {
    fn time(&self) -> Duration {
        Duration::from_nanos(now().saturating_sub(self.start))
    }

    /// Samples until there is nothing more to see.
    fn watch(&mut self, lines: &Receiver<Line>) -> Result<()> {
        let mut next = Duration::ZERO;
        while !self.is_over() {
            let t = self.time();
            ensure!(t < self.scenario.length() + PATIENCE, "it takes too long");
            if t >= next && now() >= self.start {
                self.sample(t);
                // With many descriptors a look takes long: not more than a fifth of the time is for it.
                let took = self.time() - t;
                next = (t + WINDOW.max(5 * took)).max(next + WINDOW);
            }
            match lines.recv_timeout(next.saturating_sub(t).min(WINDOW)) {
                Ok((who, line)) => self.take(who, &line)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(error) => bail!(error),
            }
        }
        self.sample(self.time());
        Ok(())
    }

    fn sample(&mut self, t: Duration) {
        let come = self
            .plans
            .iter()
            .filter(|plan| plan.connect_at <= t)
            .count();
        let present = come.saturating_sub(self.left.len());
        // Before the look, which takes its time: what is delivered meanwhile was held.
        let now = now();
        let sample = self.watched.look(t.as_millis() as u64, present);
        self.samples.push(sample);
        let waited = AFTER.as_nanos() as u64;
        for left in self.left.iter_mut().filter(|left| left.looked.is_none()) {
            if now >= left.at + waited {
                left.looked = Some((now, self.watched.holds(left.address)));
            }
        }
    }

    fn take(&mut self, who: Who, line: &str) -> Result<()> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (who, kind) {
            (Who::Server, "delivered") => {
                let delivered = rest.parse()?;
                if delivered > self.delivered {
                    (self.delivered, self.delivered_at) = (delivered, now());
                }
            }
            (Who::Senders, "left") => {
                let mut words = rest.split(' ');
                let mut word = || words.next().context("left SENDER ADDRESS TIME");
                self.left.push(Left {
                    sender: word()?.parse()?,
                    address: word()?.parse()?,
                    at: word()?.parse()?,
                    looked: None,
                });
            }
            (Who::Senders, "result") => self.sent = Some((serde_json::from_str(rest)?, now())),
            (Who::Senders, "ended") if self.sent.is_some() => {}
            _ => bail!("{who:?} said: {line}"),
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let Some((sent, at)) = &self.sent else {
            return false;
        };
        if self.left.iter().any(|left| left.looked.is_none()) {
            return false;
        }
        let list = sent["sent"].as_array().into_iter().flatten();
        let all: u64 = list.filter_map(Value::as_u64).sum();
        let end = Duration::from_nanos(at.saturating_sub(self.start)) + GRACE;
        let t = self.time();
        let for_good = (0..self.scenario.consumers()).all(|consumer| {
            let stall = self.scenario.stall_of(consumer, t);
            stall.is_some_and(|stall| stall.end() >= end)
        });
        // A stall that ended a moment ago has been no silence of the design's.
        let stalls = self.scenario.stalls.iter();
        let worked = stalls
            .filter(|stall| stall.end() <= t)
            .map(|stall| stall.end())
            .max();
        let quiet = t.saturating_sub(Duration::from_nanos(self.delivered_at - self.start));
        let quiet = quiet.min(t - worked.unwrap_or_default());
        let silent = quiet > SILENCE && !self.scenario.is_stalled(t);
        self.delivered >= all || for_good || silent || t >= end
    }
}
