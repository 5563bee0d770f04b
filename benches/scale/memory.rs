//! What a connection takes: the slope of the program's own resident memory.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::framing::Framing;
use crate::common::process::{Threads, memory};
use crate::common::run::{Candidate, Receiver};
use crate::lines;

/// Between the first and the last lies the slope.
const COUNTS: [usize; 4] = [1_000, 4_000, 10_000, 18_000];
/// Between two looks at who has been accepted.
const LOOK: Duration = Duration::from_millis(2);

pub(crate) fn print(share: usize) {
    println!("memory: the program's own, resident");
    let line = Framing::Line.message(64).expect("a size that it has");
    for (what, message) in [
        ("never sent", Vec::new()),
        ("sent one message", line.clone()),
        ("sent one and a half", [line, vec![b'x'; 32]].concat()),
    ] {
        let points = grow(&message, share);
        let (first, last) = (points[0], points[points.len() - 1]);
        let each = (last.1 as f64 - first.1 as f64) * 1024.0 / (last.0 - first.0) as f64;
        let seen: Vec<String> = points
            .iter()
            .map(|(n, kib)| format!("{n}: {kib}"))
            .collect();
        println!(
            "{what:>22}: {each:.0} B each   (KiB with {})",
            seen.join(", ")
        );
    }
}

/// Connections, and KiB.
fn grow(message: &[u8], share: usize) -> Vec<(usize, u64)> {
    let program = Candidate::program("program", env!("CARGO_BIN_EXE_fanin"));
    let receiver = Receiver::start(&program, &lines(1, 256, 256));
    let pid = receiver.pid();
    // Its own descriptors.
    let before = descriptors(pid);
    let mut peers = Vec::new();
    let grown = |count: usize| {
        let count = count / share;
        while peers.len() < count {
            let mut peer = TcpStream::connect(&receiver.address).expect("connected");
            peer.write_all(message).expect("written");
            peers.push(peer);
            // Fewer than the backlog: none has to knock twice.
            if peers.len().is_multiple_of(500) {
                await_accepted(pid, before + peers.len());
            }
        }
        await_accepted(pid, before + count);
        Threads::at_rest(pid);
        (count, memory(pid).1)
    };
    COUNTS.map(grown).to_vec()
}

fn descriptors(pid: u32) -> usize {
    let path = format!("/proc/{pid}/fd");
    std::fs::read_dir(path).expect("it runs").count()
}

fn await_accepted(pid: u32, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while descriptors(pid) < count {
        assert!(Instant::now() < deadline, "not all are accepted");
        std::thread::sleep(LOOK);
    }
}
