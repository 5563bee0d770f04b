//! `fanin serve` from outside: what it takes, what it says, what it refuses, and how it ends.

mod support;

use std::io::{BufRead, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use support::tap::Tap;
use support::{Fanin, PATIENCE, Place, refused, serve, skip, total, wait_for};

const ANY: &str = "tcp://127.0.0.1:0";

/// The program under a limit of descriptors, `-S` (soft) or `-H` and `-S` (both).
fn limited(ulimit: &str, options: &[&str]) -> Command {
    let program = serve(options);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{ulimit} && exec \"$0\" \"$@\""))
        .arg(program.get_program())
        .args(program.get_args())
        .stdout(Stdio::null());
    command
}

// What it takes, and what it says about it.

#[test]
fn alone_it_listens_on_port_5140() {
    // Whoever holds the port, it is in use: only then can the program not start here.
    let _holder = wait_for("the port that is the default", PATIENCE, || {
        TcpListener::bind("127.0.0.1:5140").ok()
    });
    let (code, said) = refused(serve(&[]));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said,
        "fanin: --listen tcp://127.0.0.1:5140: Address already in use (os error 98)"
    );
}

#[test]
fn lines_come_out_of_standard_output() {
    let (mut fanin, stdout) = Fanin::start_piped(&[]);
    fanin.send(b"one\ntwo \\ three\r\n\n");
    fanin.send(b"without an end");
    let report = fanin.drain();
    let written = Tap::on(stdout).to_the_end();
    let orders: [&[u8]; 2] = [
        b"one\ntwo \\ three\r\n\nwithout an end\n",
        b"without an end\none\ntwo \\ three\r\n\n",
    ];
    assert!(orders.contains(&&*written), "{:?}", written.escape_ascii());
    assert_eq!(total(&report, "/messages/delivered"), 4);
}

#[test]
fn each_listener_has_one_line_and_its_real_port() {
    let place = Place::new();
    let path = place.path("socket");
    let unix = format!("unix://{}", path.display());
    let sink = format!("file:{}", place.path("output").display());
    let mut command = serve(&["--listen", ANY, "--listen", &unix, "--listen", ANY]);
    command
        .args(["--sink", &sink, "--reactors", "2"])
        .stdout(Stdio::null());
    let mut fanin = Fanin::start_with(command, place, 3);
    fanin.wait_to_say("memory at most");
    let said = fanin.said();
    let lines: Vec<_> = said.lines().filter(|l| l.contains("listening")).collect();
    let ports = [fanin.address_of(0).port(), fanin.address_of(2).port()];
    assert_eq!(
        lines,
        [
            format!("listening on tcp://127.0.0.1:{}", ports[0]),
            format!("listening on {unix}"),
            format!("listening on tcp://127.0.0.1:{}", ports[1]),
        ]
    );
    assert!(ports[0] != 0 && ports[1] != 0 && ports[0] != ports[1]);

    let mut one = fanin.connect();
    let mut two = UnixStream::connect(&path).unwrap();
    let mut three = TcpStream::connect(fanin.address_of(2)).unwrap();
    one.write_all(b"by the first\n").unwrap();
    two.write_all(b"by the path\n").unwrap();
    three.write_all(b"by the third\n").unwrap();
    drop((one, two, three));
    fanin.drain();
    let mut lines: Vec<_> = fanin.output().lines().map(Result::unwrap).collect();
    lines.sort();
    assert_eq!(lines, ["by the first", "by the path", "by the third"]);
}

#[test]
fn a_peer_over_ipv6_is_heard() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("ipv6", "no address [::1]");
    }
    let place = Place::new();
    let sink = format!("file:{}", place.path("output").display());
    let mut command = serve(&["--listen", "tcp://[::1]:0", "--sink", &sink, "-v"]);
    command.stdout(Stdio::null());
    let mut fanin = Fanin::start_with(command, place, 1);
    assert!(fanin.addresses[0].starts_with("tcp://[::1]:"));
    let peer = fanin.connect();
    let name = peer.local_addr().unwrap();
    (&peer).write_all(b"six\n").unwrap();
    drop(peer);
    fanin.drain();
    assert_eq!(fanin.output(), b"six\n");
    assert!(fanin.said().contains(&format!("opened by {name}")));
}

