//! The page: the table, the charts, what each word means, and what to configure. Well-formed XML.
//!
//! In: rows. Out: one file that needs no other, no script and no colour. Never here: a number that is not
//! in the rows.

use std::fmt::Write as _;

use super::advice;
use super::chart;
use super::row::{COLUMNS, Recovery, Row};
use super::scenario::{self, Scenario};
use super::story;

const STYLE: &str = "\
body { font: 14px/1.45 sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: #000; background: #fff }
table { border-collapse: collapse; font-size: 12px }
th, td { border: 1px solid #888; padding: 2px 5px; text-align: right }
th:first-child, td:first-child { text-align: left }
td.bad { font-weight: bold; border: 2px solid #000 }
svg { width: 100%; height: auto }
.text th, .text td { text-align: left; vertical-align: top }
dt { font-weight: bold; font-family: monospace } dd { margin-bottom: .3em }
pre, code { font-family: monospace } pre { border: 1px solid #888; padding: .6em; white-space: pre-wrap }
@media print {
@page { size: A4 landscape; margin: 10mm }
body { font-size: 10px; margin: 0; max-width: none; padding: 0 }
table { font-size: 8px } h2 { break-after: avoid } tr, dt, svg { break-inside: avoid }
}
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The page for this run.
pub(crate) fn page(rows: &[Row], scenario: &Scenario) -> String {
    let command = format!("fanin lab {}", scenario.words().join(" "));
    let mut page = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE html>\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head><meta charset=\"utf-8\"/>\
         <title>fanin lab</title>\n<style>\n{STYLE}</style></head>\n<body>\n<h1>One load, {} designs</h1>\n",
        rows.len()
    );
    intro(&mut page, scenario, &command);
    page.push_str("<h2>What came of it</h2>\n");
    findings(&mut page, rows);
    page.push_str("<dl>\n");
    for row in rows {
        let _ = writeln!(
            page,
            "<dt>{}</dt><dd>{}<br/><strong>{}</strong></dd>",
            row.design.name,
            escape(row.design.says),
            escape(&story::story(row))
        );
    }
    page.push_str("</dl>\n");
    configure(&mut page, rows, scenario);
    page.push_str("<h2>In numbers</h2>\n");
    table(&mut page, rows);
    page.push_str(
        "<p>A frame marks what should not be: messages lost of which nobody knows, descriptors that are stuck, a backlog \
         that is never gone. What each column is stands below.</p>\n",
    );
    page.push_str(
        "<h2>Over time</h2>\n<p>All charts of a column have the same scale. Grey: the consumer stands still. Where \
         descriptors are above the dashed line, the server holds connections of senders that have left.</p>\n",
    );
    page.push_str(&chart::sheet(rows, scenario));
    page.push_str("<h2>The columns</h2>\n<dl>\n");
    for (name, means) in COLUMNS {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escape(means));
    }
    page.push_str("</dl>\n</body>\n</html>\n");
    page
}

/// What was seen, what to do about it, and where to read on.
fn configure(page: &mut String, rows: &[Row], scenario: &Scenario) {
    page.push_str(
        "<h2>What to configure for a load like this</h2>\n<table class=\"text\">\n\
         <tr><th>for</th><th>seen here</th><th>so</th><th>read</th></tr>\n",
    );
    let advice = advice::advice(scenario, rows);
    for item in &advice.items {
        let _ = writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            item.about,
            escape(&item.seen),
            escape(&item.so),
            item.read()
        );
    }
    let _ = write!(
        page,
        "</table>\n<pre>{}</pre>\n<p><code>fanin check</code> with the same options says in which order the layers act, what \
         memory they take at most, and which can never act. Then play your own load: change <code>--senders</code>, \
         <code>--rate</code>, <code>--size</code>, <code>--consumer-rate</code> and <code>--stall</code> \
         (<code>fanin lab --help</code> has all), and look at the same sentences.</p>\n",
        escape(&advice.command)
    );
}

fn intro(page: &mut String, scenario: &Scenario, command: &str) {
    let consumers = match scenario.consumers() {
        1 => format!(
            "a consumer that takes {} messages a second",
            scenario::list(&scenario.consumer_rates)
        ),
        n => format!(
            "{n} consumers that take {} messages a second",
            scenario::list(&scenario.consumer_rates)
        ),
    };
    let mut who = vec![format!(
        "{} % of the senders leave before the end, half of them by a close and half by a reset, \
        if they can while they are blocked",
        scenario.leave
    )];
    if scenario.skew > 0 {
        who.push(format!(
            "one sender has {} % of all messages",
            scenario.skew
        ));
    }
    if scenario.crowd > 0 {
        who.push(format!("{} % have one address together", scenario.crowd));
    }
    if scenario.tricklers > 0 {
        who.push(format!(
            "{} % send byte by byte, 20 bytes a second, as broken and hostile ones do",
            scenario.tricklers
        ));
    }
    who.push("who was closed or refused comes again after 0.3 s".into());
    if let Some(n) = scenario.descriptors {
        who.push(format!("the server may have {n} descriptors"));
    }
    let _ = write!(
        page,
        "<p>A fan-in: many connections, few consumers. As everybody writes it first, a thread (task, goroutine) reads each \
         connection and sends into one channel. Here that design, the usual remedies one at a time, and fanin \
         with one layer at a time, each ran by itself against the same plan of senders:</p>\n\
         <p>{} senders, each with {} messages a second of {} bytes, for {} s, on loopback; {consumers}, \
         standing still (for how long @ when): {}; {}.</p>\n\
         <p>Every number was measured in this run, on this machine, with whatever else it was doing. Again with:</p>\n<pre>{}</pre>\n",
        scenario.senders,
        scenario.rate,
        scenario.size,
        scenario.seconds,
        scenario::list(&scenario.stalls),
        who.join("; "),
        escape(command),
    );
}

fn table(page: &mut String, rows: &[Row]) {
    page.push_str("<table>\n<tr>");
    for (name, _) in COLUMNS {
        let _ = write!(page, "<th>{name}</th>");
    }
    page.push_str("</tr>\n");
    for row in rows {
        page.push_str("<tr>");
        for ((name, _), cell) in COLUMNS.iter().zip(row.cells()) {
            let bad = match *name {
                "nobody" => row.nobody() > 0,
                "stuck" => row.stuck > 0,
                "recover" => row.recovery == Recovery::Never,
                _ => false,
            };
            let class = if bad { " class=\"bad\"" } else { "" };
            let _ = write!(page, "<td{class}>{cell}</td>");
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

/// What the table says, in words: each sentence is a query of it.
fn findings(page: &mut String, rows: &[Row]) {
    let names = |is: fn(&&Row) -> bool| -> String {
        let names: Vec<_> = rows.iter().filter(is).map(|row| row.design.name).collect();
        if names.is_empty() {
            "none".into()
        } else {
            names.join(", ")
        }
    };
    let _ = write!(
        page,
        "<ul>\n<li>Held descriptors of senders that had left, for nothing: {}.</li>\n\
         <li>Lost messages of which nobody knows: {}.</li>\n\
         <li>Lost nothing that nobody knows of, and had nothing stuck: {}.</li>\n</ul>\n",
        names(|row| row.stuck > 0),
        names(|row| row.nobody() > 0),
        names(|row| row.stuck == 0 && row.nobody() == 0),
    );
}
