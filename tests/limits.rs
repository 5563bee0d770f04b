//! The program at its limits: no descriptor left, no connection left, no time left.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use support::process::{live, row};
use support::{Fanin, PATIENCE, nothing_for, total, wait_for};

const SECOND: Duration = Duration::from_secs(1);
/// What a listener without descriptors is back after.
const BACK: Duration = Duration::from_secs(2);

/// Connects, and sends a line.
fn client(fanin: &Fanin, line: &str) -> TcpStream {
    let mut stream = fanin.connect();
    writeln!(stream, "{line}").unwrap();
    stream
}

#[track_caller]
fn wait_for_line(fanin: &Fanin, patience: Duration, line: &str) {
    wait_for(line, patience, || {
        let output = String::from_utf8(fanin.output()).unwrap();
        output.lines().any(|other| other == line).then_some(())
    });
}

/// Waits for the FIN of the other side.
#[track_caller]
fn assert_told(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// Drains once all have left on their own.
#[track_caller]
fn drain_when_empty(fanin: &mut Fanin) -> Value {
    wait_for("all have left", PATIENCE, || {
        (total(&fanin.report_now(), "/connections/open") == 0).then_some(())
    });
    fanin.drain()
}

/// Nothing spins for two seconds.
#[track_caller]
fn assert_quiet(fanin: &Fanin) {
    let (wake_ups, cpu_time) = (fanin.wake_ups(), fanin.cpu_time());
    nothing_for(2 * SECOND);
    let wake_ups = fanin.wake_ups() - wake_ups;
    assert!(wake_ups < 50, "{wake_ups} wake-ups in 2 s");
    fanin.cpu_time().assert_rest(cpu_time, SECOND / 20);
}

#[test]
fn without_descriptors_peers_are_refused_and_the_next_is_served_when_one_leaves() {
    let mut fanin = Fanin::start(&[]);
    let before = fanin.sockets();
    fanin.leave_descriptors(3);
    let mut inside: Vec<_> = (0..3)
        .map(|n| {
            let stream = client(&fanin, &format!("inside {n}"));
            wait_for_line(&fanin, PATIENCE, &format!("inside {n}"));
            stream
        })
        .collect();
    let mut outside: Vec<_> = (0..4).map(|_| fanin.connect()).collect();
    assert_quiet(&fanin);
    outside.iter_mut().for_each(assert_told);

    drop(inside.pop());
    wait_for("one descriptor is free", PATIENCE, || {
        (fanin.sockets() == before + 2).then_some(())
    });
    inside.push(client(&fanin, "after"));
    wait_for_line(&fanin, BACK, "after");

    // The report needs one too.
    drop(inside);
    let report = fanin.drain();
    assert_eq!(report["connections"]["accepted"], 4);
    assert_eq!(report["connections"]["refused"]["descriptors"], 4);
    assert_eq!(report["messages"]["delivered"], 4);
}

#[test]
fn what_a_peer_had_sent_that_was_refused_is_counted_as_unread() {
    let mut fanin = Fanin::start(&[]);
    fanin.leave_descriptors(0);
    // What it sends is there before anybody looks whether it came.
    fanin.stop();
    let mut outside = client(&fanin, "outside");
    fanin.signal(Signal::CONT);
    let error = outside.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    fanin.allow_descriptors();
    let report = fanin.drain();
    assert_eq!(report["connections"]["refused"]["descriptors"], 1);
    assert_eq!(report["unread"], "outside\n".len());
}

#[test]
fn peers_wait_where_not_even_refusing_them_is_possible_and_are_served_when_the_limit_is_raised() {
    let mut fanin = Fanin::start(&[]);
    let mut inside = vec![client(&fanin, "inside")];
    wait_for_line(&fanin, PATIENCE, "inside");
    fanin.deny_descriptors();
    for n in 0..3 {
        inside.push(client(&fanin, &format!("waiting {n}")));
    }
    assert_quiet(&fanin);
    assert_eq!(fanin.output(), b"inside\n");
    fanin.allow_descriptors();
    for n in 0..3 {
        wait_for_line(&fanin, BACK, &format!("waiting {n}"));
    }

    // The next time peers are told again: the reserve that tells them did not stay lost.
    fanin.leave_descriptors(0);
    assert_told(&mut fanin.connect());
    fanin.allow_descriptors();
    inside.push(client(&fanin, "at last"));
    wait_for_line(&fanin, BACK, "at last");
    drop(inside);
    let report = fanin.drain();
    assert_eq!(report["connections"]["accepted"], 5);
    assert_eq!(report["connections"]["refused"]["descriptors"], 1);
}

#[test]
fn an_exhausted_listener_to_which_nobody_comes_has_nothing_to_do() {
    let fanin = Fanin::start(&[]);
    fanin.leave_descriptors(1);
    let _inside = client(&fanin, "inside");
    wait_for_line(&fanin, PATIENCE, "inside");
    let wake_ups = fanin.wake_ups();
    nothing_for(2 * SECOND);
    let wake_ups = fanin.wake_ups() - wake_ups;
    assert!(wake_ups < 3, "{wake_ups} wake-ups in 2 s");
}

#[test]
fn a_report_that_no_file_can_be_opened_for_goes_to_stderr() {
    let mut fanin = Fanin::start(&[]);
    fanin.deny_descriptors();
    fanin.signal(Signal::USR1);
    fanin.wait_to_say("Too many open files");
    fanin.wait_to_say("\"schema\":1");
    fanin.signal(Signal::TERM);
    assert_eq!(fanin.wait().code(), Some(1), "{}", fanin.said());
    let said = fanin.said();
    let mut reports = said.lines().filter(|line| line.starts_with('{'));
    let live: Value = serde_json::from_str(reports.next().unwrap()).unwrap();
    let last: Value = serde_json::from_str(reports.next().unwrap()).unwrap();
    assert!(live["live"].is_array(), "{live:#}");
    assert_eq!(last["balanced"], true);
}

#[test]
fn beyond_the_connection_limit_peers_wait_in_the_backlog_until_one_leaves() {
    let mut fanin = Fanin::start(&["--max-connections", "10"]);
    let mut inside: Vec<_> = (0..10)
        .map(|n| client(&fanin, &format!("inside {n}")))
        .collect();
    for n in 0..10 {
        wait_for_line(&fanin, PATIENCE, &format!("inside {n}"));
    }
    let eleventh = client(&fanin, "eleventh");
    assert_quiet(&fanin);
    let report = fanin.report_now();
    assert_eq!(report["connections"]["accepted"], 10);
    assert_eq!(report["listeners"][0]["state"], "full");
    assert_eq!(fanin.output().split_inclusive(|b| *b == b'\n').count(), 10);

    drop(inside.pop());
    wait_for_line(&fanin, SECOND, "eleventh");
    drop((inside, eleventh));
    let report = drain_when_empty(&mut fanin);
    assert_eq!(total(&report, "/connections/refused"), 0);
    assert_eq!(report["connections"]["closed"]["eof"], 11);
    assert_eq!(report["peak"]["connections"], 10);
}

#[test]
fn who_waits_in_the_backlog_of_a_full_program_is_delivered_by_its_drain() {
    let mut fanin = Fanin::start(&["--max-connections", "1"]);
    let mut inside = client(&fanin, "inside");
    wait_for_line(&fanin, PATIENCE, "inside");
    fanin.send(b"waited\n");
    fanin.signal(Signal::TERM);
    // It is told of the end, and leaves; its place is the other's.
    assert_eq!(inside.read(&mut [0]).unwrap(), 0);
    drop(inside);
    let report = fanin.final_report(0);
    assert_eq!(fanin.output(), b"inside\nwaited\n");
    assert_eq!(report["connections"]["accepted"], 2);
}

#[test]
fn a_place_that_one_reactor_frees_is_given_to_who_waits_at_another() {
    let mut fanin = Fanin::start(&["--max-connections", "10", "--reactors", "2"]);
    let mut all: Vec<_> = (0..30)
        .map(|n| client(&fanin, &format!("client {n}")))
        .collect();
    // The kernel spreads them over two backlogs; whichever is served leaves.
    for served in 1..=30 {
        let n = wait_for("one more is served", PATIENCE, || {
            let output = String::from_utf8(fanin.output()).unwrap();
            let (whole, _) = output.rsplit_once('\n')?;
            let line = whole.lines().nth(served - 1)?;
            line.strip_prefix("client ")?.parse::<usize>().ok()
        });
        all[n].shutdown(Shutdown::Both).unwrap();
    }
    all.clear();
    let report = fanin.drain();
    assert_eq!(report["connections"]["accepted"], 30);
    assert!(
        report["peak"]["connections"].as_u64().unwrap() <= 10,
        "{report:#}"
    );
}

#[test]
fn a_message_of_64_kib_sent_byte_by_byte_is_delivered_whole() {
    let mut fanin = Fanin::start(&[]);
    let message: Vec<u8> = (0..64 << 10).map(|n: u32| b'a' + (n % 25) as u8).collect();
    let mut stream = fanin.connect();
    stream.set_nodelay(true).unwrap();
    for byte in message.iter().chain(b"\n") {
        stream.write_all(&[*byte]).unwrap();
    }
    drop(stream);
    fanin.wait_for_output("the message", |output| output.ends_with(b"\n"));
    let report = fanin.drain();
    assert_eq!(report["messages"]["delivered"], 1);
    assert!(fanin.output() == [&message[..], b"\n"].concat(), "changed");
}

#[test]
fn a_connection_is_idle_since_its_last_byte() {
    const IDLE: Duration = Duration::from_millis(300);
    let mut fanin = Fanin::start(&["--idle-timeout", "300ms"]);
    let mut streams = Vec::new();
    loop {
        let opened = Instant::now();
        let mut stream = client(&fanin, "first");
        nothing_for(IDLE / 2);
        let last = Instant::now();
        writeln!(stream, "second").unwrap();
        let in_time = opened.elapsed() < IDLE;
        assert_told(&mut stream);
        let told = Instant::now();
        streams.push(stream);
        // Else this machine was too slow for the line to be in time.
        if in_time {
            assert!(told - last >= IDLE, "idle for {:?} only", told - last);
            assert!(told - last < 10 * IDLE, "{:?}", told - last);
            break;
        }
    }
    let attempts = streams.len();
    drop(streams);
    let report = drain_when_empty(&mut fanin);
    assert_eq!(report["connections"]["closed"]["idle"], attempts);
}

#[test]
fn a_message_that_is_begun_and_not_finished_closes_its_connection_alone() {
    let mut fanin = Fanin::start(&["--message-timeout", "300ms"]);
    let between = client(&fanin, "whole");
    let mut begun = client(&fanin, "whole");
    wait_for_line(&fanin, PATIENCE, "whole");
    let since = Instant::now();
    begun.write_all(b"half").unwrap();
    let mut told = None;
    // It is not idle: it sends all the time.
    begun
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    wait_for("it is told", PATIENCE, || {
        begun.write_all(b".").unwrap();
        told = matches!(begun.read(&mut [0]), Ok(0)).then(|| since.elapsed());
        told
    });
    let told = told.unwrap();
    assert!(told >= Duration::from_millis(300), "{told:?}");
    assert!(told < 3 * SECOND, "{told:?}");
    let peer = between.local_addr().unwrap().to_string();
    assert_eq!(live(&fanin.report_now(), &peer).unwrap()["state"], "open");
    drop((between, begun));
    let report = drain_when_empty(&mut fanin);
    assert_eq!(report["connections"]["closed"]["message"], 1);
    assert_eq!(report["connections"]["closed"]["eof"], 1);
    assert!(total(&report, "/bytes/discarded/lingering") >= 4);
    assert_eq!(fanin.output(), b"whole\nwhole\n");
}

#[test]
fn a_connection_that_is_too_old_is_told_and_may_finish_what_it_says() {
    let mut fanin = Fanin::start(&["--max-age", "500ms"]);
    let since = Instant::now();
    let mut stream = fanin.connect();
    let peer = stream.local_addr().unwrap().to_string();
    stream
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let mut lines = 0;
    // It is neither idle nor late with a message.
    wait_for("it is told", PATIENCE, || {
        writeln!(stream, "line {lines}").unwrap();
        lines += 1;
        matches!(stream.read(&mut [0]), Ok(0)).then_some(())
    });
    let told = since.elapsed();
    assert!(told >= Duration::from_millis(500), "{told:?}");
    assert!(told < 3 * SECOND, "{told:?}");
    writeln!(stream, "last").unwrap();
    drop(stream);
    wait_for_line(&fanin, PATIENCE, "last");
    let report = wait_for("it is closed", PATIENCE, || {
        let report = fanin.report_now();
        row(&report, &peer)?
            .get("reason")
            .is_some()
            .then_some(report)
    });
    assert_eq!(row(&report, &peer).unwrap()["reason"], "age");
    let report = drain_when_empty(&mut fanin);
    assert_eq!(report["messages"]["delivered"], lines + 1);
    assert_eq!(total(&report, "/bytes/discarded"), 0);
}
