//! What must hold between any two turns. A simulation asks after each.
//!
//! In: a reactor at rest. Out: nothing, or a panic that says what is wrong with which connection.

use std::time::Duration;

use super::drain::Phase;
use super::lane::Flow;
use super::slots::Place;
use super::stalled::Pace;
use super::wheel::NONE;
use super::{MARKS, REMEMBERED, Reactor, TICK, tick_of, tick_time};
use crate::close::{CloseReason, PauseCause, Reason};
use crate::conn::{PeerEnd, State, has_come, sooner};
use crate::net::sim::SimNet;
use crate::net::{Net, Watch};
use crate::peer::{ConnectionId, Peer};
use crate::policy::rate::Scope;
use crate::policy::{AtLimit, Fairness};
use crate::status::Pauses;

/// A connection, for whoever keeps its clocks a second time.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Peer,
    pub(crate) consumer: usize,
    /// Its consumer is gone.
    pub(crate) is_orphan: bool,
    /// Its descriptor is open.
    pub(crate) open: bool,
    pub(crate) reason: Option<CloseReason>,
    /// It waits for its ring, which has been full since then.
    pub(crate) waits_for_ring: Option<Duration>,
    pub(crate) is_held_by_operator: bool,
    pub(crate) waits_for_staging: bool,
    pub(crate) is_held_by_rate: bool,
    pub(crate) listener: usize,
    pub(crate) received: u64,
    /// Bytes that the kernel held for it when its farewell began.
    pub(crate) overlooked: u64,
}

/// All connections after a turn, also those that ended in it.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) reactor: usize,
    pub(crate) now: Duration,
    pub(crate) starves: bool,
    /// Until when connections that close are read, if there is a drain.
    pub(crate) read_until: Option<Duration>,
    /// No end has begun.
    pub(crate) is_running: bool,
    pub(crate) is_anybody_there: bool,
    /// Connections of one consumer that may be ended in one turn.
    pub(crate) evict_budget: usize,
    pub(crate) fairness: Fairness,
    pub(crate) all: Vec<Seen>,
}

impl Reactor<SimNet> {
    pub(crate) fn sight(&self) -> Sight {
        let slots = self.slots.all().into_iter().map(|key| {
            let slot = &self.slots[key];
            let lane = &self.lanes[usize::from(slot.consumer)];
            Seen {
                id: self.id(key),
                peer: slot.peer(),
                consumer: usize::from(slot.consumer),
                is_orphan: lane.is_gone(),
                open: slot.stream.is_some(),
                reason: slot.conn.reason(),
                waits_for_ring: match lane.flow() {
                    Flow::Blocked { since, .. } | Flow::Shut { since }
                        if slot.place == Place::Ring && lane.is_pausing() =>
                    {
                        Some(since)
                    }
                    _ => None,
                },
                is_held_by_operator: slot.conn.is_paused_by(PauseCause::Operator),
                waits_for_staging: slot.place == Place::Staging,
                is_held_by_rate: slot.conn.is_paused_by(PauseCause::Rate),
                listener: usize::from(slot.listener),
                received: slot.conn.books().received,
                overlooked: slot
                    .stream
                    .as_ref()
                    .map_or(0, |s| self.net.truth(s).overlooked),
            }
        });
        let closed = self.closed.iter().map(|closed| Seen {
            id: closed.id,
            peer: closed.peer,
            consumer: closed.consumer,
            is_orphan: self.lanes[closed.consumer].is_gone(),
            open: false,
            reason: Some(closed.reason),
            waits_for_ring: None,
            is_held_by_operator: false,
            waits_for_staging: false,
            is_held_by_rate: false,
            listener: closed.listener,
            received: closed.books.received,
            overlooked: 0,
        });
        Sight {
            reactor: self.index,
            now: self.now,
            starves: !self.starved.is_empty(),
            read_until: self.phase.read_until(),
            is_running: self.phase == Phase::Running,
            is_anybody_there: self.lanes.iter().any(|lane| !lane.is_gone()),
            evict_budget: self.evict_budget,
            fairness: self.counters.fairness.read(),
            all: slots.chain(closed).collect(),
        }
    }

