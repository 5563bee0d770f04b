//! `fanin serve` and where messages go: files, standard output, nothing, servers; slow ones, full ones,
//! and those that are gone.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;

use support::flood::{Flood, LINE, SMALL, numbered, whole_lines};
use support::pipe::blocked;
use support::server::{Absent, Server};
use support::tap::Tap;
use support::{Fanin, PATIENCE, Place, serve, total, wait_for};

/// `N bytes were not delivered`.
#[track_caller]
fn said_to_be_lost(fanin: &Fanin) -> u64 {
    let said = fanin.said();
    let line = said
        .lines()
        .find(|l| l.contains("bytes were not delivered"));
    let line = line.unwrap_or_else(|| panic!("nothing said to be lost: {said}"));
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no number in {line}"))
}

// Files.

#[test]
fn a_file_keeps_what_is_in_it() {
    let place = Place::new();
    std::fs::write(place.path("output"), "an older line\n").unwrap();
    let sink = format!("file:{}", place.path("output").display());
    let command = serve(&["--listen", "tcp://127.0.0.1:0", "--sink", &sink]);
    let mut fanin = Fanin::start_with(command, place, 1);
    fanin.send(b"a newer one\n");
    fanin.drain();
    assert_eq!(fanin.output(), b"an older line\na newer one\n");
}

#[test]
fn a_file_that_was_renamed_is_opened_anew_on_sighup_and_no_line_is_lost_or_doubled() {
    let mut fanin = Fanin::start(&["--reactors", "2"]);
    let lines = numbered(30_000);
    let mut rest = lines.chunks(7 * LINE + 13);
    let mut peer = fanin.connect();
    let output = fanin.place.path("output");
    let mut files = Vec::new();
    for turn in 0..5 {
        let old = fanin.place.path(&format!("output.{turn}"));
        std::fs::rename(&output, &old).unwrap();
        files.push(old);
        fanin.signal(Signal::HUP);
        wait_for("a new file", PATIENCE, || {
            peer.write_all(rest.next().expect("lines enough")).unwrap();
            output.exists().then_some(())
        });
    }
    rest.for_each(|part| peer.write_all(part).unwrap());
    drop(peer);
    let report = fanin.drain();
    files.push(output);
    let written: Vec<_> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    assert!(written.concat() == lines, "not what was sent");
    // Batches end with lines, so files do.
    for (file, bytes) in files.iter().zip(&written) {
        assert_eq!(whole_lines(bytes).len(), bytes.len(), "{}", file.display());
    }
    assert_eq!(total(&report, "/messages/delivered"), 30_000);
}

#[test]
fn sighup_changes_nothing_for_other_sinks() {
    let (mut fanin, stdout) = Fanin::start_piped(&[]);
    let tap = Tap::on(stdout);
    fanin.send(b"before\n");
    tap.wait_for("a line", |b| b == b"before\n");
    fanin.signal(Signal::HUP);
    fanin.send(b"after\n");
    fanin.drain();
    assert_eq!(tap.to_the_end(), b"before\nafter\n");
}

#[test]
fn a_full_disk_ends_it_with_1_and_the_number_of_bytes_that_are_lost() {
    let mut fanin = Fanin::start_into("file:/dev/full", &[]);
    fanin.send(b"one\ntwo\n");
    let (code, report) = fanin.end();
    let said = fanin.said();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("--sink file:/dev/full (consumer 0): No space left on device"),
        "{said}"
    );
    assert_eq!(said_to_be_lost(&fanin), 8);
    assert_eq!(total(&report, "/bytes/abandoned"), 8);
    assert_eq!(total(&report, "/bytes/delivered"), 0);
    assert_eq!(total(&report, "/messages/delivered"), 0);
}

