//! What fanin costs beside a bare loop: CPU of the whole process for the same traffic, in turn.
//!
//! The floor is one thread: epoll, recv into one buffer, every delimiter found with memchr, nothing
//! handed over. fanin runs as the program, `fanin serve --sink null`. Both have the same receive
//! buffer and backlog; the senders are a process of their own. Printed is the median of the paired
//! ratios, because absolute times of a shared machine mean little.
//!
//! ```text
//! cargo bench --bench floor                    # 7 rounds of 1 GiB over 50 connections, 256-byte lines
//! cargo bench --bench floor -- 15 4096 1000    # rounds, MiB, connections
//! ```
#![allow(missing_docs, reason = "a program, not an interface")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use socket2::{Domain, Socket, Type};

const LINE: usize = 256;
const WRITE: usize = 256 << 10;
const RECEIVE_BUFFER: usize = 64 << 10;
const BACKLOG: i32 = 1024;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| -> usize {
        args.get(at)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    match args.first().map(String::as_str) {
        Some("floor") => floor(),
        Some("send") => send(
            args[1].parse().expect("an address"),
            number(2, 0),
            number(3, 1),
        ),
        // `cargo bench` says `--bench`; `cargo test --benches` says nothing, and once is enough to see
        // that it works.
        _ if !args.iter().any(|arg| arg == "--bench") => compare(1, 16, 50),
        _ => {
            let args: Vec<String> = args
                .into_iter()
                .filter(|arg| !arg.starts_with("--"))
                .collect();
            let number = |at: usize, default: usize| -> usize {
                args.get(at)
                    .map_or(default, |text| text.parse().expect("a number"))
            };
            compare(number(0, 7), number(1, 1024), number(2, 50));
        }
    }
}

#[derive(Debug)]
struct Cost {
    cpu: Duration,
    /// The busiest thread alone: in fanin, the reactor's.
    reactor: Duration,
    wall: Duration,
}

fn compare(rounds: usize, mebibytes: usize, connections: usize) {
    println!(
        "{rounds} rounds of {mebibytes} MiB over {connections} connections, {LINE}-byte lines"
    );
    let mut ratios = Vec::new();
    for round in 0..rounds {
        // In turn, and each first as often as the other.
        let (floor, fanin) = if round % 2 == 0 {
            let floor = measure(true, mebibytes, connections);
            (floor, measure(false, mebibytes, connections))
        } else {
            let fanin = measure(false, mebibytes, connections);
            (measure(true, mebibytes, connections), fanin)
        };
        let over = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
        let ratio = [
            over(fanin.cpu, floor.cpu),
            over(fanin.reactor, floor.cpu),
            over(fanin.wall, floor.wall),
        ];
        println!(
            "round {:>2}: CPU {:.3}, reactor thread's CPU {:.3}, wall {:.3}   (floor: {:.3} s of CPU)",
            round + 1,
            ratio[0],
            ratio[1],
            ratio[2],
            floor.cpu.as_secs_f64()
        );
        ratios.push(ratio);
    }
    for (at, name) in ["CPU of the process", "CPU of the reactor", "wall"]
        .iter()
        .enumerate()
    {
        let mut column: Vec<f64> = ratios.iter().map(|ratio| ratio[at]).collect();
        column.sort_by(f64::total_cmp);
        println!(
            "{name:>20} / floor: median {:.3}, {:.3} to {:.3}",
            column[column.len() / 2],
            column[0],
            column[column.len() - 1]
        );
    }
}

