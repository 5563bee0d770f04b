//! The rows: what is sent, and to whom.

use std::fmt;

use crate::common::framing::Framing;
use crate::common::run::Candidate;
use crate::common::send::{Manner, Traffic};

const FANIN: &str = env!("CARGO_BIN_EXE_fanin");
const MIB: usize = 1 << 20;
/// Bytes in a write of whoever sends as much as it can.
const BULK: usize = 256 << 10;
/// MiB in a second that the slow consumer takes: a fraction of what the senders could send.
const SLOW: &str = "300";

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    what: &'static str,
    pub(crate) traffic: Traffic,
    is_default: bool,
    special: Special,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    None,
    Latency,
    /// Each receiver beside itself with a consumer that is slower than the senders.
    Slow,
    /// Receive buffers that grow as the kernel likes.
    Autotune,
}

const fn traffic(framing: Framing, size: usize, connections: usize, write: usize) -> Traffic {
    Traffic {
        framing,
        size,
        connections,
        write,
        bytes: 256 * MIB,
        manner: Manner::Flood,
    }
}

const fn row(name: &'static str, what: &'static str, traffic: Traffic) -> Row {
    Row {
        name,
        what,
        traffic,
        is_default: true,
        special: Special::None,
    }
}

impl Row {
    const fn mib(mut self, mib: usize) -> Self {
        self.traffic.bytes = mib * MIB;
        self
    }

    const fn manner(mut self, manner: Manner) -> Self {
        self.traffic.manner = manner;
        self
    }

    const fn special(mut self, special: Special) -> Self {
        self.special = special;
        self
    }

    const fn on_demand(mut self) -> Self {
        self.is_default = false;
        self
    }

    /// To these bytes, where it is bytes that the row is about.
    pub(crate) fn resize(&mut self, bytes: usize) {
        if self.traffic.manner == Manner::Flood {
            self.traffic.bytes = bytes;
        }
    }

    /// To what shows that it works.
    pub(crate) fn shrink(&mut self) {
        let traffic = &mut self.traffic;
        traffic.bytes = traffic.bytes.min(4 * MIB);
        if traffic.manner == Manner::Short {
            traffic.connections = 200;
            traffic.bytes = traffic.connections * traffic.write;
        }
        traffic.connections = traffic.connections.min(1000);
        if let Manner::Paced(_) = traffic.manner {
            traffic.bytes = 2000 * traffic.write;
        }
    }

    /// What the ratios are over.
    pub(crate) fn bases(&self) -> [&'static str; 2] {
        match self.special {
            Special::Slow => ["library", "bare"],
            _ => ["floor", "bare"],
        }
    }

    pub(crate) fn candidates(
        &self,
        only: Option<&str>,
        with: &str,
        programs: &[&str],
    ) -> Vec<Candidate> {
        let known = self.known();
        let named = |list: &str| -> Vec<Candidate> {
            let names = list.split(',').filter(|name| !name.is_empty());
            let of = |name| {
                let fits = |c: &&Candidate| {
                    c.name == name || (name == "tokio" && c.name.starts_with("tokio-"))
                };
                known.iter().filter(fits).cloned().collect::<Vec<_>>()
            };
            names.flat_map(of).collect()
        };
        let mut chosen = named(only.unwrap_or(self.usual()));
        chosen.extend(named(with));
        // Options of the program that a row needs it has not.
        if matches!(self.special, Special::None) {
            let others = programs.iter().map(|path| Candidate::program(path, path));
            chosen.extend(others);
        }
        let mut unique: Vec<Candidate> = Vec::new();
        for candidate in chosen {
            if !unique.contains(&candidate) {
                unique.push(candidate);
            }
        }
        assert!(!unique.is_empty(), "{}: none of these receivers", self.name);
        unique
    }

