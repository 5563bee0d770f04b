//! What may come in in a second.
//!
//! In: numbers that a user chose. Out: refusals, what reactors are told, and terms of the sum of promise 1.
//! Never here: a bucket.

use std::sync::Arc;
use std::time::Duration;

use super::{Checked, Config, Listen};
use crate::policy::Seed;
use crate::policy::rate::Limit;
use crate::reactor::{Both, Common, LINE_BYTES, RateParts, SHAPED_BYTES, table_bytes};

/// Who waits for a bucket is called by a timer of 8 ms, and a bucket that is full by then spills.
const LEAST_BURST: Duration = Duration::from_millis(100);
const MOST_BURST: Duration = Duration::from_secs(3600);

/// What may come in in a second. Whoever sends more is not read until it has waited: nothing is dropped,
/// and TCP holds the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rates {
    /// For each connection.
    pub connection: Rate,
    /// For each source, all its connections together, over all listeners and reactors. What a source is,
    /// [`PerSource`](crate::PerSource) says. One that is not known has no limit.
    pub source: Rate,
    /// For each listener that has none of its own ([`Listen::rate`]), all its connections together.
    pub listener: Rate,
    /// After a silence, what comes in so much time may come at once. 100 ms to an hour.
    pub burst: Duration,
}

/// A limit for bytes, as they come over the wire, and one for messages. `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Rate {
    /// Bytes in a second, marks included.
    pub bytes_per_sec: Option<u64>,
    /// Messages in a second; those that are too large count as well.
    pub messages_per_sec: Option<u64>,
}

impl Rates {
    pub(super) fn check(
        &self,
        listeners: &[Listen],
        refuse: &mut impl FnMut(&'static str, String, String),
    ) {
        let (connection, source, listener) = (&self.connection, &self.source, &self.listener);
        for (setting, rate) in [
            ("rates.connection.bytes_per_sec", connection.bytes_per_sec),
            (
                "rates.connection.messages_per_sec",
                connection.messages_per_sec,
            ),
            ("rates.source.bytes_per_sec", source.bytes_per_sec),
            ("rates.source.messages_per_sec", source.messages_per_sec),
            ("rates.listener.bytes_per_sec", listener.bytes_per_sec),
            ("rates.listener.messages_per_sec", listener.messages_per_sec),
        ] {
            if rate == Some(0) {
                let reason = "nobody would ever be read; without a value it is off";
                refuse(setting, "0".into(), reason.into());
            }
        }
        let own = listeners.iter().map(|listen| &listen.rate);
        if own.flat_map(Rate::both).any(|rate| rate == Some(0)) {
            let reason = "nobody would ever be read; without a value it is as for all listeners";
            refuse("listeners.rate", "0".into(), reason.into());
        }
        if !(LEAST_BURST..=MOST_BURST).contains(&self.burst) {
            let value = format!("{:?}", self.burst);
            refuse("rates.burst", value, "100ms to 1h are possible".into());
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            connection: Rate::default(),
            source: Rate::default(),
            listener: Rate::default(),
            burst: Duration::from_secs(1),
        }
    }
}

impl Rate {
    fn both(&self) -> [Option<u64>; 2] {
        [self.bytes_per_sec, self.messages_per_sec]
    }

    fn is_any(&self) -> bool {
        self.both().iter().any(Option::is_some)
    }

    fn limits(&self, burst: Duration) -> Both {
        [
            self.bytes_per_sec.map(|n| Limit::bytes(n, burst)),
            self.messages_per_sec.map(|n| Limit::messages(n, burst)),
        ]
    }
}

impl Config {
    /// What each listener goes by: its own rate, or what is said for all.
    pub(crate) fn rates_of_listeners(&self) -> impl Iterator<Item = Rate> {
        let common = self.rates.listener;
        self.listeners.iter().map(move |listen| Rate {
            bytes_per_sec: listen.rate.bytes_per_sec.or(common.bytes_per_sec),
            messages_per_sec: listen.rate.messages_per_sec.or(common.messages_per_sec),
        })
    }

    pub(crate) fn has_rates(&self) -> bool {
        let Rates {
            connection, source, ..
        } = &self.rates;
        connection.is_any()
            || source.is_any()
            || self.rates_of_listeners().any(|rate| rate.is_any())
    }
}

impl Checked {
    /// What each reactor is told of them; nothing where none is set. `seed`: of the tables of sources.
    pub(super) fn rates(&self, seed: Seed) -> Option<RateParts> {
        let config = &self.config;
        let rates = &config.rates;
        let source = rates.source.limits(rates.burst);
        let listeners: Arc<[_]> = config
            .rates_of_listeners()
            .map(|rate| rate.limits(rates.burst))
            .collect();
        config.has_rates().then(|| RateParts {
            connection: rates.connection.limits(rates.burst),
            source,
            common: Arc::new(Common::new(
                listeners.len(),
                &source,
                config.max_connections,
            )),
            listeners,
            reactors: config.reactors,
            ipv6_prefix: config.per_source.ipv6_prefix,
            seed,
        })
    }

