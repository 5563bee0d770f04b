//! The connection machine against its history: every answer is found by reading again all that happened,
//! in ticks that do not wrap.

use super::input::Input;
use crate::close::{CloseReason, Farewell, PauseCause, Reason};
use crate::conn::{Causes, Clocks, Conn, Expired, PeerEnd, State, Tick};
use crate::frame::Partial;

/// A second, for which an eviction that is due is put off when the kernel holds bytes.
const LOOK: u64 = 125;
/// Later than everything.
const NEVER: u64 = 1 << 30;

#[derive(Clone, Copy, Debug)]
enum Event {
    Read(u64),
    Message,
    /// Published, discarded, staged, and whether more is to be skipped.
    Cut(u64, u64, u64, bool),
    Pause(PauseCause),
    Resume(PauseCause),
    Held(u64),
    Fin,
    Reset,
    Close(CloseReason, u64),
    End(CloseReason),
    Look(CloseReason),
    Window,
}

/// Any events in any order; a deadline came, or a state other than `Open`.
pub fn connection(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let born = match input.below(4) {
        0 => 0,
        1 => Tick::MAX - u32::from(input.byte()),
        _ => u32::from(input.byte()) << 24,
    };
    let mut setting = || (input.byte() as Tick).checked_sub(64);
    let clocks = Clocks {
        idle: setting(),
        message: setting(),
        window: setting(),
        age: setting().map(|age| 4 * age),
        linger: 0,
    };
    let mut conn = Conn::new(born).weighed();
    let mut told = History::default();
    let mut now = 0;
    let mut reached = false;
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        now += input.below(64) as u64;
        let event = event(&mut input, now, &told);
        let before = told.clone();
        told.note(now, event);
        apply(&mut conn, event, at(born, now), born, &before, &told);
        let frozen = input.below(128) as u64;
        reached |= told.compare(&conn, &clocks, born, now, frozen);
    }
    reached
}

fn at(born: Tick, ticks: u64) -> Tick {
    born.wrapping_add(ticks as Tick)
}

fn event(input: &mut Input<'_>, now: u64, told: &History) -> Event {
    let causes = [PauseCause::Staging, PauseCause::Operator, PauseCause::Rate];
    let reason = |input: &mut Input<'_>| input.one_of(CloseReason::ALL);
    match input.below(16) {
        0..=2 => Event::Read(input.byte().into()),
        3 => Event::Message,
        4..=6 => {
            // All that is not decided yet is published, discarded or staged.
            let open = told.received() - told.published() - told.discarded();
            let published = open * u64::from(input.byte()) / 255;
            let discarded = (open - published) * u64::from(input.byte()) / 255;
            let staged = open - published - discarded;
            Event::Cut(published, discarded, staged, input.below(2) == 1)
        }
        7 | 8 => Event::Pause(input.one_of(&causes)),
        9 | 10 => Event::Resume(input.one_of(&causes)),
        11 => Event::Held(input.byte().into()),
        12 => Event::Fin,
        13 => match input.below(5) {
            0 => Event::Reset,
            1 => Event::End(reason(input)),
            2 => Event::Look(CloseReason::Trickle),
            3 => Event::Window,
            _ => Event::Look(CloseReason::Idle),
        },
        14 => Event::Look(CloseReason::Message),
        _ => Event::Close(reason(input), now + input.below(256) as u64),
    }
}

