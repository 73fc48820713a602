//! Nodes, the tokens that they join with, and the environments that they are given to.

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
use lapstrake_core::cluster::command::{Command, NewJoinToken};
use lapstrake_core::cluster::request::Subject;
use lapstrake_core::cluster::standing::StandingCommand;
use lapstrake_core::policy::JOIN_TOKEN_LIFE;
use lapstrake_core::time::Millis;
use lapstrake_pki::mint;
use lapstrake_pki::token::{Kind, Token};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// `GET /v1/nodes`.
pub async fn list(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Turn { limit, after }): Query<Turn>,
) -> Result<Page<view::Node>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let all = office.engine.look(move |look| views::nodes(look, &caller.grant)).await?;
    Ok(wanted.of(all.into_iter().map(|node| (node.name.clone(), node))))
}

/// `GET /v1/nodes/{node}`.
pub async fn show(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(name): Path<String>,
) -> Result<Tagged<Json<view::Node>>, ApiError> {
    let missing = ApiError::not_found(format!("there is no node {name}"));
    let seen = office.engine.look(move |look| {
        let all = views::nodes(look, &caller.grant);
        let found = all.into_iter().find(|node| node.name == name || node.id == name)?;
        Some(Tagged(look.cluster.tag_of_subject(Subject::Node(&found.name))?, Json(found)))
    });
    seen.await?.ok_or(missing)
}

/// Whether to do it though a rule stands against it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Force {
    /// Although jobs are there; only of a node that is lost.
    #[serde(default)]
    pub(super) force: bool,
}

/// `DELETE /v1/nodes/{node}?force=true`.
pub async fn remove(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(node): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode, ApiError> {
    office.carry_out(&caller, Command::RemoveNode { node, force }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/nodes/{node}/revoke`.
pub async fn revoke(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(node): Path<String>,
) -> Result<StatusCode, ApiError> {
    stand(&office, &caller, StandingCommand::Revoke { node }).await
}

/// `POST /v1/nodes/{node}/unquarantine`.
pub async fn unquarantine(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(node): Path<String>,
) -> Result<StatusCode, ApiError> {
    stand(&office, &caller, StandingCommand::Release { node }).await
}

/// `POST /v1/nodes/{node}/return`.
pub async fn readmit(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(node): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let ask::Readmit { key } = body::json(body).await?;
    stand(&office, &caller, StandingCommand::Readmit { node, key }).await
}

/// `DELETE /v1/nodes/{node}/return`.
pub async fn refuse_return(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(node): Path<String>,
) -> Result<StatusCode, ApiError> {
    stand(&office, &caller, StandingCommand::RefuseReturn { node }).await
}

async fn stand(office: &Office, caller: &Caller, command: StandingCommand) -> Result<StatusCode, ApiError> {
    office.carry_out(caller, Command::Standing(command)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/envs/{app}/{env}/nodes`.
pub async fn attach(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path((application, environment)): Path<(String, String)>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let ask::AttachNode { node } = body::json(body).await?;
    office.carry_out(&caller, Command::AttachNode { application, environment, node }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/envs/{app}/{env}/nodes/{node}?force=true`.
pub async fn detach(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path((application, environment, node)): Path<(String, String, String)>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode, ApiError> {
    let command = Command::DetachNode { application, environment, node, force };
    office.carry_out(&caller, command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/node-tokens`.
pub async fn create_token(
    caller: Caller,
    State(office): State<Arc<Office>>,
    body: Body,
) -> Result<(StatusCode, Json<view::JoinToken>), ApiError> {
    let ask: ask::CreateJoinToken = body::json(body).await?;
    let lifetime = ask.ttl_seconds.map_or(JOIN_TOKEN_LIFE, Millis::secs);
    let environment = ask.environment.map(|path| match path.split_once('/') {
        Some((application, environment)) => Ok((application.to_owned(), environment.to_owned())),
        None => Err(ApiError::bad_request(format!("{path} is no environment; one is written as shop/production"))),
    });
    let token = Token::mint(Kind::Join, office.cluster, office.ca.fingerprint());
    let expires = mint::wall() + lifetime;
    let new = NewJoinToken {
        id: token.id,
        hash: token.secret.hash().to_hex(),
        lifetime,
        environment: environment.transpose()?,
        node_name: ask.node,
        cidr: ask.cidr,
    };
    if office.carry_out(&caller, Command::CreateJoinToken(new)).await?.again {
        return Err(ApiError::shown_once("a join token", "it ends unused by itself; make another with a new key"));
    }
    let view = view::JoinToken { token: token.text(), expires_ms: expires.0, address: office.control_address.clone() };
    Ok((StatusCode::CREATED, Json(view)))
}
