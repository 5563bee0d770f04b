//! What every receiver does with what it gets: visits each message, counts, and tells when asked.
//!
//! The same for all, so that what differs is how the bytes came here.

use std::hint::black_box;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::framing::{Framing, Place, visit};
use super::{number, option};

/// What each consumer has counted.
static COUNTED: Mutex<Vec<Arc<Counted>>> = Mutex::new(Vec::new());
/// From send to here, in nanoseconds.
static TIMES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Hexadecimal digits at the beginning of a message that say when it was sent.
pub(crate) const STAMP: usize = 16;

#[derive(Debug, Default)]
struct Counted {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// The clock that processes share.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[derive(Debug)]
pub(crate) struct Work {
    framing: Framing,
    messages: u64,
    bytes: u64,
    counted: Arc<Counted>,
    /// `None`: messages carry no time.
    times: Option<Vec<u64>>,
    pace: Option<Pace>,
}

/// A consumer that is slower than its senders: it sleeps, which costs no processor time.
#[derive(Debug)]
struct Pace {
    bytes_per_sec: f64,
    began: Option<Instant>,
}

impl Work {
    /// `--latency`, `--slow MIB_PER_SECOND`.
    pub(crate) fn new(framing: Framing, args: &[String]) -> Self {
        let slow = option(args, "--slow").map(|_| number(args, "--slow", 0.0) * 1048576.0);
        let counted = Arc::new(Counted::default());
        COUNTED
            .lock()
            .expect("nobody panics")
            .push(Arc::clone(&counted));
        Self {
            framing,
            messages: 0,
            bytes: 0,
            counted,
            times: args.iter().any(|arg| arg == "--latency").then(Vec::new),
            pace: slow.map(|bytes_per_sec| Pace {
                bytes_per_sec,
                began: None,
            }),
        }
    }

    /// Bytes as they came, of a connection that stands at `place`.
    pub(crate) fn chunk(&mut self, place: &mut Place, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        if self.times.is_none() {
            self.messages += visit(self.framing, place, chunk);
            return;
        }
        for line in chunk.split_inclusive(|&byte| byte == b'\n') {
            self.messages += u64::from(line.ends_with(b"\n"));
            self.note(line);
        }
    }

    /// Messages that were told apart already, which take so many bytes with their marks.
    pub(crate) fn messages<'m>(&mut self, messages: impl Iterator<Item = &'m [u8]>, bytes: usize) {
        self.bytes += bytes as u64;
        if self.times.is_none() {
            self.messages += messages.fold(0, |n, message| {
                black_box(message);
                n + 1
            });
            return;
        }
        for message in messages {
            self.messages += 1;
            self.note(message);
        }
    }

    fn note(&mut self, message: &[u8]) {
        let digits = message
            .get(..STAMP)
            .and_then(|d| std::str::from_utf8(d).ok());
        let sent = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        // Half of a message, where a ring ends, has none.
        if let (Some(sent), Some(times)) = (sent, &mut self.times) {
            times.push(now().saturating_sub(sent));
        }
    }

    /// At the end of a batch or a turn.
    pub(crate) fn publish(&mut self) {
        // Relaxed: read when all is over.
        self.counted
            .messages
            .store(self.messages, Ordering::Relaxed);
        self.counted.bytes.store(self.bytes, Ordering::Relaxed);
        if let Some(times) = self.times.as_mut().filter(|times| !times.is_empty()) {
            TIMES.lock().expect("nobody panics").append(times);
        }
        if let Some(pace) = &mut self.pace {
            let began = *pace.began.get_or_insert_with(Instant::now);
            let due = Duration::from_secs_f64(self.bytes as f64 / pace.bytes_per_sec);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

/// Waits for the end of standard input, and says what was counted. Never returns.
pub(crate) fn tell_at_the_end() -> ! {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let mut times = std::mem::take(&mut *TIMES.lock().expect("nobody panics"));
    times.sort_unstable();
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times
            .get(place.min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    };
    let counted = COUNTED.lock().expect("nobody panics");
    let sum = |of: fn(&Counted) -> &AtomicU64| -> u64 {
        counted
            .iter()
            .map(|one| of(one).load(Ordering::Relaxed))
            .sum()
    };
    println!(
        "{} {} {} {} {} {}",
        sum(|one| &one.messages),
        sum(|one| &one.bytes),
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999)
    );
    std::process::exit(0)
}
