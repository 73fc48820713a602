//! Names of things that machines give.
//!
//! An id is 128 bits, minted at the rim (48 bits of wall-clock milliseconds, then 80 random bits, so that ids sort by
//! age) and passed into the decisions, which use it to break ties and never make one up. Its text form is 26 characters
//! of Crockford's base 32 in lower case, which is short enough for a container label and safe in a path.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 26 characters of 5 bits hold 130 bits; the first character therefore stays below 8.
const TEXT_LEN: usize = 26;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: an id is 26 characters of 0-9 and a-z without i, l, o and u")
    }
}

impl core::error::Error for NotAnId {}

fn encode(value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0u8; TEXT_LEN];
    for (i, slot) in text.iter_mut().enumerate() {
        let shift = 5 * (TEXT_LEN - 1 - i);
        *slot = ALPHABET[((value >> shift) & 31) as usize];
    }
    f.pad(core::str::from_utf8(&text).unwrap_or_default())
}

fn decode(text: &str) -> Result<u128, NotAnId> {
    let bytes = text.as_bytes();
    if bytes.len() != TEXT_LEN || bytes[0] > b'7' {
        return Err(NotAnId);
    }
    let mut value = 0u128;
    for byte in bytes {
        let digit = ALPHABET.iter().position(|c| c == byte).ok_or(NotAnId)?;
        value = (value << 5) | digit as u128;
    }
    Ok(value)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                decode(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <alloc::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

ids! {
    /// The controller's cluster: minted with its store, part of every certificate.
    ClusterId,
    /// An Application.
    ApplicationId,
    /// An Environment of one Application.
    EnvironmentId,
    /// A Service of one Environment.
    ServiceId,
    /// A deployment of one Service.
    DeploymentId,
    /// One slot, one revision, one node, for life.
    JobId,
    /// A worker node.
    NodeId,
    /// One boot of a node's machine, from the kernel's boot id.
    BootId,
    /// One registration of an agent.
    SessionId,
    /// A join token or an operator's token (never its secret).
    TokenId,
    /// Distinguishes generations from before and after a restored store.
    EpochId,
    /// One question to an agent and its answer.
    RequestId,
    /// One version of one secret or variable.
    ValueId,
}

/// One of the places that a service's target wants filled; it survives the jobs that fill it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    /// The service.
    pub service: ServiceId,
    /// The target's name. `web` and `worker` services have one, named as the type.
    pub target: alloc::string::String,
    /// From 1.
    pub number: u32,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.service, self.target, self.number)
    }
}

/// Maps keyed by a structured id are written as lists of pairs, because JSON only has text keys.
pub mod pairs {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes a map as a list of pairs.
    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    /// Reads a map from a list of pairs.
    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_read_back_as_it_was_written(value: u128) {
            prop_assert_eq!(JobId(value).to_string().parse::<JobId>(), Ok(JobId(value)));
        }

        #[test]
        fn ids_sort_as_their_texts_do(a: u128, b: u128) {
            prop_assert_eq!(a.cmp(&b), JobId(a).to_string().cmp(&JobId(b).to_string()));
        }
    }

    #[test]
    fn a_text_that_is_no_id_is_refused() {
        for text in ["", "0", "8zzzzzzzzzzzzzzzzzzzzzzzzz", "0000000000000000000000000i", "0000000000000000000000000A"]
        {
            assert_eq!(text.parse::<JobId>(), Err(NotAnId), "{text}");
        }
    }
}
