//! The real network: mio's poll, and the socket calls by rustix.
//!
//! In: sockets. Out: edges and bytes. Never here: a wait outside `poll`.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::net::{RecvFlags, Shutdown, SocketAddrAny, SocketFlags};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::{Event, Keepalive, Net, Refusal, Token, Watch};
use crate::peer::Peer;
use crate::ring::Wake;
use crate::status::BoundAddr;

/// Edges taken by one poll: the kernel keeps the rest in order, so this is also how long one event
/// can hold up another.
const EVENTS: usize = 1024;

const WAKER: mio::Token = mio::Token(usize::MAX);

/// The real network under a reactor.
#[derive(Debug)]
pub struct Mio {
    poll: Poll,
    events: Events,
    waker: Arc<MioWaker>,
    start: Instant,
    /// Given up for a moment to accept and close a peer when no other descriptor is left.
    reserve: Option<File>,
    /// Where it listened, for when it is to listen there again.
    places: Vec<BoundAddr>,
    options: Option<SocketOptions>,
}

/// A listening socket.
#[derive(Debug)]
pub struct MioListener {
    socket: OwnedFd,
    unix: bool,
}

/// A connection.
#[derive(Debug)]
pub struct MioStream(OwnedFd);

// What a test asks of a descriptor that the reactor never does.
#[cfg(test)]
impl AsFd for MioListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
impl AsFd for MioStream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[derive(Debug)]
struct MioWaker(mio::Waker);

impl Wake for MioWaker {
    fn wake(&self) {
        // An eventfd's write fails only when its counter is at its end: then it is awake already.
        let _ = self.0.wake();
    }
}

impl Mio {
    /// A poll, its waker and the reserve descriptor.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(MioWaker(mio::Waker::new(poll.registry(), WAKER)?));
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            waker,
            start: Instant::now(),
            reserve: open_reserve(),
            places: Vec::new(),
            options: None,
        })
    }

    /// It may be asked to listen again at these addresses, in the order of the listeners.
    pub(crate) fn may_listen_again(&mut self, places: &[BoundAddr], options: &SocketOptions) {
        self.places = places.to_vec();
        self.options = Some(*options);
    }
}

fn accept_raw(listener: &MioListener) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::acceptfrom_with(&listener.socket, flags)?)
}

fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

