//! The operators' HTTPS interface: JSON in and out, server-sent events for what goes on, WebSocket for streams to jobs.
//!
//! Every request but `GET /v1/version` shows an operator's token; `endpoints` says for each address what the token must
//! give. A mutation is answered when it is on disk.

mod applications;
mod audit;
mod authority;
mod body;
mod caller;
mod conditions;
mod counted;
mod endpoints;
mod events;
mod extract;
mod first_words;
mod limits;
mod logs;
mod nodes;
pub mod openapi;
mod page;
mod pauses;
mod problem;
mod quotas;
mod runs;
mod server;
mod services;
mod spec;
mod tokens;
mod tunnels;
mod values;
mod views;
mod websocket;
mod wishes;

pub use caller::Rule;
pub use endpoints::{Endpoint, endpoints, router};
pub use limits::RateLimit;
pub use problem::{ApiError, Kind};
pub use server::serve;

use crate::ca::Ca;
use crate::control::Sessions;
use crate::engine::{CommandError, Engine};
use crate::metrics::Metrics;
use crate::store::EventLog;
use crate::vault::Vault;
use lapstrake_core::cluster::command::{Refusal, RefusalKind};
use lapstrake_core::ids::ClusterId;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// What every answer may need.
pub struct Office {
    /// The single writer.
    pub engine: Engine,
    /// A reader of the event log; a connection serves one at a time, and a page of events takes it a millisecond.
    pub event_log: Mutex<EventLog>,
    /// The way to the nodes, for their jobs' output.
    pub sessions: Arc<Sessions>,
    /// The cluster.
    pub cluster: ClusterId,
    /// The organization's name.
    pub organization: String,
    /// The certificate authority, which tokens pin.
    pub ca: Arc<Ca>,
    /// The master keys.
    pub vault: Arc<Vault>,
    /// Where agents join: `host:port`.
    pub control_address: String,
    /// The controller stops: answers that go on end now, without the word that says that there is no more.
    pub stopping: CancellationToken,
    /// How often who asks.
    pub rate: RateLimit,
    /// A stream to a job on which nothing is said for so long is ended.
    pub tunnel_idle_seconds: u64,
    /// What is counted of them.
    pub metrics: Arc<Metrics>,
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> ApiError {
        match error {
            CommandError::Refused(refusals) => from_refusals(&refusals),
            CommandError::NotStored(_) | CommandError::Stopping => ApiError::unavailable(error.to_string()),
        }
    }
}

/// The worst of several refusals gives the status: what is wrong in the request itself comes before what stands against it.
fn from_refusals(refusals: &[Refusal]) -> ApiError {
    let sentence = |refusal: &Refusal| match &refusal.hint {
        Some(hint) => format!("{} ({hint})", refusal.sentence),
        None => refusal.sentence.clone(),
    };
    let detail = refusals.iter().map(sentence).collect::<Vec<_>>().join("; ");
    let has = |kind: RefusalKind| refusals.iter().any(|refusal| refusal.kind == kind);
    if has(RefusalKind::KeyReused) {
        ApiError::new(Kind::KeyReused, detail)
    } else if has(RefusalKind::Changed) {
        ApiError::new(Kind::Changed, detail)
    } else if has(RefusalKind::Unauthenticated) {
        ApiError::unauthorized(detail)
    } else if has(RefusalKind::Forbidden) {
        ApiError::forbidden(detail)
    } else if has(RefusalKind::Invalid) {
        ApiError::invalid(detail, Vec::new())
    } else if has(RefusalKind::NotFound) {
        ApiError::not_found(detail)
    } else {
        ApiError::refused(detail)
    }
}
