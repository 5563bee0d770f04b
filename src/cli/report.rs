//! The report: what was counted, as JSON.
//!
//! In: a snapshot and the sinks' counts. Out: one JSON object on a line, in a file or on stderr.
//! Never here: a number of our own making, or a row of a list before its turn to be written.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanin::{
    ClosedInfo, ConnectionInfo, ConsumerStatus, PauseCause, Pauses, RateCount, Reason, Snapshot,
    Tally,
};
use serde_json::{Map, Value, json};

/// What the program knows besides the snapshot.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) uptime: Duration,
    pub(crate) messages: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) drain: Option<Drain>,
}

#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) cause: &'static str,
    pub(crate) taken: Duration,
    pub(crate) timeout: Duration,
    /// Did everything end in time?
    pub(crate) complete: bool,
}

#[derive(Debug)]
pub(crate) struct Report {
    totals: Value,
    lists: Option<(Vec<ConnectionInfo>, Vec<ClosedInfo>)>,
}

impl Report {
    /// What the end is told by.
    pub(crate) fn last(snapshot: &Snapshot, program: &Program) -> Self {
        Self {
            totals: totals(snapshot, program),
            lists: None,
        }
    }

    /// The same of a running program, and who is there.
    pub(crate) fn live(
        snapshot: &Snapshot,
        program: &Program,
        connections: Vec<ConnectionInfo>,
        closed: Vec<ClosedInfo>,
    ) -> Self {
        let mut totals = totals(snapshot, program);
        live(&mut totals, snapshot);
        Self {
            totals,
            lists: Some((connections, closed)),
        }
    }

    /// One line. A row of JSON takes kilobytes while it is put together: one at a time.
    pub(crate) fn write_to(&self, to: impl Write) -> io::Result<()> {
        let mut to = io::BufWriter::new(to);
        let totals = self.totals.to_string();
        match (&self.lists, totals.strip_suffix('}')) {
            (Some((connections, closed)), Some(totals)) => {
                let now = SystemTime::now();
                to.write_all(totals.as_bytes())?;
                list(
                    &mut to,
                    "live",
                    connections.iter().map(|c| connection(c, now)),
                )?;
                list(&mut to, "recently_closed", closed.iter().map(ended))?;
                to.write_all(b"}\n")?;
            }
            _ => writeln!(to, "{totals}")?,
        }
        to.flush()
    }

    /// In the file at `path`. A reader sees the old report or the new one, never a part.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        replace(path, |file| self.write_to(file))
    }
}

fn list(to: &mut impl Write, name: &str, rows: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(to, ",\"{name}\":[")?;
    for (place, row) in rows.enumerate() {
        let comma = if place > 0 { "," } else { "" };
        write!(to, "{comma}{row}")?;
    }
    to.write_all(b"]")
}

/// As a pause by a cause is written, with those that last.
fn rate(rate: &RateCount) -> Value {
    let mut value = pause(&rate.paused);
    value["held"] = json!(rate.held);
    value
}

/// The part that every report has.
fn totals(snapshot: &Snapshot, program: &Program) -> Value {
    let (connections, bytes) = (&snapshot.connections, &snapshot.bytes);
    json!({
        "schema": 1,
        "uptime_seconds": program.uptime.as_secs_f64(),
        "connections": {
            "accepted": connections.accepted,
            "open": connections.open,
            "held_by_staging": connections.held_by_staging,
            "held_by_rate": connections.held_by_rate,
            "refused": tally(&connections.refused),
            "closed": tally(&connections.closed),
        },
        "bytes": {
            "received": bytes.received,
            "published": bytes.published,
            "delivered": bytes.delivered,
            "discarded": tally(&bytes.discarded),
            "abandoned": bytes.abandoned,
            "staged": bytes.staged,
            "in_rings": bytes.in_rings,
        },
        "messages": { "delivered": program.messages },
        "unconfirmed": program.unconfirmed,
        "unread": snapshot.unread,
        "pauses": pauses(&snapshot.pauses),
        "rates": {
            "connection": rate(&snapshot.rates.connection),
            "source": rate(&snapshot.rates.source),
            "listener": rate(&snapshot.rates.listener),
        },
        "peak": {
            "connections": snapshot.peak.connections,
            "ring_bytes": snapshot.peak.ring_bytes,
            "staging_bytes": snapshot.peak.staging_bytes,
        },
        "fairness": {
            "index": snapshot.fairness.index,
            "connections": snapshot.fairness.connections,
            "mean": snapshot.fairness.mean,
        },
        "shuts": snapshot.shuts,
        "long_turns": snapshot.long_turns,
        "consumers": snapshot.consumers.iter().map(consumer).collect::<Vec<_>>(),
        "drain": program.drain.as_ref().map(|drain| json!({
            "cause": drain.cause,
            "seconds": drain.taken.as_secs_f64(),
            "timeout_seconds": drain.timeout.as_secs_f64(),
            "complete": drain.complete,
        })),
        "ended": snapshot.ended,
        "balanced": snapshot.balanced(),
    })
}

