//! How far apart turns begin, so that what comes close together is read together.
//!
//! In: what each turn found, and when. Out: the time from its beginning to that of the next. Never here: a clock, a nap.
//!
//! At one message a write nearly all cost is that of looking for each. A reactor that looks again 0.1 ms later finds
//! several messages of a connection in one read, wakes its consumer once for all, and disturbs the senders less.
//!
//! ```text
//!          32 events within 0.32 ms, of little each, unless naps were found not to be worth it
//!   Awake ───────────┬──────────────────────────────────────────────────────────────────────► Apart
//!     ▲              │ once a second               10 ms later                                ▲ │
//!     │              └─────────────────► Plain ───────────────────────────────────────────────┘ │
//!     └─────────────────────────────────────────────────────────────────────────────────────────┘
//!                                            10 ms later
//! ```
//!
//! A trial ends when nothing comes any more, or a ring is full.
//!
//! How fast messages come is seen only by who is awake for each. And whether somebody waits for us before it sends more
//! (for the end of its connection, for room in a small send buffer, for an acknowledgement) is seen only by trying: what
//! came in 10 ms without a nap, and in how many looks, is compared with the next 10 ms.

use std::time::Duration;

/// When the turns of a reactor begin so far apart that a message may wait for the next one.
///
/// A turn that took as long is followed by the next at once, and so is one that left something to do; who comes after a
/// pause is read at once. Where much comes, it is less. The kernel adds its timer slack of some 50 µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coalesce {
    /// For 10 ms, 0.1 ms apart, when messages came so fast that looking for each would be most of the work; then it is
    /// seen anew. So fast is: 32 times within 0.32 ms something came of a connection, less than 32 KiB each time. Each
    /// 8 KiB of it count as once more. Not where a full ring loses messages; nor for a second after it was found not to
    /// be worth it: less than seven eighths came that way, or it took more than two fifths of the looks for each byte, three
    /// times in a row. That is tried once a second.
    #[default]
    Auto,
    /// Never: the next turn begins when there is something to be read.
    Off,
    /// Always so far: 10 µs to 10 ms.
    Apart(Duration),
}

/// How far apart [`Coalesce::Auto`] is.
const AUTO: Duration = Duration::from_micros(100);
/// Connections of which something came, until their pace is looked at.
const EVENTS: u64 = 32;
/// The longest that so much may take: less often, it would not be worth to make anybody wait.
const WITHIN: Duration = Duration::from_micros(320);
/// Bytes that are as much work as another event.
const WORK: u64 = 8 << 10;
/// Bytes for each of them. Where more comes, a look is cheap beside it.
const LITTLE: u64 = 32 << 10;
/// After so long it is seen anew how fast they come.
const FOR: Duration = Duration::from_millis(10);
/// So long holds what was found about naps.
const SETTLED_FOR: Duration = Duration::from_secs(1);
/// Trials in a row that have to speak against them. One may be of other things.
const TRIALS: u32 = 3;
/// What is much for one turn: it has been worth it.
const MUCH: u64 = 64 << 10;
const SHORTEST: Duration = Duration::from_micros(10);

/// How far apart the turns of one reactor begin.
#[derive(Debug, PartialEq)]
pub(crate) struct Spacing {
    most: Duration,
    /// At present, when they do.
    apart: Duration,
    much: u64,
    /// Read in all, when the last turn was over.
    received: u64,
    state: State,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// They do, as somebody has asked for.
    Always,
    /// They do not. So many events since then, and bytes.
    Awake {
        since: Duration,
        events: u64,
        came: u64,
    },
    /// They do not, to see how much comes.
    Plain(Window),
    /// They do; and it is compared with what came without, if that is being tried.
    Apart {
        window: Window,
        without: Option<Found>,
    },
}

/// What comes from some time on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    since: Duration,
    bytes: u64,
    /// Turns that found something.
    looks: u64,
}

/// What came in a window, and how long that was.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    bytes: u64,
    looks: u64,
    micros: u64,
}

