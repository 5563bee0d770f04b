//! Fairness on real sockets: one that says more than all others gets no more than they, and the index in the
//! snapshot is that of the formula.
//!
//! Reactor, consumer and senders take turns in one thread: what is read of whom is up to the reactor alone, and
//! the clock only says where a second ends.

mod support;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fanin::{BoundAddr, Config, Consumer, Fairness, Framing, Handle, Reactor, Turn};
use socket2::SockRef;
use support::{Fanin, PATIENCE, wait_for};

struct World {
    handle: Handle,
    reactor: Reactor,
    consumer: Consumer,
}

impl World {
    fn new() -> Self {
        let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
        config.framing = Framing::Line;
        config.max_message = 1024;
        config.ring_bytes = Some(256 << 10);
        // The kernel holds twice as much, and so no read is larger than 64 KiB.
        config.receive_buffer = 32 << 10;
        let mut fanin = config.validate().unwrap().bind().unwrap();
        Self {
            handle: fanin.handle,
            reactor: fanin.reactors.remove(0),
            consumer: fanin.consumers.remove(0),
        }
    }

    fn turn(&mut self) {
        let turn = self.reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(turn, Turn::Running);
    }

    /// The consumer takes one batch, if there is one.
    fn take(&mut self) {
        if let Some(batch) = self.consumer.try_next().unwrap() {
            batch.release();
        }
    }

    /// A connection of which the kernel takes at most so much before it is read.
    fn connect(&mut self, buffer: usize) -> TcpStream {
        let BoundAddr::Tcp(address) = self.handle.local_addrs()[0] else {
            unreachable!()
        };
        let stream = TcpStream::connect(address).unwrap();
        SockRef::from(&stream).set_send_buffer_size(buffer).unwrap();
        stream.set_nonblocking(true).unwrap();
        let before = self.handle.snapshot().connections.accepted;
        self.until("it is accepted", |world| {
            world.handle.snapshot().connections.accepted > before
        });
        stream
    }

    /// Turns and takes until it is so.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            self.turn();
            self.take();
            assert!(
                began.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}"
            );
        }
    }

    fn fairness(&self) -> Fairness {
        self.handle.snapshot().fairness
    }
}

/// Writes lines until the kernel takes no more. Where one is cut does not matter: none has a name.
fn press(stream: &mut TcpStream, lines: &[u8]) {
    loop {
        match stream.write(lines) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// 50 that always have something to say, and one that has many times as much. All have more than is taken, so
/// that in any second each is read as often as any other, or once more. A read is of 4 to 64 KiB, by the
/// room that is left in the ring: so the least gets no less than 1/32 of what the most gets, and whatever
/// lies within a ratio of r has an index of at least 4r/(1 + r)², which is 0.11. Mostly it is 0.9 and more.
#[test]
fn a_flooder_gets_no_more_than_who_else_has_something_to_say() {
    const EQUAL: usize = 50;
    let mut world = World::new();
    let lines = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(640);
    let mut senders: Vec<_> = (0..EQUAL).map(|_| world.connect(64 << 10)).collect();
    senders.push(world.connect(4 << 20));
    let began = Instant::now();
    let mut seen: Vec<f64> = Vec::new();
    while seen.len() < 3 {
        let fairness = world.fairness();
        assert!(began.elapsed() < PATIENCE, "{seen:?}, {fairness:?}");
        senders.iter_mut().for_each(|sender| press(sender, &lines));
        world.turn();
        world.take();
        let fairness = world.fairness();
        // The first second began before all were there.
        if began.elapsed() < Duration::from_secs(2) || fairness.connections as usize <= EQUAL {
            continue;
        }
        let index = fairness.index.unwrap();
        if seen.last() != Some(&index) {
            seen.push(index);
        }
    }
    println!("by second: {seen:?}; {:?}", world.fairness());
    assert!(
        seen.iter().all(|index| *index > 0.11 && *index <= 1.0),
        "{seen:?}"
    );
    let blocked = world.handle.snapshot().rings[0].blocked.count;
    assert!(blocked > 0, "nobody was held up");
}

/// Who has less to say gets less, for which nobody is to blame: the index tells it all the same. In the next
/// second nobody says anything, and there is none.
#[test]
fn the_index_in_the_snapshot_is_that_of_the_formula() {
    let mut world = World::new();
    let mut senders: Vec<_> = (0..8).map(|_| world.connect(256 << 10)).collect();
    let x: Vec<f64> = (1..=8).map(|n| f64::from(n * 1000)).collect();
    let (sum, squares): (f64, f64) = (x.iter().sum(), x.iter().map(|x| x * x).sum());
    let due = sum * sum / (8.0 * squares);
    let began = Instant::now();
    let mut received = 0;
    loop {
        assert!(began.elapsed() < PATIENCE, "never within one second");
        for (stream, bytes) in senders.iter_mut().zip(&x) {
            stream
                .write_all(&b"0123456789abcdefgh\n\n".repeat(*bytes as usize / 20))
                .unwrap();
        }
        received += sum as u64;
        world.until("all is read", |world| {
            world.handle.snapshot().bytes.received == received
        });
        // No turn is needed for that.
        let fairness = wait_for("a second is over", PATIENCE, || {
            let fairness = world.fairness();
            fairness.index.map(|_| fairness)
        });
        if fairness.connections < 8 {
            // A second ended in the midst of it.
            continue;
        }
        let index = fairness.index.unwrap();
        if (index - due).abs() < 1e-9 {
            break;
        }
    }
    wait_for("another second is over", PATIENCE, || {
        let fairness = world.fairness();
        fairness
            .index
            .is_none()
            .then(|| assert_eq!(fairness.connections, 0))
    });
    assert!(world.fairness().mean.is_some());
}

#[test]
fn the_report_has_it() {
    let mut fanin = Fanin::start(&[]);
    let mut stream = fanin.connect();
    wait_for("a second is over", PATIENCE, || {
        stream.write_all(b"one\n").unwrap();
        let fairness = &fanin.report_now()["fairness"];
        (fairness["connections"] == 1).then(|| assert_eq!(fairness["index"], 1.0))
    });
    let mean = &fanin.drain()["fairness"]["mean"];
    assert!(mean.is_null(), "there was nobody else: {mean}");
}
