//! Linux as a ground for scenes: TCP over the loopback, and Unix sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use socket2::{SockAddr, Socket, Type};

use super::{Act, Acted, Ground, Place};
use crate::net::{Keepalive, Mio, MioListener, MioStream, SocketOptions, bind_tcp, bind_unix};
use crate::status::BoundAddr;

/// Longer than anything takes here, so that a test that fails also ends.
const PATIENCE: Duration = Duration::from_secs(10);

const OPTIONS: SocketOptions = SocketOptions {
    receive_buffer: 16 << 10,
    backlog: 128,
    keepalive: Keepalive {
        idle: Duration::ZERO,
        interval: Duration::ZERO,
        probes: 0,
    },
    user_timeout: None,
};

/// Sockets of one kind.
pub(super) struct Real<const UNIX: bool> {
    address: SockAddr,
    /// Of a Unix socket.
    path: Option<PathBuf>,
}

/// TCP over the loopback.
pub(super) type Tcp = Real<false>;
/// Unix sockets.
pub(super) type Unix = Real<true>;

impl<const UNIX: bool> Drop for Real<UNIX> {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // It is in the way of nobody if it stays.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl<const UNIX: bool> Ground for Real<UNIX> {
    const NAME: &'static str = if UNIX { "Unix sockets" } else { "TCP" };
    type Net = Mio;
    /// `None`: closed.
    type Peer = Option<Socket>;

    fn new() -> (Self, Mio, MioListener) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanin-scene-{}-{number}", std::process::id());
        let path = UNIX.then(|| std::env::temp_dir().join(name));
        let bound = match &path {
            Some(path) => bind_unix(path, 1, &OPTIONS),
            None => bind_tcp(([127, 0, 0, 1], 0).into(), 1, &OPTIONS),
        };
        let (mut listeners, bound) = bound.expect("bound");
        let address = match bound {
            BoundAddr::Tcp(address) => address.into(),
            BoundAddr::Unix(path) => SockAddr::unix(path.expect("a name")).expect("a path"),
        };
        let net = Mio::new().expect("a poll");
        (Self { address, path }, net, listeners.remove(0))
    }

    fn connect(&self) -> Option<Socket> {
        let socket = Socket::new(self.address.domain(), Type::STREAM, None).expect("a socket");
        // Little should wait for a window that opens slowly.
        socket.set_send_buffer_size(8 << 10).expect("set");
        socket.connect(&self.address).expect("connected");
        socket.set_nonblocking(true).expect("set");
        Some(socket)
    }

    fn act(&self, peer: &mut Option<Socket>, act: Act<'_>) -> Acted {
        let Some(socket) = peer else {
            return Acted::Gone;
        };
        let sent = match act {
            Act::Send(bytes) => socket.write(bytes),
            Act::Urge(bytes) => socket.send_out_of_band(bytes),
            Act::Finish => socket.shutdown(Shutdown::Write).map(|()| 0),
            Act::Reset => {
                socket.set_linger(Some(Duration::ZERO)).expect("set");
                *peer = None;
                Ok(0)
            }
        };
        match sent {
            Ok(n) => Acted::Took(n),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Acted::Took(0),
            Err(_) => Acted::Gone,
        }
    }

    fn sees(&self, peer: &Option<Socket>) -> &'static str {
        let mut socket = peer.as_ref().expect("its socket is open");
        match socket.read(&mut [0; 1]) {
            Ok(0) => "FIN",
            Ok(_) => "bytes",
            Err(error) if error.kind() == ErrorKind::WouldBlock => "nothing",
            Err(error) if error.kind() == ErrorKind::ConnectionReset => "RST",
            Err(error) => panic!("{error}"),
        }
    }

    fn fill_out(&self, stream: &MioStream) {
        while send(stream, &[b'x'; 4096], SendFlags::empty()).is_ok() {}
    }

    fn has_come(&self, at: Place<'_, Self>) -> bool {
        match at {
            Place::Listener(listener) => is_there(listener, PollFlags::IN),
            Place::Fin(stream) => is_there(stream, PollFlags::RDHUP),
            Place::Reset(stream) => is_there(stream, PollFlags::HUP),
        }
    }

    fn until(&self, mut done: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    fn await_room(&self, peer: &Option<Socket>) {
        let socket = peer.as_ref().expect("its socket is open");
        // An acknowledgement may be 200 ms late, and so may the next probe of a window.
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: 250_000_000,
        };
        comes(socket, PollFlags::OUT, &patience);
    }

    fn pass(&self) {}
}

fn comes(fd: impl AsFd, flags: PollFlags, within: &Timespec) -> bool {
    let mut fds = [PollFd::new(&fd, flags)];
    poll(&mut fds, Some(within)).expect("a poll");
    fds[0].revents().intersects(flags)
}

fn is_there(fd: impl AsFd, flags: PollFlags) -> bool {
    comes(fd, flags, &Timespec::default())
}
