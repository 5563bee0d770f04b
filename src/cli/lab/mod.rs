//! `fanin lab`: one load against several designs, each of which runs, one after the other.
//!
//! In: a scenario. Out: a table on stdout; a page, a chart and raw samples in files; progress on stderr.
//! Never here: a model. What the table says was measured at real sockets, by processes of their own.

mod advice;
mod chart;
mod designs;
mod desk;
mod message;
mod naive;
mod page;
mod plan;
mod play;
mod row;
mod scenario;
mod senders;
mod server;
mod story;
mod watch;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use self::designs::{DESIGNS, Design};
use self::row::Row;
use self::scenario::Scenario;
pub(crate) use self::senders::Senders;
pub(crate) use self::server::Server;
use super::notes::say;

#[derive(Args, Clone, Debug)]
pub(crate) struct Lab {
    #[command(flatten)]
    scenario: Scenario,
    /// Only these designs, by name, in this order [default: all]
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        help_heading = "Designs and results"
    )]
    designs: Vec<String>,
    /// Write a page with table, charts, definitions and advice
    #[arg(long, value_name = "FILE", help_heading = "Designs and results")]
    html: Option<PathBuf>,
    /// Write the charts alone (SVG)
    #[arg(long, value_name = "FILE", help_heading = "Designs and results")]
    chart: Option<PathBuf>,
    /// Write the plan of each sender, all results and samples as JSON, one a line
    #[arg(long, value_name = "FILE", help_heading = "Designs and results")]
    raw: Option<PathBuf>,
}

impl Lab {
    /// The designs that were asked for, or why the lab does not begin.
    pub(crate) fn validate(&self) -> Result<Vec<&'static Design>, String> {
        self.scenario.validate()?;
        if self.designs.is_empty() {
            return Ok(DESIGNS.iter().collect());
        }
        let of_name = |name: &String| {
            designs::of_name(name).ok_or_else(|| {
                let names: Vec<_> = DESIGNS.iter().map(|design| design.name).collect();
                format!("--designs {name}: there are {}", names.join(", "))
            })
        };
        self.designs.iter().map(of_name).collect()
    }

    /// Plays all, and writes what was asked for.
    pub(crate) fn run(&self, designs: &[&'static Design]) -> Result<()> {
        let scenario = self.scenario.played();
        // Before the first run, which takes its time.
        let html = Output::create("--html", self.html.as_deref())?;
        let chart = Output::create("--chart", self.chart.as_deref())?;
        let raw = Output::create("--raw", self.raw.as_deref())?;
        let mut rows = Vec::new();
        for (place, design) in designs.iter().enumerate() {
            say(format_args!(
                "lab: {} of {}: {}",
                place + 1,
                designs.len(),
                design.name
            ));
            let row =
                play::play(design, &scenario).with_context(|| format!("design {}", design.name))?;
            say(format_args!(
                "lab: {}: delivered {} of {}, lost {}, stuck {}",
                row.design.name, row.delivered, row.sent, row.lost, row.stuck
            ));
            rows.push(row);
        }
        if let Some(output) = raw {
            output.write(|file| write_raw(file, &scenario, &rows))?;
        }
        if let Some(output) = chart {
            output.write(|file| file.write_all(chart::sheet(&rows, &scenario).as_bytes()))?;
        }
        if let Some(output) = html {
            output.write(|file| file.write_all(page::page(&rows, &scenario).as_bytes()))?;
        }
        Ok(io::stdout().write_all(row::table(&rows).as_bytes())?)
    }
}

fn write_raw(file: &mut File, scenario: &Scenario, rows: &[Row]) -> io::Result<()> {
    let mut out = io::BufWriter::new(file);
    for (number, plan) in plan::plans(scenario).iter().enumerate() {
        let leave = plan
            .leave
            .map(|leave| json!({ "ms": leave.at.as_millis() as u64, "resets": leave.resets }));
        let connect = plan.connect_at.as_millis() as u64;
        let line = json!({
            "kind": "plan", "sender": number, "connect_ms": connect, "leave": leave,
            "trickles": plan.trickles, "most": plan.most(scenario),
        });
        writeln!(out, "{line}")?;
    }
    for line in rows.iter().flat_map(Row::raw) {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// A file that was asked for. What fails is told with its option and its name.
struct Output {
    file: File,
    name: String,
}

impl Output {
    fn create(option: &str, path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let name = format!("{option} {}", path.display());
        let file = File::create(path).with_context(|| name.clone())?;
        Ok(Some(Self { file, name }))
    }

    fn write(mut self, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        write(&mut self.file).context(self.name)
    }
}
