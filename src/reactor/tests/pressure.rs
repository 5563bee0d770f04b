//! Listeners under pressure, as one reactor of several sees it.

use std::sync::mpsc::Sender;

use super::*;
use crate::reactor::pressure::Reopened;

/// Returns where it is given listeners that were opened again.
fn gate(stage: &mut Stage, first: bool, closes: bool) -> Sender<Reopened<()>> {
    let (sender, receiver) = channel();
    let opened = (Arc::from([sender.clone()]), receiver);
    stage.reactor.gate = Some(Gate::new(first, Duration::ZERO, closes, opened));
    sender
}

/// What the first reactor says, one after the other, before this one looks.
fn are_shut(stage: &mut Stage, shuts: &[bool]) {
    for shut in shuts {
        stage.reactor.together.set_shut(*shut);
    }
}

/// Its state after a look, and whether it has a socket.
fn look(stage: &mut Stage) -> (&'static str, bool) {
    stage.reactor.watch_pressure();
    let listening = &stage.reactor.listeners[0];
    (listening.machine.label(), listening.socket.is_some())
}

const SHUT: (&str, bool) = ("pressure", false);

#[test]
fn who_slept_while_listeners_were_shut_and_opened_gives_its_socket_up_all_the_same() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    let opened = gate(&mut stage, false, true);
    let reopen = |stage: &Stage| {
        let at = stage.reactor.together.shuts();
        opened.send(Reopened::new(0, (), at)).unwrap();
    };
    are_shut(&mut stage, &[true, false, true, false]);
    assert_eq!(look(&mut stage), SHUT, "the first one can bind");
    reopen(&stage);
    assert_eq!(look(&mut stage), ("ready", true));
    are_shut(&mut stage, &[true]);
    assert_eq!(look(&mut stage), SHUT);
    // Opened and shut again, and once more: what was opened in between is nobody's.
    are_shut(&mut stage, &[false]);
    reopen(&stage);
    are_shut(&mut stage, &[true]);
    assert_eq!(look(&mut stage), SHUT);
    are_shut(&mut stage, &[false]);
    reopen(&stage);
    are_shut(&mut stage, &[true, false]);
    assert_eq!(look(&mut stage), SHUT);
    reopen(&stage);
    assert_eq!(look(&mut stage), ("ready", true));
}

#[test]
fn the_rings_of_a_reactor_that_was_dropped_press_nobody() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.connect(3);
    let (together, admission) = (
        stage.reactor.together.clone(),
        stage.reactor.admission.clone(),
    );
    (0..2).for_each(|consumer| together.set_full(0, consumer, true));
    // It was the one to say when listeners are shut, and has.
    gate(&mut stage, true, false);
    together.set_shut(true);
    assert!(together.presses());
    drop(stage);
    assert!(!together.presses() && !together.shuts().is_shut());
    assert_eq!(admission.connect(), 1, "nobody else is connected");
}
