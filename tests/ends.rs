//! `fanin serve` and signals: what it shows while it runs, how it drains, how it is stopped.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::process::Signal;
use serde_json::Value;

use support::flood::{Flood, LINE, SMALL, numbered, whole_lines};
use support::pipe::blocked;
use support::tap::Tap;
use support::{Fanin, PATIENCE, Place, refused, serve, total, wait_for};

const ANY: &str = "tcp://127.0.0.1:0";

/// A program that is not to end by its drain's time, whatever a test does.
const LONG: [&str; 2] = ["--drain-timeout", "10m"];

/// After an end that left something behind: what came out is the beginning of what was sent, what is
/// called delivered is its whole lines, and what is said to be lost is all that is abandoned.
#[track_caller]
fn the_rest_is_counted(fanin: &Fanin, report: &Value, written: &[u8], sent: &[u8]) {
    assert!(sent.starts_with(written), "not what was sent");
    let delivered = whole_lines(written).len() as u64;
    assert_eq!(total(report, "/bytes/delivered"), delivered, "{report:#}");
    let lines = delivered / LINE as u64;
    assert_eq!(total(report, "/messages/delivered"), lines, "{report:#}");
    let abandoned = total(report, "/bytes/abandoned");
    assert!(abandoned > 0, "{report:#}");
    assert_eq!(total(report, "/bytes/in_rings"), 0, "{report:#}");
    assert_eq!(report["ended"], true, "{report:#}");
    // A line whose end had not come is lost with its sink, or cut by the end of all.
    let lost = abandoned + total(report, "/bytes/discarded/consumer_gone");
    let cut = total(report, "/bytes/discarded/cut_at_end");
    assert_eq!(total(report, "/bytes/received"), delivered + lost + cut);
    let said = fanin.said();
    let words = format!("fanin: {lost} bytes were not delivered");
    assert!(said.contains(&words), "{words:?} is not in: {said}");
}

// A drain.

#[test]
fn a_drain_delivers_what_was_sent_before_and_ends_with_0() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut fanin = Fanin::start(&LONG);
        let lines = numbered(5_000);
        for _ in 0..8 {
            // Not waited for: some of them have not even been accepted when the signal comes.
            fanin.send(&lines);
        }
        fanin.signal(signal);
        let (code, report) = fanin.end();
        assert_eq!(code, Some(0), "{name}: {}", fanin.said());
        assert!(fanin.said().contains(&format!("{name}: draining")));
        assert_eq!(report["drain"]["cause"], name);
        assert_eq!(report["drain"]["complete"], true);
        assert_eq!(total(&report, "/connections/accepted"), 8);
        assert_eq!(total(&report, "/connections/closed"), 8);
        assert_eq!(fanin.output().len(), 8 * lines.len());
        for name in ["received", "published", "delivered"] {
            assert_eq!(report["bytes"][name], 8 * lines.len() as u64, "{name}");
        }
    }
}

#[test]
fn a_drain_listens_no_more_and_reads_who_is_there_until_he_leaves() {
    let mut fanin = Fanin::start(&LONG);
    let mut peer = fanin.connect();
    peer.write_all(b"before\n").unwrap();
    fanin.wait_for_output("the first line", |o| o == b"before\n");
    fanin.signal(Signal::TERM);
    wait_for("nobody listens", PATIENCE, || {
        TcpStream::connect(fanin.address()).err()
    });
    peer.write_all(b"after\n").unwrap();
    drop(peer);
    let (code, _) = fanin.end();
    assert_eq!(code, Some(0), "{}", fanin.said());
    assert_eq!(fanin.output(), b"before\nafter\n");
}

#[test]
fn a_peer_that_stays_is_closed_at_half_of_the_drain_and_what_it_sent_is_delivered() {
    let mut fanin = Fanin::start(&["--drain-timeout", "600ms"]);
    let mut peer = fanin.connect();
    peer.write_all(b"still here\n").unwrap();
    fanin.wait_for_output("the line", |o| o == b"still here\n");
    let began = Instant::now();
    let report = fanin.drain();
    let taken = began.elapsed();
    // Deadlines are kept in ticks of 8 ms.
    assert!(taken >= Duration::from_millis(284), "{taken:?}");
    assert_eq!(report["connections"]["closed"]["shutdown"], 1);
    assert_eq!(total(&report, "/bytes/delivered"), 11);
    drop(peer);
}

#[test]
fn a_second_signal_ends_a_drain_that_waits_for_a_peer() {
    let mut fanin = Fanin::start(&LONG);
    let mut peer = fanin.connect();
    peer.write_all(b"here\n").unwrap();
    fanin.wait_for_output("the line", |o| o == b"here\n");
    fanin.signal(Signal::TERM);
    fanin.wait_to_say("draining");
    fanin.signal(Signal::INT);
    let (code, report) = fanin.end();
    // Nothing was lost by it.
    assert_eq!(code, Some(0), "{}", fanin.said());
    assert_eq!(report["drain"]["cause"], "second signal");
    assert_eq!(report["connections"]["closed"]["shutdown"], 1);
    assert_eq!(total(&report, "/bytes/abandoned"), 0);
    drop(peer);
}

