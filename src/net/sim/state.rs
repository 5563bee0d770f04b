//! The virtual network itself: sockets, windows, backlogs, descriptors, edges, the clock.
//!
//! In: what peers do, what reactors call. Out: what Linux would have answered, or worse.
//! Never here: a reactor, a consumer, a choice that the seed did not make.

mod backlog;
mod epoll;
mod listeners;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::fault::{Fault, Faults};
use super::random::Random;
use crate::net::{Refusal, Token, Watch};
use crate::peer::Peer;

const EPERM: i32 = 1;
pub(super) const EINTR: i32 = 4;
pub(super) const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EPROTO: i32 = 71;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ENOBUFS: i32 = 105;
const ETIMEDOUT: i32 = 110;
const EHOSTUNREACH: i32 = 113;

fn errno<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

/// One connection, from the handshake on; kept after its end for those who check.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) peer: Peer,
    /// Arrived, and not read.
    pub(super) queue: VecDeque<u8>,
    /// Bytes that ever arrived.
    pub(super) arrived: u64,
    pub(super) accepted: bool,
    /// It was accepted to be told that it is refused.
    pub(super) turned_away: bool,
    /// So many when its reactor last polled; and of these, how many had not been read when we finished.
    polled: u64,
    pub(super) overlooked: u64,
    /// Our side was told of so many, when it last asked what is unread.
    pub(super) told: Option<u64>,
    /// It asked, and was not told, once at least.
    pub(super) is_unknown: bool,
    /// After how many bytes each read ended, and when its reactor had asked for the time.
    pub(super) reads: Vec<(u64, Duration)>,
    /// Reads stop once before the byte with this number.
    urgent: Option<u64>,
    /// Where a read last stopped at such a mark.
    pub(super) stopped_at: Option<u64>,
    /// The peer's FIN is behind what is queued.
    pub(super) fin: bool,
    /// In its send buffer, which holds so many.
    outgoing: VecDeque<u8>,
    send_buffer: usize,
    /// The window is shut, and opens when no more than so many bytes are queued: Linux announces no small
    /// ones.
    shut: Option<usize>,
    /// Its FIN is behind what is outgoing.
    held_fin: bool,
    /// An RST came; the queue stays readable, then a read fails once.
    reset: Option<i32>,
    pub(super) is_reset: bool,
    /// We said that we send nothing more.
    pub(super) finished: bool,
    pub(super) end: Option<Closed>,
    pub(super) watched: Option<(usize, Token, Watch)>,
    pub(super) is_ready: bool,
}

impl Socket {
    /// What its peer could send now.
    fn room(&self, window: usize) -> usize {
        let free = match self.shut {
            Some(_) => 0,
            None => window - self.queue.len(),
        };
        (free + self.send_buffer).saturating_sub(self.outgoing.len())
    }
}

/// How our descriptor was closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    /// Bytes that had not been read: the peer gets an RST.
    pub(super) left: u64,
}

#[derive(Debug)]
struct Listening {
    place: usize,
    reactor: usize,
    is_open: bool,
    backlog: VecDeque<usize>,
    token: Option<Token>,
    is_ready: bool,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Listener(usize),
    Socket(usize),
}

/// One reactor's epoll.
#[derive(Debug, Default)]
struct Epoll {
    ready: VecDeque<Source>,
    /// The next poll returns, whether there is something or not.
    is_roused: bool,
    /// Tokens of connections that were closed.
    dead: Vec<Token>,
}

/// What a peer's write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// So many bytes are on their way; 0: the window is full.
    Took(usize),
    /// The connection is reset.
    Gone,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Duration,
    /// How old the reactors were at the beginning.
    pub(super) start: Duration,
    /// Time that passed without anybody having waited for it.
    pub(super) unasked: Duration,
    /// When each reactor last asked for the time.
    asked: Vec<Duration>,
    /// When the wall clock was set, and by how much in all.
    pub(super) settings: Vec<(Duration, Duration)>,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) sockets: Vec<Socket>,
    listeners: Vec<Listening>,
    /// By number, the lowest free one first, as POSIX has it.
    descriptors: Vec<bool>,
    descriptor_limit: usize,
    epolls: Vec<Epoll>,
    window: usize,
    backlog: usize,
    /// The most descriptors there were at once, and the peers that were told that there is none for them.
    pub(super) most_descriptors: usize,
    pub(super) refused: u64,
    pub(super) holds_drains: bool,
    pub(super) listens_again: bool,
    /// How many peers there were when a drain was ordered, and until when these are accepted.
    pub(super) drain: Option<(usize, Duration)>,
    /// What happened, in words, if anybody wants to know.
    pub(super) trace: Option<Vec<String>>,
}

