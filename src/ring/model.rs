//! A ring as a `VecDeque` of records, for tests and fuzzers.
//!
//! In: operations. Out: how many records were compared, or a panic where ring and model differ.
//! Never here: two threads; loom and ThreadSanitizer look at those.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::record::{self, HEADER, Header, Kind, Walk};
use super::{End, Parked, Producer, RingConsumer, RingObserver, Wake, ring};

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Claims room for these records, or more, fills it, and commits the first few of them.
    Publish {
        records: Vec<(Kind, usize)>,
        more: usize,
        commit: usize,
    },
    /// Releases so many records, and so many bytes of the next one.
    Release {
        records: usize,
        taken: usize,
    },
    /// Waits until so many of the bytes in the ring are released.
    Wait(usize),
    ClearWait,
}

/// Who goes first, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    ConsumerDropped,
    ProducerDropped,
    Stopped,
    Hung,
}

#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Model {
    capacity: usize,
    /// What is before it was released, or is padding.
    origin: u64,
    producer: Producer,
    consumer: RingConsumer,
    seen: RingObserver,
    counts: std::sync::Arc<Counts>,
    queue: VecDeque<(Header, Vec<u8>)>,
    /// Bytes of the first record that were delivered already.
    taken: usize,
    published: u64,
    waiting: Option<u64>,
    wakes: usize,
    records: u64,
    compared: usize,
}

/// Does all of it to a ring and to the model. `start_over`: from where on an empty ring is begun anew.
pub(crate) fn check(
    capacity: usize,
    start_over: Option<usize>,
    ops: &[Op],
    ending: Ending,
) -> usize {
    let counts = std::sync::Arc::new(Counts::default());
    let parked = std::sync::Arc::new(Parked::new());
    let (mut producer, consumer) = ring(capacity, counts.clone(), parked).expect("memory");
    if let Some(bytes) = start_over {
        producer.start_over_from(bytes);
    }
    let mut model = Model {
        capacity,
        origin: 0,
        seen: producer.observer(),
        producer,
        consumer,
        counts,
        queue: VecDeque::new(),
        taken: 0,
        published: 0,
        waiting: None,
        wakes: 0,
        records: 0,
        compared: 0,
    };
    for op in ops {
        match op {
            Op::Publish {
                records,
                more,
                commit,
            } => model.publish(records, *more, *commit),
            Op::Release { records, taken } => model.release(*records, *taken),
            Op::Wait(bytes) => model.wait(*bytes),
            Op::ClearWait => {
                model.producer.clear_wait();
                model.waiting = None;
            }
        }
        model.compare();
    }
    model.end(ending)
}

impl Model {
    /// Contiguous vacant bytes at the write position, and those at the beginning if the former reach the
    /// wrap: by looking at each byte of the ring.
    fn vacant(&self) -> (usize, usize) {
        let capacity = self.capacity as u64;
        let mut is_taken = vec![false; self.capacity];
        for position in self.consumer.released()..self.producer.position() {
            is_taken[(position % capacity) as usize] = true;
        }
        let at = (self.producer.position() % capacity) as usize;
        let run = |bytes: &[bool]| bytes.iter().take_while(|taken| !**taken).count();
        let first = run(&is_taken[at..]);
        let reaches = at + first == self.capacity;
        (first, if reaches { run(&is_taken[..at]) } else { 0 })
    }

    fn publish(&mut self, records: &[(Kind, usize)], more: usize, commit: usize) {
        let total: usize = records
            .iter()
            .map(|(_, size)| record::record_len(*size))
            .sum();
        let min = total.max(HEADER);
        let (first, second) = self.vacant();
        let before = self.producer.position();
        let Some(mut claim) = self.producer.claim(total, total + more) else {
            let most = first.max(second);
            return assert!(most < min, "refused {min} bytes with {most} in one piece");
        };
        let room = claim.bytes().len();
        assert!(first.max(second) >= room, "{room} of {first} and {second}");
        assert!((min..=min + more).contains(&room) && room % HEADER == 0);
        let (mut at, mut used, mut payload) = (0, 0, 0);
        let mut written = Vec::new();
        for (place, (kind, size)) in records.iter().enumerate() {
            let header = Header {
                kind: *kind,
                flags: self.records as u8,
                len: *size as u32,
                id: self.records,
            };
            self.records += 1;
            let text: Vec<u8> = (0..*size).map(|n| (header.id as usize + n) as u8).collect();
            record::write_header(&mut claim.bytes()[at..], header);
            claim.bytes()[at + HEADER..][..*size].copy_from_slice(&text);
            at += header.record_len();
            if place < commit {
                used = at;
                payload += if *kind == Kind::Data { *size as u64 } else { 0 };
                written.push((header, text));
            }
        }
        claim.commit(used, payload);
        self.published += payload;
        self.queue.extend(written);
        let skipped = self.producer.position() - before - used as u64;
        let is_padding = skipped == first as u64 && used > 0 && used <= second;
        assert!(skipped == 0 || is_padding, "{skipped} bytes were skipped");
        let is_empty = self.consumer.released() == before;
        if is_empty && skipped > 0 {
            self.origin = before + skipped;
        }
    }

