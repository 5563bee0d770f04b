//! Limits that can never fire, because another one fires first.
//!
//! In: a [`Config`] that is legal. Out: pairs of settings. Never here: a refusal; whoever set both decides.
//!
//! To fire is to close a connection for that reason, to keep one out, or to make one wait for longer than it
//! would have to without.
//!
//! | limit | fires never beside | if |
//! |---|---|---|
//! | idle, message, window of the least rate | age | it is as long as the largest age |
//! | stall | age | it is as long as the largest age and the farewell: in that one may stall |
//! | window of the least rate | message | it is so much longer that the message's end is in time |
//! | a listener's connections | connections | it is not less |
//! | a source's connections | connections | it is not less |
//! | a connection's rate | its listener's | it is more, by what a listener's bucket may let through at once |
//! | a connection's rate of messages | its rate of bytes | likewise: a message has a byte at least |
//!
//! The largest age is a tenth more than the age. What looks like a pair and is none: idle and message (a
//! message may trickle, and who is idle may have none); window and idle; stall and the stall of a
//! consumer (one that is slow is not stalled); pressure and either of them; rates and least rate (the
//! time in which we do not read is in no window); all connections and those of all listeners (the memory is
//! counted by them). Keepalive ends nobody who is there. Places that the descriptors do not reach for, and
//! a budget of staging that can never be spent, are nobody's mistake.

use std::fmt;
use std::time::Duration;

use super::{Checked, Config};
use crate::policy::rate::Limit;

/// A limit that can never fire.
///
/// ```
/// use std::time::Duration;
/// use fanin::Config;
///
/// let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
/// config.deadlines.age = Some(Duration::from_secs(600));
/// let never = config.validate().unwrap().never_fires();
/// // A connection is closed for its age before it can have been idle for an hour.
/// assert_eq!(never[0].setting, "deadlines.idle");
/// assert_eq!(never[0].first, "deadlines.age");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeverFires {
    /// The setting that has no effect, as [`Config`] names it.
    pub setting: &'static str,
    /// The setting that fires first.
    pub first: &'static str,
    /// Why, with both values.
    pub reason: String,
}

impl fmt::Display for NeverFires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can never fire: {}", self.setting, self.reason)
    }
}

impl Checked {
    /// The limits that can never fire, because another one fires first.
    pub fn never_fires(&self) -> Vec<NeverFires> {
        let config = &self.config;
        let deadlines = DEADLINES.iter().filter_map(|rule| rule(config));
        deadlines
            .chain(listeners(config))
            .chain(source(config))
            .chain(rates(config))
            .collect()
    }
}

type Rule = fn(&Config) -> Option<NeverFires>;

const DEADLINES: [Rule; 5] = [
    |c| outlived("deadlines.idle", c.deadlines.idle, c, Duration::ZERO),
    |c| outlived("deadlines.message", c.deadlines.message, c, Duration::ZERO),
    // Who is closed for its age is read on for as long as it may linger, and may stall meanwhile.
    |c| outlived("deadlines.stall", c.deadlines.stall, c, c.deadlines.linger),
    |c| outlived("least_rate.window", window(c), c, Duration::ZERO),
    too_late_for_its_message,
];

fn window(config: &Config) -> Option<Duration> {
    config.least_rate.map(|least| least.window)
}

/// A deadline that no connection lives to see. The age strikes first where both strike at once.
fn outlived(
    setting: &'static str,
    deadline: Option<Duration>,
    config: &Config,
    after: Duration,
) -> Option<NeverFires> {
    let (deadline, age) = (deadline?, config.deadlines.age?);
    let oldest = age.saturating_add(age / 10);
    (deadline >= oldest.saturating_add(after)).then(|| NeverFires {
        setting,
        first: "deadlines.age",
        reason: format!(
            "it is {deadline:?}, and connections are closed at the age of {age:?}, or up to a tenth later"
        ),
    })
}

/// Who is due for its message has a second more if the kernel holds bytes of it, and we may be late for
/// either of the two: by half a second each, while nothing is wrong with the machine.
const IN_TIME: Duration = Duration::from_secs(2);

/// A message that is ended before its first window is over. That begins with the message, and whatever
/// stops its clock stops that of the window too.
fn too_late_for_its_message(config: &Config) -> Option<NeverFires> {
    let (window, message) = (window(config)?, config.deadlines.message?);
    (window >= message.saturating_add(IN_TIME)).then(|| NeverFires {
        setting: "least_rate.window",
        first: "deadlines.message",
        reason: format!("it is {window:?}, and messages are ended that take {message:?}"),
    })
}

/// Listeners' own limits that the one of all is reached before, or with.
fn listeners(config: &Config) -> impl Iterator<Item = NeverFires> {
    let all = config.max_connections;
    config.listeners.iter().filter_map(move |listen| {
        let own = listen.max_connections.filter(|own| *own >= all)?;
        Some(NeverFires {
            setting: "listeners",
            first: "max_connections",
            reason: format!(
                "{} may have {own} connections, and all together {all}",
                listen.address
            ),
        })
    })
}

/// A source's limit that the one of all is reached before, or with.
fn source(config: &Config) -> Option<NeverFires> {
    let all = config.max_connections;
    let own = config.per_source.connections.filter(|own| *own >= all)?;
    Some(NeverFires {
        setting: "per_source.connections",
        first: "max_connections",
        reason: format!("a source may have {own} connections, and all together {all}"),
    })
}

/// A connection's rates that whoever keeps to another one keeps to.
fn rates(config: &Config) -> impl Iterator<Item = NeverFires> {
    let burst = config.rates.burst;
    let (connection, listener) = (config.rates.connection, config.rates.listener);
    let bytes = |rate: Option<u64>| rate.map(|n| (n, Limit::bytes(n, burst)));
    let messages = |rate: Option<u64>| rate.map(|n| (n, Limit::messages(n, burst)));
    let own_bytes = "rates.connection.bytes_per_sec";
    let own_messages = "rates.connection.messages_per_sec";
    let pairs = [
        (
            (own_bytes, bytes(connection.bytes_per_sec)),
            (
                "rates.listener.bytes_per_sec",
                bytes(listener.bytes_per_sec),
            ),
            "of all connections of a listener",
        ),
        (
            (own_messages, messages(connection.messages_per_sec)),
            (
                "rates.listener.messages_per_sec",
                messages(listener.messages_per_sec),
            ),
            "of all connections of a listener",
        ),
        (
            (own_messages, messages(connection.messages_per_sec)),
            (own_bytes, bytes(connection.bytes_per_sec)),
            "of bytes, of which a message has one at least,",
        ),
    ];
    pairs.into_iter().filter_map(|(own, outer, of)| {
        let ((setting, own), (first, outer)) = (own, outer);
        let ((own, limit), (most, outer)) = (own?, outer?);
        limit.is_kept_by(&outer).then(|| NeverFires {
            setting,
            first,
            reason: format!("it is {own} a second, and {of} {most}"),
        })
    })
}

#[cfg(test)]
#[path = "never_tests.rs"]
mod tests;
