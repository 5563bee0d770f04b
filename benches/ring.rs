//! The ring beside other queues: the same payload copied in and read out, on one core and on two.
//!
//! ```text
//! cargo bench --bench ring
//! ```
//!
//! fanin's and rtrb's are rings of bytes, in which a record stands; a channel hands over a box of its own for
//! each. All hold at most 4 MiB. The reader searches each payload for a byte that is not there: it reads all
//! of it. Nobody sleeps: who finds nothing yields.
#![allow(missing_docs, reason = "a program, not an interface")]

use std::hint::black_box;
use std::time::Instant;

use fanin::fuzz::parts::{Reader, Writer, byte_ring};

const CAPACITY: usize = 4 << 20;
const SIZES: [usize; 7] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10];
/// On one core: so much is pushed before all of it is popped, as a read and a batch.
const BATCH: usize = 128 << 10;

trait Push: Send + 'static {
    /// `false`: it is full.
    fn push(&mut self, payload: &[u8]) -> bool;
}

trait Pop: Send + 'static {
    /// What there is now; how many.
    fn pop(&mut self) -> usize;
}

fn read(payload: &[u8]) {
    black_box(memchr::memchr(b'\n', payload));
}

impl Push for Writer {
    fn push(&mut self, payload: &[u8]) -> bool {
        Writer::push(self, payload)
    }
}

impl Pop for Reader {
    fn pop(&mut self) -> usize {
        self.pop_all(read)
    }
}

/// A length in front of each record.
const LEN: usize = 4;

impl Push for rtrb::Producer<u8> {
    fn push(&mut self, payload: &[u8]) -> bool {
        let Ok(mut chunk) = self.write_chunk(LEN + payload.len()) else {
            return false;
        };
        let bytes = (payload.len() as u32).to_ne_bytes();
        let (first, second) = chunk.as_mut_slices();
        let mut at = 0;
        for mut part in [&bytes, payload] {
            while !part.is_empty() {
                let into = match first.get_mut(at..) {
                    Some(rest) if !rest.is_empty() => rest,
                    _ => &mut second[at - first.len()..],
                };
                let n = into.len().min(part.len());
                into[..n].copy_from_slice(&part[..n]);
                at += n;
                part = &part[n..];
            }
        }
        chunk.commit_all();
        true
    }
}

struct RtrbReader {
    ring: rtrb::Consumer<u8>,
    /// A record that wraps is put together here.
    joined: Vec<u8>,
}

impl Pop for RtrbReader {
    fn pop(&mut self) -> usize {
        let mut count = 0;
        let slots = self.ring.slots();
        let Ok(chunk) = self.ring.read_chunk(slots) else {
            return 0;
        };
        let (first, second) = chunk.as_slices();
        let mut at = 0;
        while at < slots {
            let mut len = [0; LEN];
            for (place, byte) in len.iter_mut().enumerate() {
                let at = at + place;
                *byte = *first.get(at).unwrap_or_else(|| &second[at - first.len()]);
            }
            let (from, to) = (at + LEN, at + LEN + u32::from_ne_bytes(len) as usize);
            if to <= first.len() {
                read(&first[from..to]);
            } else if from >= first.len() {
                read(&second[from - first.len()..to - first.len()]);
            } else {
                self.joined.clear();
                self.joined.extend_from_slice(&first[from..]);
                self.joined.extend_from_slice(&second[..to - first.len()]);
                read(&self.joined);
            }
            at = to;
            count += 1;
        }
        chunk.commit_all();
        count
    }
}

impl Push for crossbeam_channel::Sender<Box<[u8]>> {
    fn push(&mut self, payload: &[u8]) -> bool {
        // Asked first: a box that is not taken would be made for nothing.
        !self.is_full() && self.try_send(payload.into()).is_ok()
    }
}

impl Pop for crossbeam_channel::Receiver<Box<[u8]>> {
    fn pop(&mut self) -> usize {
        self.try_iter().inspect(|payload| read(payload)).count()
    }
}

/// It cannot be asked whether it is full: what it did not take is kept.
struct StdSender(std::sync::mpsc::SyncSender<Box<[u8]>>, Option<Box<[u8]>>);

