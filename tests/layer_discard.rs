//! The layer of full rings that discard, over real sockets: senders are never held, what is lost is counted
//! and told, and nothing is delivered that was not sent.

mod audit;
mod support;
mod world;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use fanin::{CloseReason, DiscardReason, Framing, OnFull};
use support::flood::{SMALL, numbered};
use support::pipe::full_pipe;
use support::{Fanin, PATIENCE, Place, serve, total, wait_for};
use world::{World, small_ring};

fn discarding() -> World {
    let mut config = small_ring();
    config.on_full = OnFull::Discard;
    let mut world = World::new(config);
    world.keeps_up = false;
    world
}

/// Writes all of it while the world turns: its sender is not held for good.
#[track_caller]
fn send(stream: &mut TcpStream, bytes: &[u8], world: &mut World) {
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    world.until("its sender gets rid of it", |_| {
        if let Ok(n) = stream.write(&bytes[sent..]) {
            sent += n;
        }
        sent == bytes.len()
    });
}

#[test]
fn what_a_full_ring_has_no_room_for_is_lost_in_whole_messages_with_a_gap_in_its_place() {
    let mut world = discarding();
    let mut sender = world.connect();
    // Half a line comes before the ring is full, its rest much later.
    let lines = numbered(5000);
    for part in lines.chunks(70_001) {
        send(&mut sender, part, &mut world);
    }
    world.until("all is read", |w| {
        w.handle.snapshot().bytes.received == lines.len() as u64
    });
    let bytes = world.handle.snapshot().bytes;
    let lost = bytes.discarded.count(DiscardReason::RingFull);
    assert_eq!(lost, bytes.discarded.total());
    assert_eq!(lost + bytes.published, lines.len() as u64);
    assert!(bytes.published >= 32 << 10, "{bytes:?}");
    assert_eq!(world.connections()[0].causes, [], "it is not held");

    // Its sender says nothing more: the gap is told all the same, as soon as there is room.
    world.keeps_up = true;
    world.until("its gap is told", |w| !w.audit.gaps().is_empty());
    let (reason, gone, messages) = world.audit.gaps()[0];
    assert_eq!((reason, gone), (DiscardReason::RingFull, lost));
    let got = world.audit.all();
    assert_eq!(got.len() as u64 + messages, 5000);
    let delivered: Vec<u8> = got
        .iter()
        .flat_map(|g| [&g.text[..], b"\n"].concat())
        .collect();
    assert!(lines.starts_with(&delivered), "the first ones, each once");

    send(&mut sender, &lines[..200], &mut world);
    world.until("what comes then is delivered", |w| {
        w.audit.all().len() == got.len() + 2
    });
    drop(sender);
    world.until("closed", |w| w.closed(CloseReason::Eof) == 1);
    world.drain();
}

#[test]
fn counted_messages_are_lost_whole_too_and_one_in_the_middle_of_which_the_ring_filled() {
    let mut config = small_ring();
    config.on_full = OnFull::Discard;
    config.framing = Framing::U16;
    let mut world = World::new(config);
    world.keeps_up = false;
    let mut sender = world.connect();
    let message = |n: u16| [&1000u16.to_be_bytes(), &n.to_be_bytes(), &[7; 998][..]].concat();
    let all: Vec<u8> = (0..300).flat_map(message).collect();
    // Cut where no message ends: parts are staged while the ring is full, and before.
    for part in all.chunks(1500) {
        send(&mut sender, part, &mut world);
        world.turn().unwrap();
    }
    let half = &message(300)[..500];
    send(&mut sender, half, &mut world);
    world.until_staged(500);
    world.keeps_up = true;
    world.until("the gap is told", |w| !w.audit.gaps().is_empty());
    send(&mut sender, &message(300)[500..], &mut world);
    drop(sender);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.drain();
    let got = world.audit.all();
    assert!(
        got.iter()
            .all(|got| got.text.len() == 1000 && got.text[2..] == [7; 998])
    );
    let numbers: Vec<_> = got
        .iter()
        .map(|got| u16::from_be_bytes([got.text[0], got.text[1]]))
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&300), "half of it came to a full ring");
    let lost: u64 = world
        .audit
        .gaps()
        .iter()
        .map(|(_, _, messages)| messages)
        .sum();
    assert_eq!(numbers.len() as u64 + lost, 301);
}

#[test]
fn everybody_loses_and_nobody_is_starved() {
    let mut world = discarding();
    let mut senders: Vec<_> = (0..20).map(|_| world.connect()).collect();
    let lines = numbered(100);
    for _ in 0..10 {
        for sender in &mut senders {
            send(sender, &lines, &mut world);
        }
    }
    let all = 20 * 10 * lines.len() as u64;
    world.until("all is read", |w| w.handle.snapshot().bytes.received == all);
    let rows = world.connections();
    assert!(rows.iter().all(|row| row.books.received == all / 20));
    // Those who leave while it is full are told when there is room.
    drop(senders);
    world.until("closed", |w| w.closed(CloseReason::Eof) == 20);
    world.keeps_up = true;
    world.until("all are told", |w| w.connections().is_empty());
    world.drain();
}

#[test]
fn the_program_discards_for_a_sink_that_takes_nothing_and_rests_when_nothing_comes() {
    let (pipe, writer) = full_pipe();
    let mut command = serve(&["--listen", "tcp://127.0.0.1:0", "--on-full", "discard"]);
    command.args(SMALL).stdout(writer);
    let mut fanin = Fanin::start_with(command, Place::new(), 1);
    let lines = numbered(100_000);
    fanin.connect().write_all(&lines).unwrap();
    wait_for("all is read, and its sender gone", PATIENCE, || {
        let report = fanin.report_now();
        (total(&report, "/bytes/received") == lines.len() as u64
            && report["connections"]["open"] == 0)
            .then_some(())
    });
    fanin.wait_to_say("bytes discarded: ring_full: begins, ");
    let cpu_time = fanin.cpu_time();
    support::nothing_for(Duration::from_secs(2));
    fanin
        .cpu_time()
        .assert_rest(cpu_time, Duration::from_millis(100));
    let output = pipe.open();
    let report = fanin.drain();
    let lost = report["bytes"]["discarded"]["ring_full"].as_u64().unwrap();
    assert_eq!(report["balanced"], true);
    assert!(lost > 9_000_000, "{lost}");
    assert_eq!(
        total(&report, "/bytes/delivered") + lost,
        lines.len() as u64
    );
    assert!(lines.starts_with(&output.to_the_end()));
}
