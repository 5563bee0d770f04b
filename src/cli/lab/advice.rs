//! What to configure for a load like the one that was played.
//!
//! In: the scenario, and what came of it. Out: what was seen, what to do, and a command line.
//! Never here: a number that is neither in the scenario nor in a row.

use std::time::Duration;

use super::row::Row;
use super::scenario::Scenario;
use super::story::{count, grouped};

/// The ring that fanin takes when none is given.
const RING: u64 = 4 << 20;
/// A ring beyond this is said, and thought over.
const LARGE: u64 = 1 << 30;
/// Descriptors beside those of connections.
const OTHERS: usize = 100;
/// Where a section is.
const GUIDE: &str = "docs/overload.md";

pub(crate) struct Item {
    pub(crate) about: &'static str,
    pub(crate) seen: String,
    pub(crate) so: String,
    /// The section's anchor.
    section: &'static str,
}

impl Item {
    pub(crate) fn read(&self) -> String {
        format!("{GUIDE}#{}", self.section)
    }
}

pub(crate) struct Advice {
    pub(crate) items: Vec<Item>,
    pub(crate) command: String,
}

/// Messages and bytes a second when all senders are there.
fn offered(scenario: &Scenario) -> (u64, u64) {
    let messages = scenario.senders as u64 * scenario.rate;
    (messages, messages * (scenario.size as u64 + 1))
}

/// A number of those of these designs that ran: `stuck: naive 87, fanin 0`.
fn seen(rows: &[Row], what: &str, names: &[&str], number: fn(&Row) -> u64) -> Option<String> {
    let ran = rows.iter().filter(|row| names.contains(&row.design.name));
    let numbers: Vec<_> = ran
        .map(|row| format!("{} {}", row.design.name, grouped(number(row))))
        .collect();
    (!numbers.is_empty()).then(|| format!("{what}: {}", numbers.join(", ")))
}

/// What was seen, if one of the designs ran.
fn all(parts: impl IntoIterator<Item = Option<String>>) -> String {
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return "nothing: none of the designs that show it ran".into();
    }
    parts.join("; ")
}

/// How long the consumers' stops are.
struct Stops {
    /// The longest of those that pass.
    longest: Duration,
    /// One does not pass.
    hangs: bool,
}

fn stops(scenario: &Scenario) -> Stops {
    let passes = |end: Duration| end <= scenario.length() + Duration::from_secs(10);
    let stalls = scenario.stalls.iter();
    let passing = stalls.clone().filter(|stall| passes(stall.end()));
    Stops {
        longest: passing.map(|stall| stall.length).max().unwrap_or_default(),
        hangs: stalls.clone().any(|stall| !passes(stall.end())),
    }
}

