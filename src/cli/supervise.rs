//! The threads, the signals, and the end.
//!
//! In: signals, ended reactors, ended sinks. Out: the report and the exit code.
//! Never here: a wait without end. A sink that hangs in a write is left behind when its time is up.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use fanin::{DiscardReason, Fanin, Handle, RunError};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::args::Serve;
use super::notes::Notes;
use super::report::{Drain, Program, Report};
use super::sink::{self, Counts, Destination, Outcome, Outlets, Renderer};
use super::watch::{self, Watch};
use super::{FAILED, units::Brief};

/// How long a list of connections may take.
const QUERY: Duration = Duration::from_secs(2);
/// What ended threads are given to say so, after everybody's time was up.
const GRACE: Duration = Duration::from_secs(2);
/// Sinks give up so much before the reactors do, and a sink that still answers can say which message
/// was the last: then the books are exact.
const HEAD_START: Duration = Duration::from_millis(500);

/// How often signals are looked for where they cannot be waited for.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) enum Event {
    Signal(i32),
    ReactorEnded(usize, Result<(), Ending>),
    SinkEnded(usize, Outcome),
}

/// Why a reactor ended early.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Its sink failed first, which is the reason to tell.
    ConsumerGone,
    Failed(String),
}

pub(crate) type Mailbox = (Sender<Event>, Receiver<Event>);

pub(crate) fn signals() -> std::io::Result<Mailbox> {
    let (sender, receiver) = channel();
    let (read, write) = UnixStream::pair()?;
    let wanted = [SIGTERM, SIGINT, SIGHUP, SIGUSR1];
    // To write beyond the limit of a file's size is to fail with EFBIG, and not to be the end of us.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = SignalDelivery::with_pipe(read, write, SignalOnly, wanted)?;
    let theirs = sender.clone();
    thread::Builder::new()
        .name("fanin-signals".to_owned())
        .spawn(move || {
            loop {
                // Not signal-hook's own wait, which panics if it fails: nothing could end us any more.
                let waited = signals.get_read_mut().read(&mut [0]);
                for signal in signals.pending() {
                    if theirs.send(Event::Signal(signal)).is_err() {
                        return;
                    }
                }
                if !matches!(waited, Ok(1..)) {
                    // Should it fail each time, we look now and then.
                    thread::sleep(LOOK);
                }
            }
        })?;
    Ok((sender, receiver))
}

pub(crate) struct Supervisor {
    events: Receiver<Event>,
    handle: Handle,
    outlets: Arc<Outlets>,
    counts: Vec<Arc<Counts>>,
    notes: Notes,
    destination: Destination,
    report: Option<PathBuf>,
    drain_timeout: Duration,
    began: Instant,
    reactors: usize,
    sinks: usize,
    ending: Option<End>,
    failed: bool,
    watch: Watch,
    /// When to look at what acts.
    look_at: Instant,
    /// Does a stalled consumer end the whole?
    stops_for_a_stall: bool,
    /// Since when the reactors drain for one, as far as has been seen.
    stalled_since: Option<Instant>,
}

/// Since when, why, and until when it ends.
struct End {
    cause: &'static str,
    since: Instant,
    sinks_until: Instant,
    until: Instant,
}

