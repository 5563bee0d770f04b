//! Messages of a size in a framing, and the least that finds their ends again.

use std::hint::black_box;

use memchr::memchr_iter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Line,
    Octet,
    U32,
}

impl Framing {
    pub(crate) fn find(name: &str) -> Option<Self> {
        let all = [Self::Line, Self::Octet, Self::U32];
        all.into_iter().find(|framing| framing.name() == name)
    }

    pub(crate) fn parse(name: &str) -> Self {
        Self::find(name).unwrap_or_else(|| panic!("no framing of the benches: {name}"))
    }

    /// As the options of fanin have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Octet => "octet",
            Self::U32 => "u32",
        }
    }

    /// A message that takes `size` bytes with its delimiter or its prefix; `None`: none takes just so many.
    pub(crate) fn message(self, size: usize) -> Option<Vec<u8>> {
        let mut message = match self {
            Self::Line => Vec::new(),
            Self::U32 => {
                let count = u32::try_from(size.checked_sub(4)?).ok()?;
                count.to_be_bytes().to_vec()
            }
            Self::Octet => {
                let of = |digits: usize| Some(format!("{} ", size.checked_sub(digits + 1)?));
                let fitting = |digits| of(digits).filter(|prefix| prefix.len() == digits + 1);
                (1..10).find_map(fitting)?.into_bytes()
            }
        };
        message.resize(size, b'x');
        if self == Self::Line {
            message[size - 1] = b'\n';
        }
        Some(message)
    }
}

/// Where a connection stands in its stream of counted messages. Delimiters need no such thing.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Bytes of the current message that are still to come.
    left: usize,
    /// A prefix that is not whole yet.
    prefix: [u8; 12],
    have: usize,
}

/// Visits each end of a message in `chunk`; how many there were.
pub(crate) fn visit(framing: Framing, place: &mut Place, chunk: &[u8]) -> u64 {
    match framing {
        Framing::Line => {
            let mut n = 0;
            for at in memchr_iter(b'\n', chunk) {
                // Visited one by one, as whoever hands on messages must; to count them is cheaper.
                black_box(at);
                n += 1;
            }
            n
        }
        Framing::U32 => walk(place, chunk, |bytes| {
            let count = bytes.first_chunk()?;
            Some((4, u32::from_be_bytes(*count) as usize))
        }),
        Framing::Octet => walk(place, chunk, |bytes| {
            let mut count = 0;
            for (at, byte) in bytes.iter().enumerate() {
                match byte {
                    b' ' => return Some((at + 1, count)),
                    digit => count = count * 10 + usize::from(digit.wrapping_sub(b'0')),
                }
            }
            None
        }),
    }
}

/// From prefix to prefix; a message counts when its prefix has been read.
fn walk(place: &mut Place, chunk: &[u8], prefix: impl Fn(&[u8]) -> Option<(usize, usize)>) -> u64 {
    let mut n = 0;
    let mut at = 0;
    // A prefix that began in an earlier chunk.
    while place.have > 0 && at < chunk.len() {
        place.prefix[place.have] = chunk[at];
        place.have += 1;
        at += 1;
        if let Some((_, count)) = prefix(&place.prefix[..place.have]) {
            black_box(at);
            (place.left, place.have) = (count, 0);
            n += 1;
        }
    }
    loop {
        let present = chunk.len() - at;
        if place.left >= present {
            place.left -= present;
            return n;
        }
        at += place.left;
        place.left = 0;
        let rest = &chunk[at..];
        let Some((len, count)) = prefix(rest) else {
            place.prefix[..rest.len()].copy_from_slice(rest);
            place.have = rest.len();
            return n;
        };
        black_box(at);
        at += len;
        place.left = count;
        n += 1;
    }
}
