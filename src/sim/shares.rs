//! What each connection got in each second, counted a second time: of all of them, and squared at the end.
//!
//! In: what a reactor's slots look like after each turn. Out: nothing, or a panic that names the sum that is
//! wrong. Never here: a sum that is kept while it changes.

use std::collections::HashMap;

use crate::peer::ConnectionId;
use crate::policy::Shares as Sums;
use crate::reactor::Sight;

#[derive(Debug, Default)]
pub(super) struct Shares {
    received: HashMap<ConnectionId, u64>,
    reactors: HashMap<usize, Seconds>,
}

/// The seconds of one reactor.
#[derive(Debug, Default)]
struct Seconds {
    second: u32,
    got: HashMap<ConnectionId, u64>,
    /// Of all seconds before in which several got something: the index by the connections, and these.
    mean: (f64, f64),
}

impl Seconds {
    /// By the formula; 0 if nobody got anything.
    fn index(&self) -> f64 {
        let got = self.got.values().map(|bytes| *bytes as f64);
        let (sum, squares): (f64, f64) = (got.clone().sum(), got.map(|x| x * x).sum());
        match self.got.len() {
            0 => 0.0,
            n => sum * sum / (n as f64 * squares),
        }
    }

    fn sums(&self) -> Sums {
        let got = self.got.values();
        Sums {
            connections: self.got.len() as u64,
            bytes: got.clone().sum(),
            squares: got.map(|bytes| u128::from(bytes * bytes)).sum(),
        }
    }
}

impl Shares {
    /// A reactor has had a turn.
    pub(super) fn look(&mut self, sight: &Sight) {
        let seconds = self.reactors.entry(sight.reactor).or_default();
        let second = sight.now.as_secs() as u32;
        if second != seconds.second {
            let n = seconds.got.len() as f64;
            if n > 1.0 {
                seconds.mean.0 += n * seconds.index();
                seconds.mean.1 += n;
            }
            assert_eq!(
                (n > 0.0).then(|| sight.fairness.of(seconds.second)),
                (n > 0.0).then(|| seconds.sums()),
                "reactor {}: what connections got in the last second",
                sight.reactor
            );
            seconds.second = second;
            seconds.got.clear();
        }
        for seen in &sight.all {
            let before = self.received.insert(seen.id, seen.received).unwrap_or(0);
            if seen.received > before {
                *seconds.got.entry(seen.id).or_default() += seen.received - before;
            }
        }
        let told = sight.fairness.of(second);
        assert_eq!(
            told,
            seconds.sums(),
            "reactor {}: what connections got in this second",
            sight.reactor
        );
        let (index, n) = (told.index(), told.connections as f64);
        assert_eq!(index.is_some(), n > 0.0);
        if let Some(index) = index {
            assert!(index > 0.0 && (1.0 - 1e-9..=n + 1e-9).contains(&(n * index)));
            assert!((index - seconds.index()).abs() < 1e-9, "{index} of {n}");
        }
        let mean = sight.fairness.mean_until(second).index();
        let due = (seconds.mean.1 > 0.0).then(|| seconds.mean.0 / seconds.mean.1);
        let is_due = match (mean, due) {
            (Some(mean), Some(due)) => (mean - due).abs() < 1e-9,
            (mean, due) => mean == due,
        };
        assert!(is_due, "reactor {}: {mean:?}, {due:?}", sight.reactor);
    }
}
