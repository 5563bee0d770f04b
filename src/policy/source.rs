//! Who a connection is from, as far as senders are told apart: an address, or a user.
//!
//! In: a peer. Out: its source, the cells in which tables count it, and how soon it may connect again.
//! Never here: a table, a clock.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::rate::nanos;
use crate::peer::Peer;

/// Rows of a table. Who is to be counted with somebody else has to meet others in each of them.
pub(crate) const ROWS: usize = 4;

/// One who may have so much, however many connections, ports or addresses of a network it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    V4(Ipv4Addr),
    /// The first address of its network: whoever has one of them has all.
    V6(Ipv6Addr),
    User(u32),
}

impl Source {
    /// `None`: it is not known, and shares nothing with others of whom nothing is known.
    pub(crate) fn of(peer: &Peer, ipv6_prefix: u8) -> Option<Self> {
        match peer {
            Peer::Tcp(address) if address.ip().is_unspecified() => None,
            Peer::Tcp(address) => Some(match address.ip().to_canonical() {
                IpAddr::V4(v4) => Self::V4(v4),
                IpAddr::V6(v6) => Self::V6(network(v6, ipv6_prefix)),
            }),
            Peer::Unix { uid, .. } => (*uid != u32::MAX).then_some(Self::User(*uid)),
        }
    }
}

fn network(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let host_bits = 128 - u32::from(prefix.min(128));
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    Ipv6Addr::from(u128::from(address) & mask)
}

/// What decides who meets whom in a table. Nobody outside knows it, so that nobody can choose addresses
/// that meet somebody else's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed([u64; 2]);

impl Seed {
    /// Where one run is to be as another.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn new(numbers: [u64; 2]) -> Self {
        Self(numbers)
    }

    /// From the system's entropy, by way of the standard library's hash tables.
    pub(crate) fn random() -> Self {
        Self([0, 1].map(|n: u64| RandomState::new().hash_one(n)))
    }

    /// A number for each row, of which a table takes as many bits as it is wide. By SipHash.
    pub(crate) fn numbers(&self, source: Source) -> [u32; ROWS] {
        let hash = |round: u64| {
            let mut hasher = DefaultHasher::new();
            (self.0, round, source).hash(&mut hasher);
            hasher.finish()
        };
        let (one, two) = (hash(0), hash(1));
        [
            one as u32,
            (one >> 32) as u32,
            two as u32,
            (two >> 32) as u32,
        ]
    }
}

/// So many new connections in a second, and as many at once.
///
/// The bucket is one number, as in [`super::rate`]: when it is full again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Nanoseconds for each, rounded up.
    pub(crate) gap: u64,
    burst: u64,
}

impl Pace {
    pub(crate) fn new(per_sec: u32) -> Self {
        let per_sec = u64::from(per_sec.max(1));
        let gap = nanos(Duration::from_secs(1)).div_ceil(per_sec);
        Self {
            gap,
            burst: gap * per_sec,
        }
    }

    /// What the bucket is when one more has been taken out of it.
    pub(crate) fn taken(&self, full_at: u64, now: u64) -> u64 {
        full_at.max(now).saturating_add(self.gap)
    }

