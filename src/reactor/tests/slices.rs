//! What is done for many connections at once is done in slices: no turn is as long as they are many, and
//! whoever comes or speaks meanwhile has its place between them.

use super::*;
use crate::reactor::wheel::NONE;

/// How many of them is it true of?
fn count(stage: &Stage, keys: &[u32], is_so: impl Fn(&Slot<usize>) -> bool) -> usize {
    let slots = &stage.reactor.slots;
    keys.iter().filter(|key| is_so(&slots[**key])).count()
}

fn is_paused(slot: &Slot<usize>) -> bool {
    slot.conn.is_paused_by(PauseCause::Operator)
}

#[test]
fn an_order_for_all_is_obeyed_in_slices_by_those_who_were_there() {
    const MANY: usize = 1100;
    let mut stage = Stage::new(CLOCKS, 1 << 20, EAGAIN);
    stage.connect(MANY);
    let all = stage.reactor.slots.all();
    stage.order(Command::Pause(Target::All));
    stage.turn();
    assert_eq!(count(&stage, &all, is_paused), 256);
    // Somebody comes, and takes the place of somebody who left without having been asked.
    let left = all[MANY - 1];
    stage.fin(left);
    stage.turn();
    stage.script.accepts.set(1);
    stage.edge(Token(0));
    stage.turn();
    assert_eq!(stage.reactor.slots.len(), MANY, "it is there");
    let others = &all[..MANY - 1];
    for so_far in [768, 1024, MANY - 1, MANY - 1] {
        assert_eq!(count(&stage, others, is_paused), so_far);
        assert_eq!(stage.reactor.bulk.is_some(), so_far < MANY - 1);
        stage.turn();
    }
    assert!(!is_paused(&stage.reactor.slots[left]), "it came later");
}

#[test]
fn orders_are_obeyed_one_after_the_other_and_only_by_whom_they_mean() {
    const MANY: usize = 600;
    let mut stage = Stage::new(CLOCKS, 1 << 20, EAGAIN);
    stage.connect(MANY);
    let all = stage.reactor.slots.all();
    let of = |consumer: usize| move |slot: &Slot<usize>| usize::from(slot.consumer) == consumer;
    let who = stage.reactor.id(all[0]);
    stage.order(Command::Pause(Target::All));
    stage.order(Command::Resume(Target::Consumer(0)));
    stage.order(Command::Pause(Target::Connection(who)));
    let (rows, list) = channel();
    stage.order(Command::Connections(rows));
    let mut turns = 0;
    while !matches!(list.try_recv(), Err(TryRecvError::Disconnected)) {
        let before = count(&stage, &all, is_paused);
        stage.turn();
        let now = count(&stage, &all, is_paused);
        assert!(now.abs_diff(before) <= 257, "{before}, then {now}");
        let patience = stage.reactor.sleeps();
        assert!(stage.reactor.bulk.is_none() || patience == Some(Duration::ZERO));
        turns += 1;
        assert!(turns < 20, "no end");
    }
    let paused = |consumer| count(&stage, &all, |slot| of(consumer)(slot) && is_paused(slot));
    assert_eq!((paused(0), paused(1)), (1, MANY / 2));
    assert!(is_paused(&stage.reactor.slots[all[0]]), "the last order");
}

/// About so many hold the smallest part each, which is all of staging, and all others wait for one: a stage,
/// and these and those.
fn starving(holders: usize, waiting: usize) -> (Stage, Vec<u32>, Vec<u32>) {
    let mut stage = Stage::new(CLOCKS, 260 * holders, EAGAIN);
    stage.connect(holders + waiting);
    let all = stage.reactor.slots.all();
    all.iter().for_each(|key| stage.put(*key, b"begun"));
    stage.turn();
    while stage.reactor.lanes.iter().any(Lane::has_work) {
        stage.turn();
    }
    let (holding, starved): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|key| stage.reactor.slots[**key].part != NONE);
    // One of each ring goes beyond.
    assert!((holders..=holders + 2).contains(&holding.len()));
    let waits = |slot: &Slot<usize>| slot.place == Place::Staging;
    assert_eq!(count(&stage, &starved, waits), starved.len());
    (stage, holding, starved)
}

