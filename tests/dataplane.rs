//! Whole reactors over real sockets: what comes in goes out. Every consumer keeps books of its own, which
//! it holds against the reactor's.

mod audit;
mod world;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use audit::Audit;
use fanin::{
    BoundAddr, CloseReason, Config, DiscardReason, Ended, Fanin, Framing, OnOversize, Target,
};
use world::{World, config, small_ring, texts};

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

/// What a count announces is refused by default, also where `auto` found out that there are counts.
#[test]
fn what_auto_settled_as_counted_closes_on_an_oversize_message_by_default() {
    let large = format!("<13>{}", "z".repeat(1024));
    for (policy, want, reason) in [
        (None, vec!["<13>a".into()], CloseReason::Oversize),
        (
            Some(OnOversize::Truncate),
            vec!["<13>a".into(), large[..1024].to_owned(), "<13>b".into()],
            CloseReason::Eof,
        ),
    ] {
        let mut config = small_ring();
        config.framing = Framing::Auto;
        config.on_oversize = policy;
        let mut world = World::new(config);
        let mut sender = world.connect();
        write!(sender, "5 <13>a{} {large}5 <13>b", large.len()).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
        world.until("closed", |w| {
            w.handle.snapshot().connections.closed.total() == 1
        });
        world.drain();
        assert_eq!(world.closed(reason), 1, "{policy:?}");
        assert_eq!(texts(&world.audit.all()), want, "{policy:?}");
    }
}

#[test]
fn a_list_says_how_many_reactors_could_not_be_asked() {
    let mut world = World::new(config());
    let sender = world.connect();
    world.until("connected", |w| w.handle.snapshot().connections.open == 1);
    while world.handle.pause(Target::All) {}
    let mut list = world.handle.connections();
    assert_eq!(list.missing(), 1);
    assert_eq!(list.try_take().map(|rows| rows.len()), Some(0));
    world.until("there is room for commands", |w| {
        w.handle.resume(Target::All)
    });
    assert_eq!(world.handle.connections().missing(), 0);
    assert_eq!(world.connections().len(), 1);
    drop(sender);
    world.drain();
    let list = world.handle.connections();
    assert_eq!(list.missing(), 0, "who has ended has no rows");
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
