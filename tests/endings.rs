//! Bugs of whole reactors that were found and mended, each by what it did to somebody: drains, consumers
//! that are gone, times without limit, handles.

mod audit;
mod world;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fanin::{BoundAddr, CloseReason, Config, ConnectionId, Fanin, Reactor, RunError, Turn};
use world::{PATIENCE, World, config, fill, small_ring};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_drain_without_limit_waits_for_its_peers() {
    let mut world = World::new(config());
    let mut sender = world.connect();
    sender.write_all(b"one\n").unwrap();
    world.until("one", |w| w.audit.all().len() == 1);
    world.handle.drain(Duration::MAX);
    world.steps_for(100 * MS);
    let open = world.handle.snapshot().connections.open;
    assert_eq!(open, 1, "closed before its peer had finished");
    sender.write_all(b"two\n").unwrap();
    drop(sender);
    world.until("ended", |w| w.reactor.is_none() && w.ended);
    assert_eq!(world.audit.all().len(), 2);
    world.audit.check_all_closed();
}

#[test]
fn a_drain_timeout_without_limit_still_ends_when_a_consumer_is_gone() {
    let mut config = config();
    config.consumers = 2;
    config.drain_timeout = Duration::MAX;
    let mut world = World::new(config);
    world.others.clear();
    let error = world.failure();
    assert!(
        matches!(error, RunError::ConsumerGone { consumer: 1 }),
        "{error}"
    );
    assert_eq!(error.to_string(), "consumer 1 is gone");
}

#[test]
fn a_stall_deadline_without_limit_never_comes() {
    let mut config = small_ring();
    config.deadlines.stall = Some(Duration::MAX);
    let mut world = World::new(config);
    world.keeps_up = false;
    let mut sender = world.connect();
    fill(&mut sender, &mut world);
    assert_eq!(world.handle.snapshot().connections.open, 1);
    world.keeps_up = true;
    drop(sender);
    world.drain();
}

#[test]
fn a_list_may_be_waited_for_without_limit() {
    let Fanin {
        mut reactors,
        handle,
        consumers: _consumers,
        ..
    } = config().validate().unwrap().bind().unwrap();
    let query = handle.connections();
    let _ = reactors[0].turn(Some(Duration::ZERO)).unwrap();
    assert!(query.wait(Duration::MAX).is_empty());
}

#[test]
fn a_list_is_answered_though_the_reactor_ends_or_has_ended() {
    let Fanin {
        mut reactors,
        consumers: _consumers,
        handle,
        ..
    } = config().validate().unwrap().bind().unwrap();
    let mut before = handle.connections();
    handle.stop();
    assert_eq!(reactors[0].turn(None).unwrap(), Turn::Ended);
    let mut after = handle.connections();
    assert!(before.try_take().is_some_and(|rows| rows.is_empty()));
    assert!(after.try_take().is_some_and(|rows| rows.is_empty()));
}

#[test]
fn a_burst_of_commands_is_done_without_another_event() {
    let mut world = World::new(config());
    world.steps_for(20 * MS);
    for _ in 0..100 {
        assert!(world.handle.close(ConnectionId::from_u64(1 << 24)));
    }
    let mut query = world.handle.connections();
    let began = Instant::now();
    let reactor = world.reactor.as_mut().unwrap();
    // Far more time than it needs: were it to sleep over commands, it would be seen.
    let at_most = PATIENCE / 4;
    for _ in 0..5 {
        let _ = reactor.turn(Some(at_most)).unwrap();
        if query.try_take().is_some() {
            break;
        }
    }
    let took = began.elapsed();
    assert!(took < at_most, "slept {took:?} over commands");
}

#[test]
fn a_drain_tells_those_who_are_connected_whoever_else_comes() {
    let mut world = World::new(config());
    let mut sender = world.connect();
    sender.write_all(b"one\n").unwrap();
    world.until("one", |w| w.audit.all().len() == 1);
    sender.set_read_timeout(Some(MS)).unwrap();
    let BoundAddr::Tcp(address) = world.handle.local_addrs()[0] else {
        panic!("not TCP")
    };
    world.handle.drain(2 * PATIENCE);
    let mut told = false;
    for _ in 0..100 {
        // More than are accepted in one turn; in all, fewer than the backlog holds.
        for _ in 0..20 {
            drop(TcpStream::connect(address));
        }
        world.step().unwrap();
        told = matches!(sender.read(&mut [0; 1]), Ok(0));
        if told {
            break;
        }
    }
    assert!(told, "not in a hundred turns");
}

#[test]
fn a_consumer_that_leaves_while_its_ring_is_waited_for_is_an_error_as_at_any_time() {
    let mut world = World::new(config());
    world.keeps_up = false;
    world.connect().write_all(b"lost\n").unwrap();
    world.until("closed", |w| w.closed(CloseReason::Eof) == 1);
    world.handle.drain(2 * PATIENCE);
    world.steps_for(50 * MS);
    assert!(world.reactor.is_some(), "it waits for the consumer");
    world.consumer = None;
    let error = world.failure();
    assert!(
        matches!(error, RunError::ConsumerGone { consumer: 0 }),
        "{error}"
    );
    let snapshot = world.handle.snapshot();
    assert!(snapshot.balanced(), "{snapshot:#?}");
    assert_eq!(snapshot.bytes.abandoned, 5);
}

#[test]
fn nothing_is_published_once_nobody_is_left_to_take_it() {
    let mut world = World::new(config());
    world.step().unwrap();
    // It comes in the very turn in which the reactor sees that its last consumer is gone.
    let mut sender = world.connect();
    sender.write_all(b"to nobody\n").unwrap();
    world.consumer = None;
    let error = world.failure();
    assert!(
        matches!(error, RunError::ConsumerGone { consumer: 0 }),
        "{error}"
    );
    let snapshot = world.handle.snapshot();
    assert!(snapshot.balanced(), "{snapshot:#?}");
    assert_eq!(snapshot.bytes.in_rings, 0, "{:#?}", snapshot.bytes);
}

#[test]
fn a_reactor_that_is_lost_takes_no_place_with_it() {
    let dir = std::env::temp_dir().join(format!("fanin-endings-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("in.sock");
    let mut config = Config::listen(&format!("unix://{}", path.display())).unwrap();
    config.reactors = 2;
    config.max_connections = 1;
    let Fanin {
        mut reactors,
        consumers: _consumers,
        handle,
        ..
    } = config.validate().unwrap().bind().unwrap();
    let accepts = |reactor: &mut Reactor, so_far: u64| {
        let began = Instant::now();
        while handle.snapshot().connections.accepted < so_far {
            let _ = reactor.turn(Some(MS)).unwrap();
            assert!(began.elapsed() < PATIENCE, "{:#?}", handle.snapshot());
        }
    };
    let _one = UnixStream::connect(&path).unwrap();
    let mut lost = reactors.remove(0);
    accepts(&mut lost, 1);
    drop(lost);
    let _two = UnixStream::connect(&path).unwrap();
    accepts(&mut reactors[0], 2);
    std::fs::remove_dir_all(dir).unwrap();
}
