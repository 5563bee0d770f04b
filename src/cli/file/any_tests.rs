//! Any options, typed or in a file; and any text.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::tests::{check, definition, of_file, settled};
use super::*;

/// Values that may be legal for an option, by what its definition says of it.
fn candidates(arg: &Arg) -> Vec<String> {
    let possible = arg.get_possible_values();
    let mut values: Vec<_> = possible.iter().map(|v| v.get_name().to_owned()).collect();
    let defaults = arg.get_default_values().iter();
    values.extend(defaults.map(|default| default.to_string_lossy().into_owned()));
    let some = [
        "1",
        "7",
        "65536",
        "1KiB",
        "64 KiB",
        "2GB",
        "250ms",
        "90s",
        "1h",
        "off",
        "tcp://127.0.0.1:0",
        "tcp://[::1]:5140",
        "unix:///run/\"x\"",
        "unix:///run/x?framing=nul&max-connections=5&listener-bytes=1MiB",
        "tcp://127.0.0.1:7?framing=byte:0x7c",
        "octet",
        "byte:0x7c",
        "null",
        "file:/tmp/\\x",
        "tcp://host:514",
        "-",
        "/tmp/r\u{fc}port",
        "0",
    ];
    values.extend(some.map(str::to_owned));
    values.retain(|value| tried(arg, value).is_ok());
    values
}

/// An option with its values; a flag has none.
type Chosen = (String, Option<Vec<String>>);

fn some_options() -> impl Strategy<Value = Vec<Chosen>> {
    let definition = definition();
    let each = options(&definition).map(|arg| {
        let long = arg.get_long().unwrap().to_owned();
        match arg.get_action() {
            ArgAction::SetTrue => Just((long, None)).boxed(),
            ArgAction::Append => subsequence(candidates(arg), 1..=3)
                .prop_map(move |values| (long.clone(), Some(values)))
                .boxed(),
            _ => select(candidates(arg))
                .prop_map(move |value| (long.clone(), Some(vec![value])))
                .boxed(),
        }
    });
    let each: Vec<_> = each.collect();
    let count = each.len();
    (each, Just(count))
        .prop_flat_map(|(all, count)| subsequence(all, 0..=count))
        .prop_shuffle()
}

fn as_typed(options: &[Chosen]) -> Vec<String> {
    let each = options.iter().flat_map(|(long, values)| match values {
        None => vec![format!("--{long}")],
        Some(values) => values.iter().map(|v| format!("--{long}={v}")).collect(),
    });
    each.collect()
}

/// `listen` as an array or as `[[listener]]` tables, numbers as numbers or as strings.
fn as_file(options: &[Chosen], tables: bool, strings: bool) -> String {
    let written = |value: &String| match value.parse::<u64>() {
        Ok(number) if !strings => number.to_string(),
        _ => format!("{value:?}"),
    };
    let (mut text, mut listeners) = (String::new(), String::new());
    for (long, values) in options {
        match values {
            None => text += &format!("{long} = {}\n", if strings { "\"true\"" } else { "true" }),
            Some(values) if long == LISTEN && tables => {
                for value in values {
                    let (address, own) = value.split_once('?').unwrap_or((value, ""));
                    listeners += &format!("[[listener]]\naddress = {address:?}\n");
                    for (key, value) in own.split('&').filter_map(|own| own.split_once('=')) {
                        listeners += &format!("{key} = {}\n", written(&value.to_owned()));
                    }
                }
            }
            Some(values) if values.len() > 1 => {
                let values: Vec<_> = values.iter().map(written).collect();
                text += &format!("{long} = [{}]\n", values.join(", "));
            }
            Some(values) => text += &format!("{long} = {}\n", written(&values[0])),
        }
    }
    text + &listeners
}

proptest! {
    /// Any legal options come to the same, typed or in a file; also if some are in both, with other values
    /// in the file.
    #[test]
    fn a_file_comes_to_the_same(
        chosen in some_options(),
        other in some_options(),
        tables: bool,
        strings: bool,
    ) {
        let typed = as_typed(&chosen);
        let expected = settled(check(None, &typed).unwrap());
        let text = as_file(&chosen, tables, strings);
        let given = of_file(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        for (long, _) in &chosen {
            prop_assert!(given.origins.is_given(long), "{}", long);
        }
        prop_assert_eq!(settled(given), expected.clone(), "{}", text);
        let is_typed = |long: &String| chosen.iter().any(|(name, _)| name == long);
        let beaten: Vec<_> = other.into_iter().filter(|(long, _)| is_typed(long)).collect();
        let text = as_file(&beaten, tables, strings);
        let given = check(Some(&text), &typed).unwrap();
        prop_assert_eq!(settled(given), expected, "{}", text);
    }

    /// Whatever a file has in it, it is read or refused with a place in it.
    #[test]
    fn no_text_does_harm(text in "(backlog|ring|listener|\\[\\[listener\\]\\]|[a-z\\[\\]\"'=\\n\\-# 0-9.,{}éx\u{0}-\u{1f}]){0,40}") {
        if let Err(error) = of_file(&text).map(settled) {
            prop_assert!(error.starts_with("f:"), "{}", error);
        }
    }
}
