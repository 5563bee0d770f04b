//! The end of the whole: drained, stopped, or because a consumer is gone.
//!
//! ```text
//!  Running ──drain──► Draining{half, deadline} ──no connection is left──► Settling{deadline} ──► Ended
//!     │                    │ accept what waits, close the listeners,         │ all is released,
//!     │                    │ read until FIN or half of the time              │ or the time is up
//!     └──────────stop──────┴─────────────────────────────────────────────────┴──────► Ended
//! ```
//!
//! In: orders, time, released rings. Out: rings that end with `Drained`, or `Stopped`.

use std::io;
use std::time::Duration;

use super::serve::Served;
use super::slots::Place;
use super::stalled::{Evicting, Pace};
use super::{Lane, Listening, Reactor, sync_channel};
use crate::close::CloseReason;
use crate::edges;
use crate::net::Net;
use crate::ring::End;

/// Connections that are told in one turn that it is over.
const SWEEP: usize = 256;

/// Why a reactor ended without being asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// A consumer was dropped or panicked; the others were drained.
    ConsumerGone {
        /// Its number.
        consumer: usize,
    },
    /// A consumer released nothing for the consumer stall timeout, and the policy is to stop.
    ConsumerStalled {
        /// Its number.
        consumer: usize,
        /// For how long it had released nothing.
        time: Duration,
    },
    /// The system's `epoll` failed.
    System(io::Error),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConsumerGone { consumer } => write!(f, "consumer {consumer} is gone"),
            Self::ConsumerStalled { consumer, time } => write!(
                f,
                "consumer {consumer} is stalled: it has released nothing for {:.1} s",
                time.as_secs_f64()
            ),
            Self::System(error) => write!(f, "waiting for events failed: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Draining {
        /// Until here connections are read.
        half: Duration,
        /// Until here consumers are waited for.
        deadline: Duration,
        /// Slots from here on have not been told.
        untold: Option<u32>,
    },
    Settling {
        deadline: Duration,
    },
    Ended,
}

impl Phase {
    fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining { .. } => "draining",
            Self::Settling { .. } => "settling",
            Self::Ended => "ended",
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        // The sweep goes on at once.
        matches!(
            self,
            Self::Draining {
                untold: Some(_),
                ..
            }
        )
    }

    /// Until when a closing connection is read, if that is not its own affair any more.
    pub(crate) fn read_until(&self) -> Option<Duration> {
        match self {
            Self::Draining { half, .. } => Some(*half),
            Self::Running | Self::Settling { .. } | Self::Ended => None,
        }
    }

    /// `is_closed`: the listeners are. They are closed at half of the time, if not before.
    pub(crate) fn poll_timeout(&self, is_closed: bool) -> Option<Duration> {
        match self {
            Self::Draining { half, .. } if !is_closed => Some(*half),
            Self::Draining { deadline, .. } | Self::Settling { deadline } => Some(*deadline),
            Self::Running | Self::Ended => None,
        }
    }
}

impl<N: Net> Reactor<N> {
    fn enter(&mut self, next: Phase) {
        edges::note("reactor", self.phase.label(), next.label());
        self.phase = next;
    }

    pub(crate) fn take_orders(&mut self) {
        if self.orders.is_stop() {
            return self.stop();
        }
        if let Some(within) = self.orders.drain() {
            self.begin_drain(within);
        }
        self.take_commands();
    }

    /// Of several drains the one that ends first holds: what a consumer that is gone has begun may be cut short.
    pub(super) fn begin_drain(&mut self, within: Duration) {
        let half = self.now.saturating_add(within / 2);
        let deadline = self.now.saturating_add(within);
        match &mut self.phase {
            Phase::Running => {}
            Phase::Draining {
                half: read_until,
                deadline: ends,
                untold,
            } => {
                if half < *read_until {
                    (*read_until, *untold) = (half, Some(0));
                }
                *ends = deadline.min(*ends);
                return;
            }
            Phase::Settling { deadline: ends } => {
                *ends = deadline.min(*ends);
                return;
            }
            Phase::Ended => return,
        }
        self.enter(Phase::Draining {
            half,
            deadline,
            untold: Some(0),
        });
        for listening in &mut self.listeners {
            match listening.socket {
                Some(_) => listening.machine.handle_drain(),
                // Under pressure: nobody waits there.
                None => listening.machine.handle_close(),
            }
        }
    }

