//! Services: how they are, and what is done to them.

use super::caller::Caller;
use super::conditions::Tagged;
use super::extract::{Path, Query};
use super::page::{Below, Page, Turn, Wanted};
use super::problem::ApiError;
use super::{Office, body, views};
use crate::engine::Look;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use lapstrake_api::{ask, view};
use lapstrake_core::assignment::ServicePath;
use lapstrake_core::cluster::Key;
use lapstrake_core::cluster::command::{Answer, Command};
use lapstrake_core::cluster::state::{Deployment, Service};
use lapstrake_core::cluster::trial::Steer;
use lapstrake_core::ids::ServiceId;
use std::sync::Arc;

type At = Path<(String, String, String)>;

/// The path in an address.
pub fn path_in(Path((application, environment, service)): At) -> ServicePath {
    ServicePath { application, environment, service }
}

/// Looks at one service, or says that it is not there.
pub async fn look_at<T: Send + 'static>(
    office: &Office,
    path: ServicePath,
    look: impl FnOnce(&Look<'_>, &Service) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let missing = ApiError::not_found(format!("there is no service {path}"));
    let seen = office.engine.look(move |view| view.cluster.service_at(&path).ok().map(|service| look(view, service)));
    seen.await?.ok_or(missing)
}

/// `GET /v1/services?below=shop/production`.
pub async fn list(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Below { below, limit, after }): Query<Below>,
) -> Result<Page<view::Service>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let all = office.engine.look(move |look| views::services(look, below.as_deref(), &caller.grant)).await?;
    Ok(wanted.of(all.into_iter().map(|service| (service.path.clone(), service))))
}

/// `GET /v1/jobs?below=shop/production`.
pub async fn jobs(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(Below { below, limit, after }): Query<Below>,
) -> Result<Page<view::Job>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    Ok(wanted.of(office.engine.look(move |look| views::jobs(look, below.as_deref(), &caller.grant)).await?))
}

/// `GET /v1/services/{app}/{env}/{service}`.
pub async fn show(
    _: Caller,
    State(office): State<Arc<Office>>,
    at: At,
) -> Result<Tagged<Json<view::Service>>, ApiError> {
    let look = |look: &Look<'_>, service: &Service| {
        Tagged(look.cluster.tag([Key::Service(service.id)]), Json(views::service(look, service)))
    };
    look_at(&office, path_in(at), look).await
}

/// `GET /v1/services/{app}/{env}/{service}/why`.
pub async fn why(_: Caller, State(office): State<Arc<Office>>, at: At) -> Result<Json<view::Why>, ApiError> {
    let look = |look: &Look<'_>, service: &Service| {
        let mut sentences = look.cluster.why(look.live, service.id, look.now);
        for wait in look.waits.get(&service.id).into_iter().flatten() {
            if !sentences.contains(wait) {
                sentences.push(wait.clone());
            }
        }
        view::Why { state: views::service(look, service).state, sentences }
    };
    look_at(&office, path_in(at), look).await.map(Json)
}

/// `GET /v1/services/{app}/{env}/{service}/deployments`: newest first.
pub async fn deployments(
    _: Caller,
    State(office): State<Arc<Office>>,
    at: At,
    Query(Turn { limit, after }): Query<Turn>,
) -> Result<Page<view::Deployment>, ApiError> {
    let wanted = Wanted::new(limit, after)?;
    let all = look_at(&office, path_in(at), views::deployments).await?;
    // The newest first, and cursors count upwards.
    Ok(wanted.of(all.into_iter().map(|deployment| (format!("{:010}", u32::MAX - deployment.number), deployment))))
}

/// `GET /v1/services/{app}/{env}/{service}/deployments/{number}`.
pub async fn deployment(
    _: Caller,
    State(office): State<Arc<Office>>,
    Path((application, environment, service, number)): Path<(String, String, String, u32)>,
) -> Result<Tagged<Json<view::Deployment>>, ApiError> {
    let path = ServicePath { application, environment, service };
    let missing = ApiError::not_found(format!("{path} has no deployment {number}"));
    let look = move |look: &Look<'_>, service: &Service| {
        let tag = look.cluster.tag([Key::Deployment((service.id, number))]);
        view_of(look, service, number).map(|shown| Tagged(tag, Json(shown)))
    };
    look_at(&office, path, look).await?.ok_or(missing)
}

