//! What is refused of the settings for overload.
//!
//! In: a [`Config`]. Out: refusals with the value and what would do. Never here: what the layers do.

use super::{Config, OnConsumerStall};

impl Config {
    /// Refuses what cannot work.
    pub(super) fn overload(&self, refuse: &mut impl FnMut(&'static str, String, String)) {
        if self.consumer_stall.is_some_and(|time| time.is_zero()) {
            let reason = "every consumer would be stalled at once; without a value it is off";
            refuse("consumer_stall", "0".into(), reason.into());
        }
        if self.consumer_stall.is_none() && self.on_consumer_stall != OnConsumerStall::Wait {
            refuse(
                "on_consumer_stall",
                format!("{:?}", self.on_consumer_stall),
                "can never fire, for consumer_stall is off; Wait, or a time for it, would do"
                    .into(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn refused(change: impl Fn(&mut Config)) -> Vec<&'static str> {
        let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
        change(&mut config);
        let errors = config.validate().err();
        errors.map_or(Vec::new(), |e| e.0.iter().map(|e| e.setting).collect())
    }

    #[test]
    fn a_stall_of_no_time_and_a_policy_that_never_fires_are_refused() {
        assert_eq!(refused(|_| {}), [""; 0]);
        let none = |c: &mut Config| c.consumer_stall = Some(Duration::ZERO);
        assert_eq!(refused(none), ["consumer_stall"]);
        for policy in [OnConsumerStall::Evict, OnConsumerStall::Stop] {
            let set = |c: &mut Config| c.on_consumer_stall = policy;
            assert_eq!(refused(set), [""; 0]);
            let off = |c: &mut Config| (set(c), c.consumer_stall = None).1;
            assert_eq!(refused(off), ["on_consumer_stall"]);
        }
    }
}
