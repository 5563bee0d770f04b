//! What is refused, with the option, the value and the number that would do.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::listen::twice;
use super::{Config, ListenAddr, OnFull, OnOversize};
use crate::bytes::Bytes;
use crate::conn::MORE_BYTES;
use crate::frame::{Framing, OversizePolicy};
use crate::peer::{MAX_REACTORS, MAX_SLOTS};
use crate::policy::{Coalesce, LeastRate, Spacing};
use crate::reactor::{
    LARGEST_READ, MARKS, SMALLEST_READ, claim_len, slot_bytes, staging_class, staging_most,
};
use crate::status::MemoryBound;

/// The smallest ring that is chosen when none is given.
const RING_BYTES: usize = 4 << 20;
/// Bytes of a ring at most: more than a machine has, and a sum of them is a number.
const MOST_RING: usize = 1 << 40;
/// Consumers and reactors at most: a bit each in a word.
const MOST_THREADS: usize = 64;
/// The longest deadline. Ticks of 8 ms wrap after 397 days, and what is to come must be told from what is past.
const LONGEST: Duration = Duration::from_secs(99 * 24 * 60 * 60);
/// Bytes of a consumer's table of peers, for a connection.
const PEER_ENTRY: usize = 24;
/// Stacks, wheels, event lists, the list of ended connections: for each reactor.
const REACTOR_BYTES: usize = 1 << 20;

/// One setting that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting, as [`Config`] names it.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it, and what would do.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.setting, self.value, self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with a configuration, so that it can be mended at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.0.iter().enumerate() {
            let line_end = if place == 0 { "" } else { "\n" };
            write!(f, "{line_end}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A configuration that can be bound. Only [`Config::validate`] makes one.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(super) config: Config,
    pub(super) ring_bytes: usize,
    pub(super) low: usize,
    pub(super) high: usize,
    /// An empty ring is begun anew from here on.
    pub(super) start_over: usize,
}

#[cfg(feature = "sim")]
impl Checked {
    /// Rings of a simulation are smaller than what a turn may read.
    pub(crate) fn start_rings_over_often(&mut self) {
        self.start_over = self.ring_bytes / 16;
    }
}

/// `tcp://ADDRESS:PORT` or `unix://PATH`.
impl FromStr for ListenAddr {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = |reason: String| ConfigError {
            setting: "listen",
            value: text.into(),
            reason,
        };
        if let Some(path) = text.strip_prefix("unix://") {
            // sun_path has 108 bytes, one of them for the NUL.
            return match path.len() {
                0 => Err(refuse("a path must follow unix://".into())),
                1..108 => Ok(Self::Unix(PathBuf::from(path))),
                len => Err(refuse(format!(
                    "the path has {len} bytes, at most 107 are possible"
                ))),
            };
        }
        let Some(address) = text.strip_prefix("tcp://") else {
            return Err(refuse("must begin with tcp:// or unix://".into()));
        };
        match address.parse::<SocketAddr>() {
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) => Err(refuse(
                "must be an IP address and a port, like tcp://127.0.0.1:5140 or tcp://[::1]:5140 \
                 (names are not looked up)"
                    .into(),
            )),
        }
    }
}

