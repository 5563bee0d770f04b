//! The program around the library: arguments, sinks, signals, reports.
//!
//! In: arguments and signals. Out: messages in a sink, lines on stderr, a report, an exit code.
//! Never here: anything that an embedder could not do as well through the public face.

mod args;
mod check;
mod effect;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod given;
mod lab;
mod limits;
mod notes;
mod report;
mod sample;
mod sink;
mod supervise;
mod units;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::CommandFactory;
use fanin::{BindError, BoundAddr, Checked, Config, ConnectionInfo, LeastRate, MemoryBound};
use rustix::io::Errno;

use self::args::{Cli, Command, Serve};
use self::check::Never;
use self::effect::Kernel;
use self::given::{Given, Origins, Refused};
use self::lab::Lab;
use self::notes::{Notes, say};
use self::sink::Outlets;
use self::supervise::Supervisor;

/// Something failed at run time.
const FAILED: i32 = 1;
/// Usage or configuration.
const REFUSED: i32 = 2;

/// What is known of a connection in a report, with why it is paused and how long it has been.
const LISTED: usize = size_of::<ConnectionInfo>() + 160;

/// Runs the program; its exit code.
pub(crate) fn main() -> i32 {
    let Given { cli, origins } = match Given::parse(std::env::args_os()) {
        Ok(given) => given,
        Err(Refused::Usage(error)) => error.exit(),
        Err(Refused::File(error)) => {
            say(error);
            return REFUSED;
        }
    };
    let outcome = match cli.command {
        Command::Serve(serve) => start(&serve, &origins).map(Supervisor::run),
        Command::Check(serve) => explain(&serve, &origins).map(|()| 0),
        Command::Config => print_sample().map(|()| 0),
        Command::Lab(lab) => play(&lab).map(|()| 0),
        Command::LabServer(server) => server.run().map(|()| 0).map_err(Refusal::from),
        Command::LabSenders(senders) => senders.run().map(|()| 0).map_err(Refusal::from),
    };
    outcome.unwrap_or_else(|Refusal { code, error }| {
        say(origins.told(&format!("{error:#}")));
        code
    })
}

fn play(lab: &Lab) -> Result<(), Refusal> {
    let designs = lab
        .validate()
        .map_err(|reason| refused(anyhow::Error::msg(reason)))?;
    Ok(lab.run(&designs)?)
}

/// Why the program did not begin.
struct Refusal {
    code: i32,
    error: anyhow::Error,
}

fn refused(error: impl Into<anyhow::Error>) -> Refusal {
    Refusal {
        code: REFUSED,
        error: error.into(),
    }
}

/// What may do better when tried again, with nothing changed, is a failure: an address in use, too few
/// descriptors, no memory, a full disk. An address that is not ours, or a path that leads nowhere or to a
/// file that is no socket, will not: configuration.
fn code_of(error: &io::Error) -> i32 {
    let passes = matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::ADDRINUSE
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::NOBUFS
                | Errno::NOSPC
                | Errno::DQUOT
                | Errno::IO
                | Errno::INTR
                | Errno::AGAIN
        )
    );
    match passes {
        true => FAILED,
        false => REFUSED,
    }
}

/// Something that was named by an option could not be opened.
fn unopened(option: String) -> impl FnOnce(io::Error) -> Refusal {
    move |error| Refusal {
        code: code_of(&error),
        error: anyhow::Error::new(error).context(option),
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self {
            code: FAILED,
            error,
        }
    }
}

/// A configuration that could be served.
struct Prepared {
    checked: Checked,
    memory: MemoryBound,
    others: limits::Others,
    /// Descriptors.
    limit: usize,
    notes: Vec<String>,
}

fn prepare(serve: &Serve, origins: &Origins) -> Result<Prepared, Refusal> {
    let mut config = serve.config();
    let others = limits::Others {
        listeners: config.listeners.len(),
        reactors: config.reactors,
        consumers: config.consumers,
    };
    let default = config.max_connections;
    config.max_connections = serve.max_connections.unwrap_or(default);
    // A setting that is wrong by itself is told first: it may be the reason why nothing fits. A window is wrong
    // whether there is a rate or not.
    let mut alone = config.clone();
    let window = LeastRate::new(1, serve.least_rate_window);
    alone.least_rate.get_or_insert(window);
    validate(alone, origins)?;
    let limit = limits::raise();
    let settled = limits::settle(serve.max_connections, default, limit, &others)
        .map_err(|reason| refused(anyhow::Error::msg(reason)))?;
    config.max_connections = settled.connections;
    let checked = validate(config, origins)?;
    let Never { errors, mut notes } = check::never(&checked, origins);
    if !errors.is_empty() {
        return Err(refused(anyhow::Error::msg(errors.join("\nfanin: "))));
    }
    notes.extend(settled.notice);
    notes.extend(effect::alone(checked.config(), |option| {
        origins.is_given(option)
    }));
    let mut memory = checked.memory();
    let (sinks, record) = (others.consumers, checked.largest_record());
    let name = format!("{sinks} sink{}", if sinks == 1 { "" } else { "s" });
    memory
        .user
        .push((name, (sinks * sink::most_memory(record)) as u64));
    // One waits for who reads stderr, and one is being made. A vector doubles when it grows.
    let listed = settled.connections;
    let name = format!("2 reports' lists of {listed} connections of {LISTED} B, twice");
    memory.user.push((name, (4 * listed * LISTED) as u64));
    Ok(Prepared {
        checked,
        memory,
        others,
        limit,
        notes,
    })
}

