//! Operators' tokens: who has one, for what, and until when. No answer but the one that makes a token holds its secret.

use super::caller::Caller;
use super::extract::{Path, Query};
use super::page::{Page, Turn, Wanted};
use super::problem::ApiError;
use super::{Office, body};
use crate::engine::Look;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use lapstrake_api::{ask, view};
use lapstrake_core::access::{Grant, Role, Scope, Verb, decide};
use lapstrake_core::cluster::command::{Command, NewOperatorToken};
use lapstrake_core::cluster::state::OperatorToken;
use lapstrake_core::time::Millis;
use lapstrake_pki::mint;
use lapstrake_pki::token::{Kind, Token};
use std::sync::Arc;

/// `GET /v1/whoami`.
pub async fn whoami(caller: Caller) -> Json<view::Identity> {
    Json(view::Identity {
        name: caller.name,
        role: caller.grant.role.word().into(),
        scope: caller.grant.scope.path(),
        token: caller.token.to_string(),
        expires_ms: caller.expires.map(|expires| expires.0),
    })
}

/// `GET /v1/tokens`: those within the caller's scope, by name.
pub async fn list(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Turn { limit, after }): Query<Turn>,
) -> Result<Page<view::OperatorToken>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let shown = office.engine.look(move |look| {
        let mut shown: Vec<_> = look.cluster.all().filter_map(|token| shown_to(look, token, &caller.grant)).collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    });
    Ok(wanted.of(shown.await?.into_iter().map(|token| (token.name.clone(), token))))
}

fn shown_to(look: &Look<'_>, token: &OperatorToken, to: &Grant) -> Option<view::OperatorToken> {
    let given = look.cluster.grant(token);
    // A token whose application or environment is gone opens nothing any more, and is the organization's.
    let scope = given.map_or(Scope::Organization, |given| given.scope);
    decide(to, Verb::ManageTokens, &scope).ok()?;
    Some(view::OperatorToken {
        id: token.id.to_string(),
        name: token.name.clone(),
        role: token.role.word().into(),
        scope: scope.path(),
        created_ms: token.created.0,
        by: token.by.clone(),
        expires_ms: token.expires.map(|expires| expires.0),
        expired: !token.is_good(mint::wall()),
    })
}

/// `POST /v1/tokens`. The answer has the token's text, which is shown this once.
pub async fn create(
    caller: Caller,
    State(office): State<Arc<Office>>,
    body: Body,
) -> Result<(StatusCode, Json<view::NewOperatorToken>), ApiError> {
    let ask::CreateOperatorToken { name, role, scope, ttl_seconds } = body::json(body).await?;
    let known = || Role::ALL.map(Role::word).join(", ");
    let role = Role::from_word(&role)
        .ok_or_else(|| ApiError::bad_request(format!("there is no role {role:?}; there are {}", known())))?;
    let lifetime = ttl_seconds.map(Millis::secs);
    if lifetime.is_some_and(|lifetime| lifetime.0 == 0) {
        return Err(ApiError::bad_request("ttl_seconds must be at least 1"));
    }
    let token = Token::mint(Kind::Operator, office.cluster, office.ca.fingerprint());
    let new = NewOperatorToken {
        id: token.id,
        hash: token.secret.hash().to_hex(),
        name,
        grant: Grant { role, scope: scope_of(scope.as_deref())? },
        lifetime,
    };
    if office.carry_out(&caller, Command::CreateOperatorToken(new)).await?.again {
        let instead = "if that answer is lost, remove the token by its name and make another with a new key";
        return Err(ApiError::shown_once("the token", instead));
    }
    let id = token.id;
    let made = office.engine.look(move |look| {
        let made = look.cluster.get::<OperatorToken>(&id)?;
        shown_to(look, made, &Grant { role: Role::Admin, scope: Scope::Organization })
    });
    let about = made.await?.ok_or_else(|| ApiError::not_found("the token is gone again"))?;
    Ok((StatusCode::CREATED, Json(view::NewOperatorToken { token: token.text(), about })))
}

/// None and the empty text are the organization.
fn scope_of(path: Option<&str>) -> Result<Scope, ApiError> {
    let path = path.unwrap_or_default();
    if path.is_empty() {
        return Ok(Scope::Organization);
    }
    let scope = Scope::of_path(path);
    match scope.path().as_deref() == Some(path) {
        true => Ok(scope),
        false => Err(ApiError::bad_request(format!(
            "{path} is no scope; one is an application (shop) or an environment (shop/production)"
        ))),
    }
}

/// `DELETE /v1/tokens/{token}`, by name or id.
pub async fn remove(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    office.carry_out(&caller, Command::RemoveOperatorToken { token }).await?;
    Ok(StatusCode::NO_CONTENT)
}
