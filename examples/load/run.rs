//! One case of the matrix: the program, a sender in a process of its own, a sink of some pace, and
//! afterwards the content, the books, the memory and the exit code.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::checker::{Checker, Corrupt, Lines, Verdict};
use crate::message::Plan;
use crate::send::Writes;

/// Where the program is told to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sink {
    File,
    Stdout,
    Tcp,
}

/// How the other end of the sink reads. A file is always fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pace {
    Fast,
    /// About 16 MiB/s.
    Slow,
    /// Stops after the first bytes, then goes on as fast as it can.
    Stop,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) plan: Plan,
    pub(crate) writes: Writes,
    pub(crate) sink: Sink,
    pub(crate) pace: Pace,
    pub(crate) stop_for: Duration,
    pub(crate) unix: bool,
    pub(crate) consumers: usize,
    pub(crate) reactors: usize,
    pub(crate) ring: String,
    pub(crate) threads: usize,
    pub(crate) timeout: Duration,
    pub(crate) corrupt: Option<Corrupt>,
}

pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// What is wrong beside the content.
    pub(crate) complaints: Vec<String>,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    /// The most anonymous memory seen, in bytes.
    pub(crate) memory: u64,
}

impl Outcome {
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.complaints.is_empty()
    }
}

/// The budget for parts of messages: most of promise 1, and no room for anything else.
const STAGING: u64 = 64 << 20;

