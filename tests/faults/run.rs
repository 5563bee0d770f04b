//! One run of the program with one fault: what went in, what came out, what it said.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::traffic::Peer;
use super::{Row, Scene};
use crate::support::flood::SMALL;
use crate::support::pipe::{FullPipe, full_pipe};
use crate::support::server::{Server, Taps};
use crate::support::strace::{Fault, Log, Strace, around, whole_log};
use crate::support::tap::Tap;
use crate::support::{Fanin, PATIENCE, Place, report, serve, wait_for};

/// What is given to things that ought to happen at once, and after some faults never do.
const SOON: Duration = Duration::from_millis(400);

/// What was seen.
pub(crate) struct Seen {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) log: Log,
    pub(crate) peers: Vec<Peer>,
    /// Were all descriptors given back before the end?
    pub(crate) is_clean: bool,
    /// Failures that had been reached before the end.
    pub(crate) before: usize,
    /// The connections that had ended before the end.
    pub(crate) ended: Vec<Value>,
    pub(crate) report: Option<Value>,
    pub(crate) output: Vec<u8>,
}

/// Where the program writes to.
enum Output {
    File,
    One(Tap),
    Server(Taps),
}

impl Output {
    fn so_far(&self, fanin: &Fanin) -> Vec<u8> {
        match self {
            Self::File => fanin.output(),
            Self::One(tap) => tap.so_far(),
            Self::Server(taps) => taps.so_far(),
        }
    }

    /// Everything, after the program's end.
    fn into_bytes(self, fanin: &Fanin) -> Vec<u8> {
        match self {
            Self::File => fanin.output(),
            Self::One(tap) => tap.to_the_end(),
            Self::Server(taps) => taps.into_bytes(),
        }
    }
}

pub(crate) fn run(row: &Row, fault: &Fault) -> Seen {
    let place = Place::new();
    let unix = format!("unix://{}", place.path("socket").display());
    let file = format!("file:{}", place.path("output").display());
    let mut command = serve(&["--listen", "tcp://127.0.0.1:0", "--listen", &unix]);
    command
        .args(["--drain-timeout", "2s"])
        .stdout(Stdio::null());
    match row.scene {
        Scene::Start => {
            command.args(["--sink", &file, "--report"]);
            command.arg(place.path("report"));
            start(&command, place, fault)
        }
        Scene::File => {
            command.args(["--sink", &file]);
            let fanin = Fanin::start_with(command, place, 2);
            traffic(fanin, row, fault, Output::File)
        }
        Scene::Socket => {
            let (reader, writer) = UnixStream::pair().unwrap();
            command.stdout(OwnedFd::from(writer));
            let fanin = Fanin::start_with(command, place, 2);
            traffic(fanin, row, fault, Output::One(Tap::on(reader)))
        }
        Scene::Server => {
            let server = Server::new();
            command.args(["--sink", &server.url()]);
            let fanin = Fanin::start_with(command, place, 2);
            traffic(fanin, row, fault, Output::Server(server.taps()))
        }
        Scene::Blocked => {
            let (pipe, writer) = full_pipe();
            command.args(SMALL).stdout(writer);
            let fanin = Fanin::start_with(command, place, 2);
            blocked(fanin, row, fault, pipe)
        }
    }
}

/// `false`: not within this time.
fn soon(time: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    wait_for("the end of patience", time + PATIENCE, || {
        let answer = ask();
        (answer || Instant::now() >= end).then_some(answer)
    })
}

/// The calls of the start, after which it takes a line and ends.
fn start(command: &Command, place: Place, fault: &Fault) -> Seen {
    let log = place.path("strace");
    let mut fanin = Fanin::launch(around(command, &log, Some(fault)), place);
    let mut peers = Vec::new();
    if fanin.listens(2) {
        peers.push(Peer::tcp(&fanin, 'a'));
        peers[0].send_line();
        peers[0].close();
        fanin.signal(Signal::TERM);
    }
    let code = fanin.wait().code();
    whole_log(&log);
    Seen {
        code,
        said: fanin.said(),
        log: Log::read(&log),
        peers,
        is_clean: true,
        before: 0,
        ended: Vec::new(),
        report: report(&fanin.place.path("report")),
        output: fanin.output(),
    }
}

