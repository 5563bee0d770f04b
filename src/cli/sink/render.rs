//! A batch as the bytes that a sink writes, and back: how many of these bytes are which messages.
//!
//! In: records of messages. Out: slices for one `writev`, and the last message wholly in so many bytes.
//! Never here: a write, or more of a batch at once than a write takes: the memory for it is a term of
//! promise 1. A byte is copied only where it must change, or where a copy costs less than a slice.

use std::io::IoSlice;
use std::ops::Range;

use clap::ValueEnum;
use fanin::{Framing, MessageIter, Messages};

/// Below this a copy is cheaper than one more slice for the kernel to walk.
const COPY_BELOW: usize = 256;
/// Records rendered at once: about as many slices as the kernel takes.
const MOST_RECORDS: usize = 1024;
/// Bytes that are copied at once; the record that reaches it is the last.
const COPY_UP_TO: usize = 256 << 10;

/// The most memory that rendering takes, where a record has at most so many bytes.
pub(crate) const fn most_memory(record: usize) -> usize {
    // Escaped, all of them may double; a `Vec` that grows doubles as well.
    let changed = 2 * (COPY_UP_TO + 2 * record);
    let each = size_of::<Span<Messages<'static>>>()
        + 3 * size_of::<Piece<'static>>()
        + 3 * size_of::<IoSlice<'static>>();
    changed + 2 * MOST_RECORDS * each
}

/// What the rendering needs to know of a record's messages.
pub(crate) trait Text<'b> {
    type Iter: Iterator<Item = &'b [u8]>;
    fn raw(&self) -> &'b [u8];
    fn framing(&self) -> &Framing;
    fn iter(&self) -> Self::Iter;
    fn count(&self) -> usize;
    fn shape(&self) -> Shape;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Whole messages with their delimiters or prefixes.
    Framed,
    /// One message without its marks: cut at the largest size.
    Truncated,
    /// One message without its marks: the stream ended first.
    Unterminated,
}

impl<'b> Text<'b> for Messages<'b> {
    type Iter = MessageIter<'b>;
    fn raw(&self) -> &'b [u8] {
        Messages::raw(self)
    }
    fn framing(&self) -> &Framing {
        Messages::framing(self)
    }
    fn iter(&self) -> MessageIter<'b> {
        Messages::iter(self)
    }
    fn count(&self) -> usize {
        Messages::count(self)
    }
    fn shape(&self) -> Shape {
        if self.is_unterminated() {
            Shape::Unterminated
        } else if self.is_truncated() || self.is_whole() {
            Shape::Truncated
        } else {
            Shape::Framed
        }
    }
}

/// `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Line,
    Raw,
}

/// How to render, and the room for what has to change.
#[derive(Debug)]
pub(crate) struct Renderer {
    output: Output,
    /// Lines are copied as they are: no message can hold an LF.
    verbatim: bool,
    changed: Vec<u8>,
}

#[derive(Debug)]
enum Piece<'r> {
    Raw(&'r [u8]),
    Changed(Range<usize>),
}

struct Span<T> {
    text: T,
    /// Where its bytes end, counted from the batch's first.
    end: u64,
}

/// A batch, ready to be written.
pub(crate) struct Rendered<'r, T> {
    changed: &'r [u8],
    pieces: Vec<Piece<'r>>,
    spans: Vec<Span<T>>,
    escaped: bool,
}

/// The last message that is wholly within so many bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// Where its bytes end.
    pub(crate) end: u64,
    /// How many messages there are up to here.
    pub(crate) messages: u64,
    /// The record it is in; `None`: not one message is whole.
    pub(crate) place: Option<Place>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// All of this record.
    All(usize),
    /// So many raw bytes of this record.
    Within(usize, usize),
}

impl Renderer {
    pub(crate) fn new(output: Output, verbatim: bool) -> Self {
        Self {
            output,
            verbatim,
            changed: Vec::new(),
        }
    }

