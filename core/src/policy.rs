//! What an environment allows. Decisions read the policy, never the name of the kind that it came from.

use crate::quote::quoted;
use crate::spec::{DEFAULT_DEPLOY, DEFAULT_SIZE, ServiceSpec};
use crate::time::Millis;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Services of one application, counted by name over all its environments, unless an operator sets another quota: enough
/// for a product, few enough that one application cannot fill a cluster by a mistake in a loop.
pub const SERVICES_PER_APPLICATION: u64 = 16;
/// Jobs of one service. One deployment then changes at most 32 slots, 32 nodes and a few more records, which stays below
/// the 100 changes of one batch.
pub const JOBS_PER_SERVICE: u32 = 32;
/// Deployments of one service that are kept for people to read.
pub const DEPLOYMENTS_KEPT: u32 = 50;
/// Revisions of one service that are kept to go back to, besides those in use.
pub const REVISIONS_KEPT: u32 = 10;
/// A join token is good for an hour unless its maker says otherwise.
pub const JOIN_TOKEN_LIFE: Millis = Millis::secs(3_600);
/// And never longer than a week: it is a key that lies about in a shell's history.
pub const LONGEST_JOIN_TOKEN_LIFE: Millis = Millis::secs(7 * 24 * 3_600);

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
    /// The fields of a spec that only operators change.
    #[serde(default)]
    pub operator_fields: OperatorFields,
}

/// A field of a spec that a policy may reserve to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorField {
    /// How long old and new jobs are up together.
    Overlap,
    /// How long open connections may last.
    Drain,
    /// SIGTERM to SIGKILL.
    StopGrace,
    /// How long a job must be healthy before it counts as ready.
    MinHealthy,
    /// How long a replacement may take.
    Timeout,
    /// Slots replaced at once on a node beside their old jobs.
    MaxSurge,
    /// Slots replaced at once on a node in place of their old jobs.
    MaxUnavailable,
    /// How new jobs take the place of old ones.
    Strategy,
    /// A job's share of the processor.
    Cpu,
    /// A job's memory.
    Memory,
}

impl OperatorField {
    /// All of them.
    pub const ALL: [OperatorField; 10] = [
        OperatorField::Overlap,
        OperatorField::Drain,
        OperatorField::StopGrace,
        OperatorField::MinHealthy,
        OperatorField::Timeout,
        OperatorField::MaxSurge,
        OperatorField::MaxUnavailable,
        OperatorField::Strategy,
        OperatorField::Cpu,
        OperatorField::Memory,
    ];

    /// As it is written in a spec: `deploy.overlap`.
    pub const fn name(self) -> &'static str {
        match self {
            OperatorField::Overlap => "deploy.overlap",
            OperatorField::Drain => "deploy.drain",
            OperatorField::StopGrace => "deploy.stop_grace",
            OperatorField::MinHealthy => "deploy.min_healthy",
            OperatorField::Timeout => "deploy.timeout",
            OperatorField::MaxSurge => "deploy.max_surge",
            OperatorField::MaxUnavailable => "deploy.max_unavailable",
            OperatorField::Strategy => "deploy.strategy",
            OperatorField::Cpu => "size.cpu",
            OperatorField::Memory => "size.memory",
        }
    }

    /// From its name.
    pub fn named(name: &str) -> Option<OperatorField> {
        OperatorField::ALL.into_iter().find(|field| field.name() == name)
    }

    /// What a spec says there, as a number that only equals itself.
    pub const fn value(self, spec: &ServiceSpec) -> u64 {
        match self {
            OperatorField::Overlap => spec.deploy.overlap.0,
            OperatorField::Drain => spec.deploy.drain.0,
            OperatorField::StopGrace => spec.deploy.stop_grace.0,
            OperatorField::MinHealthy => spec.deploy.min_healthy.0,
            OperatorField::Timeout => spec.deploy.timeout.0,
            OperatorField::MaxSurge => spec.deploy.max_surge as u64,
            OperatorField::MaxUnavailable => spec.deploy.max_unavailable as u64,
            OperatorField::Strategy => spec.deploy.strategy as u64,
            OperatorField::Cpu => spec.size.cpu_milli as u64,
            OperatorField::Memory => spec.size.memory_bytes,
        }
    }

    /// What it is in a spec that does not mention it: what a new service has to keep to.
    pub fn default_value(self) -> u64 {
        match self {
            OperatorField::Overlap => DEFAULT_DEPLOY.overlap.0,
            OperatorField::Drain => DEFAULT_DEPLOY.drain.0,
            OperatorField::StopGrace => DEFAULT_DEPLOY.stop_grace.0,
            OperatorField::MinHealthy => DEFAULT_DEPLOY.min_healthy.0,
            OperatorField::Timeout => DEFAULT_DEPLOY.timeout.0,
            OperatorField::MaxSurge => DEFAULT_DEPLOY.max_surge as u64,
            OperatorField::MaxUnavailable => DEFAULT_DEPLOY.max_unavailable as u64,
            OperatorField::Strategy => DEFAULT_DEPLOY.strategy as u64,
            OperatorField::Cpu => DEFAULT_SIZE.cpu_milli as u64,
            OperatorField::Memory => DEFAULT_SIZE.memory_bytes,
        }
    }
}

/// A set of fields, which the store holds as their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "Vec<String>", from = "Vec<String>")]
pub struct OperatorFields(u16);

impl OperatorFields {
    /// Those of it that there are, in their order.
    pub fn iter(self) -> impl Iterator<Item = OperatorField> {
        OperatorField::ALL.into_iter().filter(move |field| self.0 & (1 << *field as u16) != 0)
    }
}

impl FromIterator<OperatorField> for OperatorFields {
    fn from_iter<I: IntoIterator<Item = OperatorField>>(fields: I) -> OperatorFields {
        OperatorFields(fields.into_iter().fold(0, |set, field| set | 1 << field as u16))
    }
}

impl From<OperatorFields> for Vec<String> {
    fn from(fields: OperatorFields) -> Vec<String> {
        fields.iter().map(|field| field.name().into()).collect()
    }
}

impl From<Vec<String>> for OperatorFields {
    /// A name that this version does not know reserves nothing here.
    fn from(names: Vec<String>) -> OperatorFields {
        names.iter().filter_map(|name| OperatorField::named(name)).collect()
    }
}

impl Policy {
    /// What an environment starts with: `production` is limited by the quota only, all others by what trying something
    /// out needs.
    pub fn default_of(name: &str) -> Policy {
        match name {
            "production" => Policy { max_scale: JOBS_PER_SERVICE, operator_fields: OperatorFields::default() },
            _ => Policy { max_scale: 2, operator_fields: OperatorFields::default() },
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
        alloc::format!("the name {} has {} bytes; 40 are allowed", quoted(name), name.len())
    } else if let Some(c) = name.chars().find(|c| !legal(*c)) {
        let mut utf8 = [0; 4];
        let c = quoted(c.encode_utf8(&mut utf8));
        alloc::format!("the name {} contains {c}; a-z, 0-9 and - are allowed", quoted(name))
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        alloc::format!("the name {} must begin with a letter and not end with -", quoted(name))
    } else {
        return None;
    };
    Some(wrong)
}
