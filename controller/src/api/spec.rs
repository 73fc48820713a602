//! Spec files: what applying one would do, and doing it.

use super::caller::Caller;
use super::problem::ApiError;
use super::{Office, body};
use crate::engine::CommandError;
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use lapstrake_api::spec::{self, Name, SpecFile};
use lapstrake_api::view::{self, Mistake};
use lapstrake_core::audit::{Deed, Entry};
use lapstrake_core::cluster::command::{
    Answer, Applied, Apply, ApplyEnvironment, ApplyService, Change, Command, Refusal, RefusalKind,
};
use lapstrake_core::cluster::request::Subject;
use lapstrake_core::quote::words;
use lapstrake_pki::mint;
use std::sync::Arc;

/// `POST /v1/plan?env=production&env=staging` with the YAML text: the same checks as `apply`, and nothing is changed.
pub async fn plan(
    caller: Caller,
    State(office): State<Arc<Office>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Json<view::Changes>, ApiError> {
    let (text, file) = read(query.as_deref(), body).await?;
    let apply = apply_of(&file);
    let (author, wall) = (caller.author(), mint::wall());
    let (asks, asked) = (author.clone(), apply.clone());
    let seen = office.engine.look(move |look| {
        let exists = look.cluster.application_named(&asked.application).is_ok();
        let permitted = look.cluster.permit_apply(&asks, &asked, wall);
        let tag = look.cluster.tag_of_subject(Subject::File(&asked));
        (permitted.map(|()| look.cluster.plan(&asks, &asked, wall)), exists, tag)
    });
    let (planned, exists, tag) = seen.await?;
    let planned = match planned {
        Ok(planned) => planned,
        Err(refusals) => {
            let deed = Deed { verb: "plan".into(), ..Command::Apply(apply).deed() };
            let entry = Entry::of_command(&author, deed, &Err(refusals.clone()), wall);
            office.engine.refused(entry).await;
            Err(refusals)
        }
    };
    let applied = planned.map_err(|refusals| refused(&text, &file, &refusals))?;
    let tag = tag.map(|tag| tag.to_string());
    Ok(Json(view::Changes { tag, ..changes(&file, applied, !exists) }))
}

/// `POST /v1/apply?env=production` with the YAML text. Answered when it is recorded; the deployments go on by themselves.
pub async fn apply(
    caller: Caller,
    State(office): State<Arc<Office>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Json<view::Changes>, ApiError> {
    let (text, file) = read(query.as_deref(), body).await?;
    let carried = match office.carry_out(&caller, Command::Apply(apply_of(&file))).await {
        Ok(carried) => carried,
        Err(CommandError::Refused(refusals)) => return Err(refused(&text, &file, &refusals)),
        Err(error) => return Err(error.into()),
    };
    let (created, applied) = match carried.outcome.answer {
        Answer::Applied { created, services } => (created.is_some(), services),
        _ => (false, Vec::new()),
    };
    Ok(Json(changes(&file, applied, created)))
}

async fn read(query: Option<&str>, body: Body) -> Result<(Vec<u8>, SpecFile), ApiError> {
    let environments = environments_in(query.unwrap_or_default())?;
    let text = body::bytes(body, body::SPEC_BYTES).await?.to_vec();
    match spec::parse(&text, &environments) {
        Ok(file) => Ok((text, file)),
        Err(problems) => {
            let detail = match problems.len() {
                1 => "the spec has a mistake; nothing was changed".into(),
                n => format!("the spec has {n} mistakes; nothing was changed"),
            };
            Err(ApiError::invalid(detail, spec::mistakes(&text, &problems)))
        }
    }
}

/// `env=a&env=b`. Names need no percent-encoding, so what is encoded is no name.
fn environments_in(query: &str) -> Result<Vec<Name>, ApiError> {
    let mut environments = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("env", name)) => {
                let name = name.parse().map_err(|error| ApiError::bad_request(format!("env={name}: {error}")))?;
                environments.push(name);
            }
            _ => return Err(ApiError::bad_request(format!("{pair:?} is not known here; env=NAME is"))),
        }
    }
    Ok(environments)
}

fn apply_of(file: &SpecFile) -> Apply {
    let environments = file.environments.iter().map(|(name, services)| ApplyEnvironment {
        name: name.to_string(),
        services: services
            .iter()
            .map(|(name, declared)| ApplyService { name: name.to_string(), spec: declared.spec.clone() })
            .collect(),
    });
    Apply { application: file.application.to_string(), environments: environments.collect() }
}

