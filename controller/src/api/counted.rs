//! Counts every answer by its address as the interface describes it, never as somebody wrote it.

use super::Office;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::time::Instant;

/// The address that answered, put into the answer for the count.
#[derive(Debug, Clone, Copy)]
struct Endpoint(&'static str);

/// What was asked where nothing is, or never reached an address.
const NOWHERE: &str = "none";

/// Notes which address answers.
pub async fn named(State(path): State<&'static str>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Endpoint(path));
    response
}

/// Counts the answer.
pub async fn every_answer(State(office): State<Arc<Office>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = word(request.method());
    let response = next.run(request).await;
    let endpoint = response.extensions().get::<Endpoint>().map_or(NOWHERE, |endpoint| endpoint.0);
    office.metrics.request(method, endpoint, response.status().as_u16(), begun.elapsed());
    response
}

/// A client may invent methods; they are one.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
