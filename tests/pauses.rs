//! Whole reactors over real sockets, when something does not keep up: full rings, spent staging, clocks,
//! operators, consumers that hang or are gone.

mod audit;
mod world;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use fanin::{CloseReason, ConnectionInfo, DiscardReason, PauseCause, RunError, Target};
use world::{World, config, fill, small_ring};

#[test]
fn a_full_ring_holds_its_senders_and_loses_nothing() {
    let mut world = World::new(small_ring());
    world.keeps_up = false;
    let mut sender = world.connect();
    let sent = fill(&mut sender, &mut world);
    assert!(sent > 64 << 10, "{sent}");
    let rows = world.connections();
    assert_eq!(
        (rows[0].state, &rows[0].causes[..]),
        ("paused", &[PauseCause::Ring][..])
    );
    assert!(world.handle.snapshot().rings[0].blocked_for.is_some());
    world.until("the present pause is in the list", |w| {
        w.connections()[0].paused.iter().any(|(cause, pauses)| {
            *cause == PauseCause::Ring && pauses.time >= Duration::from_millis(20)
        })
    });

    world.keeps_up = true;
    sender.set_nonblocking(false).unwrap();
    world.until("the ring flows", |w| {
        w.handle.snapshot().rings[0].blocked_for.is_none()
    });
    drop(sender);
    world.until("closed", |w| {
        w.handle.snapshot().connections.closed.total() == 1
    });
    world.drain();
    let delivered = world.handle.snapshot().bytes.delivered as usize;
    assert_eq!(delivered, sent);
    let (cause, pauses) = world.handle.snapshot().pauses[0];
    assert!(cause == PauseCause::Ring && pauses.count > 0);
}

#[test]
fn a_paused_connection_is_silent_for_data_and_not_for_its_end() {
    let mut world = World::new(small_ring());
    world.keeps_up = false;
    let mut senders: Vec<_> = (0..3).map(|_| world.connect()).collect();
    let sent = fill(&mut senders[2], &mut world);
    // More comes to a ring that is full; not so much that a FIN would wait for the window.
    for sender in &mut senders[..2] {
        sender.write_all(b"one line\nand another\n").unwrap();
    }
    world.until("all wait", |w| {
        w.connections().iter().all(|row| row.state == "paused")
    });
    // EPOLLIN is 1, EPOLLRDHUP 0x2000.
    let masks = || -> Vec<u32> {
        let mut masks = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with("tfd:")) {
                let mask = line.split_whitespace().nth(3).unwrap();
                masks.push(u32::from_str_radix(mask, 16).unwrap());
            }
        }
        masks
    };
    assert!(
        masks()
            .iter()
            .filter(|mask| **mask & 1 == 0 && **mask & 0x2000 != 0)
            .count()
            >= 3,
        "not all are switched: {:x?}",
        masks()
    );
    senders[0].shutdown(Shutdown::Write).unwrap();
    socket2::SockRef::from(&senders[1])
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    senders.remove(1);
    world.until("both ends are noticed", |w| {
        let rows = w.connections();
        rows.iter().any(|row| row.fin_at.is_some())
            && (rows.len() < 3 || rows.iter().any(|row| row.reset_at.is_some()))
    });
    world.keeps_up = true;
    world.until("they are read to their end", |w| {
        w.handle.snapshot().connections.open == 1
    });
    let closed = world.handle.snapshot().connections.closed;
    assert_eq!(
        (
            closed.count(CloseReason::Eof),
            closed.count(CloseReason::Reset)
        ),
        (1, 1)
    );
    drop(senders);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.drain();
    let received = world.handle.snapshot().bytes.received as usize;
    assert_eq!(received, sent + 2 * 21);
}

#[test]
fn those_who_leave_while_the_consumer_stands_still_keep_no_descriptor() {
    let mut world = World::new(config());
    world.keeps_up = false;
    for _ in 0..500 {
        world.connect().write_all(b"a line and away\n").unwrap();
        world.step().unwrap();
    }
    world.until("all are gone", |w| {
        w.handle.snapshot().connections.closed.total() == 500
    });
    assert_eq!(world.handle.snapshot().connections.open, 0);
    world.keeps_up = true;
    world.drain();
    assert_eq!(world.audit.all().len(), 500);
}

