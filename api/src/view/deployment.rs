//! Deployments and their timelines.

use serde::{Deserialize, Serialize};

/// A deployment: `GET /v1/services/…/deployments`, and `…/{number}` for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// The service's path.
    pub service: String,
    /// Counts the service's deployments, from 1.
    pub number: u32,
    /// `apply`, `deploy`, `redeploy`, `rollback`, `scale` or `resume`.
    pub trigger: String,
    /// Whose token asked for it.
    pub by: String,
    /// What for, in words.
    pub why: String,
    /// The image as the person wrote it.
    pub image: String,
    /// The revision that was active before.
    pub from: Option<u32>,
    /// The revision that it brings, once numbered.
    pub revision: Option<u32>,
    /// `rolling`, `recreate`, `blue-green` or `canary`.
    #[serde(default = "rolling")]
    pub strategy: String,
    /// How far its canary is; none unless it holds something back now.
    pub canary: Option<Canary>,
    /// `queued`, `resolving`, `preparing`, `placing`, `rolling`, `complete`, `superseded`, `reverting`, `failed` or `cancelled`.
    pub phase: String,
    /// Whether nothing more will happen to it.
    pub ended: bool,
    /// Why it failed, or what it waits for, in one sentence.
    pub message: Option<String>,
    /// When it was asked for.
    pub created_ms: u64,
    /// When it entered each phase.
    pub reached: Vec<Moment>,
    /// Its slots.
    pub slots: Vec<SlotTimeline>,
}

/// What every deployment was when controllers did not say it.
fn rolling() -> String {
    "rolling".to_owned()
}

/// How far a canary is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Canary {
    /// Its step, from 1.
    pub step: u32,
    /// Of so many.
    pub steps: u32,
    /// Percent of the new requests that it gets.
    pub weight: u32,
    /// Whether somebody holds it there until it is released.
    pub held: bool,
}

/// When something entered a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Moment {
    /// The phase.
    pub phase: String,
    /// When.
    pub at_ms: u64,
}

/// How one slot went through a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotTimeline {
    /// `web.1`.
    pub slot: String,
    /// The node's name.
    pub node: String,
    /// The old job.
    pub old: Option<String>,
    /// The new job.
    pub new: Option<String>,
    /// Where it stands; `waiting` before the agent began it.
    pub phase: String,
    /// When it entered each phase, by the node's clock.
    pub reached: Vec<Moment>,
    /// When the old job got its SIGTERM.
    pub stopped_ms: Option<u64>,
    /// When all checks of the new job were good for the first time.
    pub good_ms: Option<u64>,
    /// What a check of the new job answered last before that; none if no answer was bad.
    pub bad_answer: Option<String>,
    /// Why it was abandoned or switched back, or what it waits for.
    pub message: Option<String>,
}
