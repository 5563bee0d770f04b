//! Why a key or a value is refused, and what would do.

use std::error::Error;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};
use fanin::Listen;

use super::super::sample;
use super::super::units::NumberError;
use super::{ADDRESS, LISTEN, LISTENER, NOT_HERE, OF_A_LISTENER, options};

/// Characters of a key that are shown at most.
const LONGEST_WORD: usize = 60;

pub(super) fn would_do(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    format!("{long} = {} would do", sample::example(arg))
}

/// Asks the option's own parser.
pub(super) fn tried(arg: &Arg, value: &str) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default();
    if value.is_empty() {
        return Err(format!("is empty; {}", would_do(arg)));
    }
    if long == LISTEN {
        // Its error has the value, and who reads it sees that already.
        return value.parse::<Listen>().map(|_| ()).map_err(|e| e.reason);
    }
    let command = Command::new("fanin").no_binary_name(true).arg(arg.clone());
    let tried = command.try_get_matches_from([format!("--{long}={value}")]);
    tried
        .map(|_| ())
        .map_err(|error| reason(&error, arg, value))
}

/// Why an option's parser refuses a value, without the words that are for a command line.
fn reason(error: &clap::Error, arg: &Arg, value: &str) -> String {
    if let Some(ContextValue::Strings(legal)) = error.get(ContextKind::ValidValue) {
        let (near, changes) = nearest(value, legal.iter().map(String::as_str));
        let perhaps = match changes <= near.len() / 2 {
            true => format!("; {near}, perhaps?"),
            false => String::new(),
        };
        return format!("must be one of {}{perhaps}", legal.join(", "));
    }
    match error.source() {
        Some(source) => match source.downcast_ref() {
            Some(malformed @ NumberError::Malformed) => format!("{malformed}; {}", would_do(arg)),
            Some(NumberError::TooLarge) | None => source.to_string(),
        },
        None => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        }
    }
}

/// As much of a word as could have been meant for a name.
fn word(text: &str) -> String {
    text.chars().take(LONGEST_WORD).collect()
}

/// The known name that takes the fewest changes, and how many.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> (&'n str, usize) {
    let name = word(name).to_lowercase().replace('_', "-");
    let changes = known.map(|known| (strsim::damerau_levenshtein(known, &name), known));
    let (changes, known) = changes.min().unwrap_or_default();
    (known, changes)
}

/// What to say of a key that is no option: the nearest one.
pub(super) fn unknown(command: &Command, key: &str) -> String {
    if NOT_HERE.contains(&key) {
        return format!("`{key}` is for the command line alone");
    }
    if key == ADDRESS {
        return format!("`{key}` stands in a [[listener]]");
    }
    let longs = options(command).filter_map(Arg::get_long);
    let (near, changes) = nearest(key, longs.chain([LISTENER]));
    let all = match changes <= near.len() / 2 {
        true => "",
        false => " (`fanin config` shows all)",
    };
    let key = word(key);
    format!("there is no setting `{key}`; the nearest is `{near}`{all}")
}

pub(super) fn unknown_of_listener(command: &Command, key: &str) -> String {
    if options(command).any(|arg| arg.get_long() == Some(key)) {
        return format!("`{key}` is for all listeners: it stands above the first [[listener]]");
    }
    let (near, _) = nearest(key, OF_A_LISTENER.into_iter().chain([ADDRESS]));
    let legal = OF_A_LISTENER.join(", ");
    let key = word(key);
    format!(
        "a listener has no setting `{key}`; the nearest is `{near}`: legal are {ADDRESS}, {legal}"
    )
}
