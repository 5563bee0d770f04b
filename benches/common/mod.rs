//! What the benches share: servers to compare, senders, and what a server has used.
//!
//! Each server and the senders are processes of their own, started from the same program (`serve`, `send`), so
//! that a descriptor limit and a processor time are of one of them alone.
#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod framing;
pub(crate) mod ours;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod stats;
pub(crate) mod work;

/// Of each connection, as fanin's default; the kernel doubles it.
pub(crate) const RECEIVE_BUFFER: usize = 64 << 10;
/// As fanin's default.
pub(crate) const BACKLOG: i32 = 1024;
/// As fanin's default.
pub(crate) const RING: usize = 4 << 20;

/// Does what this process was started for, if it was started by a bench.
pub(crate) fn is_child() -> bool {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve") => serve::serve(&args[1..]),
        Some("send") => send::send(&args[1..]),
        _ => return false,
    }
    true
}

/// The value behind `--name`.
pub(crate) fn option<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    let value = args.get(at + 1);
    Some(value.unwrap_or_else(|| panic!("{name} needs a value")))
}

pub(crate) fn number<T: std::str::FromStr>(args: &[String], name: &str, default: T) -> T {
    option(args, name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} needs a number"))
    })
}
