//! Applications and their environments.

use super::caller::Caller;
use super::conditions::Tagged;
use super::extract::{Path, Query};
use super::page::{Page, Turn, Wanted};
use super::problem::ApiError;
use super::{Office, body, views};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use lapstrake_api::{ask, view};
use lapstrake_core::cluster::command::{Command, SetPolicy};
use lapstrake_core::cluster::request::Subject;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// `GET /v1/version`: the only address that needs no token.
pub async fn version(State(office): State<Arc<Office>>) -> Json<view::Version> {
    Json(view::Version {
        version: env!("CARGO_PKG_VERSION").into(),
        cluster: office.cluster.to_string(),
        organization: office.organization.clone(),
    })
}

/// `GET /v1/controller`.
pub async fn controller(_: Caller, State(office): State<Arc<Office>>) -> Result<Json<view::Controller>, ApiError> {
    let not_stored = office.engine.look(|look| look.not_stored.map(String::from)).await?;
    Ok(Json(view::Controller { not_stored }))
}

/// `GET /v1/apps`.
pub async fn list(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Turn { limit, after }): Query<Turn>,
) -> Result<Page<view::Application>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let all = office.engine.look(move |look| views::applications(look, &caller.grant)).await?;
    Ok(wanted.of(all.into_iter().map(|application| (application.name.clone(), application))))
}

/// `POST /v1/apps`.
pub async fn create(
    caller: Caller,
    State(office): State<Arc<Office>>,
    body: Body,
) -> Result<(StatusCode, Json<view::Application>), ApiError> {
    let ask::CreateApplication { name } = body::json(body).await?;
    office.carry_out(&caller, Command::CreateApplication { name: name.clone() }).await?;
    let all = office.engine.look(move |look| views::applications(look, &caller.grant)).await?;
    let created = all.into_iter().find(|application| application.name == name);
    let created = created.ok_or_else(|| ApiError::not_found(format!("the application {name} is gone again")))?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Which environments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Only those of this application.
    app: Option<String>,
    /// How many a page has, 100 unless it is said, at most 500.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<u32>,
    /// The cursor of the page, from the header `Link` of the one before.
    after: Option<String>,
}

/// `GET /v1/envs?app=shop`.
pub async fn environments(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Which { app, limit, after }): Query<Which>,
) -> Result<Page<view::Environment>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let known = app.clone();
    let (views, exists) = office
        .engine
        .look(move |look| {
            let seen = views::applications(look, &caller.grant);
            let exists = app.as_ref().is_none_or(|app| seen.iter().any(|known| known.name == *app));
            (views::environments(look, app.as_deref(), &caller.grant), exists)
        })
        .await?;
    match known {
        Some(app) if !exists => Err(ApiError::not_found(format!("there is no application {app}"))),
        Some(_) | None => Ok(wanted.of(views)),
    }
}

/// `GET /v1/envs/{app}/{env}`.
pub async fn environment(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path((application, environment)): Path<(String, String)>,
) -> Result<Tagged<Json<view::Environment>>, ApiError> {
    let path = format!("{application}/{environment}");
    let missing = ApiError::not_found(format!("there is no environment {path}"));
    let seen = office.engine.look(move |look| {
        let all = views::environments(look, Some(&application), &caller.grant);
        let (_, shown) = all.into_iter().find(|(_, shown)| shown.path == path)?;
        let tag = look.cluster.tag_of_subject(Subject::Environment(&application, &environment))?;
        Some(Tagged(tag, Json(shown)))
    });
    seen.await?.ok_or(missing)
}

/// `POST /v1/envs`.
pub async fn create_environment(
    caller: Caller,
    State(office): State<Arc<Office>>,
    body: Body,
) -> Result<(StatusCode, Json<view::Environment>), ApiError> {
    let ask::CreateEnvironment { application, name } = body::json(body).await?;
    let path = format!("{application}/{name}");
    let command = Command::CreateEnvironment { application: application.clone(), name };
    office.carry_out(&caller, command).await?;
    let all = office.engine.look(move |look| views::environments(look, Some(&application), &caller.grant)).await?;
    let created = all.into_iter().map(|(_, environment)| environment).find(|environment| environment.path == path);
    let created = created.ok_or_else(|| ApiError::not_found(format!("the environment {path} is gone again")))?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// `GET /v1/envs/{app}/{env}/policy`.
pub async fn policy(
    State(office): State<Arc<Office>>,
    Path((application, environment)): Path<(String, String)>,
) -> Result<Json<view::Policy>, ApiError> {
    let found = office.engine.look(move |look| {
        let path = format!("{application}/{environment}");
        let found = look.cluster.environment_named(&application, &environment);
        found.map(|environment| views::policy(path, environment.policy))
    });
    found.await?.map(Json).map_err(|refusal| ApiError::not_found(refusal.sentence))
}

/// `PATCH /v1/envs/{app}/{env}/policy`.
pub async fn set_policy(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path((application, environment)): Path<(String, String)>,
    body: Body,
) -> Result<Json<view::Policy>, ApiError> {
    let ask::SetPolicy { max_scale, operator_fields } = body::json(body).await?;
    let set =
        SetPolicy { application: application.clone(), environment: environment.clone(), max_scale, operator_fields };
    office.carry_out(&caller, Command::SetPolicy(set)).await?;
    policy(State(office), Path((application, environment))).await
}
