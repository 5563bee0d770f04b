//! The fuzz targets of the command line and its file, for `fuzz/` and for the replay below.
//!
//! In: bytes, from a fuzzer or from a file of the corpus. Out: whether they reached what is asserted, or
//! a panic that says what broke. Never here: chance, a file that is opened.

mod said;

use std::cell::RefCell;
use std::time::Duration;

use clap::Parser;
use fanin::{Coalesce, Config, PressureAction, Rate};

use super::args::{Cli, Command, Serve, in_options};
use super::file::{ConfigFile, Source};
use super::given::{Given, Refused};
use super::sink::Destination;
use super::units::{self, Brief, Deadline};
use said::said_again;

const OPTIONS: [&str; 58] = [
    "\n--listen=tcp://127.0.0.1:0",
    "\n--listen=tcp://[::1]:5140",
    "\n--listen=unix:///run/x",
    "\n--framing=auto",
    "\n--framing=u16",
    "\n--framing=byte:0x7c",
    "\n--max-message=1KiB",
    "\n--max-message=16",
    "\n--max-message=1GiB",
    "\n--on-oversize=truncate",
    "\n--on-oversize=discard",
    "\n--on-oversize=close",
    "\n--sink=null",
    "\n--sink=file:/tmp/x",
    "\n--sink=tcp://host:514",
    "\n--output=raw",
    "\n--consumers=2",
    "\n--consumers=65",
    "\n--reactors=3",
    "\n--ring=64KiB",
    "\n--ring=1MiB",
    "\n--ring=",
    "\n--staging=1GiB",
    "\n--staging=",
    "\n--receive-buffer=8KiB",
    "\n--receive-buffer=auto",
    "\n--max-connections=100",
    "\n--max-connections=",
    "\n--backlog=5",
    "\n--idle-timeout=off",
    "\n--idle-timeout=90s",
    "\n--message-timeout=1",
    "\n--message-timeout=2h",
    "\n--stall-timeout=250ms",
    "\n--max-age=1h",
    "\n--drain-timeout=1s",
    "\n--coalesce=200us",
    "\n--at-max-connections=evict",
    "\n--source-connections=3",
    "\n--source-prefix=56",
    "\n--source-bytes=1MiB",
    "\n--connection-messages=100",
    "\n--listener-bytes=",
    "\n--burst=200ms",
    "\n--least-rate=10",
    "\n--least-rate-window=1m",
    "\n--keepalive=8s",
    "\n--linger=1s",
    "\n--on-full=discard",
    "\n--pressure-timeout=5s",
    "\n--on-pressure=close",
    "\n--consumer-stall-timeout=off",
    "\n--on-consumer-stall=evict",
    "\n--report=-",
    "\n-v",
    "KiB",
    "ms",
    "0",
];

/// Arguments, one a line, of which an option that was given is not given again: what is accepted is set as
/// it was typed, and is a configuration that can be said again, option by option,
/// and comes to the same; what is refused is told in words.
pub(crate) fn command_line(data: &[u8]) -> bool {
    let text = fanin::fuzz::text(data, &OPTIONS);
    let mut words: Vec<&str> = Vec::new();
    for word in text.lines().filter(|line| !line.is_empty()) {
        let option = word.split('=').next().unwrap_or(word);
        let is_known = words.iter().any(|w| w.split('=').next() == Some(option));
        if option == "--listen" || !is_known {
            words.push(word);
        }
    }
    let Some(serve) = parse(words.iter().map(|word| (*word).to_owned())) else {
        return false;
    };
    let config = serve.config();
    let values = words.iter().filter_map(|word| word.split_once('='));
    values.for_each(|(option, value)| took(&config, option, value));
    let again = parse(said_again(&serve).into_iter()).expect("what was said again");
    assert_eq!(format!("{serve:?}"), format!("{again:?}"));
    judged(config_of(&serve));
    true
}

