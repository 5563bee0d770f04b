//! Listeners under pressure: shut together, and opened together.
//!
//! The first reactor decides for all, so that all or none are shut; it also binds again for all of them,
//! because the sockets of one address can only be bound by one after the other. None of these calls waits.
//!
//! In: rings that are full, and time. Out: listeners that accept nobody, or are closed.
//! Never here: an address. The network knows where it listened.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use super::together::Shuts;
use super::{Phase, Reactor};
use crate::net::{Net, Token};
use crate::policy::Pressure;

/// A listener that was opened again, and when: who sleeps through a later shut must not take it then.
#[derive(Debug)]
pub(crate) struct Reopened<L> {
    place: usize,
    listener: L,
    at: Shuts,
}

impl<L> Reopened<L> {
    pub(super) fn new(place: usize, listener: L, at: Shuts) -> Self {
        Self {
            place,
            listener,
            at,
        }
    }
}

/// Those that were, for each reactor.
pub(crate) type Opened<L> = (Arc<[Sender<Reopened<L>>]>, Receiver<Reopened<L>>);

/// A reactor's part in it.
#[derive(Debug)]
pub(crate) struct Gate<L> {
    /// The first reactor's alone.
    decides: Option<Pressure>,
    pub(crate) closes: bool,
    /// As far as it has been done here.
    shuts: Shuts,
    /// Consumers to which a ring of this reactor is full, and those that are gone, as it has said.
    full: u64,
    gone: u64,
    opened: Opened<L>,
}

impl<L> Gate<L> {
    pub(crate) fn new(first: bool, after: Duration, closes: bool, opened: Opened<L>) -> Self {
        Self {
            decides: first.then(|| Pressure::new(after)),
            closes,
            shuts: Shuts::default(),
            full: 0,
            gone: 0,
            opened,
        }
    }

    pub(super) fn is_first(&self) -> bool {
        self.decides.is_some()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.decides.as_ref()?.poll_timeout()
    }

    #[cfg(feature = "sim")]
    pub(crate) fn is_shut(&self) -> bool {
        self.shuts.is_shut()
    }
}

impl<N: Net> Reactor<N> {
    /// Once a turn: does it press, and are the listeners to be shut for it?
    pub(super) fn watch_pressure(&mut self) {
        let Some(mut gate) = self.gate.take() else {
            return;
        };
        // A drain takes whoever waits, under any pressure.
        if self.phase == Phase::Running {
            self.tell_pressure(&mut gate);
            if let Some(pressure) = &mut gate.decides {
                let presses = self.together.presses();
                self.together.set_shut(pressure.look(presses, self.now));
            }
            let now = self.together.shuts();
            let before = std::mem::replace(&mut gate.shuts, now);
            if before != now {
                // Both, if they were shut and opened since: with a socket here the first one can bind none.
                if !before.is_shut() {
                    self.shut(&gate);
                }
                if !now.is_shut() {
                    self.reopen(&gate);
                }
            }
            while let Ok(reopened) = gate.opened.1.try_recv() {
                if reopened.at == now {
                    self.adopt(reopened.place, reopened.listener);
                }
            }
        }
        self.gate = Some(gate);
        // In this turn: nobody is told that a listener is ready that has no socket.
        for place in 0..self.listeners.len() {
            self.listen_again(place);
        }
    }

    /// Tells the others what has changed here.
    fn tell_pressure(&mut self, gate: &mut Gate<N::Listener>) {
        for (consumer, lane) in self.lanes.iter().enumerate() {
            let bit = 1 << consumer;
            if lane.is_gone() && gate.gone & bit == 0 {
                gate.gone |= bit;
                self.together.set_gone(self.index, consumer);
            }
            if lane.is_blocked() != (gate.full & bit != 0) {
                gate.full ^= bit;
                self.together
                    .set_full(self.index, consumer, lane.is_blocked());
            }
        }
    }

    fn shut(&mut self, gate: &Gate<N::Listener>) {
        self.counters.shuts.add(u64::from(gate.is_first()));
        for listening in &mut self.listeners {
            listening.machine.handle_pressure();
            if gate.closes {
                listening.socket = None;
            }
        }
    }

    fn reopen(&mut self, gate: &Gate<N::Listener>) {
        for listening in &mut self.listeners {
            // The first one opens the others' too.
            if listening.socket.is_some() || gate.is_first() {
                listening.machine.handle_relief();
            }
        }
    }

    /// Opens a listener that may accept and has no socket, for it was closed under pressure.
    pub(super) fn listen_again(&mut self, place: usize) {
        let listening = &self.listeners[place];
        if listening.socket.is_some() || !listening.machine.may_accept() {
            return;
        }
        let Some(gate) = self.gate.take() else { return };
        let reactors = gate.opened.0.len();
        let at = self.together.shuts();
        match self.net.listen_again(place, reactors) {
            Ok(listeners) => {
                for (reactor, listener) in listeners.into_iter().enumerate() {
                    if reactor == self.index {
                        self.adopt(place, listener);
                        continue;
                    }
                    let reopened = Reopened::new(place, listener, at);
                    if gate.opened.0[reactor].send(reopened).is_ok() {
                        self.together.wake(reactor);
                    }
                }
            }
            Err(error) => self.note_failure(place, &error),
        }
        self.gate = Some(gate);
    }

    fn adopt(&mut self, place: usize, listener: N::Listener) {
        let listened = self.net.listen(&listener, Token(place as u64));
        let listening = &mut self.listeners[place];
        listening.machine.handle_relief();
        match listened {
            Ok(()) => listening.socket = Some(listener),
            Err(error) => self.note_failure(place, &error),
        }
    }

    /// A listener does not work. It is tried again in a while.
    pub(super) fn note_failure(&mut self, place: usize, error: &std::io::Error) {
        let counters = &self.counters.listeners[place];
        counters.failures.add(1);
        let errno = error
            .raw_os_error()
            .and_then(|errno| u64::try_from(errno).ok());
        counters.errno.set(errno.unwrap_or(0));
        let now = self.now;
        self.listeners[place].machine.handle_exhausted(now);
    }
}
