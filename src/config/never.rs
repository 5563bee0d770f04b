//! Limits that can never fire, because another one fires first.
//!
//! In: a [`Config`] that is legal. Out: pairs of settings. Never here: a refusal; whoever set both decides.

use std::fmt;
use std::time::Duration;

use super::{Checked, Config};

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
        RULES.iter().filter_map(|rule| rule(config)).collect()
    }
}

type Rule = fn(&Config) -> Option<NeverFires>;

/// One for each pair.
const RULES: [Rule; 6] = [
    idle,
    message,
    stall,
    listener,
    rate_of_bytes,
    rate_of_messages,
];

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

fn idle(config: &Config) -> Option<NeverFires> {
    outlived(
        "deadlines.idle",
        config.deadlines.idle,
        config,
        Duration::ZERO,
    )
}

fn message(config: &Config) -> Option<NeverFires> {
    outlived(
        "deadlines.message",
        config.deadlines.message,
        config,
        Duration::ZERO,
    )
}

/// Who is closed for its age is read on for as long as it may linger, and may stall meanwhile.
fn stall(config: &Config) -> Option<NeverFires> {
    let linger = config.deadlines.linger;
    outlived("deadlines.stall", config.deadlines.stall, config, linger)
}

/// A listener's own limit that the one of all is reached before, or with.
fn listener(config: &Config) -> Option<NeverFires> {
    let limits = config
        .listeners
        .iter()
        .filter_map(|listen| listen.max_connections);
    let own = limits.max().filter(|own| *own >= config.max_connections)?;
    Some(NeverFires {
        setting: "listeners",
        first: "max_connections",
        reason: format!(
            "one of them may have {own} connections, and all together {}",
            config.max_connections
        ),
    })
}

/// A connection's rate that its listener's is reached before.
fn rate(
    setting: &'static str,
    first: &'static str,
    own: Option<u64>,
    outer: Option<u64>,
) -> Option<NeverFires> {
    let (own, outer) = (own?, outer?);
    (own > outer).then(|| NeverFires {
        setting,
        first,
        reason: format!("it is {own} a second, and of all connections of a listener {outer}"),
    })
}

fn rate_of_bytes(config: &Config) -> Option<NeverFires> {
    rate(
        "rates.connection.bytes_per_sec",
        "rates.listener.bytes_per_sec",
        config.rates.connection.bytes_per_sec,
        config.rates.listener.bytes_per_sec,
    )
}

fn rate_of_messages(config: &Config) -> Option<NeverFires> {
    rate(
        "rates.connection.messages_per_sec",
        "rates.listener.messages_per_sec",
        config.rates.connection.messages_per_sec,
        config.rates.listener.messages_per_sec,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never(change: impl Fn(&mut Config)) -> Vec<(&'static str, &'static str)> {
        let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
        change(&mut config);
        let never = config.validate().unwrap().never_fires();
        never.iter().map(|one| (one.setting, one.first)).collect()
    }

    #[test]
    fn by_default_every_limit_can_fire() {
        assert_eq!(never(|_| {}), []);
    }

    #[test]
    fn whoever_is_closed_for_its_age_is_not_closed_for_what_takes_longer() {
        let secs = Duration::from_secs;
        let age = |age| move |c: &mut Config| c.deadlines.age = Some(secs(age));
        // An hour, with the tenth by which ages are spread.
        assert_eq!(never(age(3273)), []);
        assert_eq!(never(age(3272)), [("deadlines.idle", "deadlines.age")]);
        let all = ["deadlines.idle", "deadlines.message", "deadlines.stall"];
        assert_eq!(never(age(27)), all.map(|one| (one, "deadlines.age")));
        // It stalls in its farewell.
        assert_eq!(never(age(271)).len(), 1);
        assert_eq!(never(age(270)).len(), 2);
    }

    #[test]
    fn a_listener_that_may_have_as_many_as_all_has_no_limit() {
        let own = |own| move |c: &mut Config| c.listeners[0].max_connections = Some(own);
        assert_eq!(never(own(10_000)), [("listeners", "max_connections")]);
        assert_eq!(never(own(9_999)), []);
    }

    #[test]
    fn a_connection_that_may_send_more_than_all_of_its_listener_has_no_rate() {
        let rates = |own, outer| {
            move |c: &mut Config| {
                c.rates.connection.bytes_per_sec = Some(own);
                c.rates.listener.bytes_per_sec = Some(outer);
                c.rates.connection.messages_per_sec = Some(own);
            }
        };
        let bytes = [(
            "rates.connection.bytes_per_sec",
            "rates.listener.bytes_per_sec",
        )];
        assert_eq!(never(rates(2001, 2000)), bytes);
        assert_eq!(never(rates(2000, 2000)), []);
    }
}