impl Window {
    fn new(since: Duration) -> Self {
        Self {
            since,
            bytes: 0,
            looks: 0,
        }
    }

    fn add(&mut self, events: u64, bytes: u64) {
        self.bytes += bytes;
        self.looks += u64::from(events > 0);
    }

    fn is_over(&self, now: Duration) -> bool {
        now >= self.since + FOR
    }

    /// `None`, if nothing was to be read for a part of it: that says nothing about naps.
    fn found(&self, now: Duration) -> Option<Found> {
        let took = now - self.since;
        (took < 2 * FOR).then_some(Found {
            bytes: self.bytes,
            looks: self.looks,
            micros: took.as_micros() as u64,
        })
    }
}

impl Found {
    /// With naps: came at least seven eighths of what came without, in less than two fifths of the looks for each byte?
    fn is_worth_it(&self, without: &Self) -> bool {
        let comes_as_fast = 8 * self.bytes * without.micros >= 7 * without.bytes * self.micros;
        let saves_looks = 5 * self.looks * without.bytes < 2 * without.looks * self.bytes;
        comes_as_fast && saves_looks
    }
}

/// Are naps worth it?
#[derive(Debug, PartialEq)]
struct Verdict {
    naps: bool,
    /// It holds so long.
    until: Duration,
    /// Trials in a row that spoke against them since then.
    against: u32,
}

impl Verdict {
    fn new(naps: bool, until: Duration) -> Self {
        Self {
            naps,
            until,
            against: 0,
        }
    }

    fn handle_trial(&mut self, is_worth_it: bool, now: Duration) {
        self.against += 1;
        if is_worth_it || self.against == TRIALS {
            *self = Self::new(is_worth_it, now + SETTLED_FOR);
        }
    }
}

impl State {
    fn awake(since: Duration) -> Self {
        Self::Awake {
            since,
            events: 0,
            came: 0,
        }
    }

    fn apart(without: Option<Found>, now: Duration) -> Self {
        let window = Window::new(now);
        Self::Apart { window, without }
    }
}

impl Spacing {
    /// `room`: bytes that may come in between, so that nobody who sends all the time has to wait for us.
    pub(crate) fn new(coalesce: Coalesce, room: u64) -> Option<Self> {
        let (most, state) = match coalesce {
            Coalesce::Off => return None,
            Coalesce::Auto => (AUTO, State::awake(Duration::ZERO)),
            Coalesce::Apart(time) => (time, State::Always),
        };
        Some(Self {
            most,
            apart: most,
            much: MUCH.min(room),
            received: 0,
            state,
            verdict: Verdict::new(true, Duration::ZERO),
        })
    }

    /// A turn is over that found so many events, and so much has been read in all. How long after its beginning does
    /// the next one begin?
    pub(crate) fn handle_turn(&mut self, found: usize, received: u64, now: Duration) -> Duration {
        let came = received - std::mem::replace(&mut self.received, received);
        self.state = self.next(found as u64, came, now);
        if matches!(self.state, State::Awake { .. } | State::Plain(_)) {
            return Duration::ZERO;
        }
        // Where much had piled up it is less from now on.
        self.apart = match came > self.much {
            true => self.apart / 2,
            false => (2 * self.apart).clamp(SHORTEST, self.most),
        };
        self.apart
    }

    fn next(&mut self, found: u64, came: u64, now: Duration) -> State {
        match &mut self.state {
            State::Always => State::Always,
            State::Awake {
                since,
                events,
                came: came_so_far,
            } => {
                *events += found;
                *came_so_far += came;
                if *events < EVENTS {
                    return self.state;
                }
                let took = now.saturating_sub(*since);
                let work = *events + *came_so_far / WORK;
                let is_fast = took * EVENTS as u32 <= WITHIN * work as u32;
                match is_fast && *came_so_far <= LITTLE * *events {
                    true => self.begin(now),
                    false => State::awake(now),
                }
            }
            State::Plain(window) => {
                window.add(found, came);
                if !window.is_over(now) {
                    return self.state;
                }
                match window.found(now) {
                    None => State::awake(now),
                    found => State::apart(found, now),
                }
            }
            State::Apart { window, without } => {
                window.add(found, came);
                if !window.is_over(now) {
                    return self.state;
                }
                if let (Some(without), Some(found)) = (without, window.found(now)) {
                    self.verdict.handle_trial(found.is_worth_it(without), now);
                }
                State::awake(now)
            }
        }
    }

