//! One-off jobs as they are stored: a command that runs once with what a revision has.

use crate::ids::{DeploymentId, JobId, NodeId, ServiceId, SlotId};
use crate::report::Failure;
use crate::time::{Millis, Wall};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// A job that runs a command once. It has its node for life, takes no traffic and fills no slot of its service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneOff {
    /// Whose.
    pub service: ServiceId,
    /// Counts the service's one-off jobs from 1.
    pub number: u32,
    /// What for.
    pub purpose: Purpose,
    /// Who asked.
    pub by: String,
    /// When.
    pub created: Wall,
    /// The job.
    pub job: JobId,
    /// An id of its own, and no deployment's, so that it paces nothing.
    pub deployment: DeploymentId,
    /// Where it runs.
    pub node: NodeId,
    /// The number of the node's assignment set that first said so, or last said something else of it.
    pub generation: u64,
    /// Whose image and settings it has.
    pub revision: u32,
    /// The number of the deployment whose values it gets.
    pub bound_by: u32,
    /// What runs, in place of the revision's command.
    pub command: Vec<String>,
    /// Environment variables besides the revision's, and before them.
    pub env: BTreeMap<String, String>,
    /// How long it may run.
    pub timeout: Millis,
    /// Why it shall end before it does by itself.
    pub stop: Option<String>,
    /// How it ended.
    pub end: Option<OneOffEnd>,
}

/// What a one-off job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Purpose {
    /// The release command of a deployment.
    Release {
        /// Its number.
        deployment: u32,
    },
    /// Somebody asked for it with `lap run`.
    Run,
}

/// The end of a one-off job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneOffEnd {
    /// When the controller heard of it.
    pub at: Wall,
    /// How it went.
    pub how: Ending,
}

/// How it went with a one-off job. Its `Display` is a part of a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Ending {
    /// Its process ended with exit code 0.
    Succeeded,
    /// It ended otherwise, or never began.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// It was stopped.
    Stopped {
        /// Why.
        why: String,
    },
    /// Nobody can tell: it may have run to its end.
    Unknown {
        /// The whole sentence.
        said: String,
    },
}

impl Purpose {
    /// The target of its slot.
    pub const fn target(self) -> &'static str {
        match self {
            Purpose::Release { .. } => "release",
            Purpose::Run => "run",
        }
    }
}

impl OneOffEnd {
    /// Whether it may run still, on a node that nobody hears.
    pub const fn is_unknown(&self) -> bool {
        matches!(self.how, Ending::Unknown { .. })
    }
}

impl OneOff {
    /// The slot that it has for itself.
    pub fn slot(&self) -> SlotId {
        SlotId { service: self.service, target: self.purpose.target().into(), number: self.number }
    }

    /// Whether it has not ended as far as is known.
    pub const fn is_under_way(&self) -> bool {
        self.end.is_none()
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Succeeded => f.write_str("it ended with exit code 0"),
            Ending::Failed { failure } => failure.fmt(f),
            Ending::Stopped { why } => write!(f, "it was stopped: {why}"),
            Ending::Unknown { said } => f.write_str(said),
        }
    }
}
