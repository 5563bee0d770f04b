//! What a process has used, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// What one thread has used so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thread {
    pub(crate) name: String,
    pub(crate) cpu: Duration,
    pub(crate) voluntary: u64,
    pub(crate) involuntary: u64,
    is_asleep: bool,
}

/// The threads of a process, by their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(BTreeMap<u32, Thread>);

impl Threads {
    pub(crate) fn of(pid: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        // One that ends while it is looked at is not among them.
        let seen = tasks.flatten().filter_map(|task| {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            let id = task.file_name().to_str()?.parse().ok()?;
            let status = read("status")?;
            let thread = Thread {
                name: read("comm")?.trim().to_owned(),
                // Nanoseconds as the scheduler counts.
                cpu: Duration::from_nanos(read("schedstat")?.split(' ').next()?.parse().ok()?),
                voluntary: field(&status, "voluntary_ctxt_switches:")?,
                involuntary: field(&status, "nonvoluntary_ctxt_switches:")?,
                is_asleep: status.contains("\nState:\tS"),
            };
            Some((id, thread))
        });
        Self(seen.collect())
    }

    pub(crate) fn cpu(&self, name: &str) -> Duration {
        let named = self.0.values().filter(|thread| thread.name.contains(name));
        named.map(|thread| thread.cpu).sum()
    }

    pub(crate) fn switches(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(v, i), thread| {
            (v + thread.voluntary, i + thread.involuntary)
        })
    }

    /// When it rests: all asleep, and nothing was used in between.
    pub(crate) fn at_rest(pid: u32) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut before = Self::of(pid);
        loop {
            std::thread::sleep(Duration::from_millis(5));
            let now = Self::of(pid);
            let asleep = now.0.values().all(|thread| thread.is_asleep);
            if asleep && now.cpu("") == before.cpu("") && now.switches() == before.switches() {
                return now;
            }
            assert!(Instant::now() < deadline, "process {pid} never rests");
            before = now;
        }
    }
}

/// A number of a `status` file.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// KiB: the most that was ever resident, and what is resident now of its own (not of a file).
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let of = |name| field(&status, name).expect("Linux says so");
    (of("VmHWM:"), of("RssAnon:"))
}

/// As many descriptors as this process may have.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit is allowed");
}
