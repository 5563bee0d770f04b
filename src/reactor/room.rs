//! Room at the limit: who is at rest, and who of them leaves for somebody who waits.
//!
//! In: connections that come to rest, or leave it; a listener that finds no place free. Out: evictions, one at
//! a time for each listener. Never here: the rule who, which is `policy::eviction`.
//!
//! The lists run through the slots, in the order in which rest began, so that keeping them is a few links for
//! each read, and nothing where nobody is evicted.

use std::time::Duration;

use super::admission::Limit;
use super::drain::Phase;
use super::slots::{Place, token};
use super::{Reactor, TICK, tick_time};
use crate::close::{CloseReason, RefuseReason};
use crate::conn::State;
use crate::net::Net;
use crate::policy::{AtLimit, AtRest, Victim};

/// Connections at rest that are looked at for each ring, for one that can leave at once: of a ring that is not full the
/// first can.
const LOOK_BUDGET: usize = 16;
/// Of one choice in one turn, those that turn out to have something to be read after all.
const MOST_WRONG: usize = 16;

impl<N: Net> Reactor<N> {
    /// It has nothing to be read, and nothing holds it up.
    pub(super) fn begin_rest(&mut self, key: u32) {
        if self.at_limit != AtLimit::Evict {
            return;
        }
        let slot = &mut self.slots[key];
        let rests = slot.place == Place::Nowhere && !slot.is_ready() && slot.stream.is_some();
        if rests && slot.conn.state() == State::Open {
            slot.queued_at = self.tick;
            let lists = &mut self.listeners[usize::from(slot.listener)].resting;
            lists[usize::from(slot.consumer)].push(&mut self.slots, key);
        }
    }

    pub(super) fn leave_rest(&mut self, key: u32) {
        let slot = &self.slots[key];
        if slot.place == Place::Resting {
            let lists = &mut self.listeners[usize::from(slot.listener)].resting;
            lists[usize::from(slot.consumer)].remove(&mut self.slots, key);
        }
    }

    /// May a listener that waited for a place try again?
    pub(super) fn has_room(&self, place: usize) -> bool {
        match self.admission.waits_at(self.index, place) {
            None => true,
            Some(limit) => matches!(self.victim(place, limit), Victim::Now(_)),
        }
    }

    /// Does a listener wait for a place, and nobody will wake it? When a place was given back just as another
    /// listener of this reactor said that it waits, that one took it, and the word of both back.
    pub(super) fn overlooks_room(&self) -> bool {
        let mut listeners = self.listeners.iter().enumerate();
        listeners.any(|(place, listening)| {
            listening.machine.is_full() && self.admission.waits_at(self.index, place).is_none()
        })
    }

    /// When somebody will have been at rest for long enough to make room for who waits here.
    pub(super) fn makes_room_at(&self, place: usize) -> Option<Duration> {
        if self.at_limit != AtLimit::Evict || !self.listeners[place].machine.is_full() {
            return None;
        }
        let limit = self.admission.waits_at(self.index, place)?;
        match self.victim(place, limit) {
            Victim::Now(_) => Some(self.now),
            Victim::In(time) => Some(self.now + time),
            Victim::Nobody => None,
        }
    }

    /// Who leaves for who waits at this listener, which is full.
    fn victim(&self, place: usize, limit: Limit) -> Victim<u32> {
        let listening = &self.listeners[place];
        let is_coming = |victim| self.slots.find(victim).is_some();
        if self.at_limit != AtLimit::Evict
            || self.phase != Phase::Running
            || !listening.machine.is_full()
            || listening.victim.is_some_and(is_coming)
        {
            return Victim::Nobody;
        }
        let listeners = match limit {
            Limit::Listener => &self.listeners[place..=place],
            Limit::Whole => &self.listeners[..],
        };
        let lists = listeners.iter().flat_map(|listening| &listening.resting);
        let longest = lists.filter_map(|resting| {
            let first = resting.iter(&self.slots).take(LOOK_BUDGET);
            first
                .map(|key| self.at_rest(key))
                .find(|one| one.leaves_at_once)
        });
        Victim::choose(longest)
    }

    fn at_rest(&self, key: u32) -> AtRest<u32> {
        let slot = &self.slots[key];
        let lane = &self.lanes[usize::from(slot.consumer)];
        AtRest {
            who: key,
            // The tick in which its rest began had begun before.
            rested: tick_time(self.tick.wrapping_sub(slot.queued_at)).saturating_sub(TICK),
            leaves_at_once: slot.conn.books().received == 0 || !lane.is_blocked() || lane.is_gone(),
        }
    }

    /// No place is free for who waits at this listener, if anybody does.
    pub(super) fn wait_for_room(&mut self, place: usize) {
        let listening = &mut self.listeners[place];
        let is_awaited = |socket| self.net.is_awaited(socket);
        if !listening.socket.as_ref().is_some_and(is_awaited) {
            // Nobody waits, and nobody is evicted for nobody. Whoever comes next raises an edge.
            return listening.machine.handle_empty();
        }
        listening.machine.handle_full();
        for _ in 0..MOST_WRONG {
            let Some(limit) = self.admission.waits_at(self.index, place) else {
                return;
            };
            let Victim::Now(key) = self.victim(place, limit) else {
                return;
            };
            if self.is_drained(key) {
                let victim = token(self.slots[key].generation, key);
                self.listeners[place].victim = Some(victim);
                return self.end(key, CloseReason::Evicted);
            }
            self.slots[key].mark_ready();
            self.line_up(key);
        }
    }

    /// Turns away somebody who was accepted.
    pub(super) fn turn_away(&mut self, stream: N::Stream, reason: RefuseReason) {
        let unread = self.net.unread(&stream).unwrap_or(0);
        self.net.turn_away(stream);
        self.counters.refuse(reason, unread);
    }
}
