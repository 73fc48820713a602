//! Labels of nodes, which operators give, and the constraints of services that ask for them.
//!
//! A label says what a machine is or has: `zone=a`, `disk=ssd`. A constraint compares one with a value: `zone == a`,
//! `disk != hdd`. `arch` is no label: it is what the node's agent says of its machine. Nothing else that an agent says
//! counts, so that a machine cannot draw a service to itself by a label of its own.

use crate::quote::{one_line, quoted};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// The attribute that every node has: its architecture, as in image platforms.
pub const ARCHITECTURE: &str = "arch";
/// Labels of one node: enough for every way in which machines differ, few enough to show them in one line.
pub const LABELS_PER_NODE: usize = 32;
/// Constraints of one service.
pub const CONSTRAINTS_PER_SERVICE: usize = 16;
/// The longest key and the longest value, as for a label of DNS.
const LONGEST: usize = 63;

/// Why a text cannot be a label's key; none if it can: 1 to 63 of `a-z`, `0-9`, `-`, `.` and `_`, beginning with a letter
/// and ending with a letter or digit.
pub fn why_not_a_key(key: &str) -> Option<String> {
    let wrong = why_not_a_word(key, "the label", "a-z, 0-9", |c| c.is_ascii_lowercase() || c.is_ascii_digit());
    wrong.or_else(|| {
        (!key.starts_with(|c: char| c.is_ascii_lowercase()))
            .then(|| format!("the label {} must begin with a letter", quoted(key)))
    })
}

/// Why a text cannot be a label's value; none if it can: 1 to 63 ASCII letters, digits and, between them, `-`, `.` and `_`.
pub fn why_not_a_value(value: &str) -> Option<String> {
    why_not_a_word(value, "the value", "A-Z, a-z, 0-9", |c| c.is_ascii_alphanumeric())
}

fn why_not_a_word(word: &str, what: &str, allowed: &str, legal: fn(char) -> bool) -> Option<String> {
    if word.is_empty() {
        return Some(format!("{what} is empty"));
    }
    if word.len() > LONGEST {
        return Some(format!("{what} {} has {} bytes; {LONGEST} are allowed", quoted(word), word.len()));
    }
    if let Some(c) = word.chars().find(|c| !legal(*c) && !matches!(c, '-' | '.' | '_')) {
        let mut utf8 = [0; 4];
        let c = quoted(c.encode_utf8(&mut utf8));
        return Some(format!("{what} {} contains {c}; {allowed}, \"-\", \".\" and \"_\" are allowed", quoted(word)));
    }
    if !word.starts_with(legal) || !word.ends_with(legal) {
        return Some(format!("{what} {} must begin and end with a letter or digit", quoted(word)));
    }
    None
}

/// How a constraint compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// `==`: the node has the label with this value.
    Is,
    /// `!=`: the node has another value, or no such label.
    IsNot,
}

/// What a service asks of the nodes that its jobs are placed on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Constraint {
    /// A label's key, or [`ARCHITECTURE`].
    pub attribute: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: String,
}

impl Constraint {
    /// Why a node with this architecture and these labels does not meet it; none if it does.
    pub fn why_not(&self, architecture: &str, labels: &BTreeMap<String, String>) -> Option<String> {
        let Constraint { attribute, comparison, value } = self;
        if attribute == ARCHITECTURE {
            return match (comparison, architecture == value) {
                (Comparison::Is, true) | (Comparison::IsNot, false) => None,
                (Comparison::Is, false) => {
                    Some(format!("its architecture is {}, {value} is wanted", one_line(architecture, LONGEST)))
                }
                (Comparison::IsNot, true) => Some(format!("its architecture is {value}, which is not wanted")),
            };
        }
        match (comparison, labels.get(attribute)) {
            (Comparison::Is, Some(has)) if has == value => None,
            (Comparison::Is, Some(has)) => Some(format!("its label {attribute} is {has}, {value} is wanted")),
            (Comparison::Is, None) => Some(format!("it has no label {attribute}, {value} is wanted")),
            (Comparison::IsNot, Some(has)) if has == value => {
                Some(format!("its label {attribute} is {has}, which is not wanted"))
            }
            (Comparison::IsNot, Some(_) | None) => None,
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.comparison {
            Comparison::Is => "==",
            Comparison::IsNot => "!=",
        };
        write!(f, "{} {sign} {}", self.attribute, self.value)
    }
}

impl FromStr for Constraint {
    type Err = String;