#[test]
fn a_file_at_its_limit_is_like_a_full_disk_and_kills_nobody() {
    let mut fanin = Fanin::start(&[]);
    fanin.limit_files(8 << 10);
    let sent = numbered(200);
    fanin.send(&sent);
    let report = fanin.final_report(1);
    let said = fanin.said();
    assert!(said.contains("File too large (os error 27)"), "{said}");
    let output = fanin.output();
    assert!(sent.starts_with(&output));
    assert_eq!(output.len(), 8192 / LINE * LINE);
    let delivered = total(&report, "/bytes/delivered");
    assert_eq!(delivered, output.len() as u64);
    let lost = total(&report, "/bytes/received") - delivered;
    assert_eq!(said_to_be_lost(&fanin), lost, "{report:#}");
}

// Standard output.

#[test]
fn what_is_written_behind_a_run_that_a_full_disk_ended_begins_where_its_last_line_ends() {
    let place = Place::new();
    // As a shell's `>` opens it for all that is run, one after the other.
    let mut file = std::fs::File::create(place.path("output")).unwrap();
    let mut command = serve(&["--listen", "tcp://127.0.0.1:0"]);
    command.stdout(file.try_clone().unwrap());
    let mut fanin = Fanin::start_with(command, place, 1);
    fanin.limit_files(8 << 10);
    fanin.send(&numbered(200));
    fanin.final_report(1);
    file.write_all(b"the next one\n").unwrap();
    let whole = numbered(8192 / LINE);
    let output = fanin.output();
    assert!(output == [&whole[..], b"the next one\n"].concat());
}

#[test]
fn a_reader_that_pauses_pauses_the_senders_and_loses_nothing() {
    let (mut fanin, stdout, flood) = blocked(&[]);
    let held = fanin.report_now();
    let other = Flood::until_paused(&fanin);
    // Less than a ring: the pipe has taken nothing.
    assert!(total(&held, "/bytes/received") < 64 << 10, "{held:#}");
    assert_eq!(total(&held, "/bytes/delivered"), 0);
    let tap = stdout.open();
    let sent = flood.finish().len() + other.finish().len();
    let report = fanin.drain();
    let written = tap.to_the_end();
    assert_eq!(written.len(), sent);
    // Each sender's lines are there, in order: a line is its number.
    let mut due = [0, 0];
    for line in written.chunks(LINE) {
        let number: usize = std::str::from_utf8(&line[..LINE - 1])
            .unwrap()
            .parse()
            .unwrap();
        let sender = due.iter().position(|due| *due == number);
        due[sender.unwrap_or_else(|| panic!("{number} comes, {due:?} are due"))] += 1;
    }
    assert_eq!((due[0] + due[1]) * LINE, sent);
    assert!(total(&report, "/pauses/ring/count") > 0, "{report:#}");
    assert!(report["pauses"]["ring"]["seconds"].as_f64() > Some(0.0));
}

#[test]
fn a_reader_that_leaves_ends_it_with_1_and_the_number_of_bytes_that_are_lost() {
    let (mut fanin, mut stdout, _flood) = blocked(&[]);
    let accepted = stdout.let_in(3);
    drop(stdout);
    let (code, report) = fanin.end();
    let said = fanin.said();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("--sink stdout (consumer 0): Broken pipe"),
        "{said}"
    );
    let bytes = |name: &str| total(&report, &format!("/bytes/{name}"));
    assert!(bytes("abandoned") > 0, "{report:#}");
    // What the pipe had taken counts as delivered, read or not: nobody can know.
    let lines = accepted - accepted % LINE;
    assert_eq!(bytes("delivered"), lines as u64, "{report:#}");
    assert_eq!(bytes("published"), bytes("delivered") + bytes("abandoned"));
    assert_eq!(bytes("received"), bytes("published") + bytes("discarded"));
    // Everything that was received and not delivered is told.
    let lost = bytes("received") - bytes("delivered");
    assert_eq!(said_to_be_lost(&fanin), lost, "{report:#}");
}

// Nothing.

