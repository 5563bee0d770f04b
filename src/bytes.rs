//! Sizes as people write them.
//!
//! In: `64KiB`. Out: a number of bytes, and the text of one. Never here: a guess. `64K` could be either of two
//! numbers, so it is neither.

use std::fmt;
use std::str::FromStr;

/// So many bytes: as text, a whole number with KiB, MiB, GiB (1024) or KB, MB, GB (1000), or with no unit.
///
/// ```
/// use fanin::Bytes;
/// assert_eq!("64KiB".parse(), Ok(Bytes(65_536)));
/// assert_eq!(Bytes(65_536).to_string(), "64 KiB");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A text that is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseBytesError(String);

impl fmt::Display for ParseBytesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseBytesError {}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, ParseBytesError> {
        let refuse = |why: String| Err(ParseBytesError(why));
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => 0,
        };
        if digits == 0 || scale == 0 {
            let legal = "bytes, or a whole number with KiB, MiB, GiB (1024) or KB, MB, GB (1000)";
            return refuse(format!("not a size: {legal}"));
        }
        let Ok(number) = number.parse::<u64>() else {
            return refuse(format!("{number} is too large a number"));
        };
        match number.checked_mul(scale) {
            Some(bytes) => Ok(Self(bytes)),
            None => refuse("more bytes than can be addressed".to_owned()),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut unit = 0;
        let mut value = self.0 as f64 / 1024.0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let text = format!("{value:.1}");
        write!(
            f,
            "{} {}",
            text.strip_suffix(".0").unwrap_or(&text),
            UNITS[unit]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Result<u64, String> {
        let bytes = text.parse::<Bytes>();
        bytes.map(|bytes| bytes.0).map_err(|e| e.to_string())
    }

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("64 KiB"), Ok(65536));
        assert_eq!(size("4MiB"), Ok(4 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("64kb"), Ok(64_000));
        assert_eq!(size("2MB"), Ok(2_000_000));
    }

    #[test]
    fn ambiguous_and_absurd_sizes_are_refused() {
        for text in [
            "",
            "64K",
            "KiB",
            "-1",
            "1.5MiB",
            "4Mib/s",
            "99999999999999999999",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(size("18446744073709551615GiB").is_err());
        assert!(size("64K").unwrap_err().contains("KiB"));
    }
}