impl Net for Mio {
    type Listener = MioListener;
    type Stream = MioStream;

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut woken = false;
        for event in &self.events {
            if event.token() == WAKER {
                woken = true;
                continue;
            }
            let silent = !event.is_readable() && !event.is_error() && !event.is_read_closed();
            events.push(Event {
                token: Token(event.token().0 as u64),
                readable: event.is_readable(),
                // mio shows EPOLLRDHUP only beside EPOLLIN: alone, every flag is false.
                read_closed: event.is_read_closed() || silent,
                error: event.is_error(),
            });
        }
        Ok(woken)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self, at: Duration) -> SystemTime {
        SystemTime::now() - self.now().saturating_sub(at)
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn listen(&mut self, listener: &MioListener, token: Token) -> io::Result<()> {
        let fd = listener.socket.as_raw_fd();
        let token = mio::Token(token.0 as usize);
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    fn listen_again(&mut self, place: usize, reactors: usize) -> io::Result<Vec<MioListener>> {
        let options = self.options.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let opened = match self.places.get(place) {
            Some(BoundAddr::Tcp(address)) => bind_tcp(*address, reactors, options),
            Some(BoundAddr::Unix(Some(path))) => bind_unix(path, reactors, options),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        opened.map(|(listeners, _)| listeners)
    }

    fn accept(&mut self, listener: &MioListener) -> io::Result<(MioStream, Peer)> {
        let (socket, address) = accept_raw(listener)?;
        if self.reserve.is_none() {
            // Lost to another thread, or to a limit that was lowered; there are descriptors again.
            self.reserve = open_reserve();
        }
        let peer = if listener.unix {
            match rustix::net::sockopt::socket_peercred(&socket) {
                Ok(cred) => Peer::Unix {
                    pid: cred.pid.as_raw_nonzero().get().unsigned_abs(),
                    uid: cred.uid.as_raw(),
                },
                Err(_) => Peer::Unix {
                    pid: 0,
                    uid: u32::MAX,
                },
            }
        } else {
            let address = address.and_then(|a| SocketAddr::try_from(a).ok());
            // accept(2) always tells an IP peer's address; without one the peer is unknown, not absent.
            let address = address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            Peer::Tcp(unmap(address))
        };
        Ok((MioStream(socket), peer))
    }

    fn refuse(&mut self, listener: &MioListener) -> Refusal {
        drop(self.reserve.take());
        let refusal = match accept_raw(listener) {
            Ok((socket, _)) => Refusal::Told {
                unread: rustix::io::ioctl_fionread(&socket).unwrap_or(0),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Refusal::Nobody,
            Err(_) => Refusal::Failed,
        };
        self.reserve = open_reserve();
        refusal
    }

    fn is_awaited(&self, listener: &MioListener) -> bool {
        let mut fds = [PollFd::new(&listener.socket, PollFlags::IN)];
        // Where it cannot be said, accept(2) will say it.
        rustix::event::poll(&mut fds, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
    }

    fn open(&mut self, stream: &MioStream, token: Token) -> io::Result<()> {
        let fd = stream.0.as_raw_fd();
        let token = mio::Token(token.0 as usize);
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    fn watch(&mut self, stream: &MioStream, token: Token, watch: Watch) -> io::Result<()> {
        // On mio's own epoll descriptor, because its `Interest` cannot say EPOLLRDHUP alone.
        let flags = match watch {
            Watch::Read => epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET,
            Watch::HangUp => epoll::EventFlags::RDHUP | epoll::EventFlags::ET,
        };
        let data = epoll::EventData::new_u64(token.0);
        Ok(epoll::modify(
            self.poll.registry().as_fd(),
            &stream.0,
            data,
            flags,
        )?)
    }

    fn read(&mut self, stream: &MioStream, into: &mut [u8]) -> io::Result<usize> {
        let (n, _) = rustix::net::recv(&stream.0, into, RecvFlags::empty())?;
        Ok(n)
    }

    fn unread(&self, stream: &MioStream) -> Option<u64> {
        rustix::io::ioctl_fionread(&stream.0).ok()
    }

    fn finish(&mut self, stream: &MioStream) {
        // It fails only for a connection that is gone already, which the next read tells better.
        let _ = rustix::net::shutdown(&stream.0, Shutdown::Write);
    }
}

/// An IPv4 peer of a dual-stack socket, as IPv4.
fn unmap(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

/// What is set on a listener before it listens; Linux hands all of it down to accepted sockets, so
/// that accepting costs no further call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    /// 0: the kernel's.
    pub(crate) receive_buffer: usize,
    pub(crate) backlog: u32,
    pub(crate) keepalive: Keepalive,
    pub(crate) user_timeout: Option<Duration>,
}

impl SocketOptions {
    fn apply_receive_buffer(&self, socket: &Socket) -> io::Result<()> {
        // Before listen: the window that a connection announces is settled by its handshake.
        socket.set_recv_buffer_size(self.receive_buffer)?;
        // Linux doubles what it grants, and cuts silently what is more than net.core.rmem_max.
        let granted = socket.recv_buffer_size()? / 2;
        if granted < self.receive_buffer {
            let reason = format!(
                "a receive buffer of {} bytes is cut to {granted} by net.core.rmem_max",
                self.receive_buffer
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        Ok(())
    }

    fn apply(&self, socket: &Socket, unix: bool) -> io::Result<()> {
        if self.receive_buffer != 0 {
            self.apply_receive_buffer(socket)?;
        }
        if unix {
            return Ok(());
        }
        // Else Linux takes the urgent byte out of the stream, and `FIONREAD` is blind for all behind it
        // (RFC 6093 asks for this option too).
        socket.set_out_of_band_inline(true)?;
        if !self.keepalive.idle.is_zero() {
            let keepalive = TcpKeepalive::new()
                .with_time(self.keepalive.idle)
                .with_interval(self.keepalive.interval)
                .with_retries(self.keepalive.probes);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        socket.set_tcp_user_timeout(self.user_timeout)
    }

    fn listen(&self, socket: &Socket) -> io::Result<()> {
        socket.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX))
    }
}

/// One listening socket for each of `reactors`, all on one port.
pub(crate) fn bind_tcp(
    address: SocketAddr,
    reactors: usize,
    options: &SocketOptions,
) -> io::Result<(Vec<MioListener>, BoundAddr)> {
    let mut listeners = Vec::with_capacity(reactors);
    let mut bound = address;
    for _ in 0..reactors {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            None,
        )?;
        socket.set_cloexec(true)?;
        socket.set_reuse_address(true)?;
        // The first binds without it: a port that another program shares out among its own is taken.
        socket.set_reuse_port(!listeners.is_empty())?;
        options.apply(&socket, false)?;
        socket.bind(&SockAddr::from(bound))?;
        socket.set_reuse_port(reactors > 1)?;
        bound = socket.local_addr()?.as_socket().unwrap_or(bound);
        options.listen(&socket)?;
        listeners.push(MioListener {
            socket: socket.into(),
            unix: false,
        });
    }
    Ok((listeners, BoundAddr::Tcp(bound)))
}

/// One listening socket at `path`, duplicated for each of `reactors`.
pub(crate) fn bind_unix(
    path: &Path,
    reactors: usize,
    options: &SocketOptions,
) -> io::Result<(Vec<MioListener>, BoundAddr)> {
    remove_abandoned(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.set_cloexec(true)?;
    options.apply(&socket, true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    options.listen(&socket)?;
    Ok((
        duplicate(socket.into(), true, reactors)?,
        BoundAddr::Unix(Some(path.to_owned())),
    ))
}

/// Removes a socket file that nobody listens on any more; anything else stays, and bind will say so.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            match probe.connect(&SockAddr::unix(path)?) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)
                }
                _ => Ok(()),
            }
        }
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "there is a file that is no socket",
        )),
        Err(_) => Ok(()),
    }
}

