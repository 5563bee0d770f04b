//! From a checked configuration to reactors and consumers.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::{Checked, ListenAddr, OnConsumerGone};
use crate::conn::Clocks;
use crate::consumer::Consumer;
use crate::frame::{Framing, Limits};
use crate::net::{Mio, Net, SocketOptions, bind_tcp, bind_unix, inherit};
use crate::reactor::{Admission, Handle, Lane, Parts, Reactor, Remote, ticks};
use crate::ring::{Parked, Wake, ring};
use crate::status::BoundAddr;

/// Everything that runs: move each reactor and each consumer into a thread of its own, or step them in
/// one.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fanin {
    /// One for each of [`Config::reactors`](crate::Config::reactors).
    pub reactors: Vec<Reactor>,
    /// One for each of [`Config::consumers`](crate::Config::consumers).
    pub consumers: Vec<Consumer>,
    /// The way to all of them from any thread.
    pub handle: Handle,
}

/// The system refused a listener, or what a reactor needs.
#[derive(Debug)]
#[non_exhaustive]
pub struct BindError {
    /// What was to be set up.
    pub what: String,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Checked {
    /// Opens the listeners and makes the reactors, rings and consumers. Nothing is accepted before a
    /// reactor turns.
    pub fn bind(self) -> Result<Fanin, BindError> {
        let config = &self.config;
        let options = SocketOptions {
            receive_buffer: config.receive_buffer,
            backlog: config.backlog,
            keepalive: config.keepalive,
            user_timeout: config.user_timeout,
        };
        let mut addrs = Vec::new();
        let mut sockets: Vec<Vec<_>> = (0..config.reactors).map(|_| Vec::new()).collect();
        for listen in &config.listeners {
            let framing = listen
                .framing
                .clone()
                .unwrap_or_else(|| config.framing.clone());
            let opened = match &listen.address {
                ListenAddr::Tcp(address) => bind_tcp(*address, config.reactors, &options),
                ListenAddr::Unix(path) => bind_unix(path, config.reactors, &options),
                ListenAddr::Inherited(fd) => inherit(fd, config.reactors),
            };
            let what = || match &listen.address {
                ListenAddr::Tcp(address) => BoundAddr::Tcp(*address).to_string(),
                ListenAddr::Unix(path) => BoundAddr::Unix(Some(path.clone())).to_string(),
                ListenAddr::Inherited(fd) => format!("inherited {fd:?}"),
            };
            let (listeners, bound) = opened.map_err(|source| BindError {
                what: what(),
                source,
            })?;
            addrs.push(bound);
            for (mine, listener) in sockets.iter_mut().zip(listeners) {
                mine.push((listener, framing.clone()));
            }
        }
        let framings: Arc<[Framing]> = sockets[0]
            .iter()
            .map(|(_, framing)| framing.clone())
            .collect();

        let parked: Vec<_> = (0..config.consumers)
            .map(|_| Arc::new(Parked::new()))
            .collect();
        let mut ends: Vec<Vec<_>> = (0..config.consumers).map(|_| Vec::new()).collect();
        let admission = Arc::new(Admission::new(config.max_connections));
        let start = Instant::now();
        let mut reactors = Vec::new();
        let mut remotes: Vec<Remote> = Vec::new();
        let mut wakers: Vec<Arc<dyn Wake>> = Vec::new();
        for (index, listeners) in sockets.into_iter().enumerate() {
            let failed = |source| BindError {
                what: format!("reactor {index}"),
                source,
            };
            let net = Mio::new().map_err(failed)?;
            wakers.push(net.waker());
            let mut lanes = Vec::new();
            for (parked, ends) in parked.iter().zip(&mut ends) {
                let (producer, end) = ring(self.ring_bytes, net.waker(), parked.clone());
                lanes.push(Lane::new(producer, parked.clone(), self.low, self.high));
                ends.push(end);
            }
            let parts = Parts {
                index,
                listeners,
                lanes,
                max_message: config.max_message,
                clocks: Clocks {
                    idle: config.deadlines.idle.map(ticks),
                    message: config.deadlines.message.map(ticks),
                    age: config.deadlines.age.map(ticks),
                    linger: ticks(config.deadlines.linger),
                },
                limits: framings
                    .iter()
                    .map(|framing| self.limits(framing))
                    .collect(),
                stall: config.deadlines.stall,
                // Shared out, not shared: a reactor asks nobody before it reads.
                staging_bytes: (config.staging_bytes / config.reactors).max(config.max_message),
                route: config.route,
                reroute: config.on_consumer_gone == OnConsumerGone::Reroute,
                drain_timeout: config.drain_timeout,
                admission: admission.clone(),
            };
            let reactor = Reactor::new(net, parts).map_err(failed)?;
            remotes.push(reactor.remote(start));
            reactors.push(reactor);
        }
        admission.set_wakers(wakers);
        let batch = self.ring_bytes / 8;
        let consumers = ends
            .into_iter()
            .zip(parked)
            .enumerate()
            .map(|(index, (ends, parked))| {
                Consumer::new(
                    index,
                    ends,
                    parked,
                    framings.clone(),
                    batch,
                    config.max_connections,
                )
            })
            .collect();
        let handle = Handle {
            remotes: Arc::new(remotes),
            addrs: Arc::new(addrs),
        };
        Ok(Fanin {
            reactors,
            consumers,
            handle,
        })
    }

    fn limits(&self, framing: &Framing) -> Limits {
        Limits {
            max: framing.max_message(self.config.max_message),
            oversize: self.oversize(framing),
        }
    }
}
