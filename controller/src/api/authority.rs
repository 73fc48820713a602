//! The certificate authority: its roots, and how one takes another's place.

use super::caller::Caller;
use super::extract::Query;
use super::nodes::Force;
use super::problem::ApiError;
use super::{Office, views};
use axum::Json;
use axum::extract::State;
use lapstrake_api::view;
use lapstrake_core::cluster::command::Command;
use lapstrake_core::cluster::rotation::AuthorityCommand;
use std::sync::Arc;

/// `GET /v1/authority`.
pub async fn show(_: Caller, State(office): State<Arc<Office>>) -> Result<Json<view::Authority>, ApiError> {
    let seen = office.engine.look(views::authority).await?;
    seen.map(Json).ok_or_else(|| ApiError::not_found("this controller has no authority yet".to_owned()))
}

/// `POST /v1/authority/rotate`.
pub async fn rotate(caller: Caller, State(office): State<Arc<Office>>) -> Result<Json<view::Authority>, ApiError> {
    let unusable = |error: crate::ca::CaError| ApiError::unavailable(format!("a new root was not made: {error}"));
    let next = office.ca.make_next().map_err(unusable)?;
    let id = next.id;
    let command = Command::Authority(AuthorityCommand::Begin(next));
    let carried = office.carry_out(&caller, command).await;
    // Refused, or begun by the same request before: this root is nobody's.
    if carried.as_ref().map_or(true, |carried| carried.again) {
        office.ca.discard(id);
    }
    carried?;
    show(caller, State(office)).await
}

/// `POST /v1/authority/advance?force=true`.
pub async fn advance(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Force { force }): Query<Force>,
) -> Result<Json<view::Authority>, ApiError> {
    office.carry_out(&caller, Command::Authority(AuthorityCommand::Advance { force })).await?;
    show(caller, State(office)).await
}
