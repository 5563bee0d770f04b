//! Consumers over real rings, on one thread.

mod model;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::close::{CloseReason, DiscardReason};
use crate::peer::Peer;
use crate::ring::record::{self, Closed, Gap, Header, Opened, WHOLE};
use crate::ring::{Producer, RingObserver, Wake, ring};
use crate::{Books, Record};

struct Deaf;

impl Wake for Deaf {
    fn wake(&self) {}
}

fn id(generation: u32) -> ConnectionId {
    ConnectionId::new(0, generation, 3)
}

fn peer(generation: u32) -> Peer {
    Peer::Tcp(format!("192.0.2.{generation}:514").parse().unwrap())
}

fn consumer(rings: usize, batch_max: usize) -> (Vec<Producer>, Consumer) {
    let parked = Arc::new(Parked::new());
    let (producers, rings) = (0..rings)
        .map(|_| ring(4096, Arc::new(Deaf), Arc::clone(&parked)).unwrap())
        .unzip();
    let framings = Arc::new([Framing::Line]);
    let consumer = Consumer::new(0, rings, parked, framings, batch_max, 8);
    (producers, consumer)
}

fn opened(producer: &mut Producer, generation: u32) {
    let mut claim = producer.claim(64, 64).unwrap();
    let opened = Opened {
        peer: peer(generation),
        listener: 0,
        framing: 0,
    };
    let len = opened.write(id(generation).as_u64(), claim.bytes());
    claim.commit(len, 0);
}

fn data(producer: &mut Producer, generation: u32, flags: u8, bytes: &[u8]) {
    let len = record::record_len(bytes.len());
    let mut claim = producer.claim(len, len).unwrap();
    let header = Header::data(id(generation).as_u64(), flags, bytes.len());
    record::write_header(claim.bytes(), header);
    claim.bytes()[record::HEADER..][..bytes.len()].copy_from_slice(bytes);
    claim.commit(len, bytes.len() as u64);
}

fn closed(producer: &mut Producer, generation: u32) {
    let mut claim = producer.claim(64, 64).unwrap();
    let closed = Closed {
        reason: CloseReason::Eof,
        books: Books::default(),
    };
    let len = closed.write(id(generation).as_u64(), claim.bytes());
    claim.commit(len, 0);
}

/// A batch as text: who and what.
fn told(batch: &Batch<'_>) -> Vec<String> {
    let tell = |record| match record {
        Record::Opened { peer, .. } => format!("{peer} opened"),
        Record::Messages(m) => {
            let texts: Vec<_> = m.iter().map(|t| String::from_utf8_lossy(t)).collect();
            assert_eq!(texts.len(), m.count());
            format!("{} {}", m.peer(), texts.join(","))
        }
        Record::Gap {
            peer,
            reason,
            bytes,
            ..
        } => format!("{peer} gap {reason} {bytes}"),
        Record::Closed { peer, reason, .. } => format!("{peer} closed {reason}"),
    };
    batch.records().map(tell).collect()
}

fn balanced(seen: &RingObserver) -> bool {
    seen.published() == seen.delivered() + seen.abandoned()
}

#[test]
fn a_batch_tells_what_happened_in_order_and_is_delivered_by_release() {
    let (mut producers, mut consumer) = consumer(1, 4096);
    let producer = &mut producers[0];
    opened(producer, 1);
    let mut claim = producer.claim(64, 64).unwrap();
    let at = record::write_time(claim.bytes(), 5_000_000_000);
    claim.commit(at, 0);
    data(producer, 1, 0, b"a\nb\n");
    data(producer, 1, WHOLE, b"c\nd");
    let mut claim = producer.claim(64, 64).unwrap();
    let gap = Gap {
        reason: DiscardReason::Oversize,
        bytes: 9,
        messages: 1,
    };
    let len = gap.write(id(1).as_u64(), claim.bytes());
    claim.commit(len, 0);
    closed(producer, 1);
    assert_eq!(consumer.lag().bytes, 7);
    let batch = consumer.wait().unwrap();
    assert_eq!(batch.bytes(), 7);
    assert_eq!(
        told(&batch),
        [
            "192.0.2.1:514 opened",
            "192.0.2.1:514 a,b",
            "192.0.2.1:514 c\nd",
            "192.0.2.1:514 gap oversize 9",
            "192.0.2.1:514 closed eof",
        ]
    );
    let Some(Record::Messages(m)) = batch.records().nth(1) else {
        panic!()
    };
    assert_eq!(m.received(), wall(5_000_000_000));
    batch.release();
    assert!(consumer.delivered(id(1)));
    assert_eq!(consumer.lag(), Lag::default());
    assert!(consumer.try_next().unwrap().is_none());
    assert!(balanced(&producers[0].observer()));
}