/// Killed when dropped, so that a failed round leaves nothing behind.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(is_floor: bool, mebibytes: usize, connections: usize) -> Cost {
    let me = std::env::current_exe().expect("this program has a path");
    let mut command = if is_floor {
        let mut command = Command::new(&me);
        command.arg("floor");
        command
    } else {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanin"));
        command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--sink", "null"]);
        command
    };
    let mut receiver = Process(
        command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the receiver starts"),
    );
    let mut said = BufReader::new(receiver.0.stderr.take().expect("piped")).lines();
    let address = said
        .by_ref()
        .map(|line| line.expect("text"))
        .find_map(|line| Some(line.split_once("listening on tcp://")?.1.to_owned()))
        .expect("an address");
    let before = cpu(receiver.0.id());
    let began = Instant::now();
    let sent = Command::new(me)
        .args([
            "send",
            &address,
            &mebibytes.to_string(),
            &connections.to_string(),
        ])
        .status()
        .expect("the sender runs");
    assert!(sent.success());
    // The senders wait until the receiver has closed: all was read.
    let wall = began.elapsed();
    let after = cpu(receiver.0.id());
    let used = |name: &str| {
        let of = |list: &[(String, Duration)]| -> Duration {
            list.iter()
                .filter(|t| t.0.starts_with(name))
                .map(|t| t.1)
                .sum()
        };
        of(&after) - of(&before)
    };
    Cost {
        cpu: used(""),
        reactor: used(if is_floor { "" } else { "fanin-reactor" }),
        wall,
    }
}

/// Name and time on a processor of each thread, in nanoseconds as the scheduler counts.
fn cpu(pid: u32) -> Vec<(String, Duration)> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("it runs")
        .flatten()
    {
        let name = std::fs::read_to_string(task.path().join("comm")).expect("a thread");
        let stat = std::fs::read_to_string(task.path().join("schedstat")).expect("a thread");
        let nanos = stat.split_whitespace().next().and_then(|n| n.parse().ok());
        threads.push((name, Duration::from_nanos(nanos.expect("a number"))));
    }
    threads
}

fn floor() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener
        .set_recv_buffer_size(RECEIVE_BUFFER)
        .expect("a size");
    let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&address.into()).expect("a port");
    listener.listen(BACKLOG).expect("a backlog");
    listener.set_nonblocking(true).expect("a flag");
    let listener = std::net::TcpListener::from(listener);
    eprintln!(
        "listening on tcp://{}",
        listener.local_addr().expect("bound")
    );

    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let whom = epoll::EventData::new_u64;
    epoll::add(&poll, &listener, whom(u64::MAX), epoll::EventFlags::IN).expect("added");
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    let mut lines = 0u64;
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).expect("waited");
        for event in &events {
            let key = event.data.u64();
            if key == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("a flag");
                    let key = whom(streams.len() as u64);
                    epoll::add(&poll, stream.as_fd(), key, epoll::EventFlags::IN).expect("added");
                    streams.push(Some(stream));
                }
                continue;
            }
            let place = &mut streams[key as usize];
            match place.as_mut().expect("open").read(&mut buffer) {
                Ok(0) => *place = None,
                Ok(n) => lines += memchr::memchr_iter(b'\n', &buffer[..n]).count_each(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        std::hint::black_box(lines);
    }
}

/// Visits every delimiter, as a receiver that hands on messages must; `count` alone is cheaper.
trait CountEach {
    fn count_each(self) -> u64;
}

impl<I: Iterator<Item = usize>> CountEach for I {
    fn count_each(self) -> u64 {
        let mut n = 0;
        for at in self {
            std::hint::black_box(at);
            n += 1;
        }
        n
    }
}

fn send(to: SocketAddr, mebibytes: usize, connections: usize) {
    let line = [&[b'x'; LINE - 1][..], b"\n"].concat();
    let block = line.repeat(WRITE / LINE);
    let mut streams: Vec<TcpStream> = (0..connections)
        .map(|_| TcpStream::connect(to).expect("connected"))
        .collect();
    let rounds = ((mebibytes << 20) / WRITE).div_ceil(connections);
    for _ in 0..rounds {
        for stream in &mut streams {
            stream.write_all(&block).expect("written");
        }
    }
    for stream in &mut streams {
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("shut down");
    }
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).expect("the receiver's end"), 0);
    }
}
