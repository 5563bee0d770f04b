//! A reactor and a consumer in the test's own thread, turned by the test: nothing sleeps.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fanin::{
    BoundAddr, Config, ConnectionInfo, Consumer, Ended, Fanin, Handle, Reactor, RunError, Turn,
};

use crate::audit::{Audit, Got};

/// Longer than anything takes here, so that a test that fails also ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One reactor and one consumer in this thread.
pub(crate) struct World {
    pub(crate) reactor: Option<Reactor>,
    pub(crate) consumer: Option<Consumer>,
    pub(crate) handle: Handle,
    pub(crate) audit: Audit,
    /// Whether the consumer takes what there is.
    pub(crate) keeps_up: bool,
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
            consumer: consumers.pop(),
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

    pub(crate) fn step(&mut self) -> Result<(), RunError> {
        if let Some(reactor) = &mut self.reactor
            && reactor.turn(Some(Duration::from_millis(1)))? == Turn::Ended
        {
            self.reactor = None;
        }
        if let Some(consumer) = self.consumer.as_mut().filter(|_| self.keeps_up) {
            match consumer.try_next() {
                Ok(Some(batch)) => {
                    self.audit.take(&batch);
                    batch.release();
                }
                Ok(None) => {}
                Err(Ended::Drained) => self.ended = true,
                Err(other) => panic!("{other}"),
            }
        }
        Ok(())
    }

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

    pub(crate) fn connections(&mut self) -> Vec<ConnectionInfo> {
        let mut query = self.handle.connections();
        let mut rows = None;
        self.until("the list is answered", |_| {
            rows = query.try_take();
            rows.is_some()
        });
        rows.unwrap()
    }

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

/// Sends until the kernel takes no more, and returns how much it took.
pub(crate) fn fill(stream: &mut TcpStream, world: &mut World) -> usize {
    stream.set_nonblocking(true).unwrap();
    // A window smaller than the loopback's segments opens every 200 ms only: little should wait for it.
    socket2::SockRef::from(&*stream)
        .set_send_buffer_size(16 << 10)
        .unwrap();
    let line = [b"x".repeat(99), b"\n".to_vec()].concat();
    let mut sent = 0;
    let mut refused = 0;
    // The peer's window opens a little now and then, until the ring is full and stays so.
    while refused < 200 {
        match stream.write(&line[sent % 100..]) {
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
