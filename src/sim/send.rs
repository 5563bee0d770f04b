//! A peer of the simulation: connects, sends its script in pieces, ends as the script says.
//!
//! In: a step. Out: bytes on the virtual network. Never here: what becomes of them.

use std::rc::Rc;
use std::time::Duration;

use super::ledger::address;
use super::plan::{Ending, Script};
use crate::net::sim::{Fate, Fault, Random, Sent, SimNetwork, SimPeer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Sending,
    /// FIN is sent, and ours is waited for.
    Finished,
    /// Silent for ever.
    Vanished,
    Over,
}

/// A SYN that is not answered is sent again, after twice the time before: who waits for an hour's clock to
/// make room does not try seventy thousand times.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Sender {
    script: Rc<Script>,
    port: u16,
    peer: Option<SimPeer>,
    state: State,
    sent: usize,
    next_at: Duration,
    /// When it tries again to connect, if it has to.
    retry: Duration,
    random: Random,
}

impl Sender {
    pub(super) fn new(script: Rc<Script>, port: u16, random: Random) -> Self {
        Self {
            next_at: script.begin,
            retry: FIRST_RETRY,
            script,
            port,
            peer: None,
            state: State::Before,
            sent: 0,
            random,
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What became of its connection.
    pub(super) fn fate(&self) -> Fate {
        self.peer.as_ref().map(SimPeer::fate).unwrap_or_default()
    }

    /// Is there nothing more to be expected of it?
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over | State::Vanished)
    }

    pub(super) fn is_vanished(&self) -> bool {
        self.state == State::Vanished
    }

    pub(super) fn is_runnable(&self, now: Duration) -> bool {
        match (self.state, &self.peer) {
            (State::Over | State::Vanished, _) => false,
            (State::Finished, Some(peer)) if self.may_reset() => {
                self.next_at <= now || peer.sees_fin()
            }
            (State::Finished, Some(peer)) => peer.sees_fin(),
            (State::Sending, Some(peer)) => self.next_at <= now && peer.can_send(),
            _ => self.next_at <= now,
        }
    }

    /// When it goes on by itself.
    pub(super) fn next_time(&self, now: Duration) -> Option<Duration> {
        let waits = match (self.state, &self.peer) {
            (State::Before, _) => true,
            (State::Sending, Some(peer)) => peer.can_send(),
            (State::Finished, _) => self.may_reset(),
            _ => false,
        };
        (waits && self.next_at > now).then_some(self.next_at)
    }

    pub(super) fn step(&mut self, network: &SimNetwork) {
        match self.state {
            State::Before => self.connect(network),
            State::Sending => self.send(network),
            // Ours has come, or the connection is gone, or it has waited for long enough.
            State::Finished => {
                if self.may_reset()
                    && let Some(peer) = &self.peer
                {
                    network.note(Fault::Reset);
                    peer.reset();
                }
                self.state = State::Over;
            }
            State::Vanished | State::Over => {}
        }
    }

    fn connect(&mut self, network: &SimNetwork) {
        if !network.is_listening(self.script.place) {
            self.state = State::Over;
            return;
        }
        match network.connect(self.script.place, address(self.port)) {
            Some(peer) => {
                self.peer = Some(peer);
                self.state = State::Sending;
            }
            // The backlog is full: TCP tries again later.
            None => {
                self.next_at = network.now() + self.retry;
                self.retry = (2 * self.retry).min(LAST_RETRY);
            }
        }
    }

    fn send(&mut self, network: &SimNetwork) {
        let Some(peer) = &self.peer else { return };
        let rest = &self.script.bytes[self.sent..];
        // Told that nobody reads it any more, it finishes, sooner or later.
        let told = peer.sees_fin() && self.random.permille(300);
        if rest.is_empty() || told {
            return self.end(network);
        }
        let piece = self.random.within(1..=self.script.piece).min(rest.len());
        match peer.send(&rest[..piece]) {
            Sent::Took(n) => self.sent += n,
            Sent::Gone => {
                self.state = State::Over;
                return;
            }
        }
        if !self.script.pause.is_zero() {
            let most = self.script.pause.as_millis() as usize;
            let pause = Duration::from_millis(self.random.within(0..=most) as u64);
            self.next_at = network.now() + pause;
        }
    }

    fn end(&mut self, network: &SimNetwork) {
        let Some(peer) = &self.peer else { return };
        let all = self.sent == self.script.bytes.len();
        match self.script.ending {
            Ending::Fin => {
                network.note(Fault::Fin);
                peer.finish();
                self.state = State::Over;
            }
            Ending::Garbage => {
                if all {
                    network.note(Fault::Garbage);
                }
                peer.finish();
                self.state = State::Over;
            }
            Ending::InMessage => {
                if all {
                    network.note(Fault::FinInMessage);
                }
                peer.finish();
                self.state = State::Over;
            }
            Ending::HalfClose => {
                network.note(Fault::HalfClose);
                peer.finish();
                self.state = State::Finished;
            }
            Ending::FinReset => {
                network.note(Fault::HalfClose);
                peer.finish();
                let time = self.random.within(0..=300) as u64;
                self.next_at = network.now() + Duration::from_millis(time);
                self.state = State::Finished;
            }
            Ending::Reset => {
                network.note(Fault::Reset);
                peer.reset();
                self.state = State::Over;
            }
            Ending::Vanish => {
                network.note(Fault::Vanish);
                self.state = State::Vanished;
            }
        }
    }

    fn may_reset(&self) -> bool {
        self.script.ending == Ending::FinReset
    }

    /// The faults stop: who had vanished is found to be gone.
    pub(super) fn come_back(&mut self) {
        if self.state == State::Vanished
            && let Some(peer) = &self.peer
        {
            peer.finish();
            self.state = State::Over;
        }
    }
}
