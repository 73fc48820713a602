//! Answers that are errors: `application/problem+json` as RFC 9457 shapes it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lapstrake_api::view::{Mistake, Problem};
use lapstrake_core::quote::escaped;

/// The longest sentence, in characters: that of a file in which dozens of things are refused.
const MOST_SAID: usize = 16 << 10;

/// An error on its way to the one who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    detail: String,
    mistakes: Vec<Mistake>,
}

impl ApiError {
    fn new(status: StatusCode, detail: impl Into<String>) -> ApiError {
        ApiError { status, detail: detail.into(), mistakes: Vec::new() }
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
        ApiError::new(StatusCode::BAD_REQUEST, detail)
    }
    /// Nobody knows who asks.
    pub fn unauthorized(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, detail)
    }
    /// It is known who asks, and they may not do it.
    pub fn forbidden(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, detail)
    }
    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, detail)
    }
    /// There is such a thing, but this cannot be done to it. The router names what can in `Allow`.
    pub fn method_not_allowed(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, detail)
    }
    /// Understood and refused.
    pub fn refused(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, detail)
    }
    /// Too large.
    pub fn too_large(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }
    /// A spec or a body with mistakes.
    pub fn invalid(detail: impl Into<String>, mistakes: Vec<Mistake>) -> ApiError {
        ApiError { mistakes, ..ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }
    /// The store did not take it; nothing was changed.
    pub fn unavailable(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, detail)
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
        let problem = Problem {
            type_uri: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            detail: plain(&self.detail),
            mistakes: self.mistakes.into_iter().map(plain_mistake).collect(),
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
