//! The program when more comes than its sink takes: senders are held, nothing is lost, nothing spins,
//! and whoever leaves is noticed.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;
use socket2::SockRef;

use support::load::{
    Sender, assert_delivered, assert_nothing_lost, bytes, collect, collect_slowly, count_lines,
    finish, hold, senders, waiting,
};
use support::process::{live, row};
use support::{Fanin, PATIENCE, Place, holds_for, nothing_for, serve, total, wait_for};

const SECOND: Duration = Duration::from_secs(1);
/// The smallest ring for the largest message of 64 KiB.
const SMALL_RING: [&str; 2] = ["--ring", "512KiB"];
/// What an epoll registration says: EPOLLIN, EPOLLRDHUP, EPOLLET; the kernel adds EPOLLERR and EPOLLHUP.
const IN: u32 = 1;
const HANG_UP_ONLY: u32 = 0x2000 | 1 << 31 | 0x18;

fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs_f64()
}

#[test]
fn with_the_consumer_stopped_tcp_holds_the_senders_and_nobody_works() {
    let (mut fanin, stdout) = Fanin::start_piped(&SMALL_RING);
    // Half of them wait in a write, the others try all the time.
    let waiting: Vec<_> = senders(&fanin, 0..4)
        .into_iter()
        .map(|mut sender| {
            thread::spawn(move || {
                sender.send(1500);
                sender.finish();
                sender
            })
        })
        .collect();
    let mut trying = senders(&fanin, 4..8);
    hold(&mut trying);
    let masks = || fanin.registrations().into_iter().map(|(_, mask)| mask);
    wait_for("all eight are paused", PATIENCE, || {
        (masks().filter(|mask| mask & IN == 0).count() == 8).then_some(())
    });
    let paused = masks().filter(|mask| *mask == HANG_UP_ONLY).count();
    assert_eq!(paused, 8, "{:x?}", masks().collect::<Vec<_>>());

    let (wake_ups, cpu_time) = (fanin.wake_ups(), fanin.cpu_time());
    holds_for("TCP takes no more", 10 * SECOND, || {
        trying.iter_mut().all(|sender| sender.press() == 0)
    });
    let wake_ups = fanin.wake_ups() - wake_ups;
    assert!(wake_ups < 20, "{wake_ups} wake-ups in 10 s");
    fanin.cpu_time().assert_rest(cpu_time, SECOND / 10);
    assert!(waiting.iter().all(|thread| !thread.is_finished()));
    for sender in &trying {
        let unread = &live(&fanin.report_now(), &sender.peer()).unwrap()["unread"];
        assert!(
            unread.as_u64().unwrap() <= 128 << 10,
            "{unread} bytes in the kernel"
        );
    }

    let output = collect(stdout);
    let mut all: Vec<_> = waiting.into_iter().map(|t| t.join().unwrap()).collect();
    finish(&fanin, &mut trying);
    all.extend(trying);
    assert_nothing_lost(&fanin.drain(), bytes(&all));
    assert_delivered(&output.join().unwrap(), all.iter().map(Sender::sent));
}

