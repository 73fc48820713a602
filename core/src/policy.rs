//! What an environment allows. Decisions read the policy, never the name of the kind that it came from.

use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Services of one application, counted by name over all its environments: enough for a product, few enough that one
/// application cannot fill a cluster by a mistake in a loop.
pub const SERVICES_PER_APPLICATION: usize = 16;
/// Jobs of one service. One deployment then changes at most 32 slots, 32 nodes and a few more records, which stays below
/// the 100 changes of one batch.
pub const JOBS_PER_SERVICE: u32 = 32;
/// Deployments of one service that are kept for people to read.
pub const DEPLOYMENTS_KEPT: u32 = 50;
/// Revisions of one service that are kept to go back to, besides those in use.
pub const REVISIONS_KEPT: u32 = 10;

/// What kind an application is: which environments it is created with. Not read by any decision afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApplicationKind {
    /// A product with its stages: development, staging, production.
    Project,
}

impl ApplicationKind {
    /// The environments that an application of this kind is created with.
    pub fn environments(self) -> [(&'static str, Policy); 3] {
        match self {
            ApplicationKind::Project => [
                ("development", Policy::default_of("development")),
                ("staging", Policy::default_of("staging")),
                ("production", Policy::default_of("production")),
            ],
        }
    }
}

/// What an environment allows its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// The most jobs of one service.
    pub max_scale: u32,
}

impl Policy {
    /// What an environment starts with: `production` is limited by the quota only, all others by what trying something
    /// out needs.
    pub fn default_of(name: &str) -> Policy {
        match name {
            "production" => Policy { max_scale: JOBS_PER_SERVICE },
            _ => Policy { max_scale: 2 },
        }
    }
}

/// Why a text cannot name an application, an environment, a service or a node; none if it can. A name is a DNS label, as
/// it becomes part of a host: 1 to 40 of `a-z`, `0-9` and `-`, beginning with a letter, not ending with `-`.
pub fn why_not_a_name(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let wrong = if name.is_empty() {
        "a name is empty".into()
    } else if name.len() > 40 {
        alloc::format!("the name \"{name}\" has {} characters; 40 are allowed", name.len())
    } else if let Some(c) = name.chars().find(|c| !legal(*c)) {
        alloc::format!("the name \"{name}\" contains \"{c}\"; a-z, 0-9 and - are allowed")
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        alloc::format!("the name \"{name}\" must begin with a letter and not end with -")
    } else {
        return None;
    };
    Some(wrong)
}
