//! Two network namespaces and the wires between them: a real network with faults on demand.
//!
//! In: which fault. Out: namespaces that a test runs programs in and opens sockets in, and what the kernel
//! counted there. A namespace loses its name as soon as it is open: it ends with the last descriptor,
//! socket and process in it, however a test ends. This kernel has no netem; the faults are nftables',
//! tbf's, routes' and links that are set down.

pub(crate) mod traffic;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::{is_installed, skip};

/// What the tests run beside the program.
const TOOLS: [&str; 4] = ["ip", "nft", "tc", "ss"];

pub(crate) struct Namespace(File);

impl Namespace {
    fn new() -> Result<Self, String> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanin-{}-{number}", std::process::id());
        run(&format!("ip netns add {name}"))?;
        let opened = File::open(format!("/run/netns/{name}"));
        run(&format!("ip netns del {name}"))?;
        let namespace = Self(opened.map_err(|error| error.to_string())?);
        namespace.run("ip link set lo up");
        Ok(namespace)
    }

    /// Does `work` in it. Sockets stay where they were made, programs and threads where they were started.
    #[track_caller]
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter_and_work = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(enter_and_work).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a command in it, to its end; what it printed.
    #[track_caller]
    pub(crate) fn run(&self, words: &str) -> String {
        let done = self.inside(|| run(words));
        done.unwrap_or_else(|error| panic!("{error}"))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// A counter of the kernel's for it, by the name that `nstat` prints without its prefix.
    #[track_caller]
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        let text = self.inside(|| read("snmp") + &read("netstat"));
        // Lines come in pairs: names, then values.
        let lines: Vec<_> = text.lines().collect();
        let mut pairs = lines.chunks_exact(2).flat_map(|pair| {
            pair[0]
                .split_whitespace()
                .zip(pair[1].split_whitespace())
                .skip(1)
        });
        let value = pairs.find(|(found, _)| *found == name);
        let (_, value) = value.unwrap_or_else(|| panic!("the kernel counts no {name}"));
        value.parse().unwrap()
    }

    /// Replaces what nftables does here.
    #[track_caller]
    fn rules(&self, chain: &str) {
        self.run("nft flush ruleset");
        let rules = format!("table ip fault {{\n chain fault {{\n{chain}\n }}\n}}");
        let done = self.inside(|| run_words("nft", &[&rules]));
        done.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Packets that the rules have counted.
    #[track_caller]
    fn struck(&self) -> u64 {
        let listing = self.run("nft list ruleset");
        let counts = listing.split("counter packets ").skip(1);
        let count = |rest: &str| rest.split_whitespace().next()?.parse::<u64>().ok();
        counts.map(|rest| count(rest).unwrap()).sum()
    }
}

/// A server and its clients, with wires between them.
pub(crate) struct Network {
    pub(crate) server: Namespace,
    pub(crate) clients: Namespace,
}

