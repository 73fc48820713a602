//! What one node should run: the controller's word to an agent.
//!
//! An assignment set is complete: a slot that it does not name is not wanted here. It is state, not a queue; a slow agent
//! gets the newest one. The generation orders them, and an agent refuses an older one than its ledger holds.

pub mod bytes;

use crate::ids::{ApplicationId, DeploymentId, EnvironmentId, EpochId, JobId, SlotId, ValueId};
use crate::spec::{ServiceSpec, WhenCutOff};
use crate::time::Millis;
use crate::values::{Binding, GivenValue, Place};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Orders assignment sets. A restored store mints an epoch, because its numbers may repeat ones that were sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Which life of the store.
    pub epoch: EpochId,
    /// From 1; per node; never goes back within an epoch.
    pub number: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

/// All that one node should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentSet {
    /// Orders the sets.
    pub generation: Generation,
    /// Whether a slot that is missing here shall be stopped. False until this epoch's controller has acknowledged the
    /// agent's inventory, so that a restored store stops nothing that it forgot.
    pub stop_absent: bool,
    /// Sorted by slot, each slot once.
    pub assignments: Vec<Assignment>,
    /// The values that these assignments name, each once.
    pub values: BTreeMap<ValueId, GivenValue>,
    /// The images that stay on the node besides those of the assignments. None from a controller that does not say it; then every
    /// image stays.
    #[serde(default)]
    pub kept_images: Option<KeptImages>,
}

/// Images that stay on a node, by `BoundImage::pinned`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptImages {
    /// Of the revisions that its services may go back to.
    pub all: BTreeSet<String>,
    /// Those of them that a full disk does not take either: a paused service resumes with them, a deployment that fails goes back to
    /// them, and one that goes on comes to nodes that have them from before. Empty also from a controller that does not say which they
    /// are.
    pub firm: BTreeSet<String>,
}

/// One slot and the job that shall fill it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The place.
    pub slot: SlotId,
    /// Who shall fill it.
    pub job: JobId,
    /// The deployment that wants it.
    pub deployment: DeploymentId,
    /// What it runs.
    pub run: RunSpec,
    /// What of the slot's traffic its job gets before it takes the slot over.
    #[serde(default)]
    pub traffic: Traffic,
    /// Set when its job is to run once: it gets no traffic and no successor, and what has ended is not started again.
    #[serde(default)]
    pub once: Option<Once>,
}

/// A job that runs once and ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// How long its process may run.
    pub timeout: Millis,
    /// How long it may take until its process runs.
    pub start_timeout: Millis,
    /// It shall end, or not begin. It is still named, so that its container is kept for who reads its output.
    pub stop: bool,
}

/// Whether a new job takes its slot's traffic over as soon as it is ready. What holds it back is the controller's word
/// alone, so that the nodes of a service move together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// It does.
    #[default]
    Full,
    /// It waits without any, beside the old one; past the deployment's `timeout` it is given up.
    Held,
    /// It waits beside the old one, and all of the service's waiting jobs on the node get so many percent of the requests
    /// together, 1 to 99. It waits for as long as the controller says nothing else.
    Share(u32),
}

/// All that a node must know to run a job, without asking anybody. Held sealed by the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// For labels, the bridge and the rules between environments.
    pub environment: EnvironmentId,
    /// For labels.
    pub application: ApplicationId,
    /// `shop/production/web`, for people.
    pub path: ServicePath,
    /// The number of the revision: r7.
    pub revision: u32,
    /// The image as the revision binds it.
    pub image: BoundImage,
    /// The snapshot of the spec.
    pub spec: ServiceSpec,
    /// The host that leads to each public port, in the order of `spec.ports`; `None` for the others.
    pub hosts: Vec<Option<String>>,
    /// The secrets and variables that the job gets besides `spec.env`. Sorted, each place once.
    #[serde(default)]
    pub values: Vec<Binding>,
}

impl RunSpec {
    /// The credentials that its image is pulled with, if a registry's are among its values.
    pub fn registry_login(&self) -> Option<ValueId> {
        self.values.iter().find(|one| one.place == Place::Registry).map(|one| one.value)
    }
    /// What the agent does with it when cut off.
    pub const fn when_cut_off(&self) -> WhenCutOff {
        self.spec.when_cut_off
    }
    /// The longest that a replacement by this job may take until it is ready.
    pub const fn timeout(&self) -> Millis {
        self.spec.deploy.timeout
    }
}

/// The address that people use for a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePath {
    /// The application's name.
    pub application: String,
    /// The environment's name.
    pub environment: String,
    /// The service's name.
    pub service: String,
}

impl fmt::Display for ServicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.application, self.environment, self.service)
    }
}

/// An image that cannot change any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum BoundImage {
    /// From a registry: `registry.example.com/shop/web@sha256:…`.
    Digest {
        /// What the person wrote, for display.
        reference: String,
        /// The repository without tag, then `@`, then the index digest: what is pulled.
        pinned: String,
    },
    /// On the nodes themselves: `sha256:…`.
    Id {
        /// What the person wrote, for display.
        reference: String,
        /// The engine's image id.
        id: String,
    },
}

impl BoundImage {
    /// What the person wrote.
    pub fn reference(&self) -> &str {
        match self {
            BoundImage::Digest { reference, .. } | BoundImage::Id { reference, .. } => reference,
        }
    }
    /// What the engine is asked for.
    pub fn pinned(&self) -> &str {
        match self {
            BoundImage::Digest { pinned, .. } => pinned,
            BoundImage::Id { id, .. } => id,
        }
    }
}
