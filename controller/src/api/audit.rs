//! The audit: who tried what, and what came of it.

use super::Office;
use super::events::read;
use super::extract::Query;
use super::page::{self, Page};
use super::problem::ApiError;
use crate::store::{AuditFilter, AuditRow};
use axum::Json;
use axum::extract::State;
use lapstrake_api::view;
use lapstrake_pki::token::SecretHash;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Which rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Only after this number: the cursor of the page. Without it a reader gets the newest.
    after: Option<u64>,
    /// How many a page has, 100 unless it is said, at most 500.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<u32>,
    /// Only of this name.
    by: Option<String>,
    /// Only from this time on.
    since_ms: Option<u64>,
}

/// `GET /v1/audit?after=N&by=ada&since_ms=…`: oldest first.
pub async fn list(
    State(office): State<Arc<Office>>,
    Query(Which { after, limit, by, since_ms }): Query<Which>,
) -> Result<Page<view::AuditRow>, ApiError> {
    let limit = page::limit(limit)?;
    page::refuse_beyond_counting("after", after)?;
    page::refuse_beyond_counting("since_ms", since_ms)?;
    let rows = read(&office, move |log| {
        let filter = AuditFilter { who: by, since_ms };
        let after = match after {
            Some(after) => after,
            // Of a time that is named, everything is wanted.
            None if since_ms.is_some() => 0,
            None => log.audit_before_last(limit, &filter)?,
        };
        log.audit_after(after, &filter, limit)
    });
    let rows = rows.await?;
    let more = rows.len() >= limit as usize;
    let next = rows.last().filter(|_| more).map(|last| last.number.to_string());
    Ok(Page { items: rows.into_iter().map(shown).collect(), next })
}

/// `GET /v1/audit/head`.
pub async fn head(State(office): State<Arc<Office>>) -> Result<Json<view::AuditHead>, ApiError> {
    let head = read(&office, |log| log.audit_head()).await?;
    Ok(Json(view::AuditHead {
        cluster: office.cluster.to_string(),
        number: head.map_or(0, |head| head.number),
        hash: head.map(|head| SecretHash(head.hash).to_hex()),
    }))
}

fn shown(AuditRow { number, entry, hash }: AuditRow) -> view::AuditRow {
    view::AuditRow {
        number,
        at_ms: entry.wall.0,
        who: entry.who,
        token: entry.token,
        address: entry.address,
        verb: entry.deed.verb,
        subject: entry.deed.subject,
        detail: entry.deed.detail,
        verdict: entry.verdict,
        said: entry.said,
        hash,
    }
}
