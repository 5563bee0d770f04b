//! What acts now: a line when a layer begins to, and one when it has stopped.
//!
//! In: a snapshot once a second, and the last one. Out: lines, a few a minute for each layer however often it begins and
//! ends. Never here: a number that the snapshot does not have, or a wait.
//!
//! A new layer is a line in [`LAYERS`]; a new reason of those that are counted there already is none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fanin::{
    ConsumerStatus, DiscardReason, ListenerStatus, PauseCause, RateCount, RateCounts, Reason,
    Snapshot, Tally,
};

/// How often to look.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// What has not acted for so long has stopped: what comes and goes within it is one line each.
const QUIET: Duration = Duration::from_secs(5);
/// Lines of one layer in a minute; then one that says how many were left out.
const LINES: u32 = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// A kind of thing that acts.
struct Layer {
    name: &'static str,
    look: fn(&Snapshot) -> Vec<Thing>,
}

/// One thing of it.
#[derive(Debug)]
struct Thing {
    name: String,
    /// How often it has acted, or how much.
    count: u64,
    /// It acts now, whatever it counts.
    acts: bool,
    /// What to say of it when it begins.
    how: String,
}

/// In the order in which they are said.
const LAYERS: [Layer; 11] = [
    Layer {
        name: "consumer stalled",
        look: |s| s.consumers.iter().map(stalled).collect(),
    },
    Layer {
        name: "ring full",
        look: |s| s.consumers.iter().map(full).collect(),
    },
    Layer {
        name: "staging spent",
        look: |s| vec![paused(s, PauseCause::Staging)],
    },
    Layer {
        name: "paused",
        look: |s| {
            let others = PauseCause::ALL.iter().filter(|cause| {
                // They have lines of their own, or somebody asked for it.
                !["ring", "staging", "operator", "rate"].contains(&cause.label())
            });
            others.map(|cause| paused(s, *cause)).collect()
        },
    },
    Layer {
        name: "rate",
        look: rates,
    },
    Layer {
        name: "listener",
        look: listeners,
    },
    Layer {
        name: "listeners shut",
        look: |s| vec![shut(s)],
    },
    Layer {
        name: "listening fails",
        look: |s| s.listeners.iter().map(broken).collect(),
    },
    Layer {
        name: "refused",
        look: |s| tally(&s.connections.refused, &[]),
    },
    Layer {
        name: "evicted",
        look: |s| tally(&s.connections.closed, &NOT_EVICTED),
    },
    Layer {
        name: "bytes discarded",
        look: |s| tally(&s.bytes.discarded, &[DiscardReason::CutAtEnd.label()]),
    },
];

/// How connections end that nobody ends.
const NOT_EVICTED: [&str; 6] = [
    "eof",
    "reset",
    "operator",
    "shutdown",
    "system",
    "consumer_gone",
];

fn tally<R: Reason>(tally: &Tally<R>, but: &[&str]) -> Vec<Thing> {
    let told = tally
        .iter()
        .filter(|(reason, _)| !but.contains(&reason.label()));
    told.map(|(reason, count)| Thing {
        name: reason.label().to_owned(),
        count,
        acts: false,
        how: String::new(),
    })
    .collect()
}

fn paused(snapshot: &Snapshot, cause: PauseCause) -> Thing {
    let of_cause = snapshot.pauses.iter().find(|(of, _)| *of == cause);
    let held = match cause {
        PauseCause::Staging => snapshot.connections.held_by_staging,
        _ => 0,
    };
    Thing {
        name: cause.label().to_owned(),
        count: of_cause.map_or(0, |(_, pauses)| pauses.count),
        // A pause is counted when it ends, which may be never.
        acts: held > 0,
        how: match held {
            0 => String::new(),
            held => format!("{held} connections wait"),
        },
    }
}

fn rates(snapshot: &Snapshot) -> Vec<Thing> {
    let RateCounts {
        connection,
        source,
        listener,
        ..
    } = snapshot.rates;
    let all = [
        ("of a connection", connection),
        ("of a source", source),
        ("of a listener", listener),
    ];
    let thing = |(name, rate): (&str, RateCount)| Thing {
        name: name.to_owned(),
        count: rate.paused.count,
        acts: rate.held > 0,
        how: match rate.held {
            0 => "for a moment".to_owned(),
            held => format!("{held} connections wait for it"),
        },
    };
    all.map(thing).into()
}

