//! Rates on real sockets: as fast as the limit and no faster, nothing lost, nobody else held up, and no
//! work while everybody waits.

mod support;

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanin::{
    Books, BoundAddr, CloseReason, Config, Ended, Handle, PauseCause, Record, Snapshot, Turn,
};
use socket2::{Domain, Socket, Type};
use support::{PATIENCE, wait_for};

/// What a consumer saw, and when.
#[derive(Debug)]
enum Told {
    Bytes(SocketAddr, usize, Instant),
    Closed(SocketAddr, CloseReason, Books, Instant),
}

/// The whole in this process, its turns counted.
struct World {
    handle: Handle,
    turns: Arc<AtomicU64>,
    told: Receiver<Told>,
    threads: Vec<JoinHandle<()>>,
}

fn address(handle: &Handle, listener: usize) -> SocketAddr {
    match handle.local_addrs()[listener] {
        BoundAddr::Tcp(address) => address,
        ref other => panic!("{other}"),
    }
}

impl World {
    fn new(config: Config) -> Self {
        let fanin = config.validate().unwrap().bind().unwrap();
        let turns = Arc::new(AtomicU64::new(0));
        let (tell, told) = channel();
        let mut threads = Vec::new();
        for mut reactor in fanin.reactors {
            let turns = turns.clone();
            threads.push(thread::spawn(move || {
                while reactor.turn(None).unwrap() == Turn::Running {
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        for mut consumer in fanin.consumers {
            let tell = tell.clone();
            threads.push(thread::spawn(move || {
                let mut peers = HashMap::new();
                loop {
                    let batch = match consumer.wait() {
                        Ok(batch) => batch,
                        Err(Ended::Drained) => return,
                        Err(error) => panic!("{error}"),
                    };
                    let now = Instant::now();
                    for record in batch.records() {
                        let told = match record {
                            Record::Opened { who, peer, .. } => {
                                let fanin::Peer::Tcp(address) = peer else {
                                    panic!("{peer:?}")
                                };
                                peers.insert(who, address);
                                continue;
                            }
                            Record::Messages(messages) => {
                                let peer = peers[&messages.who()];
                                Told::Bytes(peer, messages.raw().len(), now)
                            }
                            Record::Closed {
                                who, reason, books, ..
                            } => Told::Closed(peers[&who], reason, books, now),
                            other => panic!("{other:?}"),
                        };
                        let _ = tell.send(told);
                    }
                    batch.release();
                }
            }));
        }
        Self {
            handle: fanin.handle,
            turns,
            told,
            threads,
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(address(&self.handle, 0)).unwrap()
    }

    /// The same from one address of this machine's own network.
    fn connect_from(&self, host: u8) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::from(([127, 0, 0, host], 0));
        socket.bind(&from.into()).unwrap();
        socket.connect(&address(&self.handle, 0).into()).unwrap();
        socket.into()
    }

    /// Sends so much and finishes, as fast as it may.
    fn send(&self, bytes: Vec<u8>) -> (SocketAddr, JoinHandle<()>) {
        Self::send_over(self.connect(), bytes)
    }

    fn send_over(mut stream: TcpStream, bytes: Vec<u8>) -> (SocketAddr, JoinHandle<()>) {
        let peer = stream.local_addr().unwrap();
        let sends = thread::spawn(move || {
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (peer, sends)
    }

    /// Reads what is told until so many have ended.
    fn until_closed(&self, count: usize) -> Vec<Told> {
        let mut all = Vec::new();
        let mut closed = 0;
        while closed < count {
            let told = self.told.recv_timeout(PATIENCE).expect("they end");
            closed += usize::from(matches!(told, Told::Closed(..)));
            all.push(told);
        }
        all
    }

    fn end(self) -> Snapshot {
        self.handle.drain(Duration::from_secs(10));
        for thread in self.threads {
            thread.join().unwrap();
        }
        let snapshot = self.handle.snapshot();
        assert!(snapshot.balanced(), "{snapshot:#?}");
        assert_eq!(snapshot.bytes.discarded.total(), 0);
        assert_eq!(snapshot.connections.held_by_rate, 0);
        snapshot
    }
}

fn config() -> Config {
    Config::listen("tcp://127.0.0.1:0").unwrap()
}

/// Lines of 100 bytes.
fn lines(bytes: usize) -> Vec<u8> {
    let line = [&[b'x'; 99][..], b"\n"].concat();
    line.repeat(bytes / 100)
}

fn pauses(snapshot: &Snapshot) -> u64 {
    let rate = |(cause, _): &&_| *cause == PauseCause::Rate;
    snapshot.pauses.iter().find(rate).unwrap().1.count
}

/// All bytes came, and each peer ended as it meant to.
fn assert_delivered(all: &[Told], peers: &[SocketAddr], bytes: usize) {
    for peer in peers {
        let of = |told: &&Told| matches!(told, Told::Bytes(who, ..) if who == peer);
        let sum: usize = all
            .iter()
            .filter(of)
            .map(|told| match told {
                Told::Bytes(_, n, _) => *n,
                Told::Closed(..) => 0,
            })
            .sum();
        assert_eq!(sum, bytes, "{peer}");
        let ended = all.iter().find_map(|told| match told {
            Told::Closed(who, reason, books, _) if who == peer => Some((*reason, *books)),
            _ => None,
        });
        let (reason, books) = ended.expect("it ended");
        assert_eq!((reason, books.received), (CloseReason::Eof, bytes as u64));
    }
}

fn last(all: &[Told]) -> Instant {
    let at = |told: &Told| match told {
        Told::Bytes(_, _, at) | Told::Closed(_, _, _, at) => *at,
    };
    all.iter().map(at).max().unwrap()
}

/// `taken` for what the limit lets through in `due`: never less, but for `in_hand`, and by a quarter and
/// half a second of a loaded machine more.
#[track_caller]
fn assert_rate(taken: Duration, due: Duration, in_hand: Duration) {
    println!("{taken:?} for {due:?}");
    assert!(taken + in_hand >= due, "too fast: {taken:?} for {due:?}");
    let most = due * 5 / 4 + Duration::from_millis(500);
    assert!(taken <= most, "too slow: {taken:?} for {due:?}");
}

#[test]
fn each_connection_comes_at_its_rate_and_one_that_stays_below_is_not_held() {
    let mut config = config();
    config.rates.connection.bytes_per_sec = Some(200_000);
    let world = World::new(config);
    let began = Instant::now();
    let (peers, sends): (Vec<_>, Vec<_>) = (0..8).map(|_| world.send(lines(600_000))).unzip();
    wait_for("they are held", PATIENCE, || {
        (world.handle.snapshot().connections.held_by_rate == 8).then_some(())
    });
    let (modest, sent) = world.send(lines(1000));
    sent.join().unwrap();
    let all = world.until_closed(9);
    // Its burst at once, the rest at the rate.
    assert_rate(last(&all) - began, Duration::from_secs(2), Duration::ZERO);
    sends.into_iter().for_each(|thread| thread.join().unwrap());
    assert_delivered(&all, &peers, 600_000);
    assert_delivered(&all, &[modest], 1000);
    let first = all.iter().find(|told| matches!(told, Told::Closed(..)));
    assert!(matches!(first, Some(Told::Closed(who, ..)) if *who == modest));
    let snapshot = world.end();
    assert!(
        (8 * 10..8 * 100).contains(&pauses(&snapshot)),
        "{snapshot:#?}"
    );
}

#[test]
fn messages_are_counted_and_paused_for() {
    let mut config = config();
    config.rates.connection.messages_per_sec = Some(1000);
    let world = World::new(config);
    let began = Instant::now();
    let (peer, sent) = world.send(lines(300_000));
    let all = world.until_closed(1);
    sent.join().unwrap();
    // It is known afterwards how many a read has brought: the last may be a quantum too many.
    let in_hand = Duration::from_millis(100);
    assert_rate(last(&all) - began, Duration::from_secs(2), in_hand);
    assert_delivered(&all, &[peer], 300_000);
    world.end();
}

#[test]
fn a_listeners_connections_share_its_rate_fairly_over_all_reactors() {
    for reactors in [1, 2] {
        let mut config = config();
        config.reactors = reactors;
        config.rates.listener.bytes_per_sec = Some(500_000);
        // Less than one of them has to say: nobody is through before the others come.
        config.rates.burst = Duration::from_millis(200);
        let world = World::new(config);
        let began = Instant::now();
        let (peers, sends): (Vec<_>, Vec<_>) = (0..6).map(|_| world.send(lines(250_000))).unzip();
        let all = world.until_closed(6);
        // Each reactor may have a quantum of a tenth of a second in hand, shared by so many.
        let in_hand = Duration::from_millis(100);
        assert_rate(last(&all) - began, Duration::from_millis(2800), in_hand);
        sends.into_iter().for_each(|thread| thread.join().unwrap());
        assert_delivered(&all, &peers, 250_000);
        if reactors == 1 {
            let mut sums: HashMap<_, usize> = HashMap::new();
            for told in &all {
                match told {
                    Told::Bytes(who, n, _) => *sums.entry(*who).or_default() += n,
                    Told::Closed(..) => break,
                }
            }
            assert!(
                sums.len() == 6 && sums.values().all(|sum| *sum > 100_000),
                "when the first was done: {sums:?}"
            );
        }
        world.end();
    }
}

#[test]
fn a_sources_connections_share_its_rate_over_all_reactors_and_hold_no_other() {
    for reactors in [1, 2] {
        let mut config = config();
        config.reactors = reactors;
        config.rates.source.bytes_per_sec = Some(500_000);
        config.rates.burst = Duration::from_millis(200);
        let world = World::new(config);
        let began = Instant::now();
        let greedy = (0..6).map(|_| World::send_over(world.connect_from(2), lines(250_000)));
        let (peers, sends): (Vec<_>, Vec<_>) = greedy.unzip();
        wait_for("some are held", PATIENCE, || {
            (world.handle.snapshot().rates.source.held > 0).then_some(())
        });
        // Others have a rate of their own, each, and are below it.
        let modest = (3..23).map(|host| World::send_over(world.connect_from(host), lines(50_000)));
        let (modest, sent): (Vec<_>, Vec<_>) = modest.unzip();
        sent.into_iter().for_each(|thread| thread.join().unwrap());
        let mut all = world.until_closed(20);
        let are_through = modest.iter().all(|peer| {
            all.iter()
                .any(|t| matches!(t, Told::Closed(who, ..) if who == peer))
        });
        assert!(are_through, "held by others");
        all.extend(world.until_closed(6));
        assert_rate(
            last(&all) - began,
            Duration::from_millis(2800),
            Duration::from_millis(100),
        );
        sends.into_iter().for_each(|thread| thread.join().unwrap());
        assert_delivered(&all, &peers, 250_000);
        assert_delivered(&all, &modest, 50_000);
        let rates = world.end().rates;
        assert_eq!(
            rates.connection.paused.count + rates.listener.paused.count,
            0
        );
        assert!(rates.source.paused.count > 20, "{rates:?}");
    }
}

/// What a source has drawn and not used is not lost with its connection: else whoever connects anew for each
/// message would be held far below its rate once it has been held at all.
#[test]
fn who_connects_anew_for_each_message_comes_at_its_rate() {
    let mut config = config();
    config.rates.source.messages_per_sec = Some(200);
    config.rates.burst = Duration::from_millis(500);
    let world = World::new(config);
    let began = Instant::now();
    let mut all = Vec::new();
    for _ in 0..300 {
        let (_, sent) = World::send_over(world.connect_from(2), lines(100));
        sent.join().unwrap();
        all.extend(world.until_closed(1));
    }
    // Half a second's worth at once, and a tenth of one in advance.
    assert_rate(
        last(&all) - began,
        Duration::from_secs(1),
        Duration::from_millis(100),
    );
    world.end();
}

/// Of eight connections six are of one source: their listener would give them more than the source may have,
/// so they wait for both, and the other two for the listener.
#[test]
fn who_is_under_several_rates_keeps_to_all_of_them() {
    let mut config = config();
    config.rates.connection.messages_per_sec = Some(500);
    config.rates.source.messages_per_sec = Some(1000);
    config.rates.listener.messages_per_sec = Some(1500);
    config.rates.burst = Duration::from_millis(200);
    let world = World::new(config);
    let began = Instant::now();
    let senders = (0..8).map(|n| World::send_over(world.connect_from(2 + n / 6), lines(50_000)));
    let (peers, sends): (Vec<_>, Vec<_>) = senders.unzip();
    let all = world.until_closed(8);
    // 3000 of one source; and 4000 in all at the listener's rate would be through by then.
    let in_hand = Duration::from_millis(150);
    assert_rate(last(&all) - began, Duration::from_millis(2800), in_hand);
    sends.into_iter().for_each(|thread| thread.join().unwrap());
    assert_delivered(&all, &peers, 50_000);
    let rates = world.end().rates;
    assert!(
        rates.source.paused.count > 0 && rates.listener.paused.count > 0,
        "{rates:?}"
    );
}

#[test]
fn one_listener_that_is_used_up_holds_no_other() {
    let mut config = config();
    config.listeners.push("tcp://127.0.0.1:0".parse().unwrap());
    config.rates.listener.bytes_per_sec = Some(100_000);
    let world = World::new(config);
    let (_, greedy) = world.send(lines(200_000));
    wait_for("it is held", PATIENCE, || {
        (world.handle.snapshot().connections.held_by_rate == 1).then_some(())
    });
    let mut other = TcpStream::connect(address(&world.handle, 1)).unwrap();
    let peer = other.local_addr().unwrap();
    other.write_all(&lines(50_000)).unwrap();
    drop(other);
    let all = world.until_closed(1);
    assert_delivered(&all, &[peer], 50_000);
    world.until_closed(1);
    greedy.join().unwrap();
    world.end();
}

#[test]
fn what_is_queued_behind_a_fin_comes_at_the_rate_and_in_a_drain_at_once() {
    let mut config = config();
    config.rates.connection.bytes_per_sec = Some(20_000);
    let world = World::new(config.clone());
    let began = Instant::now();
    let (peer, sent) = world.send(lines(40_000));
    sent.join().unwrap();
    let all = world.until_closed(1);
    assert_rate(last(&all) - began, Duration::from_secs(1), Duration::ZERO);
    assert_delivered(&all, &[peer], 40_000);
    world.end();

    config.rates.connection.bytes_per_sec = Some(1000);
    let world = World::new(config);
    let mut stream = world.connect();
    stream.write_all(&lines(40_000)).unwrap();
    wait_for("it is held", PATIENCE, || {
        (world.handle.snapshot().connections.held_by_rate == 1).then_some(())
    });
    stream.shutdown(Shutdown::Write).unwrap();
    let began = Instant::now();
    let snapshot = world.end();
    assert!(began.elapsed() < Duration::from_secs(5), "39 s at the rate");
    assert_eq!(snapshot.bytes.delivered, 40_000);
}

/// Counted in turns, not in time: a timer wakes for all that are due in its 8 ms.
#[test]
fn two_thousand_connections_that_wait_for_their_rates_cost_few_turns() {
    const MANY: usize = 2000;
    const EACH: usize = 4000;
    type Set = fn(&mut Config);
    let own: Set = |config| config.rates.connection.bytes_per_sec = Some(1000);
    let shared: Set = |config| config.rates.listener.bytes_per_sec = Some((MANY * EACH / 4) as u64);
    let source: Set = |config| config.rates.source.bytes_per_sec = Some((MANY * EACH / 4) as u64);
    let sources: Set = |config| config.rates.source.bytes_per_sec = Some((20 * EACH / 4) as u64);
    for (what, set, hosts) in [
        ("own", own, 1),
        ("shared", shared, 1),
        ("of one source", source, 1),
        ("of 100 sources", sources, 100),
    ] {
        let mut config = config();
        set(&mut config);
        let world = World::new(config);
        let began = Instant::now();
        let streams: Mutex<Vec<TcpStream>> = Mutex::default();
        for n in 0..MANY {
            let mut stream = world.connect_from(2 + (n % hosts) as u8);
            stream.set_nonblocking(true).unwrap();
            match stream.write(&lines(EACH)) {
                Ok(EACH) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no room for 4 KB"),
                other => panic!("{other:?}"),
            }
            streams.lock().unwrap().push(stream);
        }
        // Those that come cost turns of their own.
        let (came, since) = (world.turns.load(Ordering::Relaxed), Instant::now());
        let mut sum = 0;
        while sum < MANY * EACH {
            match world.told.recv_timeout(PATIENCE).expect("it comes") {
                Told::Bytes(_, n, _) => sum += n,
                Told::Closed(..) => panic!("nobody left"),
            }
        }
        let turns = world.turns.load(Ordering::Relaxed) - came;
        let ticks = since.elapsed().as_millis() as u64 / 8 + 1; // with the one under way
        println!("{what}: {turns} turns in {ticks} ticks");
        assert!(began.elapsed() >= Duration::from_secs(2), "{what}");
        // For each tick: who is due, and their reads, 64 a turn.
        assert!(turns < 5 * ticks, "{what}: {turns} turns");
        drop(streams);
        world.end();
    }
}

#[test]
fn a_listener_with_a_rate_of_its_own_goes_by_that() {
    let mut config = Config::listen("tcp://127.0.0.1:0?listener-bytes=100000").unwrap();
    config.rates.listener.bytes_per_sec = Some(400_000);
    config.listeners.push("tcp://127.0.0.1:0".parse().unwrap());
    let world = World::new(config);
    let began = Instant::now();
    let (own, first) = world.send(lines(300_000));
    let other = TcpStream::connect(address(&world.handle, 1)).unwrap();
    let (common, second) = World::send_over(other, lines(800_000));
    let mut all = world.until_closed(1);
    assert_rate(last(&all) - began, Duration::from_secs(1), Duration::ZERO);
    all.extend(world.until_closed(1));
    assert_rate(last(&all) - began, Duration::from_secs(2), Duration::ZERO);
    first.join().unwrap();
    second.join().unwrap();
    assert_delivered(&all, &[own], 300_000);
    assert_delivered(&all, &[common], 800_000);
    world.end();
}
