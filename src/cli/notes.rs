//! Lines on stderr that must never hold up a sink.
//!
//! In: lines and reports, from any thread. Out: the same, from one thread of its own; what does not fit
//! its queue is counted. Never here: a byte of a peer's messages, or a wait without end: stderr may be a
//! pipe that nobody reads.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use fanin::Record;

use super::report::Report;

/// Lines that wait for a slow terminal; the rest is counted.
const QUEUE: usize = 1024;

/// How often a full queue is tried again at the end.
const AGAIN: Duration = Duration::from_millis(5);

/// A line on stderr, now: before there is a queue. Nobody may be there to read it, and that is no reason
/// to fail.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "fanin: {line}");
}

#[derive(Clone, Debug)]
pub(crate) struct Notes {
    queue: SyncSender<Note>,
    lost: Arc<AtomicU64>,
    /// A report is in the queue: one at a time, for they are long.
    reporting: Arc<AtomicBool>,
    verbose: bool,
}

#[derive(Debug)]
enum Note {
    Line(String),
    Report(Box<Report>),
    /// The last one, and who waits for it.
    End(Option<Box<Report>>, SyncSender<io::Result<()>>),
}

impl Notes {
    pub(crate) fn start(verbose: bool) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let notes = Self {
            queue,
            lost: Arc::default(),
            reporting: Arc::default(),
            verbose,
        };
        let (lost, reporting) = (Arc::clone(&notes.lost), Arc::clone(&notes.reporting));
        thread::Builder::new()
            .name("fanin-notes".to_owned())
            .spawn(move || write(&lines, &lost, &reporting))?;
        Ok(notes)
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.verbose
    }

    pub(crate) fn say(&self, line: impl Into<String>) {
        if self.queue.try_send(Note::Line(line.into())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A report among the lines, unless the one before it is there still.
    pub(crate) fn report(&self, report: Report) {
        let is_new = !self.reporting.swap(true, Ordering::Relaxed);
        if is_new && self.queue.try_send(Note::Report(Box::new(report))).is_ok() {
            return;
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        if is_new {
            // It found no room, and the next one may.
            self.reporting.store(false, Ordering::Relaxed);
        }
    }

    /// What `-v` shows of a record.
    pub(crate) fn record(&self, record: &Record<'_>) {
        match record {
            Record::Opened { who, peer, .. } => self.say(format!("{who} opened by {peer}")),
            Record::Gap {
                who,
                peer,
                reason,
                bytes,
                messages,
                ..
            } => self.say(format!(
                "{who} from {peer}: {bytes} bytes of {messages} messages discarded: {reason}"
            )),
            Record::Closed {
                who,
                peer,
                reason,
                books,
                ..
            } => self.say(format!(
                "{who} from {peer} closed: {reason}; received {}, published {}, discarded {}",
                books.received, books.published, books.discarded
            )),
            _ => {}
        }
    }

    /// Waits until all lines are written, and the report as the last one; but not for ever.
    pub(crate) fn end(&self, report: Option<Report>, within: Duration) -> io::Result<()> {
        let deadline = Instant::now() + within;
        let (done, ended) = sync_channel(1);
        let mut note = Note::End(report.map(Box::new), done);
        let late = || io::Error::new(io::ErrorKind::TimedOut, "nobody reads it");
        loop {
            match self.queue.try_send(note) {
                Ok(()) => break,
                Err(TrySendError::Full(full)) if Instant::now() < deadline => {
                    note = full;
                    thread::sleep(AGAIN);
                }
                Err(_) => return Err(late()),
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        ended.recv_timeout(left).unwrap_or_else(|_| Err(late()))
    }
}

fn write(lines: &Receiver<Note>, lost: &AtomicU64, reporting: &AtomicBool) {
    while let Ok(note) = lines.recv() {
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            say(format_args!("{missing} lines are left out here"));
        }
        match note {
            Note::Line(line) => say(line),
            Note::Report(report) => {
                // Nobody there to read it is no reason to fail.
                let _ = report.write_to(io::stderr().lock());
                reporting.store(false, Ordering::Relaxed);
            }
            Note::End(report, done) => {
                let written = report.map_or(Ok(()), |report| report.write_to(io::stderr().lock()));
                let _ = done.send(written);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::Program;

    #[test]
    fn a_report_that_found_the_queue_full_does_not_keep_the_next_one_away() {
        let (queue, lines) = sync_channel(1);
        let notes = Notes {
            queue,
            lost: Arc::default(),
            reporting: Arc::default(),
            verbose: false,
        };
        let report = || Report::last(&fanin::Snapshot::default(), &Program::default());
        notes.say("a line that nobody has read");
        notes.report(report());
        assert_eq!(notes.lost.load(Ordering::Relaxed), 1);
        lines.recv().unwrap();
        notes.report(report());
        assert!(matches!(lines.recv(), Ok(Note::Report(_))));
        notes.report(report());
        assert!(lines.try_recv().is_err(), "one at a time");
    }
}
