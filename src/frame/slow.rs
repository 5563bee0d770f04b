//! A reader that takes one byte at a time and thinks of nothing else, and what reads in pieces are held
//! against it: for tests and fuzzers.
//!
//! In: a whole stream, and the same in reads. Out: what came of it, or a panic where the two differ.
//! Never here: a search, a position that is remembered, a line of what is checked.

use super::driver::{Connection, Outcome};
use super::{AtEnd, Framing, Limits, OversizePolicy, at_end, settle};
use crate::close::{CloseReason, DiscardReason};

/// What the reader is in.
enum Place {
    /// A message, of which these bytes are here.
    Message(Vec<u8>),
    /// One that is not delivered: so many of its bytes are still to come.
    Skip(u64),
    /// One that is not delivered, of which these bytes came, up to its delimiter.
    SkipTo(Vec<u8>),
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
                Place::Message(bytes) => slow.message([&bytes[..], &[*byte]].concat()),
                skipped => {
                    slow.outcome.discarded_bytes += 1;
                    slow.skip(skipped, *byte)
                }
            };
        }
        slow
    }

    fn skip(&self, place: Place, byte: u8) -> Place {
        match place {
            Place::Skip(1) => Place::Message(Vec::new()),
            Place::Skip(left) => Place::Skip(left - 1),
            Place::SkipTo(mut bytes) => {
                bytes.push(byte);
                match delimiter(&self.framing) {
                    Some(delimiter) if bytes.ends_with(delimiter) => Place::Message(Vec::new()),
                    _ => Place::SkipTo(bytes),
                }
            }
            other => other,
        }
    }

    fn message(&mut self, bytes: Vec<u8>) -> Place {
        let (prefix, size, marks) = match delimiter(&self.framing) {
            Some(delimiter) if bytes.ends_with(delimiter) => {
                return self.deliver(&bytes[..bytes.len() - delimiter.len()]);
            }
            // What may be the first half of a delimiter is no part of the message yet.
            Some(delimiter) => (0, None, half(delimiter, &bytes)),
            None => match count(&self.framing, &bytes) {
                Count::Short => return Place::Message(bytes),
                Count::None => return self.close(bytes.len(), CloseReason::Protocol),
                Count::Is(prefix, size) => (prefix, Some(size), 0),
            },
        };
        let body = &bytes[prefix..bytes.len() - marks];
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
        match size {
            Some(size) => Place::Skip(size - body.len() as u64),
            None => Place::SkipTo(bytes),
        }
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
            Place::Skip(_) | Place::SkipTo(_) | Place::Closed => &[],
        }
    }
}

/// Of the framings that have one; custom ones are those of `framers`.
fn delimiter(framing: &Framing) -> Option<&[u8]> {
    match framing {
        Framing::Line => Some(b"\n"),
        Framing::Nul => Some(b"\0"),
        Framing::Byte(byte) => Some(std::slice::from_ref(byte)),
        Framing::Custom(framer) if framer.name() == "crlf" => Some(b"\r\n"),
        _ => None,
    }
}

/// How many last bytes may be a delimiter that has not come wholly.
fn half(delimiter: &[u8], bytes: &[u8]) -> usize {
    let is_there = |len: &usize| bytes.ends_with(&delimiter[..*len]);
    (1..delimiter.len()).rev().find(is_there).unwrap_or(0)
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
        Framing::Custom(framer) if framer.name() == "u8" => match fixed(1) {
            Count::Is(_, 0) => Count::None,
            count => count,
        },
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

/// Reads `input` as `reads` have it, byte by byte, and at once, to the end of the stream: each time it
/// must be cut as the slow reader does. Returns what came of it.
pub(crate) fn check(framing: &Framing, limits: Limits, input: &[u8], reads: &[&[u8]]) -> Outcome {
    let settled = match framing {
        Framing::Auto => auto(input),
        _ => Some(framing.clone()),
    };
    let is_auto = matches!(framing, Framing::Auto);
    let framing = settled.clone().unwrap_or(Framing::Line);
    let slow = Slow::read(&framing, limits, input);
    let at_once = [input];
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    for reads in [reads, &bytes, &at_once] {
        let mut fast = match is_auto {
            true => Fast::Undecided(Vec::new()),
            false => Fast::Settled(Box::new(Connection::new(framing.clone(), limits))),
        };
        for read in reads {
            fast.receive(read, limits);
        }
        let mut connection = match fast {
            Fast::Settled(connection) => connection,
            // Undecided to the end means a line: what is staged is cut once more.
            Fast::Undecided(staged) => {
                assert!(settled.is_none(), "not decided by {input:?}");
                let mut connection = Connection::new(Framing::Line, limits);
                connection.staged = staged;
                connection.receive(b"");
                Box::new(connection)
            }
        };
        assert_eq!(connection.outcome, slow.outcome);
        let staged = std::mem::take(&mut connection.staged);
        assert_eq!(staged, slow.rest());
        let expected = match (staged.is_empty(), delimiter(&framing)) {
            (true, _) => AtEnd::Nothing,
            (false, Some(_)) => AtEnd::Deliver,
            (false, None) => AtEnd::Discard(DiscardReason::CutAtEnd),
        };
        let end = at_end(&framing, connection.partial, staged.len());
        assert_eq!(end, expected);
    }
    slow.outcome
}
