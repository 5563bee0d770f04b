//! Traffic that can be checked to the byte, and senders that know how much of it the kernel took.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Fanin, PATIENCE, nothing_for, total, wait_for};

/// Without progress for so long, a sender is held. Longer than TCP's timers at their shortest.
const HELD: Duration = Duration::from_millis(600);

/// Line `seq` of a sender, LF included: whoever knows the two numbers knows every byte. Most are short,
/// one in 16 is longer than a read.
pub(crate) fn line(sender: usize, seq: u64) -> Vec<u8> {
    let mix = (((sender as u64) << 32) ^ seq).wrapping_add(1);
    let mix = mix.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mix = mix ^ (mix >> 29);
    let most = if mix.is_multiple_of(16) { 20_000 } else { 400 };
    let mut line = format!("{sender} {seq} ").into_bytes();
    let padding = ((mix >> 8) % most) as usize;
    line.resize(line.len() + padding, b'a' + ((mix >> 40) % 26) as u8);
    line.push(b'\n');
    line
}

/// How many lines of each sender were delivered. Panics if one is changed, lost in between, doubled or
/// out of order.
#[track_caller]
pub(crate) fn count_lines(output: &[u8]) -> BTreeMap<usize, u64> {
    let mut counts = BTreeMap::new();
    for text in output.split_inclusive(|byte| *byte == b'\n') {
        let start = String::from_utf8_lossy(&text[..text.len().min(40)]);
        let sender = start.split(' ').next().and_then(|word| word.parse().ok());
        let sender: usize = sender.unwrap_or_else(|| panic!("nobody's line: {start:?}"));
        let next = counts.entry(sender).or_default();
        let is_next = text == line(sender, *next);
        assert!(
            is_next,
            "not line {next} of {sender}, which it ought to be: {start:?} ({} bytes)",
            text.len()
        );
        *next += 1;
    }
    counts
}

/// A connection that sends the lines of one sender.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) stream: TcpStream,
    number: usize,
    lines: u64,
    /// Of the line that is under way.
    rest: Vec<u8>,
    /// What the kernel took.
    pub(crate) bytes: u64,
}

impl Sender {
    pub(crate) fn new(fanin: &Fanin, number: usize) -> Self {
        let stream = fanin.connect();
        // Some are held for ten seconds on purpose.
        stream.set_write_timeout(Some(2 * PATIENCE)).unwrap();
        // The kernel doubles it and, left alone, would raise it to megabytes.
        socket2::SockRef::from(&stream)
            .set_send_buffer_size(32 << 10)
            .unwrap();
        Self {
            stream,
            number,
            lines: 0,
            rest: Vec::new(),
            bytes: 0,
        }
    }

    fn begin_line(&mut self) {
        if self.rest.is_empty() {
            self.rest = line(self.number, self.lines);
            self.lines += 1;
        }
    }

    /// Sends whole lines, however long that takes.
    pub(crate) fn send(&mut self, lines: u64) {
        self.stream.set_nonblocking(false).unwrap();
        for _ in 0..lines {
            self.try_send().unwrap();
        }
    }

    /// Sends a whole line, or as much of it as the other side lets it.
    pub(crate) fn try_send(&mut self) -> std::io::Result<()> {
        self.begin_line();
        while !self.rest.is_empty() {
            let n = self.stream.write(&self.rest)?;
            self.bytes += n as u64;
            self.rest.drain(..n);
        }
        Ok(())
    }

    /// Sends the next bytes of a line, which is longer.
    pub(crate) fn send_part(&mut self, bytes: usize) {
        self.begin_line();
        assert!(bytes < self.rest.len());
        self.stream.write_all(&self.rest[..bytes]).unwrap();
        self.rest.drain(..bytes);
        self.bytes += bytes as u64;
    }

