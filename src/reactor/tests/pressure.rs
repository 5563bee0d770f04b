//! Listeners under pressure, as one reactor of several sees it.

use std::sync::mpsc::Sender;

use super::*;

/// Returns where it is given listeners that were opened again.
fn gate(stage: &mut Stage, first: bool, closes: bool) -> Sender<(usize, ())> {
    let (sender, receiver) = channel();
    let opened = (Arc::from([sender.clone()]), receiver);
    stage.reactor.gate = Some(Gate::new(first, Duration::ZERO, closes, opened));
    sender
}

#[test]
fn who_slept_while_listeners_were_shut_and_opened_gives_its_socket_up_all_the_same() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    let opened = gate(&mut stage, false, true);
    let state = |stage: &Stage| {
        let listening = &stage.reactor.listeners[0];
        (listening.machine.label(), listening.socket.is_some())
    };
    for shut in [true, false, true, false] {
        stage.reactor.together.set_shut(shut);
    }
    stage.reactor.watch_pressure();
    assert_eq!(state(&stage), ("pressure", false), "the first one can bind");
    opened.send((0, ())).unwrap();
    stage.reactor.watch_pressure();
    assert_eq!(state(&stage), ("ready", true));
    // And who was shut all the time is so still.
    for shut in [true, false, true] {
        stage.reactor.together.set_shut(shut);
        stage.reactor.watch_pressure();
    }
    assert_eq!(state(&stage), ("pressure", false));
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