fn stalled(consumer: &ConsumerStatus) -> Thing {
    let still = consumer.still_for.unwrap_or_default();
    let lag = consumer.lag.unwrap_or_default();
    Thing {
        name: format!("consumer {}", consumer.consumer),
        count: consumer.stalls,
        acts: consumer.stalled,
        how: format!(
            "nothing taken for {}, {} bytes and {} behind",
            seconds(still),
            consumer.lag_bytes,
            seconds(lag)
        ),
    }
}

fn full(consumer: &ConsumerStatus) -> Thing {
    let how = match consumer.blocked_for {
        Some(time) => format!(
            "for {}, {} connections are bound to it",
            seconds(time),
            consumer.held
        ),
        None => format!(
            "for a moment, {} connections are bound to it",
            consumer.connections
        ),
    };
    Thing {
        name: format!("consumer {}", consumer.consumer),
        count: consumer.blocks,
        acts: consumer.blocked_for.is_some(),
        how,
    }
}

/// Each address in each state but the usual ones.
fn listeners(snapshot: &Snapshot) -> Vec<Thing> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for listener in &snapshot.listeners {
        for state in ["full", "limited"] {
            let name = format!("{} {state}", listener.address);
            *all.entry(name).or_default() += u64::from(listener.state == state);
        }
    }
    let thing = |(name, count)| Thing {
        name,
        count: 0,
        acts: count > 0,
        how: String::new(),
    };
    all.into_iter().map(thing).collect()
}

/// All of them together. Shut for less than the time between two looks, they were shut.
fn shut(snapshot: &Snapshot) -> Thing {
    let mut listeners = snapshot.listeners.iter();
    Thing {
        name: "pressure".to_owned(),
        count: snapshot.shuts,
        acts: listeners.any(|listener| listener.state == "pressure"),
        how: String::new(),
    }
}

/// What was closed under pressure and cannot be opened yet, or cannot be accepted from; it is tried again all the time.
fn broken(listener: &ListenerStatus) -> Thing {
    let error = listener.error.map(std::io::Error::from_raw_os_error);
    Thing {
        name: format!("{} of reactor {}", listener.address, listener.reactor),
        count: listener.failures,
        acts: false,
        how: error.map_or(String::new(), |error| error.to_string()),
    }
}

/// For people.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Something that acts, and has been said to.
struct Episode {
    began: Instant,
    /// What it had counted before.
    before: u64,
    /// When it was last seen to act.
    last: Instant,
}

/// What was last seen of a thing.
#[derive(Default)]
struct Seen {
    count: u64,
    episode: Option<Episode>,
}

/// The lines of one layer.
#[derive(Default)]
struct Lines {
    since: Option<Instant>,
    said: u32,
    left_out: u64,
}

impl Lines {
    /// Begins a new minute, if the last one is over. Is it?
    fn turn(&mut self, now: Instant) -> bool {
        match self.since {
            Some(since) if now.duration_since(since) < MINUTE => false,
            _ => {
                self.since = None;
                self.said = 0;
                true
            }
        }
    }

    /// How many there were too many, if any.
    fn left_out(&mut self, layer: &str) -> Option<String> {
        match std::mem::take(&mut self.left_out) {
            0 => None,
            left_out => Some(format!("{layer}: {left_out} more lines were left out")),
        }
    }

    fn may_say(&mut self, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let may = self.said < LINES;
        match may {
            true => self.said += 1,
            false => self.left_out += 1,
        }
        may
    }
}

