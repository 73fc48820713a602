//! What the control channel needs from the controller's engine. Everything that decides is behind it.

use super::outbox::Outbox;
use lapstrake_core::cluster::command::RefusalKind;
use lapstrake_core::cluster::standing::{AskReturn, HelloRefused};
use lapstrake_core::ids::{EpochId, NodeId, RequestId, SessionId, TokenId};
use lapstrake_core::message::{Credentials, Hello, ResolvedImage};
use lapstrake_core::report::{NodeReport, Use};
use lapstrake_core::time::Millis;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::token::SecretHash;
use std::future::Future;
use std::net::IpAddr;

/// What a machine has shown that wants to become a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// The join token's id.
    pub token: TokenId,
    /// The hash of the secret that came with it, to be compared with the stored one.
    pub secret: SecretHash,
    /// The key for which it wants a certificate. A used token and the key that used it give the same node again.
    pub key: Fingerprint,
    /// The name that it should have; `None` for one made from the host name.
    pub name: Option<String>,
    /// The machine's host name.
    pub hostname: String,
    /// The agent's version.
    pub version: String,
    /// Processor architecture as in image platforms.
    pub architecture: String,
    /// From where it came.
    pub address: IpAddr,
}

/// The node that a machine has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
}

/// Why a machine does not become a node. Its `Display` is what the person reads who ran the command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolRefusal {
    /// Decided against. Another try with the same token and the same name is in vain.
    #[error("{sentence}")]
    Refused {
        /// What kind of no.
        kind: RefusalKind,
        /// Why, and what would help.
        sentence: String,
    },
    /// The controller cannot write, or stops. Another try may succeed.
    #[error("the controller cannot take a node now: {0}")]
    Unavailable(String),
}

impl EnrolRefusal {
    /// Whether the token itself is what was wrong, and not, say, the name.
    pub fn is_of_the_token(&self) -> bool {
        matches!(self, EnrolRefusal::Refused { kind: RefusalKind::Refused | RefusalKind::NotFound, .. })
    }
}

/// On what terms a session is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The epoch whose controller has the inventory.
    pub epoch: EpochId,
    /// How long the agent may count on being known after sending a heartbeat that was answered.
    pub lease: Millis,
    /// How often it shall send one.
    pub heartbeat: Millis,
}

/// Why a session is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    /// Decided against. Another try is in vain until somebody does something.
    #[error(transparent)]
    Refused(#[from] HelloRefused),
    /// The controller cannot write, or stops. Another try may succeed.
    #[error("the controller cannot take the session now: {0}")]
    Unavailable(String),
}

/// The engine as the control channel sees it.
///
/// The channel calls for a session in this order: `hello`; any number of `heartbeat`, `report` and `resolved`; `ended`,
/// once. Before the `hello` of a node's next session, its earlier session's `outbox` leads nowhere, but its `ended` may
/// still come later: compare the session.
pub trait Hub: Send + Sync + 'static {
    /// Makes a node, or finds the one that the same token and key made. When it returns, the node is recorded.
    fn enrol(&self, applicant: Applicant) -> impl Future<Output = Result<Enrolled, EnrolRefusal>> + Send;

    /// A machine wanted to become a node, and what it sent could not even be read. Returns when that is recorded.
    fn turned_away(&self, address: IpAddr, said: String) -> impl Future<Output = ()> + Send;

    /// Whether there is a join token of this id, whatever its secret: no secret is told by it.
    fn has_token(&self, token: TokenId) -> impl Future<Output = bool> + Send;

    /// Why this node gets no answer at all: it is not known, revoked or quarantined. Asked at every call, so it must not wait.
    fn refuses(&self, node: NodeId) -> Option<HelloRefused>;

    /// A node whose certificate has ended wants another one; the proof was checked. True when an operator has said yes, false
    /// while the wish waits for one.
    fn ask_return(&self, wish: AskReturn, address: IpAddr) -> impl Future<Output = Result<bool, EnrolRefusal>> + Send;

    /// What a node says of its certificate and of whom it trusts. Must not wait.
    fn credentials(&self, node: NodeId, session: SessionId, credentials: Credentials);

    /// Takes a node's inventory. When it returns, the inventory is recorded, this session is the node's only one, and the
    /// words put into the outbox follow the welcome.
    fn hello(
        &self,
        session: SessionId,
        hello: Hello,
        address: IpAddr,
        outbox: Outbox,
    ) -> impl Future<Output = Result<Terms, HelloRefusal>> + Send;

    /// A sign of life. It is answered when this returns, so it must not wait.
    fn heartbeat(&self, node: NodeId, session: SessionId, used: Use);

    /// The node's newest picture. While this waits, newer pictures replace each other and none is queued.
    fn report(&self, node: NodeId, session: SessionId, report: NodeReport) -> impl Future<Output = ()> + Send;

    /// The answer to a question put into the outbox.
    fn resolved(
        &self,
        node: NodeId,
        session: SessionId,
        request: RequestId,
        outcome: Result<ResolvedImage, String>,
    ) -> impl Future<Output = ()> + Send;

    /// The session has ended, for whatever reason. Must not wait.
    fn ended(&self, node: NodeId, session: SessionId);
}
