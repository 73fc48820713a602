//! Names that people give: to applications, environments and services.

use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// The longest name: readable in a table's column, and far below the 63 of a DNS label, which the three names of a default
/// host (`<service>-<environment>-<application>`) share; that they fit together is checked where such a host is used.
pub const MAX_NAME_LEN: usize = 40;

/// The name of an application, an environment or a service: a DNS label of 1 to 40 characters (`a-z`, `0-9` and `-`)
/// that starts with a letter and does not end with a dash. So it is safe in a host name, a path and a container's label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Nothing was written.
    #[error("a name is not empty")]
    Empty,
    /// It is longer than a name may be.
    #[error("a name has at most {MAX_NAME_LEN} characters")]
    TooLong,
    /// The first character is something else.
    #[error("a name starts with a letter from a to z")]
    FirstCharacter,
    /// The last character is a dash.
    #[error("a name does not end with a dash")]
    LastCharacter,
    /// Another character than those that a name may have.
    #[error("a name has only the characters a-z, 0-9 and -")]
    Character,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says why a text is not a name.
    pub fn check(text: &str) -> Result<(), NotAName> {
        let bytes = text.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return Err(NotAName::Empty);
        };
        if !bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err(NotAName::Character);
        }
        if !first.is_ascii_lowercase() {
            return Err(NotAName::FirstCharacter);
        }
        if *last == b'-' {
            return Err(NotAName::LastCharacter);
        }
        if bytes.len() > MAX_NAME_LEN {
            return Err(NotAName::TooLong);
        }
        Ok(())
    }
}

impl FromStr for Name {
    type Err = NotAName;
    fn from_str(text: &str) -> Result<Self, NotAName> {
        Name::check(text).map(|()| Name(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        Name::check(&text).map(|()| Name(text))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Name::try_from(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label_that_starts_with_a_letter() {
        for text in ["a", "web", "web-2", "a1", &"x".repeat(40)] {
            assert_eq!(text.parse::<Name>().map(String::from), Ok(text.to_owned()));
        }
        for (text, why) in [
            ("", NotAName::Empty),
            ("2web", NotAName::FirstCharacter),
            ("-web", NotAName::FirstCharacter),
            ("web-", NotAName::LastCharacter),
            ("Web", NotAName::Character),
            ("web_2", NotAName::Character),
            ("w\u{1b}[2J", NotAName::Character),
            ("wéb", NotAName::Character),
            (&"x".repeat(41), NotAName::TooLong),
        ] {
            assert_eq!(text.parse::<Name>(), Err(why), "{text:?}");
        }
    }
}
