//! A network that is not there: the same calls, edges and errors as Linux has, from a seed.
//!
//! In: what peers do ([`SimPeer`]), what reactors call ([`SimNet`]). Out: events, bytes and errors, no more
//! politely than a kernel. Never here: a reactor or a consumer; whoever runs them hands in a step that is
//! taken inside each call, so that the others move between any two calls of a reactor.
//!
//! How it could lie, and does not: edges, not levels; a closed window holds its peer, and the FIN behind
//! its bytes; closing with unread bytes is an RST; after an RST what was queued stays readable; descriptors
//! are used again at once; an edge is looked at again before it is told. Without faults it shows what Linux
//! shows, step by step: `src/scenes/net.txt`. With faults it is worse: see [`Fault`].

mod fault;
mod random;
mod state;
mod truth;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

pub use self::fault::{Fault, Faults};
pub use self::random::Random;
pub(crate) use self::state::Sent;
use self::state::State;
pub(crate) use self::truth::Truth;
use super::{Event, Net, Refusal, Token, Watch};
use crate::peer::Peer;
use crate::ring::{Wake, others};

/// A nap of so long may be why something comes late.
const EXCUSES: Duration = Duration::from_millis(1);

/// What happens beside a reactor, inside each of its calls.
pub(crate) type Others = Rc<dyn Fn()>;

/// The network that several reactors and many peers share.
#[derive(Clone, Debug)]
pub(crate) struct SimNetwork(Rc<RefCell<State>>);

/// The network as one reactor sees it.
pub(crate) struct SimNet {
    state: Rc<RefCell<State>>,
    reactor: usize,
    waker: Arc<SimWaker>,
    others: Others,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct SimListener {
    state: Rc<RefCell<State>>,
    key: usize,
}

/// A connection. Dropped, its descriptor is free for the next one.
#[derive(Debug)]
pub(crate) struct SimStream {
    state: Rc<RefCell<State>>,
    key: usize,
    fd: usize,
}

/// A peer's end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct SimPeer {
    state: Rc<RefCell<State>>,
    pub(crate) key: usize,
}

/// What became of a peer's connection, as the network has it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) accepted: bool,
    /// It was accepted to be told that it is refused.
    pub(crate) turned_away: bool,
    /// Bytes that arrived.
    pub(crate) arrived: u64,
    /// Of these, those that nobody had read when the descriptor was closed.
    pub(crate) left: u64,
    /// And of these, those that our side was not told of: they came after, or nobody knew.
    pub(crate) late: u64,
    pub(crate) finished: bool,
    pub(crate) reset: bool,
}

/// What ends a reactor's poll.
#[derive(Debug, Default)]
pub(crate) struct SimWaker(AtomicBool);

impl Wake for SimWaker {
    fn wake(&self) {
        // What was to be seen by then has been done, or is overlooked.
        others::act();
        // One thread: the order of a flag among others is the program's.
        self.0.store(true, Ordering::Relaxed);
        others::act();
    }
}