#[test]
fn peers_that_close_or_reset_while_they_are_paused_are_noticed_within_a_second() {
    let (mut fanin, stdout) = Fanin::start_piped(&SMALL_RING);
    let mut all = senders(&fanin, 0..6);
    let peers: Vec<_> = all.iter().map(Sender::peer).collect();
    let [filler, read, fin, reset, _, quiet_reset] = &mut all[..] else {
        unreachable!()
    };
    read.send(1);
    wait_for("it is read", PATIENCE, || {
        (total(&fanin.report_now(), "/bytes/received") == read.bytes).then_some(())
    });
    hold(std::slice::from_mut(filler));
    fin.send(1);
    reset.send(1);
    for sender in [&*fin, &*reset] {
        wait_for("it waits", PATIENCE, || {
            let row = live(&fanin.report_now(), &sender.peer())?;
            (row["state"] == "paused" && row["unread"] == sender.bytes).then_some(())
        });
    }

    let open = fanin.sockets();
    let since = unix_time();
    for sender in [&mut *reset, &mut *quiet_reset] {
        SockRef::from(&sender.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    let mut filler = all.remove(0);
    let leaving_bytes = bytes(&all);
    let lines: Vec<_> = all
        .iter()
        .map(Sender::sent)
        .filter(|(_, lines)| *lines > 0)
        .collect();
    drop(all);

    // Three had nothing unread: their descriptors go at once. The others' wait for the ring.
    wait_for("descriptors are closed", SECOND, || {
        (fanin.sockets() == open - 3).then_some(())
    });
    let noticed = |peer: &str, when: &str| {
        let at = wait_for(when, SECOND, || {
            let report = fanin.report_now();
            let row = row(&report, peer)?;
            row[when].as_f64()
        });
        assert!(at - since < 1.0, "{peer}: {when} after {} s", at - since);
    };
    noticed(&peers[1], "fin_at");
    noticed(&peers[2], "fin_at");
    noticed(&peers[3], "reset_at");
    noticed(&peers[4], "at");
    noticed(&peers[5], "at");
    let report = fanin.report_now();
    assert_eq!(live(&report, &peers[1]).unwrap()["state"], "closed");
    assert_eq!(live(&report, &peers[2]).unwrap()["state"], "paused");

    let output = collect(stdout);
    finish(&fanin, std::slice::from_mut(&mut filler));
    let report = fanin.drain();
    assert_eq!(report["connections"]["closed"]["eof"], 4);
    assert_eq!(report["connections"]["closed"]["reset"], 2);
    assert_nothing_lost(&report, leaving_bytes + filler.bytes);
    assert_delivered(
        &output.join().unwrap(),
        lines.into_iter().chain([filler.sent()]),
    );
}

#[test]
fn the_stall_deadline_closes_those_that_wait_and_says_what_the_kernel_held() {
    let options = [&SMALL_RING[..], &["--stall-timeout", "2s"]].concat();
    let (mut fanin, mut stdout) = Fanin::start_piped(&options);
    let mut filler = Sender::new(&fanin, 0);
    wait_for("the ring is full", PATIENCE, || {
        filler.press();
        fanin.report_now()["rings"][0]["blocked_seconds"].as_f64()
    });
    // As much as a first read takes, which cannot tell whether there is more. Every other one has
    // finished with it.
    let part = [b"w".repeat(1023), b"\n".to_vec()].concat().repeat(16);
    let mut peers: Vec<_> = (0..40).map(|_| fanin.connect()).collect();
    let has_finished = |n: usize| n % 2 == 1;
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.write_all(&part).unwrap();
        if has_finished(n) {
            peer.shutdown(Shutdown::Write).unwrap();
        }
    }
    let row_of = |report: &Value, peer: &TcpStream| {
        row(report, &peer.local_addr().unwrap().to_string()).unwrap()
    };
    wait_for("all wait", PATIENCE, || {
        let report = fanin.report_now();
        let wait = |peer| row_of(&report, peer)["unread"] == part.len();
        peers.iter().all(wait).then_some(())
    });
    // Now some are read, and the ring is full again; it may have had room for a part of the last one. What has
    // finished and is read needs no descriptor, whatever its ring does.
    let is_read = |row: &Value| row["received"] == part.len();
    let mut first = vec![0; 384 << 10];
    stdout.read_exact(&mut first).unwrap();
    wait_for(
        "some are read, and those that had finished are gone",
        SECOND,
        || {
            let report = fanin.report_now();
            let row = |n: usize| row_of(&report, &peers[n]);
            let mut read = (0..peers.len()).filter(|n| has_finished(*n) && is_read(&row(*n)));
            let some = read.clone().count() > 0;
            (some && read.all(|n| row(n)["state"] == "closed")).then_some(())
        },
    );
    let report = wait_for("those that wait have stalled", PATIENCE, || {
        let report = fanin.report_now();
        let is_settled = |peer| {
            let row = row_of(&report, peer);
            is_read(&row) || stalled(&row)
        };
        peers.iter().all(is_settled).then_some(report)
    });
    // The filler waits, or was read; it is not held.
    let filler_row = row(&report, &filler.peer()).unwrap();
    let mut unread = filler_row["unread"].as_u64().unwrap();
    let (mut numbers, mut lines_of_parts) = ([0; 3], Vec::new());
    for (n, peer) in peers.iter().enumerate() {
        let row = row_of(&report, peer);
        let number = if !is_read(&row) {
            let waited = row["paused"]["ring"]["seconds"].as_f64().unwrap();
            assert!((1.98..4.0).contains(&waited), "{row:#}");
            let [received, held] = ["received", "unread"].map(|of| row[of].as_u64().unwrap());
            assert_eq!(received + held, part.len() as u64);
            unread += held;
            if received > 0 {
                lines_of_parts.push(received as usize / 1024);
            }
            0
        } else {
            assert!(!stalled(&row), "nothing of it waits: {row:#}");
            assert_eq!(row["state"] == "open", !has_finished(n), "{row:#}");
            1 + usize::from(has_finished(n))
        };
        numbers[number] += 1;
    }
    assert!(numbers.iter().all(|number| *number > 0), "{numbers:?}");
    assert!(lines_of_parts.len() <= 1, "{lines_of_parts:?}");
    let all = numbers[0] + usize::from(stalled(&filler_row));
    assert_eq!(report["connections"]["closed"]["stall"], all);
    assert_eq!(total(&report, "/unread"), unread);

    let output = collect(stdout);
    for (n, mut peer) in peers.iter().enumerate() {
        if !has_finished(n) && row_of(&report, peer)["state"] == "open" {
            peer.write_all(&part).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        }
    }
    if !stalled(&filler_row) {
        filler.finish();
    }
    wait_for("all have ended", PATIENCE, || {
        (total(&fanin.report_now(), "/connections/open") == 0).then_some(())
    });
    let report = fanin.drain();
    first.extend(output.join().unwrap());
    assert_eq!(
        report["bytes"]["delivered"],
        first.len(),
        "whole lines, and all of them"
    );
    let theirs = first
        .split_inclusive(|b| *b == b'\n')
        .filter(|line| line[0] == b'w')
        .count();
    let in_part: usize = lines_of_parts.iter().sum();
    assert_eq!(theirs, 16 * (2 * numbers[1] + numbers[2]) + in_part);
}

/// Was it closed by the stall deadline? Its slot may wait for room to say so.
fn stalled(row: &Value) -> bool {
    row["closing"] == "stall" || row["reason"] == "stall"
}

#[test]
fn connections_of_another_ring_flow_while_one_consumer_is_stuck() {
    // Unread, a connection of the sink holds little.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener)
        .set_recv_buffer_size(64 << 10)
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let sink = format!("tcp://{}", listener.local_addr().unwrap());
    let mut command = serve(&["--listen", "tcp://127.0.0.1:0", "--sink", &sink]);
    command.args(SMALL_RING).args(["--consumers", "2"]);
    let mut fanin = Fanin::start_with(command, Place::new(), 1);

    let mut all = senders(&fanin, 0..4);
    for sender in &mut all {
        sender.send(1);
    }
    let mut outlets: Vec<TcpStream> = (0..2)
        .map(|_| wait_for("a sink connects", PATIENCE, || listener.accept().ok()).0)
        .collect();
    // The first line that comes out of a connection tells whose consumer wrote it.
    let mut first = Vec::new();
    outlets[0].set_read_timeout(Some(PATIENCE)).unwrap();
    while first.last() != Some(&b'\n') {
        let mut byte = [0];
        outlets[0].read_exact(&mut byte).unwrap();
        first.extend(byte);
    }
    let number: usize = String::from_utf8_lossy(&first)
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let report = fanin.report_now();
    let consumer = |sender: &Sender| live(&report, &sender.peer()).unwrap()["consumer"].clone();
    let stuck = consumer(&all[number]);
    let (mut held, mut flowing): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|sender| consumer(sender) == stuck);
    assert_eq!(
        (held.len(), flowing.len()),
        (2, 2),
        "the least loaded was chosen"
    );

    let other = collect(outlets.pop().unwrap());
    hold(&mut held);
    for sender in &mut flowing {
        sender.send(1000);
    }
    let report = wait_for("the other ring has delivered", PATIENCE, || {
        let report = fanin.report_now();
        let rings = report["rings"].as_array().unwrap();
        let ring = rings.iter().find(|ring| ring["consumer"] != stuck).unwrap();
        (ring["delivered"] == bytes(&flowing)).then_some(report)
    });
    for sender in &held {
        assert_eq!(live(&report, &sender.peer()).unwrap()["state"], "paused");
    }

    let stuck = collect(outlets.pop().unwrap());
    flowing.iter_mut().for_each(Sender::finish);
    finish(&fanin, &mut held);
    assert_nothing_lost(&fanin.drain(), bytes(&held) + bytes(&flowing));
    assert_delivered(&other.join().unwrap(), flowing.iter().map(Sender::sent));
    first.extend(stuck.join().unwrap());
    assert_delivered(&first, held.iter().map(Sender::sent));
}

