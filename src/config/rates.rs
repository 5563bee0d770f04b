//! What may come in in a second.
//!
//! In: numbers that a user chose. Out: refusals. Never here: a bucket.

use std::time::Duration;

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
    /// For each listener, all its connections together.
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
    pub(super) fn is_any(&self) -> bool {
        [self.connection, self.listener]
            .iter()
            .any(|rate| *rate != Rate::default())
    }

    pub(super) fn check(&self, refuse: &mut impl FnMut(&'static str, String, String)) {
        let (connection, listener) = (&self.connection, &self.listener);
        for (setting, rate) in [
            ("rates.connection.bytes_per_sec", connection.bytes_per_sec),
            (
                "rates.connection.messages_per_sec",
                connection.messages_per_sec,
            ),
            ("rates.listener.bytes_per_sec", listener.bytes_per_sec),
            ("rates.listener.messages_per_sec", listener.messages_per_sec),
        ] {
            if rate == Some(0) {
                let reason = "nobody would ever be read; without a value it is off";
                refuse(setting, "0".into(), reason.into());
            }
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
            listener: Rate::default(),
            burst: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rates: Rates) -> Vec<String> {
        let mut refused = Vec::new();
        rates.check(&mut |setting, value, reason| {
            refused.push(format!("{setting} = {value}: {reason}"));
        });
        refused
    }

    #[test]
    fn no_rates_are_legal_and_none_is_limited() {
        assert!(refused(Rates::default()).is_empty());
        assert!(!Rates::default().is_any());
    }

    #[test]
    fn a_rate_of_nothing_and_a_burst_of_no_time_are_refused() {
        let mut rates = Rates::default();
        rates.connection.messages_per_sec = Some(0);
        rates.listener.bytes_per_sec = Some(0);
        rates.burst = Duration::from_millis(99);
        let refused = refused(rates);
        assert_eq!(refused.len(), 3, "{refused:?}");
        assert!(refused[2].contains("rates.burst = 99ms: 100ms to 1h"));
    }
}
