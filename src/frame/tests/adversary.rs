//! Hostile streams against a reader that takes one byte at a time and thinks of nothing else.
//!
//! Sizes at and around the largest, counts that are none, delimiters and ends of skipped messages at the
//! edges of reads; every framing, `auto` included, to the end of the stream.

use proptest::prelude::*;

use super::driver::{Connection, Outcome};
use crate::close::{CloseReason, DiscardReason};
use crate::frame::{AtEnd, Framing, Limits, OversizePolicy, at_end, settle};

/// What the reader is in.
enum Place {
    /// A message, of which these bytes are here.
    Message(Vec<u8>),
    /// One that is not delivered; so many of its bytes are still to come, or all up to the delimiter.
    Skip(Option<u64>),
    Closed,
}

struct Slow {
    framing: Framing,
    limits: Limits,
    place: Place,
    outcome: Outcome,
}

impl Slow {
    fn read(framing: &Framing, limits: Limits, input: &[u8]) -> Self {
        let mut slow = Self {
            framing: framing.clone(),
            limits,
            place: Place::Message(Vec::new()),
            outcome: Outcome::default(),
        };
        for byte in input {
            slow.place = match std::mem::replace(&mut slow.place, Place::Closed) {
                Place::Message(mut bytes) => {
                    bytes.push(*byte);
                    slow.message(bytes)
                }
                Place::Skip(left) => slow.skip(left, *byte),
                Place::Closed => {
                    slow.outcome.discarded_bytes += 1;
                    Place::Closed
                }
            };
        }
        slow
    }

    fn skip(&mut self, left: Option<u64>, byte: u8) -> Place {
        self.outcome.discarded_bytes += 1;
        let is_over = match left {
            Some(left) => left == 1,
            None => Some(byte) == delimiter(&self.framing),
        };
        if is_over {
            return Place::Message(Vec::new());
        }
        Place::Skip(left.map(|left| left - 1))
    }

    fn message(&mut self, bytes: Vec<u8>) -> Place {
        let (prefix, size) = match delimiter(&self.framing) {
            Some(delimiter) if bytes.last() == Some(&delimiter) => {
                return self.deliver(&bytes[..bytes.len() - 1]);
            }
            Some(_) => (0, None),
            None => match count(&self.framing, &bytes) {
                Count::Short => return Place::Message(bytes),
                Count::None => return self.close(bytes.len(), CloseReason::Protocol),
                Count::Is(prefix, size) => (prefix, Some(size)),
            },
        };
        let body = &bytes[prefix..];
        let is_large = size.unwrap_or(body.len() as u64) > self.limits.max as u64;
        if !is_large {
            return match size {
                Some(size) if size == body.len() as u64 => self.deliver(body),
                _ => Place::Message(bytes),
            };
        }
        let kept = match self.limits.oversize {
            OversizePolicy::Close => return self.close(bytes.len(), CloseReason::Oversize),
            OversizePolicy::Truncate if body.len() < self.limits.max => {
                return Place::Message(bytes);
            }
            OversizePolicy::Truncate => {
                let begun = body[..self.limits.max].to_vec();
                self.outcome.delivered.push((true, begun));
                self.limits.max
            }
            OversizePolicy::Discard => 0,
        };
        self.outcome.discarded_messages += 1;
        self.outcome.discarded_bytes += bytes.len() - kept;
        Place::Skip(size.map(|size| size - body.len() as u64))
    }

    fn deliver(&mut self, body: &[u8]) -> Place {
        self.outcome.delivered.push((false, body.to_vec()));
        Place::Message(Vec::new())
    }

    fn close(&mut self, bytes: usize, why: CloseReason) -> Place {
        self.outcome.discarded_messages += 1;
        self.outcome.discarded_bytes += bytes;
        self.outcome.close = Some(why);
        Place::Closed
    }

    /// What is left of a message when the stream ends here.
    fn rest(&self) -> &[u8] {
        match &self.place {
            Place::Message(bytes) => bytes,
            Place::Skip(_) | Place::Closed => &[],
        }
    }
}

fn delimiter(framing: &Framing) -> Option<u8> {
    match framing {
        Framing::Line => Some(b'\n'),
        Framing::Nul => Some(0),
        Framing::Byte(byte) => Some(*byte),
        _ => None,
    }
}

enum Count {
    Short,
    None,
    Is(usize, u64),
}

