//! How a connection comes in.
//!
//! In: listeners with an edge, and places that became free. Out: slots, or refusals with a reason.
//! Never here: a wait for descriptors, which a timer does.

use super::drain::Phase;
use super::slots::{Slot, token};
use super::{Reactor, system};
use crate::close::{CloseReason, RefuseReason};
use crate::conn::Conn;
use crate::net::{AcceptError, Net, Refusal};
use crate::peer::Peer;
use crate::policy::AtLimit;

/// Of those who wait at a listener that closes: all, where its backlog is no longer.
const MOST_AT_ONCE: usize = 4096;

/// Of those that fail to be turned away, at each listener.
const MOST_FAILURES: usize = 16;

/// Neighbours in the order of coming are far from one another, and all are spread evenly: multiples of the
/// golden ratio.
fn spread(generation: u32) -> u8 {
    (generation.wrapping_mul(0x9e37_79b9) >> 24) as u8
}

impl<N: Net> Reactor<N> {
    pub(super) fn accept(&mut self) {
        for place in 0..self.listeners.len() {
            let machine = &mut self.listeners[place].machine;
            machine.handle_timeout(self.now);
            if machine.is_full() && self.has_room(place) {
                self.listeners[place].machine.handle_free();
            }
            self.listen_again(place);
            for _ in 0..self.budgets.accepts {
                if !self.listeners[place].machine.may_accept() {
                    break;
                }
                self.accept_one(place);
            }
        }
    }

    pub(super) fn accept_one(&mut self, place: usize) {
        let listening = &mut self.listeners[place];
        let Some(socket) = &listening.socket else {
            return;
        };
        // Who is turned away is accepted first: a place taken only to see whether somebody waits would turn
        // away another one, at another reactor, for nothing.
        let refuses = self.at_limit == AtLimit::Refuse;
        if !refuses && !self.admission.enter(self.index, place) {
            return self.wait_for_room(place);
        }
        match self.net.accept(socket) {
            Ok((stream, peer)) => {
                listening.machine.handle_accepted();
                match self.admit(place, &peer) {
                    Ok(()) => {
                        self.counters.listeners[place].accepted.add(1);
                        self.counters.accepted.add(1);
                        return self.open(place, stream, peer);
                    }
                    Err(reason) => self.turn_away(stream, reason),
                }
            }
            Err(error) => match AcceptError::of(&error) {
                AcceptError::Empty => listening.machine.handle_empty(),
                AcceptError::Again => {}
                AcceptError::Exhausted => {
                    let refusal = self.net.refuse(socket);
                    if let Refusal::Told { unread } = refusal {
                        self.counters.refuse(RefuseReason::Descriptors, unread);
                    }
                    match refusal {
                        // Whoever comes next raises an edge.
                        Refusal::Nobody => listening.machine.handle_empty(),
                        // Who waits gets no second edge: a timer comes back to them.
                        Refusal::Told { .. } | Refusal::Failed => {
                            listening.machine.handle_exhausted(self.now);
                        }
                    }
                }
                AcceptError::Broken => self.note_failure(place, &error),
            },
        }
        if !refuses {
            self.admission.leave(place);
        }
    }

    /// May somebody who was accepted stay? Its source is asked, and where nobody waits for a place, whether
    /// there is one.
    fn admit(&self, place: usize, peer: &Peer) -> Result<(), RefuseReason> {
        if let Some(sources) = &self.sources {
            sources.enter(peer, self.now)?;
        }
        if self.at_limit == AtLimit::Refuse && !self.admission.try_enter(place) {
            if let Some(sources) = &self.sources {
                sources.leave(peer);
            }
            return Err(match self.phase {
                Phase::Running => RefuseReason::Full,
                _ => RefuseReason::Shutdown,
            });
        }
        Ok(())
    }

    /// The listeners are about to close. Whoever still waits there, because no place or no descriptor became free, is
    /// told so, and counted with what it has sent.
    pub(super) fn turn_all_away(&mut self) {
        for place in 0..self.listeners.len() {
            // What fails now may not the next time, and nobody comes back to them.
            let mut failures = 0;
            for _ in 0..MOST_AT_ONCE {
                let Some(socket) = &self.listeners[place].socket else {
                    break;
                };
                let accepted = self.net.accept(socket);
                match accepted.map_err(|error| AcceptError::of(&error)) {
                    Ok((stream, _)) => self.turn_away(stream, RefuseReason::Shutdown),
                    Err(AcceptError::Again) => {}
                    Err(AcceptError::Broken) => failures += 1,
                    Err(AcceptError::Exhausted) => match self.net.refuse(socket) {
                        Refusal::Told { unread } => {
                            self.counters.refuse(RefuseReason::Shutdown, unread);
                        }
                        Refusal::Failed => failures += 1,
                        Refusal::Nobody => break,
                    },
                    Err(AcceptError::Empty) => break,
                }
                if failures == MOST_FAILURES {
                    break;
                }
            }
        }
    }

    /// A connection's source may have another one.
    pub(super) fn leave_source(&self, key: u32) {
        if let Some(sources) = &self.sources {
            sources.leave(&self.slots[key].peer());
        }
    }

    pub(super) fn open(&mut self, listener: usize, stream: N::Stream, peer: Peer) {
        let (key, generation) = self.slots.next();
        let opened = self.net.open(&stream, token(generation, key));
        // Where connections of stalled consumers are ended, nobody new is sent to one; unless all are.
        let takes_new = (0..self.lanes.len()).any(|lane| self.takes_new(lane));
        let loads = self.lanes.iter().enumerate().map(|(place, lane)| {
            let takes = !lane.is_gone() && (!takes_new || self.takes_new(place));
            takes.then_some(lane.connections)
        });
        let consumer = self.route.choose(listener, &peer, loads);
        let mut conn = Conn::new(self.tick).spread(spread(generation));
        conn.framing = self.listeners[listener].framing.code();
        if self.least_rate.is_some() {
            conn = conn.weighed();
        }
        let mut slot = Slot::new(conn, stream, generation, peer);
        slot.consumer = consumer as u8;
        slot.listener = listener as u8;
        let inserted = self.slots.insert(slot);
        debug_assert_eq!(inserted, key);
        self.shares.open(key);
        if let Some(rates) = &mut self.rates {
            rates.open(key, listener as u8, &peer);
        }
        self.lanes[consumer].connections += 1;
        self.counters.open.add(1);
        self.counters.peak_open.raise_to(self.admission.connect());
        self.rearm(key);
        self.begin_rest(key);
        match opened {
            // The last consumer is gone, and its ring is nobody's.
            Ok(()) if self.lanes[consumer].is_gone() => self.end(key, CloseReason::ConsumerGone),
            Ok(()) if self.phase != Phase::Running => {
                self.begin_close(key, CloseReason::Shutdown);
            }
            Ok(()) => {}
            Err(error) => self.end(key, system(&error)),
        }
    }
}