/// The part that only a running program has.
fn live(report: &mut Value, snapshot: &Snapshot) {
    report["rings"] = snapshot
        .rings
        .iter()
        .map(|ring| {
            json!({
                "reactor": ring.reactor,
                "consumer": ring.consumer,
                "capacity": ring.capacity,
                "occupied": ring.occupied,
                "published": ring.published,
                "delivered": ring.delivered,
                "abandoned": ring.abandoned,
                "unwalked": ring.unwalked,
                "connections": ring.connections,
                "blocked_seconds": ring.blocked_for.map(|time| time.as_secs_f64()),
                "blocked": pause(&ring.blocked),
            })
        })
        .collect();
    report["listeners"] = snapshot
        .listeners
        .iter()
        .map(|listener| {
            json!({
                "reactor": listener.reactor,
                "address": listener.address.to_string(),
                "state": listener.state,
                "accepted": listener.accepted,
                "failures": listener.failures,
                "errno": listener.error,
            })
        })
        .collect();
}

/// A consumer, and how far it is behind.
fn consumer(status: &ConsumerStatus) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    json!({
        "consumer": status.consumer,
        "connections": status.connections,
        "lag_bytes": status.lag_bytes,
        "lag_seconds": seconds(status.lag),
        "still_seconds": seconds(status.still_for),
        "stalled": status.stalled,
        "stalls": status.stalls,
        "blocks": status.blocks,
    })
}

fn connection(info: &ConnectionInfo, now: SystemTime) -> Value {
    json!({
        "id": info.id.to_string(),
        "peer": info.peer.to_string(),
        "listener": info.listener,
        "consumer": info.consumer,
        "state": info.state,
        "causes": info.causes.iter().map(|cause| cause.label()).collect::<Vec<_>>(),
        "closing": info.closing.map(|reason| reason.label()),
        "since": now.checked_sub(info.state_for).map(unix),
        "age_seconds": info.age.as_secs_f64(),
        "quiet_seconds": info.quiet_for.as_secs_f64(),
        "fin_at": info.fin_at.map(unix),
        "reset_at": info.reset_at.map(unix),
        "received": info.books.received,
        "published": info.books.published,
        "discarded": info.books.discarded,
        "staged": info.books.staged,
        "unread": info.unread,
        "paused": pauses(&info.paused),
    })
}

fn ended(info: &ClosedInfo) -> Value {
    json!({
        "id": info.id.to_string(),
        "peer": info.peer.to_string(),
        "listener": info.listener,
        "consumer": info.consumer,
        "reason": info.reason.label(),
        "errno": match info.reason {
            fanin::CloseReason::System(errno) => Some(errno),
            _ => None,
        },
        "at": unix(info.at),
        "age_seconds": info.age.as_secs_f64(),
        "received": info.books.received,
        "published": info.books.published,
        "discarded": info.books.discarded,
        "unread": info.unread,
        "paused": pauses(&info.paused),
    })
}

/// Every reason, zeros included: a name that is missing would read as a name that is wrong.
fn tally<R: Reason>(tally: &Tally<R>) -> Value {
    tally
        .iter()
        .map(|(reason, count)| (reason.label().to_owned(), Value::from(count)))
        .collect::<Map<_, _>>()
        .into()
}

fn pauses(list: &[(PauseCause, Pauses)]) -> Value {
    PauseCause::ALL
        .iter()
        .map(|cause| {
            let of_cause = list.iter().find(|(c, _)| c == cause);
            let pauses = of_cause.map_or_else(Pauses::default, |(_, pauses)| *pauses);
            (cause.label().to_owned(), pause(&pauses))
        })
        .collect::<Map<_, _>>()
        .into()
}

fn pause(pauses: &Pauses) -> Value {
    json!({ "count": pauses.count, "seconds": pauses.time.as_secs_f64() })
}

