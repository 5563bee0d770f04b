//! From a checked configuration to reactors and consumers.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use super::check::several;
use super::{Checked, ListenAddr, OnConsumerGone, OnFull, PressureAction};
use crate::bytes::Bytes;
use crate::conn::Clocks;
use crate::consumer::Consumer;
use crate::frame::{Framing, Limits};
use crate::net::{Mio, Net, SocketOptions, bind_tcp, bind_unix, inherit};
use crate::policy::Seed;
use crate::reactor::{
    Admission, Gate, Handle, Lane, Parts, Reactor, Remote, Sources, StallPolicy, Together, clock,
};
use crate::ring::{Parked, Wake, ring};
use crate::status::BoundAddr;

/// Everything that runs: move each reactor and each consumer into a thread of its own, or step them in
/// one.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fanin<N: Net = Mio> {
    /// One for each of [`Config::reactors`](crate::Config::reactors).
    pub reactors: Vec<Reactor<N>>,
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
            let opened = match &listen.address {
                ListenAddr::Tcp(address) => bind_tcp(*address, config.reactors, &options),
                ListenAddr::Unix(path) => bind_unix(path, config.reactors, &options),
                ListenAddr::Inherited(fd) => inherit(fd, config.reactors, &options),
            };
            let (listeners, bound) = opened.map_err(|source| BindError {
                what: listen.address.to_string(),
                source,
            })?;
            addrs.push(bound);
            for (mine, listener) in sockets.iter_mut().zip(listeners) {
                mine.push(listener);
            }
        }
        let mut nets = Vec::new();
        for (index, listeners) in sockets.into_iter().enumerate() {
            let mut net = Mio::new().map_err(|source| failed(index, source))?;
            // The first opens the listeners of all.
            if index == 0 && config.pressure.action == PressureAction::CloseListener {
                net.may_listen_again(&addrs, &options);
            }
            nets.push((net, listeners));
        }
        self.assemble(nets, addrs, Seed::random())
    }

    /// The same over any network: for each reactor one, with a listener for each of the configuration's.
    /// `seed`: of the tables in which sources are counted.
    pub(crate) fn assemble<N: Net>(
        self,
        nets: Vec<(N, Vec<N::Listener>)>,
        addrs: Vec<BoundAddr>,
        seed: Seed,
    ) -> Result<Fanin<N>, BindError> {
        let config = &self.config;
        let framings: Arc<[Framing]> = config
            .listeners
            .iter()
            .map(|listen| listen.framing.as_ref().unwrap_or(&config.framing).clone())
            .collect();
        let parked: Vec<_> = (0..config.consumers)
            .map(|_| Arc::new(Parked::new()))
            .collect();
        let mut ends: Vec<Vec<_>> = (0..config.consumers).map(|_| Vec::new()).collect();
        let admission = Arc::new(Admission::new(
            config.max_connections,
            config.listeners.iter().map(|listen| listen.max_connections),
        ));
        let limits = config.per_source.limits();
        let sources = Sources::new(limits, config.max_connections, seed).map(Arc::new);
        let together = Arc::new(Together::new(config.consumers));
        let (openers, mut opened): (Vec<_>, Vec<_>) = nets.iter().map(|_| channel()).unzip();
        let openers: Arc<[_]> = openers.into();
        let rates = self.rates(seed);
        let mut reactors = Vec::new();
        let mut remotes: Vec<Remote> = Vec::new();
        let mut wakers: Vec<Arc<dyn Wake>> = Vec::new();
        for (index, (net, listeners)) in nets.into_iter().enumerate() {
            // The process's clock first: then nothing is told to have lasted less than it has.
            let start = Instant::now();
            let start = start - net.now();
            wakers.push(net.waker());
            let mut lanes = Vec::new();
            for (parked, ends) in parked.iter().zip(&mut ends) {
                let (mut producer, end) = ring(self.ring_bytes, net.waker(), parked.clone())
                    .map_err(|_| self.no_room_for_rings())?;
                // Where what comes to a full ring is lost, each ring has all of its room at any time.
                if config.on_full != OnFull::Discard {
                    producer.start_over_from(self.start_over);
                }
                let mut lane = Lane::new(
                    producer,
                    parked.clone(),
                    self.low,
                    self.high,
                    config.consumer_stall,
                );
                lane.discards = config.on_full == OnFull::Discard;
                lanes.push(lane);
                ends.push(end);
            }
            let parts = Parts {
                index,
                listeners: listeners
                    .into_iter()
                    .zip(framings.iter().cloned())
                    .collect(),
                lanes,
                max_message: config.max_message,
                clocks: Clocks {
                    idle: config.deadlines.idle.map(clock),
                    message: config.deadlines.message.map(clock),
                    window: config.least_rate.map(|least| clock(least.window)),
                    age: config.deadlines.age.map(clock),
                    linger: clock(config.deadlines.linger),
                },
                limits: framings
                    .iter()
                    .map(|framing| self.limits(framing))
                    .collect(),
                octet_limits: self.limits(&Framing::Octet),
                stall: config.deadlines.stall,
                least_rate: config.least_rate,
                staging_bytes: self.staging_bytes(),
                route: config.route,
                reroute: config.on_consumer_gone == OnConsumerGone::Reroute,
                drain_timeout: config.drain_timeout,
                spacing: self.spacing(),
                budgets: config.budgets,
                at_limit: config.at_max_connections,
                admission: admission.clone(),
                sources: sources.clone(),
                together: together.clone(),
                gate: config.pressure.after.map(|after| {
                    let closes = config.pressure.action == PressureAction::CloseListener;
                    Gate::new(
                        index == 0,
                        after,
                        closes,
                        (openers.clone(), opened.remove(0)),
                    )
                }),
                consumer_stall: StallPolicy {
                    after: config.consumer_stall,
                    then: config.on_consumer_stall,
                },
                rates: rates.clone(),
            };
            let reactor = Reactor::new(net, parts).map_err(|source| failed(index, source))?;
            remotes.push(reactor.remote(start));
            reactors.push(reactor);
        }
        together.set_wakers(wakers.clone());
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

    fn no_room_for_rings(&self) -> BindError {
        let rings = several(self.config.reactors * self.config.consumers, "ring");
        BindError {
            what: format!("{rings} of {}", Bytes(self.ring_bytes as u64)),
            source: io::ErrorKind::OutOfMemory.into(),
        }
    }

    fn limits(&self, framing: &Framing) -> Limits {
        Limits {
            max: framing.max_message(self.config.max_message),
            oversize: self.oversize(framing),
        }
    }
}

fn failed(reactor: usize, source: io::Error) -> BindError {
    BindError {
        what: format!("reactor {reactor}"),
        source,
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => BoundAddr::Tcp(*address).fmt(f),
            Self::Unix(path) => BoundAddr::Unix(Some(path.clone())).fmt(f),
            Self::Inherited(fd) => write!(f, "inherited descriptor {}", fd.as_raw_fd()),
        }
    }
}
