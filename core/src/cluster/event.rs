//! What happened, for the appended log that people and programs follow.

use crate::access::Scope;
use crate::time::Wall;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// What kind of thing happened. Programs match on it; people read the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The domain of default hosts is another one.
    DomainChanged,
    /// An application was created.
    ApplicationCreated,
    /// An environment was created.
    EnvironmentCreated,
    /// What an environment allows was changed.
    PolicyChanged,
    /// A service was created.
    ServiceCreated,
    /// A service is paused or resumed, or may be redeployed or not.
    ServiceWish,
    /// A service shall be removed.
    ServiceRemoving,
    /// A service is gone.
    ServiceRemoved,
    /// A deployment entered a phase.
    Deployment,
    /// The replacement of a slot's job entered a phase.
    Replacement,
    /// A one-off job began or ended.
    OneOff,
    /// A slot got another node.
    SlotMoved,
    /// A node joined.
    NodeJoined,
    /// A node is heard of again, is silent, or is lost.
    NodeLiveness,
    /// Something about a node that its operator should look at.
    NodeTrouble,
    /// A node's certificate is not believed any more, is believed again, or has ended and the node wants another one.
    NodeStanding,
    /// A node was removed.
    NodeRemoved,
    /// What an operator wants of a node was changed.
    NodeWish,
    /// A node's labels were changed.
    NodeLabels,
    /// A secret or a variable was set or removed.
    Value,
    /// A quota was set.
    Quota,
    /// The root of the certificate authority is being replaced, or was.
    Authority,
    /// A node was given to an environment, or taken back.
    Allotment,
    /// A join token was created.
    JoinTokenCreated,
    /// An operator's token was created.
    OperatorTokenCreated,
    /// An operator's token was removed.
    OperatorTokenRemoved,
    /// The store takes changes again that it did not take.
    Store,
}

/// The path of what is about the organization.
pub const ORGANIZATION: &str = "organization";

impl EventKind {
    /// Where it belongs, which says who may read it: what is about nodes and tokens, to the organization, whatever they
    /// are called; all else to the path that it is about.
    pub fn scope(self, path: &str) -> Scope {
        match self {
            EventKind::DomainChanged
            | EventKind::NodeJoined
            | EventKind::NodeLiveness
            | EventKind::NodeTrouble
            | EventKind::NodeStanding
            | EventKind::Authority
            | EventKind::NodeRemoved
            | EventKind::NodeWish
            | EventKind::NodeLabels
            | EventKind::JoinTokenCreated
            | EventKind::OperatorTokenCreated
            | EventKind::OperatorTokenRemoved
            | EventKind::Store => Scope::Organization,
            EventKind::Value if path == ORGANIZATION => Scope::Organization,
            EventKind::ApplicationCreated
            | EventKind::EnvironmentCreated
            | EventKind::Value
            | EventKind::PolicyChanged
            | EventKind::ServiceCreated
            | EventKind::ServiceWish
            | EventKind::ServiceRemoving
            | EventKind::ServiceRemoved
            | EventKind::Deployment
            | EventKind::Replacement
            | EventKind::OneOff
            | EventKind::SlotMoved
            | EventKind::Quota
            | EventKind::Allotment => Scope::of_path(path),
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What kind.
    pub kind: EventKind,
    /// What it is about: `shop/production/web`, `shop/production`, `shop`, `node/<name>`, or `organization`.
    pub path: String,
    /// What happened, for people.
    pub sentence: String,
    /// When.
    pub wall: Wall,
    /// Who did it; none for what the controller did by itself.
    pub by: Option<String>,
}
