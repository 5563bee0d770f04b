//! Peers that send numbered lines, each in its way, and know what the kernel took of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::{Fanin, PATIENCE};

/// A peer, which may be cut at any time.
pub(crate) struct Peer {
    /// As the program names it; all Unix peers look alike.
    pub(crate) name: String,
    stream: Option<Stream>,
    tag: char,
    lines: usize,
    pub(crate) sent: Vec<u8>,
    /// It broke its connection itself.
    pub(crate) reset: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Peer {
    pub(crate) fn tcp(fanin: &Fanin, tag: char) -> Self {
        let Ok(stream) = TcpStream::connect(fanin.address()) else {
            return Self::new("nobody".to_owned(), None, tag);
        };
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = stream.local_addr().unwrap().to_string();
        Self::new(name, Some(Stream::Tcp(stream)), tag)
    }

    /// Of the second listener.
    pub(crate) fn unix(fanin: &Fanin, tag: char) -> Self {
        let path = fanin.addresses[1].strip_prefix("unix://").unwrap();
        let stream = UnixStream::connect(path).ok();
        Self::new("unix".to_owned(), stream.map(Stream::Unix), tag)
    }

    /// Where nobody listens any more, there is no stream.
    fn new(name: String, stream: Option<Stream>, tag: char) -> Self {
        Self {
            name,
            stream,
            tag,
            lines: 0,
            sent: Vec::new(),
            reset: false,
        }
    }

    fn next_line(&mut self) -> String {
        self.lines += 1;
        format!("{} {} and some more\n", self.tag, self.lines)
    }

    pub(crate) fn send_line(&mut self) {
        let line = self.next_line();
        self.send(line.as_bytes());
    }

    /// The next line in two parts, with time for a read in between.
    pub(crate) fn send_in_parts(&mut self, between: impl FnOnce()) {
        let line = self.next_line();
        self.send(&line.as_bytes()[..5]);
        between();
        self.send(&line.as_bytes()[5..]);
    }

    /// One that is cut sends no more, and is not surprised.
    fn send(&mut self, bytes: &[u8]) {
        let written = match &mut self.stream {
            Some(Stream::Tcp(stream)) => stream.write_all(bytes),
            Some(Stream::Unix(stream)) => stream.write_all(bytes),
            None => return,
        };
        match written {
            Ok(()) => self.sent.extend_from_slice(bytes),
            Err(_) => self.stream = None,
        }
    }

    /// Sends lines until no more are taken for a while, or it is cut.
    pub(crate) fn flood(&mut self) {
        let Some(Stream::Tcp(stream)) = &self.stream else {
            return;
        };
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let socket = socket2::SockRef::from(stream);
        socket.set_send_buffer_size(16 << 10).unwrap();
        let lines: String = (0..40_000).map(|_| self.next_line()).collect();
        while let Some(Stream::Tcp(stream)) = &mut self.stream {
            match stream.write(&lines.as_bytes()[self.sent.len()..]) {
                Ok(n) => self
                    .sent
                    .extend_from_slice(&lines.as_bytes()[self.sent.len()..][..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.stream = None,
            }
        }
        self.lines = self.sent.iter().filter(|&&byte| byte == b'\n').count();
    }

    /// Ends the line that a flood left, with room for it again.
    pub(crate) fn end_line(&mut self) {
        if let Some(Stream::Tcp(stream)) = &self.stream {
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        if !self.sent.ends_with(b"\n") {
            self.send(b" to its end\n");
        }
    }

    pub(crate) fn half_close(&self) {
        // Fails if it is cut.
        let _ = match &self.stream {
            Some(Stream::Tcp(stream)) => stream.shutdown(Shutdown::Write),
            _ => Ok(()),
        };
    }

    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    pub(crate) fn reset(&mut self) {
        self.reset = true;
        if let Some(Stream::Tcp(stream)) = &self.stream {
            let socket = socket2::SockRef::from(stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        self.stream = None;
    }

    /// Waits to be told that it is over.
    pub(crate) fn wait_for_end(&mut self) {
        let mut nothing = [0];
        // An error is an end, too.
        let read = match &mut self.stream {
            Some(Stream::Tcp(stream)) => stream.read(&mut nothing),
            _ => Ok(0),
        };
        let waited = matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock);
        assert!(!waited, "peer {} was never told of the end", self.tag);
    }

    /// What was delivered of it: which must be the beginning of what it sent.
    pub(crate) fn delivered(&self, output: &[u8]) -> Vec<u8> {
        output
            .split_inclusive(|&byte| byte == b'\n')
            .filter(|line| line.starts_with(&[self.tag as u8, b' ']))
            .flatten()
            .copied()
            .collect()
    }
}