impl State {
    pub(super) fn new(random: Random, faults: Faults, reactors: usize) -> Self {
        Self {
            now: Duration::ZERO,
            start: Duration::ZERO,
            unasked: Duration::ZERO,
            asked: vec![Duration::ZERO; reactors],
            settings: vec![(Duration::ZERO, Duration::ZERO)],
            random,
            faults,
            sockets: Vec::new(),
            listeners: Vec::new(),
            descriptors: Vec::new(),
            descriptor_limit: usize::MAX,
            epolls: (0..reactors).map(|_| Epoll::default()).collect(),
            window: 64 << 10,
            backlog: 128,
            most_descriptors: 0,
            refused: 0,
            holds_drains: false,
            listens_again: false,
            drain: None,
            trace: None,
        }
    }

    pub(super) fn limit(&mut self, descriptors: usize, window: usize, backlog: usize) {
        self.descriptor_limit = descriptors;
        self.window = window;
        self.backlog = backlog;
    }

    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} {}", now.as_secs_f64(), what()));
        }
    }

    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.strikes(fault, &mut self.random);
        if strikes {
            self.say(|| format!("  fault: {fault:?}"));
        }
        strikes
    }

    // Descriptors.

    /// The lowest free one.
    fn take_descriptor(&mut self) -> usize {
        let free = self.descriptors.iter().position(|used| !used);
        let fd = free.unwrap_or(self.descriptors.len());
        if free.is_none() {
            self.descriptors.push(false);
        }
        self.descriptors[fd] = true;
        self.most_descriptors = self.most_descriptors.max(self.open_descriptors());
        fd
    }

    pub(super) fn open_descriptors(&self) -> usize {
        self.descriptors.iter().filter(|used| **used).count()
    }

    // Peers.

    /// A handshake with one of the sockets that listen at this place. `None`: all backlogs there are
    /// full, or nobody listens any more.
    pub(super) fn connect(&mut self, place: usize, peer: Peer) -> Option<usize> {
        let backlog = self.backlog;
        let free: Vec<usize> = (0..self.listeners.len())
            .filter(|at| {
                let listening = &self.listeners[*at];
                listening.place == place && listening.is_open && listening.backlog.len() < backlog
            })
            .collect();
        if free.is_empty() {
            return None;
        }
        let listener = self.random.one_of(&free);
        let key = self.sockets.len();
        let send_buffer = self.random.one_of(&[0, 16, 1000, 16 << 10]);
        self.sockets.push(Socket {
            peer,
            queue: VecDeque::new(),
            arrived: 0,
            accepted: false,
            turned_away: false,
            polled: 0,
            overlooked: 0,
            told: None,
            is_unknown: false,
            reads: Vec::new(),
            urgent: None,
            stopped_at: None,
            fin: false,
            outgoing: VecDeque::new(),
            send_buffer,
            shut: None,
            held_fin: false,
            reset: None,
            is_reset: false,
            finished: false,
            end: None,
            watched: None,
            is_ready: false,
        });
        self.listeners[listener].backlog.push_back(key);
        self.say(|| format!("peer {key} connects to listener {listener}"));
        self.edge(Source::Listener(listener));
        Some(key)
    }

    /// Is anybody still listening there?
    pub(super) fn is_listening(&self, place: usize) -> bool {
        self.has_open(place) || (self.listens_again && self.drain.is_none())
    }

    pub(super) fn send(&mut self, key: usize, bytes: &[u8]) -> Sent {
        let window = self.window;
        let socket = &mut self.sockets[key];
        if socket.end.is_some() || socket.is_reset {
            return Sent::Gone;
        }
        let taken = socket.room(window).min(bytes.len());
        socket.outgoing.extend(&bytes[..taken]);
        if taken < bytes.len() {
            self.faults.note(Fault::WindowFull);
        }
        self.say(|| format!("peer {key} sends {taken} bytes"));
        self.flow(key);
        Sent::Took(taken)
    }

    /// What is outgoing comes in, as far as the window lets it.
    fn flow(&mut self, key: usize) {
        let window = self.window;
        let socket = &mut self.sockets[key];
        if socket.shut.is_some_and(|at| socket.queue.len() > at) {
            return;
        }
        socket.shut = None;
        let n = (window - socket.queue.len()).min(socket.outgoing.len());
        socket.queue.extend(socket.outgoing.drain(..n));
        socket.arrived += n as u64;
        let arrived = socket.arrived;
        if n > 1 && self.strikes(Fault::UrgentMark) {
            let back = self.random.within(1..=n - 1) as u64;
            self.sockets[key].urgent = Some(arrived - back);
        }
        let socket = &mut self.sockets[key];
        if socket.queue.len() == window {
            // At an urgent mark reading stops, and goes on by a byte that comes.
            socket.shut = Some(match socket.urgent {
                Some(_) => window - 1,
                None => self.random.below(window),
            });
        }
        if n > 0 {
            self.say(|| format!("{n} bytes of peer {key} come, {arrived} in all"));
            self.edge(Source::Socket(key));
        }
        self.let_fin_in(key);
    }

    #[cfg(test)]
    pub(super) fn send_urgent(&mut self, key: usize, bytes: &[u8]) -> Sent {
        let sent = self.send(key, bytes);
        let socket = &mut self.sockets[key];
        socket.urgent = Some(socket.arrived - 1);
        sent
    }

    pub(super) fn can_send(&self, key: usize) -> bool {
        let socket = &self.sockets[key];
        socket.end.is_some() || socket.is_reset || socket.room(self.window) > 0
    }

    pub(super) fn finish_peer(&mut self, key: usize) {
        let socket = &mut self.sockets[key];
        if socket.end.is_some() || socket.fin || socket.is_reset {
            return;
        }
        socket.held_fin = true;
        self.say(|| format!("peer {key} finishes"));
        self.let_fin_in(key);
        if self.sockets[key].held_fin {
            self.faults.note(Fault::FinHeld);
        }
    }

    /// A FIN comes behind all bytes, and what probes a window that is shut carries none.
    fn let_fin_in(&mut self, key: usize) {
        let socket = &mut self.sockets[key];
        if socket.held_fin && socket.outgoing.is_empty() && socket.shut.is_none() {
            socket.held_fin = false;
            socket.fin = true;
            self.say(|| format!("the FIN of peer {key} comes"));
            self.edge(Source::Socket(key));
        }
    }

    pub(super) fn reset_peer(&mut self, key: usize) {
        let socket = &mut self.sockets[key];
        if socket.end.is_some() || socket.is_reset {
            return;
        }
        socket.is_reset = true;
        socket.outgoing.clear();
        socket.held_fin = false;
        let mut error = ECONNRESET;
        if self.strikes(Fault::FoundDead) {
            error = self.random.one_of(&[ETIMEDOUT, EHOSTUNREACH, ECONNABORTED]);
        }
        self.sockets[key].reset = Some(error);
        self.say(|| format!("peer {key} is gone: errno {error}"));
        self.edge(Source::Socket(key));
    }

    // What a reactor calls.

    /// The time, from which on the wall clock may be another one.
    pub(super) fn ask(&mut self, reactor: usize) {
        self.asked[reactor] = self.now;
        if self.strikes(Fault::WallClockSet) {
            // Behind what it was, as often as not.
            let by = Duration::from_secs(self.random.below(86_400) as u64);
            self.settings.push((self.now, by));
        }
    }

    pub(super) fn accept(&mut self, listener: usize) -> io::Result<(usize, usize, Peer)> {
        if self.strikes(Fault::AcceptInterrupted) {
            return errno(EINTR);
        }
        if self.strikes(Fault::AcceptExhausted) {
            let which = self.random.one_of(&[ENFILE, ENOBUFS, ENOMEM]);
            return errno(which);
        }
        if self.strikes(Fault::AcceptForbidden) {
            return errno(EPERM);
        }
        if self.open_descriptors() >= self.descriptor_limit {
            self.faults.note(Fault::NoDescriptor);
            return errno(EMFILE);
        }
        if self.listeners[listener].backlog.is_empty() {
            return errno(EAGAIN);
        }
        if self.strikes(Fault::AcceptAborted) {
            let key = self.listeners[listener].backlog.pop_front();
            let key = key.expect("somebody waits");
            self.sockets[key].end = Some(Closed { left: 1 });
            let which = [
                ECONNABORTED,
                EPROTO,
                ENETDOWN,
                ENETUNREACH,
                ETIMEDOUT,
                EHOSTUNREACH,
            ];
            return errno(self.random.one_of(&which));
        }
        let fd = self.take_descriptor();
        let key = self.listeners[listener].backlog.pop_front();
        let key = key.expect("somebody waits");
        self.sockets[key].accepted = true;
        self.say(|| format!("accepts peer {key} as descriptor {fd}"));
        Ok((key, fd, self.sockets[key].peer))
    }

    /// With the reserve descriptor, which the limit does not count.
    pub(super) fn refuse(&mut self, listener: usize) -> Refusal {
        if self.strikes(Fault::RefuseFails) {
            return Refusal::Failed;
        }
        let Some(key) = self.listeners[listener].backlog.pop_front() else {
            return Refusal::Nobody;
        };
        let unread = self.unread(key).unwrap_or(0);
        let socket = &mut self.sockets[key];
        let left = socket.queue.len() as u64;
        socket.end = Some(Closed { left });
        socket.turned_away = true;
        self.refused += 1;
        self.say(|| format!("refuses peer {key}"));
        Refusal::Told { unread }
    }

    pub(super) fn watch(
        &mut self,
        key: usize,
        reactor: usize,
        token: Token,
        watch: Watch,
    ) -> io::Result<()> {
        if self.strikes(Fault::WatchFails) {
            let which = self.random.one_of(&[ENOMEM, ENOSPC]);
            return errno(which);
        }
        assert!(
            self.sockets[key].end.is_none(),
            "a closed connection is watched"
        );
        self.sockets[key].watched = Some((reactor, token, watch));
        self.say(|| format!("watches peer {key} for {watch:?}"));
        // Whatever is there already raises an edge again.
        if self.look(Source::Socket(key)).is_some() {
            self.edge(Source::Socket(key));
        }
        Ok(())
    }

    pub(super) fn read(&mut self, key: usize, into: &mut [u8]) -> io::Result<usize> {
        let read = self.read_some(key, into);
        self.say(|| format!("reads peer {key}: {read:?}"));
        read
    }

    fn read_some(&mut self, key: usize, into: &mut [u8]) -> io::Result<usize> {
        assert!(!into.is_empty(), "a read of nothing");
        if self.strikes(Fault::ReadInterrupted) {
            return errno(EINTR);
        }
        if !self.sockets[key].queue.is_empty() && self.strikes(Fault::EarlyEdge) {
            self.edge(Source::Socket(key));
            return errno(EAGAIN);
        }
        let socket = &mut self.sockets[key];
        assert!(socket.end.is_none(), "a closed connection is read");
        if socket.queue.is_empty() {
            // tcp(7) and the kernel: a FIN that came before the RST is told first.
            if socket.fin {
                return Ok(0);
            }
            if let Some(error) = socket.reset.take() {
                return errno(error);
            }
            return if socket.is_reset {
                Ok(0)
            } else {
                errno(EAGAIN)
            };
        }
        let read_so_far = socket.arrived - socket.queue.len() as u64;
        let mut n = socket.queue.len().min(into.len());
        if let Some(mark) = socket.urgent {
            if mark <= read_so_far {
                socket.urgent = None;
            } else if mark - read_so_far < n as u64 {
                n = (mark - read_so_far) as usize;
                socket.stopped_at = Some(mark);
            }
        }
        if n > 1 && self.strikes(Fault::ShortRead) {
            n = self.random.within(1..=n - 1);
            // The rest is as good as not here yet: it comes with an edge.
            self.edge(Source::Socket(key));
        }
        let socket = &mut self.sockets[key];
        for (place, byte) in into.iter_mut().zip(socket.queue.drain(..n)) {
            *place = byte;
        }
        let so_far = read_so_far + n as u64;
        let reactor = socket.watched.map(|(reactor, ..)| reactor);
        let asked = reactor.map_or(self.now, |reactor| self.asked[reactor]);
        socket.reads.push((so_far, asked));
        self.flow(key);
        Ok(n)
    }

    pub(super) fn unread(&mut self, key: usize) -> Option<u64> {
        let is_known = !self.strikes(Fault::UnreadUnknown);
        let socket = &mut self.sockets[key];
        let unread = socket.queue.len() as u64;
        socket.is_unknown |= !is_known;
        socket.told = Some(match is_known {
            true => socket.arrived,
            false => socket.arrived - unread,
        });
        is_known.then_some(unread)
    }

    pub(super) fn finish(&mut self, key: usize) {
        let socket = &mut self.sockets[key];
        if !socket.finished {
            let read = socket.arrived - socket.queue.len() as u64;
            socket.overlooked = socket.polled.saturating_sub(read);
        }
        socket.finished |= !socket.is_reset;
        self.say(|| format!("sends FIN to peer {key}"));
        // Whatever it comes to, shutdown(2) wakes whoever polls.
        self.edge(Source::Socket(key));
    }

    pub(super) fn close(&mut self, key: usize, fd: usize) {
        assert!(self.descriptors[fd], "descriptor {fd} is closed twice");
        self.descriptors[fd] = false;
        let socket = &mut self.sockets[key];
        let left = socket.queue.len() as u64;
        socket.end = Some(Closed { left });
        if let Some((reactor, token, _)) = socket.watched.take() {
            self.epolls[reactor].dead.push(token);
        }
        self.say(|| format!("closes descriptor {fd} of peer {key}, {left} bytes unread"));
    }
}
