//! The clocks of all connections, kept a second time: from what arrives, what is held up and what time it is.
//!
//! In: what a reactor's slots look like after each turn. Out: nothing, or a panic that names who was closed
//! too early, too late or for a reason that nothing bears out. Never here: a deadline of the reactor's own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::plan::{Ending, Plan};
use crate::close::{CloseReason, Farewell, Reason};
use crate::config::Deadlines;
use crate::net::sim::{Fault, Faults, SimNetwork};
use crate::peer::{ConnectionId, Peer};
use crate::policy::{AtLimit, LeastRate, OnConsumerStall};
use crate::reactor::{Seen, Sight};

/// Ticks of the reactor, whose clocks know no less.
const TICK: Duration = Duration::from_millis(8);
/// As late as a timer may be, once.
const LATE: Duration = Duration::from_millis(300);
/// What an eviction waits for when the kernel holds bytes, and how long a message lasts that may be slow.
const SECOND: Duration = Duration::from_secs(1);

/// One connection's clocks.
#[derive(Debug)]
struct Clock {
    opened: Duration,
    seen: Duration,
    /// Time that had passed unasked when it was opened, and since then: an excuse for whatever is late.
    unasked: Duration,
    excuse: Duration,
    /// Since the last read, without what we held it up.
    quiet: Duration,
    /// Since its unfinished message began, without what we held it up.
    unfinished: Option<Duration>,
    /// Since when it has been waiting for its ring, and for how long until this turn.
    waits: Option<Duration>,
    full_since: Option<Duration>,
    waited: Duration,
    held: bool,
    received: u64,
    /// How often it was held up, since the last read and since its message began: each time the reactor's
    /// ticks may lose one.
    holds: u32,
    holds_of_message: u32,
    /// Time in which it was read, what had come by then, and since when its unfinished message was not
    /// held up by anything but its ring.
    live: Duration,
    came: VecDeque<(Duration, u64)>,
    live_since: Duration,
    is_live: bool,
    reason: Option<CloseReason>,
    /// When its farewell is over at the latest.
    leaves_by: Option<Duration>,
}

/// What is known of a port's connection beforehand.
#[derive(Debug)]
struct Known {
    /// Where its messages begin in its stream, and where the last one ends.
    starts: Vec<u64>,
    ending: Ending,
}

#[derive(Debug)]
pub(super) struct Clocks {
    deadlines: Deadlines,
    /// Where a stalled consumer's connections are ended.
    consumer_stall: Option<Duration>,
    least: Option<LeastRate>,
    /// Where the longest at rest makes room at the limit.
    evicts: bool,
    known: Vec<Known>,
    clocks: HashMap<ConnectionId, Clock>,
    over: HashSet<ConnectionId>,
    /// Reactors in which somebody waited for staging after the last turn.
    starved: HashSet<usize>,
    /// Reactors that were draining after their last turn.
    drains: HashSet<usize>,
    /// Somebody asked for these to be closed.
    pub(super) told_to_close: HashSet<ConnectionId>,
    pub(super) draining: bool,
}

impl Clocks {
    pub(super) fn new(plan: &Plan) -> Self {
        let known = plan.scripts.iter().map(|script| Known {
            starts: script.starts.clone(),
            ending: script.ending,
        });
        let evicts = plan.config.on_consumer_stall == OnConsumerStall::Evict;
        Self {
            deadlines: plan.config.deadlines,
            consumer_stall: plan.config.consumer_stall.filter(|_| evicts),
            least: plan.config.least_rate,
            evicts: plan.config.at_max_connections == AtLimit::Evict,
            known: known.collect(),
            clocks: HashMap::new(),
            over: HashSet::new(),
            starved: HashSet::new(),
            drains: HashSet::new(),
            told_to_close: HashSet::new(),
            draining: false,
        }
    }

