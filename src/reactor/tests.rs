//! A reactor over a network that does what it is told: what no real one can be made to do at will.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::SystemTime;

use super::*;
use crate::frame::OversizePolicy;
use crate::net::Refusal;
use crate::peer::Peer;
use crate::ring::{Parked, RingConsumer, Wake, ring};

/// What the network does, and what it was asked.
#[derive(Default)]
struct Script {
    events: RefCell<Vec<Event>>,
    time: Cell<Duration>,
    timeouts: RefCell<Vec<Option<Duration>>>,
    /// So many streams wait to be accepted; then there is this error.
    accepts: Cell<usize>,
    accept_error: Cell<i32>,
    /// For each stream, the bytes that the kernel holds.
    bytes: RefCell<Vec<Vec<u8>>>,
    /// It does not say how many those are.
    is_mute: Cell<bool>,
    /// What a read says when there is none.
    read_error: Cell<i32>,
}

struct Scripted(Rc<Script>);

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

impl Net for Scripted {
    type Listener = ();
    type Stream = usize;

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        self.0.timeouts.borrow_mut().push(timeout);
        events.append(&mut self.0.events.borrow_mut());
        Ok(())
    }

    fn now(&self) -> Now {
        Now {
            since_start: self.0.time.get(),
            wall: SystemTime::UNIX_EPOCH,
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Silent)
    }

    fn listen(&mut self, _: &(), _: Token) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self, _: &()) -> io::Result<(usize, Peer)> {
        let left = self.0.accepts.get();
        if left == 0 {
            return Err(io::Error::from_raw_os_error(self.0.accept_error.get()));
        }
        self.0.accepts.set(left - 1);
        let mut bytes = self.0.bytes.borrow_mut();
        bytes.push(Vec::new());
        Ok((bytes.len() - 1, Peer::Unix { pid: 1, uid: 1 }))
    }

    fn refuse(&mut self, _: &()) -> Refusal {
        Refusal::Failed
    }

    fn open(&mut self, _: &usize, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn watch(&mut self, _: &usize, _: Token, _: Watch) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, stream: &usize, into: &mut [u8]) -> io::Result<usize> {
        let bytes = &mut self.0.bytes.borrow_mut()[*stream];
        if bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(self.0.read_error.get()));
        }
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        bytes.drain(..n);
        Ok(n)
    }

    fn unread(&self, stream: &usize) -> Option<u64> {
        let unread = self.0.bytes.borrow()[*stream].len() as u64;
        (!self.0.is_mute.get()).then_some(unread)
    }

    fn finish(&mut self, _: &usize) {}
}

/// A reactor, its script, and the reading ends of its two rings.
struct Stage {
    script: Rc<Script>,
    reactor: Reactor<Scripted>,
    ends: Vec<RingConsumer>,
}

/// None, but for what a test sets.
const CLOCKS: Clocks = Clocks {
    idle: None,
    message: None,
    age: None,
    linger: 250,
};

const EAGAIN: i32 = 11;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;

impl Stage {
    fn new(clocks: Clocks, staging_bytes: usize, accept_error: i32) -> Self {
        let script = Rc::new(Script::default());
        script.accept_error.set(accept_error);
        script.read_error.set(EAGAIN);
        let mut ends = Vec::new();
        let mut lanes = Vec::new();
        for _ in 0..2 {
            let parked = Arc::new(Parked::new());
            let (producer, end) = ring(64 << 10, Arc::new(Silent), parked.clone());
            ends.push(end);
            lanes.push(Lane::new(producer, parked, 32 << 10, 56 << 10));
        }
        let parts = Parts {
            index: 0,
            listeners: vec![((), Framing::Line)],
            lanes,
            max_message: 1024,
            limits: vec![Limits {
                max: 1024,
                oversize: OversizePolicy::Truncate,
            }],
            octet_limits: Limits {
                max: 1024,
                oversize: OversizePolicy::Close,
            },
            clocks,
            stall: None,
            staging_bytes,
            route: Route::LeastLoaded,
            reroute: false,
            drain_timeout: Duration::from_secs(1),
            admission: Arc::new(Admission::new(100)),
        };
        let reactor = Reactor::new(Scripted(script.clone()), parts).unwrap();
        Self {
            script,
            reactor,
            ends,
        }
    }

    fn edge(&self, token: Token) {
        self.script.events.borrow_mut().push(Event {
            token,
            readable: true,
            read_closed: false,
            error: false,
        });
    }

