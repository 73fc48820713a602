//! Nodes as they are stored, and to whom they are given.

use crate::ids::{BootId, EnvironmentId, NodeId};
use crate::report::Capacity;
use crate::time::Wall;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

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
