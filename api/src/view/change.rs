//! What a spec changes.

use serde::{Deserialize, Serialize};

/// One thing that an application of a spec would do, or did, to one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceChange {
    /// `shop/production/web`.
    pub path: String,
    /// `create`, `replace`, `scale`, `at-resume` or `nothing`.
    pub action: String,
    /// What it means, as a sentence.
    pub summary: String,
    /// The release command that runs once before any job is replaced, as one line; none when none runs.
    #[serde(default)]
    pub release: Option<String>,
    /// Field by field.
    pub changes: Vec<FieldChange>,
    /// What a person should know before it is done.
    pub warnings: Vec<String>,
    /// The number of the deployment that was created (`apply` only).
    pub deployment: Option<u32>,
}

/// One field of a spec that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FieldChange {
    /// For example `deploy.overlap`.
    pub field: String,
    /// What it was; none when it is new.
    pub old: Option<String>,
    /// What it becomes; none when it goes.
    pub new: Option<String>,
}

/// `POST /v1/plan` and `POST /v1/apply`, both with the YAML text as their body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Changes {
    /// Whether the application would be, or was, created.
    pub creates_application: Option<String>,
    /// Sorted by path.
    pub services: Vec<ServiceChange>,
    /// What is allowed in the file and perhaps not meant.
    pub warnings: Vec<String>,
    /// Of `plan`: the tag of what it was computed from. `apply` with `If-Match: "TAG"` does it only if nothing of that
    /// has changed since.
    #[serde(default)]
    pub tag: Option<String>,
}
