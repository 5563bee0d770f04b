//! One listening socket, as fanin makes its own: the same receive buffer and backlog.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::common::{BACKLOG, RECEIVE_BUFFER};

/// On a free port, which is told on stderr.
pub(super) fn listener(autotune: bool) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if !autotune {
        socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a size");
    }
    let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&address.into()).expect("a port");
    socket.listen(BACKLOG).expect("a backlog");
    socket.set_nonblocking(true).expect("a flag");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("bound");
    eprintln!("listening on tcp://{address}");
    listener
}
