//! The configuration file: TOML, whose keys are the long options.
//!
//! In: a path. Out: the arguments that it stands for, each with its place; or all that is wrong with it.
//! Never here: what a value means, which the option's own parser and `Config::validate` know.
//!
//! What stands in quotes is what would be typed. A whole number, in any of TOML's notations, and `true` and
//! `false` need no quotes.

#[cfg(test)]
mod any_tests;
mod refusal;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use clap::{Arg, ArgAction, Command};
use fanin::{Listen, ListenAddr};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use self::refusal::{tried, unknown, unknown_of_listener, would_do};
pub(crate) use self::source::Source;

/// Options that mean nothing in a file.
const NOT_HERE: [&str; 3] = ["config", "help", "version"];
/// The table of one listener, the option that it stands for, what says where it listens, and what else may
/// stand in it.
const LISTENER: &str = "listener";
const LISTEN: &str = "listen";
const ADDRESS: &str = "address";
const OF_A_LISTENER: [&str; 4] = [
    "framing",
    "max-connections",
    "listener-bytes",
    "listener-messages",
];
/// Faults that are told at once: a screen of them.
const MOST_FAULTS: usize = 20;

/// One option of a file.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The long option, without its dashes.
    pub(crate) option: String,
    pub(crate) value: Said,
    key: Range<usize>,
    at: Range<usize>,
}

#[derive(Debug)]
pub(crate) enum Said {
    Flag(bool),
    /// What would be typed behind the option.
    Text(String),
}

impl Setting {
    /// As it would be typed; a flag that is not set would not be.
    pub(crate) fn arg(&self) -> Option<String> {
        let option = &self.option;
        match &self.value {
            Said::Text(value) => Some(format!("--{option}={value}")),
            Said::Flag(set) => set.then(|| format!("--{option}")),
        }
    }

    fn text(&self) -> &str {
        match &self.value {
            Said::Text(text) => text,
            Said::Flag(true) => "true",
            Said::Flag(false) => "false",
        }
    }
}

/// A file that was read, with what it sets in the order of its lines.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    source: Source,
    pub(crate) settings: Vec<Setting>,
}

/// All that is wrong with a file, each fault with its place and what would do.
#[derive(Debug)]
pub(crate) struct FileError(Vec<String>);

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\nfanin: "))
    }
}

impl Error for FileError {}

/// What is wrong, and with which part of the file.
type Fault = (Range<usize>, String);

impl ConfigFile {
    /// Reads a file for `command`, whose options are the keys.
    pub(crate) fn read(path: &Path, command: &Command) -> Result<Self, FileError> {
        let source = Source::read(path).map_err(|error| FileError(vec![error]))?;
        Self::parse(source, command)
    }

    pub(crate) fn parse(source: Source, command: &Command) -> Result<Self, FileError> {
        let mut reader = Reader {
            command,
            settings: Vec::new(),
            faults: Vec::new(),
        };
        let (table, errors) = DeTable::parse_recoverable(source.text());
        for (key, value) in table.get_ref().iter() {
            reader.key(key, value);
        }
        let Reader {
            mut settings,
            mut faults,
            ..
        } = reader;
        let end = source.text().trim_end().len();
        let place = |error: &toml::de::Error| error.span().unwrap_or(end..end);
        // What else the parser says of a line follows from the first, and what such a line seems to set is
        // not told either. Behind a broken header keys seem to stand where they do not.
        let mut lines = BTreeMap::new();
        for error in &errors {
            let at = place(error);
            let line = source.line_of(at.start);
            lines.entry(line).or_insert((at, form(error)));
        }
        let is_malformed = |(_, what): &&Fault| what != TWICE;
        let broken = lines.iter().filter(|(_, fault)| is_malformed(fault));
        let header = broken.clone().map(|(line, _)| *line).find(|line| {
            let text = source.text()[*line..].trim_start();
            text.starts_with('[')
        });
        let header = header.unwrap_or(usize::MAX);
        if broken.count() > 0 {
            faults.retain(|(at, what)| {
                let line = source.line_of(at.start);
                line < header && !lines.contains_key(&line) && what != NO_ADDRESS
            });
        }
        faults.extend(lines.into_values());
        faults.sort_by_key(|(at, _)| at.start);
        settings.sort_by_key(|setting| setting.key.start);
        if faults.is_empty() {
            return Ok(Self { source, settings });
        }
        let mut told: Vec<_> = faults
            .iter()
            .take(MOST_FAULTS)
            .map(|(at, what)| source.fault(at.clone(), what))
            .collect();
        if let Some(more) = faults.len().checked_sub(MOST_FAULTS).filter(|n| *n > 0) {
            told.push(format!("{}: and {more} faults more", source.name()));
        }
        Err(FileError(told))
    }

