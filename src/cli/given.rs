//! What was asked for: the command line, and the file that it names.
//!
//! In: arguments. Out: the same as if all had been typed, and where each value came from.
//! Never here: a default, or a value's meaning.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

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
        Self::parse_with(args, ConfigFile::read)
    }

    /// With another way to a file.
    pub(super) fn parse_with(
        args: impl IntoIterator<Item = OsString>,
        read: impl Fn(&Path, &Command) -> Result<ConfigFile, FileError>,
    ) -> Result<Self, Refused> {
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
        let file = path.map(|path| read(&path, &command)).transpose();
        let file = file.map_err(Refused::File)?;
        let added = file.iter().flat_map(|file| &file.settings);
        let added = added.filter(|setting| !typed.contains(&setting.option));
        let added = added.filter_map(|setting| setting.arg().map(OsString::from));
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
    /// Of a long option, without its dashes: each time that it was given, or its default. The value is as it
    /// was written; empty if it has none.
    pub(crate) fn values(&self, option: &str) -> Vec<(String, Origin)> {
        let mut of_file = Vec::new();
        if !self.typed.contains(option)
            && let Some(file) = &self.file
        {
            let places = file.places_of(option);
            of_file.extend(places.map(|(value, place)| (value.to_owned(), Origin::File(place))));
        }
        if !of_file.is_empty() {
            return of_file;
        }
        let origin = || match self.typed.contains(option) {
            true => Origin::Option,
            false => Origin::Default,
        };
        let arg = options(&self.command).find(|(long, _)| *long == option);
        let raw = arg.and_then(|(_, arg)| self.matches.get_raw(arg.get_id().as_str()));
        let texts = raw.into_iter().flatten();
        let values: Vec<_> = texts
            .map(|text| (text.to_string_lossy().into_owned(), origin()))
            .collect();
        match values.is_empty() {
            true => vec![(String::new(), origin())],
            false => values,
        }
    }

    /// Did somebody choose it?
    pub(crate) fn is_given(&self, option: &str) -> bool {
        let in_file = |file: &ConfigFile| file.places_of(option).next().is_some();
        self.typed.contains(option) || self.file.as_ref().is_some_and(in_file)
    }

    /// A message that begins with an option, for somebody who may have said it in a file: with its place
    /// there.
    pub(crate) fn told(&self, message: &str) -> String {
        let in_file = || {
            let file = self.file.as_ref()?;
            let rest = message.strip_prefix("--")?;
            let end = rest.find([' ', ':', '=', ',']).unwrap_or(rest.len());
            let option = &rest[..end];
            match self.typed.contains(option) {
                true => None,
                false => file.wrong(option, rest),
            }
        };
        in_file().unwrap_or_else(|| message.to_owned())
    }
}

fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let all = command.get_arguments();
    all.filter_map(|arg| Some((arg.get_long()?, arg)))
}
