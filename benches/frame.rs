//! Each framing alone: what the reactor's cut and the consumer's walk cost, beside memchr.
//!
//! ```text
//! cargo bench --bench frame
//! ```
//!
//! A MiB, again and again; it stays in the cache, so this is what the work costs and not the memory. There are so many
//! messages in it, unless they are large, that no processor knows by heart where the next one ends, as none does where
//! they are new. They are alike, or (`~`) of half to one and a half times the size, each of another one, or (`.`) of 8 bytes to twice the
//! size, or (`/`) of an eighth of it and of the rest to twice the size in turn.
#![allow(missing_docs, reason = "a program, not an interface")]

use std::hint::black_box;
use std::time::Instant;

use fanin::Framing;
use fanin::fuzz::parts::Cutter;

const ALL: usize = 1 << 20;
const SIZES: [usize; 6] = [16, 64, 100, 256, 1 << 10, 8 << 10];

/// A message of `size` bytes in all.
fn message(framing: &str, size: usize) -> Vec<u8> {
    let mut message = match framing {
        "u16" => ((size - 2) as u16).to_be_bytes().to_vec(),
        "u32" => ((size - 4) as u32).to_be_bytes().to_vec(),
        "varint" => {
            let mut count = if size <= 128 { size - 1 } else { size - 2 };
            let mut prefix = Vec::new();
            while count >= 128 {
                prefix.push(count as u8 | 128);
                count >>= 7;
            }
            prefix.push(count as u8);
            prefix
        }
        "octet" => {
            let digits = (1..6).find(|n| (size - n - 1).to_string().len() == *n);
            format!("{} ", size - 1 - digits.expect("a size")).into_bytes()
        }
        _ => Vec::new(),
    };
    message.resize(size, b'x');
    match framing {
        "line" => message[size - 1] = b'\n',
        "nul" => message[size - 1] = 0,
        _ => {}
    }
    message
}

/// How large neighbours are.
#[derive(Clone, Copy)]
enum Sizes {
    Alike,
    Mixed,
    OfAllKinds,
    InTurn,
}

/// A MiB of messages; how many these are.
fn messages(framing: &str, size: usize, sizes: Sizes) -> (Vec<u8>, usize) {
    let (mut all, mut count) = (Vec::new(), 0);
    let mut state = 1_u32;
    loop {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let other = match sizes {
            Sizes::Alike => size,
            Sizes::Mixed => size / 2 + (state >> 8) as usize % size,
            Sizes::OfAllKinds => 8 + (state >> 8) as usize % (2 * size - 8),
            Sizes::InTurn if count % 2 == 0 => (size / 8).max(8),
            Sizes::InTurn => 2 * size - (size / 8).max(8),
        };
        let message = message(framing, avoid_unmade(other));
        if all.len() + message.len() > ALL {
            return (all, count);
        }
        all.extend(message);
        count += 1;
    }
}

/// No octet count makes a message of 12, 103, 1004 or 10,005 bytes in all, and no varint one of 129.
fn avoid_unmade(size: usize) -> usize {
    match size {
        12 | 103 | 129 | 1004 | 10_005 => size + 1,
        other => other,
    }
}

/// GB/s.
fn speed(times: usize, bytes: usize, mut work: impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..times {
        work();
    }
    (bytes * times) as f64 / began.elapsed().as_nanos() as f64
}

fn main() {
    let is_set = |name: &str| std::env::args().any(|arg| arg == name);
    let is_smoke = is_set("--test") || !is_set("--bench");
    let (rounds, times) = if is_smoke { (1, 2) } else { (7, 40) };
    println!(
        "GB/s, the median of {rounds} rounds; in brackets the time over that of memchr for lines of the size"
    );
    println!(
        "{:>8} {:>7} {:>10} {:>18} {:>18}",
        "framing", "bytes", "memchr", "cut (reactor)", "visit (consumer)"
    );
    let sizes = [Sizes::Alike, Sizes::Mixed, Sizes::OfAllKinds, Sizes::InTurn];
    let kinds = SIZES.iter().flat_map(|&size| sizes.map(|of| (size, of)));
    for (size, sizes) in kinds {
        let (lines, _) = messages("line", size, sizes);
        for framing in ["line", "nul", "octet", "u16", "u32", "varint"] {
            let (bytes, count) = messages(framing, size, sizes);
            let mut cutter = Cutter::new(framing.parse::<Framing>().expect("a framing"), 64 << 10);
            assert_eq!(
                cutter.cut(&bytes),
                bytes.len(),
                "{framing}: all of it is whole"
            );
            assert_eq!(cutter.visit(&bytes), count, "{framing}");
            let mut seen: [Vec<f64>; 3] = Default::default();
            for _ in 0..rounds {
                seen[0].push(speed(times, lines.len(), || {
                    for at in memchr::memchr_iter(b'\n', black_box(&lines)) {
                        black_box(at);
                    }
                }));
                seen[1].push(speed(times, bytes.len(), || {
                    black_box(cutter.cut(black_box(&bytes)));
                }));
                seen[2].push(speed(times, bytes.len(), || {
                    black_box(cutter.visit(black_box(&bytes)));
                }));
            }
            let [floor, cut, visit] = seen.map(|mut seen| {
                seen.sort_by(f64::total_cmp);
                seen[seen.len() / 2]
            });
            let cell = |speed: f64| format!("{speed:.2} ({:.3})", floor / speed);
            let sign = match sizes {
                Sizes::Alike => "",
                Sizes::Mixed => "~",
                Sizes::OfAllKinds => ".",
                Sizes::InTurn => "/",
            };
            let name = format!("{sign}{size}");
            println!(
                "{framing:>8} {name:>7} {floor:>10.2} {:>18} {:>18}",
                cell(cut),
                cell(visit)
            );
        }
    }
}
