//! What the kernel says about a child: descriptors and whose they are, threads, memory, CPU.
//!
//! In: a process id and the port it listens on. Out: numbers from /proc. Never here: what the child says
//! about itself.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};

/// One look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) millis: u64,
    /// Connections that the process holds a descriptor of.
    pub(crate) descriptors: usize,
    /// Senders that have come and have not left.
    pub(crate) present: usize,
    pub(crate) threads: u64,
    pub(crate) rss_kib: u64,
    pub(crate) peak_kib: u64,
    pub(crate) cpu_millis: u64,
}

pub(crate) struct Watched {
    pid: u32,
    port: u16,
    /// The listener, and what else there was before the first connection.
    before: HashSet<u64>,
    /// The peer of each connection, by inode: a connection that was reset is in no table any more.
    peers: HashMap<u64, SocketAddrV4>,
    /// The peers of the connections that were open at the last look.
    held: HashSet<SocketAddrV4>,
}

impl Watched {
    pub(crate) fn new(pid: u32, port: u16) -> Self {
        let mut new = Self {
            pid,
            port,
            before: HashSet::new(),
            peers: HashMap::new(),
            held: HashSet::new(),
        };
        new.before = new.sockets();
        new
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).unwrap_or_default()
    }

    fn sockets(&self) -> HashSet<u64> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            return HashSet::new();
        };
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter_map(|link| inode(link.to_str()?)).collect()
    }

    pub(crate) fn look(&mut self, millis: u64, present: usize) -> Sample {
        let mut open = self.sockets();
        open.retain(|inode| !self.before.contains(inode));
        if open.iter().any(|inode| !self.peers.contains_key(inode)) {
            let table = self.file("net/tcp");
            let rows = table.lines().filter_map(row);
            let ours =
                rows.filter(|(local, remote, _)| local.port() == self.port && remote.port() != 0);
            self.peers
                .extend(ours.map(|(_, remote, inode)| (inode, remote)));
        }
        let peers = open.iter().filter_map(|inode| self.peers.get(inode));
        self.held = peers.copied().collect();
        let status = self.file("status");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        Sample {
            millis,
            descriptors: open.len(),
            present,
            threads: number("Threads:"),
            rss_kib: number("VmRSS:"),
            peak_kib: number("VmHWM:"),
            cpu_millis: cpu_millis(&self.file("stat")),
        }
    }

    /// Did the process hold the connection of this peer when it was looked at last?
    pub(crate) fn holds(&self, peer: SocketAddrV4) -> bool {
        self.held.contains(&peer)
    }
}

fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Local and remote address and inode of a row of /proc/net/tcp.
fn row(line: &str) -> Option<(SocketAddrV4, SocketAddrV4, u64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let address = |word: &str| {
        let (address, port) = word.split_once(':')?;
        // The kernel prints the number that it has in memory.
        let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(SocketAddrV4::new(Ipv4Addr::from(address), port))
    };
    let inode = words.get(9)?.parse().ok()?;
    Some((address(words.get(1)?)?, address(words.get(2)?)?, inode))
}

/// utime and stime. Linux counts in hundredths of a second here on every machine.
fn cpu_millis(stat: &str) -> u64 {
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let words = after.split_whitespace().skip(11).take(2);
    words
        .filter_map(|word| word.parse::<u64>().ok())
        .sum::<u64>()
        * 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let line = "   3: 0100007F:1F90 0500017F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4242 1 0";
        let (local, remote) = ("127.0.0.1:8080", "127.1.0.5:54321");
        let read = (local.parse().unwrap(), remote.parse().unwrap(), 4242);
        assert_eq!(row(line), Some(read));
        assert_eq!(row("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(inode("socket:[4242]"), Some(4242));
        assert_eq!(inode("pipe:[4242]"), None);
        let stat = "7 (a b) c) S 1 1 1 0 -1 4194304 100 0 0 0 12 30 0 0 20 0 1 0 100";
        assert_eq!(cpu_millis(stat), 420);
    }
}
