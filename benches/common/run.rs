//! One run: a receiver, its senders, and what the receiver used from the first byte to the last.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::ours;
use super::process::{Threads, memory, raise_descriptor_limit};
use super::send::Traffic;

/// A receiver: its name, and how to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Options of a receiver of ours.
    pub(crate) options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `serve` of this program.
    Own(String),
    /// `fanin` at this path.
    Program(String),
}

impl Candidate {
    pub(crate) fn own(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Own(name.to_owned()),
            options: Vec::new(),
        }
    }

    pub(crate) fn program(name: &str, path: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Program(path.to_owned()),
            options: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, options: &[&str]) -> Self {
        self.name = name.to_owned();
        self.options
            .extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    fn command(&self, traffic: &Traffic) -> Command {
        match &self.kind {
            Kind::Program(path) => ours::command(path, traffic.framing),
            Kind::Own(name) => {
                let me = std::env::current_exe().expect("this program has a path");
                let mut command = Command::new(me);
                command.args(["serve", name, "--framing", traffic.framing.name()]);
                command
            }
        }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) reactor: Duration,
    pub(crate) consumer: Duration,
    /// From the word to the end of the last connection: all was read, though not all was consumed.
    pub(crate) wall: Duration,
    /// KiB, the most that was ever resident.
    pub(crate) peak_kib: u64,
    pub(crate) voluntary: u64,
    pub(crate) involuntary: u64,
    pub(crate) sender_cpu: Duration,
    /// Nanoseconds from send to consumer: p50, p99, p99.9.
    pub(crate) latency: Option<[u64; 3]>,
}

/// Killed when dropped, so that a failed run leaves nothing behind.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A receiver that listens.
pub(crate) struct Receiver {
    pub(crate) process: Process,
    said: BufReader<std::process::ChildStderr>,
    pub(crate) address: String,
    is_program: bool,
}

impl Receiver {
    pub(crate) fn start(candidate: &Candidate, traffic: &Traffic) -> Self {
        raise_descriptor_limit();
        let mut command = candidate.command(traffic);
        command.args(&candidate.options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn();
        let mut process = Process(child.unwrap_or_else(|e| panic!("{command:?}: {e}")));
        let mut said = BufReader::new(process.0.stderr.take().expect("piped"));
        let address = loop {
            let mut line = String::new();
            let n = said.read_line(&mut line).expect("text");
            assert!(n > 0, "{}: ended before it listened", candidate.name);
            if let Some((_, address)) = line.split_once("listening on tcp://") {
                break address.trim().to_owned();
            }
        };
        Self {
            process,
            said,
            address,
            is_program: matches!(candidate.kind, Kind::Program(_)),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Ends it: messages and bytes that it counted, and the times of a receiver of ours, if it took any.
    pub(crate) fn end(mut self) -> (u64, u64, Option<[u64; 3]>) {
        let mut text = String::new();
        if self.is_program {
            ours::end(&self.process.0);
            self.said.read_to_string(&mut text).expect("text");
            let counted = ours::counted(&text);
            let (messages, bytes) = counted.unwrap_or_else(|| panic!("no report: {text}"));
            return (messages, bytes, None);
        }
        drop(self.process.0.stdin.take());
        let mut stdout = self.process.0.stdout.take().expect("piped");
        stdout.read_to_string(&mut text).expect("text");
        let numbers: Vec<u64> = text
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let [messages, bytes, timed, p50, p99, p999] = numbers[..] else {
            let mut said = String::new();
            self.said.read_to_string(&mut said).expect("text");
            panic!("it broke: {said}");
        };
        // Half of a message at the ring's end has no time; more than a few would be another thing.
        let latency = (timed > messages / 1000 * 999).then_some([p50, p99, p999]);
        (messages, bytes, latency)
    }
}

/// Senders that are connected, and wait for the word.
pub(crate) struct Senders {
    process: Process,
    said: BufReader<ChildStdout>,
}

impl Senders {
    pub(crate) fn connect(to: &str, traffic: &Traffic) -> Self {
        let me = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(me);
        command.args(["send", to]).args(traffic.args());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process(command.spawn().expect("the senders start"));
        let mut said = BufReader::new(process.0.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("text");
        assert_eq!(line.trim(), "ready", "the senders failed");
        Self { process, said }
    }

    /// Time, and the senders' processor time.
    pub(crate) fn go(mut self) -> (Duration, Duration) {
        let stdin = self.process.0.stdin.as_mut().expect("piped");
        stdin.write_all(b"go\n").expect("they wait for it");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        let mut numbers = line
            .split_whitespace()
            .map(|n| n.parse().map(Duration::from_nanos));
        match (numbers.next(), numbers.next()) {
            (Some(Ok(wall)), Some(Ok(cpu))) => (wall, cpu),
            _ => panic!("the senders failed"),
        }
    }
}

/// # Panics
///
/// When the receiver counted other messages or bytes than were sent: what it used would mean nothing.
pub(crate) fn run(candidate: &Candidate, traffic: &Traffic) -> Cost {
    let receiver = Receiver::start(candidate, traffic);
    let pid = receiver.pid();
    let senders = Senders::connect(&receiver.address, traffic);
    let before = Threads::at_rest(pid);
    let (wall, sender_cpu) = senders.go();
    let after = Threads::at_rest(pid);
    let (peak_kib, _) = memory(pid);
    let (messages, bytes, latency) = receiver.end();
    assert_eq!(
        (bytes, messages),
        traffic.totals(),
        "{} did not get what was sent (bytes, messages)",
        candidate.name
    );
    let used = |name: &str| after.cpu(name).saturating_sub(before.cpu(name));
    let (was, is) = (before.switches(), after.switches());
    Cost {
        cpu: used(""),
        reactor: used("reactor"),
        consumer: used("consumer"),
        wall,
        peak_kib,
        voluntary: is.0 - was.0,
        involuntary: is.1 - was.1,
        sender_cpu,
        latency,
    }
}
