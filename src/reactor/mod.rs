//! One thread's loop over all its connections.
//!
//! In: edges, time, commands, released rings. Out: records, and wakes at the ends of turns.
//! Never here: a wait but `poll` and the nap before it, a lock, a log write, a user's hook.

mod accept;
mod admission;
mod arena;
mod bulk;
#[cfg(feature = "sim")]
mod check;
mod common;
mod control;
mod counters;
mod deadlines;
mod drain;
mod end;
mod fairness;
mod full;
mod lane;
mod line;
mod list;
mod listener;
mod patience;
mod pause;
mod pieces;
mod pressure;
mod rate;
mod room;
mod rows;
mod serve;
mod slots;
mod source;
mod staging;
mod stalled;
mod together;
mod wakes;
mod wheel;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

pub(crate) use self::admission::Admission;
pub(crate) use self::arena::{class as staging_class, most as staging_most};
use self::bulk::Bulk;
#[cfg(feature = "sim")]
pub(crate) use self::check::{Seen, Sight};
pub(crate) use self::common::{Both, Common, table_bytes};
use self::control::{COMMANDS, Command};
pub use self::control::{Handle, Query, Target};
pub(crate) use self::control::{Orders, Remote};
pub(crate) use self::counters::Counters;
use self::drain::Phase;
pub use self::drain::RunError;
pub(crate) use self::lane::Lane;
use self::lane::Service;
pub(crate) use self::line::LINE_BYTES;
use self::list::Answer;
use self::listener::Listener;
use self::patience::NEVER;
pub(crate) use self::pressure::Gate;
use self::rate::Rates;
pub(crate) use self::rate::{RateParts, SHAPED_BYTES};
use self::serve::Served;
pub(crate) use self::serve::{LARGEST_READ, SMALLEST_READ, claim_len};
use self::slots::{Fifo, Place, Readiness, Slot, Slots, token};
pub(crate) use self::source::{SourceLimits, Sources};
use self::staging::Staging;
use self::stalled::EVICT_BUDGET;
pub(crate) use self::stalled::StallPolicy;
pub(crate) use self::together::Together;
use self::wheel::Wheel;
use crate::close::CloseReason;
use crate::conn::{Clocks, Tick};
use crate::edges;
use crate::frame::{Cut, Framing, Limits};
use crate::net::{Event, Mio, Net, Token, Watch};
use crate::peer::ConnectionId;
use crate::policy::Budgets;
use crate::policy::{AtLimit, Fairness, LeastRate, Route, Spacing};
use crate::status::ClosedInfo;

/// A turn that takes longer is counted.
const LONG_TURN: Duration = Duration::from_millis(50);
/// Ended connections that are remembered.
const REMEMBERED: usize = 1000;
pub(crate) const TICK: Duration = Duration::from_millis(8);

/// Ticks in `time`, rounded up.
fn ticks(time: Duration) -> Tick {
    u32::try_from(time.as_millis().div_ceil(8)).map_or(1 << 30, |ticks| ticks.min(1 << 30))
}

/// A clock's setting in ticks. One more than it has: the tick in which a clock starts has begun before,
/// and a deadline is never early.
pub(crate) fn clock(time: Duration) -> Tick {
    ticks(time) + 1
}

fn tick_of(since_start: Duration) -> Tick {
    (since_start.as_millis() / 8) as u32
}

fn tick_time(ticks: Tick) -> Duration {
    TICK * ticks
}

/// What is left after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// There will be more.
    Running,
    /// Drained or stopped: every connection is closed, and the rings have ended.
    Ended,
}

/// What a reactor is made of; the configuration's part of it.
pub(crate) struct Parts<L> {
    pub(crate) index: usize,
    pub(crate) listeners: Vec<(L, Framing)>,
    pub(crate) lanes: Vec<Lane>,
    /// The largest message of all listeners.
    pub(crate) max_message: usize,
    /// For each listener.
    pub(crate) limits: Vec<Limits>,
    /// For every connection that counts octets, whether its listener said so or `auto` found it out.
    pub(crate) octet_limits: Limits,
    pub(crate) clocks: Clocks,
    pub(crate) stall: Option<Duration>,
    pub(crate) least_rate: Option<LeastRate>,
    pub(crate) staging_bytes: usize,
    pub(crate) route: Route,
    pub(crate) reroute: bool,
    pub(crate) drain_timeout: Duration,
    /// If turns are ever to begin apart.
    pub(crate) spacing: Option<Spacing>,
    pub(crate) budgets: Budgets,
    pub(crate) at_limit: AtLimit,
    pub(crate) admission: Arc<Admission>,
    /// If sources are limited.
    pub(crate) sources: Option<Arc<Sources>>,
    pub(crate) together: Arc<Together>,
    pub(crate) consumer_stall: StallPolicy,
    /// If listeners are shut under pressure.
    pub(crate) gate: Option<Gate<L>>,
    /// `None`: nothing is limited by the second.
    pub(crate) rates: Option<RateParts>,
}

