//! Who tried what.

use serde::{Deserialize, Serialize};

/// Who tried what, and what came of it: `GET /v1/audit`. Texts that do not apply are empty. The rows are a chain: `hash`
/// covers every other field and the hash of the row before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditRow {
    /// 1, 2, 3, … without a gap.
    pub number: u64,
    /// When.
    pub at_ms: u64,
    /// The operator's name; empty for who showed no token that is known.
    pub who: String,
    /// The id of the operator's token.
    pub token: String,
    /// Where it came from.
    pub address: String,
    /// What was tried: `deploy`, `create-token`, `request`, …
    pub verb: String,
    /// On what: `shop/production/web`, `node/edge`, `token/ci`, an address of the interface.
    pub subject: String,
    /// More of it.
    pub detail: String,
    /// `done`, `unchanged` or `refused`.
    pub verdict: String,
    /// Why it was refused.
    pub said: String,
    /// SHA-256 as 64 hexadecimal digits.
    pub hash: String,
}

/// The end of the audit's chain: `GET /v1/audit/head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditHead {
    /// The cluster's id, with whose hash the chain begins.
    pub cluster: String,
    /// The number of the last row that was written; 0 before the first.
    pub number: u64,
    /// Its hash; none before the first.
    pub hash: Option<String>,
}
