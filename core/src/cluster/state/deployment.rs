//! Deployments as they are stored.

use crate::cluster::paths::slot_word;
use crate::cluster::state::one_off::Ending;
use crate::ids::{DeploymentId, ServiceId, SlotId};
use crate::report::{Failure, ReplacementReport};
use crate::spec::ServiceSpec;
use crate::time::Wall;
use crate::values::Bound;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

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
    /// Ended a pause in which a spec was applied, or before which nothing had run.
    Resume,
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
            TriggerKind::Resume => "resume",
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

/// Where a deployment stands. Only moves forward; the last four are ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentPhase {
    /// Recorded.
    Queued,
    /// A node is asked what the image means now.
    Resolving,
    /// The revision has its number; its release command runs, once. No slot was changed so far.
    Preparing,
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
    /// An operator ended it; the service is what it was before.
    Cancelled,
}

impl DeploymentPhase {
    /// Whether it has ended.
    pub const fn is_final(self) -> bool {
        match self {
            DeploymentPhase::Queued
            | DeploymentPhase::Resolving
            | DeploymentPhase::Preparing
            | DeploymentPhase::Placing
            | DeploymentPhase::Rolling
            | DeploymentPhase::Reverting => false,
            DeploymentPhase::Complete
            | DeploymentPhase::Superseded
            | DeploymentPhase::Failed
            | DeploymentPhase::Cancelled => true,
        }
    }
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            DeploymentPhase::Queued => "queued",
            DeploymentPhase::Resolving => "resolving",
            DeploymentPhase::Preparing => "preparing",
            DeploymentPhase::Placing => "placing",
            DeploymentPhase::Rolling => "rolling",
            DeploymentPhase::Reverting => "reverting",
            DeploymentPhase::Complete => "complete",
            DeploymentPhase::Superseded => "superseded",
            DeploymentPhase::Failed => "failed",
            DeploymentPhase::Cancelled => "cancelled",
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
    /// The versions of the secrets and variables that its jobs get; none until they are bound.
    #[serde(default)]
    pub bindings: Option<Vec<Bound>>,
    /// How far it has shown itself; none when its jobs take their slots over as soon as they are ready: from the start, or
    /// since it was released.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// The number of the one-off job that runs its release command, once that was given to a node. It is given once.
    #[serde(default)]
    pub release: Option<u32>,
}

impl Deployment {
    /// Whether it has been in a phase.
    pub fn has_reached(&self, phase: DeploymentPhase) -> bool {
        self.reached.iter().any(|(reached, _)| *reached == phase)
    }
}

/// How far a deployment is that shows itself before it takes over (`blue-green`, `canary`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trial {
    /// Which step of a canary, from 0.
    pub step: u32,
    /// An operator wants it to stay there until it is released.
    pub held: bool,
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
    /// Its secrets and variables could not be bound.
    Values {
        /// The whole sentence.
        said: String,
    },
    /// The image could not be bound.
    Image {
        /// The whole sentence.
        said: String,
    },
    /// Its release command did not end well.
    Release {
        /// The node's name.
        node: String,
        /// How it ended.
        how: Ending,
    },
    /// An operator ended it.
    Cancelled {
        /// Who.
        by: String,
    },
}

impl fmt::Display for DeploymentFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeploymentFailure::Job { slot, node, failure } => {
                write!(f, "{} on {node}: {failure}", slot_word(slot))
            }
            DeploymentFailure::Image { said } | DeploymentFailure::Values { said } => f.write_str(said),
            DeploymentFailure::Release { node, how } => write!(f, "the release command on {node} failed: {how}"),
            DeploymentFailure::Cancelled { by } => write!(f, "{by} cancelled it"),
        }
    }
}
