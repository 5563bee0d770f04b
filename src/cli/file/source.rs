//! A file's text, and faults in it that can be found again.
//!
//! In: a path, and spans of bytes. Out: text, and messages with the file, the line and the column, that
//! show the line with a caret. Never here: what the text means.

use std::fs::{FileType, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// More than a configuration ever has: whoever names a log file by mistake is told at once.
const LARGEST: u64 = 1 << 20;
/// Characters of a long line that are shown on each side of its caret.
const AROUND: usize = 60;
/// Characters of a message at most: it may repeat a value, which may be long.
const LONGEST: usize = 300;

#[derive(Clone, Debug)]
pub(crate) struct Source {
    name: String,
    text: String,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        // Some editors begin a file with a mark, which is in no column.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            name: plain(name),
            text: text.to_owned(),
        }
    }

    /// Opens nothing but a regular file: a pipe may never end, and a device may do something.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let name = plain(&path.display().to_string());
        let bytes = bytes(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("{name}: there is no such file; `fanin config > {name}` writes one")
            }
            _ => format!("{name}: {error}"),
        })?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(&name, &text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let source = Self { name, text };
                Err(source.fault(valid..valid + 1, "is not UTF-8, as TOML must be"))
            }
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its line and column, both from 1 on, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let mut on_line = &before[self.line_of(offset)..];
        // A CR that ends a line is in no column.
        if self.text[before.len()..].starts_with('\n') {
            on_line = on_line.strip_suffix('\r').unwrap_or(on_line);
        }
        (line, on_line.chars().count() + 1)
    }

    /// Where its line begins.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        before.rfind('\n').map_or(0, |end| end + 1)
    }

    /// `FILE:LINE:COLUMN`.
    pub(crate) fn place(&self, offset: usize) -> String {
        let (line, column) = self.position(offset);
        format!("{}:{line}:{column}", self.name)
    }

    /// What is wrong with a part of it, and its line with a caret below.
    pub(crate) fn fault(&self, span: Range<usize>, what: &str) -> String {
        let (line, column) = self.position(span.start);
        let text = self.text.split('\n').nth(line - 1).unwrap_or_default();
        let text = text.strip_suffix('\r').unwrap_or(text);
        let wide = self.text.get(span).unwrap_or_default();
        let wide = wide.lines().next().unwrap_or_default().chars().count();
        let from = column.saturating_sub(AROUND);
        let is_cut = text.chars().count() > from + 2 * AROUND;
        let shown: String = text.chars().skip(from).take(2 * AROUND).collect();
        let before = if from > 0 { "…" } else { "" };
        let after = if is_cut { "…" } else { "" };
        let left = column - 1 - from;
        // With the tabs of the line above, the caret stands where its text does.
        let pad: String = text.chars().skip(from).take(left).map(blank).collect();
        let carets = "^".repeat(wide.clamp(1, 2 * AROUND - left));
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let lead = " ".repeat(before.chars().count());
        format!(
            "{}:{line}:{column}: {}\n {number} | {before}{}{after}\n {margin} | {lead}{pad}{carets}",
            self.name,
            brief(what),
            plain(&shown),
        )
    }
}

/// Nothing in a file may do something to the terminal on which it is shown.
pub(crate) fn plain(text: &str) -> String {
    let plain = |c: char| match c {
        '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(plain).collect()
}

/// A message in one line that can be read.
fn brief(what: &str) -> String {
    let kept: String = what.chars().take(LONGEST).collect();
    let dots = if kept.len() < what.len() { "…" } else { "" };
    format!("{}{dots}", plain(&kept))
}

fn blank(c: char) -> char {
    if c == '\t' { c } else { ' ' }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let refuse = |what: &str| Err(io::Error::other(what.to_owned()));
    // By its path first: to open a device is to use it.
    is_regular(std::fs::metadata(path)?.file_type())?;
    // And whoever opens a pipe without a writer would wait for one.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(path)?;
    is_regular(file.metadata()?.file_type())?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return refuse("is larger than 1 MiB, and so no configuration");
    }
    Ok(bytes)
}

fn is_regular(kind: FileType) -> io::Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "is a directory, and no regular file"
    } else if kind.is_fifo() {
        "is a pipe, and no regular file"
    } else {
        "is no regular file"
    };
    Err(io::Error::other(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("f", text)
    }

    #[test]
    fn a_fault_shows_its_line_with_a_caret() {
        let text = "one = 1\r\n\ttwö = 22\r\n";
        let at = text.find("22").unwrap();
        assert_eq!(
            source(text).fault(at..at + 2, "no"),
            "f:2:8: no\n 2 | \ttwö = 22\n   | \t      ^^"
        );
    }

    #[test]
    fn a_mark_at_the_beginning_is_in_no_column() {
        let source = source("\u{feff}one = 1");
        assert_eq!(source.text(), "one = 1");
        assert!(source.fault(0..3, "no").starts_with("f:1:1: no"));
    }

    #[test]
    fn the_end_of_a_file_can_be_shown() {
        assert_eq!(source("").fault(0..0, "no"), "f:1:1: no\n 1 | \n   | ^");
        assert_eq!(source("a\n").fault(2..2, "no"), "f:2:1: no\n 2 | \n   | ^");
        assert_eq!(
            source("a\r\n").fault(2..2, "no"),
            "f:1:2: no\n 1 | a\n   |  ^"
        );
        assert!(source("a\n").fault(9..12, "no").starts_with("f:2:1: no"));
    }

    #[test]
    fn a_long_line_is_cut_and_a_terminal_is_left_alone() {
        let text = format!("{}HERE{}", "x".repeat(500), "y".repeat(500));
        let fault = source(&text).fault(500..504, &"no".repeat(500));
        let lines: Vec<_> = fault.lines().collect();
        assert!(fault.chars().count() < 700, "{fault}");
        let column = |line: &str, what: &str| {
            let at = line.find(what).unwrap();
            line[..at].chars().count()
        };
        assert_eq!(
            column(lines[1], "HERE"),
            column(lines[2], "^^^^"),
            "{fault}"
        );
        let fault = source("\u{1b}[31m = 1").fault(0..1, "\u{1b}[2J");
        assert!(!fault.contains('\u{1b}'), "{fault:?}");
        assert!(
            !Source::new("\u{1b}\n", "")
                .place(0)
                .contains(['\u{1b}', '\n'])
        );
    }

    #[test]
    fn a_value_of_several_lines_is_shown_by_its_first() {
        let text = "a = \"\"\"one\ntwo\"\"\"";
        let fault = source(text).fault(4..text.len(), "no");
        assert_eq!(fault, "f:1:5: no\n 1 | a = \"\"\"one\n   |     ^^^^^^");
    }
}
