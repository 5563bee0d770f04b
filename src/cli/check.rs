//! `fanin check`: what a configuration comes to, without listening anywhere.
//!
//! In: a configuration that is legal, and where its values came from. Out: the layers in the order in which
//! they fire, the memory, and what can never fire. Never here: a socket, a sink, a file that is written.

use std::fmt::Write as _;
use std::path::Path;

use fanin::Checked;

use super::given::Origins;
use super::{Prepared, args};

/// A layer: what it watches, and the options that set it.
struct Layer {
    name: &'static str,
    does: &'static str,
    options: &'static [&'static str],
}

/// From the inside out, as they fire.
const LAYERS: &[Layer] = &[
    Layer {
        name: "message",
        does: "a message too large is truncated, discarded, or ends its connection; who does not finish one is evicted",
        options: &[
            "framing",
            "max-message",
            "on-oversize",
            "message-timeout",
            "least-rate",
            "least-rate-window",
        ],
    },
    Layer {
        name: "ring",
        does: "a full ring pauses the connections that feed it and no others, or discards; a stalled consumer is named",
        options: &[
            "ring",
            "on-full",
            "consumers",
            "consumer-stall-timeout",
            "on-consumer-stall",
        ],
    },
    Layer {
        name: "connection",
        does: "who is quiet, or waits for its consumer, or lives for too long is closed; who sends more in a second than it may is paused",
        options: &[
            "idle-timeout",
            "stall-timeout",
            "max-age",
            "linger",
            "keepalive",
            "user-timeout",
            "connection-bytes",
            "connection-messages",
            "burst",
        ],
    },
    Layer {
        name: "source",
        does: "who has as many connections as one source may, or opens more in a second, is closed at once; over its rate all its connections are paused",
        options: &[
            "source-connections",
            "source-connects",
            "source-prefix",
            "source-bytes",
            "source-messages",
        ],
    },
    Layer {
        name: "global",
        does: "who comes when all places are taken waits, is refused, or takes the place of the longest at rest; parts of messages share a budget",
        options: &["max-connections", "at-max-connections", "staging"],
    },
    Layer {
        name: "listener",
        does: "who waits to be accepted waits in the kernel; under pressure of all rings listeners shut; over its rate its connections are paused",
        options: &[
            "listen",
            "backlog",
            "receive-buffer",
            "reactors",
            "pressure-timeout",
            "on-pressure",
            "listener-bytes",
            "listener-messages",
        ],
    },
    Layer {
        name: "types",
        does: "by construction, with nothing to set: no consumer can push, no producer can be cloned or shared, no batch outlives its consumer",
        options: &[],
    },
];

/// What limits nothing that comes in.
const BESIDE: [(&str, &[&str]); 4] = [
    (
        "Rings and listeners take turns after so much",
        &["read-budget", "byte-budget", "accept-budget"],
    ),
    ("What comes close together is read together", &["coalesce"]),
    (
        "At the end everybody has so long to finish",
        &["drain-timeout"],
    ),
    (
        "Where messages go, and what is said about it",
        &["sink", "output", "report", "verbose"],
    ),
];

/// What can never fire, for people: an error where somebody wrote both values, else a note.
pub(crate) struct Never {
    pub(crate) errors: Vec<String>,
    pub(crate) notes: Vec<String>,
}

pub(crate) fn never(checked: &Checked, origins: &Origins) -> Never {
    let mut never = Never {
        errors: Vec::new(),
        notes: Vec::new(),
    };
    for one in checked.never_fires() {
        let is_given = |setting| args::option_of(setting).is_some_and(|o| origins.is_given(o));
        let said = args::in_options(&one.to_string());
        match is_given(one.setting) && is_given(one.first) {
            true => never.errors.push(origins.told(&said)),
            false => never.notes.push(said),
        }
    }
    never
}

/// All of it; `file` is the one that was named.
pub(super) fn text(prepared: &Prepared, origins: &Origins, file: Option<&Path>) -> String {
    let Prepared {
        checked,
        memory,
        others,
        limit,
        notes,
    } = prepared;
    let mut text = String::from("Layers, in the order in which they fire:\n");
    for (number, layer) in LAYERS.iter().enumerate() {
        let _ = writeln!(text, "\n{}. {}: {}", number + 1, layer.name, layer.does);
        values(&mut text, layer.options, checked, origins);
    }
    for (what, options) in BESIDE {
        let _ = writeln!(text, "\n{what}:");
        values(&mut text, options, checked, origins);
    }
    let _ = writeln!(text, "\n{memory}");
    let connections = checked.config().max_connections;
    let _ = writeln!(
        text,
        "\ndescriptors: {connections} connections and {} others, of {limit}",
        others.count()
    );
    for note in notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    match file {
        Some(file) => text.push_str(&format!("\n{}: valid\n", file.display())),
        None => text.push_str("\nvalid\n"),
    }
    text
}

/// A line for each value, with where it comes from.
fn values(text: &mut String, options: &[&str], checked: &Checked, origins: &Origins) {
    for option in options {
        for (value, origin) in origins.values(option) {
            let value = match (*option, value) {
                ("ring", value) if value.is_empty() => format!("{} B", checked.ring_bytes()),
                ("max-connections", value) if value.is_empty() => {
                    checked.config().max_connections.to_string()
                }
                ("on-oversize", value) if value.is_empty() => {
                    "truncate where a delimiter ends messages, else close".to_owned()
                }
                (_, value) if value.is_empty() => "off".to_owned(),
                (_, value) => value,
            };
            let _ = writeln!(text, "   {option} = {value}  ({origin})");
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn every_option_that_limits_something_is_in_a_layer_and_every_other_one_beside_them() {
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        let mut options: Vec<_> = serve
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .filter(|long| !["config", "help"].contains(long))
            .collect();
        let in_layers = LAYERS.iter().flat_map(|layer| layer.options);
        let beside = BESIDE.iter().flat_map(|(_, options)| *options);
        let mut shown: Vec<_> = in_layers.chain(beside).copied().collect();
        options.sort_unstable();
        shown.sort_unstable();
        assert_eq!(options, shown);
    }
}