/// `1.2 MiB`: the bytes, and by how much they may be rounded.
fn bytes(text: &str) -> (f64, f64) {
    let (number, unit) = text.split_once(' ').unwrap();
    let unit = match unit {
        "B" => return (number.parse().unwrap(), 0.0),
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        other => panic!("{other} is no unit"),
    };
    (number.parse::<f64>().unwrap() * unit, 0.05 * unit)
}

/// `SUM = TERM (name) + TERM (name)`: the terms, which must be the sum.
#[track_caller]
fn terms<'s>(said: &'s str, label: &str) -> Vec<(&'s str, f64)> {
    let line = said.lines().find_map(|line| line.split_once(label));
    let (sum, right) = line.expect(label).1.split_once(" = ").unwrap();
    let (sum, mut tolerance) = bytes(sum.trim());
    let mut added = 0.0;
    let mut found = Vec::new();
    for term in right.trim_end_matches(')').split(") + ") {
        let (size, name) = term.split_once(" (").unwrap();
        let (size, rounded) = bytes(size);
        added += size;
        tolerance += rounded;
        found.push((name, size));
    }
    assert!((sum - added).abs() <= tolerance, "{sum} is not {added}");
    found
}

#[test]
fn memory_is_a_sum_whose_terms_are_said_and_add_up() {
    const MIB: f64 = 1024.0 * 1024.0;
    let options = [
        "--reactors",
        "2",
        "--consumers",
        "3",
        "--ring",
        "1MiB",
        "--staging",
        "32MiB",
        "--max-connections",
        "1000",
        "--backlog",
        "24",
        "--receive-buffer",
        "32KiB",
    ];
    let fanin = Fanin::start(&options);
    fanin.wait_to_say("in the kernel at most");
    let said = fanin.said();
    let user = terms(&said, "memory at most ");
    assert_eq!(user[0], ("6 rings of 1 MiB", 6.0 * MIB));
    let of = |what: &str| user.iter().find(|(name, _)| name.contains(what)).unwrap().1;
    assert!(of("staging") >= 32.0 * MIB);
    let list = "lists of 1000 connections";
    for name in [
        "slots",
        "pause boxes",
        "peers",
        "2 reactors",
        "the program",
        list,
    ] {
        assert!(of(name) > 0.0, "{name}");
    }
    // (1000 connections + 2 listeners of 24) × 2 × 32 KiB, of which one decimal is said.
    let kernel = terms(&said, "in the kernel at most ");
    assert!((kernel[0].1 - 65.5 * MIB).abs() < 0.06 * MIB, "{kernel:?}");
}

#[test]
fn threads_have_names() {
    let fanin = Fanin::start(&["--reactors", "2", "--consumers", "2"]);
    let names = || -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", fanin.pid())).unwrap();
        let comm = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks.filter_map(|task| comm(task.unwrap()).ok()).collect()
    };
    let expected = [
        "fanin-reactor-0",
        "fanin-reactor-1",
        "fanin-sink-0",
        "fanin-sink-1",
    ];
    wait_for("all the names", PATIENCE, || {
        let names = names();
        let is_there = |name: &&str| names.iter().any(|n| n.trim_end() == *name);
        expected.iter().all(is_there).then_some(())
    });
}

// Descriptors.

/// Soft and hard.
fn descriptor_limits(fanin: &Fanin) -> (u64, u64) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", fanin.pid())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files"));
    let mut numbers = line.unwrap().split_whitespace().skip(3);
    let mut next = || numbers.next().unwrap().parse().unwrap();
    (next(), next())
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let command = limited(
        "ulimit -S -n 99 && ulimit -H -n 500",
        &["--listen", ANY, "--sink", "null"],
    );
    let fanin = Fanin::start_with(command, Place::new(), 1);
    assert_eq!(descriptor_limits(&fanin), (500, 500));
}

