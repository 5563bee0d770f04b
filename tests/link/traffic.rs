//! The load tool as a child process: the senders in the clients' namespace, and the check of what came out.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Network;
use crate::support::{Fanin, wait_for};

/// After this the senders give up, and say so.
const LIMIT: Duration = Duration::from_secs(180);

/// Numbered messages, each of whose bytes the checker knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    /// Of each message, as `A-B`.
    pub(crate) bytes: &'static str,
    pub(crate) framing: &'static str,
}

impl Plan {
    fn words(self) -> [String; 4] {
        [
            format!("--connections={}", self.connections),
            format!("--messages={}", self.messages),
            format!("--size={}", self.bytes),
            format!("--framing={}", self.framing),
        ]
    }

    /// Panics unless the file has each message once, unchanged, in its connection's order, and no others.
    #[track_caller]
    pub(crate) fn check(self, file: &Path) {
        let mut command = Command::new(load());
        let checked = command.arg("check").arg(file).args(self.words()).output();
        let checked = checked.unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        print!("{said}");
        assert!(checked.status.success(), "{said}");
    }
}

/// The load tool that was built beside the program.
fn load() -> PathBuf {
    let program: PathBuf = env!("CARGO_BIN_EXE_fanin").into();
    let path = program.with_file_name("examples").join("load");
    // `cargo test` builds it; `cargo test --test network` does not.
    assert!(path.exists(), "first: cargo build --examples");
    path
}

/// Senders under way; killed if they are dropped.
pub(crate) struct Senders {
    child: Child,
    plan: Plan,
    since: Instant,
}

impl Senders {
    pub(crate) fn start(network: &Network, fanin: &Fanin, plan: Plan) -> Self {
        let mut command = Command::new(load());
        command.args(["send", "--to", &fanin.addresses[0]]);
        command.args(["--writes=bulk", &format!("--timeout={}", LIMIT.as_secs())]);
        command.args(plan.words()).stdout(Stdio::piped());
        Self {
            child: network.clients.inside(|| command.spawn().unwrap()),
            plan,
            since: Instant::now(),
        }
    }

    /// Waits until each sender has sent all and has seen the program's FIN. How many bytes they sent.
    #[track_caller]
    pub(crate) fn finish(mut self) -> u64 {
        let limit = LIMIT + Duration::from_secs(20);
        let status = wait_for("the senders' end", limit, || self.child.try_wait().unwrap());
        let mut sum = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut sum).unwrap();
        assert!(status.success(), "{status}: {sum}");
        let sum: Value = serde_json::from_str(&sum).unwrap();
        assert_eq!(sum["finished"], self.plan.connections, "{sum}");
        let bytes = sum["bytes"].as_u64().unwrap();
        let seconds = self.since.elapsed().as_secs_f64();
        println!(
            "{} connections sent {bytes} B in {seconds:.1} s",
            self.plan.connections
        );
        bytes
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
