//! Regular expressions that pick lines: what is wrong with one, and where.

use regex_syntax::Error;
use std::fmt;

/// The longest pattern, in bytes.
pub const LONGEST: usize = 1 << 10;

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongPattern {
    /// The character at which it is, from 1.
    pub at: usize,
    /// What, as half a sentence.
    pub said: String,
}

impl fmt::Display for WrongPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pattern is wrong at character {}: {}", self.at, self.said)
    }
}

impl std::error::Error for WrongPattern {}

/// Whether a text is a pattern as the nodes understand it: the syntax of the Rust crate `regex`, without look-around and
/// back-references.
pub fn check(pattern: &str) -> Result<(), WrongPattern> {
    if pattern.len() > LONGEST {
        let said = format!("it has {} bytes; {LONGEST} are allowed", pattern.len());
        return Err(WrongPattern { at: LONGEST + 1, said });
    }
    let at = |offset: usize| pattern.get(..offset).map_or(0, |before| before.chars().count()) + 1;
    regex_syntax::parse(pattern).map(drop).map_err(|error| match error {
        Error::Parse(error) => WrongPattern { at: at(error.span().start.offset), said: error.kind().to_string() },
        Error::Translate(error) => WrongPattern { at: at(error.span().start.offset), said: error.kind().to_string() },
        other => WrongPattern { at: 1, said: other.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_pattern_is_told_with_its_place() {
        assert_eq!(check(r"error|5\d\d"), Ok(()));
        let wrong = check("äb(c").expect_err("unclosed");
        assert_eq!((wrong.at, wrong.said.as_str()), (3, "unclosed group"));
        assert_eq!(check("a**(").expect_err("unclosed").at, 4);
        check("(?=a)").expect_err("no look-around");
        check(&"a".repeat(LONGEST + 1)).expect_err("too long");
    }
}
