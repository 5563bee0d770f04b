//! Waking and ending under every interleaving and every stale read that the memory model allows, up to
//! a number of preemptions.
//!
//! In: this room's code, as it runs; loom's atomics in place of the standard ones (`sync.rs`).
//! Out: a deadlock where a wake is lost, a failed assertion where a record or a book is.
//! Never here: ringbuf's indices. They are no atomics of loom's, so every thread sees their newest
//! value; where an older one matters, a position of the model's own stands beside them. The bytes of
//! the ring are ThreadSanitizer's.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --lib --release ring::models -- --nocapture
//! ```
//!
//! Each model names what was weakened by hand to see it fail. What no model sees: an order that only
//! lets a lock be found free (`gone`, and `parked` in `prepare`), for loom's lock is free for all
//! at once; and `notify` without its swap, which would cost a second look at the lock and lose nothing.

use std::sync::atomic::AtomicU64 as Tally;
use std::task::{Context, Poll, Waker};

use loom::thread::{self, Thread};

use super::record::{self, HEADER, Header, Opened};
use super::sync::{Arc, AtomicBool, AtomicU64, Ordering};
use super::{End, Parked, Producer, RingConsumer, Wake, ring};
use crate::{Consumer, Ended};

/// Runs `model` until there is no schedule left with at most so many preemptions: switches away from a
/// thread that could have gone on. Those at a sleep are free.
fn exhaust(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Nothing in the environment ends it early.
    builder.max_permutations = None;
    builder.max_duration = None;
    let preemptions = *builder.preemption_bound.get_or_insert(preemptions);
    let schedules = Arc::new(Tally::new(0));
    let counted = Arc::clone(&schedules);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!(
        "{name}: at most {preemptions} preemptions, {} schedules",
        schedules.load(Ordering::Relaxed)
    );
}

/// A thread that sleeps until it is woken by this name and no other.
struct Sleeper {
    woken: AtomicBool,
    wakes: Tally,
    thread: Thread,
}

impl Sleeper {
    fn here() -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicBool::new(false),
            wakes: Tally::new(0),
            thread: thread::current(),
        })
    }

    fn sleep(&self) {
        while !self.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }

    fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }
}

impl Wake for Sleeper {
    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl std::task::Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        Wake::wake(&*self);
    }
}

/// The write positions of some rings.
type Positions = Arc<[AtomicU64]>;

fn positions(rings: usize) -> Positions {
    (0..rings).map(|_| AtomicU64::new(0)).collect()
}

/// A reactor of `rounds` turns, each of which publishes something.
fn publish_rounds(parked: &Arc<Parked>, all: &Positions, ring: usize, rounds: u64) {
    let (parked, all) = (Arc::clone(parked), Arc::clone(all));
    thread::spawn(move || {
        for round in 1..=rounds {
            // Relaxed, which is less than ringbuf does: the order is for the fences to give.
            all[ring].store(round, Ordering::Relaxed);
            Parked::notify_each([&*parked]);
        }
    });
}

/// A consumer that looks at all of `rings` until everything has come, and sleeps in between, as
/// `Consumer::look_or_register` says; `registers` is called when there is nothing, and returns whom to
/// wake.
fn consume_rounds(
    parked: &Parked,
    all: &Positions,
    rounds: u64,
    mut registers: impl FnMut() -> Arc<Sleeper>,
) {
    let mut seen = vec![0; all.len()];
    let mut look = || {
        let mut found = false;
        for (seen, position) in seen.iter_mut().zip(&**all) {
            let now = position.load(Ordering::Relaxed);
            found |= now > std::mem::replace(seen, now);
        }
        (found, seen.iter().all(|seen| *seen == rounds))
    };
    loop {
        let (found, all) = look();
        if all {
            return;
        }
        if found {
            continue;
        }
        let sleeper = registers();
        parked.prepare(Waker::from(Arc::clone(&sleeper)));
        let (found, all) = look();
        if found {
            parked.cancel();
        } else {
            sleeper.sleep();
        }
        if all {
            return;
        }
    }
}

/// Fails without the fence in `prepare`, and without the one in `notify_each`.
#[test]
fn whoever_sleeps_is_woken_by_what_is_published() {
    exhaust("one reactor of three turns", 5, || {
        let (parked, all) = (Arc::new(Parked::new()), positions(1));
        publish_rounds(&parked, &all, 0, 3);
        let sleeper = Sleeper::here();
        let mut sleeps = 0;
        consume_rounds(&parked, &all, 3, || {
            sleeps += 1;
            Arc::clone(&sleeper)
        });
        assert!(sleeper.wakes() <= sleeps, "more wakes than sleeps");
    });
}

