//! A reactor over a network that does what it is told: what no real one can be made to do at will.

mod apart;
mod clocks;
mod pressure;
mod slices;
mod stage;
mod wakes;

use std::sync::atomic::Ordering;
use std::sync::mpsc::{TryRecvError, channel};

use self::stage::{CLOCKS, EAGAIN, ECONNRESET, ETIMEDOUT, Stage, Woken};
use super::*;
use crate::close::{DiscardReason, PauseCause};
use crate::ring::record::{self, Closed, Gap, Kind};

#[test]
fn a_list_a_drain_and_the_memory_of_the_ended_go_on_where_a_slice_ends() {
    const MANY: usize = 1100;
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.connect(MANY);
    let all = stage.reactor.slots.all();

    let (rows, list) = channel();
    let command = Command::Connections(rows);
    stage.order(command);
    for _ in 0..5 {
        stage.turn();
    }
    let slices: Vec<_> = list.try_iter().collect();
    assert!(slices.iter().all(|slice| slice.len() <= 256));
    let listed = slices.iter().flatten().map(|row| row.id);
    assert!(listed.eq(all.iter().map(|key| stage.reactor.id(*key))));
    assert_eq!(list.try_recv().unwrap_err(), TryRecvError::Disconnected);

    stage.reactor.begin_drain(Duration::from_secs(10));
    let told = |stage: &Stage| {
        let reason = |key: &&u32| stage.reactor.slots[**key].conn.reason();
        all.iter().filter(|key| reason(key).is_some()).count()
    };
    for so_far in [256, 512, 768, 1024, MANY] {
        stage.turn();
        assert_eq!(told(&stage), so_far);
        assert_eq!(stage.reactor.phase.is_busy(), so_far < MANY);
    }

    all.iter().for_each(|key| stage.fin(*key));
    let ids: Vec<_> = all.iter().map(|key| stage.reactor.id(*key)).collect();
    assert_eq!(stage.reactor.turn(None).unwrap(), Turn::Ended);
    let remembered = stage.reactor.closed.iter().map(|closed| closed.id);
    assert!(remembered.eq(ids[MANY - REMEMBERED..].iter().copied()));
    assert_eq!(
        stage.reactor.turn(None).unwrap(),
        Turn::Ended,
        "and stays so"
    );
}

#[test]
fn a_drain_buries_whom_its_ring_has_no_room_for_and_closes_its_books() {
    let mut stage = Stage::new(CLOCKS, 1 << 20, EAGAIN);
    stage.connect(5);
    stage.send(4, b"begun");
    stage.fill();
    stage.reactor.begin_drain(Duration::from_secs(1));
    stage.turn();
    stage.at(200);
    assert_eq!(stage.reactor.turn(None).unwrap(), Turn::Ended);
    let closed = &stage.reactor.closed;
    assert_eq!(closed.len(), 5);
    let begun = closed.iter().find(|row| row.books.received == 5).unwrap();
    assert_eq!((begun.books.discarded, begun.books.staged), (5, 0));
    for row in closed {
        assert!(row.books.balanced() && row.reason == CloseReason::Shutdown);
    }
    let ring = stage.reactor.lanes[0].producer.observer();
    assert_eq!(ring.published(), ring.abandoned());
}

#[test]
fn only_who_has_something_to_be_read_has_stalled() {
    let mut stage = Stage::new(CLOCKS, 1 << 20, EAGAIN);
    stage.reactor.stall = Some(Duration::from_secs(1));
    stage.connect(5);
    stage.fill();
    stage.send(4, b"held up\n");
    stage.at(200);
    stage.turn();
    let closed: Vec<_> = stage.reactor.closed.iter().collect();
    let stalled = stage.reactor.slots.all();
    let reasons = stalled
        .iter()
        .map(|key| stage.reactor.slots[*key].conn.reason());
    assert!(
        closed.is_empty() || closed[0].reason == CloseReason::Stall,
        "{closed:?}"
    );
    assert_eq!(reasons.flatten().count() + closed.len(), 1);
    let slot = &stage.reactor.slots[2];
    assert_eq!((slot.place, slot.conn.reason()), (Place::Nowhere, None));
}

