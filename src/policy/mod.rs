//! Decisions, as pure functions.
//!
//! In: facts. Out: a choice. Never here: a connection, a ring, a clock.

mod budgets;
mod coalesce;
mod eviction;
mod fairness;
mod pressure;
mod progress;
pub(crate) mod rate;
mod source;
mod victim;

use std::hash::{DefaultHasher, Hash, Hasher};

pub use self::budgets::Budgets;
pub use self::coalesce::Coalesce;
pub(crate) use self::coalesce::Spacing;
pub use self::eviction::AtLimit;
pub(crate) use self::eviction::{AtRest, Victim};
pub(crate) use self::fairness::{Fairness, Mean, Share, Shares, WORDS};
pub(crate) use self::pressure::Pressure;
pub use self::progress::OnConsumerStall;
pub(crate) use self::progress::Progress;
pub(crate) use self::source::{Pace, ROWS, Seed, Source};
pub use self::victim::LeastRate;
pub(crate) use self::victim::{OF_SPENT_STAGING, Unfinished, is_victim};
use crate::peer::Peer;

/// Which consumer a new connection is bound to, for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Route {
    /// The one with the fewest connections of the accepting reactor.
    #[default]
    LeastLoaded,
    /// The same for all connections of an address (of a user, on a Unix socket).
    Source,
    /// Listener `n` to consumer `n modulo consumers`.
    Listener,
}

impl Route {
    /// Chooses among consumers, given as their number of connections, or `None` for one that is gone.
    /// Where the rule's choice is gone, the least loaded takes its place; 0 when all are gone.
    pub(crate) fn choose<L>(self, listener: usize, peer: &Peer, loads: L) -> usize
    where
        L: ExactSizeIterator<Item = Option<usize>> + Clone,
    {
        let ruled = match self {
            Self::LeastLoaded => None,
            Self::Listener => Some(listener % loads.len()),
            Self::Source => {
                let mut hasher = DefaultHasher::new();
                match peer {
                    Peer::Tcp(address) => address.ip().hash(&mut hasher),
                    Peer::Unix { uid, .. } => uid.hash(&mut hasher),
                }
                Some((hasher.finish() % loads.len() as u64) as usize)
            }
        };
        ruled
            .filter(|place| loads.clone().nth(*place).flatten().is_some())
            .unwrap_or_else(|| {
                let alive = loads
                    .enumerate()
                    .filter_map(|(place, load)| Some((load?, place)));
                alive.min().map_or(0, |(_, place)| place)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from(address: &str) -> Peer {
        Peer::Tcp(address.parse().unwrap())
    }

    #[test]
    fn the_least_loaded_that_is_there_is_chosen() {
        let choose = |loads: &[Option<usize>]| {
            Route::LeastLoaded.choose(0, &from("127.0.0.1:1"), loads.iter().copied())
        };
        assert_eq!(choose(&[Some(3), Some(1), Some(2)]), 1);
        assert_eq!(choose(&[Some(3), None, Some(3)]), 0);
        assert_eq!(choose(&[None, None]), 0);
    }

    #[test]
    fn a_source_keeps_its_consumer_whatever_its_port() {
        let loads = [Some(0), Some(5), Some(9)];
        let of = |peer: &str| Route::Source.choose(0, &from(peer), loads.into_iter());
        assert_eq!(of("10.0.0.1:1"), of("10.0.0.1:60000"));
        let spread: std::collections::HashSet<_> =
            (0..50).map(|n| of(&format!("10.0.0.{n}:1"))).collect();
        assert_eq!(spread.len(), 3);
    }

    #[test]
    fn a_user_keeps_its_consumer_whatever_its_process() {
        let loads = [Some(0), Some(5), Some(9)];
        let of = |pid, uid| Route::Source.choose(0, &Peer::Unix { pid, uid }, loads.into_iter());
        assert_eq!(of(1, 1000), of(2, 1000));
        let spread: std::collections::HashSet<_> = (0..50).map(|uid| of(1, uid)).collect();
        assert_eq!(spread.len(), 3);
    }

    #[test]
    fn listeners_take_turns_over_the_consumers_and_where_one_is_gone_the_least_loaded() {
        let choose = |listener, loads: [Option<usize>; 3]| {
            Route::Listener.choose(listener, &from("127.0.0.1:1"), loads.iter().copied())
        };
        for listener in 0..9 {
            assert_eq!(choose(listener, [Some(7), Some(7), Some(7)]), listener % 3);
        }
        assert_eq!(choose(5, [Some(2), Some(1), None]), 1);
    }

    proptest! {
        #[test]
        fn nobody_is_bound_to_a_consumer_that_is_gone_while_another_is_there(
            route in prop::sample::select(vec![Route::LeastLoaded, Route::Source, Route::Listener]),
            listener in 0usize..9,
            uid: u32,
            loads in prop::collection::vec(prop::option::of(0usize..4), 1..6),
        ) {
            let peer = Peer::Unix { pid: 1, uid };
            let place = route.choose(listener, &peer, loads.iter().copied());
            let least = loads.iter().flatten().min();
            prop_assert_eq!(loads[place].is_some(), least.is_some());
            if route == Route::LeastLoaded {
                prop_assert_eq!(loads[place].as_ref(), least);
            }
        }
    }
}
