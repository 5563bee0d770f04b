//! The ring against brute force, a model, and itself on two threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::model::{self, Ending, Op};
use super::record::{self, HEADER, Header, Kind, Walk};
use super::{End, Parked, Producer, RingConsumer, Wake, ring};

#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn new(capacity: usize) -> (Producer, RingConsumer, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let (producer, consumer) = ring(capacity, counts.clone(), Arc::new(Parked::new())).unwrap();
    (producer, consumer, counts)
}

fn publish(producer: &mut Producer, payload: usize) -> bool {
    let len = record::record_len(payload);
    let Some(mut claim) = producer.claim(len, len) else {
        return false;
    };
    record::write_header(claim.bytes(), Header::data(7, 0, payload));
    claim.commit(len, payload as u64);
    true
}

/// Releases everything that is contiguous.
fn release_run(consumer: &mut RingConsumer) {
    let run = consumer.readable();
    let position = consumer.released() + run.len() as u64;
    let payload = Walk::new(run)
        .filter(|(_, header, _)| header.kind == Kind::Data)
        .map(|(_, header, _)| u64::from(header.len))
        .sum();
    consumer.release(position, 0, payload);
}

/// A ring whose write position is `at` of its capacity, with `occupied` bytes in it.
fn standing(capacity: usize, at: usize, occupied: usize) -> Option<(Producer, RingConsumer)> {
    let (mut producer, mut consumer, _) = new(capacity);
    let target = (capacity + at) as u64;
    while producer.position() < target {
        if !publish(&mut producer, 0) {
            return None;
        }
        if producer.position() <= target - occupied as u64 {
            release_run(&mut consumer);
        }
    }
    Some((producer, consumer))
}