#[test]
fn a_stalled_consumer_costs_its_senders_their_connections_in_the_end() {
    let mut config = small_ring();
    config.deadlines.stall = Some(Duration::from_millis(50));
    let mut world = World::new(config);
    world.keeps_up = false;
    let mut sender = world.connect();
    sender.set_nonblocking(true).unwrap();
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    world.until("stalled", |w| {
        let _ = sender.write(&line);
        w.handle
            .snapshot()
            .connections
            .closed
            .count(CloseReason::Stall)
            == 1
    });
    assert!(
        world.handle.snapshot().unread > 0,
        "what the kernel held is said"
    );
    world.keeps_up = true;
    world.drain();
}

#[test]
fn a_quiet_connection_and_an_unfinished_message_are_evicted_by_clocks_of_their_own() {
    let mut config = config();
    config.deadlines.idle = Some(Duration::from_millis(100));
    config.deadlines.message = Some(Duration::from_millis(30));
    let mut world = World::new(config);
    let mut quiet = world.connect();
    let mut unfinished = world.connect();
    unfinished.write_all(b"never to be").unwrap();
    world.until("told", |w| {
        w.handle
            .snapshot()
            .bytes
            .discarded
            .count(DiscardReason::Lingering)
            == 11
    });
    for stream in [&mut quiet, &mut unfinished] {
        stream
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        world.until("its FIN arrives", |_| {
            matches!(stream.read(&mut [0; 1]), Ok(0))
        });
    }
    drop((quiet, unfinished));
    world.until("closed", |w| {
        w.handle.snapshot().connections.closed.total() == 2
    });
    let closed = world.handle.snapshot().connections.closed;
    assert_eq!(
        (
            closed.count(CloseReason::Idle),
            closed.count(CloseReason::Message)
        ),
        (1, 1)
    );
    world.drain();
}

#[test]
fn an_operator_pauses_resumes_and_closes() {
    let mut world = World::new(config());
    let mut sender = world.connect();
    sender.write_all(b"one\n").unwrap();
    world.until("one", |w| w.audit.all().len() == 1);
    let id = world.connections()[0].id;
    assert!(world.handle.pause(Target::Connection(id)));
    world.until("paused", |w| w.connections()[0].state == "paused");
    sender.write_all(b"two\n").unwrap();
    world.until("it waits in the kernel", |w| w.connections()[0].unread == 4);
    assert_eq!(world.connections()[0].causes, [PauseCause::Operator]);
    assert_eq!(world.audit.all().len(), 1);
    assert!(world.handle.resume(Target::All));
    world.until("two", |w| w.audit.all().len() == 2);
    sender.write_all(b"three\n").unwrap();
    assert!(world.handle.close(id));
    assert_eq!(
        sender.set_read_timeout(Some(Duration::from_millis(1))).ok(),
        Some(())
    );
    world.until("told", |_| matches!(sender.read(&mut [0; 1]), Ok(0)));
    drop(sender);
    world.until("closed", |w| {
        w.handle
            .snapshot()
            .connections
            .closed
            .count(CloseReason::Operator)
            == 1
    });
    world.until("three", |w| w.audit.all().len() == 3);
    let mut closed = world.handle.recently_closed();
    let mut rows = None;
    world.until("remembered", |_| {
        rows = closed.try_take();
        rows.is_some()
    });
    let rows = rows.unwrap();
    assert_eq!(
        (rows.len(), rows[0].id, rows[0].reason),
        (1, id, CloseReason::Operator)
    );
    assert_eq!(rows[0].paused[0].0, PauseCause::Operator);
    world.drain();
}

#[test]
fn staging_beyond_its_budget_holds_who_would_need_more_and_everybody_finishes() {
    let mut config = config();
    config.max_message = 4096;
    config.staging_bytes = 4096;
    config.deadlines.message = Some(Duration::from_secs(10));
    let mut world = World::new(config);
    let mut senders: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for sender in &mut senders {
        sender.write_all(&[b'h'; 3000]).unwrap();
    }
    world.until("those who wait for staging are told while they wait", |w| {
        let waits = |row: &&ConnectionInfo| row.causes.contains(&PauseCause::Staging);
        let waiting = w.connections().iter().filter(waits).count() as u64;
        waiting > 0 && w.handle.snapshot().connections.held_by_staging == waiting
    });
    for sender in &mut senders {
        sender.write_all(b"\n").unwrap();
    }
    world.until("everybody is through", |w| w.audit.all().len() == 20);
    assert!(world.audit.all().iter().all(|got| got.text.len() == 3000));
    drop(senders);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    assert_eq!(world.handle.snapshot().connections.held_by_staging, 0);
    world.drain();
}