    /// `zone == a`, `disk != hdd`; spaces around the sign may be left out.
    fn from_str(text: &str) -> Result<Constraint, String> {
        let is = text.split_once("==").map(|parts| (parts, Comparison::Is));
        let is_not = || text.split_once("!=").map(|parts| (parts, Comparison::IsNot));
        let Some(((attribute, value), comparison)) = is.or_else(is_not) else {
            return Err("a constraint is a label, == or !=, and a value, such as `zone == a`".to_string());
        };
        let (attribute, value) = (attribute.trim_matches(' '), value.trim_matches(' '));
        match why_not_a_key(attribute).or_else(|| why_not_a_value(value)) {
            Some(why) => Err(why),
            None => Ok(Constraint { attribute: attribute.to_string(), comparison, value: value.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_constraint_says_which_label_stands_against_it() {
        let node = labels(&[("zone", "b"), ("disk", "hdd")]);
        for (constraint, why) in [
            ("zone == b", None),
            ("zone==b", None),
            ("zone == a", Some("its label zone is b, a is wanted")),
            ("rack == 3", Some("it has no label rack, 3 is wanted")),
            ("disk != hdd", Some("its label disk is hdd, which is not wanted")),
            ("disk != ssd", None),
            ("rack != 3", None),
            ("arch == amd64", None),
            ("arch == arm64", Some("its architecture is amd64, arm64 is wanted")),
            ("arch != amd64", Some("its architecture is amd64, which is not wanted")),
        ] {
            let constraint: Constraint = constraint.parse().unwrap();
            assert_eq!(constraint.why_not("amd64", &node).as_deref(), why, "{constraint}");
        }
    }

    #[test]
    fn a_node_has_no_label_that_says_its_architecture_otherwise() {
        let constraint: Constraint = "arch == arm64".parse().unwrap();
        assert!(constraint.why_not("amd64", &labels(&[("arch", "arm64")])).is_some());
    }

    #[test]
    fn what_is_no_constraint_is_refused_with_a_reason() {
        for text in
            ["", "zone", "zone = a", "zone == ", " == a", "zone == a b", "Zone == a", "zone == a == b", "zone > a"]
        {
            assert!(text.parse::<Constraint>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_are_words_and_a_refusal_of_one_is_short_and_plain() {
        for key in ["zone", "a", "topology.example.com", "rack-3", "a_b"] {
            assert_eq!(why_not_a_key(key), None);
        }
        let long = "x".repeat(10_000);
        for key in ["", "Zone", "3a", "-a", "a-", "a b", "../../etc", "a\u{1b}[2J", "a\u{202e}b", "a\0", &long] {
            let why = why_not_a_key(key).unwrap();
            assert!(why.len() < 400 && why.chars().all(|c| c == '…' || c == ' ' || c.is_ascii_graphic()), "{why:?}");
        }
        assert_eq!(why_not_a_value("SSD.2"), None);
        assert!(why_not_a_value("a/b").is_some());
    }

    proptest! {
        #[test]
        fn a_constraint_is_read_back_as_it_is_written(key in "[a-z]([a-z0-9._-]{0,8}[a-z0-9])?", is: bool, value in "[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?") {
            let comparison = if is { Comparison::Is } else { Comparison::IsNot };
            let constraint = Constraint { attribute: key, comparison, value };
            prop_assert_eq!(constraint.to_string().parse::<Constraint>(), Ok(constraint));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,40}") {
            let _ = text.parse::<Constraint>();
            let _: Vec<_> = [why_not_a_key(&text), why_not_a_value(&text)].into();
        }
    }
}
