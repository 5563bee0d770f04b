//! A TCP server for each consumer: connected again for ever, resumed at the first message that was not
//! wholly accepted.
//!
//! What a kernel accepted on a connection that fails later may have arrived or not: `unconfirmed`.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanin::Batch;

use super::write::write_all;
use super::{Cause, Counts, Failure, Progress, Renderer, Sink, Stop, texts};
use crate::cli::notes::Notes;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Tcp {
    link: Link,
    renderer: Renderer,
}

impl Tcp {
    pub(crate) fn new(
        address: String,
        renderer: Renderer,
        stop: Arc<Stop>,
        counts: Arc<Counts>,
        notes: Notes,
    ) -> Self {
        Self {
            link: Link {
                address,
                stream: None,
                accepted: 0,
                backoff: FIRST_BACKOFF,
                stop,
                counts,
                notes,
            },
            renderer,
        }
    }
}

impl Sink for Tcp {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<u64, Failure> {
        let mut texts = texts(batch);
        let mut progress = Progress::default();
        self.link.look();
        loop {
            let rendered = self.renderer.render(&mut texts);
            if rendered.is_empty() {
                return Ok(progress.messages);
            }
            let mut boundary = rendered.boundary(0);
            loop {
                if self.link.connect().is_err() {
                    return Err(progress.failure(&rendered, &boundary, Cause::Stopped));
                }
                match self.link.write(&mut rendered.slices(boundary.end)) {
                    Ok(()) => break,
                    Err((accepted, Cause::Failed(error))) => {
                        boundary = rendered.boundary(boundary.end + accepted);
                        self.link.lose(&error);
                    }
                    Err((accepted, cause)) => {
                        boundary = rendered.boundary(boundary.end + accepted);
                        return Err(progress.failure(&rendered, &boundary, cause));
                    }
                }
            }
            progress.add(&rendered);
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(stream) = &self.link.stream {
            // The kernel sends what it has; a peer that is gone already was reported when we wrote.
            let _ = stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

/// The connection, or the lack of one.
#[derive(Debug)]
struct Link {
    address: String,
    stream: Option<TcpStream>,
    /// Bytes that the kernel has accepted on this connection.
    accepted: u64,
    backoff: Duration,
    stop: Arc<Stop>,
    counts: Arc<Counts>,
    notes: Notes,
}

/// The time is up.
#[derive(Debug)]
struct TimeIsUp;

impl Link {
    /// Has the peer left? Writing to it would be accepted once more, and lost.
    fn look(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut unwanted = [0; 512];
        let left = loop {
            match stream.read(&mut unwanted) {
                Ok(0) => break Some(io::Error::other("closed by the peer")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = left {
            self.lose(&error);
        }
    }

    fn write(&mut self, slices: &mut [io::IoSlice<'_>]) -> Result<(), (u64, Cause)> {
        let Some(stream) = &mut self.stream else {
            let error = io::Error::from(io::ErrorKind::NotConnected);
            return Err((0, Cause::Failed(error)));
        };
        let all: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let result = write_all(stream, slices, &self.stop);
        let accepted = result
            .as_ref()
            .map_or_else(|(accepted, _)| *accepted, |()| all);
        self.accepted += accepted;
        if accepted > 0 {
            self.backoff = FIRST_BACKOFF;
        }
        result
    }

    fn lose(&mut self, error: &io::Error) {
        self.stream = None;
        let accepted = std::mem::take(&mut self.accepted);
        self.counts
            .unconfirmed
            .fetch_add(accepted, Ordering::Relaxed);
        self.notes.say(format!(
            "sink tcp://{}: connection lost: {error}; {accepted} bytes that it had accepted are unconfirmed",
            self.address
        ));
    }

    fn connect(&mut self) -> Result<(), TimeIsUp> {
        while self.stream.is_none() {
            if self.stop.is_stopped() {
                return Err(TimeIsUp);
            }
            match open(&self.address) {
                Ok(stream) => self.stream = Some(stream),
                Err(error) => self.notes.say(format!(
                    "sink tcp://{}: {error}; next attempt in {} ms",
                    self.address,
                    self.backoff.as_millis()
                )),
            }
            // Before the first write as well: a peer that accepts and closes is no reason to spin.
            if self.stream.is_none() || self.backoff > FIRST_BACKOFF {
                // A poll that fails would make this a busy wait.
                if self.stop.sleep(self.backoff).is_err() {
                    std::thread::sleep(self.backoff);
                }
            }
            self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        }
        Ok(())
    }
}

fn open(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
