//! A listener, as a machine: may the reactor accept from it now?
//!
//! ```text
//!          edge                 nobody waits
//!  Idle ─────────► Ready ─────────────────────► Idle
//!                  │ ▲ │
//!     no slot free │ │ │ no descriptor or memory
//!                  ▼ │ ▼
//!               Full │ Limited{until}     close: Closed, from anywhere
//!                  └─┴──┘ a slot is free / the time has come
//!
//!  Pressure: from anywhere, for as long as the consumers do not keep up; then Ready
//! ```
//!
//! In: edges, errors, free slots, time. Out: yes or no, and when to ask again. Edge-triggered, a
//! listener gets no second edge for who waits already: so Full and Limited go back to Ready, never to
//! Idle. Pressure takes the place of whatever else limits it, which is found again when it has gone: so
//! there is one thing to wait for at a time. Every event in every state: `listener.txt`.

use std::time::Duration;

use crate::edges;

/// First wait after EMFILE, ENFILE, ENOBUFS or ENOMEM; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A descriptor that becomes free is in use again within this time.
const LONGEST_WAIT: Duration = Duration::from_millis(800);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Idle,
    Ready,
    Full,
    Limited {
        until: Duration,
    },
    /// Nobody is let in, whoever waits and whatever is free.
    Pressure,
    Closed,
}

impl State {
    fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Limited { .. } => "limited",
            Self::Pressure => "pressure",
            Self::Closed => "closed",
        }
    }
}

/// What others are told of a listener's state.
pub(crate) const STATES: [&str; 5] = ["ready", "full", "limited", "closed", "pressure"];

#[derive(Debug)]
pub(crate) struct Listener {
    state: State,
    next_wait: Duration,
}

impl Listener {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Idle,
            next_wait: FIRST_WAIT,
        }
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn label(&self) -> &'static str {
        STATES[self.code() as usize]
    }

    /// Its state's place in [`STATES`].
    pub(crate) fn code(&self) -> u64 {
        match self.state {
            State::Idle | State::Ready => 0,
            State::Full => 1,
            State::Limited { .. } => 2,
            State::Closed => 3,
            State::Pressure => 4,
        }
    }

    fn enter(&mut self, next: State) {
        edges::note("listener", self.state.label(), next.label());
        self.state = next;
    }

    pub(crate) fn handle_edge(&mut self) {
        if self.state == State::Idle {
            self.enter(State::Ready);
        }
    }

    pub(crate) fn handle_accepted(&mut self) {
        self.next_wait = FIRST_WAIT;
    }

    /// Nobody waits in the backlog.
    pub(crate) fn handle_empty(&mut self) {
        if self.state == State::Ready {
            self.enter(State::Idle);
        }
    }

    /// The connection limit is reached; who waits, waits in the backlog.
    pub(crate) fn handle_full(&mut self) {
        if self.state == State::Ready {
            self.enter(State::Full);
        }
    }

    /// A connection slot is free.
    pub(crate) fn handle_free(&mut self) {
        if self.state == State::Full {
            self.enter(State::Ready);
        }
    }

    /// The system has nothing left for another connection.
    pub(crate) fn handle_exhausted(&mut self, now: Duration) {
        if !matches!(self.state, State::Closed | State::Pressure) {
            self.enter(State::Limited {
                until: now + self.next_wait,
            });
            self.next_wait = (self.next_wait * 2).min(LONGEST_WAIT);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        if matches!(self.state, State::Limited { until } if until <= now) {
            self.enter(State::Ready);
        }
    }

    /// The consumers do not keep up.
    pub(crate) fn handle_pressure(&mut self) {
        if !matches!(self.state, State::Closed | State::Pressure) {
            self.enter(State::Pressure);
        }
    }

    /// They do again. Nobody knows who came meanwhile.
    pub(crate) fn handle_relief(&mut self) {
        if self.state == State::Pressure {
            self.enter(State::Ready);
        }
    }

    pub(crate) fn handle_close(&mut self) {
        if self.state != State::Closed {
            self.enter(State::Closed);
        }
    }

    /// Before the end: whoever waits in the backlog is to be taken, edge or not.
    pub(crate) fn handle_drain(&mut self) {
        if matches!(self.state, State::Idle | State::Pressure) {
            self.enter(State::Ready);
        }
    }

    /// Nobody waits, and nothing holds it up.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    pub(crate) fn may_accept(&self) -> bool {
        self.state == State::Ready
    }

    /// Who waits in the backlog waits for a place.
    pub(crate) fn is_full(&self) -> bool {
        self.state == State::Full
    }

    /// Who waits in the backlog may be taken yet, though not now.
    pub(crate) fn is_held_up(&self) -> bool {
        matches!(self.state, State::Full | State::Limited { .. })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Limited { until } => Some(until),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "listener_table.rs"]
mod table;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ready() -> Listener {
        let mut listener = Listener::new();
        listener.handle_edge();
        listener
    }

    #[test]
    fn an_edge_makes_it_ready_until_nobody_waits() {
        let mut listener = ready();
        assert!(listener.may_accept());
        listener.handle_empty();
        assert_eq!(listener.state(), State::Idle);
    }

    #[test]
    fn full_goes_back_to_ready_without_an_edge() {
        let mut listener = ready();
        listener.handle_full();
        listener.handle_edge();
        assert_eq!(listener.state(), State::Full);
        listener.handle_free();
        assert_eq!(listener.state(), State::Ready);
    }

    #[test]
    fn exhaustion_waits_longer_each_time_and_never_longer_than_promised() {
        let mut listener = ready();
        let mut waits = Vec::new();
        for _ in 0..5 {
            listener.handle_exhausted(MS);
            let until = listener.poll_timeout().unwrap();
            waits.push((until - MS).as_millis());
            listener.handle_timeout(until - MS);
            assert!(!listener.may_accept());
            listener.handle_timeout(until);
            assert!(listener.may_accept());
        }
        assert_eq!(waits, [100, 200, 400, 800, 800]);
        listener.handle_accepted();
        listener.handle_exhausted(MS);
        assert_eq!(listener.poll_timeout(), Some(101 * MS));
    }

    #[test]
    fn pressure_stands_above_all_other_limits_and_has_no_time_of_its_own() {
        let mut listener = ready();
        listener.handle_exhausted(MS);
        listener.handle_pressure();
        assert_eq!(listener.poll_timeout(), None);
        listener.handle_timeout(10_000 * MS);
        listener.handle_edge();
        listener.handle_free();
        assert_eq!(listener.state(), State::Pressure);
        listener.handle_relief();
        assert_eq!(listener.state(), State::Ready);
    }

    #[test]
    fn nothing_opens_a_closed_listener_again() {
        let mut listener = ready();
        listener.handle_close();
        listener.handle_edge();
        listener.handle_free();
        listener.handle_exhausted(MS);
        listener.handle_timeout(10 * MS);
        listener.handle_pressure();
        listener.handle_relief();
        listener.handle_drain();
        assert_eq!(listener.state(), State::Closed);
    }
}