struct Listening<L> {
    /// `None` once it is closed.
    socket: Option<L>,
    machine: Listener,
    framing: Framing,
    limits: Limits,
    /// For each ring, its connections that are at rest, the longest first; kept only where one is evicted at the limit.
    resting: Vec<Fifo>,
    /// Who was evicted last for who waits here: until its slot is free, its place is on its way.
    victim: Option<Token>,
}

/// Reads connections and fills rings, one turn at a time, on the thread that calls it.
///
/// `Send`, and neither `Sync` nor `Clone`: move it into its thread and [`Reactor::run`] it, or
/// [`Reactor::turn`] it inside a loop of your own. Dropping it ends its rings with
/// [`Ended::ReactorGone`](crate::Ended::ReactorGone).
pub struct Reactor<N: Net = Mio> {
    index: usize,
    net: N,
    /// Turns follow one another: a consumer need not be woken at the end of each.
    runs: bool,
    /// When this turn began, since the reactor was made.
    now: Duration,
    /// What clocks for people said then, if that was asked in this turn.
    wall: Option<SystemTime>,
    tick: Tick,
    events: Vec<Event>,
    listeners: Vec<Listening<N::Listener>>,
    octet_limits: Limits,
    slots: Slots<N::Stream>,
    lanes: Vec<Lane>,
    /// Which lane is served first: each turn the next.
    first_lane: usize,
    staging: Staging,
    /// Those that staging has no room for; while there are any, since when.
    starved: Fifo,
    starved_since: Duration,
    /// Of those who are being called, the last.
    last_called: Option<u32>,
    /// Holders from here on are being weighed.
    weigh_from: Option<u32>,
    lingering: Fifo,
    /// Those that were told to have left in this turn, and were to be read.
    leaving: Vec<u32>,
    rates: Option<Box<Rates>>,
    wheel: Wheel,
    clocks: Clocks,
    stall: Option<Duration>,
    least_rate: Option<LeastRate>,
    route: Route,
    reroute: bool,
    drain_timeout: Duration,
    /// If turns are ever to begin apart.
    spacing: Option<Spacing>,
    /// When there are chores at the latest.
    due: Duration,
    budgets: Budgets,
    at_limit: AtLimit,
    admission: Arc<Admission>,
    sources: Option<Arc<Sources>>,
    together: Arc<Together>,
    consumer_stall: StallPolicy,
    /// Connections of one consumer that are ended in one step, if it is stalled or gone.
    pub(crate) evict_budget: usize,
    gate: Option<Gate<N::Listener>>,
    fairness: Fairness,
    shares: fairness::Table,
    counters: Arc<Counters>,
    orders: Arc<Orders>,
    commands: Receiver<Command>,
    command_sender: SyncSender<Command>,
    bulk: Option<Bulk>,
    answers: VecDeque<Answer>,
    phase: Phase,
    failure: Option<RunError>,
    closed: VecDeque<ClosedInfo>,
    dead: Vec<u32>,
    scratch: Box<[u8]>,
    cuts: Vec<Cut>,
}