#[test]
fn a_second_signal_ends_a_drain_that_waits_for_its_sink() {
    let (mut fanin, mut stdout, flood) = blocked(&LONG);
    let accepted = stdout.let_in(3);
    fanin.signal(Signal::TERM);
    fanin.wait_to_say("draining");
    fanin.signal(Signal::TERM);
    let (code, report) = fanin.end();
    assert_eq!(code, Some(1), "{}", fanin.said());
    assert_eq!(report["drain"]["cause"], "second signal");
    assert!(total(&report, "/unread") > 0, "{report:#}");
    let written = stdout.open().to_the_end();
    assert_eq!(written.len(), accepted);
    the_rest_is_counted(&fanin, &report, &written, flood.sent());
}

#[test]
fn a_drain_ends_in_time_though_its_sink_takes_nothing() {
    let (mut fanin, mut stdout, flood) = blocked(&["--drain-timeout", "1s"]);
    let accepted = stdout.let_in(3);
    let began = Instant::now();
    fanin.signal(Signal::TERM);
    let (code, report) = fanin.end();
    let taken = began.elapsed();
    assert!(taken < Duration::from_secs(4), "{taken:?}");
    assert_eq!(code, Some(1), "{}", fanin.said());
    assert_eq!(report["drain"]["cause"], "SIGTERM");
    let written = stdout.open().to_the_end();
    assert_eq!(written.len(), accepted);
    the_rest_is_counted(&fanin, &report, &written, flood.sent());
}

#[test]
fn a_drain_whose_sink_leaves_waits_for_no_peer() {
    let (mut fanin, mut stdout, flood) = blocked(&[&LONG[..], &["--consumers", "2"]].concat());
    stdout.let_in(3);
    // The other consumer's, which has nothing to write, and so does not find out.
    let peer = fanin.connect();
    wait_for("it is there", PATIENCE, || {
        (total(&fanin.report_now(), "/connections/open") == 2).then_some(())
    });
    fanin.signal(Signal::TERM);
    fanin.wait_to_say("draining");
    let began = Instant::now();
    drop(stdout);
    let (code, report) = fanin.end();
    let taken = began.elapsed();
    assert!(taken < Duration::from_secs(10), "{taken:?}");
    assert_eq!(code, Some(1), "{}", fanin.said());
    assert_eq!(report["drain"]["cause"], "SIGTERM");
    assert!(total(&report, "/bytes/abandoned") > 0, "{report:#}");
    drop((flood, peer));
}

#[test]
fn a_socket_that_takes_nothing_is_stopped_like_a_pipe() {
    // Unlike a pipe's, a socket's end cannot be opened once more to be written without waiting.
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let filled = std::iter::from_fn(|| (&theirs).write(&[b'#'; LINE]).ok()).sum::<usize>();
    theirs.set_nonblocking(false).unwrap();
    let mut command = serve(&["--listen", ANY]);
    command.args(SMALL).args(LONG).stdout(OwnedFd::from(theirs));
    let mut fanin = Fanin::start_with(command, Place::new(), 1);
    let flood = Flood::until_paused(&fanin);
    fanin.signal(Signal::TERM);
    fanin.wait_to_say("draining");
    fanin.signal(Signal::TERM);
    let (code, report) = fanin.end();
    assert_eq!(code, Some(1), "{}", fanin.said());
    let written = Tap::on(ours).to_the_end();
    the_rest_is_counted(&fanin, &report, &written[filled..], flood.sent());
}

#[test]
fn a_drain_delivers_all_when_its_sink_goes_on_in_time() {
    let (mut fanin, stdout, flood) = blocked(&LONG);
    fanin.signal(Signal::TERM);
    fanin.wait_to_say("draining");
    let tap = stdout.open();
    let sent = flood.finish();
    let (code, report) = fanin.end();
    assert_eq!(code, Some(0), "{}", fanin.said());
    assert!(tap.to_the_end() == sent, "not what was sent");
    assert_eq!(total(&report, "/unread"), 0);
    let peak = total(&report, "/peak/ring_bytes");
    assert!((32 << 10..=64 << 10).contains(&peak), "{peak}");
    assert_eq!(total(&report, "/peak/connections"), 1);
}

