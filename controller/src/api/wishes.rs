//! What operators want of nodes, and what they say of them.

use super::caller::Caller;
use super::extract::Path;
use super::problem::ApiError;
use super::{Office, body};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use lapstrake_api::{ask, view};
use lapstrake_core::cluster::command::{Answer, Command, Outcome};
use std::sync::Arc;

/// `POST /v1/nodes/{node}/cordon`: keeps new jobs from it.
pub async fn cordon(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(node): Path<String>,
    body: Body,
) -> Result<Json<view::Noted>, ApiError> {
    let ask::Cordon { reason } = body::json(body).await?;
    let carried = office.carry_out(&caller, Command::CordonNode { node, reason }).await?;
    Ok(Json(noted(carried.outcome)))
}

/// `DELETE /v1/nodes/{node}/cordon`: lets new jobs come to it again.
pub async fn uncordon(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(node): Path<String>,
) -> Result<Json<view::Noted>, ApiError> {
    let carried = office.carry_out(&caller, Command::UncordonNode { node }).await?;
    Ok(Json(noted(carried.outcome)))
}

/// `POST /v1/nodes/{node}/labels`.
pub async fn label(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(node): Path<String>,
    body: Body,
) -> Result<Json<view::Noted>, ApiError> {
    let ask::Labels { set, remove } = body::json(body).await?;
    let carried = office.carry_out(&caller, Command::LabelNode { node, set, remove }).await?;
    Ok(Json(noted(carried.outcome)))
}

/// What came of a command that answers nothing else.
pub(super) fn noted(outcome: Outcome) -> view::Noted {
    view::Noted { changed: outcome.answer != Answer::Unchanged, warnings: outcome.warnings }
}
