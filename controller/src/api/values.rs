//! Secrets, variables and the credentials for registries.

use super::caller::Caller;
use super::extract::{Path, Query};
use super::page::{Page, Wanted};
use super::problem::ApiError;
use super::wishes::noted;
use super::{Office, body, from_refusals};
use crate::engine::Look;
use crate::vault::{Rotated, Vault, VaultError};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use lapstrake_api::{ask, view};
use lapstrake_core::access::{Scope, Verb, decide};
use lapstrake_core::cluster::Cluster;
use lapstrake_core::cluster::command::{Command, Refusal};
use lapstrake_core::cluster::state::Service;
use lapstrake_core::cluster::values::{SetValue, ValueCommand, value_text};
use lapstrake_core::ids::{SlotId, ValueId};
use lapstrake_core::values::{Sealed, VALUE_BYTES, ValueKey, ValueKind, ValueScope, automatic};
use lapstrake_pki::mint;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The largest body: a value of the longest kind in which every byte is written as an escape of six.
const BODY_BYTES: usize = 6 * VALUE_BYTES + (4 << 10);

/// Whose values.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// `shop`, `shop/production` or `shop/production/web`, with all that it inherits; the organization if none is named.
    of: Option<String>,
    /// Only `secret`, `variable` or `registry`.
    #[schemars(extend("enum" = ["secret", "variable", "registry"]))]
    kind: Option<String>,
    /// How many a page has, 100 unless it is said, at most 500.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<u32>,
    /// The cursor of the page, from the header `Link` of the one before.
    after: Option<String>,
}

/// Where a value is removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// `shop`, `shop/production` or `shop/production/web`; the organization if none is named.
    of: Option<String>,
}

/// One line of the list, with what still has to be opened for it.
struct Listed {
    view: view::Value,
    closed: Option<(ValueKey, ValueId, Sealed)>,
}

/// `GET /v1/values?of=shop/production/web&kind=variable`.
pub async fn list(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Which { of, kind, limit, after }): Query<Which>,
) -> Result<Page<view::Value>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let kinds = match kind.as_deref() {
        Some(kind) => vec![kind_of(kind)?],
        None => ValueKind::ALL.to_vec(),
    };
    let of = of.unwrap_or_default();
    decide(&caller.grant, Verb::See, &Scope::of_path(&of)).map_err(|denial| from_refusals(&[denial.into()]))?;
    let listed = office.engine.look(move |look| listed(look, &of, &kinds)).await?;
    let listed = listed.map_err(|refusal| from_refusals(&[refusal]))?;
    let opened = listed.into_iter().map(|one| opened(&office.vault, one));
    Ok(wanted.of(opened.map(|view| (format!("{}/{}", view.kind, view.name), view))))
}

/// `POST /v1/values`.
pub async fn set(caller: Caller, State(office): State<Arc<Office>>, body: Body) -> Result<Json<view::Noted>, ApiError> {
    let bytes = body::bytes(body, BODY_BYTES).await?;
    let ask::SetValue { of, kind, name, value, user } = serde_json::from_slice(&bytes).map_err(unread)?;
    let (at, kind) = (of.unwrap_or_default(), kind_of(&kind)?);
    let clear = value_text(kind, user.as_deref(), &value).map_err(|refusal| wrong(&refusal.sentence))?;
    let wanted_at = at.clone();
    let scope = office.engine.look(move |look| look.cluster.value_scope(&wanted_at)).await?;
    let id = ValueId(mint::id());
    let _sealing = office.vault.sealing().await;
    // What is not there for the caller, or not there at all, is refused by the command, in the words of every other.
    let key = ValueKey { scope: scope.unwrap_or(ValueScope::Organization), kind, name };
    let body = office.vault.seal(&key, id, clear.as_bytes());
    let command = Command::Value(ValueCommand::Set(SetValue { at, key, id, body }));
    Ok(Json(noted(office.carry_out(&caller, command).await?.outcome)))
}

/// `DELETE /v1/values/{kind}/{name}?of=shop/production`.
pub async fn remove(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Path((kind, name)): Path<(String, String)>,
    Query(Owner { of }): Query<Owner>,
) -> Result<Json<view::Noted>, ApiError> {
    let (at, kind) = (of.unwrap_or_default(), kind_of(&kind)?);
    let command = Command::Value(ValueCommand::Remove { at, kind, name });
    Ok(Json(noted(office.carry_out(&caller, command).await?.outcome)))
}

