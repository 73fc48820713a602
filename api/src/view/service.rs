//! Services and what runs of them.

use super::{Amount, Deployment};
use serde::{Deserialize, Serialize};

/// A service: `GET /v1/services`, `GET /v1/services/{app}/{env}/{service}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Service {
    /// `shop/production/web`.
    pub path: String,
    /// `web` or `worker`.
    #[serde(rename = "type")]
    pub service_type: String,
    /// `starting`, `healthy`, `degraded`, `unhealthy`, `pausing`, `paused`, `resuming` or `deleting`.
    pub state: String,
    /// Why it is in this state, in one sentence.
    pub message: String,
    /// The image as the person wrote it.
    pub image: String,
    /// What the active revision's image is bound to.
    pub pinned: Option<String>,
    /// The number of the active revision.
    pub revision: Option<u32>,
    /// How many jobs are wanted.
    pub scale: u32,
    /// How many of them are healthy.
    pub healthy: u32,
    /// Where people reach it: `http://host/path`, without the proxies' port.
    pub routes: Vec<String>,
    /// The ports that its spec declares.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Its jobs.
    pub jobs: Vec<Job>,
    /// The newest deployment.
    pub deployment: Option<Deployment>,
    /// Who keeps it without jobs; none of one that is not paused.
    #[serde(default)]
    pub paused: Option<Hold>,
    /// Who keeps people from giving it new jobs; none of one that is redeployable.
    #[serde(default)]
    pub not_redeployable: Option<Hold>,
}

/// Who holds a service, and why.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The operator.
    pub by: String,
    /// Why, if they said so.
    pub reason: Option<String>,
    /// Since when.
    pub since_ms: u64,
}

/// A job: `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Job {
    /// Its id.
    pub id: String,
    /// The service's path.
    pub service: String,
    /// `web.1`.
    pub slot: String,
    /// The node's name; none while it waits for one.
    pub node: Option<String>,
    /// The revision it runs.
    pub revision: u32,
    /// Its phase: `running`, …; `unknown` when its node is silent.
    pub phase: String,
    /// `healthy`, `unhealthy`, `starting` or `unknown`.
    pub health: String,
    /// Which attempt.
    pub attempt: u32,
    /// Whether it carries the slot now, comes or leaves: `current`, `new` or `old`.
    pub role: String,
    /// Why it is not healthy, or what it waits for.
    pub message: Option<String>,
    /// Its address in the environment's network.
    pub address: Option<String>,
    /// Memory in use.
    pub memory_bytes: u64,
    /// Processor in use.
    pub cpu_milli: u32,
    /// What it may use at most.
    #[serde(default)]
    pub limit: Amount,
}

/// A job that runs a command once: `GET /v1/services/…/runs`, and `…/{job}` for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OneOff {
    /// Its id.
    pub job: String,
    /// `run.3` or `release.4`.
    pub slot: String,
    /// The service's path.
    pub service: String,
    /// `run`, or `release` for a deployment's release command.
    pub purpose: String,
    /// The deployment whose release command it is.
    pub deployment: Option<u32>,
    /// The node's name.
    pub node: String,
    /// The revision whose image and settings it has.
    pub revision: u32,
    /// What runs. Empty for those who may not run anything, unless it is a release command.
    pub command: Vec<String>,
    /// Whose token asked for it.
    pub by: String,
    /// When it was asked for.
    pub created_ms: u64,
    /// `assigned`, `pulling`, `creating`, `starting`, `running` or `stopping`; when it has ended `succeeded`, `failed` or `stopped`;
    /// `unknown` when its node is silent, or was lost before it told the end.
    pub phase: String,
    /// Whether it has ended, or nobody can tell any more.
    pub ended: bool,
    /// When that was heard.
    pub ended_ms: Option<u64>,
    /// The exit code of its process, once it has ended by itself.
    pub exit_code: Option<i64>,
    /// Why it did not end well, or what it waits for.
    pub message: Option<String>,
    /// The last lines that it wrote, if it did not end well.
    pub last_lines: Vec<String>,
}

/// `GET /v1/services/{app}/{env}/{service}/why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// The state's word.
    pub state: String,
    /// The first sentence is the answer; the others are the rest of the story.
    pub sentences: Vec<String>,
}