/// What was typed is what is set.
fn took(config: &Config, option: &str, value: &str) {
    let size = || slow_size(value).expect("it was accepted");
    let count = || value.parse::<usize>().expect("it was accepted");
    let time = || slow_micros(value).map(Duration::from_micros);
    let bytes = |rate: Rate| assert_eq!(rate.bytes_per_sec, Some(size() as u64));
    let messages = |rate: Rate| assert_eq!(rate.messages_per_sec, Some(count() as u64));
    match option {
        "--framing" if !value.starts_with("byte") => {
            assert_eq!(config.framing.to_string(), value);
        }
        "--on-oversize" => {
            assert_eq!(config.on_oversize.map(name).as_deref(), Some(value));
        }
        "--at-max-connections" => assert_eq!(name(config.at_max_connections), value),
        "--on-full" => assert_eq!(name(config.on_full), value),
        "--on-consumer-stall" => assert_eq!(name(config.on_consumer_stall), value),
        "--on-pressure" => assert_eq!(
            config.pressure.action == PressureAction::CloseListener,
            value == "close"
        ),
        "--max-message" => assert_eq!(config.max_message, size()),
        "--ring" => assert_eq!(config.ring_bytes, Some(size())),
        "--staging" => assert_eq!(config.staging_bytes, size()),
        "--receive-buffer" if value == "auto" => assert_eq!(config.receive_buffer, 0),
        "--receive-buffer" => assert_eq!(config.receive_buffer, size()),
        "--consumers" => assert_eq!(config.consumers, count()),
        "--reactors" => assert_eq!(config.reactors, count()),
        "--backlog" => assert_eq!(config.backlog as usize, count()),
        "--read-budget" => assert_eq!(config.budgets.reads, count()),
        "--byte-budget" => assert_eq!(config.budgets.bytes, size()),
        "--accept-budget" => assert_eq!(config.budgets.accepts, count()),
        "--coalesce" => match (config.coalesce, value) {
            (Coalesce::Auto, "auto") | (Coalesce::Off, "off") => {}
            (apart, _) => assert_eq!(Some(apart), time().map(Coalesce::Apart)),
        },
        "--idle-timeout" => assert_eq!(config.deadlines.idle, time()),
        "--message-timeout" => assert_eq!(config.deadlines.message, time()),
        "--stall-timeout" => assert_eq!(config.deadlines.stall, time()),
        "--max-age" => assert_eq!(config.deadlines.age, time()),
        "--linger" => assert_eq!(Some(config.deadlines.linger), time()),
        "--keepalive" => assert_eq!(config.keepalive.idle, time().unwrap_or_default()),
        "--user-timeout" => assert_eq!(config.user_timeout, time()),
        "--pressure-timeout" => assert_eq!(config.pressure.after, time()),
        "--consumer-stall-timeout" => assert_eq!(config.consumer_stall, time()),
        "--burst" => assert_eq!(Some(config.rates.burst), time()),
        "--least-rate" => {
            let rate = config.least_rate.expect("it is set");
            assert_eq!(rate.bytes_per_sec, size() as u64);
        }
        "--least-rate-window" => {
            let window = config.least_rate.map(|rate| rate.window);
            assert!(window.is_none_or(|window| Some(window) == time()));
        }
        "--source-connections" => assert_eq!(config.per_source.connections, Some(count())),
        "--source-connects" => {
            let most = config.per_source.connects_per_sec.expect("it is set");
            assert_eq!(most as usize, count());
        }
        "--source-prefix" => assert_eq!(usize::from(config.per_source.ipv6_prefix), count()),
        "--connection-bytes" => bytes(config.rates.connection),
        "--source-bytes" => bytes(config.rates.source),
        "--listener-bytes" => bytes(config.rates.listener),
        "--connection-messages" => messages(config.rates.connection),
        "--source-messages" => messages(config.rates.source),
        "--listener-messages" => messages(config.rates.listener),
        // Of a framing by a byte the number has several spellings.
        "--framing" | "--listen" => {}
        // The program's own.
        "--config" | "--sink" | "--output" | "--max-connections" | "--drain-timeout" => {}
        "--report" => {}
        // A value on a line of its own, with a `=` in it.
        value => assert!(!value.starts_with("--"), "nobody looks for {value}"),
    }
}

/// A policy as it is typed, where the library's name for it is the same.
fn name(policy: impl std::fmt::Debug) -> String {
    format!("{policy:?}").to_lowercase()
}

/// As the program settles it.
fn config_of(serve: &Serve) -> Config {
    let mut config = serve.config();
    config.max_connections = serve.max_connections.unwrap_or(7);
    config
}