fn count(framing: &Framing, bytes: &[u8]) -> Count {
    let fixed = |len: usize| {
        if bytes.len() < len {
            return Count::Short;
        }
        let size = bytes[..len].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        Count::Is(len, size)
    };
    match framing {
        Framing::U16 => fixed(2),
        Framing::U32 => fixed(4),
        Framing::Varint => {
            let groups = bytes.iter().take_while(|byte| **byte >= 0x80).count();
            let mut size = 0u64;
            for (at, byte) in bytes.iter().take(groups + 1).enumerate().take(9) {
                size |= u64::from(byte & 0x7f) << (7 * at);
            }
            if groups >= 5 || size > u64::from(u32::MAX) {
                Count::None
            } else if groups == bytes.len() {
                Count::Short
            } else {
                Count::Is(groups + 1, size)
            }
        }
        Framing::Octet => {
            let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            let digits = text.split(' ').next().unwrap();
            let is_number = digits.chars().all(|c| c.is_ascii_digit()) && !digits.starts_with('0');
            let size = digits.parse().unwrap_or(0u64);
            let is_legal = is_number && digits.len() <= 10 && size <= u64::from(u32::MAX);
            match digits.len() {
                0 => Count::None,
                _ if !is_legal => Count::None,
                len if len == text.len() => Count::Short,
                len => Count::Is(len + 1, size),
            }
        }
        other => unreachable!("{other} has no counts"),
    }
}

/// What `auto` is for these first bytes: as the longest beginning that is still open says.
fn auto(input: &[u8]) -> Option<Framing> {
    let digits = input
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let is_count = (1..=10).contains(&digits) && input[0] != b'0';
    match (is_count, &input[digits..]) {
        (true, [] | [b' ']) => None,
        (true, [b' ', b'<', ..]) => Some(Framing::Octet),
        (false, []) if digits == 0 => None,
        _ => Some(Framing::Line),
    }
}

/// The connection as the reactor drives it.
enum Fast {
    Undecided(Vec<u8>),
    Settled(Box<Connection>),
}

impl Fast {
    fn receive(&mut self, fresh: &[u8], limits: Limits) {
        match self {
            Self::Settled(connection) => {
                connection.receive(fresh);
            }
            Self::Undecided(staged) => match settle(staged, fresh) {
                None => staged.extend_from_slice(fresh),
                Some(framing) => {
                    let mut connection = Connection::new(framing, limits);
                    connection.staged = std::mem::take(staged);
                    connection.receive(fresh);
                    *self = Self::Settled(Box::new(connection));
                }
            },
        }
    }
}

fn framings() -> Vec<Framing> {
    vec![
        Framing::Line,
        Framing::Nul,
        Framing::Byte(b'2'),
        Framing::Octet,
        Framing::Auto,
        Framing::U16,
        Framing::U32,
        Framing::Varint,
    ]
}

