//! Services that are held: paused, or not redeployable.

use super::caller::Caller;
use super::extract::Path;
use super::problem::ApiError;
use super::services::path_in;
use super::wishes::noted;
use super::{Office, body};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use lapstrake_api::{ask, view};
use lapstrake_core::cluster::command::{Command, Which};
use std::sync::Arc;

type Service = Path<(String, String, String)>;
type Environment = Path<(String, String)>;

fn all_of(Path((application, environment)): Environment) -> Which {
    Which::Environment { application, environment }
}

async fn carry_out(office: &Office, caller: &Caller, command: Command) -> Result<Json<view::Noted>, ApiError> {
    Ok(Json(noted(office.carry_out(caller, command).await?.outcome)))
}

/// `POST /v1/services/{app}/{env}/{service}/pause`.
pub async fn pause(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: Service,
    body: Body,
) -> Result<Json<view::Noted>, ApiError> {
    let ask::Pause { reason } = body::json(body).await?;
    carry_out(&office, &caller, Command::Pause { which: Which::Service(path_in(at)), reason }).await
}

/// `POST /v1/services/{app}/{env}/{service}/resume`.
pub async fn resume(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: Service,
) -> Result<Json<view::Noted>, ApiError> {
    carry_out(&office, &caller, Command::Resume { which: Which::Service(path_in(at)) }).await
}

/// `POST /v1/envs/{app}/{env}/pause`.
pub async fn pause_all(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: Environment,
    body: Body,
) -> Result<Json<view::Noted>, ApiError> {
    let ask::Pause { reason } = body::json(body).await?;
    carry_out(&office, &caller, Command::Pause { which: all_of(at), reason }).await
}

/// `POST /v1/envs/{app}/{env}/resume`.
pub async fn resume_all(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: Environment,
) -> Result<Json<view::Noted>, ApiError> {
    carry_out(&office, &caller, Command::Resume { which: all_of(at) }).await
}

/// `POST /v1/services/{app}/{env}/{service}/not-redeployable`.
pub async fn mark(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: Service,
    body: Body,
) -> Result<Json<view::Noted>, ApiError> {
    let ask::NotRedeployable { reason } = body::json(body).await?;
    carry_out(&office, &caller, Command::SetRedeployable { service: path_in(at), against: Some(reason) }).await
}

/// `DELETE /v1/services/{app}/{env}/{service}/not-redeployable`.
pub async fn unmark(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: Service,
) -> Result<Json<view::Noted>, ApiError> {
    carry_out(&office, &caller, Command::SetRedeployable { service: path_in(at), against: None }).await
}
