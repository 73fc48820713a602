//! Checks of single fields, and the refusal that they give.

use crate::limits;
use lapstrake_core::quote::is_acting;
use lapstrake_core::root::RootId;
use std::fmt;

/// Why a message is refused: which field breaks which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The field from the outside in, as `report.jobs[3].slot.target`.
    pub field: String,
    /// The rule that it breaks.
    pub why: Why,
}

/// The rule that a field breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has to be there.
    Missing,
    /// It must not be empty.
    Empty,
    /// An id is 16 bytes.
    NotAnId {
        /// The bytes that came.
        bytes: usize,
    },
    /// A secret is 32 bytes.
    NotASecret {
        /// The bytes that came.
        bytes: usize,
    },
    /// A fingerprint of a root is 32 bytes.
    NotARoot {
        /// The bytes that came.
        bytes: usize,
    },
    /// An address is 4 or 16 bytes.
    NotAnAddress {
        /// The bytes that came.
        bytes: usize,
    },
    /// This version has no such value in the enum.
    UnknownValue(i32),
    /// More bytes or items than the limit.
    TooLong {
        /// What came.
        is: usize,
        /// The limit.
        most: usize,
    },
    /// A number outside its bounds.
    OutOfBounds {
        /// What came.
        is: u64,
        /// The smallest that is allowed.
        least: u64,
        /// The largest that is allowed.
        most: u64,
    },
    /// A character that no name has.
    Character(char),
    /// A path of a file is absolute and has no empty, `.` or `..` part.
    Wanders,
    /// A list is not sorted, or has something twice.
    OutOfOrder,
    /// Two lists belong together and differ in length.
    Unequal {
        /// The length that came.
        is: usize,
        /// The length of the other list.
        other: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the field {} ", self.field)?;
        match self.why {
            Why::Missing => f.write_str("is missing"),
            Why::Empty => f.write_str("is empty"),
            Why::NotAnId { bytes } => write!(f, "has {bytes} bytes, an id has 16"),
            Why::NotASecret { bytes } => write!(f, "has {bytes} bytes, a secret has 32"),
            Why::NotARoot { bytes } => write!(f, "has {bytes} bytes, the fingerprint of a root has 32"),
            Why::NotAnAddress { bytes } => {
                write!(f, "has {bytes} bytes, an IP address has 4 or 16")
            }
            Why::UnknownValue(value) => {
                write!(f, "has the value {value}, which this version does not know")
            }
            Why::TooLong { is, most } => write!(f, "has the length {is}, the limit is {most}"),
            Why::OutOfBounds { is, least, most } => {
                write!(f, "is {is}, it must be between {least} and {most}")
            }
            Why::Character(c) => write!(f, "has the character {c:?}, which is not allowed there"),
            Why::Wanders => f.write_str("is not an absolute path without empty parts, `.` and `..`"),
            Why::OutOfOrder => f.write_str("is out of order or there twice"),
            Why::Unequal { is, other } => {
                write!(f, "has {is} items, the list that it belongs to has {other}")
            }
        }
    }
}

impl std::error::Error for Malformed {}

impl Malformed {
    pub(super) fn new(field: &str, why: Why) -> Self {
        Malformed { field: field.to_owned(), why }
    }

    /// Whether the message says something that only a newer version knows. Skip it and go on.
    pub fn is_unknown_word(&self) -> bool {
        self.field == "word" && self.why == Why::Missing
    }
}

/// Puts the field that a refusal is about into the field around it.
pub(super) trait Inside<T> {
    fn inside(self, outer: &str) -> Result<T, Malformed>;
}

impl<T> Inside<T> for Result<T, Malformed> {
    fn inside(self, outer: &str) -> Result<T, Malformed> {
        self.map_err(|refusal| Malformed { field: format!("{outer}.{}", refusal.field), why: refusal.why })
    }
}

/// A message that has to be there, converted.
pub(super) fn required<W, C: TryFrom<W, Error = Malformed>>(field: &str, wire: Option<W>) -> Result<C, Malformed> {
    optional(field, wire)?.ok_or_else(|| Malformed::new(field, Why::Missing))
}

/// A message that may be there, converted.
pub(super) fn optional<W, C: TryFrom<W, Error = Malformed>>(
    field: &str,
    wire: Option<W>,
) -> Result<Option<C>, Malformed> {
    wire.map(C::try_from).transpose().inside(field)
}

/// A list of messages, converted; a refusal names the item by its number from 0.
pub(super) fn list<W, C: TryFrom<W, Error = Malformed>>(
    field: &str,
    wire: Vec<W>,
    most: usize,
) -> Result<Vec<C>, Malformed> {
    length(field, wire.len(), most)?;
    let items = wire.into_iter().enumerate();
    items.map(|(i, item)| C::try_from(item).map_err(|refusal| within_item(field, i, refusal))).collect()
}

