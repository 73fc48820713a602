//! Nodes, and machines that are to become one.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An amount of processor and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Bytes.
    pub memory_bytes: u64,
}

/// A node: `GET /v1/nodes`, `GET /v1/nodes/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `ready`, `suspect` or `lost`; `joining` until it is first heard.
    pub liveness: String,
    /// Whether its certificate is believed: `good`, `revoked` or `quarantined`.
    #[serde(default)]
    pub standing: String,
    /// Its wish to come back after its certificate had ended.
    #[serde(default)]
    pub returning: Option<Returning>,
    /// For how long it has been silent.
    pub silent_ms: u64,
    /// The agent's version.
    pub version: String,
    /// As in image platforms.
    pub architecture: String,
    /// What operators say of the machine, by key.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Who keeps new jobs from it; none when it may get some.
    #[serde(default)]
    pub cordon: Option<Cordon>,
    /// What it offers to jobs.
    pub capacity: Amount,
    /// What the jobs placed on it may use at most.
    pub committed: Amount,
    /// What the machine uses now.
    pub used: Amount,
    /// Paths of the environments that it is given to.
    pub environments: Vec<String>,
    /// How many jobs are placed on it.
    pub jobs: u32,
    /// What keeps it from working, as sentences.
    pub troubles: Vec<String>,
    /// When it joined.
    pub joined_ms: u64,
}

/// Who keeps new jobs from a node, and why.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// The operator.
    pub by: String,
    /// Why, if they said so.
    pub reason: Option<String>,
    /// Since when.
    pub since_ms: u64,
}

/// What came of a change that has nothing else to answer: cordons, labels, quotas, pauses.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Whether anything is other than it was.
    pub changed: bool,
    /// What is worth a word, as sentences.
    pub warnings: Vec<String>,
}

/// A node whose certificate has ended and that wants another one.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returning {
    /// The fingerprint of its key: SHA-256 of the public key, in hexadecimal.
    pub key: String,
    /// From where it asks.
    pub address: String,
    /// When it first asked.
    pub asked_ms: u64,
    /// When its certificate ended.
    pub ended_ms: u64,
    /// `waiting`, `admitted` or `refused`.
    pub answer: String,
}

/// `POST /v1/node-tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinToken {
    /// The text to give to `lapstrake-agent join`. Shown once.
    pub token: String,
    /// When it ends.
    pub expires_ms: u64,
    /// The address to join, `host:port`.
    pub address: String,
}
