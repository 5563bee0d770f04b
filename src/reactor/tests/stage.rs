//! A reactor over a network that does what it is told, and how a test tells it.
//!
//! In: a script. Out: what the reactor made of it. Never here: a test.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::super::*;
use crate::frame::OversizePolicy;
use crate::net::Refusal;
use crate::peer::Peer;
use crate::policy::OnConsumerStall;
use crate::ring::{Parked, RingConsumer, Wake, ring};

/// What the network does, and what it was asked.
#[derive(Default)]
pub(super) struct Script {
    pub(super) events: RefCell<Vec<Event>>,
    pub(super) time: Cell<Duration>,
    pub(super) timeouts: RefCell<Vec<Option<Duration>>>,
    woken: Arc<Woken>,
    /// So many streams wait to be accepted; then there is this error.
    pub(super) accepts: Cell<usize>,
    pub(super) accept_error: Cell<i32>,
    /// For each stream, the bytes that the kernel holds.
    pub(super) bytes: RefCell<Vec<Vec<u8>>>,
    /// It does not say how many those are.
    pub(super) is_mute: Cell<bool>,
    /// What a read says when there is none.
    pub(super) read_error: Cell<i32>,
    /// How long a read takes.
    pub(super) read_takes: Cell<Duration>,
    /// The next read fails with it, and what the kernel held is lost.
    pub(super) breaks: Cell<Option<i32>>,
}

pub(super) struct Scripted(Rc<Script>);

/// Was somebody woken: a reactor, or a consumer?
#[derive(Default)]
pub(super) struct Woken(pub(super) AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Wake for Woken {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Net for Scripted {
    type Listener = ();
    type Stream = usize;

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<bool> {
        self.0.timeouts.borrow_mut().push(timeout);
        events.append(&mut self.0.events.borrow_mut());
        Ok(self.0.woken.0.swap(false, Ordering::Relaxed))
    }

    fn nap(&mut self, time: Duration) {
        self.0.time.set(self.0.time.get() + time);
    }

    fn now(&self) -> Duration {
        self.0.time.get()
    }

    fn wall(&self, at: Duration) -> SystemTime {
        SystemTime::UNIX_EPOCH + at
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.0.woken.clone()
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

    fn is_awaited(&self, _: &()) -> bool {
        self.0.accepts.get() > 0
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
        self.0.time.set(self.0.time.get() + self.0.read_takes.get());
        let bytes = &mut self.0.bytes.borrow_mut()[*stream];
        if let Some(errno) = self.0.breaks.take() {
            bytes.clear();
            return Err(io::Error::from_raw_os_error(errno));
        }
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
pub(super) struct Stage {
    pub(super) script: Rc<Script>,
    pub(super) reactor: Reactor<Scripted>,
    pub(super) ends: Vec<RingConsumer>,
}

/// None, but for what a test sets.
pub(super) const CLOCKS: Clocks = Clocks {
    idle: None,
    message: None,
    window: None,
    age: None,
    linger: 250,
};

pub(super) const EAGAIN: i32 = 11;
pub(super) const ECONNRESET: i32 = 104;
pub(super) const ETIMEDOUT: i32 = 110;

impl Stage {
    pub(super) fn new(clocks: Clocks, staging_bytes: usize, accept_error: i32) -> Self {
        let script = Rc::new(Script::default());
        script.accept_error.set(accept_error);
        script.read_error.set(EAGAIN);
        let mut ends = Vec::new();
        let mut lanes = Vec::new();
        for _ in 0..2 {
            let parked = Arc::new(Parked::new());
            let (producer, end) = ring(64 << 10, script.woken.clone(), parked.clone()).unwrap();
            ends.push(end);
            lanes.push(Lane::new(producer, parked, 32 << 10, 56 << 10, None));
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
            least_rate: None,
            staging_bytes,
            route: Route::LeastLoaded,
            reroute: false,
            drain_timeout: Duration::from_secs(1),
            spacing: None,
            budgets: Default::default(),
            at_limit: Default::default(),
            admission: Arc::new(Admission::new(40_000, [None].into_iter())),
            sources: None,
            together: Arc::new(Together::new(2)),
            gate: None,
            consumer_stall: StallPolicy {
                after: None,
                then: OnConsumerStall::Wait,
            },
            rates: None,
        };
        let reactor = Reactor::new(Scripted(script.clone()), parts).unwrap();
        Self {
            script,
            reactor,
            ends,
        }
    }

    fn happens(&self, token: Token, read_closed: bool, error: bool) {
        self.script.events.borrow_mut().push(Event {
            token,
            readable: true,
            read_closed,
            error,
        });
    }

    pub(super) fn edge(&self, token: Token) {
        self.happens(token, false, false);
    }

    fn token(&self, stream: u32) -> Token {
        token(self.reactor.slots[stream].generation, stream)
    }

    pub(super) fn turn(&mut self) {
        assert_eq!(self.reactor.turn(None).unwrap(), Turn::Running);
    }

    /// Turns until it waits.
    pub(super) fn turns(&mut self) {
        for _ in 0..1000 {
            self.turn();
            if self.script.timeouts.borrow().last() != Some(&Some(Duration::ZERO)) {
                return;
            }
        }
        panic!("it never waits");
    }

    pub(super) fn order(&self, command: Command) {
        self.reactor.command_sender.try_send(command).unwrap();
        self.script.woken.wake();
    }

    /// So many connect; they are bound to the rings in turns.
    pub(super) fn connect(&mut self, streams: usize) {
        self.script.accepts.set(streams);
        self.edge(Token(0));
        while self.script.accepts.get() > 0 {
            self.turn();
        }
        assert_eq!(self.reactor.slots.len(), streams);
    }

    /// More of a stream comes in. Its key is its number.
    pub(super) fn put(&self, stream: u32, bytes: &[u8]) {
        self.script.bytes.borrow_mut()[stream as usize].extend_from_slice(bytes);
        self.edge(self.token(stream));
    }

    /// Its peer finishes.
    pub(super) fn fin(&self, stream: u32) {
        self.happens(self.token(stream), true, false);
    }

    /// Its peer resets it, or keepalive gives that up.
    pub(super) fn breaks(&self, stream: u32) {
        self.happens(self.token(stream), true, true);
    }

    pub(super) fn send(&mut self, stream: u32, bytes: &[u8]) {
        self.put(stream, bytes);
        self.turn();
    }

    pub(super) fn at(&self, ticks: Tick) {
        self.script.time.set(TICK * ticks);
    }

    /// A consumer takes all that is contiguous.
    pub(super) fn take(&mut self, ring: usize) {
        let end = &mut self.ends[ring];
        let all = end.readable().len() as u64;
        end.release(end.released() + all, 0, 0);
    }

    /// Fills the first ring up to its high mark with what 0 sends; then 2 stands in line for an edge, though the
    /// kernel has nothing of it.
    pub(super) fn fill(&mut self) {
        self.send(0, &b"0123456789abcde\n".repeat(58 << 6));
        assert!(self.script.bytes.borrow()[0].is_empty());
        self.send(2, b"");
        assert!(self.reactor.lanes[0].is_blocked());
        assert_eq!(self.reactor.slots[2].place, Place::Ring);
        assert!(self.script.bytes.borrow()[2].is_empty());
    }
}
