//! The log of events: pages of it, or all that follows as it happens.

use super::Office;
use super::caller::Caller;
use super::extract::Query;
use super::problem::ApiError;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use lapstrake_api::view;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Without a word about where to begin, a reader gets so many of the newest.
const NEWEST: u32 = 50;

/// A comment line this often keeps proxies between from ending a silent stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Only after this number.
    after: Option<u64>,
    /// Only about this path and what lies below.
    below: Option<String>,
    /// Go on with what happens.
    #[serde(default)]
    follow: bool,
}

/// `GET /v1/events?after=N&below=shop&follow=true`. With `follow` as server-sent events, whose id is the number; a reader
/// that comes back with `Last-Event-ID` misses nothing.
pub async fn list(
    _: Caller,
    State(office): State<Arc<Office>>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let resumed = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let after = match resumed.or(which.after) {
        Some(after) => after,
        None => read(&office, |log| log.number_before_last(NEWEST)).await?,
    };
    if !which.follow {
        return Ok(Json(page(&office, after, which.below).await?).into_response());
    }
    let reader =
        Reader { events: office.engine.events(), office, after, below: which.below, page: Vec::new().into_iter() };
    let stream = stream::unfold(reader, async |mut reader| {
        let event = reader.next().await?;
        let line = Event::default().id(event.number.to_string()).event(event.kind.clone());
        let line = line.json_data(&event).ok()?;
        Some((Ok::<_, Infallible>(line), reader))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

struct Reader {
    office: Arc<Office>,
    events: tokio::sync::watch::Receiver<u64>,
    after: u64,
    below: Option<String>,
    page: std::vec::IntoIter<view::Event>,
}

impl Reader {
    /// The next event, waited for. `None` when the controller stops or the log cannot be read: the reader comes back.
    async fn next(&mut self) -> Option<view::Event> {
        loop {
            if let Some(event) = self.page.next() {
                self.after = event.number;
                return Some(event);
            }
            let newest = *self.events.borrow_and_update();
            self.page = page(&self.office, self.after, self.below.clone()).await.ok()?.into_iter();
            if self.page.len() == 0 {
                self.after = self.after.max(newest);
                self.events.changed().await.ok()?;
            }
        }
    }
}

async fn page(office: &Arc<Office>, after: u64, below: Option<String>) -> Result<Vec<view::Event>, ApiError> {
    read(office, move |log| log.after(after, below.as_deref())).await
}

/// Reads the log on a thread that may block.
async fn read<T: Send + 'static>(
    office: &Arc<Office>,
    read: impl FnOnce(&crate::store::EventLog) -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let office = office.clone();
    let read = move || {
        let log = office.event_log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        read(&log)
    };
    let result = tokio::task::spawn_blocking(read).await;
    let result = result.map_err(|_| ApiError::unavailable("the controller is stopping"))?;
    result.map_err(|error| ApiError::unavailable(crate::engine::chain(&error)))
}