    /// What is kept of rates, in bytes. A slab and a table double when they grow, and keep their size.
    pub(super) fn memory_of_rates(&self) -> impl Iterator<Item = (String, u64)> {
        let config = &self.config;
        let slots = config.reactors * config.max_connections;
        let kinds = config.rates.source.limits(config.rates.burst);
        let kinds = kinds.iter().flatten().count();
        let places = match config.has_rates() {
            true => 2 * slots * SHAPED_BYTES,
            false => 0,
        };
        let lines = if kinds > 0 { 2 * slots * LINE_BYTES } else { 0 };
        let terms = [
            (
                format!("{slots} places for rates of {SHAPED_BYTES} B, twice"),
                places,
            ),
            (
                format!("{slots} lines of sources of {LINE_BYTES} B, twice"),
                lines,
            ),
            (
                "sources: how much each sends".into(),
                kinds * table_bytes(config.max_connections),
            ),
        ];
        let set = terms.into_iter().filter(|(_, bytes)| *bytes > 0);
        set.map(|(name, bytes)| (name, bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rates: Rates) -> Vec<String> {
        let mut refused = Vec::new();
        rates.check(&[], &mut |setting, value, reason| {
            refused.push(format!("{setting} = {value}: {reason}"));
        });
        refused
    }

    #[test]
    fn no_rates_are_legal_and_none_is_limited() {
        assert!(refused(Rates::default()).is_empty());
        let config = Config::listen("tcp://127.0.0.1:0").unwrap();
        assert!(!config.has_rates());
        assert!(
            config
                .validate()
                .unwrap()
                .rates(Seed::new([0; 2]))
                .is_none()
        );
    }

    #[test]
    fn a_listeners_own_rate_goes_before_that_of_all() {
        let mut config = Config::listen("tcp://127.0.0.1:0?listener-bytes=5").unwrap();
        assert!(config.has_rates());
        config.listeners.push("tcp://127.0.0.1:0".parse().unwrap());
        config.rates.listener.bytes_per_sec = Some(7);
        config.rates.listener.messages_per_sec = Some(9);
        let rates: Vec<_> = config
            .rates_of_listeners()
            .map(|rate| rate.both())
            .collect();
        assert_eq!(rates, [[Some(5), Some(9)], [Some(7), Some(9)]]);
        config.listeners[0].rate.messages_per_sec = Some(0);
        let refused = config.validate().unwrap_err();
        assert_eq!(refused.0[0].setting, "listeners.rate");
    }

    #[test]
    fn a_rate_of_nothing_and_a_burst_of_no_time_are_refused() {
        let mut rates = Rates::default();
        rates.connection.messages_per_sec = Some(0);
        rates.source.bytes_per_sec = Some(0);
        rates.source.messages_per_sec = Some(0);
        rates.listener.bytes_per_sec = Some(0);
        rates.burst = Duration::from_millis(99);
        let refused = refused(rates);
        assert_eq!(refused.len(), 5, "{refused:?}");
        assert!(refused[4].contains("rates.burst = 99ms: 100ms to 1h"));
    }

    #[test]
    fn memory_is_in_the_sum_and_only_where_a_rate_is_on() {
        let sum = |change: fn(&mut Rates)| {
            let mut config = crate::Config::listen("tcp://127.0.0.1:0").unwrap();
            change(&mut config.rates);
            config.validate().unwrap().memory().user_bytes()
        };
        let off = sum(|_| {});
        let places = off + 2 * 10_000 * SHAPED_BYTES as u64;
        assert_eq!(sum(|r| r.connection.bytes_per_sec = Some(1)), places);
        assert_eq!(sum(|r| r.listener.bytes_per_sec = Some(1)), places);
        // A line for each connection, and 4 rows for 10,000 of them: 131,072 cells each.
        let lines = places + 2 * 10_000 * LINE_BYTES as u64;
        assert_eq!(sum(|r| r.source.bytes_per_sec = Some(1)), lines + (4 << 20));
        let both = |r: &mut Rates| {
            r.source.bytes_per_sec = Some(1);
            r.source.messages_per_sec = Some(1);
        };
        assert_eq!(sum(both), lines + (8 << 20));
    }
}