#[test]
fn those_who_wait_for_staging_are_called_in_slices_and_once_for_what_is_given_back() {
    let (mut stage, holders, waiting) = starving(10, 700);
    let many = waiting.len();
    let queue = |stage: &Stage| stage.reactor.starved.iter(&stage.reactor.slots).count();
    // One part is given back. There is one who has a use for it, and everybody is asked.
    stage.send(holders[0], b", and over\n");
    assert_eq!(queue(&stage), many - 256);
    let calls = |stage: &Stage| {
        let slots = waiting.iter().map(|key| &stage.reactor.slots[*key]);
        let counts = slots.map(|slot| slot.pauses(PauseCause::Staging).count);
        counts.collect::<Vec<_>>()
    };
    let mut called = calls(&stage).iter().sum::<u64>();
    let mut turns = 0;
    while called < many as u64 {
        assert_eq!(stage.reactor.sleeps(), Some(Duration::ZERO));
        stage.turn();
        let now = calls(&stage).iter().sum();
        assert!(now - called <= 256, "{} in one turn", now - called);
        called = now;
        turns += 1;
        assert!(turns < 100, "{called} of {many} are called");
    }
    while stage.reactor.lanes.iter().any(Lane::has_work) {
        stage.turn();
    }
    assert!(calls(&stage).iter().all(|calls| *calls == 1), "each once");
    assert_eq!(queue(&stage), many - 1);
    let holds = count(&stage, &waiting, |slot| slot.part != NONE);
    assert_eq!(holds, 1);
    assert_ne!(stage.reactor.sleeps(), Some(Duration::ZERO));
}

/// Whoever is the last to be called may leave before, or be called for another reason.
#[test]
fn the_call_ends_with_who_stands_before_the_last_when_that_one_leaves() {
    let (mut stage, holders, waiting) = starving(4, 300);
    stage.send(holders[0], b"over\n");
    let last = stage.reactor.last_called.expect("a call");
    assert!(waiting.contains(&last));
    stage.reactor.end(last, CloseReason::Age);
    assert_ne!(stage.reactor.last_called, Some(last));
    while stage.reactor.calls_starved() || stage.reactor.lanes.iter().any(Lane::has_work) {
        stage.turn();
    }
    let mut left = waiting.iter().filter(|key| **key != last);
    let calls = |key: &u32| stage.reactor.slots[*key].pauses(PauseCause::Staging).count;
    assert!(left.all(|key| calls(key) == 1), "each once");
}

#[test]
fn slow_holders_give_up_staging_in_slices_while_somebody_waits_for_it() {
    let by_message = |slot: &Slot<usize>| slot.conn.reason() == Some(CloseReason::Message);
    for (waiting, most) in [(10, Some(256)), (1200, None)] {
        let (mut stage, holders, _) = starving(700, waiting);
        stage.at(2 * SECOND);
        stage.reactor.weigh_from = Some(0);
        let mut closed = 0;
        for _ in 0..10 {
            stage.turn();
            let now = count(&stage, &holders, by_message);
            assert!(now - closed <= 256, "{} in one turn", now - closed);
            closed = now;
        }
        assert_eq!(closed, most.unwrap_or(holders.len()), "{waiting} wait");
        assert!(!stage.reactor.weighs_holders());
    }
}

/// So many were there, and all left but the last one: a stage, and that one.
fn after_a_peak(of: usize) -> (Stage, u32) {
    let mut stage = Stage::new(CLOCKS, 1 << 20, EAGAIN);
    stage.connect(of);
    let mut all = stage.reactor.slots.all();
    let last = all.pop().unwrap();
    all.iter().for_each(|key| stage.fin(*key));
    stage.turn();
    stage.turn();
    assert_eq!(stage.reactor.slots.all(), [last]);
    (stage, last)
}

