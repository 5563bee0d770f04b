//! Sizes and times as people write them.
//!
//! In: `64KiB`, `30s`, `off`. Out: bytes and durations. Never here: a guess.

use std::fmt;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;
use std::time::Duration;

use fanin::{Bytes, Coalesce, ParseBytesError};

/// Why a text is no number of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberError {
    Malformed,
    TooLarge,
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "must be a whole number, not less than 0",
            Self::TooLarge => "is too large a number",
        })
    }
}

impl std::error::Error for NumberError {}

/// A number of things.
pub(crate) fn number<N: FromStr<Err = ParseIntError>>(text: &str) -> Result<N, NumberError> {
    text.parse()
        .map_err(|error: ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow => NumberError::TooLarge,
            _ => NumberError::Malformed,
        })
}

/// Bytes.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let Bytes(bytes) = text.parse().map_err(|e: ParseBytesError| e.to_string())?;
    usize::try_from(bytes).map_err(|_| "more bytes than can be addressed".to_owned())
}

/// Bytes, or 0 for what the kernel likes.
pub(crate) fn receive_buffer(text: &str) -> Result<usize, String> {
    match text {
        "auto" => Ok(0),
        _ => match size(text) {
            Ok(0) => Err("nothing could be received; the kernel's own size is `auto`".to_owned()),
            Ok(bytes) => Ok(bytes),
            Err(reason) => Err(format!("{reason}, or `auto`")),
        },
    }
}

pub(crate) fn coalesce(text: &str) -> Result<Coalesce, String> {
    match text {
        "auto" => Ok(Coalesce::Auto),
        "off" => Ok(Coalesce::Off),
        _ => match duration(text) {
            Ok(time) => Ok(Coalesce::Apart(time)),
            Err(reason) => Err(format!("{reason}, or `auto` or `off`")),
        },
    }
}

/// A time that cannot be switched off.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const LEGAL: &str = "a whole number with us, ms, s, m or h";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let micros: u64 = match unit.trim() {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(format!("not a time: {LEGAL}")),
    };
    if digits == 0 {
        return Err(format!("not a time: {LEGAL}"));
    }
    let Ok(number) = number.parse::<u64>() else {
        return Err(format!("{number} is too large a number"));
    };
    number
        .checked_mul(micros)
        .map(Duration::from_micros)
        .ok_or_else(|| "a longer time than can be counted".to_owned())
}

/// A deadline, which can be `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(pub(crate) Option<Duration>);

pub(crate) fn deadline(text: &str) -> Result<Deadline, String> {
    if text == "off" {
        return Ok(Deadline(None));
    }
    match duration(text) {
        Ok(Duration::ZERO) => {
            Err("must be longer than no time; where there is to be none, say `off`".to_owned())
        }
        Ok(time) => Ok(Deadline(Some(time))),
        Err(reason) => Err(format!("{reason}, or `off`")),
    }
}

/// A time for people: the largest unit that says it exactly.
pub(crate) struct Brief(pub(crate) Duration);

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            0 => f.write_str("0s"),
            n if n % 3_600_000_000 == 0 => write!(f, "{}h", n / 3_600_000_000),
            n if n % 60_000_000 == 0 => write!(f, "{}m", n / 60_000_000),
            n if n % 1_000_000 == 0 => write!(f, "{}s", n / 1_000_000),
            n if n % 1_000 == 0 => write!(f, "{}ms", n / 1_000),
            n => write!(f, "{n}us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_said_again() {
        for text in ["250ms", "30s", "5m", "1h", "10s", "90s"] {
            assert_eq!(Brief(duration(text).unwrap()).to_string(), text);
        }
        assert_eq!(receive_buffer("auto"), Ok(0));
        assert_eq!(receive_buffer("1KiB"), Ok(1024));
        assert!(receive_buffer("0").unwrap_err().contains("auto"));
        assert!(receive_buffer("some").unwrap_err().contains("auto"));
        let apart = |micros| Ok(Coalesce::Apart(Duration::from_micros(micros)));
        assert_eq!(coalesce("200us"), apart(200));
        assert_eq!(coalesce("auto"), Ok(Coalesce::Auto));
        assert_eq!(coalesce("off"), Ok(Coalesce::Off));
        assert!(coalesce("some").unwrap_err().contains("auto"));
        assert_eq!(deadline("off"), Ok(Deadline(None)));
        assert_eq!(deadline("5m"), Ok(Deadline(Some(Duration::from_secs(300)))));
    }

    #[test]
    fn numbers_are_whole_and_fit() {
        assert_eq!(number("255"), Ok(255u8));
        assert_eq!(number::<u8>("256"), Err(NumberError::TooLarge));
        for text in ["", "x", "-1", "1.5", "1 "] {
            assert_eq!(number::<usize>(text), Err(NumberError::Malformed), "{text}");
        }
    }

    #[test]
    fn a_time_needs_its_unit_and_only_deadlines_can_be_off() {
        for text in ["", "30", "s", "1d", "-1s", "off", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(deadline("never").unwrap_err().contains("off"));
        assert_eq!(
            deadline("0s").unwrap_err(),
            "must be longer than no time; where there is to be none, say `off`"
        );
    }
}
