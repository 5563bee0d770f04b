//! A TCP server for each consumer: connected again for ever, resumed at the first message that was not
//! wholly accepted.
//!
//! What a kernel accepted on a connection that fails later may have arrived or not: `unconfirmed`.
//! What a server sends is thrown away, but read: unread, it would hold up a server that waits for its
//! answers to be taken, and make our close destroy what that has not read yet.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fanin::Batch;
use rustix::event::PollFlags;
use rustix::io::Errno;
use socket2::{Domain, Socket, TcpKeepalive, Type};

use super::write::{Outlet, Woken, write_all};
use super::{Cause, Counts, Failure, Progress, Renderer, Sink, Stop, texts};
use crate::cli::notes::Notes;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// A connection that lived for so long was a good one: the next attempt needs no wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A balancer without servers takes a connection to close it. What is written before that is seen is lost.
const TRIAL: Duration = Duration::from_millis(100);
/// Silence before the kernel asks whether the server is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

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
                since: Instant::now(),
                backoff: Duration::ZERO,
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

    /// Until the server has read everything and closed, or the time is up.
    fn finish(&mut self) -> io::Result<()> {
        self.link.look();
        let Some(stream) = &mut self.link.stream else {
            return Ok(());
        };
        let ended = stream
            .shutdown(Shutdown::Write)
            .and_then(|()| read_to_end(stream, &self.link.stop));
        if let Err(error) = ended {
            self.link.lose(&error);
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
    since: Instant,
    /// Before the next attempt.
    backoff: Duration,
    stop: Arc<Stop>,
    counts: Arc<Counts>,
    notes: Notes,
}

/// The time is up.
#[derive(Debug)]
struct TimeIsUp;

impl Link {
    /// Has the server left? Writing to it would be accepted once more, and lost.
    fn look(&mut self) {
        if let Some(stream) = &mut self.stream
            && let Err(error) = discard(stream)
        {
            self.lose(&error);
        }
    }

    fn write(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), (u64, Cause)> {
        let Some(stream) = &mut self.stream else {
            let error = io::Error::from(io::ErrorKind::NotConnected);
            return Err((0, Cause::Failed(error)));
        };
        let all: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let result = write_all(&mut Talker(stream), slices, &self.stop);
        self.accepted += result.as_ref().map_or_else(|(some, _)| *some, |()| all);
        result
    }

    fn lose(&mut self, error: &io::Error) {
        self.stream = None;
        if self.since.elapsed() >= LONGEST_BACKOFF {
            self.backoff = Duration::ZERO;
        }
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
            self.sleep(self.backoff)?;
            self.backoff = (self.backoff * 2).clamp(FIRST_BACKOFF, LONGEST_BACKOFF);
            match open(&self.address, &self.stop) {
                Ok(stream) => {
                    self.stream = Some(stream);
                    self.since = Instant::now();
                    self.sleep(TRIAL)?;
                    self.look();
                }
                Err(error) => self.notes.say(format!(
                    "sink tcp://{}: {error}; next attempt in {} ms",
                    self.address,
                    self.backoff.as_millis()
                )),
            }
        }
        Ok(())
    }

    fn sleep(&self, time: Duration) -> Result<(), TimeIsUp> {
        // A poll that fails would make this a busy wait.
        if self.stop.sleep(time).is_err() {
            std::thread::sleep(time);
        }
        if self.stop.is_stopped() {
            return Err(TimeIsUp);
        }
        Ok(())
    }
}

/// Reads what there is, or much of it. An error: the server has closed, or there was one.
fn discard(stream: &mut TcpStream) -> io::Result<()> {
    let mut unwanted = [0; 4096];
    for _ in 0..64 {
        match stream.read(&mut unwanted) {
            Ok(0) => return Err(io::Error::other("closed by the peer")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_to_end(stream: &mut TcpStream, stop: &Stop) -> io::Result<()> {
    let mut unwanted = [0; 4096];
    while stop.wait_for(stream.as_fd(), PollFlags::IN, None)? != Woken::Stopped {
        match stream.read(&mut unwanted) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => drop(other?),
        }
    }
    Err(io::Error::other("not closed by the peer in time"))
}

/// Waits for room and listens meanwhile.
struct Talker<'s>(&'s mut TcpStream);

impl Outlet for Talker<'_> {
    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&*self.0, slices)?)
    }
    fn wait_writable(&mut self, stop: &Stop) -> io::Result<Woken> {
        let woken = stop.wait_for(self.0.as_fd(), PollFlags::OUT | PollFlags::IN, None)?;
        discard(self.0)?;
        Ok(woken)
    }
}