/// What is free again is looked at, too, and that takes its time.
#[test]
fn after_a_peak_turns_are_as_long_as_before() {
    // 256, for each of which 32 free ones are looked at.
    let (mut stage, last) = after_a_peak(4 * 256 * 32 + 1);
    let (rows, list) = channel();
    stage.order(Command::Connections(rows));
    stage.order(Command::Pause(Target::All));
    for turn in 1..=5 {
        assert!(!is_paused(&stage.reactor.slots[last]), "in turn {turn}");
        let listed = list.try_iter().flatten().count();
        assert_eq!(listed, 0, "in turn {turn}");
        stage.turn();
        assert_eq!(stage.reactor.bulk.is_some(), turn < 5);
    }
    assert!(is_paused(&stage.reactor.slots[last]));
    while stage.reactor.sleeps() == Some(Duration::ZERO) {
        stage.turn();
    }
    let listed: Vec<_> = list.try_iter().flatten().collect();
    assert_eq!(listed.len(), 1);
    assert_eq!(list.try_recv().unwrap_err(), TryRecvError::Disconnected);

    stage.reactor.begin_drain(Duration::from_secs(10));
    for turn in 1..=5 {
        assert_eq!(stage.reactor.slots[last].conn.reason(), None);
        stage.turn();
        assert_eq!(stage.reactor.phase.is_busy(), turn < 5);
    }
    let reason = stage.reactor.slots[last].conn.reason();
    assert_eq!(reason, Some(CloseReason::Shutdown));
}

/// Two consumers, so many connections, and one of the consumers is dropped: a stage, those who were its, and
/// the others.
fn losing_one(connections: usize) -> (Stage, Vec<u32>, Vec<u32>) {
    let mut stage = Stage::new(CLOCKS, 1 << 20, EAGAIN);
    stage.reactor.reroute = true;
    stage.connect(connections);
    let all = stage.reactor.slots.all();
    let is_lost = |key: &u32| stage.reactor.slots[*key].consumer == 1;
    let (lost, others) = all.into_iter().partition(is_lost);
    stage.ends.truncate(1);
    (stage, lost, others)
}

/// Who ended, one after the other, for this reason.
fn ended(stage: &Stage, reason: CloseReason) -> Vec<u32> {
    let closed = stage.reactor.closed.iter();
    let closed = closed.filter(|closed| closed.reason == reason);
    closed.map(|closed| closed.id.slot()).collect()
}

#[test]
fn those_whose_consumer_is_gone_end_a_few_at_a_time_and_are_not_read_any_more() {
    let (mut stage, lost, others) = losing_one(600);
    let position = stage.reactor.lanes[1].producer.position();
    // Some say something in the turn in which it is found, and one of them half a message.
    let waiting = &lost[200..];
    waiting.iter().for_each(|key| stage.put(*key, b"line\n"));
    stage.turn();
    let (mut so_far, mut turns) = (32, 0);
    assert_eq!(ended(&stage, CloseReason::ConsumerGone).len(), so_far);
    // One finishes before its turn, having said nothing.
    stage.fin(lost[199]);
    while stage.reactor.lanes[1].connections > 0 {
        stage.send(others[0], b"read meanwhile\n");
        stage.at(turns / 2);
        stage.turn();
        let now = ended(&stage, CloseReason::ConsumerGone).len();
        assert!(now - so_far <= 32, "{} in one turn", now - so_far);
        so_far = now;
        let patience = stage.reactor.sleeps();
        let is_over = stage.reactor.lanes[1].connections == 0;
        assert!(is_over || patience.is_some_and(|time| time <= TICK));
        turns += 1;
        assert!(turns < 100, "no end");
    }
    let ended_by = |reason| ended(&stage, reason);
    assert_eq!(ended_by(CloseReason::Eof), [lost[199]]);
    let in_order = [waiting, &lost[..199]].concat();
    assert_eq!(ended_by(CloseReason::ConsumerGone), in_order);
    let counters = &stage.reactor.counters;
    assert_eq!(counters.unread.read(), 5 * waiting.len() as u64);
    assert_eq!(stage.reactor.lanes[1].producer.position(), position);
    assert_eq!(stage.reactor.lanes[0].connections, others.len());
    assert!(!stage.reactor.lanes[1].is_blocked(), "nobody is held up");
    assert_eq!(stage.reactor.sleeps(), None);
}

