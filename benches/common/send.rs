//! The senders: a process of its own that connects, waits for the word, sends, and waits until all was read.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::framing::Framing;
use super::work::{STAMP, now};
use super::{number, option, process};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) framing: Framing,
    pub(crate) sizes: Sizes,
    pub(crate) connections: usize,
    /// Bytes in one write; more, if its last message takes more.
    pub(crate) write: usize,
    /// In all, about: whole writes, as many of each connection.
    pub(crate) bytes: usize,
    pub(crate) manner: Manner,
}

/// What one write writes.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    messages: u64,
}

/// Bytes of a message with its delimiter or prefix: at least, and at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) least: usize,
    pub(crate) most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As fast as it goes, the connections in turn.
    Flood,
    /// The same with send buffers of 4 KiB: it goes as fast as the receiver reads.
    Held,
    /// One write for each connection, which then ends.
    Short,
    /// So many writes in a second, each with the time at which it is written.
    Paced(u32),
}

/// Short connections that are open at once: fewer than the backlog, so that none has to knock twice.
const IN_FLIGHT: usize = 256;
/// Less than what is on its way while a receiver does not look.
const SMALLEST_SEND_BUFFER: usize = 4096;
/// Bytes of messages of many sizes before they are sent again: they stay in the sender's cache.
const MIXED: usize = 1 << 20;

impl Traffic {
    /// Writes of each connection.
    fn rounds(&self) -> usize {
        let pieces = self.pieces();
        let each = pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>() / pieces.len();
        (self.bytes / each).div_ceil(self.connections).max(1)
    }

    /// Bytes, and messages.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let pieces = self.pieces();
        let written = pieces.iter().cycle().take(self.rounds() * self.connections);
        written.fold((0, 0), |(bytes, messages), piece| {
            (bytes + piece.bytes.len() as u64, messages + piece.messages)
        })
    }

    /// What is written, one after the other and then again from the first on.
    fn pieces(&self) -> Vec<Piece> {
        let Sizes { least, most } = self.sizes;
        let count = match least == most {
            true => 1,
            false => (MIXED / self.write).max(1),
        };
        let mut state = 1_u32;
        let mut message = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = least + (state >> 8) as usize % (most - least + 1);
            // Counting in digits has no message of 12 bytes, of 103, and so on, but of one less.
            let message = self.framing.message(size);
            let other = || self.framing.message(size - 1);
            message.or_else(other).expect("a size of this framing")
        };
        let piece = |_| {
            let mut piece = Piece::default();
            while piece.bytes.len() < self.write {
                piece.bytes.extend(message());
                piece.messages += 1;
            }
            piece
        };
        (0..count).map(piece).collect()
    }

    pub(crate) fn args(&self) -> Vec<String> {
        let mut args = vec!["--framing".to_owned(), self.framing.name().to_owned()];
        args.extend(["--size".to_owned(), self.sizes.to_string()]);
        let mut add = |name: &str, value: usize| {
            args.extend([name.to_owned(), value.to_string()]);
        };
        add("--connections", self.connections);
        add("--write", self.write);
        add("--bytes", self.bytes);
        match self.manner {
            Manner::Flood => {}
            Manner::Held => args.push("--held".to_owned()),
            Manner::Short => args.push("--short".to_owned()),
            Manner::Paced(rate) => add("--paced", rate as usize),
        }
        args
    }

    fn from_args(args: &[String]) -> Self {
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        let manner = if has("--short") {
            Manner::Short
        } else if has("--held") {
            Manner::Held
        } else if option(args, "--paced").is_some() {
            Manner::Paced(number(args, "--paced", 0))
        } else {
            Manner::Flood
        };
        Self {
            framing: Framing::parse(option(args, "--framing").expect("a framing")),
            sizes: number(args, "--size", Sizes::one(0)),
            connections: number(args, "--connections", 0),
            write: number(args, "--write", 0),
            bytes: number(args, "--bytes", 0),
            manner,
        }
    }
}

impl Sizes {
    pub(crate) const fn one(size: usize) -> Self {
        Self {
            least: size,
            most: size,
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { least, most } if least == most => write!(f, "{least}"),
            Self { least, most } => write!(f, "{least}-{most}"),
        }
    }
}