#[test]
fn a_consumer_that_is_dropped_ends_the_whole_with_an_error_and_balanced_books() {
    let mut world = World::new(config());
    world.keeps_up = false;
    let mut sender = world.connect();
    sender.write_all(b"never seen\n").unwrap();
    world.until("published", |w| w.handle.snapshot().bytes.published == 11);
    drop(world.consumer.take());
    let error = loop {
        if let Err(error) = world.step() {
            break error;
        }
    };
    assert!(
        matches!(error, RunError::ConsumerGone { consumer: 0 }),
        "{error}"
    );
    let snapshot = world.handle.snapshot();
    assert!(snapshot.balanced(), "{snapshot:#?}");
    assert_eq!(snapshot.bytes.abandoned, 11);
    assert_eq!(
        snapshot.connections.closed.count(CloseReason::ConsumerGone),
        1
    );
}

#[test]
fn a_consumer_that_hangs_does_not_hold_the_drain_beyond_its_time() {
    let mut world = World::new(config());
    world.keeps_up = false;
    world.connect().write_all(b"stuck\n").unwrap();
    world.until("published", |w| w.handle.snapshot().bytes.published == 6);
    world.handle.drain(Duration::from_millis(50));
    world.until("ended all the same", |w| w.reactor.is_none());
    let snapshot = world.handle.snapshot();
    assert!(
        snapshot.balanced() && snapshot.bytes.abandoned == 6,
        "{snapshot:#?}"
    );
    assert!(snapshot.rings[0].unwalked);
}

#[test]
fn a_pause_that_ends_with_its_connection_is_remembered() {
    let mut world = World::new(config());
    let mut sender = world.connect();
    sender.write_all(b"one\n").unwrap();
    world.until("one", |w| w.audit.all().len() == 1);
    let id = world.connections()[0].id;
    let pause = Duration::from_millis(100);
    assert!(world.handle.pause(Target::Connection(id)));
    world.until("paused for a while", |w| {
        w.connections()[0].state_for >= pause
    });
    drop(sender);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    let mut closed = world.handle.recently_closed();
    let mut rows = None;
    world.until("remembered", |_| {
        rows = closed.try_take();
        rows.is_some()
    });
    let paused = &rows.unwrap()[0].paused;
    assert_eq!(paused.len(), 1, "{paused:?}");
    let (cause, pauses) = paused[0];
    assert_eq!((cause, pauses.count), (PauseCause::Operator, 1));
    assert!(pauses.time >= pause, "{pauses:?}");
    world.drain();
}

#[test]
fn our_slowness_evicts_nobody_for_theirs() {
    let mut config = small_ring();
    let timeout = Duration::from_millis(100);
    config.deadlines.idle = Some(timeout);
    config.deadlines.message = Some(timeout);
    let mut world = World::new(config);
    world.keeps_up = false;
    let mut flood = world.connect();
    let sent = fill(&mut flood, &mut world);
    let mut victim = world.connect();
    victim.write_all(b"half of a mess").unwrap();
    world.until("both wait for the ring", |w| {
        w.connections()
            .iter()
            .filter(|c| c.state == "paused")
            .count()
            == 2
    });
    let since = Instant::now();
    world.until("both clocks would have come", |_| {
        since.elapsed() > 5 * timeout
    });
    world.keeps_up = true;
    // The time before the wait counts, and the time after: the message is finished within it.
    world.until("the beginning is read", |w| {
        w.connections().iter().any(|c| c.books.staged == 14)
    });
    victim.write_all(b"age\n").unwrap();
    drop(flood);
    drop(victim);
    world.until("all are gone", |w| {
        w.handle.snapshot().connections.open == 0
    });
    world.drain();
    let closed = world.handle.snapshot().connections.closed;
    assert_eq!(closed.count(CloseReason::Eof), 2, "{closed:?}");
    let received = world.handle.snapshot().bytes.received as usize;
    assert_eq!(received, sent + b"half of a message\n".len());
}

#[test]
fn a_consumer_that_comes_after_the_time_was_up_has_its_messages_and_the_books_know() {
    let mut world = World::new(config());
    world.keeps_up = false;
    let mut sender = world.connect();
    sender.write_all(b"one\ntwo\n").unwrap();
    world.until("published", |w| w.handle.snapshot().bytes.published == 8);
    world.handle.drain(Duration::ZERO);
    world.until("the reactor has ended", |w| w.reactor.is_none());
    let snapshot = world.handle.snapshot();
    assert!(snapshot.balanced() && snapshot.rings[0].unwalked);
    assert_eq!(snapshot.bytes.abandoned, 8);
    world.keeps_up = true;
    world.until("the consumer has ended", |w| w.ended);
    let snapshot = world.handle.snapshot();
    assert!(snapshot.balanced(), "{snapshot:#?}");
    assert_eq!((snapshot.bytes.delivered, snapshot.bytes.abandoned), (8, 0));
}