pub(crate) fn advice(scenario: &Scenario, rows: &[Row]) -> Advice {
    let (messages, bytes) = offered(scenario);
    let stops = stops(scenario);
    let stall = (stops.longest * 4).as_secs().clamp(10, 300);
    let connections = (scenario.senders + scenario.senders / 4).max(100);
    let mut command = String::from("fanin serve --listen tcp://0.0.0.0:5140");
    let mut items = vec![
        ring(scenario, rows, &stops, &mut command),
        Item {
            about: "connections",
            seen: all([
                seen(
                    rows,
                    "not let in",
                    &["naive-limit", "fanin-limit", "fanin-refuse", "fanin-evict"],
                    |row| row.refused,
                ),
                seen(rows, "closed for others", &["fanin-evict"], Row::closed),
            ]),
            so: format!(
                "--max-connections {connections}, a quarter more than there are senders, and a limit of descriptors \
                 (ulimit -n) of {} or more. More of them wait in the backlog; --at-max-connections refuse sends \
                 them elsewhere, evict takes the place of one that is not used.",
                connections + OTHERS
            ),
            section: "connection-limits",
        },
        Item {
            about: "descriptors of who has left",
            seen: all([
                seen(
                    rows,
                    "stuck",
                    &["naive", "naive-1m", "fanin-pause", "fanin-stall", "fanin"],
                    |row| row.stuck as u64,
                ),
                seen(rows, "closed", &["fanin-stall"], |row| {
                    row.acted("closed.stall")
                }),
            ]),
            so: format!(
                "--stall-timeout {stall}s, longer than any stop that you want to live through. What is paused for longer \
                 is closed and counted: this frees the descriptors of senders that left while the ring was full.{}",
                match scenario.tricklers {
                    0 => "",
                    _ => {
                        " Tricklers that left in the middle of a message are among them: fanin does not read who \
                         waits for its ring, and so cannot know yet that nothing will come of it."
                    }
                }
            ),
            section: "stalled-connections",
        },
    ];
    command += &format!(" --max-connections {connections} --stall-timeout {stall}s");
    if stops.hangs {
        items.push(hangs(scenario, rows, &mut command));
    }
    items.extend(slow_consumer(scenario, rows, messages));
    items.extend(keeps_up(scenario, rows, messages));
    if scenario.tricklers > 0 {
        items.push(Item {
            about: "tricklers",
            seen: all([seen(rows, "closed", &["fanin-pause", "fanin-message"], |row| {
                row.acted("closed.trickle") + row.acted("closed.message")
            })]),
            so: "--least-rate 100: who has begun a message and brings less than 100 bytes a second of it, for ten seconds, \
                 is closed. A sender that stops in the middle of a message for so long is closed as well; \
                 --message-timeout (30s) is on in any case."
                .into(),
            section: "least-rate",
        });
        command += " --least-rate 100";
    }
    if scenario.skew > 0 {
        items.push(skew(scenario, rows, bytes));
    }
    if scenario.crowd > 0 {
        items.push(Item {
            about: "many senders behind one address",
            seen: all([
                seen(rows, "refused", &["fanin-pause", "fanin-source"], |row| {
                    row.acted("refused.source")
                }),
                seen(
                    rows,
                    "paused by a rate",
                    &["fanin-pause", "fanin-source-rate"],
                    |row| row.acted("pauses.rate"),
                ),
            ]),
            so: "If they are one who takes more than its part: --source-connections, and --source-messages or \
                 --source-bytes, for a connection's own limits are none for who opens more of them. If they are a \
                 proxy or a NAT with many behind it: neither, for they would all pay for the one."
                .into(),
            section: "per-source",
        });
    }
    Advice { items, command }
}

fn ring(scenario: &Scenario, rows: &[Row], stops: &Stops, command: &mut String) -> Item {
    let (messages, bytes) = offered(scenario);
    let seconds = stops.longest.as_secs_f64();
    // A quarter more for headers and for what lies behind the high mark.
    let need = (bytes as f64 * seconds * 1.25) as u64;
    let taken = scenario.consumer_rate().filter(|rate| *rate < messages);
    let ring = match taken {
        None => need.next_power_of_two().max(RING),
        // It is full most of the time, whatever its size.
        Some(_) => RING,
    };
    *command += &format!(" --ring {}MiB", ring >> 20);
    let much = if ring > LARGE {
        " That is much memory: think whether these senders could wait instead."
    } else {
        ""
    };
    Item {
        about: "stops that pass",
        seen: all([
            Some(format!(
                "{messages} messages and {:.1} MB a second; the longest stop that passes is {seconds:.1} s, in which {:.1} MB come",
                bytes as f64 / 1e6,
                bytes as f64 * seconds / 1e6
            )),
            seen(
                rows,
                "lost, and nobody knows",
                &["naive", "naive-1m", "fanin-pause", "fanin"],
                Row::nobody,
            ),
        ]),
        so: match taken {
            None => format!(
                "--ring {}MiB takes them without a sender noticing. A smaller one loses nothing either: TCP holds the senders \
                 for the rest of the time.{much}",
                ring >> 20
            ),
            Some(rate) => {
                let all = ring * scenario.consumers() as u64;
                let late = all as f64 / (rate * scenario.size as u64) as f64;
                format!(
                    "More comes than is taken: the ring is full most of the time, and each message late by what is in \
                     it, {late:.1} s for {}MiB. A larger one would only be later; a smaller one is in time sooner, \
                     and loses nothing: TCP holds the senders.",
                    ring >> 20
                )
            }
        },
        section: "ring-full-pause-or-discard",
    }
}

