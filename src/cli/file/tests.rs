//! Files, each with what it stands for or with what is wrong in it.

use std::ffi::OsString;

use super::super::args::{Cli, Command as Sub};
use super::super::given::{Given, Origin, Refused};
use super::super::sample::example;
use super::*;
use clap::CommandFactory;

pub(super) fn definition() -> Command {
    let cli = Cli::command();
    cli.find_subcommand("check").unwrap().clone()
}

/// `fanin check`, with a file of this text if there is one, and these options.
pub(super) fn check(text: Option<&str>, options: &[String]) -> Result<Given, String> {
    let mut words: Vec<OsString> = vec!["fanin".into(), "check".into()];
    words.extend(text.map(|_| "--config=f".into()));
    words.extend(options.iter().map(OsString::from));
    let source = Source::new("f", text.unwrap_or_default());
    let given = Given::parse_with(words, |_, command| {
        ConfigFile::parse(source.clone(), command)
    });
    given.map_err(|refused| match refused {
        Refused::File(error) => error.to_string(),
        Refused::Usage(error) => panic!("behind the file's back: {error}"),
    })
}

pub(super) fn of_file(text: &str) -> Result<Given, String> {
    check(Some(text), &[])
}

/// All that was settled, but for the file's name.
pub(super) fn settled(given: Given) -> String {
    let Sub::Check(mut serve) = given.cli.command else {
        panic!("check was asked for");
    };
    serve.config = None;
    format!("{serve:?}\n{:?}", serve.config())
}

fn typed_alone(options: &[&str]) -> String {
    let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
    settled(check(None, &options).unwrap())
}

