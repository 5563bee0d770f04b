//! The connection limits over real sockets: of the whole and of a listener, and what is done at them.

mod audit;
mod support;
mod world;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fanin::{AtLimit, BoundAddr, CloseReason, Config, Listen, RefuseReason};
use support::{Fanin, PATIENCE, wait_for};
use world::{World, config, small_ring};

fn limited(most: usize, policy: AtLimit) -> Config {
    let mut config = config();
    config.max_connections = most;
    config.at_max_connections = policy;
    config
}

fn open(world: &World) -> u64 {
    world.handle.snapshot().connections.open
}

fn refused(world: &World) -> u64 {
    let refused = world.handle.snapshot().connections.refused;
    refused.count(RefuseReason::Full)
}

/// As many as there may be, one after the other.
fn fill(world: &mut World, most: u64) -> Vec<TcpStream> {
    let mut inside = Vec::new();
    for n in 1..=most {
        inside.push(world.connect());
        world.until("it is in", |w| open(w) == n);
    }
    inside
}

/// Reads nothing: its other side is closed.
#[track_caller]
fn until_closed(world: &mut World, stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    world.until("it is closed", |_| match stream.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    });
}

/// Somebody has something to say now and then, and is no victim.
fn speak(streams: &mut [TcpStream]) {
    for stream in streams {
        stream.write_all(b"here\n").unwrap();
    }
}

#[test]
fn a_listener_is_full_while_somebody_waits_at_it_and_not_before() {
    for policy in [AtLimit::Wait, AtLimit::Evict] {
        let mut world = World::new(limited(3, policy));
        let mut inside = fill(&mut world, 3);
        speak(&mut inside);
        world.until("they are heard", |w| w.audit.all().len() == 3);
        let state = |world: &World| world.handle.snapshot().listeners[0].state;
        assert_eq!(state(&world), "ready", "{policy:?}");
        let outside = world.connect();
        world.until("it waits", |w| state(w) == "full");
        drop((inside, outside));
        world.until("nobody is there", |w| open(w) == 0 && state(w) == "ready");
    }
}

#[test]
fn at_the_limit_who_comes_is_closed_at_once_and_there_is_a_place_again_when_one_leaves() {
    let mut world = World::new(limited(3, AtLimit::Refuse));
    let mut inside = fill(&mut world, 3);
    // More of them than one turn accepts.
    let mut outside: Vec<_> = (0..40).map(|_| world.connect()).collect();
    world.until("all are refused", |w| refused(w) == 40);
    for stream in &mut outside {
        until_closed(&mut world, stream);
    }
    assert_eq!(open(&world), 3);
    inside.pop();
    world.until("one has left", |w| open(w) == 2);
    inside.push(world.connect());
    world.until("its place is taken", |w| open(w) == 3);
    speak(&mut inside);
    world.until("they are heard", |w| w.audit.all().len() == 3);
    assert_eq!(refused(&world), 40);
    assert_eq!(world.handle.snapshot().connections.accepted, 4);
    drop(inside);
    world.until("closed", |w| open(w) == 0);
    world.drain();
}

#[test]
fn what_somebody_had_sent_who_is_turned_away_is_counted_as_unread() {
    let mut world = World::new(limited(1, AtLimit::Refuse));
    let inside = fill(&mut world, 1);
    // Nobody turns it away before the world goes on.
    let mut outside = world.connect();
    outside.write_all(b"outside\n").unwrap();
    until_closed(&mut world, &mut outside);
    world.until("it is refused", |w| refused(w) == 1);
    let snapshot = world.handle.snapshot();
    assert_eq!((snapshot.unread, snapshot.bytes.received), (8, 0));
    drop(inside);
    world.until("closed", |w| open(w) == 0);
    world.drain();
}

#[test]
fn the_longest_at_rest_makes_room_and_nobody_who_is_in_use() {
    let mut world = World::new(limited(3, AtLimit::Evict));
    let mut inside = fill(&mut world, 3);
    let began = Instant::now();
    let _outside = world.connect();
    let mut silent = inside.remove(1);
    let mut spoke = Instant::now();
    // Nobody has been at rest for a second yet: whoever comes waits, and nobody flaps.
    world.until("there is room", |w| {
        if spoke.elapsed() > Duration::from_millis(100) {
            speak(&mut inside);
            spoke = Instant::now();
        }
        w.closed(CloseReason::Evicted) == 1
    });
    assert!(began.elapsed() >= Duration::from_millis(900));
    until_closed(&mut world, &mut silent);
    world.until("its place is taken", |w| open(w) == 3);
    let accepted = world.handle.snapshot().connections.accepted;
    assert_eq!((accepted, world.closed(CloseReason::Evicted)), (4, 1));
    // With nobody waiting nobody is evicted, however long it rests.
    let rest = Instant::now();
    world.until("all have rested", |_| {
        rest.elapsed() > Duration::from_millis(1500)
    });
    assert_eq!(world.closed(CloseReason::Evicted), 1);
    drop((inside, silent, _outside));
    world.until("closed", |w| open(w) == 0);
    world.drain();
}