    /// The next records, as many as are written at once.
    pub(crate) fn render<'r, 'b: 'r, T: Text<'b>>(
        &'r mut self,
        texts: &mut impl Iterator<Item = T>,
    ) -> Rendered<'r, T> {
        let escaped = self.output == Output::Line && !self.verbatim;
        let changed = &mut self.changed;
        changed.clear();
        let mut pieces: Vec<Piece<'r>> = Vec::new();
        let mut spans = Vec::new();
        let mut end = 0;
        while spans.len() < MOST_RECORDS && changed.len() < COPY_UP_TO {
            let Some(text) = texts.next() else { break };
            let from = changed.len();
            let mut borrowed = 0;
            let raw = text.raw();
            if escaped && text.shape() == Shape::Framed {
                text.iter().for_each(|message| escape(message, changed));
            } else if escaped {
                escape(raw, changed);
            } else {
                let close = text.shape() == Shape::Truncated
                    || (text.shape() == Shape::Unterminated && self.output == Output::Line);
                if close {
                    prefix(text.framing(), raw.len(), changed);
                }
                if raw.len() < COPY_BELOW {
                    changed.extend_from_slice(raw);
                } else {
                    push_changed(&mut pieces, from..changed.len());
                    pieces.push(Piece::Raw(raw));
                    borrowed = raw.len();
                }
                let after = if borrowed > 0 { changed.len() } else { from };
                if close {
                    changed.extend_from_slice(delimiter(text.framing()).as_slice());
                }
                push_changed(&mut pieces, after..changed.len());
            }
            if escaped {
                push_changed(&mut pieces, from..changed.len());
            }
            end += (changed.len() - from + borrowed) as u64;
            spans.push(Span { text, end });
        }
        Rendered {
            changed: &self.changed,
            pieces,
            spans,
            escaped,
        }
    }
}

fn push_changed(pieces: &mut Vec<Piece<'_>>, range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Changed(last)) if last.end == range.start => last.end = range.end,
        _ => pieces.push(Piece::Changed(range)),
    }
}

impl<'b, T: Text<'b>> Rendered<'_, T> {
    /// Nothing was left of the batch.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.end)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.spans.iter().map(|s| s.text.count() as u64).sum()
    }

    pub(crate) fn text(&self, span: usize) -> &T {
        &self.spans[span].text
    }

    pub(crate) fn last(&self) -> Option<&T> {
        self.spans.last().map(|span| &span.text)
    }

    /// All bytes but the first `skip`.
    pub(crate) fn slices(&self, skip: u64) -> Vec<IoSlice<'_>> {
        let mut skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut slices = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let bytes = match piece {
                Piece::Raw(bytes) => bytes,
                Piece::Changed(range) => &self.changed[range.clone()],
            };
            if skip >= bytes.len() {
                skip -= bytes.len();
                continue;
            }
            slices.push(IoSlice::new(&bytes[skip..]));
            skip = 0;
        }
        slices
    }

    /// The last message wholly within the first `accepted` bytes. Walks one record at most: a write
    /// that fails is rare, and nothing is noted in advance for it.
    pub(crate) fn boundary(&self, accepted: u64) -> Boundary {
        let whole = self.spans.partition_point(|span| span.end <= accepted);
        let mut boundary = Boundary {
            end: 0,
            messages: self.spans[..whole]
                .iter()
                .map(|s| s.text.count() as u64)
                .sum(),
            place: whole.checked_sub(1).map(Place::All),
        };
        if let Some(last) = whole.checked_sub(1) {
            boundary.end = self.spans[last].end;
        }
        let Some(Span { text, .. }) = self.spans.get(whole) else {
            return boundary;
        };
        if text.shape() != Shape::Framed {
            return boundary;
        }
        let raw = text.raw();
        let start = boundary.end;
        let mut end = start;
        for message in text.iter() {
            let raw_end = message.as_ptr().addr() - raw.as_ptr().addr()
                + message.len()
                + delimiter(text.framing()).as_slice().len();
            end = match self.escaped {
                true => end + escaped_len(message) as u64,
                false => start + raw_end as u64,
            };
            if end > accepted {
                break;
            }
            boundary.end = end;
            boundary.messages += 1;
            boundary.place = Some(Place::Within(whole, raw_end));
        }
        boundary
    }
}

/// LF as `\n`, backslash as `\\`, nothing else, and the LF that ends the line.
fn escape(message: &[u8], out: &mut Vec<u8>) {
    let mut rest = message;
    while let Some(at) = memchr::memchr2(b'\n', b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if rest[at] == b'\n' { b"\\n" } else { b"\\\\" });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\n');
}

fn escaped_len(message: &[u8]) -> usize {
    message.len() + memchr::memchr2_iter(b'\n', b'\\', message).count() + 1
}

/// What ends a message of this framing.
fn delimiter(framing: &Framing) -> Option<u8> {
    match framing {
        Framing::Line => Some(b'\n'),
        Framing::Nul => Some(0),
        Framing::Byte(byte) => Some(*byte),
        _ => None,
    }
}

/// What begins a message of this framing and so many bytes.
fn prefix(framing: &Framing, len: usize, out: &mut Vec<u8>) {
    // A message that the framing let pass fits its prefix.
    match framing {
        Framing::Octet => out.extend_from_slice(format!("{len} ").as_bytes()),
        Framing::U16 => out.extend_from_slice(&(len as u16).to_be_bytes()),
        Framing::U32 => out.extend_from_slice(&(len as u32).to_be_bytes()),
        Framing::Varint => {
            let mut left = len;
            while left >= 0x80 {
                out.push(left as u8 | 0x80);
                left >>= 7;
            }
            out.push(left as u8);
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
