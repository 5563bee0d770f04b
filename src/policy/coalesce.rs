//! How far apart turns begin, so that what comes close together is read together.
//!
//! In: what each turn found, and when. Out: the time from its beginning to that of the next. Never here: a clock, a nap.
//!
//! At one message a write nearly all cost is that of looking for each. A reactor that looks again 0.1 ms later finds
//! several messages of a connection in one read, wakes its consumer once for all, and disturbs the senders less.
//!
//! ```text
//!            32 events within 0.32 ms, of little each
//!   Awake ────────────────────────────────────────────► Apart{until}
//!     ▲                     10 ms later                      │
//!     └──────────────────────────────────────────────────────┘
//! ```
//!
//! How fast messages come is seen only by who is awake for each.

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
    /// 8 KiB of it count as once more. Not where a full ring loses messages.
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
    Apart {
        until: Duration,
    },
}

impl State {
    fn awake(since: Duration) -> Self {
        Self::Awake {
            since,
            events: 0,
            came: 0,
        }
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
        })
    }

    /// A turn is over that found so many events, and so much has been read in all. How long after its beginning does
    /// the next one begin?
    pub(crate) fn handle_turn(&mut self, found: usize, received: u64, now: Duration) -> Duration {
        let came = received - std::mem::replace(&mut self.received, received);
        self.state = self.next(found as u64, came, now);
        if matches!(self.state, State::Awake { .. }) {
            return Duration::ZERO;
        }
        // Where much had piled up it is less from now on.
        self.apart = match came > self.much {
            true => self.apart / 2,
            false => (2 * self.apart).clamp(SHORTEST, self.most),
        };
        self.apart
    }

    fn next(&self, found: u64, came: u64, now: Duration) -> State {
        match self.state {
            State::Always => State::Always,
            State::Apart { until } if now < until => self.state,
            State::Apart { .. } => State::awake(now),
            State::Awake {
                since,
                events: before,
                came: came_before,
            } => {
                let (events, came) = (before + found, came_before + came);
                if events < EVENTS {
                    return State::Awake {
                        since,
                        events,
                        came,
                    };
                }
                let took = now.saturating_sub(since);
                let work = events + came / WORK;
                let is_fast = took * EVENTS as u32 <= WITHIN * work as u32;
                match is_fast && came <= LITTLE * events {
                    true => State::Apart { until: now + FOR },
                    false => State::awake(now),
                }
            }
        }
    }

    pub(crate) fn label(&self) -> &'static str {
        match self.state {
            State::Awake { .. } => "awake",
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
        let mut spacing = spacing(Coalesce::Auto);
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
        let mut spacing = spacing(Coalesce::Auto);
        assert_eq!(spacing.handle_turn(32, 0, micros(1)), AUTO);
        assert_eq!(spacing.handle_turn(1, 0, micros(10_000)), AUTO);
        assert_eq!(spacing.handle_turn(1, 0, micros(10_001)), Duration::ZERO);
        assert_eq!(spacing.handle_turn(1, 0, micros(1_000_000)), Duration::ZERO);
    }

    #[test]
    fn a_pause_is_no_part_of_a_fast_pace() {
        let mut spacing = spacing(Coalesce::Auto);
        let mut is_apart = |at| !spacing.handle_turn(1, 0, micros(at)).is_zero();
        assert!((1..=31).all(|n| !is_apart(n)));
        assert!(!is_apart(1_000_000), "one more, a second later");
        assert!((1..=31).all(|n| !is_apart(1_000_000 + n)));
        assert!(is_apart(1_000_032));
    }

    #[test]
    fn who_is_never_to_wait_is_not_asked() {
        assert_eq!(Spacing::new(Coalesce::Off, 0), None);
    }
}
