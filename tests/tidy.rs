//! The house rules that can be checked: which room may know which, what appears nowhere else, and how
//! long a file may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The arrows: a room, and those it may name. `frame`, `ring`, `policy` and `conn` know no reactor; only
/// the reactor and the settings know them all; the program knows the public face alone.
const ARROWS: [(&str, &[&str]); 20] = [
    ("books", &["close"]),
    ("bytes", &[]),
    ("close", &[]),
    (
        "config",
        &[
            "bytes", "conn", "consumer", "frame", "net", "peer", "policy", "reactor", "ring",
            "status", "words",
        ],
    ),
    ("conn", &["books", "close", "edges", "frame", "table"]),
    ("consumer", &["books", "close", "frame", "peer", "ring"]),
    ("edges", &[]),
    ("frame", &["close", "words"]),
    (
        "fuzz",
        &[
            "close", "config", "conn", "consumer", "frame", "reactor", "ring", "sim",
        ],
    ),
    ("net", &["peer", "ring", "status"]),
    ("peer", &[]),
    ("policy", &["peer"]),
    (
        "reactor",
        &[
            "books", "close", "conn", "edges", "frame", "net", "peer", "policy", "ring", "status",
            "table",
        ],
    ),
    ("ring", &["books", "close", "peer"]),
    (
        "scenes",
        &[
            "close", "config", "consumer", "net", "peer", "policy", "reactor", "status",
        ],
    ),
    (
        "sim",
        &[
            "books", "close", "config", "consumer", "edges", "frame", "net", "peer", "policy",
            "reactor", "ring", "status",
        ],
    ),
    ("status", &["books", "bytes", "close", "peer"]),
    ("table", &[]),
    ("words", &[]),
    ("cli", &["cli"]),
];

/// Words, and the only files in which they may stand.
const WORDS: [(&str, &[&str]); 5] = [
    ("mio::", &["src/net/mio.rs"]),
    ("ringbuf::", &["src/ring/"]),
    (
        "Instant::now",
        &[
            "src/net/mio.rs",
            "src/scenes/real.rs",
            "src/config/bind.rs",
            "src/consumer/",
            "src/cli/",
            "src/reactor/control.rs",
        ],
    ),
    ("unsafe {", &["src/ring/"]),
    ("anyhow", &["src/cli/"]),
];

const MOST_LINES: usize = 600;

fn files(under: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(under)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "nothing under {under}");
    found.sort();
    found
}

fn short(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    path.strip_prefix(root).unwrap().display().to_string()
}

/// A file's lines that are code, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn room(path: &Path) -> String {
    let path = short(path);
    let inside = path.strip_prefix("src/").unwrap();
    let first = inside.split('/').next().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a line names, as `crate::room`.
fn named(line: &str) -> impl Iterator<Item = String> {
    line.split("crate::").skip(1).map(|rest| {
        rest.chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect()
    })
}

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in files("src") {
        let room = room(&path);
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let (_, may) = ARROWS
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("{} is in no room of the list", short(&path)));
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in code(&text) {
            for other in named(line).filter(|other| !other.is_empty() && *other != room) {
                if may.contains(&other.as_str()) {
                    seen.insert((room.clone(), other));
                } else {
                    wrong.push(format!("{}:{number}: {room} -> {other}", short(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (room, may) in ARROWS {
        for other in may.iter().filter(|other| **other != room) {
            let arrow = (room.to_owned(), (*other).to_owned());
            assert!(
                seen.contains(&arrow),
                "an arrow that nobody uses: {arrow:?}"
            );
        }
    }
}

#[test]
fn the_settings_are_known_to_none_and_the_program_knows_the_public_face() {
    // Those three play whole reactors.
    let above = ["fuzz", "sim", "scenes"];
    for (room, may) in ARROWS.iter().filter(|(room, _)| !above.contains(room)) {
        assert!(!may.contains(&"config"), "{room} knows the settings");
    }
    for path in files("src/cli") {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in code(&text) {
            assert!(
                !line.contains("crate::") || line.contains("crate::cli"),
                "{}:{number}: {line}",
                short(&path)
            );
        }
    }
}

#[test]
fn each_tool_stays_in_its_room() {
    let mut wrong = Vec::new();
    for path in files("src") {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in code(&text) {
            for (word, rooms) in WORDS {
                let at_home = rooms.iter().any(|home| short(&path).starts_with(home));
                // `net/mio.rs` is a module of ours by that name.
                let ours = line.contains("self::mio::") || line.contains("net::mio::");
                if line.contains(word) && !at_home && !ours {
                    wrong.push(format!("{}:{number}: {}", short(&path), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_file_is_read_in_one_sitting() {
    let all = ["src", "tests", "examples", "benches", "fuzz/src"]
        .map(files)
        .concat();
    for path in all {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{}: {lines} lines", short(&path));
        for (number, line) in text.lines().enumerate() {
            let wide = line.chars().count() > 120 && !line.contains("\"") && !line.contains("//");
            assert!(!wide, "{}:{}: too wide", short(&path), number + 1);
        }
        let starts_with_doc = text.starts_with("//!");
        assert!(starts_with_doc, "{}: says not what it is", short(&path));
    }
}
