//! What can happen to a connection, with the arguments that the table tries.

use super::PAUSED;
use crate::close::{CloseReason, PauseCause, Reason};
use crate::conn::{Clocks, Conn, Expired, Tick};
use crate::frame::Partial;

/// The event comes after all that a fixture remembers, and before all its deadlines.
const NOW: Tick = 60;
/// The `until` of a close.
const NEW_UNTIL: Tick = 170;
const HELD: Tick = 25;
/// Later than every deadline.
pub(super) const HORIZON: Tick = 1100;

/// Evictions that are put off.
pub(super) const LOOKED_FOR: [CloseReason; 3] = [
    CloseReason::Message,
    CloseReason::Idle,
    CloseReason::Trickle,
];

/// What is begun.
pub(super) const BEGINNINGS: [(&str, Partial, usize); 5] = [
    ("none", Partial::Between, 0),
    ("part", Partial::Message { need: 0 }, 8),
    ("auto", Partial::Between, 8),
    ("skipN", Partial::SkipCount(7), 0),
    (
        "skipTo",
        Partial::SkipTo {
            tail: [0; 6],
            len: 0,
        },
        0,
    ),
];

/// The settings under which deadlines are asked for; the first one is the usual.
pub(super) const SETTINGS: [(&str, Clocks, Tick); 8] = [
    ("usual", clocks(Some(100), Some(60), Some(1000)), 0),
    ("waited", clocks(Some(100), Some(60), Some(1000)), 20),
    ("idle first", clocks(Some(40), Some(60), Some(1000)), 0),
    ("tie", clocks(Some(50), Some(60), None), 0),
    ("tie with age", clocks(Some(100), Some(60), Some(90)), 0),
    ("window", windowed(0), 0),
    ("held window", windowed(0), 20),
    ("off", clocks(None, None, None), 0),
];
pub(super) const USUAL: &Clocks = &SETTINGS[0].1;

const fn clocks(idle: Option<Tick>, message: Option<Tick>, age: Option<Tick>) -> Clocks {
    let linger = 0;
    Clocks {
        idle,
        message,
        window: None,
        age,
        linger,
    }
}

/// A window that ends at 80 if it began with the message.
const fn windowed(linger: Tick) -> Clocks {
    Clocks {
        idle: Some(100),
        message: Some(60),
        window: Some(50),
        age: Some(1000),
        linger,
    }
}

/// What happens, by the machine's methods.
#[derive(Clone, Copy)]
pub(super) enum Event {
    Read,
    Message,
    Cut(usize),
    Pause(PauseCause),
    Resume(PauseCause),
    Held,
    Fin,
    Reset,
    Close(CloseReason),
    End(CloseReason),
    Look(CloseReason),
    Window,
    Timeout(usize),
}

pub(super) fn events() -> Vec<Event> {
    let causes = || PauseCause::ALL.iter().copied();
    let reasons = || CloseReason::ALL.iter().copied();
    let mut events: Vec<_> = (0..SETTINGS.len()).map(Event::Timeout).collect();
    events.extend(LOOKED_FOR.map(Event::Look));
    events.extend([Event::Read, Event::Message, Event::Window]);
    events.extend((0..BEGINNINGS.len()).map(Event::Cut));
    events.extend(causes().map(Event::Pause));
    events.extend(causes().map(Event::Resume));
    events.extend([Event::Held, Event::Fin, Event::Reset]);
    events.extend(reasons().map(Event::Close));
    events.extend(reasons().map(Event::End));
    events
}

impl Event {
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Message => "message",
            Self::Cut(_) => "cut",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Held => "held",
            Self::Fin => "fin",
            Self::Reset => "reset",
            Self::Close(_) => "close",
            Self::End(_) => "end",
            Self::Look(_) => "look",
            Self::Window => "window",
            Self::Timeout(_) => "timeout",
        }
    }

    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Read | Self::Message | Self::Held | Self::Fin | Self::Reset | Self::Window => "",
            Self::Cut(beginning) => BEGINNINGS[beginning].0,
            Self::Pause(cause) | Self::Resume(cause) => cause.label(),
            Self::Look(reason) | Self::Close(reason) | Self::End(reason) => reason.label(),
            Self::Timeout(setting) => SETTINGS[setting].0,
        }
    }

    pub(super) fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Close(reason) | Self::End(reason) => Some(reason),
            _ => None,
        }
    }

    /// Returns what the machine returned, in words.
    pub(super) fn apply(self, conn: &mut Conn, born: Tick) -> String {
        let now = born.wrapping_add(NOW);
        match self {
            Self::Read => conn.handle_read(7, now),
            Self::Message => conn.handle_message(now),
            Self::Cut(beginning) => {
                let (_, partial, staged) = BEGINNINGS[beginning];
                *conn.partial_mut() = partial;
                conn.handle_cut(2, 1, staged);
            }
            Self::Pause(cause) => return conn.handle_pause(cause, now).to_string(),
            Self::Resume(cause) => conn.handle_resume(cause, now),
            Self::Held => conn.handle_held(HELD),
            Self::Fin => conn.handle_fin(now),
            Self::Reset => conn.handle_reset(now),
            Self::Close(reason) => {
                let until = born.wrapping_add(NEW_UNTIL);
                return conn.handle_close(reason, until).to_string();
            }
            Self::End(reason) => _ = conn.handle_end(reason),
            Self::Look(reason) => conn.handle_look(reason, now),
            Self::Window => conn.handle_window(now),
            Self::Timeout(setting) => return verdicts(conn, setting, born),
        }
        "-".to_owned()
    }
}

/// What `handle_timeout` says at every tick, by those at which it says something else than before.
fn verdicts(conn: &Conn, setting: usize, born: Tick) -> String {
    let (_, clocks, frozen) = &SETTINGS[setting];
    let mut last = Expired::Nothing;
    let mut changes = Vec::new();
    for tick in PAUSED..HORIZON {
        let verdict = conn.handle_timeout(clocks, *frozen, born.wrapping_add(tick));
        if verdict != last {
            changes.push(format!("{tick} {}", verdict_text(conn, verdict)));
            last = verdict;
        }
    }
    match changes.is_empty() {
        true => "nothing".to_owned(),
        false => changes.join(", "),
    }
}

fn verdict_text(conn: &Conn, verdict: Expired) -> String {
    match verdict {
        Expired::Nothing => "nothing".to_owned(),
        Expired::Look(reason) => format!("look({reason})"),
        Expired::Weigh => "weigh".to_owned(),
        Expired::Close(reason) => format!("close({reason})"),
        Expired::End(reason) if Some(reason) == conn.reason() => "end(first)".to_owned(),
        Expired::End(reason) => format!("end({reason})"),
    }
}

/// The armed clock while it is read and while it waits for its ring, by what it will say then.
pub(super) fn armed(conn: &Conn, clocks: &Clocks, born: Tick) -> String {
    let name = |waiting| {
        let Some(at) = conn.poll_timeout(clocks, waiting) else {
            return "-".to_owned();
        };
        let name = match conn.handle_timeout(clocks, 0, at) {
            Expired::Nothing => "nothing",
            Expired::Look(reason) | Expired::Close(reason) => reason.label(),
            Expired::Weigh => "window",
            Expired::End(_) => "linger",
        };
        format!("{name}@{}", at.wrapping_sub(born))
    };
    let (reading, waiting) = (name(false), name(true));
    match reading == waiting {
        true => reading,
        false => format!("{reading} / {waiting}"),
    }
}
