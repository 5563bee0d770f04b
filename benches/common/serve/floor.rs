//! The floor: one thread, recv into one buffer, every end of a message found, nothing handed over.

use std::net::TcpListener;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::polling::{self, Conn, Reader};
use crate::common::work::Work;

/// Larger than what a connection's receive buffer holds.
const BUFFER: usize = 256 << 10;

struct Floor {
    buffer: Vec<u8>,
    work: Work,
}

impl Reader for Floor {
    fn read(&mut self, _: usize, conn: &mut Conn) -> Result<(usize, usize), Errno> {
        let (n, _) = rustix::net::recv(&conn.stream, &mut self.buffer[..], RecvFlags::empty())?;
        self.work.chunk(&mut conn.place, &self.buffer[..n]);
        Ok((n, BUFFER))
    }

    fn end_turn(&mut self) {
        self.work.publish();
    }
}

pub(super) fn run(listener: TcpListener, work: Work, edges: bool) {
    let buffer = vec![0; BUFFER];
    polling::run(listener, edges, Floor { buffer, work });
}
