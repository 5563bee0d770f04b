//! fanin in the process, with consumers that do what the program's sink `null` does.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use fanin::{Batch, Coalesce, Config, Fanin, ListenAddr, Record, Turn};

use super::thread;
use crate::common::framing::Framing;
use crate::common::work::Work;
use crate::common::{number, option};

fn bind(listener: TcpListener, args: &[String], framing: Framing) -> Fanin {
    let mut config = Config::listen("tcp://127.0.0.1:0").expect("an address");
    config.listeners[0].address = ListenAddr::Inherited(Arc::new(OwnedFd::from(listener)));
    config.framing = framing.name().parse().expect("a framing");
    config.max_connections = number(args, "--max-connections", 19_000);
    config.consumers = number(args, "--consumers", 1);
    config.reactors = number(args, "--reactors", 1);
    config.ring_bytes = option(args, "--ring").map(|_| number(args, "--ring", 0));
    config.coalesce = match option(args, "--coalesce") {
        None => Coalesce::Auto,
        Some("off") => Coalesce::Off,
        Some(time) => Coalesce::Apart(Duration::from_micros(time.parse().expect("microseconds"))),
    };
    config.max_message = number(args, "--max-message", config.max_message);
    if args.iter().any(|arg| arg == "--autotune") {
        config.receive_buffer = 0;
    }
    config.validate().expect("valid").bind().expect("bound")
}

fn take(batch: Batch<'_>, work: &mut Work) {
    for record in batch.records() {
        if let Record::Messages(messages) = record {
            work.messages(messages.iter(), messages.raw().len());
        }
    }
    batch.release();
    work.publish();
}

pub(super) fn two_threads(listener: TcpListener, args: &[String], framing: Framing) {
    let fanin = bind(listener, args, framing);
    for mut consumer in fanin.consumers {
        let mut work = Work::new(framing, args);
        thread("consumer", move || {
            while let Ok(batch) = consumer.wait() {
                take(batch, &mut work);
            }
            panic!("it ended by itself");
        });
    }
    for reactor in fanin.reactors {
        thread("reactor", move || reactor.run().expect("runs until killed"));
    }
    std::mem::forget(fanin.handle);
}

pub(super) fn one_thread(listener: TcpListener, args: &[String], framing: Framing) {
    let mut fanin = bind(listener, args, framing);
    let (mut reactor, mut consumer) = (fanin.reactors.remove(0), fanin.consumers.remove(0));
    let mut work = Work::new(framing, args);
    thread("reactor", move || {
        while reactor.turn(None).expect("runs until killed") == Turn::Running {
            // All there is, before the reactor waits again: it would not be woken for it.
            while let Some(batch) = consumer.try_next().expect("goes on") {
                take(batch, &mut work);
            }
        }
        panic!("it ended by itself");
    });
}