#[test]
fn a_sink_that_is_none_counts_every_message() {
    let mut fanin = Fanin::start_into("null", &["--framing", "auto"]);
    fanin.send(b"one\n\ntwo\nunterminated");
    fanin.send(b"3 <1>12 <2>45678901");
    let report = fanin.drain();
    assert_eq!(total(&report, "/messages/delivered"), 4 + 1);
    assert_eq!(total(&report, "/bytes/delivered"), 21 + 5);
    assert_eq!(report["bytes"]["discarded"]["cut_at_end"], 14);
}

// Several consumers.

/// Long enough for the kernel to split a write into a pipe, and each byte says whose it is.
fn long_lines(letter: u8, count: usize) -> Vec<u8> {
    let line = |n: usize| [vec![letter; 3_000 + 37 * n % 5_000], vec![b'\n']].concat();
    (0..count).flat_map(line).collect()
}

/// Four senders over two reactors and two consumers.
#[track_caller]
fn send_long_lines(fanin: &Fanin) -> Vec<Vec<u8>> {
    let senders: Vec<_> = (b'a'..=b'd')
        .map(|letter| (fanin.connect(), long_lines(letter, 300)))
        .collect();
    std::thread::scope(|scope| {
        for (peer, lines) in &senders {
            scope.spawn(move || (&mut &*peer).write_all(lines).unwrap());
        }
    });
    let consumers = wait_for("all four are there", PATIENCE, || {
        let consumers = consumers_of(&fanin.report_now());
        (consumers.len() == 4).then_some(consumers)
    });
    assert_eq!(BTreeSet::from_iter(consumers), BTreeSet::from([0, 1]));
    senders.into_iter().map(|(_, lines)| lines).collect()
}

fn consumers_of(report: &Value) -> Vec<u64> {
    let live = report["live"].as_array().unwrap();
    live.iter()
        .map(|c| c["consumer"].as_u64().unwrap())
        .collect()
}

#[track_caller]
fn no_line_is_torn(written: &[u8], sent: &[Vec<u8>]) {
    let mut found = vec![Vec::new(); sent.len()];
    for line in written.split_inclusive(|&byte| byte == b'\n') {
        let letter = line[0];
        let text = &line[..line.len() - 1];
        assert!(
            text.iter().all(|&byte| byte == letter),
            "a torn line of {} bytes",
            line.len()
        );
        found[usize::from(letter - b'a')].extend_from_slice(line);
    }
    assert!(found == sent, "not what was sent, or not in order");
}

#[test]
fn consumers_that_share_a_file_tear_no_line() {
    let mut fanin = Fanin::start(&["--consumers", "2", "--reactors", "2"]);
    let sent = send_long_lines(&fanin);
    fanin.drain();
    no_line_is_torn(&fanin.output(), &sent);
}

#[test]
fn consumers_that_share_a_pipe_tear_no_line() {
    let (mut fanin, stdout) = Fanin::start_piped(&["--consumers", "2", "--reactors", "2"]);
    let tap = Tap::on(stdout);
    let sent = send_long_lines(&fanin);
    fanin.drain();
    no_line_is_torn(&tap.to_the_end(), &sent);
}

// Servers.

#[test]
fn each_consumer_has_its_own_connection_to_the_server() {
    let server = Server::new();
    let mut fanin = Fanin::start_into(&server.url(), &["--consumers", "2"]);
    let (mut one, mut two) = (fanin.connect(), fanin.connect());
    one.write_all(b"one\n").unwrap();
    two.write_all(b"two\n").unwrap();
    let taps = [server.accept(), server.accept()].map(Tap::on);
    one.write_all(b"one again\n").unwrap();
    two.write_all(b"two again\n").unwrap();
    drop((one, two));
    let report = fanin.drain();
    let mut written = taps.map(|tap| tap.to_the_end());
    written.sort();
    assert_eq!(written, [&b"one\none again\n"[..], b"two\ntwo again\n"]);
    server.has_no_more();
    assert_eq!(total(&report, "/unconfirmed"), 0);
}

