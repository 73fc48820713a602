//! The records: all that the controller stores. Readings are not among them; the agents will report those again.

use crate::access::Role;
use crate::assignment::BoundImage;
use crate::cluster::command::Answer;
use crate::cluster::paths::slot_word;
use crate::ids::{
    ApplicationId, BootId, ClusterId, DeploymentId, EnvironmentId, EpochId, JobId, NodeId, ServiceId, SlotId, TokenId,
};
use crate::placement::Demand;
use crate::policy::{ApplicationKind, Policy};
use crate::quota::Quota;
use crate::report::{Capacity, Failure, ReplacementReport};
use crate::root::RootId;
use crate::spec::ServiceSpec;
use crate::time::Wall;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The cluster itself: one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Minted with the store.
    pub cluster: ClusterId,
    /// Which life of the store: minted anew when it was restored.
    pub epoch: EpochId,
    /// The organization's name.
    pub organization: String,
    /// What default hosts end with.
    pub domain: String,
}

/// The certificate authority: one record. The keys are not in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The root that everybody trusts.
    pub root: Root,
    /// The root that takes its place, while it does.
    pub rotation: Option<Rotation>,
}

/// A self-signed certificate that signs leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// By what it is recognised.
    pub id: RootId,
    /// When it was made.
    pub made: Wall,
    /// When it ends.
    pub ends: Wall,
}

/// How far one root has taken another's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The root that comes.
    pub next: Root,
    /// How far it is.
    pub stage: RotationStage,
    /// When it began.
    pub begun: Wall,
    /// When this stage began.
    pub since: Wall,
    /// Who began it.
    pub by: String,
}

/// How far one root has taken another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationStage {
    /// Everybody is told to trust both; the old one signs.
    Announcing,
    /// Everybody trusts both; the new one signs, and nodes get new certificates.
    Reissuing,
}

impl RotationStage {
    /// The word for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            RotationStage::Announcing => "announcing",
            RotationStage::Reissuing => "reissuing",
        }
    }
}

/// What people call the product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// Unique in the organization.
    pub name: String,
    /// What it was created as.
    pub kind: ApplicationKind,
    /// What it may have at most, as far as an operator has set it.
    #[serde(default)]
    pub quota: Quota,
    /// When.
    pub created: Wall,
}

/// A stage of one application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// Whose.
    pub application: ApplicationId,
    /// Unique in its application.
    pub name: String,
    /// What it allows.
    pub policy: Policy,
    /// What it may have at most, as far as an operator has set it.
    #[serde(default)]
    pub quota: Quota,
    /// When.
    pub created: Wall,
}

/// A long-running part of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Whose.
    pub environment: EnvironmentId,
    /// Unique in its environment.
    pub name: String,
    /// What was asked for last, with the scale. What runs may be older: `active`.
    pub spec: ServiceSpec,
    /// Counts the changes of `spec`.
    pub spec_number: u32,
    /// What the last completed deployment made of it; none before the first. What a failed deployment goes back to.
    pub active: Option<Active>,
    /// The deployment under way. At most one (invariant 3).
    pub unfinished: Option<u32>,
    /// The newest deployment, finished or not; 0 before the first.
    pub last_deployment: u32,
    /// The newest revision's number; 0 before the first. Not reused.
    pub last_revision: u32,
    /// It was removed: its slots are being emptied, then it is gone.
    pub deleting: bool,
    /// When.
    pub created: Wall,
}

/// What a service is when nothing is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The revision that its jobs run.
    pub revision: u32,
    /// How many.
    pub scale: u32,
    /// The deployment that made it so.
    pub deployment: DeploymentId,
    /// That deployment's number.
    pub deployment_number: u32,
}

/// An immutable snapshot of a service's spec with its image bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Whether a deployment of it was completed: only to such a one people go back without naming it.
    #[serde(default)]
    pub completed: bool,
    /// Whose.
    pub service: ServiceId,
    /// r1, r2, …
    pub number: u32,
    /// The snapshot. Its scale is what was asked for then and is not obeyed later.
    pub spec: ServiceSpec,
    /// The image as it was bound.
    pub image: BoundImage,
    /// For an image that only nodes themselves have: the nodes that said so. Empty for one from a registry.
    pub holders: Vec<NodeId>,
    /// The host that leads to each public port, in the order of `spec.ports`.
    pub hosts: Vec<Option<String>>,
    /// When.
    pub created: Wall,
    /// By whom.
    pub by: String,
}

impl Revision {
    /// What its jobs ask of their nodes.
    pub fn demand(&self) -> Demand<'_> {
        Demand { size: &self.spec.size, constraints: &self.spec.constraints }
    }
}

/// What an operator did to cause a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TriggerKind {
    /// Applied a spec file.
    Apply,
    /// Named another image.
    Deploy,
    /// Asked for new jobs of the same revision.
    Redeploy,
    /// Went back to an older revision.
    Rollback,
    /// Changed the number of jobs.
    Scale,
}