/// Compares one snapshot with the next.
#[derive(Default)]
pub(crate) struct Watch {
    seen: BTreeMap<(&'static str, String), Seen>,
    lines: BTreeMap<&'static str, Lines>,
}

impl Watch {
    /// Lines to say now.
    pub(crate) fn look(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<String> {
        let mut said = Vec::new();
        for layer in &LAYERS {
            let lines = self.lines.entry(layer.name).or_default();
            if lines.turn(now) {
                said.extend(lines.left_out(layer.name));
            }
            for thing in (layer.look)(snapshot) {
                let seen = self
                    .seen
                    .entry((layer.name, thing.name.clone()))
                    .or_default();
                if let Some(line) = seen.look(layer.name, &thing, now)
                    && lines.may_say(now)
                {
                    said.push(line);
                }
            }
        }
        said
    }

    /// The last lines: what has begun since the last look, and of all that does not act any more that it is
    /// over. Nobody will look again when it has been quiet, nor tell what was left out.
    pub(crate) fn end(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<String> {
        let mut said = self.look(snapshot, now);
        for layer in &LAYERS {
            let lines = self.lines.entry(layer.name).or_default();
            for thing in (layer.look)(snapshot) {
                let seen = self.seen.get_mut(&(layer.name, thing.name.clone()));
                if !thing.acts
                    && let Some(line) = seen.and_then(|seen| seen.end(layer.name, &thing))
                    && lines.may_say(now)
                {
                    said.push(line);
                }
            }
            said.extend(lines.left_out(layer.name));
        }
        said
    }
}

impl Seen {
    /// The line that it is worth, if it begins or ends.
    fn look(&mut self, layer: &str, thing: &Thing, now: Instant) -> Option<String> {
        let before = std::mem::replace(&mut self.count, thing.count);
        let acts = thing.acts || thing.count > before;
        match &mut self.episode {
            Some(episode) if acts => {
                episode.last = now;
                None
            }
            Some(episode) if now.duration_since(episode.last) >= QUIET => self.end(layer, thing),
            None if acts => {
                self.episode = Some(Episode {
                    began: now,
                    before,
                    last: now,
                });
                let how = match (thing.how.as_str(), thing.count - before) {
                    ("", 0) => String::new(),
                    ("", count) => format!(", {count}"),
                    (how, _) => format!(", {how}"),
                };
                Some(format!("{layer}: {}: begins{how}", thing.name))
            }
            _ => None,
        }
    }

    /// That it is over, if it had begun.
    fn end(&mut self, layer: &str, thing: &Thing) -> Option<String> {
        let episode = self.episode.take()?;
        // Seen in one look, it took less than the time to the next one.
        let took = match episode.last.duration_since(episode.began) {
            Duration::ZERO => format!("within {}", seconds(EVERY)),
            time => format!("after {}", seconds(time)),
        };
        let count = match thing.count - episode.before {
            0 => String::new(),
            count => format!(", {count} in all"),
        };
        Some(format!("{layer}: {}: over {took}{count}", thing.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One consumer whose ring has been full so often, and is so now or not.
    fn full_ring(blocks: u64, blocked: bool) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut consumer = ConsumerStatus::default();
        consumer.blocks = blocks;
        consumer.blocked_for = blocked.then_some(Duration::from_millis(1500));
        consumer.held = if blocked { 12 } else { 0 };
        snapshot.consumers.push(consumer);
        snapshot
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn what_begins_is_said_once_and_what_ends_when_it_has_been_quiet() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert_eq!(watch.look(&full_ring(0, false), start), [""; 0]);
        let lines = watch.look(&full_ring(1, true), after(start, 1));
        assert_eq!(
            lines,
            ["ring full: consumer 0: begins, for 1.5 s, 12 connections are bound to it"]
        );
        // It flaps, and that is one time.
        for second in 2..20 {
            let now = full_ring(second, second % 3 == 0);
            assert_eq!(watch.look(&now, after(start, second)), [""; 0]);
        }
        for second in 20..24 {
            assert_eq!(
                watch.look(&full_ring(19, false), after(start, second)),
                [""; 0]
            );
        }
        let lines = watch.look(&full_ring(19, false), after(start, 24));
        assert_eq!(
            lines,
            ["ring full: consumer 0: over after 18.0 s, 19 in all"]
        );
        assert_eq!(watch.look(&full_ring(19, false), after(start, 99)), [""; 0]);
    }

    #[test]
    fn a_layer_that_flaps_slowly_has_a_few_lines_a_minute_and_says_what_it_left_out() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut lines = Vec::new();
        for second in 0..60 {
            let acts = second % 6 == 0;
            lines.extend(watch.look(&full_ring(0, acts), after(start, second)));
        }
        assert_eq!(lines.len(), LINES as usize, "{lines:#?}");
        let lines = watch.look(&full_ring(0, false), after(start, 61));
        assert_eq!(lines[0], "ring full: 14 more lines were left out");
    }

    #[test]
    fn what_is_over_before_the_next_look_is_said_all_the_same() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut snapshot = Snapshot::default();
        assert_eq!(watch.look(&snapshot, start), [""; 0]);
        snapshot.shuts = 1;
        let lines = watch.look(&snapshot, after(start, 1));
        assert_eq!(lines, ["listeners shut: pressure: begins, 1"]);
        let lines = watch.look(&snapshot, after(start, 6));
        assert_eq!(
            lines,
            ["listeners shut: pressure: over within 1.0 s, 1 in all"]
        );
    }

    #[test]
    fn the_last_look_says_what_no_other_look_has_seen_and_what_is_over() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut snapshot = full_ring(1, true);
        watch.look(&snapshot, start);
        snapshot.shuts = 1;
        snapshot.consumers[0].stalled = true;
        // Quiet for a moment only, or not at all.
        snapshot.consumers[0].blocked_for = None;
        assert_eq!(
            watch.end(&snapshot, after(start, 2)),
            [
                "consumer stalled: consumer 0: begins, nothing taken for 0.0 s, 0 bytes and 0.0 s behind",
                "listeners shut: pressure: begins, 1",
                "ring full: consumer 0: over within 1.0 s, 1 in all",
                "listeners shut: pressure: over within 1.0 s, 1 in all",
            ]
        );
        let mut watch = Watch::default();
        for time in 0..=LINES {
            let acts = full_ring(0, time % 2 == 0);
            watch.look(&acts, after(start, u64::from(6 * time)));
        }
        let lines = watch.end(&full_ring(0, false), after(start, 50));
        assert_eq!(lines, ["ring full: 2 more lines were left out"]);
    }

    #[test]
    fn who_waits_for_something_that_does_not_come_is_told_while_it_waits() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut snapshot = Snapshot::default();
        snapshot.connections.held_by_staging = 299;
        let lines = watch.look(&snapshot, start);
        assert_eq!(
            lines,
            ["staging spent: staging: begins, 299 connections wait"]
        );
        assert_eq!(watch.look(&snapshot, after(start, 60)), [""; 0]);
        snapshot.connections.held_by_staging = 0;
        watch.look(&snapshot, after(start, 61));
        let lines = watch.look(&snapshot, after(start, 65));
        assert_eq!(lines, ["staging spent: staging: over after 60.0 s"]);
    }