#[test]
fn the_beginning_of_a_message_is_not_delivered_where_its_connection_broke() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.connect(1);
    stage.send(0, b"whole\nbegun");
    stage.put(0, b" and more");
    stage.fin(0);
    stage.script.breaks.set(Some(5));
    stage.turn();
    let of = |kind| {
        let mut walk = stage.ends[0].walk();
        walk.find(|(_, header, _)| header.kind == kind).unwrap().2
    };
    assert_eq!(of(Kind::Data), b"whole\n");
    let gap = Gap::decode(of(Kind::Gap)).unwrap();
    assert_eq!((gap.reason, gap.bytes), (DiscardReason::CutAtEnd, 5));
    let closed = Closed::decode(of(Kind::Closed)).unwrap();
    assert_eq!(closed.reason, CloseReason::System(5));
}

#[test]
fn a_turn_that_takes_long_is_counted() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.connect(1);
    for (takes, long) in [(50, 0), (51, 1), (0, 1)] {
        let takes = Duration::from_millis(takes);
        stage.script.read_takes.set(takes);
        stage.send(0, b"one\n");
        assert_eq!(stage.reactor.counters.long_turns.read(), long, "{takes:?}");
    }
}

/// A security module's or a seccomp filter's refusal takes nobody from the backlog, and does not pass.
#[test]
fn an_accept_that_is_forbidden_is_no_busy_loop() {
    // EPERM, EACCES, EINVAL, ENOSYS.
    for errno in [1, 13, 22, 38] {
        let mut stage = Stage::new(CLOCKS, 4096, errno);
        stage.edge(Token(0));
        for _ in 0..10 {
            stage.turn();
        }
        let timeouts = stage.script.timeouts.borrow();
        assert!(
            !timeouts.contains(&Some(Duration::ZERO)),
            "errno {errno}: {timeouts:?}"
        );
        assert!(timeouts[9].is_some(), "and it asks again some time");
    }
}

/// No answer is not "none": whoever has left is read to the end.
#[test]
fn a_peer_that_left_loses_nothing_where_the_system_does_not_say_what_is_unread() {
    let mut stage = Stage::new(CLOCKS, 4096, 11);
    stage.connect(1);
    stage.script.is_mute.set(true);
    stage.put(0, b"the last\n");
    stage.script.events.borrow_mut()[0].read_closed = true;
    stage.turn();
    assert_eq!(stage.reactor.counters.received.read(), 9);
}

/// Nor is it "nothing" when its time is up: what was read may be half of its last message.
#[test]
fn half_a_message_is_none_where_the_system_does_not_say_what_is_unread() {
    for (is_mute, discarded) in [(true, 4), (false, 0)] {
        let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
        stage.connect(1);
        stage.send(0, b"half");
        stage.reactor.pause(0, PauseCause::Operator);
        stage.script.is_mute.set(true);
        stage.fin(0);
        stage.turn();
        stage.script.is_mute.set(is_mute);
        stage.reactor.end(0, CloseReason::Age);
        stage.turn();
        assert_eq!(stage.reactor.closed[0].books.discarded, discarded);
    }
}

/// Who had connected before the drain is taken, as soon as there is a descriptor for it.
#[test]
fn a_drain_waits_for_a_listener_that_waits_for_descriptors() {
    const EMFILE: i32 = 24;
    let mut stage = Stage::new(CLOCKS, 4096, EMFILE);
    stage.edge(Token(0));
    stage.turn();
    assert_eq!(stage.reactor.listeners[0].machine.label(), "limited");
    stage.reactor.phase = Phase::Draining {
        half: TICK * 500,
        deadline: TICK * 1000,
        untold: Some(0),
    };
    stage.turn();
    stage.script.accepts.set(1);
    stage.script.accept_error.set(EAGAIN);
    stage.at(100);
    stage.turn();
    assert_eq!(stage.reactor.counters.accepted.read(), 1);
    assert!(stage.reactor.is_closed(), "nobody else waits");
}

#[test]
fn a_drain_waits_for_descriptors_no_longer_than_half_of_its_time() {
    const EMFILE: i32 = 24;
    let mut stage = Stage::new(CLOCKS, 4096, EMFILE);
    stage.edge(Token(0));
    stage.turn();
    stage.reactor.phase = Phase::Draining {
        half: TICK * 500,
        deadline: TICK * 1000,
        untold: None,
    };
    stage.at(499);
    stage.turn();
    assert!(!stage.reactor.is_closed());
    let patience = stage.reactor.sleeps();
    assert_eq!(patience, Some(TICK));
    stage.at(500);
    assert_eq!(stage.reactor.turn(None).unwrap(), Turn::Ended);
}

