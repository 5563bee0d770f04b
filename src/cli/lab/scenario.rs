//! What is played: who sends what and when, and when the consumer stands still.
//!
//! In: options. Out: a scenario that this machine can bear, and a plan for each sender, the same for the
//! same seed. Never here: a socket, a clock.

use std::fmt;
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, getrlimit};

use super::message;
use crate::cli::limits;
use crate::cli::units::{self, Brief};

/// Bytes that may be sent to one design: what the worst of them keeps in memory.
const MOST_BYTES: u64 = 1 << 30;
/// The largest message.
const MOST_SIZE: usize = 64 << 10;
/// Descriptors and threads that are not for senders.
const RESERVE: usize = 100;

/// The load, the consumer and the chance.
#[derive(Args, Clone, Debug)]
pub(crate) struct Scenario {
    /// Senders, each with a connection of its own
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        help_heading = "Scenario"
    )]
    pub(crate) senders: usize,
    /// Messages that each sender has to send in a second
    #[arg(
        long,
        value_name = "N",
        default_value_t = 80,
        help_heading = "Scenario"
    )]
    pub(crate) rate: u64,
    /// Bytes of a message
    #[arg(long, value_name = "SIZE", default_value = "400", value_parser = units::size, help_heading = "Scenario")]
    pub(crate) size: usize,
    /// Messages that the consumer takes in a second, or unlimited
    #[arg(
        long,
        value_name = "N",
        default_value = "25000",
        help_heading = "Scenario"
    )]
    pub(crate) consumer_rate: ConsumerRate,
    /// The consumer stops for 5 s, 2 s after the start: 5s@2s; or none. Can be repeated
    #[arg(long = "stall", value_name = "TIME@TIME", default_values = ["2s@1s", "1m@4300ms"], help_heading = "Scenario")]
    pub(crate) stalls: Vec<Stall>,
    /// Of the senders, so many leave before the end, by chance, in a stall if there is one: half of them close,
    /// half of them reset
    #[arg(long, value_name = "PERCENT", default_value = "30%", value_parser = percent, help_heading = "Scenario")]
    pub(crate) leave: u8,
    /// For how long senders send
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Scenario")]
    pub(crate) seconds: u64,
    /// Decides who comes late, who leaves, when and how
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Scenario")]
    pub(crate) seed: u64,
}

/// `12000` or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerRate(pub(crate) Option<u64>);

impl FromStr for ConsumerRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("unlimited", _) => Ok(Self(None)),
            (_, Ok(n @ 1..)) => Ok(Self(Some(n))),
            _ => Err("must be a number of messages a second, at least 1, or `unlimited`".into()),
        }
    }
}

impl fmt::Display for ConsumerRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => rate.fmt(f),
            None => f.write_str("unlimited"),
        }
    }
}

/// The consumer takes nothing `length` long, from `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) length: Duration,
    pub(crate) at: Duration,
}

impl Stall {
    pub(crate) fn end(self) -> Duration {
        self.at + self.length
    }

    pub(crate) fn covers(self, t: Duration) -> bool {
        (self.at..self.end()).contains(&t)
    }
}

impl FromStr for Stall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            let (length, at) = Default::default();
            return Ok(Self { length, at });
        }
        let (length, at) = text
            .split_once('@')
            .ok_or("must be TIME@TIME like 5s@2s (for how long, and when), or `none`")?;
        let (length, at) = (units::duration(length)?, units::duration(at)?);
        let day = Duration::from_secs(86_400);
        if length > day || at > day {
            return Err("more than a day: a run takes a minute at most".into());
        }
        Ok(Self { length, at })
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length.is_zero() {
            return f.write_str("none");
        }
        write!(f, "{}@{}", Brief(self.length), Brief(self.at))
    }
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse() {
        Ok(n @ 0..=100) => Ok(n),
        _ => Err("must be 0% to 100%".into()),
    }
}

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
}

