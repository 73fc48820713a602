//! What applications and environments have, and may have.

use super::caller::Caller;
use super::extract::{Path, Query};
use super::page::{Below, Page, Wanted};
use super::problem::ApiError;
use super::wishes::noted;
use super::{Office, body, views};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use lapstrake_api::{ask, view};
use lapstrake_core::cluster::command::Command;
use lapstrake_core::quota::Good;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `GET /v1/quotas?below=shop`.
pub async fn list(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Below { below, limit, after }): Query<Below>,
) -> Result<Page<view::Quota>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let all = office.engine.look(move |look| views::quotas(look, below.as_deref(), &caller.grant)).await?;
    Ok(wanted.of(all.into_iter().map(|quota| (quota.path.clone(), quota))))
}

/// `POST /v1/quotas/{app}`.
pub async fn of_application(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(application): Path<String>,
    body: Body,
) -> Result<Json<view::Noted>, ApiError> {
    set(&office, &caller, application, None, body).await
}

/// `POST /v1/quotas/{app}/{env}`.
pub async fn of_environment(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path((application, environment)): Path<(String, String)>,
    body: Body,
) -> Result<Json<view::Noted>, ApiError> {
    set(&office, &caller, application, Some(environment), body).await
}

async fn set(
    office: &Office,
    caller: &Caller,
    application: String,
    environment: Option<String>,
    body: Body,
) -> Result<Json<view::Noted>, ApiError> {
    let ask::Quota { services, jobs, cpu_milli, memory_bytes } = body::json(body).await?;
    let goods = [(Good::Services, services), (Good::Jobs, jobs), (Good::Cpu, cpu_milli), (Good::Memory, memory_bytes)];
    let limits: BTreeMap<Good, Option<u64>> =
        goods.into_iter().filter_map(|(good, limit)| Some((good, limit?))).collect();
    let command = Command::SetQuota { application, environment, limits };
    Ok(Json(noted(office.carry_out(caller, command).await?.outcome)))
}