#[test]
fn whoever_is_leaving_is_read_until_half_of_the_drain_that_ends_first() {
    let clocks = Clocks {
        linger: 5_000,
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 4096, EAGAIN);
    stage.connect(3);
    stage.reactor.begin_close(0, CloseReason::Operator);
    stage.reactor.begin_close(1, CloseReason::Idle);
    stage.reactor.begin_drain(TICK * 4000);
    stage.turn();
    stage.reactor.begin_drain(TICK * 400);
    stage.turn();
    stage.at(199);
    stage.turn();
    assert_eq!(stage.reactor.counters.open.read(), 3);
    stage.at(202);
    assert_eq!(stage.reactor.turn(None).unwrap(), Turn::Ended);
}

/// It waited for its ring for longer than its idle time, which took its entry from the wheel; then it
/// waits for staging, where its clocks run.
#[test]
fn who_waits_for_staging_after_its_ring_has_its_clocks_again() {
    let clocks = Clocks {
        idle: Some(100),
        ..CLOCKS
    };
    // Two smallest parts.
    let mut stage = Stage::new(clocks, 520, EAGAIN);
    // 0, 2 and 4 belong to the first ring, 1 and 3 to the second. The oldest of each holds a part.
    stage.connect(5);
    stage.send(4, b"begun");
    stage.send(0, &b"0123456789012345678901234567890\n".repeat(3000));
    while !stage.reactor.lanes[0].is_blocked() {
        stage.turn();
    }
    // They hold all of staging; the second ring's oldest goes beyond.
    stage.send(1, &[b'h'; 900]);
    assert_eq!(stage.reactor.staging.used(), 2 * 260 + 1040);
    stage.send(2, &[b'w'; 900]);
    for ticks in (0..400).step_by(10) {
        stage.at(ticks);
        // The holders trickle.
        stage.put(1, b"h");
        stage.put(4, b"h");
        stage.turn();
    }
    assert_eq!(stage.reactor.slots[2].place, Place::Ring);
    // The ring flows again.
    stage.take(0);
    stage.script.bytes.borrow_mut()[0].clear();
    stage.turn();
    stage.turn();
    let slot = &stage.reactor.slots[2];
    assert_eq!(slot.place, Place::Staging, "{:?}", slot.conn);
    assert!(slot.wheel_tick().is_some(), "{:?}", slot.conn);
}

#[test]
fn an_endless_message_is_evicted_however_fast_it_comes() {
    let clocks = Clocks {
        message: Some(100),
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 1 << 20, EAGAIN);
    stage.connect(1);
    for ticks in 0..2000 {
        stage.at(ticks);
        // More than is read in a turn: the kernel always holds some.
        stage.script.bytes.borrow_mut()[0].resize(3_000_000, b'x');
        stage.send(0, b"");
        stage.take(0);
        if stage.reactor.slots[0].conn.reason() == Some(CloseReason::Message) {
            assert!(ticks >= 100, "after {ticks} of 100 ticks");
            return;
        }
    }
    panic!(
        "not in 2000 ticks of 100: {:?}",
        stage.reactor.slots[0].conn
    );
}

/// Keepalive gives a peer up, or its RST comes: both are an error event, and a full ring is no reason to
/// take the one for the other.
#[test]
fn who_breaks_while_its_ring_is_full_ends_for_the_reason_that_the_kernel_gives() {
    for (errno, reason) in [
        (ETIMEDOUT, CloseReason::System(110)),
        (ECONNRESET, CloseReason::Reset),
    ] {
        let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
        // 0 and 2 belong to the first ring.
        stage.connect(3);
        stage.send(2, b"one\n");
        stage.send(0, &b"0123456789012345678901234567890\n".repeat(3000));
        while !stage.reactor.lanes[0].is_blocked() {
            stage.turn();
        }
        stage.script.read_error.set(errno);
        stage.breaks(2);
        stage.turn();
        let slot = &stage.reactor.slots[2];
        assert!(slot.stream.is_none(), "it holds a descriptor");
        assert_eq!(slot.conn.reason(), Some(reason));
    }
}

/// No other event will say so: who stands behind those that fill the ring has to be asked in time.
#[test]
fn who_breaks_in_the_turn_that_fills_its_ring_holds_no_descriptor() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    // 0, 2 and 4 belong to the first ring.
    stage.connect(5);
    stage.send(2, b"one\n");
    for fills in [0, 4] {
        stage.put(fills, &b"0123456789012345678901234567890\n".repeat(3000));
    }
    stage.script.read_error.set(ETIMEDOUT);
    stage.breaks(2);
    stage.turn();
    assert!(stage.reactor.lanes[0].is_blocked());
    let slot = &stage.reactor.slots[2];
    assert!(slot.stream.is_none(), "it holds a descriptor");
    assert_eq!(slot.conn.reason(), Some(CloseReason::System(110)));
}

