//! One-off jobs: commands that run once beside a service's jobs.

use super::caller::Caller;
use super::extract::{Path, Query};
use super::page::{Page, Turn, Wanted};
use super::problem::ApiError;
use super::services::{look_at, path_in};
use super::wishes::noted;
use super::{Office, body};
use crate::engine::Look;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use lapstrake_api::{ask, view};
use lapstrake_core::access::{Grant, Scope, Verb, decide};
use lapstrake_core::assignment::ServicePath;
use lapstrake_core::cluster::command::{Answer, Command};
use lapstrake_core::cluster::paths::slot_word;
use lapstrake_core::cluster::running::RunOnce;
use lapstrake_core::cluster::state::{Ending, OneOff, Purpose, Service};
use lapstrake_core::ids::JobId;
use lapstrake_core::liveness::Liveness;
use lapstrake_core::quote::quoted;
use lapstrake_core::report::{Failure, Health, JobReport};
use lapstrake_core::time::Millis;
use std::sync::Arc;

type At = Path<(String, String, String)>;
/// Application, environment, service and job.
type OneRun = Path<(String, String, String, String)>;

/// `POST /v1/services/{app}/{env}/{service}/runs`.
pub async fn run(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: At,
    body: Body,
) -> Result<(StatusCode, Json<view::OneOff>), ApiError> {
    let ask::Run { command, env, timeout_seconds } = body::json(body).await?;
    let path = path_in(at);
    let timeout = timeout_seconds.map(|seconds| Millis(seconds.saturating_mul(1_000)));
    let command = Command::Run(RunOnce { service: path.clone(), command, env, timeout });
    let Answer::OneOff { number, .. } = office.carry_out(&caller, command).await?.outcome.answer else {
        return Err(ApiError::bad_request("this command runs nothing"));
    };
    let missing = ApiError::not_found(format!("{path} has no one-off job {number}"));
    let grant = caller.grant;
    let shown = look_at(&office, path, move |look, service| {
        look.cluster.get::<OneOff>(&(service.id, number)).map(|one| shown(look, service, one, &grant))
    });
    shown.await?.map(|shown| (StatusCode::CREATED, Json(shown))).ok_or(missing)
}

/// `GET /v1/services/{app}/{env}/{service}/runs`: newest first.
pub async fn list(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: At,
    Query(Turn { limit, after }): Query<Turn>,
) -> Result<Page<view::OneOff>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let all = look_at(&office, path_in(at), move |look, service| {
        let all = look.cluster.one_offs_of(service.id).rev();
        // The newest first, and cursors count upwards.
        let all = all.map(|one| (format!("{:010}", u32::MAX - one.number), shown(look, service, one, &caller.grant)));
        all.collect::<Vec<_>>()
    });
    Ok(wanted.of(all.await?))
}

/// `GET /v1/services/{app}/{env}/{service}/runs/{job}`.
pub async fn show(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: OneRun,
) -> Result<Json<view::OneOff>, ApiError> {
    let (path, job) = job_in(at)?;
    let missing = ApiError::not_found(format!("{path} has no one-off job {job}, or it ended a while ago"));
    let shown = look_at(&office, path, move |look, service| {
        let mut all = look.cluster.one_offs_of(service.id);
        all.find(|one| one.job == job).map(|one| shown(look, service, one, &caller.grant))
    });
    shown.await?.map(Json).ok_or(missing)
}

/// `DELETE /v1/services/{app}/{env}/{service}/runs/{job}`: recorded; it has ended when its view says so.
pub async fn end(caller: Caller, State(office): State<Arc<Office>>, at: OneRun) -> Result<Json<view::Noted>, ApiError> {
    let (service, job) = job_in(at)?;
    Ok(Json(noted(office.carry_out(&caller, Command::EndRun { service, job }).await?.outcome)))
}

fn job_in(Path((application, environment, service, job)): OneRun) -> Result<(ServicePath, JobId), ApiError> {
    let path = ServicePath { application, environment, service };
    let id = job.parse().map_err(|_| ApiError::not_found(format!("{} is no job's id", quoted(&job))))?;
    Ok((path, id))
}

/// What people are shown of a one-off job.
fn shown(look: &Look<'_>, service: &Service, one: &OneOff, to: &Grant) -> view::OneOff {
    let path = look.cluster.path_of(service);
    let scope = Scope::Environment(path.application.clone(), path.environment.clone());
    let told = told(look, one);
    let (purpose, deployment) = match one.purpose {
        Purpose::Release { deployment } => ("release", Some(deployment)),
        Purpose::Run => ("run", None),
    };
    // What somebody types may hold what is nobody else's; what a spec says is everybody's.
    let is_shown = deployment.is_some() || decide(to, Verb::Enter, &scope).is_ok();
    view::OneOff {
        job: one.job.to_string(),
        slot: slot_word(&one.slot()),
        service: path.to_string(),
        purpose: purpose.into(),
        deployment,
        node: look.cluster.node_name(one.node),
        revision: one.revision,
        command: if is_shown { one.command.clone() } else { Vec::new() },
        by: one.by.clone(),
        created_ms: one.created.0,
        phase: phase_of(look, one, told).into(),
        ended: one.end.is_some(),
        ended_ms: one.end.as_ref().map(|end| end.at.0),
        exit_code: one.end.as_ref().and_then(|end| exit_code(&end.how)),
        message: match &one.end {
            Some(end) => (end.how != Ending::Succeeded).then(|| end.how.to_string()),
            None => {
                told.and_then(|told| told.waits_for.clone().or_else(|| told.failure.as_ref().map(ToString::to_string)))
            }
        },
        last_lines: one.end.as_ref().map(|end| last_lines(&end.how)).unwrap_or_default(),
    }
}

/// What the job's node said of it last, while it is heard.
fn told<'a>(look: &'a Look<'_>, one: &OneOff) -> Option<&'a JobReport> {
    let heard = look.live.liveness(one.node, look.now) == Liveness::Ready;
    let report = look.live.report(one.node).filter(|_| heard)?;
    report.jobs.iter().find(|told| told.job == one.job)
}

fn phase_of(look: &Look<'_>, one: &OneOff, told: Option<&JobReport>) -> &'static str {
    let heard = look.live.liveness(one.node, look.now) == Liveness::Ready;
    match (&one.end, told) {
        (Some(end), _) => match end.how {
            Ending::Succeeded => "succeeded",
            Ending::Failed { .. } => "failed",
            Ending::Stopped { .. } => "stopped",
            Ending::Unknown { .. } => "unknown",
        },
        (None, Some(told)) if told.health != Health::Unknown || !told.phase.is_final() => told.phase.word(),
        (None, _) if heard => "assigned",
        (None, _) => "unknown",
    }
}

/// As a shell counts it; none for an end without one.
fn exit_code(how: &Ending) -> Option<i64> {
    match how {
        Ending::Succeeded => Some(0),
        Ending::Failed { failure: Failure::Exited { code, .. } } => Some(*code),
        // 128 + SIGKILL.
        Ending::Failed { failure: Failure::OutOfMemory { .. } } => Some(137),
        Ending::Failed { .. } | Ending::Stopped { .. } | Ending::Unknown { .. } => None,
    }
}

fn last_lines(how: &Ending) -> Vec<String> {
    match how {
        Ending::Failed { failure: Failure::Exited { last_lines, .. } | Failure::TimedOut { last_lines, .. } } => {
            last_lines.clone()
        }
        Ending::Succeeded | Ending::Failed { .. } | Ending::Stopped { .. } | Ending::Unknown { .. } => Vec::new(),
    }
}
