//! What each message says, how long it is and how it looks on the wire.
//!
//! In: seed, connection, sequence number. Out: bytes, the same in every process that asks.
//! Never here: a socket or a file.

use anyhow::{Context, Result, bail, ensure};

/// Shorter messages carry no `c<conn>-m<seq>-`, but a few characters that encode both.
const SHORT: usize = 24;
/// 64 characters, none of them a digit (`auto` reads one as a count), `\`, `|` or blank.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&*+-./:;";
/// Sequence numbers in short messages wrap here.
const MOST_TAGS: u64 = 1 << 20;

/// A framing as a sender writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Line,
    Nul,
    Byte(u8),
    Octet,
    AutoLine,
    AutoOctet,
    U16,
    U32,
    Varint,
}

impl Wire {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "line" => Self::Line,
            "nul" => Self::Nul,
            "octet" => Self::Octet,
            "auto-line" => Self::AutoLine,
            "auto-octet" => Self::AutoOctet,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "varint" => Self::Varint,
            other => {
                let byte = other.strip_prefix("byte:0x").with_context(|| {
                    format!("`{other}` is none of line, nul, byte:0xNN, octet, auto-line, auto-octet, u16, u32, varint")
                })?;
                let byte =
                    u8::from_str_radix(byte, 16).context("byte:0xNN takes two hex digits")?;
                ensure!(
                    !byte.is_ascii_alphanumeric() && !LETTERS.contains(&byte),
                    "the delimiter occurs in messages"
                );
                Self::Byte(byte)
            }
        })
    }

    /// The value for the program's `--framing`.
    pub(crate) fn option(self) -> String {
        match self {
            Self::Line => "line".into(),
            Self::Nul => "nul".into(),
            Self::Byte(byte) => format!("byte:0x{byte:02x}"),
            Self::Octet => "octet".into(),
            Self::AutoLine | Self::AutoOctet => "auto".into(),
            Self::U16 => "u16".into(),
            Self::U32 => "u32".into(),
            Self::Varint => "varint".into(),
        }
    }

    /// May a message contain LF and `\`? Then `--output line` escapes them, and we see it do so.
    fn carries_lf(self) -> bool {
        !matches!(
            self,
            Self::Line | Self::AutoLine | Self::Byte(b'\n' | b'\\')
        )
    }

    /// What each text begins with: `auto` takes a count for one only if `<` follows it.
    fn lead(self) -> &'static [u8] {
        match self {
            Self::AutoOctet => b"<",
            _ => b"",
        }
    }

    /// Does `--output line` escape this framing?
    pub(crate) fn is_escaped(self) -> bool {
        self != Self::Line
    }

    fn frame(self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Octet | Self::AutoOctet => {
                out.extend_from_slice(format!("{} ", text.len()).as_bytes());
            }
            Self::U16 => out.extend_from_slice(&(text.len() as u16).to_be_bytes()),
            Self::U32 => out.extend_from_slice(&(text.len() as u32).to_be_bytes()),
            Self::Varint => {
                let mut rest = text.len();
                while rest >= 0x80 {
                    out.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                out.push(rest as u8);
            }
            _ => {}
        }
        out.extend_from_slice(text);
        match self {
            Self::Line | Self::AutoLine => out.push(b'\n'),
            Self::Nul => out.push(0),
            Self::Byte(byte) => out.push(byte),
            _ => {}
        }
    }
}

/// Message sizes: one, or a range from which each message draws its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) least: usize,
    pub(crate) most: usize,
}

impl Sizes {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let sizes = Self {
            least: least
                .parse()
                .context("a size is a number of bytes, or A-B")?,
            most: most
                .parse()
                .context("a size is a number of bytes, or A-B")?,
        };
        if sizes.least == 0 || sizes.most < sizes.least {
            bail!("sizes run from at least 1, upwards");
        }
        Ok(sizes)
    }

    pub(crate) fn mean(self) -> usize {
        (self.least + self.most).div_ceil(2)
    }
}

/// All that decides what is sent. Sender and checker hold the same one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    pub(crate) sizes: Sizes,
    pub(crate) wire: Wire,
}

impl Plan {
    /// Fails if messages would be too short to tell the connections apart.
    pub(crate) fn validate(&self) -> Result<()> {
        let least = self.sizes.least.saturating_sub(self.wire.lead().len());
        ensure!(
            least >= SHORT || tags(space(least), self.connections) >= 2,
            "{} connections cannot be told apart by messages of {} B",
            self.connections,
            self.sizes.least
        );
        ensure!(
            self.wire != Wire::U16 || self.sizes.most <= usize::from(u16::MAX),
            "u16 carries at most 65535 B"
        );
        Ok(())
    }