/// Fails when `notify` puts `false` after it has taken the waker, and when `prepare` says that it
/// sleeps before it has registered.
#[test]
fn two_reactors_wake_one_consumer_whoever_it_is_by_now() {
    exhaust(
        "two reactors of two turns, a new waker each time",
        3,
        || {
            let (parked, all) = (Arc::new(Parked::new()), positions(2));
            publish_rounds(&parked, &all, 0, 2);
            publish_rounds(&parked, &all, 1, 2);
            consume_rounds(&parked, &all, 2, Sleeper::here);
        },
    );
}

/// A task may be polled for a reason of its own, by another executor's thread: what was registered is
/// replaced while a reactor may be about to take it.
///
/// Fails when `prepare` keeps a waker that is there already.
#[test]
fn the_waker_of_the_latest_poll_is_woken() {
    exhaust(
        "one reactor of two turns, polled twice each time",
        5,
        || {
            let (parked, all) = (Arc::new(Parked::new()), positions(1));
            publish_rounds(&parked, &all, 0, 2);
            consume_rounds(&parked, &all, 2, || {
                parked.prepare(Waker::from(Sleeper::here()));
                Sleeper::here()
            });
        },
    );
}

/// Publishes a record of a peer, if one is there: its connection's first.
fn publish(producer: &mut Producer, payload: Option<usize>) {
    let mut claim = producer.claim(64, 64).expect("there is room");
    if let Some(payload) = payload {
        record::write_header(claim.bytes(), Header::data(7, 0, payload));
        return claim.commit(record::record_len(payload), payload as u64);
    }
    let opened = Opened {
        peer: crate::Peer::Unix { pid: 1, uid: 1 },
        listener: 0,
        framing: 0,
    };
    let len = opened.write(7, claim.bytes());
    claim.commit(len, 0);
}

/// The reactor asks for a mark, comes round by itself, and asks for a later one on which it sleeps;
/// twice. As in `Lane`, nobody asks again after a wake that came for nothing.
///
/// Fails without the fence in `wait_for` and without the one in `advance`; when `wait_for` does not
/// look again; when `take_wait` takes whatever stands there by then; when `released` is stored or
/// loaded Relaxed.
#[test]
fn a_reactor_that_asks_for_a_later_mark_is_woken_at_it() {
    exhaust("a consumer that releases four times", 4, || {
        let sleeper = Sleeper::here();
        let (mut producer, consumer) = ring(64, sleeper.clone(), Arc::new(Parked::new())).unwrap();
        for _ in 0..4 {
            let mut claim = producer.claim(HEADER, HEADER).expect("there is room");
            record::write_time(claim.bytes(), 1);
            claim.commit(HEADER, 0);
        }
        // Stands for ringbuf's read index: what `released` promises.
        let room = Arc::new(AtomicU64::default());
        let index = Arc::clone(&room);
        // Kept to the end: dropped, it would wake.
        let consumer = Arc::new(std::sync::Mutex::new(consumer));
        let reading = Arc::clone(&consumer);
        thread::spawn(move || {
            let mut consumer = reading.lock().expect("nobody else's");
            for position in [16, 32, 48, 64] {
                index.store(position, Ordering::Relaxed);
                consumer.release(position, 0, 0);
            }
        });
        for (passing, target) in [(16, 32), (48, 64)] {
            producer.wait_for(passing);
            // As a reactor does, it takes the answer for the last look.
            let mut released = producer.wait_for(target);
            while !released {
                sleeper.sleep();
                released = producer.released() >= target;
            }
            assert!(
                room.load(Ordering::Relaxed) >= target,
                "released, and not there"
            );
        }
        assert!(sleeper.wakes() <= 4, "more wakes than waits");
        drop(consumer);
    });
}

struct Deaf;

impl Wake for Deaf {
    fn wake(&self) {}
}

/// How a reactor can leave its ring.
const WAYS: [Option<End>; 3] = [Some(End::Drained), Some(End::Stopped), None];

fn leave(mut producer: Producer, way: Option<End>) {
    if let Some(end) = way {
        producer.finish(end);
    }
}

/// Fails when `end` is stored or loaded Relaxed; when `finish` does not wake; when the drop of a
/// producer declares no end.
#[test]
fn whoever_sees_the_end_sees_all_that_was_published_before() {
    for way in WAYS {
        exhaust("two turns and the end", 5, move || {
            let parked = Arc::new(Parked::new());
            let (producer, consumer) = ring(64, Arc::new(Deaf), Arc::clone(&parked)).unwrap();
            let position = Arc::new(AtomicU64::default());
            let written = Arc::clone(&position);
            let reactor_parked = Arc::clone(&parked);
            thread::spawn(move || {
                written.store(1, Ordering::Relaxed);
                Parked::notify_each([&*reactor_parked]);
                // No wake for it: the end is in the same turn.
                written.store(2, Ordering::Relaxed);
                leave(producer, way);
            });
            let sleeper = Sleeper::here();
            let look = || (consumer.end(), position.load(Ordering::Relaxed));
            let (end, last) = loop {
                let before = look();
                if before.0.is_some() {
                    break before;
                }
                parked.prepare(Waker::from(Arc::clone(&sleeper)));
                let now = look();
                if now == before {
                    sleeper.sleep();
                } else {
                    parked.cancel();
                }
            };
            assert_eq!(end, Some(way.unwrap_or(End::ReactorGone)));
            assert_eq!(last, 2, "the last batch was overlooked");
        });
    }
}

