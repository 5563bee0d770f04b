//! What the transition tables of the machines share.
//!
//! In: what every event did in every state. Out: rows, where whatever makes no difference is one row;
//! and a test that fails when they are not the reviewed text. Never here: a file that is written.

use std::collections::BTreeMap;

/// What one event did, given one combination of the values that a state may have beside its name.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) given: Vec<&'static str>,
    pub(crate) cells: Vec<Cell>,
}

#[derive(Debug)]
pub(crate) enum Cell {
    /// Said as it is.
    Said(String),
    /// Said where it is another one afterwards.
    Change { before: String, after: String },
}

const SAME: &str = "=";

/// The cases of one event in one state as rows: what was given, then what came of it.
///
/// Two values are one (`*`: all, `not x`: all but one) if they make no difference whatever the others are.
/// A change is `=` where nothing changed; but where the event leaves the same whatever was there, this.
pub(crate) fn rows(cases: &[Case]) -> Vec<Vec<String>> {
    let columns = cases[0].cells.len();
    let mut outcomes = vec![Vec::new(); cases.len()];
    for column in 0..columns {
        for (outcome, text) in outcomes.iter_mut().zip(column_text(cases, column)) {
            outcome.push(text);
        }
    }
    let of: BTreeMap<&[&str], &[String]> = cases
        .iter()
        .zip(&outcomes)
        .map(|(case, outcome)| (&*case.given, &**outcome))
        .collect();
    assert_eq!(of.len(), cases.len(), "a combination is there twice");

    let axes = cases[0].given.len();
    let classes: Vec<_> = (0..axes).map(|axis| classes(&of, cases, axis)).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (case, outcome) in cases.iter().zip(&outcomes) {
        let given = (0..axes).map(|axis| classes[axis][case.given[axis]].clone());
        let row: Vec<String> = given.chain(outcome.iter().cloned()).collect();
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

fn column_text(cases: &[Case], column: usize) -> Vec<String> {
    let changes = cases.iter().any(
        |case| matches!(&case.cells[column], Cell::Change { before, after } if before != after),
    );
    let mut left = cases.iter().map(|case| match &case.cells[column] {
        Cell::Said(text) | Cell::Change { after: text, .. } => text,
    });
    let first = left.next().expect("there is a case");
    let is_decided = changes && left.all(|text| text == first);
    let text = |case: &Case| match &case.cells[column] {
        Cell::Said(text) => text.clone(),
        Cell::Change { before, after } if before == after && !is_decided => SAME.to_owned(),
        Cell::Change { after, .. } => after.clone(),
    };
    cases.iter().map(text).collect()
}

/// Each value of an axis with the name of those that make no difference to it.
fn classes(
    of: &BTreeMap<&[&str], &[String]>,
    cases: &[Case],
    axis: usize,
) -> BTreeMap<&'static str, String> {
    let mut values: Vec<&'static str> = Vec::new();
    for case in cases {
        if !values.contains(&case.given[axis]) {
            values.push(case.given[axis]);
        }
    }
    let are_one = |a, b| {
        of.iter()
            .filter(|(given, _)| given[axis] == a)
            .all(|(given, outcome)| {
                let mut other = given.to_vec();
                other[axis] = b;
                of[&*other] == *outcome
            })
    };
    let name = |value: &'static str| {
        let (same, others): (Vec<&str>, Vec<&str>) =
            values.iter().copied().partition(|v| are_one(value, *v));
        match (&*same, &*others) {
            (_, []) => "*".to_owned(),
            ([_, _, ..], [other]) => format!("not {other}"),
            _ => same.join("/"),
        }
    };
    values.iter().map(|value| (*value, name(value))).collect()
}

/// One line of fixed columns.
pub(crate) fn line(widths: &[usize], cells: &[String]) -> String {
    assert_eq!(widths.len(), cells.len());
    let mut line = String::new();
    for (width, cell) in widths.iter().zip(cells) {
        line.push_str(&format!("{cell:<width$}  "));
    }
    line.truncate(line.trim_end().len());
    line + "\n"
}