#[test]
fn what_acted_after_the_last_look_is_told_before_the_end() {
    let mut fanin = Fanin::start(&["--max-message", "100"]);
    fanin.send(&[&[b'x'; 150][..], b"\n"].concat());
    fanin.drain();
    let said = fanin.said();
    for line in [
        "fanin: bytes discarded: oversize: begins, 51",
        "fanin: bytes discarded: oversize: over within 1.0 s, 51 in all",
    ] {
        assert!(
            said.lines().any(|l| l == line),
            "{line:?} is not in: {said}"
        );
    }
}

// The final report.

#[test]
fn the_report_has_everything_and_the_numbers_are_those_of_the_traffic() {
    let mut fanin = Fanin::start(&["--max-message", "100"]);
    fanin.send(b"one\ntwo\n");
    fanin.send(&[&[b'x'; 150][..], b"\n"].concat());
    fanin.send(b"no end");
    // A peer that the drain finds still there is closed by it.
    wait_for("all have left", PATIENCE, || {
        let closed = total(&fanin.report_now(), "/connections/closed");
        (closed == 3).then_some(())
    });
    let report = fanin.drain();
    for (path, value) in [
        ("/schema", 1),
        ("/connections/accepted", 3),
        ("/connections/refused/descriptors", 0),
        ("/connections/closed/eof", 3),
        ("/bytes/received", 8 + 151 + 6),
        ("/bytes/published", 8 + 100 + 6),
        ("/bytes/delivered", 8 + 100 + 6),
        ("/bytes/discarded/oversize", 51),
        ("/bytes/discarded/cut_at_end", 0),
        ("/bytes/abandoned", 0),
        ("/messages/delivered", 4),
        ("/unread", 0),
        ("/unconfirmed", 0),
        ("/pauses/ring/count", 0),
        ("/pauses/staging/count", 0),
    ] {
        let found = report.pointer(path).and_then(Value::as_u64);
        assert_eq!(found, Some(value), "{path} in {report:#}");
    }
    assert_eq!(report["pauses"]["ring"]["seconds"], 0.0);
    assert_eq!(report["balanced"], true);
    for peak in ["connections", "ring_bytes", "staging_bytes"] {
        assert!(report["peak"][peak].is_u64(), "{peak} in {report:#}");
    }
}

#[test]
fn a_report_on_standard_error_is_its_last_line() {
    let mut command = serve(&["--listen", ANY, "--sink", "null", "--report", "-", "-v"]);
    command.stdout(Stdio::null());
    let mut fanin = Fanin::start_as_is(command, Place::new(), 1);
    for _ in 0..100 {
        fanin.send(b"line\n");
    }
    fanin.signal(Signal::TERM);
    let status = fanin.wait();
    let said = fanin.said();
    assert_eq!(status.code(), Some(0), "{said}");
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).expect("JSON");
    assert_eq!(report["messages"]["delivered"], 100);
    assert_eq!(said.matches(" closed: ").count(), 100, "{said}");
}

#[test]
fn without_the_option_there_is_no_report() {
    let command = serve(&["--listen", ANY, "--sink", "null"]);
    let mut fanin = Fanin::start_as_is(command, Place::new(), 1);
    fanin.signal(Signal::TERM);
    assert_eq!(fanin.wait().code(), Some(0));
    assert!(!fanin.said().contains("schema"), "{}", fanin.said());
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_first_message() {
    let place = Place::new();
    let path = place.path("none/such").display().to_string();
    let command = serve(&["--listen", ANY, "--sink", "null", "--report", &path]);
    let (code, said) = refused(command);
    assert_eq!(code, Some(2));
    let words = format!("fanin: --report {path}: No such file or directory");
    assert!(said.contains(&words), "{said}");
}

#[test]
fn rings_for_which_the_machine_has_too_little_memory_are_refused() {
    let program = serve(&[
        "--listen",
        ANY,
        "--sink",
        "null",
        "--consumers",
        "2",
        "--ring",
        "8GiB",
    ]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\""]);
    command.arg(program.get_program()).args(program.get_args());
    let (code, said) = refused(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.ends_with("fanin: 2 rings of 8 GiB: out of memory"),
        "{said}"
    );
}

/// A program that reports there, ended.
#[track_caller]
fn reports_into(path: &Path) {
    let path = path.display().to_string();
    let command = serve(&["--listen", ANY, "--sink", "null", "--report", &path]);
    let mut fanin = Fanin::start_as_is(command, Place::new(), 1);
    fanin.signal(Signal::TERM);
    assert_eq!(fanin.wait().code(), Some(0), "{}", fanin.said());
}

