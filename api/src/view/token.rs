//! Who asks, and with what.

use serde::{Deserialize, Serialize};

/// Whose token a request shows: `GET /v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Identity {
    /// The operator's name.
    pub name: String,
    /// `viewer`, `deployer`, `operator` or `admin`.
    pub role: String,
    /// The application or environment that it is good for; none for the whole organization.
    pub scope: Option<String>,
    /// The token's id.
    pub token: String,
    /// When it ends; none if it does not end by itself.
    pub expires_ms: Option<u64>,
}

/// An operator's token, without its secret: `GET /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OperatorToken {
    /// Its id.
    pub id: String,
    /// The operator's name.
    pub name: String,
    /// `viewer`, `deployer`, `operator` or `admin`.
    pub role: String,
    /// The application or environment that it is good for; none for the whole organization.
    pub scope: Option<String>,
    /// When it was made.
    pub created_ms: u64,
    /// Who made it.
    pub by: String,
    /// When it ends; none if it does not end by itself.
    pub expires_ms: Option<u64>,
    /// Whether it has ended.
    pub expired: bool,
}

/// `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NewOperatorToken {
    /// The text to give to `lap login`. Shown once.
    pub token: String,
    /// What it is.
    pub about: OperatorToken,
}