/// Seconds since the epoch.
fn unix(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// As many as the kernel goes through.
const MOST_LINKS: usize = 40;

/// Can there be a report at `path`? To be known before the first message, not after the last.
pub(crate) fn look(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => open_special(path).map(drop),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => beside(&named(path)).and_then(|(beside, _)| fs::remove_file(beside)),
    }
}

/// What a link names, through others, whether that is there or not.
fn named(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path.set_file_name(target),
            Err(_) => break,
        }
    }
    path
}

/// A file is replaced; a link stays, and what it names is replaced; a pipe or a device is written into.
fn replace(path: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return write(&mut open_special(path)?);
    }
    let path = named(path);
    let (beside, mut file) = beside(&path)?;
    let written = write(&mut file)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// A new file in the same directory. Never one that somebody has put there for us.
fn beside(path: &Path) -> io::Result<(PathBuf, fs::File)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let _ = fs::remove_file(&beside);
    let file = fs::File::create_new(&beside)?;
    Ok((beside, file))
}

/// Without waiting: a pipe that nobody reads is an error, and so is one that is full.
fn open_special(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    fs::OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_every_name_even_when_nothing_happened() {
        let report = totals(&Snapshot::default(), &Program::default());
        assert_eq!(report["schema"], 1);
        assert_eq!(report["balanced"], true);
        assert_eq!(report["connections"]["closed"]["eof"], 0);
        assert_eq!(report["connections"]["refused"]["descriptors"], 0);
        assert_eq!(report["bytes"]["discarded"]["oversize"], 0);
        assert_eq!(
            report["pauses"]["ring"],
            json!({"count": 0, "seconds": 0.0})
        );
        assert_eq!(report["messages"], json!({"delivered": 0}));
        for name in ["unconfirmed", "unread", "peak", "drain", "ended"] {
            assert!(report.get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn numbers_come_from_the_snapshot_and_an_unbalanced_book_is_told() {
        let mut snapshot = Snapshot::default();
        snapshot.bytes.received = 10;
        snapshot.bytes.published = 9;
        let program = Program {
            messages: 3,
            unconfirmed: 5,
            ..Program::default()
        };
        let report = totals(&snapshot, &program);
        assert_eq!(report["bytes"]["received"], 10);
        assert_eq!(report["messages"]["delivered"], 3);
        assert_eq!(report["unconfirmed"], 5);
        assert_eq!(report["balanced"], false);
        let mut written = Vec::new();
        let report = Report::live(&snapshot, &program, Vec::new(), Vec::new());
        report.write_to(&mut written).unwrap();
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text.find('\n'), Some(text.len() - 1));
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["live"], json!([]));
        assert_eq!(report["recently_closed"], json!([]));
        assert_eq!(report["bytes"]["published"], 9);
    }

    #[test]
    fn a_report_replaces_the_former_one_and_leaves_nothing_beside_it() {
        let folder = std::env::temp_dir().join(format!("fanin-report-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("report.json");
        look(&path).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        replace(&path, |file| file.write_all(b"1")).unwrap();
        replace(&path, |file| file.write_all(b"2")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        let link = folder.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        look(&link).unwrap();
        replace(&link, |file| file.write_all(b"3")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "3");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        // A file is made where the link leads, and not beside the link.
        let elsewhere = folder.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        for target in [elsewhere.join("absolute"), "elsewhere/relative".into()] {
            fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink(&target, &link).unwrap();
            look(&link).unwrap();
            replace(&link, |file| file.write_all(b"4")).unwrap();
            assert_eq!(fs::read_to_string(folder.join(&target)).unwrap(), "4");
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        let another = folder.join("another");
        std::os::unix::fs::symlink("link", &another).unwrap();
        fs::remove_file(elsewhere.join("relative")).unwrap();
        replace(&another, |file| file.write_all(b"5")).unwrap();
        assert_eq!(fs::read_to_string(elsewhere.join("relative")).unwrap(), "5");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("nowhere/at-all", &link).unwrap();
        look(&link).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_pipe_is_written_into_and_nowhere_is_known_at_the_start() {
        use std::os::unix::fs::FileTypeExt as _;
        let folder = std::env::temp_dir().join(format!("fanin-pipe-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert!(look(&path).is_err(), "nobody reads");
        let reader = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        look(&path).unwrap();
        replace(&path, |file| file.write_all(b"1")).unwrap();
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        let mut read = [0; 2];
        assert_eq!(io::Read::read(&mut &reader, &mut read).unwrap(), 1);
        fs::remove_dir_all(&folder).unwrap();
        assert!(look(&path).is_err());
    }
}
