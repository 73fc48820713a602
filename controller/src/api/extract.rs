//! What an address says, taken apart. As axum's own, but a mistake is told as every other error is.

use super::problem::ApiError;
use axum::extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// The parts of the path that have a name.
#[derive(Debug)]
pub struct Path<T>(pub T);

/// The parameters behind the question mark.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, ApiError> {
        let path = AxumPath::from_request_parts(parts, state).await;
        path.map(|AxumPath(path)| Path(path)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, ApiError> {
        let query = AxumQuery::from_request_parts(parts, state).await;
        query.map(|AxumQuery(query)| Query(query)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}
