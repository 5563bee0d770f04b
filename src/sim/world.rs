//! A run: reactors, consumers, peers and an operator, one step of one of them after the other.
//!
//! In: a [`Plan`]. Out: an [`Outcome`], or a panic that says what broke.
//! Never here: a choice that chance did not make.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::clocks::Clocks;
use super::consume::{Moody, Taker};
use super::ledger::Ledger;
use super::meters::Meters;
use super::operator::Orders;
use super::plan::Plan;
use super::send::Sender;
use super::shares::Shares;
use super::{Outcome, Simulation};
use crate::config::PressureAction;
use crate::edges;
use crate::net::sim::SimNet;
use crate::net::sim::{Fault, Random, SimNetwork, SimWaker};
use crate::policy::{OnConsumerStall, Seed};
use crate::reactor::{Handle, Reactor, Target, Turn};
use crate::ring::others;
use crate::status::BoundAddr;

/// Prints the trace when a run panics.
pub(super) struct Told<'w>(&'w World);

impl<'w> Told<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        Self(world)
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in self.0.network.trace() {
                eprintln!("{line}");
            }
        }
    }
}

/// Time for everything.
pub(super) const DRAIN: Duration = Duration::from_secs(60);
/// Steps after which a run that is not over never will be.
const MOST_STEPS: u64 = 3_000_000;
/// Connections of a consumer that are ended in one step: a run has so few that they would all be in the first.
const EVICT_BUDGET: usize = 1;

/// A reactor with what whoever runs it knows: until when it sleeps, if nothing wakes it.
struct Turner {
    reactor: RefCell<Option<Reactor<SimNet>>>,
    waker: Arc<SimWaker>,
    /// `None`: for ever.
    sleeps_until: Cell<Option<Duration>>,
    /// A wake is under way, and arrives then.
    wakes_at: Cell<Option<Duration>>,
    failed: Cell<bool>,
}

pub(super) struct World {
    pub(super) network: SimNetwork,
    pub(super) handle: Handle,
    turners: Vec<Turner>,
    pub(super) takers: Vec<RefCell<Taker>>,
    pub(super) senders: Vec<RefCell<Sender>>,
    pub(super) ledger: RefCell<Ledger>,
    clocks: RefCell<Clocks>,
    meters: RefCell<Meters>,
    shares: RefCell<Shares>,
    random: RefCell<Random>,
    orders: RefCell<Orders>,
    interleave: u16,
    stops_drain: bool,
    stops_for_stalls: bool,
    has_stalled: Cell<bool>,
    /// Who acts, and what an operator may do, is over once the faults stop.
    calm: Cell<bool>,
    draining: Cell<bool>,
    /// The drain began while something could still go wrong: what it has no time for is not told.
    pub(super) early: Cell<bool>,
    pub(super) stopped: Cell<bool>,
    pub(super) drained_at: Cell<Duration>,
    steps: Cell<u64>,
}

#[derive(Clone, Copy)]
enum Actor {
    Reactor(usize),
    Consumer(usize),
    Sender(usize),
    Operator,
}

