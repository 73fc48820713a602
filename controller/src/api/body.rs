//! Bodies of requests: bounded, and refused with a sentence.

use super::problem::ApiError;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use serde::de::DeserializeOwned;

/// The largest spec: some thousand services. What is larger is a mistake, or not a spec.
pub const SPEC_BYTES: usize = 1 << 20;

/// The largest JSON body: they have a handful of fields.
const JSON_BYTES: usize = 64 << 10;

/// The whole body, or a refusal when it is larger than `limit`.
pub async fn bytes(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    to_bytes(body, limit).await.map_err(|error| {
        let too_long =
            std::error::Error::source(&error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        if too_long {
            ApiError::too_large(format!("the body is larger than {} KiB", limit >> 10))
        } else {
            ApiError::bad_request(format!("the body did not arrive whole: {error}"))
        }
    })
}

/// A JSON body. An empty one counts as `{}` where all fields have defaults.
pub async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = bytes(body, JSON_BYTES).await?;
    let text = if bytes.is_empty() { b"{}" as &[u8] } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| ApiError::bad_request(format!("the body is not the JSON that is wanted: {error}")))
}
