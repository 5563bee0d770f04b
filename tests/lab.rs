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
        "--stall=5m@1500ms",
        "class=\"bad\"",
        "naive-1m",
        "Jain",
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
        (["--senders", "1000000"], "would do"),
        (["--rate", "0"], "1 to"),
        (["--size", "5"], "64 to"),
        (["--seconds", "3600"], "1 to 60"),
        (["--designs", "naive,best"], "naive-100"),
        (["--stall", "5s"], "TIME@TIME"),
        (["--leave", "101%"], "100%"),
        (["--consumer-rate", "0"], "unlimited"),
    ] {
        let (code, said) = refused(lab(&options));
        assert_eq!(code, Some(2), "{options:?}: {said}");
        assert!(
            said.contains(options[0]) && said.contains(part),
            "{options:?}: {said}"
        );
    }
}