/// A message of this size, whose count may say another one.
fn message(framing: &Framing, says: u64, body: usize) -> Vec<u8> {
    let body = vec![b'x'; body];
    let prefix = match framing {
        Framing::Octet => format!("{says} ").into_bytes(),
        Framing::Auto => format!("{says} <").into_bytes(),
        Framing::U16 => (says as u16).to_be_bytes().to_vec(),
        Framing::U32 => (says as u32).to_be_bytes().to_vec(),
        Framing::Varint => {
            let (mut left, mut prefix) = (says as u32, Vec::new());
            while left >= 0x80 {
                prefix.push(left as u8 | 0x80);
                left >>= 7;
            }
            prefix.push(left as u8);
            prefix
        }
        _ => return [body, vec![delimiter(framing).unwrap()]].concat(),
    };
    // The `<` is the message's first byte.
    let body = match framing {
        Framing::Auto => &body[1.min(body.len())..],
        _ => &body[..],
    };
    [&prefix, body].concat()
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let literal: [&[u8]; 18] = [
        b"0 ",
        b"01 x",
        b"1",
        b"1 ",
        b" ",
        b"\n",
        b"9999999999",
        b"4294967295 ",
        b"4294967296 ",
        b"12345678901 ",
        b"12345678901 <",
        b"1234567890 <",
        b"\x80\x00",
        b"\x80\x80\x80\x80\x0f",
        b"\x80\x80\x80\x80\x80",
        b"\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\x10",
        b"\0\0\0\0",
    ];
    let bytes = prop::sample::select(&b"\n\0 012<x\x80\xff"[..]);
    prop_oneof![
        2 => prop::sample::select(literal.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(bytes, 0..8),
        1 => (0usize..40).prop_map(|n| vec![0; n]),
        1 => (0usize..40).prop_map(|n| vec![b'7'; n]),
    ]
}

#[derive(Clone, Debug)]
struct Attack {
    framing: Framing,
    limits: Limits,
    pieces: Vec<Vec<u8>>,
    /// Where the stream ends, as a part of 1,000 of all.
    end: usize,
    /// Where reads end, beside the edges of pieces: as parts of 1,000 of all.
    cuts: Vec<usize>,
    /// Whether a read ends before, at or after the edge of each piece.
    edges: Vec<Option<isize>>,
}

fn attacks() -> impl Strategy<Value = Attack> {
    use OversizePolicy::{Close, Discard, Truncate};
    let framings = prop::sample::select(framings());
    let policies = prop::sample::select(vec![Truncate, Discard, Close]);
    (framings, policies, 16usize..300).prop_flat_map(|(framing, oversize, max)| {
        let sizes = vec![
            0,
            1,
            2,
            max - 1,
            max,
            max + 1,
            max + 2,
            2 * max,
            2 * max + 1,
            5 * max,
        ];
        let size = prop_oneof![3 => prop::sample::select(sizes), 1 => 0..=max];
        let of = framing.clone();
        let honest = size.prop_map(move |size| message(&of, size as u64, size));
        let of = framing.clone();
        let liar = prop::sample::select(vec![1 << 16, u64::from(u32::MAX), 1 << 31, 300])
            .prop_map(move |says| message(&of, says, 3));
        let piece = prop_oneof![20 => honest, 1 => liar, 2 => noise()];
        let edge = prop::option::weighted(0.6, -1isize..=1);
        (
            Just(framing),
            Just(Limits { max, oversize }),
            prop::collection::vec(piece, 0..14),
            prop_oneof![1 => Just(1000), 2 => 0usize..1000],
            prop::collection::vec(0usize..1000, 0..10),
            prop::collection::vec(edge, 14),
        )
            .prop_map(|(framing, limits, pieces, end, cuts, edges)| Attack {
                framing,
                limits,
                pieces,
                end,
                cuts,
                edges,
            })
    })
}

impl Attack {
    fn reads<'i>(&self, input: &'i [u8]) -> Vec<&'i [u8]> {
        let mut ends: Vec<usize> = self.cuts.iter().map(|n| input.len() * n / 1000).collect();
        let mut at = 0;
        for (piece, edge) in self.pieces.iter().zip(&self.edges) {
            at += piece.len();
            ends.extend(edge.map(|by| at.saturating_add_signed(by).min(input.len())));
        }
        ends.push(input.len());
        ends.sort_unstable();
        ends.dedup();
        let mut from = 0;
        let mut reads = Vec::new();
        for end in ends {
            reads.push(&input[from..end]);
            from = end;
        }
        reads.retain(|read| !read.is_empty());
        reads
    }

    fn check(&self) {
        let mut input = self.pieces.concat();
        input.truncate(input.len() * self.end / 1000);
        let settled = match self.framing {
            Framing::Auto => auto(&input),
            _ => Some(self.framing.clone()),
        };
        let framing = settled.clone().unwrap_or(Framing::Line);
        let slow = Slow::read(&framing, self.limits, &input);
        let ways = [self.reads(&input), input.chunks(1).collect(), vec![&input]];
        for reads in ways {
            let mut fast = match self.framing {
                Framing::Auto => Fast::Undecided(Vec::new()),
                _ => Fast::Settled(Box::new(Connection::new(framing.clone(), self.limits))),
            };
            for read in reads {
                fast.receive(read, self.limits);
            }
            let (outcome, partial, staged) = match fast {
                Fast::Undecided(staged) => {
                    assert!(settled.is_none(), "not decided by {input:?}");
                    (Outcome::default(), Default::default(), staged)
                }
                Fast::Settled(connection) => {
                    let Connection {
                        outcome,
                        partial,
                        staged,
                        ..
                    } = *connection;
                    (outcome, partial, staged)
                }
            };
            assert_eq!(outcome, slow.outcome);
            assert_eq!(staged, slow.rest());
            let expected = match (staged.is_empty(), delimiter(&framing)) {
                (true, _) => AtEnd::Nothing,
                (false, Some(_)) => AtEnd::Deliver,
                (false, None) => AtEnd::Discard(DiscardReason::CutAtEnd),
            };
            assert_eq!(at_end(&framing, partial, staged.len()), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_streams_are_cut_as_the_slow_reader_does(attack in attacks()) {
        attack.check();
    }
}