impl SimWaker {
    pub(crate) fn is_woken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl SimNetwork {
    pub(crate) fn new(random: Random, faults: Faults, reactors: usize) -> Self {
        Self(Rc::new(RefCell::new(State::new(random, faults, reactors))))
    }

    /// Descriptors of the process, bytes of a receive window, connections that wait at a listener.
    pub(crate) fn limit(&self, descriptors: usize, window: usize, backlog: usize) {
        self.0.borrow_mut().limit(descriptors, window, backlog);
    }

    /// One reactor's view, with a listener for each place; `others` is called inside each call.
    pub(crate) fn net(
        &self,
        reactor: usize,
        places: usize,
        others: Others,
    ) -> (SimNet, Vec<SimListener>) {
        let listeners = (0..places)
            .map(|place| SimListener {
                state: self.0.clone(),
                key: self.0.borrow_mut().add_listener(place, reactor),
            })
            .collect();
        let net = SimNet {
            state: self.0.clone(),
            reactor,
            waker: Arc::default(),
            others,
        };
        (net, listeners)
    }

    pub(crate) fn connect(&self, place: usize, peer: Peer) -> Option<SimPeer> {
        let key = self.0.borrow_mut().connect(place, peer)?;
        Some(SimPeer {
            state: self.0.clone(),
            key,
        })
    }

    pub(crate) fn is_listening(&self, place: usize) -> bool {
        self.0.borrow().is_listening(place)
    }

    pub(crate) fn is_ready(&self, reactor: usize) -> bool {
        self.0.borrow_mut().is_ready(reactor)
    }

    pub(crate) fn open_descriptors(&self) -> usize {
        self.0.borrow().open_descriptors()
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.borrow().now
    }

    /// When the reactor asked for the time before it read the byte before this one of a peer's stream.
    pub(crate) fn read_at(&self, peer: Peer, offset: u64) -> Option<Duration> {
        self.0.borrow().read_at(peer, offset)
    }

    /// Has this peer said that nothing will follow, or been reset?
    pub(crate) fn has_ended(&self, peer: Peer) -> bool {
        let state = self.0.borrow();
        let mut sockets = state.sockets.iter();
        sockets.any(|s| s.peer == peer && (s.fin || s.is_reset))
    }

    /// Did the wall clock say this between these moments, both included?
    pub(crate) fn said(&self, wall: SystemTime, from: Duration, to: Duration) -> bool {
        self.0.borrow().said(wall, from, to)
    }

    /// Listeners may be closed and opened again: a peer that finds none comes back.
    pub(crate) fn listens_again(&self) {
        self.0.borrow_mut().listens_again = true;
    }

    /// Nothing but a drain's own time keeps a peer that had connected from being accepted or turned away.
    pub(crate) fn holds_drains_to_it(&self, holds: bool) {
        self.0.borrow_mut().holds_drains = holds;
    }

    /// A drain is ordered: who waits in a backlog now is to be accepted, until then.
    pub(crate) fn expect_drain(&self, until: Duration) {
        let state = &mut *self.0.borrow_mut();
        let waiting = state.sockets.len();
        state.drain.get_or_insert((waiting, until));
    }

    /// Whoever waits may be turned away.
    pub(crate) fn expect_nothing(&self) {
        self.0.borrow_mut().holds_drains = false;
    }

    /// Peers that were turned away.
    pub(crate) fn refused(&self) -> u64 {
        self.0.borrow().refused
    }

    /// The most descriptors there were at once.
    pub(crate) fn most_descriptors(&self) -> usize {
        self.0.borrow().most_descriptors
    }

    /// Reactors are so old when the run begins.
    pub(crate) fn begin_at(&self, start: Duration) {
        self.0.borrow_mut().start = start;
    }

    pub(crate) fn pass(&self, time: Duration) {
        let mut state = self.0.borrow_mut();
        state.now += time;
        if state.strikes(Fault::TimeJumps) {
            let seconds = state.random.one_of(&[60, 3600, 86_400]);
            state.now += Duration::from_secs(seconds);
            state.unasked += Duration::from_secs(seconds);
        }
    }

    /// The time that passed without anybody having waited for it: in calls, and while the machine stood still.
    pub(crate) fn unasked(&self) -> Duration {
        self.0.borrow().unasked
    }

    /// Does the fault happen now?
    pub(crate) fn strikes(&self, fault: Fault) -> bool {
        let state = &mut *self.0.borrow_mut();
        state.faults.strikes(fault, &mut state.random)
    }

    pub(crate) fn note(&self, fault: Fault) {
        self.0.borrow_mut().faults.note(fault);
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        self.0.borrow_mut().faults.calm();
        self.say(|| "the faults stop".to_owned());
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.0.borrow().faults.is_calm()
    }

    pub(crate) fn faults(&self) -> Faults {
        self.0.borrow().faults.clone()
    }

    pub(crate) fn keep_trace(&self) {
        self.0.borrow_mut().trace = Some(Vec::new());
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.0.borrow().trace.clone().unwrap_or_default()
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        self.0.borrow_mut().say(what);
    }
}

impl SimPeer {
    pub(crate) fn send(&self, bytes: &[u8]) -> Sent {
        self.state.borrow_mut().send(self.key, bytes)
    }

    /// Sends, and the last byte is urgent.
    #[cfg(test)]
    pub(crate) fn send_urgent(&self, bytes: &[u8]) -> Sent {
        self.state.borrow_mut().send_urgent(self.key, bytes)
    }

    /// Would a write take anything, or fail? Until then a peer is held.
    pub(crate) fn can_send(&self) -> bool {
        self.state.borrow().can_send(self.key)
    }

    pub(crate) fn finish(&self) {
        self.state.borrow_mut().finish_peer(self.key);
    }

    pub(crate) fn reset(&self) {
        self.state.borrow_mut().reset_peer(self.key);
    }

    /// Has our end finished, or closed?
    pub(crate) fn sees_fin(&self) -> bool {
        let state = self.state.borrow();
        let socket = &state.sockets[self.key];
        socket.finished || socket.end.is_some()
    }

    /// Does a read of it fail with `ECONNRESET`? A FIN that came before would be told first.
    #[cfg(test)]
    pub(crate) fn sees_reset(&self) -> bool {
        let state = self.state.borrow();
        let socket = &state.sockets[self.key];
        !socket.finished && socket.end.is_some_and(|end| end.left > 0)
    }

