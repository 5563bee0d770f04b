//! A consumer as a list that forgets nothing, for tests and fuzzers: any mix of loans, marks old and new,
//! partial releases and dropped batches. Every record is lent until it is released, in order, with its
//! peer, and the books and `delivered` agree.
//!
//! In: operations. Out: how many records were compared, or a panic where the two differ.
//! Never here: a second thread, a ring that anybody else fills.

use std::sync::Arc;

use super::{Consumer, Ended, Mark, Record};
use crate::books::Books;
use crate::close::{CloseReason, DiscardReason, Reason};
use crate::frame::Framing;
use crate::peer::{ConnectionId, Peer};
use crate::ring::record::{self, Closed, Gap, Header, Opened, WHOLE};
use crate::ring::{End, Parked, Producer, Wake, ring};

/// One ring, three slots.
struct World {
    producer: Producer,
    consumer: Consumer,
    list: Vec<Told>,
    tenants: [Option<u32>; 3],
    newest: u32,
    released: Cursor,
    /// All marks ever taken, with what they mean.
    marks: Vec<(Mark, Cursor)>,
    /// Records that were lent and compared.
    lent: usize,
}

/// A record as it was published.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    generation: u32,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Opened,
    /// Lines, or one whole message.
    Text(Vec<u8>, bool),
    Gap(u64),
    Closed,
}

impl What {
    fn payload(&self) -> usize {
        match self {
            Self::Text(text, _) => text.len(),
            _ => 0,
        }
    }
}

/// Records that are wholly done, and bytes of the one that follows.
type Cursor = (usize, usize);

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A receive time.
    Time,
    /// For a slot, by a number that says what.
    Publish(usize, u8),
    Lend {
        /// Marks to take: at which record of the batch, after which of its messages.
        marks: Vec<(usize, usize)>,
        /// Then release up to one of all marks ever taken, counted from the newest,
        until: Option<usize>,
        /// and then all, or drop the batch.
        all: bool,
    },
}

struct Deaf;

impl Wake for Deaf {
    fn wake(&self) {}
}

fn who(generation: u32) -> ConnectionId {
    ConnectionId::new(0, generation, generation % 3)
}

fn address(generation: u32) -> Peer {
    let host = (generation % 250) as u8;
    Peer::Tcp(([192, 0, 2, host], 514).into())
}

/// A record of a batch, which must be the one that the list has next.
fn retell(record: &Record<'_>, told: &Told, taken: usize) -> Told {
    let (id, peer, what) = match *record {
        Record::Opened { who, peer, .. } => (who, peer, What::Opened),
        Record::Gap {
            who, peer, bytes, ..
        } => (who, peer, What::Gap(bytes)),
        Record::Closed { who, peer, .. } => (who, peer, What::Closed),
        Record::Messages(m) => {
            // What was taken does not come again.
            let What::Text(text, _) = &told.what else {
                panic!("{m:?} for {told:?}")
            };
            let text = [&text[..taken], m.raw()].concat();
            (m.who(), m.peer(), What::Text(text, m.is_whole()))
        }
    };
    assert_eq!((id, peer), (who(told.generation), address(told.generation)));
    Told {
        generation: told.generation,
        what,
    }
}

impl World {
    fn new(batch_max: usize) -> Self {
        let parked = Arc::new(Parked::new());
        let (producer, end) = ring(1024, Arc::new(Deaf), Arc::clone(&parked)).expect("memory");
        let framings = Arc::new([Framing::Line]);
        Self {
            producer,
            consumer: Consumer::new(0, vec![end], parked, framings, batch_max, 3),
            list: Vec::new(),
            tenants: [None; 3],
            newest: 0,
            released: (0, 0),
            marks: Vec::new(),
            lent: 0,
        }
    }

    /// `false`: the ring is full.
    fn put(&mut self, generation: u32, what: What) -> bool {
        let payload = what.payload();
        let size = match &what {
            What::Text(..) => record::record_len(payload),
            _ => 48,
        };
        let Some(mut claim) = self.producer.claim(size, size) else {
            return false;
        };
        let (id, buf) = (who(generation).as_u64(), claim.bytes());
        match &what {
            What::Opened => {
                let peer = address(generation);
                let opened = Opened {
                    peer,
                    listener: 0,
                    framing: 1,
                };
                opened.write(id, buf);
            }
            What::Gap(bytes) => {
                let gap = Gap {
                    reason: DiscardReason::ALL[0],
                    bytes: *bytes,
                    messages: 1,
                };
                gap.write(id, buf);
            }
            What::Closed => {
                let closed = Closed {
                    reason: CloseReason::Eof,
                    books: Books::default(),
                };
                closed.write(id, buf);
            }
            What::Text(text, whole) => {
                let flags = if *whole { WHOLE } else { 0 };
                record::write_header(buf, Header::data(id, flags, payload));
                buf[record::HEADER..][..payload].copy_from_slice(text);
            }
        }
        claim.commit(size, payload as u64);
        self.list.push(Told { generation, what });
        true
    }