impl Supervisor {
    pub(crate) fn start(
        serve: &Serve,
        fanin: Fanin,
        outlets: Arc<Outlets>,
        notes: Notes,
        (sender, events): Mailbox,
    ) -> anyhow::Result<Self> {
        let (reactors, sinks) = (fanin.reactors.len(), fanin.consumers.len());
        let mut counts = Vec::new();
        for (index, consumer) in fanin.consumers.into_iter().enumerate() {
            let mine = Arc::new(Counts::default());
            counts.push(Arc::clone(&mine));
            let renderer = Renderer::new(serve.output, serve.is_verbatim());
            let sink = outlets.sink(renderer, &mine, &notes);
            let notes = notes.clone();
            spawn(format!("fanin-sink-{index}"), &sender, move || {
                let run = AssertUnwindSafe(|| sink::run(consumer, sink, &mine, &notes));
                let outcome = catch_unwind(run)
                    .unwrap_or_else(|_| Outcome::Failed(std::io::Error::other("panicked")));
                Event::SinkEnded(index, outcome)
            })?;
        }
        for (index, reactor) in fanin.reactors.into_iter().enumerate() {
            spawn(format!("fanin-reactor-{index}"), &sender, move || {
                let result = match catch_unwind(AssertUnwindSafe(|| reactor.run())) {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(RunError::ConsumerGone { .. })) => Err(Ending::ConsumerGone),
                    Ok(Err(error)) => Err(Ending::Failed(error.to_string())),
                    Err(_) => Err(Ending::Failed("panicked".to_owned())),
                };
                Event::ReactorEnded(index, result)
            })?;
        }
        Ok(Self {
            events,
            handle: fanin.handle,
            outlets,
            counts,
            notes,
            destination: serve.sink.clone(),
            report: serve.report.clone(),
            drain_timeout: serve.drain_timeout,
            began: Instant::now(),
            reactors,
            sinks,
            ending: None,
            failed: false,
            watch: Watch::default(),
            look_at: Instant::now() + watch::EVERY,
            stops_for_a_stall: serve.stops_for_a_stall(),
            stalled_since: None,
        })
    }

    /// Until everything has ended, or its time is up; the exit code.
    pub(crate) fn run(mut self) -> i32 {
        while self.reactors > 0 || self.sinks > 0 {
            if self.ending.is_none() && (self.reactors == 0 || self.sinks == 0) {
                // One side ended on its own; the other has as long as a drain, of which the reactors have
                // taken a part, or all of it, if they ended for a stalled consumer.
                let taken = self.stalled_since.map_or(Duration::ZERO, |s| s.elapsed());
                self.end("failure", self.drain_timeout.saturating_sub(taken));
            }
            self.look();
            match self.wait() {
                Ok(event) => self.handle_event(event),
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    match &self.ending {
                        Some(end) if now >= end.until => break,
                        Some(end) if now >= end.sinks_until => self.outlets.stop.stop(),
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.finish()
    }

    /// Once a second: what acts, and what does not any more?
    fn look(&mut self) {
        let now = Instant::now();
        if now >= self.look_at {
            self.look_at = now + watch::EVERY;
            let snapshot = self.handle.snapshot();
            let lines = self.watch.look(&snapshot, now);
            lines.into_iter().for_each(|line| self.notes.say(line));
            let mut consumers = snapshot.consumers.iter();
            if self.stops_for_a_stall && consumers.any(|consumer| consumer.stalls > 0) {
                self.stalled_since.get_or_insert(now);
            }
        }
    }

    fn wait(&self) -> Result<Event, RecvTimeoutError> {
        let next = match &self.ending {
            None => self.look_at,
            Some(end) if self.outlets.stop.is_stopped() => end.until.min(self.look_at),
            Some(end) => end.sinks_until.min(self.look_at),
        };
        let within = next.saturating_duration_since(Instant::now());
        self.events.recv_timeout(within)
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Signal(SIGHUP) => self.outlets.reopen(),
            Event::Signal(SIGUSR1) => self.show(),
            Event::Signal(signal) if self.ending.is_none() => {
                let timeout = self.drain_timeout;
                let cause = if signal == SIGINT {
                    "SIGINT"
                } else {
                    "SIGTERM"
                };
                self.notes.say(format!(
                    "{cause}: draining, {} at most; a second one stops at once",
                    Brief(timeout)
                ));
                self.end(cause, timeout);
                self.handle.drain(timeout);
            }
            Event::Signal(_) => {
                self.end("second signal", Duration::ZERO);
                self.outlets.stop.stop();
                self.handle.stop();
            }
            Event::ReactorEnded(index, result) => {
                self.reactors -= 1;
                if let Err(ending) = result {
                    // A sink that gave up when its time was up is told by what was not delivered.
                    self.failed |= self.ending.is_none();
                    if let Ending::Failed(reason) = ending {
                        self.failed = true;
                        self.notes.say(format!("fanin-reactor-{index}: {reason}"));
                    }
                }
            }
            Event::SinkEnded(index, outcome) => {
                self.sinks -= 1;
                if let Outcome::Failed(error) = outcome {
                    self.failed = true;
                    self.notes.say(format!(
                        "--sink {} (consumer {index}): {error}",
                        self.destination
                    ));
                    // With nobody left to deliver to, nothing is waited for. Not `stop`: the
                    // reactors are to find that the sink is gone, and book what is lost by it.
                    let nowhere = self.sinks == 0 || self.outlets.is_broken();
                    if nowhere {
                        self.outlets.stop.stop();
                        self.handle.drain(Duration::ZERO);
                    }
                    if self.ending.is_none() {
                        self.end("sink failed", self.drain_timeout);
                        self.handle.drain(self.drain_timeout);
                    }
                }
            }
        }
    }

    /// The end is settled: from now on nothing is waited for without limit.
    fn end(&mut self, cause: &'static str, timeout: Duration) {
        let now = Instant::now();
        let mut end = End {
            cause,
            since: now,
            sinks_until: now + timeout - HEAD_START.min(timeout / 20),
            until: now + timeout + GRACE,
        };
        // Who asks again does not wait longer for it.
        if let Some(before) = &self.ending {
            end.since = before.since;
            end.sinks_until = end.sinks_until.min(before.sinks_until);
            end.until = end.until.min(before.until);
        }
        self.ending = Some(end);
    }

    fn program(&self) -> Program {
        let sum = |count: fn(&Counts) -> u64| self.counts.iter().map(|c| count(c)).sum();
        Program {
            uptime: self.began.elapsed(),
            messages: sum(|counts| counts.messages.load(Ordering::Relaxed)),
            unconfirmed: sum(|counts| counts.unconfirmed.load(Ordering::Relaxed)),
            drain: self.ending.as_ref().map(|end| Drain {
                cause: end.cause,
                taken: end.since.elapsed(),
                timeout: self.drain_timeout,
                complete: self.reactors == 0 && self.sinks == 0,
            }),
        }
    }

    /// The file for reports; without it, or for `-`, they go to stderr.
    fn file(&self) -> Option<&Path> {
        self.report
            .as_deref()
            .filter(|path| *path != Path::new("-"))
    }

    /// `false`: it could not be, and belongs to stderr.
    fn write(&self, report: &Report, path: &Path) -> bool {
        let written = report.write(path);
        if let Err(error) = &written {
            self.notes
                .say(format!("--report {}: {error}", path.display()));
        }
        written.is_ok()
    }

    /// SIGUSR1: the same, and who is there.
    fn show(&self) {
        let (connections, closed) = (self.handle.connections(), self.handle.recently_closed());
        let (connections, closed) = (connections.wait(QUERY), closed.wait(QUERY));
        let snapshot = self.handle.snapshot();
        let report = Report::live(&snapshot, &self.program(), connections, closed);
        if !self.file().is_some_and(|path| self.write(&report, path)) {
            self.notes.report(report);
        }
    }

    fn finish(mut self) -> i32 {
        let snapshot = self.handle.snapshot();
        // What acted after the last look, a whole drain maybe, is in no other line.
        let lines = self.watch.end(&snapshot, Instant::now());
        lines.into_iter().for_each(|line| self.notes.say(line));
        if self.sinks > 0 || self.reactors > 0 {
            self.notes.say(format!(
                "{} sinks and {} reactors did not end in time and are left behind",
                self.sinks, self.reactors
            ));
        }
        let bytes = &snapshot.bytes;
        // A message's beginning is lost with the sink that it was read for, or with its reactor; a sink
        // that is left behind has given nothing back.
        let lost = bytes.abandoned
            + bytes.in_rings
            + bytes.staged
            + bytes.discarded.count(DiscardReason::ConsumerGone);
        if lost > 0 {
            self.failed = true;
            let unread = match snapshot.unread {
                0 => String::new(),
                unread => format!("; {unread} more were left unread in the kernel"),
            };
            self.notes
                .say(format!("{lost} bytes were not delivered{unread}"));
        }
        if snapshot.ended && !snapshot.balanced() {
            self.failed = true;
            self.notes.say("the books do not balance: a bug of fanin's");
        }
        self.failed |= self.sinks > 0 || self.reactors > 0;
        let mut report = self
            .report
            .is_some()
            .then(|| Report::last(&snapshot, &self.program()));
        if let (Some(path), Some(last)) = (self.file(), &report) {
            match self.write(last, path) {
                true => report = None,
                false => self.failed = true,
            }
        }
        // Lines may be lost where nobody reads them; a report that was asked for may not.
        let is_asked = report.is_some();
        self.failed |= self.notes.end(report, GRACE).is_err() && is_asked;
        if self.failed { FAILED } else { 0 }
    }
}

fn spawn(
    name: String,
    sender: &Sender<Event>,
    work: impl FnOnce() -> Event + Send + 'static,
) -> anyhow::Result<()> {
    let sender = sender.clone();
    let context = format!("thread {name}");
    thread::Builder::new()
        .name(name)
        // Nobody receives any more when the program is already leaving.
        .spawn(move || drop(sender.send(work())))
        .context(context)?;
    Ok(())
}