#[test]
fn a_batch_that_was_dropped_comes_again_and_a_slot_taken_twice_knows_both_peers() {
    let (mut producers, mut consumer) = consumer(1, 4096);
    for generation in [1, 2, 3] {
        opened(&mut producers[0], generation);
        data(&mut producers[0], generation, 0, b"x\n");
        closed(&mut producers[0], generation);
    }
    let first = told(&consumer.wait().unwrap());
    assert_eq!(first[1], "192.0.2.1:514 x");
    assert_eq!(first[4], "192.0.2.2:514 x");
    assert_eq!(first[8], "192.0.2.3:514 closed eof");
    // More was published meanwhile: the batch is longer, and begins with the same records.
    opened(&mut producers[0], 4);
    let mut batch = consumer.wait().unwrap();
    let again = told(&batch);
    assert_eq!(again[..9], first[..]);
    assert_eq!(again[9], "192.0.2.4:514 opened");
    let mut records = batch.records();
    records.by_ref().take(5).for_each(drop);
    let mark = records.mark_here();
    batch.release_until(mark);
    assert_eq!(told(&batch), again[5..]);
    assert!(consumer.delivered(id(1)));
    assert!(!consumer.delivered(id(2)), "its Closed is still there");
    consumer.wait().unwrap().release();
    assert!(consumer.delivered(id(2)) && consumer.delivered(id(3)));
    assert!(!consumer.delivered(id(4)), "it is open");
}

#[test]
fn a_part_of_a_record_can_be_released() {
    let (mut producers, mut consumer) = consumer(1, 4096);
    let seen = producers[0].observer();
    opened(&mut producers[0], 1);
    data(&mut producers[0], 1, 0, b"one\ntwo\nthree\n");
    let mut batch = consumer.wait().unwrap();
    let Some(Record::Messages(m)) = batch.records().nth(1) else {
        panic!()
    };
    let (one, two) = (m.mark_within(4), m.mark_within(8));
    batch.release_until(one);
    assert_eq!(
        (told(&batch), batch.bytes()),
        (vec!["192.0.2.1:514 two,three".into()], 10)
    );
    drop(batch);
    assert_eq!(seen.delivered(), 4);
    let mut batch = consumer.wait().unwrap();
    batch.release_until(two);
    batch.release_until(one);
    assert_eq!(
        (told(&batch), batch.bytes()),
        (vec!["192.0.2.1:514 three".into()], 6)
    );
    let Some(Record::Messages(m)) = batch.records().next() else {
        panic!()
    };
    assert_eq!(m.mark_within(0).delivered, 8);
    drop(consumer);
    assert_eq!(producers[0].take_estate().unwrap().abandon_rest(), 6);
    assert!(balanced(&seen));
}

#[test]
fn a_batch_is_no_longer_than_its_largest_unless_one_record_is() {
    let (mut producers, mut consumer) = consumer(1, 64);
    opened(&mut producers[0], 1);
    for _ in 0..5 {
        data(&mut producers[0], 1, 0, b"x\n");
    }
    data(&mut producers[0], 1, 0, &[b'\n'; 200]);
    let mut sizes = Vec::new();
    while let Some(batch) = consumer.try_next().unwrap() {
        sizes.push(batch.records().count());
        batch.release();
    }
    assert_eq!(sizes, [1, 2, 2, 1, 1]);
}

#[test]
fn the_end_comes_after_what_was_published_and_the_worst_is_told() {
    let (mut producers, mut one) = consumer(2, 4096);
    opened(&mut producers[1], 1);
    data(&mut producers[1], 1, 0, b"x\n");
    producers[0].finish(End::Drained);
    let seen = producers[1].observer();
    producers.truncate(1);
    let batch = one.wait().unwrap();
    assert_eq!(batch.records().count(), 2);
    batch.release();
    assert_eq!(one.wait().unwrap_err(), Ended::ReactorGone);
    assert!(balanced(&seen));

    let (mut producers, mut two) = consumer(2, 4096);
    opened(&mut producers[1], 1);
    data(&mut producers[1], 1, 0, b"x\n");
    producers[1].finish(End::Stopped);
    assert!(two.try_next().unwrap().is_none(), "the other ring is alive");
    assert_eq!(producers[1].observer().abandoned(), 2);
    producers[0].finish(End::Drained);
    assert_eq!(two.wait().unwrap_err(), Ended::Stopped);
}

#[test]
fn no_ring_waits_for_another() {
    let (mut producers, mut consumer) = consumer(2, 16);
    for producer in &mut producers {
        opened(producer, 1);
        opened(producer, 2);
    }
    let mut order = Vec::new();
    while let Some(batch) = consumer.try_next().unwrap() {
        order.push(batch.end.ring);
        batch.release();
    }
    assert_eq!(order, [0, 1, 0, 1]);
}

#[test]
fn waiting_has_an_end_and_a_task_is_woken() {
    let (mut producers, mut consumer) = consumer(1, 4096);
    assert!(consumer.wait_timeout(Duration::ZERO).unwrap().is_none());
    assert!(
        consumer
            .poll_next(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    opened(&mut producers[0], 1);
    assert!(
        consumer
            .poll_next(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    );
}

#[test]
fn what_waits_behind_the_wrap_is_as_old_as_it_is() {
    let (mut producers, mut consumer) = consumer(1, 4096);
    let producer = &mut producers[0];
    opened(producer, 1);
    data(producer, 1, 0, &[b'\n'; 3000]);
    consumer.wait().unwrap().release();
    // Too long for what is left before the wrap: padding, and then a time and a line.
    let mut claim = producer.claim(1040, 1040).unwrap();
    let at = record::write_time(claim.bytes(), 1_000_000_000);
    let header = Header::data(id(1).as_u64(), 0, 1000);
    record::write_header(&mut claim.bytes()[at..], header);
    claim.bytes()[at + record::HEADER..][..1000].fill(b'\n');
    claim.commit(1040, 1000);
    assert!(producer.position() > 4096, "it is behind the wrap");
    let lag = consumer.lag();
    assert_eq!(lag.bytes, 1000);
    assert!(lag.oldest.is_some());
}