#[test]
fn five_thousand_that_come_send_a_line_and_leave_keep_no_descriptor() {
    let (mut fanin, stdout) = Fanin::start_piped(&[]);
    // A full pipe stops the sink.
    let mut filler = senders(&fanin, 0..1);
    filler[0].send(300);
    wait_for("a pipe and more is read", PATIENCE, || {
        (total(&fanin.report_now(), "/bytes/received") == filler[0].bytes).then_some(())
    });
    let open = fanin.sockets();
    let line = |n: usize| format!("visitor {n}\n");
    for n in 0..5000 {
        fanin.connect().write_all(line(n).as_bytes()).unwrap();
    }
    wait_for("no descriptor is left of them", PATIENCE, || {
        let report = fanin.report_now();
        (total(&report, "/connections/closed") == 5000).then_some(())
    });
    assert_eq!(fanin.sockets(), open);

    let output = collect(stdout);
    finish(&fanin, &mut filler);
    let report = fanin.drain();
    assert_eq!(report["connections"]["closed"]["eof"], 5001);
    assert_eq!(report["messages"]["delivered"], 5300);
    let output = String::from_utf8(output.join().unwrap()).unwrap();
    let mut visitors: Vec<_> = output
        .split_inclusive('\n')
        .filter(|l| l.starts_with('v'))
        .collect();
    visitors.sort_unstable();
    let mut sent: Vec<_> = (0..5000).map(line).collect();
    sent.sort_unstable();
    assert!(visitors == sent, "{} lines of visitors", visitors.len());
}

