//! The corpus of byte streams in `streams/` by itself: every byte has its place, every framing its cases, every
//! case its clause, and what is fanin's choice says so.

mod corpus;

use std::collections::{BTreeMap, BTreeSet};

use corpus::{Case, End, Event, TRUNCATED};
use fanin::Framing;

#[test]
fn every_byte_of_a_stream_has_one_place() {
    for case in corpus::all() {
        let name = &case.name;
        let mut at = 0;
        let mut first_discard = None;
        for event in &case.events {
            let takes = event.takes() as usize;
            let there = &case.input[at..at + takes];
            match event {
                Event::Message { bytes, flag, .. } => {
                    assert!(bytes.len() <= case.max_message, "{name}: too large");
                    let is_there = match flag {
                        Some(_) => there == bytes,
                        None => there.starts_with(bytes) || there.ends_with(bytes),
                    };
                    assert!(is_there, "{name}: {event:?} is not at {at}");
                    let marks = if flag.is_some() { 0..1 } else { 1..12 };
                    assert!(marks.contains(&(takes - bytes.len())), "{name}: {event:?}");
                }
                Event::Discard { reason, .. } => {
                    if case
                        .error
                        .as_ref()
                        .is_some_and(|fault| fault.kind == *reason)
                    {
                        first_discard.get_or_insert(at);
                    }
                }
                Event::Held(_) => assert_eq!(case.end, End::Open, "{name}"),
            }
            at += takes;
        }
        assert_eq!(at, case.input.len(), "{name}: bytes without a place");
        if let Some(fault) = &case.error {
            assert_eq!(first_discard, Some(fault.at), "{name}: where its error is");
            assert!(fault.said_after > fault.at, "{name}");
            assert!(fault.said_after <= case.input.len(), "{name}");
        }
    }
}

#[test]
fn every_framing_has_its_streams() {
    // The one list of framings that the library gives.
    let legal = "no such framing"
        .parse::<Framing>()
        .unwrap_err()
        .to_string();
    let (_, legal) = legal.split_once("legal are ").unwrap();
    let words = legal.split(|c: char| !c.is_ascii_alphanumeric());
    let framings: BTreeSet<_> = words
        .filter(|word| word.parse::<Framing>().is_ok() || *word == "byte")
        .map(str::to_owned)
        .collect();
    assert!(framings.len() >= 8, "{framings:?}");
    let families: BTreeSet<_> = corpus::families().into_iter().collect();
    assert_eq!(families, framings);
    for family in families {
        let cases = corpus::read(&family);
        assert!(cases.len() >= 12, "{family}: {} cases", cases.len());
        let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len(), "{family}: a name twice");
        for case in cases {
            let begins = case.framing.split(':').next().unwrap();
            assert_eq!(begins, family, "{}", case.name);
            assert!(case.framing.parse::<Framing>().is_ok(), "{}", case.name);
        }
    }
}

/// The rows of a table in a document, as cells.
fn rows(path: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(corpus::root().join(path)).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| {
            row.split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

#[test]
fn the_table_of_clauses_names_every_case_and_no_other() {
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows("docs/clauses.md")
        .iter()
        .filter(|row| row[0] != "clause")
    {
        let [clause, _, cases] = &row[..] else {
            panic!("{row:?}")
        };
        let cases = cases.split("; ").flat_map(|of_family| {
            let (family, names) = of_family.split_once(": ").unwrap();
            let names = names.split(", ");
            names.map(move |name| format!("{}/{name}", family.trim_matches('`')))
        });
        let earlier = table.insert(clause.clone(), cases.collect());
        assert!(earlier.is_none(), "{clause} stands twice");
    }
    let mut corpus: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for case in corpus::all() {
        corpus.entry(case.clause).or_default().insert(case.name);
    }
    for (clause, cases) in &corpus {
        let listed = table.get(clause);
        let listed = listed.unwrap_or_else(|| panic!("{clause} is not in the table"));
        assert_eq!(listed, cases, "{clause}: the table, and the corpus");
    }
    let clauses = |map: &BTreeMap<String, _>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(clauses(&table), clauses(&corpus));
}

#[test]
fn every_choice_is_explained_and_made() {
    let explained: BTreeSet<_> = rows("streams/README.md")
        .into_iter()
        .filter(|row| row.len() == 3)
        .filter_map(|row| Some(row[0].strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .filter(|name| !name.ends_with(".json"))
        .collect();
    let all = corpus::all().into_iter();
    let made: BTreeSet<_> = all.flat_map(|case| case.choices).collect();
    assert_eq!(explained, made);
}

/// What the framing alone does not decide is marked so.
#[test]
fn what_is_open_to_choice_says_so() {
    for case in corpus::all() {
        let chose = |choices: &[&str]| choices.iter().any(|c| case.choices.iter().any(|d| c == d));
        let name = &case.name;
        for event in &case.events {
            match event {
                Event::Message {
                    flag: Some(TRUNCATED),
                    ..
                } => assert!(chose(&["oversize"]), "{name}"),
                Event::Message { flag: Some(_), .. } => assert!(chose(&["unterminated"]), "{name}"),
                Event::Message { bytes, .. } => {
                    assert!(!bytes.is_empty() || chose(&["empty"]), "{name}");
                }
                Event::Discard { reason, .. } => match &**reason {
                    "oversize" => assert!(chose(&["oversize"]), "{name}"),
                    "cut_at_end" => assert!(chose(&["cut", "unterminated"]), "{name}"),
                    "protocol" => assert!(chose(&["bad_count"]), "{name}"),
                    other => panic!("{name}: no reason is {other:?}"),
                },
                Event::Held(_) => {}
            }
        }
        assert_eq!(
            case.settled.is_some(),
            case.framing == "auto" && !is_undecided(&case),
            "{name}"
        );
    }
}

fn is_undecided(case: &Case) -> bool {
    case.input.is_empty() || (case.end == End::Open && case.events.len() == 1)
}
