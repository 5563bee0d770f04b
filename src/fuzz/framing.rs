//! Each framing against the slow reader: any split of a stream into reads gives the same messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::input::Input;
use crate::frame::driver::{Connection, Outcome};
use crate::frame::framers::{CRLF, U8};
use crate::frame::{Cut, Framer, Framing, Limits, OversizePolicy, Scan, framer_contract, slow};
use crate::reactor::claim_len;
use crate::ring::record::{OPENED_LEN, TIME_LEN, record_len};

/// The slow reader's work grows with the square of a message.
const MOST: usize = 2048;

/// Line, NUL, any byte.
pub fn delimited(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let framings = [Framing::Line, Framing::Nul, Framing::Byte(b'2')];
    let framing = framings[input.below(3)].clone();
    any_split(&framing, input)
}

/// Octet counting.
pub fn octet(data: &[u8]) -> bool {
    any_split(&Framing::Octet, Input::new(data))
}

/// Octet counting or lines, by the first bytes.
pub fn auto(data: &[u8]) -> bool {
    any_split(&Framing::Auto, Input::new(data))
}

/// Big-endian counts of two and four bytes.
pub fn prefixed(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let framings = [Framing::U16, Framing::U32];
    let framing = framings[input.below(2)].clone();
    any_split(&framing, input)
}

/// LEB128 counts.
pub fn varint(data: &[u8]) -> bool {
    any_split(&Framing::Varint, Input::new(data))
}

/// Embedders' framers: two good ones, and one that says whatever the input has it say.
pub fn custom(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let good: Arc<dyn Framer> = match input.below(3) {
        0 => Arc::new(CRLF),
        1 => Arc::new(U8),
        _ => return lies(input),
    };
    // The contract's work grows with the square of the input.
    let short = &data[..data.len().min(48)];
    framer_contract(&*good, short, 4).expect("a good framer");
    any_split(&Framing::Custom(good), input)
}

fn limits(input: &mut Input<'_>) -> Limits {
    let policies = [
        OversizePolicy::Truncate,
        OversizePolicy::Discard,
        OversizePolicy::Close,
    ];
    Limits {
        oversize: input.one_of(&policies),
        max: 1 + input.below(64),
    }
}

/// Some limits, four sizes of reads that take turns, and a stream.
fn any_split(framing: &Framing, mut input: Input<'_>) -> bool {
    let limits = limits(&mut input);
    let sizes = [(); 4].map(|()| 1 + input.below(100));
    let stream = input.rest();
    let stream = &stream[..stream.len().min(MOST)];
    let reads = split(stream, &sizes);
    let outcome = slow::check(framing, limits, stream, &reads);
    if !matches!(framing, Framing::Auto) {
        claims_are_enough(framing.clone(), limits, &reads);
    }
    outcome != Outcome::default()
}

fn split<'s>(stream: &'s [u8], sizes: &[usize]) -> Vec<&'s [u8]> {
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    let mut reads = Vec::new();
    while !rest.is_empty() {
        let size = sizes.next().map_or(1, |size| rest.len().min(*size));
        let (read, after) = rest.split_at(size);
        reads.push(read);
        rest = after;
    }
    reads
}

/// Whatever a read turns out to be, its records fit the claim that is made for it.
fn claims_are_enough(framing: Framing, limits: Limits, reads: &[&[u8]]) -> Outcome {
    let mut connection = Connection::new(framing, limits);
    for read in reads {
        let staged = connection.staged.len();
        connection.receive(read);
        let records = connection.cuts.iter().map(|cut| match *cut {
            Cut::Messages { start, end } | Cut::Truncated { start, end } => record_len(end - start),
            Cut::Discard { .. } => record_len(24),
            Cut::Rest { .. } | Cut::Close { .. } => 0,
        });
        let needed = TIME_LEN + OPENED_LEN + records.sum::<usize>();
        let claim = claim_len(staged, read.len(), limits.max);
        assert!(
            needed <= claim,
            "{needed} of {claim}: {:?}",
            connection.cuts
        );
    }
    connection.outcome
}

/// A framer that is wrong in every way costs its connection only: each byte is in one cut, in order, no
/// more is kept than a message takes, and the claim is large enough.
fn lies(mut input: Input<'_>) -> bool {
    let limits = limits(&mut input);
    let script: Vec<u8> = (0..32).map(|_| input.byte()).collect();
    let sizes = [(); 4].map(|()| 1 + input.below(100));
    let stream = input.rest();
    let stream = &stream[..stream.len().min(MOST)];
    let framing = Framing::Custom(Arc::new(Liar {
        script,
        at: AtomicUsize::new(0),
    }));
    let outcome = claims_are_enough(framing, limits, &split(stream, &sizes));
    outcome != Outcome::default()
}

/// Reads its answers from a script, again and again.
#[derive(Debug)]
struct Liar {
    script: Vec<u8>,
    at: AtomicUsize,
}

impl Liar {
    fn next(&self) -> usize {
        let at = self.at.fetch_add(1, Ordering::Relaxed);
        usize::from(self.script[at % self.script.len()])
    }

    /// Often about as large as what it is said of.
    fn near(&self, len: usize) -> usize {
        match self.next() {
            255 => usize::MAX,
            254 => 1 << 33,
            n if n < 128 => n,
            n => len.saturating_add_signed(n as isize - 160),
        }
    }
}

impl Framer for Liar {
    fn scan(&self, _staged: &[u8], fresh: &[u8], max: usize) -> Scan {
        let end = self.near(fresh.len());
        match self.next() % 4 {
            0 => Scan::Invalid { end },
            1 => Scan::Whole {
                end,
                need: self.near(max),
            },
            kind => Scan::Oversize {
                end,
                prefix: self.next() % 20,
                size: (kind == 2).then(|| self.near(max)),
            },
        }
    }

    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        // The same each time: a count and a walk must agree.
        bytes.split_at_checked(usize::from(*bytes.first()?) % 5)
    }

    fn resync(&self, tail: &[u8], fresh: &[u8]) -> Option<usize> {
        assert!(tail.len() <= 6);
        (!self.next().is_multiple_of(3)).then(|| self.near(fresh.len()))
    }

    fn delivers_unterminated(&self) -> bool {
        self.script[0].is_multiple_of(2)
    }

    fn name(&self) -> &str {
        "liar"
    }
}
