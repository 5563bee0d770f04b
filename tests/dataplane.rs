//! Whole reactors over real sockets, turned by the test itself: nothing here sleeps, and every consumer
//! keeps books of its own, which it holds against the reactor's.

mod audit;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use audit::{Audit, Got};
use fanin::{
    BoundAddr, CloseReason, Config, ConnectionInfo, Consumer, DiscardReason, Ended, Fanin, Framing,
    Handle, OnOversize, PauseCause, Reactor, RunError, Target, Turn,
};

/// Longer than anything takes here, so that a test that fails also ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// One reactor and one consumer in this thread.
struct World {
    reactor: Option<Reactor>,
    consumer: Option<Consumer>,
    handle: Handle,
    audit: Audit,
    /// Whether the consumer takes what there is.
    keeps_up: bool,
    ended: bool,
}

impl World {
    fn new(config: Config) -> Self {
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

    fn connect(&self) -> TcpStream {
        let BoundAddr::Tcp(address) = self.handle.local_addrs()[0] else {
            panic!("not TCP")
        };
        TcpStream::connect(address).unwrap()
    }

    fn step(&mut self) -> Result<(), RunError> {
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

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
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

    fn connections(&mut self) -> Vec<ConnectionInfo> {
        let mut query = self.handle.connections();
        let mut rows = None;
        self.until("the list is answered", |_| {
            rows = query.try_take();
            rows.is_some()
        });
        rows.unwrap()
    }

    fn drain(&mut self) {
        self.handle.drain(Duration::from_secs(5));
        self.until("drained", |w| w.reactor.is_none() && w.ended);
        let snapshot = self.handle.snapshot();
        assert!(snapshot.ended && snapshot.balanced(), "{snapshot:#?}");
        assert_eq!(snapshot.bytes.published, snapshot.bytes.delivered);
        assert_eq!(snapshot.connections.open, 0);
        self.audit.check_all_closed();
    }
}

fn config() -> Config {
    Config::listen("tcp://127.0.0.1:0").unwrap()
}

fn small_ring() -> Config {
    let mut config = config();
    config.max_message = 1024;
    config.ring_bytes = Some(64 << 10);
    config.receive_buffer = 16 << 10;
    config
}

fn texts(got: &[Got]) -> Vec<String> {
    got.iter()
        .map(|got| String::from_utf8_lossy(&got.text).into_owned())
        .collect()
}

/// Sends until the kernel takes no more, and returns how much it took.
fn fill(stream: &mut TcpStream, world: &mut World) -> usize {
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

#[test]
fn lines_of_several_senders_arrive_whole_in_order_and_with_their_peer() {
    let mut world = World::new(config());
    let mut senders: Vec<_> = (0..5).map(|_| world.connect()).collect();
    for round in 0..20 {
        for (n, sender) in senders.iter_mut().enumerate() {
            write!(sender, "sender {n} ").unwrap();
            world.step().unwrap();
            writeln!(sender, "line {round}").unwrap();
        }
    }
    let peers: Vec<_> = senders.iter().map(|s| s.local_addr().unwrap()).collect();
    drop(senders);
    world.until("all closed", |w| {
        w.handle
            .snapshot()
            .connections
            .closed
            .count(CloseReason::Eof)
            == 5
    });
    world.drain();
    for (n, peer) in peers.iter().enumerate() {
        let want: Vec<_> = (0..20)
            .map(|round| format!("sender {n} line {round}"))
            .collect();
        assert_eq!(texts(&world.audit.from(*peer)), want);
    }
}

#[test]
fn a_unix_socket_knows_who_connected() {
    let dir = std::env::temp_dir().join(format!("fanin-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("in.sock");
    let mut world = World::new(Config::listen(&format!("unix://{}", path.display())).unwrap());
    let mut sender = UnixStream::connect(&path).unwrap();
    sender.write_all(b"from a neighbour\n").unwrap();
    drop(sender);
    world.until("delivered", |w| {
        w.handle.snapshot().connections.closed.total() == 1
    });
    world.drain();
    let all = world.audit.all();
    assert_eq!(texts(&all), ["from a neighbour"]);
    let fanin::Peer::Unix { pid, .. } = all[0].peer else {
        panic!("{:?}", all[0].peer)
    };
    assert_eq!(pid, std::process::id());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn every_framing_delivers_the_same_messages_however_they_are_split() {
    let messages: [&[u8]; 4] = [b"<13>first", b"", b"with\nLF and \\", &[b'z'; 300]];
    let varint = |n: usize| {
        if n < 128 {
            vec![n as u8]
        } else {
            vec![n as u8 | 128, (n >> 7) as u8]
        }
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "nul",
            messages.iter().flat_map(|m| [*m, b"\0"].concat()).collect(),
        ),
        (
            "byte:0x01",
            messages
                .iter()
                .flat_map(|m| [*m, b"\x01"].concat())
                .collect(),
        ),
        (
            "u16",
            messages
                .iter()
                .flat_map(|m| [&(m.len() as u16).to_be_bytes(), *m].concat())
                .collect(),
        ),
        (
            "u32",
            messages
                .iter()
                .flat_map(|m| [&(m.len() as u32).to_be_bytes(), *m].concat())
                .collect(),
        ),
        (
            "varint",
            messages
                .iter()
                .flat_map(|m| [&varint(m.len())[..], *m].concat())
                .collect(),
        ),
        (
            "octet",
            messages
                .iter()
                .filter(|m| !m.is_empty())
                .flat_map(|m| [format!("{} ", m.len()).as_bytes(), *m].concat())
                .collect(),
        ),
    ];
    for (framing, bytes) in cases {
        for piece in [1, 7, bytes.len()] {
            let mut config = config();
            config.framing = framing.parse().unwrap();
            let mut world = World::new(config);
            let mut sender = world.connect();
            sender.set_nodelay(true).unwrap();
            for part in bytes.chunks(piece) {
                sender.write_all(part).unwrap();
                world.step().unwrap();
            }
            drop(sender);
            world.until("closed", |w| {
                w.handle.snapshot().connections.closed.total() == 1
            });
            world.drain();
            let want: Vec<_> = messages
                .iter()
                .filter(|m| framing != "octet" || !m.is_empty())
                .collect();
            let got = world.audit.all();
            assert_eq!(got.len(), want.len(), "{framing} by {piece}");
            for (got, want) in got.iter().zip(want) {
                assert_eq!(got.text, **want, "{framing} by {piece}");
            }
        }
    }
}

#[test]
fn auto_settles_each_connection_by_its_first_bytes() {
    let mut config = config();
    config.framing = Framing::Auto;
    let mut world = World::new(config);
    let inputs: [(&[u8], &[&str]); 4] = [
        (b"9 <13>count9 <13>again", &["<13>count", "<13>again"]),
        (b"<13>a line\n12 of them\n", &["<13>a line", "12 of them"]),
        (b"12 lines\n", &["12 lines"]),
        (b"12", &["12"]),
    ];
    for (bytes, want) in inputs {
        let mut sender = world.connect();
        let peer = sender.local_addr().unwrap();
        for byte in bytes {
            sender.write_all(&[*byte]).unwrap();
            world.step().unwrap();
        }
        drop(sender);
        world.until("closed", |w| w.handle.snapshot().connections.open == 0);
        world.until("delivered", |w| w.audit.from(peer).len() == want.len());
        assert_eq!(texts(&world.audit.from(peer)), want);
    }
    world.drain();
}

#[test]
fn an_unterminated_line_is_delivered_and_flagged_and_a_counted_one_is_discarded() {
    let mut world = World::new(config());
    world.connect().write_all(b"whole\nhalf").unwrap();
    world.until("closed", |w| {
        w.handle.snapshot().connections.closed.total() == 1
    });
    world.drain();
    let got = world.audit.all();
    assert_eq!(texts(&got), ["whole", "half"]);
    assert!(!got[0].unterminated && got[1].unterminated);

    let mut counted = config();
    counted.framing = Framing::Octet;
    let mut world = World::new(counted);
    world.connect().write_all(b"5 whole99 half").unwrap();
    world.until("closed", |w| {
        w.handle.snapshot().connections.closed.total() == 1
    });
    world.drain();
    assert_eq!(texts(&world.audit.all()), ["whole"]);
    assert_eq!(world.audit.gaps(), [(DiscardReason::CutAtEnd, 7, 1)]);
}

#[test]
fn an_oversize_message_is_cut_skipped_or_closes_its_connection() {
    let long = "y".repeat(5000);
    let cases = [
        (
            OnOversize::Truncate,
            vec!["before".into(), "y".repeat(1024), "after".into()],
            CloseReason::Eof,
            5001 - 1024,
        ),
        (
            OnOversize::Discard,
            vec!["before".into(), "after".into()],
            CloseReason::Eof,
            5001,
        ),
        (
            OnOversize::Close,
            vec!["before".into()],
            CloseReason::Oversize,
            5001 + 6,
        ),
    ];
    for (policy, want, reason, lost) in cases {
        let mut config = small_ring();
        config.on_oversize = Some(policy);
        let mut world = World::new(config);
        let mut sender = world.connect();
        write!(sender, "before\n{long}\nafter\n").unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
        world.until("closed", |w| {
            w.handle.snapshot().connections.closed.count(reason) == 1
        });
        world.drain();
        assert_eq!(texts(&world.audit.all()), want, "{policy:?}");
        let gaps: u64 = world.audit.gaps().iter().map(|(_, bytes, _)| bytes).sum();
        assert_eq!(gaps, lost, "{policy:?}");
    }
}

#[test]
fn a_count_that_is_none_closes_with_protocol() {
    let mut config = config();
    config.framing = Framing::Octet;
    let mut world = World::new(config);
    let mut sender = world.connect();
    sender.write_all(b"4 good007 bad").unwrap();
    world.until("closed", |w| {
        w.handle.connections();
        w.handle.snapshot().bytes.received == 13
    });
    // The farewell reads what comes still, until the sender has finished too.
    sender.write_all(b"more").unwrap();
    assert_eq!(
        sender.read(&mut [0; 8]).unwrap(),
        0,
        "it was told by a FIN, not by an RST"
    );
    drop(sender);
    world.until("closed", |w| {
        w.handle
            .snapshot()
            .connections
            .closed
            .count(CloseReason::Protocol)
            == 1
    });
    world.drain();
    assert_eq!(texts(&world.audit.all()), ["good"]);
    let snapshot = world.handle.snapshot();
    assert_eq!(snapshot.bytes.discarded.count(DiscardReason::Protocol), 7);
    assert_eq!(snapshot.bytes.discarded.count(DiscardReason::Lingering), 4);
}

#[test]
fn a_full_ring_holds_its_senders_and_loses_nothing() {
    let mut world = World::new(small_ring());
    world.keeps_up = false;
    let mut sender = world.connect();
    let sent = fill(&mut sender, &mut world);
    assert!(sent > 64 << 10, "{sent}");
    let rows = world.connections();
    assert_eq!(
        (rows[0].state, &rows[0].causes[..]),
        ("paused", &[PauseCause::Ring][..])
    );
    assert!(world.handle.snapshot().rings[0].blocked_for.is_some());

    world.keeps_up = true;
    sender.set_nonblocking(false).unwrap();
    world.until("the ring flows", |w| {
        w.handle.snapshot().rings[0].blocked_for.is_none()
    });
    drop(sender);
    world.until("closed", |w| {
        w.handle.snapshot().connections.closed.total() == 1
    });
    world.drain();
    let delivered = world.handle.snapshot().bytes.delivered as usize;
    assert_eq!(delivered, sent);
    let (cause, pauses) = world.handle.snapshot().pauses[0];
    assert!(cause == PauseCause::Ring && pauses.count > 0);
}

#[test]
fn a_paused_connection_is_silent_for_data_and_not_for_its_end() {
    let mut world = World::new(small_ring());
    world.keeps_up = false;
    let mut senders: Vec<_> = (0..3).map(|_| world.connect()).collect();
    let sent = fill(&mut senders[2], &mut world);
    // More comes to a ring that is full; not so much that a FIN would wait for the window.
    for sender in &mut senders[..2] {
        sender.write_all(b"one line\nand another\n").unwrap();
    }
    world.until("all wait", |w| {
        w.connections().iter().all(|row| row.state == "paused")
    });
    // EPOLLIN is 1, EPOLLRDHUP 0x2000.
    let masks = || -> Vec<u32> {
        let mut masks = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with("tfd:")) {
                let mask = line.split_whitespace().nth(3).unwrap();
                masks.push(u32::from_str_radix(mask, 16).unwrap());
            }
        }
        masks
    };
    assert!(
        masks()
            .iter()
            .filter(|mask| **mask & 1 == 0 && **mask & 0x2000 != 0)
            .count()
            >= 3,
        "not all are switched: {:x?}",
        masks()
    );
    senders[0].shutdown(Shutdown::Write).unwrap();
    socket2::SockRef::from(&senders[1])
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    senders.remove(1);
    world.until("both ends are noticed", |w| {
        let rows = w.connections();
        rows.iter().any(|row| row.fin_at.is_some())
            && (rows.len() < 3 || rows.iter().any(|row| row.reset_at.is_some()))
    });
    world.keeps_up = true;
    world.until("they are read to their end", |w| {
        w.handle.snapshot().connections.open == 1
    });
    let closed = world.handle.snapshot().connections.closed;
    assert_eq!(
        (
            closed.count(CloseReason::Eof),
            closed.count(CloseReason::Reset)
        ),
        (1, 1)
    );
    drop(senders);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.drain();
    let received = world.handle.snapshot().bytes.received as usize;
    assert_eq!(received, sent + 2 * 21);
}

#[test]
fn those_who_leave_while_the_consumer_stands_still_keep_no_descriptor() {
    let mut world = World::new(config());
    world.keeps_up = false;
    for _ in 0..500 {
        world.connect().write_all(b"a line and away\n").unwrap();
        world.step().unwrap();
    }
    world.until("all are gone", |w| {
        w.handle.snapshot().connections.closed.total() == 500
    });
    assert_eq!(world.handle.snapshot().connections.open, 0);
    world.keeps_up = true;
    world.drain();
    assert_eq!(world.audit.all().len(), 500);
}

#[test]
fn a_stalled_consumer_costs_its_senders_their_connections_in_the_end() {
    let mut config = small_ring();
    config.deadlines.stall = Some(Duration::from_millis(50));
    let mut world = World::new(config);
    world.keeps_up = false;
    let mut sender = world.connect();
    sender.set_nonblocking(true).unwrap();
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    world.until("stalled", |w| {
        let _ = sender.write(&line);
        w.handle
            .snapshot()
            .connections
            .closed
            .count(CloseReason::Stall)
            == 1
    });
    assert!(
        world.handle.snapshot().unread > 0,
        "what the kernel held is said"
    );
    world.keeps_up = true;
    world.drain();
}

#[test]
fn a_quiet_connection_and_an_unfinished_message_are_evicted_by_clocks_of_their_own() {
    let mut config = config();
    config.deadlines.idle = Some(Duration::from_millis(100));
    config.deadlines.message = Some(Duration::from_millis(30));
    let mut world = World::new(config);
    let mut quiet = world.connect();
    let mut unfinished = world.connect();
    unfinished.write_all(b"never to be").unwrap();
    world.until("told", |w| {
        w.handle
            .snapshot()
            .bytes
            .discarded
            .count(DiscardReason::Lingering)
            == 11
    });
    for stream in [&mut quiet, &mut unfinished] {
        stream
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        world.until("its FIN arrives", |_| {
            matches!(stream.read(&mut [0; 1]), Ok(0))
        });
    }
    drop((quiet, unfinished));
    world.until("closed", |w| {
        w.handle.snapshot().connections.closed.total() == 2
    });
    let closed = world.handle.snapshot().connections.closed;
    assert_eq!(
        (
            closed.count(CloseReason::Idle),
            closed.count(CloseReason::Message)
        ),
        (1, 1)
    );
    world.drain();
}

#[test]
fn an_operator_pauses_resumes_and_closes() {
    let mut world = World::new(config());
    let mut sender = world.connect();
    sender.write_all(b"one\n").unwrap();
    world.until("one", |w| w.audit.all().len() == 1);
    let id = world.connections()[0].id;
    assert!(world.handle.pause(Target::Connection(id)));
    world.until("paused", |w| w.connections()[0].state == "paused");
    sender.write_all(b"two\n").unwrap();
    world.until("it waits in the kernel", |w| w.connections()[0].unread == 4);
    assert_eq!(world.connections()[0].causes, [PauseCause::Operator]);
    assert_eq!(world.audit.all().len(), 1);
    assert!(world.handle.resume(Target::All));
    world.until("two", |w| w.audit.all().len() == 2);
    sender.write_all(b"three\n").unwrap();
    assert!(world.handle.close(id));
    assert_eq!(
        sender.set_read_timeout(Some(Duration::from_millis(1))).ok(),
        Some(())
    );
    world.until("told", |_| matches!(sender.read(&mut [0; 1]), Ok(0)));
    drop(sender);
    world.until("closed", |w| {
        w.handle
            .snapshot()
            .connections
            .closed
            .count(CloseReason::Operator)
            == 1
    });
    world.until("three", |w| w.audit.all().len() == 3);
    let mut closed = world.handle.recently_closed();
    let mut rows = None;
    world.until("remembered", |_| {
        rows = closed.try_take();
        rows.is_some()
    });
    let rows = rows.unwrap();
    assert_eq!(
        (rows.len(), rows[0].id, rows[0].reason),
        (1, id, CloseReason::Operator)
    );
    assert_eq!(rows[0].paused[0].0, PauseCause::Operator);
    world.drain();
}

#[test]
fn staging_beyond_its_budget_holds_who_would_need_more_and_everybody_finishes() {
    let mut config = config();
    config.max_message = 4096;
    config.staging_bytes = 4096;
    config.deadlines.message = Some(Duration::from_secs(10));
    let mut world = World::new(config);
    let mut senders: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for sender in &mut senders {
        sender.write_all(&[b'h'; 3000]).unwrap();
    }
    world.until("somebody waits for staging", |w| {
        w.connections()
            .iter()
            .any(|row| row.causes.contains(&PauseCause::Staging))
    });
    for sender in &mut senders {
        sender.write_all(b"\n").unwrap();
    }
    world.until("everybody is through", |w| w.audit.all().len() == 20);
    assert!(world.audit.all().iter().all(|got| got.text.len() == 3000));
    drop(senders);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.drain();
}

#[test]
fn a_byte_by_byte_sender_costs_linear_work() {
    let mut world = World::new(config());
    let mut sender = world.connect();
    sender.set_nodelay(true).unwrap();
    let length = 65_536;
    for n in 0..=length {
        sender
            .write_all(if n < length { b"b" } else { b"\n" })
            .unwrap();
        if n % 3 == 0 {
            world.step().unwrap();
        }
    }
    world.until("delivered", |w| w.audit.all().len() == 1);
    let work = world.handle.snapshot().work;
    assert!(work.scanned + work.copied <= 4 * length, "{work:?}");
    drop(sender);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.drain();
}

#[test]
fn a_consumer_that_is_dropped_ends_the_whole_with_an_error_and_balanced_books() {
    let mut world = World::new(config());
    world.keeps_up = false;
    let mut sender = world.connect();
    sender.write_all(b"never seen\n").unwrap();
    world.until("published", |w| w.handle.snapshot().bytes.published == 11);
    drop(world.consumer.take());
    let error = loop {
        if let Err(error) = world.step() {
            break error;
        }
    };
    assert!(
        matches!(error, RunError::ConsumerGone { consumer: 0 }),
        "{error}"
    );
    let snapshot = world.handle.snapshot();
    assert!(snapshot.balanced(), "{snapshot:#?}");
    assert_eq!(snapshot.bytes.abandoned, 11);
    assert_eq!(
        snapshot.connections.closed.count(CloseReason::ConsumerGone),
        1
    );
}

#[test]
fn a_drain_delivers_what_was_sent_and_ends_the_rings() {
    let mut world = World::new(small_ring());
    world.keeps_up = false;
    let mut sender = world.connect();
    sender.write_all(&b"before the end\n".repeat(400)).unwrap();
    // In the backlog, never seen by a turn.
    let mut late = world.connect();
    late.write_all(b"late\n").unwrap();
    drop((sender, late));
    world.keeps_up = true;
    world.drain();
    assert_eq!(world.audit.all().len(), 401);
    assert_eq!(world.handle.snapshot().unread, 0);
}

#[test]
fn a_consumer_that_hangs_does_not_hold_the_drain_beyond_its_time() {
    let mut world = World::new(config());
    world.keeps_up = false;
    world.connect().write_all(b"stuck\n").unwrap();
    world.until("published", |w| w.handle.snapshot().bytes.published == 6);
    world.handle.drain(Duration::from_millis(50));
    world.until("ended all the same", |w| w.reactor.is_none());
    let snapshot = world.handle.snapshot();
    assert!(
        snapshot.balanced() && snapshot.bytes.abandoned == 6,
        "{snapshot:#?}"
    );
    assert!(snapshot.rings[0].unwalked);
}

#[test]
fn several_reactors_and_consumers_share_one_port_and_keep_every_line() {
    let mut config = config();
    config.reactors = 2;
    config.consumers = 2;
    let Fanin {
        reactors,
        consumers,
        handle,
        ..
    } = config.validate().unwrap().bind().unwrap();
    let reactors: Vec<_> = reactors
        .into_iter()
        .map(|reactor| std::thread::spawn(move || reactor.run()))
        .collect();
    let consumers: Vec<_> = consumers
        .into_iter()
        .map(|mut consumer| {
            std::thread::spawn(move || {
                let mut audit = Audit::default();
                loop {
                    match consumer.wait() {
                        Ok(batch) => {
                            audit.take(&batch);
                            batch.release();
                        }
                        Err(Ended::Drained) => break audit,
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    let BoundAddr::Tcp(address) = handle.local_addrs()[0] else {
        panic!("not TCP")
    };
    let senders: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                for round in 0..20 {
                    let mut stream = TcpStream::connect(address).unwrap();
                    for line in 0..50 {
                        writeln!(stream, "{n} {round} {line}").unwrap();
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    handle.drain(Duration::from_secs(5));
    for reactor in reactors {
        reactor.join().unwrap().unwrap();
    }
    let mut lines = Vec::new();
    for consumer in consumers {
        let audit = consumer.join().unwrap();
        audit.check_all_closed();
        lines.extend(texts(&audit.all()));
    }
    let mut want: Vec<_> = (0..8)
        .flat_map(|n| (0..20).flat_map(move |r| (0..50).map(move |l| format!("{n} {r} {l}"))))
        .collect();
    lines.sort_unstable();
    want.sort_unstable();
    assert_eq!(lines, want);
    assert!(handle.snapshot().balanced());
}

#[test]
#[should_panic(expected = "the consumer counted")]
fn one_miscounted_byte_fails_the_audit() {
    let mut world = World::new(config());
    world.audit.miscount = 1;
    world.connect().write_all(b"counted\n").unwrap();
    world.until("closed", |w| {
        w.handle.snapshot().connections.closed.total() == 1
    });
    world.drain();
}
