//! What each sender does.
//!
//! In: a scenario. Out: a plan for each sender, the same for the same seed. Never here: a socket, a clock.

use std::time::Duration;

use super::message;
use super::scenario::Scenario;

/// A trickler sends a byte so often: 20 bytes a second.
pub(crate) const TRICKLE: Duration = Duration::from_millis(50);
/// Those who are not late come in so many seconds.
const EARLY: f64 = 0.3;
/// Parts of a message in [`Pace`].
const PARTS: u64 = 1_000_000;

/// How one goes before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    pub(crate) at: Duration,
    /// RST, which takes back what the kernel had not sent yet; else FIN.
    pub(crate) resets: bool,
}

/// What one sender does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) connect_at: Duration,
    pub(crate) leave: Option<Leave>,
    /// Byte by byte, each after [`TRICKLE`].
    pub(crate) trickles: bool,
    pub(crate) rate: Rate,
    /// Whose address it has: its own, or the one that the crowd shares.
    pub(crate) source: usize,
}

/// Messages a second, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(u64);

impl Rate {
    /// Messages that are due after so many nanoseconds.
    pub(crate) fn due(self, nanos: u64) -> u64 {
        (u128::from(nanos) * u128::from(self.0) / u128::from(PARTS * 1_000_000_000)) as u64
    }

    /// Nanoseconds until so many are; for ever, if it has nothing to send.
    pub(crate) fn time(self, messages: u64) -> u64 {
        let nanos = u128::from(messages) * u128::from(PARTS * 1_000_000_000);
        nanos
            .checked_div(u128::from(self.0))
            .map_or(u64::MAX, |nanos| nanos as u64)
    }
}

impl Plan {
    /// Messages that it has to send at most.
    pub(crate) fn most(&self, scenario: &Scenario) -> u64 {
        self.rate.due(scenario.length().as_nanos() as u64)
    }
}

/// A function of the seed, the number of senders, the stalls and the time.
pub(crate) fn plans(scenario: &Scenario) -> Vec<Plan> {
    let length = scenario.length();
    let stalls = scenario.stalls.iter();
    let stalls = stalls.map(|stall| (stall.at, stall.end().min(length)));
    let stalls: Vec<_> = stalls.filter(|(at, end)| at < end).collect();
    let length = length.as_secs_f64();
    let of = |n: usize| {
        let draw = |what| message::chance(scenario.seed, n as u64, what);
        let is = |percent: u8, what| draw(what) * 100.0 < f64::from(percent);
        let is_large = scenario.skew > 0 && n == 0;
        let connect_at = if is(scenario.late, 0) && !is_large {
            length * 0.6 * draw(1)
        } else {
            EARLY.min(length * 0.2) * draw(1)
        };
        let leave = (is(scenario.leave, 2) && !is_large).then(|| {
            let at = if stalls.is_empty() {
                length * (0.3 + 0.5 * draw(3))
            } else {
                let (from, to) = stalls[(draw(4) * stalls.len() as f64) as usize];
                let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
                from + (to - from) * (0.3 + 0.5 * draw(3))
            };
            Leave {
                at: Duration::from_secs_f64(at.max(connect_at + 0.05).min(length)),
                resets: draw(5) < 0.5,
            }
        });
        let trickles = is(scenario.tricklers, 6) && !is_large;
        Plan {
            connect_at: Duration::from_secs_f64(connect_at),
            leave,
            trickles,
            rate: rate(scenario, is_large, trickles),
            source: n.min(scenario.senders - scenario.crowd().max(1)),
        }
    };
    (0..scenario.senders).map(of).collect()
}

fn rate(scenario: &Scenario, is_large: bool, trickles: bool) -> Rate {
    if trickles {
        let bytes = 1_000 * PARTS / TRICKLE.as_millis() as u64;
        return Rate(bytes / (scenario.size as u64 + 1));
    }
    let all = scenario.rate * PARTS * scenario.senders as u64;
    let skew = u64::from(scenario.skew);
    Rate(match (skew, is_large) {
        (0, _) => scenario.rate * PARTS,
        (_, true) => all / 100 * skew,
        (_, false) => all / 100 * (100 - skew) / (scenario.senders as u64 - 1),
    })
}

#[cfg(test)]
mod tests {
    use super::super::scenario::tests::scenario;
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_another_seed_another() {
        let plans = |seed| plans(&scenario(&["--seed", seed]));
        assert_eq!(plans("7"), plans("7"));
        assert_ne!(plans("7"), plans("8"));
    }

    #[test]
    fn a_crowd_has_one_address_and_the_others_one_each() {
        let sources = |words: &[&str]| -> Vec<_> {
            let plans = plans(&scenario(words));
            plans.iter().map(|plan| plan.source).collect()
        };
        let crowd = sources(&["--senders=10", "--crowd=40%"]);
        assert_eq!(crowd, [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]);
        assert_eq!(sources(&["--senders=3"]), [0, 1, 2]);
        assert_eq!(sources(&["--senders=3", "--crowd=100%"]), [0; 3]);
    }

    #[test]
    fn leavers_are_as_many_as_asked_and_go_in_a_stall() {
        let scenario = scenario(&["--senders", "1000", "--stall", "2s@1s"]);
        let plans = plans(&scenario);
        let leaves: Vec<_> = plans.iter().filter_map(|plan| plan.leave).collect();
        assert!((200..400).contains(&leaves.len()), "{}", leaves.len());
        assert!(
            leaves.iter().any(|leave| leave.resets) && leaves.iter().any(|leave| !leave.resets)
        );
        let inside = leaves.iter().filter(|leave| scenario.is_stalled(leave.at));
        // Those that come late leave late.
        assert!(inside.count() * 10 > leaves.len() * 8);
    }

    #[test]
    fn one_of_skewed_senders_has_its_share_from_beginning_to_end() {
        let scenario = scenario(&[
            "--skew=90%",
            "--leave=100%",
            "--late=100%",
            "--tricklers=100%",
        ]);
        let large = plans(&scenario)[0];
        assert!(large.leave.is_none() && !large.trickles);
        assert!(large.connect_at < Duration::from_millis(300));
        // 100 senders with 80 messages a second each, for 5 s.
        assert_eq!(large.most(&scenario), 36_000);
    }

    #[test]
    fn the_others_have_equal_parts_of_the_rest_and_tricklers_what_their_bytes_make() {
        let skewed = scenario(&["--skew=90%", "--tricklers=0%"]);
        let rates: Vec<_> = plans(&skewed).iter().map(|plan| plan.rate).collect();
        assert!(rates[2..].iter().all(|rate| *rate == rates[1]));
        let all: u64 = rates.iter().map(|rate| rate.0).sum();
        assert!((7_999_000_000..=8_000_000_000).contains(&all), "{all}");

        let slow = scenario(&["--tricklers=100%", "--size=99", "--seconds=11"]);
        let plan = plans(&slow)[3];
        assert!(plan.trickles);
        // A message of 100 bytes takes five seconds.
        assert_eq!(plan.most(&slow), 2);
        assert_eq!(plan.rate.time(2), 10_000_000_000);
    }

    #[test]
    fn lateness_is_as_asked() {
        let late = |percent| {
            let plans = plans(&scenario(&["--late", percent]));
            let late = |plan: &&Plan| plan.connect_at > Duration::from_millis(300);
            plans.iter().filter(late).count()
        };
        assert_eq!(late("0%"), 0);
        assert!(late("100%") > 80);
    }
}