    fn of(&self, option: &str) -> impl Iterator<Item = &Setting> {
        let settings = self.settings.iter();
        settings.filter(move |setting| setting.option == option)
    }

    /// Where an option was set, as `FILE:LINE:COLUMN`: each time with its value.
    pub(crate) fn places_of(&self, option: &str) -> impl Iterator<Item = (&str, String)> {
        self.of(option)
            .map(|setting| (setting.text(), self.source.place(setting.key.start)))
    }

    /// What is wrong with the value of an option, if this file has set it. Of several listeners it is the
    /// one whose address the reason names.
    pub(crate) fn wrong(&self, option: &str, reason: &str) -> Option<String> {
        let named = |setting: &Setting| {
            let address = setting.text().parse::<Listen>().ok()?.address.to_string();
            reason.contains(&address).then_some(address.len())
        };
        // A port or a path may begin with another one.
        let setting = self.of(option).filter(|setting| named(setting).is_some());
        let setting = setting.max_by_key(|setting| named(setting));
        let setting = setting.or_else(|| self.of(option).next())?;
        Some(self.source.fault(setting.at.clone(), reason))
    }
}

const TWICE: &str = "is set twice: one of the two has to go";
const NO_ADDRESS: &str = "has no address, like address = \"tcp://127.0.0.1:5140\"";

/// What is wrong with the form of a file.
fn form(error: &toml::de::Error) -> String {
    match error.message().trim() {
        "duplicate key" => TWICE.to_owned(),
        // The parser's messages have lines of their own.
        message => format!("is not TOML: {}", message.replace('\n', ", ")),
    }
}

struct Reader<'c> {
    command: &'c Command,
    settings: Vec<Setting>,
    faults: Vec<Fault>,
}

type Key<'t> = Spanned<DeString<'t>>;
type Value<'t> = Spanned<DeValue<'t>>;