#[test]
fn the_default_number_of_connections_is_lowered_to_fit_and_so_many_do() {
    let place = Place::new();
    let sink = format!("file:{}", place.path("output").display());
    let command = limited("ulimit -n 128", &["--listen", ANY, "--sink", &sink]);
    let mut fanin = Fanin::start_with(command, place, 1);
    let said = fanin.said();
    let notice = said.lines().find(|line| line.contains("lowered from"));
    let (_, notice) = notice
        .expect("a notice")
        .split_once("--max-connections lowered from 10000 to ")
        .unwrap();
    let (fit, reason) = notice.split_once(": ").unwrap();
    assert!(reason.contains("128"), "{reason}");
    let fit: usize = fit.parse().unwrap();

    let mut peers: Vec<_> = (0..fit + 8).map(|_| fanin.connect()).collect();
    for peer in &mut peers {
        peer.write_all(b"here\n").unwrap();
    }
    fanin.wait_for_output("as many as fit are heard", |o| o.len() == 5 * fit);
    wait_for("the listener is full", PATIENCE, || {
        let report = fanin.report_now();
        (report["listeners"][0]["state"] == "full").then_some(())
    });
    assert_eq!(fanin.output().len(), 5 * fit);
    peers.drain(..8);
    fanin.wait_for_output("so are the others, in their turn", |o| {
        o.len() == 5 * (fit + 8)
    });
    drop(peers);
    let report = fanin.drain();
    assert_eq!(total(&report, "/peak/connections"), fit as u64);
    assert_eq!(total(&report, "/connections/refused"), 0);
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_number_that_fits() {
    let run = |asked: &str| {
        let options = [
            "--listen",
            ANY,
            "--sink",
            "null",
            "--max-connections",
            asked,
        ];
        limited("ulimit -n 256", &options)
    };
    let (code, said) = refused(run("256"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--max-connections 256: "), "{said}");
    assert!(said.contains("is 256"), "{said}");
    let (_, rest) = said.split_once("at most ").unwrap();
    let most: u32 = rest.split_whitespace().next().unwrap().parse().unwrap();

    let fanin = Fanin::start_with(run(&most.to_string()), Place::new(), 1);
    assert!(!fanin.said().contains("lowered"));
}

// What it refuses.

/// Each part is in what it says, and it ends with 2.
#[track_caller]
fn is_refused(options: &[&str], parts: &[&str]) -> String {
    let mut command = serve(&["--listen", ANY, "--sink", "null"]);
    command.args(options);
    let (code, said) = refused(command);
    assert_eq!(code, Some(2), "{options:?}: {said}");
    for part in parts {
        assert!(
            said.contains(part),
            "{options:?}: {part:?} is not in: {said}"
        );
    }
    assert!(!said.contains("listening"), "{options:?}: {said}");
    said
}

#[test]
fn what_is_wrong_is_named_by_option_value_and_reason() {
    let cases: [(&[&str], &[&str]); 14] = [
        (&["--max-message", "64K"], &["--max-message", "64K", "KiB"]),
        (&["--max-message", "8"], &["--max-message", "8", "16 B to"]),
        (&["--staging", "lots"], &["--staging", "lots", "not a size"]),
        (&["--staging", "1KiB"], &["--staging", "1024", "64 KiB"]),
        (&["--idle-timeout", "5"], &["--idle-timeout", "5", "off"]),
        (
            &["--drain-timeout", "off"],
            &["--drain-timeout", "off", "ms"],
        ),
        (&["--ring", "100000"], &["--ring", "100000", "power of two"]),
        (&["--framing", "lines"], &["--framing", "lines", "varint"]),
        (&["--framing", "byte:256"], &["--framing", "256", "no byte"]),
        (
            &["--on-oversize", "cut"],
            &["--on-oversize", "cut", "truncate"],
        ),
        (&["--output", "json"], &["--output", "json", "raw"]),
        (&["--consumers", "0"], &["--consumers", "0", "1 to 64"]),
        (&["--reactors", "65"], &["--reactors", "65", "1 to 64"]),
        (&["--backlog", "0"], &["--backlog", "0", "at least 1"]),
    ];
    for (options, parts) in cases {
        is_refused(options, parts);
    }
    for (listen, reason) in [
        ("127.0.0.1:5140", "tcp:// or unix://"),
        ("tcp://localhost:5140", "IP address"),
        ("unix://", "path"),
    ] {
        is_refused(&["--listen", listen], &["--listen", listen, reason]);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let options = ["--consumers", "0", "--backlog", "0", "--ring", "3"];
    let said = is_refused(&options, &["--consumers", "--backlog", "--ring"]);
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn the_culprit_is_the_option_that_asks_for_too_much() {
    is_refused(&["--reactors", "100000"], &["--reactors", "100000", "64"]);
    is_refused(&["--consumers", "99999"], &["--consumers", "99999", "64"]);
}

#[test]
fn a_sink_that_is_none_is_named_with_those_that_are() {
    for (sink, reason) in [("stderr", "file:PATH"), ("tcp://nowhere", "HOST:PORT")] {
        let (code, said) = refused(serve(&["--listen", ANY, "--sink", sink]));
        assert_eq!(code, Some(2), "{said}");
        for part in ["--sink", sink, reason] {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }
}

#[test]
fn a_ring_that_is_too_small_is_refused_with_the_smallest_that_does() {
    let said = is_refused(
        &["--ring", "64KiB"],
        &["--ring", "64 KiB", "65536", "smallest ring"],
    );
    let (_, rest) = said.split_once("smallest ring for them is ").unwrap();
    let smallest: usize = rest.split_whitespace().next().unwrap().parse().unwrap();
    is_refused(&["--ring", &(smallest / 2).to_string()], &["too small"]);
    let mut fanin = Fanin::start(&["--ring", &smallest.to_string()]);
    let largest = [&[b'x'; 64 << 10][..], b"\n"].concat();
    fanin.send(&largest);
    fanin.drain();
    assert_eq!(fanin.output(), largest);
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_before_anybody_connects() {
    let place = Place::new();
    let sink = format!("file:{}", place.path("none/such").display());
    let (code, said) = refused(serve(&["--listen", ANY, "--sink", &sink]));
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(
        said,
        format!("fanin: --sink {sink}: No such file or directory (os error 2)")
    );
}

#[test]
fn a_place_where_nobody_can_listen_is_refused() {
    let place = Place::new();
    let unix = format!("unix://{}", place.path("none/such").display());
    // TEST-NET-1 is nobody's address (RFC 5737).
    for (listen, reason) in [
        (unix.as_str(), "No such file or directory (os error 2)"),
        (
            "tcp://192.0.2.1:0",
            "Cannot assign requested address (os error 99)",
        ),
    ] {
        let (code, said) = refused(serve(&["--listen", listen, "--sink", "null"]));
        assert_eq!(code, Some(2), "{said}");
        assert_eq!(said, format!("fanin: --listen {listen}: {reason}"));
    }
}

// Unix sockets.

fn at(path: &std::path::Path) -> Command {
    let listen = format!("unix://{}", path.display());
    serve(&["--listen", &listen, "--sink", "stdout"])
}

/// A program there, and one line through it.
#[track_caller]
fn serves_at(path: &std::path::Path) -> Fanin {
    let place = Place::new();
    let mut command = at(path);
    command.stdout(std::fs::File::create(place.path("output")).unwrap());
    let fanin = Fanin::start_with(command, place, 1);
    let mut peer = UnixStream::connect(path).unwrap();
    peer.write_all(b"through the path\n").unwrap();
    drop(peer);
    fanin.wait_for_output("a line", |o| o == b"through the path\n");
    fanin
}

#[test]
fn a_path_is_listened_on_again_after_a_crash_and_after_an_end() {
    let place = Place::new();
    let path = place.path("socket");
    let mut crashed = serves_at(&path);
    crashed.kill();
    assert!(path.exists(), "SIGKILL leaves the socket's file");
    serves_at(&path).drain();
    serves_at(&path).drain();
}

#[test]
fn a_path_that_somebody_listens_on_is_left_to_him() {
    let place = Place::new();
    let path = place.path("socket");
    let mut first = serves_at(&path);
    let (code, said) = refused(at(&path));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Address already in use"), "{said}");
    let mut peer = UnixStream::connect(&path).unwrap();
    peer.write_all(b"and again\n").unwrap();
    drop(peer);
    first.drain();
    assert_eq!(first.output(), b"through the path\nand again\n");
}

#[test]
fn a_file_that_is_no_socket_is_not_removed() {
    let place = Place::new();
    let path = place.path("precious");
    std::fs::write(&path, "data").unwrap();
    for other in [&path, &place.path("")] {
        let (code, said) = refused(at(other));
        assert_eq!(code, Some(2), "{said}");
        let words = format!("--listen unix://{}: ", other.display());
        assert!(said.contains(&words), "{said}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
    assert!(!path.metadata().unwrap().file_type().is_socket());
}
