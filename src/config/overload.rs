//! What is refused of the settings for overload.
//!
//! In: a [`Config`]. Out: refusals with the value and what would do. Never here: what the layers do.

use std::time::Duration;

use super::{Config, Listen, ListenAddr, OnConsumerStall, Pressure, PressureAction};
use crate::net::Keepalive;

impl Config {
    /// Refuses what cannot work.
    pub(super) fn overload(&self, refuse: &mut impl FnMut(&'static str, String, String)) {
        if self
            .listeners
            .iter()
            .any(|listen| listen.max_connections == Some(0))
        {
            let reason = "nobody could connect; at least 1, or no value for no limit of its own";
            refuse("listeners.max_connections", "0".into(), reason.into());
        }
        if self.consumer_stall.is_some_and(|time| time.is_zero()) {
            let reason = "every consumer would be stalled at once; without a value it is off";
            refuse("consumer_stall", "0".into(), reason.into());
        }
        let Pressure { after, action } = self.pressure;
        if after.is_some_and(|time| time.is_zero()) {
            let reason = "listeners would open and shut all the time; without a value it is off";
            refuse("pressure.after", "0".into(), reason.into());
        }
        if action == PressureAction::CloseListener {
            let is_inherited = |listen: &Listen| matches!(listen.address, ListenAddr::Inherited(_));
            let reason = if after.is_none() {
                "can never fire, for pressure.after is off; StopAccepting, or a time for it, would do"
            } else if self.listeners.iter().any(is_inherited) {
                "a descriptor that was inherited cannot be opened again; StopAccepting would do"
            } else {
                ""
            };
            if !reason.is_empty() {
                refuse("pressure.action", "CloseListener".into(), reason.into());
            }
        }
        self.vanished(refuse);
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

/// What the kernel takes for keepalive.
const MOST_KEEPALIVE: Duration = Duration::from_secs(32_767);
const MOST_PROBES: u32 = 127;
/// `TCP_USER_TIMEOUT` is a number of milliseconds that the kernel keeps as an `int`.
const MOST_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

impl Config {
    /// The kernel would refuse it for each connection, and nobody could come in.
    fn vanished(&self, refuse: &mut impl FnMut(&'static str, String, String)) {
        let whole = Duration::from_secs(1)..=MOST_KEEPALIVE;
        let Keepalive {
            idle,
            interval,
            probes,
        } = self.keepalive;
        if !idle.is_zero() {
            if !whole.contains(&idle) || !whole.contains(&interval) {
                let value = format!("{idle:?}, probes {interval:?} apart");
                let reason =
                    "each must be 1 s to 32767 s; no keepalive, or 60 s and 15 s, would do";
                refuse("keepalive.idle", value, reason.into());
            }
            if !(1..=MOST_PROBES).contains(&probes) {
                let reason = format!("1 to {MOST_PROBES} are possible");
                refuse("keepalive.probes", probes.to_string(), reason);
            }
        }
        let whole = Duration::from_millis(1)..=MOST_USER_TIMEOUT;
        if let Some(time) = self.user_timeout.filter(|time| !whole.contains(time)) {
            let reason = "1 ms to 24 days are possible; without a value it is the kernel's";
            refuse("user_timeout", format!("{time:?}"), reason.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut Config)) -> Vec<&'static str> {
        let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
        change(&mut config);
        let errors = config.validate().err();
        errors.map_or(Vec::new(), |e| e.0.iter().map(|e| e.setting).collect())
    }

    #[test]
    fn a_listener_that_cannot_be_opened_again_may_not_be_closed() {
        let close = |c: &mut Config| c.pressure.action = PressureAction::CloseListener;
        assert_eq!(refused(close), ["pressure.action"], "it never fires");
        let after = |c: &mut Config| (close(c), c.pressure.after = Some(Duration::from_secs(1))).1;
        assert_eq!(refused(after), [""; 0]);
        let inherited = |c: &mut Config| {
            after(c);
            let fd = std::fs::File::open("/dev/null").unwrap();
            c.listeners[0].address = ListenAddr::Inherited(std::sync::Arc::new(fd.into()));
        };
        assert_eq!(refused(inherited), ["pressure.action"]);
        let wait = |c: &mut Config| {
            (
                inherited(c),
                c.pressure.action = PressureAction::StopAccepting,
            )
                .1
        };
        assert_eq!(refused(wait), [""; 0]);
        let none = |c: &mut Config| c.pressure.after = Some(Duration::ZERO);
        assert_eq!(refused(none), ["pressure.after"]);
    }

    #[test]
    fn a_listener_for_nobody_is_refused() {
        let set = |most| refused(|c| c.listeners[0].max_connections = Some(most));
        assert_eq!(set(1), [""; 0]);
        assert_eq!(set(0), ["listeners.max_connections"]);
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

    #[test]
    fn what_the_kernel_does_not_take_is_refused_before_it_ends_each_connection() {
        let idle = |time: Duration| move |c: &mut Config| c.keepalive.idle = time;
        assert_eq!(refused(idle(Duration::ZERO)), [""; 0]);
        assert_eq!(refused(idle(Duration::from_secs(1))), [""; 0]);
        assert_eq!(refused(idle(MOST_KEEPALIVE)), [""; 0]);
        assert_eq!(
            refused(idle(Duration::from_millis(999))),
            ["keepalive.idle"]
        );
        let late = MOST_KEEPALIVE + Duration::from_secs(1);
        assert_eq!(refused(idle(late)), ["keepalive.idle"]);
        let often = |c: &mut Config| c.keepalive.interval = Duration::from_millis(250);
        assert_eq!(refused(often), ["keepalive.idle"]);
        assert_eq!(refused(|c| c.keepalive.probes = 0), ["keepalive.probes"]);
        assert_eq!(refused(|c| c.keepalive.probes = 128), ["keepalive.probes"]);
        let user = |time: Duration| move |c: &mut Config| c.user_timeout = Some(time);
        assert_eq!(refused(user(MOST_USER_TIMEOUT)), [""; 0]);
        assert_eq!(refused(user(Duration::ZERO)), ["user_timeout"]);
        let long = MOST_USER_TIMEOUT + Duration::from_secs(1);
        assert_eq!(refused(user(long)), ["user_timeout"]);
    }
}