fn within_item(field: &str, i: usize, refusal: Malformed) -> Malformed {
    Malformed { field: format!("{field}[{i}].{}", refusal.field), why: refusal.why }
}

/// A list of texts, each checked by `check` under the name of its item.
pub(super) fn texts(
    field: &str,
    wire: Vec<String>,
    most: usize,
    check: impl Fn(&str, String) -> Result<String, Malformed>,
) -> Result<Vec<String>, Malformed> {
    length(field, wire.len(), most)?;
    wire.into_iter().enumerate().map(|(i, text)| check(&format!("{field}[{i}]"), text)).collect()
}

/// Refuses a list whose keys do not rise from item to item.
pub(super) fn rising<T, K: Ord>(field: &str, items: &[T], key: impl Fn(&T) -> K) -> Result<(), Malformed> {
    match items.windows(2).position(|pair| key(&pair[0]) >= key(&pair[1])) {
        Some(i) => Err(Malformed::new(&format!("{field}[{}]", i + 1), Why::OutOfOrder)),
        None => Ok(()),
    }
}

/// Refuses a length over the limit.
pub(super) fn length(field: &str, is: usize, most: usize) -> Result<(), Malformed> {
    if is > most { Err(Malformed::new(field, Why::TooLong { is, most })) } else { Ok(()) }
}

/// The number of an id.
pub(super) fn id(field: &str, wire: &[u8]) -> Result<u128, Malformed> {
    let bytes: [u8; 16] = wire.try_into().map_err(|_| Malformed::new(field, Why::NotAnId { bytes: wire.len() }))?;
    Ok(u128::from_be_bytes(bytes))
}

/// An id's bytes. Their order is the ids' order.
pub(super) fn id_bytes(id: u128) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

/// The fingerprint of a root.
pub(super) fn root(field: &str, wire: &[u8]) -> Result<RootId, Malformed> {
    wire.try_into().map(RootId).map_err(|_| Malformed::new(field, Why::NotARoot { bytes: wire.len() }))
}

/// A number of a port.
pub(super) fn port(field: &str, wire: u32) -> Result<u16, Malformed> {
    let out = || Malformed::new(field, Why::OutOfBounds { is: wire.into(), least: 1, most: u16::MAX.into() });
    u16::try_from(wire).ok().filter(|port| *port != 0).ok_or_else(out)
}

/// A number that counts up and must leave room for those that follow.
pub(super) fn at_most(field: &str, wire: u64, most: u64) -> Result<u64, Malformed> {
    let out = || Malformed::new(field, Why::OutOfBounds { is: wire, least: 0, most });
    Some(wire).filter(|wire| *wire <= most).ok_or_else(out)
}

/// A count that must not be 0.
pub(super) fn at_least_one(field: &str, wire: u32) -> Result<u32, Malformed> {
    match wire {
        0 => Err(Malformed::new(field, Why::OutOfBounds { is: 0, least: 1, most: u32::MAX.into() })),
        count => Ok(count),
    }
}

/// A name of an application, environment, service or target.
pub(super) fn name(field: &str, wire: String) -> Result<String, Malformed> {
    visible(field, not_empty(field, wire)?, limits::NAME_BYTES)
}

/// A host, or a node's name.
pub(super) fn host(field: &str, wire: String) -> Result<String, Malformed> {
    visible(field, not_empty(field, wire)?, limits::HOST_BYTES)
}

/// A path of a URL.
pub(super) fn url_path(field: &str, wire: String) -> Result<String, Malformed> {
    visible(field, not_empty(field, wire)?, limits::URL_PATH_BYTES)
}

/// An image reference, digest or id.
pub(super) fn reference(field: &str, wire: String) -> Result<String, Malformed> {
    visible(field, not_empty(field, wire)?, limits::REFERENCE_BYTES)
}

/// A version or an architecture.
pub(super) fn word(field: &str, wire: String) -> Result<String, Malformed> {
    visible(field, wire, limits::WORD_BYTES)
}

/// A text in PEM: visible, but in lines.
pub(super) fn pem(field: &str, wire: String) -> Result<String, Malformed> {
    length(field, wire.len(), limits::PEM_BYTES)?;
    let wire = not_empty(field, wire)?;
    match wire.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\r')) {
        Some(c) => Err(Malformed::new(field, Why::Character(c))),
        None => Ok(wire),
    }
}

