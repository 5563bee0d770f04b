//! Many connections that write at once, from one process.
//!
//! In: an address and a [`Plan`]. Out: what was written. A receiver that stalls stalls the
//! connections it stalls, and no others: nothing here blocks in a write.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};

use crate::message::{Plan, mix, splitmix};

/// Handshakes under way in one thread: well under a backlog of 1024, so that no SYN is dropped and
/// sent again a second later.
const CONNECTING: usize = 200;
/// Writes of one connection before the next has its turn.
const WRITES_PER_TURN: usize = 32;

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    /// `tcp://ADDRESS:PORT` or `unix:///path`, as the program prints it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("tcp://").unwrap_or(text);
        let address = address
            .parse()
            .with_context(|| format!("`{text}` is neither tcp://ADDRESS:PORT nor unix:///path"))?;
        Ok(Self::Tcp(address))
    }
}

/// How much each `write` call is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Writes {
    /// 64 KiB at least, of as many messages as that takes.
    Bulk,
    /// A message.
    Whole,
    /// 1 to 1500 bytes, message boundaries ignored.
    Pieces,
    /// One byte.
    Bytes,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::Tcp(address) => Self::Tcp(TcpStream::connect(*address)?),
            Target::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        })
    }

    fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }

    /// Has the handshake ended?
    fn is_connected(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                match stream.peer_addr() {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
                    Err(error) => Err(error),
                }
            }
            Self::Unix(_) => Ok(true),
        }
    }

    fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }

    fn finish(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

enum State {
    /// Until the kernel says that it is writable.
    Connecting,
    /// In the queue, or waiting to be writable.
    Sending,
    /// FIN is sent; the peer's is awaited, which says that it has read all.
    Finished,
    /// Both FINs, or an error.
    Over,
}

struct Connection {
    conn: u64,
    stream: Stream,
    state: State,
    next: u64,
    buffer: Vec<u8>,
    at: usize,
    chance: u64,
}

enum Turn {
    /// More to write, and the kernel may take it.
    Again,
    /// The kernel takes no more for now.
    Blocked,
    /// Everything is written.
    Finished,
}

impl Connection {
    fn turn(
        &mut self,
        plan: &Plan,
        writes: Writes,
        scratch: &mut Vec<u8>,
    ) -> io::Result<(Turn, u64)> {
        let mut written = 0;
        for _ in 0..WRITES_PER_TURN {
            if self.at == self.buffer.len() {
                self.buffer.clear();
                self.at = 0;
                let enough = if writes == Writes::Bulk { 64 << 10 } else { 1 };
                while self.next < plan.messages && self.buffer.len() < enough {
                    plan.framed(self.conn, self.next, scratch, &mut self.buffer);
                    self.next += 1;
                }
                if self.buffer.is_empty() {
                    self.buffer = Vec::new();
                    return Ok((Turn::Finished, written));
                }
            }
            let rest = &self.buffer[self.at..];
            let most = match writes {
                Writes::Bulk | Writes::Whole => rest.len(),
                Writes::Bytes => 1,
                Writes::Pieces => {
                    self.chance = splitmix(self.chance);
                    // Half of the pieces are tiny: cuts inside prefixes are the interesting ones.
                    let span = if self.chance & 1 == 0 { 8 } else { 1500 };
                    1 + (self.chance >> 1) as usize % span
                }
            };
            match self.stream.write(&rest[..most.min(rest.len())]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.at += n;
                    written += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok((Turn::Blocked, written));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((Turn::Again, written))
    }
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    finished: u64,
    errors: Vec<String>,
}

/// Opens all connections, then sends; returns when each peer has closed its end.
pub(crate) fn send(
    target: &Target,
    plan: &Plan,
    writes: Writes,
    threads: usize,
    timeout: Duration,
) -> Result<Value> {
    plan.validate()?;
    raise_descriptor_limit()?;
    let threads = threads.clamp(1, plan.connections.max(1) as usize);
    let began = Instant::now();
    let deadline = began + timeout;
    let barrier = Barrier::new(threads);
    let sums: Vec<Result<Sum>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads as u64)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mine = (thread..plan.connections).step_by(threads);
                    work(target, plan, writes, mine, barrier, deadline)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a sender thread panicked"))
            .collect()
    });
    let mut all = Sum::default();
    for sum in sums {
        let sum = sum?;
        all.bytes += sum.bytes;
        all.finished += sum.finished;
        all.errors.extend(sum.errors);
    }
    all.errors.truncate(5);
    Ok(json!({
        "connections": plan.connections,
        "finished": all.finished,
        "bytes": all.bytes,
        "errors": all.errors,
        "seconds": began.elapsed().as_secs_f64(),
    }))
}

