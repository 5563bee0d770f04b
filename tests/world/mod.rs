//! A reactor and its consumers in the test's own thread, turned by the test: nothing sleeps.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fanin::{
    BoundAddr, CloseReason, Config, ConnectionInfo, Consumer, Ended, Fanin, Handle, PauseCause,
    Peer, Reactor, RunError, Turn,
};

use crate::audit::{Audit, Got};

/// Longer than anything takes here, so that a test that fails also ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One reactor and its consumers in this thread; most worlds have one.
pub(crate) struct World {
    pub(crate) reactor: Option<Reactor>,
    /// The first.
    pub(crate) consumer: Option<Consumer>,
    /// The others: they take what there is, always.
    pub(crate) others: Vec<Consumer>,
    pub(crate) handle: Handle,
    pub(crate) audit: Audit,
    /// Whether the first consumer takes what there is.
    pub(crate) keeps_up: bool,
    /// The first consumer was told that all is drained.
    pub(crate) ended: bool,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let Fanin {
            mut reactors,
            mut consumers,
            handle,
            ..
        } = config.validate().unwrap().bind().unwrap();
        Self {
            reactor: reactors.pop(),
            consumer: Some(consumers.remove(0)),
            others: consumers,
            handle,
            audit: Audit::default(),
            keeps_up: true,
            ended: false,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let BoundAddr::Tcp(address) = self.handle.local_addrs()[0] else {
            panic!("not TCP")
        };
        TcpStream::connect(address).unwrap()
    }

    /// What the reactor does in one turn.
    pub(crate) fn turn(&mut self) -> Result<(), RunError> {
        if let Some(reactor) = &mut self.reactor
            && reactor.turn(Some(Duration::from_millis(1)))? == Turn::Ended
        {
            self.reactor = None;
        }
        Ok(())
    }

    /// A batch for each consumer that takes one.
    pub(crate) fn consume(&mut self) {
        let first = self.consumer.as_mut().filter(|_| self.keeps_up);
        if let Some(first) = first {
            self.ended |= take(first, &mut self.audit);
        }
        for other in &mut self.others {
            take(other, &mut self.audit);
        }
    }

    pub(crate) fn step(&mut self) -> Result<(), RunError> {
        self.turn()?;
        self.consume();
        Ok(())
    }

    /// Steps until a turn fails.
    #[track_caller]
    pub(crate) fn failure(&mut self) -> RunError {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Err(error) = self.step() {
                return error;
            }
            assert!(Instant::now() < deadline, "it does not fail");
            assert!(self.reactor.is_some(), "it ended well");
        }
    }

    /// Steps for as long as a clock is to run.
    pub(crate) fn steps_for(&mut self, time: Duration) {
        let since = Instant::now();
        while since.elapsed() < time {
            self.step().unwrap();
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "never: {what}; {:#?}",
                self.handle.snapshot()
            );
            self.step().unwrap();
        }
    }

    #[track_caller]
    pub(crate) fn connections(&mut self) -> Vec<ConnectionInfo> {
        let mut query = self.handle.connections();
        let mut rows = None;
        self.until("the list is answered", |_| {
            rows = query.try_take();
            rows.is_some()
        });
        rows.unwrap()
    }

    /// The row of who is connected by `stream`.
    #[track_caller]
    pub(crate) fn row(&mut self, stream: &TcpStream) -> ConnectionInfo {
        let peer = Peer::Tcp(stream.local_addr().unwrap());
        let mut rows = self.connections().into_iter();
        rows.find(|row| row.peer == peer)
            .unwrap_or_else(|| panic!("{peer} is gone"))
    }

    #[track_caller]
    pub(crate) fn until_it_waits(&mut self, stream: &TcpStream, cause: PauseCause) {
        self.until("it waits", |w| w.row(stream).causes.contains(&cause));
    }

    #[track_caller]
    pub(crate) fn until_staged(&mut self, bytes: u64) {
        self.until("staged", |w| w.handle.snapshot().bytes.staged == bytes);
    }

    /// Connections that ended for this reason.
    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        self.handle.snapshot().connections.closed.count(reason)
    }

    #[track_caller]
    pub(crate) fn drain(&mut self) {
        self.handle.drain(Duration::from_secs(5));
        self.until("drained", |w| w.reactor.is_none() && w.ended);
        let snapshot = self.handle.snapshot();
        assert!(snapshot.ended && snapshot.balanced(), "{snapshot:#?}");
        assert_eq!(snapshot.bytes.published, snapshot.bytes.delivered);
        assert_eq!(snapshot.connections.open, 0);
        self.audit.check_all_closed();
    }
}

/// Audits a batch, if there is one. Returns whether all is drained.
fn take(consumer: &mut Consumer, audit: &mut Audit) -> bool {
    match consumer.try_next() {
        Ok(Some(batch)) => {
            audit.take(&batch);
            batch.release();
            false
        }
        Ok(None) => false,
        Err(Ended::Drained) => true,
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn config() -> Config {
    Config::listen("tcp://127.0.0.1:0").unwrap()
}

pub(crate) fn small_ring() -> Config {
    let mut config = config();
    config.max_message = 1024;
    config.ring_bytes = Some(64 << 10);
    config.receive_buffer = 16 << 10;
    config
}

pub(crate) fn texts(got: &[Got]) -> Vec<String> {
    got.iter()
        .map(|got| String::from_utf8_lossy(&got.text).into_owned())
        .collect()
}

/// Sends lines until the kernel takes no more, and returns how much it took.
pub(crate) fn fill(stream: &mut TcpStream, world: &mut World) -> usize {
    fill_with(&[b"x".repeat(99), b"\n".to_vec()].concat(), stream, world)
}

/// Sends one message again and again until the kernel takes no more, and returns how much it took.
pub(crate) fn fill_with(message: &[u8], stream: &mut TcpStream, world: &mut World) -> usize {
    stream.set_nonblocking(true).unwrap();
    // A window smaller than the loopback's segments opens every 200 ms only: little should wait for it.
    socket2::SockRef::from(&*stream)
        .set_send_buffer_size(16 << 10)
        .unwrap();
    let mut sent = 0;
    let mut refused = 0;
    // The peer's window opens a little now and then, until the ring is full and stays so.
    while refused < 200 {
        match stream.write(&message[sent % message.len()..]) {
            Ok(n) => {
                sent += n;
                refused = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => refused += 1,
            Err(error) => panic!("{error}"),
        }
        world.step().unwrap();
    }
    sent
}
