//! When turns begin that are to begin apart.

use std::time::Duration;

use super::super::Turn;
use super::stage::{CLOCKS, EAGAIN, Stage};
use crate::policy::{Coalesce, Spacing};

#[test]
fn turns_begin_apart_unless_there_is_something_to_do() {
    let apart = Duration::from_micros(200);
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.reactor.spacing = Spacing::new(Coalesce::Apart(apart), u64::MAX);
    let time = |stage: &Stage| stage.script.time.get();
    let began = time(&stage);
    stage.connect(1);
    assert_eq!(time(&stage), began + apart);
    // Somebody who came after a pause.
    stage.script.time.set(began + 10 * apart);
    stage.turn();
    assert_eq!(time(&stage), began + 10 * apart, "is read at once");
    stage.turn();
    assert_eq!(time(&stage), began + 11 * apart);
    // A turn that took a while is followed by the next at once.
    stage.script.read_takes.set(3 * apart);
    stage.send(0, b"a line\n");
    let before = time(&stage);
    stage.script.read_takes.set(Duration::ZERO);
    stage.turn();
    assert_eq!(time(&stage), before);
    // Whoever turns it in a loop of their own never waits for longer than they said.
    let most = Duration::from_micros(50);
    assert_eq!(stage.reactor.turn(Some(most)).unwrap(), Turn::Running);
    assert_eq!(time(&stage), before + most);
    assert_eq!(
        stage.reactor.turn(Some(Duration::ZERO)).unwrap(),
        Turn::Running
    );
    assert_eq!(time(&stage), before + most);
    // What is slept is not waited for once more.
    stage.script.timeouts.borrow_mut().clear();
    for at_most in [3 * most, 10 * apart] {
        let turn = stage.reactor.turn(Some(at_most)).unwrap();
        assert_eq!(turn, Turn::Running);
    }
    assert_eq!(time(&stage), before + 4 * most + apart);
    let waits = stage.script.timeouts.borrow();
    assert_eq!(*waits, [Some(Duration::ZERO), Some(9 * apart)]);
}

/// By themselves. So many bytes come of a connection, 40 times in no time, and 10 ms later 40 times more: how far
/// apart do turns begin then?
fn by_themselves(bytes: usize, most: usize) -> Duration {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.reactor.spacing = Spacing::new(Coalesce::Auto, most as u64);
    stage.connect(1);
    let line = [b"x".repeat(15).as_slice(), b"\n"].concat();
    for turn in 0..80 {
        if turn == 40 {
            let time = stage.script.time.get();
            stage.script.time.set(time + Duration::from_millis(10));
        }
        stage.send(0, &line.repeat(bytes / 16));
        stage.take(0);
        stage.take(0);
    }
    // From the last turn to that before it, and not what was slept before.
    let before = stage.script.time.get();
    stage.turn();
    stage.script.time.get() - before
}

#[test]
fn turns_begin_apart_where_much_of_little_comes() {
    let auto = Duration::from_micros(100);
    assert_eq!(by_themselves(16, 1 << 20), auto);
    assert_eq!(by_themselves(32 << 10, 1 << 20), auto);
    let none = Duration::ZERO;
    assert_eq!(by_themselves(34 << 10, 1 << 20), none, "of much");
    let little = by_themselves(1024, 1000);
    assert!(
        little < auto / 100,
        "more than there is room for: {little:?}"
    );
}

#[test]
fn nobody_naps_who_may_have_room_at_any_moment() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.connect(3);
    stage.fill();
    stage.reactor.spacing = Spacing::new(Coalesce::Apart(Duration::from_millis(1)), u64::MAX);
    let before = stage.script.time.get();
    stage.turns();
    assert_eq!(stage.script.time.get(), before);
    stage.take(0);
    stage.turns();
    stage.turn();
    assert!(stage.script.time.get() > before);
}
