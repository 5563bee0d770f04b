//! The ring and the framings alone, without a reactor around them, for the micro-benchmarks.
//!
//! In: payloads, and bytes as they were read. Out: the same payloads, and where messages end.
//! Never here: a clock, a comparison.

use std::hint::black_box;
use std::sync::Arc;

use crate::frame::{self, Cut, Framing, Limits, MessageIter, OversizePolicy, Partial};
use crate::ring::record::{HEADER, Header, Walk, record_len, write_header};
use crate::ring::{Parked, Producer, RingConsumer, Wake, ring};

/// Nobody sleeps.
struct Deaf;

impl Wake for Deaf {
    fn wake(&self) {}
}

/// The writing end of a ring.
#[derive(Debug)]
pub struct Writer(Producer);

/// The reading end of a ring.
#[derive(Debug)]
pub struct Reader(RingConsumer);

/// A ring of so many bytes.
pub fn byte_ring(capacity: usize) -> (Writer, Reader) {
    let (producer, consumer) =
        ring(capacity, Arc::new(Deaf), Arc::new(Parked::new())).expect("memory");
    (Writer(producer), Reader(consumer))
}

impl Writer {
    /// A record of its own; `false`: there is no room for it now.
    pub fn push(&mut self, payload: &[u8]) -> bool {
        let len = record_len(payload.len());
        let Some(mut claim) = self.0.claim(len, len) else {
            return false;
        };
        let bytes = claim.bytes();
        bytes[HEADER..HEADER + payload.len()].copy_from_slice(payload);
        write_header(bytes, Header::data(1, 0, payload.len()));
        claim.commit(len, payload.len() as u64);
        true
    }
}

impl Reader {
    /// All that is there up to the ring's end, and its release; how many records that was.
    pub fn pop_all(&mut self, mut visit: impl FnMut(&[u8])) -> usize {
        let (mut records, mut payload) = (0, 0);
        let mut end = self.0.released();
        for (_, header, bytes) in Walk::new(self.0.readable()) {
            end += header.record_len() as u64;
            if header.kind == crate::ring::record::Kind::Data {
                visit(bytes);
                records += 1;
                payload += bytes.len() as u64;
            }
        }
        self.0.release(end, 0, payload);
        records
    }
}

/// What a reactor asks of a framing, read by read.
#[derive(Debug)]
pub struct Cutter {
    framing: Framing,
    limits: Limits,
    partial: Partial,
    cuts: Vec<Cut>,
}

impl Cutter {
    /// For messages of at most `max` bytes.
    pub fn new(framing: Framing, max: usize) -> Self {
        let oversize = OversizePolicy::Truncate;
        Self {
            framing,
            limits: Limits { max, oversize },
            partial: Partial::default(),
            cuts: Vec::new(),
        }
    }

    /// Where the last whole message of a read ends that begins with one.
    pub fn cut(&mut self, fresh: &[u8]) -> usize {
        self.partial = Partial::default();
        frame::cut(
            &self.framing,
            &self.limits,
            &mut self.partial,
            &[],
            fresh,
            &mut self.cuts,
        );
        match *self.cuts {
            [Cut::Messages { start: 0, end }, ..] => end,
            _ => 0,
        }
    }

    /// What a consumer does: visits each message.
    pub fn visit(&self, whole: &[u8]) -> usize {
        MessageIter::new(&self.framing, whole).fold(0, |n, message| {
            black_box(message);
            n + 1
        })
    }
}
