//! What one sender may have, and may do.
//!
//! In: numbers that a user chose. Out: refusals, and terms of the sum of promise 1. Never here: who is a
//! sender.

use crate::reactor::SourceLimits;

/// Limits for a source: an IPv4 address, a network of IPv6 addresses, or on a Unix socket a user. Off by
/// default, for many senders may be behind one address.
///
/// A source that is not known has no limit. Whoever is beyond one is accepted and closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PerSource {
    /// Its connections at once, over all listeners and reactors. `None` is off.
    pub connections: Option<usize>,
    /// Its new connections in a second; after a silence, as many at once. `None` is off.
    pub connects_per_sec: Option<u32>,
    /// How many bits of an IPv6 address are its network, 1 to 128: whoever has an address has its whole
    /// network, which is one source. An IPv4 address within IPv6 counts as IPv4.
    pub ipv6_prefix: u8,
}

impl Default for PerSource {
    fn default() -> Self {
        Self {
            connections: None,
            connects_per_sec: None,
            ipv6_prefix: 64,
        }
    }
}

impl PerSource {
    pub(super) fn check(&self, refuse: &mut impl FnMut(&'static str, String, String)) {
        let nobody = || "nobody could connect; without a value it is off".into();
        if self.connections == Some(0) {
            refuse("per_source.connections", "0".into(), nobody());
        }
        if self.connects_per_sec == Some(0) {
            refuse("per_source.connects_per_sec", "0".into(), nobody());
        }
        if !(1..=128).contains(&self.ipv6_prefix) {
            let value = self.ipv6_prefix.to_string();
            refuse(
                "per_source.ipv6_prefix",
                value,
                "1 to 128 are possible".into(),
            );
        }
    }

    pub(super) fn limits(&self) -> SourceLimits {
        SourceLimits {
            connections: self.connections,
            connects_per_sec: self.connects_per_sec,
            ipv6_prefix: self.ipv6_prefix,
        }
    }

    /// What is kept of sources, in bytes: it does not grow with their number.
    pub(super) fn memory(&self, max_connections: usize) -> impl Iterator<Item = (String, u64)> {
        let bytes = self.limits().table_bytes(max_connections);
        let names = [
            "sources: what each has open",
            "sources: how often each comes",
        ];
        let terms = names.into_iter().zip(bytes);
        let set = terms.filter(|(_, bytes)| *bytes > 0);
        set.map(|(name, bytes)| (name.to_owned(), bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn refused(change: impl Fn(&mut PerSource)) -> Vec<String> {
        let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
        change(&mut config.per_source);
        let errors = config.validate().err();
        errors.map_or(Vec::new(), |e| {
            e.0.iter().map(ToString::to_string).collect()
        })
    }

    #[test]
    fn a_limit_of_nothing_and_a_prefix_that_is_none_are_refused() {
        assert_eq!(refused(|_| {}), [""; 0]);
        assert_eq!(
            refused(|s| (s.connections, s.connects_per_sec) = (Some(1), Some(1))),
            [""; 0]
        );
        assert_eq!(
            refused(|s| (s.connections, s.connects_per_sec) = (Some(0), Some(0))).len(),
            2
        );
        assert_eq!(refused(|s| s.ipv6_prefix = 1), [""; 0]);
        assert_eq!(refused(|s| s.ipv6_prefix = 128), [""; 0]);
        for prefix in [0, 129] {
            let refused = refused(|s| s.ipv6_prefix = prefix);
            assert!(refused[0].contains("per_source.ipv6_prefix"), "{refused:?}");
        }
    }

    #[test]
    fn its_memory_is_in_the_sum_and_only_where_it_is_on() {
        let sum = |change: fn(&mut PerSource)| {
            let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
            change(&mut config.per_source);
            config.validate().unwrap().memory().user_bytes()
        };
        let off = sum(|_| {});
        assert_eq!(sum(|s| s.ipv6_prefix = 56), off);
        // 4 rows for 10,000 connections: 131,072 cells each.
        assert_eq!(sum(|s| s.connections = Some(1)), off + (2 << 20));
        assert_eq!(sum(|s| s.connects_per_sec = Some(1)), off + (4 << 20));
    }
}