/// 50 senders of numbered lines against a sink that is slow, stands still, and goes on.
fn a_slow_sink_loses_nothing(options: &[&str]) {
    const SENDERS: usize = 50;
    const LINES: u64 = 600;
    let limits = ["--staging", "1MiB", "--max-connections", "64"];
    let (mut fanin, stdout) = Fanin::start_piped(&[&SMALL_RING[..], &limits, options].concat());
    let threads: Vec<_> = senders(&fanin, 0..SENDERS)
        .into_iter()
        .map(|mut sender| {
            thread::spawn(move || {
                sender.send(LINES);
                sender.finish();
                sender
            })
        })
        .collect();
    let output = collect_slowly(stdout, |number| match number {
        50 => 2 * SECOND,
        0..100 => SECOND / 100,
        _ => Duration::ZERO,
    });
    let mut memory = 0;
    wait_for("all is sent", 2 * PATIENCE, || {
        memory = memory.max(fanin.memory());
        threads
            .iter()
            .all(|thread| thread.is_finished())
            .then_some(())
    });
    let all: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let sum = fanin.printed_sum();
    assert!(bytes(&all) > sum, "less than would show a leak");
    assert!(
        memory <= sum,
        "{memory} bytes, and at most {sum} were promised"
    );
    let report = fanin.drain();
    assert!(
        report["pauses"]["ring"]["seconds"].as_f64().unwrap() > 2.0,
        "{report:#}"
    );
    assert_nothing_lost(&report, bytes(&all));
    assert_eq!(report["messages"]["delivered"], LINES * SENDERS as u64);
    // It drains while it reads the last of them.
    let closed = &report["connections"]["closed"];
    let closed = ["eof", "shutdown"].map(|reason| closed[reason].as_u64().unwrap());
    assert_eq!(closed.iter().sum::<u64>(), SENDERS as u64);
    assert_delivered(&output.join().unwrap(), all.iter().map(Sender::sent));
}

