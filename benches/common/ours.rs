//! fanin as the program: `fanin serve --sink null`, and what its report says.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::framing::Framing;

pub(crate) fn command(program: &str, framing: Framing) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--sink", "null"]);
    command.args(["--framing", framing.name(), "--report", "-"]);
    command.args(["--max-connections", "19000"]);
    command
}

pub(crate) fn end(pid: &std::process::Child) {
    kill_process(Pid::from_child(pid), Signal::TERM).expect("it runs");
}

/// Messages and bytes delivered, as the last line of its standard error says.
pub(crate) fn counted(said: &str) -> Option<(u64, u64)> {
    let report: Value = serde_json::from_str(said.lines().last()?).ok()?;
    let number = |path: &str| report.pointer(path)?.as_u64();
    Some((number("/messages/delivered")?, number("/bytes/delivered")?))
}