#[test]
fn who_is_there_when_the_time_is_up_is_told_of_once_and_only_if_it_ever_sent() {
    let mut world = World::new(config());
    world.keeps_up = false;
    let _silent = world.connect();
    let mut sender = world.connect();
    world.until("both are there", |w| {
        w.handle.snapshot().connections.open == 2
    });
    // The end of this one, and of the time for all, are seen in the same turn.
    sender.write_all(b"x\n").unwrap();
    drop(sender);
    world.handle.drain(Duration::ZERO);
    world.until("the reactor has ended", |w| w.reactor.is_none());
    world.keeps_up = true;
    world.until("the consumer has ended", |w| w.ended);
    // The audit refuses a record after `Closed`.
    assert_eq!(world.audit.all().len(), 1);
    world.audit.check_all_closed();
    assert_eq!(world.audit.accounts(), 1);
}

#[test]
fn who_is_told_to_leave_while_staging_is_spent_is_read_once_there_is_room() {
    let mut config = config();
    config.max_message = 16 << 10;
    // One block, which more than half of a message takes wholly.
    config.staging_bytes = (16 << 10) + 64;
    let mut world = World::new(config);
    let mut holder = world.connect();
    holder.write_all(&[b'x'; 10 << 10]).unwrap();
    world.until("staging is spent", |w| {
        w.handle.snapshot().bytes.staged == 10 << 10
    });
    let mut sender = world.connect();
    sender.write_all(b"hello\n").unwrap();
    sender.shutdown(Shutdown::Write).unwrap();
    world.until("it waits", |w| {
        w.connections()
            .iter()
            .any(|row| row.causes == [PauseCause::Staging])
    });
    world.handle.drain(Duration::from_secs(10));
    world.until("both are told", |w| {
        w.connections().iter().all(|row| row.state == "draining")
    });
    holder.write_all(b"\n").unwrap();
    drop(holder);
    world.drain();
    assert_eq!(world.audit.all().len(), 2);
    assert_eq!(world.handle.snapshot().unread, 0);
}

#[test]
fn a_message_that_is_too_large_has_the_message_timeout_from_its_own_beginning() {
    let mut config = small_ring();
    config.deadlines.message = Some(Duration::from_millis(500));
    let mut world = World::new(config);
    let mut sender = world.connect();
    sender.write_all(b"before\n").unwrap();
    let born = Instant::now();
    world.until("older than a message may be", |_| {
        born.elapsed() > Duration::from_millis(600)
    });
    sender.write_all(&[b'x'; 2000]).unwrap();
    world.until("cut", |w| w.audit.all().len() == 2);
    let begun = Instant::now();
    world.until("the timers have looked", |_| {
        begun.elapsed() > Duration::from_millis(100)
    });
    sender.write_all(b"x\nafter\n").unwrap();
    world.until("and skipped", |w| w.audit.all().len() == 3);
    drop(sender);
    world.drain();
}

#[test]
fn who_has_finished_and_is_not_read_to_its_end_has_no_last_message() {
    let mut world = World::new(small_ring());
    world.keeps_up = false;
    let mut sender = world.connect();
    sender.write_all(b"half").unwrap();
    world.until("staged", |w| w.handle.snapshot().bytes.staged == 4);
    let mut other = world.connect();
    fill(&mut other, &mut world);
    // Its line is whole in the kernel, and so is its end; but there is no room to read it.
    sender.write_all(b" a line\n").unwrap();
    sender.shutdown(Shutdown::Write).unwrap();
    world.until("noticed", |w| {
        w.connections().iter().any(|row| row.fin_at.is_some())
    });
    world.handle.drain(Duration::from_secs(2));
    world.until("the time to read is up", |w| {
        w.handle.snapshot().connections.open == 0
    });
    world.keeps_up = true;
    world.until("drained", |w| w.reactor.is_none() && w.ended);
    assert!(world.audit.from(sender.local_addr().unwrap()).is_empty());
    assert!(
        world
            .audit
            .gaps()
            .contains(&(DiscardReason::CutAtEnd, 4, 1))
    );
}
