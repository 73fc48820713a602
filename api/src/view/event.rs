//! What happened, and what jobs write.

use serde::{Deserialize, Serialize};

/// One entry of the log of events: `GET /v1/events`, and as server-sent events with `follow=true`, whose id is `number`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Counts up; a watcher resumes after the last that it has.
    pub number: u64,
    /// When.
    pub at_ms: u64,
    /// A word such as `service-created`, `deployment`, `replacement`, `node-liveness`; `history-cut` when what a watcher
    /// missed is not kept any more.
    pub kind: String,
    /// What it is about: a service's path, a node's name.
    pub subject: String,
    /// The sentence.
    pub text: String,
    /// Who did it; none for what the controller did by itself.
    pub by: Option<String>,
}

/// One line of a job's output: `GET /v1/services/…/logs`, as server-sent events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// When the engine took it.
    pub at_ms: u64,
    /// `web.1`.
    pub slot: String,
    /// The node's name.
    pub node: String,
    /// `stdout` or `stderr`; `lapstrake` for a word of ours (a stream that ended, a node that is silent).
    pub stream: String,
    /// The text without its line end; control characters are escaped.
    pub text: String,
}
