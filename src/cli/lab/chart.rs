//! The charts over time, as one SVG: a line of small ones for each design, all on the same scales.
//!
//! In: rows. Out: an image that needs no colour. Never here: a script.

use std::fmt::Write as _;

use super::desk::WINDOW;
use super::row::Row;
use super::scenario::Scenario;

const LEFT: f64 = 100.0;
const TOP: f64 = 34.0;
const WIDTH: f64 = 200.0;
const HEIGHT: f64 = 46.0;
const GAP: f64 = 18.0;

/// Milliseconds and a value.
type Line = fn(&Row) -> Vec<(f64, f64)>;

/// What one column of charts shows.
struct Panel {
    title: &'static str,
    unit: &'static str,
    line: Line,
    /// A dashed line to compare with.
    beside: Option<Line>,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "delivered",
        unit: "messages in 0.1 s",
        line: |row| windows(row, |(count, _)| count as f64),
        beside: None,
    },
    Panel {
        title: "latest message",
        unit: "s",
        line: |row| windows(row, |(_, worst)| worst as f64 / 1e6),
        beside: None,
    },
    Panel {
        title: "descriptors; dashed: senders",
        unit: "",
        line: |row| samples(row, |s| s.descriptors as f64),
        beside: Some(|row| samples(row, |s| s.present as f64)),
    },
    Panel {
        title: "memory",
        unit: "MiB",
        line: |row| samples(row, |s| s.rss_kib as f64 / 1024.0),
        beside: None,
    },
];

fn windows(row: &Row, value: fn((u64, u64)) -> f64) -> Vec<(f64, f64)> {
    let width = WINDOW.as_millis() as f64;
    // To the end of the run, also where nothing came any more.
    let last = row.samples.last().map_or(0, |s| s.millis as usize) / WINDOW.as_millis() as usize;
    let of = |place| value(row.windows.get(place).copied().unwrap_or_default());
    (0..=last)
        .map(|place| (place as f64 * width, of(place)))
        .collect()
}

fn samples(row: &Row, value: fn(&super::watch::Sample) -> f64) -> Vec<(f64, f64)> {
    row.samples
        .iter()
        .map(|s| (s.millis as f64, value(s)))
        .collect()
}

/// All charts.
pub(crate) fn sheet(rows: &[Row], scenario: &Scenario) -> String {
    let ends = rows.iter().filter_map(|row| row.samples.last());
    let end = ends.map(|sample| sample.millis).max().unwrap_or(1).max(1) as f64;
    let x = |panel: usize| LEFT + panel as f64 * (WIDTH + GAP);
    let y = |row: usize| TOP + row as f64 * (HEIGHT + GAP);
    let (width, height) = (x(PANELS.len()), y(rows.len()) + 8.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <title>Designs under one load, over time</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (place, panel) in PANELS.iter().enumerate() {
        let values = rows.iter().flat_map(|row| {
            let beside = panel.beside.map(|beside| beside(row)).unwrap_or_default();
            (panel.line)(row).into_iter().chain(beside)
        });
        let top = values
            .map(|(_, value)| value)
            .fold(0.0, f64::max)
            .max(0.001);
        let left = x(place);
        let label = if top >= 10.0 {
            format!("{top:.0}")
        } else {
            format!("{top:.2}")
        };
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"12\" font-weight=\"bold\">{}</text>",
            panel.title
        );
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"25\">full height: {label} {}</text>",
            panel.unit
        );
        for (number, row) in rows.iter().enumerate() {
            let frame = Frame {
                left,
                top: y(number),
                end,
                most: top,
            };
            frame.draw(&mut svg, scenario, row, panel);
        }
    }
    for (number, row) in rows.iter().enumerate() {
        let middle = y(number) + HEIGHT / 2.0 + 3.0;
        let _ = writeln!(
            svg,
            "<text x=\"4\" y=\"{middle}\">{}</text>",
            row.design.name
        );
        let seconds = end / 1000.0;
        let (right, bottom) = (LEFT + WIDTH, y(number) + HEIGHT + 10.0);
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{bottom}\" font-size=\"8\">0</text>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{right}\" y=\"{bottom}\" font-size=\"8\" text-anchor=\"end\">{seconds:.1} s</text>"
        );
    }
    svg.push_str("</svg>\n");
    svg
}

struct Frame {
    left: f64,
    top: f64,
    end: f64,
    most: f64,
}

impl Frame {
    fn x(&self, millis: f64) -> f64 {
        self.left + WIDTH * (millis / self.end).min(1.0)
    }

    fn draw(&self, svg: &mut String, scenario: &Scenario, row: &Row, panel: &Panel) {
        for stall in &scenario.stalls {
            let from = self.x(stall.at.as_millis() as f64);
            let to = self.x(stall.end().as_millis() as f64);
            if to > from {
                let _ = writeln!(
                    svg,
                    "<rect x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#ddd\"/>",
                    self.top,
                    to - from
                );
            }
        }
        let (left, top) = (self.left, self.top);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#888\" stroke-width=\"0.5\"/>"
        );
        if let Some(beside) = panel.beside {
            self.line(
                svg,
                &beside(row),
                " stroke-dasharray=\"3 2\" stroke-width=\"0.8\"",
            );
        }
        self.line(svg, &(panel.line)(row), " stroke-width=\"1.4\"");
    }

    fn line(&self, svg: &mut String, points: &[(f64, f64)], style: &str) {
        let place = |&(millis, value): &(f64, f64)| {
            let y = self.top + HEIGHT * (1.0 - value / self.most);
            format!("{:.1},{y:.1}", self.x(millis))
        };
        let points: Vec<_> = points.iter().map(place).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"black\"{style}/>",
            points.join(" ")
        );
    }
}
