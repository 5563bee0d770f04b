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
            "fanin.toml:1:15: not a size: bytes, or a whole number with KiB, MiB, GiB (1024) or KB, MB, GB (1000)\n 1 | max-message = \"64K\"\n   |               ^^^^^\n",
        ),
        // What the library refuses, and what the machine has too little of.
        (
            "\n\tconsumers = 0 # none\n",
            "fanin.toml:2:14: consumers = 0: 1 to 64 are possible\n 2 | \tconsumers = 0 # none\n   | \t            ^\n",
        ),
        (
            "max-connections = 16000000\n",
            "fanin.toml:1:19: max-connections 16000000: the limit of descriptors (RLIMIT_NOFILE) is ",
        ),
        // Of two that cannot both be, the second.
        (
            "[[listener]]\naddress = \"unix:///x\"\n[[listener]]\naddress = \"unix:///x\"\n",
            "fanin.toml:4:11: listen = unix:///x: two listeners cannot have one address\n",
        ),
        // A mark at the beginning is in no column.
        (
            "\u{feff}config = \"other.toml\"\r\n",
            "fanin.toml:1:1: `config` is for the command line alone\n 1 | config = \"other.toml\"\n   | ^^^^^^\n",
        ),
        (
            "[[listener]]\naddress = \"tcp://127.0.0.1:0\"\nframe = \"nul\"\n",
            "fanin.toml:3:1: a listener has no setting `frame`; the nearest is `framing`: legal are address, framing, max-connections, listener-bytes, listener-messages\n 3 | frame = \"nul\"\n   | ^^^^^\n",
        ),
    ] {
        let whole = refused(contents.as_bytes());
        assert!(whole.starts_with(said), "{contents:?}:\n{whole}");
    }
    let said = refused(b"consumers = 1\nsink = \"\xff\"\n");
    assert!(said.starts_with("fanin.toml:2:9: is not UTF-8"), "{said}");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let said = refused(b"backlog = 0\nconsumers = 0\n");
    for place in [
        "fanin.toml:1:11: backlog = 0: ",
        "fanin.toml:2:13: consumers = 0: ",
    ] {
        assert!(said.contains(place), "{said}");
    }
    let said = refused(b"backlog = 1.5\nconsumers = 0\nreactor = 2\nlisten = []\n");
    let heads: Vec<_> = said.lines().filter(|line| line.contains("toml:")).collect();
    assert_eq!(heads.len(), 3, "{said}");
    assert!(heads[1].starts_with("fanin: fanin.toml:3:1: "), "{said}");
}