/// Refusals with their places in the text. One kind decides the status: a wrong spec is told apart from a right one that
/// something stands against.
fn refused(text: &[u8], file: &SpecFile, refusals: &[Refusal]) -> ApiError {
    let has = |kind: RefusalKind| refusals.iter().any(|refusal| refusal.kind == kind);
    let about_the_request =
        [RefusalKind::Forbidden, RefusalKind::Unauthenticated, RefusalKind::Changed, RefusalKind::KeyReused];
    if about_the_request.into_iter().any(has) {
        let at_a_field = refusals.iter().filter(|refusal| refusal.place.is_some());
        let mistakes = at_a_field.map(|refusal| mistake(text, file, refusal)).collect();
        return super::from_refusals(refusals).with(mistakes);
    }
    let sentences: Vec<String> = refusals
        .iter()
        .map(|refusal| match &refusal.hint {
            Some(hint) => format!("{} ({hint})", refusal.sentence),
            None => refusal.sentence.clone(),
        })
        .collect();
    let detail = format!("{}; nothing was changed", sentences.join("; "));
    if !has(RefusalKind::Invalid) {
        return ApiError::refused(detail);
    }
    let mistakes = refusals.iter().map(|refusal| mistake(text, file, refusal)).collect();
    ApiError::invalid(detail, mistakes)
}

/// `environments.production.services.web.deploy.overlap` is drawn at the value there; where none is written, and of other
/// fields, at the key of `web`.
fn mistake(text: &[u8], file: &SpecFile, refusal: &Refusal) -> Mistake {
    let mut parts = refusal.place.as_deref().unwrap_or_default().splitn(5, '.');
    let names = (parts.nth(1), parts.nth(1));
    let field = parts.next().unwrap_or_default();
    let declared = match names {
        (Some(environment), Some(service)) => file
            .environments
            .iter()
            .find(|(name, _)| name.to_string() == environment)
            .and_then(|(_, services)| services.iter().find(|(name, _)| name.to_string() == service)),
        _ => None,
    };
    match declared {
        Some((_, declared)) => {
            let problem = declared.problem(field, refusal.sentence.clone(), refusal.hint.clone());
            spec::mistakes(text, &[problem]).remove(0)
        }
        None => Mistake { line: 0, column: 0, width: 0, message: refusal.sentence.clone(), hint: refusal.hint.clone() },
    }
}

fn changes(file: &SpecFile, applied: Vec<Applied>, creates: bool) -> view::Changes {
    let mut services: Vec<_> = applied.into_iter().map(service_change).collect();
    services.sort_by(|a, b| a.path.cmp(&b.path));
    view::Changes {
        creates_application: creates.then(|| file.application.to_string()),
        services,
        warnings: file
            .warnings
            .iter()
            .map(|warning| format!("line {}: {}", warning.at.line, warning.message))
            .collect(),
        tag: None,
    }
}

fn service_change(applied: Applied) -> view::ServiceChange {
    let jobs = |n: u32| if n == 1 { "1 job".to_owned() } else { format!("{n} jobs") };
    let (action, summary) = match applied.change {
        Change::None => ("nothing", "is as the file says".to_owned()),
        Change::Retry { failed } => {
            ("replace", format!("deployment {failed} of this spec did not come to its end and is tried again"))
        }
        Change::AtResume => ("at-resume", "is paused; the spec is recorded and takes effect at the resume".to_owned()),
        Change::Create { jobs: n } => ("create", format!("is new, with {}", jobs(n))),
        Change::Replace { jobs: n, scale_from, scale_to } if scale_from == scale_to => {
            ("replace", format!("{} replaced", if n == 1 { "1 job is".into() } else { format!("{n} jobs are") }))
        }
        Change::Replace { jobs: n, scale_from, scale_to } => (
            "replace",
            format!(
                "{} replaced, and the scale goes from {scale_from} to {scale_to}",
                if n == 1 { "1 job is".into() } else { format!("{n} jobs are") }
            ),
        ),
        Change::Scale { from, to } => ("scale", format!("the scale goes from {from} to {to}; no job is replaced")),
    };
    let diff = applied.before.as_ref().map(|before| spec::diff(before, &applied.after)).unwrap_or_default();
    view::ServiceChange {
        path: applied.path.to_string(),
        action: action.into(),
        summary,
        release: applied.release.map(|command| words(&command)),
        changes: diff
            .into_iter()
            .map(|change| view::FieldChange { field: change.field, old: change.old, new: change.new })
            .collect(),
        warnings: applied.warnings,
        deployment: applied.deployment,
    }
}