    pub(crate) fn advance_drain(&mut self) {
        let now = self.now;
        if let Phase::Draining {
            half,
            deadline,
            untold,
        } = self.phase
        {
            // Who waits in the backlogs is taken, and told as it comes. Where there is no descriptor or no
            // place for it now, those who leave make room.
            let takes = |listening: &Listening<_>| {
                listening.machine.may_accept() || listening.machine.is_held_up()
            };
            if now >= half {
                self.turn_all_away();
                self.close_listeners();
            } else if !self.listeners.iter().any(takes) {
                self.close_listeners();
            }
            let untold = if now >= deadline {
                self.end_all();
                None
            } else {
                untold.and_then(|from| self.sweep(from))
            };
            self.phase = Phase::Draining {
                half,
                deadline,
                untold,
            };
            if self.is_closed() && untold.is_none() && self.slots.len() == self.dead.len() {
                self.settle(deadline);
            }
        }
        if let Phase::Settling { deadline } = self.phase {
            let all = self.lanes.iter().all(Lane::is_released);
            if all || now >= deadline {
                self.give_up_unreleased();
                self.finish();
            }
        }
    }

    /// Are all listeners?
    pub(super) fn is_closed(&self) -> bool {
        self.listeners.iter().all(|l| l.socket.is_none())
    }

    fn close_listeners(&mut self) {
        for listening in &mut self.listeners {
            listening.socket = None;
            listening.machine.handle_close();
        }
    }

    /// Tells a slice of the connections. Returns where the next one begins.
    fn sweep(&mut self, from: u32) -> Option<u32> {
        let slice = self.slots.slice(from, SWEEP);
        for key in slice.keys {
            self.begin_close(key, CloseReason::Shutdown);
        }
        slice.next
    }

    /// The time is up for the connections: what they have is counted, not waited for.
    fn end_all(&mut self) {
        self.close_listeners();
        for key in self.slots.all() {
            self.end(key, CloseReason::Shutdown);
            // Who is dead has said so in this very turn, or has nothing to say.
            if self.slots[key].place == Place::Dead {
                continue;
            }
            let lane = usize::from(self.slots[key].consumer);
            if self.lanes[lane].is_gone() || self.publish_end(key) == Served::NoRoom {
                self.bury(key);
            }
        }
    }

    /// No connection is left: the rings end, and are waited for.
    fn settle(&mut self, deadline: Duration) {
        self.enter(Phase::Settling { deadline });
        for lane in &mut self.lanes {
            lane.producer.finish(End::Drained);
            let all = lane.producer.position();
            lane.producer.wait_for(all);
        }
    }

    fn stop(&mut self) {
        self.close_listeners();
        for key in self.slots.all() {
            self.end(key, CloseReason::Shutdown);
            self.bury(key);
        }
        for lane in &mut self.lanes {
            lane.producer.finish(End::Stopped);
        }
        self.give_up_unreleased();
        self.finish();
    }

    /// What consumers have not released is lost, for as long as they do not.
    fn give_up_unreleased(&mut self) {
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_released()) {
            lane.producer.abandon_unreleased();
        }
    }

    fn finish(&mut self) {
        self.enter(Phase::Ended);
        self.bulk = None;
        self.answers.clear();
        // Who asks from now on is told at once that nobody answers.
        self.commands = sync_channel(0).1;
        self.counters.ended.set(1);
    }

    /// A consumer that was dropped has handed its end of the ring back: what is in there is walked and
    /// booked, and its connections end. Where the others live on, they do so a few at a time.
    pub(crate) fn check_consumers(&mut self) {
        for place in 0..self.lanes.len() {
            let lane = &mut self.lanes[place];
            if lane.is_gone() {
                continue;
            }
            let Some(mut estate) = lane.producer.take_estate() else {
                continue;
            };
            let lost = estate.abandon_rest();
            // It is empty: who waited for room did so until now.
            self.resume_lanes();
            self.set_pace(place, Pace::Gone(Evicting::OVER));
            self.forget_progress(place);
            if matches!(self.phase, Phase::Settling { .. } | Phase::Ended) {
                // It had been told the end, and left; or it left too early.
                if lost > 0 {
                    self.failure
                        .get_or_insert(RunError::ConsumerGone { consumer: place });
                }
                continue;
            }
            let alive = self.lanes.iter().any(|lane| !lane.is_gone());
            if self.reroute && alive && self.phase == Phase::Running {
                self.begin_to_evict(place);
                continue;
            }
            self.end_of_the_gone();
            if !self.reroute || !alive {
                self.failure
                    .get_or_insert(RunError::ConsumerGone { consumer: place });
                let within = if alive {
                    self.drain_timeout
                } else {
                    Duration::ZERO
                };
                self.begin_drain(within);
            }
        }
    }

    /// The whole ends: nobody is better off if those without a consumer do so later.
    fn end_of_the_gone(&mut self) {
        for key in self.slots.all() {
            if self.lanes[usize::from(self.slots[key].consumer)].is_gone() {
                self.end(key, CloseReason::ConsumerGone);
                self.bury(key);
            }
        }
    }
}
