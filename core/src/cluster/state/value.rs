//! Secrets and variables as they are stored: sealed, with the versions that somebody needs.

use crate::ids::ValueId;
use crate::time::Wall;
use crate::values::{Sealed, ValueKey};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A secret, a variable or the credentials for a registry, with the versions that somebody needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// What finds it.
    pub key: ValueKey,
    /// The version that the next deployment gets; none once it was removed, as long as jobs still have an older one.
    pub current: Option<ValueId>,
    /// Counts the versions from 1, as long as there is one.
    pub last: u32,
    /// Oldest first: the current one, and those that jobs have.
    pub versions: Vec<ValueVersion>,
}

/// One version of a value. What it is never changes; under which key it is sealed may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueVersion {
    /// Minted with it; the sealed bytes are bound to it.
    pub id: ValueId,
    /// v1, v2, …
    pub number: u32,
    /// What it is.
    pub body: Sealed,
    /// When it was set.
    pub at: Wall,
    /// By whom.
    pub by: String,
}

impl Value {
    /// One of its versions.
    pub fn version(&self, id: ValueId) -> Option<&ValueVersion> {
        self.versions.iter().find(|version| version.id == id)
    }
}