    /// A reactor has had a turn.
    ///
    /// `began`: when it began; `still`: for how long each consumer has released nothing of this reactor's.
    pub(super) fn look(
        &mut self,
        sight: &Sight,
        began: Duration,
        still: &[Duration],
        network: &SimNetwork,
    ) {
        // Time passes in a turn only where a call takes its time.
        let turn = network.now() - began;
        let (faults, unasked) = (&network.faults(), network.unasked());
        let mut orphans = HashMap::<usize, usize>::new();
        for seen in &sight.all {
            if self.over.contains(&seen.id) {
                continue;
            }
            if !seen.open && seen.is_orphan {
                *orphans.entry(seen.consumer).or_default() +=
                    usize::from(seen.reason == Some(CloseReason::ConsumerGone));
            }
            let is_new = !self.clocks.contains_key(&seen.id);
            let by_dead = seen.reason == Some(CloseReason::ConsumerGone);
            assert!(
                !(is_new && by_dead && sight.is_anybody_there),
                "{}: was bound to a consumer that is gone",
                seen.id
            );
            let mut clock = self.clocks.remove(&seen.id).unwrap_or(Clock {
                opened: sight.now,
                seen: sight.now,
                unasked: unasked.saturating_sub(turn),
                excuse: Duration::ZERO,
                quiet: Duration::ZERO,
                unfinished: None,
                waits: None,
                full_since: None,
                waited: Duration::ZERO,
                held: false,
                received: 0,
                holds: 0,
                holds_of_message: 0,
                live: Duration::ZERO,
                came: VecDeque::new(),
                live_since: Duration::ZERO,
                is_live: true,
                reason: None,
                leaves_by: None,
            });
            clock.excuse = unasked - clock.unasked;
            let took = sight.now - clock.seen;
            let is_read_out = seen
                .reason
                .is_some_and(|r| r.farewell() == Farewell::Discard);
            assert!(
                !seen.is_orphan || is_read_out || seen.received == clock.received,
                "{}: is read for a consumer that is gone",
                seen.id
            );
            self.pass(&mut clock, seen, sight);
            self.pass_window(&mut clock, seen, took);
            self.judge(&mut clock, seen, sight, still, network, faults);
            if seen.open {
                self.clocks.insert(seen.id, clock);
            } else {
                self.over.insert(seen.id);
            }
        }
        // An end ends them at once, and may be over in the same turn.
        let most = orphans.values().max();
        assert!(
            !sight.is_running || most.is_none_or(|most| *most <= sight.evict_budget),
            "{most:?} connections of a consumer that is gone are ended in one turn"
        );
        if sight.read_until.is_some() {
            self.drains.insert(sight.reactor);
        }
        if sight.starves {
            self.starved.insert(sight.reactor);
        } else {
            self.starved.remove(&sight.reactor);
        }
    }

    fn known(&self, seen: &Seen) -> &Known {
        let Peer::Tcp(address) = seen.peer else {
            panic!("{:?}", seen.peer)
        };
        &self.known[usize::from(address.port()) - 1]
    }

    /// What time and this turn's reads did to its clocks.
    fn pass(&self, clock: &mut Clock, seen: &Seen, sight: &Sight) {
        let took = sight.now - clock.seen;
        clock.seen = sight.now;
        clock.waited = clock.waits.map_or(Duration::ZERO, |at| sight.now - at);
        // In a drain nobody is read after half of it, whatever holds it up.
        if let Some(by) = clock.leaves_by.as_mut().filter(|_| clock.waits.is_some()) {
            let half = sight.read_until.unwrap_or(Duration::MAX);
            *by = (*by + took).min(half.max(*by));
        }
        if clock.held {
            clock.holds += 1;
            clock.holds_of_message += 1;
        } else {
            clock.quiet += took;
            clock.unfinished = clock.unfinished.map(|time| time + took);
        }
        if seen.received > clock.received && clock.reason.is_none() {
            clock.quiet = Duration::ZERO;
            clock.holds = 0;
            let starts = &self.known(seen).starts;
            let is_known = !starts.is_empty();
            let begun = starts.partition_point(|start| *start < seen.received);
            let start = begun.checked_sub(1).map_or(0, |at| starts[at]);
            let is_whole = starts.get(begun) == Some(&seen.received);
            let goes_on = clock.received > start;
            clock.unfinished = match clock.unfinished {
                _ if is_whole || !is_known => None,
                Some(time) if goes_on => Some(time),
                _ => Some(Duration::ZERO),
            };
            if clock.unfinished.unwrap_or_default().is_zero() {
                clock.holds_of_message = 0;
            }
            clock.waits = None;
        }
        clock.received = seen.received;
        clock.held =
            seen.waits_for_ring.is_some() || seen.is_held_by_operator || seen.is_held_by_rate;
        // A ring that flowed in between has made room.
        let goes_on = clock.waits.is_some() && clock.full_since == seen.waits_for_ring;
        clock.full_since = seen.waits_for_ring;
        if !goes_on {
            clock.waits = seen.waits_for_ring.map(|_| sight.now);
        }
    }