/// How many calls of each name the loader and the runtime make before the program's first line.
pub(crate) fn calls_before_the_start() -> BTreeMap<String, usize> {
    let place = Place::new();
    let log = place.path("strace");
    // It refuses to start, late enough.
    let mut fanin = Fanin::launch(around(&serve(&["--sink", "file:/"]), &log, None), place);
    fanin.wait();
    let log = whole_log(&log);
    let (before, _) = log
        .split_once("prlimit64(0, RLIMIT_NOFILE")
        .expect("the program asks for its limits first");
    let mut calls = BTreeMap::new();
    for (name, _) in before.lines().filter_map(|line| line.split_once('(')) {
        *calls.entry(name.to_owned()).or_default() += 1;
    }
    calls
}

fn attach(fanin: &Fanin, row: &Row, fault: &Fault) -> Strace {
    // It is written beside the old one, and renamed.
    let name = format!("report.{}.tmp", fanin.pid());
    let on = row.on_report.then(|| fanin.place.path(&name));
    Strace::attach(
        fanin,
        row.thread,
        &Fault {
            on,
            ..fault.clone()
        },
    )
}

/// One that talks, one that is silent, one that half-closes, one that resets, one whose line comes in two
/// parts, one by a Unix socket.
fn traffic(mut fanin: Fanin, row: &Row, fault: &Fault, output: Output) -> Seen {
    let baseline = fanin.descriptors();
    let strace = attach(&fanin, row, fault);
    let mut talker = Peer::tcp(&fanin, 'a');
    let silent = Peer::tcp(&fanin, 'b');
    let mut half = Peer::tcp(&fanin, 'c');
    let mut broken = Peer::tcp(&fanin, 'd');
    let mut parts = Peer::tcp(&fanin, 'e');
    let mut unix = Peer::unix(&fanin, 'f');
    arrives(&mut fanin, &mut talker, &output);
    if !fanin.has_ended() {
        // A file is opened again before the next message.
        fanin.signal(Signal::HUP);
    }
    half.send_line();
    half.half_close();
    broken.send_line();
    broken.reset();
    parts.send_in_parts(|| arrives(&mut fanin, &mut unix, &output));
    talker.send_line();
    let mut peers = vec![talker, silent, half, broken, parts, unix];
    peers.iter_mut().for_each(Peer::close);
    end(fanin, strace, peers, baseline, output)
}

/// A line, with time to be written.
fn arrives(fanin: &mut Fanin, peer: &mut Peer, output: &Output) {
    peer.send_line();
    soon(SOON, || {
        let delivered = peer.delivered(&output.so_far(fanin)).len();
        fanin.has_ended() || delivered >= peer.sent.len()
    });
}

/// One that sends more than all of its way holds, and one that sends a line.
fn blocked(fanin: Fanin, row: &Row, fault: &Fault, pipe: FullPipe) -> Seen {
    let baseline = fanin.descriptors();
    let strace = attach(&fanin, row, fault);
    let mut peers = vec![Peer::tcp(&fanin, 'a'), Peer::tcp(&fanin, 'b')];
    peers[0].flood();
    peers[1].send_line();
    let output = Output::One(pipe.open());
    peers[0].end_line();
    peers.iter_mut().for_each(Peer::close);
    end(fanin, strace, peers, baseline, output)
}

/// Everybody has left; one more comes, and sends its last line when it is told of the end.
fn end(
    mut fanin: Fanin,
    strace: Strace,
    mut peers: Vec<Peer>,
    baseline: usize,
    output: Output,
) -> Seen {
    // A server's connection is made with the first message, and stays.
    let baseline = match output {
        Output::Server(_) => baseline + 1,
        _ => baseline,
    };
    let is_clean = soon(10 * SOON, || {
        fanin.has_ended() || fanin.descriptors() <= baseline
    });
    let path = fanin.place.path("report");
    let (mut before, mut ended) = (0, Vec::new());
    if !fanin.has_ended() {
        fanin.signal(Signal::USR1);
        soon(SOON, || {
            let live = report(&path).filter(|report| report.get("live").is_some());
            let rows = live.and_then(|report| report["recently_closed"].as_array().cloned());
            let is_there = rows.is_some();
            ended = rows.unwrap_or_default();
            fanin.has_ended() || is_there
        });
        before = strace.so_far().injected;
        let mut last = Peer::tcp(&fanin, 'z');
        last.send_line();
        // Once its end was seen, nobody is there to take a signal.
        if !fanin.has_ended() {
            fanin.signal(Signal::TERM);
        }
        last.wait_for_end();
        last.send_line();
        last.close();
        peers.push(last);
    }
    let code = fanin.wait().code();
    Seen {
        code,
        said: fanin.said(),
        log: strace.end(),
        peers,
        is_clean,
        before,
        ended,
        report: report(&path).filter(|report| report.get("live").is_none()),
        output: output.into_bytes(&fanin),
    }
}
