//! The rows: what is sent, and to whom.

use std::borrow::Cow;
use std::fmt;

use clap::Args;

use crate::common::framing::Framing;
use crate::common::run::Candidate;
use crate::common::send::{Manner, Sizes, Traffic};

const FANIN: &str = env!("CARGO_BIN_EXE_fanin");
const MIB: usize = 1 << 20;
/// Of a row with large writes.
const LARGE_MIB: usize = 256;
/// Bytes in a write of whoever sends as much as it can.
const BULK: usize = 256 << 10;
/// A message that every receiver takes.
const LARGEST: usize = 60_000;
/// MiB in a second that the slow consumer takes: a fraction of what the senders could send.
const SLOW: &str = "300";

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: Cow<'static, str>,
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
        sizes: Sizes::one(size),
        connections,
        write,
        bytes: LARGE_MIB * MIB,
        manner: Manner::Flood,
    }
}

const fn row(name: &'static str, what: &'static str, traffic: Traffic) -> Row {
    Row {
        name: Cow::Borrowed(name),
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

    /// As if the large rows had so many MiB: the others in proportion, so that none takes most of the time.
    pub(crate) fn resize(&mut self, mib: usize) {
        if matches!(self.traffic.manner, Manner::Flood | Manner::Held) {
            self.traffic.bytes = self.traffic.bytes / LARGE_MIB * mib;
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

    /// Those of these names that can take it, each once.
    fn candidates(&self, names: &[&str], programs: &[String]) -> Vec<Candidate> {
        let known = self.known();
        let named = names
            .iter()
            .flat_map(|name| known.iter().filter(|c| is_meant(c, name)).cloned());
        let others = programs.iter().map(|path| Candidate::program(path, path));
        // Options of the program that a row needs it has not.
        let others = others.filter(|_| self.special == Special::None);
        let mut unique: Vec<Candidate> = Vec::new();
        for candidate in named.chain(others) {
            if !unique.contains(&candidate) {
                unique.push(candidate);
            }
        }
        unique
    }

    fn usual(&self) -> &'static [&'static str] {
        match self.special {
            Special::None => &["floor", "bare", "library", "program", "one-thread"],
            Special::Latency => &["bare", "library", "one-thread"],
            Special::Slow => &["library", "library-slow", "bare", "bare-slow"],
            Special::Autotune => &["floor", "bare", "library", "one-thread"],
        }
    }

    /// Those that can take it.
    fn known(&self) -> Vec<Candidate> {
        let mut own = vec!["floor", "floor-edge", "bare", "library", "one-thread"];
        if self.traffic.framing == Framing::Line {
            own.extend(["tokio-lines", "tokio-chunks"]);
        }
        let apart = [
            ("library-off", "off"),
            ("library-200us", "200"),
            ("library-1ms", "1000"),
        ];
        let apart = apart.map(|(name, coalesce)| {
            Candidate::own("library").with(name, &["--coalesce", coalesce])
        });
        let plain = own.into_iter().map(Candidate::own).chain(apart);
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
            traffic.totals().0 as f64 / MIB as f64
        )
    }
}

/// Traffic of one's own: `FRAMING:SIZE:CONNECTIONS:WRITE`, as in `line:512:200:16384`, or `line:64-1500:200:16384`.
fn named_by_its_traffic(text: &str) -> Result<Row, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let &[framing, size, connections, write] = parts.as_slice() else {
        return Err("these are not four parts".to_owned());
    };
    let framing = Framing::find(framing).ok_or("the framing is none of line, octet, u32")?;
    let number = |text: &str, most: usize| match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is no number from 1 to {most}")),
    };
    let sizes: Sizes = size.parse()?;
    for size in [sizes.least, sizes.most] {
        // A count of 0 is against the protocol, and there is a largest message.
        let is_legal = size <= LARGEST && (framing != Framing::Octet || size > 2);
        if !is_legal || framing.message(size).is_none() {
            return Err(format!("no message of this framing takes {size} bytes"));
        }
    }
    let write = number(write, 64 * MIB)?.max(sizes.least);
    let connections = number(connections, 15_000)?;
    // As the rows here do: small writes take longer.
    let mib = match write {
        ..1024 => 32,
        1024..4096 => 128,
        _ => LARGE_MIB,
    };
    let mut row = row(
        "",
        "traffic of one's own",
        traffic(framing, 0, connections, write),
    );
    row.name = Cow::Owned(text.to_owned());
    row.traffic.sizes = sizes;
    Ok(row.mib(mib))
}

/// Bytes of a line with its time in it.
const STAMPED: usize = 64;

/// A second and a half of so many lines a second, each with the time in it.
const fn latency(name: &'static str, title: &'static str, rate: usize) -> Row {
    let traffic = Traffic {
        bytes: rate * STAMPED * 3 / 2,
        ..traffic(Framing::Line, STAMPED, 100, STAMPED)
    };
    row(name, title, traffic)
        .manner(Manner::Paced(rate as u32))
        .special(Special::Latency)
}