    /// What time and this turn's reads did to what the least rate is held against.
    fn pass_window(&self, clock: &mut Clock, seen: &Seen, took: Duration) {
        let Some(least) = self.least else { return };
        if clock.is_live {
            clock.live += took;
        }
        let is_paused = seen.is_held_by_operator || seen.waits_for_staging;
        clock.is_live = !clock.held && !is_paused;
        if is_paused || clock.unfinished.is_none_or(|time| time.is_zero()) {
            clock.live_since = clock.live;
        }
        clock.came.push_back((clock.live, seen.received));
        // What nobody could use is no part of the time for which it is kept.
        let kept = 4 * least.window + clock.excuse;
        let long_ago = |(at, _): &(Duration, u64)| *at + kept < clock.live;
        while clock.came.get(1).is_some_and(long_ago) {
            clock.came.pop_front();
        }
    }

    /// What came in the last `time` in which it was read, or less.
    fn came_within(clock: &Clock, time: Duration) -> u64 {
        let since = clock.live.saturating_sub(time);
        let first = clock.came.iter().find(|(at, _)| *at >= since);
        let last = clock.came.back().map_or(0, |(_, received)| *received);
        first.map_or(0, |(_, received)| last - received)
    }

    fn judge(
        &self,
        clock: &mut Clock,
        seen: &Seen,
        sight: &Sight,
        still: &[Duration],
        network: &SimNetwork,
        faults: &Faults,
    ) {
        let who = seen.id;
        let Deadlines {
            idle,
            message,
            stall,
            age,
            ..
        } = self.deadlines;
        let slack = TICK * (2 + clock.holds.max(clock.holds_of_message));
        // Before this turn, which may have ended it.
        let starves = sight.starves || self.starved.contains(&who.reactor());
        let died = faults.happened(Fault::ConsumerDies) > 0;
        let old = sight.now - clock.opened;
        // A release within a turn that takes its time counts as one at its beginning.
        let still = still[seen.consumer].saturating_add(clock.unasked + clock.excuse);
        let is_stalled = self.consumer_stall.is_some_and(|t| still >= t);
        let reason = seen.reason;
        if clock.reason.is_none()
            && let Some(reason) = reason
        {
            let ended = |what: bool| assert!(what, "{who}: closed by {reason}: {clock:?}");
            // Who has something to be read is given a second for it.
            let look = if seen.overlooked > 0 {
                SECOND
            } else {
                Duration::ZERO
            };
            match reason {
                CloseReason::Idle => ended(idle.is_some_and(|t| clock.quiet + slack >= t + look)),
                CloseReason::Message => {
                    // Who is slow gives up staging that others starve for.
                    let least = match message {
                        Some(t) if starves => Some(t.min(SECOND)),
                        other => other.map(|t| t + look),
                    };
                    let took = clock.unfinished.unwrap_or_default();
                    let is_known = !self.known(seen).starts.is_empty();
                    ended(least.is_some_and(|t| took + slack >= t || !is_known));
                }
                CloseReason::Trickle => {
                    let slack = slack + TICK * (2 + clock.holds_of_message);
                    let is_known = !self.known(seen).starts.is_empty();
                    ended(self.least.is_some_and(|least| {
                        let took = clock.unfinished.unwrap_or_default();
                        let few = least.bytes_per_sec * least.window.as_millis() as u64 / 1000;
                        let came = Self::came_within(clock, least.window.saturating_sub(slack));
                        came < few.max(1) && (!is_known || took + slack >= least.window + look)
                    }));
                }
                CloseReason::Age => ended(age.is_some_and(|t| old >= t)),
                CloseReason::Stall => ended(stall.is_some_and(|t| clock.waited + slack >= t)),
                CloseReason::ConsumerStalled => ended(is_stalled),
                CloseReason::Evicted => {
                    ended(self.evicts && clock.quiet >= SECOND && seen.overlooked == 0)
                }
                CloseReason::Operator => ended(self.told_to_close.contains(&who)),
                CloseReason::Shutdown => ended(self.draining || died),
                CloseReason::ConsumerGone => ended(died),
                CloseReason::Protocol => {
                    let known = self.known(seen);
                    ended(known.ending == Ending::Garbage || known.starts.is_empty());
                }
                CloseReason::System(12 | 28) => ended(faults.happened(Fault::WatchFails) > 0),
                CloseReason::System(_) => ended(faults.happened(Fault::FoundDead) > 0),
                _ => {}
            }
            // Who began to leave before a drain, in the same turn too, does not hear of it.
            let lingers = sight.now + self.deadlines.linger;
            clock.leaves_by = Some(match sight.read_until {
                Some(until) if self.drains.contains(&sight.reactor) => until.max(sight.now),
                Some(until) => until.max(lingers),
                None => lingers,
            });
        }
        let was_leaving = clock
            .reason
            .filter(|first| first.farewell() != Farewell::AtOnce);
        clock.reason = reason;
        if !seen.open {
            if let (Some(first), Some(by)) = (was_leaving, clock.leaves_by) {
                // A drain or a stop, a lost or a stalled consumer, an error and a ring that stays full cut it
                // short.
                let is_half_over = |half| sight.now + 2 * TICK >= half;
                let is_cut = self.draining && sight.read_until.is_none_or(is_half_over)
                    || died
                    || is_stalled
                    || stall.is_some_and(|t| clock.waited + slack >= t)
                    || network.has_ended(seen.peer)
                    || faults.happened(Fault::WatchFails) > 0;
                assert!(
                    is_cut || sight.now + slack >= by,
                    "{who}: its farewell after {first} is cut short: {clock:?}"
                );
            }
            return;
        }
        if reason.is_some() {
            // Everybody is told of a drain, and again of one that is cut short.
            if let Some(until) = sight.read_until
                && self.drains.contains(&sight.reactor)
            {
                let by = until.max(sight.now);
                clock.leaves_by = clock.leaves_by.map(|before| before.min(by));
            }
            let excuse = clock.excuse + TICK + slack;
            let late = clock.leaves_by.is_some_and(|by| sight.now > by + excuse);
            assert!(!late, "{who}: its farewell never ends: {clock:?}");
            return;
        }
        let is_late = |limit: Option<Duration>, time: Duration, more: Duration| {
            limit.is_some_and(|limit| time > limit + more + slack + clock.excuse)
        };
        let label =
            |reason: CloseReason| format!("{who}: {} is overdue: {clock:?}", reason.label());
        // Whose deadline comes in a turn that begins to hold it is looked at in a later one, which may be late too.
        let late = |holds: u32| match holds > 0 || clock.held {
            true => 2 * LATE,
            false => LATE,
        };
        // It may be closed later by a tenth, so that not all leave at once.
        let age_at_most = age.map(|t| t + t / 10);
        assert!(
            !is_late(age_at_most, old, TICK),
            "{}",
            label(CloseReason::Age)
        );
        assert!(
            !is_late(idle, clock.quiet, SECOND + late(clock.holds)),
            "{}",
            label(CloseReason::Idle)
        );
        let unfinished = clock.unfinished.unwrap_or_default();
        assert!(
            !is_late(message, unfinished, SECOND + late(clock.holds_of_message)),
            "{}",
            label(CloseReason::Message)
        );
        if let Some(least) = self.least {
            // So long that one whole window is in it, with its look.
            let slack = 2 * slack + TICK * clock.holds_of_message + clock.excuse;
            let span = 2 * least.window + SECOND + LATE + slack;
            let came = Self::came_within(clock, span);
            let due = least.bytes_per_sec * least.window.as_millis() as u64 / 1000;
            let is_known = !self.known(seen).starts.is_empty() && clock.unfinished.is_some();
            let is_overdue = is_known && clock.live > clock.live_since + span && came + 1 < due;
            assert!(
                !is_overdue,
                "{}: {came} of {due}",
                label(CloseReason::Trickle)
            );
        }
        let waits = clock.waits.map_or(Duration::ZERO, |at| sight.now - at);
        assert!(
            seen.is_orphan || !is_late(stall, waits, TICK),
            "{}",
            label(CloseReason::Stall)
        );
    }
}
