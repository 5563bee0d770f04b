//! What happens at a connection limit, and who leaves to make room.
//!
//! In: connections at rest, and for how long. Out: one of them, or when there will be one.
//! Never here: a list of them, a clock.

use std::time::Duration;

/// What happens to who connects when all places are taken: [`Config::max_connections`](crate::Config::max_connections),
/// or those of its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AtLimit {
    /// It waits in the backlog for a place.
    #[default]
    Wait,
    /// It is accepted and closed at once: a balancer goes elsewhere.
    Refuse,
    /// It waits, and the connection that has been at rest the longest is closed for it.
    Evict,
}

/// Who has been at rest for less than this is in use: where all are, who comes waits, and nobody who was let
/// in for another one's place is at once the next to leave.
pub(crate) const LEAST_REST: Duration = Duration::from_secs(1);

/// A connection at rest: open, read to its end, and held up by nothing of ours. (Who waits for a full ring, for
/// staging or for an operator is none: our slowness is not its silence.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtRest<K> {
    pub(crate) who: K,
    pub(crate) rested: Duration,
    /// Its end can be told at once. Else it would keep its place until its ring has room.
    pub(crate) leaves_at_once: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim<K> {
    Now(K),
    /// There is one after so long, if it stays at rest.
    In(Duration),
    Nobody,
}

impl<K> Victim<K> {
    /// 1. Who could not leave at once makes no room.
    /// 2. Of the others it is the one that has been at rest the longest, the first of equals.
    /// 3. It has been at rest for [`LEAST_REST`], or it is not time yet.
    pub(crate) fn choose(all: impl Iterator<Item = AtRest<K>>) -> Self {
        let longest = all
            .filter(|one| one.leaves_at_once)
            .reduce(|a, b| if b.rested > a.rested { b } else { a });
        match longest {
            None => Self::Nobody,
            Some(one) if one.rested >= LEAST_REST => Self::Now(one.who),
            Some(one) => Self::In(LEAST_REST - one.rested),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at_rest(who: usize, millis: u64, leaves_at_once: bool) -> AtRest<usize> {
        AtRest {
            who,
            rested: Duration::from_millis(millis),
            leaves_at_once,
        }
    }

    fn choose(all: &[(u64, bool)]) -> Victim<usize> {
        let all = all.iter().enumerate();
        Victim::choose(all.map(|(who, (millis, leaves))| at_rest(who, *millis, *leaves)))
    }

    #[test]
    fn the_longest_at_rest_leaves() {
        assert_eq!(
            choose(&[(1500, true), (2500, true), (2000, true)]),
            Victim::Now(1)
        );
        assert_eq!(choose(&[(2000, true), (2000, true)]), Victim::Now(0));
    }

    #[test]
    fn who_has_just_come_or_just_spoken_does_not_and_it_is_known_when_it_would() {
        assert_eq!(choose(&[(1000, true)]), Victim::Now(0));
        let left = Duration::from_millis(1);
        assert_eq!(choose(&[(5, true), (999, true)]), Victim::In(left));
    }

    #[test]
    fn who_would_keep_its_place_does_not() {
        assert_eq!(choose(&[(9000, false), (2000, true)]), Victim::Now(1));
        assert_eq!(choose(&[(9000, false)]), Victim::Nobody);
        assert_eq!(choose(&[]), Victim::Nobody);
    }

    proptest! {
        #[test]
        fn nobody_that_could_leave_has_been_at_rest_for_longer(
            all in prop::collection::vec((0u64..3000, any::<bool>()), 0..20),
        ) {
            let longest = all.iter().filter(|one| one.1).map(|one| one.0).max();
            match choose(&all) {
                Victim::Now(who) => {
                    prop_assert!(all[who].1 && all[who].0 >= 1000);
                    prop_assert_eq!(Some(all[who].0), longest);
                }
                Victim::In(left) => {
                    prop_assert_eq!(longest.map(|l| l + left.as_millis() as u64), Some(1000));
                }
                Victim::Nobody => prop_assert_eq!(longest, None),
            }
        }
    }
}