/// Ticks wrap after 397 days, and generations after four thousand million connections.
#[test]
fn who_has_been_there_for_very_long_ends_with_its_consumer_and_obeys_orders() {
    let (mut stage, lost, others) = losing_one(200);
    for tick in 2..12 {
        stage.at((1 << 31) + tick);
        stage.turn();
    }
    assert_eq!(ended(&stage, CloseReason::ConsumerGone).len(), lost.len());
    let last = stage.reactor.slots.generation();
    for (key, ago) in others.iter().zip([1 << 31, u32::MAX - 300]) {
        stage.reactor.slots[*key].generation = last.wrapping_sub(ago);
    }
    stage.order(Command::Pause(Target::All));
    stage.turn();
    assert_eq!(count(&stage, &others, is_paused), others.len());
}

#[test]
fn who_comes_while_those_of_a_lost_consumer_end_is_bound_to_one_that_is_there() {
    let (mut stage, lost, others) = losing_one(600);
    let mut came = 0;
    for tick in 1..40 {
        stage.script.accepts.set(4);
        stage.edge(Token(0));
        stage.at(tick);
        stage.turn();
        came += 4;
    }
    assert_eq!(ended(&stage, CloseReason::ConsumerGone).len(), lost.len());
    assert_eq!(stage.reactor.lanes[0].connections, others.len() + came);
}

#[test]
fn a_drain_ends_what_is_left_of_a_lost_consumers_connections_in_its_time() {
    let (mut stage, lost, others) = losing_one(600);
    stage.turn();
    assert_eq!(stage.reactor.lanes[1].connections, lost.len() - 32);
    for key in lost[32..].iter().chain(&others) {
        stage.put(*key, b"never read\n");
    }
    stage.reactor.begin_drain(TICK * 2);
    stage.at(2);
    assert_eq!(stage.reactor.turn(None).unwrap(), Turn::Ended);
    assert_eq!(stage.reactor.slots.len(), 0);
}

#[test]
fn where_nobody_takes_over_all_end_at_once() {
    for (reroute, both) in [(false, false), (true, true)] {
        let (mut stage, lost, _) = losing_one(200);
        stage.reactor.reroute = reroute;
        if both {
            stage.ends.clear();
        }
        let _ = stage.reactor.turn(None);
        let gone = ended(&stage, CloseReason::ConsumerGone).len();
        assert_eq!(gone, if both { 200 } else { lost.len() });
    }
}

#[test]
fn who_is_evicted_is_read_to_its_end_however_much_it_has_to_say() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.connect(1);
    stage.send(0, b"one\n");
    stage.reactor.begin_close(0, CloseReason::Idle);
    // More than is read at once, and in a turn.
    let much = 20 * stage.reactor.scratch.len();
    stage.put(0, &vec![b'x'; much]);
    let discarded = |stage: &Stage| stage.reactor.slots[0].conn.books().discarded as usize;
    while discarded(&stage) < much {
        let before = discarded(&stage);
        stage.turn();
        let read = discarded(&stage) - before;
        let most = stage.reactor.budgets.bytes;
        assert!((1..most + LARGEST_READ).contains(&read), "{read}");
        let is_over = discarded(&stage) == much;
        assert!(is_over || stage.reactor.sleeps() == Some(Duration::ZERO));
    }
    stage.turn();
    assert_eq!(stage.reactor.sleeps(), Some(TICK * 250));
    let books = stage.reactor.slots[0].conn.books();
    assert_eq!((books.published, books.discarded), (4, much as u64));
}

