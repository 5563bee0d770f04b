//! The examples, run: what an embedder would start from works.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::{PATIENCE, wait_for};

/// Ended with its test.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an example on a free port; gives its address, and its other lines as they come.
fn start(name: &str, args: &[&str]) -> (Example, String, impl Iterator<Item = String>) {
    let program: PathBuf = env!("CARGO_BIN_EXE_fanin").into();
    let path = program.with_file_name("examples").join(name);
    // `cargo test` builds them; `cargo test --test examples` does not.
    assert!(path.exists(), "first: cargo build --examples");
    let mut child = Command::new(path)
        .arg("tcp://127.0.0.1:0")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().expect("a first line");
    let address = first
        .strip_prefix("listening on tcp://")
        .unwrap()
        .to_owned();
    (Example(child), address, lines)
}

#[test]
fn an_embedder_counts_messages_and_drains() {
    let (mut example, address, lines) = start("embed", &[]);
    let mut sender = TcpStream::connect(address).unwrap();
    sender.write_all(b"one\ntwo\nthree, unfinished").unwrap();
    drop(sender);
    drop(example.0.stdin.take());
    let said: Vec<_> = lines.collect();
    // Its end was seen before the drain began, or in it.
    assert!(said[0].ends_with(" after 25 bytes"), "{said:?}");
    assert_eq!(said[1..], ["3 messages"]);
    let status = wait_for("its end", PATIENCE, || example.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn one_thread_does_it_all() {
    let (mut example, address, lines) = start("one_thread", &["1"]);
    let mut sender = TcpStream::connect(address).unwrap();
    for n in 0..1000 {
        writeln!(sender, "message {n}").unwrap();
    }
    drop(sender);
    let said: Vec<_> = lines.collect();
    assert_eq!(said, ["1 s: 1000 messages, 11890 bytes"]);
    let status = wait_for("its end", PATIENCE, || example.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}
