//! The layer of stalled consumers, over real sockets: found, told, and what is done about them.

mod audit;
mod support;
mod world;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use fanin::{CloseReason, OnConsumerGone, OnConsumerStall, RunError};
use support::flood::{Flood, SMALL};
use support::pipe::{blocked, full_pipe};
use support::server::Absent;
use support::{Fanin, PATIENCE, Place, serve, total, wait_for};
use world::{World, config, small_ring};

const STALL: Duration = Duration::from_millis(200);

/// Two consumers, of which the first takes nothing.
fn two(policy: OnConsumerStall) -> World {
    let mut config = small_ring();
    config.consumers = 2;
    config.consumer_stall = Some(STALL);
    config.on_consumer_stall = policy;
    let mut world = World::new(config);
    world.keeps_up = false;
    world
}

/// Lines that a ring of 64 KiB has no room for, and the kernel of its connection has.
fn more_than_a_ring() -> Vec<u8> {
    [b"x".repeat(99), b"\n".to_vec()].concat().repeat(800)
}

#[test]
fn a_consumer_that_takes_nothing_is_stalled_until_it_takes_something() {
    let mut config = config();
    config.consumer_stall = Some(STALL);
    let mut world = World::new(config);
    world.keeps_up = false;
    let mut sender = world.connect();
    sender.write_all(b"one line\n").unwrap();
    world.until("it is stalled", |w| {
        w.handle.snapshot().consumers[0].stalled
    });
    let status = world.handle.snapshot().consumers[0];
    assert_eq!((status.lag_bytes, status.stalls), (9, 1));
    assert!(status.lag.unwrap() >= STALL, "{status:?}");
    assert!(status.still_for.unwrap() >= STALL, "{status:?}");
    assert_eq!(status.blocked_for, None, "its ring has room");

    world.keeps_up = true;
    world.until("it goes on", |w| !w.handle.snapshot().consumers[0].stalled);
    let status = world.handle.snapshot().consumers[0];
    assert_eq!(
        (status.lag_bytes, status.lag, status.still_for),
        (0, None, None)
    );
    // With nothing to take it is not stalled.
    world.steps_for(2 * STALL);
    assert_eq!(world.handle.snapshot().consumers[0].stalls, 1);
    drop(sender);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.drain();
}

#[test]
fn its_connections_are_ended_with_books_and_new_ones_go_to_the_other_consumer() {
    let mut world = two(OnConsumerStall::Evict);
    // The first, third, fifth... are the stalled one's.
    let mut senders: Vec<_> = (0..6).map(|_| world.connect()).collect();
    world.until("all are there", |w| {
        w.handle.snapshot().connections.open == 6
    });
    senders[0].write_all(&more_than_a_ring()).unwrap();
    world.until("those of the stalled consumer are ended", |w| {
        w.closed(CloseReason::ConsumerStalled) == 3
    });
    let snapshot = world.handle.snapshot();
    assert_eq!(snapshot.connections.open, 3);
    assert!(snapshot.unread > 0, "the kernel held nothing");
    // Its end cannot be told to a consumer that takes nothing; nor does it keep a place for that.
    world.until("nobody waits to say that it has ended", |w| {
        w.connections().len() == 3
    });
    let mut query = world.handle.recently_closed();
    let mut rows = None;
    world.until("the list is answered", |_| {
        rows = query.try_take();
        rows.is_some()
    });
    // What is said of each is what is counted of all.
    let rows = rows.unwrap();
    let unread: u64 = rows.iter().map(|row| row.unread).sum();
    let received: u64 = rows.iter().map(|row| row.books.received).sum();
    assert_eq!(
        (unread, received),
        (snapshot.unread, snapshot.bytes.received)
    );
    // What its sender sees.
    let seen = senders[0].read(&mut [0]).unwrap_err();
    assert_eq!(seen.kind(), ErrorKind::ConnectionReset);

    // Nobody new is bound to it, though it has the fewest.
    let mut more: Vec<_> = (0..4).map(|_| world.connect()).collect();
    for sender in more.iter_mut().chain(senders[1..].iter_mut().step_by(2)) {
        sender.write_all(b"for the other one\n").unwrap();
    }
    world.until("all of it is delivered", |w| {
        w.audit
            .all()
            .iter()
            .filter(|got| got.text == b"for the other one")
            .count()
            == 7
    });
    assert_eq!(world.handle.snapshot().consumers[1].connections, 7);

    // It was not dead: what its ring held is delivered when it goes on.
    world.keeps_up = true;
    world.until("it goes on", |w| !w.handle.snapshot().consumers[0].stalled);
    let mut late = world.connect();
    world.until("and has new ones", |w| {
        w.handle.snapshot().consumers[0].connections == 1
    });
    late.write_all(b"late\n").unwrap();
    drop((late, more, senders));
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.handle.drain(Duration::from_secs(5));
    world.until("drained", |w| w.reactor.is_none());
    let snapshot = world.handle.snapshot();
    assert!(
        snapshot.balanced() && snapshot.bytes.abandoned == 0,
        "{snapshot:#?}"
    );
    assert_eq!(snapshot.bytes.delivered, snapshot.bytes.published);
}