fn view_of(look: &Look<'_>, service: &Service, number: u32) -> Option<view::Deployment> {
    let record = look.cluster.get::<Deployment>(&(service.id, number))?;
    Some(views::deployment(look, service, record))
}

/// `POST /v1/services/{app}/{env}/{service}/deploy`.
pub async fn deploy(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: At,
    body: Body,
) -> Result<(StatusCode, Json<view::Deployment>), ApiError> {
    let ask::Deploy { image } = body::json(body).await?;
    change(&office, &caller, Command::Deploy { service: path_in(at), image }).await
}

/// `POST /v1/services/{app}/{env}/{service}/redeploy`.
pub async fn redeploy(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: At,
) -> Result<(StatusCode, Json<view::Deployment>), ApiError> {
    change(&office, &caller, Command::Redeploy { service: path_in(at) }).await
}

/// `POST /v1/services/{app}/{env}/{service}/rollback`.
pub async fn rollback(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: At,
    body: Body,
) -> Result<(StatusCode, Json<view::Deployment>), ApiError> {
    let ask::Rollback { to } = body::json(body).await?;
    change(&office, &caller, Command::Rollback { service: path_in(at), to }).await
}

/// `POST /v1/services/{app}/{env}/{service}/scale`. 200 with the newest deployment when the scale is that already.
pub async fn scale(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: At,
    body: Body,
) -> Result<(StatusCode, Json<view::Deployment>), ApiError> {
    let ask::Scale { scale } = body::json(body).await?;
    change(&office, &caller, Command::Scale { service: path_in(at), scale }).await
}

/// `POST /v1/services/{app}/{env}/{service}/deployments/{number}/cancel`.
pub async fn cancel(caller: Caller, State(office): State<Arc<Office>>, at: OneDeployment) -> Shown {
    steer(&office, &caller, at, Steer::Cancel).await
}

/// `POST /v1/services/{app}/{env}/{service}/deployments/{number}/hold`.
pub async fn hold(caller: Caller, State(office): State<Arc<Office>>, at: OneDeployment) -> Shown {
    steer(&office, &caller, at, Steer::Hold).await
}

/// `POST /v1/services/{app}/{env}/{service}/deployments/{number}/release`.
pub async fn release(caller: Caller, State(office): State<Arc<Office>>, at: OneDeployment, body: Body) -> Shown {
    let ask::Release { all } = body::json(body).await?;
    steer(&office, &caller, at, if all { Steer::ReleaseAll } else { Steer::Release }).await
}

/// Does it to the deployment that was named, and shows it.
async fn steer(office: &Office, caller: &Caller, Path(at): OneDeployment, how: Steer) -> Shown {
    let (application, environment, service, number) = at;
    let path = ServicePath { application, environment, service };
    office.carry_out(caller, Command::Steer { service: path.clone(), number, how }).await?;
    let missing = ApiError::not_found(format!("{path} has no deployment {number}"));
    look_at(office, path, move |look, service| view_of(look, service, number)).await?.map(Json).ok_or(missing)
}

/// Application, environment, service and number.
type OneDeployment = Path<(String, String, String, u32)>;
/// A deployment as it is after that.
type Shown = Result<Json<view::Deployment>, ApiError>;

/// `DELETE /v1/services/{app}/{env}/{service}`: recorded; the service is gone when its slots are empty.
pub async fn remove(caller: Caller, State(office): State<Arc<Office>>, at: At) -> Result<StatusCode, ApiError> {
    office.carry_out(&caller, Command::RemoveService { service: path_in(at) }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Carries out a command that makes a deployment, and shows it. Where nothing had to change, the newest is shown.
async fn change(
    office: &Office,
    caller: &Caller,
    command: Command,
) -> Result<(StatusCode, Json<view::Deployment>), ApiError> {
    let path = match &command {
        Command::Deploy { service, .. }
        | Command::Redeploy { service }
        | Command::Rollback { service, .. }
        | Command::Scale { service, .. } => service.clone(),
        _ => return Err(ApiError::bad_request("this command makes no deployment")),
    };
    let created = match office.carry_out(caller, command).await?.outcome.answer {
        Answer::Deployment { service, number } => Some((service, number)),
        _ => None,
    };
    let status = if created.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    let missing = ApiError::not_found(format!("{path} has no deployment"));
    let shown = look_at(office, path, move |look, service| {
        view_of(look, service, created.map_or(service.last_deployment, |(_, number): (ServiceId, u32)| number))
    });
    shown.await?.map(|view| (status, Json(view))).ok_or(missing)
}
