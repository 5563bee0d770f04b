//! The designs, by name, each with a sentence: a new one is a line in the list.
//!
//! In: a scenario. Out: what is to be run. Never here: running code.

use std::time::Duration;

use fanin::{AtLimit, Config, LeastRate, OnConsumerStall, OnFull, PressureAction};

use super::naive::{Naive, Remedy};
use super::scenario::Scenario;

/// What gives up after a time does so after this: naive or not.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Design {
    pub(crate) name: &'static str,
    /// One sentence for people who see it for the first time.
    pub(crate) says: &'static str,
    /// By these counts a layer shows that it acted.
    pub(crate) acts: &'static [&'static str],
    pub(crate) build: Build,
}

#[derive(Clone, Copy, Debug)]
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
        acts: &[],
        says: "A thread for each connection reads 512 bytes at a time and sends each message into one unbuffered \
               channel to one consumer.",
        build: Build::Naive(|_| with(0, Remedy::None)),
    },
    Design {
        name: "naive-100",
        acts: &[],
        says: "The same with room for 100 messages in the channel.",
        build: Build::Naive(|_| with(100, Remedy::None)),
    },
    Design {
        name: "naive-1m",
        acts: &[],
        says: "The same with room for 1,000,000 messages in the channel.",
        build: Build::Naive(|_| with(1_000_000, Remedy::None)),
    },
    Design {
        name: "naive-limit",
        acts: &[],
        says: "naive, which closes a connection at once when three fifths of the senders are connected.",
        build: Build::Naive(|s| with(0, Remedy::Limit(s.limit()))),
    },
    Design {
        name: "naive-deadline",
        acts: &[],
        says: "naive, whose handlers drop their message and close when a send took longer than half a second.",
        build: Build::Naive(|_| with(0, Remedy::Deadline(DEADLINE))),
    },
    Design {
        name: "naive-listener",
        acts: &[],
        says: "naive, which does not accept while more than half of its handlers wait in a send.",
        build: Build::Naive(|_| with(0, Remedy::Listener)),
    },
    Design {
        name: "naive-funnel",
        acts: &[],
        says: "naive, whose handlers all send to one forwarding thread, which sends to the consumer.",
        build: Build::Naive(|_| with(0, Remedy::Funnel)),
    },
    Design {
        name: "naive-rate",
        acts: &[],
        says: "naive, whose handlers sleep so that a connection gets no more than its share: the consumer's rate \
               divided by the senders, or twice the senders' rate.",
        build: Build::Naive(|s| with(0, Remedy::Rate(s.rate_limit()))),
    },
    Design {
        name: "fanin-pause",
        acts: &["pauses.ring"],
        says: "fanin with its structural layers alone (largest message, ring, types): a full ring pauses reading.",
        build: Build::Layer(|_, _| {}),
    },
    Design {
        name: "fanin-stall",
        acts: &["closed.stall"],
        says: "fanin-pause, and a connection that is paused for half a second is closed (--stall-timeout 500ms).",
        build: Build::Layer(|_, c| c.deadlines.stall = Some(DEADLINE)),
    },
    Design {
        name: "fanin-discard",
        acts: &["discarded.ring_full"],
        says: "fanin-pause, and what comes while the ring is full is read and discarded: the newest messages are \
               lost, and counted (--on-full discard).",
        build: Build::Layer(|_, c| c.on_full = OnFull::Discard),
    },
    Design {
        name: "fanin-idle",
        acts: &["closed.idle"],
        says: "fanin-pause, and a connection that sends nothing for half a second is closed (--idle-timeout 500ms).",
        build: Build::Layer(|_, c| c.deadlines.idle = Some(DEADLINE)),
    },
    Design {
        name: "fanin-message",
        acts: &["closed.message", "closed.trickle"],
        says: "fanin-pause, and a connection is closed that does not finish a message in two seconds, or that brings \
               less than 100 bytes a second of one that it has begun (--message-timeout 2s --least-rate 100 \
               --least-rate-window 1s).",
        build: Build::Layer(|_, c| {
            c.deadlines.message = Some(4 * DEADLINE);
            c.least_rate = Some(LeastRate::new(100, 2 * DEADLINE));
        }),
    },
    Design {
        name: "fanin-limit",
        acts: &["places.full"],
        says: "fanin-pause, which lets three fifths of the senders in; the others wait in the backlog \
               (--max-connections).",
        build: Build::Layer(|s, c| c.max_connections = s.limit()),
    },
    Design {
        name: "fanin-refuse",
        acts: &["refused.full"],
        says: "fanin-limit, and the others are closed at once (--at-max-connections refuse).",
        build: Build::Layer(|s, c| {
            c.max_connections = s.limit();
            c.at_max_connections = AtLimit::Refuse;
        }),
    },
    Design {
        name: "fanin-evict",
        acts: &["closed.evicted"],
        says: "fanin-limit, and the connection that has been at rest the longest, for a second at least, is closed \
               for one that waits (--at-max-connections evict).",
        build: Build::Layer(|s, c| {
            c.max_connections = s.limit();
            c.at_max_connections = AtLimit::Evict;
        }),
    },
    Design {
        name: "fanin-consumer",
        acts: &["closed.consumer_stalled"],
        says: "fanin-pause, and the connections of a consumer that has taken nothing for half a second are closed, \
               the longest waiting first; new ones go to the other consumers, if there are any \
               (--consumer-stall-timeout 500ms --on-consumer-stall evict).",
        build: Build::Layer(|_, c| {
            c.consumer_stall = Some(DEADLINE);
            c.on_consumer_stall = OnConsumerStall::Evict;
        }),
    },
    Design {
        name: "fanin-pressure",
        acts: &["shuts"],
        says: "fanin-pause, which accepts nobody after the rings have been full for half a second, until they have \
               not for as long (--pressure-timeout 500ms).",
        build: Build::Layer(|_, c| c.pressure.after = Some(DEADLINE)),
    },
    Design {
        name: "fanin-shut",
        acts: &["shuts"],
        says: "fanin-pressure, which closes its listening socket meanwhile, so that who comes is refused \
               (--pressure-timeout 500ms --on-pressure close).",
        build: Build::Layer(|_, c| {
            c.pressure.after = Some(DEADLINE);
            c.pressure.action = PressureAction::CloseListener;
        }),
    },
    Design {
        name: "fanin-rate",
        acts: &["pauses.rate"],
        says: "fanin-pause, which reads no more from a connection than naive-rate does (--connection-messages).",
        build: Build::Layer(|s, c| c.rates.connection.messages_per_sec = Some(s.rate_limit())),
    },
    Design {
        name: "fanin-listener-rate",
        acts: &["pauses.rate"],
        says: "fanin-pause, which reads no more from all connections together than that rate for each sender \
               (--listener-messages).",
        build: Build::Layer(|s, c| {
            c.rates.listener.messages_per_sec = Some(s.rate_limit() * s.senders as u64);
        }),
    },
    Design {
        name: "fanin-source",
        acts: &["refused.source"],
        says: "fanin-pause, which lets three fifths of the senders that share an address in, and closes the others at \
               once; who has an address alone may have one connection (--source-connections).",
        build: Build::Layer(|s, c| c.per_source.connections = Some(s.source_limit())),
    },
    Design {
        name: "fanin-source-rate",
        acts: &["pauses.rate"],
        says: "fanin-pause, which reads no more from all connections of one address together than twice what \
               fanin-rate reads from one (--source-messages).",
        build: Build::Layer(|s, c| c.rates.source.messages_per_sec = Some(2 * s.rate_limit())),
    },
    Design {
        name: "fanin",
        acts: &[],
        says: "fanin with its defaults: a ring of 4 MiB, 10,000 connections or room for all senders, all deadlines on.",
        build: Build::Defaults(|_, _| {}),
    },
];

impl Design {
    pub(crate) fn is_naive(&self) -> bool {
        matches!(self.build, Build::Naive(_))
    }
}

pub(crate) fn of_name(name: &str) -> Option<&'static Design> {
    DESIGNS.iter().find(|design| design.name == name)
}

/// The settings of the library for this design.
pub(crate) fn config(build: Build, scenario: &Scenario) -> Option<Config> {
    let mut config = Config::listen("tcp://127.0.0.1:0").expect("a literal");
    let room = scenario.senders + 64;
    config.consumers = scenario.consumers();
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
            let limit = crate::cli::limits::raise();
            let limit = scenario.descriptors.map_or(limit, |n| n as usize);
            let most = limit.saturating_sub(80).max(1);
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
