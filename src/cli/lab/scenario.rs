//! What is played: how many send how much, and when consumers stand still.
//!
//! In: options. Out: a scenario that this machine can bear. Never here: a socket, a clock, chance.

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
/// As many as the library has.
const MOST_CONSUMERS: usize = 64;
/// With fewer a server does not start.
const LEAST_DESCRIPTORS: u64 = 32;

/// The load, the consumer and the chance.
#[derive(Args, Clone, Debug)]
pub(crate) struct Scenario {
    /// Senders, each with a connection of its own
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        value_parser = units::number::<usize>,
        help_heading = "Scenario"
    )]
    pub(crate) senders: usize,
    /// Messages that each sender has to send in a second
    #[arg(
        long,
        value_name = "N",
        default_value_t = 80,
        value_parser = units::number::<u64>,
        help_heading = "Scenario"
    )]
    pub(crate) rate: u64,
    /// Bytes of a message
    #[arg(long, value_name = "SIZE", default_value = "400", value_parser = units::size, help_heading = "Scenario")]
    pub(crate) size: usize,
    /// Of all messages, so many are one sender's; the others have equal parts of the rest; 0%: all have the same
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent, help_heading = "Scenario")]
    pub(crate) skew: u8,
    /// Of the senders, so many share one address: a proxy, or somebody who takes more than a part; the others
    /// have one each
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent, help_heading = "Scenario")]
    pub(crate) crowd: u8,
    /// Of the senders, so many send byte by byte, 20 bytes a second: a message may never be whole
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent, help_heading = "Scenario")]
    pub(crate) tricklers: u8,
    /// Of the senders, so many come at any time; the others in the first 0.3 s
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = percent, help_heading = "Scenario")]
    pub(crate) late: u8,
    /// Messages that the consumer takes in a second, or unlimited; for several consumers one rate each: 20000,500
    #[arg(
        long = "consumer-rate",
        value_name = "N",
        value_delimiter = ',',
        default_value = "25000",
        help_heading = "Scenario"
    )]
    pub(crate) consumer_rates: Vec<ConsumerRate>,
    /// All consumers stop for 5 s, 2 s after the start: 5s@2s; the second one alone: 5s@2s/2; or none. Can be
    /// repeated, or a list: 300ms@1s,300ms@2s
    #[arg(long = "stall", value_name = "TIME@TIME", value_delimiter = ',', default_values = ["2s@1s", "1m@4300ms"], help_heading = "Scenario")]
    pub(crate) stalls: Vec<Stall>,
    /// Of the senders, so many leave before the end, by chance, in a stall if there is one: half of them close,
    /// half of them reset
    #[arg(long, value_name = "PERCENT", default_value = "30%", value_parser = percent, help_heading = "Scenario")]
    pub(crate) leave: u8,
    /// Descriptors that the server may have [default: what the machine allows]
    #[arg(long, value_name = "N", value_parser = units::number::<u64>, help_heading = "Scenario")]
    pub(crate) descriptors: Option<u64>,
    /// For how long senders send
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = units::number::<u64>, help_heading = "Scenario")]
    pub(crate) seconds: u64,
    /// Decides who comes late, who leaves, when and how
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = units::number::<u64>, help_heading = "Scenario")]
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

/// A consumer takes nothing `length` long, from `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) length: Duration,
    pub(crate) at: Duration,
    /// Which one, from 0 on; else all.
    pub(crate) consumer: Option<usize>,
}

impl Stall {
    const NONE: Self = Self {
        length: Duration::ZERO,
        at: Duration::ZERO,
        consumer: None,
    };
    /// Those that are played if none is asked for, as far as a run has a place for them.
    const DEFAULT: [Self; 2] = [
        Self {
            length: Duration::from_secs(2),
            at: Duration::from_secs(1),
            consumer: None,
        },
        Self {
            length: Duration::from_secs(60),
            at: Duration::from_millis(4300),
            consumer: None,
        },
    ];

    pub(crate) fn end(self) -> Duration {
        self.at + self.length
    }

    pub(crate) fn covers(self, t: Duration) -> bool {
        (self.at..self.end()).contains(&t)
    }

    pub(crate) fn is_of(self, consumer: usize) -> bool {
        self.consumer.is_none_or(|one| one == consumer)
    }
}

