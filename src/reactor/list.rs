//! Commands, and lists answered in slices.
//!
//! In: commands of other threads. Out: rows, at most a slice a turn.

use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use super::bulk::{self, Order};
use super::control::Command;
use super::slots::Place;
use super::{Reactor, tick_time};
use crate::close::{CloseReason, PauseCause, Reason};
use crate::conn::{PeerEnd, State, Tick};
use crate::net::Net;
use crate::status::{ClosedInfo, ConnectionInfo};

/// Rows of one answer in one turn.
const SLICE: usize = 256;
/// Commands done in one turn.
const COMMAND_BUDGET: usize = 64;
/// Lists under way at once; the next ones wait in the channel.
const MOST_ANSWERS: usize = 4;

#[derive(Debug)]
pub(crate) enum Answer {
    Connections {
        rows: Sender<Vec<ConnectionInfo>>,
        from: u32,
    },
    RecentlyClosed {
        rows: Sender<Vec<ClosedInfo>>,
    },
}

impl<N: Net> Reactor<N> {
    pub(crate) fn take_commands(&mut self) {
        let mut slots = bulk::SLICE;
        for _ in 0..COMMAND_BUDGET {
            slots = self.go_on_in_bulk(slots);
            if self.bulk.is_some() || self.answers.len() >= MOST_ANSWERS {
                return;
            }
            let Ok(command) = self.commands.try_recv() else {
                return;
            };
            match command {
                Command::Close(who) => {
                    let token = super::token(who.generation(), who.slot());
                    if let Some(key) = self.slots.find(token) {
                        self.begin_close(key, CloseReason::Operator);
                    }
                }
                Command::Pause(target) => self.begin_bulk(target, Order::Pause),
                Command::Resume(target) => self.begin_bulk(target, Order::Resume),
                Command::Connections(rows) => {
                    self.answers
                        .push_back(Answer::Connections { rows, from: 0 });
                }
                Command::RecentlyClosed(rows) => {
                    self.answers.push_back(Answer::RecentlyClosed { rows });
                }
            }
        }
        // There may be more of them, for the next turn, which is to come at once.
        self.net.waker().wake();
    }

    pub(crate) fn answer(&mut self) {
        let Some(answer) = self.answers.pop_front() else {
            return;
        };
        match answer {
            Answer::Connections { rows, from } => {
                let slice = self.slots.slice(from, SLICE);
                let described = slice.keys.iter().map(|key| self.describe(*key));
                let listens = rows.send(described.collect()).is_ok();
                if let Some(from) = slice.next.filter(|_| listens) {
                    self.answers.push_back(Answer::Connections { rows, from });
                }
            }
            Answer::RecentlyClosed { rows } => {
                // One answer: a thousand rows at most. Nobody listening is no matter.
                let _ = rows.send(self.closed.iter().cloned().collect());
            }
        }
    }

    fn describe(&self, key: u32) -> ConnectionInfo {
        let slot = &self.slots[key];
        let conn = &slot.conn;
        let ago = |tick: Tick| {
            let ticks = self.tick.wrapping_sub(tick);
            if ticks < 1 << 31 {
                tick_time(ticks)
            } else {
                Duration::ZERO
            }
        };
        let now = self.net.wall(self.now);
        let wall = |tick: Tick| -> SystemTime { now - ago(tick) };
        let lane = &self.lanes[usize::from(slot.consumer)];
        let ring_wait = (slot.place == Place::Ring && lane.is_pausing()).then(|| self.lasted(key));
        let (state, state_for) = match (conn.state(), ring_wait) {
            (State::Closed { .. }, _) => ("closed", Duration::ZERO),
            (State::Draining { .. }, _) => ("draining", Duration::ZERO),
            (State::Paused { since, .. }, _) => ("paused", ago(since)),
            (State::Open, Some(waited)) => ("paused", waited),
            (State::Open, None) => ("open", ago(conn.opened())),
        };
        let mut causes: Vec<PauseCause> = PauseCause::ALL
            .iter()
            .copied()
            .filter(|cause| conn.is_paused_by(*cause))
            .collect();
        if ring_wait.is_some() {
            causes.insert(0, PauseCause::Ring);
        }
        let (fin_at, reset_at) = match conn.peer_end() {
            PeerEnd::Sending => (None, None),
            PeerEnd::Fin { at } => (Some(wall(at)), None),
            PeerEnd::Reset { at } => (None, Some(wall(at))),
        };
        ConnectionInfo {
            id: self.id(key),
            peer: slot.peer(),
            listener: usize::from(slot.listener),
            consumer: usize::from(slot.consumer),
            state,
            causes,
            closing: conn.reason(),
            state_for,
            age: ago(conn.opened()),
            quiet_for: ago(conn.last_read()),
            fin_at,
            reset_at,
            books: conn.books(),
            unread: match &slot.stream {
                Some(stream) => self.net.unread(stream).unwrap_or(0),
                // Ended, and waiting for room to say so: what the kernel held at its end.
                None => slot.unread(),
            },
            paused: self.pauses_so_far(key),
        }
    }
}
