//! Draws problems for people: file, line and column, the line itself, carets, and what to write instead.

use super::problem::{Lines, Place, Problem, Severity, is_unprintable};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar as _;

/// A tab in a quoted line reaches to the next multiple of this.
const TAB_STOP: usize = 4;
/// A quoted line is cut to so many columns around the problem, so that one long line does not fill the screen.
const MAX_LINE_COLUMNS: usize = 120;
/// Columns kept before the problem when a line is cut.
const COLUMNS_BEFORE: usize = 40;

/// Whether to draw with ANSI colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Plain text, for files and tests.
    Off,
    /// For a terminal.
    On,
}

struct Palette {
    error: &'static str,
    warning: &'static str,
    strong: &'static str,
    faint: &'static str,
    reset: &'static str,
}

const PLAIN: Palette = Palette { error: "", warning: "", strong: "", faint: "", reset: "" };
const ANSI: Palette =
    Palette { error: "\x1b[1;31m", warning: "\x1b[1;33m", strong: "\x1b[1m", faint: "\x1b[2m", reset: "\x1b[0m" };

/// Draws problems in their order, an empty line between two of them. Nothing of the file or of its name reaches the
/// terminal as a control character.
pub fn render(text: &[u8], file_name: &str, problems: &[Problem], colour: Colour) -> String {
    let lines = Lines::of(text);
    let palette = match colour {
        Colour::Off => PLAIN,
        Colour::On => ANSI,
    };
    let mut drawn = String::new();
    for (index, problem) in problems.iter().enumerate() {
        if index > 0 {
            drawn.push('\n');
        }
        draw(&mut drawn, &lines, file_name, problem, &palette);
    }
    drawn
}

