//! What the kernel may hold for us.
//!
//! In: what was chosen. Out: the kernel's part of the memory bound. Never here: memory of our own.

use std::fs;

use super::check::{Checked, several};
use super::{Listen, ListenAddr};
use crate::bytes::Bytes;

/// What Linux allows where nobody changed it.
const TCP_RMEM_MAX: usize = 6 << 20;

impl Checked {
    /// Receive buffers. What a peer sends over a Unix socket is charged to that peer.
    pub(super) fn kernel_memory(&self) -> Vec<(String, u64)> {
        let c = self.config();
        let is_unix = |listen: &&Listen| matches!(listen.address, ListenAddr::Unix(_));
        let unix = c.listeners.iter().filter(is_unix).count();
        let sockets = (c.listeners.len() - unix) * c.reactors;
        let mut terms = Vec::new();
        if sockets > 0 {
            let (each, bytes) = match c.receive_buffer {
                0 => {
                    let most = tcp_rmem_max().unwrap_or(TCP_RMEM_MAX);
                    let most_said = Bytes(most as u64);
                    (
                        format!("up to {most_said} of receive buffer (net.ipv4.tcp_rmem)"),
                        most,
                    )
                }
                size => (
                    format!("2 receive buffers of {}", Bytes(size as u64)),
                    2 * size,
                ),
            };
            let name = format!(
                "{} connections + {} of backlog {}, each {each}",
                c.max_connections,
                several(sockets, "listener"),
                c.backlog,
            );
            let buffers = c.max_connections + sockets * c.backlog as usize;
            terms.push((name, buffers.saturating_mul(bytes) as u64));
        }
        if unix > 0 {
            terms.push(("Unix sockets: charged to their senders".into(), 0));
        }
        terms
    }
}

/// What the kernel grows a receive buffer to at most; `None`: it does not say.
fn tcp_rmem_max() -> Option<usize> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").ok()?;
    text.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn receive_buffers_that_the_kernel_grows_are_in_the_bound() {
        let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
        config.max_connections = 100;
        config.backlog = 28;
        let fixed = config.clone().validate().unwrap().memory();
        assert_eq!(fixed.kernel_bytes(), 128 * 2 * (64 << 10));

        config.receive_buffer = 0;
        let grown = config.validate().unwrap().memory();
        let most = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap();
        let most: u64 = most.split_whitespace().last().unwrap().parse().unwrap();
        assert_eq!(grown.kernel_bytes(), 128 * most);
        assert!(grown.to_string().contains("net.ipv4.tcp_rmem"));
    }
}