#[test]
fn a_sink_that_is_slow_stops_and_goes_on_loses_doubles_and_reorders_nothing() {
    a_slow_sink_loses_nothing(&[]);
}

#[test]
fn several_reactors_and_consumers_lose_nothing_to_a_slow_sink() {
    a_slow_sink_loses_nothing(&["--reactors", "2", "--consumers", "2"]);
}

#[test]
fn sigterm_under_full_load_delivers_what_was_written_before_each_fin() {
    let mut fanin = Fanin::start(&SMALL_RING);
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = senders(&fanin, 0..6)
        .into_iter()
        .map(|mut sender| {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    sender.send(10);
                }
                sender.finish();
                sender
            })
        })
        .collect();
    let wait_for_more = |than: u64| {
        wait_for("a MiB more is written", PATIENCE, || {
            Some(fanin.written()).filter(|written| *written > than + (1 << 20))
        })
    };
    wait_for_more(0);
    fanin.signal(Signal::TERM);
    wait_for("it drains", PATIENCE, || {
        fanin.said().contains("draining").then_some(())
    });
    // They write on, and are read.
    wait_for_more(fanin.written());
    stop.store(true, Ordering::Relaxed);
    let all: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let report = fanin.final_report(0);
    assert_eq!(report["connections"]["closed"]["shutdown"], all.len());
    assert_nothing_lost(&report, bytes(&all));
    assert_delivered(&fanin.output(), all.iter().map(Sender::sent));
}

#[test]
fn senders_that_write_beyond_the_drain_are_cut_between_two_messages() {
    let options = [&SMALL_RING[..], &["--drain-timeout", "2s"]].concat();
    let (mut fanin, stdout) = Fanin::start_piped(&options);
    // As slow as it is, it has time for a ring and more in half of the drain.
    let output = collect_slowly(stdout, |_| SECOND / 100);
    let threads: Vec<_> = senders(&fanin, 0..4)
        .into_iter()
        .map(|mut sender| {
            thread::spawn(move || {
                while sender.try_send().is_ok() {}
                sender
            })
        })
        .collect();
    wait_for("the load is on", PATIENCE, || {
        (total(&fanin.report_now(), "/bytes/delivered") > 1 << 20).then_some(())
    });
    fanin.signal(Signal::TERM);
    let report = fanin.final_report(0);
    let all: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(report["connections"]["closed"]["shutdown"], all.len());
    let output = output.join().unwrap();
    let counts = count_lines(&output);
    for sender in &all {
        let (number, lines) = sender.sent();
        assert!(counts[&number] <= lines, "{number}");
    }
    assert_eq!(report["bytes"]["delivered"], output.len());
    let read = total(&report, "/bytes/received");
    let cut = total(&report, "/bytes/discarded/cut_at_end");
    assert_eq!(read, output.len() as u64 + cut);
    let unread = total(&report, "/unread");
    assert!(unread <= bytes(&all) - read, "{report:#}");
}

