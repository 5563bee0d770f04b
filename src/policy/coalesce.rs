//! How far apart turns begin, so that what comes close together is read together.
//!
//! In: what each turn found, and when. Out: the time from its beginning to that of the next. Never here: a clock, a nap.
//!
//! At one message a write nearly all cost is that of looking for each. A reactor that looks again 0.1 ms later finds
//! several messages of a connection in one read, wakes its consumer once for all, and disturbs the senders less.
//!
//! ```text
//!            32 events within 0.32 ms, of little each
//!   Awake ────────────────────────────────────────────► Apart{left}
//!     ▲                   64 turns later                    │
//!     └─────────────────────────────────────────────────────┘
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
    /// 0.1 ms apart while messages come so fast that looking for each would be most of the work: a hundred times a
    /// millisecond a connection has something to be read, less than 32 KiB each time. Each 8 KiB of it count as once
    /// more. Not where a full ring loses messages.
    #[default]
    Auto,
    /// Never: the next turn begins when there is something to be read.
    Off,
    /// Always so far: 10 µs to 10 ms.
    Apart(Duration),
}

/// How far apart [`Coalesce::Auto`] is.
const AUTO: Duration = Duration::from_micros(100);
/// Connections that had something to be read, until their pace is looked at.
const EVENTS: u64 = 32;
/// The longest that so much may take: less often, it would not be worth to make anybody wait.
const WITHIN: Duration = Duration::from_micros(320);
/// Bytes that are as much work as another event.
const WORK: u64 = 8 << 10;
/// Bytes for each of them. Where more comes, a look is cheap beside it.
const LITTLE: u64 = 32 << 10;
/// Turns until it is seen anew how fast they come.
const TURNS: u32 = 64;
/// What is much for one turn: it has been worth it. A receive buffer has room for as much, so that nobody who sends all
/// the time has to wait for us.
const MUCH: u64 = 64 << 10;
const SHORTEST: Duration = Duration::from_micros(10);

/// How far apart the turns of one reactor begin.
#[derive(Debug)]
pub(crate) struct Spacing {
    most: Duration,
    /// At present, when they do.
    apart: Duration,
    /// Read in all, when the last turn was over.
    received: u64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// As somebody has asked for.
    Always,
    /// They do not. So many events since then, when so much had been read.
    Awake {
        events: u64,
        since: Duration,
        received: u64,
    },
    /// For so many turns more.
    Apart { left: u32 },
}

impl Spacing {
    pub(crate) fn new(coalesce: Coalesce) -> Option<Self> {
        let awake = State::Awake {
            events: 0,
            since: Duration::ZERO,
            received: 0,
        };
        let (most, state) = match coalesce {
            Coalesce::Off => return None,
            Coalesce::Auto => (AUTO, awake),
            Coalesce::Apart(time) => (time, State::Always),
        };
        Some(Self {
            most,
            apart: most,
            received: 0,
            state,
        })
    }

    /// A turn is over that found so many events, and so much has been read in all. How long after its beginning does
    /// the next one begin?
    pub(crate) fn handle_turn(&mut self, found: usize, received: u64, now: Duration) -> Duration {
        let came = received - std::mem::replace(&mut self.received, received);
        self.state = self.next(found, now);
        if matches!(self.state, State::Awake { .. }) {
            return Duration::ZERO;
        }
        // Where much had piled up it is less from now on.
        self.apart = match came > MUCH {
            true => self.apart / 2,
            false => (2 * self.apart).clamp(SHORTEST, self.most),
        };
        self.apart
    }

    pub(crate) fn label(&self) -> &'static str {
        match self.state {
            State::Awake { .. } => "awake",
            State::Always | State::Apart { .. } => "apart",
        }
    }

    fn next(&self, found: usize, now: Duration) -> State {
        let awake = State::Awake {
            events: 0,
            since: now,
            received: self.received,
        };
        match self.state {
            State::Always => State::Always,
            State::Apart { left: 0 } => awake,
            State::Apart { left } => State::Apart { left: left - 1 },
            State::Awake {
                events,
                since,
                received,
            } => {
                let events = events + found as u64;
                let came = self.received - received;
                let is_fast =
                    (now - since) * EVENTS as u32 <= WITHIN * (events + came / WORK) as u32;
                let is_little = came <= LITTLE * events;
                match events >= EVENTS {
                    true if is_fast && is_little => State::Apart { left: TURNS },
                    true => awake,
                    false => State::Awake {
                        events,
                        since,
                        received,
                    },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_less_while_much_comes_and_as_far_as_before_when_it_does_not() {
        let most = Duration::from_micros(200);
        let mut spacing = Spacing::new(Coalesce::Apart(most)).unwrap();
        let mut received = 0;
        let mut turn = |came| {
            received += came;
            spacing.handle_turn(1, received, Duration::ZERO)
        };
        assert_eq!(turn(0), most);
        assert_eq!(turn(MUCH), most);
        assert_eq!(turn(MUCH + 1), most / 2);
        assert_eq!(turn(MUCH + 1), most / 4);
        for _ in 0..20 {
            turn(MUCH + 1);
        }
        assert_eq!(turn(MUCH + 1), Duration::ZERO);
        assert_eq!(turn(0), SHORTEST);
        for _ in 0..5 {
            turn(0);
        }
        assert_eq!(turn(0), most);
    }

    /// So many turns, each of which finds so many events of so many bytes in all and takes so many microseconds:
    /// after which do they begin apart?
    fn apart(turns: usize, (found, bytes, micros): (usize, u64, u64)) -> Vec<bool> {
        let mut spacing = Spacing::new(Coalesce::Auto).unwrap();
        let (mut received, mut now) = (0, Duration::ZERO);
        let turn = |_| {
            received += bytes;
            now += Duration::from_micros(micros);
            !spacing.handle_turn(found, received, now).is_zero()
        };
        (0..turns).map(turn).collect()
    }

    #[test]
    fn turns_begin_apart_by_themselves_only_while_many_events_of_little_come() {
        let always = |turn| assert_eq!(apart(33, turn)[32..], [true], "{turn:?}");
        let never = |turn| assert_eq!(apart(1000, turn), [false; 1000], "{turn:?}");
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
    }

    #[test]
    fn after_so_many_turns_it_is_seen_anew_how_fast_they_come() {
        let round = [[true; 65].as_slice(), &[false; 32]].concat();
        let all = apart(31 + 3 * 97, (1, 100, 10));
        assert_eq!(all[..31], [false; 31]);
        assert_eq!(all[31..], round.repeat(3));
    }

    #[test]
    fn a_pause_is_no_part_of_a_fast_pace() {
        let mut spacing = Spacing::new(Coalesce::Auto).unwrap();
        let mut turn = |micros| {
            let now = Duration::from_micros(micros);
            !spacing.handle_turn(1, 0, now).is_zero()
        };
        assert!((1..=31).all(|n| !turn(n)));
        assert!(!turn(1_000_000), "one more, a second later");
        assert!((1..=31).all(|n| !turn(1_000_000 + n)));
        assert!(turn(1_000_032));
    }

    #[test]
    fn who_is_never_to_wait_is_not_asked() {
        assert!(Spacing::new(Coalesce::Off).is_none());
    }
}
