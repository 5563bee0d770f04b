//! The layer of listeners under pressure, over real sockets: shut together when every consumer has a full
//! ring for long enough, open again where they were.

mod audit;
mod support;
mod world;

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fanin::{BoundAddr, Config, PressureAction};
use support::pipe::blocked;
use support::{PATIENCE, Place, wait_for};
use world::{World, small_ring};

const AFTER: Duration = Duration::from_millis(100);

/// A world whose consumer takes nothing, and a connection that makes its ring full.
fn pressed(mut config: Config, action: PressureAction) -> (World, TcpStream) {
    config.pressure.after = Some(AFTER);
    config.pressure.action = action;
    let mut world = World::new(config);
    world.keeps_up = false;
    let mut filler = world.connect();
    let lines = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(800);
    filler.write_all(&lines).unwrap();
    (world, filler)
}

fn states(world: &World) -> Vec<&'static str> {
    let listeners = world.handle.snapshot().listeners;
    listeners.iter().map(|listener| listener.state).collect()
}

fn address(world: &World) -> SocketAddr {
    match world.handle.local_addrs()[0] {
        BoundAddr::Tcp(address) => address,
        _ => panic!("not TCP"),
    }
}

#[track_caller]
fn end(mut world: World) {
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.drain();
}

#[test]
fn who_comes_under_pressure_waits_and_is_served_when_it_is_over() {
    let (mut world, filler) = pressed(small_ring(), PressureAction::StopAccepting);
    world.until("it is shut", |w| states(w) == ["pressure"]);
    let mut late = world.connect();
    late.write_all(b"late\n").unwrap();
    world.steps_for(3 * AFTER);
    let snapshot = world.handle.snapshot();
    assert_eq!((snapshot.connections.accepted, snapshot.shuts), (1, 1));

    world.keeps_up = true;
    world.until("who waits is served", |w| {
        w.audit.all().iter().any(|got| got.text == b"late")
    });
    assert_eq!(states(&world), ["ready"]);
    assert_eq!(world.handle.snapshot().shuts, 1);
    drop((filler, late));
    end(world);
}

#[test]
fn a_moment_of_pressure_shuts_nothing_and_one_consumer_with_room_neither() {
    let mut config = small_ring();
    config.consumers = 2;
    let (mut world, filler) = pressed(config, PressureAction::StopAccepting);
    world.until("a ring is full", |w| {
        w.handle.snapshot().consumers[0].blocked_for.is_some()
    });
    world.steps_for(3 * AFTER);
    assert_eq!(states(&world), ["ready"], "the other consumer has room");
    assert_eq!(world.handle.snapshot().shuts, 0);
    world.keeps_up = true;
    drop(filler);
    end(world);
}

#[test]
fn a_listener_that_was_closed_under_pressure_listens_again_at_the_port_it_had() {
    let (mut world, filler) = pressed(small_ring(), PressureAction::CloseListener);
    let port = address(&world);
    world.until("it is shut", |w| states(w) == ["pressure"]);
    let refused = TcpStream::connect(port).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    world.keeps_up = true;
    world.until("it listens again", |w| states(w) == ["ready"]);
    let mut late = world.connect();
    late.write_all(b"late\n").unwrap();
    world.until("and accepts", |w| {
        w.audit.all().iter().any(|got| got.text == b"late")
    });
    // Who was there before goes on.
    drop((filler, late));
    end(world);
}

#[test]
fn a_port_that_somebody_else_has_meanwhile_is_tried_again_until_it_is_free() {
    let (mut world, filler) = pressed(small_ring(), PressureAction::CloseListener);
    let port = address(&world);
    world.until("it is shut", |w| states(w) == ["pressure"]);
    let thief = TcpListener::bind(port).unwrap();
    world.keeps_up = true;
    world.until("it fails to listen again, twice", |w| {
        let listener = &w.handle.snapshot().listeners[0];
        // EADDRINUSE.
        listener.failures >= 2 && listener.error == Some(98) && listener.state == "limited"
    });
    drop(thief);
    world.until("it listens again", |w| states(w) == ["ready"]);
    let late = world.connect();
    world.until("and accepts", |w| {
        w.handle.snapshot().connections.accepted == 2
    });
    drop((filler, late));
    end(world);
}

#[test]
fn a_drain_under_pressure_ends_whether_the_listener_is_closed_or_not() {
    for action in [PressureAction::StopAccepting, PressureAction::CloseListener] {
        let (mut world, filler) = pressed(small_ring(), action);
        world.until("it is shut", |w| states(w) == ["pressure"]);
        drop(filler);
        world.keeps_up = true;
        world.drain();
    }
}

#[test]
fn a_unix_socket_is_bound_again_at_its_path() {
    let place = Place::new();
    let path = place.path("socket");
    let mut config = small_ring();
    let unix = format!("unix://{}", path.display());
    config.listeners.push(unix.parse().unwrap());
    let (mut world, filler) = pressed(config, PressureAction::CloseListener);
    world.until("both are shut", |w| states(w) == ["pressure"; 2]);
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    world.keeps_up = true;
    world.until("both listen again", |w| states(w) == ["ready"; 2]);
    UnixStream::connect(&path)
        .unwrap()
        .write_all(b"late\n")
        .unwrap();
    world.until("and accept", |w| {
        w.audit.all().iter().any(|got| got.text == b"late")
    });
    drop(filler);
    end(world);
}

#[test]
fn all_reactors_of_the_program_shut_and_listen_again_and_it_says_so() {
    let options = [
        "--pressure-timeout",
        "500ms",
        "--on-pressure",
        "close",
        "--reactors",
        "2",
    ];
    let (mut fanin, pipe, flood) = blocked(&options);
    fanin.wait_to_say("pressure: begins");
    let states = |fanin: &support::Fanin| -> Vec<_> {
        let report = fanin.report_now();
        let listeners = report["listeners"].as_array().unwrap().iter();
        listeners
            .map(|l| l["state"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(states(&fanin), ["pressure"; 2]);
    let refused = TcpStream::connect(fanin.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let output = pipe.open();
    let sent = flood.finish();
    wait_for("both listen again", PATIENCE, || {
        (states(&fanin) == ["ready"; 2]).then_some(())
    });
    // Both take their part: the kernel shares connections out by their ports.
    for _ in 0..20 {
        fanin.send(b"late\n");
    }
    output.wait_for("all of it", |bytes| bytes.len() == sent.len() + 20 * 5);
    fanin.wait_to_say("pressure: over");
    let report = fanin.drain();
    assert_eq!(
        (&report["balanced"], &report["shuts"]),
        (&true.into(), &1.into())
    );
}
