//! Tags: by them somebody who has read a thing can tell whether it is still the same.
//!
//! A tag follows from the change numbers under which the store holds the thing's records, so it changes exactly when one
//! of them does. Readings are not in it.

use crate::cluster::{Cluster, Key};
use alloc::string::ToString;
use core::fmt;
use core::str::FromStr;

/// The state of a thing's records. Its text is 16 hexadecimal digits; it is only ever compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u64);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATag;

impl FromStr for Tag {
    type Err = NotATag;
    fn from_str(text: &str) -> Result<Tag, NotATag> {
        let plain = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if plain { u64::from_str_radix(text, 16).map(Tag).map_err(|_| NotATag) } else { Err(NotATag) }
    }
}

impl Cluster {
    /// The tag of some records: FNV-1a over their keys and change numbers, which says nothing by itself and is different
    /// for different ones but for a chance of one in 2^64.
    pub fn tag(&self, keys: impl IntoIterator<Item = Key>) -> Tag {
        const PRIME: u64 = 0x100_0000_01b3;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
        };
        for key in keys {
            add(key.to_string().as_bytes());
            add(&self.change_of(&key).to_be_bytes());
        }
        Tag(hash)
    }
}
