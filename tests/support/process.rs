//! What the kernel and the program itself say about the running program.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::Value;

use super::{Fanin, PATIENCE, connections, wait_for};

/// Processor time of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime {
    /// Of the threads that bytes go through: not of the one that looks each second what is to be told, whose few
    /// milliseconds are mostly those of fetching code that the kernel has put away meanwhile.
    data: Duration,
    all: Duration,
}

impl CpuTime {
    /// Where nothing is to be done, those that bytes go through took less than so much, and nobody spun.
    #[track_caller]
    pub(crate) fn assert_rest(self, since: Self, most: Duration) {
        let (data, all) = (self.data - since.data, self.all - since.all);
        assert!(data < most, "{data:?} of processor time, of {all:?} in all");
        assert!(all < 5 * most, "{all:?} of processor time");
    }
}

impl Fanin {
    fn status(&self, of: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{of}", self.pid())).unwrap()
    }

    /// Where the kernel tells of each of its threads.
    fn tasks(&self) -> impl Iterator<Item = String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        tasks.map(|task| format!("task/{}", task.unwrap().file_name().display()))
    }

    /// How often its threads have gone to sleep on their own, all together.
    pub(crate) fn wake_ups(&self) -> u64 {
        let status = self
            .tasks()
            .map(|task| self.status(&format!("{task}/status")));
        let slept = status.map(|status| number(&status, "voluntary_ctxt_switches:"));
        slept.sum()
    }

    /// Processor time so far.
    pub(crate) fn cpu_time(&self) -> CpuTime {
        let of = |task: &String| {
            let times = self.status(&format!("{task}/schedstat"));
            let ran = times.split_whitespace().next().unwrap();
            Duration::from_nanos(ran.parse().unwrap())
        };
        let carries = |task: &&String| {
            let name = self.status(&format!("{task}/comm"));
            name.starts_with("fanin-reactor") || name.starts_with("fanin-sink")
        };
        let all: Vec<_> = self.tasks().collect();
        let data: Vec<_> = all.iter().filter(carries).collect();
        assert!(data.len() >= 2, "a reactor and a sink: {data:?}");
        CpuTime {
            data: data.into_iter().map(of).sum(),
            all: all.iter().map(of).sum(),
        }
    }

    /// None of its threads runs until it gets a SIGCONT.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        // The signal is there at once, but each of its threads stops when it comes to see it.
        wait_for("all of its threads stopped", PATIENCE, || {
            let state = |task: String| self.status(&format!("{task}/status"));
            let mut states = self.tasks().map(state);
            states
                .all(|state| state.contains("State:\tT"))
                .then_some(())
        });
    }

    /// Bytes of the file that it writes to.
    pub(crate) fn written(&self) -> u64 {
        fs::metadata(self.place.path("output")).unwrap().len()
    }

    /// Bytes of anonymous memory.
    pub(crate) fn memory(&self) -> u64 {
        number(&self.status("status"), "RssAnon:") << 10
    }

    /// The sum that it printed at its start.
    pub(crate) fn printed_sum(&self) -> u64 {
        let said = self.said();
        let (_, sum) = said.split_once("memory at most ").unwrap();
        let mut words = sum.split_whitespace();
        let number: f64 = words.next().unwrap().parse().unwrap();
        let unit = match words.next().unwrap() {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            other => panic!("{other} in: {sum}"),
        };
        // Half of the last digit, which was rounded.
        ((number + 0.05) * f64::from(unit)) as u64
    }

    /// Sets its soft limit of descriptors.
    fn limit_descriptors(&self, soft: u64) {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit {
            current: Some(soft),
            maximum,
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap();
    }

    /// Its files may not grow beyond so many bytes.
    pub(crate) fn limit_files(&self, bytes: u64) {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: getrlimit(Resource::Fsize).maximum,
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).unwrap();
    }

    fn descriptor_numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| name.parse().unwrap()).collect()
    }

    /// Its sockets, and nothing that it has open for a moment to write a report.
    pub(crate) fn sockets(&self) -> usize {
        let targets = self
            .descriptor_numbers()
            .into_iter()
            .filter_map(|number| fs::read_link(format!("/proc/{}/fd/{number}", self.pid())).ok());
        let sockets = targets.filter(|target| target.to_string_lossy().starts_with("socket:"));
        sockets.count()
    }

    /// Lets it open so many descriptors more.
    pub(crate) fn leave_descriptors(&self, free: usize) {
        let taken = self.descriptor_numbers();
        let mut vacant = (0..).filter(|number| !taken.contains(number));
        // The limit is on the number of a new descriptor, which is the lowest vacant one.
        self.limit_descriptors(vacant.nth(free).unwrap());
    }

    /// Lets it open none, not even in place of one that it closes.
    pub(crate) fn deny_descriptors(&self) {
        self.limit_descriptors(3);
    }

    pub(crate) fn allow_descriptors(&self) {
        self.limit_descriptors(1000);
    }
}

/// A number of a `/proc` file.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// A live connection in a report.
pub(crate) fn live(report: &Value, peer: &str) -> Option<Value> {
    connections(report).into_iter().find(|c| c["peer"] == peer)
}

/// A connection in a report, live or ended.
pub(crate) fn row(report: &Value, peer: &str) -> Option<Value> {
    let ended = report["recently_closed"].as_array().unwrap();
    let ended = || ended.iter().find(|c| c["peer"] == peer).cloned();
    live(report, peer).or_else(ended)
}
