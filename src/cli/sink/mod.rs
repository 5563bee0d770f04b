//! Where messages go.
//!
//! In: batches. Out: released batches, and for a failure the last message that was wholly accepted.
//! Never here: a message that is counted as delivered before the kernel took its last byte.

mod file;
mod null;
mod render;
mod tcp;
mod write;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanin::{Batch, Consumer, Ended, Mark, Messages, Record};

pub(crate) use self::file::Shared;
use self::render::{Boundary, Place, Rendered};
pub(crate) use self::render::{Output, Renderer, most_memory};
pub(crate) use self::write::{Cause, Stop};
use super::notes::Notes;

/// A sink of one consumer.
pub(crate) trait Sink: Send {
    /// All messages of the batch, in order; how many they were.
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<u64, Failure>;
    /// Nothing more will come: make it last.
    fn finish(&mut self) -> io::Result<()>;
}

/// A batch that was not delivered to its end.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Up to here it was.
    pub(crate) delivered: Option<Mark>,
    pub(crate) messages: u64,
    pub(crate) cause: Cause,
}

/// How much of a batch was written, which is done in parts.
#[derive(Debug, Default)]
struct Progress {
    messages: u64,
    mark: Option<Mark>,
}

impl Progress {
    fn add(&mut self, rendered: &Rendered<'_, Messages<'_>>) {
        self.messages += rendered.messages();
        self.mark = rendered.last().map(Messages::mark).or(self.mark);
    }

    /// Of the part after it, so much was.
    fn failure(
        self,
        rendered: &Rendered<'_, Messages<'_>>,
        boundary: &Boundary,
        cause: Cause,
    ) -> Failure {
        let mark = boundary.place.as_ref().map(|place| match place {
            Place::All(span) => rendered.text(*span).mark(),
            Place::Within(span, bytes) => rendered.text(*span).mark_within(*bytes),
        });
        Failure {
            delivered: mark.or(self.mark),
            messages: self.messages + boundary.messages,
            cause,
        }
    }
}

fn texts<'b>(batch: &'b Batch<'_>) -> impl Iterator<Item = Messages<'b>> {
    batch.records().filter_map(|record| match record {
        Record::Messages(messages) => Some(messages),
        _ => None,
    })
}

/// `--sink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    Null,
    File(PathBuf),
    Tcp(String),
}

impl FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stdout" => return Ok(Self::Stdout),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path {
                "" => Err("file: needs a path".to_owned()),
                path => Ok(Self::File(path.into())),
            };
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            let port = address
                .rsplit_once(':')
                .map(|(host, port)| (host, port.parse::<u16>()));
            return match port {
                Some((host, Ok(1..))) if !host.is_empty() => Ok(Self::Tcp(address.to_owned())),
                _ => Err("tcp:// needs HOST:PORT".to_owned()),
            };
        }
        Err("not one of stdout, null, file:PATH, tcp://HOST:PORT".to_owned())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Null => f.write_str("null"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// What all sinks count; each has one, and anybody may read it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Messages delivered.
    pub(crate) messages: AtomicU64,
    /// Bytes that a kernel had accepted on connections that failed later.
    pub(crate) unconfirmed: AtomicU64,
}

/// What several sinks share.
#[derive(Debug)]
pub(crate) struct Outlets {
    destination: Destination,
    /// Stdout or the file, locked for a whole batch.
    shared: Option<Arc<Shared>>,
    pub(crate) stop: Arc<Stop>,
}

impl Outlets {
    pub(crate) fn open(destination: Destination) -> io::Result<Self> {
        let shared = match &destination {
            Destination::Stdout => Some(Arc::new(Shared::stdout()?)),
            Destination::File(path) => Some(Arc::new(Shared::file(path)?)),
            Destination::Null | Destination::Tcp(_) => None,
        };
        Ok(Self {
            destination,
            shared,
            stop: Arc::new(Stop::new()?),
        })
    }

    /// Can no consumer deliver any more?
    pub(crate) fn is_broken(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| shared.is_broken())
    }

    /// SIGHUP: a file is opened again before the next batch.
    pub(crate) fn reopen(&self) {
        if let Some(shared) = &self.shared {
            shared.reopen();
        }
    }

    pub(crate) fn sink(
        &self,
        renderer: Renderer,
        counts: &Arc<Counts>,
        notes: &Notes,
    ) -> Box<dyn Sink> {
        let stop = Arc::clone(&self.stop);
        match (&self.destination, &self.shared) {
            (Destination::Tcp(address), _) => Box::new(tcp::Tcp::new(
                address.clone(),
                renderer,
                stop,
                Arc::clone(counts),
                notes.clone(),
            )),
            (_, Some(shared)) => {
                let (shared, notes) = (Arc::clone(shared), notes.clone());
                Box::new(file::File::new(shared, renderer, stop, notes))
            }
            (_, None) => Box::new(null::Null),
        }
    }
}

/// How a sink's thread ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Everything that its consumer got was delivered.
    Ended,
    /// The time was up, or the rest was abandoned.
    Stopped,
    /// The sink failed: this is the run's failure.
    Failed(io::Error),
}

/// The thread of a sink: batch after batch, until its consumer ends or its sink fails.
pub(crate) fn run(
    mut consumer: Consumer,
    mut sink: Box<dyn Sink>,
    counts: &Counts,
    notes: &Notes,
) -> Outcome {
    let outcome = loop {
        let mut batch = match consumer.wait() {
            Ok(batch) => batch,
            Err(Ended::Drained) => break Outcome::Ended,
            // A reactor that is gone tells its own reason.
            Err(_) => break Outcome::Stopped,
        };
        match sink.deliver(&batch) {
            Ok(messages) => {
                counts.messages.fetch_add(messages, Ordering::Relaxed);
                if notes.is_wanted() {
                    batch.records().for_each(|record| notes.record(&record));
                }
                batch.release();
            }
            Err(failure) => {
                counts
                    .messages
                    .fetch_add(failure.messages, Ordering::Relaxed);
                if let Some(mark) = failure.delivered {
                    batch.release_until(mark);
                }
                break match failure.cause {
                    Cause::Failed(error) => Outcome::Failed(error),
                    Cause::Stopped => Outcome::Stopped,
                };
            }
        }
    };
    match (outcome, sink.finish()) {
        (Outcome::Failed(error), _) => Outcome::Failed(error),
        (_, Err(error)) => Outcome::Failed(error),
        (outcome, Ok(())) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_and_said_again() {
        for text in [
            "stdout",
            "null",
            "file:/a/b",
            "tcp://host:1",
            "tcp://[::1]:514",
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "stderr",
            "file:",
            "tcp://host",
            "tcp://:514",
            "tcp://host:0",
            "tcp://h:70000",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }
}