#[test]
fn below_the_low_mark_any_legal_claim_fits_wherever_the_wrap_stands() {
    let capacity = 256;
    let mut tried = 0;
    for low in (0..capacity).step_by(HEADER) {
        let most = ((capacity - low) / 2) & !(HEADER - 1);
        for at in (0..capacity).step_by(HEADER) {
            for occupied in (0..=low).step_by(HEADER) {
                for min in (HEADER..=most).step_by(HEADER) {
                    let (mut producer, _consumer) = standing(capacity, at, occupied).unwrap();
                    assert_eq!(producer.occupied(), occupied);
                    let claim = producer.claim(min, min);
                    assert!(
                        claim.is_some(),
                        "low {low} at {at} occupied {occupied} min {min}"
                    );
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 1000);
}

#[test]
fn a_claim_is_as_long_as_it_says_and_is_read_back_contiguous() {
    let capacity = 256;
    for at in (0..capacity).step_by(HEADER) {
        for occupied in (0..=capacity).step_by(HEADER) {
            for min in (HEADER..=capacity).step_by(HEADER) {
                for want in [min, min + 32, capacity] {
                    let (mut producer, mut consumer) = standing(capacity, at, occupied).unwrap();
                    let before = producer.position();
                    let Some(mut claim) = producer.claim(min, want) else {
                        continue;
                    };
                    let len = claim.len();
                    assert!(len >= min && len <= want.max(min) && len % HEADER == 0);
                    assert_eq!(claim.bytes().len(), len);
                    record::write_header(claim.bytes(), Header::data(9, 0, len - HEADER));
                    claim.bytes()[HEADER..].fill(0xa5);
                    claim.commit(len, (len - HEADER) as u64);
                    let padding = producer.position() - before - len as u64;
                    assert!(padding == 0 || before + padding == 2 * capacity as u64);
                    let mut last = None;
                    while !consumer.is_empty() {
                        for (_, header, payload) in Walk::new(consumer.readable()) {
                            last = Some((header.id, payload.iter().all(|b| *b == 0xa5)));
                        }
                        release_run(&mut consumer);
                    }
                    assert_eq!(last, Some((9, true)));
                    assert_eq!(producer.occupied(), 0);
                }
            }
        }
    }
}

#[test]
fn a_small_rest_before_the_wrap_becomes_padding_and_a_large_one_does_not() {
    // 16 before the wrap, 496 behind it: less than a sixteenth.
    let (mut producer, _consumer) = standing(512, 496, 0).unwrap();
    let mut claim = producer.claim(16, 64).unwrap();
    assert_eq!(claim.len(), 64);
    record::write_header(claim.bytes(), Header::data(1, 0, 0));
    claim.commit(16, 0);
    assert_eq!(producer.position(), 512 + 496 + 16 + 16);
    // 32 before, 480 behind: a smaller read is better than 32 bytes lost.
    let (mut producer, _consumer) = standing(512, 480, 0).unwrap();
    assert_eq!(producer.claim(16, 64).unwrap().len(), 32);
}

#[test]
fn an_empty_ring_starts_over_and_what_is_skipped_takes_no_room_from_anybody_who_looks() {
    let (mut producer, mut consumer, _) = new(1024);
    producer.start_over_from(256);
    let seen = producer.observer();
    let mut publish_to = |len| {
        assert!(publish(&mut producer, len - HEADER));
        (producer.position(), producer.occupied(), seen.occupied())
    };
    assert_eq!(publish_to(240), (240, 240, 240));
    release_run(&mut consumer);
    assert_eq!(publish_to(16), (256, 16, 16), "not yet");
    assert_eq!(publish_to(16), (272, 32, 32), "it is not empty");
    release_run(&mut consumer);
    assert_eq!(publish_to(256), (1024 + 256, 256, 256));
    assert_eq!(
        publish_to(16),
        (1024 + 272, 272, 272),
        "up to the old place"
    );
    assert!(!publish(&mut producer, 0), "before the padding is passed");
    release_run(&mut consumer);
    assert_eq!(consumer.released(), 1024, "which is looked at by itself");
    assert!(publish(&mut producer, 0));
    release_run(&mut consumer);
    assert_eq!((producer.occupied(), seen.occupied()), (0, 0));
    // More than what was written: there it would not fit.
    let want = 512;
    assert_eq!(producer.claim(16, want).unwrap().len(), want);
    producer.claim(16, want).unwrap().commit(0, 0);
    assert!(publish(&mut producer, 512 - HEADER));
    assert_eq!(producer.position(), 1024 + 288 + 512);
}

/// Publishes records of 64 bytes until there is no room; how many were published.
fn fill(producer: &mut Producer) -> usize {
    (0..).take_while(|_| publish(producer, 64 - HEADER)).count()
}

fn release_all(consumer: &mut RingConsumer) {
    while !consumer.is_empty() {
        release_run(consumer);
    }
}

#[test]
fn a_consumer_that_is_away_for_a_while_each_time_has_the_whole_ring_nearly_always() {
    let (mut producer, mut consumer, _) = new(4096);
    producer.start_over_from(512);
    // It has kept up so far.
    for _ in 0..5 {
        publish(&mut producer, 112 - HEADER);
        release_all(&mut consumer);
    }
    let mut cut_short = |times: usize| {
        let fills = (0..times).map(|_| {
            let count = fill(&mut producer);
            release_all(&mut consumer);
            count
        });
        fills.filter(|count| *count < 4096 / 112 - 2).count()
    };
    // After 1, 2, 4 laps and so on, and at last once in 256.
    assert_eq!(cut_short(1000), 11);
    assert!(cut_short(2560) <= 11);
}

#[test]
fn a_ring_that_was_left_alone_stays_small_again_for_a_consumer_that_keeps_up() {
    let (mut producer, mut consumer, _) = new(4096);
    producer.start_over_from(512);
    for _ in 0..3 {
        fill(&mut producer);
        release_all(&mut consumer);
    }
    // The laps for which it is left alone are over after these.
    let mut furthest = |records: usize| {
        let places = (0..records).map(|_| {
            assert!(publish(&mut producer, 64 - HEADER));
            release_all(&mut consumer);
            (producer.position() - 1) % 4096
        });
        places.max().unwrap()
    };
    furthest(1000);
    assert!(furthest(1000) < 512 + 64);
}

#[test]
fn an_aborted_claim_leaves_nothing_not_even_padding() {
    let (mut producer, consumer) = standing(256, 240, 0).unwrap();
    let before = producer.position();
    drop(producer.claim(64, 64).unwrap());
    producer.claim(64, 64).unwrap().commit(0, 0);
    assert_eq!(producer.position(), before);
    assert!(consumer.is_empty());
}

#[test]
#[should_panic(expected = "48 bytes committed of 32")]
fn more_than_was_claimed_cannot_be_committed() {
    let (mut producer, _consumer, _) = new(64);
    producer.claim(32, 32).unwrap().commit(48, 0);
}

#[test]
#[should_panic(expected = "no whole records")]
fn a_part_of_a_record_cannot_be_committed() {
    let (mut producer, _consumer, _) = new(64);
    producer.claim(32, 32).unwrap().commit(17, 1);
}

#[test]
fn a_reactor_is_woken_once_and_only_at_its_mark() {
    let (mut producer, mut consumer, counts) = new(64);
    for _ in 0..4 {
        assert!(publish(&mut producer, 0));
    }
    assert!(!publish(&mut producer, 0), "it is full");
    assert!(!producer.wait_for(32));
    let woken = || counts.0.load(Ordering::Relaxed);
    consumer.release(16, 0, 0);
    assert_eq!(woken(), 0);
    consumer.release(32, 0, 0);
    assert_eq!(woken(), 1);
    consumer.release(48, 0, 0);
    assert_eq!(woken(), 1);
    assert!(producer.wait_for(48), "it has been released already");
    consumer.release(64, 0, 0);
    assert_eq!(woken(), 1);
}

/// The consumer has released up to 16 and seen that 16 is waited for; before it takes that, the reactor
/// comes round for another reason, fills the ring again and sleeps on a later target.
#[test]
fn a_target_that_was_replaced_is_not_taken_for_the_one_that_was_reached() {
    let (mut producer, mut consumer, counts) = new(64);
    for _ in 0..4 {
        assert!(publish(&mut producer, 0));
    }
    assert!(!producer.wait_for(16));
    producer.clear_wait();
    assert!(!producer.wait_for(48));
    assert!(!consumer.take_wait(16), "somebody else's wait");
    consumer.release(48, 0, 0);
    assert_eq!(counts.0.load(Ordering::Relaxed), 1, "and it is woken");
}

fn balances(seen: &super::RingObserver) -> bool {
    seen.published() == seen.delivered() + seen.abandoned()
}

#[test]
fn a_dropped_consumer_leaves_its_estate_and_the_books_balance() {
    let (mut producer, mut consumer, counts) = new(256);
    let seen = producer.observer();
    publish(&mut producer, 10);
    publish(&mut producer, 20);
    // The first record, and 5 bytes of the second.
    consumer.release(32, 5, 15);
    assert!(producer.take_estate().is_none());
    drop(consumer);
    assert_eq!(counts.0.load(Ordering::Relaxed), 1);
    assert!(producer.is_consumer_gone());
    let mut estate = producer.take_estate().unwrap();
    assert!(producer.take_estate().is_none());
    assert_eq!(estate.abandon_rest(), 15);
    assert_eq!(estate.abandon_rest(), 0);
    publish(&mut producer, 3);
    drop(estate);
    assert_eq!((seen.delivered(), seen.abandoned()), (15, 18));
    assert!(balances(&seen) && !seen.is_unwalked());
}

#[test]
fn whoever_is_dropped_last_does_the_books() {
    for consumer_first in [true, false] {
        let (mut producer, consumer, _) = new(256);
        let seen = producer.observer();
        publish(&mut producer, 10);
        if consumer_first {
            drop(consumer);
            drop(producer);
        } else {
            drop(producer);
            assert_eq!(consumer.end(), Some(End::ReactorGone));
            assert_eq!(seen.abandoned(), 0, "it can still be read");
            drop(consumer);
        }
        assert!(balances(&seen));
    }
}

#[test]
fn what_a_hung_consumer_holds_is_abandoned_unwalked_and_once() {
    let (mut producer, consumer, _) = new(256);
    let seen = producer.observer();
    publish(&mut producer, 10);
    assert_eq!(producer.abandon_unreleased(), 10);
    assert_eq!(producer.abandon_unreleased(), 0);
    drop(consumer);
    drop(producer);
    assert!(balances(&seen) && seen.is_unwalked());
}

/// It may be dropped while a panic unwinds: no second one, and books that balance.
#[test]
fn what_is_no_record_is_abandoned_unwalked() {
    let (mut producer, consumer, _) = new(256);
    let seen = producer.observer();
    publish(&mut producer, 10);
    let mut claim = producer.claim(32, 32).unwrap();
    claim.bytes().fill(0);
    claim.commit(32, 7);
    drop(consumer);
    drop(producer);
    assert!(seen.is_unwalked());
    assert_eq!((seen.published(), seen.abandoned()), (17, 17));
}

#[test]
fn what_is_released_after_the_time_was_up_is_delivered_and_not_lost_as_well() {
    let (mut producer, mut consumer, _) = new(256);
    let seen = producer.observer();
    publish(&mut producer, 10);
    publish(&mut producer, 20);
    assert_eq!(producer.abandon_unreleased(), 30);
    consumer.release(32, 0, 10);
    assert_eq!((seen.delivered(), seen.abandoned()), (10, 20));
    drop(consumer);
    drop(producer);
    assert_eq!((seen.delivered(), seen.abandoned()), (10, 20));
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let kinds = prop::sample::select(vec![
        Kind::Data,
        Kind::Data,
        Kind::Data,
        Kind::Time,
        Kind::Gap,
    ]);
    let records = proptest::collection::vec((kinds, 0usize..60), 0..4);
    let op = prop_oneof![
        4 => (records, 0usize..200, 0usize..5)
            .prop_map(|(records, more, commit)| Op::Publish { records, more, commit }),
        4 => (0usize..5, 0usize..60).prop_map(|(records, taken)| Op::Release { records, taken }),
        1 => (0usize..400).prop_map(Op::Wait),
        1 => Just(Op::ClearWait),
    ];
    proptest::collection::vec(op, 1..200)
}

proptest! {
    #[test]
    fn a_ring_is_a_queue(
        ops in ops(),
        ending in prop::sample::select(vec![
            Ending::ConsumerDropped, Ending::ProducerDropped, Ending::Stopped, Ending::Hung,
        ]),
        start_over in prop::option::of(0usize..300),
    ) {
        model::check(256, start_over, &ops, ending);
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// Both sides sleep on the other in a ring that is far too small, and nobody is left asleep.
#[test]
fn a_hundred_thousand_records_pass_between_two_sleepers() {
    const RECORDS: u64 = if cfg!(miri) { 200 } else { 100_000 };
    let parked = Arc::new(Parked::new());
    let wake = Arc::new(Unpark(thread::current()));
    let (mut producer, consumer) = ring(1024, wake, Arc::clone(&parked)).unwrap();
    let seen = producer.observer();
    let mut consumer =
        crate::Consumer::new(0, vec![consumer], Arc::clone(&parked), Arc::new([]), 128, 1);
    let reader = thread::spawn(move || {
        let mut records = 0;
        loop {
            match consumer.wait() {
                Ok(batch) => {
                    records += batch.records().count() as u64;
                    batch.release();
                }
                Err(ended) => return (records, ended),
            }
        }
    });
    let opened = record::Opened {
        peer: crate::Peer::Unix { pid: 1, uid: 1 },
        listener: 0,
        framing: 0,
    };
    let mut claim = producer.claim(64, 64).unwrap();
    let len = opened.write(7, claim.bytes());
    claim.commit(len, 0);
    for turn in 0..RECORDS {
        while !publish(&mut producer, 30) {
            Parked::notify_each([&*parked]);
            let low = producer.position() - 512;
            while !producer.wait_for(low) {
                thread::park();
            }
        }
        if turn % 7 == 0 {
            Parked::notify_each([&*parked]);
        }
    }
    producer.finish(End::Drained);
    drop(producer);
    assert_eq!(reader.join().unwrap(), (RECORDS + 1, crate::Ended::Drained));
    assert_eq!(seen.delivered(), RECORDS * 30);
    assert!(balances(&seen));
}
