//! What to configure for a load like the one that was played.
//!
//! In: the scenario. Out: sentences, and a command line. Never here: a result of a single run; what was
//! measured stands in the table beside it.

use std::time::Duration;

use super::scenario::Scenario;

/// A ring beyond this is said, and thought over.
const LARGE: u64 = 1 << 30;

pub(crate) struct Advice {
    pub(crate) lines: Vec<String>,
    pub(crate) command: String,
}

/// Bytes a second when all senders are there.
fn offered(scenario: &Scenario) -> u64 {
    scenario.senders as u64 * scenario.rate * (scenario.size as u64 + 1)
}

pub(crate) fn advice(scenario: &Scenario) -> Advice {
    let offered = offered(scenario);
    let messages = scenario.senders as u64 * scenario.rate;
    let ends = |end: Duration| end <= scenario.length() + Duration::from_secs(10);
    let stalls = scenario.stalls.iter();
    let passing = stalls
        .clone()
        .filter(|stall| ends(stall.end()))
        .map(|stall| stall.length);
    let longest = passing.max().unwrap_or_default();
    let hangs = stalls.clone().any(|stall| !ends(stall.end()));
    // A quarter more for headers and for what lies behind the high mark.
    let need = (offered as f64 * longest.as_secs_f64() * 1.25) as u64;
    let ring = need.next_power_of_two().max(4 << 20);
    let connections = (scenario.senders + scenario.senders / 4).max(100);
    let stall = (longest * 4).as_secs().clamp(10, 300);
    let mut lines = vec![format!(
        "Ring: the load is {messages} messages and {:.1} MB a second. The longest stop that passes is {:.1} s, in which \
         {:.1} MB come: a ring of {} MiB takes them without a sender noticing. A smaller one loses nothing; TCP \
         holds the senders for the rest of the time.",
        offered as f64 / 1e6,
        longest.as_secs_f64(),
        offered as f64 * longest.as_secs_f64() / 1e6,
        ring >> 20,
    )];
    if ring > LARGE {
        lines.push("That is much memory: think whether these senders could wait instead.".into());
    }
    lines.push(format!(
        "Connections: {connections}, a quarter more than there are senders. More wait in the backlog, so that a sender \
         that comes again after a restart finds a place as soon as there is one."
    ));
    lines.push(format!(
        "Stall timeout: {stall} s, longer than any stop that you want to live through. What is paused for longer than \
         that is closed and counted: this is what frees the descriptors of senders that left while the ring was full."
    ));
    if hangs {
        lines.push(
            "Here the consumer hangs for good at the end. No buffer helps against that: let it be an error after the \
             consumer stall timeout (--on-consumer-stall stop), so that a supervisor starts the program again, or have \
             several consumers and let their connections go to the others (evict)."
                .into(),
        );
    }
    match scenario.consumer_rate.0 {
        Some(rate) if rate < messages => lines.push(format!(
            "The consumer takes {rate} messages a second and {messages} come: no buffer helps for long. Senders are held \
             to the consumer's rate and see their writes block. Use more consumers (--consumers) if the sink allows, or send less."
        )),
        Some(rate) if rate < messages * 5 / 4 => lines.push(format!(
            "The consumer takes {rate} messages a second and {messages} come: after a stop it catches up slowly. Give it a \
             quarter more than the load at least."
        )),
        _ => {}
    }
    let policy = if hangs {
        " --on-consumer-stall stop"
    } else {
        ""
    };
    Advice {
        lines,
        command: format!(
            "fanin serve --listen tcp://0.0.0.0:5140 --ring {}MiB --max-connections {connections} --stall-timeout {stall}s{policy}",
            ring >> 20
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::tests::scenario;
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    #[test]
    fn the_command_is_one_that_the_program_takes() {
        for words in [
            &[][..],
            &["--stall", "none"],
            &["--senders", "9000", "--stall", "9s@1s"],
        ] {
            let command = advice(&scenario(words)).command;
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
    fn the_advice_follows_the_load() {
        let said = |words: &[&str]| advice(&scenario(words)).lines.join("\n");
        assert!(said(&["--consumer-rate", "10"]).contains("no buffer helps for long"));
        assert!(!said(&["--consumer-rate", "unlimited"]).contains("no buffer helps for long"));
        assert!(said(&[]).contains("hangs for good"));
        let ring = |words: &[&str]| advice(&scenario(words)).command;
        // 3.2 MB a second and four seconds are 12 MB with what lies beside them.
        assert!(ring(&["--stall", "4s@1s"]).contains("--ring 16MiB"));
        assert!(ring(&["--stall", "none"]).contains("--ring 4MiB"));
    }
}