fn draw(drawn: &mut String, lines: &Lines<'_>, file_name: &str, problem: &Problem, palette: &Palette) {
    let Palette { strong, faint, reset, .. } = palette;
    let severity = match problem.severity {
        Severity::Error => palette.error,
        Severity::Warning => palette.warning,
    };
    let Place { line, column, .. } = problem.at;
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let quoted = QuotedLine::of(lines, problem.at);
    // Writing to a String cannot fail.
    let _ = writeln!(
        drawn,
        "{strong}{}:{line}:{column}:{reset} {severity}{}:{reset} {strong}{}{reset}",
        printable(file_name),
        problem.severity.word(),
        printable(&problem.message),
    );
    let _ = writeln!(drawn, " {faint}{margin} |{reset}");
    let _ = writeln!(drawn, " {faint}{number} |{reset} {}", quoted.shown);
    let carets = "^".repeat(quoted.carets);
    let _ = writeln!(drawn, " {faint}{margin} |{reset} {}{severity}{carets}{reset}", " ".repeat(quoted.before));
    if let Some(hint) = &problem.hint {
        let _ = writeln!(drawn, " {faint}{margin} ={reset} {}", printable(hint));
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A line of the file as a terminal shows it, with the columns before the carets and the number of carets.
struct QuotedLine {
    shown: String,
    before: usize,
    carets: usize,
}

/// One character of the line as it is shown, and whether the problem covers it.
struct Cell {
    shown: String,
    columns: usize,
    starts_at: usize,
}

impl QuotedLine {
    fn of(lines: &Lines<'_>, place: Place) -> QuotedLine {
        let (line, line_start) = near(lines.line(place.line), place.span.start.saturating_sub(lines.start(place.line)));
        let line_start = lines.start(place.line) + line_start;
        let cells = cells(line, line_start);
        let first = cells.iter().position(|cell| cell.starts_at >= place.span.start).unwrap_or(cells.len());
        let after = cells.iter().position(|cell| cell.starts_at >= place.span.end).unwrap_or(cells.len());

        let columns = |part: &[Cell]| part.iter().map(|cell| cell.columns).sum::<usize>();
        let mut from = 0;
        let cut_before = line_start > lines.start(place.line);
        if columns(&cells) > MAX_LINE_COLUMNS {
            from = first;
            while from > 0 && columns(&cells[from - 1..first]) <= COLUMNS_BEFORE {
                from -= 1;
            }
        }
        let mut to = from;
        let mut width = 0;
        while to < cells.len() && width + cells[to].columns <= MAX_LINE_COLUMNS {
            width += cells[to].columns;
            to += 1;
        }

        let mut shown: String = cells[from..to].iter().map(|cell| cell.shown.as_str()).collect();
        let mut before = columns(&cells[from..first]);
        if from > 0 || cut_before {
            shown.insert(0, '…');
            before += 1;
        }
        if to < cells.len() {
            shown.push('…');
        }
        let covered = columns(&cells[first..after.clamp(first, to.max(first))]);
        QuotedLine { shown: shown.trim_end().to_owned(), before, carets: covered.max(1) }
    }
}

/// The part of a line that can be shown around an offset, and where it begins: a long line is not drawn as a whole.
fn near(line: &[u8], offset: usize) -> (&[u8], usize) {
    // Enough for the columns that are shown, whatever their characters are.
    const BYTES_AROUND: usize = 8 * MAX_LINE_COLUMNS;
    let is_inside_character = |at: &usize| line.get(*at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    let start = offset.min(line.len()).saturating_sub(BYTES_AROUND);
    let start = (start..line.len()).find(|at| !is_inside_character(at)).unwrap_or(line.len());
    let end = offset.saturating_add(BYTES_AROUND).min(line.len());
    let end = (end..line.len()).find(|at| !is_inside_character(at)).unwrap_or(line.len());
    (&line[start..end.max(start)], start)
}

fn cells(line: &[u8], line_start: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut starts_at = line_start;
    let mut column = 0;
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            let (shown, columns) = match c {
                '\t' => {
                    let columns = TAB_STOP - column % TAB_STOP;
                    (" ".repeat(columns), columns)
                }
                // The Unicode block of control pictures has them in the same order.
                '\0'..='\x1f' => (char::from_u32(0x2400 + c as u32).unwrap_or(' ').to_string(), 1),
                _ if is_unprintable(c) => (char::REPLACEMENT_CHARACTER.to_string(), 1),
                _ => (c.to_string(), c.width().unwrap_or(0)),
            };
            cells.push(Cell { shown, columns, starts_at });
            column += columns;
            starts_at += c.len_utf8();
        }
        if !chunk.invalid().is_empty() {
            cells.push(Cell { shown: char::REPLACEMENT_CHARACTER.to_string(), columns: 1, starts_at });
            column += 1;
            starts_at += chunk.invalid().len();
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::super::problem::Span;
    use super::*;

    fn drawn(text: &[u8], start: usize, end: usize) -> String {
        let at = Lines::of(text).place(Span { start, end });
        let problem = Problem { at, severity: Severity::Error, message: "wrong".to_owned(), hint: None };
        render(text, "f.yaml", &[problem], Colour::Off)
    }

    #[test]
    fn carets_stand_under_their_text_after_tabs_and_wide_characters() {
        assert_eq!(drawn(b"a\tbc", 2, 4), "f.yaml:1:3: error: wrong\n   |\n 1 | a   bc\n   |     ^^\n");
        let wide = "名: x";
        assert_eq!(drawn(wide.as_bytes(), 5, 6), "f.yaml:1:4: error: wrong\n   |\n 1 | 名: x\n   |     ^\n");
        assert_eq!(drawn(wide.as_bytes(), 0, 3), "f.yaml:1:1: error: wrong\n   |\n 1 | 名: x\n   | ^^\n");
    }

    #[test]
    fn control_characters_of_the_file_never_reach_the_terminal() {
        let text = "a: \u{1b}[2J\u{9b}\u{202e}\0x".as_bytes();
        let shown = drawn(text, 3, 4);
        assert!(shown.chars().all(|c| c == '\n' || !is_unprintable(c)), "{shown:?}");
        assert!(shown.contains("a: ␛[2J��␀x"), "{shown}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_problem() {
        let text = format!("{}HERE{}", "x".repeat(5000), "y".repeat(5000));
        let shown = drawn(text.as_bytes(), 5000, 5004);
        assert!(shown.len() < 400, "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[3].chars().position(|c| c == '^').expect("a caret is drawn");
        assert_eq!(lines[2].chars().skip(caret).take(4).collect::<String>(), "HERE");
    }

    #[test]
    fn a_problem_at_the_end_of_an_unfinished_file_has_a_caret() {
        assert_eq!(drawn(b"a:", 2, 2), "f.yaml:1:3: error: wrong\n   |\n 1 | a:\n   |   ^\n");
        assert_eq!(drawn(b"", 0, 0), "f.yaml:1:1: error: wrong\n   |\n 1 | \n   | ^\n");
    }
}
