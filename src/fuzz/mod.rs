//! The bodies of the fuzz targets: each compares the code that runs with something slow and obvious.
//!
//! In: bytes, from a fuzzer or from a file of the corpus. Out: whether they reached what is asserted, or
//! a panic that says what broke. Never here: chance, a clock, a file.
//!
//! `fuzz/` has the targets and the corpus; `tests/fuzz_corpus.rs` replays it. The command line is the program's,
//! and has its targets there (`src/cli/fuzz/`).

mod addresses;
mod connection;
mod framing;
mod input;
pub mod parts;
mod records;
mod rings;

pub use self::addresses::addresses;
pub use self::connection::connection;
pub use self::framing::{auto, custom, delimited, octet, prefixed, varint};
pub use self::input::text;
pub use self::records::records;
pub use self::rings::{batches, ring};

/// A target: `true` if the input reached what is asserted, and was not turned away before.
pub type Target = fn(&[u8]) -> bool;

/// Those of the library, by the name of their corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("addresses", addresses),
    ("auto", auto),
    ("batches", batches),
    ("connection", connection),
    ("custom", custom),
    ("delimited", delimited),
    ("octet", octet),
    ("prefixed", prefixed),
    ("records", records),
    ("ring", ring),
    ("simulation", simulation),
    ("varint", varint),
];

/// A whole run whose chance is the input, to its end: a message was delivered, and the books balance.
pub fn simulation(data: &[u8]) -> bool {
    crate::sim::run_bytes(data).messages > 0
}
