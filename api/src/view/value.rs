//! Secrets, variables, and the key that they are sealed with.

use serde::{Deserialize, Serialize};

/// A secret, a variable or the credentials for a registry, as something has it: `GET /v1/values?of=shop/production`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// `secret`, `variable` or `registry`.
    pub kind: String,
    /// The secret's or variable's name, or the registry's host.
    pub name: String,
    /// Where it comes from: `own` was set there, `inherited` was set further up, `spec` stands in the service's spec,
    /// `automatic` is given by Lapstrake itself.
    pub origin: String,
    /// Where it was set: `shop/production`, empty for the organization; none of what was not set.
    pub of: Option<String>,
    /// What it is. Of variables only, and only if it can be read.
    pub value: Option<String>,
    /// Counts its versions from 1; none of what was not set.
    pub version: Option<u32>,
    /// When it was set.
    pub changed_ms: Option<u64>,
    /// Who set it.
    pub by: Option<String>,
    /// The services, of those that were asked for, whose next deployment gives it to them: until then it is not deployed.
    pub not_deployed: Vec<String>,
    /// Why it cannot be read, if so: it was altered, or the key is not there.
    pub trouble: Option<String>,
}

/// What became of the master key: `POST /v1/values/key`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKey {
    /// The fingerprint of the key that seals from now on.
    pub key: String,
    /// So many versions of values were sealed again.
    pub resealed: u32,
    /// Versions that could not be opened and were left as they are: their names.
    pub left: Vec<String>,
}
