//! Settings that have less effect than they say: without the one that they belong to, or beyond what the
//! kernel gives.
//!
//! In: a configuration that is legal, and the kernel's limits. Out: notes, for it works all the same; and a
//! refusal of the one thing that a listener is not opened with. Never here: a limit of the library's.

use std::fs;

use fanin::{Config, OnConsumerStall, PerSource, Rate, Rates};
use rustix::io::Result;
use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size};
use rustix::net::{AddressFamily, SocketType, socket};

/// What the kernel gives at most, whatever is asked for; `None`: it does not say.
pub(crate) struct Kernel {
    backlog: Option<u64>,
    receive_buffer: Option<usize>,
}

impl Kernel {
    pub(crate) fn read() -> Self {
        let backlog = fs::read_to_string("/proc/sys/net/core/somaxconn");
        Self {
            backlog: backlog.ok().and_then(|text| text.trim().parse().ok()),
            receive_buffer: largest_buffer().ok(),
        }
    }
}

/// As a listener asks for it, which works also where /proc does not show the limit, as in a network namespace.
fn largest_buffer() -> Result<usize> {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    set_socket_recv_buffer_size(&socket, i32::MAX as usize)?;
    // Linux doubles what it grants.
    Ok(socket_recv_buffer_size(&socket)? / 2)
}

/// What does nothing without another setting; `is_given`: was this option typed, or does it stand in the file?
pub(crate) fn alone(config: &Config, is_given: impl Fn(&str) -> bool) -> Vec<String> {
    let mut rates = Rates::default();
    rates.burst = config.rates.burst;
    let mut per_source = PerSource::default();
    per_source.ipv6_prefix = config.per_source.ipv6_prefix;
    let own = config
        .listeners
        .iter()
        .any(|listen| listen.rate != Rate::default());
    let of_sources = config.per_source != per_source || config.rates.source != Rate::default();
    let alone = [
        ("burst", config.rates == rates && !own, "a rate"),
        (
            "least-rate-window",
            config.least_rate.is_none(),
            "--least-rate",
        ),
        ("source-prefix", !of_sources, "a limit for each source"),
    ];
    let alone = alone
        .into_iter()
        .filter(|(option, is_alone, _)| *is_alone && is_given(option));
    let mut notes: Vec<_> = alone
        .map(|(option, _, without)| format!("--{option} has no effect without {without}"))
        .collect();
    if config.on_consumer_stall == OnConsumerStall::Evict && config.consumers == 1 {
        notes.push(
            "--on-consumer-stall evict is for several consumers: of one, who comes back waits for the same"
                .to_owned(),
        );
    }
    notes
}

/// What the kernel does not give, and nobody opens a listener without.
pub(crate) fn refused(config: &Config, kernel: &Kernel) -> Option<String> {
    let asked = config.receive_buffer;
    let most = kernel.receive_buffer.filter(|most| asked > *most)?;
    Some(format!(
        "--receive-buffer {asked}: the kernel gives {most} at most (net.core.rmem_max), or grows it with `auto`"
    ))
}

/// What the kernel does not give, where less will do.
pub(crate) fn beyond(config: &Config, kernel: &Kernel) -> Option<String> {
    let asked = u64::from(config.backlog);
    let most = kernel.backlog.filter(|most| asked > *most)?;
    Some(format!(
        "--backlog {asked}: the kernel gives {most} at most (net.core.somaxconn)"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_set_and_does_nothing_is_told_and_a_default_is_not() {
        let mut config = Config::default();
        assert_eq!(alone(&config, |_| false), [""; 0]);
        let all = alone(&config, |_| true);
        assert_eq!(
            all,
            [
                "--burst has no effect without a rate",
                "--least-rate-window has no effect without --least-rate",
                "--source-prefix has no effect without a limit for each source",
            ]
        );
        config.on_consumer_stall = OnConsumerStall::Evict;
        assert!(alone(&config, |_| false)[0].contains("for several consumers"));
        config.consumers = 2;
        config.rates.source.messages_per_sec = Some(9);
        config.least_rate = Some(fanin::LeastRate::new(100, Duration::from_secs(10)));
        assert_eq!(alone(&config, |_| true), [""; 0]);
    }

    #[test]
    fn what_the_kernel_does_not_give_is_told_or_refused() {
        let config = Config::default();
        let ample = Kernel {
            backlog: Some(1 << 20),
            receive_buffer: None,
        };
        assert_eq!(beyond(&config, &ample), None);
        assert_eq!(refused(&config, &ample), None);
        let small = Kernel {
            backlog: Some(128),
            receive_buffer: Some(1 << 12),
        };
        assert_eq!(
            beyond(&config, &small).unwrap(),
            "--backlog 1024: the kernel gives 128 at most (net.core.somaxconn)"
        );
        assert_eq!(
            refused(&config, &small).unwrap(),
            "--receive-buffer 65536: the kernel gives 4096 at most (net.core.rmem_max), or grows it with `auto`"
        );
    }
}