#[test]
fn a_server_that_is_not_there_yet_is_waited_for() {
    let absent = Absent::new(None);
    let mut fanin = Fanin::start_into(&absent.url(), &[]);
    fanin.send(b"early\n");
    for wait in [100, 200, 400] {
        fanin.wait_to_say(&format!(
            "Connection refused (os error 111); next attempt in {wait} ms"
        ));
    }
    fanin.send(b"still early\n");
    let server = absent.appear();
    let tap = Tap::on(server.accept());
    let report = fanin.drain();
    assert_eq!(tap.to_the_end(), b"early\nstill early\n");
    assert_eq!(total(&report, "/unconfirmed"), 0);
}

#[test]
fn a_server_that_never_comes_is_not_waited_for_beyond_the_drain() {
    let absent = Absent::new(None);
    let options = ["--drain-timeout", "400ms"];
    let mut fanin = Fanin::start_into(&absent.url(), &options);
    fanin.send(b"to nobody\n");
    fanin.wait_to_say("Connection refused");
    fanin.signal(Signal::TERM);
    let (code, report) = fanin.end();
    assert_eq!(code, Some(1), "{}", fanin.said());
    assert_eq!(total(&report, "/bytes/abandoned"), 10);
    assert_eq!(said_to_be_lost(&fanin), 10);
}

/// Until the kernel of the program knows that this peer of its has left.
#[track_caller]
fn wait_until_it_may_know(fanin: &Fanin, server: &Server) {
    const CLOSE_WAIT: &str = "08";
    let path = format!("/proc/{}/net/tcp", fanin.pid());
    let port = server
        .url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse::<u16>()
        .unwrap();
    let remote = format!("0100007F:{port:04X}");
    wait_for("its connection is half closed", PATIENCE, || {
        let table = std::fs::read_to_string(&path).unwrap();
        table.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            (words.next() == Some(&remote) && words.next() == Some(CLOSE_WAIT)).then_some(())
        })
    });
}

#[test]
fn a_server_that_left_between_two_messages_is_connected_to_again_and_misses_none() {
    let server = Server::new();
    let mut fanin = Fanin::start_into(&server.url(), &[]);
    let mut peer = fanin.connect();
    let mut unconfirmed = 0;
    for text in ["one\n", "and two\n", "three\n"] {
        peer.write_all(text.as_bytes()).unwrap();
        let mut stream = server.accept();
        let mut got = vec![0; text.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, text.as_bytes());
        drop(stream);
        wait_until_it_may_know(&fanin, &server);
        unconfirmed += text.len();
    }
    peer.write_all(b"the last\n").unwrap();
    let tap = Tap::on(server.accept());
    drop(peer);
    let report = fanin.drain();
    assert_eq!(tap.to_the_end(), b"the last\n");
    assert_eq!(total(&report, "/unconfirmed"), unconfirmed as u64);
    assert_eq!(total(&report, "/messages/delivered"), 4);
    let said = fanin.said();
    let lost = said
        .matches("connection lost: closed by the peer; ")
        .count();
    assert_eq!(lost, 3, "{said}");
}

/// More than the kernels hold between the program and a server that does not read.
fn more_than_kernels_hold() -> usize {
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap();
    let most: usize = limits.split_whitespace().nth(2).unwrap().parse().unwrap();
    most + (1 << 20)
}

/// Reads a little, and leaves with bytes unread once the program is stuck: it is reset in a write.
#[track_caller]
fn leave_in_the_middle(fanin: &Fanin, mut stream: TcpStream, sent: &[u8]) -> usize {
    let mut got = vec![0; 1_000];
    stream.read_exact(&mut got).unwrap();
    assert!(sent.starts_with(&got));
    let mut before = 0;
    wait_for("it is stuck", PATIENCE, || {
        let report = fanin.report_now();
        let now = total(&report, "/bytes/received");
        let delivered = total(&report, "/bytes/delivered");
        let is_stuck = now == before && now > delivered && delivered > 0;
        before = now;
        let unread = rustix::io::ioctl_fionread(&stream).unwrap();
        (is_stuck && unread > 0).then_some(())
    });
    got.len()
}

