//! What is wrong with a spec file, and where.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// After so many problems the rest is left out: nobody reads on, and a hostile file must not fill a terminal.
pub(super) const MAX_PROBLEMS: usize = 200;
/// As much of a person's own text as a message repeats.
const MAX_QUOTED_CHARS: usize = 60;

/// A range of bytes of a file; `end` is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// From 1. Only a line feed ends a line.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In bytes. Never reaches past the end of the file.
    pub span: Span,
}

/// Whether a problem stops the file from being applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot be applied.
    Error,
    /// The file can be applied; the author may want to look.
    Warning,
}

impl Severity {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is wrong with a spec file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// Where. Of something missing, the key that should hold it.
    #[serde(flatten)]
    pub at: Place,
    /// Whether it stops the file.
    pub severity: Severity,
    /// What is wrong, in one sentence. Has no control characters.
    pub message: String,
    /// What to write instead, where that is known.
    pub hint: Option<String>,
}

/// A problem before its line and column are looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub span: Span,
    pub severity: Severity,
    pub message: String,
    pub hint: Option<String>,
}

/// Collects findings while a file is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// Notes a mistake.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.push(span, Severity::Error, message.into(), None);
    }

    /// Notes a mistake and what to write instead.
    pub fn error_with_hint(&mut self, span: Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.push(span, Severity::Error, message.into(), hint.into());
    }

    /// Notes something that is allowed and perhaps not meant.
    pub fn warning(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.push(span, Severity::Warning, message.into(), Some(hint.into()));
    }

    fn push(&mut self, span: Span, severity: Severity, message: String, hint: Option<String>) {
        self.list.push(Finding { span, severity, message, hint });
    }

    /// Takes over what another reader found.
    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.list.extend(findings);
    }

    /// The findings in the order in which they were made.
    pub fn into_list(self) -> Vec<Finding> {
        self.list
    }

    /// The errors, or when there are none the warnings; each once, by position.
    pub fn into_problems(self, text: &[u8]) -> Result<Vec<Problem>, Vec<Problem>> {
        let lines = Lines::of(text);
        let found: BTreeSet<Finding> = self.list.into_iter().collect();
        let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(|f| f.severity == Severity::Error);
        if errors.is_empty() { Ok(lines.problems(warnings)) } else { Err(lines.problems(errors)) }
    }
}

/// Where the lines of a text begin.
pub(super) struct Lines<'t> {
    text: &'t [u8],
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// Finds the lines of a text, which need not be UTF-8.
    pub fn of(text: &'t [u8]) -> Self {
        let after_feeds = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        Lines { text, starts: std::iter::once(0).chain(after_feeds).collect() }
    }

    /// The line and column of a span, which is clamped to the text.
    pub fn place(&self, span: Span) -> Place {
        let start = span.start.min(self.text.len());
        let end = span.end.clamp(start, self.text.len());
        let line = self.starts.partition_point(|begin| *begin <= start);
        let before = &self.text[self.starts[line - 1]..start];
        Place { line, column: String::from_utf8_lossy(before).chars().count() + 1, span: Span { start, end } }
    }

    /// The bytes of a line, counted from 1, without what ends it; empty past the end.
    pub fn line(&self, number: usize) -> &'t [u8] {
        let Some(start) = number.checked_sub(1).and_then(|at| self.starts.get(at)) else {
            return &[];
        };
        let end = self.starts.get(number).map_or(self.text.len(), |next| next - 1);
        let line = &self.text[*start..end];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// Where a line begins, counted from 1.
    pub fn start(&self, number: usize) -> usize {
        number.checked_sub(1).and_then(|at| self.starts.get(at)).copied().unwrap_or(self.text.len())
    }

    fn problems(&self, found: Vec<Finding>) -> Vec<Problem> {
        let left_out = found.len().saturating_sub(MAX_PROBLEMS);
        let mut problems: Vec<Problem> = found
            .into_iter()
            .take(MAX_PROBLEMS)
            .map(|f| Problem { at: self.place(f.span), severity: f.severity, message: f.message, hint: f.hint })
            .collect();
        if let (1.., Some(last)) = (left_out, problems.last().cloned()) {
            let message = format!("{left_out} more problems after this one are left out");
            problems.push(Problem { message, hint: None, ..last });
        }
        problems
    }
}

/// A person's own text as a message repeats it: in back-ticks, shortened, with control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == MAX_QUOTED_CHARS {
            shown.push('…');
            break;
        }
        if is_unprintable(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.push('`');
    shown
}

pub(super) use lapstrake_core::quote::is_acting as is_unprintable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let lines = Lines::of("a: 1\r\nbé: 2\n".as_bytes());
        let at = |start, end| {
            let place = lines.place(Span { start, end });
            (place.line, place.column)
        };
        assert_eq!(at(0, 1), (1, 1));
        assert_eq!(at(6, 7), (2, 1));
        assert_eq!(at(11, 12), (2, 5));
        assert_eq!(at(99, 200), (3, 1));
        assert_eq!(lines.line(1), b"a: 1");
        assert_eq!(lines.line(3), b"");
        assert_eq!(lines.line(4), b"");
    }

    #[test]
    fn what_a_message_repeats_cannot_act_on_a_terminal() {
        assert_eq!(quoted("a\u{1b}[2J\u{202e}b"), "`a\\u{1b}[2J\\u{202e}b`");
        assert_eq!(quoted(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
    }
}