#[test]
fn a_fault_of_the_command_line_is_none_of_the_file() {
    let place = Place::new();
    let file = place.path("fanin.toml");
    std::fs::write(&file, "backlog = 5\n").unwrap();
    let output = check(&file, &["--backlog", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "fanin: --backlog = 0: must be at least 1\n"
    );
}

#[test]
fn a_receive_buffer_that_the_kernel_does_not_give_is_refused_by_both_with_its_name_and_place() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = socket2::SockRef::from(&socket);
    socket.set_recv_buffer_size(i32::MAX as usize).unwrap();
    // Linux doubles what it grants.
    let most = socket.recv_buffer_size().unwrap() / 2;
    if most >= 1 << 30 {
        println!("this kernel gives all that may be asked for");
        return;
    }
    let (legal, asked) = (most.to_string(), most + 1);
    let listen = ["--listen", "tcp://127.0.0.1:0"];
    let said = format!(
        "receive-buffer {asked}: the kernel gives {most} at most (net.core.rmem_max), or grows it with `auto`\n"
    );
    let place = Place::new();
    let file = place.path("fanin.toml");
    std::fs::write(&file, format!("receive-buffer = {asked}\n")).unwrap();
    for command in ["check", "serve"] {
        let typed = ["--receive-buffer", &asked.to_string()];
        let output = run(&[&[command][..], &listen, &typed].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(text(&output.stderr), format!("fanin: --{said}"));

        let name = file.to_str().unwrap();
        let output = run(&[command, "--config", name]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let begin = format!("fanin: {name}:1:18: {said}");
        assert!(text(&output.stderr).starts_with(&begin), "{output:?}");
    }
    let output = check(&file, &["--receive-buffer", &legal]);
    assert!(output.status.success(), "{output:?}");
    assert!(!text(&output.stdout).contains("rmem_max"), "{output:?}");
}

#[test]
fn what_cannot_be_opened_has_its_place_too() {
    let place = Place::new();
    let file = place.path("fanin.toml");
    let name = file.to_str().unwrap();
    let refused = |contents: &str| {
        std::fs::write(&file, contents).unwrap();
        support::refused(serve(&["--config", name]))
    };
    for option in ["sink", "report"] {
        let scheme = if option == "sink" { "file:" } else { "" };
        // A report has a path of its own in these tests, but for this one.
        let contents =
            format!("\n{option} = \"{scheme}/nowhere/x\"\nlisten = \"tcp://127.0.0.1:0\"\n");
        std::fs::write(&file, contents).unwrap();
        let output = run(&["serve", "--config", name]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let begin = format!(
            "fanin: {name}:2:{}: {option} {scheme}/nowhere/x: No such file",
            option.len() + 4
        );
        assert!(text(&output.stderr).starts_with(&begin), "{output:?}");
    }
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let holder = held.local_addr().unwrap();
    let (code, said) = refused(&format!(
        "[[listener]]\naddress = \"tcp://127.0.0.1:0\"\n[[listener]]\nframing = \"nul\"\naddress = \"tcp://{holder}\"\n"
    ));
    assert_eq!(code, Some(1), "{said}");
    let begin = format!("fanin: {name}:5:11: listen tcp://{holder}: Address already in use");
    assert!(said.starts_with(&begin), "{said}");
}

#[test]
fn what_is_no_file_of_settings_is_refused() {
    let place = Place::new();
    let said = |path: &Path| {
        let output = check(path, &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr).to_owned()
    };
    let missing = place.path("nothing");
    let name = missing.display();
    let hint =
        format!("fanin: {name}: there is no such file; `fanin config > {name}` writes one\n");
    assert_eq!(said(&missing), hint);
    assert!(said(&place.path("")).contains("is a directory, and no regular file"));
    assert!(said(Path::new("/dev/zero")).contains("is no regular file"));
    // Nobody will ever write into it.
    let pipe = place.path("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    assert!(said(&pipe).contains("is a pipe, and no regular file"));
    // A regular file that nobody, not even root, can read at its beginning.
    let unreadable = Path::new("/proc/self/mem");
    assert!(said(unreadable).starts_with("fanin: /proc/self/mem: Input/output error"));
    let large = place.path("large");
    std::fs::write(&large, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(said(&large).contains("larger than 1 MiB"));
    std::fs::write(&large, vec![b'#'; 1 << 20]).unwrap();
    assert!(check(&large, &[]).status.success());
}

#[test]
fn a_value_that_is_wrong_by_itself_is_refused_though_nothing_uses_it() {
    for (option, value, said) in [
        ("--least-rate-window", "0s", "1 s to 1 h are possible"),
        ("--least-rate-window", "1us", "1 s to 1 h are possible"),
        ("--least-rate-window", "99999h", "1 s to 1 h are possible"),
        ("--source-prefix", "0", "1 to 128"),
    ] {
        let output = run(&["check", option, value]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let begin = format!("fanin: {option} = ");
        assert!(text(&output.stderr).starts_with(&begin), "{output:?}");
        assert!(text(&output.stderr).contains(said), "{output:?}");
    }
    let output = run(&["check", "--least-rate-window", "1h"]);
    let note = "note: --least-rate-window has no effect without --least-rate";
    assert!(text(&output.stdout).contains(note), "{output:?}");
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
    let long = "x".repeat(900_000);
    for contents in [
        format!("max-message = \"{long}\"\n"),
        format!("{long} = 1\n"),
        format!("sink = {}\n", "[".repeat(900_000)),
        format!("{} = 1\n", "a.".repeat(400_000)),
        "k = 1\n[t]\n".repeat(90_000),
    ] {
        let said = refused(contents.as_bytes());
        assert!(said.len() < 5_000, "{} bytes", said.len());
        assert!(
            said.contains("the nearest is") || !contents.contains("xxx = 1"),
            "{said}"
        );
    }
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
    assert!(text(&output.stderr).contains("fanin.toml:2:16: idle-timeout can never fire"));
    // Each of several.
    std::fs::write(
        &file,
        "max-age = \"30m\"\nidle-timeout = \"2h\"\nmessage-timeout = \"2h\"\n",
    )
    .unwrap();
    let output = check(&file, &[]);
    for said in [
        "fanin.toml:2:16: idle-timeout can",
        "fanin.toml:3:19: message-timeout can",
    ] {
        assert!(text(&output.stderr).contains(said), "{output:?}");
    }
    // Of several listeners the one that is meant has its place.
    let listener =
        |own| format!("[[listener]]\naddress = \"unix:///x{own}\"\nmax-connections = {own}\n");
    let contents = format!("max-connections = 7\n{}{}", listener(6), listener(7));
    std::fs::write(&file, contents).unwrap();
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = "fanin.toml:6:11: listen can never fire: unix:///x7 may have 7 connections, and all together 7";
    assert!(text(&output.stderr).contains(said), "{output:?}");
    // A window of the default length is nobody's mistake.
    let output = run(&["check", "--least-rate", "100", "--message-timeout", "5s"]);
    assert!(
        text(&output.stdout).contains("note: --least-rate-window can never fire: it is 10s"),
        "{output:?}"
    );
    let window = ["--least-rate-window", "10s"];
    let output = run(&[
        &["check", "--least-rate", "100", "--message-timeout", "5s"],
        &window[..],
    ]
    .concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_check_shows_the_layers_with_their_values_and_where_those_come_from() {
    let place = Place::new();
    let file = place.path("fanin.toml");
    let contents = "ring = \"1MiB\"\nmax-message = 0x1000\nbacklog = 77\nverbose = true\n\
                    [[listener]]\naddress = \"unix:///a\"\n[[listener]]\naddress = \"unix:///b\"\nframing = \"nul\"\n";
    std::fs::write(&file, contents).unwrap();
    let output = check(&file, &["--backlog", "78"]);
    assert!(output.status.success(), "{output:?}");
    let shown = text(&output.stdout);
    let file = file.display();
    for line in [
        &format!("   ring = 1MiB  ({file}:1:1)\n"),
        &format!("   max-message = 4096  ({file}:2:1)\n"),
        &format!("   listen = unix:///a  ({file}:5:1)\n"),
        &format!("   listen = unix:///b?framing=nul  ({file}:7:1)\n"),
        &format!("   verbose = true  ({file}:4:1)\n"),
        "   sink = stdout  (default)\n",
        "\nAt the end everybody has so long to finish:\n   drain-timeout = 10s  (default)\n",
        "   backlog = 78  (option)\n",
        "   idle-timeout = 1h  (default)\n",
        "memory at most ",
        "(1 ring of 1 MiB)",
        "descriptors: ",
    ] {
        assert!(shown.contains(line), "{line:?} is missing:\n{shown}");
    }
    // In their order, whatever else is between them.
    let names = [
        "message",
        "ring",
        "connection",
        "global",
        "listener",
        "types",
    ];
    let mut from = 0;
    for name in names {
        let head = format!(". {name}: ");
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

/// Blocks of a page that begin with this fence.
fn blocks<'p>(page: &'p str, fence: &str) -> Vec<&'p str> {
    let begun = page.split(fence).skip(1);
    begun
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

fn page(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn the_files_in_the_documentation_are_valid_or_refused_as_they_say() {
    let place = Place::new();
    let file = place.path("fanin.toml");
    for name in ["README.md", "docs/configuration.md"] {
        let page = page(name);
        let examples = blocks(&page, "\n```toml\n");
        assert_eq!(examples.len(), 1, "{name}");
        std::fs::write(&file, examples[0]).unwrap();
        let output = check(&file, &[]);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(
            !text(&output.stdout).contains("note: "),
            "{name}: {output:?}"
        );
    }
    let page = page("docs/configuration.md");
    let (wrong, said) = (
        blocks(&page, "\n```toml refused\n"),
        blocks(&page, "\n```text\n"),
    );
    assert_eq!((wrong.len(), said.len()), (1, 1));
    assert_eq!(format!("fanin: {}", refused(wrong[0].as_bytes())), said[0]);
}

#[test]
fn the_sections_that_the_library_names_exist() {
    let (library, page) = (page("src/lib.rs"), page("docs/overload.md"));
    let rows = library
        .lines()
        .filter(|line| line.starts_with("//! | ") && line.contains("[`"));
    let mut named = 0;
    for row in rows {
        let section = row.trim_end_matches('|').rsplit('|').next().unwrap();
        for section in section.split(';').map(str::trim).filter(|s| !s.is_empty()) {
            assert!(page.contains(&format!("\n## {section}\n")), "{section}");
            named += 1;
        }
    }
    assert!(named >= 8, "{named}");
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
    // And its listener, without the marks.
    let (_, listener) = text(&sample.stdout)
        .split_once("\n# [[listener]]\n")
        .unwrap();
    let listener = format!("[[listener]]\n{}", listener.replace("# ", ""));
    let other = place.path("listener.toml");
    std::fs::write(&other, &listener).unwrap();
    let output = check(&other, &[]);
    let said = "   listen = tcp://127.0.0.1:6514?framing=octet&max-connections=500&listener-bytes=10MiB&listener-messages=5000  (";
    assert!(
        text(&output.stdout).contains(said),
        "{listener}: {output:?}"
    );
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
