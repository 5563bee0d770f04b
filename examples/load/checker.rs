//! Compares what came out with what must have been sent.
//!
//! In: the output of `--output line`, piece by piece. Out: a [`Verdict`].
//! Never here: tolerance.

use std::collections::HashSet;
use std::fmt;

use crate::message::Plan;

/// A mistake made on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Corrupt {
    /// Leave a line out.
    Loss,
    /// Repeat a line.
    Duplicate,
    /// Hand a connection's line over after its next one.
    Reorder,
    /// Flip a bit of a line.
    Change,
}

impl Corrupt {
    pub(crate) const ALL: [Self; 4] = [Self::Loss, Self::Duplicate, Self::Reorder, Self::Change];
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) lines: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) changed: u64,
    /// The first few, in words.
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.reordered + self.changed == 0
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < 5 {
            self.examples.push(text());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lines, {} lost, {} doubled, {} reordered, {} changed",
            self.lines, self.lost, self.doubled, self.reordered, self.changed
        )?;
        self.examples.iter().try_for_each(|e| write!(f, "\n  {e}"))
    }
}

/// Keeps for each connection the next sequence number that is due.
pub(crate) struct Checker {
    plan: Plan,
    due: Vec<u64>,
    missing: HashSet<(u64, u64)>,
    /// The mistake to make, and the line to make it on or after.
    corrupt: Option<(Corrupt, u64)>,
    /// `Reorder` holds a line back until one of the same connection has passed.
    held: Option<(u64, Vec<u8>)>,
    verdict: Verdict,
    text: Vec<u8>,
    expected: Vec<u8>,
}

impl Checker {
    pub(crate) fn new(plan: Plan, corrupt: Option<Corrupt>) -> Self {
        Self {
            plan,
            due: vec![0; plan.connections as usize],
            missing: HashSet::new(),
            corrupt: corrupt.map(|kind| (kind, plan.connections * plan.messages / 2)),
            held: None,
            verdict: Verdict::default(),
            text: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// One line, without its LF.
    pub(crate) fn line(&mut self, line: &[u8]) {
        match self.corrupt {
            Some((kind, at)) if self.verdict.lines >= at => {
                self.corrupt = None;
                match kind {
                    Corrupt::Loss => {}
                    Corrupt::Duplicate => {
                        self.judge(line);
                        self.judge(line);
                    }
                    Corrupt::Reorder => {
                        let conn = self.plan.named(line).map_or(0, |(conn, _)| conn);
                        self.held = Some((conn, line.to_vec()));
                    }
                    Corrupt::Change => {
                        let mut line = line.to_vec();
                        let last = line.len() - 1;
                        line[last] ^= 1;
                        self.judge(&line);
                    }
                }
            }
            _ => self.judge(line),
        }
        if let Some((conn, held)) = self.held.take() {
            let same = self.plan.named(line).is_some_and(|(c, _)| c == conn);
            if same && line != held {
                self.judge(&held);
            } else {
                self.held = Some((conn, held));
            }
        }
    }

    fn judge(&mut self, line: &[u8]) {
        self.verdict.lines += 1;
        let mut text = std::mem::take(&mut self.text);
        match self.plan.unline(line, &mut text) {
            Some(()) => self.judge_text(&text),
            None => self.changed(line),
        }
        self.text = text;
    }

    fn judge_text(&mut self, text: &[u8]) {
        let Some((conn, seq)) = self.plan.named(text) else {
            return self.changed(text);
        };
        let due = self.due[conn as usize];
        if due < self.plan.messages {
            self.plan.text(conn, due, &mut self.expected);
            if text == self.expected {
                self.due[conn as usize] += 1;
                return;
            }
        }
        // A short message has no sequence number: a wrong one can only be called changed or too many.
        let Some(seq) = seq else {
            if due >= self.plan.messages {
                self.verdict.doubled += 1;
                return self
                    .verdict
                    .example(|| format!("connection {conn}: one too many"));
            }
            return self.changed(text);
        };
        self.plan.text(conn, seq, &mut self.expected);
        if text != self.expected {
            self.changed(text);
        } else if seq > due {
            self.missing.extend((due..seq).map(|seq| (conn, seq)));
            self.due[conn as usize] = seq + 1;
        } else if self.missing.remove(&(conn, seq)) {
            self.verdict.reordered += 1;
            self.verdict
                .example(|| format!("connection {conn}: {seq} came late"));
        } else {
            self.verdict.doubled += 1;
            self.verdict
                .example(|| format!("connection {conn}: {seq} came twice"));
        }
    }

    fn changed(&mut self, text: &[u8]) {
        self.verdict.changed += 1;
        self.verdict.example(|| {
            let head = &text[..text.len().min(60)];
            format!("changed ({} B): {}", text.len(), head.escape_ascii())
        });
    }

    /// The end of an output; `rest` is what came after its last LF. A line without one is not whole,
    /// whatever it says.
    pub(crate) fn torn(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.changed(rest);
        }
    }

    /// The end of all outputs.
    pub(crate) fn finish(mut self) -> Verdict {
        if let Some((_, held)) = self.held.take() {
            self.judge(&held);
        }
        let mut missing: Vec<_> = self.missing.iter().copied().collect();
        missing.sort_unstable();
        for (conn, &due) in self.due.iter().enumerate() {
            if due < self.plan.messages {
                missing.push((conn as u64, due));
                self.verdict.lost += self.plan.messages - due - 1;
            }
        }
        self.verdict.lost += missing.len() as u64;
        for (conn, seq) in missing {
            self.verdict
                .example(|| format!("connection {conn}: {seq} is lost"));
        }
        self.verdict
    }
}

/// Cuts a stream of bytes into lines for a checker.
#[derive(Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(lf) = memchr::memchr(b'\n', bytes) {
            if self.rest.is_empty() {
                each(&bytes[..lf]);
            } else {
                self.rest.extend_from_slice(&bytes[..lf]);
                each(&self.rest);
                self.rest.clear();
            }
            bytes = &bytes[lf + 1..];
        }
        self.rest.extend_from_slice(bytes);
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }
}