#[test]
fn a_report_goes_through_a_link_and_into_a_pipe_and_replaces_neither() {
    let place = Place::new();
    let (link, file) = (place.path("link"), place.path("file"));
    std::fs::write(&file, "an older report, and a longer one\n".repeat(100)).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    reports_into(&link);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(support::report(&file).expect("a report")["schema"], 1);

    // As with /dev/null, which a program of root's would replace for everybody.
    let pipe = place.path("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let reader = open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    reports_into(&pipe);
    let text = Tap::on(std::fs::File::from(reader)).to_the_end();
    let report: Value = serde_json::from_slice(&text).expect("a report");
    assert_eq!(report["schema"], 1);
}

// While it runs.

fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs_f64()
}

#[test]
fn sigusr1_shows_who_is_there_and_what_holds_him_up() {
    let began = now();
    let (mut fanin, stdout, flood) = blocked(&LONG);
    let report = fanin.report_now();
    let row = flood.live(&report).expect("a row for the sender");
    assert_eq!(row["state"], "paused", "{row:#}");
    assert_eq!(row["causes"], serde_json::json!(["ring"]), "{row:#}");
    let since = row["since"].as_f64().unwrap();
    // The reactor counts in ticks of 10 ms.
    assert!((began - 0.1..=now() + 0.1).contains(&since), "{row:#}");
    assert!(row["fin_at"].is_null(), "{row:#}");
    assert!(row["unread"].as_u64().unwrap() > 0, "{row:#}");
    assert_eq!(row["received"], report["bytes"]["received"]);

    flood.say_goodbye();
    let fin = wait_for("its FIN is noticed", PATIENCE, || {
        let row = flood.live(&fanin.report_now()).expect("still a row");
        assert_eq!(row["state"], "paused", "{row:#}");
        row["fin_at"].as_f64()
    });
    assert!((since - 0.1..=now() + 0.1).contains(&fin), "{fin}");

    let rings = report["rings"].as_array().unwrap();
    assert_eq!(rings.len(), 1);
    assert_eq!(rings[0]["capacity"], 64 << 10);
    assert!(
        rings[0]["occupied"].as_u64().unwrap() > 32 << 10,
        "{rings:#?}"
    );
    assert!(rings[0]["blocked_seconds"].is_f64(), "{rings:#?}");
    let listener = &report["listeners"][0];
    assert_eq!(listener["address"], fanin.addresses[0]);
    assert_eq!(listener["state"], "ready");
    assert_eq!(listener["accepted"], 1);

    let tap = stdout.open();
    let sent = flood.sent();
    tap.wait_for("all that was sent", |b| b.len() >= sent.len());
    let report = wait_for("the connection ends", PATIENCE, || {
        let report = fanin.report_now();
        (total(&report, "/connections/closed") == 1).then_some(report)
    });
    assert_eq!(report["live"], serde_json::json!([]));
    let ended = &report["recently_closed"][0];
    assert_eq!(ended["reason"], "eof");
    assert_eq!(ended["received"], sent.len());
    let pauses = &ended["paused"]["ring"];
    assert!(pauses["count"].as_u64().unwrap() > 0, "{ended:#}");
    assert!(pauses["seconds"].as_f64().unwrap() > 0.0, "{ended:#}");
    fanin.drain();
}

#[test]
fn verbose_says_who_comes_who_leaves_and_what_is_lost() {
    let options = ["-v", "--max-message", "16", "--on-oversize", "discard"];
    let mut fanin = Fanin::start(&options);
    let mut peer = fanin.connect();
    let name = peer.local_addr().unwrap().to_string();
    peer.write_all(b"short\n").unwrap();
    fanin.wait_to_say(&format!("opened by {name}"));
    assert!(!fanin.said().contains("closed"), "{}", fanin.said());
    peer.write_all(b"a line that is too long\n").unwrap();
    fanin.wait_to_say(&format!(
        "from {name}: 24 bytes of 1 messages discarded: oversize"
    ));
    drop(peer);
    fanin.wait_to_say(&format!(
        "from {name} closed: eof; received 30, published 6, discarded 24"
    ));
    fanin.drain();

    let mut quiet = Fanin::start(&[]);
    quiet.send(b"a line\n");
    quiet.wait_for_output("the line", |o| o == b"a line\n");
    quiet.drain();
    let said = quiet.said();
    assert!(
        !said.contains("opened") && !said.contains("closed"),
        "{said}"
    );
}

#[test]
fn a_peer_over_a_unix_socket_has_its_process_for_a_name() {
    let place = Place::new();
    let path = place.path("socket");
    let listen = format!("unix://{}", path.display());
    let mut command = serve(&["--listen", &listen, "--sink", "null", "-v"]);
    command.stdout(Stdio::null());
    let mut fanin = Fanin::start_with(command, place, 1);
    let mut peer = UnixStream::connect(path).unwrap();
    peer.write_all(b"local\n").unwrap();
    fanin.wait_to_say(&format!("opened by unix:pid={},uid=", std::process::id()));
    drop(peer);
    let report = fanin.drain();
    assert_eq!(total(&report, "/messages/delivered"), 1);
}