impl FromStr for Stall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let (length, rest) = text.split_once('@').ok_or(
            "must be TIME@TIME like 5s@2s (for how long, and when), with /N for consumer N alone, or `none`",
        )?;
        let (at, consumer) = rest
            .split_once('/')
            .map_or((rest, None), |(at, n)| (at, Some(n)));
        let consumer = consumer.map(|n| match n.parse::<usize>() {
            Ok(n @ 1..) => Ok(n - 1),
            _ => Err(format!("/{n}: consumers are numbered from 1 on")),
        });
        let (length, at) = (units::duration(length)?, units::duration(at)?);
        let day = Duration::from_secs(86_400);
        if length > day || at > day {
            return Err("more than a day: a run takes a minute at most".into());
        }
        Ok(Self {
            length,
            at,
            consumer: consumer.transpose()?,
        })
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length.is_zero() {
            return f.write_str("none");
        }
        write!(f, "{}@{}", Brief(self.length), Brief(self.at))?;
        self.consumer
            .map_or(Ok(()), |one| write!(f, "/{}", one + 1))
    }
}

/// As one option takes them.
pub(crate) fn list<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(T::to_string).collect();
    items.join(",")
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse() {
        Ok(n @ 0..=100) => Ok(n),
        _ => Err("must be 0% to 100%".into()),
    }
}

