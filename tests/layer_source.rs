//! Limits of sources over real sockets: addresses of 127.0.0.0/8 and users of Unix sockets.

mod audit;
mod support;
mod world;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fanin::{AtLimit, BoundAddr, Config, RefuseReason, Turn};
use socket2::{Domain, Socket, Type};
use support::{Fanin, PATIENCE, skip, wait_for};
use world::{World, config};

/// From another address of this machine than the usual one.
fn connect_from(host: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((host, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// 127.1.0.0 and those after it.
fn host(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

fn address(handle: &fanin::Handle) -> SocketAddr {
    match handle.local_addrs()[0] {
        BoundAddr::Tcp(address) => address,
        ref other => panic!("{other:?}"),
    }
}

fn open(world: &World) -> u64 {
    world.handle.snapshot().connections.open
}

fn refused(world: &World, reason: RefuseReason) -> u64 {
    world.handle.snapshot().connections.refused.count(reason)
}

#[track_caller]
fn until_closed(world: &mut World, stream: &mut (impl Read + ?Sized)) {
    world.until("it is closed", |_| match stream.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    });
}

fn limited(connections: usize) -> Config {
    let mut config = config();
    config.per_source.connections = Some(connections);
    config
}

#[test]
fn a_source_has_as_many_as_it_may_and_another_one_when_one_has_left() {
    for policy in [AtLimit::Wait, AtLimit::Refuse, AtLimit::Evict] {
        let mut config = limited(2);
        config.at_max_connections = policy;
        let mut world = World::new(config);
        let to = address(&world.handle);
        let mut inside: Vec<_> = (0..2).map(|_| connect_from(host(1), to)).collect();
        world.until("both are in", |w| open(w) == 2);
        // More of them than one turn accepts.
        let mut outside: Vec<_> = (0..40).map(|_| connect_from(host(1), to)).collect();
        world.until("all others are refused", |w| {
            refused(w, RefuseReason::Source) == 40
        });
        for stream in &mut outside {
            stream.set_nonblocking(true).unwrap();
            until_closed(&mut world, stream);
        }
        assert_eq!(open(&world), 2, "{policy:?}");
        let mut other = connect_from(host(2), to);
        other.write_all(b"of somebody else\n").unwrap();
        world.until("somebody else is in", |w| open(w) == 3);
        inside[0].write_all(b"here\n").unwrap();
        drop(inside.remove(1));
        world.until("one has left", |w| open(w) == 2);
        let mut again = connect_from(host(1), to);
        again.write_all(b"again\n").unwrap();
        world.until("it is in again", |w| open(w) == 3);
        drop((inside, other, again));
        world.until("all have left", |w| open(w) == 0);
        assert_eq!(refused(&world, RefuseReason::Source), 40);
        assert_eq!(world.handle.snapshot().connections.accepted, 4);
        world.drain();
    }
}

#[test]
fn a_source_connects_as_often_as_it_may() {
    let mut config = config();
    config.per_source.connects_per_sec = Some(5);
    let mut world = World::new(config);
    let to = address(&world.handle);
    let began = Instant::now();
    let burst: Vec<_> = (0..12).map(|_| connect_from(host(1), to)).collect();
    world.until("all have been looked at", |w| {
        open(w) + refused(w, RefuseReason::SourceRate) == 12
    });
    // A machine that takes its time lets more of them in.
    let due = 5 + (began.elapsed().as_secs_f64() * 5.0) as u64;
    assert!(
        (5..=due).contains(&open(&world)),
        "{} of {due}",
        open(&world)
    );
    let other: Vec<_> = (0..5).map(|_| connect_from(host(2), to)).collect();
    let before = open(&world);
    world.until("somebody else is in", |w| open(w) == before + 5);
    // Those who are in may stay; and another one comes at the latest after a fifth of a second.
    drop(burst);
    world.until("they have left", |w| open(w) == 5);
    let mut tries = Vec::new();
    world.until("it is in again", |w| {
        tries.push(connect_from(host(1), to));
        open(w) > 5
    });
    drop((other, tries));
    world.drain();
}

/// Each address has its share, and whoever else comes finds a place: the whole was never taken.
#[test]
fn an_attacker_with_many_addresses_gets_no_more_than_each_of_them_may_have() {
    const HOSTS: u16 = 300;
    let mut config = limited(3);
    config.max_connections = 1000;
    config.at_max_connections = AtLimit::Refuse;
    let mut world = World::new(config);
    let to = address(&world.handle);
    let mut streams = Vec::new();
    for round in 1..=5 {
        for number in 0..HOSTS {
            streams.push(connect_from(host(number), to));
        }
        let all = u64::from(HOSTS) * round;
        world.until("all have been looked at", |w| {
            let connections = w.handle.snapshot().connections;
            connections.accepted + connections.refused.total() == all
        });
    }
    let connections = world.handle.snapshot().connections;
    assert_eq!(connections.open, 900);
    assert_eq!(connections.refused.count(RefuseReason::Source), 600);
    assert_eq!(connections.refused.total(), 600);
    let mut honest = world.connect();
    honest.write_all(b"of somebody else\n").unwrap();
    world.until("somebody else is in", |w| open(w) == 901);
    drop((streams, honest));
    world.until("all have left", |w| open(w) == 0);
    // And nothing is left of them.
    let again: Vec<_> = (0..3).map(|_| connect_from(host(7), to)).collect();
    world.until("one of them is in again", |w| open(w) == 3);
    drop(again);
    world.drain();
}

#[test]
fn a_user_of_a_unix_socket_is_a_source() {
    let path = std::env::temp_dir().join(format!("fanin-source-{}", std::process::id()));
    let mut config = Config::listen(&format!("unix://{}", path.display())).unwrap();
    config.per_source.connections = Some(2);
    let mut world = World::new(config);
    let mut streams: Vec<_> = (0..3)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    world.until("one is refused", |w| refused(w, RefuseReason::Source) == 1);
    streams[2].set_nonblocking(true).unwrap();
    until_closed(&mut world, &mut streams[2]);
    assert_eq!(open(&world), 2);
    drop(streams);
    world.drain();
    let _ = std::fs::remove_file(path);
}

#[test]
fn an_ipv4_address_is_the_same_source_on_a_socket_of_both_families() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skip("ipv6", "no address [::1]");
    }
    let mut config = limited(1);
    config.listeners = vec!["tcp://[::]:0".parse().unwrap()];
    let mut world = World::new(config);
    let port = address(&world.handle).port();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let first = connect_from(host(1), v4);
    world.until("it is in", |w| open(w) == 1);
    // Of the same /64, were it one.
    let second = connect_from(host(2), v4);
    world.until("another one is in", |w| open(w) == 2);
    let _third = connect_from(host(1), v4);
    world.until("it is refused", |w| refused(w, RefuseReason::Source) == 1);
    let v6 = TcpStream::connect(("::1", port)).unwrap();
    world.until("IPv6 is somebody else", |w| open(w) == 3);
    let _other = TcpStream::connect(("::1", port)).unwrap();
    world.until("it is refused, too", |w| {
        refused(w, RefuseReason::Source) == 2
    });
    drop((first, second, v6));
    world.drain();
}

/// Turns all that are there once.
fn turn(reactors: &mut [fanin::Reactor]) {
    for reactor in reactors {
        let turned = reactor.turn(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(turned, Turn::Running);
    }
}

#[test]
fn all_reactors_count_together_and_what_one_had_that_is_dropped_may_be_had_again() {
    const LIMIT: u64 = 20;
    let mut config = limited(LIMIT as usize);
    config.reactors = 2;
    let fanin::Fanin {
        mut reactors,
        handle,
        consumers: _consumers,
        ..
    } = config.validate().unwrap().bind().unwrap();
    let to = address(&handle);
    let connections = || handle.snapshot().connections;
    let deadline = Instant::now() + PATIENCE;
    let mut streams: Vec<_> = (0..60).map(|_| connect_from(host(1), to)).collect();
    while connections().accepted + connections().refused.total() < 60 {
        turn(&mut reactors);
        assert!(Instant::now() < deadline, "{:#?}", handle.snapshot());
    }
    assert_eq!(connections().accepted, LIMIT);
    // With a reactor its connections end.
    let closed: Vec<_> = reactors.drain(1..).collect();
    drop(closed);
    let (mut tries, mut accepted) = (0, connections().accepted);
    while connections().refused.total() < 41 {
        streams.push(connect_from(host(1), to));
        tries += 1;
        while connections().accepted + connections().refused.total() < 60 + tries {
            turn(&mut reactors);
            assert!(Instant::now() < deadline, "{:#?}", handle.snapshot());
        }
    }
    accepted = connections().accepted - accepted;
    assert_eq!(accepted, tries - 1, "all but the last");
    assert!(
        (1..LIMIT).contains(&accepted),
        "by chance all came to one: {accepted}"
    );
}

#[test]
fn the_program_refuses_and_says_so() {
    let mut fanin = Fanin::start(&["--source-connections", "1", "--source-prefix", "56"]);
    let to = fanin.address();
    let mut inside = connect_from(host(1), to);
    inside.write_all(b"inside\n").unwrap();
    wait_for("it is heard", PATIENCE, || {
        (fanin.output() == b"inside\n").then_some(())
    });
    let mut outside = connect_from(host(1), to);
    assert_eq!(outside.read(&mut [0]).unwrap(), 0);
    fanin.wait_to_say("refused: source: begins");
    let mut other = connect_from(host(2), to);
    other.write_all(b"other\n").unwrap();
    drop((inside, other));
    let report = fanin.drain();
    assert_eq!(report["connections"]["refused"]["source"], 1);
    assert_eq!(report["connections"]["accepted"], 2);
    assert_eq!(report["balanced"], true);
}