/// Once it is known to be too large the rest is skipped; that is no other message.
#[test]
fn a_message_that_turns_out_too_large_keeps_its_deadline() {
    let clocks = Clocks {
        message: Some(100),
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 4096, EAGAIN);
    stage.connect(1);
    stage.send(0, &[b'x'; 1000]);
    stage.at(90);
    stage.send(0, &[b'x'; 100]);
    assert!(stage.reactor.slots[0].conn.partial().is_skipping());
    stage.at(101);
    stage.turn();
    let conn = &stage.reactor.slots[0].conn;
    assert_eq!(conn.reason(), Some(CloseReason::Message), "{conn:?}");
}

#[test]
fn after_a_year_and_more_a_stall_still_counts_from_when_its_wait_began() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    let stall = Duration::from_secs(2);
    stage.reactor.stall = Some(stall);
    // Where ticks have wrapped.
    let year = Duration::from_millis(8 << 32) + Duration::from_secs(1);
    stage.script.time.set(year);
    stage.connect(3);
    stage.send(0, &b"0123456789012345678901234567890\n".repeat(3000));
    while !stage.reactor.lanes[0].is_blocked() {
        stage.turn();
    }
    stage.script.time.set(year + stall - TICK);
    stage.send(2, b"waits\n");
    stage.script.time.set(year + stall);
    stage.turn();
    let open = |key: u32| stage.reactor.slots[key].stream.is_some();
    assert!(!open(0), "it has waited for as long as it may");
    assert!(open(2), "it has only begun to");
}

const SECOND: Tick = 125;

/// With a window of a second and a message begun.
fn weighed(bytes: &[u8]) -> Stage {
    let clocks = Clocks {
        window: Some(SECOND),
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 4096, EAGAIN);
    stage.reactor.least_rate = Some(LeastRate::new(100, Duration::from_secs(1)));
    stage.connect(3);
    stage.send(2, bytes);
    stage
}

fn reason(stage: &Stage, key: u32) -> Option<CloseReason> {
    stage.reactor.slots[key].conn.reason()
}

#[test]
fn who_trickles_is_closed_after_the_window_in_which_it_did() {
    let mut stage = weighed(&[b'x'; 100]);
    stage.at(SECOND);
    stage.turn();
    assert_eq!(reason(&stage, 2), None, "that was enough");
    stage.send(2, &[b'x'; 99]);
    stage.at(2 * SECOND - 1);
    stage.turn();
    assert_eq!(reason(&stage, 2), None, "not before the second one is over");
    stage.at(2 * SECOND);
    stage.turn();
    assert_eq!(reason(&stage, 2), Some(CloseReason::Trickle));
}

#[test]
fn an_operators_pause_begins_the_window_anew() {
    let mut stage = weighed(b"x");
    stage.at(SECOND - 1);
    stage.reactor.pause(2, PauseCause::Operator);
    stage.at(9 * SECOND);
    stage.turn();
    stage.reactor.resume(2, PauseCause::Operator);
    stage.at(10 * SECOND - 1);
    stage.turn();
    assert_eq!(reason(&stage, 2), None);
    stage.at(10 * SECOND);
    stage.turn();
    assert_eq!(reason(&stage, 2), Some(CloseReason::Trickle));
}

/// Under a listener's rate all wait in line again and again, each for a moment. Whoever trickles there has
/// the time in between, of which a window is made up.
#[test]
fn who_waits_for_a_rate_now_and_then_is_weighed_all_the_same() {
    let mut stage = weighed(b"x");
    for ticks in (10..4 * SECOND).step_by(10) {
        stage.at(ticks);
        stage.turn();
        if reason(&stage, 2) == Some(CloseReason::Trickle) {
            assert!(ticks > SECOND, "after {ticks}");
            return;
        }
        stage.reactor.pause(2, PauseCause::Rate);
        stage.reactor.resume(2, PauseCause::Rate);
    }
    panic!("never weighed: {:?}", stage.reactor.slots[2].conn);
}

