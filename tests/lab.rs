//! `fanin lab` from outside: its table adds up, designs that leak or lose do so in it, its page is well
//! formed, and what it cannot play it refuses.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use support::{Place, refused};

fn lab(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanin"));
    command.arg("lab").args(options);
    command
}

fn played(options: &[&str]) -> Output {
    let output = lab(options).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output
}

/// By design and column.
type Table = BTreeMap<String, BTreeMap<String, String>>;

fn table(output: &Output) -> Table {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut lines = text.lines().map(|line| line.split_whitespace());
    let names: Vec<_> = lines.next().unwrap().map(str::to_owned).collect();
    let row = |cells: std::str::SplitWhitespace<'_>| {
        let cells: Vec<_> = cells.map(str::to_owned).collect();
        assert_eq!(cells.len(), names.len(), "{text}");
        (cells[0].clone(), names.iter().cloned().zip(cells).collect())
    };
    lines.map(row).collect()
}

fn lines(place: &Place, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

/// Each tag is closed, in order, and no `&` or `<` stands for itself.
fn well_formed(xml: &str) {
    let mut open = Vec::new();
    let mut rest = xml;
    while let Some((text, tail)) = rest.split_once('<') {
        for entity in text.split('&').skip(1) {
            let (name, _) = entity.split_once(';').expect("an entity ends");
            assert!(["amp", "lt", "gt"].contains(&name), "&{name};");
        }
        let (tag, tail) = tail.split_once('>').expect("a tag ends");
        rest = tail;
        let name = |tag: &str| tag.split_whitespace().next().unwrap().to_owned();
        if let Some(tag) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name(tag)));
        } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
            open.push(name(tag));
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
    }
    assert!(open.is_empty(), "open at the end: {open:?}");
}