/// The table is as it was reviewed. Whoever means the change copies it from here, and reads it.
pub(crate) fn assert_reviewed(name: &str, table: &str, reviewed: &str) {
    let mut ours = table.lines();
    let mut theirs = reviewed.lines();
    let mut number = 0;
    let (now, then) = loop {
        number += 1;
        match (ours.next(), theirs.next()) {
            (None, None) => break (None, None),
            (now, then) if now != then => break (now, then),
            _ => {}
        }
    };
    assert!(
        table == reviewed,
        "{table}\nThat is not {name}, first in line {number}:\n reviewed: {}\n      now: {}\n",
        then.unwrap_or("(no line)"),
        now.unwrap_or("(no line)"),
    );
}

/// The table knows every `handle_*` and every `State` of the machine's source text.
pub(crate) fn assert_complete(source: &str, methods: Vec<&str>, states: Vec<&str>) {
    let sorted = |mut names: Vec<_>| {
        names.sort_unstable();
        names.dedup();
        names
    };
    let all = sorted(names(source, "fn handle_"));
    assert!(!all.is_empty(), "a machine without events");
    assert_eq!(sorted(methods), all, "events: of the table, of the machine");
    let all = sorted(variants(source, "State"));
    assert_eq!(sorted(states), all, "states: of the table, of the machine");
}

/// The names in a source text that follow `before`, in their order.
fn names<'t>(source: &'t str, before: &str) -> Vec<&'t str> {
    let name = |rest: &'t str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    };
    source.split(before).skip(1).map(name).collect()
}

/// The variants of the enum `name` in a source text that rustfmt has seen.
fn variants<'t>(source: &'t str, name: &str) -> Vec<&'t str> {
    let (_, body) = source
        .split_once(&format!("enum {name} {{"))
        .expect("an enum");
    let (body, _) = body.split_once("\n}").expect("its end");
    let mut variants = names(body, "\n    ");
    variants.retain(|name| name.starts_with(|c: char| c.is_ascii_uppercase()));
    variants
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(given: [&'static str; 2], outcome: &str) -> Case {
        Case {
            given: given.to_vec(),
            cells: vec![Cell::Said(outcome.to_owned())],
        }
    }

    #[test]
    fn only_what_makes_no_difference_is_one_row() {
        let cases = [
            case(["a", "x"], "1"),
            case(["a", "y"], "1"),
            case(["b", "x"], "1"),
            case(["b", "y"], "2"),
            case(["c", "x"], "1"),
            case(["c", "y"], "2"),
        ];
        let rows = rows(&cases)
            .iter()
            .map(|row| row.join(" "))
            .collect::<Vec<_>>();
        assert_eq!(rows, ["a x 1", "a y 1", "not a x 1", "not a y 2"]);
        let rows = super::rows(&cases[2..]);
        assert_eq!(rows, [["*", "x", "1"], ["*", "y", "2"]]);
    }

    #[test]
    fn a_value_is_said_where_the_event_decides_it() {
        let change = |given, before: &str, after: &str| Case {
            given: vec![given],
            cells: vec![Cell::Change {
                before: before.to_owned(),
                after: after.to_owned(),
            }],
        };
        assert_eq!(
            rows(&[change("a", "1", "1"), change("b", "2", "2")]),
            [["*", "="]]
        );
        assert_eq!(
            rows(&[change("a", "1", "1"), change("b", "2", "1")]),
            [["*", "1"]]
        );
        assert_eq!(
            rows(&[change("a", "1", "1"), change("b", "2", "3")]),
            [["a", "="], ["b", "3"]]
        );
    }

    #[test]
    #[should_panic(expected = "first in line 2:\n reviewed: b\n      now: c\n")]
    fn a_table_that_differs_shows_itself_and_where() {
        assert_reviewed("table.txt", "a\nc\n", "a\nb\n");
    }

    #[test]
    #[should_panic(expected = "reviewed: (no line)")]
    fn a_table_that_is_longer_differs() {
        assert_reviewed("table.txt", "a\nb\n", "a\n");
    }

    #[test]
    fn names_are_found_in_a_source_text() {
        let source = "/// An enum Other.\nenum Kind {\n    /// One.\n    One,\n    Two { a: u8 },\n}\nenum X {\n    No,\n}";
        assert_eq!(variants(source, "Kind"), ["One", "Two"]);
        assert_eq!(
            names("fn handle_a(); fn handle_bc;", "fn handle_"),
            ["a", "bc"]
        );
    }
}