/// A listening socket that somebody else opened, duplicated for each of `reactors`.
pub(crate) fn inherit(
    fd: &OwnedFd,
    reactors: usize,
    options: &SocketOptions,
) -> io::Result<(Vec<MioListener>, BoundAddr)> {
    let socket = Socket::from(fd.try_clone()?);
    if !socket.is_listener()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a listening socket",
        ));
    }
    socket.set_nonblocking(true)?;
    let local = socket.local_addr()?;
    let bound = match local.as_socket() {
        Some(address) => BoundAddr::Tcp(address),
        None => BoundAddr::Unix(local.as_pathname().map(PathBuf::from)),
    };
    let unix = matches!(bound, BoundAddr::Unix(_));
    // Late for who waits in the backlog already, in time for everybody else.
    options.apply(&socket, unix)?;
    Ok((duplicate(socket.into(), unix, reactors)?, bound))
}

fn duplicate(socket: OwnedFd, unix: bool, reactors: usize) -> io::Result<Vec<MioListener>> {
    let mut listeners = Vec::with_capacity(reactors);
    for _ in 1..reactors {
        listeners.push(MioListener {
            socket: socket.try_clone()?,
            unix,
        });
    }
    listeners.push(MioListener { socket, unix });
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn an_accepted_connection_has_what_was_set_on_its_listener() {
        let options = SocketOptions {
            receive_buffer: 32 << 10,
            backlog: 7,
            keepalive: Keepalive {
                idle: Duration::from_secs(33),
                interval: Duration::from_secs(11),
                probes: 3,
            },
            user_timeout: Some(Duration::from_secs(44)),
        };
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let address = address.parse().unwrap();
            let (listeners, bound) = bind_tcp(address, 1, &options).unwrap();
            let BoundAddr::Tcp(bound) = bound else {
                panic!("{bound}")
            };
            let peer = std::net::TcpStream::connect(bound).unwrap();
            let (stream, from) = Mio::new().unwrap().accept(&listeners[0]).unwrap();
            assert_eq!(from, Peer::Tcp(peer.local_addr().unwrap()));
            let socket = SockRef::from(&stream.0);
            // The kernel doubles it.
            assert_eq!(socket.recv_buffer_size().unwrap(), 64 << 10);
            assert!(socket.out_of_band_inline().unwrap());
            assert!(socket.keepalive().unwrap());
            let seconds = |time: Duration| time.as_secs();
            assert_eq!(socket.tcp_keepalive_time().map(seconds).unwrap(), 33);
            assert_eq!(socket.tcp_keepalive_interval().map(seconds).unwrap(), 11);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            let timeout = socket.tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(Duration::from_secs(44)));
        }
    }

    #[test]
    fn a_receive_buffer_of_the_kernels_is_left_alone() {
        let options = SocketOptions {
            receive_buffer: 0,
            backlog: 7,
            keepalive: Keepalive::default(),
            user_timeout: None,
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let (listeners, _) = bind_tcp(address, 1, &options).unwrap();
        let untouched = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let size = |socket: SockRef<'_>| socket.recv_buffer_size().unwrap();
        let ours = SockRef::from(&listeners[0].socket);
        assert_eq!(size(ours), size(SockRef::from(&untouched)));
    }
}