    /// Was there one to be taken?
    pub(crate) fn allows(&self, taken: u64, now: u64) -> bool {
        taken.saturating_sub(now) <= self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn of(address: &str, prefix: u8) -> Option<Source> {
        Source::of(&Peer::Tcp(address.parse().unwrap()), prefix)
    }

    #[test]
    fn a_source_is_an_ipv4_address_whatever_its_port_and_however_it_is_written() {
        let one = of("192.0.2.1:1", 64);
        assert_eq!(one, Some(Source::V4([192, 0, 2, 1].into())));
        assert_eq!(one, of("192.0.2.1:60000", 64));
        assert_eq!(one, of("[::ffff:192.0.2.1]:7", 64), "mapped");
        assert_ne!(one, of("192.0.2.2:1", 64));
        // To a reader of IPv6 it is all one network.
        assert_ne!(
            of("[::ffff:192.0.2.1]:7", 64),
            of("[::ffff:192.0.2.2]:7", 64)
        );
    }

    #[test]
    fn a_source_is_a_network_of_ipv6() {
        let one = of("[2001:db8:0:1::1]:1", 64);
        assert_eq!(one, of("[2001:db8:0:1:ffff::2]:2", 64));
        assert_ne!(one, of("[2001:db8:0:2::1]:1", 64));
        assert_eq!(of("[2001:db8:0:1::1]:1", 48), of("[2001:db8:0:2::1]:1", 48));
        assert_ne!(of("[2001:db8::1]:1", 128), of("[2001:db8::2]:1", 128));
        assert_ne!(of("[2001:db8::1]:1", 127), of("[2001:db8::2]:1", 127));
        assert_eq!(of("[2001:db8::2]:1", 127), of("[2001:db8::3]:1", 127));
        assert_eq!(of("[2001:db8::1]:1", 1), of("[::1]:1", 1));
    }

    #[test]
    fn a_source_is_a_user_and_who_is_not_known_is_none() {
        let user = |pid, uid| Source::of(&Peer::Unix { pid, uid }, 64);
        assert_eq!(user(1, 1000), user(2, 1000));
        assert_ne!(user(1, 1000), user(1, 1001));
        assert_eq!(user(0, u32::MAX), None);
        assert_eq!(of("0.0.0.0:0", 64), None);
    }

    #[test]
    fn rows_are_independent_and_seeds_too() {
        let seed = Seed::new([1, 2]);
        let user = |uid| seed.numbers(Source::User(uid));
        assert_eq!(user(7), user(7));
        // In rows of 16 cells, 1000 sources meet in single rows all the time and in all four seldom.
        let cells: HashSet<_> = (0..1000).map(|uid| user(uid).map(|n| n % 16)).collect();
        assert!(cells.len() > 980, "{}", cells.len());
        for row in 0..ROWS {
            let cells: HashSet<_> = (0..1000).map(|uid| user(uid)[row] % 256).collect();
            assert!(cells.len() > 240, "row {row}: {}", cells.len());
        }
        let other = |seed: Seed| seed.numbers(Source::User(7));
        assert_ne!(other(Seed::new([2, 1])), user(7));
        assert_ne!(other(Seed::random()), other(Seed::random()));
    }

    proptest! {
        /// Whatever the prefix, addresses are of one source if and only if so many bits are the same.
        #[test]
        fn a_prefix_is_as_long_as_it_says(a: u128, flip in 0u32..128, prefix in 1u8..=128) {
            let of = |bits: u128| network(Ipv6Addr::from(bits), prefix);
            let is_inside = flip < u32::from(prefix);
            prop_assert_eq!(of(a) != of(a ^ (1 << (127 - flip))), is_inside);
        }

        /// In no window more than a second's worth and what the time brings, and after a silence all of it.
        #[test]
        fn a_pace_is_never_exceeded_and_never_refuses_too_early(
            per_sec in 1u32..5000,
            start in 0u64..1 << 60,
            steps in prop::collection::vec(0u64..1_500_000_000, 1..80),
        ) {
            let pace = Pace::new(per_sec);
            let (mut full_at, mut now) = (0, start);
            let mut taken = Vec::new();
            for passes in steps {
                now += passes / u64::from(per_sec);
                let then = pace.taken(full_at, now);
                if pace.allows(then, now) {
                    full_at = then;
                    taken.push(now);
                } else {
                    let oldest = taken[taken.len() - per_sec as usize];
                    prop_assert!(now - oldest < pace.burst, "refused too early");
                }
            }
            for (at, from) in taken.iter().enumerate() {
                for (n, to) in taken[at..].iter().enumerate() {
                    let due = u128::from(to - from) * u128::from(per_sec) / 1_000_000_000;
                    prop_assert!((n as u128) < due + u128::from(per_sec));
                }
            }
        }
    }
}