#[test]
fn a_drain_whose_sink_stands_still_ends_in_time_and_says_what_was_not_delivered() {
    let options = [&SMALL_RING[..], &["--drain-timeout", "1s"]].concat();
    let (mut fanin, stdout) = Fanin::start_piped(&options);
    let mut all = senders(&fanin, 0..4);
    hold(&mut all);
    // More may come until they are closed: TCP asks again and again whether there is room.
    let read = total(&fanin.report_now(), "/bytes/received");
    let waits = waiting(&all);
    assert!(waits > 0);
    fanin.signal(Signal::TERM);
    let report = fanin.final_report(1);
    let drain = report["drain"]["seconds"].as_f64().unwrap();
    assert!((0.9..2.0).contains(&drain), "{drain} s");
    let output = collect(stdout).join().unwrap();
    let whole = output.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    count_lines(&output[..whole]);
    let books = &report["bytes"];
    assert_eq!(
        books["delivered"], whole,
        "what the pipe took, in whole messages"
    );
    let [received, published, abandoned] =
        ["received", "published", "abandoned"].map(|book| books[book].as_u64().unwrap());
    assert_eq!(abandoned, published - whole as u64);
    let unread = total(&report, "/unread");
    assert!(
        (read + waits..=bytes(&all)).contains(&(received + unread)),
        "{read} read and {waits} waited: {report:#}"
    );
    // A message's beginning is lost with the sink that it was read for.
    let begun = total(&report, "/bytes/discarded/consumer_gone");
    let said = format!("{} bytes were not delivered", abandoned + begun);
    assert!(fanin.said().contains(&said), "{}", fanin.said());
}

#[test]
fn a_pause_by_the_sink_evicts_nobody_as_idle_or_for_an_unfinished_message() {
    let deadlines = ["--idle-timeout", "3s", "--message-timeout", "3s"];
    let (mut fanin, mut stdout) = Fanin::start_piped(&[&SMALL_RING[..], &deadlines].concat());
    let mut all = senders(&fanin, 0..6);
    hold(&mut all);
    let mut slow = Sender::new(&fanin, 6);
    slow.send_part(2);
    let peer = slow.peer();
    let slow_has = |what: &str| {
        let row = live(&fanin.report_now(), &peer);
        row.map(|row| row[what].as_u64().unwrap())
    };
    wait_for("its beginning waits", PATIENCE, || {
        (slow_has("unread") == Some(2)).then_some(())
    });
    // The sink goes on until it is read, and stops in the middle of its line.
    let mut first = Vec::new();
    wait_for("it is read", PATIENCE, || {
        let read = first.len();
        first.resize(read + (32 << 10), 0);
        stdout.read_exact(&mut first[read..]).unwrap();
        (slow_has("staged") == Some(2)).then_some(())
    });
    hold(&mut all);
    slow.send_part(1);
    wait_for("the next of it waits", PATIENCE, || {
        (slow_has("unread") == Some(1)).then_some(())
    });
    // And some come only now.
    all.extend(senders(&fanin, 7..9));
    hold(&mut all);
    nothing_for(5 * SECOND);
    assert_eq!(total(&fanin.report_now(), "/connections/closed"), 0);

    let output = collect(stdout);
    wait_for("it is read", PATIENCE, || {
        (slow_has("staged") == Some(3)).then_some(())
    });
    all.push(slow);
    finish(&fanin, &mut all);
    let report = fanin.drain();
    assert_eq!(report["connections"]["closed"]["eof"], all.len());
    assert_nothing_lost(&report, bytes(&all));
    first.extend(output.join().unwrap());
    assert_delivered(&first, all.iter().map(Sender::sent));
}