fn work(
    target: &Target,
    plan: &Plan,
    writes: Writes,
    mine: impl Iterator<Item = u64>,
    barrier: &Barrier,
    deadline: Instant,
) -> Result<Sum> {
    let mut poll = Poll::new()?;
    let connections = open(&mut poll, target, plan, mine, deadline);
    // Met even after a failure: the other threads wait here.
    barrier.wait();
    let mut connections = connections?;

    let mut sum = Sum::default();
    let mut queue: VecDeque<usize> = (0..connections.len()).collect();
    let mut queued = vec![true; connections.len()];
    let mut open = connections.len();
    let mut events = Events::with_capacity(1024);
    let mut scratch = Vec::new();
    while open > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            sum.errors
                .push(format!("{open} connections are not over at the deadline"));
            break;
        }
        let patience = if queue.is_empty() {
            left
        } else {
            Duration::ZERO
        };
        match poll.poll(&mut events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            let Token(at) = event.token();
            let connection = &mut connections[at];
            match connection.state {
                State::Sending if !queued[at] => {
                    queued[at] = true;
                    queue.push_back(at);
                }
                State::Finished => match connection.stream.read(&mut [0; 64]) {
                    Ok(0) => {
                        connection.state = State::Over;
                        sum.finished += 1;
                        open -= 1;
                    }
                    Ok(n) => bail!("connection {}: {n} bytes came back", connection.conn),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => {
                        sum.errors.push(format!(
                            "connection {} at its end: {error}",
                            connection.conn
                        ));
                        connection.state = State::Over;
                        open -= 1;
                    }
                },
                _ => {}
            }
        }
        for _ in 0..queue.len().min(256) {
            let Some(at) = queue.pop_front() else { break };
            queued[at] = false;
            let connection = &mut connections[at];
            let turn = connection
                .turn(plan, writes, &mut scratch)
                .and_then(|(turn, n)| {
                    sum.bytes += n;
                    if matches!(turn, Turn::Finished) {
                        connection.stream.finish()?;
                    }
                    Ok(turn)
                });
            match turn {
                Ok(Turn::Again) => {
                    queued[at] = true;
                    queue.push_back(at);
                }
                Ok(Turn::Blocked) => {}
                Ok(Turn::Finished) => connection.state = State::Finished,
                Err(error) => {
                    sum.errors
                        .push(format!("connection {}: {error}", connection.conn));
                    connection.state = State::Over;
                    open -= 1;
                }
            }
        }
    }
    Ok(sum)
}

fn open(
    poll: &mut Poll,
    target: &Target,
    plan: &Plan,
    mine: impl Iterator<Item = u64>,
    deadline: Instant,
) -> Result<Vec<Connection>> {
    let mut mine = mine.peekable();
    let mut connections: Vec<Connection> = Vec::new();
    let mut connecting = 0;
    let mut events = Events::with_capacity(1024);
    while mine.peek().is_some() || connecting > 0 {
        while connecting < CONNECTING
            && let Some(&conn) = mine.peek()
        {
            let mut stream = match Stream::connect(target) {
                // A Unix listener's backlog is full; there is nothing to wait on, so poll below.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                other => other.with_context(|| format!("connection {conn}"))?,
            };
            mine.next();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Token(connections.len());
            poll.registry().register(stream.source(), token, interest)?;
            connecting += 1;
            connections.push(Connection {
                conn,
                stream,
                state: State::Connecting,
                next: 0,
                buffer: Vec::new(),
                at: 0,
                chance: mix(plan.seed ^ 0xC0FE, conn, 0),
            });
        }
        if Instant::now() > deadline {
            bail!("{connecting} connections are still being opened at the deadline");
        }
        match poll.poll(&mut events, Some(Duration::from_millis(5))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            if matches!(connection.state, State::Connecting)
                && connection
                    .stream
                    .is_connected()
                    .with_context(|| format!("connection {}", connection.conn))?
            {
                connection.stream.set_nodelay()?;
                connection.state = State::Sending;
                connecting -= 1;
            }
        }
    }
    Ok(connections)
}

pub(crate) fn raise_descriptor_limit() -> Result<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the descriptor limit")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