    fn turn(&mut self) {
        assert_eq!(self.reactor.turn(None).unwrap(), Turn::Running);
    }

    /// So many connect; they are bound to the rings in turns.
    fn connect(&mut self, streams: usize) {
        self.script.accepts.set(streams);
        self.edge(Token(0));
        self.turn();
        assert_eq!(self.reactor.slots.len(), streams);
    }

    /// More of a stream comes in. Its key is its number.
    fn put(&self, stream: u32, bytes: &[u8]) {
        self.script.bytes.borrow_mut()[stream as usize].extend_from_slice(bytes);
        self.edge(token(self.reactor.slots[stream].generation, stream));
    }

    fn send(&mut self, stream: u32, bytes: &[u8]) {
        self.put(stream, bytes);
        self.turn();
    }

    fn at(&self, ticks: Tick) {
        self.script.time.set(TICK * ticks);
    }

    /// A consumer takes all that is contiguous.
    fn take(&mut self, ring: usize) {
        let end = &mut self.ends[ring];
        let all = end.readable().len() as u64;
        end.release(end.released() + all, 0, 0);
    }
}

/// A security module's or a seccomp filter's refusal takes nobody from the backlog, and does not pass.
#[test]
fn an_accept_that_is_forbidden_is_no_busy_loop() {
    // EPERM, EACCES, EINVAL, ENOSYS.
    for errno in [1, 13, 22, 38] {
        let mut stage = Stage::new(CLOCKS, 4096, errno);
        stage.edge(Token(0));
        for _ in 0..10 {
            stage.turn();
        }
        let timeouts = stage.script.timeouts.borrow();
        assert!(
            !timeouts.contains(&Some(Duration::ZERO)),
            "errno {errno}: {timeouts:?}"
        );
        assert!(timeouts[9].is_some(), "and it asks again some time");
    }
}

/// No answer is not "none": whoever has left is read to the end.
#[test]
fn a_peer_that_left_loses_nothing_where_the_system_does_not_say_what_is_unread() {
    let mut stage = Stage::new(CLOCKS, 4096, 11);
    stage.connect(1);
    stage.script.is_mute.set(true);
    stage.put(0, b"the last\n");
    stage.script.events.borrow_mut()[0].read_closed = true;
    stage.turn();
    assert_eq!(stage.reactor.counters.received.read(), 9);
}

/// Who had connected before the drain is taken, as soon as there is a descriptor for it.
#[test]
fn a_drain_waits_for_a_listener_that_waits_for_descriptors() {
    const EMFILE: i32 = 24;
    let mut stage = Stage::new(CLOCKS, 4096, EMFILE);
    stage.edge(Token(0));
    stage.turn();
    assert_eq!(stage.reactor.listeners[0].machine.label(), "limited");
    stage.reactor.phase = Phase::Draining {
        half: TICK * 500,
        deadline: TICK * 1000,
        told: 0,
    };
    stage.turn();
    stage.script.accepts.set(1);
    stage.script.accept_error.set(EAGAIN);
    stage.at(100);
    stage.turn();
    assert_eq!(stage.reactor.counters.accepted.read(), 1);
    assert!(stage.reactor.is_closed(), "nobody else waits");
}

#[test]
fn a_drain_waits_for_descriptors_no_longer_than_half_of_its_time() {
    const EMFILE: i32 = 24;
    let mut stage = Stage::new(CLOCKS, 4096, EMFILE);
    stage.edge(Token(0));
    stage.turn();
    stage.reactor.phase = Phase::Draining {
        half: TICK * 500,
        deadline: TICK * 1000,
        told: u32::MAX,
    };
    stage.at(499);
    stage.turn();
    assert!(!stage.reactor.is_closed());
    let patience = stage.reactor.patience(None);
    assert_eq!(patience, Some(TICK));
    stage.at(500);
    assert_eq!(stage.reactor.turn(None).unwrap(), Turn::Ended);
}

