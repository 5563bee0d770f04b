//! Clients that nobody here wrote, each against the program.
//!
//! A client that is not installed is a skip, and a skip fails unless `.ci/allowed-skips` lists it.

mod support;

use std::process::{Child, Command, Stdio};

use support::{Fanin, Place, client, is_installed, skip, wait_for};

/// More than one read's worth of lines would hide nothing, and less would prove little.
const MESSAGES: usize = 100;

fn lines(output: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(output).expect("all the clients send UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines().map(str::to_owned).collect()
}

/// After the drain: each message once, in order, with what comes before it in its line.
#[track_caller]
fn came_in_order(mut fanin: Fanin, messages: impl Iterator<Item = String>) -> Vec<String> {
    let report = fanin.drain();
    let lines = lines(&fanin.output());
    let messages: Vec<_> = messages.collect();
    assert_eq!(lines.len(), messages.len(), "{lines:#?}\n{report:#}");
    for (line, message) in lines.iter().zip(&messages) {
        assert!(
            line.ends_with(message.as_str()),
            "{line:?}, not {message:?}"
        );
    }
    assert_eq!(
        support::total(&report, "/messages/delivered"),
        lines.len() as u64
    );
    lines
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("message {n} of many"))
}

fn input() -> Vec<u8> {
    numbered(MESSAGES)
        .flat_map(|m| (m + "\n").into_bytes())
        .collect()
}

fn is_missing(name: &str, program: &str) -> bool {
    let missing = !is_installed(program);
    if missing {
        skip(name, &format!("`{program}` is not installed"));
    }
    missing
}

fn logger(fanin: &Fanin, more: &[&str]) {
    let port = fanin.address().port().to_string();
    // No socket of the system's: `logger` would also accept standard input line by line.
    let mut command = Command::new("logger");
    command.args(["-T", "-n", "127.0.0.1", "-P", &port, "--rfc5424"]);
    client(command.args(more), &input());
}

#[test]
fn logger_over_tcp() {
    if is_missing("logger", "logger") {
        return;
    }
    for framing in ["line", "auto"] {
        let fanin = Fanin::start(&["--framing", framing]);
        logger(&fanin, &[]);
        let lines = came_in_order(fanin, numbered(MESSAGES));
        assert!(lines[0].starts_with('<'), "{:?}", lines[0]);
    }
}

#[test]
fn logger_with_octet_count() {
    if is_missing("logger", "logger") {
        return;
    }
    for framing in ["octet", "auto"] {
        let fanin = Fanin::start(&["--framing", framing]);
        logger(&fanin, &["--octet-count"]);
        let lines = came_in_order(fanin, numbered(MESSAGES));
        assert!(lines[0].starts_with('<'), "{:?}", lines[0]);
    }
}

#[test]
fn python_syslog_handler_ends_messages_with_nul() {
    if is_missing("python3", "python3") {
        return;
    }
    let fanin = Fanin::start(&["--framing", "nul"]);
    let script = r"
import logging, logging.handlers, socket, sys
handler = logging.handlers.SysLogHandler(('127.0.0.1', int(sys.argv[1])), socktype=socket.SOCK_STREAM)
log = logging.getLogger('t')
log.addHandler(handler)
for n in range(100):
    log.warning('message %d\nof \\ many', n)
handler.close()
";
    let port = fanin.address().port().to_string();
    client(Command::new("python3").args(["-c", script, &port]), b"");
    let messages = (0..MESSAGES).map(|n| format!(r"message {n}\nof \\ many"));
    let lines = came_in_order(fanin, messages);
    assert!(lines[0].starts_with("<12>"), "{:?}", lines[0]);
}

#[test]
fn bash_dev_tcp() {
    if is_missing("bash", "bash") {
        return;
    }
    let fanin = Fanin::start(&[]);
    let script = r#"exec 3<>"/dev/tcp/127.0.0.1/$0"; cat >&3"#;
    let port = fanin.address().port().to_string();
    client(Command::new("bash").args(["-c", script, &port]), &input());
    came_in_order(fanin, numbered(MESSAGES));
}

#[test]
fn socat_over_tcp_and_unix() {
    if is_missing("socat", "socat") {
        return;
    }
    let fanin = Fanin::start(&[]);
    let to = format!("TCP:{}", fanin.address());
    client(Command::new("socat").args(["-u", "STDIN", &to]), &input());
    came_in_order(fanin, numbered(MESSAGES));

    let place = Place::new();
    let socket = place.path("socket").display().to_string();
    let sink = format!("file:{}", place.path("output").display());
    let listen = format!("unix://{socket}");
    let mut command = support::serve(&["--listen", &listen, "--sink", &sink]);
    command.stdout(Stdio::null());
    let fanin = Fanin::start_with(command, place, 1);
    let to = format!("UNIX-CONNECT:{socket}");
    client(Command::new("socat").args(["-u", "STDIN", &to]), &input());
    came_in_order(fanin, numbered(MESSAGES));
}

#[test]
fn ncat_sends_a_file() {
    if is_missing("ncat", "ncat") {
        return;
    }
    let fanin = Fanin::start(&[]);
    let port = fanin.address().port().to_string();
    let mut command = Command::new("ncat");
    client(command.args(["--send-only", "127.0.0.1", &port]), &input());
    came_in_order(fanin, numbered(MESSAGES));
}