impl<N: Net> std::fmt::Debug for Reactor<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor")
            .field("index", &self.index)
            .field("connections", &self.slots.len())
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl<N: Net> Reactor<N> {
    pub(crate) fn new(mut net: N, parts: Parts<N::Listener>) -> io::Result<Self> {
        let mut listeners = Vec::with_capacity(parts.listeners.len());
        let limits = parts.limits;
        for (place, ((socket, framing), limits)) in
            parts.listeners.into_iter().zip(limits).enumerate()
        {
            net.listen(&socket, Token(place as u64))?;
            listeners.push(Listening {
                socket: Some(socket),
                machine: Listener::new(),
                framing,
                limits,
                resting: parts
                    .lanes
                    .iter()
                    .map(|_| Fifo::new(Place::Resting))
                    .collect(),
                victim: None,
            });
        }
        let lanes = parts.lanes;
        let now = net.now();
        let tick = tick_of(now);
        let (command_sender, commands) = sync_channel(COMMANDS);
        let largest = parts.max_message + MARKS;
        let mut reactor = Self {
            index: parts.index,
            net,
            runs: false,
            now,
            wall: None,
            tick,
            events: Vec::new(),
            counters: Arc::new(Counters::new(lanes.len(), listeners.len())),
            listeners,
            octet_limits: parts.octet_limits,
            slots: Slots::new(),
            staging: Staging::new(parts.staging_bytes, largest, lanes.len()),
            lanes,
            first_lane: 0,
            starved: Fifo::new(Place::Staging),
            starved_since: Duration::ZERO,
            last_called: None,
            weigh_from: None,
            lingering: Fifo::new(Place::Lingering),
            leaving: Vec::new(),
            rates: parts.rates.map(|p| Box::new(Rates::new(p, tick))),
            wheel: Wheel::new(tick),
            scratch: vec![0; largest + LARGEST_READ].into_boxed_slice(),
            clocks: parts.clocks,
            stall: parts.stall,
            least_rate: parts.least_rate,
            route: parts.route,
            reroute: parts.reroute,
            drain_timeout: parts.drain_timeout,
            spacing: parts.spacing,
            due: NEVER,
            budgets: parts.budgets,
            at_limit: parts.at_limit,
            admission: parts.admission,
            sources: parts.sources,
            together: parts.together,
            consumer_stall: parts.consumer_stall,
            evict_budget: EVICT_BUDGET,
            gate: parts.gate,
            fairness: Fairness::default(),
            shares: fairness::Table::default(),
            orders: Arc::default(),
            commands,
            command_sender,
            bulk: None,
            answers: VecDeque::new(),
            phase: Phase::Running,
            failure: None,
            closed: VecDeque::with_capacity(REMEMBERED),
            dead: Vec::new(),
            cuts: Vec::new(),
        };
        reactor.due = reactor.next_chores();
        Ok(reactor)
    }

    pub(crate) fn remote(&self, start: std::time::Instant) -> Remote {
        Remote {
            commands: self.command_sender.clone(),
            orders: self.orders.clone(),
            waker: self.net.waker(),
            counters: self.counters.clone(),
            rings: self
                .lanes
                .iter()
                .map(|lane| lane.producer.observer())
                .collect(),
            start,
        }
    }

    /// Turns until it is drained or stopped. A consumer that sleeps is woken in the turn that has something
    /// for it; while more is read for it at once, when enough waits for it or half a millisecond has passed.
    pub fn run(mut self) -> Result<(), RunError> {
        self.run_on();
        let mut now = self.net.now();
        while self.pass(&mut now, None)? == Turn::Running {}
        Ok(())
    }

    /// One pass: waits for at most `at_most` (`None`: until something happens), handles what has
    /// happened, and wakes the consumers it has something for.
    pub fn turn(&mut self, at_most: Option<Duration>) -> Result<Turn, RunError> {
        self.pass(&mut self.net.now(), at_most)
    }

    /// It is now, before and afterwards.
    fn pass(&mut self, now: &mut Duration, at_most: Option<Duration>) -> Result<Turn, RunError> {
        if self.phase == Phase::Ended {
            return self.ended();
        }
        let timeout = self.patience(*now, at_most);
        let timeout = self.nap(*now, timeout);
        self.events.clear();
        let woken = self
            .net
            .poll(&mut self.events, timeout)
            .map_err(RunError::System)?;
        self.now = self.net.now();
        self.wall = None;
        self.tick = tick_of(self.now);
        self.fairness.handle_time(self.now);

        self.take_events();
        let has_chores = self.has_chores(woken);
        if has_chores {
            self.do_chores_before_reading();
        }
        self.serve_lanes();
        self.watch_consumers();
        if has_chores || self.is_unusual() {
            self.do_chores_after_reading();
        }
        self.wake_consumers();
        self.note_gauges();
        *now = self.net.now();
        if now.saturating_sub(self.now) > LONG_TURN {
            self.counters.long_turns.add(1);
        }
        match self.phase {
            Phase::Ended => self.ended(),
            _ => Ok(Turn::Running),
        }
    }

    /// What others ask for or have given back, and who comes in.
    fn do_chores_before_reading(&mut self) {
        self.take_orders();
        self.check_consumers();
        self.obey_stall();
        self.resume_lanes();
        self.accept();
    }

    /// What has come to its end, or may go on again.
    fn do_chores_after_reading(&mut self) {
        self.let_go();
        self.linger();
        self.fire_timers();
        self.fire_stalls();
        self.evict_stalled();
        self.feed_starved();
        self.feed_rates();
        self.advance_drain();
        self.watch_pressure();
        self.answer();
        self.free_dead();
        self.note_states();
        self.due = self.next_chores();
    }

    fn ended(&mut self) -> Result<Turn, RunError> {
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(Turn::Ended),
        }
    }

    fn take_events(&mut self) {
        let events = std::mem::take(&mut self.events);
        for event in &events {
            if event.token.0 >> 32 == 0 {
                if let Some(listening) = self.listeners.get_mut(event.token.0 as usize) {
                    listening.machine.handle_edge();
                }
            } else if let Some(key) = self.slots.find(event.token) {
                self.handle_event(key, event);
            }
        }
        self.events = events;
    }

    fn handle_event(&mut self, key: u32, event: &Event) {
        let tick = self.tick;
        let slot = &mut self.slots[key];
        if slot.stream.is_none() {
            return;
        }
        slot.mark_ready();
        if event.error {
            slot.conn.handle_reset(tick);
        } else if event.read_closed {
            slot.conn.handle_fin(tick);
        }
        let blocked = self.lanes[usize::from(slot.consumer)].is_pausing();
        let waits = match slot.place {
            Place::Staging | Place::Rate => true,
            Place::Ring | Place::Owing | Place::Nowhere | Place::Resting => {
                !slot.conn.is_discarding() && (blocked || !slot.conn.may_be_served())
            }
            Place::Lingering | Place::Dead => false,
        };
        if !waits {
            if event.error || event.read_closed {
                self.leaving.push(key);
            }
            return self.line_up(key);
        }
        if self.end_if_gone(key) {
            return;
        }
        // Paused: who sends on is switched to the mask that is silent for it.
        let slot = &mut self.slots[key];
        if slot.readiness == Readiness::Ready {
            edges::note("registration", "read", "hang-up");
            slot.readiness = Readiness::Unwatched;
            self.watch(key, Watch::HangUp);
        }
        self.line_up(key);
    }

    fn serve_lanes(&mut self) {
        let lanes = self.lanes.len();
        self.first_lane = match self.first_lane + 1 {
            first if first < lanes => first,
            _ => 0,
        };
        for lane in (self.first_lane..lanes).chain(0..self.first_lane) {
            let mut bytes = 0;
            for _ in 0..self.budgets.reads {
                if bytes >= self.budgets.bytes {
                    break;
                }
                match self.serve_next(lane) {
                    Some(Served::Read(n)) => bytes += n,
                    // Nothing is skipped for want of room: below the low mark any claim fits.
                    Some(Served::NoRoom) => {
                        self.block_lane(lane);
                    }
                    Some(Served::Out) => {}
                    None => break,
                }
            }
        }
    }

    /// Serves whoever is next at a ring. `None`: nobody is to be served now.
    fn serve_next(&mut self, lane_place: usize) -> Option<Served> {
        let lane = &self.lanes[lane_place];
        let key = lane.next()?;
        if lane.service() == Service::Discards {
            return Some(self.serve_full(key));
        }
        if lane.is_high() && self.block_lane(lane_place) {
            return Some(Served::Out);
        }
        let slot = &self.slots[key];
        let served = match slot.place {
            _ if slot.conn.is_closed() => self.publish_end(key),
            Place::Owing => self.tell_owed(key),
            _ => self.serve(key),
        };
        Some(served)
    }

    /// Never inside the batch of events: a later one may still name the old tenant.
    fn free_dead(&mut self) {
        let mut dead = std::mem::take(&mut self.dead);
        for key in dead.drain(..) {
            let slot = self.slots.remove(key);
            self.lanes[usize::from(slot.consumer)].connections -= 1;
            self.admission.leave(usize::from(slot.listener));
            if let Some(rates) = &mut self.rates {
                rates.close(key);
            }
        }
        self.dead = dead;
    }

    fn note_gauges(&mut self) {
        let c = &self.counters;
        c.staged.set(self.staging.held() as u64);
        c.peak_staging.raise_to(self.staging.used() as u64);
        c.fairness.set(&self.fairness);
        for lane in &self.lanes {
            c.peak_ring.raise_to(lane.producer.occupied() as u64);
        }
    }

    /// What only chores change.
    fn note_states(&mut self) {
        let c = &self.counters;
        for (lane, counters) in self.lanes.iter().zip(&c.rings) {
            counters.connections.set(lane.connections as u64);
        }
        for (listening, counters) in self.listeners.iter().zip(&c.listeners) {
            counters.state.set(listening.machine.code());
        }
    }

    /// Now, as people tell the time.
    fn wall(&mut self) -> SystemTime {
        *self.wall.get_or_insert_with(|| self.net.wall(self.now))
    }

    fn id(&self, key: u32) -> ConnectionId {
        ConnectionId::new(self.index as u8, self.slots[key].generation, key)
    }
}

/// Bytes of a connection's slot, with its place in the table of what was read in this second. In the slab a
/// slot takes no more than itself: what marks a free one has room in it.
pub(crate) const fn slot_bytes() -> usize {
    size_of::<Slot<crate::net::MioStream>>() + fairness::PLACE_BYTES
}

/// Bytes that a prefix or a delimiter may add to a message.
pub(crate) const MARKS: usize = 16;

fn system(error: &io::Error) -> CloseReason {
    CloseReason::System(
        error
            .raw_os_error()
            .and_then(|e| u8::try_from(e).ok())
            .unwrap_or(0),
    )
}

#[cfg(test)]
mod tests;