    /// The shortest messages that tell so many connections apart.
    pub(crate) fn least_size(wire: Wire, connections: u64) -> usize {
        let least = (1..)
            .find(|&size| tags(space(size), connections) >= 2)
            .expect("64^8 is enough for every count");
        wire.lead().len() + least
    }

    fn size(&self, conn: u64, seq: u64) -> usize {
        let span = (self.sizes.most - self.sizes.least + 1) as u64;
        self.sizes.least + (mix(self.seed ^ 0x5153, conn, seq) % span) as usize
    }

    /// Replaces `out` by the message's text.
    pub(crate) fn text(&self, conn: u64, seq: u64, out: &mut Vec<u8>) {
        use std::io::Write as _;
        out.clear();
        let size = self.size(conn, seq);
        out.extend_from_slice(self.wire.lead());
        let rest = size - out.len();
        if rest < SHORT {
            let tags = tags(space(rest), self.connections);
            let mut value = conn * tags + seq % tags;
            for _ in 0..rest.min(8) {
                out.push(LETTERS[(value & 63) as usize]);
                value >>= 6;
            }
        } else {
            write!(out, "c{conn}-m{seq}-").expect("a Vec takes everything");
        }
        let mut state = mix(self.seed, conn, seq);
        while out.len() < size {
            state = splitmix(state);
            for byte in state.to_le_bytes() {
                let letter = match byte {
                    255 if self.wire.carries_lf() => b'\n',
                    254 if self.wire.carries_lf() => b'\\',
                    _ => LETTERS[usize::from(byte & 63)],
                };
                out.push(letter);
            }
        }
        out.truncate(size);
    }

    /// Appends the framed message; `scratch` is only there to be used again.
    pub(crate) fn framed(&self, conn: u64, seq: u64, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        self.text(conn, seq, scratch);
        self.wire.frame(scratch, out);
    }

    /// Whom does this text name? The sequence number is missing from short messages.
    pub(crate) fn named(&self, text: &[u8]) -> Option<(u64, Option<u64>)> {
        let text = text.strip_prefix(self.wire.lead())?;
        if text.len() < SHORT {
            let mut value = 0;
            for &byte in text.iter().take(8).rev() {
                let digit = LETTERS.iter().position(|&letter| letter == byte)?;
                value = value << 6 | digit as u64;
            }
            let tags = tags(space(text.len()), self.connections);
            let conn = value / tags.max(1);
            return (conn < self.connections).then_some((conn, None));
        }
        let head = std::str::from_utf8(&text[..SHORT]).ok()?;
        let (conn, rest) = head.strip_prefix('c')?.split_once("-m")?;
        let (seq, _) = rest.split_once('-')?;
        let (conn, seq) = (conn.parse().ok()?, seq.parse().ok()?);
        (conn < self.connections && seq < self.messages).then_some((conn, Some(seq)))
    }

    /// The line that `--output line` makes of a text.
    pub(crate) fn line(&self, text: &[u8], out: &mut Vec<u8>) {
        for &byte in text {
            match byte {
                b'\n' if self.wire.is_escaped() => out.extend_from_slice(b"\\n"),
                b'\\' if self.wire.is_escaped() => out.extend_from_slice(b"\\\\"),
                other => out.push(other),
            }
        }
        out.push(b'\n');
    }

    /// Replaces `out` by the text of a line (without its LF); `None`: no escape begins like that.
    pub(crate) fn unline(&self, line: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        if !self.wire.is_escaped() || memchr::memchr(b'\\', line).is_none() {
            out.extend_from_slice(line);
            return Some(());
        }
        let mut bytes = line.iter();
        while let Some(&byte) = bytes.next() {
            out.push(match byte {
                b'\\' => match bytes.next()? {
                    b'n' => b'\n',
                    b'\\' => b'\\',
                    _ => return None,
                },
                other => other,
            });
        }
        Some(())
    }
}

fn space(size: usize) -> u64 {
    1 << (6 * size.min(8))
}

fn tags(space: u64, connections: u64) -> u64 {
    (space / connections.max(1)).min(MOST_TAGS)
}

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
pub(crate) fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub(crate) fn mix(seed: u64, conn: u64, seq: u64) -> u64 {
    splitmix(splitmix(splitmix(seed) ^ conn) ^ seq)
}
