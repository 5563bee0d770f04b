//! The configuration file: TOML, whose keys are the long options.
//!
//! In: a path. Out: the arguments that it stands for, each with its place. Never here: what a value means,
//! which the option's own parser and `Config::validate` know.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// More than a configuration ever has: whoever names a log file by mistake is told at once.
const LARGEST: u64 = 1 << 20;
/// Characters of a line, or of a reason, that are shown at most.
const SHOWN: usize = 200;
/// Options that mean nothing in a file.
const NOT_HERE: [&str; 3] = ["config", "help", "version"];
/// The table of one listener, and what says where that listens.
const LISTENER: &str = "listener";
const ADDRESS: &str = "address";

/// One line of a file, as the arguments that it stands for.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The long option, without its dashes.
    pub(crate) option: String,
    pub(crate) args: Vec<String>,
    at: Range<usize>,
}

/// A file that was read, with what it sets in the order of its lines.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    text: String,
    pub(crate) settings: Vec<Setting>,
}

/// What is wrong with a file, where, and what would do.
#[derive(Debug)]
pub(crate) struct FileError(String);

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FileError {}

impl ConfigFile {
    /// Reads a file for `command`, whose options are the keys.
    pub(crate) fn read(path: &Path, command: &Command) -> Result<Self, FileError> {
        let failed = |what: &dyn fmt::Display| FileError(format!("{}: {what}", path.display()));
        let is_file = fs::metadata(path)
            .map_err(|error| failed(&error))?
            .is_file();
        if !is_file {
            return Err(failed(&"is no regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| failed(&error))?;
        if bytes.len() as u64 > LARGEST {
            return Err(failed(&"is larger than 1 MiB, and so no configuration"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            FileError(format!("{}:{line}: is not UTF-8", path.display()))
        })?;
        let mut file = Self {
            path: path.to_owned(),
            text,
            settings: Vec::new(),
        };
        file.settings = file.parse(command)?;
        Ok(file)
    }

    /// Where an option was set, as `FILE:LINE:COLUMN`.
    pub(crate) fn place_of(&self, option: &str) -> Option<String> {
        let setting = self.settings.iter().find(|s| s.option == option)?;
        let (line, column) = self.position(setting.at.start);
        Some(format!("{}:{line}:{column}", self.path.display()))
    }

    /// What is wrong with the value of an option, if this file has set it.
    pub(crate) fn wrong(&self, option: &str, reason: &str) -> Option<String> {
        let setting = self.settings.iter().find(|s| s.option == option)?;
        Some(self.error(setting.at.clone(), reason).0)
    }

    fn parse(&self, command: &Command) -> Result<Vec<Setting>, FileError> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            // The parser's messages have lines of their own.
            let message = error.message().trim().replace('\n', ", ");
            self.error(error.span().unwrap_or_default(), &message)
        })?;
        let mut settings = Vec::new();
        for (key, value) in table.get_ref() {
            if key.get_ref() == LISTENER {
                for listener in self.listeners(value)? {
                    self.check(command, &listener)?;
                    settings.push(listener);
                }
                continue;
            }
            let setting = self.setting(command, key.get_ref(), &key.span(), value)?;
            self.check(command, &setting)?;
            settings.push(setting);
        }
        settings.sort_by_key(|setting| setting.at.start);
        Ok(settings)
    }

    fn setting(
        &self,
        command: &Command,
        key: &str,
        at: &Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Setting, FileError> {
        let mut known = command
            .get_arguments()
            .filter_map(|arg| Some((arg.get_long()?, arg)));
        let Some((option, arg)) = known.find(|(long, _)| *long == key && !NOT_HERE.contains(long))
        else {
            return Err(self.error(at.clone(), &unknown(command, key)));
        };
        let takes_value = !matches!(arg.get_action(), ArgAction::SetTrue);
        let args = match value.get_ref() {
            DeValue::Boolean(set) if !takes_value => {
                set.then(|| format!("--{option}")).into_iter().collect()
            }
            DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
                let one = |value| self.text_of(arg, value);
                let values = values.iter().map(one).collect::<Result<Vec<_>, _>>()?;
                values
                    .into_iter()
                    .map(|v| format!("--{option}={v}"))
                    .collect()
            }
            _ => vec![format!("--{option}={}", self.text_of(arg, value)?)],
        };
        Ok(Setting {
            option: option.to_owned(),
            args,
            at: at.start..value.span().end,
        })
    }

    /// A value as it would be typed.
    fn text_of(&self, arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<String, FileError> {
        let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
        match value.get_ref() {
            DeValue::String(text) if !is_flag => Ok(text.to_string()),
            DeValue::Integer(number) if !is_flag && number.radix() == 10 => {
                Ok(number.as_str().replace('_', ""))
            }
            other => {
                let legal = if is_flag {
                    "true or false"
                } else {
                    "a string or a number"
                };
                let reason = format!("must be {legal}, and is a {}", other.type_str());
                Err(self.error(value.span(), &reason))
            }
        }
    }

    /// `[[listener]]`: an address, and what else is this listener's own, as the URL that says the same.
    fn listeners(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<Setting>, FileError> {
        let tables = value
            .get_ref()
            .as_array()
            .into_iter()
            .flat_map(|a| a.iter());
        let tables: Vec<_> = tables.collect();
        if tables.is_empty() {
            let reason = "a listener is a table of its own: [[listener]]";
            return Err(self.error(value.span(), reason));
        }
        tables
            .into_iter()
            .map(|table| self.listener(table))
            .collect()
    }

    fn listener(&self, value: &Spanned<DeValue<'_>>) -> Result<Setting, FileError> {
        let Some(table) = value.get_ref().as_table() else {
            let reason = "a listener is a table of its own: [[listener]]";
            return Err(self.error(value.span(), reason));
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let (mut url, mut query) = (None, String::new());
        for (key, value) in &entries {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) if number.radix() == 10 => {
                    number.as_str().replace('_', "")
                }
                other => {
                    let reason = format!(
                        "must be a string or a number, and is a {}",
                        other.type_str()
                    );
                    return Err(self.error(value.span(), &reason));
                }
            };
            // A part of a URL must not become two.
            if text.contains(['?', '&']) {
                let reason = "a `?` or a `&` cannot stand here: each setting is a key of its own";
                return Err(self.error(value.span(), reason));
            }
            if key.get_ref() == ADDRESS {
                url = Some(text);
            } else {
                let mark = if query.is_empty() { '?' } else { '&' };
                query.push_str(&format!("{mark}{}={text}", key.get_ref()));
            }
        }
        let Some(url) = url else {
            let reason = "has no address, like address = \"tcp://127.0.0.1:5140\"";
            return Err(self.error(value.span(), reason));
        };
        let ends = entries.iter().map(|(_, value)| value.span().end);
        Ok(Setting {
            option: "listen".to_owned(),
            args: vec![format!("--listen={url}{query}")],
            at: value.span().start..ends.max().unwrap_or(value.span().end),
        })
    }

    /// Asks the option's own parser.
    fn check(&self, command: &Command, setting: &Setting) -> Result<(), FileError> {
        let args = std::iter::once(command.get_name().to_owned()).chain(setting.args.clone());
        let Err(error) = command.clone().try_get_matches_from(args) else {
            return Ok(());
        };
        Err(self.error(setting.at.clone(), &reason(&error)))
    }

    /// `FILE:LINE:COLUMN: reason`, and the line with what is meant underlined.
    fn error(&self, at: Range<usize>, reason: &str) -> FileError {
        let (line, column) = self.position(at.start);
        let shown = self.text.lines().nth(line - 1).unwrap_or_default();
        let rest = shown.chars().count() + 1 - column.min(shown.chars().count() + 1);
        let meant = self.text.get(at).map_or(1, |text| {
            let first = text.lines().next().unwrap_or_default();
            first.chars().count()
        });
        let number = line.to_string();
        let shown = plain(shown);
        FileError(format!(
            "{}:{line}:{column}: {}\n {number} | {shown}\n {:width$} | {:indent$}{}",
            self.path.display(),
            plain(reason),
            "",
            "",
            "^".repeat(meant.min(rest).clamp(1, SHOWN)),
            width = number.len(),
            indent = (column - 1).min(SHOWN),
        ))
    }

    /// Line and column, from 1 on, in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        (line, column)
    }
}

/// At most a line's worth of it, and nothing that a terminal would obey.
fn plain(text: &str) -> String {
    let kept = text.chars().take(SHOWN);
    let kept = kept.map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let dots = if text.chars().count() > SHOWN {
        "…"
    } else {
        ""
    };
    kept.chain(dots.chars()).collect()
}

/// Why an option's parser refuses a value, without the words that are for a command line.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(legal)) => format!("must be one of {}", legal.join(", ")),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        }
    }
}

/// What to say of a key that is no option: the nearest one.
fn unknown(command: &Command, key: &str) -> String {
    if NOT_HERE.contains(&key) {
        return format!("`{key}` is for the command line alone");
    }
    let longs = command.get_arguments().filter_map(Arg::get_long);
    let known = longs
        .filter(|long| !NOT_HERE.contains(long))
        .chain([LISTENER]);
    let nearest = known.min_by_key(|known| strsim::damerau_levenshtein(known, key));
    format!(
        "there is no setting `{key}`; the nearest is `{}`",
        nearest.unwrap_or(LISTENER)
    )
}