impl Config {
    /// The defaults, listening at `address`: `tcp://ADDRESS:PORT` or `unix://PATH`.
    pub fn listen(address: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            listeners: vec![address.parse()?],
            ..Self::default()
        })
    }

    /// Checks everything, or says everything that is wrong.
    pub fn validate(self) -> Result<Checked, ConfigErrors> {
        let mut errors = Vec::new();
        let mut refuse = |setting, value: String, reason: String| {
            errors.push(ConfigError {
                setting,
                value,
                reason,
            });
        };
        if self.listeners.is_empty() || self.listeners.len() > 255 {
            refuse(
                "listeners",
                self.listeners.len().to_string(),
                "1 to 255 are possible".into(),
            );
        }
        if let Some(address) = twice(&self.listeners) {
            let reason = "two listeners cannot have one address";
            refuse("listeners", address, reason.into());
        }
        for (setting, value) in [("consumers", self.consumers), ("reactors", self.reactors)] {
            if !(1..=MOST_THREADS).contains(&value) {
                refuse(
                    setting,
                    value.to_string(),
                    format!("1 to {MOST_THREADS} are possible"),
                );
            }
        }
        const { assert!(MOST_THREADS <= MAX_REACTORS) };
        if !(1..=MAX_SLOTS).contains(&self.max_connections) {
            let reason = format!("1 to {MAX_SLOTS} are possible");
            refuse("max_connections", self.max_connections.to_string(), reason);
        }
        if !(16..=1 << 30).contains(&self.max_message) {
            refuse(
                "max_message",
                self.max_message.to_string(),
                "16 B to 1 GiB are possible".into(),
            );
        }
        if self.staging_bytes < self.max_message {
            let reason = format!(
                "must hold one largest message, {}",
                Bytes(self.max_message as u64)
            );
            refuse("staging_bytes", self.staging_bytes.to_string(), reason);
        }
        if self.receive_buffer != 0 && !(1 << 10..=1 << 30).contains(&self.receive_buffer) {
            let value = self.receive_buffer.to_string();
            refuse(
                "receive_buffer",
                value,
                "1 KiB to 1 GiB are possible, or the kernel's".into(),
            );
        }
        let legal = Duration::from_micros(10)..=Duration::from_millis(10);
        if let Coalesce::Apart(apart) = self.coalesce
            && !legal.contains(&apart)
        {
            let reason = "10us to 10ms are possible, or `auto` or `off`".into();
            refuse("coalesce", format!("{apart:?}"), reason);
        }
        if self.backlog == 0 {
            refuse("backlog", "0".into(), "must be at least 1".into());
        }
        let deadlines = &self.deadlines;
        for (setting, deadline) in [
            ("deadlines.idle", deadlines.idle),
            ("deadlines.message", deadlines.message),
            ("deadlines.stall", deadlines.stall),
            ("deadlines.age", deadlines.age),
        ] {
            if deadline.is_some_and(|time| time.is_zero()) {
                let reason = "everybody would be closed at once; without a value it is off";
                refuse(setting, "0".into(), reason.into());
            }
        }
        for (setting, time) in [
            ("deadlines.idle", deadlines.idle),
            ("deadlines.message", deadlines.message),
            ("deadlines.age", deadlines.age),
            ("deadlines.linger", Some(deadlines.linger)),
        ] {
            if let Some(time) = time.filter(|time| *time > LONGEST) {
                let reason = "at most 99 days are possible".into();
                refuse(setting, format!("{time:?}"), reason);
            }
        }
        self.overload(&mut refuse);
        if let Some(least) = self.least_rate {
            self.least_rate(least, &mut refuse);
        }
        self.rates.check(&self.listeners, &mut refuse);
        self.per_source.check(&mut refuse);
        super::budgets::check(&self.budgets, &mut refuse);
        let (ring_bytes, low, high) = self.ring(&mut refuse);
        // Room for what a turn reads, staged parts apart, and for what comes while the consumer wakes.
        let start_over = self.budgets.bytes.saturating_add(2 * LARGEST_READ);
        if errors.is_empty() {
            Ok(Checked {
                config: self,
                ring_bytes,
                low,
                high,
                start_over,
            })
        } else {
            Err(ConfigErrors(errors))
        }
    }

    fn least_rate(&self, least: LeastRate, refuse: &mut impl FnMut(&'static str, String, String)) {
        if least.bytes_per_sec == 0 {
            let reason = "nobody is slower; without a value it is off";
            refuse("least_rate.bytes_per_sec", "0".into(), reason.into());
        }
        let window = format!("{:?}", least.window);
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&least.window) {
            let reason = "1 s to 1 h are possible";
            refuse("least_rate.window", window, reason.into());
        }
    }

    /// The ring's size and marks. Below the low mark any legal claim must fit wherever the wrap stands:
    /// a claim of at most `(ring - low) / 2` does, which a search over all positions showed.
    fn ring(&self, refuse: &mut impl FnMut(&'static str, String, String)) -> (usize, usize, usize) {
        let max = self.max_message.clamp(1, 1 << 30);
        let claim = claim_len(max + MARKS, SMALLEST_READ, max);
        let smallest = (4 * claim).next_power_of_two();
        let ring = self.ring_bytes.unwrap_or(smallest.max(RING_BYTES));
        if ring > MOST_RING {
            let reason = format!("{} at most", Bytes(MOST_RING as u64));
            refuse("ring_bytes", ring.to_string(), reason);
            return (RING_BYTES, 0, 0);
        }
        if !ring.is_power_of_two() {
            let lower = ring.checked_ilog2().map_or(0, |log| 1 << log);
            refuse(
                "ring_bytes",
                ring.to_string(),
                format!(
                    "must be a power of two, for messages of {max} bytes at least {smallest} bytes; \
                     {lower} bytes carry messages of up to {} bytes",
                    largest_message(lower, lower / 2)
                ),
            );
            return (RING_BYTES, 0, 0);
        }
        let low = self.ring_low_bytes.unwrap_or(ring / 2);
        let high = self.ring_high_bytes.unwrap_or(ring - ring / 8);
        if low >= high || high > ring {
            let value = format!("{low} and {high}");
            refuse(
                "ring_low_bytes, ring_high_bytes",
                value,
                format!("low < high <= {ring}, the ring"),
            );
        } else if claim > (ring - low) / 2 {
            let legal = largest_message(ring, low);
            let else_what = if legal < max {
                format!("the largest message for this ring is {legal} bytes")
            } else {
                format!(
                    "messages of up to {legal} bytes fit, but of small ones many are cut at once"
                )
            };
            refuse(
                "ring_bytes",
                Bytes(ring as u64).to_string(),
                format!(
                    "too small for messages of {max} bytes: the smallest ring for them is {} bytes \
                     (with its low mark at half), {else_what}",
                    smallest
                ),
            );
        }
        (ring, low, high)
    }
}

