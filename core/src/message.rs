//! What controller and agent say to each other on a session, in the words of the decisions.
//!
//! The wire's generated types are turned into these at the edge (`proto/convert.rs`) and nowhere else; the simulator
//! carries these themselves.

use crate::assignment::AssignmentSet;
use crate::ids::{BootId, ClusterId, EpochId, JobId, NodeId, RequestId, ServiceId, SessionId, ValueId};
use crate::report::{NodeReport, Use};
use crate::root::RootId;
use crate::spec::ImageSource;
use crate::time::{Millis, Wall};
use crate::values::GivenValue;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The agent's first word in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which cluster it believes to belong to.
    pub cluster: ClusterId,
    /// Which node it is; must agree with its certificate.
    pub node: NodeId,
    /// Which boot of the machine; two that take turns under one node id are twins.
    pub boot: BootId,
    /// The agent's version, for people and for later compatibility.
    pub version: String,
    /// Processor architecture as in image platforms: `amd64`, `arm64`.
    pub architecture: String,
    /// Its clock, so that the controller can warn of a skew.
    pub wall: Wall,
    /// The whole picture: the inventory.
    pub report: NodeReport,
}

/// What the agent says in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentWord {
    /// First, once.
    Hello(Hello),
    /// Every `Welcome::heartbeat`. Numbered from 1 within the session.
    Heartbeat {
        /// Counts up, so that an answer can be matched with the time of sending.
        number: u64,
        /// What the machine uses now.
        used: Use,
    },
    /// After every change, whole; the newest is right.
    Report(NodeReport),
    /// After the welcome, and whenever it changes: what the controller has to know to replace its root.
    Credentials(Credentials),
    /// The answer to `ControllerWord::ResolveImage`.
    ImageResolved {
        /// Which question.
        request: RequestId,
        /// What the engine is to be asked for from now on, or why there is none.
        outcome: Result<ResolvedImage, String>,
    },
}

/// What an agent says of its own certificate and of whom it trusts. The sentence is about itself: a lie harms nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Credentials {
    /// The roots that it trusts.
    pub roots: Vec<RootId>,
    /// The root that signed its newest certificate; none if it is none of those.
    pub issuer: Option<RootId>,
}

/// What a tag meant when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// `repository@sha256:…` for `pull: registry`, `sha256:…` for `pull: local`.
    pub pinned: String,
}

/// Which part of a job's output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRange {
    /// So many of the last lines first; `None` for all.
    pub tail: Option<u32>,
    /// Only lines of this time and later, by the engine's clock; `None` for all.
    pub since: Option<Wall>,
    /// Whether to go on when the end is reached.
    pub follow: bool,
}

/// What the controller says in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerWord {
    /// First, once: the inventory is recorded, the session is the node's only one.
    Welcome {
        /// This registration.
        session: SessionId,
        /// The epoch whose controller has acknowledged the inventory.
        epoch: EpochId,
        /// How long the agent may count on being known after sending a heartbeat that was answered.
        lease: Millis,
        /// How often to send a heartbeat.
        heartbeat: Millis,
        /// The certificates that the agent shall trust from now on, PEM.
        trust: String,
    },
    /// The heartbeat of this number was received and the lease renewed.
    HeartbeatAnswer {
        /// Which.
        number: u64,
    },
    /// What the node should run from now on.
    Assignments(AssignmentSet),
    /// The certificates that the agent shall trust from now on, and the root that its own certificate should be from; whole,
    /// the newest is right.
    Trust {
        /// PEM.
        trust: String,
        /// One of these. An agent whose certificate is of another one renews it soon.
        issuer: RootId,
    },
    /// Where jobs of the node's public services run besides here; whole, the newest is right.
    Elsewhere(Vec<Elsewhere>),
    /// Ask the engine, or through it the registry, what an image reference means now.
    ResolveImage {
        /// To be given back in the answer.
        request: RequestId,
        /// What to resolve.
        image: ImageSource,
        /// The credentials for its registry, if there are any.
        login: Option<(ValueId, GivenValue)>,
    },
    /// Open a `StreamLogs` call for this request.
    SendLogs {
        /// To be named in the call.
        request: RequestId,
        /// Whose output.
        job: JobId,
        /// Which part of it.
        range: LogRange,
        /// Only lines in which this regular expression finds something; none for all.
        grep: Option<String>,
    },
    /// Open a `StreamTunnel` call for this request.
    OpenTunnel {
        /// To be named in the call.
        request: RequestId,
        /// To which job.
        job: JobId,
        /// What for.
        way: Way,
    },
    /// End the `StreamTunnel` call of this request, if there is one: its operator is gone.
    CloseTunnel {
        /// Which.
        request: RequestId,
    },
}

/// What an operator wants of a job, with a stream of its own both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// A command in the job's container.
    Exec(Exec),
    /// A connection to a port of the job.
    Forward {
        /// The port, as the job's service declares it.
        port: u16,
    },
}

/// A command in a job's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The program, then its arguments.
    pub command: Vec<String>,
    /// Whether it has a standard input; without one it reads an end at once.
    pub input: bool,
    /// The terminal that it gets. With one, standard output and error are one stream.
    pub terminal: Option<TerminalSize>,
}

/// How large a terminal is. 0 is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// A public service that runs on other nodes or is paused, so that a proxy without a local job can say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The service.
    pub service: ServiceId,
    /// `shop/production/web`.
    pub path: crate::assignment::ServicePath,
    /// Host and path prefix of each public port.
    pub routes: Vec<(String, String)>,
    /// The nodes' names, sorted.
    pub nodes: Vec<String>,
    /// Whether it is paused.
    #[serde(default)]
    pub paused: bool,
}
