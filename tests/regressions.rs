//! Bugs of whole reactors that were found and mended, each by what it did to somebody: staging, operators,
//! framings.

mod audit;
mod world;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use fanin::{CloseReason, Framer, Framing, ListenAddr, OnOversize, PauseCause, Scan, Target};
use world::{World, config, fill, fill_with, small_ring, texts};

const MS: Duration = Duration::from_millis(1);

/// Two consumers, and staging for one message.
fn scarce() -> World {
    let mut config = small_ring();
    config.staging_bytes = 1024;
    config.consumers = 2;
    config.deadlines.message = None;
    config.deadlines.idle = None;
    World::new(config)
}

/// Another connection, which the least loaded consumer gets: it is to be this one.
fn open(world: &mut World, consumer: usize) -> TcpStream {
    let mut stream = world.connect();
    let had = world.audit.all().len();
    stream.write_all(b"a\n").unwrap();
    world.until("introduced", |w| w.audit.all().len() == had + 1);
    assert_eq!(world.row(&stream).consumer, consumer);
    stream
}

/// Fills the first consumer's ring by `first`; then `holder` has a part, and waits for that ring with the
/// rest.
fn hold(world: &mut World, first: &mut TcpStream, holder: &mut TcpStream) {
    world.keeps_up = false;
    fill(first, world);
    holder.write_all(b"h").unwrap();
    world.until_it_waits(holder, PauseCause::Ring);
    // It is read once more: now it holds a part.
    world.keeps_up = true;
    world.until("staged", |w| w.row(holder).books.staged == 1);
    world.keeps_up = false;
    fill(first, world);
    holder.write_all(b"hhh").unwrap();
    world.until_it_waits(holder, PauseCause::Ring);
}

#[test]
fn a_full_ring_does_not_hold_the_senders_of_another_by_the_staging_it_holds() {
    let mut world = scarce();
    let mut first = open(&mut world, 0);
    let mut second = open(&mut world, 1);
    let mut holder = open(&mut world, 0);
    hold(&mut world, &mut first, &mut holder);
    let had = world.audit.all().len();
    second.write_all(&[b's'; 1000]).unwrap();
    world.steps_for(20 * MS);
    second.write_all(b"\n").unwrap();
    world.until("it is through", |w| w.audit.all().len() == had + 1);
    assert!(world.row(&holder).causes.contains(&PauseCause::Ring));
}

#[test]
fn whom_an_operator_closes_while_staging_is_spent_is_read_once_there_is_room() {
    let mut config = config();
    config.max_message = 4096;
    config.staging_bytes = 4096;
    config.deadlines.linger = 10_000 * MS;
    let mut world = World::new(config);
    let mut holder = world.connect();
    holder.write_all(&[b'h'; 3000]).unwrap();
    world.until_staged(3000);
    let mut other = world.connect();
    other
        .write_all(&[vec![b'o'; 3000], b"\n".to_vec()].concat())
        .unwrap();
    world.until_it_waits(&other, PauseCause::Staging);
    let id = world.row(&other).id;
    assert!(world.handle.close(id));
    world.until("it is told", |w| {
        w.row(&other).closing == Some(CloseReason::Operator)
    });
    // It has not hung up, nor will it: no further event is its own.
    holder.write_all(b"\n").unwrap();
    world.until("both are through", |w| w.audit.all().len() == 2);
}

#[test]
fn staging_stays_within_its_sum_whatever_follows_the_end_of_a_message() {
    const MAX: usize = 16 << 10;
    let mut config = config();
    config.max_message = MAX;
    config.staging_bytes = MAX;
    let mut world = World::new(config);
    let mut senders: Vec<_> = (0..40).map(|_| world.connect()).collect();
    for sender in &mut senders {
        sender.write_all(b"begun").unwrap();
        world.step().unwrap();
    }
    world.until_staged(40 * 5);
    // Each goes on with the end of its message and the beginning of a large one.
    let next = [b"\n".to_vec(), vec![b'n'; 15_000]].concat();
    for sender in &mut senders {
        sender.write_all(&next).unwrap();
    }
    world.until("each first message is through", |w| {
        w.audit.all().len() == 40
    });
    world.steps_for(100 * MS);
    let peak = world.handle.snapshot().peak.staging_bytes;
    let bound = (2 * MAX + 16 + 40 * 256) as u64;
    assert!(
        peak <= bound,
        "{peak} bytes staged, at most {bound} promised"
    );
}

#[test]
fn whoever_is_evicted_after_a_pause_is_read_until_it_has_finished() {
    let mut config = small_ring();
    config.framing = Framing::Octet;
    config.deadlines.linger = 10_000 * MS;
    let mut world = World::new(config);
    world.keeps_up = false;
    let mut filler = world.connect();
    let message = [b"100 ".to_vec(), b"x".repeat(100)].concat();
    fill_with(&message, &mut filler, &mut world);
    let mut sender = world.connect();
    sender.write_all(b"bad").unwrap();
    world.until_it_waits(&sender, PauseCause::Ring);
    world.keeps_up = true;
    world.until("told", |w| {
        w.row(&sender).closing == Some(CloseReason::Protocol)
    });
    world.steps_for(50 * MS);
    sender.write_all(&[b'l'; 1000]).unwrap();
    world.until("read", |w| w.row(&sender).books.received == 1003);
    assert_eq!(world.row(&sender).unread, 0);
}

