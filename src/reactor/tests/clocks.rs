//! Whose clocks stand still, and whose run: by the tick, which no real network can be held to.

use super::*;
use crate::frame::OversizePolicy;

/// What a message may take here: longer than the second for which none is slow.
const MESSAGE: Tick = 2 * SECOND;

fn timed(message: Tick, staging_bytes: usize) -> Stage {
    let clocks = Clocks {
        message: Some(message),
        ..CLOCKS
    };
    Stage::new(clocks, staging_bytes, EAGAIN)
}

/// `key` fills its ring, and more of it waits there.
fn fill_by(stage: &mut Stage, key: u32) {
    let ring = usize::from(stage.reactor.slots[key].consumer);
    stage.put(key, &b"0123456789abcde\n".repeat(6000));
    while !stage.reactor.lanes[ring].is_blocked() {
        stage.turn();
    }
}

/// The consumer takes what `key` has filled its ring with, and all else of `key` is lost.
fn empty(stage: &mut Stage, key: u32) {
    let ring = usize::from(stage.reactor.slots[key].consumer);
    stage.script.bytes.borrow_mut()[key as usize].clear();
    stage.take(ring);
    (0..2).for_each(|_| stage.turn());
}

fn pause(stage: &mut Stage, key: u32) {
    let who = stage.reactor.id(key);
    stage.order(Command::Pause(Target::Connection(who)));
    stage.turn();
    assert!(
        stage.reactor.slots[key]
            .conn
            .is_paused_by(PauseCause::Operator)
    );
}

fn waits_for_staging(stage: &Stage, key: u32) -> bool {
    let conn = &stage.reactor.slots[key].conn;
    conn.is_paused_by(PauseCause::Staging)
}

/// It is still open at this tick, and told to leave by the next but one.
#[track_caller]
fn assert_evicted_at(stage: &mut Stage, key: u32, ticks: Tick) {
    stage.at(ticks - 1);
    stage.turn();
    assert_eq!(reason(stage, key), None, "before {ticks}");
    stage.at(ticks + 1);
    stage.turn();
    assert_eq!(reason(stage, key), Some(CloseReason::Message));
}

#[test]
fn spent_staging_evicts_nobody_whom_our_full_ring_or_our_operator_holds_up() {
    let mut stage = timed(MESSAGE, 1024);
    // 0, 2 and 4 have the first ring, 1 and 3 the second.
    stage.connect(5);
    stage.send(4, b"held up by a ring");
    stage.send(1, b"held up by an operator");
    // As slow as they may be before they are held up.
    stage.at(MESSAGE - 10);
    pause(&mut stage, 1);
    fill_by(&mut stage, 0);
    stage.send(4, b"more");
    assert_eq!(stage.reactor.slots[4].place, Place::Ring);
    stage.send(3, &[b'x'; 1000]);
    assert!(waits_for_staging(&stage, 3));
    stage.at(2 * MESSAGE);
    stage.turn();
    assert_eq!(stage.reactor.starved_since, TICK * (2 * MESSAGE), "weighed");
    assert_eq!((reason(&stage, 4), reason(&stage, 1)), (None, None));
    // Nothing holds it up from now on, and it has been slow.
    empty(&mut stage, 0);
    assert_evicted_at(&mut stage, 4, 2 * MESSAGE + 10);
    assert_eq!(reason(&stage, 1), None);
}

#[test]
fn time_for_which_its_ring_was_full_is_no_time_of_what_is_read_afterwards() {
    let mut stage = timed(SECOND, 4096);
    stage.connect(3);
    fill_by(&mut stage, 0);
    stage.send(2, b"begun");
    assert_eq!(stage.reactor.slots[2].place, Place::Ring);
    stage.at(9 * SECOND);
    stage.turn();
    empty(&mut stage, 0);
    assert_eq!(stage.reactor.slots[2].conn.staged(), 5);
    assert_evicted_at(&mut stage, 2, 10 * SECOND);
}

#[test]
fn a_wait_for_a_ring_that_flows_again_puts_off_what_was_due_in_it_once() {
    let mut stage = timed(SECOND, 4096);
    stage.connect(3);
    stage.send(2, b"begun");
    fill_by(&mut stage, 0);
    stage.send(2, b", and ended\n");
    assert_eq!(stage.reactor.slots[2].place, Place::Ring);
    stage.at(9 * SECOND);
    stage.take(0);
    // It flows, and its line is long.
    stage.reactor.budgets.reads = 0;
    stage.turn();
    assert!(!stage.reactor.lanes[0].is_blocked());
    assert_eq!(stage.reactor.slots[2].place, Place::Ring);
    assert_eq!(stage.reactor.slots[2].wheel_tick(), Some(10 * SECOND));
}

#[test]
fn who_stands_in_a_line_that_does_not_get_to_it_is_not_evicted_for_that() {
    let mut stage = timed(SECOND, 4096);
    stage.connect(1);
    stage.send(0, b"begun");
    let budgets = std::mem::replace(&mut stage.reactor.budgets.reads, 0);
    stage.send(0, b", and ended\n");
    for ticks in (0..5 * SECOND).step_by(10) {
        stage.at(ticks);
        stage.turn();
    }
    assert_eq!(reason(&stage, 0), None);
    stage.reactor.budgets.reads = budgets;
    stage.turn();
    let books = stage.reactor.slots[0].conn.books();
    assert_eq!((books.published, books.staged), (17, 0));
}