#[test]
fn time_for_which_its_ring_was_full_is_in_no_window() {
    let mut stage = weighed(b"x");
    stage.send(0, &b"0123456789012345678901234567890\n".repeat(3000));
    while !stage.reactor.lanes[0].is_blocked() {
        stage.turn();
    }
    stage.send(2, b"x");
    for ticks in (0..=9 * SECOND).step_by(10) {
        stage.at(ticks);
        stage.turn();
        assert_eq!(reason(&stage, 2), None, "after {ticks}");
    }
    stage.take(0);
    stage.script.bytes.borrow_mut()[0].clear();
    stage.turn();
    stage.turn();
    stage.at(10 * SECOND - 10);
    stage.turn();
    assert_eq!(reason(&stage, 2), None, "it was not read for nine seconds");
    stage.at(10 * SECOND + 10);
    stage.turn();
    assert_eq!(reason(&stage, 2), Some(CloseReason::Trickle));
}

#[test]
fn who_came_at_once_grows_old_one_after_the_other() {
    const MANY: usize = 2000;
    let clocks = Clocks {
        age: Some(10_000),
        linger: 5_000,
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 4096, EAGAIN);
    stage.connect(MANY);
    let all = stage.reactor.slots.all();
    let mut aged = 0;
    for ticks in (9_990..=11_000).step_by(10) {
        stage.at(ticks);
        stage.turns();
        let is_aged = |key: &&u32| reason(&stage, **key) == Some(CloseReason::Age);
        let now = all.iter().filter(is_aged).count();
        assert!(now - aged <= MANY / 50, "{} at {ticks}", now - aged);
        assert!(ticks >= 10_000 || now == 0, "nobody early");
        aged = now;
        // Half of them in half of the time.
        if ticks == 10_500 {
            assert!(now.abs_diff(MANY / 2) < MANY / 50, "{now}");
        }
    }
    assert_eq!(aged, MANY, "a tenth later all of them");
}

#[test]
fn many_that_are_resumed_or_evicted_at_once_are_served_in_slices() {
    const MANY: usize = 1500;
    let clocks = Clocks {
        idle: Some(SECOND),
        linger: 5_000,
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 1 << 20, EAGAIN);
    stage.connect(MANY);
    let all = stage.reactor.slots.all();
    stage.order(Command::Pause(Target::All));
    (0..MANY.div_ceil(bulk::SLICE)).for_each(|_| stage.turn());
    all.iter().for_each(|key| stage.put(*key, b"one\n"));
    stage.turn();
    assert_eq!(stage.reactor.counters.received.read(), 0);

    stage.order(Command::Resume(Target::All));
    let mut turns = 0;
    while stage.reactor.counters.received.read() < 4 * MANY as u64 {
        let before = stage.reactor.counters.received.read();
        stage.turn();
        (0..2).for_each(|ring| stage.take(ring));
        let read = stage.reactor.counters.received.read() - before;
        let most = 4 * 2 * stage.reactor.budgets.reads as u64;
        assert!(read <= most, "{read} bytes in a turn");
        turns += 1;
        assert!(turns < 100, "not all are read");
    }

    stage.at(3 * SECOND);
    let told = |stage: &Stage| {
        all.iter()
            .filter(|key| reason(stage, **key).is_some())
            .count()
    };
    for so_far in [256, 512, 768, 1024, 1280, MANY] {
        stage.turn();
        assert_eq!(told(&stage), so_far);
    }
}

/// It has begun when its network was made, some work before there is a handle.
#[test]
fn a_handle_counts_time_from_where_its_reactor_does() {
    let config = crate::Config::listen("tcp://127.0.0.1:0").unwrap();
    let fanin = config.validate().unwrap().bind().unwrap();
    let now = fanin.reactors[0].net.now();
    let elapsed = fanin.handle.remotes[0].start.elapsed();
    assert!(elapsed >= now, "{elapsed:?} is less than {now:?}");
}

/// Where what comes to a full ring is lost, a ring has all of its room at any time.
#[test]
fn a_ring_is_begun_anew_where_it_pauses_and_not_where_it_discards() {
    const RECORD: usize = 4096;
    for on_full in [crate::OnFull::Pause, crate::OnFull::Discard] {
        let mut config = crate::Config::listen("tcp://127.0.0.1:0").unwrap();
        config.on_full = on_full;
        let mut fanin = config.validate().unwrap().bind().unwrap();
        let producer = &mut fanin.reactors[0].lanes[0].producer;
        for _ in 0..200 {
            let mut claim = producer.claim(RECORD, RECORD).unwrap();
            record::write_padding(claim.bytes(), RECORD);
            claim.commit(RECORD, 0);
            assert!(fanin.consumers[0].try_next().unwrap().is_none());
        }
        let skipped = producer.position() - 200 * RECORD as u64;
        assert_eq!(skipped > 0, on_full == crate::OnFull::Pause, "{skipped}");
    }
}
