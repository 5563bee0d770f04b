//! What a reactor asks of the network, and nothing more: so that the same reactor runs over sockets
//! and over a simulation.
//!
//! In: calls of one reactor thread. Out: readiness, bytes, errors as `errno`.
//! Never here: a decision, a buffer, a connection's state.
//!
//! The trait is public so that a reactor can be named and simulated; it is not stable.

mod mio;
#[cfg(feature = "sim")]
pub(crate) mod sim;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::mio::{Mio, MioListener, MioStream};
pub(crate) use self::mio::{SocketOptions, bind_tcp, bind_unix, inherit};
use crate::peer::Peer;
use crate::ring::Wake;

/// What an event is about: a slot with its generation, or a listener. Chosen by the reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

/// One edge. Flags are hints: the truth is in the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub token: Token,
    /// Bytes, a connection or an error may be had.
    pub readable: bool,
    /// The peer has finished sending (FIN), or more than that.
    pub read_closed: bool,
    /// The connection is reset or broken.
    pub error: bool,
}

/// What a connection is observed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Bytes, FIN and RST.
    Read,
    /// FIN and RST alone: silent for bytes, on Linux by a mask of `EPOLLRDHUP`.
    HangUp,
}

/// A network with edges, one for each reactor.
pub trait Net {
    /// A listening socket.
    type Listener;
    /// A connection.
    type Stream;

    /// Waits at most `timeout` (`None`: for ever) and adds what happened to `events`. An interrupted
    /// wait is an empty one. Returns whether it was woken, by [`Net::waker`].
    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<bool>;

    /// Lets time pass, whatever happens meanwhile.
    fn nap(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Monotonic time since the network was made; the reactor asks two or three times a turn.
    fn now(&self) -> Duration;

    /// What clocks for people said then, which was just now.
    fn wall(&self, at: Duration) -> SystemTime;

    /// What ends a [`Net::poll`] from another thread.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Watches a listener.
    fn listen(&mut self, listener: &Self::Listener, token: Token) -> io::Result<()>;

    /// Opens the listener of this place again, that was closed: a socket for each of so many reactors, in
    /// their order. It does not wait.
    fn listen_again(&mut self, place: usize, reactors: usize) -> io::Result<Vec<Self::Listener>> {
        let _ = (place, reactors);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the next connection.
    fn accept(&mut self, listener: &Self::Listener) -> io::Result<(Self::Stream, Peer)>;

    /// Without a descriptor left: turns one peer away by the reserve descriptor.
    fn refuse(&mut self, listener: &Self::Listener) -> Refusal;

    /// Does somebody wait to be accepted?
    fn is_awaited(&self, listener: &Self::Listener) -> bool;

    /// Turns away a peer that was accepted, before it is a connection.
    fn turn_away(&mut self, stream: Self::Stream) {
        drop(stream);
    }

    /// Watches a connection for [`Watch::Read`].
    fn open(&mut self, stream: &Self::Stream, token: Token) -> io::Result<()>;

    /// Changes what a connection is watched for. What is there already raises an edge again.
    fn watch(&mut self, stream: &Self::Stream, token: Token, watch: Watch) -> io::Result<()>;

    /// Reads once.
    fn read(&mut self, stream: &Self::Stream, into: &mut [u8]) -> io::Result<usize>;

    /// Bytes that could be read now. `None`: the system does not say, and there may be some.
    fn unread(&self, stream: &Self::Stream) -> Option<u64>;

    /// Tells the peer that nothing will be sent (FIN), and goes on receiving.
    fn finish(&mut self, stream: &Self::Stream);

    /// Ends a connection.
    fn close(&mut self, stream: Self::Stream) {
        drop(stream);
    }
}

/// TCP keepalive: probes after `idle` of silence, every `interval`, given up after `probes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// Silence before the first probe; zero: no keepalive at all.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is dead.
    pub probes: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            probes: 4,
        }
    }
}

impl std::fmt::Debug for dyn Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wake")
    }
}

/// What came of [`Net::refuse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A peer has been told.
    Told {
        /// Bytes of it that nobody will read, as far as the system says.
        unread: u64,
    },
    /// Nobody was waiting: accept(2) looks for a descriptor first, and fails without one all the same.
    Nobody,
    /// The reserve is gone, or not enough.
    Failed,
}

/// What a failed accept means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Nobody is waiting.
    Empty,
    /// This one is lost, the next may be well.
    Again,
    /// No descriptor or memory is left: wait.
    Exhausted,
    /// The listener itself is broken.
    Broken,
}

impl AcceptError {
    /// accept(2): errors of the network that was accepted from are passed on by Linux and concern
    /// one connection only.
    pub(crate) fn of(error: &io::Error) -> Self {
        use rustix::io::Errno;
        let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else {
            return Self::Broken;
        };
        match errno {
            Errno::AGAIN => Self::Empty,
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Self::Exhausted,
            Errno::INTR
            | Errno::CONNABORTED
            | Errno::NETDOWN
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT => Self::Again,
            // Also what a security module forbids: it takes nobody from the backlog, and to ask again at
            // once would be for ever.
            _ => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_want_of_descriptors_or_memory_makes_a_listener_wait() {
        let of = |errno| AcceptError::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(24), AcceptError::Exhausted, "EMFILE");
        assert_eq!(of(23), AcceptError::Exhausted, "ENFILE");
        assert_eq!(of(12), AcceptError::Exhausted, "ENOMEM");
        assert_eq!(of(105), AcceptError::Exhausted, "ENOBUFS");
        assert_eq!(of(11), AcceptError::Empty, "EAGAIN");
        assert_eq!(of(103), AcceptError::Again, "ECONNABORTED");
        assert_eq!(of(4), AcceptError::Again, "EINTR");
        assert_eq!(of(9), AcceptError::Broken, "EBADF");
        assert_eq!(of(1), AcceptError::Broken, "EPERM");
    }
}