#[test]
fn a_message_that_is_skipped_from_its_beginning_has_the_message_timeout_too() {
    let mut stage = timed(SECOND, 4096);
    stage.reactor.listeners[0].limits.oversize = OversizePolicy::Discard;
    stage.connect(1);
    stage.send(0, b"one\n");
    // Quiet for longer than a message may take.
    stage.at(3 * SECOND);
    stage.send(0, &[b'y'; 2000]);
    assert_evicted_at(&mut stage, 0, 4 * SECOND);
}

#[test]
fn an_operators_pause_beside_another_freezes_the_clocks_and_both_are_booked_in_full() {
    let mut stage = timed(SECOND, 1024);
    stage.connect(3);
    stage.send(0, &[b'h'; 1000]);
    stage.send(2, &[b'o'; 1000]);
    assert!(waits_for_staging(&stage, 2));
    pause(&mut stage, 2);
    stage.at(SECOND - 10);
    let who = stage.reactor.id(2);
    stage.order(Command::Resume(Target::Connection(who)));
    stage.turn();
    assert!(waits_for_staging(&stage, 2), "still");
    stage.send(0, b"\n");
    assert!(!waits_for_staging(&stage, 2));
    for cause in [PauseCause::Operator, PauseCause::Staging] {
        let time = stage.reactor.slots[2].pauses(cause).time;
        assert_eq!(time, TICK * (SECOND - 10), "{cause:?}");
    }
    assert_evicted_at(&mut stage, 2, 2 * SECOND - 10);
}

/// For six of the eight milliseconds of each tick the ring of 2 is full, and there is always a byte more.
fn flap(stage: &mut Stage, ticks: std::ops::Range<Tick>) {
    for tick in ticks {
        stage.at(tick);
        fill_by(stage, 0);
        stage.send(2, b".");
        if reason(stage, 2).is_some() {
            return;
        }
        assert_eq!(stage.reactor.slots[2].place, Place::Ring, "it waits");
        stage
            .script
            .time
            .set(TICK * tick + Duration::from_millis(6));
        while stage.reactor.lanes[0].is_blocked() {
            empty(stage, 0);
        }
        assert_eq!(stage.reactor.slots[2].place, Place::Nowhere, "it was read");
        (0..2).for_each(|_| stage.take(0));
    }
}

#[test]
fn many_short_waits_for_a_ring_are_given_back_like_a_long_one() {
    let mut stage = timed(MESSAGE, 4096);
    stage.connect(3);
    stage.send(2, b"begun");
    flap(&mut stage, 0..2 * MESSAGE);
    let waited = stage.reactor.slots[2].pauses(PauseCause::Ring).time;
    assert_eq!(waited, Duration::from_millis(6) * 2 * MESSAGE);
    assert_eq!(reason(&stage, 2), None, "half of its time is over");
    assert_evicted_at(&mut stage, 2, 2 * MESSAGE + MESSAGE / 2);
}

/// But no more than that: whoever trickles into such a ring is slow all the same.
#[test]
fn many_short_waits_for_a_ring_do_not_put_off_the_least_rate_for_ever() {
    let mut stage = weighed(b"x");
    stage.reactor.least_rate = Some(LeastRate::new(1000, Duration::from_secs(1)));
    // A window of its own time, but for a tick.
    flap(&mut stage, 0..4 * SECOND - 4);
    assert_eq!(reason(&stage, 2), None);
    flap(&mut stage, 4 * SECOND - 4..4 * SECOND + 1);
    assert_eq!(reason(&stage, 2), Some(CloseReason::Trickle));
}

/// What it had sent is read first: that its ring is full for longer than it may linger is our slowness.
#[test]
fn who_is_closed_for_its_age_is_read_to_its_end_though_its_ring_is_full_for_long() {
    let clocks = Clocks {
        linger: 100,
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 4096, EAGAIN);
    stage.connect(4);
    stage.fill();
    stage.put(2, b"the last words\n");
    stage.reactor.begin_close(2, CloseReason::Age);
    stage.turn();
    stage.at(5_000);
    stage.turn();
    assert_eq!(stage.reactor.counters.open.read(), 4);
    stage.take(0);
    stage.turns();
    assert_eq!(stage.reactor.slots[2].conn.books().published, 15);
    stage.at(5_099);
    stage.turn();
    assert_eq!(stage.reactor.counters.open.read(), 4, "and may send on");
    stage.at(5_102);
    stage.turn();
    assert_eq!(stage.reactor.counters.open.read(), 3);
}

/// The wait before a drain is given back in it, and what comes after it as far as half of it goes.
#[test]
fn a_drain_ends_nobody_before_half_of_it_for_what_its_ring_has_held_up() {
    let clocks = Clocks {
        linger: 100,
        ..CLOCKS
    };
    for half in [4_000, 50] {
        let mut stage = Stage::new(clocks, 4096, EAGAIN);
        stage.connect(4);
        stage.fill();
        stage.put(2, b"the last words\n");
        stage.reactor.begin_close(2, CloseReason::Age);
        stage.at(5_000);
        stage.turn();
        stage.reactor.begin_drain(TICK * 2 * half);
        (0..3).for_each(|_| stage.turn());
        assert_eq!(stage.reactor.counters.open.read(), 4);
        stage.at(5_040);
        stage.take(0);
        stage.turns();
        assert_eq!(stage.reactor.slots[2].conn.books().published, 15);
        // Of its own time all is left, or as much as the drain has.
        let left = half.min(140);
        stage.at(5_000 + left - 1);
        stage.turn();
        assert_eq!(stage.reactor.counters.open.read(), 4);
        stage.at(5_000 + left + 2);
        let _ = stage.reactor.turn(None).unwrap();
        let others = if half == 50 { 0 } else { 3 };
        assert_eq!(stage.reactor.counters.open.read(), others);
    }
}
