//! Every event in every state of a listener, as `listener.txt` has it.

use super::*;
use crate::table::{self, Case, Cell};

const MS: Duration = Duration::from_millis(1);
/// When the events come; who is Limited is so until [`UNTIL`].
const NOW: Duration = Duration::from_millis(1950);
const UNTIL: Duration = Duration::from_millis(2000);

const STATES: [&str; 6] = ["Idle", "Ready", "Full", "Limited", "Pressure", "Closed"];
/// The next wait, by the number of exhaustions that no accepted connection came between.
const WAITS: [&str; 4] = ["100", "200", "400", "800"];

#[derive(Clone, Copy)]
enum Event {
    Edge,
    Accepted,
    Empty,
    Full,
    Free,
    Exhausted,
    Timeout(&'static str, Duration),
    Pressure,
    Relief,
    Close,
    Drain,
}

const EVENTS: [Event; 13] = [
    Event::Edge,
    Event::Accepted,
    Event::Empty,
    Event::Full,
    Event::Free,
    Event::Exhausted,
    Event::Timeout("before", Duration::from_millis(1999)),
    Event::Timeout("at", UNTIL),
    Event::Timeout("after", Duration::from_millis(2001)),
    Event::Pressure,
    Event::Relief,
    Event::Close,
    Event::Drain,
];

impl Event {
    fn method(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Accepted => "accepted",
            Self::Empty => "empty",
            Self::Full => "full",
            Self::Free => "free",
            Self::Exhausted => "exhausted",
            Self::Timeout(..) => "timeout",
            Self::Pressure => "pressure",
            Self::Relief => "relief",
            Self::Close => "close",
            Self::Drain => "drain",
        }
    }

    fn label(self) -> String {
        match self {
            Self::Timeout(when, _) => format!("timeout({when})"),
            other => other.method().to_owned(),
        }
    }

    fn apply(self, listener: &mut Listener) {
        match self {
            Self::Edge => listener.handle_edge(),
            Self::Accepted => listener.handle_accepted(),
            Self::Empty => listener.handle_empty(),
            Self::Full => listener.handle_full(),
            Self::Free => listener.handle_free(),
            Self::Exhausted => listener.handle_exhausted(NOW),
            Self::Timeout(_, now) => listener.handle_timeout(now),
            Self::Pressure => listener.handle_pressure(),
            Self::Relief => listener.handle_relief(),
            Self::Close => listener.handle_close(),
            Self::Drain => listener.handle_drain(),
        }
    }
}

/// A name for each state: a new one does not compile, and fails until there is a fixture of it.
fn name(state: State) -> &'static str {
    match state {
        State::Idle => "Idle",
        State::Ready => "Ready",
        State::Full => "Full",
        State::Limited { .. } => "Limited",
        State::Pressure => "Pressure",
        State::Closed => "Closed",
    }
}

fn fixture(state: &str, exhaustions: usize) -> Listener {
    let mut listener = Listener::new();
    listener.handle_edge();
    for _ in 0..exhaustions {
        listener.handle_exhausted(MS);
        listener.handle_timeout(UNTIL);
    }
    match state {
        "Idle" => listener.handle_empty(),
        "Full" => listener.handle_full(),
        "Pressure" => listener.handle_pressure(),
        "Closed" => listener.handle_close(),
        "Limited" => {
            // By an exhaustion more, so that what comes next is the wait that was asked for.
            let mut before = fixture("Ready", exhaustions.saturating_sub(1));
            let wait = before.next_wait;
            before.handle_exhausted(UNTIL - wait);
            if exhaustions == 0 {
                before.handle_accepted();
            }
            listener = before;
        }
        _ => {}
    }
    assert_eq!(name(listener.state()), state);
    listener
}

fn rows(state: &str, event: Event) -> Vec<Vec<String>> {
    let case = |(exhaustions, wait): (usize, &&'static str)| {
        let mut listener = fixture(state, exhaustions);
        let look = |listener: &Listener| {
            let until = listener
                .poll_timeout()
                .map_or("-".to_owned(), |at| at.as_millis().to_string());
            [
                name(listener.state()).to_owned(),
                listener.may_accept().to_string(),
                listener.label().to_owned(),
                until,
                listener.next_wait.as_millis().to_string(),
            ]
        };
        let before = look(&listener);
        event.apply(&mut listener);
        let [next, accepts, label, armed, wait_after] = look(&listener);
        let [next_before, _, _, armed_before, wait_before] = before;
        let change = |before, after| Cell::Change { before, after };
        Case {
            given: vec![wait],
            cells: vec![
                change(next_before, next),
                Cell::Said(accepts),
                Cell::Said(label),
                change(armed_before, armed),
                change(wait_before, wait_after),
            ],
        }
    };
    table::rows(&WAITS.iter().enumerate().map(case).collect::<Vec<_>>())
}

const WIDTHS: [usize; 7] = [15, 4, 8, 8, 8, 6, 0];
const HEADS: [&str; 7] = [
    "event", "wait", "next", "accepts", "label", "armed", "waits",
];

const LEGEND: &str = "\
Every event (`handle_*`) in every state of a listener: src/reactor/listener_table.rs compares, and writes
nothing.

Times are milliseconds. The event comes at 1950; Limited is until 2000, and timeout is at 1999, 2000, 2001.

  wait     how long the next exhaustion will make it wait
  accepts  it may accept
  label    its state in reports
  armed    when it is to be called
  waits    the next wait afterwards
  *        whatever it is: every value was tried, and none makes a difference
  =        not changed; a value is there if it changed, or if the event leaves the same whatever was there
";

fn table() -> String {
    let mut text = LEGEND.to_owned();
    for state in STATES {
        text.push_str(&format!("\n## {state}\n\n"));
        text.push_str(&table::line(&WIDTHS, &HEADS.map(str::to_owned)));
        for event in EVENTS {
            for row in rows(state, event) {
                let cells = [vec![event.label()], row].concat();
                text.push_str(&table::line(&WIDTHS, &cells));
            }
        }
    }
    text
}

#[test]
fn every_event_in_every_state_does_what_was_reviewed() {
    table::assert_reviewed(
        "src/reactor/listener.txt",
        &table(),
        include_str!("listener.txt"),
    );
}

#[test]
fn the_table_has_every_event_and_every_state() {
    let methods = EVENTS.iter().map(|event| event.method()).collect();
    table::assert_complete(include_str!("listener.rs"), methods, STATES.to_vec());
}
