//! The records: all that the controller stores. Readings are not among them; the agents will report those again.

mod authority;
mod deployment;
mod node;
mod one_off;
mod slot;
mod token;
mod value;
mod wanted;

pub use authority::{Authority, Root, Rotation, RotationStage};
pub use deployment::{Deployment, DeploymentFailure, DeploymentPhase, Trial, Trigger, TriggerKind};
pub use node::{Allotment, Cordon, Node, ReturnAnswer, Returning, Standing, Wish};
pub use one_off::{Ending, OneOff, OneOffEnd, Purpose};
pub use slot::{Slot, SlotJob, SlotOutcome};
pub use token::{JoinToken, OperatorToken, TokenScope};
pub use value::{Value, ValueVersion};
pub use wanted::{NotRedeployable, Pause, Resumption, Wanted};

use crate::assignment::BoundImage;
use crate::cluster::command::Answer;
use crate::ids::{ApplicationId, ClusterId, DeploymentId, EnvironmentId, EpochId, NodeId, ServiceId, TokenId};
use crate::placement::Demand;
use crate::policy::{ApplicationKind, Policy};
use crate::quota::Quota;
use crate::spec::ServiceSpec;
use crate::time::Wall;
use alloc::string::String;
use alloc::vec::Vec;
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
    /// The newest one-off job's number; 0 before the first. Not reused.
    #[serde(default)]
    pub last_one_off: u32,
    /// Whether it runs or is paused.
    #[serde(default)]
    pub wanted: Wanted,
    /// Who keeps people from giving it new jobs; none when they may.
    #[serde(default)]
    pub not_redeployable: Option<NotRedeployable>,
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
