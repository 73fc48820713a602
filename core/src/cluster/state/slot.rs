//! Slots as they are stored, with the jobs that they have and had.

use crate::assignment::Traffic;
use crate::ids::{DeploymentId, JobId, NodeId, SlotId};
use crate::report::Failure;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

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
    /// What its node was told of the job's traffic.
    #[serde(default)]
    pub traffic: Traffic,
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
    /// The number of the deployment whose values it gets: that one, or for a job that goes back, the active one. 0 in
    /// records of a version that had none.
    #[serde(default)]
    pub bound_by: u32,
}
