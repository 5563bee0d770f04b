//! System calls that fail when a test wants it: strace, attached to one thread or around the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::tap::Tap;
use super::{Fanin, PATIENCE, is_installed, wait_for};

/// A call that does not happen, and what its caller is told.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) call: &'static str,
    /// `error=ERRNO` or `retval=N`.
    pub(crate) told: String,
    /// Which times: `N`, `N..M` or `N+`.
    pub(crate) when: String,
    /// Only calls on this file.
    pub(crate) on: Option<PathBuf>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = self.told.trim_start_matches("error=");
        write!(f, "{} {told} at {}", self.call, self.when)
    }
}

impl Fault {
    fn arguments(&self) -> Vec<String> {
        let Self {
            call,
            told,
            when,
            on,
        } = self;
        let inject = format!("inject={call}:{told}:when={when}");
        let mut arguments = vec!["-e".into(), format!("trace={call}"), "-e".into(), inject];
        if let Some(path) = on {
            arguments.extend(["-P".into(), path.display().to_string()]);
        }
        arguments
    }
}

/// Why no call can be made to fail here, if so.
pub(crate) fn why_not() -> Option<String> {
    if !is_installed("strace") {
        return Some("`strace` is not installed".to_owned());
    }
    let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
    let tried = Tracer::attach(sleeper.id(), &["-o", "/dev/null"]);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    tried.err()
}

/// What strace saw.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Calls of the kind that was to fail, failed or not.
    pub(crate) calls: usize,
    pub(crate) injected: usize,
}

impl Log {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let is_call = |line: &&str| line.contains('(') && !line.contains(" resumed>");
        Self {
            calls: text.lines().filter(is_call).count(),
            injected: text.matches("(INJECTED)").count(),
        }
    }
}

struct Tracer {
    child: Child,
    said: Tap,
}

impl Tracer {
    fn attach(thread: u32, options: &[&str]) -> Result<Self, String> {
        let mut child = Command::new("strace")
            .args(options)
            .args(["-p", &thread.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Tap::on(child.stderr.take().unwrap());
        let mut tracer = Self { child, said };
        wait_for("strace is attached", PATIENCE, || {
            let said = String::from_utf8_lossy(&tracer.said.so_far()).into_owned();
            if said.contains(" attached") {
                return Some(Ok(()));
            }
            tracer.child.try_wait().unwrap().map(|_| Err(said))
        })
        .map(|()| tracer)
    }
}

impl Drop for Tracer {
    /// A tracer that is killed lets its tracee go.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Attached to one thread, so that the n-th call is the n-th of this thread and no other.
pub(crate) struct Strace {
    tracer: Tracer,
    log: PathBuf,
}

impl Strace {
    #[track_caller]
    pub(crate) fn attach(fanin: &Fanin, thread: &str, fault: &Fault) -> Self {
        let log = fanin.place.path("strace");
        let mut options = vec!["-o", log.to_str().unwrap()];
        let arguments = fault.arguments();
        options.extend(arguments.iter().map(String::as_str));
        let thread = thread_of(fanin.pid(), thread);
        let tracer = Tracer::attach(thread, &options).unwrap_or_else(|said| panic!("{said}"));
        Self { tracer, log }
    }

    pub(crate) fn so_far(&self) -> Log {
        Log::read(&self.log)
    }

    /// After the program's end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Log {
        wait_for("strace ends with its thread", PATIENCE, || {
            self.tracer.child.try_wait().unwrap()
        });
        Log::read(&self.log)
    }
}

/// One thread, of which every call is written down and none fails.
pub(crate) struct Watched {
    _tracer: Tracer,
    log: PathBuf,
    task: PathBuf,
}

impl Watched {
    #[track_caller]
    pub(crate) fn attach(fanin: &Fanin, thread: &str) -> Self {
        let log = fanin.place.path(thread);
        let id = thread_of(fanin.pid(), thread);
        let tracer = Tracer::attach(id, &["-o", log.to_str().unwrap()]);
        let task = format!("/proc/{}/task/{id}/stat", fanin.pid());
        Self {
            _tracer: tracer.unwrap_or_else(|said| panic!("{said}")),
            log,
            task: task.into(),
        }
    }

    /// Calls that have returned, by their names.
    pub(crate) fn calls(&self) -> BTreeMap<String, usize> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let mut calls = BTreeMap::new();
        for line in text.lines().filter(|line| line.contains(" = ")) {
            if let Some((name, _)) = line.split_once('(') {
                *calls.entry(name.to_owned()).or_default() += 1;
            }
        }
        calls
    }

    /// It waits inside of a call, and not for its tracer.
    pub(crate) fn is_asleep(&self) -> bool {
        let stat = fs::read_to_string(&self.task).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('S')
    }
}

#[track_caller]
fn thread_of(pid: u32, name: &str) -> u32 {
    wait_for(&format!("the thread {name}"), PATIENCE, || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.flatten().find_map(|task| {
            let is_it = fs::read_to_string(task.path().join("comm")).ok()?.trim() == name;
            is_it.then(|| task.file_name().to_str().unwrap().parse().unwrap())
        })
    })
}

/// The program's first thread under strace from its very start. The program is our child, as without it.
pub(crate) fn around(program: &Command, log: &Path, fault: Option<&Fault>) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-o"]).arg(log);
    if let Some(fault) = fault {
        strace.args(fault.arguments());
    }
    strace.arg(program.get_program()).args(program.get_args());
    strace
}

/// The log of [`around`], when it is whole.
#[track_caller]
pub(crate) fn whole_log(log: &Path) -> String {
    wait_for("strace has seen the end", PATIENCE, || {
        let text = fs::read_to_string(log).ok()?;
        text.lines().last()?.starts_with("+++").then_some(text)
    })
}