    fn publish(&mut self, slot: usize, number: u8) {
        let Some(generation) = self.tenants[slot] else {
            let slot_of = |generation: &u32| *generation as usize % 3 == slot;
            let generation = (self.newest + 1..).find(slot_of).unwrap();
            if self.put(generation, What::Opened) {
                self.newest = generation;
                self.tenants[slot] = Some(generation);
            }
            return;
        };
        let size = usize::from(number / 8);
        match number % 8 {
            0 => {
                if self.put(generation, What::Closed) {
                    self.tenants[slot] = None;
                }
            }
            // A stalled one leaves without a word.
            1 if size > 24 => self.tenants[slot] = None,
            1 => drop(self.put(generation, What::Gap(number.into()))),
            2 => drop(self.put(generation, What::Text(vec![b'\n'; size + 1], true))),
            lines => {
                let line = [vec![b'x'; size], vec![b'\n']].concat();
                let text = line.repeat(lines.into());
                self.put(generation, What::Text(text, false));
            }
        }
    }

    fn payload(&self, upto: Cursor) -> u64 {
        let records = self.list[..upto.0].iter();
        (records.map(|told| told.what.payload()).sum::<usize>() + upto.1) as u64
    }

    fn lend(&mut self, wanted: &[(usize, usize)], until: Option<usize>, all: bool) {
        let everything = (self.list.len(), 0);
        let (published, delivered) = (self.payload(everything), self.payload(self.released));
        assert_eq!(self.consumer.lag().bytes, published - delivered);
        let Some(mut batch) = self.consumer.try_next().unwrap() else {
            return assert_eq!(self.released, everything);
        };
        let from = self.released;
        let mut records = batch.records();
        let mut here = from;
        while let Some(record) = records.next() {
            let told = &self.list[here.0];
            assert_eq!(retell(&record, told, here.1), *told);
            self.lent += 1;
            let next = (here.0 + 1, 0);
            for (_, message) in wanted.iter().filter(|(at, _)| from.0 + at == here.0) {
                self.marks.push((records.mark_here(), next));
                if let Record::Messages(m) = record {
                    let each = m.iter().count();
                    let bytes = m.raw().len() / each * (message % each);
                    self.marks
                        .push((m.mark_within(bytes), (here.0, here.1 + bytes)));
                }
            }
            here = next;
        }
        assert!(here > from, "a batch is never empty");
        let chosen = until.and_then(|n| self.marks.iter().rev().nth(n));
        if let Some((mark, cursor)) = chosen {
            batch.release_until(*mark);
            self.released = from.max(*cursor);
            let rest = batch.records().count();
            assert_eq!(rest, here.0.saturating_sub(self.released.0));
        }
        if all {
            batch.release();
            self.released = self.released.max(here);
        }
        let seen = self.producer.observer();
        assert_eq!(seen.delivered(), self.payload(self.released));
        self.check_delivered();
    }

    fn check_delivered(&self) {
        for (at, told) in self.list.iter().enumerate() {
            if told.what == What::Closed {
                let is_delivered = self.consumer.delivered(who(told.generation));
                assert_eq!(is_delivered, at < self.released.0, "{}", told.generation);
            }
        }
        for generation in self.tenants.iter().flatten() {
            assert!(!self.consumer.delivered(who(*generation)), "{generation}");
        }
    }
}

/// Does all of it to a consumer whose batches have at most `batch_max` bytes, and to the list; then the
/// consumer is dropped, or stopped.
pub(crate) fn check(batch_max: usize, ops: &[Op], is_dropped: bool) -> usize {
    let mut world = World::new(batch_max);
    for op in ops {
        match op {
            Op::Time => {
                if let Some(mut claim) = world.producer.claim(16, 16) {
                    let len = record::write_time(claim.bytes(), 1);
                    claim.commit(len, 0);
                }
            }
            Op::Publish(slot, number) => world.publish(*slot, *number),
            Op::Lend { marks, until, all } => world.lend(marks, *until, *all),
        }
    }
    let lost = world.payload((world.list.len(), 0)) - world.payload(world.released);
    let seen = world.producer.observer();
    let World {
        mut producer,
        mut consumer,
        lent,
        ..
    } = world;
    if is_dropped {
        drop(consumer);
        assert_eq!(producer.take_estate().unwrap().abandon_rest(), lost);
    } else {
        producer.finish(End::Stopped);
        assert_eq!(consumer.try_next().err(), Some(Ended::Stopped));
    }
    assert_eq!(seen.abandoned(), lost);
    assert_eq!(seen.published(), seen.delivered() + seen.abandoned());
    lent
}