    fn usual(&self) -> &'static str {
        match self.special {
            Special::None => "floor,bare,library,program,one-thread",
            Special::Latency => "bare,library,one-thread",
            Special::Slow => "library,library-slow,bare,bare-slow",
            Special::Autotune => "floor,bare,library,one-thread",
        }
    }

    /// Those that can take it.
    fn known(&self) -> Vec<Candidate> {
        let mut own = vec!["floor", "floor-edge", "bare", "library", "one-thread"];
        if self.traffic.framing == Framing::Line {
            own.extend(["tokio-lines", "tokio-chunks"]);
        }
        let naps = [("library-200us", "200"), ("library-1ms", "1000")]
            .map(|(name, micros)| Candidate::own("library").with(name, &["--coalesce", micros]));
        let in_cache = ["--ring", "524288", "--bytes-a-turn", "131072"];
        let small = Candidate::own("one-thread").with("one-thread-small", &in_cache);
        let plain = own.into_iter().map(Candidate::own);
        let plain = plain.chain(naps).chain([small]);
        let with = |option: &'static str| {
            move |candidate: Candidate| {
                let name = candidate.name.clone();
                candidate.with(&name, &[option])
            }
        };
        match self.special {
            Special::None => plain
                .chain([Candidate::program("program", FANIN)])
                .collect(),
            Special::Latency => plain.map(with("--latency")).collect(),
            Special::Autotune => plain
                .map(with("--autotune"))
                .chain([Candidate::program("program", FANIN)
                    .with("program", &["--receive-buffer", "auto"])])
                .collect(),
            Special::Slow => plain
                .flat_map(|candidate| {
                    let name = format!("{}-slow", candidate.name);
                    [candidate.clone(), candidate.with(&name, &["--slow", SLOW])]
                })
                .collect(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traffic = &self.traffic;
        write!(
            f,
            "{}: {}; {} connections, {} B a write, {:.0} MiB",
            self.name,
            self.what,
            traffic.connections,
            traffic.write,
            traffic.total_bytes() as f64 / MIB as f64
        )
    }
}

fn all() -> Vec<Row> {
    use Framing::{Line, Octet, U32};
    let bulk = |framing, size| traffic(framing, size, 50, BULK);
    let small = |connections| traffic(Line, 256, connections, 1 << 10);
    const STAMPED: usize = 64;
    vec![
        row("lines-64", "64-byte lines", bulk(Line, 64)),
        row("lines-256", "256-byte lines", bulk(Line, 256)),
        row("lines-1024", "1 KiB lines", bulk(Line, 1024)),
        row("octet-256", "octet counting, 256 B", bulk(Octet, 256)),
        row("u32-256", "u32 counts, 256 B", bulk(U32, 256)),
        row("conns-1", "1 KiB writes of 256-byte lines", small(1)).mib(128),
        row("conns-50", "the same", small(50)).mib(128).on_demand(),
        row("conns-1000", "the same", small(1000)).mib(128),
        row("conns-10000", "the same", small(10_000)).mib(128),
        row(
            "writes",
            "one 256-byte line a write",
            traffic(Line, 256, 50, 256),
        )
        .mib(32),
        row(
            "short",
            "connect, one line, close",
            Traffic {
                bytes: 10_000 * 256,
                ..traffic(Line, 256, 10_000, 256)
            },
        )
        .manner(Manner::Short),
        row(
            "latency",
            "20,000 lines a second, send to consumer",
            Traffic {
                bytes: 20_000 * STAMPED * 3 / 2,
                ..traffic(Line, STAMPED, 100, STAMPED)
            },
        )
        .manner(Manner::Paced(20_000))
        .special(Special::Latency),
        row("slow", "a consumer that takes 300 MiB/s", bulk(Line, 256))
            .mib(256)
            .special(Special::Slow),
        row(
            "autotune",
            "256-byte lines, receive buffers that the kernel grows",
            bulk(Line, 256),
        )
        .special(Special::Autotune),
    ]
}

pub(crate) fn chosen(names: Option<&str>) -> Vec<Row> {
    let all = all();
    let Some(names) = names else {
        return all.into_iter().filter(|row| row.is_default).collect();
    };
    if names == "all" {
        return all;
    }
    let find = |name| {
        let found = all.iter().find(|row| row.name == name);
        found.cloned().unwrap_or_else(|| panic!("no row {name}"))
    };
    names.split(',').map(find).collect()
}

pub(crate) fn list() {
    for row in all() {
        println!("{row}{}", if row.is_default { "" } else { " (on demand)" });
        let names: Vec<String> = row.known().into_iter().map(|c| c.name).collect();
        println!("    {}", names.join(" "));
    }
}
