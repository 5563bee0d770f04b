//! The other end of a `tcp://` sink.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

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

    /// Nobody else has connected.
    #[track_caller]
    pub(crate) fn has_no_more(&self) {
        assert!(self.try_accept().is_none(), "one connection too many");
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
