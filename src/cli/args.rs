//! The command line.
//!
//! In: arguments. Out: a `Config` and what the program itself needs to know.
//! Never here: a limit of the library's; `Config::validate` knows those.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fanin::{
    AtLimit, Coalesce, Config, Framing, LeastRate, Listen, OnConsumerStall, OnFull, OnOversize,
    PressureAction, Rate,
};

use super::lab::{Lab, Senders, Server};
use super::sink::{Destination, Output};
use super::units::{self, Deadline};

/// Takes messages from very many connections and hands them to a few consumers.
#[derive(Debug, Parser)]
#[command(name = "fanin", version, about, mut_subcommands = may_be_negative)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A negative number is for an option's own parser to refuse, which is told with the option's name: by itself clap
/// looks for an option `-1`. Not whatever begins with a hyphen, or an option would be the value of one that has none.
fn may_be_negative(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| {
        let takes = arg.get_action().takes_values();
        arg.allow_negative_numbers(takes)
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Listen, and deliver every message that comes to the sink
    #[command(after_help = AFTER_HELP)]
    Serve(Box<Serve>),
    /// Say what a configuration comes to, without listening: its layers, its memory, what can never fire
    #[command(after_help = "Exit code 0: it is valid. 2: it is not.")]
    Check(Box<Serve>),
    /// Print a sample configuration file: every option, what it does and its default
    Config,
    /// Play one load against the designs that people write first, and against this one, side by side
    Lab(Box<Lab>),
    #[command(hide = true)]
    LabServer(Box<Server>),
    #[command(hide = true)]
    LabSenders(Box<Senders>),
}

/// What no single option says.
const AFTER_HELP: &str = "\
Sizes are bytes or have a unit (64KiB, 4MiB, 64KB); times have one (250ms, 30s, 5m, 1h).

SIGTERM, SIGINT  drain; a second one stops at once
SIGUSR1          report now, with the live connections, to --report or to stderr
SIGHUP           open --sink file:PATH again, after it was renamed, before the next message

Exit code 0: everything was delivered. 1: something was not, or failed. 2: usage or configuration.";

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Read settings from this file too: TOML, its keys are these options. What is typed here wins
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub(crate) config: Option<PathBuf>,

    /// Where to listen: tcp://ADDRESS:PORT or unix:///PATH; port 0 takes a free one. Its own settings follow:
    /// ?framing=octet&max-connections=500&listener-bytes=10MiB&listener-messages=5000. Can be repeated
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:5140", value_parser = listen, help_heading = "Messages in")]
    pub(crate) listen: Vec<Listen>,
    /// Where a message ends: line, nul, byte:0xNN, octet, auto (octet or line), u16, u32, varint
    #[arg(long, default_value = "line", value_parser = framing, help_heading = "Messages in")]
    pub(crate) framing: Framing,
    /// The largest message, without its delimiter or prefix
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = units::size, help_heading = "Messages in")]
    pub(crate) max_message: usize,
    /// What to do with a larger one [default: truncate where a delimiter ends messages, else close]
    #[arg(long, value_name = "POLICY", value_enum, help_heading = "Messages in")]
    pub(crate) on_oversize: Option<Oversize>,

    /// Where messages go: stdout, null, file:PATH or tcp://HOST:PORT
    #[arg(long, default_value = "stdout", help_heading = "Messages out")]
    pub(crate) sink: Destination,
    /// line: one line for each message, LF and backslash escaped unless the framing of every listener is line; raw: as they came, the last one of a sender without an end if it had none
    #[arg(long, value_enum, default_value_t = Output::Line, help_heading = "Messages out")]
    pub(crate) output: Output,

    /// Consumers: threads that write to the sink
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = units::number::<usize>,
        help_heading = "Threads and memory"
    )]
    pub(crate) consumers: usize,
    /// Reactors: threads that read from connections
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = units::number::<usize>,
        help_heading = "Threads and memory"
    )]
    pub(crate) reactors: usize,
    /// The ring from each reactor to each consumer [default: 4MiB, more if max-message needs it]
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Threads and memory")]
    pub(crate) ring: Option<usize>,
    /// Parts of messages that wait for their rest, over all connections
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::size, help_heading = "Threads and memory")]
    pub(crate) staging: usize,
    /// SO_RCVBUF of each connection; or auto: the kernel grows it
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = units::receive_buffer, help_heading = "Threads and memory")]
    pub(crate) receive_buffer: usize,

    /// Read what comes within so short a time together: fewer wake-ups, and a message waits at most as much longer (10us to 10ms); auto: 100us, and only while messages come very fast and none are lost; or off
    #[arg(long, value_name = "TIME", default_value = "auto", value_parser = units::coalesce, help_heading = "Threads and memory")]
    pub(crate) coalesce: Coalesce,
    /// Reads for one consumer's ring in a turn of a reactor, before the other rings have theirs
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        value_parser = units::number::<usize>,
        help_heading = "Threads and memory"
    )]
    pub(crate) read_budget: usize,
    /// Bytes that these reads bring at most; the one that goes beyond is the last
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = units::size, help_heading = "Threads and memory")]
    pub(crate) byte_budget: usize,
    /// Connections accepted from one listener in a turn, so that a storm of them does not starve those that are there
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        value_parser = units::number::<usize>,
        help_heading = "Threads and memory"
    )]
    pub(crate) accept_budget: usize,

    /// Connections at once [default: 10000, fewer if the descriptor limit is lower]
    #[arg(long, value_name = "N", value_parser = units::number::<usize>, help_heading = "Connections")]
    pub(crate) max_connections: Option<usize>,
    /// What happens to who connects when that many are, or as many as its listener may have: it waits in the backlog (wait), is closed at once (refuse), or the longest idle is closed for it (evict)
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = WhenTaken::Wait, help_heading = "Connections")]
    pub(crate) at_max_connections: WhenTaken,
    /// Connections that wait to be accepted: listen(2)'s backlog
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1024,
        value_parser = units::number::<u32>,
        help_heading = "Connections"
    )]
    pub(crate) backlog: u32,
    /// Close a connection without a byte for so long; or off
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = units::deadline, help_heading = "Connections")]
    pub(crate) idle_timeout: Deadline,
    /// Close a connection that began a message and did not finish it for so long; or off
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::deadline, help_heading = "Connections")]
    pub(crate) message_timeout: Deadline,
    /// Close a connection whose unfinished message comes more slowly than so much a second
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Connections")]
    pub(crate) least_rate: Option<usize>,
    /// How long its bytes are counted before that is said
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration, help_heading = "Connections")]
    pub(crate) least_rate_window: Duration,
    /// Close a connection whose bytes wait for the sink for so long; or off
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = units::deadline, help_heading = "Connections")]
    pub(crate) stall_timeout: Deadline,
    /// Close a connection that is so old, some up to a tenth later so that not all leave at once; or off
    #[arg(long, value_name = "TIME", default_value = "off", value_parser = units::deadline, help_heading = "Connections")]
    pub(crate) max_age: Deadline,
    /// How long a connection that we close may go on sending, until its peer closes it too
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::duration, help_heading = "Connections")]
    pub(crate) linger: Duration,
    /// Find peers that vanished by TCP keepalive: after so long of silence four probes, each a quarter of that after the other; or off
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::deadline, help_heading = "Connections")]
    pub(crate) keepalive: Deadline,
    /// TCP_USER_TIMEOUT: how long a peer may leave what we sent, probes too, without an answer; or off: the kernel's default
    #[arg(long, value_name = "TIME", default_value = "off", value_parser = units::deadline, help_heading = "Connections")]
    pub(crate) user_timeout: Deadline,
    /// Connections at once from each source: an IPv4 address, an IPv6 network, a user of this machine. More are closed at once
    #[arg(long, value_name = "N", value_parser = units::number::<usize>, help_heading = "Layers")]
    pub(crate) source_connections: Option<usize>,
    /// New connections a second from each source
    #[arg(long, value_name = "N", value_parser = units::number::<u32>, help_heading = "Layers")]
    pub(crate) source_connects: Option<u32>,
    /// How many bits of an IPv6 address are its network
    #[arg(
        long,
        value_name = "BITS",
        default_value_t = 64,
        value_parser = units::number::<u8>,
        help_heading = "Layers"
    )]
    pub(crate) source_prefix: u8,
    /// Bytes a second from each connection: whoever sends more is not read meanwhile, and nothing is lost
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Layers")]
    pub(crate) connection_bytes: Option<usize>,
    /// Messages a second from each connection
    #[arg(long, value_name = "N", value_parser = units::number::<u64>, help_heading = "Layers")]
    pub(crate) connection_messages: Option<u64>,
    /// Bytes a second from each source, all its connections together
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Layers")]
    pub(crate) source_bytes: Option<usize>,
    /// Messages a second from each source
    #[arg(long, value_name = "N", value_parser = units::number::<u64>, help_heading = "Layers")]
    pub(crate) source_messages: Option<u64>,
    /// Bytes a second over each listener that has no rate of its own, all its connections together
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Layers")]
    pub(crate) listener_bytes: Option<usize>,
    /// Messages a second over each listener
    #[arg(long, value_name = "N", value_parser = units::number::<u64>, help_heading = "Layers")]
    pub(crate) listener_messages: Option<u64>,
    /// After a silence, what these let in in so much time may come at once: 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration, help_heading = "Layers")]
    pub(crate) burst: Duration,

    /// How long SIGTERM lets senders finish and the sink take what is there
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration, help_heading = "Connections")]
    pub(crate) drain_timeout: Duration,

    /// What to do with what comes while a ring is full: hold its senders (pause), or lose it (discard)
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Full::Pause, help_heading = "Layers")]
    pub(crate) on_full: Full,
    /// Let nobody new in when every ring has been full for so long, until they have not been for as long; or off
    #[arg(long, value_name = "TIME", default_value = "off", value_parser = units::deadline, help_heading = "Layers")]
    pub(crate) pressure_timeout: Deadline,
    /// How: who comes waits in the backlog (wait), or the listeners are closed and opened again later (close)
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = OnPressure::Wait, help_heading = "Layers")]
    pub(crate) on_pressure: OnPressure,
    /// A consumer whose sink takes nothing for so long, while there is something for it, is stalled; or off
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::deadline, help_heading = "Layers")]
    pub(crate) consumer_stall_timeout: Deadline,
    /// What to do about a stalled consumer besides saying so: end its connections (evict), or end the whole
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = OnStall::Wait, help_heading = "Layers")]
    pub(crate) on_consumer_stall: OnStall,

    /// Write the final report (JSON) to this file; `-`: to stderr, as its last line
    #[arg(long, value_name = "PATH", help_heading = "Seeing")]
    pub(crate) report: Option<PathBuf>,
    /// Say on stderr who connects, who leaves and what is discarded
    #[arg(short, long, help_heading = "Seeing")]
    pub(crate) verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Oversize {
    Truncate,
    Discard,
    Close,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Full {
    Pause,
    Discard,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnPressure {
    Wait,
    Close,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WhenTaken {
    Wait,
    Refuse,
    Evict,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnStall {
    Wait,
    Evict,
    Stop,
}

fn listen(text: &str) -> Result<Listen, String> {
    text.parse::<Listen>().map_err(|error| error.to_string())
}

fn framing(text: &str) -> Result<Framing, String> {
    text.parse::<Framing>().map_err(|error| error.to_string())
}

fn rate(bytes: Option<usize>, messages: Option<u64>) -> Rate {
    let mut rate = Rate::default();
    rate.bytes_per_sec = bytes.map(|bytes| bytes as u64);
    rate.messages_per_sec = messages;
    rate
}

impl Serve {
    /// The library's settings; `max_connections` is settled by `limits`.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.listeners = self.listen.clone();
        config.framing = self.framing.clone();
        config.consumers = self.consumers;
        config.reactors = self.reactors;
        config.ring_bytes = self.ring;
        config.max_message = self.max_message;
        config.on_oversize = self.on_oversize.map(|policy| match policy {
            Oversize::Truncate => OnOversize::Truncate,
            Oversize::Discard => OnOversize::Discard,
            Oversize::Close => OnOversize::Close,
        });
        config.at_max_connections = match self.at_max_connections {
            WhenTaken::Wait => AtLimit::Wait,
            WhenTaken::Refuse => AtLimit::Refuse,
            WhenTaken::Evict => AtLimit::Evict,
        };
        config.per_source.connections = self.source_connections;
        config.per_source.connects_per_sec = self.source_connects;
        config.per_source.ipv6_prefix = self.source_prefix;
        config.staging_bytes = self.staging;
        config.receive_buffer = self.receive_buffer;
        config.coalesce = self.coalesce;
        config.budgets.reads = self.read_budget;
        config.budgets.bytes = self.byte_budget;
        config.budgets.accepts = self.accept_budget;
        config.backlog = self.backlog;
        config.deadlines.idle = self.idle_timeout.0;
        config.deadlines.message = self.message_timeout.0;
        config.deadlines.stall = self.stall_timeout.0;
        config.deadlines.age = self.max_age.0;
        config.deadlines.linger = self.linger;
        config.keepalive.idle = self.keepalive.0.unwrap_or_default();
        if let Some(silence) = self.keepalive.0 {
            config.keepalive.interval = silence / config.keepalive.probes;
        }
        config.user_timeout = self.user_timeout.0;
        config.on_full = match self.on_full {
            Full::Pause => OnFull::Pause,
            Full::Discard => OnFull::Discard,
        };
        config.pressure.after = self.pressure_timeout.0;
        config.pressure.action = match self.on_pressure {
            OnPressure::Wait => PressureAction::StopAccepting,
            OnPressure::Close => PressureAction::CloseListener,
        };
        config.consumer_stall = self.consumer_stall_timeout.0;
        config.on_consumer_stall = match self.on_consumer_stall {
            OnStall::Wait => OnConsumerStall::Wait,
            OnStall::Evict => OnConsumerStall::Evict,
            OnStall::Stop => OnConsumerStall::Stop,
        };
        config.least_rate = self
            .least_rate
            .map(|rate| LeastRate::new(rate as u64, self.least_rate_window));
        config.rates.connection = rate(self.connection_bytes, self.connection_messages);
        config.rates.source = rate(self.source_bytes, self.source_messages);
        config.rates.listener = rate(self.listener_bytes, self.listener_messages);
        config.rates.burst = self.burst;
        config.drain_timeout = self.drain_timeout;
        config
    }

    pub(crate) fn stops_for_a_stall(&self) -> bool {
        matches!(self.on_consumer_stall, OnStall::Stop)
    }

    /// May lines be copied as they are? Only where no message can hold an LF, on every listener.
    pub(crate) fn is_verbatim(&self) -> bool {
        self.listen.iter().all(|listen| {
            let framing = listen.framing.as_ref().unwrap_or(&self.framing);
            matches!(framing, Framing::Line)
        })
    }
}

/// A setting's name in the library, and its option.
const OPTIONS: [(&str, &str); 41] = [
    ("listeners", "--listen"),
    ("framing", "--framing"),
    ("consumers", "--consumers"),
    ("reactors", "--reactors"),
    ("ring_bytes", "--ring"),
    ("max_message", "--max-message"),
    ("on_oversize", "--on-oversize"),
    ("max_connections", "--max-connections"),
    ("at_max_connections", "--at-max-connections"),
    ("per_source.connections", "--source-connections"),
    ("per_source.connects_per_sec", "--source-connects"),
    ("per_source.ipv6_prefix", "--source-prefix"),
    ("staging_bytes", "--staging"),
    ("receive_buffer", "--receive-buffer"),
    ("coalesce", "--coalesce"),
    ("budgets.reads", "--read-budget"),
    ("budgets.bytes", "--byte-budget"),
    ("budgets.accepts", "--accept-budget"),
    ("backlog", "--backlog"),
    ("deadlines.idle", "--idle-timeout"),
    ("deadlines.message", "--message-timeout"),
    ("least_rate.bytes_per_sec", "--least-rate"),
    ("least_rate.window", "--least-rate-window"),
    ("deadlines.stall", "--stall-timeout"),
    ("deadlines.age", "--max-age"),
    ("deadlines.linger", "--linger"),
    ("keepalive.idle", "--keepalive"),
    ("user_timeout", "--user-timeout"),
    ("pressure.after", "--pressure-timeout"),
    ("pressure.action", "--on-pressure"),
    ("on_full", "--on-full"),
    ("consumer_stall", "--consumer-stall-timeout"),
    ("on_consumer_stall", "--on-consumer-stall"),
    ("drain_timeout", "--drain-timeout"),
    ("rates.connection.bytes_per_sec", "--connection-bytes"),
    ("rates.connection.messages_per_sec", "--connection-messages"),
    ("rates.source.bytes_per_sec", "--source-bytes"),
    ("rates.source.messages_per_sec", "--source-messages"),
    ("rates.listener.bytes_per_sec", "--listener-bytes"),
    ("rates.listener.messages_per_sec", "--listener-messages"),
    ("rates.burst", "--burst"),
];

/// The long option of one of the library's settings, without its dashes.
pub(crate) fn option_of(setting: &str) -> Option<&'static str> {
    let mut known = OPTIONS.iter().filter(|(name, _)| *name == setting);
    known
        .next()
        .map(|(_, option)| option.trim_start_matches('-'))
}

/// An error of the library's that begins with a setting's name, for somebody who typed an option.
pub(crate) fn in_options(error: &str) -> String {
    for (setting, option) in OPTIONS {
        if let Some(rest) = error.strip_prefix(setting)
            && rest.starts_with([' ', ':', '=', ','])
        {
            return match POLICIES.contains(&setting) {
                true => format!("{option}{}", in_words(rest)),
                false => format!("{option}{rest}"),
            };
        }
    }
    error.to_owned()
}

/// Settings whose values have names of their own in the library, and those values as they are typed.
const POLICIES: [&str; 2] = ["pressure.action", "on_consumer_stall"];
const VALUES: [(&str, &str); 5] = [
    ("CloseListener", "close"),
    ("StopAccepting", "wait"),
    ("Wait", "wait"),
    ("Evict", "evict"),
    ("Stop", "stop"),
];

/// Each word that is a name in the library, as it is typed.
fn in_words(text: &str) -> String {
    let typed = |word: &str| {
        let name = word.trim_end_matches([' ', ':', ';', ',']);
        let known = OPTIONS
            .iter()
            .chain(&VALUES)
            .find(|(ours, _)| *ours == name);
        known.map_or(word.to_owned(), |(_, typed)| word.replacen(name, typed, 1))
    };
    text.split_inclusive(' ').map(typed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn serve(words: &[&str]) -> Box<Serve> {
        match Cli::parse_from(words).command {
            Command::Serve(serve) => serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound_and_its_defaults_are_the_librarys() {
        Cli::command().debug_assert();
        let serve = serve(&["fanin", "serve"]);
        let ours = serve.config();
        let theirs = Config::default();
        assert_eq!(ours.deadlines, theirs.deadlines);
        assert_eq!(ours.keepalive, theirs.keepalive);
        assert_eq!(ours.budgets, theirs.budgets);
        assert_eq!(ours.user_timeout, theirs.user_timeout);
        assert_eq!(ours.rates, theirs.rates);
        assert_eq!(ours.max_message, theirs.max_message);
        assert_eq!(ours.at_max_connections, theirs.at_max_connections);
        assert_eq!(ours.per_source, theirs.per_source);
        assert_eq!(ours.staging_bytes, theirs.staging_bytes);
        assert_eq!(ours.receive_buffer, theirs.receive_buffer);
        assert_eq!(ours.coalesce, theirs.coalesce);
        assert_eq!(ours.backlog, theirs.backlog);
        assert_eq!(ours.consumer_stall, theirs.consumer_stall);
        assert_eq!(ours.on_consumer_stall, theirs.on_consumer_stall);
        assert_eq!(serve.drain_timeout, theirs.drain_timeout);
        assert_eq!(ours.listeners.len(), 1);
        assert!(serve.is_verbatim());
        assert_eq!(serve.output, Output::Line);
    }

    #[test]
    fn keepalive_is_one_time_or_off() {
        let config = |words: &[&str]| serve(&[&["fanin", "serve"], words].concat()).config();
        let some = config(&[
            "--keepalive",
            "8s",
            "--user-timeout",
            "9s",
            "--linger",
            "1s",
        ]);
        assert_eq!(some.keepalive.idle, Duration::from_secs(8));
        assert_eq!(some.keepalive.interval, Duration::from_secs(2));
        assert_eq!(some.user_timeout, Some(Duration::from_secs(9)));
        assert_eq!(some.deadlines.linger, Duration::from_secs(1));
        assert!(config(&["--keepalive", "off"]).keepalive.idle.is_zero());
    }

    #[test]
    fn a_wrong_value_is_named_with_its_option_and_the_reason() {
        let error = Cli::try_parse_from(["fanin", "serve", "--max-message", "64K"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        for part in ["--max-message", "64K", "KiB"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_refused_with_the_name_of_its_option() {
        for (option, value, reason) in [
            ("--max-message", "-1", "not a size"),
            ("--linger", "-1", "not a time"),
            ("--consumers", "-1", "must be a whole number"),
            (
                "--consumers",
                "x",
                "must be a whole number, not less than 0",
            ),
            ("--source-prefix", "1000", "is too large a number"),
        ] {
            let error = Cli::try_parse_from(["fanin", "serve", option, value]).unwrap_err();
            let text = error.to_string();
            let begin = format!("error: invalid value '{value}' for '{option} <");
            assert!(text.starts_with(&begin) && text.contains(reason), "{text}");
        }
        let words = ["fanin", "serve", "--max-message", "--linger", "1s"];
        let text = Cli::try_parse_from(words).unwrap_err().to_string();
        assert!(
            text.contains("a value is required for '--max-message <SIZE>'"),
            "{text}"
        );
    }

    #[test]
    fn settings_are_called_by_their_options() {
        assert_eq!(in_options("ring_bytes 3: no"), "--ring 3: no");
        assert_eq!(in_options("ring_bytes_x: no"), "ring_bytes_x: no");
        assert_eq!(in_options("two settings"), "two settings");
        let close = serve(&["fanin", "serve", "--on-pressure", "close"]).config();
        let error = close.validate().unwrap_err().to_string();
        assert_eq!(
            in_options(&error),
            "--on-pressure = close: can never fire, for --pressure-timeout is off; wait, or a time for it, would do"
        );
    }

    #[test]
    fn the_help_says_what_signals_and_exit_codes_mean() {
        for option in ["-h", "--help"] {
            let help = Cli::try_parse_from(["fanin", "serve", option]).unwrap_err();
            let text = help.to_string();
            for part in ["SIGUSR1", "Exit code 0", "64KiB"] {
                assert!(text.contains(part), "{part} is missing in: {text}");
            }
        }
    }

    #[test]
    fn only_lines_are_verbatim() {
        let serve = serve(&["fanin", "serve", "--framing", "auto"]);
        assert!(!serve.is_verbatim());
    }
}
