//! How much an application or an environment may have.

use serde::{Deserialize, Serialize};

/// What an application or an environment has and may have: `GET /v1/quotas?below=`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// `shop` or `shop/production`.
    pub path: String,
    /// Services; of an application counted by name.
    pub services: Share,
    /// Jobs.
    pub jobs: Share,
    /// Thousandths of a core.
    pub cpu_milli: Share,
    /// Bytes.
    pub memory_bytes: Share,
}

/// How much is asked for, of how much.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// So much is asked for.
    pub asked: u64,
    /// So much may be; none without limit.
    pub limit: Option<u64>,
}