    #[test]
    fn every_reason_and_cause_has_its_line_without_being_named_here() {
        let layer = |name: &str| LAYERS.iter().find(|layer| layer.name == name).unwrap();
        let names = |name: &str, snapshot: &Snapshot| -> Vec<_> {
            let things = (layer(name).look)(snapshot).into_iter();
            things.map(|thing| thing.name).collect()
        };
        let snapshot = Snapshot::default();
        let refused = names("refused", &snapshot);
        assert_eq!(refused.len(), fanin::RefuseReason::ALL.len());
        let evicted = names("evicted", &snapshot);
        let all = fanin::CloseReason::ALL.len();
        assert_eq!(evicted.len(), all - NOT_EVICTED.len());
        assert!(evicted.contains(&"consumer_stalled".to_owned()));
    }

    #[test]
    fn of_the_rates_it_is_said_which_one_acts() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut snapshot = Snapshot::default();
        assert_eq!(watch.look(&snapshot, start), [""; 0]);
        snapshot.rates.source.held = 7;
        let lines = watch.look(&snapshot, after(start, 1));
        assert_eq!(
            lines,
            ["rate: of a source: begins, 7 connections wait for it"]
        );
        snapshot.rates.source.held = 0;
        snapshot.rates.source.paused.count = 40;
        snapshot.rates.listener.paused.count = 1;
        let lines = watch.look(&snapshot, after(start, 2));
        assert_eq!(lines, ["rate: of a listener: begins, for a moment"]);
        let lines = watch.look(&snapshot, after(start, 7));
        assert_eq!(
            lines,
            [
                "rate: of a source: over after 1.0 s, 40 in all",
                "rate: of a listener: over within 1.0 s, 1 in all"
            ]
        );
    }

    #[test]
    fn a_stalled_consumer_is_named_with_its_lag() {
        let mut snapshot = Snapshot::default();
        let mut consumer = ConsumerStatus::default();
        consumer.consumer = 3;
        consumer.stalled = true;
        consumer.stalls = 1;
        consumer.lag_bytes = 4096;
        consumer.lag = Some(Duration::from_secs(12));
        consumer.still_for = Some(Duration::from_secs(10));
        snapshot.consumers.push(consumer);
        let lines = Watch::default().look(&snapshot, Instant::now());
        assert_eq!(
            lines,
            [
                "consumer stalled: consumer 3: begins, nothing taken for 10.0 s, 4096 bytes and 12.0 s behind"
            ]
        );
    }
}