impl Scenario {
    /// The scenario as options of this program.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec![
            format!("--senders={}", self.senders),
            format!("--rate={}", self.rate),
            format!("--size={}", self.size),
            format!("--skew={}%", self.skew),
            format!("--crowd={}%", self.crowd),
            format!("--tricklers={}%", self.tricklers),
            format!("--late={}%", self.late),
            format!("--consumer-rate={}", list(&self.consumer_rates)),
            format!("--stall={}", list(&self.stalls)),
            format!("--leave={}%", self.leave),
            format!("--seconds={}", self.seconds),
            format!("--seed={}", self.seed),
        ];
        let descriptors = self.descriptors.iter();
        words.extend(descriptors.map(|n| format!("--descriptors={n}")));
        words
    }

    /// What is played of it: a short run has no place for the stalls that nobody asked for. The hang would only
    /// break what the consumer still has to take when the senders have ended.
    pub(crate) fn played(&self) -> Self {
        let mut played = self.clone();
        let length = self.length();
        played.stalls.retain(|stall| stall.at < length);
        if played.stalls.is_empty() {
            played.stalls.push(Stall::NONE);
        }
        played
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Messages that one sender has to send, if all have the same.
    fn each(&self) -> u64 {
        self.rate * self.seconds
    }

    pub(crate) fn consumers(&self) -> usize {
        self.consumer_rates.len()
    }

    /// Messages that all consumers take in a second.
    pub(crate) fn consumer_rate(&self) -> Option<u64> {
        self.consumer_rates.iter().map(|rate| rate.0).sum()
    }

    /// The stall that holds this consumer then.
    pub(crate) fn stall_of(&self, consumer: usize, t: Duration) -> Option<Stall> {
        let mut stalls = self.stalls.iter().copied();
        stalls.find(|stall| stall.is_of(consumer) && stall.covers(t))
    }

    /// Do all consumers stand still?
    pub(crate) fn is_stalled(&self, t: Duration) -> bool {
        (0..self.consumers()).all(|consumer| self.stall_of(consumer, t).is_some())
    }

    /// The end of the last stall that ends while there are senders.
    pub(crate) fn last_recovery(&self) -> Option<Duration> {
        let ends = self.stalls.iter().filter(|stall| !stall.length.is_zero());
        let ends = ends.map(|stall| stall.end());
        let is_free = |t| !self.stalls.iter().any(|stall| stall.covers(t));
        ends.filter(|&end| end < self.length() && is_free(end))
            .max()
    }

    /// Connections that the designs with a limit allow.
    pub(crate) fn limit(&self) -> usize {
        (self.senders * 3 / 5).max(1)
    }

    /// Senders that share an address: the last ones.
    pub(crate) fn crowd(&self) -> usize {
        self.senders * usize::from(self.crowd) / 100
    }

    /// Connections that the design with a limit for each address lets one have.
    pub(crate) fn source_limit(&self) -> usize {
        (self.crowd() * 3 / 5).max(1)
    }

    /// Messages a second that the designs with a rate limit let a connection have.
    pub(crate) fn rate_limit(&self) -> u64 {
        let share = self.consumer_rate().map(|c| c / self.senders as u64);
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
        if self.skew > 0 && self.senders < 2 {
            return Err(format!("--skew {}%: takes 2 senders at least", self.skew));
        }
        if self.consumers() > MOST_CONSUMERS {
            return Err(format!(
                "--consumer-rate: {} consumers; at most {MOST_CONSUMERS} would do",
                self.consumers()
            ));
        }
        let far = |stall: &&Stall| stall.consumer.is_some_and(|one| one >= self.consumers());
        if let Some(stall) = self.stalls.iter().find(far) {
            return Err(format!(
                "--stall {stall}: --consumer-rate makes {}; give it a rate for each consumer",
                match self.consumers() {
                    1 => "1 consumer".into(),
                    n => format!("{n} consumers"),
                }
            ));
        }
        let late = |stall: &&Stall| stall.at >= self.length();
        if self.stalls != Stall::DEFAULT
            && let Some(stall) = self.stalls.iter().find(late)
        {
            return Err(format!(
                "--stall {stall}: begins when the senders have ended; before --seconds {} would do",
                self.seconds
            ));
        }
        let (most, why) = most_senders();
        if self.senders > most {
            return Err(format!(
                "--senders {}: {why}; at most {most} would do",
                self.senders
            ));
        }
        let allowed = limits::raise() as u64;
        if let Some(n) = self.descriptors
            && !(LEAST_DESCRIPTORS..=allowed).contains(&n)
        {
            return Err(format!(
                "--descriptors {n}: {LEAST_DESCRIPTORS} to {allowed} are possible here"
            ));
        }
        let each = self.each() * (self.size as u64 + 1);
        if self.senders as u64 * each > MOST_BYTES {
            return Err(format!(
                "--senders {}: with {} messages of {} B each they would send more than {} MiB, which the worst \
                 design keeps in memory; {}less of --rate, --size or --seconds would do",
                self.senders,
                self.each(),
                self.size,
                MOST_BYTES >> 20,
                match MOST_BYTES / each {
                    0 => String::new(),
                    most => format!("at most {most} or "),
                },
            ));
        }
        Ok(())
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
            "--stall=5s@2s,300ms@8s",
            "--stall=1s@9s/2",
            "--leave=7",
            "--size=1KiB",
            "--skew=90%",
            "--crowd=40%",
            "--tricklers=10%",
            "--late=0",
            "--consumer-rate=20000,unlimited",
            "--descriptors=64",
        ]);
        let words = first.words();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        assert_eq!(format!("{first:?}"), format!("{:?}", scenario(&words)));
        let none = scenario(&["--stall", "none"]);
        assert!(none.words().contains(&"--stall=none".to_owned()));
        assert!(!none.is_stalled(Duration::ZERO));
    }

    #[test]
    fn what_cannot_be_played_is_refused_with_the_number_that_can() {
        let refused = |words: &[&str]| scenario(words).validate().unwrap_err();
        let many = vec!["1"; 65].join(",");
        for (words, part) in [
            (&["--senders=0"][..], "1 to"),
            (&["--size=10"], "64 to 65536"),
            (&["--seconds=61"], "1 to 60"),
            (&["--senders=1000000"], "at most "),
            (&["--rate=1000000"], "memory; less of --rate,"),
            (&["--skew=90%", "--senders=1"], "2 senders"),
            (&["--stall=1s@1s/2"], "makes 1 consumer;"),
            (&["--stall=1s@1s/3", "--consumer-rate=5,5"], "2 consumers;"),
            (&["--consumer-rate", &many], "at most 64"),
            (&["--descriptors=31"], "32 to "),
            (&["--descriptors=100000000"], "32 to "),
        ] {
            let said = refused(words);
            let option = words[0].split('=').next().unwrap();
            assert!(said.contains(part), "{said}");
            assert!(said.contains(option) || option == "--rate", "{said}");
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
    fn a_stall_begins_among_the_senders_or_is_not_played() {
        let refused = |words: &[&str]| scenario(words).validate().unwrap_err();
        let said = refused(&["--stall=5s@20s"]);
        assert!(said.contains("--stall 5s@20s: begins when"), "{said}");
        assert!(said.contains("before --seconds 5"), "{said}");
        let said = refused(&["--seconds=1", "--stall=2s@1s"]);
        assert!(said.contains("before --seconds 1"), "{said}");
        let stalls = |words: &[&str]| {
            let scenario = scenario(words);
            scenario.validate().unwrap();
            list(&scenario.played().stalls)
        };
        assert_eq!(stalls(&[]), "2s@1s,1m@4300ms");
        assert_eq!(stalls(&["--seconds=4"]), "2s@1s");
        assert_eq!(stalls(&["--seconds=1"]), "none");
        assert_eq!(stalls(&["--stall=none"]), "none");
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
    #[test]
    fn a_stall_is_of_one_consumer_or_of_all() {
        let scenario = scenario(&["--consumer-rate=10,20", "--stall=2s@1s/2", "--stall=1s@2s"]);
        let seconds = Duration::from_secs_f64;
        assert_eq!(scenario.consumer_rate(), Some(30));
        assert!(scenario.stall_of(0, seconds(1.5)).is_none());
        assert!(scenario.stall_of(1, seconds(1.5)).is_some());
        assert!(!scenario.is_stalled(seconds(1.5)));
        assert!(scenario.is_stalled(seconds(2.5)));
        for wrong in ["1s@1s/0", "1s@1s/x", "1s", "1s@"] {
            assert!(wrong.parse::<Stall>().is_err(), "{wrong}");
        }
    }
}
