//! The program as a child process: started on a port of the kernel's choice, ended by SIGTERM, and
//! never left behind.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod flood;
pub(crate) mod load;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod strace;
pub(crate) mod tap;

use std::fs::File;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use tap::Tap;

/// Long enough for a busy machine; a test that passes does not wait so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until there is an answer. The one place in the tests that waits.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets time pass in which something must *not* happen: there is no condition to wait for.
#[track_caller]
pub(crate) fn nothing_for(time: Duration) {
    let end = Instant::now() + time;
    wait_for("the end of a silence", time + PATIENCE, || {
        (Instant::now() >= end).then_some(())
    });
}

/// Asks all the time whether something that must last does.
#[track_caller]
pub(crate) fn holds_for(what: &str, time: Duration, mut ask: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    wait_for(what, time + PATIENCE, || {
        assert!(ask(), "not for {time:?}: {what}");
        (Instant::now() >= end).then_some(())
    });
}

/// A directory of a test's own, removed when dropped.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanin-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `fanin serve` with the given options; add `--listen` and `--report` by [`Fanin::start`].
pub(crate) fn serve(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanin"));
    command.arg("serve").args(options);
    command
}

/// Runs a program that should refuse to start: its exit code, and what it said.
#[track_caller]
pub(crate) fn refused(mut command: Command) -> (Option<i32>, String) {
    command.stdout(Stdio::null());
    let mut fanin = Fanin::launch(command, Place::new());
    let code = fanin.wait().code();
    (code, fanin.said())
}

/// A running program.
pub(crate) struct Fanin {
    child: Child,
    said: Tap,
    /// What each `listening on` line named, in order.
    pub(crate) addresses: Vec<String>,
    pub(crate) place: Place,
}

impl Fanin {
    /// Listens on a free TCP port of 127.0.0.1, writes to the file `output` of its place, and
    /// reports into `report`.
    pub(crate) fn start(options: &[&str]) -> Self {
        let place = Place::new();
        let sink = format!("file:{}", place.path("output").display());
        let mut command = serve(&["--listen", "tcp://127.0.0.1:0", "--sink", &sink]);
        command.args(options).stdout(Stdio::null());
        Self::start_with(command, place, 1)
    }

    /// Writes to a pipe, which is given back unread.
    pub(crate) fn start_piped(options: &[&str]) -> (Self, ChildStdout) {
        let mut command = serve(&["--listen", "tcp://127.0.0.1:0"]);
        command.args(options).stdout(Stdio::piped());
        let mut fanin = Self::start_with(command, Place::new(), 1);
        let stdout = fanin.child.stdout.take().unwrap();
        (fanin, stdout)
    }

    /// Writes to this sink.
    pub(crate) fn start_into(sink: &str, options: &[&str]) -> Self {
        let mut command = serve(&["--listen", "tcp://127.0.0.1:0", "--sink", sink]);
        command.args(options).stdout(Stdio::null());
        Self::start_with(command, Place::new(), 1)
    }

    pub(crate) fn start_with(mut command: Command, place: Place, listeners: usize) -> Self {
        command.arg("--report").arg(place.path("report"));
        Self::start_as_is(command, place, listeners)
    }

    /// Adds nothing to the command.
    pub(crate) fn start_as_is(command: Command, place: Place, listeners: usize) -> Self {
        let mut fanin = Self::launch(command, place);
        let listens = fanin.listens(listeners);
        assert!(listens, "ended at once: {}", fanin.said());
        fanin
    }

    /// Waits until it does; `false`: it has ended instead.
    #[track_caller]
    pub(crate) fn listens(&mut self, listeners: usize) -> bool {
        wait_for("the program listens", PATIENCE, || {
            let has_ended = self.has_ended();
            self.addresses = self
                .said()
                .lines()
                .filter_map(|line| line.split_once("listening on "))
                .map(|(_, address)| address.trim().to_owned())
                .collect();
            let listens = self.addresses.len() >= listeners;
            (has_ended || listens).then_some(!has_ended)
        })
    }

