//! Every event in every state of a connection, as `table.txt` has it.
//!
//! The states are all combinations of a stage, what is begun, the peer's end and the look; what makes no
//! difference is one row, which [`table::rows`] finds by trying all of them.

mod events;

use self::events::{BEGINNINGS, Event, HORIZON, LOOKED_FOR, SETTINGS, USUAL, armed, events};
use super::*;
use crate::close::Reason;
use crate::table::{self, Case, Cell};

// A connection's life in ticks before the event. All its deadlines come after.
const BEGUN: Tick = 30;
const READ: Tick = 40;
const ENDED: Tick = 45;
const PAUSED: Tick = 50;
const UNTIL: Tick = 150;

#[derive(Clone, Copy, Debug)]
enum Stage {
    Open,
    Paused(&'static [PauseCause]),
    Draining(CloseReason),
    Closed(CloseReason),
}

/// One of each farewell: that the others are the same is a test below.
const STAGES: [Stage; 11] = [
    Stage::Open,
    Stage::Paused(&[PauseCause::Staging]),
    Stage::Paused(&[PauseCause::Operator]),
    Stage::Paused(&[PauseCause::Staging, PauseCause::Operator]),
    Stage::Paused(&[PauseCause::Rate]),
    Stage::Paused(&[PauseCause::Operator, PauseCause::Rate]),
    Stage::Paused(&[PauseCause::Ring]),
    Stage::Draining(CloseReason::Age),
    Stage::Draining(CloseReason::Idle),
    Stage::Draining(CloseReason::Stall),
    Stage::Closed(CloseReason::Age),
];

/// When each of [`LOOKED_FOR`] was.
type Looks = &'static [(CloseReason, Tick)];

/// Which looks there were. Of the usual settings all came when the deadline had.
const LOOKS: [(&str, Looks); 6] = [
    ("no", &[]),
    (
        "early",
        &[(CloseReason::Message, 55), (CloseReason::Idle, 55)],
    ),
    ("message", &[(CloseReason::Message, 95)]),
    ("idle", &[(CloseReason::Idle, 145)]),
    ("trickle", &[(CloseReason::Trickle, 85)]),
    (
        "both",
        &[(CloseReason::Message, 95), (CloseReason::Idle, 145)],
    ),
];

/// A name for each state: a new one does not compile, and fails until there is a fixture of it.
fn name(state: State) -> &'static str {
    match state {
        State::Open => "Open",
        State::Paused { .. } => "Paused",
        State::Draining { .. } => "Draining",
        State::Closed { .. } => "Closed",
    }
}

fn state_text(conn: &Conn, born: Tick, first: Option<CloseReason>) -> String {
    let name = name(conn.state());
    match conn.state() {
        State::Open => name.to_owned(),
        State::Paused { since, .. } => {
            let held = PauseCause::ALL
                .iter()
                .filter(|cause| conn.is_paused_by(**cause));
            let causes: Vec<_> = held.map(|cause| cause.label()).collect();
            format!("{name}({})@{}", causes.join("+"), since.wrapping_sub(born))
        }
        State::Draining { reason, .. } | State::Closed { reason } => {
            let which = if first == Some(reason) {
                "first"
            } else {
                "given"
            };
            format!("{name}({which})")
        }
    }
}

fn service(conn: &Conn) -> &'static str {
    assert_eq!(conn.is_closed(), name(conn.state()) == "Closed");
    match (conn.may_be_served(), conn.is_discarding()) {
        (true, false) => "served",
        (false, true) => "discards",
        (false, false) => "-",
        (true, true) => "both",
    }
}

fn end_text(conn: &Conn, born: Tick) -> String {
    match conn.peer_end() {
        PeerEnd::Sending => "end sending".to_owned(),
        PeerEnd::Fin { at } => format!("end fin@{}", at.wrapping_sub(born)),
        PeerEnd::Reset { at } => format!("end reset@{}", at.wrapping_sub(born)),
    }
}