fn all() -> Vec<Row> {
    use Framing::{Line, Octet, U32};
    let bulk = |framing, size| traffic(framing, size, 50, BULK);
    let four = |framing, size| traffic(framing, size, 50, 4 * size);
    let small = |connections| traffic(Line, 256, connections, 1 << 10);
    vec![
        row("lines-64", "64-byte lines", bulk(Line, 64)),
        row("lines-256", "256-byte lines", bulk(Line, 256)),
        row("lines-1024", "1 KiB lines", bulk(Line, 1024)),
        row("octet-256", "octet counting, 256 B", bulk(Octet, 256)),
        row("u32-256", "u32 counts, 256 B", bulk(U32, 256)),
        row("lines-16384", "16 KiB lines", bulk(Line, 16 << 10)).on_demand(),
        row("lines-60000", "60,000-byte lines", four(Line, 60_000)).on_demand(),
        row("u32-60000", "u32 counts, 60,000 B", four(U32, 60_000)).on_demand(),
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
            "held",
            "64-byte lines, a write each, send buffers of 4 KiB",
            traffic(Line, 64, 1, 64),
        )
        .mib(32)
        .manner(Manner::Held)
        .on_demand(),
        row(
            "short",
            "connect, one line, close",
            Traffic {
                bytes: 10_000 * 256,
                ..traffic(Line, 256, 10_000, 256)
            },
        )
        .manner(Manner::Short),
        latency("latency", "20,000 lines a second, send to consumer", 20_000),
        latency("latency-50000", "50,000 a second", 50_000).on_demand(),
        latency("latency-150000", "150,000 a second", 150_000).on_demand(),
        row("slow", "a consumer that takes 300 MiB/s", bulk(Line, 256)).special(Special::Slow),
        row(
            "autotune",
            "256-byte lines, receive buffers that the kernel grows",
            bulk(Line, 256),
        )
        .special(Special::Autotune),
    ]
}

/// What is to be run.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// These rows, or `all`; without it those that are not on demand.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    rows: Vec<String>,
    /// A row of one's own besides; without `--rows`, only this. Can be repeated.
    #[arg(long, value_name = "FRAMING:SIZE:CONNECTIONS:WRITE", value_parser = named_by_its_traffic)]
    row: Vec<Row>,
    /// These receivers instead of the usual ones. `tokio`: all that begin so.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    candidates: Vec<String>,
    /// These beside them.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    with: Vec<String>,
    /// Another build of the program, beside them. Can be repeated.
    #[arg(long, value_name = "PATH")]
    program: Vec<String>,
}

impl Chosen {
    /// The rows with those who take them. Refuses a name that means nothing in any of these rows.
    pub(crate) fn rows(&self) -> Result<Vec<(Row, Vec<Candidate>)>, clap::Error> {
        let refuse = |what: String| {
            let text = format!("{what}; see --list\n");
            Err(clap::Error::raw(clap::error::ErrorKind::InvalidValue, text))
        };
        let all = all();
        let mut rows = Vec::new();
        for name in &self.rows {
            match all.iter().find(|row| row.name == *name) {
                Some(row) => rows.push(row.clone()),
                None if name == "all" => rows.extend(all.iter().cloned()),
                None => return refuse(format!("--rows: there is no {name:?}")),
            }
        }
        rows.extend(self.row.iter().cloned());
        if rows.is_empty() {
            rows.extend(all.into_iter().filter(|row| row.is_default));
        }
        let knows = |row: &Row, name: &str| row.known().iter().any(|c| is_meant(c, name));
        for name in self.candidates.iter().chain(&self.with) {
            if !rows.iter().any(|row| knows(row, name)) {
                return refuse(format!(
                    "--candidates, --with: none of the rows knows {name:?}"
                ));
            }
        }
        let mut chosen = Vec::new();
        for row in rows {
            let mut names: Vec<&str> = self.candidates.iter().map(String::as_str).collect();
            if names.is_empty() {
                names.extend(row.usual());
            }
            names.extend(self.with.iter().map(String::as_str));
            let candidates = row.candidates(&names, &self.program);
            if candidates.is_empty() {
                return refuse(format!("{}: none of these can take it", row.name));
            }
            chosen.push((row, candidates));
        }
        Ok(chosen)
    }
}

fn is_meant(candidate: &Candidate, name: &str) -> bool {
    candidate.name == name || (name == "tokio" && candidate.name.starts_with("tokio-"))
}

/// The rows, and below each who can take it.
pub(crate) fn list() -> String {
    let entry = |row: Row| {
        let names: Vec<String> = row.known().into_iter().map(|c| c.name).collect();
        let on_demand = if row.is_default { "" } else { " (on demand)" };
        format!("{row}{on_demand}\n    {}\n", names.join(" "))
    };
    all().into_iter().map(entry).collect()
}
