//! What other threads may ask of the reactors, and how they are answered.
//!
//! In: calls on a [`Handle`]. Out: commands in a bounded channel of each reactor, and numbers read from
//! its counters. Never here: a wait, on either side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, TrySendError, channel,
};
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::fairness;
use super::listener::STATES;
use crate::books::Moment;
use crate::close::{PauseCause, Reason};
use crate::peer::ConnectionId;
use crate::policy::rate::Scope;
use crate::ring::shared::{AtomicBool, AtomicU64};
use crate::ring::{RingObserver, Wake};
use crate::status::{
    BoundAddr, ClosedInfo, ConnectionInfo, ConsumerStatus, ListenerStatus, Pauses, RingStatus,
    Snapshot,
};

/// Commands that may wait for one reactor.
pub(crate) const COMMANDS: usize = 1024;

/// Which connections a pause is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// All that are connected now.
    All,
    /// Those that are bound to this consumer now.
    Consumer(usize),
    /// One.
    Connection(ConnectionId),
}

#[derive(Debug)]
pub(crate) enum Command {
    Close(ConnectionId),
    Pause(Target),
    Resume(Target),
    Connections(Sender<Vec<ConnectionInfo>>),
    RecentlyClosed(Sender<Vec<ClosedInfo>>),
}

/// Orders that must arrive whatever the channel holds.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    stop: AtomicBool,
    /// Milliseconds, plus one; 0: no drain is ordered.
    drain: AtomicU64,
}

impl Orders {
    pub(crate) fn is_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn drain(&self) -> Option<Duration> {
        let order = self.drain.load(Ordering::Acquire);
        (order != 0).then(|| Duration::from_millis(order - 1))
    }
}

/// One reactor, as a handle sees it.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) commands: SyncSender<Command>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) waker: Arc<dyn Wake>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) rings: Vec<RingObserver>,
    /// Where the reactor counts time from, for all that is told to last.
    pub(crate) start: Instant,
}

impl Remote {
    fn send(&self, command: Command) -> bool {
        self.try_send(command).is_ok()
    }

    fn try_send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        let sent = self.commands.try_send(command);
        self.waker.wake();
        sent
    }
}

/// The way to all reactors from any thread. No call waits, and every call works at any time; after the
/// end it has no effect.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) remotes: Arc<Vec<Remote>>,
    pub(crate) addrs: Arc<Vec<BoundAddr>>,
}

impl Handle {
    /// Where it listens, in the order of the configuration, with the real ports.
    pub fn local_addrs(&self) -> &[BoundAddr] {
        &self.addrs
    }

    /// Stops accepting, reads each connection until its peer has finished or half of `within` has
    /// passed, delivers in the other half, and ends. Returns at once; the reactors return when it is
    /// done. Of several drains, also such as a reactor has begun by itself because a consumer is gone or stalled, the one
    /// that ends first holds.
    pub fn drain(&self, within: Duration) {
        let order = u64::try_from(within.as_millis())
            .unwrap_or(u64::MAX - 1)
            .saturating_add(1);
        for remote in &*self.remotes {
            let is_sooner = |before| (before == 0 || order < before).then_some(order);
            let drain = &remote.orders.drain;
            let _ = drain.fetch_update(Ordering::AcqRel, Ordering::Acquire, is_sooner);
            remote.waker.wake();
        }
    }

    /// Ends at once: what is in the rings is not waited for.
    pub fn stop(&self) {
        for remote in &*self.remotes {
            remote.orders.stop.store(true, Ordering::Release);
            remote.waker.wake();
        }
    }

    /// Closes a connection; what its peer has sent is read and delivered first. `false`: the reactor
    /// has too many commands to do, or there is no such reactor.
    pub fn close(&self, who: ConnectionId) -> bool {
        self.remotes
            .get(who.reactor())
            .is_some_and(|remote| remote.send(Command::Close(who)))
    }

    /// Stops reading from the target until [`Handle::resume`]. Its peers are held by TCP, and are
    /// noticed when they leave. `false`: a reactor has too many commands to do.
    pub fn pause(&self, target: Target) -> bool {
        self.send_to(target, || Command::Pause(target))
    }

    /// Ends a [`Handle::pause`].
    pub fn resume(&self, target: Target) -> bool {
        self.send_to(target, || Command::Resume(target))
    }

    fn send_to(&self, target: Target, command: impl Fn() -> Command) -> bool {
        match target {
            Target::Connection(who) => self
                .remotes
                .get(who.reactor())
                .is_some_and(|remote| remote.send(command())),
            Target::All | Target::Consumer(_) => {
                // Not `all`, which would stop at the first that is busy.
                self.remotes
                    .iter()
                    .filter(|remote| !remote.send(command()))
                    .count()
                    == 0
            }
        }
    }

    /// Lists the live connections; see [`Query::missing`].
    pub fn connections(&self) -> Query<ConnectionInfo> {
        self.query(Command::Connections)
    }

    /// Lists connections that have ended, the last 1,000 of each reactor; see [`Query::missing`].
    pub fn recently_closed(&self) -> Query<ClosedInfo> {
        self.query(Command::RecentlyClosed)
    }

    fn query<T>(&self, command: impl Fn(Sender<Vec<T>>) -> Command) -> Query<T> {
        let (sender, answers) = channel();
        // One that has ended has no rows.
        let is_too_busy = |remote: &&Remote| {
            let sent = remote.try_send(command(sender.clone()));
            matches!(sent, Err(TrySendError::Full(_)))
        };
        Query {
            missing: self.remotes.iter().filter(is_too_busy).count(),
            answers,
            rows: Vec::new(),
        }
    }