fn begun_text(conn: &Conn) -> String {
    let is_this = |(_, partial, staged): &&(&str, Partial, usize)| {
        *partial == conn.partial() && *staged == conn.staged()
    };
    let known = BEGINNINGS.iter().find(is_this);
    format!("begun {}", known.map_or("?", |(name, ..)| name))
}

fn looked_text(conn: &Conn, born: Tick) -> String {
    let one = |reason: CloseReason| {
        let at = conn.looked(reason)?.wrapping_sub(born);
        Some(format!(" {reason}@{at}"))
    };
    let looks: String = LOOKED_FOR.into_iter().filter_map(one).collect();
    match looks.is_empty() {
        true => "looked no".to_owned(),
        false => format!("looked{looks}"),
    }
}

fn fixture(stage: Stage, beginning: usize, end: &str, looks: Looks, born: Tick) -> Conn {
    let at = |tick: Tick| born.wrapping_add(tick);
    let (_, partial, staged) = BEGINNINGS[beginning];
    let mut conn = Conn::new(born).weighed();
    conn.handle_read(4, at(BEGUN));
    conn.handle_message(at(BEGUN));
    conn.handle_read(4, at(READ));
    *conn.partial_mut() = partial;
    conn.handle_cut(8 - staged as u64, 0, staged);
    for (reason, tick) in looks {
        conn.handle_look(*reason, at(*tick));
    }
    match end {
        "fin" => conn.handle_fin(at(ENDED)),
        "reset" => conn.handle_reset(at(ENDED)),
        _ => {}
    }
    match stage {
        Stage::Open => {}
        Stage::Paused(causes) => {
            for cause in causes {
                conn.handle_pause(*cause, at(PAUSED));
            }
        }
        Stage::Draining(reason) => assert!(conn.handle_close(reason, at(UNTIL))),
        Stage::Closed(reason) => _ = conn.handle_end(reason),
    }
    assert!(conn.books().balanced());
    conn
}

