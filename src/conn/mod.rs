//! A connection, as a machine without input or output.
//!
//! In: events through `handle_*`, each with the tick of the turn. Out: what it wants through
//! `poll_timeout` and questions. Never here: a socket, a ring, a clock, a policy's decision.
//!
//! ```text
//!             handle_pause(cause)
//!  Open ────────────────────────────► Paused{since}
//!   ▲ │                                  │ │
//!   │ │ handle_close(reason)             │ │ handle_close(reason)
//!   │ └──────────────┐   ┌───────────────│─┘
//!   │                ▼   ▼               │
//!   │          Draining{reason, until}   │
//!   │                │ handle_end        │
//!   │                ▼                   │
//!   │          Closed{reason}            │
//!   └────────────────────────────────────┘ handle_resume: no cause is left
//! ```
//!
//! Who sets a cause, who clears it, and which clock runs meanwhile:
//!
//! | cause    | set by                             | cleared by                      | idle, message | stall | age |
//! |----------|------------------------------------|---------------------------------|---------------|-------|-----|
//! | ring     | waiting in the FIFO of a full ring | being served                    | frozen        | runs  | runs |
//! | staging  | a read that could not be staged    | any room that is given back     | run           | -     | runs |
//! | operator | `Handle::pause`                    | `Handle::resume`, any close     | frozen        | -     | runs |
//! | rate     | a bucket that is used up           | its refill, any close           | frozen        | -     | runs |
//!
//! The window of the least rate is open only in `Open`, and not while its ring is full: of the causes that
//! are ours none counts against a peer. After a pause another window begins.
//!
//! Frozen clocks go on where they stood, so that our slowness evicts nobody: what a cause held up is given
//! back when none of those that freeze is left, and a ring says afterwards for how long it was full
//! ([`Conn::handle_held`]).
//!
//! So does the time in which somebody who is leaving is read to its end, while its ring is full: its reason said that
//! what it has sent is delivered. Only a drain's end waits for nobody.
//!
//! A full ring is a state of the ring, and pauses thousands at once in O(1): so this cause alone is not
//! in the machine, which only hears how long it waited. The stall clock is the ring's too: its FIFO is
//! in the order of waiting.
//!
//! Every event in every state: `table.txt`.

mod more;
mod state;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

use self::more::Window;
pub(crate) use self::more::{MORE_BYTES, More};
use self::state::Ended;
pub(crate) use self::state::{Causes, PeerEnd, State};
use crate::books::Books;
use crate::close::{CloseReason, Farewell, PauseCause, Reason};
use crate::edges;
use crate::frame::Partial;

/// 8 ms.
pub(crate) type Tick = u32;
const TICKS_PER_SEC: Tick = 125;
/// What a connection that is due for eviction is given when the kernel holds bytes of it: a second.
const LOOK: Tick = TICKS_PER_SEC;

/// The clocks' settings, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) idle: Option<Tick>,
    pub(crate) message: Option<Tick>,
    /// The window of the least rate.
    pub(crate) window: Option<Tick>,
    pub(crate) age: Option<Tick>,
    pub(crate) linger: Tick,
}

/// What came of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// None has come.
    Nothing,
    /// An eviction is due: see first whether the kernel holds bytes, then say so by
    /// [`Conn::handle_look`].
    Look(CloseReason),
    /// A window of the least rate is over: see whether [`Conn::window_bytes`] are too few. If so, look and
    /// close as for the other evictions; else say so by [`Conn::handle_window`].
    Weigh,
    /// Close, by the reason's farewell.
    Close(CloseReason),
    /// The farewell has taken long enough.
    End(CloseReason),
}