impl TriggerKind {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            TriggerKind::Apply => "apply",
            TriggerKind::Deploy => "deploy",
            TriggerKind::Redeploy => "redeploy",
            TriggerKind::Rollback => "rollback",
            TriggerKind::Scale => "scale",
        }
    }
}

/// Why there is a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// What was done.
    pub kind: TriggerKind,
    /// By whom.
    pub by: String,
    /// In words: `image shop/web:1.4 -> shop/web:1.5`.
    pub why: String,
}

/// Where a deployment stands. Only moves forward; the last three are ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentPhase {
    /// Recorded.
    Queued,
    /// A node is asked what the image means now.
    Resolving,
    /// The revision has its number; new slots look for nodes. Nothing was changed so far.
    Placing,
    /// Slots get their new jobs, node after node.
    Rolling,
    /// A job failed; slots get back what they had.
    Reverting,
    /// Every slot runs the revision.
    Complete,
    /// A newer deployment took over.
    Superseded,
    /// It did not work; the service is what it was before.
    Failed,
}

impl DeploymentPhase {
    /// Whether it has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, DeploymentPhase::Complete | DeploymentPhase::Superseded | DeploymentPhase::Failed)
    }
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            DeploymentPhase::Queued => "queued",
            DeploymentPhase::Resolving => "resolving",
            DeploymentPhase::Placing => "placing",
            DeploymentPhase::Rolling => "rolling",
            DeploymentPhase::Reverting => "reverting",
            DeploymentPhase::Complete => "complete",
            DeploymentPhase::Superseded => "superseded",
            DeploymentPhase::Failed => "failed",
        }
    }
}

/// Bringing a service to a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its id, which assignments and reports carry.
    pub id: DeploymentId,
    /// Whose.
    pub service: ServiceId,
    /// Counts the service's deployments from 1.
    pub number: u32,
    /// Why.
    pub trigger: Trigger,
    /// What shall run; the scale in it is the wanted number of jobs.
    pub spec: ServiceSpec,
    /// The revision, once it is known. From the start when no image has to be resolved.
    pub revision: Option<u32>,
    /// Jobs of deployments before this one are replaced even if they run the revision: a redeploy gives every slot a new
    /// job. None when a job that runs the revision may stay.
    pub renew_from: Option<u32>,
    /// The revision that was active when it was recorded.
    pub from: Option<u32>,
    /// Where it stands.
    pub phase: DeploymentPhase,
    /// When it entered each phase, oldest first.
    pub reached: Vec<(DeploymentPhase, Wall)>,
    /// Why it failed or had to revert.
    pub failure: Option<DeploymentFailure>,
    /// The last report of each slot's replacement. Sorted by slot.
    pub outcomes: Vec<ReplacementReport>,
}

/// Why a deployment failed: the first failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DeploymentFailure {
    /// A job did not get ready or did not stay so.
    Job {
        /// The slot.
        slot: SlotId,
        /// The node's name.
        node: String,
        /// Why.
        failure: Failure,
    },
    /// The image could not be bound.
    Image {
        /// The whole sentence.
        said: String,
    },
}

impl fmt::Display for DeploymentFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeploymentFailure::Job { slot, node, failure } => {
                write!(f, "{} on {node}: {failure}", slot_word(slot))
            }
            DeploymentFailure::Image { said } => f.write_str(said),
        }
    }
}

/// One of the places to fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its id.
    pub id: SlotId,
    /// Where it is.
    pub node: NodeId,
    /// Who shall fill it; none while it is emptied. When its node has confirmed that, the slot is gone.
    pub job: Option<SlotJob>,
    /// Jobs that may still have the slot on its node, newest first: what to give back when the new one fails.
    pub previous: Vec<SlotJob>,
    /// The number of the node's assignment set that first said so. A report of an older one is no evidence.
    pub generation: u64,
    /// How it went, once the node has reported that; none while it is under way.
    pub outcome: Option<SlotOutcome>,
    /// The deployment that gave it back what it had, when one failed: each does so once.
    pub reverted_by: Option<u32>,
}

/// How it went with the job that a slot was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum SlotOutcome {
    /// It fills the slot alone. How it is now is a reading.
    Settled,
    /// It did not get ready or did not stay so.
    Failed {
        /// Why.
        failure: Failure,
        /// The job that has the slot again.
        old: Option<JobId>,
    },
}

/// A job as its slot knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotJob {
    /// The job.
    pub job: JobId,
    /// What it runs.
    pub revision: u32,
    /// Who asked for it.
    pub deployment: DeploymentId,
    /// That deployment's number.
    pub deployment_number: u32,
}

/// What an operator wants of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// It may get jobs.
    #[default]
    Open,
    /// It keeps its jobs and gets no new ones.
    Cordoned(Cordon),
}

