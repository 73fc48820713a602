//! What people ask the controller for: the JSON bodies of requests. Unknown fields are refused, so that a misspelt one
//! is not silently without effect.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// `POST /v1/apps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateApplication {
    /// Its name.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")))]
    pub name: String,
}

/// `POST /v1/envs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateEnvironment {
    /// The application's name.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"), example = &"shop"))]
    pub application: String,
    /// Its name.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")))]
    pub name: String,
}

/// `PATCH /v1/envs/{app}/{env}/policy`: what is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SetPolicy {
    /// The most jobs of one service.
    pub max_scale: Option<u32>,
    /// All fields of a spec that only operators change: `deploy.overlap`, …
    pub operator_fields: Option<Vec<String>>,
}

/// `POST /v1/envs/{app}/{env}/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AttachNode {
    /// The node's name.
    #[cfg_attr(feature = "schema", schemars(example = &"node-a"))]
    pub node: String,
}

/// `POST /v1/nodes/{node}/cordon`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", schemars(rename = "AskCordon"))]
pub struct Cordon {
    /// Why, for those whose services wait: one line.
    pub reason: Option<String>,
}

/// `POST /v1/nodes/{node}/labels`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labels {
    /// Labels that are set, by key.
    pub set: BTreeMap<String, String>,
    /// Keys of labels that are removed.
    pub remove: BTreeSet<String>,
}

/// `POST /v1/quotas/{app}` and `POST /v1/quotas/{app}/{env}`: what is not named stays as it is, `null` is the default.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", schemars(rename = "AskQuota"))]
pub struct Quota {
    /// How many services.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub services: Option<Option<u64>>,
    /// How many jobs.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub jobs: Option<Option<u64>>,
    /// Thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub cpu_milli: Option<Option<u64>>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub memory_bytes: Option<Option<u64>>,
}

/// A field that is named, though with `null`, is told apart from one that is not.
fn named<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

/// `POST /v1/node-tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CreateJoinToken {
    /// How long it is good for; an hour by default, a week at most.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 604_800)))]
    pub ttl_seconds: Option<u64>,
    /// The only name that a node may join with.
    pub node: Option<String>,
    /// The environment (`shop/production`) that the node is given to when it joins.
    #[cfg_attr(
        feature = "schema",
        schemars(
            regex(pattern = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?/[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"),
            example = &"shop/production"
        )
    )]
    pub environment: Option<String>,
    /// The only addresses that it may join from, `192.0.2.0/24`.
    pub cidr: Option<String>,
}

/// `POST /v1/services/{app}/{env}/{service}/deploy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The image reference.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = r"^[^\s]+$"), example = &"registry.example.com/shop/web:1.4.3")
    )]
    pub image: String,
}

/// `POST /v1/services/{app}/{env}/{service}/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// The revision; by default the one before the active one.
    pub to: Option<u32>,
}

/// `POST /v1/services/{app}/{env}/{service}/deployments/{number}/release`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Release {
    /// All of the traffic, and not only that of the next step.
    pub all: bool,
}

/// `POST /v1/services/{app}/{env}/{service}/scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// How many jobs.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 32)))]
    pub scale: u32,
}

/// `POST /v1/services/{app}/{env}/{service}/pause` and `POST /v1/envs/{app}/{env}/pause`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pause {
    /// Why, for those who find it paused: one line.
    pub reason: Option<String>,
}

/// `POST /v1/services/{app}/{env}/{service}/not-redeployable`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "AskNotRedeployable"))]
pub struct NotRedeployable {
    /// Why, for those who are refused: one line.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200)))]
    pub reason: String,
}

/// `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateOperatorToken {
    /// The operator's name, or that of a program; unique among tokens.
    pub name: String,
    /// `viewer`, `deployer`, `operator` or `admin`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["viewer", "deployer", "operator", "admin"])))]
    pub role: String,
    /// An application (`shop`) or an environment (`shop/production`); the organization if none is named.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(
            regex(pattern = r"^([a-z]([a-z0-9-]{0,38}[a-z0-9])?(/[a-z]([a-z0-9-]{0,38}[a-z0-9])?)?)?$"),
            example = &"shop/production"
        )
    )]
    pub scope: Option<String>,
    /// How long it is good for; without it, until it is removed.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub ttl_seconds: Option<u64>,
}

/// `POST /v1/services/{app}/{env}/{service}/runs`: a command that runs once, in a job of its own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The program, then its arguments. No shell is started.
    pub command: Vec<String>,
    /// Environment variables besides the service's, and before them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may run; an hour if it is not said, a week at most.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 604800)))]
    pub timeout_seconds: Option<u64>,
}

impl std::fmt::Debug for Run {
    /// Without what the variables are, because requests end up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.env.keys().collect();
        f.debug_struct("Run").field("command", &self.command).field("env", &names).finish_non_exhaustive()
    }
}

/// `POST /v1/nodes/{node}/return`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readmit {
    /// The fingerprint of the key that the node asks to return with, as the node's view says it.
    pub key: String,
}

/// `POST /v1/values`: a new version of a secret, a variable or the credentials for a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetValue {
    /// Where it belongs: `shop`, `shop/production` or `shop/production/web`; the organization if none is named.
    #[serde(default)]
    pub of: Option<String>,
    /// `secret`, `variable` or `registry`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["secret", "variable", "registry"])))]
    pub kind: String,
    /// The secret's or variable's name, or the registry's host.
    pub name: String,
    /// What it is; of a registry the password. At most 32 KiB.
    pub value: String,
    /// Of a registry: the user's name.
    #[serde(default)]
    pub user: Option<String>,
}

impl std::fmt::Debug for SetValue {
    /// Without the value, because requests end up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetValue").field("of", &self.of).field("kind", &self.kind).field("name", &self.name).finish()
    }
}
