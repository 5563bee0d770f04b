//! When a consumer that sleeps is woken.

use super::*;

#[test]
fn a_consumer_is_not_woken_for_what_is_only_skipped() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    stage.connect(1);
    stage.send(0, &[b'x'; 2000]);
    let woken = Arc::new(Woken::default());
    stage.reactor.lanes[0].parked.prepare(woken.clone().into());
    stage.send(0, &[b'x'; 2000]);
    assert!(!woken.0.load(Ordering::Relaxed));
    // Not to be told the time, either.
    stage.at(10);
    stage.send(0, &[b'x'; 2000]);
    assert!(!woken.0.load(Ordering::Relaxed));
    let books = stage.reactor.slots[0].conn.books();
    assert_eq!((books.published, books.discarded), (1024, 4976));
    stage.send(0, b"\na line\n");
    assert!(woken.0.load(Ordering::Relaxed));
}

/// Three have something to say to the first consumer, which sleeps, and each turn reads one of them: a stage, and
/// whether it was woken.
fn sleeping(runs: bool) -> (Stage, Arc<Woken>) {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    if runs {
        stage.reactor.run_on();
    }
    stage.reactor.budgets.reads = 1;
    stage.connect(5);
    for key in [0, 2, 4] {
        stage.put(key, b"line\n");
    }
    let woken = Arc::new(Woken::default());
    stage.reactor.lanes[0].parked.prepare(woken.clone().into());
    (stage, woken)
}

#[test]
fn a_consumer_sleeps_on_while_more_is_read_at_once() {
    let turns_until_woken = |stage: &mut Stage, woken: &Woken| {
        let mut turns = 0;
        while !woken.0.load(Ordering::Relaxed) {
            assert!(turns == 0 || stage.reactor.sleeps() == Some(Duration::ZERO));
            stage.turn();
            turns += 1;
        }
        turns
    };
    let (mut stage, woken) = sleeping(true);
    assert_eq!(turns_until_woken(&mut stage, &woken), 3, "all is read");

    let (mut stage, woken) = sleeping(true);
    stage.turn();
    stage.script.time.set(Duration::from_micros(500));
    assert_eq!(turns_until_woken(&mut stage, &woken), 1, "long enough");

    let (mut stage, woken) = sleeping(true);
    stage.put(0, &b"0123456789abcde\n".repeat(1024));
    assert_eq!(turns_until_woken(&mut stage, &woken), 1, "enough");

    let (mut stage, woken) = sleeping(true);
    stage.turn();
    stage.reactor.begin_drain(Duration::from_secs(1));
    assert_eq!(turns_until_woken(&mut stage, &woken), 1, "it ends");

    let (mut stage, woken) = sleeping(true);
    stage.script.read_takes.set(Duration::from_micros(500));
    assert_eq!(turns_until_woken(&mut stage, &woken), 1, "in a long turn");

    let (mut stage, woken) = sleeping(true);
    stage.reactor.lanes[0].discards = true;
    assert_eq!(
        turns_until_woken(&mut stage, &woken),
        1,
        "else some is lost"
    );

    // Whoever turns it may have something else to do before the next one.
    let (mut stage, woken) = sleeping(false);
    assert_eq!(turns_until_woken(&mut stage, &woken), 1);
}