    /// Started; it may refuse, too.
    pub(crate) fn launch(mut command: Command, place: Place) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Tap::on(child.stderr.take().unwrap());
        Self {
            child,
            said,
            addresses: Vec::new(),
            place,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The whole lines of its standard error so far.
    pub(crate) fn said(&self) -> String {
        let said = self.said.so_far();
        let whole = said.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        String::from_utf8_lossy(&said[..whole]).into_owned()
    }

    #[track_caller]
    pub(crate) fn wait_to_say(&self, words: &str) {
        wait_for(&format!("it says {words:?}"), PATIENCE, || {
            self.said().contains(words).then_some(())
        });
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    /// Of the listener in this place.
    pub(crate) fn address_of(&self, listener: usize) -> SocketAddr {
        let address = self.addresses[listener].strip_prefix("tcp://").unwrap();
        address.parse().unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A peer that comes, sends this and leaves.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.connect().write_all(bytes).unwrap();
    }

    pub(crate) fn output(&self) -> Vec<u8> {
        std::fs::read(self.place.path("output")).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn wait_for_output(&self, what: &str, fits: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        wait_for(what, PATIENCE, || Some(self.output()).filter(|o| fits(o)))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The report as SIGUSR1 has it written now.
    #[track_caller]
    pub(crate) fn report_now(&self) -> Value {
        let path = self.place.path("report");
        let _ = std::fs::remove_file(&path);
        self.signal(Signal::USR1);
        wait_for("a report after SIGUSR1", PATIENCE, || report(&path))
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its end, after which all that it said is there.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = wait_for("the program's end", PATIENCE, || {
            self.child.try_wait().unwrap()
        });
        self.said.to_the_end();
        status
    }

    /// Its end: the exit code, and the final report. Panics unless the books balance.
    #[track_caller]
    pub(crate) fn end(&mut self) -> (Option<i32>, Value) {
        let status = self.wait();
        let report = report(&self.place.path("report")).expect("a final report");
        assert!(report.get("live").is_none(), "not the final report");
        assert_eq!(report["balanced"], true, "{report:#}\n{}", self.said());
        assert_eq!(report["schema"], 1, "{report:#}");
        (status.code(), report)
    }

    /// SIGKILL: it can neither settle nor tidy.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// SIGTERM, and the final report. Panics unless the program ends with 0 and balanced books.
    #[track_caller]
    pub(crate) fn drain(&mut self) -> Value {
        self.signal(Signal::TERM);
        self.final_report(0)
    }

    /// Waits for its end, which must be with this code and with balanced books.
    #[track_caller]
    pub(crate) fn final_report(&mut self, code: i32) -> Value {
        let (ended, report) = self.end();
        assert_eq!(ended, Some(code), "{report:#}\n{}", self.said());
        report
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(path).unwrap().count()
    }

    /// Target descriptor and event mask of every registration in its epoll sets.
    pub(crate) fn registrations(&self) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        let directory = format!("/proc/{}/fdinfo", self.pid());
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with("tfd:")) {
                let mut words = line.split_whitespace();
                let fd = words.nth(1).unwrap().parse().unwrap();
                let mask = words.nth(1).unwrap();
                found.push((fd, u32::from_str_radix(mask, 16).unwrap()));
            }
        }
        found
    }
}

impl Drop for Fanin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last JSON value in a report file, if it is whole.
pub(crate) fn report(path: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    serde_json::from_str(&text)
        .or_else(|_| serde_json::from_str(text.lines().last().unwrap_or_default()))
        .ok()
}

/// A count that the report may give by reasons: their sum.
pub(crate) fn total(report: &Value, path: &str) -> u64 {
    match report.pointer(path) {
        Some(Value::Object(reasons)) => reasons.values().filter_map(Value::as_u64).sum(),
        Some(value) => value.as_u64().unwrap(),
        None => panic!("no {path} in {report:#}"),
    }
}

/// The list of live connections: the first array whose elements have a `fin_at`.
pub(crate) fn connections(report: &Value) -> Vec<Value> {
    fn find(value: &Value) -> Option<&Vec<Value>> {
        match value {
            Value::Array(list) if list.first().is_some_and(|c| c.get("fin_at").is_some()) => {
                Some(list)
            }
            Value::Object(map) => map.values().find_map(find),
            _ => None,
        }
    }
    find(report).cloned().unwrap_or_default()
}

/// Ends a test that needs something this machine lacks. Where nothing may be skipped (`.ci/run` says so
/// by `FANIN_NO_SKIPS`), that is a failure, unless `.ci/allowed-skips` lists the name.
#[track_caller]
pub(crate) fn skip(name: &str, reason: &str) {
    eprintln!("SKIP {name}: {reason}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/allowed-skips");
    let allowed = std::fs::read_to_string(path).unwrap_or_default();
    let is_allowed = allowed
        .lines()
        .any(|line| line.split('#').next().unwrap_or_default().trim() == name);
    assert!(
        is_allowed || std::env::var_os("FANIN_NO_SKIPS").is_none(),
        "SKIP {name}: {reason}; install it (.ci/run does) or list `{name}` in .ci/allowed-skips"
    );
}

/// Is there such a program?
pub(crate) fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(name).is_file())
}

/// Runs a client to its end; panics with its words unless it ends well and in time.
#[track_caller]
pub(crate) fn client(command: &mut Command, input: &[u8]) {
    let place = Place::new();
    let words = place.path("words");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(File::create(&words).unwrap())
        .stderr(File::options().append(true).open(&words).unwrap())
        .spawn()
        .unwrap();
    // Less than a pipe holds: no client needs to read for this to return.
    assert!(input.len() <= 32 << 10);
    child.stdin.take().unwrap().write_all(input).unwrap();
    let patience = 3 * PATIENCE;
    let status = wait_for("the client's end", patience, || child.try_wait().unwrap());
    let mut said = String::new();
    File::open(&words)
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(status.success(), "{command:?}: {status}: {said}");
}
