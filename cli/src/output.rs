//! Where output goes: data to stdout, words to stderr, each fitted to what it is written to.

use crate::client::Answer;
use crate::error::LapError;
use crate::show::table::Table;
use clap::ValueEnum;
use lapstrake_api::is_acting;
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use unicode_width::UnicodeWidthStr as _;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Tables and sentences, for people.
    #[default]
    Table,
    /// What the controller answered; one line each of what goes on.
    Json,
}

/// What one of the two streams is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surface {
    /// How many columns it has; none when it is not a terminal.
    pub width: Option<usize>,
    /// Whether colours are shown.
    pub colour: bool,
}

impl Surface {
    /// Neither a terminal nor coloured.
    #[cfg(test)]
    pub const PLAIN: Surface = Surface { width: None, colour: false };

    fn of(stream: impl std::os::fd::AsFd, is_terminal: bool) -> Surface {
        let variable = |name| std::env::var_os(name);
        let colour = wants_colour(is_terminal, variable("NO_COLOR"), variable("CLICOLOR_FORCE"), variable("TERM"));
        let width = is_terminal.then(|| {
            let size = rustix::termios::tcgetwinsize(stream);
            // A terminal that does not tell its size is taken for the smallest usual one.
            size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
        });
        Surface { width, colour }
    }
}

/// Columns and rows of the terminal that words go to, asked anew as it may have changed.
pub fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

/// <https://no-color.org>: set and not empty turns colours off, CLICOLOR_FORCE turns them on where no terminal is.
fn wants_colour(
    is_terminal: bool,
    no_color: Option<OsString>,
    force: Option<OsString>,
    terminal: Option<OsString>,
) -> bool {
    if no_color.is_some_and(|value| !value.is_empty()) {
        return false;
    }
    if force.is_some_and(|value| !value.is_empty() && value != "0") {
        return true;
    }
    is_terminal && terminal.is_none_or(|value| value != "dumb")
}

/// A meaning that is shown as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// As it comes.
    #[default]
    Plain,
    /// It is as it should be.
    Good,
    /// On its way, or impaired.
    Warn,
    /// It does not work.
    Bad,
    /// Beside the point.
    Faint,
    /// What the rest belongs to.
    Strong,
}

impl Style {
    /// The style of a state, a phase or a reading of health.
    pub fn of_word(word: &str) -> Style {
        match word {
            "healthy" | "ready" | "running" | "complete" | "done" | "succeeded" => Style::Good,
            "unhealthy" | "failed" | "lost" | "rejected" | "abandoned" | "switched back" => Style::Bad,
            "stopped" | "superseded" | "cancelled" | "waiting" | "paused" => Style::Faint,
            _ => Style::Warn,
        }
    }

    /// This style, or a warning where it would say that all is well.
    pub const fn or_warn(self) -> Style {
        match self {
            Style::Good | Style::Plain => Style::Warn,
            other => other,
        }
    }

    /// The code of a colour that a text begins with: one of those that `paint` writes.
    fn code_at(text: &str) -> Option<&'static str> {
        const CODES: [&str; 6] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"];
        CODES.into_iter().find(|code| text.starts_with(code))
    }

    /// The text in this style.
    pub fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
            Style::Faint => "2",
            Style::Strong => "1",
            Style::Plain => return text.to_owned(),
        };
        if colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Both streams of one command.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// How data is written.
    pub format: Format,
    /// Where data goes.
    pub stdout: Surface,
    /// Where words go.
    pub stderr: Surface,
}

impl Output {
    /// The process's own streams.
    pub fn new(format: Format) -> Output {
        Output {
            format,
            stdout: Surface::of(io::stdout(), io::stdout().is_terminal()),
            stderr: Surface::of(io::stderr(), io::stderr().is_terminal()),
        }
    }

    /// Whether programs read the data.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes text for people to stdout.
    pub fn text(&self, text: &str) -> Result<(), LapError> {
        write_out(&harmless(text))
    }

    /// Writes a line for people to stdout.
    pub fn line(&self, line: &str) -> Result<(), LapError> {
        self.text(&format!("{line}\n"))
    }

    /// Writes a table.
    pub fn table(&self, table: &Table) -> Result<(), LapError> {
        self.text(&table.draw(self.stdout))
    }

    /// Passes on what the controller answered, as one line.
    pub fn json(&self, answer: &Answer) -> Result<(), LapError> {
        if answer.body.is_empty() { Ok(()) } else { self.json_text(&String::from_utf8_lossy(&answer.body)) }
    }

    /// Writes JSON as one line.
    pub fn json_text(&self, text: &str) -> Result<(), LapError> {
        match self.stdout.width {
            Some(_) => self.line(&printable(text.trim_end())),
            // For a program, which gets exactly what was answered.
            None => write_out(&format!("{}\n", text.trim_end())),
        }
    }

    /// Says something to the person, on stderr.
    pub fn say(&self, words: &str) {
        say(&wrapped(words, self.stderr.width));
    }

    /// Says a line on stderr while the terminal is a command's: `line_end` is what takes it back to the first column.
    pub fn draw_line(&self, words: &str, line_end: &str) {
        let _ = writeln!(io::stderr().lock(), "{}{line_end}", harmless(words));
    }

    /// Shows the person a drawing, on stderr, as it is.
    pub fn draw(&self, drawing: &str) {
        say(drawing);
    }

    /// Writes a sentence to stdout.
    pub fn sentence(&self, sentence: &str) -> Result<(), LapError> {
        self.line(&wrapped(sentence, self.stdout.width))
    }
}