    /// Sends until the kernel takes no more; how much it took.
    pub(crate) fn press(&mut self) -> u64 {
        self.stream.set_nonblocking(true).unwrap();
        let before = self.bytes;
        loop {
            self.begin_line();
            match self.stream.write(&self.rest) {
                Ok(n) => {
                    self.rest.drain(..n);
                    self.bytes += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.bytes - before;
                }
                Err(error) => panic!("sender {}: {error}", self.number),
            }
        }
    }

    /// Ends the line that is under way, and the stream.
    pub(crate) fn finish(&mut self) {
        let under_way = u64::from(!self.rest.is_empty());
        self.send(under_way);
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Its number, and its lines; the last may be under way.
    pub(crate) fn sent(&self) -> (usize, u64) {
        (self.number, self.lines)
    }

    pub(crate) fn peer(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }
}

pub(crate) fn senders(fanin: &Fanin, numbers: std::ops::Range<usize>) -> Vec<Sender> {
    numbers.map(|number| Sender::new(fanin, number)).collect()
}

pub(crate) fn bytes(senders: &[Sender]) -> u64 {
    senders.iter().map(|sender| sender.bytes).sum()
}

/// What of theirs waits in the kernel to be read, by the kernel's own word.
pub(crate) fn waiting(senders: &[Sender]) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    let waits = |sender: &Sender| {
        // The row of the other end: its local address is the sender's remote one.
        let local = port(sender.stream.peer_addr().unwrap());
        let remote = port(sender.stream.local_addr().unwrap());
        let row = sockets
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>())
            .find(|row| row[1].ends_with(&local) && row[2].ends_with(&remote))
            .unwrap_or_else(|| panic!("no row from {local} to {remote}:\n{sockets}"));
        let (_, received) = row[4].split_once(':').unwrap();
        u64::from_str_radix(received, 16).unwrap()
    };
    senders.iter().map(waits).sum()
}

/// Finishes them, which takes a sink that goes on; then each is read to its end.
#[track_caller]
pub(crate) fn finish(fanin: &Fanin, senders: &mut [Sender]) {
    senders.iter_mut().for_each(Sender::finish);
    wait_for("all have ended", PATIENCE, || {
        (total(&fanin.report_now(), "/connections/open") == 0).then_some(())
    });
}

/// Everything that was received was delivered, and the kernel kept nothing.
#[track_caller]
pub(crate) fn assert_nothing_lost(report: &Value, bytes: u64) {
    for book in ["received", "published", "delivered"] {
        assert_eq!(report["bytes"][book], bytes, "{book}: {report:#}");
    }
    assert_eq!(total(report, "/bytes/discarded"), 0, "{report:#}");
    assert_eq!(report["unread"], 0, "{report:#}");
}

/// Lines in what was delivered are these, of these senders, and no others.
#[track_caller]
pub(crate) fn assert_delivered(output: &[u8], sent: impl IntoIterator<Item = (usize, u64)>) {
    let sent: BTreeMap<_, _> = sent.into_iter().collect();
    assert_eq!(count_lines(output), sent, "lines by sender");
}

/// Presses until TCP takes no more from any of them.
#[track_caller]
pub(crate) fn hold(senders: &mut [Sender]) {
    let mut last = Instant::now();
    wait_for("TCP holds the senders", PATIENCE, || {
        if senders.iter_mut().map(Sender::press).sum::<u64>() > 0 {
            last = Instant::now();
        }
        (last.elapsed() >= HELD).then_some(())
    });
}

/// Reads to the end in a thread.
pub(crate) fn collect(from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    collect_slowly(from, |_| Duration::ZERO)
}

/// Reads to the end, with a pause after each read of at most 64 KiB.
pub(crate) fn collect_slowly(
    mut from: impl Read + Send + 'static,
    pause: impl Fn(usize) -> Duration + Send + 'static,
) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut piece = vec![0; 64 << 10];
        for number in 0.. {
            match from.read(&mut piece).unwrap() {
                0 => break,
                n => all.extend_from_slice(&piece[..n]),
            }
            nothing_for(pause(number));
        }
        all
    })
}
