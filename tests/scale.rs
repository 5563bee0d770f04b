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

/// A budget of parts, every second of which ends; the others grow, for which no hole is large enough.
#[test]
fn holes_between_parts_of_messages_lie_inside_of_the_sum() {
    const PEERS: usize = 1000;
    let limits = [
        "--max-message",
        "64KiB",
        "--staging",
        "16MiB",
        "--max-connections",
        "1000",
    ];
    let mut fanin = Fanin::start(&limits);
    let mut peers: Vec<TcpStream> = (0..PEERS).map(|_| fanin.connect()).collect();
    let mut sent = 0;
    for part in [12_000, 20_000, 28_000] {
        for peer in &mut peers {
            peer.write_all(&vec![b'x'; part]).unwrap();
            sent += part;
        }
        let (left, stay): (Vec<_>, Vec<_>) =
            peers.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
        for (_, mut peer) in left {
            peer.write_all(b"\n").unwrap();
            sent += 1;
        }
        peers = stay.into_iter().map(|(_, peer)| peer).collect();
        let open = peers.len();
        wait_for("every second one has left", 3 * PATIENCE, || {
            (fanin.report_now()["connections"]["open"] == open).then_some(())
        });
    }
    let (memory, sum) = (fanin.memory(), fanin.printed_sum());
    assert!(
        memory <= sum,
        "{memory} bytes, and at most {sum} were promised"
    );
    let open = peers.len();
    for mut peer in peers {
        peer.write_all(b"\n").unwrap();
        sent += 1;
    }
    let report = fanin.drain();
    println!("{memory} B of at most {sum}; {open} were left");
    assert_eq!(report["bytes"]["delivered"], sent);
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