/// `256`, or `64-1500`.
impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| match text.parse() {
            Ok(size @ 1_usize..) => Ok(size),
            _ => Err(format!("{text:?} is no number from 1 on")),
        };
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let (least, most) = (number(least)?, number(most)?);
        if least > most {
            return Err(format!("{least} is more than {most}"));
        }
        Ok(Self { least, most })
    }
}

/// `send ADDRESS …`; what it says: `ready`, and at the end nanoseconds of time and of processor time.
pub(crate) fn send(args: &[String]) {
    process::raise_descriptor_limit();
    let to: SocketAddr = args[0].parse().expect("an address");
    let traffic = Traffic::from_args(&args[1..]);
    let (pieces, rounds) = (traffic.pieces(), traffic.rounds());
    let streams = match traffic.manner {
        Manner::Short => Vec::new(),
        _ => connect(to, traffic.connections),
    };
    if traffic.manner == Manner::Held {
        streams.iter().for_each(hold);
    }
    println!("ready");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).expect("the word");
    if word.is_empty() {
        return;
    }

    let (began, used) = (Instant::now(), cpu());
    match traffic.manner {
        Manner::Flood | Manner::Held => flood(streams, &pieces, rounds),
        Manner::Short => short(to, &pieces[0].bytes, traffic.connections),
        Manner::Paced(rate) => paced(streams, pieces[0].bytes.clone(), rounds, rate),
    }
    let (wall, used) = (began.elapsed(), cpu() - used);
    println!("{} {}", wall.as_nanos(), used.as_nanos());
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn connect(to: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let one = |n: usize| {
        if n % IN_FLIGHT == IN_FLIGHT - 1 {
            // A full backlog costs a second; this is not measured.
            std::thread::sleep(Duration::from_millis(1));
        }
        let stream = TcpStream::connect(to).expect("connected");
        stream.set_nodelay(true).expect("a flag");
        stream
    };
    (0..connections).map(one).collect()
}

fn hold(stream: &TcpStream) {
    let small = socket2::SockRef::from(stream).set_send_buffer_size(SMALLEST_SEND_BUFFER);
    small.expect("a small send buffer");
    stream.set_nodelay(false).expect("a flag");
}

fn flood(mut streams: Vec<TcpStream>, pieces: &[Piece], rounds: usize) {
    let mut pieces = pieces.iter().cycle();
    for _ in 0..rounds {
        for (stream, piece) in streams.iter_mut().zip(&mut pieces) {
            stream.write_all(&piece.bytes).expect("written");
        }
    }
    end(streams);
}

/// Waits until the receiver has read all: then it closes.
fn end(streams: Vec<TcpStream>) {
    for stream in &streams {
        stream.shutdown(Shutdown::Write).expect("shut down");
    }
    streams.into_iter().for_each(await_the_end);
}

fn await_the_end(mut stream: TcpStream) {
    assert_eq!(stream.read(&mut [0]).expect("the receiver's end"), 0);
}

fn short(to: SocketAddr, block: &[u8], connections: usize) {
    let mut open = std::collections::VecDeque::with_capacity(IN_FLIGHT);
    for _ in 0..connections {
        if open.len() == IN_FLIGHT {
            open.pop_front().into_iter().for_each(await_the_end);
        }
        let mut stream = TcpStream::connect(to).expect("connected");
        stream.write_all(block).expect("written");
        stream.shutdown(Shutdown::Write).expect("shut down");
        open.push_back(stream);
    }
    open.into_iter().for_each(await_the_end);
}

/// Sleeps until the next write is due. What the sleep was too long is made up for: those come at once.
fn paced(mut streams: Vec<TcpStream>, mut block: Vec<u8>, rounds: usize, rate: u32) {
    // Else a sleep lasts 50 us longer than asked for.
    let slack = Some(NonZeroU64::MIN);
    rustix::thread::set_current_timer_slack(slack).expect("allowed");
    let each = Duration::from_secs(1) / rate;
    let began = Instant::now();
    let mut n = 0;
    for _ in 0..rounds {
        for stream in &mut streams {
            let due = each * n;
            n += 1;
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            write!(&mut block[..STAMP], "{:016x}", now()).expect("it fits");
            stream.write_all(&block).expect("written");
        }
    }
    end(streams);
}
