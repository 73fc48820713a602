//! Problems on their way between controller and `lap`: bytes become characters there, since JSON's readers count those.

use super::problem::{Lines, Place, Problem, Severity, Span};
use crate::view::Mistake;

/// Problems of a text as the HTTP interface says them.
pub fn mistakes(text: &[u8], problems: &[Problem]) -> Vec<Mistake> {
    let lines = Lines::of(text);
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mistake = |problem: &Problem| {
        let Place { line, column, span } = problem.at;
        let line_end = lines.start(line) + lines.line(line).len();
        let covered = text.get(span.start..span.end.min(line_end)).unwrap_or_default();
        Mistake {
            line: small(line),
            column: small(column),
            width: small(String::from_utf8_lossy(covered).chars().count().max(1)),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    };
    problems.iter().map(mistake).collect()
}

/// What the controller said about a text, as errors or as warnings, to be drawn. A mistake about the whole is placed at
/// its beginning.
pub fn problems(text: &[u8], mistakes: &[Mistake], severity: Severity) -> Vec<Problem> {
    let lines = Lines::of(text);
    let problem = |mistake: &Mistake| {
        let line = mistake.line as usize;
        let start = lines.start(line.max(1));
        let bytes_before = |characters: u32| {
            let shown = lines.line(line).utf8_chunks();
            let valid = shown.flat_map(|chunk| {
                let replaced = (!chunk.invalid().is_empty()).then_some(chunk.invalid().len());
                chunk.valid().chars().map(char::len_utf8).chain(replaced)
            });
            valid.take(characters as usize).sum::<usize>()
        };
        let before = mistake.column.saturating_sub(1);
        let span = Span {
            start: start + bytes_before(before),
            end: start + bytes_before(before.saturating_add(mistake.width)),
        };
        let at = lines.place(span);
        Problem { at, severity, message: mistake.message.clone(), hint: mistake.hint.clone() }
    };
    mistakes.iter().map(problem).collect()
}