    /// Panics unless the places that are taken are those of the slots, and what is counted of sources is what
    /// they have open; all other reactors are at rest too. Returns who is connected.
    pub(crate) fn check_places<'r>(reactors: impl Iterator<Item = &'r Self>) -> Vec<Peer> {
        let mut slots = Vec::new();
        let mut open = Vec::new();
        let mut admission = None;
        let mut sources = None;
        for reactor in reactors {
            admission = Some(&reactor.admission);
            sources = reactor.sources.as_ref();
            slots.resize(reactor.listeners.len(), 0);
            for key in reactor.slots.all() {
                let slot = &reactor.slots[key];
                slots[usize::from(slot.listener)] += 1;
                open.extend(slot.stream.as_ref().map(|_| slot.peer()));
            }
        }
        if let Some(sources) = sources {
            sources.check(&open);
        }
        if let Some(admission) = admission {
            admission.check(&slots);
        }
        open
    }

    /// Panics unless every invariant holds.
    pub(crate) fn check(&self) {
        if self.phase == Phase::Ended {
            assert_eq!(self.slots.len(), 0, "ended with connections");
            return;
        }
        let goes_on = self.goes_on();
        self.lanes.iter().for_each(|lane| lane.check_wake(goes_on));
        let all_told = matches!(self.phase, Phase::Draining { untold: None, .. });
        let mut open = 0;
        let mut staged = 0;
        let mut waiting = vec![0; self.lanes.len()];
        let mut bound = vec![0; self.lanes.len()];
        let mut owing = vec![0; self.lanes.len()];
        let (mut starved, mut lingering) = (0, 0);
        let (mut held_by_staging, mut held_by_rate) = (0, [0; Scope::COUNT]);
        let mut resting = vec![vec![0; self.lanes.len()]; self.listeners.len()];
        for key in self.slots.all() {
            let slot = &self.slots[key];
            let lane = usize::from(slot.consumer);
            let books = slot.conn.books();
            assert!(books.balanced(), "{key}: {books:?}");
            assert_eq!(
                books.staged as usize,
                self.staging.bytes(slot.part).len(),
                "{key}: staged bytes"
            );
            open += u64::from(slot.stream.is_some());
            staged += books.staged as usize;
            held_by_staging += u64::from(slot.conn.is_paused_by(PauseCause::Staging));
            held_by_rate[self.held_by(key) as usize] +=
                u64::from(slot.conn.is_paused_by(PauseCause::Rate));
            bound[lane] += 1;
            match slot.place {
                Place::Nowhere => {}
                Place::Resting => {
                    resting[usize::from(slot.listener)][usize::from(slot.consumer)] += 1;
                }
                Place::Ring => waiting[lane] += 1,
                Place::Owing => owing[lane] += 1,
                Place::Staging => starved += 1,
                // Its line knows it.
                Place::Rate => {}
                Place::Lingering => lingering += 1,
                Place::Dead => panic!("{key}: dead, and its slot is not free"),
            }
            assert!(
                !all_told || slot.conn.reason().is_some(),
                "{key}: was not told of the drain"
            );
            self.check_served(key);
            self.check_told(key);
            self.check_deadline(key);
        }
        self.check_patience();
        self.check_pauses();
        let is_set = |key: &u32| self.slots[*key].wheel_tick().is_some();
        let set = self.slots.all().into_iter().filter(is_set).count();
        assert_eq!(self.wheel.check(&self.slots), set, "deadlines in the wheel");
        assert_eq!(self.counters.open.read(), open, "open connections");
        assert_eq!(self.staging.held(), staged, "staged bytes");
        let most = self.staging.most(self.slots.len());
        assert!(
            self.staging.used() <= most,
            "staging beyond its budget: {} of {most}",
            self.staging.used()
        );
        assert_eq!(self.starved.len(&self.slots), starved);
        assert_eq!(self.lingering.len(&self.slots), lingering);
        let lists = self
            .listeners
            .iter()
            .flat_map(|listening| &listening.resting);
        for (list, resting) in lists.zip(resting.into_iter().flatten()) {
            assert_eq!(list.len(&self.slots), resting);
            list.check_order(&self.slots);
        }
        let held = [Scope::Connection, Scope::Source, Scope::Listener]
            .map(|scope| self.counters.rate(scope).held);
        assert_eq!(held, held_by_rate);
        assert_eq!(self.counters.held_by_staging.read(), held_by_staging);
        if let Some(rates) = &self.rates {
            rates.check(&self.slots, &self.slots.all());
        }
        assert!(
            starved == 0 || self.staging.held() > 0 || self.calls_starved(),
            "{starved} wait for staging that nobody holds"
        );
        for key in self.starved.iter(&self.slots) {
            let slot = &self.slots[key];
            let has_room = self.staging.may_read(slot.part, slot.consumer, 1) > 0;
            assert!(
                !has_room || self.calls_starved(),
                "{key} waits for staging that it could have"
            );
        }
        for (at, lane) in self.lanes.iter().enumerate() {
            assert_eq!(lane.fifo.len(&self.slots), waiting[at], "lane {at}: FIFO");
            assert_eq!(lane.owing.len(&self.slots), owing[at], "lane {at}: owing");
            assert_eq!(lane.connections, bound[at], "lane {at}: connections");
            // What a consumer is about to say that it has released may be filled already.
            let capacity = lane.producer.observer().capacity();
            assert!(lane.producer.occupied() <= 2 * capacity);
            lane.fifo.check_order(&self.slots);
            lane.owing.check_order(&self.slots);
            lane.check_flow(at);
        }
    }

    /// Whoever has something to be read is in a queue, or held by a cause that is true now.
    fn check_served(&self, key: u32) {
        let slot = &self.slots[key];
        let held = |cause| slot.conn.is_paused_by(cause);
        assert!(
            slot.place == Place::Staging || !held(PauseCause::Staging),
            "{key}: paused for staging, and not among those who wait for it"
        );
        let waits_alone = self.rate_until(key).is_some();
        assert_eq!(
            slot.place == Place::Rate || waits_alone,
            held(PauseCause::Rate),
            "{key}: paused by a rate, or waits for one, and not both: {:?}",
            slot.conn
        );
        assert!(
            slot.place != Place::Ring || slot.conn.may_be_served(),
            "{key}: is to be read, and is not to be: {:?}",
            slot.conn
        );
        let rests = slot.stream.is_some()
            && !slot.is_ready()
            && matches!(slot.place, Place::Nowhere | Place::Resting)
            && slot.conn.state() == State::Open;
        assert_eq!(
            slot.place == Place::Resting,
            rests && self.at_limit == AtLimit::Evict,
            "{key}: at rest, or not: {:?}",
            slot.conn
        );
        if slot.stream.is_none() {
            let tells = matches!(slot.place, Place::Ring | Place::Owing);
            assert!(tells, "{key}: nobody will tell its end");
        } else if slot.owes() && slot.place == Place::Nowhere {
            let discards = self.lanes[usize::from(slot.consumer)].discards;
            assert!(!discards, "{key}: nobody will tell its gap");
        } else if slot.is_ready() && slot.place == Place::Nowhere {
            assert!(
                held(PauseCause::Operator) || waits_alone,
                "{key}: has something to be read, and nobody will: {:?}",
                slot.conn
            );
        }
    }

    /// Nothing that the kernel knows of a connection is overlooked: its bytes are read, or an event will
    /// come; its end is noted, or an event will come.
    fn check_told(&self, key: u32) {
        let slot = &self.slots[key];
        let Some(stream) = &slot.stream else { return };
        let truth = self.net.truth(stream);
        let conn = &slot.conn;
        let ended = truth.finished || truth.reset;
        assert!(
            ended || conn.peer_end() == PeerEnd::Sending,
            "{key}: its peer is there, and is taken for gone: {conn:?}"
        );
        if truth.edge {
            return;
        }
        if matches!(slot.place, Place::Nowhere | Place::Resting) && !slot.is_ready() {
            assert_eq!(
                truth.watch,
                Some(Watch::Read),
                "{key}: no event will come: {conn:?}"
            );
            assert!(
                truth.unread == 0 || truth.at_mark,
                "{key}: {} bytes that nobody will read: {conn:?}",
                truth.unread
            );
        }
        assert!(
            !ended || conn.peer_end() != PeerEnd::Sending,
            "{key}: its peer has gone, unnoticed: {conn:?}"
        );
        let is_pausing = self.lanes[usize::from(slot.consumer)].is_pausing();
        let waits = match slot.place {
            Place::Ring => is_pausing,
            Place::Owing => is_pausing || !conn.may_be_served(),
            place => place != Place::Lingering,
        };
        assert!(
            !waits || truth.unread > 0 || truth.is_unknown || conn.peer_end() == PeerEnd::Sending,
            "{key}: has nothing more to say, and keeps its descriptor: {:?} {conn:?}",
            slot.place
        );
    }

    /// The reactor sleeps past nothing that is due, by looking at everything there is.
    fn check_patience(&self) {
        // What a turn without chores leaves out is not due.
        assert!(self.is_unusual() || self.due <= self.next_chores());
        let sleeps = self.sleeps();
        let now = self.now;
        // Later than what it went by, if a call took its time.
        let asked = self.net.now();
        let until = |at: Duration, what: &str| {
            let wakes = sleeps.map(|time| asked + time);
            assert!(
                wakes.is_some_and(|wakes| wakes <= at.max(asked)),
                "sleeps until {wakes:?}, past {at:?}: {what}"
            );
        };
        for key in self.slots.all() {
            let slot = &self.slots[key];
            let lane = &self.lanes[usize::from(slot.consumer)];
            match (slot.place, lane.flow()) {
                (Place::Ring | Place::Owing, Flow::Flowing) => until(now, "somebody may be served"),
                (Place::Lingering, _) => until(now, "somebody is to be read out"),
                (Place::Ring | Place::Owing, Flow::Shut { .. }) => {}
                (Place::Ring, _) if lane.discards => until(now, "somebody is to be discarded"),
                (Place::Rate, _) => {
                    let rates = self.rates.as_ref().expect("there are some");
                    let at = match rates.is_busy() {
                        true => now,
                        // In the tick that begins then.
                        false => rates.line_goes_on_at(key, now) + TICK,
                    };
                    until(at, "somebody is to be called for a rate");
                }
                (Place::Ring | Place::Owing, Flow::Blocked { since, .. }) => {
                    if let Some(stall) = self.stall {
                        let ahead = self.tick.wrapping_sub(slot.queued_at);
                        let queued = now.saturating_sub(tick_time(ahead));
                        until(since.max(queued) + stall + TICK, "a stall");
                    }
                }
                _ => {}
            }
            if let Some(due) = slot.wheel_tick() {
                let ahead = due.wrapping_sub(tick_of(asked));
                if ahead < 1 << 31 {
                    until(asked + tick_time(ahead), "a deadline");
                }
            }
        }
        for lane in &self.lanes {
            let Pace::Gone(evicting) = lane.pace else {
                continue;
            };
            let is_over = evicting.is_over();
            assert!(!is_over || lane.connections == 0, "nobody will end them");
            if !is_over {
                until(evicting.next.min(now + TICK), "some are to be ended");
            }
            let position = lane.producer.position();
            assert_eq!(lane.producer.released(), position, "read for nobody");
        }
        if let Some(stall) = self.consumer_stall.after {
            for lane in self.lanes.iter().filter(|lane| !lane.is_gone()) {
                if lane.producer.released() < lane.producer.position() {
                    until(now + stall / 4, "a look at a consumer");
                }
                let is_known = lane.progress.still() < stall || lane.pace != Pace::Going;
                assert!(is_known, "a consumer is stalled, and nobody says so");
            }
        }
        if let Some(gate) = self.gate.as_ref().filter(|_| self.phase == Phase::Running) {
            if let Some(at) = gate.poll_timeout() {
                until(at, "pressure");
            }
            for listening in self.listeners.iter().filter(|_| gate.is_shut()) {
                let is_shut = listening.machine.label() == "pressure";
                assert!(is_shut, "a listener is open under pressure");
                assert!(listening.socket.is_none() == gate.closes);
            }
        }
        for listening in &self.listeners {
            if let Some(at) = listening.machine.poll_timeout() {
                until(at, "a listener's wait");
            }
        }
        if let (false, Some(message)) = (self.starved.is_empty(), self.clocks.message) {
            until(self.starved_since + tick_time(message), "spent staging");
        }
        if let Some(at) = self.phase.poll_timeout(self.is_closed()) {
            until(at, "a drain's end");
        }
    }

    /// Each pause that has ended is in the totals, and in the account of its connection.
    fn check_pauses(&self) {
        if self.closed.len() == REMEMBERED {
            return;
        }
        for cause in PauseCause::ALL {
            let mut sum = Pauses::default();
            let mut add = |pauses: Pauses| {
                sum.count += pauses.count;
                sum.time += pauses.time;
            };
            for key in self.slots.all() {
                add(self.slots[key].pauses(*cause));
            }
            for closed in &self.closed {
                let told = closed.paused.iter().filter(|(of, _)| of == cause);
                told.for_each(|(_, pauses)| add(*pauses));
            }
            let total = self.counters.pauses(*cause);
            assert_eq!(total.count, sum.count, "pauses by {}", cause.label());
            // The totals are kept in microseconds.
            let apart = total.time.abs_diff(sum.time);
            assert!(
                apart <= Duration::from_micros(total.count),
                "{cause}: {total:?} {sum:?}"
            );
        }
    }

    /// The wheel looks at a connection no later than its next deadline.
    fn check_deadline(&self, key: u32) {
        let slot = &self.slots[key];
        let waits = slot.place == Place::Ring;
        let deadline = slot.conn.poll_timeout(&self.clocks, waits);
        let until = self.rate_until(key);
        if let (Some(until), Some(rates)) = (until, &self.rates) {
            let at = rates.own_goes_on_at(key);
            assert!(
                has_come(at, until),
                "{key}: may go on at {at}, waits until {until}"
            );
        }
        let Some(due) = sooner(deadline, until) else {
            return;
        };
        let set = slot.wheel_tick();
        assert!(
            set.is_some_and(|set| set == due || has_come(due, set)) || has_come(self.tick, due),
            "{key}: due at tick {due}, looked at {set:?}, now {}: {:?} {:?}",
            self.tick,
            slot.place,
            slot.conn
        );
        debug_assert!(slot.part == NONE || self.staging.bytes(slot.part).len() <= self.largest());
    }

    fn largest(&self) -> usize {
        self.scratch.len() - super::LARGEST_READ + MARKS
    }
}