impl Scenario {
    /// The scenario as options of this program.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec![
            format!("--senders={}", self.senders),
            format!("--rate={}", self.rate),
            format!("--size={}", self.size),
            format!("--consumer-rate={}", self.consumer_rate),
            format!("--leave={}%", self.leave),
            format!("--seconds={}", self.seconds),
            format!("--seed={}", self.seed),
        ];
        words.extend(self.stalls.iter().map(|stall| format!("--stall={stall}")));
        words
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Messages that one sender has to send at most.
    pub(crate) fn most_messages(&self) -> u64 {
        self.rate * self.seconds
    }

    pub(crate) fn is_stalled(&self, t: Duration) -> bool {
        self.stalls.iter().any(|stall| stall.covers(t))
    }

    /// The end of the last stall that ends while there are senders.
    pub(crate) fn last_recovery(&self) -> Option<Duration> {
        let ends = self.stalls.iter().filter(|stall| !stall.length.is_zero());
        let ends = ends.map(|stall| stall.end());
        ends.filter(|&end| end < self.length() && !self.is_stalled(end))
            .max()
    }

    /// Connections that the designs with a limit allow.
    pub(crate) fn limit(&self) -> usize {
        (self.senders * 3 / 5).max(1)
    }

    /// Messages a second that the designs with a rate limit let a connection have.
    pub(crate) fn rate_limit(&self) -> u64 {
        let share = self.consumer_rate.0.map(|c| c / self.senders as u64);
        share.map_or(self.rate * 2, |share| share.max(1))
    }

    /// Refuses what cannot be played, with the number that can.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let ranges = [
            ("--senders", self.senders as u64, 1, 1_000_000),
            ("--rate", self.rate, 1, 1_000_000),
            (
                "--size",
                self.size as u64,
                message::LEAST as u64,
                MOST_SIZE as u64,
            ),
            ("--seconds", self.seconds, 1, 60),
        ];
        for (option, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("{option} {value}: {least} to {most} are possible"));
            }
        }
        let (most, why) = most_senders();
        if self.senders > most {
            return Err(format!(
                "--senders {}: {why}; at most {most} would do",
                self.senders
            ));
        }
        let each = self.most_messages() * (self.size as u64 + 1);
        if self.senders as u64 * each > MOST_BYTES {
            return Err(format!(
                "--senders {}: with {} messages of {} B each they would send more than {} MiB, which the worst \
                 design keeps in memory; at most {} would do, or less of --rate, --size or --seconds",
                self.senders,
                self.most_messages(),
                self.size,
                MOST_BYTES >> 20,
                MOST_BYTES / each,
            ));
        }
        Ok(())
    }

    /// What each sender does: a function of the seed, the number of senders, the stalls and the time.
    pub(crate) fn plans(&self) -> Vec<Plan> {
        let stalls: Vec<_> = self
            .stalls
            .iter()
            .map(|stall| (stall.at, stall.end().min(self.length())))
            .filter(|(at, end)| at < end)
            .collect();
        let length = self.length().as_secs_f64();
        let of = |n: usize| {
            let draw = |what| message::chance(self.seed, n as u64, what);
            // Most are there from the beginning; some come in the middle.
            let connect_at = if draw(0) < 0.8 {
                0.3_f64.min(length * 0.2) * draw(1)
            } else {
                length * 0.6 * draw(1)
            };
            let leave = (draw(2) * 100.0 < f64::from(self.leave)).then(|| {
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
            Plan {
                connect_at: Duration::from_secs_f64(connect_at),
                leave,
            }
        };
        (0..self.senders).map(of).collect()
    }
}

/// The most senders that this machine lets one process serve with a thread and a descriptor each.
fn most_senders() -> (usize, String) {
    let number = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        text.trim().parse::<usize>().ok()
    };
    let user = getrlimit(Resource::Nproc).current.map(|n| n as usize);
    let limits = [
        (
            Some(limits::raise()),
            1,
            "the limit of descriptors (RLIMIT_NOFILE)",
        ),
        (user, 1, "the limit of threads (RLIMIT_NPROC)"),
        (
            number("/proc/sys/kernel/threads-max"),
            1,
            "the limit of threads (kernel.threads-max)",
        ),
        (
            number("/proc/sys/kernel/pid_max"),
            1,
            "the limit of threads (kernel.pid_max)",
        ),
        (
            number("/sys/fs/cgroup/pids.max"),
            1,
            "the limit of threads (pids.max)",
        ),
        // A thread's stack and its guard are a mapping each.
        (
            number("/proc/sys/vm/max_map_count"),
            2,
            "the limit of mappings (vm.max_map_count)",
        ),
    ];
    limits
        .into_iter()
        .filter_map(|(limit, each, name)| {
            let limit = limit?;
            let most = (limit / each).saturating_sub(RESERVE);
            Some((
                most,
                format!(
                    "{name} is {limit}, a sender takes {each}, and {RESERVE} are needed otherwise"
                ),
            ))
        })
        .min()
        .expect("one limit is always known")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        scenario: Scenario,
    }

    pub(crate) fn scenario(words: &[&str]) -> Scenario {
        let words = ["lab"].iter().chain(words);
        Words::try_parse_from(words).unwrap().scenario
    }

    #[test]
    fn a_scenario_said_again_is_the_same() {
        let first = scenario(&[
            "--stall", "5s@2s", "--stall", "1s@9s", "--leave", "7", "--size", "1KiB",
        ]);
        let words = first.words();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        assert_eq!(format!("{first:?}"), format!("{:?}", scenario(&words)));
        let none = scenario(&["--stall", "none"]);
        assert!(none.words().contains(&"--stall=none".to_owned()));
        assert!(!none.is_stalled(Duration::ZERO));
    }

    #[test]
    fn a_seed_is_a_plan_and_another_seed_another() {
        let plans = |seed| scenario(&["--seed", seed]).plans();
        assert_eq!(plans("7"), plans("7"));
        assert_ne!(plans("7"), plans("8"));
    }

    #[test]
    fn leavers_are_as_many_as_asked_and_go_in_a_stall() {
        let scenario = scenario(&["--senders", "1000", "--stall", "2s@1s"]);
        let leaves: Vec<_> = scenario
            .plans()
            .iter()
            .filter_map(|plan| plan.leave)
            .collect();
        assert!((200..400).contains(&leaves.len()), "{}", leaves.len());
        assert!(
            leaves.iter().any(|leave| leave.resets) && leaves.iter().any(|leave| !leave.resets)
        );
        let inside = leaves.iter().filter(|leave| scenario.is_stalled(leave.at));
        // Those that come late leave late.
        assert!(inside.count() * 10 > leaves.len() * 8);
    }

    #[test]
    fn what_cannot_be_played_is_refused_with_the_number_that_can() {
        let refused = |words: &[&str]| scenario(words).validate().unwrap_err();
        for (words, part) in [
            (["--senders", "0"], "1 to"),
            (["--size", "10"], "64 to 65536"),
            (["--seconds", "61"], "1 to 60"),
            (["--senders", "1000000"], "at most "),
            (["--rate", "1000000"], "would do"),
        ] {
            let said = refused(&words);
            assert!(said.contains(words[0]) && said.contains(part), "{said}");
        }
        assert!(scenario(&[]).validate().is_ok());
        let said = refused(&["--rate", "100000"]);
        let number = said.split("at most ").nth(1).unwrap();
        let number = number.split(' ').next().unwrap();
        assert!(
            scenario(&["--rate", "100000", "--senders", number])
                .validate()
                .is_ok()
        );
    }

    #[test]
    fn recovery_is_from_the_last_stall_that_ends_among_senders() {
        let of = |words: &[&str]| scenario(words).last_recovery();
        assert_eq!(of(&[]), Some(Duration::from_secs(3)));
        assert_eq!(of(&["--stall", "none"]), None);
        assert_eq!(of(&["--stall", "9s@1s"]), None);
        // One ends in the other.
        assert_eq!(of(&["--stall", "2s@1s", "--stall", "9s@2s"]), None);
    }
}
