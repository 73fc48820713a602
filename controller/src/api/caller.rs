//! Who asks.

use super::Office;
use super::problem::ApiError;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use lapstrake_core::cluster::state::OperatorToken;
use lapstrake_pki::token::{SecretHash, Token};
use std::sync::Arc;

/// The operator whose token the request shows. To take one as an argument is what makes an address need a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The operator's name.
    pub name: String,
}

impl FromRequestParts<Arc<Office>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, office: &Arc<Office>) -> Result<Caller, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let text = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
            ApiError::unauthorized("no operator's token was shown; `lap login` stores one, LAP_TOKEN gives one")
        })?;
        let token = Token::operator(text.trim()).map_err(|error| ApiError::unauthorized(error.to_string()))?;
        let unknown = || ApiError::unauthorized("this controller does not know the token");
        let record = office.engine.look(move |look| look.cluster.get::<OperatorToken>(&token.id).cloned()).await?;
        let record = record.ok_or_else(unknown)?;
        let held = SecretHash::from_hex(&record.hash).ok_or_else(unknown)?;
        if held == token.secret.hash() { Ok(Caller { name: record.name }) } else { Err(unknown()) }
    }
}
