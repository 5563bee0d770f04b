//! The designs, by name, each with a sentence: a new one is a line in the list.
//!
//! In: a scenario. Out: what is to be run. Never here: running code.

use std::time::Duration;

use fanin::Config;

use super::naive::{Naive, Remedy};
use super::scenario::Scenario;

/// What gives up after a time does so after this: naive or not.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);

pub(crate) struct Design {
    pub(crate) name: &'static str,
    /// One sentence for people who see it for the first time.
    pub(crate) says: &'static str,
    pub(crate) build: Build,
}

#[derive(Clone, Copy)]
pub(crate) enum Build {
    /// A thread for each connection.
    Naive(fn(&Scenario) -> Naive),
    /// The library: what is set beside the structural layers, or beside the defaults.
    Layer(fn(&Scenario, &mut Config)),
    Defaults(fn(&Scenario, &mut Config)),
}

const fn with(channel: usize, remedy: Remedy) -> Naive {
    Naive { channel, remedy }
}

/// In the order of the table.
pub(crate) const DESIGNS: &[Design] = &[
    Design {
        name: "naive",
        says: "A thread for each connection reads 512 bytes at a time and sends each message into one unbuffered \
               channel to one consumer.",
        build: Build::Naive(|_| with(0, Remedy::None)),
    },
    Design {
        name: "naive-100",
        says: "The same with room for 100 messages in the channel.",
        build: Build::Naive(|_| with(100, Remedy::None)),
    },
    Design {
        name: "naive-1m",
        says: "The same with room for 1,000,000 messages in the channel.",
        build: Build::Naive(|_| with(1_000_000, Remedy::None)),
    },
    Design {
        name: "naive-limit",
        says: "naive, which closes a connection at once when three fifths of the senders are connected.",
        build: Build::Naive(|s| with(0, Remedy::Limit(s.limit()))),
    },
    Design {
        name: "naive-deadline",
        says: "naive, whose handlers drop their message and close when a send took longer than half a second.",
        build: Build::Naive(|_| with(0, Remedy::Deadline(DEADLINE))),
    },
    Design {
        name: "naive-listener",
        says: "naive, which does not accept while more than half of its handlers wait in a send.",
        build: Build::Naive(|_| with(0, Remedy::Listener)),
    },
    Design {
        name: "naive-funnel",
        says: "naive, whose handlers all send to one forwarding thread, which sends to the consumer.",
        build: Build::Naive(|_| with(0, Remedy::Funnel)),
    },
    Design {
        name: "naive-rate",
        says: "naive, whose handlers sleep so that a connection gets no more than its share: the consumer's rate \
               divided by the senders, or twice the senders' rate.",
        build: Build::Naive(|s| with(0, Remedy::Rate(s.rate_limit()))),
    },
    Design {
        name: "fanin-pause",
        says: "fanin with its structural layers alone (largest message, ring, types): a full ring pauses reading.",
        build: Build::Layer(|_, _| {}),
    },
    Design {
        name: "fanin-stall",
        says: "fanin-pause, and a connection that is paused for half a second is closed (--stall-timeout 500ms).",
        build: Build::Layer(|_, c| c.deadlines.stall = Some(DEADLINE)),
    },
    Design {
        name: "fanin-idle",
        says: "fanin-pause, and a connection that sends nothing, or does not finish a message, for half a second is \
               closed (--idle-timeout 500ms --message-timeout 500ms).",
        build: Build::Layer(|_, c| {
            c.deadlines.idle = Some(DEADLINE);
            c.deadlines.message = Some(DEADLINE);
        }),
    },
    Design {
        name: "fanin-limit",
        says: "fanin-pause, which lets three fifths of the senders in; the others wait in the backlog \
               (--max-connections).",
        build: Build::Layer(|s, c| c.max_connections = s.limit()),
    },
    Design {
        name: "fanin",
        says: "fanin with its defaults: a ring of 4 MiB, 10,000 connections, all deadlines on.",
        build: Build::Defaults(|_, _| {}),
    },
];

pub(crate) fn of_name(name: &str) -> Option<&'static Design> {
    DESIGNS.iter().find(|design| design.name == name)
}

/// The settings of the library for this design.
pub(crate) fn config(build: Build, scenario: &Scenario) -> Option<Config> {
    let mut config = Config::listen("tcp://127.0.0.1:0").expect("a literal");
    let room = scenario.senders + 64;
    match build {
        Build::Naive(_) => return None,
        Build::Layer(set) => {
            config.max_connections = room;
            config.deadlines.idle = None;
            config.deadlines.message = None;
            config.deadlines.stall = None;
            config.consumer_stall = None;
            set(scenario, &mut config);
        }
        Build::Defaults(set) => {
            // As `fanin serve`: fewer where the limit of descriptors is lower.
            config.max_connections = config.max_connections.max(room);
            let most = crate::cli::limits::raise().saturating_sub(80);
            config.max_connections = config.max_connections.min(most);
            set(scenario, &mut config);
        }
    }
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::super::scenario::tests::scenario;
    use super::*;

    #[test]
    fn every_design_can_be_built_and_is_called_its_own_name() {
        for (place, design) in DESIGNS.iter().enumerate() {
            assert!(
                DESIGNS[..place]
                    .iter()
                    .all(|other| other.name != design.name)
            );
            assert!(design.says.ends_with('.'), "{}", design.name);
            let config = config(design.build, &scenario(&[]));
            assert_eq!(config.is_some(), design.name.starts_with("fanin"));
            if let Some(config) = config {
                config.validate().unwrap();
            }
        }
    }
}
