//! When turns begin that are to begin apart.

use std::time::Duration;

use super::super::{Coalesce, Spacing, Turn};
use super::stage::{CLOCKS, EAGAIN, Stage};

#[test]
fn turns_begin_apart_unless_there_is_something_to_do() {
    let apart = Duration::from_micros(200);
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.reactor.spacing = Spacing::new(Coalesce::Apart(apart));
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