fn hangs(scenario: &Scenario, rows: &[Row], command: &mut String) -> Item {
    let several = scenario.consumers() > 1;
    let policy = if several { "evict" } else { "stop" };
    *command += &format!(" --on-consumer-stall {policy}");
    if several {
        *command += &format!(" --consumers {}", scenario.consumers());
    }
    Item {
        about: "a consumer that hangs",
        seen: all([
            seen(rows, "lost", &["naive", "fanin", "fanin-consumer"], |row| row.lost),
            seen(rows, "closed", &["fanin-consumer"], |row| {
                row.acted("closed.consumer_stalled")
            }),
        ]),
        so: if several {
            "--on-consumer-stall evict: its connections are closed, come again, and are bound to the consumers that work."
        } else {
            "No buffer helps against a consumer that hangs for good. --on-consumer-stall stop makes it an error after 10 s, \
             so that a supervisor starts the program again; or have several consumers, and let the connections of \
             one that hangs go to the others (evict)."
        }
        .into(),
        section: "stalled-consumers",
    }
}

/// Of several consumers one takes less than what its part of the connections brings.
fn slow_consumer(scenario: &Scenario, rows: &[Row], messages: u64) -> Option<Item> {
    let several = scenario.consumers() as u64;
    let share = messages / several;
    let slowest = scenario
        .consumer_rates
        .iter()
        .filter_map(|rate| rate.0)
        .min()?;
    (several > 1 && slowest < share).then(|| Item {
        about: "a slow consumer among others",
        seen: all([
            Some(format!(
                "{} a second are a consumer's part, and one takes {}",
                count(share, "message"),
                grouped(slowest)
            )),
            seen(rows, "not delivered", &["naive", "fanin-pause", "fanin-consumer", "fanin"], |row| {
                row.due - row.delivered
            }),
        ]),
        so: "A connection is bound to one consumer, and those of the slow one wait for it; one channel for \
             all, as in naive, shares the work out. Let consumers be alike. --on-consumer-stall evict moves \
             the connections of one that takes nothing for --consumer-stall-timeout; one that takes a little \
             now and then is not stalled."
            .into(),
        section: "stalled-consumers",
    })
}

/// What to do about a consumer that is slower than its senders, or hardly faster.
fn keeps_up(scenario: &Scenario, rows: &[Row], messages: u64) -> Vec<Item> {
    let Some(rate) = scenario.consumer_rate() else {
        return Vec::new();
    };
    let rates = format!(
        "{} a second come, and {} are taken",
        count(messages, "message"),
        grouped(rate)
    );
    if rate * 4 >= messages * 5 {
        return Vec::new();
    }
    if rate >= messages {
        return vec![Item {
            about: "catching up",
            seen: rates,
            so: "After a stop it catches up slowly. Give the consumer a quarter more than the load at least."
                .into(),
            section: "fairness",
        }];
    }
    vec![
        Item {
            about: "more than is taken",
            seen: all([
                Some(rates),
                seen(rows, "left with the senders", &["fanin-pause", "fanin-discard"], |row| {
                    row.due - row.sent
                }),
                seen(rows, "lost", &["fanin-pause", "fanin-discard"], |row| row.lost),
            ]),
            so: "No buffer helps for long. By default senders are held to the consumer's rate, and see their writes block. If \
                 their time is worth more than the data, --on-full discard: the newest are lost, and counted. Else \
                 more consumers (--consumers), if the sink allows it, or send less."
                .into(),
            section: "ring-full-pause-or-discard",
        },
        Item {
            about: "senders with another address",
            seen: all([seen(rows, "listeners shut", &["fanin-pressure", "fanin-shut"], |row| {
                row.acted("shuts")
            })]),
            so: "--pressure-timeout 10s --on-pressure close, if there is another server for who comes while all rings \
                 are full: it is refused at once."
                .into(),
            section: "listeners-under-pressure",
        },
    ]
}