    /// All counts, summed over the reactors; at most one turn old.
    pub fn snapshot(&self) -> Snapshot {
        let mut all = Snapshot {
            ended: true,
            ..Snapshot::default()
        };
        let mut pauses = [Pauses::default(); PauseCause::ALL.len()];
        let mut fairness = fairness::Sum::default();
        for (reactor, remote) in self.remotes.iter().enumerate() {
            let c = &*remote.counters;
            all.connections.open += c.open.read();
            all.connections.accepted += c.accepted.read();
            all.connections.refused.add(&c.refused.read());
            all.connections.closed.add(&c.closed.read());
            all.bytes.received += c.received.read();
            all.bytes.discarded.add(&c.discarded.read());
            all.bytes.staged += c.staged.read();
            all.bytes.published += c.published.read();
            all.unread += c.unread.read();
            all.connections.held_by_staging += c.held_by_staging.read();
            all.rates.connection.add(c.rate(Scope::Connection));
            all.rates.source.add(c.rate(Scope::Source));
            all.rates.listener.add(c.rate(Scope::Listener));
            for cause in PauseCause::ALL {
                pauses[cause.index()].count += c.pauses(*cause).count;
                pauses[cause.index()].time += c.pauses(*cause).time;
            }
            all.peak.connections = all.peak.connections.max(c.peak_open.read());
            all.peak.ring_bytes = all.peak.ring_bytes.max(c.peak_ring.read());
            all.peak.staging_bytes = all.peak.staging_bytes.max(c.peak_staging.read());
            all.shuts += c.shuts.read();
            all.long_turns += c.long_turns.read();
            all.work.scanned += c.scanned.read();
            all.work.copied += c.copied.read();
            let ended = c.ended.read() == 1;
            all.ended &= ended;
            let second = remote.start.elapsed().as_secs() as u32;
            fairness.add(&c.fairness.read(), second, ended);
            for (consumer, ring) in remote.rings.iter().enumerate() {
                let status = ring_status(remote, reactor, consumer, ring);
                all.bytes.delivered += status.delivered;
                all.bytes.abandoned += status.abandoned;
                all.rings.push(status);
            }
            for (address, listener) in self.addrs.iter().zip(&c.listeners) {
                all.listeners.push(ListenerStatus {
                    reactor,
                    address: address.clone(),
                    state: STATES[(listener.state.read() as usize).min(STATES.len() - 1)],
                    failures: listener.failures.read(),
                    error: i32::try_from(listener.errno.read())
                        .ok()
                        .filter(|errno| *errno != 0),
                    accepted: listener.accepted.read(),
                });
            }
        }
        all.fairness = fairness.status();
        all.connections.held_by_rate = all.rates.held();
        all.consumers = consumers(&all.rings);
        all.bytes.in_rings = all.rings.iter().map(|ring| ring.unreleased()).sum();
        all.pauses = PauseCause::ALL
            .iter()
            .map(|c| (*c, pauses[c.index()]))
            .collect();
        all
    }
}

/// Each consumer, from its rings.
fn consumers(rings: &[RingStatus]) -> Vec<ConsumerStatus> {
    let count = rings.iter().map(|ring| ring.consumer + 1).max();
    let mut all: Vec<_> = (0..count.unwrap_or(0)).map(ConsumerStatus::new).collect();
    for ring in rings {
        all[ring.consumer].add(ring);
    }
    all
}

fn ring_status(
    remote: &Remote,
    reactor: usize,
    consumer: usize,
    ring: &RingObserver,
) -> RingStatus {
    let counters = &remote.counters.rings[consumer];
    let elapsed = remote.start.elapsed();
    let since = |at: &Moment| Some(elapsed.saturating_sub(at.read()?));
    let blocked_for = since(&counters.blocked_since);
    // Noted once a turn, which may be a while ago: by now everything may have been released.
    let occupied = ring.occupied();
    let if_any = |time: Option<Duration>| time.filter(|_| occupied > 0);
    RingStatus {
        reactor,
        consumer,
        capacity: ring.capacity() as u64,
        occupied,
        published: ring.published(),
        delivered: ring.delivered(),
        abandoned: ring.abandoned(),
        unwalked: ring.is_unwalked(),
        connections: counters.connections.read(),
        blocked_for,
        oldest: if_any(since(&counters.oldest_since)),
        still_for: if_any(since(&counters.still_since)),
        stalled: counters.stalled.read() == 1,
        stalls: counters.stalls.read(),
        blocked: Pauses {
            count: counters.blocks.read() + u64::from(blocked_for.is_some()),
            time: Duration::from_micros(counters.blocked_micros.read())
                + blocked_for.unwrap_or_default(),
        },
    }
}

/// A list on its way: the reactors answer in slices, between turns.
#[derive(Debug)]
pub struct Query<T> {
    missing: usize,
    answers: Receiver<Vec<T>>,
    rows: Vec<T>,
}

impl<T> Query<T> {
    /// Reactors that could not be asked, because they have too many commands to do: the list will be without theirs.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Waits for the rest of the list, and returns what had come by then: reactors that have ended, that do not turn or
    /// that could not be asked do not answer.
    pub fn wait(mut self, at_most: Duration) -> Vec<T> {
        let began = Instant::now();
        loop {
            match self
                .answers
                .recv_timeout(at_most.saturating_sub(began.elapsed()))
            {
                Ok(rows) => self.rows.extend(rows),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return self.rows;
                }
            }
        }
    }

    /// What has come so far; `Some` once all who were asked have answered. For one thread that also turns the reactor.
    pub fn try_take(&mut self) -> Option<Vec<T>> {
        loop {
            match self.answers.try_recv() {
                Ok(rows) => self.rows.extend(rows),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => return Some(std::mem::take(&mut self.rows)),
            }
        }
    }
}
