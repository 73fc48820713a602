//! Answers that are errors: `application/problem+json` as RFC 9457 shapes it.

use super::extract::Path;
use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use lapstrake_api::view::{Mistake, Problem};
use lapstrake_core::ids::RequestId;
use lapstrake_core::quote::escaped;
use lapstrake_core::time::Millis;
use lapstrake_pki::mint;
use std::panic::AssertUnwindSafe;

/// The longest sentence, in characters: that of a file in which dozens of things are refused.
const MOST_SAID: usize = 16 << 10;

/// What kind of error it is. Its name is the end of the problem's `type`, which programs compare and people can open; a
/// name never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is wrong.
    BadRequest,
    /// Nobody knows who asks.
    Unauthenticated,
    /// The one who asks may not.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There is such a thing, but not this method.
    MethodNotAllowed,
    /// Understood and refused.
    Refused,
    /// It was done before, and what was shown then is not shown again.
    ShownOnce,
    /// It is not any more what it was when it was read.
    Changed,
    /// The body is too large.
    TooLarge,
    /// Well formed, and wrong.
    Invalid,
    /// The idempotency key belongs to another request.
    KeyReused,
    /// The address speaks WebSocket, and the request does not.
    UpgradeRequired,
    /// Asked too often.
    TooManyRequests,
    /// A fault of the controller's own.
    Internal,
    /// Not now.
    Unavailable,
}

impl Kind {
    /// All of them, by their status.
    pub const ALL: [Kind; 15] = [
        Kind::BadRequest,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::Refused,
        Kind::ShownOnce,
        Kind::Changed,
        Kind::TooLarge,
        Kind::Invalid,
        Kind::KeyReused,
        Kind::UpgradeRequired,
        Kind::TooManyRequests,
        Kind::Internal,
        Kind::Unavailable,
    ];

    /// What stands in the `type` behind `/problems/`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::BadRequest => "bad-request",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not-found",
            Kind::MethodNotAllowed => "method-not-allowed",
            Kind::Refused => "refused",
            Kind::ShownOnce => "shown-once",
            Kind::Changed => "changed",
            Kind::TooLarge => "too-large",
            Kind::Invalid => "invalid",
            Kind::KeyReused => "key-reused",
            Kind::UpgradeRequired => "upgrade-required",
            Kind::TooManyRequests => "too-many-requests",
            Kind::Internal => "internal",
            Kind::Unavailable => "unavailable",
        }
    }

    /// The status that it is answered with.
    pub const fn status(self) -> StatusCode {
        match self {
            Kind::BadRequest => StatusCode::BAD_REQUEST,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Refused | Kind::ShownOnce => StatusCode::CONFLICT,
            Kind::Changed => StatusCode::PRECONDITION_FAILED,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Invalid | Kind::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Kind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A few words.
    pub const fn title(self) -> &'static str {
        match self {
            Kind::BadRequest => "The request is malformed",
            Kind::Unauthenticated => "No valid token",
            Kind::Forbidden => "Not allowed",
            Kind::NotFound => "Not found",
            Kind::MethodNotAllowed => "Method not allowed",
            Kind::Refused => "Understood and refused",
            Kind::ShownOnce => "Done before, and shown once",
            Kind::Changed => "Changed since it was read",
            Kind::TooLarge => "The body is too large",
            Kind::Invalid => "Well formed and wrong",
            Kind::KeyReused => "The idempotency key belongs to another request",
            Kind::UpgradeRequired => "This address speaks WebSocket",
            Kind::TooManyRequests => "Too many requests",
            Kind::Internal => "A fault of the controller",
            Kind::Unavailable => "Not now",
        }
    }

    /// What it means and what to do, for people who open the `type`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Kind::BadRequest => {
                "The path, the query, a header or the JSON of the body cannot be read, or has a field that is not known. \
                 Nothing was changed. The detail names the place."
            }
            Kind::Unauthenticated => {
                "The request shows no operator's token, or one that this controller does not know or that has ended. \
                 Send it as `Authorization: Bearer TOKEN`."
            }
            Kind::Forbidden => {
                "The token is good, but its role or its scope is too small for this. The detail names what is needed and \
                 what the token has."
            }
            Kind::NotFound => {
                "There is no such thing or no such address, or the token's scope does not reach it: the two are not told \
                 apart."
            }
            Kind::MethodNotAllowed => "The address does not know this method. The header `Allow` lists those it knows.",
            Kind::Refused => {
                "The request was understood, and something that is there stands against it: a name that is taken, jobs \
                 that still run, a quota, a policy. Nothing was changed. The detail says what."
            }
            Kind::ShownOnce => {
                "A request with this idempotency key was carried out before, and made something whose secret is shown \
                 only in the first answer and not stored. If that answer is lost, remove what was made and make another \
                 with a new key."
            }
            Kind::Changed => {
                "`If-Match` names a tag that is not the current one: somebody changed the thing since it was read. Nothing \
                 was done. Read it again and decide anew."
            }
            Kind::TooLarge => "The body is larger than the address takes. Nothing was changed.",
            Kind::Invalid => {
                "The request can be read, and what it says is wrong: a name that is none, a spec with mistakes. Nothing was \
                 changed. `mistakes` lists every mistake of a spec with its place."
            }
            Kind::KeyReused => {
                "The `Idempotency-Key` was used by the same token for a request with another method, address or body. \
                 Nothing was done. Take a new key for each request, and the same one only to repeat it."
            }
            Kind::UpgradeRequired => {
                "What this address gives is a stream both ways, which is a WebSocket (RFC 6455) over HTTP/1.1. Ask with \
                 `Connection: Upgrade`, `Upgrade: websocket`, `Sec-WebSocket-Version: 13` and a `Sec-WebSocket-Key`."
            }
            Kind::TooManyRequests => {
                "The token or the address asks more often than the controller's configuration allows ([rate] in \
                 controller.toml), or has as many streams to jobs open as it may ([tunnels]). Wait as many seconds as `Retry-After` says."
            }
            Kind::Internal => {
                "The controller has a fault. Its log has the problem's `instance`. Whether the request was carried out is \
                 not known; with an idempotency key it can be repeated."
            }
            Kind::Unavailable => {
                "The store did not take the change, or the controller is stopping. Nothing was changed. Repeat the request \
                 after as many seconds as `Retry-After` says."
            }
        }
    }
}

