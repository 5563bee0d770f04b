//! A message of the lab: who, which, when, a checksum, and a filling.
//!
//! In: seed, sender, number, time. Out: a line, and what a line says. Never here: a socket.

use rustix::time::{ClockId, clock_gettime};

/// The shortest message: all its numbers.
pub(crate) const LEAST: usize = 64;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Nanoseconds of the clock that all processes of a machine share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// splitmix64 over three numbers.
fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut x = a ^ b.rotate_left(21) ^ c.rotate_left(42);
    for salt in [b, c, 0] {
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(salt);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}

/// A number in 0..1.
pub(crate) fn chance(seed: u64, sender: u64, what: u64) -> f64 {
    (mix(seed, sender, what) >> 11) as f64 / (1u64 << 53) as f64
}

/// FNV-1a.
fn checksum(parts: [&[u8]; 2]) -> u64 {
    let bytes = parts.into_iter().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Replaces `out` by the line: `size` bytes and LF.
pub(crate) fn write(out: &mut Vec<u8>, sender: usize, number: u64, due: u64, size: usize) {
    out.clear();
    out.extend_from_slice(format!("{sender:08x} {number:08x} {due:016x} ").as_bytes());
    let filling = mix(0x6c_6162, sender as u64, number);
    let fill = (0..size - 52).map(|place| LETTERS[((filling >> (place % 59)) & 63) as usize]);
    let head = out.len();
    out.extend_from_slice(b"0000000000000000 ");
    out.extend(fill);
    let sum = checksum([&out[..head], &out[head + 17..]]);
    out[head..head + 16].copy_from_slice(format!("{sum:016x}").as_bytes());
    out.push(b'\n');
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) sender: usize,
    pub(crate) number: u64,
    /// When it was due, by [`now`].
    pub(crate) due: u64,
}

/// Reads a message without its LF; `None` if it is not as it was written.
pub(crate) fn read(text: &[u8]) -> Option<Message> {
    if text.len() < LEAST {
        return None;
    }
    let hex = |from: usize, to: usize| {
        let digits = std::str::from_utf8(&text[from..to]).ok()?;
        u64::from_str_radix(digits, 16).ok()
    };
    let (sum, rest) = (hex(35, 51)?, [&text[..35], &text[52..]]);
    (sum == checksum(rest)).then_some(Message {
        sender: hex(0, 8)? as usize,
        number: hex(9, 17)?,
        due: hex(18, 34)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written_and_not_otherwise() {
        let mut line = Vec::new();
        for size in [LEAST, 400, 5000] {
            write(&mut line, 7, 99, 12345, size);
            assert_eq!(line.len(), size + 1);
            assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(size));
            let message = Message {
                sender: 7,
                number: 99,
                due: 12345,
            };
            assert_eq!(read(&line[..size]), Some(message));
            for place in [0, 10, 20, 40, size - 1] {
                let mut wrong = line[..size].to_vec();
                wrong[place] ^= 1;
                assert_eq!(read(&wrong), None, "{place}");
            }
            assert_eq!(read(&line[..size - 1]), None);
        }
    }
}