/// Killed when dropped: a case that fails leaves nothing behind.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(fanin: &Path, case: &Case) -> Result<Outcome> {
    let began = Instant::now();
    let deadline = began + case.timeout;
    case.plan.validate()?;
    let place = std::env::temp_dir().join(format!("fanin-load-{}", std::process::id()));
    std::fs::create_dir_all(&place)?;
    let (output, report) = (place.join("output"), place.join("report"));
    let (socket, diary) = (place.join("socket"), place.join("stderr"));
    for old in [&output, &report, &socket] {
        let _ = std::fs::remove_file(old);
    }
    let checker = Arc::new(Mutex::new(Checker::new(case.plan, case.corrupt)));

    let mut command = Command::new(fanin);
    command.arg("serve").arg("--listen");
    if case.unix {
        command.arg(format!("unix://{}", socket.display()));
    } else {
        command.arg("tcp://127.0.0.1:0");
    }
    command.args(["--framing", &case.plan.wire.option(), "--output", "line"]);
    command.args(["--ring", &case.ring, "--drain-timeout", "30s"]);
    command.args(["--staging", &STAGING.to_string()]);
    command.args(["--consumers", &case.consumers.to_string()]);
    command.args(["--reactors", &case.reactors.to_string()]);
    // Room for those of the last moment that the program has not yet seen go.
    let most = (case.plan.connections + 100).max(10_000);
    command.args(["--max-connections", &most.to_string()]);
    command.arg("--report").arg(&report);
    let mut receivers: Vec<JoinHandle<Result<()>>> = Vec::new();
    let mut far_end = None;
    match case.sink {
        Sink::File => {
            command.args(["--sink", &format!("file:{}", output.display())]);
            command.stdout(Stdio::null());
        }
        Sink::Stdout => {
            command.args(["--sink", "stdout"]).stdout(Stdio::piped());
        }
        Sink::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            command.args(["--sink", &format!("tcp://{address}")]);
            command.stdout(Stdio::null());
            far_end = Some(address);
            // One connection from each consumer, once it has something to write.
            for _ in 0..case.consumers {
                let listener = listener.try_clone()?;
                let (checker, case) = (checker.clone(), case.clone());
                receivers.push(std::thread::spawn(move || {
                    let (stream, _) = listener.accept()?;
                    receive(stream, &checker, &case)
                }));
            }
        }
    }
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut program = Program(
        command
            .spawn()
            .with_context(|| format!("{}", fanin.display()))?,
    );
    if let Some(stdout) = program.0.stdout.take() {
        let (checker, case) = (checker.clone(), case.clone());
        receivers.push(std::thread::spawn(move || receive(stdout, &checker, &case)));
    }
    let stderr = program.0.stderr.take().context("stderr is piped")?;
    let (address, bound) = hear(stderr, &diary, deadline)?;

    let mut sender = Program(
        sender(&address, case)
            .spawn()
            .context("starting the sender")?,
    );
    let mut words = sender.0.stdout.take().context("stdout is piped")?;
    let mut memory = 0;
    let status = loop {
        memory = memory.max(anonymous_memory(program.0.id()).unwrap_or(memory));
        if let Some(status) = sender.0.try_wait()? {
            break status;
        }
        ensure!(
            Instant::now() < deadline,
            "the sender is not done after {:?}; the program said:\n{}",
            case.timeout,
            std::fs::read_to_string(&diary).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut sent = String::new();
    words.read_to_string(&mut sent)?;
    ensure!(status.success(), "the sender failed: {status}");
    let sent: Value = serde_json::from_str(&sent).context("the sender's summary")?;

    let pid = Pid::from_child(&program.0);
    kill_process(pid, Signal::TERM).context("SIGTERM to the program")?;
    let status = loop {
        memory = memory.max(anonymous_memory(program.0.id()).unwrap_or(memory));
        if let Some(status) = program.0.try_wait()? {
            break status;
        }
        ensure!(
            Instant::now() < deadline,
            "the program does not end after SIGTERM"
        );
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut complaints = Vec::new();
    // The program has ended, and with it its ends of pipes and connections. A receiver that still waits
    // for one belongs to a consumer that had nothing to write: ours, which says nothing, lets it go.
    if let Some(address) = far_end {
        for _ in &receivers {
            // Refused where no receiver waits any more.
            let _ = TcpStream::connect(address);
        }
    }
    for receiver in receivers {
        receiver.join().expect("a receiver panicked")?;
    }
    if case.sink == Sink::File {
        receive(File::open(&output).context("the output")?, &checker, case)?;
    }
    let checker = std::mem::replace(
        &mut *checker.lock().expect("no receiver panicked"),
        Checker::new(case.plan, None),
    );
    let verdict = checker.finish();

    if status.code() != Some(0) {
        complaints.push(format!("the program's end: {status}"));
    }
    for error in sent["errors"].as_array().into_iter().flatten() {
        complaints.push(format!("sender: {error}"));
    }
    let bytes = sent["bytes"].as_u64().unwrap_or(0);
    let text = std::fs::read_to_string(&report).context("the report")?;
    let last = text.lines().last().unwrap_or_default();
    let books = serde_json::from_str(&text).or_else(|_| serde_json::from_str(last));
    let books = books.context("the report is no JSON")?;
    complain_about_books(&books, case, bytes, &mut complaints);
    let staged = books.pointer("/peak/staging_bytes").and_then(Value::as_u64);
    match (bound, staged) {
        (Some(bound), Some(staged)) => {
            // Of the budget, what was used at one time, and as much again that was at another.
            let touched = 2 * staged * case.reactors as u64;
            let bound = bound.saturating_sub(STAGING.saturating_sub(touched));
            if memory > bound {
                complaints.push(format!(
                    "{memory} B of memory, {bound} B were promised, of which {staged} B of staging"
                ));
            }
        }
        _ => complaints.push("no `memory at most` was printed, or no peak reported".into()),
    }
    if !complaints.is_empty() || !verdict.is_clean() {
        let said = std::fs::read_to_string(&diary).unwrap_or_default();
        let from = said.len().saturating_sub(2000);
        complaints.push(format!(
            "stderr: {}",
            said.get(from..).unwrap_or(&said).trim()
        ));
        complaints.push(format!("report: {}", text.trim()));
        if case.corrupt.is_some() && complaints.len() == 2 {
            complaints.clear();
        }
    }
    let _ = std::fs::remove_dir_all(&place);
    Ok(Outcome {
        verdict,
        complaints,
        seconds: began.elapsed().as_secs_f64(),
        bytes,
        memory,
    })
}

fn sender(address: &str, case: &Case) -> Command {
    let plan = &case.plan;
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["send", "--to", address]);
    command.args(crate::plan_args(plan));
    let writes = format!("{:?}", case.writes).to_lowercase();
    command.args(["--writes", &writes, "--threads", &case.threads.to_string()]);
    command.args(["--timeout", &case.timeout.as_secs().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Reads the program's words until it listens, and has the rest written down.
/// Gives the address, and promise 1 in bytes.
fn hear(
    stderr: std::process::ChildStderr,
    diary: &Path,
    deadline: Instant,
) -> Result<(String, Option<u64>)> {
    let (say, hear) = std::sync::mpsc::channel();
    let mut diary = File::create(diary)?;
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = std::io::Write::write_all(&mut diary, format!("{line}\n").as_bytes());
            let _ = say.send(line);
        }
    });
    let mut said = Vec::new();
    let (mut address, mut bound) = (None, None);
    // Both lines come at the start, in either order. A sum that never comes is the caller's complaint.
    while address.is_none() || bound.is_none() {
        let patience = match address {
            None => deadline.saturating_duration_since(Instant::now()),
            Some(_) => Duration::from_secs(5),
        };
        match hear.recv_timeout(patience) {
            Ok(line) => {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    address = Some(rest.trim().to_owned());
                } else if let Some((_, rest)) = line.split_once("memory at most ") {
                    bound = bytes_of(rest);
                }
                said.push(line);
            }
            Err(_) => break,
        }
    }
    let address = address
        .with_context(|| format!("the program does not listen; it said:\n{}", said.join("\n")))?;
    Ok((address, bound))
}