pub(super) fn several(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The largest message whose claim fits, by halving; 0: none does.
fn largest_message(ring: usize, low: usize) -> usize {
    let fits = |max: usize| claim_len(max + MARKS, SMALLEST_READ, max) <= (ring - low) / 2;
    // Tiny messages have large claims too (many may be cut in one read): those are tried one by one.
    let (mut legal, mut illegal) = (SMALLEST_READ, ring);
    if !fits(legal) {
        return (1..legal).rev().find(|max| fits(*max)).unwrap_or(0);
    }
    while illegal - legal > 1 {
        let middle = legal + (illegal - legal) / 2;
        if fits(middle) {
            legal = middle
        } else {
            illegal = middle
        }
    }
    legal
}

impl Checked {
    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of peers in one record at most: what was kept of a message that began before, and one read.
    pub fn largest_record(&self) -> usize {
        self.config.max_message + MARKS + LARGEST_READ
    }

    /// Bytes of each ring.
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// For each reactor. Shared out, not shared: a reactor asks nobody before it reads.
    pub(super) fn staging_bytes(&self) -> usize {
        (self.config.staging_bytes / self.config.reactors).max(self.config.max_message)
    }

    /// For each reactor.
    pub(super) fn spacing(&self) -> Option<Spacing> {
        let coalesce = match (self.config.coalesce, self.config.on_full) {
            // What loses messages is not to be filled in bursts, unless somebody says so.
            (Coalesce::Auto, OnFull::Discard) => Coalesce::Off,
            (said, _) => said,
        };
        // Nor so much that a ring, or what the kernel holds of one sender, is full of it.
        let buffer = match self.config.receive_buffer {
            0 => usize::MAX,
            bytes => bytes,
        };
        Spacing::new(coalesce, buffer.min(self.ring_bytes / 4) as u64)
    }

    /// The sum of promise 1, with its terms.
    pub fn memory(&self) -> MemoryBound {
        let c = &self.config;
        let term = |name: &str, bytes: usize| (name.to_owned(), bytes as u64);
        let rings = c.reactors * c.consumers;
        let slots = c.reactors * c.max_connections;
        // The oldest holder of each ring may go one message beyond the budget.
        let largest = c.max_message + MARKS;
        let arenas = staging_most(self.staging_bytes(), largest).saturating_mul(c.reactors);
        let beyond = rings * staging_class(largest, largest);
        let smallest_part = staging_class(1, largest);
        let scratch = self.largest_record();
        let ring = Bytes(self.ring_bytes as u64);
        let mut bound = MemoryBound {
            user: vec![
                term(
                    &format!("{} of {ring}", several(rings, "ring")),
                    rings * self.ring_bytes,
                ),
                // A slab and a table double when they grow, and keep their size: their unused halves
                // count too, and any reactor may once have had all connections.
                term(
                    &format!("{slots} slots of {} B, twice", slot_bytes()),
                    2 * slots * slot_bytes(),
                ),
                term(
                    &format!("{} pause boxes of {MORE_BYTES} B", c.max_connections),
                    c.max_connections * MORE_BYTES,
                ),
                term(
                    &format!("{} peers of {PEER_ENTRY} B, twice", slots * c.consumers),
                    2 * slots * c.consumers * PEER_ENTRY,
                ),
                // Connections that come and go within a batch, each of at least 128 bytes of records, were
                // measured to take as much as the batch, and half more while the tables grow.
                term(
                    &format!("{} of a batch's connections", several(rings, "table")),
                    rings * (self.ring_bytes / 8) / 2 * 3,
                ),
                term("staging", arenas.saturating_add(beyond)),
                term(
                    &format!("{} smallest parts of {smallest_part} B", c.max_connections),
                    c.max_connections * smallest_part,
                ),
                term(
                    &several(c.reactors, "reactor"),
                    c.reactors * (REACTOR_BYTES + scratch),
                ),
                term("the program", 8 << 20),
            ],
            kernel: self.kernel_memory(),
        };
        bound.user.extend(c.per_source.memory(c.max_connections));
        bound.user.extend(self.memory_of_rates());
        bound
    }

    pub(super) fn oversize(&self, framing: &Framing) -> OversizePolicy {
        match self.config.on_oversize {
            Some(OnOversize::Truncate) => OversizePolicy::Truncate,
            Some(OnOversize::Discard) => OversizePolicy::Discard,
            Some(OnOversize::Close) => OversizePolicy::Close,
            None if framing.is_counted() => OversizePolicy::Close,
            None => OversizePolicy::Truncate,
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
