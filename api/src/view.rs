//! What the controller answers: the JSON that `lap`, pages and other programs read.
//!
//! Times are milliseconds since 1970 (UTC), sizes are bytes, processor shares are thousandths of a core. Fields are only
//! ever added. Words such as states and phases are lower-case with hyphens.

mod application;
mod audit;
mod authority;
mod change;
mod deployment;
mod event;
mod node;
mod quota;
mod service;
mod token;
mod value;

pub use application::{Application, Environment, Policy};
pub use audit::{AuditHead, AuditRow};
pub use authority::{Authority, Root, Rotation, RotationWait};
pub use change::{Changes, FieldChange, ServiceChange};
pub use deployment::{Canary, Deployment, Moment, SlotTimeline};
pub use event::{Event, LogLine};
pub use node::{Amount, Cordon, JoinToken, Node, Noted, Returning};
pub use quota::{Quota, Share};
pub use service::{Hold, Job, OneOff, Service, Why};
pub use token::{Identity, NewOperatorToken, OperatorToken};
pub use value::{MasterKey, Value};

use serde::{Deserialize, Serialize};

/// `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Version {
    /// The controller's version.
    pub version: String,
    /// The cluster's id.
    pub cluster: String,
    /// The organization's name.
    pub organization: String,
}

/// `GET /v1/controller`: the controller itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Controller {
    /// Why the store did not take the last change, as `the store cannot take a change: database or disk is full`; none if it did, or if
    /// it takes changes again.
    pub not_stored: Option<String>,
}

/// An answer that is an error, as RFC 9457 shapes it (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// The kind of problem, for programs: `/problems/NAME`, relative to the controller, which serves a page about it.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and what to do next.
    pub detail: String,
    /// Names this one occurrence, `urn:lapstrake:problem:ID`; the controller's log has it too.
    #[serde(default)]
    pub instance: String,
    /// Every mistake of a spec, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// A mistake in a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mistake {
    /// From 1; 0 when it is about the whole.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// How many characters the caret underlines.
    pub width: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}
