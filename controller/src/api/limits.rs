//! How often somebody may ask: counted for each address before anything else is looked at, and for each token once it is
//! known. A stream counts once, when it begins.

use super::Office;
use super::caller::PeerAddress;
use super::problem::ApiError;
use crate::clock;
use crate::config::RateLimits;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use lapstrake_core::ids::TokenId;
use lapstrake_core::rate::{Limiter, Rate, asker};
use lapstrake_core::time::Millis;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// For so many addresses, and so many tokens, is counted apart; a bucket takes some 60 bytes. Beyond that, those who are
/// new share one.
const ASKERS: usize = 10_000;

/// What has been asked of late.
pub struct RateLimit {
    addresses: Mutex<Limiter<IpAddr>>,
    tokens: Mutex<Limiter<TokenId>>,
    wrong_token_costs: u32,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves a bucket as it was, or counted once more.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RateLimit {
    /// As the configuration says.
    pub fn new(limits: &RateLimits) -> RateLimit {
        let addresses = Rate { per_second: limits.address_per_second, burst: limits.address_burst };
        let tokens = Rate { per_second: limits.token_per_second, burst: limits.token_burst };
        RateLimit {
            addresses: Mutex::new(Limiter::new(addresses, ASKERS)),
            tokens: Mutex::new(Limiter::new(tokens, ASKERS)),
            wrong_token_costs: limits.wrong_token_costs,
        }
    }

    /// One more request from there.
    pub fn address(&self, address: IpAddr) -> Result<(), ApiError> {
        let taken = locked(&self.addresses).take(asker(address), 1, clock::tick());
        taken.map_err(|wait| too_many(&format!("from {address}"), wait))
    }

    /// Somebody there has shown a token that is none: that counts as many requests.
    pub fn wrong_token(&self, address: IpAddr) {
        locked(&self.addresses).charge(asker(address), self.wrong_token_costs, clock::tick());
    }

    /// One more request with this token.
    pub fn token(&self, token: TokenId) -> Result<(), ApiError> {
        let taken = locked(&self.tokens).take(token, 1, clock::tick());
        taken.map_err(|wait| too_many("with this token", wait))
    }
}

fn too_many(whose: &str, wait: Millis) -> ApiError {
    ApiError::too_many(format!("too many requests come {whose}; the next is taken in {wait}"), wait)
}

/// Counts a request for its address, before anything of it is read but its head.
pub async fn by_address(State(office): State<Arc<Office>>, request: Request, next: Next) -> Result<Response, ApiError> {
    if let Some(PeerAddress(address)) = request.extensions().get() {
        office.rate.address(*address)?;
    }
    Ok(next.run(request).await)
}
