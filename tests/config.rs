//! The configuration file: what it may say, what is refused and where, and what `fanin check` makes of it.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::{Fanin, Place, serve, skip, total};

fn run(words: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_fanin");
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn check(file: &Path, more: &[&str]) -> Output {
    let file = file.to_str().expect("a path of text");
    run(&[&["check", "--config", file], more].concat())
}

/// What is said of a file that is refused, without the first word.
#[track_caller]
fn refused(contents: &[u8]) -> String {
    let place = Place::new();
    let file = place.path("fanin.toml");
    std::fs::write(&file, contents).unwrap();
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = text(&output.stderr).replace(place.path("").to_str().unwrap(), "");
    said.strip_prefix("fanin: ")
        .expect("who says it")
        .to_owned()
}

#[test]
fn every_error_has_its_place_the_line_and_what_would_do() {
    for (contents, said) in [
        (
            "consumers = 2\nmax-mesage = \"1KiB\"\n",
            "fanin.toml:2:1: there is no setting `max-mesage`; the nearest is `max-message`\n 2 | max-mesage = \"1KiB\"\n   | ^^^^^^^^^^\n",
        ),
        (
            "max-message = \"64K\"\n",
            "fanin.toml:1:1: not a size: bytes, or a number with KiB, MiB, GiB (1024) or KB, MB, GB (1000)\n 1 | max-message = \"64K\"\n   | ^^^^^^^^^^^^^^^^^^^\n",
        ),
        (
            "\n  consumers = 0 # none\n",
            "fanin.toml:2:3: --consumers = 0: 1 to 64 are possible\n 2 |   consumers = 0 # none\n   |   ^^^^^^^^^^^^^\n",
        ),
        (
            "on-oversize = \"cut\"",
            "fanin.toml:1:1: must be one of truncate, discard, close\n 1 | on-oversize = \"cut\"\n   | ^^^^^^^^^^^^^^^^^^^\n",
        ),
        (
            "idle-timeout = 1.5\n",
            "fanin.toml:1:16: must be a string or a number, and is a float\n 1 | idle-timeout = 1.5\n   |                ^^^\n",
        ),
        (
            "verbose = \"yes\"\n",
            "fanin.toml:1:11: must be true or false, and is a string\n 1 | verbose = \"yes\"\n   |           ^^^^^\n",
        ),
        (
            "config = \"other.toml\"\n",
            "fanin.toml:1:1: `config` is for the command line alone\n 1 | config = \"other.toml\"\n   | ^^^^^^\n",
        ),
        (
            "[[listener]]\naddress = \"tcp://127.0.0.1:0\"\nframe = \"nul\"\n",
            "fanin.toml:1:1: tcp://127.0.0.1:0?frame=nul: ",
        ),
        (
            "[[listener]]\nframing = \"nul\"\n",
            "fanin.toml:1:1: has no address, like address = \"tcp://127.0.0.1:5140\"\n",
        ),
        (
            "listener = 3\n",
            "fanin.toml:1:12: a listener is a table of its own: [[listener]]\n",
        ),
        ("a = \n", "fanin.toml:1:"),
        (
            "backlog = 1\nbacklog = 2\n",
            "fanin.toml:2:1: duplicate key",
        ),
    ] {
        let whole = refused(contents.as_bytes());
        let listener = whole.replace("listen = ", "");
        assert!(
            whole.starts_with(said) || listener.starts_with(said),
            "{contents:?}:\n{whole}"
        );
    }
    let said = refused(b"consumers = 1\n# \xff\n");
    assert_eq!(said, "fanin.toml:2: is not UTF-8\n");
}

#[test]
fn what_is_no_file_of_settings_is_refused() {
    let place = Place::new();
    let said = |output: Output| {
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr).to_owned()
    };
    assert!(said(check(&place.path("nothing"), &[])).contains("No such file"));
    assert!(said(check(&place.path(""), &[])).contains("is no regular file"));
    let large = place.path("large");
    std::fs::write(&large, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(said(check(&large, &[])).contains("larger than 1 MiB"));
}

#[test]
fn ample_staging_is_nobodys_mistake() {
    let listen = "--listen=tcp://127.0.0.1:0";
    let output = run(&[
        "check",
        listen,
        "--max-connections",
        "100",
        "--staging",
        "64MiB",
    ]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_error_is_a_line_whatever_the_value() {
    let said = refused(format!("max-message = \"{}\"\n", "x".repeat(900_000)).as_bytes());
    assert!(said.len() < 2_000, "{} bytes", said.len());
}

#[test]
fn two_limits_of_which_one_never_fires_are_refused_if_both_were_written() {
    let place = Place::new();
    let file = place.path("fanin.toml");
    std::fs::write(&file, "max-age = \"30m\"\n").unwrap();
    let output = check(&file, &[]);
    assert!(output.status.success(), "{output:?}");
    let shown = text(&output.stdout);
    assert!(
        shown.contains("note: --idle-timeout can never fire: it is 3600s"),
        "{shown}"
    );
    let output = check(&file, &["--idle-timeout", "2h"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--idle-timeout can never fire"));
    // Written in the file, it is told with its place there.
    std::fs::write(&file, "max-age = \"30m\"\nidle-timeout = \"2h\"\n").unwrap();
    let output = check(&file, &[]);
    assert!(text(&output.stderr).contains("fanin.toml:2:1: --idle-timeout can never fire"));
}

#[test]
fn a_check_shows_the_layers_with_their_values_and_where_those_come_from() {
    let place = Place::new();
    let file = place.path("fanin.toml");
    let contents = "ring = \"1MiB\"\nmax-message = \"4KiB\"\nbacklog = 77\n";
    std::fs::write(&file, contents).unwrap();
    let output = check(&file, &["--backlog", "78", "--listen", "tcp://127.0.0.1:1"]);
    assert!(output.status.success(), "{output:?}");
    let shown = text(&output.stdout);
    let file = file.display();
    for line in [
        &format!("   ring = 1MiB  ({file}:1:1)\n"),
        &format!("   max-message = 4KiB  ({file}:2:1)\n"),
        "   backlog = 78  (option)\n",
        "   idle-timeout = 1h  (default)\n",
        "memory at most ",
        "(1 ring of 1 MiB)",
        "descriptors: ",
    ] {
        assert!(shown.contains(line), "{line:?} is missing:\n{shown}");
    }
    let names = [
        "message",
        "ring",
        "connection",
        "global",
        "listener",
        "drain",
        "types",
    ];
    let mut from = 0;
    for (number, name) in names.iter().enumerate() {
        let head = format!("\n{}. {name}: ", number + 1);
        from += shown[from..]
            .find(&head)
            .unwrap_or_else(|| panic!("{head:?}:\n{shown}"));
    }
    assert!(shown.ends_with(&format!("\n{file}: valid\n")), "{shown}");
}

#[test]
fn the_program_serves_what_its_file_says_and_what_is_typed_wins() {
    let place = Place::new();
    let file = place.path("fanin.toml");
    let output = place.path("output");
    let contents = format!(
        "framing = \"u16\"\nsink = \"file:{}\"\noutput = \"raw\"\n[[listener]]\naddress = \"tcp://127.0.0.1:0\"\n\
         framing = \"nul\"\n[[listener]]\naddress = \"tcp://127.0.0.1:0\"\n",
        output.display()
    );
    std::fs::write(&file, contents).unwrap();
    let mut command = serve(&["--framing", "line", "--config", file.to_str().unwrap()]);
    command.stdout(Stdio::null());
    let mut fanin = Fanin::start_with(command, place, 2);
    use std::io::Write;
    let mut first = std::net::TcpStream::connect(fanin.address_of(0)).unwrap();
    first.write_all(b"a\nb\0c\0").unwrap();
    drop(first);
    let mut second = std::net::TcpStream::connect(fanin.address_of(1)).unwrap();
    second.write_all(b"d\0e\nf\n").unwrap();
    drop(second);
    let report = fanin.drain();
    assert_eq!(total(&report, "/messages/delivered"), 4);
}

#[test]
fn the_sample_is_valid_and_toml_for_others_too() {
    let sample = run(&["config"]);
    assert!(sample.status.success());
    let place = Place::new();
    let file = place.path("sample.toml");
    std::fs::write(&file, &sample.stdout).unwrap();
    assert!(check(&file, &[]).status.success());
    // All of it, as somebody would who uncomments every line that can be.
    let lines = text(&sample.stdout)
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
    let whole = lines.collect::<Vec<_>>().join("\n");
    std::fs::write(&file, &whole).unwrap();
    assert!(check(&file, &[]).status.success());
    let python = "import sys, tomllib; print(len(tomllib.load(open(sys.argv[1], 'rb'))))";
    let Ok(output) = Command::new("python3")
        .args(["-c", python])
        .arg(&file)
        .output()
    else {
        return skip("python3-tomllib", "there is no python3");
    };
    let settings: usize = text(&output.stdout)
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("{output:?}"));
    let written = whole
        .lines()
        .filter(|l| l.contains(" = ") && !l.starts_with('#'));
    assert_eq!(settings, written.count());
}