#[test]
fn who_comes_where_all_are_stalled_waits_for_as_long_before_it_is_ended() {
    let mut config = small_ring();
    config.consumer_stall = Some(STALL);
    config.on_consumer_stall = OnConsumerStall::Evict;
    let mut world = World::new(config);
    world.keeps_up = false;
    for times in 1..=3 {
        let began = Instant::now();
        let mut sender = world.connect();
        sender.write_all(&more_than_a_ring()).unwrap();
        world.until("it is ended", |w| {
            w.closed(CloseReason::ConsumerStalled) == times
        });
        // A sender that comes back at once is ended a few times a second, not as often as it can come. The
        // clock is coarse.
        let took = began.elapsed();
        assert!(took >= STALL * 9 / 10, "{times}: {took:?}");
    }
    assert_eq!(world.handle.snapshot().consumers[0].stalls, 1);
    world.keeps_up = true;
    world.handle.drain(Duration::from_secs(5));
    world.until("drained", |w| w.reactor.is_none());
    assert!(world.handle.snapshot().balanced());
}

#[test]
fn the_whole_stops_for_it_where_that_was_asked_for_and_its_books_are_closed() {
    let mut world = two(OnConsumerStall::Stop);
    let mut stuck = world.connect();
    stuck.write_all(&more_than_a_ring()).unwrap();
    let error = world.failure();
    assert!(
        matches!(error, RunError::ConsumerStalled { consumer: 0, time } if time >= STALL),
        "{error}"
    );
    let snapshot = world.handle.snapshot();
    assert!(snapshot.ended && snapshot.balanced(), "{snapshot:#?}");
    assert!(snapshot.bytes.abandoned > 0);
    assert!(snapshot.unread > 0, "the kernel held nothing");
    assert!(snapshot.rings[0].unwalked);
}

#[test]
fn the_program_names_a_stalled_consumer_and_says_when_it_goes_on() {
    let (mut fanin, pipe, flood) = blocked(&["--consumer-stall-timeout", "1s"]);
    fanin.wait_to_say("consumer stalled: consumer 0: begins, nothing taken for");
    fanin.wait_to_say("ring full: consumer 0: begins, for");
    let report = fanin.report_now();
    let consumer = &report["consumers"][0];
    assert_eq!(consumer["stalled"], true, "{report:#}");
    assert!(consumer["lag_bytes"].as_u64().unwrap() > 0);
    assert!(consumer["lag_seconds"].as_f64().unwrap() >= 1.0);
    assert!(consumer["still_seconds"].as_f64().unwrap() >= 1.0);
    let output = pipe.open();
    let sent = flood.finish();
    output.wait_for("all of it", |bytes| bytes.len() == sent.len());
    fanin.wait_to_say("consumer stalled: consumer 0: over");
    let report = fanin.drain();
    assert_eq!(report["consumers"][0]["stalled"], false);
    assert_eq!(report["consumers"][0]["stalls"], 1);
    assert_eq!(report["balanced"], true);
}