impl World {
    pub(super) fn new(plan: &Plan, simulation: &Simulation, random: &mut Random) -> Rc<Self> {
        let reactors = plan.config.reactors;
        let network = SimNetwork::new(random.fork(), plan.faults.clone(), reactors);
        network.limit(plan.descriptors, plan.window, plan.backlog);
        network.begin_at(plan.start);
        if plan.config.pressure.action == PressureAction::CloseListener {
            network.listens_again();
        }
        network.holds_drains_to_it(plan.is_drained_by_order());
        if simulation.options.trace {
            network.keep_trace();
        }
        let cell: Rc<OnceCell<Weak<Self>>> = Rc::default();
        let mut wakers = Vec::new();
        let nets = (0..reactors)
            .map(|reactor| {
                let cell = cell.clone();
                let others = Rc::new(move || {
                    if let Some(world) = cell.get().and_then(Weak::upgrade) {
                        world.interleave();
                    }
                });
                let (net, listeners) = network.net(reactor, plan.config.listeners.len(), others);
                wakers.push(net.sim_waker());
                (net, listeners)
            })
            .collect();
        let address = BoundAddr::Tcp(([127, 0, 0, 1], 1).into());
        let addresses = vec![address; plan.config.listeners.len()];
        let checked = plan.config.clone().validate();
        let mut checked = checked.unwrap_or_else(|errors| panic!("{errors}"));
        checked.start_rings_over_often();
        let seed = Seed::new([random.any(), random.any()]);
        let fanin = checked.assemble(nets, addresses, seed);
        let fanin = fanin.expect("nothing can fail");
        let mut ledger = Ledger::new(&plan.config);
        let senders = plan
            .scripts
            .iter()
            .enumerate()
            .map(|(number, script)| {
                let (port, script) = (number as u16 + 1, Rc::new(script.clone()));
                ledger.expect(port, script.clone());
                RefCell::new(Sender::new(script, port, random.fork()))
            })
            .collect();
        let turners = fanin.reactors.into_iter().zip(wakers);
        let takers = fanin.consumers.into_iter().map(|consumer| {
            let work = match &simulation.consume {
                Some(consume) => consume(consumer.index()),
                None => Box::new(Moody::new(&network, random.fork(), plan.work)),
            };
            RefCell::new(Taker::new(consumer, reactors, work, random.fork()))
        });
        let takers = takers.collect();
        let world = Rc::new(Self {
            handle: fanin.handle,
            turners: turners
                .map(|(mut reactor, waker)| {
                    reactor.evict_budget = EVICT_BUDGET;
                    if plan.runs {
                        reactor.run_on();
                    }
                    Turner {
                        reactor: RefCell::new(Some(reactor)),
                        waker,
                        sleeps_until: Cell::new(Some(Duration::ZERO)),
                        wakes_at: Cell::new(None),
                        failed: Cell::new(false),
                    }
                })
                .collect(),
            takers,
            senders,
            ledger: RefCell::new(ledger),
            clocks: RefCell::new(Clocks::new(plan)),
            meters: RefCell::new(Meters::new(plan)),
            shares: RefCell::default(),
            random: RefCell::new(random.fork()),
            orders: RefCell::default(),
            interleave: plan.interleave,
            stops_drain: plan.stops_drain,
            stops_for_stalls: plan.config.on_consumer_stall == OnConsumerStall::Stop,
            has_stalled: Cell::new(false),
            calm: Cell::new(false),
            draining: Cell::new(false),
            early: Cell::new(false),
            stopped: Cell::new(false),
            drained_at: Cell::default(),
            steps: Cell::new(0),
            network,
        });
        cell.set(Rc::downgrade(&world)).expect("set once");
        others::are(Some(Rc::new(move || {
            if let Some(world) = cell.get().and_then(Weak::upgrade) {
                world.interleave();
            }
        })));
        world
    }

    pub(super) fn play(&self, plan: &Plan) -> Outcome {
        // With faults, until they stop.
        self.until("the faults stop", |w| {
            // What passed unasked is no time in which much could happen.
            let lived = w.network.now() - w.network.unasked();
            lived >= plan.calm_at || w.is_over() || w.is_quiet()
        });
        self.calm_down();
        // Without: everything comes to its end by itself.
        if !self.is_ending() {
            self.until("everybody is through", |w| w.is_ending() || w.is_quiet());
        }
        if !self.is_ending() {
            let left = self.orders.borrow_mut().look();
            assert_eq!(left, 0, "lists that were never answered");
            self.until("whoever vanished is found", |w| {
                w.is_ending() || w.handle.snapshot().connections.open == 0
            });
        }
        if !self.draining.get() {
            self.drain(DRAIN);
        }
        self.until("the end", World::is_over);
        self.check_end(plan);
        let snapshot = self.handle.snapshot();
        Outcome {
            faults: self.network.faults(),
            closed: snapshot.connections.closed,
            refused: snapshot.connections.refused,
            accepted: snapshot.connections.accepted,
            discarded: snapshot.bytes.discarded,
            messages: self.ledger.borrow().messages,
            delivered: self.ledger.borrow().delivered(),
            edges: edges::take(),
            steps: self.steps.get(),
            time: self.network.now(),
            trace: self.network.trace(),
        }
    }

    fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let steps = self.steps.get();
            assert!(
                steps < MOST_STEPS,
                "not after {steps} steps: {what}; {:#?}",
                self.handle.snapshot()
            );
            let mut actors = self.runnable();
            if actors.is_empty() {
                let Some(time) = self.next_time() else {
                    if !self.calm.get() {
                        // An operator holds everybody up; the calm will resume them.
                        return;
                    }
                    // Nobody can do anything any more, and it is not done.
                    panic!("never: {what}; {:#?}", self.handle.snapshot());
                };
                self.pass_until(time);
                continue;
            }
            let at = self.random.borrow_mut().below(actors.len());
            self.act(actors.swap_remove(at));
        }
    }

    /// Inside a reactor's call: perhaps somebody else acts.
    fn interleave(&self) {
        if !self.random.borrow_mut().permille(self.interleave) {
            return;
        }
        others::may_act(false, || self.somebody_acts());
    }

    fn somebody_acts(&self) {
        let mut actors = self.runnable();
        if !actors.is_empty() {
            let at = self.random.borrow_mut().below(actors.len());
            self.act(actors.swap_remove(at));
        }
    }

    fn runnable(&self) -> Vec<Actor> {
        let now = self.network.now();
        let mut actors = Vec::new();
        for (at, turner) in self.turners.iter().enumerate() {
            let is_free = turner.reactor.try_borrow().is_ok_and(|r| r.is_some());
            if is_free && self.is_due(turner, at, now) {
                actors.push(Actor::Reactor(at));
            }
        }
        // Consumers share nothing but what their own work shares, which may be no place for two at once.
        let is_at_work = self.takers.iter().any(|taker| taker.try_borrow().is_err());
        for (at, taker) in self.takers.iter().enumerate().filter(|_| !is_at_work) {
            if taker.borrow().is_runnable(now) {
                actors.push(Actor::Consumer(at));
            }
        }
        for (at, sender) in self.senders.iter().enumerate() {
            if sender.borrow().is_runnable(now) {
                actors.push(Actor::Sender(at));
            }
        }
        // Seldom: most of the time an operator looks on.
        if !self.calm.get() && !actors.is_empty() && self.random.borrow_mut().permille(50) {
            actors.push(Actor::Operator);
        }
        actors
    }

    /// Would its poll return now?
    fn is_due(&self, turner: &Turner, at: usize, now: Duration) -> bool {
        let is_woken = turner.waker.is_woken() && turner.wakes_at.get().is_none_or(|at| at <= now);
        is_woken
            || turner.sleeps_until.get().is_some_and(|until| until <= now)
            || self.network.is_ready(at)
    }

    /// When the next one goes on by itself.
    fn next_time(&self) -> Option<Duration> {
        let now = self.network.now();
        let mut times = Vec::new();
        for turner in &self.turners {
            if turner.reactor.borrow().is_some() {
                times.extend(turner.sleeps_until.get());
                times.extend(turner.wakes_at.get().filter(|_| turner.waker.is_woken()));
            }
        }
        times.extend(self.takers.iter().filter_map(|t| t.borrow().next_time(now)));
        times.extend(
            self.senders
                .iter()
                .filter_map(|s| s.borrow().next_time(now)),
        );
        times.into_iter().min()
    }

    fn pass_until(&self, time: Duration) {
        let mut wait = time.saturating_sub(self.network.now());
        if self.network.strikes(Fault::TimerLate) {
            let late = self.random.borrow_mut().within(1..=300);
            wait += Duration::from_millis(late as u64);
        }
        self.network.pass(wait.max(Duration::from_micros(1)));
        if self.draining.get() && self.network.now() > self.drained_at.get() + DRAIN {
            // Whoever was to have time has slept through it.
            self.early
                .set(self.early.get() || !self.network.unasked().is_zero());
        }
    }

    fn act(&self, actor: Actor) {
        self.steps.set(self.steps.get() + 1);
        match actor {
            Actor::Reactor(at) => self.turn(at),
            Actor::Consumer(at) => {
                let mut taker = self.takers[at].borrow_mut();
                others::may_act(true, || taker.step(&self.network, &self.ledger));
                drop(taker);
                for (at, turner) in self.turners.iter().enumerate() {
                    self.delay_wake(at, turner);
                }
            }
            Actor::Sender(at) => self.senders[at].borrow_mut().step(&self.network),
            Actor::Operator => self.operate(),
        }
    }

    fn delay_wake(&self, at: usize, turner: &Turner) {
        if turner.waker.is_woken()
            && turner.wakes_at.get().is_none()
            && self.network.strikes(Fault::WakeDelayed)
        {
            let late = self.random.borrow_mut().within(1..=50);
            let arrives = self.network.now() + Duration::from_millis(late as u64);
            self.network
                .say(|| format!("the wake of reactor {at} takes {late} ms"));
            turner.wakes_at.set(Some(arrives));
        }
    }

    fn turn(&self, at: usize) {
        let turner = &self.turners[at];
        let mut place = turner.reactor.borrow_mut();
        let Some(reactor) = &mut *place else { return };
        turner.wakes_at.set(None);
        let began = self.network.now();
        let turned = others::may_act(true, || reactor.turn(None));
        self.look_for_stalls();
        match turned {
            Ok(Turn::Running) => {
                reactor.check();
                let now = self.network.now();
                // One that is at work in this moment may have released anything.
                let still = |taker: &RefCell<Taker>| {
                    let taker = taker.try_borrow();
                    taker.map_or(Duration::MAX, |taker| taker.still_for(at, began, now))
                };
                let still: Vec<_> = self.takers.iter().map(still).collect();
                let mut clocks = self.clocks.borrow_mut();
                clocks.draining |= self.draining.get() || self.gave_up();
                let sight = reactor.sight();
                clocks.look(&sight, began, &still, &self.network);
                drop(clocks);
                self.meters.borrow_mut().look(&sight);
                self.shares.borrow_mut().look(&sight);
                let patience = reactor.sleeps();
                let until = patience.map(|time| self.network.now() + time);
                turner.sleeps_until.set(until);
            }
            Ok(Turn::Ended) => {
                self.network.say(|| format!("reactor {at} has ended"));
                let is_in_time = !self.early.get() && !self.stopped.get() && !self.gave_up();
                let died = self.network.faults().happened(Fault::ConsumerDies) > 0;
                for ring in self.handle.snapshot().rings {
                    let is_left = ring.reactor == at && ring.occupied > 0;
                    assert!(
                        !is_left || !is_in_time || died,
                        "reactor {at} ended before consumer {} had released all",
                        ring.consumer
                    );
                }
                *place = None;
            }
            Err(error) => {
                self.network.say(|| format!("reactor {at} fails: {error}"));
                turner.failed.set(true);
                *place = None;
            }
        }
        drop(place);
        // One may be in the middle of a turn.
        let reactors = self.turners.iter().map(|t| t.reactor.try_borrow().ok());
        if let Some(reactors) = reactors.collect::<Option<Vec<_>>>() {
            let open = Reactor::check_places(reactors.iter().filter_map(|r| r.as_ref()));
            self.meters.borrow().check_open(&open);
        }
    }

    fn operate(&self) {
        if self.network.strikes(Fault::OperatorLists) {
            self.orders.borrow_mut().list(self.handle.connections());
        }
        self.orders.borrow_mut().look();
        if self.network.strikes(Fault::OperatorCloses) {
            let ids = self.ledger.borrow().ids(None);
            if !ids.is_empty() {
                let id = self.random.borrow_mut().one_of(&ids);
                self.network.say(|| format!("closes {id}"));
                self.clocks.borrow_mut().told_to_close.insert(id);
                let known = self.handle.close(id);
                self.orders.borrow_mut().close(id, known);
            }
        }
        if self.network.strikes(Fault::OperatorPauses) {
            let mut random = self.random.borrow_mut();
            let all = self.ledger.borrow().ids(None);
            let (target, ids) = match random.below(3) {
                1 => {
                    let consumer = random.below(self.takers.len());
                    let ids = self.ledger.borrow().ids(Some(consumer));
                    (Target::Consumer(consumer), ids)
                }
                2 if !all.is_empty() => {
                    let id = random.one_of(&all);
                    (Target::Connection(id), vec![id])
                }
                _ => (Target::All, all),
            };
            let pauses = random.permille(500);
            drop(random);
            self.network
                .say(|| format!("{} {target:?}", if pauses { "pauses" } else { "resumes" }));
            let order = || match pauses {
                true => self.handle.pause(target),
                false => self.handle.resume(target),
            };
            // A script that goes wild: more than a turn may do.
            let times = self.random.borrow_mut().one_of(&[1, 1, 1, 1, 1, 100]);
            let known = (0..times).filter(|_| order()).count() > 0;
            self.orders.borrow_mut().pause(&ids, pauses, known);
        }
        if self.network.strikes(Fault::EarlyDrain) {
            let within = match self.stops_drain {
                true => 2000,
                false => {
                    let all = DRAIN.as_millis() as u64;
                    self.random
                        .borrow_mut()
                        .one_of(&[0, 5, 100, 2000, all, all])
                }
            };
            let within = Duration::from_millis(within);
            self.early.set(self.early.get() || within < DRAIN);
            self.drain(within);
        }
        if (self.draining.get() || !self.stops_drain) && self.network.strikes(Fault::Stop) {
            self.network.say(|| "stops".to_owned());
            self.stopped.set(true);
            self.network.expect_nothing();
            self.draining.set(true);
            self.handle.stop();
        }
    }

    fn drain(&self, within: Duration) {
        self.network.say(|| format!("drains within {within:?}"));
        if !self.draining.replace(true) {
            self.drained_at.set(self.network.now());
        }
        self.network.expect_drain(self.network.now() + within / 2);
        self.handle.drain(within);
    }

    fn calm_down(&self) {
        self.calm.set(true);
        self.network.calm();
        // The queue of commands may be full, and says so: an operator tries again.
        while !self.handle.resume(Target::All) && !self.is_ending() {
            self.network
                .say(|| "a reactor has too many commands to do".to_owned());
            (0..self.turners.len()).for_each(|at| self.turn(at));
        }
        let ids = self.ledger.borrow().ids(None);
        if self.random.borrow_mut().permille(200) {
            // More than one turn does, and nothing else may be left to do: for one, for an order for all has a
            // turn of its own.
            let target = ids.first().map(|id| Target::Connection(*id));
            let target = target.unwrap_or(Target::All);
            (0..100).for_each(|_| _ = self.handle.resume(target));
        }
        self.orders.borrow_mut().pause(&ids, false, true);
        self.orders.borrow_mut().list(self.handle.connections());
        for taker in &self.takers {
            taker.borrow_mut().rouse();
        }
        for sender in &self.senders {
            if self.random.borrow_mut().permille(500) {
                sender.borrow_mut().come_back();
            }
        }
    }

    /// Did a consumer stall where that is the end of the whole?
    pub(super) fn gave_up(&self) -> bool {
        self.stops_for_stalls && self.has_stalled.get()
    }

    /// A reactor has had a turn.
    fn look_for_stalls(&self) {
        if self.stops_for_stalls && !self.has_stalled.get() {
            let consumers = self.handle.snapshot().consumers;
            self.has_stalled.set(consumers.iter().any(|c| c.stalls > 0));
        }
    }

    /// Is it on its way to the end already?
    fn is_ending(&self) -> bool {
        let died = self.takers.iter().any(|taker| taker.borrow().died);
        died || self.gave_up() || self.draining.get() || self.turners.iter().any(|t| t.failed.get())
    }

    /// Everybody has said all, and everything that was said is delivered, but for those who vanished.
    fn is_quiet(&self) -> bool {
        let over = self.senders.iter().all(|s| s.borrow().is_over());
        let is_woken = |t: &Turner| t.waker.is_woken() && t.reactor.borrow().is_some();
        if !over || self.turners.iter().any(is_woken) || !self.runnable().is_empty() {
            return false;
        }
        let snapshot = self.handle.snapshot();
        let vanished = self.senders.iter().filter(|s| s.borrow().is_vanished());
        snapshot.bytes.in_rings == 0 && snapshot.connections.open <= vanished.count() as u64
    }

    fn is_over(&self) -> bool {
        let gone = self.turners.iter().all(|t| t.reactor.borrow().is_none());
        let takers = self.takers.iter().all(|taker| {
            let taker = taker.borrow();
            taker.died || taker.ended.is_some()
        });
        gone && takers
    }
}
