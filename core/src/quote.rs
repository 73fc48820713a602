//! A stranger's text within a sentence of ours: the one place that decides how it is shown.
//!
//! Sentences go to answers, events, logs and terminals. What somebody else wrote (a name that is refused, what an engine
//! said) stands in them so that it cannot end the line, turn the reading direction, clear a screen or fill a page. Whoever
//! shows a sentence guards its own border again; this keeps what is stored and logged plain.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// So many characters of a text are shown in a refusal: enough to know it again.
const SHOWN: usize = 80;

/// Whether a character acts on who shows it, rather than being shown: controls, line ends of every kind, marks that turn
/// the reading direction, marks without width that hide in names, and language tags.
pub fn is_acting(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text between quotes, its acting characters escaped, cut where it is long: `"a\u{1b}[2J"`.
pub fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN {
            shown.push('…');
            break;
        }
        match c {
            '"' | '\\' => shown.extend(['\\', c]),
            c if is_acting(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

/// The text with its acting characters escaped, for a line of a log: `a\u{1b}[2J`. What is plain stays as it is.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_acting(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A text of somebody else as part of one line, at most so many characters of it: what acts is replaced by spaces and
/// question marks.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == most {
            line.push('…');
            break;
        }
        line.push(match c {
            '\n' | '\r' | '\t' => ' ',
            c if is_acting(c) => '\u{fffd}',
            c => c,
        });
    }
    line
}

/// The words of a command as one line; those that are not plain stand in quotes, with what acts on a terminal escaped.
pub fn words(command: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    let word = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("\"{}\"", escaped(&word.replace('\\', "\\\\").replace('"', "\\\""))),
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_acts_is_escaped_and_what_is_long_is_cut() {
        assert_eq!(quoted("shop"), "\"shop\"");
        assert_eq!(quoted("a\u{1b}[2J\r\n\u{202e}\0\"\\"), r#""a\u{1b}[2J\u{d}\u{a}\u{202e}\u{0}\"\\""#);
        assert_eq!(quoted(&"x".repeat(10_000)).chars().count(), SHOWN + 3);
        assert_eq!(escaped("a\u{1b}[2J\r\nb"), "a\\u{1b}[2J\\r\\nb");
        assert_eq!(one_line(" a\nb\u{9b}c ", 80), "a b\u{fffd}c");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in "\\PC*|(.|\\n|\\r|\\x00|\\x1b|\u{202e}|\u{2028}|\u{9b}){0,100}") {
            prop_assert!(!quoted(&text).contains(is_acting) && !escaped(&text).contains(is_acting));
            prop_assert!(!one_line(&text, 50).contains(is_acting));
        }
    }
}