/// `POST /v1/values/key`: a new master key.
pub async fn rotate(caller: Caller, State(office): State<Arc<Office>>) -> Result<Json<view::MasterKey>, ApiError> {
    // The request itself is a row of the audit, and done once: asked again under its key, it makes no other key.
    let asked = Command::Value(ValueCommand::Reseal { versions: Vec::new() });
    if office.carry_out(&caller, asked).await?.again {
        let key = office.vault.current().to_string();
        return Ok(Json(view::MasterKey { key, resealed: 0, left: Vec::new() }));
    }
    let (vault, engine, author) = (office.vault.clone(), office.engine.clone(), caller.author());
    // A task of its own: who asks and goes away does not leave it half done.
    let rotation = tokio::spawn(async move { vault.rotate(&engine, author).await });
    let ended = rotation.await.map_err(|_| ApiError::unavailable("the rotation broke off; the next one ends it"))?;
    match ended {
        Ok(Rotated { key, resealed, left }) => {
            let resealed = u32::try_from(resealed).unwrap_or(u32::MAX);
            Ok(Json(view::MasterKey { key: key.to_string(), resealed, left }))
        }
        Err(VaultError::Command(error)) => Err(error.into()),
        Err(error @ (VaultError::NotNew(_) | VaultError::Needed { .. })) => Err(ApiError::refused(error.to_string())),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the master key was not replaced");
            Err(ApiError::unavailable(format!("the master key was not replaced: {error}")))
        }
    }
}

/// Well formed, and wrong all the same.
fn wrong(why: &str) -> ApiError {
    ApiError::invalid(why, Vec::new())
}

/// What is wrong with a body, without a word of it: the value is one.
fn unread(error: serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    ApiError::bad_request(format!("the body is not the JSON that is wanted, as of line {line}, column {column}"))
}

fn kind_of(word: &str) -> Result<ValueKind, ApiError> {
    ValueKind::from_word(word).ok_or_else(|| {
        ApiError::bad_request(format!("there is no kind {word:?} of values; there are variable, secret and registry"))
    })
}

/// Everything of these kinds that something has, in the order of kind and name.
fn listed(look: &Look<'_>, of: &str, kinds: &[ValueKind]) -> Result<Vec<Listed>, Refusal> {
    let cluster = look.cluster;
    let scope = cluster.value_scope(of)?;
    let service = match scope {
        ValueScope::Service(id) => cluster.get::<Service>(&id),
        _ => None,
    };
    let waiting = not_deployed(cluster, scope);
    let mut all = Vec::new();
    for kind in kinds {
        for (name, found) in cluster.values_for(scope, *kind) {
            let key = &found.value.key;
            let view = view::Value {
                kind: kind.word().into(),
                name: name.into(),
                origin: if key.scope == scope { "own" } else { "inherited" }.into(),
                of: Some(cluster.path_of_scope(key.scope)),
                value: None,
                version: Some(found.version.number),
                changed_ms: Some(found.version.at.0),
                by: Some(found.version.by.clone()),
                not_deployed: waiting.get(key).cloned().unwrap_or_default(),
                trouble: None,
            };
            all.push(Listed { view, closed: Some((key.clone(), found.version.id, found.version.body.clone())) });
        }
        if *kind == ValueKind::Variable
            && let Some(service) = service
        {
            add_given(cluster, service, &mut all);
        }
    }
    all.sort_by(|a, b| (&a.view.kind, &a.view.name).cmp(&(&b.view.kind, &b.view.name)));
    Ok(all)
}

/// The variables of a service that nobody set: what its spec says, which comes before what is set, and what every job gets.
fn add_given(cluster: &Cluster, service: &Service, all: &mut Vec<Listed>) {
    let line = |name: &str, origin: &str, value: Option<String>| Listed {
        view: view::Value {
            kind: ValueKind::Variable.word().into(),
            name: name.into(),
            origin: origin.into(),
            of: None,
            value,
            version: None,
            changed_ms: None,
            by: None,
            not_deployed: Vec::new(),
            trouble: None,
        },
        closed: None,
    };
    let spec = &service.spec;
    all.retain(|one| !(one.view.kind == ValueKind::Variable.word() && spec.has_variable(&one.view.name)));
    all.extend(spec.env.iter().map(|(name, value)| line(name, "spec", Some(value.clone()))));
    all.extend(spec.secrets.iter().map(|(name, secret)| line(name, "spec", Some(format!("(secret {secret})")))));
    let first = SlotId { service: service.id, target: spec.target().into(), number: 1 };
    let revision = service.active.map_or(service.last_revision, |active| active.revision);
    let given = automatic(&cluster.path_of(service), revision, &first);
    all.extend(given.into_iter().map(|(name, value)| line(name, "automatic", Some(value))));
}

/// Of each value the services of a scope whose jobs have another version than the next deployment gives them.
fn not_deployed(cluster: &Cluster, scope: ValueScope) -> BTreeMap<ValueKey, Vec<String>> {
    let mut waiting: BTreeMap<ValueKey, Vec<String>> = BTreeMap::new();
    for service in cluster.services_below(scope) {
        let keys: BTreeSet<ValueKey> = cluster.undeployed(service).into_iter().map(|bound| bound.key).collect();
        for key in keys {
            waiting.entry(key).or_default().push(cluster.path_of(service).to_string());
        }
    }
    waiting
}

/// A variable is shown; of the others only whether they can be opened.
fn opened(vault: &Vault, Listed { mut view, closed }: Listed) -> view::Value {
    if let Some((key, id, sealed)) = closed {
        match vault.open_value(&key, id, &sealed) {
            Ok(clear) if key.kind == ValueKind::Variable => {
                view.value = Some(String::from_utf8_lossy(&clear.0).into_owned());
            }
            Ok(_) => {}
            Err(said) => view.trouble = Some(said),
        }
    }
    view
}
