//! One listening socket, as fanin makes its own: the same receive buffer and backlog.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

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

/// Takes back that somebody set the receive buffer's size: the kernel grows it as it likes again.
///
/// fanin always sets it. What it sets is what `tcp_rmem` begins with, too, so that nothing else differs.
#[allow(unsafe_code, reason = "no crate of ours knows this option")]
pub(super) fn unlock_receive_buffer(listener: &TcpListener) {
    let unlocked = 0_i32;
    // SAFETY: the pointer and the size are those of a live `i32`, which the call only reads.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BUF_LOCK,
            (&raw const unlocked).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