impl Reader<'_> {
    fn wrong(&mut self, at: Range<usize>, what: impl Into<String>) {
        self.faults.push((at, what.into()));
    }

    fn set(&mut self, option: &str, value: Said, key: Range<usize>, at: Range<usize>) {
        let option = option.to_owned();
        self.settings.push(Setting {
            option,
            value,
            key,
            at,
        });
    }

    fn key(&mut self, key: &Key<'_>, value: &Value<'_>) {
        let name = key.get_ref().as_ref();
        if name == LISTENER {
            return self.listeners(value);
        }
        let Some(arg) = options(self.command).find(|arg| arg.get_long() == Some(name)) else {
            let mut what = unknown(self.command, name);
            if value.get_ref().is_table() {
                what += "; settings stand in no table but [[listener]]";
            }
            return self.wrong(key.span(), what);
        };
        match (arg.get_action(), value.get_ref()) {
            (ArgAction::SetTrue, given) => match flag(given) {
                Some(set) => self.set(name, Said::Flag(set), key.span(), value.span()),
                None => {
                    let what = format!("must be true or false, and is {}", kind(given));
                    self.wrong(value.span(), what);
                }
            },
            (ArgAction::Append, DeValue::Array(values)) if values.is_empty() => {
                self.wrong(value.span(), format!("is empty; {}", would_do(arg)));
            }
            (ArgAction::Append, DeValue::Array(values)) => {
                for value in values.iter() {
                    self.value(arg, value.span(), value);
                }
            }
            _ => self.value(arg, key.span(), value),
        }
    }

    fn value(&mut self, arg: &Arg, key: Range<usize>, value: &Value<'_>) {
        let Some(text) = typed(value.get_ref()) else {
            let kind = kind(value.get_ref());
            let what = format!(
                "must be a string or a whole number, and is {kind}; {}",
                would_do(arg)
            );
            return self.wrong(value.span(), what);
        };
        match tried(arg, &text) {
            Ok(()) => {
                let long = arg.get_long().unwrap_or_default();
                self.set(long, Said::Text(text), key, value.span());
            }
            Err(reason) => self.wrong(value.span(), reason),
        }
    }

    fn listeners(&mut self, value: &Value<'_>) {
        let one = "each listener is a table of its own, [[listener]], with an address and what else is its own";
        match value.get_ref() {
            DeValue::Array(tables) if !tables.is_empty() => {
                for table in tables.iter() {
                    match table.get_ref() {
                        DeValue::Table(settings) => self.listener(table.span(), settings),
                        other => {
                            let what = format!("is {}: {one}", kind(other));
                            self.wrong(table.span(), what);
                        }
                    }
                }
            }
            DeValue::Array(_) => self.wrong(value.span(), format!("is empty: {one}")),
            other => self.wrong(value.span(), format!("is {}: {one}", kind(other))),
        }
    }

    /// An address, and what else is this listener's own, as the URL that says the same. Each setting is
    /// tried alone, so that a fault has its place.
    fn listener(&mut self, at: Range<usize>, settings: &DeTable<'_>) {
        let before = self.faults.len();
        let (mut url, mut query) = (None, String::new());
        let mut entries: Vec<_> = settings.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            if name != ADDRESS && !OF_A_LISTENER.contains(&name) {
                self.wrong(key.span(), unknown_of_listener(self.command, name));
                continue;
            }
            let Some(text) = typed(value.get_ref()) else {
                let kind = kind(value.get_ref());
                self.wrong(
                    value.span(),
                    format!("must be a string or a whole number, and is {kind}"),
                );
                continue;
            };
            let legal = match name {
                ADDRESS => address(&text),
                name => own(name, &text),
            };
            if let Err(reason) = legal {
                self.wrong(value.span(), reason);
            }
            if name == ADDRESS {
                url = Some((text, value.span()));
            } else {
                let mark = if query.is_empty() { '?' } else { '&' };
                query.push_str(&format!("{mark}{name}={text}"));
            }
        }
        // A key that is wrong may have been meant for what is missing.
        if self.faults.len() == before {
            match url {
                Some((url, address)) => self.set(LISTEN, Said::Text(url + &query), at, address),
                None => self.wrong(at, NO_ADDRESS),
            }
        }
    }
}

/// The options that a file may say.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_here = |arg: &&Arg| arg.get_long().is_some_and(|long| !NOT_HERE.contains(&long));
    command.get_arguments().filter(is_here)
}

fn flag(value: &DeValue<'_>) -> Option<bool> {
    match value {
        DeValue::Boolean(set) => Some(*set),
        DeValue::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A value as it would be typed, if it is one that can be.
fn typed(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            let number = i128::from_str_radix(&digits, number.radix());
            Some(number.map_or(digits, |number| number.to_string()))
        }
        _ => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time of day",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn address(text: &str) -> Result<(), String> {
    if text.contains('?') {
        return Err("a `?` cannot stand here: each setting is a key of its own".to_owned());
    }
    text.parse::<ListenAddr>().map(|_| ()).map_err(|e| e.reason)
}

/// A setting of a listener, tried at an address that is legal.
fn own(name: &str, text: &str) -> Result<(), String> {
    // A part of a URL must not become two.
    if text.contains('&') {
        return Err("a `&` cannot stand here: each setting is a key of its own".to_owned());
    }
    let url = format!("unix:///run/fanin?{name}={text}");
    let repeated = format!("{name}={text}: ");
    url.parse::<Listen>().map(|_| ()).map_err(|error| {
        let reason = error.reason.strip_prefix(&repeated);
        reason.unwrap_or(&error.reason).to_owned()
    })
}
