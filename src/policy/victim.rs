//! Whose message comes too slowly to be waited for.
//!
//! In: how much of a message came in how long. Out: whether its connection gives its place up.
//! Never here: a clock; whoever asks leaves out the time in which we would not have read.

use std::time::Duration;

/// How fast an unfinished message must come at the least; else its connection is closed with
/// [`CloseReason::Trickle`](crate::CloseReason::Trickle).
///
/// From the beginning of a message on, and then from window to window, the bytes that came are weighed.
/// Time in which fanin does not read (a full ring, spent staging, a rate, an operator) is in no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeastRate {
    /// Bytes a second, on the average of a window.
    pub bytes_per_sec: u64,
    /// How long nobody is judged, and how often everybody is then: 1 second to 1 hour.
    pub window: Duration,
}

impl LeastRate {
    /// So many bytes a second, on the average of a window.
    pub const fn new(bytes_per_sec: u64, window: Duration) -> Self {
        Self {
            bytes_per_sec,
            window,
        }
    }
}

/// Staging that has been spent for a whole message timeout is given up by those whose message came more
/// slowly than this since it began.
pub(crate) const OF_SPENT_STAGING: LeastRate = LeastRate::new(1024, Duration::from_secs(1));

/// What is known of an unfinished message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfinished {
    /// Bytes that came,
    pub(crate) bytes: u64,
    /// in so long, without the time in which we would not have read them.
    pub(crate) took: Duration,
    /// It is we who do not read now.
    pub(crate) is_held: bool,
}

/// Is it closed? By these rules, the first that says something:
///
/// 1. Nobody whom we do not read now: what it has sent since, we do not know.
/// 2. Nobody before a whole window: a message that has just begun is no slow one.
/// 3. Who sent fewer bytes than the rate makes of that time. Bytes that are not there yet because the
///    network is slow count like bytes that were never sent: from here, they are the same.
///
/// Everybody is judged alone: that others are slower, older or larger changes nothing, so that closing one
/// makes no other one a victim.
pub(crate) fn is_victim(message: &Unfinished, least: &LeastRate) -> bool {
    if message.is_held || message.took < least.window {
        return false;
    }
    let due = u128::from(least.bytes_per_sec).saturating_mul(message.took.as_nanos());
    u128::from(message.bytes) * 1_000_000_000 < due
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: LeastRate = LeastRate::new(100, Duration::from_secs(10));

    fn message(bytes: u64, millis: u64) -> Unfinished {
        Unfinished {
            bytes,
            took: Duration::from_millis(millis),
            is_held: false,
        }
    }

    #[test]
    fn who_keeps_exactly_to_the_rate_stays() {
        assert!(!is_victim(&message(1000, 10_000), &LEAST));
        assert!(is_victim(&message(999, 10_000), &LEAST));
        assert!(is_victim(&message(1000, 10_001), &LEAST));
    }

    #[test]
    fn nobody_is_judged_before_a_window_is_over_or_while_it_is_held() {
        assert!(!is_victim(&message(0, 9_999), &LEAST));
        let held = Unfinished {
            is_held: true,
            ..message(0, 60_000)
        };
        assert!(!is_victim(&held, &LEAST));
    }

    proptest! {
        #[test]
        fn more_bytes_in_less_time_save_and_fewer_in_more_do_not(
            bytes: u64,
            more: u64,
            micros in 0u64..1 << 50,
            longer in 0u64..1 << 50,
            rate: u64,
            window in 1u64..3600,
        ) {
            let least = LeastRate::new(rate, Duration::from_secs(window));
            let took = Duration::from_micros(micros);
            let of = |bytes, took| Unfinished { bytes, took, is_held: false };
            let slower = of(bytes, took + Duration::from_micros(longer));
            let faster = of(bytes.saturating_add(more), took);
            if is_victim(&of(bytes, took), &least) {
                prop_assert!(is_victim(&slower, &least));
            } else if took >= least.window {
                prop_assert!(!is_victim(&faster, &least));
            }
        }

        #[test]
        fn it_is_the_average_that_counts(bytes in 0u64..1 << 40, millis in 1_000u64..1 << 30, rate in 1u64..1 << 20) {
            let least = LeastRate::new(rate, Duration::from_secs(1));
            let average = bytes as f64 * 1000.0 / millis as f64;
            prop_assume!((average - rate as f64).abs() > 1e-6 * rate as f64);
            prop_assert_eq!(is_victim(&message(bytes, millis), &least), average < rate as f64);
        }

        #[test]
        fn no_number_is_too_large(bytes: u64, rate: u64, secs: u64, nanos in 0u32..1_000_000_000) {
            let took = Duration::new(secs, nanos);
            let least = LeastRate::new(rate, Duration::from_secs(1));
            is_victim(&Unfinished { bytes, took, is_held: false }, &least);
        }
    }
}