/// It waited for its ring for longer than its idle time, which took its entry from the wheel; then it
/// waits for staging, where its clocks run.
#[test]
fn who_waits_for_staging_after_its_ring_has_its_clocks_again() {
    let clocks = Clocks {
        idle: Some(100),
        ..CLOCKS
    };
    // Two smallest parts.
    let mut stage = Stage::new(clocks, 520, EAGAIN);
    // 0, 2 and 4 belong to the first ring, 1 and 3 to the second. The oldest of each holds a part.
    stage.connect(5);
    stage.send(4, b"begun");
    stage.send(0, &b"0123456789012345678901234567890\n".repeat(3000));
    while !stage.reactor.lanes[0].is_blocked() {
        stage.turn();
    }
    // They hold all of staging; the second ring's oldest goes beyond.
    stage.send(1, &[b'h'; 900]);
    assert_eq!(stage.reactor.staging.used(), 2 * 260 + 1040);
    stage.send(2, &[b'w'; 900]);
    for ticks in (0..400).step_by(10) {
        stage.at(ticks);
        // The holders trickle.
        stage.put(1, b"h");
        stage.put(4, b"h");
        stage.turn();
    }
    assert_eq!(stage.reactor.slots[2].place, Place::Ring);
    // The ring flows again.
    stage.take(0);
    stage.script.bytes.borrow_mut()[0].clear();
    stage.turn();
    stage.turn();
    let slot = &stage.reactor.slots[2];
    assert_eq!(slot.place, Place::Staging, "{:?}", slot.conn);
    assert!(slot.wheel_tick().is_some(), "{:?}", slot.conn);
}

#[test]
fn an_endless_message_is_evicted_however_fast_it_comes() {
    let clocks = Clocks {
        message: Some(100),
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 1 << 20, EAGAIN);
    stage.connect(1);
    for ticks in 0..2000 {
        stage.at(ticks);
        // More than is read in a turn: the kernel always holds some.
        stage.script.bytes.borrow_mut()[0].resize(3_000_000, b'x');
        stage.send(0, b"");
        stage.take(0);
        if stage.reactor.slots[0].conn.reason() == Some(CloseReason::Message) {
            assert!(ticks >= 100, "after {ticks} of 100 ticks");
            return;
        }
    }
    panic!(
        "not in 2000 ticks of 100: {:?}",
        stage.reactor.slots[0].conn
    );
}

/// Keepalive gives a peer up, or its RST comes: both are an error event, and a full ring is no reason to
/// take the one for the other.
#[test]
fn who_breaks_while_its_ring_is_full_ends_for_the_reason_that_the_kernel_gives() {
    for (errno, reason) in [
        (ETIMEDOUT, CloseReason::System(110)),
        (ECONNRESET, CloseReason::Reset),
    ] {
        let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
        // 0 and 2 belong to the first ring.
        stage.connect(3);
        stage.send(2, b"one\n");
        stage.send(0, &b"0123456789012345678901234567890\n".repeat(3000));
        while !stage.reactor.lanes[0].is_blocked() {
            stage.turn();
        }
        stage.script.read_error.set(errno);
        stage.script.events.borrow_mut().push(Event {
            token: token(stage.reactor.slots[2].generation, 2),
            readable: true,
            read_closed: true,
            error: true,
        });
        stage.turn();
        let slot = &stage.reactor.slots[2];
        assert!(slot.stream.is_none(), "it holds a descriptor");
        assert_eq!(slot.conn.reason(), Some(reason));
    }
}

/// Once it is known to be too large the rest is skipped; that is no other message.
#[test]
fn a_message_that_turns_out_too_large_keeps_its_deadline() {
    let clocks = Clocks {
        message: Some(100),
        ..CLOCKS
    };
    let mut stage = Stage::new(clocks, 4096, EAGAIN);
    stage.connect(1);
    stage.send(0, &[b'x'; 1000]);
    stage.at(90);
    stage.send(0, &[b'x'; 100]);
    assert!(stage.reactor.slots[0].conn.partial().is_skipping());
    stage.at(101);
    stage.turn();
    let conn = &stage.reactor.slots[0].conn;
    assert_eq!(conn.reason(), Some(CloseReason::Message), "{conn:?}");
}

#[test]
fn after_a_year_and_more_a_stall_still_counts_from_when_its_wait_began() {
    let mut stage = Stage::new(CLOCKS, 4096, EAGAIN);
    let stall = Duration::from_secs(2);
    stage.reactor.stall = Some(stall);
    // Where ticks have wrapped.
    let year = Duration::from_millis(8 << 32) + Duration::from_secs(1);
    stage.script.time.set(year);
    stage.connect(3);
    stage.send(0, &b"0123456789012345678901234567890\n".repeat(3000));
    while !stage.reactor.lanes[0].is_blocked() {
        stage.turn();
    }
    stage.script.time.set(year + stall - TICK);
    stage.send(2, b"waits\n");
    stage.script.time.set(year + stall);
    stage.turn();
    let open = |key: u32| stage.reactor.slots[key].stream.is_some();
    assert!(!open(0), "it has waited for as long as it may");
    assert!(open(2), "it has only begun to");
}
