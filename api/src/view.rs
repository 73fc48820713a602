//! What the controller answers: the JSON that `lap`, pages and other programs read.
//!
//! Times are milliseconds since 1970 (UTC), sizes are bytes, processor shares are thousandths of a core. Fields are only
//! ever added. Words such as states and phases are lower-case with hyphens.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Version {
    /// The controller's version.
    pub version: String,
    /// The cluster's id.
    pub cluster: String,
    /// The organization's name.
    pub organization: String,
}

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

/// `GET /v1/authority`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The roots that are trusted, the older one first.
    pub roots: Vec<Root>,
    /// How one takes the other's place; none while there is one root.
    pub rotation: Option<Rotation>,
}

/// A root of the certificate authority.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// SHA-256 of its certificate, in hexadecimal.
    pub fingerprint: String,
    /// When it was made.
    pub made_ms: u64,
    /// When it ends.
    pub ends_ms: u64,
    /// Whether it signs certificates now.
    pub signs: bool,
}

/// How one root takes another's place.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// `announcing`: everybody is told to trust both. `reissuing`: the new one signs, and nodes get new certificates.
    pub stage: String,
    /// When it began.
    pub begun_ms: u64,
    /// When this stage began.
    pub since_ms: u64,
    /// Who began it.
    pub by: String,
    /// The nodes that this stage waits for.
    pub waits: Vec<RotationWait>,
}

/// A node that a rotation waits for.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationWait {
    /// Its name.
    pub node: String,
    /// Why, as a sentence without the name.
    pub why: String,
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

/// `GET /v1/services/{app}/{env}/{service}/why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// The state's word.
    pub state: String,
    /// The first sentence is the answer; the others are the rest of the story.
    pub sentences: Vec<String>,
}

/// One entry of the log of events: `GET /v1/events`, and as server-sent events with `follow=true`, whose id is `number`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Counts up; a watcher resumes after the last that it has.
    pub number: u64,
    /// When.
    pub at_ms: u64,
    /// A word such as `service-created`, `deployment`, `replacement`, `node-liveness`; `history-cut` when what a watcher
    /// missed is not kept any more.
    pub kind: String,
    /// What it is about: a service's path, a node's name.
    pub subject: String,
    /// The sentence.
    pub text: String,
    /// Who did it; none for what the controller did by itself.
    pub by: Option<String>,
}

/// One line of a job's output: `GET /v1/services/…/logs`, as server-sent events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// When the engine took it.
    pub at_ms: u64,
    /// `web.1`.
    pub slot: String,
    /// The node's name.
    pub node: String,
    /// `stdout` or `stderr`; `lapstrake` for a word of ours (a stream that ended, a node that is silent).
    pub stream: String,
    /// The text without its line end; control characters are escaped.
    pub text: String,
}

/// An answer that is an error, as RFC 9457 shapes it (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// The kind of problem, for programs: `/problems/NAME`, relative to the controller, which serves a page about it.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and what to do next.
    pub detail: String,
    /// Names this one occurrence, `urn:lapstrake:problem:ID`; the controller's log has it too.
    #[serde(default)]
    pub instance: String,
    /// Every mistake of a spec, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// A mistake in a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mistake {
    /// From 1; 0 when it is about the whole.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// How many characters the caret underlines.
    pub width: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}
