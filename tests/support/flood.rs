//! A sender that does not stop before the program makes it: numbered lines of 100 bytes.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

use super::{Fanin, PATIENCE, connections, wait_for};

pub(crate) const LINE: usize = 100;

/// A program with a small ring, so that little makes it full.
pub(crate) const SMALL: [&str; 4] = ["--max-message", "1KiB", "--ring", "64KiB"];

/// So many lines, each with its number: a loss, a double and a change of order all show.
pub(crate) fn numbered(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * LINE);
    for number in 0..count {
        writeln!(bytes, "{number:0>width$}", width = LINE - 1).unwrap();
    }
    bytes
}

/// The part of `bytes` that is whole lines.
pub(crate) fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte == b'\n');
    &bytes[..end.map_or(0, |at| at + 1)]
}

pub(crate) struct Flood {
    stream: TcpStream,
    bytes: Vec<u8>,
    sent: usize,
}

impl Flood {
    /// Sends until the program has paused it, with bytes unread.
    #[track_caller]
    pub(crate) fn until_paused(fanin: &Fanin) -> Self {
        let stream = fanin.connect();
        socket2::SockRef::from(&stream)
            .set_send_buffer_size(16 << 10)
            .unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut flood = Self {
            stream,
            bytes: numbered(40_000),
            sent: 0,
        };
        wait_for("a paused sender", PATIENCE, || {
            flood.push();
            let row = flood.live(&fanin.report_now())?;
            (row["state"] == "paused" && row["unread"] != 0).then_some(())
        });
        flood
    }

    fn push(&mut self) {
        loop {
            match self.stream.write(&self.bytes[self.sent..]) {
                Ok(0) => panic!("nobody ever stopped this sender"),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Its row in a report's list of connections.
    pub(crate) fn live(&self, report: &Value) -> Option<Value> {
        let ours = self.stream.local_addr().unwrap().to_string();
        connections(report).into_iter().find(|c| c["peer"] == ours)
    }

    pub(crate) fn sent(&self) -> &[u8] {
        &self.bytes[..self.sent]
    }

    /// FIN, which the program sees though it does not read.
    pub(crate) fn say_goodbye(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a thousand lines more, as fast as they are taken, and leaves. All that it has sent.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let end = (self.sent / LINE + 1_000) * LINE;
        self.stream.set_nonblocking(false).unwrap();
        self.stream.write_all(&self.bytes[self.sent..end]).unwrap();
        self.bytes.truncate(end);
        self.bytes
    }
}
