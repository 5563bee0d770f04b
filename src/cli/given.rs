//! What was asked for: the command line, and the file that it names.
//!
//! In: arguments. Out: the same as if all had been typed, and where each value came from.
//! Never here: a default, or a value's meaning.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::args::Cli;
use super::file::{ConfigFile, FileError};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    Option,
    /// `FILE:LINE:COLUMN`.
    File(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Option => f.write_str("option"),
            Self::File(place) => f.write_str(place),
        }
    }
}

/// The command line and its file.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) cli: Cli,
    pub(crate) origins: Origins,
}

/// Where each option's value came from, and as what it was written.
#[derive(Debug)]
pub(crate) struct Origins {
    command: Command,
    matches: ArgMatches,
    typed: HashSet<String>,
    file: Option<ConfigFile>,
}

/// Why nothing is asked for.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Also a question for help, which is none.
    Usage(clap::Error),
    File(FileError),
}

impl Given {
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Refused> {
        let args: Vec<OsString> = args.into_iter().collect();
        let matches = Cli::command()
            .try_get_matches_from(&args)
            .map_err(Refused::Usage)?;
        let (name, sub) = matches.subcommand().expect("clap asks for a subcommand");
        let cli = Cli::command();
        let command = cli
            .find_subcommand(name)
            .expect("clap knows its subcommands")
            .clone();
        let typed: HashSet<String> = options(&command)
            .filter(|(_, arg)| {
                sub.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
            })
            .map(|(long, _)| long.to_owned())
            .collect();
        let path = options(&command)
            .any(|(long, _)| long == "config")
            .then(|| sub.get_one::<PathBuf>("config").cloned())
            .flatten();
        let file = path
            .map(|path| ConfigFile::read(&path, &command))
            .transpose();
        let file = file.map_err(Refused::File)?;
        let added = file.iter().flat_map(|file| &file.settings);
        let added = added.filter(|setting| !typed.contains(&setting.option));
        let added = added.flat_map(|setting| setting.args.iter().map(OsString::from));
        // Behind the subcommand's name, before what was typed.
        let (head, tail) = args.split_at(args.len().min(2));
        let all = head
            .iter()
            .cloned()
            .chain(added)
            .chain(tail.iter().cloned());
        let matches = cli
            .clone()
            .try_get_matches_from(all)
            .map_err(Refused::Usage)?;
        let parsed = Cli::from_arg_matches(&matches).map_err(Refused::Usage)?;
        let (_, sub) = matches.subcommand().expect("it was there before");
        let matches = sub.clone();
        let origins = Origins {
            command,
            matches,
            typed,
            file,
        };
        Ok(Self {
            cli: parsed,
            origins,
        })
    }
}

impl Origins {
    /// Of a long option, without its dashes.
    pub(crate) fn of(&self, option: &str) -> Origin {
        if self.typed.contains(option) {
            return Origin::Option;
        }
        let place = self.file.as_ref().and_then(|file| file.place_of(option));
        place.map_or(Origin::Default, Origin::File)
    }

    /// The value as it was written, or as the default is; empty if it has none.
    pub(crate) fn text(&self, option: &str) -> String {
        let arg = options(&self.command).find(|(long, _)| *long == option);
        let raw = arg.and_then(|(_, arg)| self.matches.get_raw(arg.get_id().as_str()));
        let texts = raw
            .into_iter()
            .flatten()
            .map(|text| text.to_string_lossy().into_owned());
        texts.collect::<Vec<_>>().join(", ")
    }

    /// What the library says of a setting, where the user has written it.
    pub(crate) fn wrong(&self, option: &str, reason: &str) -> Option<String> {
        let is_typed = self.typed.contains(option);
        let file = self.file.as_ref().filter(|_| !is_typed)?;
        file.wrong(option, reason)
    }
}

fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let all = command.get_arguments();
    all.filter_map(|arg| Some((arg.get_long()?, arg)))
}