/// `12.3 MiB = ...`
fn bytes_of(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let number: f64 = words.next()?.parse().ok()?;
    let power = ["B", "KiB", "MiB", "GiB", "TiB"]
        .iter()
        .position(|&unit| Some(unit) == words.clone().next())?;
    // One decimal was printed: half of it may have been rounded away.
    let rounding = if power == 0 { 0.0 } else { 0.05 };
    Some(((number + rounding) * 1024f64.powi(power as i32)) as u64)
}

fn anonymous_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

fn receive(mut from: impl Read, checker: &Mutex<Checker>, case: &Case) -> Result<()> {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 64 << 10];
    let mut first = true;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("reading the sink's other end"),
        };
        {
            let mut checker = checker.lock().expect("no receiver panicked");
            lines.feed(&buffer[..n], |line| checker.line(line));
        }
        // Not synchronisation: the pace is what is tested.
        match case.pace {
            Pace::Fast => {}
            Pace::Slow => {
                let nanos = n as u64 * 1_000_000_000 / (16 << 20);
                std::thread::sleep(Duration::from_nanos(nanos));
            }
            Pace::Stop if first => std::thread::sleep(case.stop_for),
            Pace::Stop => {}
        }
        first = false;
    }
    checker
        .lock()
        .expect("no receiver panicked")
        .torn(lines.rest());
    Ok(())
}

fn complain_about_books(report: &Value, case: &Case, sent: u64, complaints: &mut Vec<String>) {
    let plan = &case.plan;
    let mut expect = |path: &str, expected: u64| {
        let found = report.pointer(path).map(|value| match value {
            Value::Object(reasons) => reasons.values().filter_map(Value::as_u64).sum(),
            value => value.as_u64().unwrap_or(u64::MAX),
        });
        if found != Some(expected) {
            complaints.push(format!("report {path}: {found:?}, not {expected}"));
        }
    };
    expect("/bytes/received", sent);
    expect("/bytes/published", sent);
    expect("/bytes/delivered", sent);
    expect("/bytes/discarded", 0);
    expect("/bytes/abandoned", 0);
    expect("/unread", 0);
    expect("/messages/delivered", plan.connections * plan.messages);
    expect("/connections/accepted", plan.connections);
    expect("/connections/refused", 0);
    expect("/connections/closed", plan.connections);
    expect("/connections/closed/eof", plan.connections);
    if report["balanced"] != Value::Bool(true) {
        complaints.push(format!("report /balanced: {}", report["balanced"]));
    }
    if report["schema"] != 1 {
        complaints.push(format!("report /schema: {}", report["schema"]));
    }
}

/// The program that cargo built beside this one.
pub(crate) fn beside() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let fanin = me
        .parent()
        .and_then(Path::parent)
        .context("no directory above this program's")?
        .join("fanin");
    ensure!(
        fanin.exists(),
        "{} does not exist: build it, or name another with --fanin",
        fanin.display()
    );
    Ok(fanin)
}
