//! By what the root of the certificate authority is recognised.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// The SHA-256 of a root certificate's DER form. Its text is 64 hexadecimal digits, as `openssl x509 -fingerprint` gives them
/// without the colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootId(pub [u8; 32]);

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootId({self})")
    }
}

/// A text that is not the fingerprint of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARoot;

impl fmt::Display for NotARoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fingerprint of a root is 64 hexadecimal digits")
    }
}

impl core::error::Error for NotARoot {}

impl FromStr for RootId {
    type Err = NotARoot;
    fn from_str(text: &str) -> Result<RootId, NotARoot> {
        let digits = text.as_bytes();
        let digit = |at: usize| (digits[at] as char).to_digit(16).map(|digit| digit as u8).ok_or(NotARoot);
        if digits.len() != 64 {
            return Err(NotARoot);
        }
        let mut id = [0; 32];
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = digit(2 * at)? << 4 | digit(2 * at + 1)?;
        }
        Ok(RootId(id))
    }
}

impl TryFrom<String> for RootId {
    type Error = NotARoot;
    fn try_from(text: String) -> Result<RootId, NotARoot> {
        text.parse()
    }
}

impl From<RootId> for String {
    fn from(id: RootId) -> String {
        alloc::format!("{id}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_back_and_nothing_else_is_one() {
        let id = RootId(core::array::from_fn(|at| at as u8 * 7));
        assert_eq!(alloc::format!("{id}").parse(), Ok(id));
        for wrong in ["", "00", &"zz".repeat(32), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<RootId>(), Err(NotARoot), "{wrong}");
        }
    }
}