fn apply(conn: &mut Conn, event: Event, now: Tick, born: Tick, before: &History, after: &History) {
    match event {
        Event::Read(n) => conn.handle_read(n as usize, now),
        Event::Message => conn.handle_message(now),
        Event::Cut(published, discarded, staged, skips) => {
            *conn.partial_mut() = match (staged, skips) {
                (0, true) => Partial::SkipCount(7),
                (0, false) => Partial::Between,
                _ => Partial::Message { need: 0 },
            };
            conn.handle_cut(published, discarded, staged as usize);
        }
        Event::Pause(cause) => {
            let begins = after.causes().len() > before.causes().len();
            assert_eq!(conn.handle_pause(cause, now), begins);
        }
        Event::Resume(cause) => conn.handle_resume(cause, now),
        Event::Held(ticks) => conn.handle_held(ticks as Tick),
        Event::Fin => conn.handle_fin(now),
        Event::Reset => conn.handle_reset(now),
        Event::Close(reason, until) => {
            let is_new = before.farewell() != after.farewell();
            assert_eq!(conn.handle_close(reason, at(born, until)), is_new);
        }
        Event::End(reason) => _ = conn.handle_end(reason),
        Event::Look(reason) => conn.handle_look(reason, now),
        Event::Window => conn.handle_window(now),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Here,
    Leaving(CloseReason, u64),
    Gone(CloseReason),
}

/// All that happened, each with its tick since the connection was opened.
#[derive(Clone, Debug, Default)]
struct History {
    events: Vec<(u64, Event)>,
    /// What each event gave back to the clocks.
    held: Vec<u64>,
    /// The last event that began a window.
    window_at: Option<usize>,
}

impl History {
    fn note(&mut self, now: u64, event: Event) {
        let frozen_since = self.frozen_since();
        let was_paused = !self.causes().is_empty();
        self.events.push((now, event));
        self.held.push(match (event, frozen_since) {
            (Event::Held(ticks), _) => ticks,
            (Event::Resume(_), Some(since)) if !self.is_frozen() => now - since,
            _ => 0,
        });
        let begins_window = match event {
            Event::Message | Event::Window | Event::Look(CloseReason::Trickle) => true,
            Event::Resume(cause) => {
                was_paused && self.causes().is_empty() && cause != PauseCause::Rate
            }
            _ => false,
        };
        if begins_window {
            self.window_at = Some(self.events.len() - 1);
        }
    }

    fn upto(&self, len: usize) -> Self {
        Self {
            events: self.events[..len].to_vec(),
            ..Self::default()
        }
    }

    fn sum(&self, of: impl Fn(Event) -> u64) -> u64 {
        self.events.iter().map(|(_, event)| of(*event)).sum()
    }

    fn received(&self) -> u64 {
        self.sum(|event| match event {
            Event::Read(n) => n,
            _ => 0,
        })
    }

    fn published(&self) -> u64 {
        self.sum(|event| match event {
            Event::Cut(n, ..) => n,
            _ => 0,
        })
    }

    fn discarded(&self) -> u64 {
        self.sum(|event| match event {
            Event::Cut(_, n, ..) => n,
            _ => 0,
        })
    }

    /// What is staged, and whether a message is skipped, since the last cut.
    fn begun(&self) -> (u64, bool) {
        let mut cuts = self.events.iter().filter_map(|(_, event)| match event {
            Event::Cut(_, _, staged, skips) => Some((*staged, *skips && *staged == 0)),
            _ => None,
        });
        cuts.next_back().unwrap_or((0, false))
    }

    /// How it leaves, if it is about to.
    fn farewell(&self) -> Option<Farewell> {
        match self.stage() {
            Stage::Leaving(reason, _) => Some(reason.farewell()),
            Stage::Here | Stage::Gone(_) => None,
        }
    }

    /// The first reason stands, but a peer's own fault takes the place of a reason that delivers; of two ends
    /// the sooner one holds.
    fn stage(&self) -> Stage {
        let mut stage = Stage::Here;
        for (_, event) in &self.events {
            stage = match (stage, *event) {
                (Stage::Here, Event::Close(reason, until)) => Stage::Leaving(reason, until),
                (Stage::Here, Event::End(reason)) => Stage::Gone(reason),
                (Stage::Leaving(first, before), Event::Close(reason, until)) => {
                    let is_fault = first.farewell() == Farewell::Deliver
                        && reason.farewell() == Farewell::Discard;
                    let reason = if is_fault { reason } else { first };
                    Stage::Leaving(reason, until.min(before))
                }
                (Stage::Leaving(reason, until), Event::Held(ticks)) => {
                    Stage::Leaving(reason, until + ticks)
                }
                (Stage::Leaving(first, _), Event::End(_)) => Stage::Gone(first),
                (stage, _) => stage,
            };
        }
        stage
    }

    /// The causes that hold, and since when any does.
    fn causes(&self) -> Vec<PauseCause> {
        if self.stage() != Stage::Here {
            return Vec::new();
        }
        let holds = |cause: &PauseCause| {
            let last = self.events.iter().rev().find_map(|(_, event)| match event {
                Event::Pause(which) if which == cause => Some(true),
                Event::Resume(which) if which == cause => Some(false),
                _ => None,
            });
            last == Some(true)
        };
        PauseCause::ALL.iter().copied().filter(holds).collect()
    }

    /// Do idle and message stand still?
    fn is_frozen(&self) -> bool {
        let freezes = [PauseCause::Operator, PauseCause::Rate];
        self.causes().iter().any(|cause| freezes.contains(cause))
    }

    fn paused_since(&self) -> Option<u64> {
        self.since(|history| !history.causes().is_empty())
    }

    fn frozen_since(&self) -> Option<u64> {
        self.since(Self::is_frozen)
    }

    /// Since which event something has been so, if it is.
    fn since(&self, is_so: fn(&Self) -> bool) -> Option<u64> {
        let mut first = self.events.len();
        if !is_so(self) {
            return None;
        }
        while first > 1 && is_so(&self.upto(first - 1)) {
            first -= 1;
        }
        Some(self.events[first - 1].0)
    }

    fn peer_end(&self, born: Tick) -> PeerEnd {
        let first = |is_it: fn(Event) -> bool| {
            let place = self.events.iter().position(|(_, event)| is_it(*event))?;
            let is_gone = matches!(self.upto(place).stage(), Stage::Gone(_));
            (!is_gone).then(|| (place, at(born, self.events[place].0)))
        };
        let fin = first(|event| matches!(event, Event::Fin));
        let reset = first(|event| matches!(event, Event::Reset));
        match (fin, reset) {
            (_, Some((_, at))) => PeerEnd::Reset { at },
            (Some((_, at)), None) => PeerEnd::Fin { at },
            (None, None) => PeerEnd::Sending,
        }
    }

    /// The last event of a kind, moved by what held the connection up since.
    fn moved(&self, is_it: fn(Event) -> bool) -> Option<u64> {
        let place = self.events.iter().rposition(|(_, event)| is_it(*event))?;
        Some(self.events[place].0 + self.held_after(Some(place)))
    }

    /// What was given back after an event, or in all.
    fn held_after(&self, place: Option<usize>) -> u64 {
        self.held[place.map_or(0, |place| place + 1)..].iter().sum()
    }

    fn message_since(&self) -> u64 {
        let last = self.moved(|event| matches!(event, Event::Message));
        last.unwrap_or_else(|| self.held_after(None))
    }

    /// Since when there is a window, and whether it is the second of a look.
    fn window(&self) -> (u64, bool) {
        let place = self.window_at;
        let (at, event) = place.map_or((0, Event::Window), |place| self.events[place]);
        let since = at + self.held_after(place);
        (since, matches!(event, Event::Look(_)))
    }

    fn last_read(&self) -> u64 {
        let last = self.moved(|event| matches!(event, Event::Read(_)));
        last.unwrap_or_else(|| self.held_after(None))
    }

    /// Which deadline has come by `now`, after having waited for its ring for `frozen`?
    fn expired(&self, clocks: &Clocks, frozen: u64, now: u64) -> Expired {
        match self.stage() {
            Stage::Gone(_) => return Expired::Nothing,
            Stage::Leaving(reason, until) if until + frozen <= now => return Expired::End(reason),
            Stage::Leaving(..) => return Expired::Nothing,
            Stage::Here => {}
        }
        if clocks.age.is_some_and(|age| u64::from(age) <= now) {
            return Expired::Close(CloseReason::Age);
        }
        if self.is_frozen() {
            return Expired::Nothing;
        }
        let (staged, skips) = self.begun();
        let message = clocks.message.filter(|_| staged > 0 || skips);
        let looks = [
            self.moved(|event| matches!(event, Event::Look(CloseReason::Message))),
            self.moved(|event| matches!(event, Event::Look(CloseReason::Idle))),
        ];
        // Of two that come at once, the message is told.
        let mut due: Vec<(u64, Expired)> = [
            (message, self.message_since(), CloseReason::Message),
            (clocks.idle, self.last_read(), CloseReason::Idle),
        ]
        .into_iter()
        .zip(looks)
        .filter_map(|((time, since, reason), looked)| {
            let due = since + u64::from(time?);
            Some(match looked {
                Some(looked) if looked >= due => (looked + LOOK, Expired::Close(reason)),
                _ => (due, Expired::Look(reason)),
            })
        })
        .collect();
        let is_open = self.causes().is_empty();
        if let Some(time) = clocks.window.filter(|_| is_open && (staged > 0 || skips)) {
            let (since, looked) = self.window();
            let time = if looked { LOOK } else { u64::from(time) };
            let place = due.len().min(usize::from(message.is_some()));
            due.insert(place, (since + time, Expired::Weigh));
        }
        due.sort_by_key(|(at, _)| *at);
        match due.first() {
            Some((at, verdict)) if at + frozen <= now => *verdict,
            _ => Expired::Nothing,
        }
    }

    /// Returns whether there was anything to see.
    fn compare(&self, conn: &Conn, clocks: &Clocks, born: Tick, now: u64, frozen: u64) -> bool {
        let at = |ticks| at(born, ticks);
        let stage = self.stage();
        let state = match (stage, self.paused_since()) {
            (Stage::Here, None) => State::Open,
            (Stage::Here, Some(since)) => State::Paused {
                since: at(since),
                causes: self.causes().into_iter().fold(Causes::NONE, Causes::with),
            },
            (Stage::Leaving(reason, until), _) => State::Draining {
                reason,
                until: at(until),
            },
            (Stage::Gone(reason), _) => State::Closed { reason },
        };
        assert_eq!(conn.state(), state, "{self:?}");
        let causes = self.causes();
        for cause in PauseCause::ALL {
            assert_eq!(
                conn.is_paused_by(*cause),
                causes.contains(cause),
                "{self:?}"
            );
        }
        let farewell = self.farewell();
        let is_served = causes.is_empty() && farewell.is_none_or(|f| f == Farewell::Deliver);
        assert_eq!(conn.may_be_served(), is_served, "{self:?}");
        assert_eq!(conn.is_discarding(), farewell == Some(Farewell::Discard));
        assert_eq!(conn.is_closed(), matches!(stage, Stage::Gone(_)));
        let end = self.peer_end(born);
        assert_eq!(conn.peer_end(), end, "{self:?}");
        assert_eq!(conn.has_finished(), matches!(end, PeerEnd::Fin { .. }));

        let (staged, _) = self.begun();
        let books = conn.books();
        let told = (
            books.received,
            books.published,
            books.discarded,
            books.staged,
        );
        let (published, discarded) = (self.published(), self.discarded());
        assert_eq!(told, (self.received(), published, discarded, staged));

        let verdict = conn.handle_timeout(clocks, frozen as Tick, at(now));
        assert_eq!(verdict, self.expired(clocks, frozen, now), "{self:?}");
        // What is armed is the first tick that has something to say; who waits for its ring is asked again
        // when it was served, so that age alone may come before.
        for (waiting, frozen) in [(false, 0), (true, NEVER)] {
            let armed = conn.poll_timeout(clocks, waiting);
            let says = |ticks| self.expired(clocks, frozen, ticks) != Expired::Nothing;
            match armed {
                Some(tick) => {
                    let ticks = u64::from(tick.wrapping_sub(born));
                    assert!(says(ticks), "{armed:?} {self:?}");
                    assert!(ticks == 0 || !says(ticks - 1), "{armed:?} {self:?}");
                }
                None => assert!(!says(NEVER - 1), "{self:?}"),
            }
        }
        self.compare_took(conn, at(now), now, frozen);
        verdict != Expired::Nothing || state != State::Open
    }

    /// How long what is staged has been coming, less what held it up.
    fn compare_took(&self, conn: &Conn, tick: Tick, now: u64, held: u64) {
        let took = now.saturating_sub(self.message_since() + held);
        assert_eq!(
            u64::from(conn.message_took(held as Tick, tick)),
            took,
            "{self:?}"
        );
    }
}