#[test]
fn leaks_and_losses_are_in_the_table_and_the_accounts_add_up() {
    let place = Place::new();
    let file = |name: &str| place.path(name).display().to_string();
    // The consumer stops for a moment, and then for good.
    let output = played(&[
        "--senders=8",
        "--rate=50",
        "--size=100",
        "--seconds=2",
        "--leave=50%",
        "--stall=200ms@300ms",
        "--stall=5m@1500ms",
        "--tricklers=0%",
        "--designs=naive,naive-1m,fanin",
        "--html",
        &file("page"),
        "--raw",
        &file("raw"),
        "--chart",
        &file("chart"),
    ]);
    let table = table(&output);
    let number = |design: &str, column: &str| -> u64 { table[design][column].parse().unwrap() };
    assert_eq!(table.len(), 3, "{table:#?}");
    for design in table.keys() {
        let of = |column| number(design, column);
        assert_eq!(of("sent"), of("delivered") + of("lost"), "{table:#?}");
        assert_eq!(
            of("lost"),
            of("told") + of("counted") + of("nobody"),
            "{table:#?}"
        );
        assert!(of("delivered") > 0 && of("sent") <= of("due"), "{table:#?}");
    }
    // All senders have left, and the consumer hangs.
    assert!(number("naive", "stuck") > 0, "{table:#?}");
    assert!(number("naive", "nobody") > 0, "{table:#?}");
    // A large channel frees the handlers, and forgets what it holds.
    assert_eq!(number("naive-1m", "stuck"), 0, "{table:#?}");
    assert!(number("naive-1m", "nobody") > 0, "{table:#?}");
    assert_eq!(number("fanin", "stuck"), 0, "{table:#?}");
    assert_eq!(number("fanin", "nobody"), 0, "{table:#?}");
    assert!(number("fanin", "counted") > 0, "{table:#?}");

    let raw = lines(&place, "raw");
    assert_eq!(of_kind(&raw, "plan").len(), 8);
    for row in of_kind(&raw, "row") {
        let design = row["design"].as_str().unwrap();
        for column in [
            "due",
            "sent",
            "delivered",
            "lost",
            "told",
            "counted",
            "nobody",
            "refused",
            "closed",
            "stuck",
            "held",
        ] {
            assert_eq!(
                row[column].as_u64(),
                Some(number(design, column)),
                "{design} {column}"
            );
        }
        let mine = |kind| {
            of_kind(&raw, kind)
                .into_iter()
                .filter(|line| line["design"] == design)
        };
        let counts = mine("window").filter_map(|window| window["delivered"].as_u64());
        assert_eq!(counts.sum::<u64>(), number(design, "delivered"), "{design}");
        // The descriptors of the eight were seen from outside, and none but theirs.
        let most = mine("sample")
            .filter_map(|sample| sample["descriptors"].as_u64())
            .max();
        assert!(matches!(most, Some(1..=8)), "{design}: {most:?}");
    }

    let page = fs::read_to_string(place.path("page")).unwrap();
    well_formed(&page);
    well_formed(&fs::read_to_string(place.path("chart")).unwrap());
    for part in [
        "<svg",
        "What to configure",
        "--stall=200ms@300ms,5m@1500ms",
        "class=\"bad\"",
        "naive-1m",
        "Jain",
        "docs/overload.md#stalled-consumers",
        // The story of a row has its numbers.
        "still stuck a second after",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for outside in ["<script", "src=", "href=", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn one_seed_is_one_plan_of_senders() {
    let place = Place::new();
    let plan = |name: &str, seed: &str| {
        let raw = place.path(name).display().to_string();
        played(&[
            "--senders=5",
            "--seconds=1",
            "--rate=20",
            "--stall=none",
            "--tricklers=0%",
            "--designs=fanin-pause",
            "--raw",
            &raw,
            "--seed",
            seed,
        ]);
        let lines = lines(&place, name);
        // An orderly run of the library loses nothing but what senders took back.
        let row = of_kind(&lines, "row")[0];
        assert_eq!(
            (&row["nobody"], &row["counted"], &row["stuck"]),
            (&0.into(), &0.into(), &0.into()),
            "{row}"
        );
        of_kind(&lines, "plan")
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    let first = plan("a", "7");
    assert_eq!(first, plan("b", "7"));
    assert_ne!(first, plan("c", "8"));
}

#[test]
fn what_cannot_be_played_is_refused_with_what_can() {
    for (options, part) in [
        (&["--senders", "1000000"][..], "would do"),
        (&["--rate", "0"], "1 to"),
        (&["--size", "5"], "64 to"),
        (&["--seconds", "3600"], "1 to 60"),
        (&["--designs", "naive,best"], "naive-100"),
        (&["--stall", "5s"], "TIME@TIME"),
        (&["--stall", "5s@1s/2"], "1 consumer"),
        (&["--stall", "5s@1s/0"], "from 1 on"),
        (&["--leave", "101%"], "100%"),
        (&["--skew", "101%"], "100%"),
        (&["--skew", "90%", "--senders", "1"], "2 senders"),
        (&["--tricklers", "many"], "100%"),
        (&["--late", "-"], "100%"),
        (&["--descriptors", "8"], "32 to"),
        (&["--consumer-rate", "0"], "unlimited"),
        (&["--consumer-rate", "5,no"], "unlimited"),
    ] {
        let (code, said) = refused(lab(options));
        assert_eq!(code, Some(2), "{options:?}: {said}");
        assert!(
            said.contains(options[0]) && said.contains(part),
            "{options:?}: {said}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_written_is_told_with_its_name_after_a_run_as_before_it() {
    let short = ["--seconds", "1", "--senders", "2", "--designs", "fanin"];
    for option in ["--html", "--chart", "--raw"] {
        for (path, reason) in [
            ("/dev/full", "No space left on device"),
            ("/nowhere/x", "No such file"),
        ] {
            let (_, said) = refused(lab(&[&short[..], &[option, path]].concat()));
            let last = said.lines().last().unwrap();
            let begin = format!("fanin: {option} {path}: {reason}");
            assert!(last.starts_with(&begin), "{begin:?}: {said}");
        }
    }
}

#[test]
fn of_a_skewed_load_one_sender_has_its_share_and_fairness_is_of_what_was_due() {
    let place = Place::new();
    let raw = place.path("raw").display().to_string();
    let table = table(&played(&[
        "--senders=10",
        "--rate=50",
        "--seconds=1",
        "--skew=90%",
        "--tricklers=0%",
        "--late=0%",
        "--leave=0%",
        "--stall=none",
        "--consumer-rate=unlimited",
        "--designs=naive,fanin-pause",
        "--raw",
        &raw,
    ]));
    let raw = lines(&place, "raw");
    let most = |plan: &&Value| plan["most"].as_u64().unwrap();
    let plans = of_kind(&raw, "plan");
    assert_eq!(most(&plans[0]), 450);
    assert!(plans[1..].iter().all(|plan| most(plan) == 5), "{plans:?}");
    for (design, row) in &table {
        assert_eq!(row["sent"], row["delivered"], "{design}: {row:?}");
        // All got everything, though one had ninety times as much.
        assert!(
            row["jain"].parse::<f64>().unwrap() > 0.9,
            "{design}: {row:?}"
        );
    }
}

#[test]
fn tricklers_are_closed_by_their_layer_alone() {
    let table = table(&played(&[
        "--senders=4",
        "--rate=20",
        "--seconds=4",
        "--tricklers=100%",
        "--leave=0%",
        "--stall=none",
        "--designs=fanin-pause,fanin-message",
    ]));
    let number = |design: &str, column: &str| -> u64 { table[design][column].parse().unwrap() };
    assert_eq!(number("fanin-pause", "closed"), 0, "{table:#?}");
    assert!(number("fanin-message", "closed") >= 4, "{table:#?}");
    for design in table.keys() {
        assert_eq!(number(design, "sent"), 0, "{table:#?}");
        assert_eq!(number(design, "lost"), 0, "{table:#?}");
    }
}

#[test]
fn of_several_consumers_one_can_stand_still() {
    let table = table(&played(&[
        "--senders=6",
        "--rate=50",
        "--seconds=3",
        "--tricklers=0%",
        "--leave=0%",
        "--late=0%",
        "--consumer-rate=unlimited,unlimited",
        "--stall=5m@500ms/2",
        "--designs=naive,fanin-consumer",
    ]));
    let number = |design: &str, column: &str| -> u64 { table[design][column].parse().unwrap() };
    for design in table.keys() {
        let of = |column| number(design, column);
        assert_eq!(of("sent"), of("delivered") + of("lost"), "{table:#?}");
        // The other one has worked on.
        assert!(of("delivered") > of("due") / 2, "{table:#?}");
    }
    // Whose consumer stands still is closed, and comes again to the other one.
    assert!(number("fanin-consumer", "closed") >= 1, "{table:#?}");
    assert_eq!(number("fanin-consumer", "nobody"), 0, "{table:#?}");
}

#[test]
fn a_server_may_run_out_of_descriptors() {
    let table = table(&played(&[
        "--senders=60",
        "--rate=5",
        "--seconds=2",
        "--tricklers=0%",
        "--leave=0%",
        "--late=0%",
        "--stall=none",
        "--descriptors=40",
        "--designs=naive,fanin-pause,fanin",
    ]));
    for (design, row) in &table {
        let of = |column: &str| -> u64 { row[column].parse().unwrap() };
        // The library tells who has no place; the naive one lets everybody wait.
        assert_eq!(of("refused") > 0, design == "fanin-pause", "{row:?}");
        assert_eq!(
            of("sent"),
            of("delivered") + of("lost"),
            "{design}: {row:?}"
        );
        assert!(of("delivered") > 0, "{design}: {row:?}");
    }
}
