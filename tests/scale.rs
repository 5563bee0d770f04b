//! As many connections as the machine lets one process have.

mod support;

use std::io::Write;
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use support::{Fanin, PATIENCE, skip, total, wait_for};

const MESSAGE: &[u8] = b"one message\n";

/// Each has sent one message, so that each has a slot, a peer's entry and a place in the wheel.
fn grow(fanin: &Fanin, peers: &mut Vec<TcpStream>, to: usize) -> u64 {
    while peers.len() < to {
        let mut peer = fanin.connect();
        peer.write_all(MESSAGE).unwrap();
        peers.push(peer);
    }
    // Not by a report: its list of connections would be measured with them.
    let bytes = to * MESSAGE.len();
    wait_for("each message arrives", 3 * PATIENCE, || {
        (fanin.output().len() == bytes).then_some(())
    });
    fanin.memory()
}

#[test]
fn an_idle_connection_costs_at_most_256_bytes() {
    const FEW: usize = 1_000;
    const MANY: usize = 18_000;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if most < MANY as u64 + 200 {
        return skip("scale", &format!("{most} descriptors at most"));
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let mut fanin = Fanin::start(&["--max-connections", "18500"]);
    let mut peers = Vec::new();
    let few = grow(&fanin, &mut peers, FEW);
    let many = grow(&fanin, &mut peers, MANY);
    let each = (many - few) / (MANY - FEW) as u64;
    println!("{few} B with {FEW}, {many} B with {MANY}: {each} B each");
    assert!(each <= 256, "{each} bytes each");
    drop(peers);
    wait_for("all are gone", 3 * PATIENCE, || {
        let report = fanin.report_now();
        (total(&report, "/connections/closed") == MANY as u64).then_some(())
    });
    fanin.drain();
}