fn consumer(rings: Vec<RingConsumer>, parked: Arc<Parked>) -> Consumer {
    Consumer::new(0, rings, parked, Arc::new([]), 128, 1)
}

/// The next batch's records, slept for; released.
fn take_batch(consumer: &mut Consumer, sleeper: &Arc<Sleeper>) -> Result<usize, Ended> {
    let waker = Waker::from(Arc::clone(sleeper));
    loop {
        match consumer.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(batch)) => {
                let records = batch.records().count();
                batch.release();
                return Ok(records);
            }
            Poll::Ready(Err(ended)) => return Err(ended),
            Poll::Pending => sleeper.sleep(),
        }
    }
}

/// The real consumer over real rings: `Consumer::look` and `look_or_register`.
///
/// Fails when `look` asks for the end after it has seen that a ring is empty; when `look_or_register`
/// does not look again.
#[test]
fn a_consumer_takes_the_last_batch_and_then_the_end() {
    for way in WAYS {
        exhaust("two reactors, one of which drains", 3, move || {
            let parked = Arc::new(Parked::new());
            let (producers, rings): (Vec<_>, Vec<_>) = (0..2)
                .map(|_| ring(128, Arc::new(Deaf), Arc::clone(&parked)).unwrap())
                .unzip();
            let seen: Vec<_> = producers.iter().map(Producer::observer).collect();
            let ways = [Some(End::Drained), way];
            for (mut producer, way) in producers.into_iter().zip(ways) {
                let parked = Arc::clone(&parked);
                thread::spawn(move || {
                    publish(&mut producer, None);
                    Parked::notify_each([&*parked]);
                    publish(&mut producer, Some(10));
                    leave(producer, way);
                });
            }
            let mut consumer = consumer(rings, parked);
            let sleeper = Sleeper::here();
            let mut records = 0;
            let ended = loop {
                match take_batch(&mut consumer, &sleeper) {
                    Ok(more) => records += more,
                    Err(ended) => break ended,
                }
            };
            assert_eq!(ended, way.unwrap_or(End::ReactorGone).into());
            if way != Some(End::Stopped) {
                assert_eq!(records, 4, "the last batch was overlooked");
            }
            for ring in seen {
                assert_eq!(ring.published(), 10);
                assert_eq!(ring.delivered() + ring.abandoned(), 10);
            }
        });
    }
}

/// The consumer goes after one batch, while the reactor waits for room for the second time.
///
/// Fails when the drop of a consumer does not wake, or wakes before it says that it has gone.
#[test]
fn a_reactor_that_waits_for_a_consumer_learns_that_it_was_dropped() {
    exhaust("a consumer that is dropped", 5, || {
        let sleeper = Sleeper::here();
        let parked = Arc::new(Parked::new());
        let (mut producer, rings) = ring(128, sleeper.clone(), Arc::clone(&parked)).unwrap();
        let seen = producer.observer();
        let mut consumer = consumer(vec![rings], Arc::clone(&parked));
        thread::spawn(move || {
            let sleeper = Sleeper::here();
            assert_eq!(take_batch(&mut consumer, &sleeper), Ok(1));
        });
        for payload in [None, Some(10)] {
            publish(&mut producer, payload);
            Parked::notify_each([&*parked]);
            let all = producer.position();
            producer.wait_for(all);
            while producer.released() < all && !producer.is_consumer_gone() {
                sleeper.sleep();
            }
        }
        let mut estate = producer.take_estate().expect("it has left its end");
        assert_eq!(estate.abandon_rest(), 10);
        assert_eq!((seen.delivered(), seen.abandoned()), (0, 10));
    });
}

/// Fails when the drop of a producer does not say that there will be no heir, or does not look for an
/// estate.
#[test]
fn two_ends_that_are_dropped_at_once_leave_one_book() {
    for way in WAYS {
        exhaust("both ends are dropped", 5, move || {
            let (mut producer, consumer) =
                ring(256, Arc::new(Deaf), Arc::new(Parked::new())).unwrap();
            let seen = producer.observer();
            publish(&mut producer, Some(10));
            let reader = thread::spawn(move || drop(consumer));
            publish(&mut producer, Some(20));
            leave(producer, way);
            reader.join().expect("it was dropped");
            assert_eq!((seen.published(), seen.abandoned()), (30, 30));
            assert!(!seen.is_unwalked());
        });
    }
}