#[test]
fn a_file_is_what_would_be_typed() {
    for (text, options) in [
        ("", &[][..]),
        ("\u{feff}# only a mark\r\n", &[]),
        ("max-message = \"1KiB\"", &["--max-message", "1KiB"]),
        ("max-message = \"4 MiB\"", &["--max-message", "4MiB"]),
        ("max-message = 1_024", &["--max-message", "1024"]),
        ("max-message = 0x400", &["--max-message", "1024"]),
        ("backlog = +7", &["--backlog", "7"]),
        ("backlog = 0b111", &["--backlog", "7"]),
        ("backlog = \"7\"\r\n", &["--backlog", "7"]),
        ("\"backlog\" = 7", &["--backlog", "7"]),
        ("verbose = true", &["-v"]),
        ("verbose = \"true\"", &["-v"]),
        ("verbose = false", &[]),
        ("on-full = 'discard'\n", &["--on-full", "discard"]),
        (
            "sink = \"file:/tmp/\\\"x\\\"\"",
            &["--sink", "file:/tmp/\"x\""],
        ),
        ("listen = \"unix:///x\"", &["--listen", "unix:///x"]),
        (
            "listen = [\"tcp://127.0.0.1:2\", \"unix:///x?framing=nul\"]",
            &[
                "--listen",
                "tcp://127.0.0.1:2",
                "--listen",
                "unix:///x?framing=nul",
            ],
        ),
        (
            "[[listener]]\naddress = \"tcp://127.0.0.1:2\"\n[[listener]]\nframing = \"nul\"\n\
             address = \"unix:///x&y\"\nmax-connections = 3\nlistener-bytes = \"10MiB\"\nlistener-messages = 0x10",
            &[
                "--listen",
                "tcp://127.0.0.1:2",
                "--listen",
                "unix:///x&y?framing=nul&max-connections=3&listener-bytes=10MiB&listener-messages=16",
            ],
        ),
        (
            "listener = [{ address = \"unix:///x\", framing = \"nul\" }]",
            &["--listen", "unix:///x?framing=nul"],
        ),
    ] {
        let from_file = of_file(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(settled(from_file), typed_alone(options), "{text}");
    }
}

#[test]
fn what_is_typed_comes_before_what_the_file_says() {
    let text = "idle-timeout = \"2h\"\nverbose = true\nbacklog = 5\nlisten = [\"unix:///a\", \"unix:///b\"]\n";
    let options = ["--idle-timeout=3h", "--listen=unix:///c"].map(str::to_owned);
    let given = check(Some(text), &options).unwrap();
    let origins = &given.origins;
    let one = |value: &str, origin| vec![(value.to_owned(), origin)];
    let at = |place: &str| Origin::File(place.to_owned());
    assert_eq!(origins.values("idle-timeout"), one("3h", Origin::Option));
    assert_eq!(origins.values("listen"), one("unix:///c", Origin::Option));
    assert_eq!(origins.values("backlog"), one("5", at("f:3:1")));
    assert_eq!(origins.values("verbose"), one("true", at("f:2:1")));
    assert_eq!(origins.values("max-age"), one("off", Origin::Default));
    assert!(origins.is_given("backlog") && origins.is_given("listen"));
    assert!(!origins.is_given("max-age"));
    assert_eq!(
        settled(given),
        typed_alone(&[
            "--idle-timeout=3h",
            "-v",
            "--listen=unix:///c",
            "--backlog=5"
        ])
    );
    let given = of_file(text).unwrap();
    let both = [("unix:///a", "f:4:11"), ("unix:///b", "f:4:24")];
    let both = both.map(|(value, place)| (value.to_owned(), at(place)));
    assert_eq!(given.origins.values("listen"), both);
}

/// Each with its place, what is said, and what is under its caret.
const FAULTS: [(&str, &str, &str, &str); 59] = [
    (
        "max-mesage = 1",
        "f:1:1:",
        "`max-mesage`; the nearest is `max-message`",
        "max-mesage",
    ),
    (
        "\nmax_age = 1",
        "f:2:1:",
        "the nearest is `max-age`",
        "max_age",
    ),
    (
        "Idle-Timeout = 1",
        "f:1:1:",
        "the nearest is `idle-timeout`",
        "Idle-Timeout",
    ),
    (
        "listeners = 1",
        "f:1:1:",
        "the nearest is `listener`",
        "listeners",
    ),
    (
        "include = \"g\"",
        "f:1:1:",
        "(`fanin config` shows all)",
        "include",
    ),
    (
        "address = \"unix:///x\"",
        "f:1:1:",
        "`address` stands in a [[listener]]",
        "address",
    ),
    (
        "config = \"g\"",
        "f:1:1:",
        "`config` is for the command line alone",
        "config",
    ),
    (
        "help = true",
        "f:1:1:",
        "`help` is for the command line alone",
        "help",
    ),
    ("\"\" = 1", "f:1:1:", "there is no setting ``", "\"\""),
    (
        "[connections]\nidle-timeout = 1",
        "f:1:2:",
        "settings stand in no table but [[listener]]",
        "connections",
    ),
    (
        "[connections.tcp]\nx = 1",
        "f:1:2:",
        "there is no setting `connections`",
        "connections",
    ),
    (
        "ring.size = 1",
        "f:1:1:",
        "and is a table; ring = \"4MiB\" would do",
        "ring",
    ),
    (
        "ring = {}",
        "f:1:8:",
        "and is a table; ring = \"4MiB\" would do",
        "{}",
    ),
    (
        "backlog = 1.5",
        "f:1:11:",
        "and is a floating-point number; backlog = 1024 would do",
        "1.5",
    ),
    (
        "staging = inf",
        "f:1:11:",
        "and is a floating-point number; staging = \"64MiB\" would do",
        "inf",
    ),
    (
        "staging = nan",
        "f:1:11:",
        "and is a floating-point number",
        "nan",
    ),
    (
        "idle-timeout = false",
        "f:1:16:",
        "and is true or false; idle-timeout = \"1h\" would do",
        "false",
    ),
    (
        "idle-timeout = [\"1h\"]",
        "f:1:16:",
        "and is an array",
        "[\"1h\"]",
    ),
    (
        "idle-timeout = 12:00:00",
        "f:1:16:",
        "and is a date or a time of day",
        "12:00:00",
    ),
    (
        "report = 1979-05-27",
        "f:1:10:",
        "and is a date or a time of day",
        "1979-05-27",
    ),
    (
        "idle-timeout = 3600",
        "f:1:16:",
        "a whole number with us, ms, s, m or h, or `off`",
        "3600",
    ),
    (
        "idle-timeout = \"1.5s\"",
        "f:1:16:",
        "a whole number with us, ms, s, m or h",
        "\"1.5s\"",
    ),
    (
        "max-message = \"64K\"",
        "f:1:15:",
        "or a whole number with KiB",
        "\"64K\"",
    ),
    ("max-message = -1", "f:1:15:", "not a size", "-1"),
    (
        "backlog = -1",
        "f:1:11:",
        "must be a whole number, not less than 0; backlog = 1024 would do",
        "-1",
    ),
    (
        "consumers = -1",
        "f:1:13:",
        "must be a whole number, not less than 0; consumers = 1 would do",
        "-1",
    ),
    (
        "consumers = \"two\"",
        "f:1:13:",
        "must be a whole number",
        "\"two\"",
    ),
    (
        "consumers = 99999999999999999999",
        "f:1:13:",
        "is too large a number",
        "99999999999999999999",
    ),
    (
        "backlog = \"\"",
        "f:1:11:",
        "is empty; backlog = 1024 would do",
        "\"\"",
    ),
    ("report = \"\"", "f:1:10:", "is empty", "\"\""),
    (
        "on-full = \"dicard\"",
        "f:1:11:",
        "must be one of pause, discard; discard, perhaps?",
        "\"dicard\"",
    ),
    (
        "on-full = \"drop everything\"",
        "f:1:11:",
        "must be one of pause, discard\n",
        "\"drop everything\"",
    ),
    (
        "framing = \"lines\"",
        "f:1:11:",
        "is no framing; line, perhaps?",
        "\"lines\"",
    ),
    (
        "verbose = 1",
        "f:1:11:",
        "must be true or false, and is a whole number",
        "1",
    ),
    (
        "verbose = \"yes\"",
        "f:1:11:",
        "must be true or false, and is a string",
        "\"yes\"",
    ),
    (
        "listen = []",
        "f:1:10:",
        "is empty; listen = [\"tcp://127.0.0.1:5140\"] would do",
        "[]",
    ),
    (
        "listen = [\"unix:///x\", 5]",
        "f:1:24:",
        "must begin with tcp:// or unix://",
        "5",
    ),
    ("listen = [[1]]", "f:1:11:", "and is an array", "[1]"),
    (
        "listen = \"tcp://127.0.0.1:1?framing=nul?max-connections=3\"",
        "f:1:10:",
        "a second `?`",
        "\"tcp:",
    ),
    (
        "backlog = 1\nbacklog = 1",
        "f:2:1:",
        "is set twice",
        "backlog",
    ),
    ("backlog = ", "f:1:11:", "is not TOML", ""),
    ("backlog = \"", "f:1:12:", "is not TOML", ""),
    (
        "sink = stdout",
        "f:1:8:",
        "is not TOML: string values must be quoted",
        "stdout",
    ),
    (
        "[listener]\naddress = \"unix:///x\"",
        "f:1:1:",
        "is a table: each listener is a table of its own, [[listener]]",
        "[listener]",
    ),
    (
        "listener = 1",
        "f:1:12:",
        "is a whole number: each listener",
        "1",
    ),
    (
        "listener = \"unix:///x\"",
        "f:1:12:",
        "is a string: each listener",
        "\"unix:///x\"",
    ),
    (
        "listener = [1]",
        "f:1:13:",
        "is a whole number: each listener",
        "1",
    ),
    ("listener = []", "f:1:12:", "is empty: each listener", "[]"),
    (
        "[[listener]]\nframing = \"nul\"",
        "f:1:1:",
        "has no address, like address = \"tcp://127.0.0.1:5140\"",
        "[[listener]]",
    ),
    (
        "[[listener]]\naddress = 1",
        "f:2:11:",
        "must begin with tcp://",
        "1",
    ),
    (
        "[[listener]]\naddress = true",
        "f:2:11:",
        "must be a string",
        "true",
    ),
    (
        "[[listener]]\naddress = \"tcp://localhost:1\"",
        "f:2:11:",
        "names are not looked up",
        "\"tcp:",
    ),
    (
        "[[listener]]\naddress = \"unix:///x?framing=nul\"",
        "f:2:11:",
        "a `?` cannot stand here",
        "\"unix:",
    ),
    (
        "[[listener]]\naddress = \"unix:///x\"\nframe = \"nul\"",
        "f:3:1:",
        "a listener has no setting `frame`; the nearest is `framing`",
        "frame",
    ),
    (
        "[[listener]]\nadress = \"unix:///x\"",
        "f:2:1:",
        "`adress`; the nearest is `address`",
        "adress",
    ),
    (
        "[[listener]]\naddress = \"unix:///x\"\nframing = \"lines\"",
        "f:3:11:",
        "\"lines\" is no framing; line, perhaps?",
        "\"lines\"",
    ),
    (
        "[[listener]]\naddress = \"unix:///x\"\nframing = \"nul&max-connections=3\"",
        "f:3:11:",
        "a `&` cannot stand here",
        "\"nul&",
    ),
    (
        "[[listener]]\naddress = \"unix:///x\"\nmax-connections = 0",
        "f:3:19:",
        "nobody could connect; at least 1",
        "0",
    ),
    (
        "[[listener]]\naddress = \"unix:///x\"\nmax-age = \"1h\"",
        "f:3:1:",
        "`max-age` is for all listeners: it stands above the first [[listener]]",
        "max-age",
    ),
];

#[test]
fn what_is_wrong_has_its_place_and_what_would_do() {
    for (text, place, why, under) in FAULTS {
        let error = of_file(text).map(settled).expect_err(text);
        assert!(error.starts_with(place), "{text}: {error}");
        assert!(format!("{error}\n").contains(why), "{text}: {error}");
        assert_eq!(error.lines().count(), 3, "one fault: {error}");
        let lines: Vec<_> = error.lines().collect();
        let caret = lines[2].find('^').expect(&error);
        assert!(lines[1][caret..].starts_with(under), "{text}: {error}");
    }
}

/// The places of all that is wrong.
fn places(text: &str) -> Vec<String> {
    let error = of_file(text).map(settled).expect_err(text);
    let lines = error.lines().map(|line| line.trim_start_matches("fanin: "));
    let places = lines.filter(|line| line.starts_with("f:"));
    let place = |line: &str| line.split(": ").next().unwrap().to_owned();
    places.map(place).collect()
}

#[test]
fn everything_that_is_wrong_is_told_in_the_order_of_the_file() {
    let text =
        "verbos = true\nbacklog = \"x\"\n[[listener]]\n[[listener]]\naddress = 1\nframe = 1\n";
    assert_eq!(
        places(text),
        ["f:1:1", "f:2:11", "f:3:1", "f:5:11", "f:6:1"]
    );
    // What is no TOML hides what stands in its line, and no more.
    let text = "backlog = \nverbos = true\nbacklog = 1\nring = 1.5.5\nreactors = \"x\"\n";
    assert_eq!(
        places(text),
        ["f:1:11", "f:2:1", "f:3:1", "f:4:11", "f:5:12"]
    );
    // But for a header, behind which nothing stands where it seems to.
    let text = "verbos = true\n[[listener\naddress = \"unix:///x\"\nframing = \"lines\"\n";
    assert_eq!(places(text), ["f:1:1", "f:2:11"]);
    let text = "[[listener]]\naddress = \"unix:///x\"\n[[listen er]]\naddress = \"unix:///y\"\n";
    assert_eq!(places(text), ["f:3:9"]);
    let text = "[[listener]]\naddress = unix\n";
    assert_eq!(places(text), ["f:2:11"]);
    // What is missing may be what cannot be read.
    let text = "[[listener]]\naddress: \"unix:///x\"\n";
    assert_eq!(places(text), ["f:2:10"]);
}

#[test]
fn of_very_many_faults_the_first_are_told() {
    let text = |faults: usize| {
        (0..faults)
            .map(|n| format!("k{n} = 1\n"))
            .collect::<String>()
    };
    assert_eq!(places(&text(20)).len(), 20);
    let error = of_file(&text(4321)).map(settled).unwrap_err();
    assert_eq!(error.lines().count(), 61);
    assert!(
        error.ends_with("\nfanin: f: and 4301 faults more"),
        "{error}"
    );
}

/// A message of the library's about a value that the file has, in the file's words.
#[test]
fn an_error_of_the_library_has_the_place_of_its_value() {
    let text = "backlog = 0\nsink = \"null\"\n[[listener]]\naddress = \"unix:///a\"\n[[listener]]\naddress = \"unix:///ab\"\n";
    let origins = of_file(text).unwrap().origins;
    for (message, begins) in [
        (
            "--backlog = 0: no",
            "f:1:11: backlog = 0: no\n 1 | backlog = 0\n",
        ),
        ("--sink null: no", "f:2:8: sink null: no\n"),
        ("--listen unix:///a: no", "f:4:11: listen unix:///a: no\n"),
        ("--listen unix:///ab: no", "f:6:11: listen unix:///ab: no\n"),
        ("--listen = 0: no", "f:4:11: listen = 0: no\n"),
    ] {
        let told = origins.told(message);
        assert!(told.starts_with(begins), "{message}: {told}");
    }
    for message in [
        "--max-age = 0: no",
        "--reactors",
        "nothing of an option",
        "--",
    ] {
        assert_eq!(origins.told(message), message);
    }
    let typed = check(Some(text), &["--backlog=0".to_owned()])
        .unwrap()
        .origins;
    assert_eq!(typed.told("--backlog = 0: no"), "--backlog = 0: no");
}

#[test]
fn a_listener_may_have_what_the_library_knows_and_no_more() {
    let error = "unix:///x?what=1".parse::<Listen>().unwrap_err();
    let legal = format!("legal are {}", OF_A_LISTENER.join(", "));
    assert!(error.reason.ends_with(&legal), "{error}");
}

#[test]
fn what_would_do_does() {
    let definition = definition();
    for arg in options(&definition) {
        let text = format!("{} = {}", arg.get_long().unwrap(), example(arg));
        assert!(of_file(&text).is_ok(), "{text}");
    }
}