/// An argument or variable of a process: anything but the NUL that would end it.
pub(super) fn argument(field: &str, wire: String) -> Result<String, Malformed> {
    length(field, wire.len(), limits::ARGUMENT_BYTES)?;
    if wire.contains('\0') { Err(Malformed::new(field, Why::Character('\0'))) } else { Ok(wire) }
}

/// A regular expression. It is only ever compiled and matched, never shown.
pub(super) fn pattern(field: &str, wire: String) -> Result<String, Malformed> {
    length(field, wire.len(), limits::PATTERN_BYTES)?;
    Ok(wire)
}

/// The name of an environment variable.
pub(super) fn variable(field: &str, wire: String) -> Result<String, Malformed> {
    let wire = visible(field, not_empty(field, wire)?, limits::VARIABLE_BYTES)?;
    if wire.contains('=') { Err(Malformed::new(field, Why::Character('='))) } else { Ok(wire) }
}

/// An absolute path that stays where it says: no part of it is empty, `.` or `..`.
pub(super) fn file_path(field: &str, wire: String) -> Result<String, Malformed> {
    let wire = visible(field, not_empty(field, wire)?, limits::FILE_PATH_BYTES)?;
    let parts = wire.strip_prefix('/').map(|rest| rest.split('/'));
    let stays = parts.is_some_and(|mut parts| parts.all(|part| !matches!(part, "" | "." | "..")));
    if stays { Ok(wire) } else { Err(Malformed::new(field, Why::Wanders)) }
}

/// A text without control characters and marks of direction, which would forge lines in a log or speak to a terminal.
pub(super) fn visible(field: &str, wire: String, most: usize) -> Result<String, Malformed> {
    length(field, wire.len(), most)?;
    match wire.chars().find(|c| is_acting(*c)) {
        Some(c) => Err(Malformed::new(field, Why::Character(c))),
        None => Ok(wire),
    }
}

fn not_empty(field: &str, wire: String) -> Result<String, Malformed> {
    if wire.is_empty() { Err(Malformed::new(field, Why::Empty)) } else { Ok(wire) }
}

/// A sentence for people, made fit.
pub(super) fn sentence(text: String) -> String {
    fit(text, limits::SENTENCE_BYTES)
}

/// A failure's last lines, made fit: the newest ones are kept.
pub(super) fn last_lines(mut lines: Vec<String>) -> Vec<String> {
    lines.drain(..lines.len().saturating_sub(limits::LAST_LINES));
    lines.into_iter().map(|line| fit(line, limits::LAST_LINE_BYTES)).collect()
}

/// A node's troubles, made fit: the first ones are kept.
pub(super) fn troubles(mut sentences: Vec<String>) -> Vec<String> {
    sentences.truncate(limits::TROUBLES);
    sentences.into_iter().map(sentence).collect()
}

/// The text without what acts on a terminal or forges lines, and at most so many bytes long.
fn fit(text: String, most: usize) -> String {
    const CUT: &str = "…";
    if text.len() <= most && !text.contains(is_acting) {
        return text;
    }
    let spaced = |c: char| if is_acting(c) { ' ' } else { c };
    // An acting character of several bytes becomes a space of one, so the length is that of the new text.
    let clean: String = text.chars().map(spaced).collect();
    if clean.len() <= most {
        return clean;
    }
    let end = clean.floor_char_boundary(most - CUT.len());
    format!("{}{CUT}", &clean[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_cut_between_characters() {
        let long = "ä".repeat(limits::SENTENCE_BYTES);
        let cut = sentence(long);
        assert!(cut.len() <= limits::SENTENCE_BYTES && cut.ends_with("ä…"), "{} bytes", cut.len());
        assert_eq!(sentence(cut.clone()), cut, "what is fit stays as it is");
    }

    #[test]
    fn a_terminal_gets_no_orders_from_a_job() {
        assert_eq!(sentence("\u{1b}[2Jgone\nnext\u{9b}31m".into()), " [2Jgone next 31m");
        assert_eq!(sentence("exit \u{202e}0 edoc".into()), "exit  0 edoc");
        assert!(visible("name", "n\u{202e}1".into(), 64).is_err());
    }

    #[test]
    fn the_newest_of_the_last_lines_are_kept() {
        let kept = last_lines((0..20).map(|n| n.to_string()).collect());
        assert_eq!((kept.len(), kept.first().map(String::as_str)), (limits::LAST_LINES, Some("10")));
    }

    #[test]
    fn a_refusal_names_the_rule() {
        let refusal = port("port", 70_000).inside("kind").unwrap_err();
        assert_eq!(refusal.to_string(), "the field kind.port is 70000, it must be between 1 and 65535");
    }
}