impl Push for StdSender {
    fn push(&mut self, payload: &[u8]) -> bool {
        let payload = self.1.take().unwrap_or_else(|| payload.into());
        match self.0.try_send(payload) {
            Ok(()) => true,
            Err(std::sync::mpsc::TrySendError::Full(payload)) => {
                self.1 = Some(payload);
                false
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Pop for std::sync::mpsc::Receiver<Box<[u8]>> {
    fn pop(&mut self) -> usize {
        self.try_iter().inspect(|payload| read(payload)).count()
    }
}

/// Nanoseconds for each record.
fn one_core(size: usize, count: usize, (mut push, mut pop): (impl Push, impl Pop)) -> f64 {
    let payload = vec![b'x'; size];
    let batch = (BATCH / size).max(1);
    let began = Instant::now();
    let mut popped = 0;
    for _ in 0..count / batch {
        for _ in 0..batch {
            assert!(push.push(black_box(&payload)), "a batch fits");
        }
        let mut left = batch;
        while left > 0 {
            let n = pop.pop();
            left -= n;
            popped += n;
        }
    }
    began.elapsed().as_nanos() as f64 / popped as f64
}

fn two_cores(size: usize, count: usize, (mut push, mut pop): (impl Push, impl Pop)) -> f64 {
    let payload = vec![b'x'; size];
    let began = Instant::now();
    let writer = std::thread::spawn(move || {
        for _ in 0..count {
            while !push.push(black_box(&payload)) {
                std::thread::yield_now();
            }
        }
        // Kept until all was read.
        push
    });
    let mut popped = 0;
    while popped < count {
        let n = pop.pop();
        popped += n;
        if n == 0 {
            std::thread::yield_now();
        }
    }
    let nanos = began.elapsed().as_nanos() as f64 / count as f64;
    drop(writer.join());
    nanos
}

fn rtrb_ring() -> (rtrb::Producer<u8>, RtrbReader) {
    let (producer, ring) = rtrb::RingBuffer::new(CAPACITY);
    let joined = Vec::new();
    (producer, RtrbReader { ring, joined })
}

fn std_channel(size: usize) -> (StdSender, std::sync::mpsc::Receiver<Box<[u8]>>) {
    let (sender, receiver) = std::sync::mpsc::sync_channel(CAPACITY / size);
    (StdSender(sender, None), receiver)
}

fn main() {
    let is_set = |name: &str| std::env::args().any(|arg| arg == name);
    let is_smoke = is_set("--test") || !is_set("--bench");
    let (rounds, bytes) = if is_smoke {
        (1, 1 << 20)
    } else {
        (7, 256 << 20)
    };
    println!("ns for each record: the median of {rounds} rounds, and over fanin's ring");
    println!(
        "{:>9} {:>5} {:>10} {:>17} {:>17} {:>17}",
        "bytes", "cores", "fanin", "rtrb", "crossbeam", "std mpsc"
    );
    for size in SIZES {
        let count = (bytes / size).clamp(BATCH / size + 1, 2_000_000);
        for cores in [1, 2] {
            let mut seen: [Vec<f64>; 4] = Default::default();
            for _ in 0..rounds {
                let channel = crossbeam_channel::bounded(CAPACITY / size);
                let nanos = if cores == 1 {
                    [
                        one_core(size, count, byte_ring(CAPACITY)),
                        one_core(size, count, rtrb_ring()),
                        one_core(size, count, channel),
                        one_core(size, count, std_channel(size)),
                    ]
                } else {
                    [
                        two_cores(size, count, byte_ring(CAPACITY)),
                        two_cores(size, count, rtrb_ring()),
                        two_cores(size, count, channel),
                        two_cores(size, count, std_channel(size)),
                    ]
                };
                for (seen, nanos) in seen.iter_mut().zip(nanos) {
                    seen.push(nanos);
                }
            }
            let [fanin, others @ ..] = seen.map(|mut nanos| {
                nanos.sort_by(f64::total_cmp);
                nanos[nanos.len() / 2]
            });
            let cells = others.map(|ns| format!("{:>10.1} ({:.2})", ns, ns / fanin));
            println!(
                "{size:>9} {cores:>5} {fanin:>10.1} {:>17} {:>17} {:>17}",
                cells[0], cells[1], cells[2]
            );
        }
    }
}