    /// What became of it.
    pub(crate) fn fate(&self) -> Fate {
        let state = self.state.borrow();
        let truth = state.truth(self.key);
        let socket = &state.sockets[self.key];
        let left = socket.end.map_or(0, |end| end.left);
        let late = socket.told.map_or(0, |told| socket.arrived - told);
        Fate {
            accepted: socket.accepted,
            turned_away: socket.turned_away,
            arrived: socket.arrived,
            left,
            late: late.min(left),
            finished: truth.finished,
            reset: truth.reset,
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.state.borrow_mut().close_listener(self.key);
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.state.borrow_mut().close(self.key, self.fd);
    }
}

impl SimNet {
    /// What the kernel knows of a connection.
    pub(crate) fn truth(&self, stream: &SimStream) -> Truth {
        self.state.borrow().truth(stream.key)
    }

    pub(crate) fn sim_waker(&self) -> Arc<SimWaker> {
        self.waker.clone()
    }

    /// Inside a call: time passes, others act.
    fn step(&self) {
        let mut state = self.state.borrow_mut();
        if state.strikes(Fault::SlowCall) {
            let time = Duration::from_millis(state.random.within(1..=20) as u64);
            state.now += time;
            state.unasked += time;
            state.say(|| format!("  it takes {time:?}"));
        }
        drop(state);
        (self.others)();
    }
}

impl Net for SimNet {
    type Listener = SimListener;
    type Stream = SimStream;

    fn poll(&mut self, events: &mut Vec<Event>, _timeout: Option<Duration>) -> io::Result<bool> {
        self.step();
        // Whoever runs the reactor let the time pass before: this poll has something, or its time is up.
        let woken = self.waker.0.swap(false, Ordering::Relaxed);
        self.state.borrow_mut().poll(self.reactor, events);
        Ok(woken)
    }

    fn nap(&mut self, time: Duration) {
        let mut state = self.state.borrow_mut();
        state.now += time;
        // A shorter one is no excuse: nobody is late for that.
        if time >= EXCUSES {
            state.unasked += time;
        }
        drop(state);
        self.step();
    }

    fn now(&self) -> Duration {
        let mut state = self.state.borrow_mut();
        state.ask(self.reactor);
        state.start + state.now
    }

    fn wall(&self, at: Duration) -> SystemTime {
        let state = self.state.borrow();
        state.wall(at - state.start)
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn listen(&mut self, listener: &SimListener, token: Token) -> io::Result<()> {
        self.state.borrow_mut().watch_listener(listener.key, token);
        Ok(())
    }

    fn listen_again(&mut self, place: usize, reactors: usize) -> io::Result<Vec<SimListener>> {
        self.step();
        self.state.borrow_mut().may_listen_again(place)?;
        let open = |reactor| SimListener {
            state: self.state.clone(),
            key: self.state.borrow_mut().add_listener(place, reactor),
        };
        Ok((0..reactors).map(open).collect())
    }

    fn accept(&mut self, listener: &SimListener) -> io::Result<(SimStream, Peer)> {
        self.step();
        let (key, fd, peer) = self.state.borrow_mut().accept(listener.key)?;
        let stream = SimStream {
            state: self.state.clone(),
            key,
            fd,
        };
        Ok((stream, peer))
    }

    fn refuse(&mut self, listener: &SimListener) -> Refusal {
        self.step();
        self.state.borrow_mut().refuse(listener.key)
    }

    fn is_awaited(&self, listener: &SimListener) -> bool {
        self.step();
        self.state.borrow().is_awaited(listener.key)
    }

    fn turn_away(&mut self, stream: SimStream) {
        self.step();
        self.state.borrow_mut().turn_away(stream.key);
        drop(stream);
    }

    fn open(&mut self, stream: &SimStream, token: Token) -> io::Result<()> {
        self.watch(stream, token, Watch::Read)
    }

    fn watch(&mut self, stream: &SimStream, token: Token, watch: Watch) -> io::Result<()> {
        self.step();
        let mut state = self.state.borrow_mut();
        state.watch(stream.key, self.reactor, token, watch)
    }

    fn read(&mut self, stream: &SimStream, into: &mut [u8]) -> io::Result<usize> {
        self.step();
        self.state.borrow_mut().read(stream.key, into)
    }

    fn unread(&self, stream: &SimStream) -> Option<u64> {
        self.step();
        self.state.borrow_mut().unread(stream.key)
    }

    fn finish(&mut self, stream: &SimStream) {
        self.step();
        self.state.borrow_mut().finish(stream.key);
    }

    fn close(&mut self, stream: SimStream) {
        self.step();
        drop(stream);
    }
}

impl std::fmt::Debug for SimNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNet")
            .field("reactor", &self.reactor)
            .finish_non_exhaustive()
    }
}
