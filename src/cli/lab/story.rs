//! What happened to one design, in words.
//!
//! In: its row. Out: sentences, each of them read from numbers of that row. Never here: a sentence about a
//! design that was not looked up in its run.

use super::row::{Recovery, Row};

/// Below this a part of the senders paid for the others.
const UNFAIR: f64 = 0.9;
/// Of what was due, less than this is no news.
const SMALL: f64 = 0.01;

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 message`, `2 messages`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {what}{s}", grouped(number))
}

pub(crate) fn story(row: &Row) -> String {
    let mut said = vec![losses(row), stuck(row)];
    said.push(held_back(row));
    said.push(places(row));
    said.push(layer(row));
    said.push(match row.recovery {
        Recovery::NoStall => String::new(),
        Recovery::Never => {
            "After the stop its messages were never in time again before something else came."
                .into()
        }
        Recovery::After(time) => {
            format!(
                "After the stop it was in time again in {:.1} s.",
                time.as_secs_f64()
            )
        }
    });
    if row.jain < UNFAIR && row.delivered > 0 {
        said.push(format!(
            "Some senders got much more of theirs through than others (Jain {:.2}).",
            row.jain
        ));
    }
    said.retain(|sentence| !sentence.is_empty());
    said.join(" ")
}

fn losses(row: &Row) -> String {
    if row.lost == 0 {
        return format!("Lost nothing of {}.", count(row.sent, "message"));
    }
    let who = [
        (row.nobody(), "nobody knows of"),
        (row.counted, "the server counted"),
        (row.told, "their senders know of"),
    ];
    let who = who.iter().filter(|(n, _)| *n > 0);
    let who: Vec<_> = who
        .map(|(n, who)| format!("{who} {}", grouped(*n)))
        .collect();
    format!(
        "Lost {} of {}: {}.",
        grouped(row.lost),
        count(row.sent, "message"),
        who.join(", ")
    )
}

fn stuck(row: &Row) -> String {
    let what = if row.design.is_naive() {
        "handler"
    } else {
        "connection"
    };
    match row.stuck as u64 {
        0 => String::new(),
        1 => format!("1 {what} was still stuck a second after its sender had left."),
        n => format!(
            "{} were still stuck a second after their senders had left.",
            count(n, what)
        ),
    }
}

fn held_back(row: &Row) -> String {
    let kept = row.due - row.sent;
    if (kept as f64) < SMALL * row.due as f64 {
        return String::new();
    }
    format!(
        "{} that were due were never sent: their senders were held up, shut out or had to come again.",
        count(kept, "message")
    )
}

fn places(row: &Row) -> String {
    match row.refused {
        0 => String::new(),
        n => format!("Did not let {} in.", count(n, "connection")),
    }
}

/// What its layer did, and whatever else acted.
fn layer(row: &Row) -> String {
    let words = |(reason, n): &(String, u64)| {
        let n = *n;
        match reason.as_str() {
            "shuts" => format!("shut its listeners {}", count(n, "time")),
            "pauses.ring" => format!("paused reading {} because of a full ring", count(n, "time")),
            "pauses.rate" => format!("paused reading {} because of a rate", count(n, "time")),
            "pauses.staging" => format!(
                "paused reading {} because staging was spent",
                count(n, "time")
            ),
            "discarded.ring_full" => format!("discarded what {} would take", count(n, "message")),
            "places.full" => "had all its places taken".into(),
            other => match other.split_once('.') {
                Some(("closed", why)) => format!("closed {} ({why})", count(n, "connection")),
                Some(("refused", why)) => format!("turned {} away ({why})", count(n, "connection")),
                _ => format!("{other}: {n}"),
            },
        }
    };
    let said = row.acts.iter().filter(|(_, n)| *n > 0).map(words);
    let said = joined(said.collect());
    let acted = row.design.acts.iter().any(|reason| row.acted(reason) > 0);
    let idle = if acted || row.design.acts.is_empty() {
        ""
    } else {
        "The layer that it has more than others had nothing to do."
    };
    format!("{said} {idle}").trim().to_owned()
}

/// As one sentence.
fn joined(mut parts: Vec<String>) -> String {
    let Some(last) = parts.pop() else {
        return String::new();
    };
    let before = parts.join(", ");
    let and = if before.is_empty() { "" } else { " and " };
    format!("It {before}{and}{last}.")
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::designs;
    use super::*;

    pub(crate) fn row(name: &str) -> Row {
        Row {
            design: designs::of_name(name).unwrap(),
            due: 40_000,
            sent: 33_902,
            delivered: 29_079,
            lost: 4_823,
            told: 309,
            counted: 0,
            refused: 0,
            acts: Vec::new(),
            stuck: 87,
            held: 4,
            latency: [None; 3],
            jain: 0.995,
            recovery: Recovery::After(Duration::from_millis(800)),
            samples: Vec::new(),
            windows: Vec::new(),
        }
    }

    #[test]
    fn a_story_is_of_the_rows_own_numbers() {
        let mut row = row("naive");
        assert_eq!(
            story(&row),
            "Lost 4,823 of 33,902 messages: nobody knows of 4,514, their senders know of 309. \
             87 handlers were still stuck a second after their senders had left. \
             6,098 messages that were due were never sent: their senders were held up, shut out or had to come again. \
             After the stop it was in time again in 0.8 s."
        );
        (row.lost, row.told, row.stuck, row.sent) = (0, 0, 1, 40_000);
        (row.recovery, row.refused, row.jain) = (Recovery::NoStall, 1, 0.5);
        assert_eq!(
            story(&row),
            "Lost nothing of 40,000 messages. 1 handler was still stuck a second after its sender had left. \
             Did not let 1 connection in. Some senders got much more of theirs through than others (Jain 0.50)."
        );
    }

    #[test]
    fn a_layer_says_what_it_did_or_that_it_had_nothing_to_do() {
        let mut row = row("fanin-stall");
        assert!(story(&row).contains("had nothing to do"), "{}", story(&row));
        row.acts = vec![("closed.stall".into(), 3), ("pauses.ring".into(), 1200)];
        let said = story(&row);
        assert!(
            said.contains(
                "It closed 3 connections (stall) and paused reading 1,200 times because of a full ring."
            ),
            "{said}"
        );
        assert!(!said.contains("nothing to do"));
        assert_eq!(row.closed(), 3);
    }
}
