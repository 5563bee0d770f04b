//! The program on a real network with faults: loss, delay, reordering, peers that vanish, small segments,
//! ten thousand connections. As root; `.ci/run` runs them before each landing, docs/proof-network.md says how.

mod audit;
mod link;
mod support;
mod world;

use std::io::{ErrorKind, PipeReader, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fanin::{CloseReason, Config, Keepalive};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use link::traffic::{Plan, Senders};
use link::{Network, server_address};
use support::flood::whole_lines;
use support::load::{Sender, assert_nothing_lost, collect, count_lines, hold, line};
use support::{Fanin, PATIENCE, Place, holds_for, nothing_for, serve, skip, total, wait_for};
use world::{World, fill};

/// Longer than the clocks of the last test.
const LONG: Duration = Duration::from_secs(120);

const PLAN: Plan = Plan {
    connections: 100,
    messages: 100,
    bytes: "8-1000",
    framing: "line",
};

/// The program in the server's namespace, listening on each of so many wires.
fn start_with(mut command: Command, network: &Network, wires: u8, place: Place) -> Fanin {
    for wire in 1..=wires {
        command.arg(format!("--listen=tcp://{}:0", server_address(wire)));
    }
    let start = || Fanin::start_with(command, place, wires.into());
    network.server.inside(start)
}

/// It writes to a file.
fn start(network: &Network, wires: u8, options: &[&str]) -> Fanin {
    let place = Place::new();
    let sink = format!("file:{}", place.path("output").display());
    let mut command = serve(&["--sink", &sink]);
    command.args(options).stdout(Stdio::null());
    start_with(command, network, wires, place)
}

/// It writes into a pipe, which is given back unread.
fn start_piped(network: &Network, options: &[&str]) -> (Fanin, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = serve(&["--max-message=32KiB", "--ring=256KiB"]);
    command.args(options).stdout(writer);
    (start_with(command, network, 1, Place::new()), reader)
}

/// Ends the program, which has to have every message of the plan, once and in order.
#[track_caller]
fn settle(mut fanin: Fanin, plan: Plan, bytes: u64) {
    let report = fanin.drain();
    assert_nothing_lost(&report, bytes);
    let messages = plan.connections * plan.messages;
    assert_eq!(total(&report, "/messages/delivered"), messages);
    assert_eq!(closed(&report, "eof"), plan.connections, "{report:#}");
    assert_eq!(total(&report, "/connections/closed"), plan.connections);
    plan.check(&fanin.place.path("output"));
}

fn closed(report: &Value, reason: &str) -> u64 {
    report["connections"]["closed"][reason].as_u64().unwrap()
}

fn senders(
    network: &Network,
    fanin: &Fanin,
    numbers: std::ops::Range<usize>,
    mut each: impl FnMut(&mut Sender) + Send,
) -> Vec<Sender> {
    let make = |number| {
        let mut sender = Sender::new(fanin, number);
        each(&mut sender);
        sender
    };
    network.clients.inside(|| numbers.map(make).collect())
}

/// Has it heard nothing, neither a FIN nor an RST? Else its link was not cut.
fn is_in_the_dark(peer: &TcpStream) -> bool {
    peer.set_nonblocking(true).unwrap();
    let heard = peer.peek(&mut [0]);
    heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Asks the program until so many have ended for this reason, and all of them are gone.
#[track_caller]
fn wait_for_closed(fanin: &Fanin, expected: &[(&str, u64)]) -> Value {
    let since = Instant::now();
    let all = expected.iter().map(|(_, count)| count).sum::<u64>();
    let report = wait_for("all have ended", 3 * PATIENCE, || {
        let report = fanin.report_now();
        (total(&report, "/connections/closed") == all).then_some(report)
    });
    for (reason, count) in expected {
        assert_eq!(closed(&report, reason), *count, "{reason}: {report:#}");
    }
    assert_eq!(report["connections"]["open"], 0);
    println!("{expected:?} after {:.1} s", since.elapsed().as_secs_f64());
    report
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn lost_segments_lose_no_message() {
    for (percent, connections) in [(1, 100), (5, 100), (20, 40)] {
        let Some(network) = Network::new("network-loss", 1) else {
            return;
        };
        network.lose(percent);
        network.retry_often();
        let fanin = start(&network, 1, &[]);
        let plan = Plan {
            connections,
            ..PLAN
        };
        let bytes = Senders::start(&network, &fanin, plan).finish();
        let (there, here) = network.lost();
        let again = network.clients.counted("RetransSegs");
        println!("loss {percent} %: {there} and {here} packets lost, {again} segments sent again");
        assert!(there > 0 && here > 0 && again > 0);
        settle(fanin, plan, bytes);
    }
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn segments_that_overtake_and_double_change_nothing() {
    let Some(network) = Network::new("network-reorder", 2) else {
        return;
    };
    network.scramble();
    let fanin = start(&network, 1, &["--framing=varint"]);
    let plan = Plan {
        connections: 40,
        messages: 1000,
        framing: "varint",
        ..PLAN
    };
    let bytes = Senders::start(&network, &fanin, plan).finish();
    let out_of_order = network.server.counted("TCPOFOQueue");
    let doubled = network.server.counted("TCPDSACKOldSent");
    println!("{out_of_order} segments came out of order, {doubled} came again");
    assert!(out_of_order > 100 && doubled > 100);
    settle(fanin, plan, bytes);
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn a_narrow_link_is_waited_for() {
    let Some(network) = Network::new("network-rate", 1) else {
        return;
    };
    network.limit_rate(1, "8mbit", "50ms");
    let fanin = start(&network, 1, &[]);
    let plan = Plan {
        connections: 50,
        ..PLAN
    };
    let since = Instant::now();
    let bytes = Senders::start(&network, &fanin, plan).finish();
    let rate = bytes as f64 * 8e-6 / since.elapsed().as_secs_f64();
    println!("{rate:.1} Mbit/s of 8");
    assert!(rate < 8.0, "the link was not narrow");
    settle(fanin, plan, bytes);
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn messages_in_many_small_segments_arrive_whole() {
    let Some(network) = Network::new("network-segments", 1) else {
        return;
    };
    network.limit_segments(88);
    let fanin = start(&network, 1, &["--framing=octet"]);
    let plan = Plan {
        connections: 50,
        messages: 20,
        bytes: "8-20000",
        framing: "octet",
    };
    let bytes = Senders::start(&network, &fanin, plan).finish();
    let segments = network.server.counted("InSegs");
    println!("{bytes} B in {segments} segments");
    assert!(segments > bytes / 88);
    settle(fanin, plan, bytes);
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn a_link_that_comes_back_lost_nothing() {
    let Some(network) = Network::new("network-back", 1) else {
        return;
    };
    network.limit_rate(1, "10mbit", "50ms");
    let fanin = start(&network, 1, &[]);
    let plan = Plan {
        connections: 20,
        messages: 500,
        ..PLAN
    };
    let under_way = Senders::start(&network, &fanin, plan);
    wait_for("a megabyte", PATIENCE, || {
        (fanin.written() > 1 << 20).then_some(())
    });
    network.cut(1);
    let now = |fanin: &Fanin| {
        let report = fanin.report_now();
        let received = total(&report, "/bytes/received");
        (received, total(&report, "/connections/closed"))
    };
    let had = wait_for("what was under way has come", PATIENCE, || {
        let before = now(&fanin);
        nothing_for(Duration::from_millis(50));
        (before == now(&fanin)).then_some(before)
    });
    holds_for("nothing comes, nobody goes", Duration::from_secs(3), || {
        now(&fanin) == had
    });
    network.mend(1);
    let bytes = under_way.finish();
    println!("{} B before the link was down for 3 s", had.0);
    assert!(had.0 < bytes, "the senders were done before");
    settle(fanin, plan, bytes);
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn half_open_peers_are_evicted_by_their_clocks_and_leave_room() {
    let Some(network) = Network::new("network-half-open", 1) else {
        return;
    };
    let options = [
        "--max-connections=40",
        "--idle-timeout=4s",
        "--message-timeout=2s",
    ];
    let mut fanin = start(&network, 1, &options);
    let before = fanin.sockets();
    let idle = senders(&network, &fanin, 0..20, |sender| sender.send(3));
    let begun = senders(&network, &fanin, 20..40, |sender| {
        sender.send(3);
        sender.send_part(4);
    });
    wait_for("all has come", PATIENCE, || {
        (fanin.report_now()["bytes"]["staged"] == 20 * 4).then_some(())
    });
    network.cut(1);
    let report = wait_for_closed(&fanin, &[("idle", 20), ("message", 20)]);
    assert_eq!(total(&report, "/bytes/discarded"), 20 * 4);
    let mut all = idle.iter().chain(&begun);
    assert!(all.all(|sender| is_in_the_dark(&sender.stream)));
    assert_eq!(fanin.sockets(), before, "descriptors");

    network.mend(1);
    let again = senders(&network, &fanin, 40..80, |sender| {
        sender.send(3);
        sender.finish();
    });
    wait_for_closed(&fanin, &[("idle", 20), ("message", 20), ("eof", 40)]);
    let mut report = fanin.drain();
    assert_eq!(report["peak"]["connections"].take(), 40);
    let lines = count_lines(&fanin.output());
    assert!(
        lines.len() == 80 && lines.values().all(|count| *count == 3),
        "{lines:?}"
    );
    drop((idle, begun, again));
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn half_open_peers_that_wait_for_the_sink_are_evicted_by_the_stall_clock() {
    let Some(network) = Network::new("network-stall", 1) else {
        return;
    };
    let options = [
        "--stall-timeout=4s",
        "--idle-timeout=2s",
        "--message-timeout=2s",
    ];
    let (mut fanin, pipe) = start_piped(&network, &options);
    let before = fanin.sockets();
    let mut held = senders(&network, &fanin, 0..8, |_| ());
    hold(&mut held);
    network.cut(1);
    let report = wait_for_closed(&fanin, &[("stall", 8)]);
    let unread = total(&report, "/unread");
    println!("{unread} B were unread");
    assert!(held.iter().all(|sender| is_in_the_dark(&sender.stream)));
    assert!(unread > 0);
    assert_eq!(fanin.sockets(), before, "descriptors");

    let output = collect(pipe);
    let report = fanin.drain();
    let output = output.join().unwrap();
    let counts = count_lines(whole_lines(&output));
    println!("{counts:?} lines delivered; {}", report["bytes"]);
    assert_eq!(report["bytes"]["published"], report["bytes"]["delivered"]);
    assert_eq!(output.len() as u64, total(&report, "/bytes/delivered"));
}

/// Probes after a second of silence, and three of them.
fn probing(network: &Network) -> World {
    let mut config = Config::listen(&format!("tcp://{}:0", server_address(1))).unwrap();
    config.max_message = 1024;
    config.ring_bytes = Some(64 << 10);
    config.receive_buffer = 16 << 10;
    config.deadlines.idle = None;
    config.deadlines.stall = None;
    let mut keepalive = Keepalive::default();
    keepalive.idle = Duration::from_secs(1);
    keepalive.interval = Duration::from_secs(1);
    keepalive.probes = 3;
    config.keepalive = keepalive;
    network.server.inside(|| World::new(config))
}

const TIMED_OUT: u8 = 110;

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn keepalive_finds_half_open_peers_idle_and_paused() {
    let Some(network) = Network::new("network-keepalive", 1) else {
        return;
    };
    let mut world = probing(&network);
    let fanin::BoundAddr::Tcp(address) = world.handle.local_addrs()[0] else {
        panic!("not TCP")
    };
    let mut idle = network.connect(address);
    idle.write_all(b"a line\n").unwrap();
    let mut begun = network.connect(address);
    begun.write_all(b"a part").unwrap();
    world.until_staged(6);
    world.keeps_up = false;
    let mut paused = network.connect(address);
    let sent = fill(&mut paused, &mut world);
    network.cut(1);
    let since = Instant::now();
    world.until("the idle ones are gone", |w| {
        w.handle.snapshot().connections.open == 1
    });
    println!("two gone after {:.1} s", since.elapsed().as_secs_f64());
    world.until("the paused one is noticed", |w| {
        w.row(&paused).reset_at.is_some()
    });
    println!(
        "the paused one noticed after {:.1} s",
        since.elapsed().as_secs_f64()
    );
    world.keeps_up = true;
    world.until("all are gone", |w| {
        w.handle.snapshot().connections.open == 0
    });
    let closed = world.handle.snapshot().connections.closed;
    println!("{closed:?}; the paused one had sent {sent} B");
    assert_eq!(closed.count(CloseReason::System(TIMED_OUT)), 3);
    world.drain();
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn reset_connections_end_so_and_the_books_balance() {
    let Some(network) = Network::new("network-reset", 1) else {
        return;
    };
    let (mut fanin, pipe) = start_piped(&network, &[]);
    let before = fanin.sockets();
    let idle = senders(&network, &fanin, 0..10, |sender| sender.send(1));
    let begun = senders(&network, &fanin, 10..20, |sender| {
        sender.send(1);
        sender.send_part(3);
    });
    wait_for("all has come", PATIENCE, || {
        (fanin.report_now()["bytes"]["staged"] == 10 * 3).then_some(())
    });
    let mut held = senders(&network, &fanin, 20..24, |_| ());
    hold(&mut held);
    // In the clients' namespace it is the kernel's own RST that travels.
    let port = fanin.address().port();
    let killed = network.clients.run(&format!("ss -HKt dport = :{port}"));
    assert_eq!(killed.lines().count(), 24, "{killed}");
    // Those that wait for the ring are read when it has room: what they had sent is theirs.
    wait_for("all but the paused have ended", PATIENCE, || {
        (closed(&fanin.report_now(), "reset") == 20).then_some(())
    });
    let output = collect(pipe);
    let report = wait_for_closed(&fanin, &[("reset", 24)]);
    println!("{}", report["bytes"]);
    assert_eq!(fanin.sockets(), before, "descriptors");
    let report = fanin.drain();
    let output = output.join().unwrap();
    assert_eq!(report["bytes"]["published"], report["bytes"]["delivered"]);
    assert_eq!(output.len() as u64, total(&report, "/bytes/delivered"));
    let counts = count_lines(&output);
    assert!((0..20).all(|number| counts[&number] == 1), "{counts:?}");
    assert!((20..24).all(|number| counts[&number] > 0), "{counts:?}");
    drop((idle, begun));
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn connections_that_an_administrator_kills_here_are_gone() {
    let Some(network) = Network::new("network-kill", 1) else {
        return;
    };
    let mut fanin = start(&network, 1, &[]);
    let before = fanin.sockets();
    let peers = senders(&network, &fanin, 0..10, |sender| sender.send(3));
    wait_for("all are here", PATIENCE, || {
        (fanin.sockets() == before + 10).then_some(())
    });
    let port = fanin.address().port();
    let killed = format!("ss -HKt state established sport = :{port}");
    assert_eq!(network.server.run(&killed).lines().count(), 10);
    let report = wait_for_closed(&fanin, &[("system", 10)]);
    println!("{}", report["recently_closed"][0]);
    assert_eq!(fanin.sockets(), before, "descriptors");
    fanin.drain();
    let lines = count_lines(&fanin.output());
    assert!(
        lines.len() == 10 && lines.values().all(|count| *count == 3),
        "{lines:?}"
    );
    drop(peers);
}

/// Connections that were begun all at once: some of their handshakes lose a segment and take seconds.
struct Crowd(Vec<TcpStream>);

impl Crowd {
    fn connect(network: &Network, fanin: &Fanin, listener: usize, count: usize) -> Self {
        let to = fanin.address_of(listener).into();
        let connect = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // In progress, it says.
            let _ = socket.connect(&to);
            TcpStream::from(socket)
        };
        Self(network.clients.inside(|| (0..count).map(connect).collect()))
    }

    /// Sends all of what each has to say, while nobody waits for another.
    #[track_caller]
    fn send(&mut self, says: impl Fn(usize) -> Vec<u8>) {
        let mut left: Vec<_> = (0..self.0.len()).map(|at| (at, says(at))).collect();
        wait_for("all have sent", LONG, || {
            left.retain_mut(|(at, rest)| {
                match self.0[*at].write(rest) {
                    Ok(n) => drop(rest.drain(..n)),
                    // A handshake that is not over takes no bytes yet.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{at} of a crowd: {error}"),
                }
                !rest.is_empty()
            });
            left.is_empty().then_some(())
        });
    }
}

#[test]
#[ignore = "takes minutes in all, and root; `.ci/run` runs it before each landing"]
fn ten_thousand_connections_half_of_which_vanish() {
    const HALF: usize = 5_000;
    const LINES: u64 = 20;
    let Some(network) = Network::new("network-many", 2) else {
        return;
    };
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 12_000) {
        return skip("network-many", "a process may not have 12,000 descriptors");
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    network.lose(2);
    let options = [
        "--max-connections=10000",
        "--backlog=4096",
        "--idle-timeout=40s",
        "--message-timeout=40s",
        "--max-message=32KiB",
        "--staging=32MiB",
    ];
    let mut fanin = start(&network, 2, &options);
    let before = (fanin.sockets(), fanin.descriptors());
    let sum = fanin.printed_sum();
    let since = Instant::now();
    let seconds = || since.elapsed().as_secs_f64();
    // Those who stay are 0 to 4999, on wire 1. The others will be cut off.
    let mut stay = Crowd::connect(&network, &fanin, 0, HALF);
    let mut vanish = Crowd::connect(&network, &fanin, 1, HALF);
    stay.send(|at| line(at, 0));
    vanish.send(|at| line(HALF + at, 0));
    let first: usize = (0..2 * HALF).map(|number| line(number, 0).len()).sum();
    wait_for("the first line of each", LONG, || {
        (fanin.written() == first as u64).then_some(())
    });
    assert_eq!(fanin.sockets(), before.0 + 2 * HALF);
    println!("10,000 connections after {:.1} s", seconds());

    let lines = |at, some: Range<u64>| some.flat_map(|seq| line(at, seq)).collect();
    stay.send(|at| lines(at, 1..LINES / 2));
    vanish.send(|at| match line(HALF + at, 1) {
        whole if at % 2 == 0 => whole,
        whole => whole[..6].to_vec(),
    });
    network.cut(2);
    println!("half of them cut after {:.1} s", seconds());
    stay.send(|at| lines(at, LINES / 2..LINES));
    for peer in &stay.0 {
        peer.shutdown(Shutdown::Write).unwrap();
    }
    let mut memory = fanin.memory();
    wait_for("all are gone", LONG, || {
        memory = memory.max(fanin.memory());
        (fanin.sockets() == before.0).then_some(())
    });
    let (there, here) = network.lost();
    println!(
        "all gone after {:.1} s; {there} and {here} packets lost",
        seconds()
    );
    assert!(vanish.0.iter().all(is_in_the_dark));
    println!("{memory} B of memory, {sum} at most");
    assert!(memory <= sum);
    assert_eq!(fanin.descriptors(), before.1);

    let report = fanin.drain();
    println!("{}\n{}", report["connections"], report["bytes"]);
    let count = |reason| closed(&report, reason);
    assert_eq!(report["peak"]["connections"], 2 * HALF);
    assert_eq!(total(&report, "/connections/closed"), 2 * HALF as u64);
    assert_eq!(count("eof"), HALF as u64);
    assert_eq!(count("idle") + count("message"), HALF as u64);
    assert!(count("idle") > 0 && count("message") > 0);
    assert_eq!(report["bytes"]["published"], report["bytes"]["delivered"]);
    let lines = count_lines(&fanin.output());
    let (stayed, vanished): (Vec<_>, Vec<_>) = lines.iter().partition(|(at, _)| **at < HALF);
    assert!(stayed.len() == HALF && stayed.iter().all(|(_, count)| **count == LINES));
    let in_time = vanished.iter().filter(|(_, count)| **count > 1).count();
    println!("{in_time} of the second lines of those who vanished came");
    assert_eq!(vanished.len(), HALF, "a first line is lost");
}