#[test]
fn who_still_waits_for_a_place_when_a_drain_closes_the_listeners_is_counted_with_what_it_sent() {
    let mut world = World::new(limited(1, AtLimit::Wait));
    let _inside = fill(&mut world, 1);
    let mut outside = world.connect();
    outside.write_all(b"written and closed\n").unwrap();
    drop(outside);
    let mut waits = world.connect();
    world.until("the listener is full", |w| {
        w.handle.snapshot().listeners[0].state == "full"
    });
    world.drain();
    assert_eq!(waits.read(&mut [0]).unwrap(), 0);
    let snapshot = world.handle.snapshot();
    let refused = snapshot.connections.refused;
    assert_eq!(refused.count(RefuseReason::Shutdown), 2);
    assert_eq!(snapshot.unread, "written and closed\n".len() as u64);
}

#[test]
fn nobody_leaves_for_our_slowness() {
    let mut config = small_ring();
    config.max_connections = 2;
    config.at_max_connections = AtLimit::Evict;
    let mut world = World::new(config);
    let mut inside = fill(&mut world, 2);
    // Both wait for a consumer that takes nothing.
    world.keeps_up = false;
    let many = b"0123456789abcde\n".repeat(8000);
    for stream in &mut inside {
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write(&many);
    }
    for stream in &inside {
        world.until_it_waits(stream, fanin::PauseCause::Ring);
    }
    let outside = world.connect();
    world.steps_for(Duration::from_millis(1500));
    let snapshot = world.handle.snapshot();
    assert_eq!(snapshot.connections.closed.total(), 0);
    assert_eq!(snapshot.listeners[0].state, "full");
    world.keeps_up = true;
    drop(inside);
    world.until("the next one has their place", |w| {
        w.handle.snapshot().connections.accepted == 3
    });
    drop(outside);
    world.until("closed", |w| open(w) == 0);
}

#[test]
fn a_listener_has_its_own_limit() {
    for policy in [AtLimit::Wait, AtLimit::Refuse, AtLimit::Evict] {
        let directory = support::Place::new();
        let path = directory.path("socket");
        let mut config = limited(10, policy);
        config.listeners[0].max_connections = Some(1);
        let unix: Listen = format!("unix://{}?max-connections=2", path.display())
            .parse()
            .unwrap();
        config.listeners.push(unix);
        let mut world = World::new(config);
        let first = fill(&mut world, 1);
        let second = world.connect();
        let local: Vec<_> = (0..2)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        world.until("the other listener has room", |w| {
            w.handle.snapshot().listeners[1].accepted == 2
        });
        match policy {
            AtLimit::Refuse => world.until("it is refused", |w| refused(w) == 1),
            // Not one of the other listener's, which would make no room here.
            AtLimit::Evict => world.until("one has made room", |w| {
                w.closed(CloseReason::Evicted) == 1 && open(w) == 3
            }),
            _ => {
                world.until("it waits", |w| {
                    w.handle.snapshot().listeners[0].state == "full"
                });
                drop(first);
                world.until("it has the place", |w| {
                    w.handle.snapshot().listeners[0].accepted == 2
                });
            }
        }
        assert_eq!(world.handle.snapshot().listeners[1].accepted, 2);
        drop((second, local));
        drop(world);
    }
}

#[test]
fn several_reactors_share_a_listeners_limit() {
    let mut config = limited(100, AtLimit::Refuse);
    config.reactors = 3;
    config.listeners[0].max_connections = Some(20);
    let fanin::Fanin {
        mut reactors,
        handle,
        consumers: _consumers,
        ..
    } = config.validate().unwrap().bind().unwrap();
    let BoundAddr::Tcp(address) = handle.local_addrs()[0] else {
        panic!("not TCP")
    };
    let streams: Vec<_> = (0..60)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let mut turn = |handle: &fanin::Handle| {
        for reactor in &mut reactors {
            let _ = reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
        assert!(Instant::now() < deadline, "{:#?}", handle.snapshot());
        handle.snapshot().connections
    };
    loop {
        let connections = turn(&handle);
        if connections.accepted + connections.refused.total() == 60 {
            assert_eq!(connections.accepted, 20);
            break;
        }
    }
    drop(streams);
    while turn(&handle).open > 0 {}
}

#[test]
fn the_program_refuses_and_says_so() {
    let mut fanin = Fanin::start(&["--max-connections", "1", "--at-max-connections", "refuse"]);
    let mut inside = fanin.connect();
    inside.write_all(b"inside\n").unwrap();
    wait_for("it is heard", PATIENCE, || {
        (fanin.output() == b"inside\n").then_some(())
    });
    let mut outside = fanin.connect();
    assert_eq!(outside.read(&mut [0]).unwrap(), 0);
    fanin.wait_to_say("refused: full: begins");
    drop(inside);
    let report = fanin.drain();
    assert_eq!(report["connections"]["refused"]["full"], 1);
    assert_eq!(report["connections"]["accepted"], 1);
    assert_eq!(report["balanced"], true);
}