#[test]
fn after_a_reconnect_it_goes_on_with_the_first_message_not_wholly_accepted() {
    let server = Server::with_small_buffers();
    // Batches of 128 KiB, more than a kernel takes at once: one of them is under way at the reset.
    let mut fanin = Fanin::start_into(&server.url(), &["--ring", "1MiB"]);
    let lines = numbered((more_than_kernels_hold() + (2 << 20)) / LINE);
    let (read, rest) = std::thread::scope(|scope| {
        scope.spawn(|| fanin.send(&lines));
        let read = leave_in_the_middle(&fanin, server.accept(), &lines);
        (read, Tap::on(server.accept()))
    });
    let report = fanin.drain();
    let unconfirmed = total(&report, "/unconfirmed") as usize;
    assert!(unconfirmed > read, "{report:#}");
    let goes_on = unconfirmed - unconfirmed % LINE;
    let rest = rest.to_the_end();
    assert!(rest == lines[goes_on..], "does not go on at {goes_on}");
    server.has_no_more();
    // All of it was wholly accepted, by one kernel or another.
    let count = (lines.len() / LINE) as u64;
    assert_eq!(total(&report, "/messages/delivered"), count);
    assert_eq!(total(&report, "/bytes/delivered"), lines.len() as u64);
    let said = fanin.said();
    let words = format!("{unconfirmed} bytes that it had accepted are unconfirmed");
    assert!(said.contains(&words), "{words:?} is not in: {said}");
}

#[test]
fn a_message_that_was_accepted_in_part_is_sent_again_from_its_beginning() {
    let server = Server::with_small_buffers();
    let large = [vec![b'x'; more_than_kernels_hold()], b"\n".to_vec()].concat();
    let options = ["--max-message", &large.len().to_string()];
    let mut fanin = Fanin::start_into(&server.url(), &options);
    let sent = [b"a small one\n", &large[..]].concat();
    let (read, rest) = std::thread::scope(|scope| {
        scope.spawn(|| fanin.send(&sent));
        let read = leave_in_the_middle(&fanin, server.accept(), &sent);
        (read, Tap::on(server.accept()))
    });
    let report = fanin.drain();
    assert!(rest.to_the_end() == large, "not the large one");
    let unconfirmed = total(&report, "/unconfirmed") as usize;
    assert!((read + 1..sent.len()).contains(&unconfirmed), "{report:#}");
    assert_eq!(total(&report, "/messages/delivered"), 2);
    assert_eq!(total(&report, "/bytes/delivered"), sent.len() as u64);
}

#[test]
fn what_the_last_server_had_accepted_before_it_left_is_unconfirmed_too() {
    let server = Server::new();
    let mut fanin = Fanin::start_into(&server.url(), &[]);
    fanin.send(b"the last line\n");
    let mut stream = server.accept();
    stream.read_exact(&mut [0; 14]).unwrap();
    drop(stream);
    wait_until_it_may_know(&fanin, &server);
    let report = fanin.drain();
    assert_eq!(total(&report, "/unconfirmed"), 14);
}

#[test]
fn a_server_that_does_not_read_pauses_the_senders_and_loses_nothing() {
    let server = Server::with_small_buffers();
    let mut fanin = Fanin::start_into(&server.url(), &SMALL);
    let lines = numbered(more_than_kernels_hold() / LINE);
    let tap = std::thread::scope(|scope| {
        scope.spawn(|| fanin.send(&lines));
        wait_for("a paused sender", PATIENCE, || {
            let report = fanin.report_now();
            (report["live"][0]["state"] == "paused").then_some(())
        });
        Tap::on(server.accept())
    });
    let report = fanin.drain();
    assert!(tap.to_the_end() == lines, "not what was sent");
    assert_eq!(total(&report, "/unconfirmed"), 0);
    assert!(report["pauses"]["ring"]["seconds"].as_f64() > Some(0.0));
}
