//! Framings by name, as settings and reports have them.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use super::Framing;
use crate::words::nearest;

/// Those that are one word each.
const NAMES: [&str; 7] = ["line", "nul", "octet", "auto", "u16", "u32", "varint"];
const LEGAL: &str =
    "are line, nul, byte:0xNN (or byte:N, 0 to 255), octet, auto, u16, u32 and varint";

/// A name that is no framing's. Its text says which names are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseFramingError {
    /// No framing is called so.
    Unknown(String),
    /// What stands after `byte:` is no byte.
    NotAByte(String),
}

impl fmt::Display for ParseFramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => match nearest(name, &NAMES) {
                Some(near) => {
                    write!(f, "{name:?} is no framing; {near}, perhaps? Legal {LEGAL}")
                }
                None => write!(f, "{name:?} is no framing: legal {LEGAL}"),
            },
            Self::NotAByte(byte) => {
                write!(f, "{byte:?} after \"byte:\" is no byte: legal {LEGAL}")
            }
        }
    }
}

impl Error for ParseFramingError {}

/// From `line`, `nul`, `byte:0x7c`, `byte:124`, `octet`, `auto`, `u16`, `u32` or `varint`. A custom
/// framing has no name here.
///
/// ```
/// use fanin::Framing;
/// assert!(matches!("byte:0x7c".parse(), Ok(Framing::Byte(b'|'))));
/// assert!("lines".parse::<Framing>().is_err());
/// ```
impl FromStr for Framing {
    type Err = ParseFramingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "line" => Self::Line,
            "nul" => Self::Nul,
            "octet" => Self::Octet,
            "auto" => Self::Auto,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "varint" => Self::Varint,
            other => {
                let Some(byte) = other.strip_prefix("byte:") else {
                    return Err(ParseFramingError::Unknown(other.to_owned()));
                };
                parse_byte(byte)
                    .map(Self::Byte)
                    .ok_or_else(|| ParseFramingError::NotAByte(byte.to_owned()))?
            }
        })
    }
}

fn parse_byte(text: &str) -> Option<u8> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    // The standard library would take a sign.
    if digits.starts_with('+') {
        return None;
    }
    u8::from_str_radix(digits, radix).ok()
}

/// The name that parses to it again; a custom framing gives its own.
impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => f.pad("line"),
            Self::Nul => f.pad("nul"),
            Self::Byte(byte) => f.pad(&format!("byte:{byte:#04x}")),
            Self::Octet => f.pad("octet"),
            Self::Auto => f.pad("auto"),
            Self::U16 => f.pad("u16"),
            Self::U32 => f.pad("u32"),
            Self::Varint => f.pad("varint"),
            Self::Custom(framer) => f.pad(framer.name()),
        }
    }
}