/// An error on its way to the one who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    kind: Kind,
    detail: String,
    mistakes: Vec<Mistake>,
    wait: Option<Millis>,
}

impl ApiError {
    /// Of this kind, with what happened and what to do next.
    pub fn new(kind: Kind, detail: impl Into<String>) -> ApiError {
        ApiError { kind, detail: detail.into(), mistakes: Vec::new(), wait: None }
    }
    /// With places in a spec.
    pub fn with(self, mistakes: Vec<Mistake>) -> ApiError {
        ApiError { mistakes, ..self }
    }
    /// What is told.
    pub fn detail(&self) -> &str {
        &self.detail
    }
    /// The request itself is wrong.
    pub fn bad_request(detail: impl Into<String>) -> ApiError {
        ApiError::new(Kind::BadRequest, detail)
    }
    /// Nobody knows who asks.
    pub fn unauthorized(detail: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Unauthenticated, detail)
    }
    /// The one who asks may not.
    pub fn forbidden(detail: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Forbidden, detail)
    }
    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> ApiError {
        ApiError::new(Kind::NotFound, detail)
    }
    /// There is such a thing, but this cannot be done to it. The router names what can in `Allow`.
    pub fn method_not_allowed(detail: impl Into<String>) -> ApiError {
        ApiError::new(Kind::MethodNotAllowed, detail)
    }
    /// Understood and refused.
    pub fn refused(detail: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Refused, detail)
    }
    /// What was made before under the same key, and was shown then: `what` names it, `instead` says how to get another.
    pub fn shown_once(what: &str, instead: &str) -> ApiError {
        let detail = format!(
            "{what} was made by an earlier request with this idempotency key, and was shown then, once; {instead}"
        );
        ApiError::new(Kind::ShownOnce, detail)
    }
    /// Too large.
    pub fn too_large(detail: impl Into<String>) -> ApiError {
        ApiError::new(Kind::TooLarge, detail)
    }
    /// A spec or a body with mistakes.
    pub fn invalid(detail: impl Into<String>, mistakes: Vec<Mistake>) -> ApiError {
        ApiError { mistakes, ..ApiError::new(Kind::Invalid, detail) }
    }
    /// Asked too often; `wait` until the next try.
    pub fn too_many(detail: impl Into<String>, wait: Millis) -> ApiError {
        ApiError { wait: Some(wait), ..ApiError::new(Kind::TooManyRequests, detail) }
    }
    /// A fault of our own.
    pub fn internal(detail: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Internal, detail)
    }
    /// The store did not take it; nothing was changed.
    pub fn unavailable(detail: impl Into<String>) -> ApiError {
        ApiError { wait: Some(Millis(1_000)), ..ApiError::new(Kind::Unavailable, detail) }
    }
}

/// A sentence may repeat what was asked with, which can be anything. What acts is escaped here, for every answer, and what
/// is long is cut: nobody reads more.
fn plain(sentence: &str) -> String {
    let shown = escaped(sentence);
    match shown.char_indices().nth(MOST_SAID) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

fn plain_mistake(mistake: Mistake) -> Mistake {
    let hint = mistake.hint.as_deref().map(plain);
    Mistake { message: plain(&mistake.message), hint, ..mistake }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        // What somebody quotes is found in the log.
        let instance = format!("urn:lapstrake:problem:{}", RequestId(mint::id()));
        if status.is_server_error() {
            tracing::warn!(instance, %status, detail = self.detail, "a request failed");
        } else {
            tracing::debug!(instance, %status, detail = self.detail, "a request was refused");
        }
        let problem = Problem {
            type_uri: format!("/problems/{}", self.kind.name()),
            title: self.kind.title().into(),
            status: status.as_u16(),
            detail: plain(&self.detail),
            instance,
            mistakes: self.mistakes.into_iter().map(plain_mistake).collect(),
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.kind == Kind::UpgradeRequired {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if let Some(wait) = self.wait {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.0.div_ceil(1_000).max(1)));
        }
        response
    }
}

/// Makes a problem of a panic, where panics unwind; in a release the process ends by one, and is started again. What a
/// handler shares with others is behind locks that are taken over as they are, or belongs to the engine's own thread.
pub async fn caught(request: Request, next: Next) -> Response {
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answered.unwrap_or_else(|_| ApiError::internal("the controller has a fault; its log says more").into_response())
}

/// `GET /problems/{problem}`: the page that a problem's `type` leads to.
pub async fn page(Path(name): Path<String>) -> Result<String, ApiError> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    let kind = kind.ok_or_else(|| ApiError::not_found(format!("there is no problem {name}")))?;
    Ok(format!("{} ({})\n\n{}\n", kind.title(), kind.status().as_u16(), kind.meaning()))
}