/// `fanin check`.
fn explain(serve: &Serve, origins: &Origins) -> Result<(), Refusal> {
    let mut prepared = prepare(serve, origins)?;
    let (config, kernel) = (prepared.checked.config(), Kernel::read());
    if let Some(error) = effect::refused(config, &kernel) {
        return Err(refused(anyhow::Error::msg(error)));
    }
    let beyond = effect::beyond(config, &kernel);
    prepared.notes.extend(beyond);
    let what = serve.config.as_deref();
    let text = check::text(&prepared, origins, what);
    Ok(io::stdout()
        .write_all(text.as_bytes())
        .context("writing to stdout")?)
}

/// `fanin config`.
fn print_sample() -> Result<(), Refusal> {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").expect("there is such a one");
    let text = sample::sample(serve);
    Ok(io::stdout()
        .write_all(text.as_bytes())
        .context("writing to stdout")?)
}

fn start(serve: &Serve, origins: &Origins) -> Result<Supervisor, Refusal> {
    let prepared = prepare(serve, origins)?;
    prepared.notes.iter().for_each(say);

    if let Some(path) = serve
        .report
        .as_deref()
        .filter(|path| *path != Path::new("-"))
    {
        report::look(path).map_err(unopened(format!("--report {}", path.display())))?;
    }

    // Before the first connection: a signal from here on is seen.
    let signals = supervise::signals().context("signals")?;
    let notes = Notes::start(serve.verbose).context("thread fanin-notes")?;
    let outlets =
        Outlets::open(serve.sink.clone()).map_err(unopened(format!("--sink {}", serve.sink)))?;
    let config = prepared.checked.config().clone();
    let fanin = prepared
        .checked
        .bind()
        .map_err(|error| unbound(error, &config))?;

    announce(fanin.handle.local_addrs());
    prepared.memory.to_string().lines().for_each(say);
    Ok(Supervisor::start(
        serve,
        fanin,
        Arc::new(outlets),
        notes,
        signals,
    )?)
}

fn validate(config: Config, origins: &Origins) -> Result<Checked, Refusal> {
    config.validate().map_err(|errors| {
        let errors = errors.0.iter().map(ToString::to_string);
        let lines: Vec<_> = errors
            .map(|error| origins.told(&args::in_options(&error)))
            .collect();
        refused(anyhow::Error::msg(lines.join("\nfanin: ")))
    })
}

/// What a reactor lacks is never configuration. What the kernel does not give is no listener's fault.
fn unbound(error: BindError, config: &Config) -> Refusal {
    let is_listener = error.what.contains("://");
    if is_listener && let Some(error) = effect::refused(config, &Kernel::read()) {
        return refused(anyhow::Error::msg(error));
    }
    let option = if is_listener { "--listen " } else { "" };
    Refusal {
        code: if is_listener {
            code_of(&error.source)
        } else {
            FAILED
        },
        // The error's text has its source already.
        error: anyhow::anyhow!("{option}{error}"),
    }
}

/// One line for each listener, though every reactor has a socket for it.
fn announce(addresses: &[BoundAddr]) {
    let mut stderr = std::io::stderr().lock();
    for (place, address) in addresses.iter().enumerate() {
        if !addresses[..place].contains(address) {
            let _ = writeln!(stderr, "listening on {address}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_a_failure_and_what_stays_is_configuration() {
        let of = |errno: Errno| code_of(&errno.into());
        for errno in [Errno::ADDRINUSE, Errno::MFILE, Errno::NOBUFS, Errno::NOSPC] {
            assert_eq!(of(errno), FAILED, "{errno}");
        }
        for errno in [Errno::ADDRNOTAVAIL, Errno::ACCESS, Errno::NOENT] {
            assert_eq!(of(errno), REFUSED, "{errno}");
        }
        assert_eq!(code_of(&io::Error::other("closed")), REFUSED);
        // What the library says of a path where something else is, which no errno tells.
        assert_eq!(code_of(&io::ErrorKind::AddrInUse.into()), REFUSED);
    }
}
