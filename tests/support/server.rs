//! The other end of a `tcp://` sink.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use socket2::{Domain, Socket, Type};

use super::tap::Tap;
use super::{PATIENCE, wait_for};

pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    pub(crate) fn new() -> Self {
        Absent::new(None).appear()
    }

    /// What it accepts has small buffers: who writes to it without being read soon has to wait.
    pub(crate) fn with_small_buffers() -> Self {
        Absent::new(Some(16 << 10)).appear()
    }

    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.listener.local_addr().unwrap())
    }

    /// The next connection; reads from it wait, though not for ever.
    #[track_caller]
    pub(crate) fn accept(&self) -> TcpStream {
        let stream = wait_for("a connection", PATIENCE, || self.try_accept());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn try_accept(&self) -> Option<TcpStream> {
        match self.listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Takes whoever connects, and reads them.
    pub(crate) fn taps(self) -> Taps {
        let (taps, ended) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (theirs, ends) = (Arc::clone(&taps), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            // Looked at before the backlog, so that whoever came before the end is taken.
            let ask = || (ends.load(Ordering::Acquire), self.try_accept());
            let mut next = || match ask() {
                (_, Some(stream)) => Some(Some(stream)),
                (ended, None) => ended.then_some(None),
            };
            while let Some(stream) = wait_for("the next one", 10 * PATIENCE, &mut next) {
                stream.set_nonblocking(false).unwrap();
                theirs.lock().unwrap().push(Tap::on(stream));
            }
        });
        Taps {
            taps,
            ended,
            thread,
        }
    }

    /// Nobody else has connected.
    #[track_caller]
    pub(crate) fn has_no_more(&self) {
        assert!(self.try_accept().is_none(), "one connection too many");
    }
}

/// What came by all connections, one after the other.
pub(crate) struct Taps {
    taps: Arc<Mutex<Vec<Tap>>>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Taps {
    pub(crate) fn so_far(&self) -> Vec<u8> {
        let taps = self.taps.lock().unwrap();
        taps.iter().flat_map(Tap::so_far).collect()
    }

    /// Everything, when the other side has ended.
    #[track_caller]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.ended.store(true, Ordering::Release);
        self.thread.join().unwrap();
        let taps = self.taps.lock().unwrap();
        taps.iter().flat_map(Tap::to_the_end).collect()
    }
}

/// A port that is taken, so that nobody else gets it, and refuses connections.
pub(crate) struct Absent(Socket);

impl Absent {
    pub(crate) fn new(buffer: Option<usize>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&address.into()).unwrap();
        Self(socket)
    }

    pub(crate) fn url(&self) -> String {
        let address = self.0.local_addr().unwrap().as_socket().unwrap();
        format!("tcp://{address}")
    }

    pub(crate) fn appear(self) -> Server {
        self.0.listen(16).unwrap();
        self.0.set_nonblocking(true).unwrap();
        Server {
            listener: self.0.into(),
        }
    }
}