fn skew(scenario: &Scenario, rows: &[Row], bytes: u64) -> Item {
    let large = bytes / 100 * u64::from(scenario.skew);
    let others = (bytes - large) / (scenario.senders as u64 - 1);
    Item {
        about: "one sender among many",
        seen: all([
            Some(format!(
                "one brings {} bytes a second, each other one {}",
                grouped(large),
                grouped(others)
            )),
            seen(rows, "Jain's index in thousandths", &["naive", "fanin-pause", "fanin-rate", "fanin"], |row| {
                (row.jain * 1000.0) as u64
            }),
            seen(rows, "paused by a rate", &["fanin-rate", "fanin-listener-rate"], |row| {
                row.acted("pauses.rate")
            }),
        ]),
        so: "While all is taken nobody pays for it, and connections are read in turn anyway. Where it must not have \
             more than a part, --connection-bytes bounds every connection; it is held back then, and loses nothing."
            .into(),
        section: "rates",
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::tests::scenario;
    use super::super::story::tests::row;
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    const ALL: [&[&str]; 7] = [
        &[],
        &["--stall", "none", "--tricklers=0%"],
        &["--senders", "9000", "--stall", "9s@1s"],
        &["--skew", "90%", "--consumer-rate", "100"],
        &["--consumer-rate", "9000"],
        &["--consumer-rate", "9000,9"],
        &["--consumer-rate", "100,100", "--stall", "1h@1s/2"],
    ];

    #[test]
    fn the_command_is_one_that_the_program_takes() {
        for words in ALL {
            let command = advice(&scenario(words), &[]).command;
            let Command::Serve(serve) = Cli::parse_from(command.split(' ')).command else {
                panic!("{command}");
            };
            let mut config = serve.config();
            config.max_connections = serve.max_connections.unwrap();
            config
                .validate()
                .unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }

    #[test]
    fn each_section_is_in_the_guide() {
        let guide = include_str!("../../../docs/overload.md");
        let titles = guide.lines().filter_map(|line| line.strip_prefix("## "));
        let anchor = |title: &str| {
            let title = title.to_lowercase().replace(' ', "-");
            title.replace(|c: char| !c.is_alphanumeric() && c != '-', "")
        };
        let anchors: Vec<_> = titles.map(anchor).collect();
        for words in ALL {
            for item in advice(&scenario(words), &[]).items {
                assert!(
                    anchors.iter().any(|one| one == item.section),
                    "{}",
                    item.section
                );
            }
        }
    }

    fn said(words: &[&str], rows: &[Row]) -> String {
        let items = advice(&scenario(words), rows).items;
        let lines = items
            .iter()
            .map(|item| format!("{}: {}. {}\n", item.about, item.seen, item.so));
        lines.collect()
    }

    #[test]
    fn the_advice_follows_the_load() {
        let said = |words: &[&str]| said(words, &[]);
        assert!(said(&["--consumer-rate", "10"]).contains("No buffer helps for long"));
        assert!(!said(&["--consumer-rate", "unlimited"]).contains("No buffer helps for long"));
        assert!(said(&["--consumer-rate", "9000"]).contains("catches up slowly"));
        assert!(said(&[]).contains("hangs for good"));
        assert!(said(&["--consumer-rate", "9,9", "--stall", "1h@1s/2"]).contains("come again"));
        assert!(said(&["--skew", "90%"]).contains("--connection-bytes"));
        assert!(said(&["--consumer-rate", "9999,99"]).contains("and one takes 99"));
        assert!(!said(&["--consumer-rate", "9999,9999"]).contains("and one takes"));
        assert!(!said(&["--tricklers", "0%"]).contains("--least-rate"));
        assert!(!said(&["--tricklers", "0%"]).contains("Tricklers that left"));
        assert!(said(&[]).contains("Tricklers that left"));
        let ring = |words: &[&str]| advice(&scenario(words), &[]).command;
        // 3.2 MB a second and four seconds are 12 MB with what lies beside them.
        assert!(ring(&["--stall", "4s@1s"]).contains("--ring 16MiB"));
        assert!(ring(&["--stall", "none"]).contains("--ring 4MiB"));
        // Where it is always full, a larger one makes messages later and helps nobody.
        let overloaded = ["--stall", "4s@1s", "--consumer-rate", "4000"];
        assert!(ring(&overloaded).contains("--ring 4MiB"));
        let said = said(&overloaded);
        assert!(
            said.contains("late by what is in it, 2.6 s for 4MiB"),
            "{said}"
        );
    }

    #[test]
    fn what_was_seen_is_what_the_rows_say() {
        let mut stall = row("fanin-stall");
        (stall.stuck, stall.acts) = (0, vec![("closed.stall".into(), 7)]);
        let said = said(&[], &[row("naive"), stall]);
        assert!(
            said.contains("stuck: naive 87, fanin-stall 0; closed: fanin-stall 7"),
            "{said}"
        );
        assert!(said.contains("nobody knows: naive 4,514"), "{said}");
    }
}