impl Wish {
    /// The cordon, if there is one.
    pub const fn cordon(&self) -> Option<&Cordon> {
        match self {
            Wish::Open => None,
            Wish::Cordoned(cordon) => Some(cordon),
        }
    }
}

/// Who keeps new jobs from a node, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cordon {
    /// The operator.
    pub by: String,
    /// Why, in the operator's words, if any were given.
    pub reason: Option<String>,
    /// Since when.
    pub since: Wall,
}

impl fmt::Display for Cordon {
    /// `cordoned by alice: disk swap`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cordoned by {}", self.by)?;
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// A machine that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Unique in the cluster.
    pub name: String,
    /// As in image platforms: `amd64`, `arm64`.
    pub architecture: String,
    /// What operators say of the machine, for the constraints of services. An agent cannot set them.
    pub labels: BTreeMap<String, String>,
    /// What the operator wants of it.
    pub wish: Wish,
    /// When it joined.
    pub joined: Wall,
    /// The boot of its machine that was last seen.
    pub boot: Option<BootId>,
    /// What it has to give, as last reported.
    pub capacity: Capacity,
    /// The number of its assignment set, bumped in the same change as any of its slots.
    pub generation: u64,
    /// The fingerprint of the key that it joined with.
    pub key: String,
    /// Whether its certificate is believed.
    #[serde(default)]
    pub standing: Standing,
    /// The boots that it has shown, newest last; each change is one entry, the last eight are kept.
    #[serde(default)]
    pub boots: Vec<BootId>,
    /// What it asked for after its certificate had ended.
    #[serde(default)]
    pub returning: Option<Returning>,
}

/// Whether a node's certificate is believed, whatever its dates say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is.
    #[default]
    Good,
    /// It is not, for good: an operator revoked it.
    Revoked,
    /// It is not, until an operator says so: two machines showed it by turns.
    Quarantined,
}

impl Standing {
    /// The word for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Good => "good",
            Standing::Revoked => "revoked",
            Standing::Quarantined => "quarantined",
        }
    }
}

/// A node whose certificate has ended and that wants another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returning {
    /// The fingerprint of its key: SHA-256 of the public key, in hexadecimal.
    pub key: String,
    /// When its certificate ended.
    pub ended: Wall,
    /// When it first asked.
    pub asked: Wall,
    /// From where.
    pub address: String,
    /// What an operator said.
    pub answer: ReturnAnswer,
}

/// What an operator said to a node that wants to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReturnAnswer {
    /// Nothing yet.
    Waiting,
    /// Yes, to this key. Used up by the node's next session.
    Admitted,
    /// No, to this key.
    Refused,
}

/// A node given to an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allotment {
    /// To whom.
    pub environment: EnvironmentId,
    /// Which node.
    pub node: NodeId,
    /// When.
    pub created: Wall,
}

/// A ticket for one node. Its secret is not stored, only the secret's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// When.
    pub created: Wall,
    /// By whom.
    pub by: String,
    /// From then on it is of no use.
    pub expires: Wall,
    /// The node is allotted to this environment when it joins.
    pub environment: Option<EnvironmentId>,
    /// The only name that the node may have.
    pub node_name: Option<String>,
    /// Where the node must come from, as `10.0.0.0/8`. Checked at the rim, which knows the address.
    pub cidr: Option<String>,
    /// Who used it.
    pub used_by: Option<NodeId>,
}

/// What an operator shows. Its secret is not stored, only the secret's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// The operator's name, unique among tokens: `by` of what is done with it.
    pub name: String,
    /// When.
    pub created: Wall,
    /// Who made it.
    #[serde(default)]
    pub by: String,
    /// What its holder is. Tokens of before there were roles could do everything.
    #[serde(default = "admin")]
    pub role: Role,
    /// Where.
    #[serde(default)]
    pub scope: TokenScope,
    /// From then on it is of no use; none for one that does not end by itself.
    #[serde(default)]
    pub expires: Option<Wall>,
}

const fn admin() -> Role {
    Role::Admin
}

impl OperatorToken {
    /// Whether it is still of use.
    pub fn is_good(&self, now: Wall) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// Where a token is good: by ids, so that a namesake that comes after something was removed is not what was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenScope {
    /// Everywhere.
    #[default]
    Organization,
    /// In an application and its environments.
    Application(ApplicationId),
    /// In one environment.
    Environment(EnvironmentId),
}

/// A request that was carried out and had an idempotency key: what to answer when it arrives again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneRequest {
    /// Whose.
    pub token: TokenId,
    /// The key.
    pub key: String,
    /// Tells the request from others under the same key.
    pub digest: String,
    /// When it was carried out.
    pub at: Wall,
    /// What came of it.
    pub answer: Answer,
    /// What was worth a word.
    pub warnings: Vec<String>,
}
