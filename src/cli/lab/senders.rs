//! The child process with all senders: one thread, sockets that never block.
//!
//! In: a port, a start, the plans. Out: a line for each sender that leaves, with its address and the time, and
//! in the end what was sent and who was told what. Never here: anything that depends on the design.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::message::{self, now};
use super::plan::{self, Plan, TRICKLE};
use super::scenario::Scenario;
use super::server::{orders, start_time, tell};

/// `SO_SNDBUF` of a sender: it can be blocked by a server that does not read.
const SEND_BUFFER: usize = 16 << 10;
/// A leaver waits so long to be blocked, from its moment on.
const PATIENCE: Duration = Duration::from_millis(300);
/// One that was refused or closed comes again after this.
const AGAIN: Duration = Duration::from_millis(300);
/// How often a sender looks whether its server has gone, and how much less often for each of them: so many
/// looks are still no load.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_EACH: Duration = Duration::from_micros(10);
/// How often all have their turn, and how much less often for each of them.
const TURN: Duration = Duration::from_millis(1);
const TURN_EACH: Duration = Duration::from_nanos(300);
/// Messages of one sender in a row, and in how many turns it could send all that it has in a second.
const BURST: u64 = 32;
const TURNS: u64 = 100;

#[derive(Args, Clone, Debug)]
pub(crate) struct Senders {
    #[arg(long)]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) scenario: Scenario,
}

impl Senders {
    pub(crate) fn run(&self) -> Result<()> {
        crate::cli::limits::raise();
        let orders = orders();
        let plans = plan::plans(&self.scenario);
        let count = plans.len() as u32;
        let mut senders: Vec<_> = plans
            .into_iter()
            .enumerate()
            .map(|(n, p)| Sender::new(n, p))
            .collect();
        let load = Load {
            address: (Ipv4Addr::LOCALHOST, self.port).into(),
            scenario: &self.scenario,
            start: start_time(&orders)?,
            look: (LOOK + LOOK_EACH * count).as_nanos() as u64,
        };
        let turn = (TURN + TURN_EACH * count).as_nanos() as u64;
        while senders.iter().any(|sender| !sender.done) {
            let began = now();
            for sender in senders.iter_mut().filter(|sender| !sender.done) {
                sender.turn(&load)?;
            }
            let next = began + turn;
            std::thread::sleep(Duration::from_nanos(next.saturating_sub(now())));
        }
        let of = |what: fn(&Sender) -> u64| senders.iter().map(what).collect::<Vec<_>>();
        let all = |what: fn(&Sender) -> u64| of(what).iter().sum::<u64>();
        tell(format_args!(
            "result {}",
            json!({
                "due": of(|s| s.due),
                "sent": of(|s| s.sent),
                "told": of(|s| s.told),
                "connects": all(|s| s.connects),
                "failed_connects": all(|s| s.failed),
            })
        ))
    }
}

/// What is the same for all.
struct Load<'a> {
    address: SocketAddr,
    scenario: &'a Scenario,
    start: u64,
    /// From one look to the next.
    look: u64,
}

struct Sender {
    number: usize,
    plan: Plan,
    stream: Option<TcpStream>,
    /// Nanoseconds, as all times here.
    connect_at: u64,
    look_at: u64,
    try_at: u64,
    /// When a trickler may write its next byte.
    byte_at: u64,
    /// The message that is being written, and how much of it was.
    line: Vec<u8>,
    written: usize,
    due: u64,
    /// Messages whose last byte the kernel took.
    sent: u64,
    /// Of messages below this number it knows that they may be lost.
    told: u64,
    connects: u64,
    failed: u64,
    done: bool,
}

/// Why a sender goes.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Close,
    Reset,
}

impl Sender {
    fn new(number: usize, plan: Plan) -> Self {
        Self {
            number,
            connect_at: plan.connect_at.as_nanos() as u64,
            plan,
            stream: None,
            look_at: 0,
            try_at: 0,
            byte_at: 0,
            line: Vec::new(),
            written: 0,
            due: 0,
            sent: 0,
            told: 0,
            connects: 0,
            failed: 0,
            done: false,
        }
    }