impl Network {
    /// With so many wires; or none, and a printed SKIP that says why.
    pub(crate) fn new(name: &str, wires: u8) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip(name, "namespaces need root");
            return None;
        }
        if let Some(missing) = TOOLS.iter().find(|tool| !is_installed(tool)) {
            skip(name, &format!("`{missing}` is not installed"));
            return None;
        }
        match Namespace::new().and_then(|server| Ok((server, Namespace::new()?))) {
            Err(error) => {
                skip(name, &error);
                None
            }
            Ok((server, clients)) => {
                let network = Self { server, clients };
                (1..=wires).for_each(|wire| network.add_wire(wire));
                Some(network)
            }
        }
    }

    fn add_wire(&self, n: u8) {
        let there = self.server.path();
        let (client, server) = (client_address(n), server_address(n));
        let clients = &self.clients;
        clients.run(&format!(
            "ip link add c{n} type veth peer name s{n} netns {there}"
        ));
        clients.run(&format!("ip address add {client}/24 dev c{n}"));
        self.server
            .run(&format!("ip address add {server}/24 dev s{n}"));
        // Segments go one by one, as on a wire: a fault strikes one, not 64 KiB.
        clients.run(&format!("ip link set c{n} gso_max_segs 1 up"));
        self.server
            .run(&format!("ip link set s{n} gso_max_segs 1 up"));
    }

    /// Each packet is lost with this probability, in both directions.
    pub(crate) fn lose(&self, percent: u8) {
        for end in [&self.server, &self.clients] {
            end.rules(&format!(
                "type filter hook input priority 0;
                 meta l4proto tcp numgen random mod 100 < {percent} counter drop"
            ));
        }
    }

    /// Sends again after a second at the latest, where TCP would double its wait up to two minutes: with much
    /// loss the unluckiest of many connections would take that long. Since Linux 6.15; before, it has to.
    pub(crate) fn retry_often(&self) {
        let tcp = |name, value| std::fs::write(format!("/proc/sys/net/ipv4/tcp_{name}"), value);
        for end in [&self.server, &self.clients] {
            end.inside(|| {
                let _ = tcp("rto_max_ms", "1000");
                tcp("syn_retries", "30").unwrap();
                // The FIN of a closed socket, which the kernel would give up at once after a whole second.
                tcp("orphan_retries", "30").unwrap();
            });
        }
    }

    /// Packets lost on purpose, at the server's end and at the clients'.
    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.server.struck(), self.clients.struck())
    }

    /// Half of the segments for wire 1 take wire 2 instead, which is slow and delays them, and one of ten
    /// comes twice. All others overtake them.
    pub(crate) fn scramble(&self) {
        let (there, here) = (server_address(1), server_address(2));
        self.limit_rate(2, "20mbit", "100ms");
        self.clients
            .run(&format!("ip route add {there} via {here} table 7"));
        self.clients.run("ip rule add fwmark 7 table 7");
        self.clients.rules(&format!(
            "type route hook output priority mangle;
             meta l4proto tcp numgen random mod 10 == 0 counter dup to {here} device c2
             meta l4proto tcp numgen random mod 2 == 0 counter meta mark set 7"
        ));
    }

    /// From the clients to the server. What has to wait longer than `latency` is dropped.
    pub(crate) fn limit_rate(&self, wire: u8, rate: &str, latency: &str) {
        self.clients.run(&format!(
            "tc qdisc add dev c{wire} root tbf rate {rate} burst 10kb latency {latency}"
        ));
    }

    /// Segments for the server carry so many bytes at most.
    pub(crate) fn limit_segments(&self, bytes: u16) {
        // Each end tells the other what it takes: the server's route decides what the clients send.
        self.server.run(&format!(
            "ip route change 10.9.1.0/24 dev s1 src {} advmss {bytes}",
            server_address(1)
        ));
    }

    /// From now on nothing passes, and neither end is told.
    pub(crate) fn cut(&self, wire: u8) {
        self.clients.run(&format!("ip link set c{wire} down"));
    }

    pub(crate) fn mend(&self, wire: u8) {
        self.clients.run(&format!("ip link set c{wire} up"));
    }

    /// A client of the server at this address.
    pub(crate) fn connect(&self, to: SocketAddr) -> TcpStream {
        self.clients.inside(|| TcpStream::connect(to).unwrap())
    }
}

fn client_address(wire: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, wire, 1)
}

pub(crate) fn server_address(wire: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, wire, 2)
}

/// Runs a command of plain words to its end; what it printed, or what was wrong.
fn run(words: &str) -> Result<String, String> {
    let words: Vec<_> = words.split_whitespace().collect();
    run_words(words[0], &words[1..])
}

fn run_words(program: &str, words: &[&str]) -> Result<String, String> {
    let name = format!("`{program} {}`", words.join(" "));
    let done = Command::new(program).args(words).output();
    let done = done.map_err(|error| format!("{name}: {error}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&done.stderr);
        Err(format!("{name}: {}: {}", done.status, said.trim()))
    }
}