/// Nobody who is read only to be closed gets more of a turn than all who send to one ring, or a second read
/// before the others had one.
#[test]
fn those_who_are_evicted_take_turns_within_the_budgets_of_a_ring() {
    const MANY: usize = 100;
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    let reads = 10;
    stage.reactor.budgets.reads = reads;
    stage.connect(MANY);
    let all = stage.reactor.slots.all();
    for key in &all {
        stage.reactor.begin_close(*key, CloseReason::Idle);
    }
    // Until their first read finds nothing.
    while stage.reactor.sleeps() == Some(Duration::ZERO) {
        stage.turn();
    }
    all.iter()
        .for_each(|key| stage.put(*key, &vec![b'x'; 2 * LARGEST_READ]));
    let discarded = |stage: &Stage| {
        let books = all.iter().map(|key| stage.reactor.slots[*key].conn.books());
        books.map(|books| books.discarded).collect::<Vec<_>>()
    };
    for (bytes, in_a_turn) in [(usize::MAX, reads), (LARGEST_READ + 1, 2)] {
        stage.reactor.budgets.bytes = bytes;
        let before = discarded(&stage);
        for turn in 1..=MANY / in_a_turn {
            stage.turn();
            let now = discarded(&stage);
            let read: Vec<_> = now
                .iter()
                .zip(&before)
                .map(|(now, then)| now - then)
                .collect();
            assert!(
                read.iter()
                    .all(|bytes| [0, LARGEST_READ].contains(&(*bytes as usize)))
            );
            let many = read.iter().filter(|bytes| **bytes > 0).count();
            assert_eq!(many, turn * in_a_turn);
        }
    }
}

/// The read that goes beyond the budget is the last of its ring in this turn, into the ring or into nothing.
#[test]
fn a_ring_has_so_many_bytes_of_a_turn() {
    for is_full in [false, true] {
        let mut stage = Stage::new(CLOCKS, 1 << 20, EAGAIN);
        stage.connect(8);
        let of_first = [0, 2, 4, 6];
        if is_full {
            stage.send(0, &b"0123456789abcde\n".repeat(33 << 6));
            stage.reactor.lanes[0].discards = true;
            assert!(stage.reactor.block_lane(0));
        }
        stage.reactor.budgets.bytes = 150;
        let line = [b"x".repeat(99).as_slice(), b"\n"].concat();
        of_first.iter().for_each(|key| stage.put(*key, &line));
        for read in [2, 4] {
            stage.turn();
            let unread = stage.script.bytes.borrow();
            let many = of_first
                .iter()
                .filter(|key| unread[**key as usize].is_empty());
            assert_eq!(many.count(), read, "full: {is_full}");
        }
    }
}

#[test]
fn of_two_drains_the_sooner_one_holds() {
    for (first, second) in [(10, 1), (1, 10)] {
        let mut stage = Stage::new(CLOCKS, 1 << 20, EAGAIN);
        stage.connect(1);
        for within in [first, second] {
            stage.reactor.begin_drain(TICK * SECOND * within);
        }
        stage.at(SECOND - 1);
        stage.turn();
        assert_eq!(stage.reactor.slots.len(), 1);
        stage.at(SECOND + 1);
        assert_eq!(stage.reactor.turn(None).unwrap(), Turn::Ended);
    }
}

#[test]
fn somebody_makes_room_however_many_wait_behind_a_full_ring() {
    const INSIDE: u32 = 80;
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.reactor.at_limit = AtLimit::Evict;
    stage.reactor.admission = Arc::new(Admission::new(INSIDE as usize, [None].into_iter()));
    stage.connect(INSIDE as usize);
    // Those of the first ring have been at rest the longest, and could not say that they leave.
    for key in (2..INSIDE).step_by(2).chain((1..INSIDE).step_by(2)) {
        stage.send(key, b"here\n");
    }
    stage.put(0, &b"0123456789abcde\n".repeat(6000));
    while !stage.reactor.lanes[0].is_blocked() {
        stage.turn();
    }
    stage.at(2 * SECOND);
    stage.script.accepts.set(3);
    stage.edge(Token(0));
    (0..10).for_each(|_| stage.turn());
    assert_eq!(stage.script.accepts.get(), 0, "still wait");
    let evicted = stage
        .reactor
        .counters
        .closed
        .read()
        .count(CloseReason::Evicted);
    assert_eq!(evicted, 3);
    assert!(stage.reactor.lanes[0].is_blocked());
    assert_eq!(stage.reactor.lanes[0].connections, INSIDE as usize / 2);
}
