//! The certificates that everybody is recognised by.

use serde::{Deserialize, Serialize};

/// `GET /v1/authority`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The roots that are trusted, the older one first.
    pub roots: Vec<Root>,
    /// How one takes the other's place; none while there is one root.
    pub rotation: Option<Rotation>,
}

/// A root of the certificate authority.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// SHA-256 of its certificate, in hexadecimal.
    pub fingerprint: String,
    /// When it was made.
    pub made_ms: u64,
    /// When it ends.
    pub ends_ms: u64,
    /// Whether it signs certificates now.
    pub signs: bool,
}

/// How one root takes another's place.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// `announcing`: everybody is told to trust both. `reissuing`: the new one signs, and nodes get new certificates.
    pub stage: String,
    /// When it began.
    pub begun_ms: u64,
    /// When this stage began.
    pub since_ms: u64,
    /// Who began it.
    pub by: String,
    /// The nodes that this stage waits for.
    pub waits: Vec<RotationWait>,
}

/// A node that a rotation waits for.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationWait {
    /// Its name.
    pub node: String,
    /// Why, as a sentence without the name.
    pub why: String,
}
