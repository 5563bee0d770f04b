//! Tricklers on real sockets: who sends an unfinished message byte by byte is closed, who is slow and keeps
//! to the least rate is not, and neither is whoever we do not read.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Fanin, PATIENCE, total, wait_for};

const TRICKLE: &str = "/connections/closed/trickle";

/// Sends a few bytes each time, until it is closed or it is over; whether it was closed.
fn trickle(stream: &mut TcpStream, every: Duration, bytes: &[u8], until: Instant) -> bool {
    stream.set_read_timeout(Some(every)).unwrap();
    while Instant::now() < until {
        if stream.write_all(bytes).is_err() {
            return true;
        }
        match stream.read(&mut [0]) {
            Ok(_) => return true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

#[test]
fn who_sends_byte_by_byte_is_closed_and_who_is_slow_but_keeps_to_the_rate_is_not() {
    let mut fanin = Fanin::start(&["--least-rate", "100", "--least-rate-window", "1s"]);
    let every = Duration::from_millis(50);
    let soon = Instant::now() + Duration::from_secs(6);
    let mut slow = fanin.connect();
    // Four times the rate, so that a machine under load does not make it a slow one.
    let slow = std::thread::spawn(move || {
        let was_closed = trickle(&mut slow, every, &[b's'; 20], soon);
        (was_closed, slow)
    });
    let mut quiet = fanin.connect();
    quiet.write_all(b"whole\n").unwrap();
    let mut tricklers: Vec<_> = (0..5).map(|_| fanin.connect()).collect();
    let closed: Vec<_> = tricklers
        .iter_mut()
        .map(|stream| trickle(stream, every, b"t", Instant::now() + PATIENCE))
        .collect();
    assert_eq!(closed, [true; 5]);
    let (was_closed, mut slow) = slow.join().unwrap();
    assert!(!was_closed, "it was slow, and fast enough");
    slow.write_all(b"\n").unwrap();
    drop((slow, tricklers, quiet));
    wait_for("all have left", PATIENCE, || {
        (total(&fanin.report_now(), "/connections/open") == 0).then_some(())
    });
    let report = fanin.drain();
    assert_eq!(total(&report, TRICKLE), 5, "{report}");
    assert_eq!(report["connections"]["closed"]["eof"], 2);
}
