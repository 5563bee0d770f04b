//! What the steady state asks of others: nothing of the allocator, and of the kernel only recv, epoll_wait
//! and the wakes that are owed. Exact numbers, so that one too many fails.
#![allow(unsafe_code, reason = "an allocator that counts is one")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanin::{BoundAddr, Config, Ended, Fanin, Record, Turn};
use support::strace::{Watched, why_not};
use support::{PATIENCE, skip, wait_for};

/// What each role called.
static CALLS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

thread_local! {
    /// Which of them this thread has, if any.
    static ROLE: Cell<Option<usize>> = const { Cell::new(None) };
}

struct Counting;

fn count() {
    // A thread that ends has no role any more.
    if let Ok(Some(role)) = ROLE.try_with(Cell::get) {
        CALLS[role].fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls() -> [u64; 2] {
    [0, 1].map(|role: usize| CALLS[role].load(Ordering::Relaxed))
}

/// A message of each size in turn, and its mark.
fn message(framing: &str, n: usize) -> Vec<u8> {
    const SIZES: [usize; 6] = [60, 3, 1400, 250, 9000, 33_000];
    let text = vec![b'x'; SIZES[n % SIZES.len()]];
    let prefix = match framing {
        "octet" => format!("{} ", text.len()).into_bytes(),
        "u32" => (text.len() as u32).to_be_bytes().to_vec(),
        _ => Vec::new(),
    };
    let suffix: &[u8] = match framing {
        "line" => b"\n",
        "nul" => b"\0",
        _ => b"",
    };
    [&prefix, &text[..], suffix].concat()
}

/// Whole messages, several in a write, and one in two writes. All that was sent is consumed then.
fn round(framing: &str, peers: &mut [TcpStream], sent: &mut u64, consumed: &AtomicU64) {
    for n in 0..6 {
        for (place, peer) in peers.iter_mut().enumerate() {
            let one = message(framing, n + place);
            peer.write_all(&one.repeat(2)).unwrap();
            let (half, rest) = one.split_at(one.len() / 2);
            peer.write_all(half).unwrap();
            *sent += 2;
            // The half comes in a read of its own.
            wait_for("whole messages are consumed", PATIENCE, || {
                (consumed.load(Ordering::Relaxed) == *sent).then_some(())
            });
            peer.write_all(rest).unwrap();
            *sent += 1;
        }
        wait_for("all is consumed", PATIENCE, || {
            (consumed.load(Ordering::Relaxed) == *sent).then_some(())
        });
    }
}

#[test]
fn in_the_steady_state_neither_thread_calls_the_allocator() {
    const PEERS: usize = 20;
    for framing in ["line", "nul", "octet", "u32"] {
        let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
        config.framing = framing.parse().unwrap();
        let Fanin {
            mut reactors,
            mut consumers,
            handle,
            ..
        } = config.validate().unwrap().bind().unwrap();
        let consumed = Arc::new(AtomicU64::new(0));
        let (mut reactor, mut consumer) = (reactors.remove(0), consumers.remove(0));
        let counts = Arc::clone(&consumed);
        let threads = [
            std::thread::spawn(move || {
                ROLE.set(Some(0));
                while reactor.turn(None).unwrap() == Turn::Running {}
                ROLE.set(None);
            }),
            std::thread::spawn(move || {
                ROLE.set(Some(1));
                let ended = loop {
                    let batch = match consumer.wait() {
                        Ok(batch) => batch,
                        Err(ended) => break ended,
                    };
                    let mut count = 0;
                    for record in batch.records() {
                        if let Record::Messages(messages) = record {
                            count += messages.iter().map(std::hint::black_box).count() as u64;
                        }
                    }
                    batch.release();
                    counts.fetch_add(count, Ordering::Relaxed);
                };
                ROLE.set(None);
                assert_eq!(ended, Ended::Drained);
            }),
        ];
        let BoundAddr::Tcp(address) = handle.local_addrs()[0] else {
            panic!("not TCP")
        };
        let mut peers: Vec<_> = (0..PEERS)
            .map(|_| {
                let peer = TcpStream::connect(address).unwrap();
                peer.set_nodelay(true).unwrap();
                peer
            })
            .collect();

        let mut sent = 0;
        // Twice: a table that doubles may do so when it is first as full as it gets.
        round(framing, &mut peers, &mut sent, &consumed);
        round(framing, &mut peers, &mut sent, &consumed);
        let (before, messages) = (calls(), sent);
        for _ in 0..2 {
            round(framing, &mut peers, &mut sent, &consumed);
        }
        let after = calls();
        println!(
            "{framing}: {} messages, {before:?} calls before",
            sent - messages
        );
        assert!(before.iter().all(|calls| *calls > 0), "nothing is counted");
        assert_eq!(after, before, "{framing}: by the reactor, by the consumer");

        drop(peers);
        handle.drain(Duration::from_secs(5));
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

/// One message at a time, each when both threads sleep: every call is owed to it.
#[test]
fn a_message_costs_a_recv_and_a_wake_each_way_and_no_other_call() {
    const MESSAGES: usize = 50;
    if let Some(reason) = why_not() {
        return skip("steady-calls", &reason);
    }
    let mut fanin = support::Fanin::start_into("null", &[]);
    let mut peer = fanin.connect();
    peer.set_nodelay(true).unwrap();
    let reactor = Watched::attach(&fanin, "fanin-reactor-0");
    let sink = Watched::attach(&fanin, "fanin-sink-0");
    let mut send = |n: usize| {
        peer.write_all(b"one message\n").unwrap();
        wait_for("both sleep again", PATIENCE, || {
            let is_read = count_of(&reactor.calls(), "recvfrom") == n;
            // In this order: a consumer that was to be woken is awake once the reactor sleeps.
            (is_read && reactor.is_asleep() && sink.is_asleep()).then_some(())
        });
    };
    // The first is the `Opened` record's, too.
    send(1);
    send(2);
    let before = [reactor.calls(), sink.calls()];
    for n in 3..MESSAGES + 3 {
        send(n);
    }
    let after = [reactor.calls(), sink.calls()];
    fanin.drain();
    let spent = |place: usize| -> BTreeMap<String, usize> {
        let names = after[place].keys();
        let of = |name: &String| {
            let spent = after[place][name] - count_of(&before[place], name);
            (spent > 0).then(|| (name.clone(), spent))
        };
        names.filter_map(of).collect()
    };
    let calls = |list: &[(&str, usize)]| -> BTreeMap<String, usize> {
        list.iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect()
    };
    println!("reactor {:?}, sink {:?}", spent(0), spent(1));
    let owed = [
        ("epoll_wait", MESSAGES),
        ("recvfrom", MESSAGES),
        ("futex", MESSAGES),
    ];
    assert_eq!(spent(0), calls(&owed), "the reactor");
    assert_eq!(spent(1), calls(&[("futex", MESSAGES)]), "the consumer");
}

fn count_of(calls: &BTreeMap<String, usize>, name: &str) -> usize {
    calls.get(name).copied().unwrap_or_default()
}