fn parse(words: impl Iterator<Item = String>) -> Option<Box<Serve>> {
    let words = ["fanin".to_owned(), "serve".to_owned()]
        .into_iter()
        .chain(words);
    match Cli::try_parse_from(words) {
        Ok(cli) => {
            let Command::Serve(serve) = cli.command else {
                return None;
            };
            Some(serve)
        }
        Err(error) => {
            assert!([0, 2].contains(&error.exit_code()), "{error}");
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// What is legal has a memory bound; of what is not, each fault is named by its option, and a ring of the
/// size that a refusal asks for is not refused.
fn judged(config: Config) {
    match config.clone().validate() {
        Ok(checked) => {
            let rings = config.reactors * config.consumers * checked.ring_bytes();
            assert!(checked.ring_bytes().is_power_of_two());
            assert!(checked.memory().user_bytes() >= rings as u64);
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for error in &errors.0 {
                assert!(!error.reason.is_empty(), "{error}");
                let told = in_options(&error.to_string());
                assert!(told.starts_with("--"), "{told}");
            }
            let is_rings_alone = errors.0.iter().all(|error| error.setting == "ring_bytes");
            if is_rings_alone {
                would_do(config, &errors.0[0].reason);
            }
        }
    }
}

/// The numbers in a refusal of a ring: the smallest that would do does, and half of it does not.
fn would_do(mut config: Config, reason: &str) {
    let said = ["at least ", "for them is "]
        .into_iter()
        .find_map(|before| reason.split_once(before));
    let Some((_, rest)) = said else { return };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let smallest: usize = digits.parse().expect("a number of bytes");
    config.ring_bytes = Some(smallest);
    assert!(config.clone().validate().is_ok(), "{reason}");
    config.ring_bytes = Some(smallest / 2);
    assert!(config.validate().is_err(), "{reason}");
}

/// What files are made of.
const WORDS: [&str; 40] = [
    "\n[[listener]]\n",
    "address = \"tcp://127.0.0.1:0\"\n",
    "address = \"unix:///run/x\"\n",
    "[listener]",
    "framing = \"nul\"\n",
    "framing = \"lines\"\n",
    "max-connections = ",
    "listen = [\"tcp://127.0.0.1:1\", ",
    "listener = [{ ",
    "backlog = ",
    "ring = ",
    "idle-timeout = ",
    "sink = ",
    "verbose = ",
    "on-full = ",
    "max_age",
    "config",
    "\"64KiB\"",
    "\"1h\"",
    "\"off\"",
    "\"null\"",
    "\"discard\"",
    "\"?&=\"",
    "\"\"\"",
    "'''",
    "true",
    "0x10",
    "1_000",
    "1.5",
    "nan",
    "1979-05-27",
    " } ]",
    "]\n",
    " = ",
    ".",
    "\t",
    "\r\n",
    "é",
    "\u{feff}",
    "# ",
];

/// A configuration file. One that is accepted comes to what its settings would, typed; of one that is
/// refused each fault has its line below it, with the caret under its column.
pub(crate) fn config_file(data: &[u8]) -> bool {
    let text = fanin::fuzz::text(data, &WORDS);
    let source = Source::new("f", &text);
    let settings = RefCell::new(Vec::new());
    let words = ["fanin", "serve", "--config=f"].map(Into::into);
    let given = Given::parse_with(words, |_, command| {
        let file = ConfigFile::parse(source.clone(), command)?;
        let args = file.settings.iter().filter_map(|setting| setting.arg());
        settings.borrow_mut().extend(args);
        Ok(file)
    });
    match given {
        Ok(Given { cli, .. }) => {
            let Command::Serve(mut serve) = cli.command else {
                unreachable!("it was typed");
            };
            let settings = settings.into_inner();
            let is_more = !settings.is_empty();
            serve.config = None;
            let typed = parse(settings.into_iter()).expect("what is in a file can be typed");
            assert_eq!(format!("{serve:?}"), format!("{typed:?}"));
            is_more
        }
        Err(Refused::File(error)) => {
            let error = error.to_string();
            let faults: Vec<_> = error.split("\nfanin: ").collect();
            assert!(faults.len() <= 21, "{error}");
            let shown = faults.iter().take(20).map(|fault| shown(&text, fault));
            shown.fold(false, |any, one| any | one)
        }
        Err(Refused::Usage(error)) => panic!("behind the file's back: {error}"),
    }
}

/// Looks for a fault where it says that it is. Not in a long line, which is cut.
fn shown(text: &str, fault: &str) -> bool {
    let mut lines = fault.split('\n');
    let mut next = || lines.next().expect("three lines");
    let (head, line, caret) = (next(), next(), next());
    let mut place = head.splitn(4, ':').skip(1);
    let mut number = || place.next().and_then(|n| n.parse::<usize>().ok());
    let (row, column) = (number().expect("a line"), number().expect("a column"));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let theirs = text.split('\n').nth(row - 1).expect("there is such a line");
    let theirs = theirs.strip_suffix('\r').unwrap_or(theirs);
    if theirs.chars().count() > 55 || theirs.contains('\r') {
        return false;
    }
    let before: Vec<char> = theirs.chars().take(column - 1).collect();
    assert_eq!(before.len(), column - 1, "beyond its line: {fault}");
    let margin = format!(" {row} | ");
    assert_eq!(line.strip_prefix(&margin), Some(theirs), "{fault}");
    let below: Vec<char> = caret.chars().skip(margin.len()).collect();
    let blank = before.iter().map(|c| if *c == '\t' { '\t' } else { ' ' });
    assert!(
        blank.eq(below.iter().copied().take(before.len())),
        "{fault}"
    );
    assert_eq!(below.get(before.len()), Some(&'^'), "{fault}");
    true
}

const UNITS: [&str; 16] = [
    "KiB", "MiB", "GiB", "KB", "mb", "gB", "ib", "b", "ms", "s", "m", "h", "", " ", "\u{a0}",
    "\u{663}",
];

/// The input as it is, if it begins with what can be typed. Else it is nearly a quantity: a number of so
/// many bytes, and a unit, with whatever is left of them behind it.
fn quantity(data: &[u8]) -> String {
    match data {
        [length @ ..b' ', unit, rest @ ..] => {
            let (number, rest) = rest.split_at(rest.len().min(usize::from(length % 9)));
            let number = number
                .iter()
                .fold(0u64, |n, byte| n << 8 | u64::from(*byte));
            let unit = UNITS[usize::from(unit % 16)];
            format!("{number}{unit}{}", String::from_utf8_lossy(rest))
        }
        text => String::from_utf8_lossy(text).into_owned(),
    }
}

/// Sizes, times, deadlines and sinks, each against a reader that counts on its fingers.
pub(crate) fn quantities(data: &[u8]) -> bool {
    let text = &*quantity(data);
    let size = slow_size(text);
    assert_eq!(units::size(text).ok(), size, "{text:?}");
    let micros = slow_micros(text);
    let time = units::duration(text);
    assert_eq!(
        time.clone().ok(),
        micros.map(Duration::from_micros),
        "{text:?}"
    );
    if let Ok(time) = time {
        let again = units::duration(&Brief(time).to_string());
        assert_eq!(again, Ok(time), "{text:?}");
    }
    let deadline = units::deadline(text);
    let expected = match (text, micros) {
        ("off", _) => Some(Deadline(None)),
        (_, None | Some(0)) => None,
        (_, Some(micros)) => Some(Deadline(Some(Duration::from_micros(micros)))),
    };
    assert_eq!(deadline.clone().ok(), expected, "{text:?}");
    for refusal in [units::size(text).err(), time_error(text), deadline.err()] {
        assert!(refusal.is_none_or(|reason| !reason.is_empty()));
    }
    let sink = text.parse::<Destination>();
    if let Ok(sink) = &sink {
        assert_eq!(sink.to_string(), text);
        assert_eq!(text.parse::<Destination>().as_ref(), Ok(sink));
    }
    size.is_some() || micros.is_some() || expected.is_some() || sink.is_ok()
}

fn time_error(text: &str) -> Option<String> {
    units::duration(text).err()
}

/// Digits, and what follows them without the space around it.
fn slow_number(text: &str) -> Option<(u128, String)> {
    let mut number = 0u128;
    let mut digits = 0;
    for digit in text.chars().map_while(|c| c.to_digit(10)) {
        number = (number * 10 + u128::from(digit)).min(u128::from(u64::MAX) + 1);
        digits += 1;
    }
    let unit = text[digits..].trim().to_owned();
    (digits > 0).then_some((number, unit))
}

fn slow_size(text: &str) -> Option<usize> {
    let (number, unit) = slow_number(text)?;
    let unit = unit.to_ascii_lowercase();
    let (base, power) = match unit.strip_suffix("ib") {
        Some(prefix) => (1024, prefix),
        None => (1000, unit.strip_suffix('b').unwrap_or(&unit)),
    };
    let power = match power {
        "" if unit != "ib" => 0,
        "k" if unit != "k" => 1,
        "m" if unit != "m" => 2,
        "g" if unit != "g" => 3,
        _ => return None,
    };
    usize::try_from(number * u128::pow(base, power)).ok()
}

fn slow_micros(text: &str) -> Option<u64> {
    let (number, unit) = slow_number(text)?;
    let micros = match &*unit {
        "us" => 1,
        "ms" => 1000,
        "s" => 1000 * 1000,
        "m" => 60 * 1000 * 1000,
        "h" => 60 * 60 * 1000 * 1000,
        _ => return None,
    };
    u64::try_from(number * micros).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanin::fuzz::Target;
    use std::path::Path;

    #[test]
    fn the_corpus_of_the_command_line_holds() {
        let targets = [
            ("command_line", command_line as Target),
            ("config_file", config_file),
            ("quantities", quantities),
        ];
        for (name, target) in targets {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("fuzz/corpus")
                .join(name);
            let mut reached = 0;
            for file in std::fs::read_dir(&corpus).unwrap() {
                let file = file.unwrap().path();
                eprintln!("{}", file.display());
                reached += u32::from(target(&std::fs::read(&file).unwrap()));
            }
            assert!(
                reached > 0,
                "nothing in {} reaches its assertion",
                corpus.display()
            );
        }
    }
}