/// What was written is out when this returns.
fn write_out(text: &str) -> Result<(), LapError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(LapError::Output)
}

/// A line on stderr. That nobody hears it changes nothing.
fn say(words: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", harmless(words));
}

/// An error and its causes, as one sentence.
pub fn say_error(error: &anyhow::Error) {
    let Surface { width, colour } = Surface::of(io::stderr(), io::stderr().is_terminal());
    let mut chain: Vec<String> = Vec::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !chain.last().is_some_and(|last| last.contains(&cause)) {
            chain.push(cause);
        }
    }
    let sentence = wrapped(&format!("error: {}", printable(&chain.join(": "))), width);
    say(&sentence.replacen("error:", &Style::Bad.paint("error:", colour), 1));
}

/// Sentences are broken between words, and what follows stands under the first line's text. Longer words (paths, digests)
/// are left to the terminal.
fn wrapped(sentence: &str, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| sentence.width() > *width) else { return sentence.to_owned() };
    let words = sentence.trim_start_matches(' ');
    let mut text = " ".repeat(sentence.len() - words.len());
    let indent = " ".repeat(text.len() + 2);
    let mut column = text.len();
    for (index, word) in words.split(' ').enumerate() {
        if index > 0 && column + 1 + word.width() > width {
            text.push('\n');
            text.push_str(&indent);
            column = indent.len();
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.width();
    }
    text
}

/// Asks the person something on stderr; the answer is typed behind it.
pub fn ask(question: &str) {
    let _ = write!(io::stderr().lock(), "{}", harmless(question));
}

/// What comes from elsewhere must not act on the terminal: control characters and those that turn the reading direction
/// or hide are replaced, line ends become spaces.
pub fn printable(text: &str) -> String {
    let replace = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_acting(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(replace).collect()
}

/// The border of this program: everything that it writes for people passes here last. Line ends, tabs and the colours of
/// `Style` pass; whatever else acts on a terminal is replaced, so that a text which was not made printable before does no
/// more than look odd.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !is_acting(c) || matches!(c, '\n' | '\t');
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match Style::code_at(rest) {
            Some(code) => {
                shown.push_str(code);
                code.len()
            }
            None => {
                shown.push(if is_plain(c) { c } else { char::REPLACEMENT_CHARACTER });
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Cow::Owned(shown)
}

/// A sentence about a service without the service's name in front, for where that is said already.
pub fn without_subject(sentence: &str, path: &str) -> String {
    let Some(rest) = sentence.strip_prefix(path) else { return printable(sentence) };
    // `shop/production/web waits: …` and `shop/production/web: …`, but not `shop/production/web.1 waits: …`.
    let rest = rest.strip_prefix(" waits: ").or_else(|| rest.strip_prefix(": "));
    printable(rest.unwrap_or(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_server_acts_on_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\u{9b}b\nc\u{202e}"), "a\u{fffd}[2J\u{fffd}b c\u{fffd}");
    }

    #[test]
    fn whatever_is_written_only_colours_and_line_ends_act() {
        let painted = format!("{}\t{}\n", Style::Bad.paint("no", true), Style::Faint.paint("yes", true));
        assert_eq!(harmless(&painted), painted);
        for (text, shown) in [
            ("a\u{1b}[2Jb\r\n", "a\u{fffd}[2Jb\u{fffd}\n"),
            ("\u{1b}]0;title\u{7}", "\u{fffd}]0;title\u{fffd}"),
            ("\u{1b}[8mhidden", "\u{fffd}[8mhidden"),
            ("\u{202e}txt.exe\0\u{200b}", "\u{fffd}txt.exe\u{fffd}\u{fffd}"),
            ("\u{9b}2J\u{7f}", "\u{fffd}2J\u{fffd}"),
        ] {
            assert_eq!(harmless(text), shown);
        }
    }

    #[test]
    fn a_sentence_under_its_services_name_does_not_repeat_it() {
        assert_eq!(without_subject("a/b/c waits: no node", "a/b/c"), "no node");
        assert_eq!(without_subject("a/b/c: c.1 waits: no node", "a/b/c"), "c.1 waits: no node");
        assert_eq!(without_subject("a/b/c.1 waits: no node", "a/b/c"), "a/b/c.1 waits: no node");
        assert_eq!(without_subject("1 of 2 jobs healthy", "a/b/c"), "1 of 2 jobs healthy");
    }

    #[test]
    fn sentences_are_broken_between_words() {
        assert_eq!(wrapped("the process exited with code 7", Some(20)), "the process exited\n  with code 7");
        assert_eq!(wrapped("the process exited with code 7", None), "the process exited with code 7");
        for width in 4..40 {
            let text = wrapped("one two three four five six seven", Some(width));
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(words.join(" "), "one two three four five six seven");
            assert!(width < 9 || text.lines().all(|line| line.width() <= width), "{width}: {text}");
        }
    }

    #[test]
    fn colours_are_for_terminals_and_for_those_who_force_them() {
        let set = |value: &str| Some(OsString::from(value));
        assert!(wants_colour(true, None, None, set("xterm")));
        assert!(!wants_colour(true, set("1"), set("1"), None));
        assert!(!wants_colour(true, None, None, set("dumb")));
        assert!(!wants_colour(false, None, None, None));
        assert!(wants_colour(false, None, set("1"), None));
        assert!(wants_colour(true, set(""), None, None), "an empty NO_COLOR says nothing");
    }
}