/// Ended with its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file is rsyslogd's input, omfwd its only output.
fn omfwd(framing: &str, how: &str) {
    let fanin = Fanin::start(&["--framing", framing]);
    let place = Place::new();
    let (source, config) = (place.path("source"), place.path("rsyslog.conf"));
    std::fs::write(&source, input()).unwrap();
    let text = format!(
        r#"global(workDirectory="{work}" maxMessageSize="64k")
module(load="imfile" mode="inotify")
input(type="imfile" file="{source}" tag="t:" ruleset="out")
template(name="t" type="string" string="<%PRI%>1 - - - - - - %msg%")
ruleset(name="out") {{
  action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" TCP_Framing="{how}" template="{template}")
}}
"#,
        work = place.path("").display(),
        source = source.display(),
        port = fanin.address().port(),
        template = "t",
    );
    std::fs::write(&config, text).unwrap();
    let log = std::fs::File::create(place.path("log")).unwrap();
    let mut command = Command::new("rsyslogd");
    if !is_on_path("rsyslogd") {
        command = Command::new("/usr/sbin/rsyslogd");
    }
    let mut daemon = Daemon(
        command
            .arg("-n")
            .arg("-f")
            .arg(&config)
            .arg("-i")
            .arg(place.path("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    wait_for("all that rsyslogd sends", 2 * support::PATIENCE, || {
        let log = || std::fs::read_to_string(place.path("log"));
        let status = daemon.0.try_wait().unwrap();
        assert!(status.is_none(), "rsyslogd: {status:?}: {:?}", log());
        (lines_so_far(&fanin) >= MESSAGES).then_some(())
    });
    drop(daemon);
    let lines = came_in_order(fanin, numbered(MESSAGES));
    assert!(lines[0].starts_with('<'), "{:?}", lines[0]);
}

fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn lines_so_far(fanin: &Fanin) -> usize {
    fanin.output().iter().filter(|&&byte| byte == b'\n').count()
}

#[test]
fn rsyslog_omfwd_traditional() {
    if is_missing("rsyslogd", "rsyslogd") {
        return;
    }
    omfwd("line", "traditional");
}

#[test]
fn rsyslog_omfwd_octet_counted() {
    if is_missing("rsyslogd", "rsyslogd") {
        return;
    }
    omfwd("octet", "octet-counted");
    omfwd("auto", "octet-counted");
}

/// `loggen` numbers its messages in `seq: 0000000000` for each of its threads.
#[test]
fn loggen_sends_from_several_connections() {
    if is_missing("loggen", "loggen") {
        return;
    }
    for (framing, more) in [("line", None), ("octet", Some("-P")), ("auto", Some("-P"))] {
        let mut fanin = Fanin::start(&["--framing", framing]);
        let port = fanin.address().port().to_string();
        let mut command = Command::new("loggen");
        command.args([
            "-i",
            "-S",
            "-n",
            "1000",
            "-r",
            "10000",
            "--active-connections",
            "4",
        ]);
        command.args(more).args(["127.0.0.1", &port]);
        client(&mut command, b"");
        let report = fanin.drain();
        let lines = lines(&fanin.output());
        let mut due = std::collections::HashMap::<String, u64>::new();
        for line in &lines {
            let (_, rest) = line.split_once("seq: ").expect("loggen's message");
            let seq: u64 = rest[..10].parse().unwrap();
            let (_, thread) = rest.split_once("thread: ").expect("loggen's message");
            let due = due.entry(thread[..4].to_owned()).or_default();
            assert_eq!(seq, *due, "{line}");
            *due += 1;
        }
        assert_eq!(due.len(), 4, "{framing}: {due:?}");
        assert_eq!(
            support::total(&report, "/messages/delivered"),
            lines.len() as u64
        );
        assert_eq!(support::total(&report, "/bytes/discarded"), 0, "{report:#}");
        assert!(lines.len() >= 1000, "{} lines", lines.len());
    }
}

#[test]
fn go_log_syslog() {
    if is_missing("go", "go") {
        return;
    }
    let fanin = Fanin::start(&[]);
    let place = Place::new();
    let program = r#"package main

import (
	"fmt"
	"log/syslog"
	"os"
)

func main() {
	w, err := syslog.Dial("tcp", os.Args[1], syslog.LOG_INFO, "t")
	if err != nil {
		panic(err)
	}
	for n := 0; n < 100; n++ {
		if err := w.Info(fmt.Sprintf("message %d of many", n)); err != nil {
			panic(err)
		}
	}
	w.Close()
}
"#;
    std::fs::write(place.path("main.go"), program).unwrap();
    let mut command = Command::new("go");
    command.arg("run").arg(place.path("main.go"));
    command.arg(fanin.address().to_string());
    // Nothing is downloaded: the standard library is all it needs.
    command.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
    command.env("GOCACHE", place.path("cache"));
    client(&mut command, b"");
    let lines = came_in_order(fanin, numbered(MESSAGES));
    assert!(lines[0].starts_with("<6>"), "{:?}", lines[0]);
}