    fn turn(&mut self, load: &Load<'_>) -> Result<()> {
        let t = now().saturating_sub(load.start);
        let from = self.plan.connect_at.as_nanos() as u64;
        let length = load.scenario.length().as_nanos() as u64;
        if t >= from {
            let time = t.min(length) - from.min(length);
            self.due = self.plan.rate.due(time);
        }
        match self.stream.take() {
            None if t >= self.connect_at && t < length => self.connect(load, t),
            None => {}
            Some(stream) => {
                if self.push(&stream, load, t) {
                    self.stream = Some(stream);
                } else {
                    // It knows that what it sent may not have arrived.
                    self.told = self.sent;
                    (self.line, self.written) = (Vec::new(), 0);
                    self.connect_at = t + AGAIN.as_nanos() as u64;
                }
            }
        }
        self.leave(t, length)
    }

    fn connect(&mut self, load: &Load<'_>, t: u64) {
        match open(self.plan.source, load.address) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.connects += 1;
                self.try_at = t;
                self.byte_at = t + TRICKLE.as_nanos() as u64;
            }
            Err(_) => {
                self.failed += 1;
                self.connect_at = t + AGAIN.as_nanos() as u64;
            }
        }
    }

    /// Writes what is due; `false`: the connection is over.
    fn push(&mut self, mut stream: &TcpStream, load: &Load<'_>, t: u64) -> bool {
        if t >= self.look_at {
            self.look_at = t + load.look;
            match stream.read(&mut [0; 16]) {
                Ok(0) => return false,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return false,
                _ => {}
            }
        }
        if t < self.try_at {
            return true;
        }
        for _ in 0..BURST.max(self.plan.rate.due(1_000_000_000) / TURNS) {
            if self.line.is_empty() {
                if self.sent >= self.due && !self.plan.trickles {
                    return true;
                }
                let since = self.plan.rate.time(self.sent + 1);
                let due = load.start + self.plan.connect_at.as_nanos() as u64 + since;
                message::write(
                    &mut self.line,
                    self.number,
                    self.sent,
                    due,
                    load.scenario.size,
                );
                self.written = 0;
            }
            if self.plan.trickles && t < self.byte_at {
                return true;
            }
            let end = if self.plan.trickles {
                self.byte_at = t + TRICKLE.as_nanos() as u64;
                self.written + 1
            } else {
                self.line.len()
            };
            match stream.write(&self.line[self.written..end]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.try_at = t + 5_000_000;
                    return true;
                }
                Err(_) => return false,
            }
            if self.written == self.line.len() {
                self.line.clear();
                self.sent += 1;
            }
        }
        true
    }

    /// Goes when it is time: at its own moment, or with all others at the end.
    fn leave(&mut self, t: u64, length: u64) -> Result<()> {
        let is_blocked = t < self.try_at;
        let end = match self.plan.leave {
            Some(leave) if t >= leave.at.as_nanos() as u64 => {
                let late = t >= (leave.at + PATIENCE).as_nanos() as u64;
                let end = if leave.resets { End::Reset } else { End::Close };
                (is_blocked || late || t >= length).then_some(end)
            }
            _ => (t >= length).then_some(End::Close),
        };
        let Some(end) = end else { return Ok(()) };
        self.done = true;
        let Some(stream) = self.stream.take() else {
            // It had no connection, and nobody can hold one for it.
            let nowhere = SocketAddr::from((own_address(self.plan.source), 0));
            return tell(format_args!("left {} {nowhere} {}", self.number, now()));
        };
        let address = stream.local_addr()?;
        if end == End::Reset {
            // A reset takes back what was on its way: it knows that.
            self.told = self.sent;
            Socket::from(stream).set_linger(Some(Duration::ZERO))?;
        } else {
            drop(stream);
        }
        tell(format_args!("left {} {address} {}", self.number, now()))
    }
}

/// Each source has an address: a port alone is another's soon after a reset.
fn own_address(source: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + source as u32)
}

/// A connection that may not be there yet: until then it is blocked.
fn open(source: usize, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((own_address(source), 0)).into())?;
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(socket.into()),
    }
}
