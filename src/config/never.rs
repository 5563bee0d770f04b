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
//! | a connection's rate | its source's | it is more, by what a bucket that is shared may let through at once |
//! | a connection's rate | its listener's | likewise |
//! | a source's rate | all listeners' together | likewise: it may be connected to all of them |
//! | a rate of messages | the same rate of bytes | likewise: a message has a byte at least |
//! | the rate of all listeners | listeners' own | each has one |
//!
//! The largest age is a tenth more than the age. What looks like a pair and is none: idle and message (a
//! message may trickle, and who is idle may have none); window and idle; stall and the stall of a
//! consumer (one that is slow is not stalled); pressure and either of them; rates and least rate (the
//! time in which we do not read is in no window); all connections and those of all listeners (the memory is
//! counted by them). Keepalive ends nobody who is there. Places that the descriptors do not reach for, and
//! a budget of staging that can never be spent, are nobody's mistake.

use std::fmt;
use std::time::Duration;

use super::{Checked, Config, Listen, Rate};
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

/// Not of how long a connection may stall: who is closed for its age waits on where its ring is full.
const DEADLINES: [Rule; 4] = [
    |c| outlived("deadlines.idle", c.deadlines.idle, c),
    |c| outlived("deadlines.message", c.deadlines.message, c),
    |c| outlived("least_rate.window", window(c), c),
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
) -> Option<NeverFires> {
    let (deadline, age) = (deadline?, config.deadlines.age?);
    let oldest = age.saturating_add(age / 10);
    (deadline >= oldest).then(|| NeverFires {
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

/// Bytes, or messages.
struct Kind {
    of: fn(&Rate) -> Option<u64>,
    limit: fn(u64, Duration) -> Limit,
    /// Of connections, sources and listeners.
    names: [&'static str; 3],
}

const BYTES: Kind = Kind {
    of: |rate| rate.bytes_per_sec,
    limit: Limit::bytes,
    names: [
        "rates.connection.bytes_per_sec",
        "rates.source.bytes_per_sec",
        "rates.listener.bytes_per_sec",
    ],
};
const MESSAGES: Kind = Kind {
    of: |rate| rate.messages_per_sec,
    limit: Limit::messages,
    names: [
        "rates.connection.messages_per_sec",
        "rates.source.messages_per_sec",
        "rates.listener.messages_per_sec",
    ],
};

/// Rates that whoever keeps to another one keeps to. Who is of a source that is not known is nobody's plan.
fn rates(config: &Config) -> Vec<NeverFires> {
    let rates = &config.rates;
    let listeners: Vec<_> = config.rates_of_listeners().collect();
    let mut never = Vec::new();
    let mut tell = |setting, own, first, of: &str, most| {
        never.push(NeverFires {
            setting,
            first,
            reason: format!("it is {own} a second, and {of} {most}"),
        });
    };
    for kind in [BYTES, MESSAGES] {
        let [connections, sources, _] = kind.names;
        let limit = |n: u64| (kind.limit)(n, rates.burst);
        let [own, source] = [&rates.connection, &rates.source].map(kind.of);
        // One that has none lets everything through.
        let outer: Option<Vec<_>> = listeners.iter().map(kind.of).collect();
        let outer = outer.unwrap_or_default();
        let own_of = |listen: &Listen| (kind.of)(&listen.rate).is_some();
        let of_listeners = match config.listeners.iter().any(own_of) {
            true => "listeners",
            false => kind.names[2],
        };
        if let (Some(own), Some(source)) = (own, source)
            && limit(own).is_kept_by(&[limit(source)])
        {
            let of = "of all connections of a source";
            tell(connections, own, sources, of, source);
        }
        if let (Some(own), Some(most)) = (own, outer.iter().copied().max())
            && outer.iter().all(|n| limit(own).is_kept_by(&[limit(*n)]))
        {
            let of = "of all connections of a listener";
            tell(connections, own, of_listeners, of, most);
        }
        // Reactors that look at the same time may each let through what is there once.
        let limits: Vec<_> = outer.iter().copied().map(limit).collect();
        let limits = limits.repeat(config.reactors);
        if let (Some(source), false) = (source, limits.is_empty())
            && limit(source).is_kept_by(&limits)
        {
            let of = "of all connections of all listeners";
            let all = outer.iter().copied().fold(0, u64::saturating_add);
            tell(sources, source, of_listeners, of, all);
        }
    }
    let all = [&rates.connection, &rates.source, &rates.listener];
    for (scope, rate) in all.into_iter().enumerate() {
        if let Some((messages, bytes)) = fewer_bytes(rate, rates.burst) {
            let (setting, first) = (MESSAGES.names[scope], BYTES.names[scope]);
            tell(setting, messages, first, OF_BYTES, bytes);
        }
    }
    never.extend(own_rates(config));
    never
}

const OF_BYTES: &str = "of bytes, of which a message has one at least,";

/// A rate of messages that nobody reaches who keeps to that of bytes.
fn fewer_bytes(rate: &Rate, burst: Duration) -> Option<(u64, u64)> {
    let (messages, bytes) = (rate.messages_per_sec?, rate.bytes_per_sec?);
    let of_bytes = Limit::bytes(bytes, burst);
    let is_kept = Limit::messages(messages, burst).is_kept_by(&[of_bytes]);
    is_kept.then_some((messages, bytes))
}

/// What listeners have of their own: a rate for all listeners that none of them goes by, and messages that
/// are more than the bytes.
fn own_rates(config: &Config) -> impl Iterator<Item = NeverFires> {
    let rates = &config.rates;
    let unused = [BYTES, MESSAGES].into_iter().filter_map(|kind| {
        let common = (kind.of)(&rates.listener)?;
        let has_own = |listen: &Listen| (kind.of)(&listen.rate).is_some();
        config.listeners.iter().all(has_own).then(|| NeverFires {
            setting: kind.names[2],
            first: "listeners",
            reason: format!("it is {common} a second, and each listener has a rate of its own"),
        })
    });
    let listeners = config.listeners.iter().zip(config.rates_of_listeners());
    let few = listeners.filter_map(move |(listen, rate)| {
        listen.rate.messages_per_sec?;
        let (messages, bytes) = fewer_bytes(&rate, rates.burst)?;
        Some(NeverFires {
            setting: "listeners",
            first: match listen.rate.bytes_per_sec {
                Some(_) => "listeners",
                None => BYTES.names[2],
            },
            reason: format!(
                "{} may have {messages} messages a second, and {OF_BYTES} {bytes}",
                listen.address
            ),
        })
    });
    unused.chain(few)
}

#[cfg(test)]
#[path = "never_tests.rs"]
mod tests;
