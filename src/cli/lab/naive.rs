//! The designs that everybody writes first: a thread for each connection, and the usual remedies, one at
//! a time. Written as they are written: simple, and not worse than that.
//!
//! In: a listener. Out: messages at the consumer, and what the server itself would count.
//! Never here: the library.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::desk::{Desk, Pace};

/// A design of this kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Naive {
    /// Messages that the channel holds.
    pub(crate) channel: usize,
    pub(crate) remedy: Remedy,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Remedy {
    None,
    /// Connections at once; more are closed.
    Limit(usize),
    /// A send that takes longer drops its message and its connection.
    Deadline(Duration),
    /// Does not accept while most handlers wait in a send.
    Listener,
    /// One more thread between the handlers and the consumer.
    Funnel,
    /// Messages a second of each connection.
    Rate(u64),
}

/// What such a server can know.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Messages given up.
    pub(crate) dropped: AtomicU64,
    open: AtomicUsize,
    waiting: AtomicUsize,
}

/// Starts the threads, one consumer for each pace; they end with the process.
pub(crate) fn start(
    design: Naive,
    listener: TcpListener,
    desk: Arc<Mutex<Desk>>,
    paces: Vec<Pace>,
) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    let (sender, messages) = sync_channel::<Vec<u8>>(design.channel);
    let messages = Arc::new(Mutex::new(messages));
    for mut pace in paces {
        let (messages, desk) = (Arc::clone(&messages), Arc::clone(&desk));
        let next = move || messages.lock().unwrap().recv();
        thread::spawn(move || {
            while let Ok(message) = next() {
                pace.wait();
                desk.lock().unwrap().take(&message);
            }
        });
    }
    let sender = match design.remedy {
        Remedy::Funnel => funnel(sender),
        _ => sender,
    };
    let shared = Arc::clone(&counts);
    thread::spawn(move || accept(&listener, design.remedy, &sender, &shared));
    counts
}

fn funnel(sender: SyncSender<Vec<u8>>) -> SyncSender<Vec<u8>> {
    let (front, messages): (_, Receiver<Vec<u8>>) = sync_channel(0);
    thread::spawn(move || {
        for message in messages {
            if sender.send(message).is_err() {
                break;
            }
        }
    });
    front
}

fn accept(
    listener: &TcpListener,
    remedy: Remedy,
    sender: &SyncSender<Vec<u8>>,
    counts: &Arc<Counts>,
) {
    loop {
        let overloaded = || {
            let (open, waiting) = (&counts.open, &counts.waiting);
            2 * waiting.load(Ordering::Relaxed) > open.load(Ordering::Relaxed)
        };
        while matches!(remedy, Remedy::Listener) && overloaded() {
            thread::sleep(Duration::from_millis(10));
        }
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors: later there may be one.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        let full =
            matches!(remedy, Remedy::Limit(most) if counts.open.load(Ordering::Relaxed) >= most);
        if full {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        counts.open.fetch_add(1, Ordering::Relaxed);
        let (sender, shared) = (sender.clone(), Arc::clone(counts));
        let handler = thread::Builder::new().spawn(move || {
            handle(stream, remedy, &sender, &shared);
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
        if handler.is_err() {
            counts.open.fetch_sub(1, Ordering::Relaxed);
            counts.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One connection, until its end or until a message could not be sent.
fn handle(mut stream: TcpStream, remedy: Remedy, sender: &SyncSender<Vec<u8>>, counts: &Counts) {
    let mut buffer = [0; 512];
    let mut text = Vec::new();
    let mut next = Instant::now();
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        for part in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(part);
            if text.pop_if(|byte| *byte == b'\n').is_none() {
                continue;
            }
            if let Remedy::Rate(rate) = remedy {
                thread::sleep(next.saturating_duration_since(Instant::now()));
                next = next.max(Instant::now()) + Duration::from_secs(1) / rate as u32;
            }
            counts.waiting.fetch_add(1, Ordering::Relaxed);
            let sent = match remedy {
                Remedy::Deadline(time) => send_within(time, sender, std::mem::take(&mut text)),
                _ => sender.send(std::mem::take(&mut text)).is_ok(),
            };
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
            if !sent {
                counts.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// The standard channel has no send with a deadline: asked again and again.
fn send_within(time: Duration, sender: &SyncSender<Vec<u8>>, mut message: Vec<u8>) -> bool {
    let deadline = Instant::now() + time;
    loop {
        message = match sender.try_send(message) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(message)) => message,
        };
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
