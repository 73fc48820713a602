//! What people want of a service besides its spec: that it runs or is paused, and that nobody gives it new jobs.

use crate::ids::NodeId;
use crate::time::Wall;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What a service is wanted to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Wanted {
    /// As its active revision says.
    #[default]
    Running,
    /// Without a job.
    Paused(Pause),
    /// Running again: until each of its slots has a job of which it is known how it went.
    Resuming(Resumption),
}

/// Who keeps a service without jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who did it.
    pub by: String,
    /// Why, if they said so.
    pub reason: Option<String>,
    /// When.
    pub since: Wall,
    /// Where its slots were: each slot's number and its node. Sorted.
    pub homes: Vec<(u32, NodeId)>,
    /// A spec was applied meanwhile, which the end of the pause deploys.
    pub applied: bool,
}

/// Who ended a pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumption {
    /// Who did it.
    pub by: String,
    /// When.
    pub since: Wall,
    /// Where its slots were before the pause, as `Pause::homes`.
    pub homes: Vec<(u32, NodeId)>,
}

impl Wanted {
    /// The pause, if there is one.
    pub const fn pause(&self) -> Option<&Pause> {
        match self {
            Wanted::Paused(pause) => Some(pause),
            Wanted::Running | Wanted::Resuming(_) => None,
        }
    }

    /// The node of a slot of this number before a pause: where it goes first.
    pub fn home_of(&self, number: u32) -> Option<NodeId> {
        self.homes().iter().find(|(of, _)| *of == number).map(|(_, node)| *node)
    }

    /// Where slots were before a pause.
    pub fn homes(&self) -> &[(u32, NodeId)] {
        match self {
            Wanted::Running => &[],
            Wanted::Paused(Pause { homes, .. }) | Wanted::Resuming(Resumption { homes, .. }) => homes,
        }
    }
}

impl fmt::Display for Pause {
    /// `paused by alice: new disks`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "paused by {}", self.by)?;
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

/// Who keeps people from giving a service's slots new jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRedeployable {
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub since: Wall,
}

impl fmt::Display for NotRedeployable {
    /// `not redeployable, by alice: the migration runs until Friday`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not redeployable, by {}: {}", self.by, self.reason)
    }
}