    fn release(&mut self, records: usize, taken: usize) {
        let mut position = self.consumer.released();
        let (mut delivered, mut done) = (0, 0);
        let mut taken_now = self.taken;
        for (_, header, payload) in Walk::new(self.consumer.readable()) {
            if header.kind == Kind::Padding {
                position += header.record_len() as u64;
                continue;
            }
            let (told, text) = &self.queue[done];
            assert_eq!((header, payload), (*told, &text[..]));
            self.compared += 1;
            let is_data = header.kind == Kind::Data;
            if done == records {
                if is_data {
                    let upto = payload.len().min(taken).max(taken_now);
                    delivered += (upto - taken_now) as u64;
                    taken_now = upto;
                }
                break;
            }
            if is_data {
                delivered += (payload.len() - taken_now) as u64;
            }
            taken_now = 0;
            position += header.record_len() as u64;
            done += 1;
        }
        self.queue.drain(..done);
        self.taken = taken_now;
        let moved = position > self.consumer.released();
        self.consumer.release(position, taken_now, delivered);
        if moved && self.waiting.is_some_and(|target| position >= target) {
            self.waiting = None;
            self.wakes += 1;
        }
    }

    fn wait(&mut self, bytes: usize) {
        let occupied = self.producer.position() - self.consumer.released();
        let target = self.consumer.released() + occupied.min(bytes as u64);
        let is_there = self.producer.wait_for(target);
        assert_eq!(is_there, self.consumer.released() >= target);
        self.waiting = (!is_there).then_some(target);
    }

    /// Bytes of peers that are in the ring.
    fn payload(&self) -> u64 {
        let data = self.queue.iter().filter(|(h, _)| h.kind == Kind::Data);
        data.map(|(_, text)| text.len() as u64).sum::<u64>() - self.taken as u64
    }

    fn compare(&mut self) {
        let told = self
            .consumer
            .walk()
            .filter(|(_, header, _)| header.kind != Kind::Padding)
            .map(|(_, header, payload)| (header, payload));
        let expected = self.queue.iter().map(|(header, text)| (*header, &text[..]));
        assert!(told.eq(expected), "{:?}", self.queue);
        let (position, released) = (self.producer.position(), self.consumer.released());
        assert!(released <= position && position <= released + self.capacity as u64);
        assert!(position.is_multiple_of(HEADER as u64) && released.is_multiple_of(HEADER as u64));
        let occupied = position - released.max(self.origin);
        assert_eq!(self.producer.occupied() as u64, occupied);
        let seen = &self.seen;
        assert_eq!(seen.occupied(), occupied);
        assert_eq!((seen.position(), seen.released()), (position, released));
        assert_eq!(seen.published(), self.published);
        assert_eq!(seen.published(), seen.delivered() + self.payload());
        assert_eq!((seen.abandoned(), seen.is_unwalked()), (0, false));
        assert_eq!(self.counts.0.load(Ordering::Relaxed), self.wakes);
        assert_eq!(self.consumer.taken(), self.taken);
    }

    /// Whatever is left is abandoned, whoever goes first.
    fn end(self, ending: Ending) -> usize {
        let left = self.payload();
        let Self {
            mut producer,
            mut consumer,
            seen,
            counts,
            wakes,
            compared,
            ..
        } = self;
        let delivered = seen.delivered();
        match ending {
            Ending::ConsumerDropped => {
                assert!(producer.take_estate().is_none());
                drop(consumer);
                assert_eq!(counts.0.load(Ordering::Relaxed), wakes + 1);
                let mut estate = producer.take_estate().expect("it was left");
                assert_eq!(estate.abandon_rest(), left);
            }
            Ending::ProducerDropped => {
                drop(producer);
                assert_eq!(consumer.end(), Some(End::ReactorGone));
                assert_eq!(seen.abandoned(), 0, "it can still be read");
                drop(consumer);
            }
            Ending::Stopped => {
                producer.finish(End::Stopped);
                assert_eq!(consumer.end(), Some(End::Stopped));
                assert_eq!(consumer.abandon_rest(), left);
            }
            Ending::Hung => {
                assert_eq!(producer.abandon_unreleased(), left);
                assert_eq!(producer.abandon_unreleased(), 0);
                drop(consumer);
                drop(producer);
            }
        }
        assert_eq!((seen.delivered(), seen.abandoned()), (delivered, left));
        assert_eq!(seen.published(), delivered + left);
        assert_eq!(seen.is_unwalked(), matches!(ending, Ending::Hung));
        compared
    }
}