fn open(address: &str, stop: &Stop) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match open_one(address, stop) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open_one(address: SocketAddr, stop: &Stop) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        None,
    )?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
            match stop.wait_for(socket.as_fd(), PollFlags::OUT, Some(CONNECT_TIMEOUT))? {
                Woken::Ready => {}
                Woken::TimedOut => return Err(io::ErrorKind::TimedOut.into()),
                Woken::Stopped => return Err(io::ErrorKind::Interrupted.into()),
            }
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
        }
        other => other?,
    }
    refuse_itself(&socket)?;
    Ok(socket.into())
}

/// Where nobody listens at a port of those that outgoing connections are given, one may meet itself.
fn refuse_itself(socket: &Socket) -> io::Result<()> {
    match socket.local_addr()? == socket.peer_addr()? {
        true => Err(io::Error::other(
            "connected to itself: nobody listens there",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sink::Output;
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    fn sink(listener: &TcpListener) -> (Tcp, Arc<Counts>, Arc<Stop>) {
        let (counts, stop) = (Arc::<Counts>::default(), Arc::new(Stop::new().unwrap()));
        let tcp = Tcp::new(
            listener.local_addr().unwrap().to_string(),
            Renderer::new(Output::Line, true),
            Arc::clone(&stop),
            Arc::clone(&counts),
            Notes::start(false).unwrap(),
        );
        (tcp, counts, stop)
    }

    fn write(tcp: &mut Tcp, bytes: &[u8]) {
        tcp.link.connect().unwrap();
        tcp.link.write(&mut [IoSlice::new(bytes)]).unwrap();
    }

    #[test]
    fn a_connection_that_meets_itself_is_none() {
        let connected = |to: Option<SocketAddr>| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
            socket.bind(&any.into()).unwrap();
            let to = to.unwrap_or_else(|| socket.local_addr().unwrap().as_socket().unwrap());
            socket.connect(&to.into()).unwrap();
            refuse_itself(&socket)
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(connected(Some(listener.local_addr().unwrap())).is_ok());
        assert!(connected(None).is_err());
    }

    #[test]
    fn a_reset_after_the_last_write_leaves_it_unconfirmed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut tcp, counts, _) = sink(&listener);
        write(&mut tcp, b"hello");
        // Closed with bytes unread: the kernel resets.
        drop(listener.accept().unwrap());
        tcp.finish().unwrap();
        assert_eq!(counts.unconfirmed.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn a_slow_server_that_answers_gets_everything_before_we_close() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut tcp, counts, _) = sink(&listener);
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut got, mut buffer) = (0, [0; 50_000]);
            loop {
                let n = stream.read(&mut buffer).unwrap();
                if n == 0 {
                    return got;
                }
                got += n;
                stream.write_all(b"ok\n").unwrap();
                // Not synchronisation: the end of what was written must come before that of the reading.
                thread::sleep(Duration::from_millis(1));
            }
        });
        write(&mut tcp, &vec![b'x'; 1 << 20]);
        tcp.finish().unwrap();
        drop(tcp);
        assert_eq!(server.join().unwrap(), 1 << 20);
        assert_eq!(counts.unconfirmed.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_server_that_closes_what_it_takes_is_written_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut tcp, counts, stop) = sink(&listener);
        let sink = thread::spawn(move || tcp.link.connect().is_err());
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
        stop.stop();
        assert!(sink.join().unwrap());
        assert_eq!(counts.unconfirmed.load(Ordering::Relaxed), 0);
    }
}