#[test]
fn the_connections_of_a_consumer_that_is_dropped_end_a_few_at_a_time_where_others_live_on() {
    const EACH: usize = 100;
    let mut config = config();
    config.consumers = 2;
    config.on_consumer_gone = OnConsumerGone::Reroute;
    let mut world = World::new(config);
    let mut senders: Vec<_> = (0..2 * EACH).map(|_| world.connect()).collect();
    world.until("all are there", |w| {
        w.handle.snapshot().connections.open == 2 * EACH as u64
    });
    drop(world.consumer.take());
    let mut lost = senders.iter_mut().step_by(2);
    lost.by_ref()
        .take(50)
        .for_each(|sender| sender.write_all(b"read by nobody\n").unwrap());
    let mut so_far = 0;
    let mut came = Vec::new();
    world.until("all of them are ended", |w| {
        let now = w.closed(CloseReason::ConsumerGone);
        assert!(now - so_far <= 32, "{} in one turn", now - so_far);
        if now > so_far {
            came.push(w.connect());
        }
        so_far = now;
        now == EACH as u64
    });
    // Who was there lives on, and who came meanwhile is with them.
    let stay = senders.iter_mut().skip(1).step_by(2);
    for sender in stay.chain(&mut came) {
        sender.write_all(b"for the other one\n").unwrap();
    }
    let due = EACH + came.len();
    world.until("all of it is delivered", |w| w.audit.all().len() == due);
    let snapshot = world.handle.snapshot();
    assert!(snapshot.balanced(), "{snapshot:#?}");
    assert_eq!(snapshot.bytes.received, 18 * due as u64);
    assert_eq!(snapshot.unread, 15 * 50);
    assert_eq!(snapshot.consumers[0].connections, 0);
    assert_eq!(snapshot.consumers[0].blocked_for, None);
    drop((senders, came));
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
}

#[test]
fn the_program_stops_for_a_stalled_consumer_with_exit_code_1_and_a_report() {
    let (_pipe, writer) = full_pipe();
    let mut command = serve(&["--listen", "tcp://127.0.0.1:0"]);
    command.args(SMALL).stdout(writer).args([
        "--consumer-stall-timeout",
        "1s",
        "--on-consumer-stall",
        "stop",
        "--drain-timeout",
        "1s",
    ]);
    let mut fanin = Fanin::start_with(command, Place::new(), 1);
    let _flood = Flood::until_paused(&fanin);
    wait_for("it ends", PATIENCE, || fanin.has_ended().then_some(()));
    let (code, report) = fanin.end();
    assert_eq!(code, Some(1));
    assert!(
        fanin
            .said()
            .contains("consumer 0 is stalled: it has released nothing for"),
        "{}",
        fanin.said()
    );
    assert_eq!(report["balanced"], true);
    assert!(report["bytes"]["abandoned"].as_u64().unwrap() > 0);
}

/// A program that ends for a stalled consumer.
const STOPS: [&str; 4] = [
    "--consumer-stall-timeout",
    "3s",
    "--on-consumer-stall",
    "stop",
];

#[test]
fn a_stalled_standard_output_that_goes_on_within_the_drain_loses_nothing_though_it_stops_the_whole()
{
    let (mut fanin, pipe, flood) = blocked(&[&STOPS[..], &["--drain-timeout", "10m"]].concat());
    fanin.wait_to_say("consumer stalled: consumer 0: begins");
    let output = pipe.open();
    // It goes on sending, as nobody has told it not to.
    let sent = flood.finish();
    let report = fanin.final_report(1);
    assert!(fanin.said().contains("consumer 0 is stalled"));
    assert_eq!(total(&report, "/bytes/abandoned"), 0, "{report:#}");
    assert_eq!(total(&report, "/unread"), 0, "{report:#}");
    assert!(output.to_the_end() == sent, "not what was sent");
}

#[test]
fn the_end_for_a_stalled_consumer_takes_the_time_of_one_drain() {
    const DRAIN: Duration = Duration::from_secs(4);
    let absent = Absent::new(None);
    let options = [&STOPS[..], &["--drain-timeout", "4s"]].concat();
    let mut fanin = Fanin::start_into(&absent.url(), &options);
    fanin.send(b"to nobody\n");
    fanin.wait_to_say("consumer stalled: consumer 0: begins");
    let began = Instant::now();
    fanin.final_report(1);
    let taken = began.elapsed();
    assert!(taken < DRAIN * 7 / 4, "{taken:?}");
}