#[test]
fn nothing_is_delivered_after_what_follows_no_framing_though_its_sender_is_being_closed() {
    let mut config = config();
    config.framing = Framing::Octet;
    config.deadlines.linger = 10_000 * MS;
    let mut world = World::new(config);
    let mut sender = world.connect();
    sender.write_all(b"4 good").unwrap();
    world.until("good", |w| w.audit.all().len() == 1);
    let id = world.row(&sender).id;
    world.handle.close(id);
    world.until("told", |w| {
        w.row(&sender).closing == Some(CloseReason::Operator)
    });
    sender.write_all(b"bad").unwrap();
    world.until("read", |w| w.handle.snapshot().bytes.received == 9);
    sender.write_all(b"6 forged").unwrap();
    world.until("read", |w| w.handle.snapshot().bytes.received == 17);
    drop(sender);
    world.until("closed", |w| w.handle.snapshot().connections.open == 0);
    world.drain();
    assert_eq!(texts(&world.audit.all()), ["good"]);
}

/// Lines, of which those that begin with `!` are said to be too large.
struct Picky;

impl Framer for Picky {
    fn scan(&self, staged: &[u8], fresh: &[u8], _max: usize) -> Scan {
        let (mut end, mut first) = (0, staged.first().copied());
        for (at, byte) in fresh.iter().enumerate() {
            if first.is_none() && *byte == b'!' {
                return Scan::Oversize {
                    end,
                    prefix: 0,
                    size: None,
                };
            }
            first.get_or_insert(*byte);
            if *byte == b'\n' {
                (end, first) = (at + 1, None);
            }
        }
        Scan::Whole { end, need: 0 }
    }

    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let at = bytes.iter().position(|byte| *byte == b'\n')?;
        Some((&bytes[..at], &bytes[at + 1..]))
    }

    fn resync(&self, _tail: &[u8], fresh: &[u8]) -> Option<usize> {
        Some(fresh.iter().position(|byte| *byte == b'\n')? + 1)
    }

    fn delivers_unterminated(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        "picky"
    }
}

#[test]
fn a_framer_that_calls_small_messages_too_large_costs_its_connection_only() {
    let mut config = config();
    config.framing = Framing::Custom(Arc::new(Picky));
    config.on_oversize = Some(OnOversize::Discard);
    let mut world = World::new(config);
    let mut good = world.connect();
    let mut sender = world.connect();
    sender.write_all(&b"a\n!\n".repeat(2000)).unwrap();
    drop(sender);
    world.until("closed", |w| {
        w.handle.snapshot().connections.closed.total() == 1
    });
    good.write_all(b"well\n").unwrap();
    drop(good);
    world.drain();
    assert_eq!(texts(&world.audit.all()).last().unwrap(), "well");
}

#[test]
fn an_inherited_listener_gives_its_connections_the_receive_buffer_too() {
    const BUFFER: usize = 16 << 10;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config();
    config.receive_buffer = BUFFER;
    config.listeners[0].address = ListenAddr::Inherited(Arc::new(listener.into()));
    let mut world = World::new(config);
    let mut sender = world.connect();
    world.until("accepted", |w| w.handle.snapshot().connections.open == 1);
    world.handle.pause(Target::All);
    world.until("paused", |w| w.row(&sender).state == "paused");
    fill(&mut sender, &mut world);
    let unread = world.row(&sender).unread;
    // The kernel doubles what it is asked for.
    assert!(unread <= 2 * BUFFER as u64, "{unread} bytes in the kernel");
    assert!(unread > 0);
}

/// Left where it was, an urgent byte is taken out of the stream, and hides what is behind it from
/// `FIONREAD`: the connection counted as drained.
#[test]
fn an_urgent_byte_is_a_byte_of_the_stream_and_hides_nothing_behind_it() {
    let mut config = config();
    config.deadlines.idle = Some(Duration::from_millis(100));
    let mut world = World::new(config);
    let mut finisher = world.connect();
    let mut stayer = world.connect();
    for stream in [&mut finisher, &mut stayer] {
        let urgent = socket2::SockRef::from(&*stream).send_out_of_band(b"one\n!");
        assert_eq!(urgent.unwrap(), 5);
        stream.write_all(b"two\n").unwrap();
    }
    drop(finisher);
    // Who stays is looked at before it is evicted.
    world.until("all is there", |w| w.audit.all().len() == 4);
    drop(stayer);
    world.drain();
    let got = texts(&world.audit.all());
    let count = |text: &str| got.iter().filter(|got| *got == text).count();
    assert_eq!((count("one"), count("!two")), (2, 2), "{got:?}");
    assert_eq!(world.handle.snapshot().bytes.received, 2 * 9);
}
