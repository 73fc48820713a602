//! The operators' HTTPS interface: JSON in and out, server-sent events for what goes on.
//!
//! Every request but `GET /v1/version` shows an operator's token. A mutation is answered when it is on disk.

mod applications;
mod body;
mod caller;
mod events;
mod extract;
mod logs;
mod nodes;
mod problem;
mod server;
mod services;
mod spec;
mod views;

pub use problem::ApiError;
pub use server::serve;

use crate::control::Sessions;
use crate::engine::{CommandError, Engine};
use crate::store::EventLog;
use axum::Router;
use axum::routing::{delete, get, post};
use lapstrake_core::cluster::command::{Refusal, RefusalKind};
use lapstrake_core::ids::ClusterId;
use lapstrake_pki::fingerprint::Fingerprint;
use std::sync::{Arc, Mutex};

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
    /// What tokens pin.
    pub authority: Fingerprint,
    /// Where agents join: `host:port`.
    pub control_address: String,
}

/// All routes.
pub fn router(office: Arc<Office>) -> Router {
    Router::new()
        .route("/v1/version", get(applications::version))
        .route("/v1/apps", get(applications::list).post(applications::create))
        .route("/v1/envs", get(applications::environments).post(applications::create_environment))
        .route("/v1/envs/{app}/{env}/nodes", post(nodes::attach))
        .route("/v1/envs/{app}/{env}/nodes/{node}", delete(nodes::detach))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{node}", get(nodes::show).delete(nodes::remove))
        .route("/v1/node-tokens", post(nodes::create_token))
        .route("/v1/plan", post(spec::plan))
        .route("/v1/apply", post(spec::apply))
        .route("/v1/jobs", get(services::jobs))
        .route("/v1/services", get(services::list))
        .route("/v1/services/{app}/{env}/{service}", get(services::show).delete(services::remove))
        .route("/v1/services/{app}/{env}/{service}/why", get(services::why))
        .route("/v1/services/{app}/{env}/{service}/deployments", get(services::deployments))
        .route("/v1/services/{app}/{env}/{service}/deployments/{number}", get(services::deployment))
        .route("/v1/services/{app}/{env}/{service}/deploy", post(services::deploy))
        .route("/v1/services/{app}/{env}/{service}/redeploy", post(services::redeploy))
        .route("/v1/services/{app}/{env}/{service}/rollback", post(services::rollback))
        .route("/v1/services/{app}/{env}/{service}/scale", post(services::scale))
        .route("/v1/services/{app}/{env}/{service}/logs", get(logs::stream))
        .route("/v1/events", get(events::list))
        .fallback(async || ApiError::not_found("there is no such address; the interface begins at /v1/"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed("this address does not know the method"))
        .with_state(office)
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
    if has(RefusalKind::Invalid) {
        ApiError::invalid(detail, Vec::new())
    } else if has(RefusalKind::NotFound) {
        ApiError::not_found(detail)
    } else {
        ApiError::refused(detail)
    }
}
