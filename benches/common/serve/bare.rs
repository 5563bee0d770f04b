//! The bare hand-off: the least that brings bytes from one thread to another.
//!
//! recv goes straight into a ring; the other thread finds the ends of the messages there. No records, no
//! state of a connection, no limits, no books. Messages that are counted, and not delimited, cannot be
//! found without: for them each read has a head of eight bytes, and the consumer knows where each connection
//! stands.
#![allow(unsafe_code, reason = "that it can be cheaper unsafely is the point")]

use std::cell::UnsafeCell;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::polling::{self, Conn, Reader};
use super::thread as spawn;
use crate::common::RING;
use crate::common::framing::{Framing, Place};
use crate::common::work::Work;

/// The largest read.
const READ: usize = 128 << 10;
/// A consumer that sleeps is woken after so many bytes, and at the end of a turn. A turn of full reads from
/// fifty connections is most of the ring: woken for all of it, the consumer found it out of the cache, and
/// the whole cost a sixth more. Woken for each 256 KiB, it slept three times as often, and gained nothing.
const WAKE: usize = 1 << 20;
/// The consumer gives back at least so often.
const BATCH: usize = 128 << 10;
const HEAD: usize = 8;
/// In place of a connection: the rest before the ring's end holds nothing.
const PADDING: u32 = u32::MAX;

/// Lines of their own for what each side writes.
#[repr(align(128))]
struct Lane<T>(T);

struct Ring {
    bytes: Box<[UnsafeCell<u8>]>,
    /// Bytes ever written.
    written: Lane<AtomicUsize>,
    /// Bytes ever given back.
    read: Lane<AtomicUsize>,
    /// The consumer sleeps.
    parked: Lane<AtomicBool>,
    /// The producer sleeps until so many bytes are given back; 0: it does not.
    wake_at: Lane<AtomicUsize>,
    consumer: OnceLock<Thread>,
    producer: OnceLock<Thread>,
}

// SAFETY: the bytes between `read` and `written` are the consumer's, the others the producer's; each
// advances its own counter (Release) only when it is done with what it passes, and the other side looks at
// it (Acquire) before it takes over.
unsafe impl Sync for Ring {}

impl Ring {
    fn new() -> Self {
        // Each page touched, as those of fanin's ring are.
        let zeros = (0..RING).map(|_| UnsafeCell::new(std::hint::black_box(0)));
        let bytes = zeros.collect();
        Self {
            bytes,
            written: Lane(AtomicUsize::new(0)),
            read: Lane(AtomicUsize::new(0)),
            parked: Lane(AtomicBool::new(false)),
            wake_at: Lane(AtomicUsize::new(0)),
            consumer: OnceLock::new(),
            producer: OnceLock::new(),
        }
    }

    /// # Safety
    ///
    /// `[at, at + len)` of the ring is the caller's side's, and borrowed once.
    #[allow(clippy::mut_from_ref, reason = "see Safety")]
    unsafe fn slice(&self, at: usize, len: usize) -> &mut [u8] {
        let at = at & (RING - 1);
        assert!(at + len <= RING);
        // SAFETY: in bounds, as was asserted; the caller answers for who else has it. `UnsafeCell<u8>` has
        // the layout of `u8`.
        unsafe { std::slice::from_raw_parts_mut(self.bytes[at].get(), len) }
    }

    /// Publishes, and nobody is woken yet.
    fn publish(&self, written: usize) {
        self.written.0.store(written, Ordering::Release);
    }

    fn wake_consumer(&self) {
        fence(Ordering::SeqCst);
        if self.parked.0.load(Ordering::Relaxed) {
            self.parked.0.store(false, Ordering::Relaxed);
            self.consumer.get().expect("started").unpark();
        }
    }

