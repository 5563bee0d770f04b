//! Lines on stderr that must never hold up a sink.
//!
//! In: lines, from any thread. Out: lines, from one thread of its own; what does not fit its queue is
//! counted. Never here: a byte of a peer's messages.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use fanin::Record;

/// Lines that wait for a slow terminal; the rest is counted.
const QUEUE: usize = 1024;

/// A line on stderr. Nobody may be there to read it, and that is no reason to fail.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "fanin: {line}");
}

#[derive(Clone, Debug)]
pub(crate) struct Notes {
    queue: SyncSender<Note>,
    lost: Arc<AtomicU64>,
    verbose: bool,
}

#[derive(Debug)]
enum Note {
    Line(String),
    End(SyncSender<()>),
}

impl Notes {
    pub(crate) fn start(verbose: bool) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&lost);
        thread::Builder::new()
            .name("fanin-notes".to_owned())
            .spawn(move || write(&lines, &theirs))?;
        Ok(Self {
            queue,
            lost,
            verbose,
        })
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.verbose
    }

    pub(crate) fn say(&self, line: String) {
        if self.queue.try_send(Note::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
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

    /// Waits until all lines are written, but not for ever: stderr may be a pipe that nobody reads.
    pub(crate) fn end(&self, within: Duration) {
        let (done, ended) = sync_channel(1);
        if self.queue.try_send(Note::End(done)).is_ok() {
            let _: Result<(), RecvTimeoutError> = ended.recv_timeout(within);
        }
    }
}

fn write(lines: &Receiver<Note>, lost: &AtomicU64) {
    while let Ok(note) = lines.recv() {
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            say(format_args!("{missing} lines are left out here"));
        }
        match note {
            Note::Line(line) => say(line),
            Note::End(done) => {
                let _ = done.send(());
                return;
            }
        }
    }
}
