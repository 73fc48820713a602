//! Applications and their environments.

use serde::{Deserialize, Serialize};

/// An Application: `GET /v1/apps`, `POST /v1/apps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Application {
    /// Its name.
    pub name: String,
    /// `project`.
    pub kind: String,
    /// The names of its environments, in the order in which an application moves through them.
    pub environments: Vec<String>,
    /// How many services its environments hold.
    pub services: u32,
}

/// An Environment: `GET /v1/envs?app=`, `POST /v1/envs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Environment {
    /// `shop/production`.
    pub path: String,
    /// Names of the nodes that are given to it.
    pub nodes: Vec<String>,
    /// Names of its services.
    pub services: Vec<String>,
    /// The largest scale that its policy allows; none when only the quota limits it.
    pub max_scale: Option<u32>,
}

/// What an environment allows: `GET` and `PATCH /v1/envs/{app}/{env}/policy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Policy {
    /// `shop/production`.
    pub path: String,
    /// The most jobs of one service.
    pub max_scale: u32,
    /// The fields of a spec that only operators change.
    pub operator_fields: Vec<String>,
}