    /// Messages come fast.
    fn begin(&self, now: Duration) -> State {
        if now >= self.verdict.until {
            State::Plain(Window::new(now))
        } else if self.verdict.naps {
            State::apart(None, now)
        } else {
            State::awake(now)
        }
    }

    /// A ring is full: what comes now says nothing about naps, and what was found last holds on.
    pub(crate) fn handle_full(&mut self, now: Duration) {
        let is_trial = matches!(
            self.state,
            State::Plain(_)
                | State::Apart {
                    without: Some(_),
                    ..
                }
        );
        if is_trial {
            self.verdict = Verdict::new(self.verdict.naps, now + SETTLED_FOR);
            self.state = State::awake(now);
        }
    }

    pub(crate) fn label(&self) -> &'static str {
        match self.state {
            State::Awake { .. } => "awake",
            State::Plain(_) => "plain",
            State::Always | State::Apart { .. } => "apart",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a turn may find, as far as it is much.
    fn spacing(coalesce: Coalesce) -> Spacing {
        Spacing::new(coalesce, u64::MAX).unwrap()
    }

    /// Naps hold up nobody, as is known for long.
    fn settled() -> Spacing {
        let mut spacing = spacing(Coalesce::Auto);
        spacing.verdict.until = Duration::MAX;
        spacing
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn it_is_less_while_much_comes_and_as_far_as_before_when_it_does_not() {
        let much = |room| MUCH.min(room);
        for room in [u64::MAX, MUCH, 4096] {
            let most = micros(200);
            let mut spacing = Spacing::new(Coalesce::Apart(most), room).unwrap();
            let mut received = 0;
            let mut turn = |came| {
                received += came;
                spacing.handle_turn(1, received, Duration::ZERO)
            };
            assert_eq!(turn(0), most);
            assert_eq!(turn(much(room)), most);
            assert_eq!(turn(much(room) + 1), most / 2);
            assert_eq!(turn(much(room) + 1), most / 4);
            for _ in 0..20 {
                turn(much(room) + 1);
            }
            assert_eq!(turn(much(room) + 1), Duration::ZERO);
            assert_eq!(turn(0), SHORTEST);
            for _ in 0..5 {
                turn(0);
            }
            assert_eq!(turn(0), most);
        }
    }

    /// So many turns, each of which finds so many events of so many bytes in all and takes so many microseconds:
    /// how far apart are they?
    fn apart(turns: usize, (found, bytes, takes): (usize, u64, u64)) -> Vec<Duration> {
        let mut spacing = settled();
        let (mut received, mut now) = (0, Duration::ZERO);
        let turn = |_| {
            received += bytes;
            now += micros(takes);
            spacing.handle_turn(found, received, now)
        };
        (0..turns).map(turn).collect()
    }

    #[test]
    fn turns_begin_apart_by_themselves_only_while_many_events_of_little_come() {
        let always = |turn| assert!(apart(33, turn).contains(&AUTO), "{turn:?}");
        let never = |turn| assert_eq!(apart(1000, turn), [Duration::ZERO; 1000], "{turn:?}");
        always((1, 1, 10));
        never((1, 1, 11));
        always((1, LITTLE, 50));
        never((1, LITTLE, 51));
        never((1, LITTLE + 1, 10));
        always((4, 4, 40));
        never((4, 4, 41));
        always((100, 3 * WORK, 1030));
        never((100, 3 * WORK, 1031));
        never((0, 0, 1));
        assert_eq!(AUTO, micros(100), "as is promised");
    }

    #[test]
    fn after_some_time_it_is_seen_anew_how_fast_they_come() {
        // Of 10 us each: 32 to see it, 1,000 apart, the last of which is the first of the next 32.
        for bytes in [1, LITTLE] {
            let all = apart(31 + 3 * 1032, (1, bytes, 10));
            assert_eq!(all[..31], [Duration::ZERO; 31]);
            let round = [[AUTO; 1000].as_slice(), &[Duration::ZERO; 32]].concat();
            assert_eq!(all[31..], round.repeat(3));
        }
    }

    #[test]
    fn a_burst_makes_nobody_wait_who_comes_after_it() {
        let mut spacing = settled();
        assert_eq!(spacing.handle_turn(32, 0, micros(1)), AUTO);
        assert_eq!(spacing.handle_turn(1, 0, micros(10_000)), AUTO);
        assert_eq!(spacing.handle_turn(1, 0, micros(10_001)), Duration::ZERO);
        assert_eq!(spacing.handle_turn(1, 0, micros(1_000_000)), Duration::ZERO);
    }

    #[test]
    fn a_pause_is_no_part_of_a_fast_pace() {
        let mut spacing = settled();
        let mut is_apart = |at| !spacing.handle_turn(1, 0, micros(at)).is_zero();
        assert!((1..=31).all(|n| !is_apart(n)));
        assert!(!is_apart(1_000_000), "one more, a second later");
        assert!((1..=31).all(|n| !is_apart(1_000_000 + n)));
        assert!(is_apart(1_000_032));
    }

    #[test]
    fn naps_are_worth_it_if_seven_eighths_come_in_less_than_two_fifths_of_the_looks() {
        let found = |bytes, looks, micros| Found {
            bytes,
            looks,
            micros,
        };
        let without = found(8000, 500, 10_000);
        let is_worth_it = |bytes, looks, micros| found(bytes, looks, micros).is_worth_it(&without);
        assert!(is_worth_it(7000, 174, 10_000));
        assert!(!is_worth_it(7000, 175, 10_000), "two fifths for each byte");
        assert!(!is_worth_it(6999, 1, 10_000));
        assert!(is_worth_it(14_000, 349, 20_000), "in twice the time");
        assert!(!is_worth_it(13_999, 1, 20_000));
    }

    #[test]
    fn a_window_counts_turns_that_found_something_and_says_nothing_after_a_pause() {
        let mut window = Window::new(micros(7));
        window.add(0, 0);
        window.add(3, 100);
        window.add(1, 20);
        let over = micros(7) + 2 * FOR;
        assert_eq!(window.found(over), None);
        let found = window.found(over - micros(1)).unwrap();
        assert_eq!((found.bytes, found.looks, found.micros), (120, 2, 19_999));
    }

    /// What sends: so many events in each turn without naps, which takes so many microseconds, and so much of the bytes
    /// that come without naps while there are some.
    struct Sender<F> {
        events: usize,
        micros: u64,
        held_to: F,
    }

    /// So long turns begin one way before they begin another way.
    fn played(
        spacing: &mut Spacing,
        ends: Duration,
        sender: &Sender<impl Fn(Duration) -> f64>,
    ) -> Vec<(&'static str, Duration)> {
        let (mut now, mut received) = (Duration::ZERO, 0.0);
        let mut played: Vec<(_, Duration)> = Vec::new();
        while now < ends {
            let apart = spacing.handle_turn(sender.events, received as u64, now);
            let took = micros(sender.micros).max(apart);
            now += took;
            let held_to = match apart.is_zero() {
                true => 1.0,
                false => (sender.held_to)(now),
            };
            received += 100.0 * took.as_micros() as f64 * held_to;
            match played.last_mut() {
                Some((label, time)) if *label == spacing.label() => *time += took,
                _ => played.push((spacing.label(), took)),
            }
        }
        // Until a pace is seen, some 32 turns.
        played.retain(|(label, took)| *label != "awake" || *took > micros(400));
        played
    }

    fn about(played: &[(&str, Duration)], expected: &[(&str, u32)]) {
        let is_so = |((label, took), (expected, ms)): (&(&str, Duration), &(&str, u32))| {
            let close = took.abs_diff(*ms * micros(1000)) <= micros(1000);
            label == expected && close
        };
        let all = played.len() >= expected.len() && played.iter().zip(expected).all(is_so);
        assert!(all, "{played:?}, not {expected:?}");
    }

    const TRIAL: [(&str, u32); 2] = [("plain", 10), ("apart", 10)];

    #[test]
    fn once_a_second_it_is_tried_whether_naps_are_worth_it() {
        let mut spacing = spacing(Coalesce::Auto);
        let sender = Sender {
            events: 1,
            micros: 10,
            held_to: |_| 0.9,
        };
        let played = played(&mut spacing, micros(3_000_000), &sender);
        let plain = played.iter().filter(|(label, _)| *label == "plain");
        assert_eq!(plain.count(), 3);
        about(&played, &[TRIAL.as_slice(), &[("apart", 10)]].concat());
        assert!(spacing.verdict.naps);
    }

    /// Three trials, and then a second without naps.
    fn is_left_alone(sender: &Sender<impl Fn(Duration) -> f64>) {
        let mut spacing = spacing(Coalesce::Auto);
        let played = played(&mut spacing, micros(2_110_000), sender);
        let settled = [TRIAL.repeat(3), vec![("awake", 1000)]].concat();
        about(&played, &settled.repeat(2)[..13]);
    }

    #[test]
    fn who_waits_for_us_waits_for_no_nap() {
        is_left_alone(&Sender {
            events: 1,
            micros: 10,
            held_to: |_| 0.85,
        });
    }

    #[test]
    fn nobody_naps_who_would_look_nearly_as_often() {
        is_left_alone(&Sender {
            events: 10,
            micros: 45,
            held_to: |_| 1.0,
        });
    }

    #[test]
    fn one_trial_may_be_of_other_things() {
        let mut spacing = spacing(Coalesce::Auto);
        let sender = Sender {
            events: 1,
            micros: 10,
            held_to: |now| if now < micros(45_000) { 0.1 } else { 1.0 },
        };
        let played = played(&mut spacing, micros(500_000), &sender);
        about(&played, &[TRIAL.repeat(3), vec![("apart", 10); 3]].concat());
    }

    #[test]
    fn a_burst_that_is_over_in_a_trial_says_nothing() {
        let now = micros(60_000);
        let window = Window::new(micros(1));
        let without = Some(Found {
            bytes: 1_000_000,
            looks: 1000,
            micros: 10_000,
        });
        for quiet in [State::Plain(window), State::Apart { window, without }] {
            let mut spacing = spacing(Coalesce::Auto);
            spacing.verdict.against = TRIALS - 1;
            spacing.state = quiet;
            // Who comes then is read at once.
            assert_eq!(spacing.handle_turn(1, 100, now), Duration::ZERO);
            assert_eq!(spacing.label(), "awake");
            assert_eq!(spacing.verdict.until, Duration::ZERO);
            assert_eq!(spacing.verdict.against, TRIALS - 1);
        }
    }

    #[test]
    fn what_comes_while_a_ring_is_full_says_nothing_about_naps() {
        let window = Window::new(micros(1));
        for state in [
            State::Plain(window),
            State::apart(window.found(micros(2)), micros(1)),
        ] {
            let mut spacing = spacing(Coalesce::Auto);
            spacing.state = state;
            spacing.handle_full(micros(5000));
            assert_eq!(spacing.label(), "awake");
            let holds_on = Verdict::new(true, micros(5000) + SETTLED_FOR);
            assert_eq!(spacing.verdict, holds_on);
        }
        let mut settled = settled();
        settled.state = State::apart(None, micros(1));
        settled.handle_full(micros(2));
        assert_eq!(settled.label(), "apart", "no trial");
        let mut always = Spacing::new(Coalesce::Apart(AUTO), u64::MAX).unwrap();
        always.handle_full(micros(1));
        assert_eq!(always.handle_turn(1, 200, micros(2)), AUTO);
    }

    #[test]
    fn who_is_never_to_wait_is_not_asked() {
        assert_eq!(Spacing::new(Coalesce::Off, 0), None);
    }
}