fn case(given: [&'static str; 3], mut conn: Conn, event: Event, born: Tick) -> Case {
    let first = conn.reason();
    let look = |conn: &Conn| {
        [
            state_text(conn, born, first),
            armed(conn, USUAL, born),
            begun_text(conn),
            end_text(conn, born),
            looked_text(conn, born),
            format!("read@{}", conn.last_read().wrapping_sub(born)),
            format!("message@{}", conn.message_since.wrapping_sub(born)),
            format!("window@{}", conn.window().unwrap().since.wrapping_sub(born)),
            format!("of it {}", conn.window_bytes()),
        ]
    };
    let (before, books) = (look(&conn), conn.books());
    let returned = event.apply(&mut conn, born);
    let mut changes: Vec<Cell> = before
        .into_iter()
        .zip(look(&conn))
        .map(|(before, after)| Cell::Change { before, after })
        .collect();
    if let Event::Timeout(setting) = event {
        changes[1] = Cell::Said(armed(&conn, &SETTINGS[setting].1, born));
    }
    for (name, before, after) in [
        ("received", books.received, conn.received),
        ("published", books.published, conn.published),
        ("discarded", books.discarded, conn.discarded()),
    ] {
        changes.push(Cell::Change {
            before: format!("{name}+0"),
            after: format!("{name}+{}", after - before),
        });
    }
    let opened = conn.opened().wrapping_sub(born);
    assert_eq!(opened, 0, "nothing that happens makes it younger");
    changes.insert(1, Cell::Said(service(&conn).to_owned()));
    changes.insert(3, Cell::Said(returned));
    Case {
        given: given.to_vec(),
        cells: changes,
    }
}

/// The rows of one event in one stage.
fn rows(stage: Stage, event: Event, born: Tick) -> Vec<Vec<String>> {
    let mut cases = Vec::new();
    for (beginning, (begun, ..)) in BEGINNINGS.iter().enumerate() {
        for end in ["sending", "fin", "reset"] {
            for (looked, look) in LOOKS {
                let conn = fixture(stage, beginning, end, look, born);
                cases.push(case([begun, end, looked], conn, event, born));
            }
        }
    }
    table::rows(&cases)
}

/// The arguments that make no difference: `any`, else the farewells or the names.
fn arguments(all: &[Event], same: &[Event]) -> String {
    if all.len() == 1 {
        return String::new();
    }
    if all.len() == same.len() {
        return "(any)".to_owned();
    }
    let mut left = same.to_vec();
    let mut words = Vec::new();
    for (word, farewell) in FAREWELLS {
        let is_one = |event: &Event| event.reason().is_some_and(|r| r.farewell() == farewell);
        let count = |events: &[Event]| events.iter().filter(|event| is_one(event)).count();
        if count(&left) > 0 && count(&left) == count(all) {
            words.push(word);
            left.retain(|event| !is_one(event));
        }
    }
    words.extend(left.iter().map(|event| event.argument()));
    format!("({})", words.join(", "))
}

const FAREWELLS: [(&str, Farewell); 3] = [
    ("deliver", Farewell::Deliver),
    ("discard", Farewell::Discard),
    ("at once", Farewell::AtOnce),
];

/// The rows of one stage, each with its event.
fn stage_rows(stage: Stage, born: Tick) -> Vec<(String, Vec<String>)> {
    let events = events();
    let mut lines = Vec::new();
    for family in events.chunk_by(|a, b| a.method() == b.method()) {
        let mut done: Vec<(Vec<Event>, Vec<Vec<String>>)> = Vec::new();
        for event in family {
            let rows = rows(stage, *event, born);
            match done.iter_mut().find(|(_, same)| *same == rows) {
                Some((events, _)) => events.push(*event),
                None => done.push((vec![*event], rows)),
            }
        }
        for (same, rows) in done {
            let label = format!("{}{}", family[0].method(), arguments(family, &same));
            lines.extend(rows.into_iter().map(|row| (label.clone(), row)));
        }
    }
    lines
}

const WIDTHS: [usize; 9] = [25, 8, 11, 12, 32, 8, 21, 7, 0];
const HEADS: [&str; 9] = [
    "event", "begun", "end", "looked", "next", "service", "armed", "returns", "and",
];

fn table(born: Tick) -> String {
    let mut text = LEGEND.to_owned();
    for (word, farewell) in FAREWELLS {
        let of = CloseReason::ALL.iter().filter(|r| r.farewell() == farewell);
        let reasons: Vec<_> = of.map(|reason| reason.label()).collect();
        text.push_str(&format!("  {word:<8}  {}\n", reasons.join(" ")));
    }
    text.push_str(
        "\nSettings of timeout: when the deadlines come, and for how long it waits for its ring\n",
    );
    for (word, clocks, frozen) in &SETTINGS {
        let at =
            |since: Tick, t: Option<Tick>| t.map_or("-".to_owned(), |t| (since + t).to_string());
        let deadlines = [
            at(BEGUN, clocks.message),
            at(READ, clocks.idle),
            at(BEGUN, clocks.window),
            at(0, clocks.age),
        ];
        let [message, idle, window, age] = deadlines;
        text.push_str(&format!(
            "  {word:<12}  message {message:<4} idle {idle:<4} window {window:<4} age {age:<5} waiting {frozen}\n"
        ));
    }
    for stage in STAGES {
        let conn = fixture(stage, 0, "", &[], born);
        let title = match conn.reason() {
            Some(reason) => format!("{}({reason})", name(conn.state())),
            None => state_text(&conn, born, None),
        };
        text.push_str(&format!("\n## {title}\n\n"));
        text.push_str(&table::line(&WIDTHS, &HEADS.map(str::to_owned)));
        for (label, row) in stage_rows(stage, born) {
            let (shown, more) = row.split_at(7);
            let more: Vec<_> = more.iter().filter(|text| *text != "=").cloned().collect();
            let mut cells = vec![label];
            cells.extend_from_slice(shown);
            cells.push(more.join(", "));
            text.push_str(&table::line(&WIDTHS, &cells));
        }
    }
    text
}

const LEGEND: &str = "\
Every event (`handle_*`) in every state of a connection: src/conn/table.rs compares, and writes nothing.

Times are ticks since it was opened. Before the event: a message (or what is begun) began at 30, the last
read was at 40, FIN or RST was noticed at 45, it was paused at 50, or told at 50 to be gone by 150.
The event comes at 60; a close says: until 170; held: for 25; read: 7 bytes; cut: 2 published, 1 discarded.

  begun    none; part: a part is staged; auto: one of which the framing is not known yet;
           skipN, skipTo: in a message that is not delivered, by count, to a delimiter
  looked   evictions that were put off because the kernel held bytes, each for itself: message at 95, idle
           at 145, trickle at 85, where its window begins again; early: both at 55, when none was due
  *        whatever it is: every value was tried, and none makes a difference; not x: every value but x
  next     @ when it was paused; (first): the reason that it had; (given): the event's
  service  served: may stand in the FIFO of its ring; discards: is read into scratch
  armed    the next deadline when it is read / when it waits for its ring; one if both are the same
  returns  of timeout, at every tick from 50 to 1100: what it says from each of these on, before that nothing
  and      what else is not as it was: times of last read, of the message's and the window's beginning,
           what came in the window, books
  =        not changed; a value is there if it changed, or if the event leaves the same whatever was there
  (any)    arguments that make no difference are one row: names, farewells, or any

Nobody pauses by ring: a full ring is a state of the ring, and the machine hears afterwards how long it was.

Farewells
";

#[test]
fn every_event_in_every_state_does_what_was_reviewed() {
    table::assert_reviewed("src/conn/table.txt", &table(0), include_str!("table.txt"));
}

#[test]
fn the_table_is_the_same_wherever_ticks_wrap() {
    for wrap in [35, 55, 100, 1050] {
        assert!(table(0u32.wrapping_sub(wrap)) == table(0), "{wrap}");
    }
}

#[test]
fn reasons_of_one_farewell_are_one_in_every_state() {
    for reason in CloseReason::ALL {
        let like = STAGES.iter().find(
            |stage| matches!(stage, Stage::Draining(of) if of.farewell() == reason.farewell()),
        );
        let like = stage_rows(*like.expect("a stage for each farewell"), 0);
        assert!(stage_rows(Stage::Draining(*reason), 0) == like, "{reason}");
        let closed = stage_rows(Stage::Closed(CloseReason::Age), 0);
        assert!(stage_rows(Stage::Closed(*reason), 0) == closed, "{reason}");
    }
}

#[test]
fn what_is_armed_is_the_first_tick_that_has_something_to_say() {
    for stage in STAGES {
        for beginning in 0..BEGINNINGS.len() {
            for (_, look) in LOOKS {
                let conn = fixture(stage, beginning, "", look, 0);
                for (setting, (_, clocks, frozen)) in SETTINGS.iter().enumerate() {
                    let first = (PAUSED..HORIZON)
                        .find(|t| conn.handle_timeout(clocks, *frozen, *t) != Expired::Nothing);
                    let waits = *frozen > 0;
                    if !waits {
                        let armed = conn.poll_timeout(clocks, false);
                        assert_eq!(armed, first, "{stage:?} {beginning} {setting}");
                    }
                    // Who waits is asked again when it has been served: only age may come before.
                    let held = (PAUSED..HORIZON)
                        .find(|t| conn.handle_timeout(clocks, HORIZON, *t) != Expired::Nothing);
                    assert_eq!(
                        conn.poll_timeout(clocks, true),
                        held,
                        "{stage:?} {beginning}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_table_has_every_event_and_every_state() {
    let methods = events().iter().map(|event| event.method()).collect();
    let states = STAGES.map(|stage| name(fixture(stage, 0, "", &[], 0).state()));
    table::assert_complete(
        &[include_str!("mod.rs"), include_str!("state.rs")].concat(),
        methods,
        states.to_vec(),
    );
}