#[derive(Debug)]
pub(crate) struct Conn {
    state: State,
    partial: Partial,
    received: u64,
    published: u64,
    staged: u32,
    opened: Tick,
    last_read: Tick,
    message_since: Tick,
    peer_end: Ended,
    peer_ended_at: Tick,
    /// How much later than at its largest age it is closed: of 256 parts of a tenth.
    spread: u8,
    /// `Opened` has been published.
    pub(crate) is_introduced: bool,
    /// The framing's code, settled if the listener's is `auto`.
    pub(crate) framing: u8,
    more: Option<Box<More>>,
}

/// A line of the cache: with what the reactor keeps for it there are two.
const _: () = assert!(size_of::<Conn>() <= 64);

/// Has `deadline` come at `now`? Ticks wrap after 397 days.
pub(crate) fn has_come(now: Tick, deadline: Tick) -> bool {
    now.wrapping_sub(deadline) < 1 << 31
}

/// The earlier of two deadlines.
pub(crate) fn sooner(a: Option<Tick>, b: Option<Tick>) -> Option<Tick> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if has_come(a, b) { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Of two that come at once, the first.
fn earlier(a: Option<(Tick, Expired)>, b: Option<(Tick, Expired)>) -> Option<(Tick, Expired)> {
    match (a, b) {
        (Some(a), Some(b)) if has_come(b.0, a.0) => Some(a),
        (a, None) => a,
        (_, b) => b,
    }
}

impl Conn {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            state: State::Open,
            partial: Partial::default(),
            received: 0,
            published: 0,
            staged: 0,
            opened: now,
            last_read: now,
            message_since: now,
            peer_end: Ended::Not,
            peer_ended_at: now,
            spread: 0,
            is_introduced: false,
            framing: 0,
            more: None,
        }
    }

    /// Its unfinished messages are weighed against the least rate.
    pub(crate) fn weighed(mut self) -> Self {
        self.more().window = Some(Window {
            since: self.opened,
            from: 0,
            is_looked: false,
        });
        self
    }

    /// Who came together does not leave together: it may grow older by so many 256ths of a tenth.
    pub(crate) fn spread(self, spread: u8) -> Self {
        Self { spread, ..self }
    }

    fn aged_at(&self, age: Tick) -> Tick {
        let more = u64::from(age) * u64::from(self.spread) / 2560;
        self.opened.wrapping_add(age + more as Tick)
    }

    fn enter(&mut self, next: State) {
        edges::note("connection", self.state.label(), next.label());
        self.state = next;
    }

    fn finish(&mut self, next: Ended, now: Tick) {
        let before = self.peer_end().label();
        (self.peer_end, self.peer_ended_at) = (next, now);
        edges::note("peer", before, self.peer_end().label());
    }

    // What happened.

    /// `n` bytes were read.
    pub(crate) fn handle_read(&mut self, n: usize, now: Tick) {
        self.received += n as u64;
        self.last_read = now;
    }

    /// What is unfinished now, if anything is, began with what was just read.
    pub(crate) fn handle_message(&mut self, now: Tick) {
        self.message_since = now;
        // All of the read in which it began counts for it, and what was staged before.
        self.begin_window(now, self.published + self.discarded());
    }

    /// Enough came in the window that is over, or it was no time of its peer's: another one begins.
    pub(crate) fn handle_window(&mut self, now: Tick) {
        self.begin_window(now, self.received);
    }

    fn begin_window(&mut self, since: Tick, from: u64) {
        if let Some(window) = self.window_mut() {
            *window = Window {
                since,
                from,
                is_looked: false,
            };
        }
    }

    /// What was read has been cut: so much was published and discarded, so much is staged now.
    pub(crate) fn handle_cut(&mut self, published: u64, discarded: u64, staged: usize) {
        self.published += published;
        if discarded > 0 {
            self.more().discarded += discarded;
        }
        self.staged = u32::try_from(staged).expect("a part is at most a message, which is a u32");
    }

    /// A cause begins to hold. Returns whether it did not before.
    pub(crate) fn handle_pause(&mut self, cause: PauseCause, now: Tick) -> bool {
        let was_frozen = self.is_frozen();
        match &mut self.state {
            State::Open => {
                let causes = Causes::NONE.with(cause);
                self.enter(State::Paused { since: now, causes });
            }
            State::Paused { causes, .. } if causes.has(cause) => return false,
            State::Paused { causes, .. } => *causes = causes.with(cause),
            // Somebody who is leaving is not held up.
            State::Draining { .. } | State::Closed { .. } => return false,
        }
        let freezes = !was_frozen && self.is_frozen();
        let more = self.more();
        more.paused_at[cause.index()] = now;
        if freezes {
            more.frozen_at = now;
        }
        true
    }

    /// A cause holds no longer. Clocks that no other one holds up go on where they stood.
    pub(crate) fn handle_resume(&mut self, cause: PauseCause, now: Tick) {
        let was_frozen = self.is_frozen();
        let State::Paused { causes, .. } = &mut self.state else {
            return;
        };
        *causes = causes.without(cause);
        let is_over = *causes == Causes::NONE;
        if is_over {
            self.enter(State::Open);
        }
        if was_frozen && !self.is_frozen() {
            let frozen_at = self.more().frozen_at;
            self.handle_held(now.wrapping_sub(frozen_at));
        }
        // What a rate took is given back; were its window to begin anew each time, a trickler that waits in
        // its listener's line would never be weighed.
        if is_over && cause != PauseCause::Rate {
            self.handle_window(now);
        }
    }

    /// We held it up for `ticks`, which were not its own: its clocks stood still.
    pub(crate) fn handle_held(&mut self, ticks: Tick) {
        let later = |at: Tick| at.wrapping_add(ticks);
        self.last_read = later(self.last_read);
        self.message_since = later(self.message_since);
        if let State::Draining { until, .. } = &mut self.state {
            *until = later(*until);
        }
        let Some(more) = &mut self.more else { return };
        more.idle_looked = more.idle_looked.map(later);
        more.message_looked = more.message_looked.map(later);
        if let Some(window) = &mut more.window {
            window.since = later(window.since);
        }
    }

    /// Its peer finished. What is told of a connection that is closed is told too late to mean anything.
    pub(crate) fn handle_fin(&mut self, now: Tick) {
        if self.peer_end == Ended::Not && !self.is_closed() {
            self.finish(Ended::Fin, now);
        }
    }

    pub(crate) fn handle_reset(&mut self, now: Tick) {
        if self.peer_end != Ended::Reset && !self.is_closed() {
            self.finish(Ended::Reset, now);
        }
    }

    /// Begins to close, unless it has begun: the first reason stands, but for a peer that does not deserve
    /// to be delivered any more: its own fault takes the place of our reason. Of two ends the sooner one holds.
    /// Returns whether the farewell is another one now.
    pub(crate) fn handle_close(&mut self, reason: CloseReason, until: Tick) -> bool {
        let (reason, until) = match self.state {
            State::Open | State::Paused { .. } => (reason, until),
            State::Draining {
                reason: first,
                until: before,
            } => {
                let until = if has_come(before, until) {
                    until
                } else {
                    before
                };
                if (first.farewell(), reason.farewell()) != (Farewell::Deliver, Farewell::Discard) {
                    let reason = first;
                    self.state = State::Draining { reason, until };
                    return false;
                }
                (reason, until)
            }
            State::Closed { .. } => return false,
        };
        self.enter(State::Draining { reason, until });
        true
    }

    /// The descriptor is closed. Returns the reason that stands: the one that was given first.
    pub(crate) fn handle_end(&mut self, reason: CloseReason) -> CloseReason {
        let reason = match self.state {
            State::Draining { reason, .. } | State::Closed { reason } => reason,
            State::Open | State::Paused { .. } => reason,
        };
        self.enter(State::Closed { reason });
        reason
    }

    /// It was due for eviction by this reason, and the kernel held bytes for it: it has a second to be
    /// read once more. Each reason has its own second: else one would put the other off, again and again.
    pub(crate) fn handle_look(&mut self, reason: CloseReason, now: Tick) {
        let more = self.more();
        match reason {
            CloseReason::Idle => more.idle_looked = Some(now),
            CloseReason::Message => more.message_looked = Some(now),
            CloseReason::Trickle => {
                if let Some(window) = &mut more.window {
                    (window.since, window.is_looked) = (now, true);
                }
            }
            other => unreachable!("nobody is looked at for {other}"),
        }
    }

    /// When it was last looked at for this reason.
    pub(crate) fn looked(&self, reason: CloseReason) -> Option<Tick> {
        let more = self.more.as_ref()?;
        match reason {
            CloseReason::Idle => more.idle_looked,
            CloseReason::Message => more.message_looked,
            CloseReason::Trickle => {
                let window = more.window.as_ref().filter(|window| window.is_looked);
                window.map(|window| window.since)
            }
            _ => None,
        }
    }

    /// Which deadline has come? `frozen` is for how long it has been waiting for its ring.
    pub(crate) fn handle_timeout(&self, clocks: &Clocks, frozen: Tick, now: Tick) -> Expired {
        if let State::Draining { reason, until } = self.state {
            return if has_come(now, until.wrapping_add(frozen)) {
                Expired::End(reason)
            } else {
                Expired::Nothing
            };
        }
        if matches!(self.state, State::Closed { .. }) {
            return Expired::Nothing;
        }
        if clocks
            .age
            .is_some_and(|age| has_come(now, self.aged_at(age)))
        {
            return Expired::Close(CloseReason::Age);
        }
        match self.evicted_at(clocks) {
            Some((at, evicted)) if has_come(now, at.wrapping_add(frozen)) => evicted,
            _ => Expired::Nothing,
        }
    }

    /// The earliest of idle, message and window, if they run. One that was due when we looked for it is not looked
    /// for again: bytes alone do not save a message that does not end.
    fn evicted_at(&self, clocks: &Clocks) -> Option<(Tick, Expired)> {
        if self.is_frozen() {
            return None;
        }
        let evicted = |since: Tick, time: Tick, reason| {
            let due = since.wrapping_add(time);
            match self.looked(reason).filter(|looked| has_come(*looked, due)) {
                Some(looked) => (looked.wrapping_add(LOOK), Expired::Close(reason)),
                None => (due, Expired::Look(reason)),
            }
        };
        let idle = clocks
            .idle
            .map(|time| evicted(self.last_read, time, CloseReason::Idle));
        let begun = self.staged > 0 || self.partial.is_skipping();
        let message = clocks
            .message
            .filter(|_| begun)
            .map(|time| evicted(self.message_since, time, CloseReason::Message));
        let window = clocks
            .window
            .filter(|_| begun && self.state == State::Open)
            .zip(self.window())
            .map(|(time, window)| {
                let time = if window.is_looked { LOOK } else { time };
                (window.since.wrapping_add(time), Expired::Weigh)
            });
        earlier(earlier(message, window), idle)
    }

    // What it wants.

    /// The earliest tick at which [`Conn::handle_timeout`] may have something to say. `waiting`: it
    /// waits for its ring, and only age runs here.
    pub(crate) fn poll_timeout(&self, clocks: &Clocks, waiting: bool) -> Option<Tick> {
        match self.state {
            State::Draining { until, .. } => (!waiting).then_some(until),
            State::Closed { .. } => None,
            State::Open | State::Paused { .. } => {
                let age = clocks.age.map(|age| self.aged_at(age));
                let evicted = if waiting {
                    None
                } else {
                    self.evicted_at(clocks).map(|(at, _)| at)
                };
                sooner(age, evicted)
            }
        }
    }

    /// After a read: is nothing that it has begun sooner than `set`, to which its age was known? Then only
    /// idleness could be.
    pub(crate) fn is_put_off(&self, clocks: &Clocks, set: Tick) -> bool {
        let is_between = self.staged == 0 && !self.partial.is_skipping();
        let idle = clocks.idle.map(|idle| self.last_read.wrapping_add(idle));
        self.state == State::Open && is_between && idle.is_none_or(|idle| has_come(idle, set))
    }

    // Questions.

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn peer_end(&self) -> PeerEnd {
        let at = self.peer_ended_at;
        match self.peer_end {
            Ended::Not => PeerEnd::Sending,
            Ended::Fin => PeerEnd::Fin { at },
            Ended::Reset => PeerEnd::Reset { at },
        }
    }

    /// Has its peer said that nothing will follow?
    pub(crate) fn has_finished(&self) -> bool {
        self.peer_end == Ended::Fin
    }

    pub(crate) fn is_paused_by(&self, cause: PauseCause) -> bool {
        matches!(self.state, State::Paused { causes, .. } if causes.has(cause))
    }

    /// For how long a cause has been holding, if it does.
    pub(crate) fn paused_for(&self, cause: PauseCause, now: Tick) -> Option<Tick> {
        let more = self.seldom().filter(|_| self.is_paused_by(cause))?;
        Some(now.wrapping_sub(more.paused_at[cause.index()]))
    }

    /// Do its own clocks stand still, for a cause that is no fault of its peer's?
    pub(crate) fn is_frozen(&self) -> bool {
        self.is_paused_by(PauseCause::Operator) || self.is_paused_by(PauseCause::Rate)
    }

    /// May it stand in its ring's FIFO? Whoever reads into the ring, or still has to publish.
    pub(crate) fn may_be_served(&self) -> bool {
        match self.state {
            State::Open | State::Closed { .. } => true,
            State::Paused { .. } => false,
            State::Draining { reason, .. } => reason.farewell() == Farewell::Deliver,
        }
    }

    pub(crate) fn is_discarding(&self) -> bool {
        matches!(self.state, State::Draining { reason, .. } if reason.farewell() == Farewell::Discard)
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    pub(crate) fn reason(&self) -> Option<CloseReason> {
        match self.state {
            State::Draining { reason, .. } | State::Closed { reason } => Some(reason),
            State::Open | State::Paused { .. } => None,
        }
    }

    pub(crate) fn partial_mut(&mut self) -> &mut Partial {
        &mut self.partial
    }

    pub(crate) fn partial(&self) -> Partial {
        self.partial
    }

    pub(crate) fn staged(&self) -> usize {
        self.staged as usize
    }

    pub(crate) fn opened(&self) -> Tick {
        self.opened
    }

    pub(crate) fn last_read(&self) -> Tick {
        self.last_read
    }

    /// For how long what is unfinished has been coming; `held`: for how long of that it has been waiting
    /// for its ring.
    pub(crate) fn message_took(&self, held: Tick, now: Tick) -> Tick {
        let took = now.wrapping_sub(self.message_since.wrapping_add(held));
        // What held it up is known by the tick, and may seem longer than all.
        if took < 1 << 31 { took } else { 0 }
    }

    /// What came since the window of the least rate began.
    pub(crate) fn window_bytes(&self) -> u64 {
        self.window()
            .map_or(0, |window| self.received - window.from)
    }

    fn window(&self) -> Option<&Window> {
        self.more.as_ref()?.window.as_ref()
    }

    fn window_mut(&mut self) -> Option<&mut Window> {
        self.more.as_mut()?.window.as_mut()
    }

    fn discarded(&self) -> u64 {
        self.more.as_ref().map_or(0, |more| more.discarded)
    }

    /// What few connections need, if this one ever did.
    pub(crate) fn seldom(&self) -> Option<&More> {
        self.more.as_deref()
    }

    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    pub(crate) fn books(&self) -> Books {
        Books {
            received: self.received,
            published: self.published,
            discarded: self.discarded(),
            staged: u64::from(self.staged),
        }
    }
}