    /// Sleeps until `target` bytes in all were given back.
    fn wait_for_room(&self, target: usize) {
        self.wake_consumer();
        loop {
            self.wake_at.0.store(target, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.read.0.load(Ordering::Acquire) >= target {
                self.wake_at.0.store(0, Ordering::Relaxed);
                return;
            }
            thread::park();
        }
    }

    fn give_back(&self, read: usize) {
        self.read.0.store(read, Ordering::Release);
        fence(Ordering::SeqCst);
        let target = self.wake_at.0.load(Ordering::Relaxed);
        if target > 0 && read >= target {
            self.wake_at.0.store(0, Ordering::Relaxed);
            self.producer.get().expect("started").unpark();
        }
    }

    /// What there is to read after `read`, up to the ring's end; sleeps while there is nothing.
    fn readable(&self, read: usize) -> usize {
        loop {
            let written = self.written.0.load(Ordering::Acquire);
            if written > read {
                return (written - read).min(RING - (read & (RING - 1)));
            }
            self.parked.0.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.written.0.load(Ordering::Acquire) == read {
                thread::park();
            }
            self.parked.0.store(false, Ordering::Relaxed);
        }
    }
}

struct Producer {
    ring: Arc<Ring>,
    written: usize,
    /// What the consumer was last seen to have given back.
    read: usize,
    /// Where a consumer that slept was woken last.
    announced: usize,
    head: usize,
}

impl Producer {
    /// Room to write at `written`, up to the ring's end: at least `least` bytes.
    fn room(&mut self, least: usize) -> usize {
        loop {
            let room = RING - (self.written - self.read);
            let contiguous = room.min(RING - (self.written & (RING - 1)));
            if contiguous >= least {
                return contiguous;
            }
            if room > contiguous {
                // The rest before the end is too small: nothing is written there.
                // SAFETY: it is vacant, and so the producer's.
                let rest = unsafe { self.ring.slice(self.written, contiguous) };
                rest[..4].copy_from_slice(&PADDING.to_ne_bytes());
                self.written += contiguous;
                self.ring.publish(self.written);
                continue;
            }
            self.read = self.ring.read.0.load(Ordering::Acquire);
            if RING - (self.written - self.read) < least + HEAD {
                // Down to a half, so that it is not woken for each batch.
                let half = self.written - RING / 2;
                self.ring.wait_for_room(half);
                self.read = self.ring.read.0.load(Ordering::Acquire);
            }
        }
    }
}

impl Reader for Producer {
    fn read(&mut self, key: usize, conn: &mut Conn) -> Result<(usize, usize), Errno> {
        // Without a head any byte will do: it is read again at once where the ring begins.
        let least = if self.head > 0 { HEAD + 4096 } else { 1 };
        let room = self.room(least).min(self.head + READ);
        // SAFETY: `room` bytes are vacant, and so the producer's.
        let into = unsafe { self.ring.slice(self.written, room) };
        let asked = room - self.head;
        let (n, _) = rustix::net::recv(&conn.stream, &mut into[self.head..], RecvFlags::empty())?;
        if n > 0 {
            let mut len = n;
            if self.head > 0 {
                into[..4].copy_from_slice(&(key as u32).to_ne_bytes());
                into[4..HEAD].copy_from_slice(&(n as u32).to_ne_bytes());
                len = (HEAD + n).next_multiple_of(HEAD);
            }
            self.written += len;
            self.ring.publish(self.written);
            if self.written - self.announced >= WAKE {
                self.end_turn();
            }
        }
        Ok((n, asked))
    }

    fn end_turn(&mut self) {
        self.announced = self.written;
        self.ring.wake_consumer();
    }
}

/// Delimited messages: whatever there is, whoever sent it.
fn consume(ring: &Ring, mut work: Work) {
    let mut read = 0;
    let mut place = Place::default();
    loop {
        let n = ring.readable(read).min(BATCH);
        // SAFETY: these bytes are published and not given back, and so the consumer's.
        work.chunk(&mut place, unsafe { ring.slice(read, n) });
        work.publish();
        read += n;
        ring.give_back(read);
    }
}

/// Counted messages: one head after the other.
fn consume_headed(ring: &Ring, mut work: Work) {
    let mut read = 0;
    let mut places: Vec<Place> = Vec::new();
    loop {
        let there = ring.readable(read);
        // SAFETY: as above.
        let bytes: &[u8] = unsafe { ring.slice(read, there) };
        let mut at = 0;
        while at < there.min(BATCH) {
            let word =
                |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
            let key = word(at);
            if key == PADDING {
                at = there;
                break;
            }
            let (key, len) = (key as usize, word(at + 4) as usize);
            if key >= places.len() {
                places.resize_with(key + 1, Place::default);
            }
            work.chunk(&mut places[key], &bytes[at + HEAD..at + HEAD + len]);
            at += (HEAD + len).next_multiple_of(HEAD);
        }
        work.publish();
        read += at;
        ring.give_back(read);
    }
}

pub(super) fn run(listener: TcpListener, work: Work, framing: Framing) {
    let ring = Arc::new(Ring::new());
    let theirs = Arc::clone(&ring);
    spawn("consumer", move || {
        theirs.consumer.set(thread::current()).expect("once");
        match framing {
            Framing::Line => consume(&theirs, work),
            _ => consume_headed(&theirs, work),
        }
    });
    spawn("reactor", move || {
        ring.producer.set(thread::current()).expect("once");
        // Else the first wake would find nobody.
        while ring.consumer.get().is_none() {
            thread::yield_now();
        }
        let head = if framing == Framing::Line { 0 } else { HEAD };
        let producer = Producer {
            ring,
            written: 0,
            read: 0,
            announced: 0,
            head,
        };
        // Edge-triggered, as fanin is: it was cheaper than by levels, at 64-byte lines by a tenth.
        polling::run(listener, true, producer);
    });
}
