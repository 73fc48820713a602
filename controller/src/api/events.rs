//! The log of events: pages of it, or all that follows as it happens.

use super::Office;
use super::caller::Caller;
use super::extract::Query;
use super::page::{self, Page};
use super::problem::ApiError;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use lapstrake_api::view;
use lapstrake_core::access::{Grant, Scope};
use lapstrake_core::cluster::event::EventKind;
use lapstrake_pki::mint;
use schemars::JsonSchema;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// A comment line this often keeps proxies between from ending a silent stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Only after this number: the cursor of the page. Without it a reader gets the newest.
    after: Option<u64>,
    /// How many a page has, 100 unless it is said, at most 500. With `follow`, so many of the newest come first.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<u32>,
    /// Only about this path and what lies below.
    below: Option<String>,
    /// Go on with what happens.
    #[serde(default)]
    follow: bool,
}

/// `GET /v1/events?after=N&below=shop&follow=true`. With `follow` as server-sent events, whose id is the number; a reader
/// that comes back with `Last-Event-ID` misses nothing. The stream ends with the caller's token.
pub async fn list(
    caller: Caller,
    State(office): State<Arc<Office>>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let limit = page::limit(which.limit)?;
    page::refuse_beyond_counting("after", which.after)?;
    let shown = Shown::to(&caller.grant, which.below)?;
    let resumed = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let after = match resumed.or(which.after) {
        Some(after) => after,
        None => {
            let below = shown.below.clone();
            read(&office, move |log| log.number_before_last(limit, below.as_deref())).await?
        }
    };
    let ends = caller.ends(office.clone());
    let mut first = Vec::from_iter(read(&office, |log| log.oldest()).await?.and_then(|oldest| missed(after, oldest)));
    let mut reader =
        Reader { events: office.engine.events(), office, after, shown, limit, page: Vec::new().into_iter() };
    if !which.follow {
        let (mut items, more) = reader.page().await?;
        first.append(&mut items);
        return Ok(Page { items: first, next: more.then(|| reader.after.to_string()) }.into_response());
    }
    reader.page = first.into_iter();
    let stream = stream::unfold(reader, async |mut reader| {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(as_sent(&event)?), reader))
    });
    let stream = stream.take_until(Box::pin(ends));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// One event of the stream. Its data is one line whatever the texts are, because JSON has line ends escaped.
fn as_sent(event: &view::Event) -> Option<Event> {
    Event::default().id(event.number.to_string()).event(event.kind.clone()).json_data(event).ok()
}

/// What somebody is told who goes on after an event of which the next ones are not kept any more. Who begins at the very
/// beginning asks for what there is, and misses nothing.
fn missed(after: u64, oldest: u64) -> Option<view::Event> {
    (after > 0 && after.saturating_add(1) < oldest).then(|| view::Event {
        number: oldest - 1,
        at_ms: mint::wall().0,
        kind: "history-cut".into(),
        subject: String::new(),
        text: format!("the events from {} to {} are not kept any more", after + 1, oldest - 1),
        by: None,
    })
}

/// Which events somebody gets: those below a path that they see.
struct Shown {
    grant: Grant,
    below: Option<String>,
}

impl Shown {
    /// The narrower of what is asked for and what is seen; asked for beside that, it is not there.
    fn to(grant: &Grant, asked: Option<String>) -> Result<Shown, ApiError> {
        let scope = asked.as_deref().map_or(Scope::Organization, Scope::of_path);
        let below = if grant.scope.covers(&scope) {
            asked
        } else if scope.covers(&grant.scope) {
            grant.scope.path()
        } else {
            return Err(ApiError::not_found(scope.absent()));
        };
        Ok(Shown { grant: grant.clone(), below })
    }

    /// An application may be called `node`, and events about nodes have paths that begin so: their kind tells them apart.
    /// A kind that is not known is the organization's.
    fn shows(&self, event: &view::Event) -> bool {
        let kind: Option<EventKind> = serde_json::from_value(event.kind.clone().into()).ok();
        self.grant.sees(&kind.map_or(Scope::Organization, |kind| kind.scope(&event.subject)))
    }
}

struct Reader {
    office: Arc<Office>,
    events: tokio::sync::watch::Receiver<u64>,
    /// The number of the last event that was read, shown or not.
    after: u64,
    shown: Shown,
    /// How many are read at once.
    limit: u32,
    page: std::vec::IntoIter<view::Event>,
}

impl Reader {
    /// The next event, waited for. `None` when the controller stops or the log cannot be read: the reader comes back.
    async fn next(&mut self) -> Option<view::Event> {
        loop {
            if let Some(event) = self.page.next() {
                return Some(event);
            }
            let newest = *self.events.borrow_and_update();
            self.page = self.page().await.ok()?.0.into_iter();
            if self.page.len() == 0 {
                self.after = self.after.max(newest);
                self.events.changed().await.ok()?;
            }
        }
    }

    /// The next page that has something to show, and whether there may be more behind it; empty when there is nothing.
    async fn page(&mut self) -> Result<(Vec<view::Event>, bool), ApiError> {
        loop {
            let (after, limit, below) = (self.after, self.limit, self.shown.below.clone());
            let read = read(&self.office, move |log| log.after(after, below.as_deref(), limit)).await?;
            let Some(last) = read.last() else { return Ok((Vec::new(), false)) };
            let more = read.len() >= limit as usize;
            self.after = last.number;
            let page: Vec<_> = read.into_iter().filter(|event| self.shown.shows(event)).collect();
            if !page.is_empty() {
                return Ok((page, more));
            }
        }
    }
}

/// Reads the log on a thread that may block.
pub async fn read<T: Send + 'static>(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_text_of_an_event_begins_a_second_one() {
        let hostile = [
            "x\n\nevent: end\ndata: {}\n\n",
            "x\r\rid: 99\rdata: forged\r\r",
            "x\r\n\r\nretry: 1\r\n: comment\r\n",
            "data: forged",
            "\u{2028}\u{2029}\u{85}\u{b}\u{c}\0\u{1b}[2J\u{feff}",
        ];
        let told: Vec<view::Event> = (1..)
            .zip(hostile)
            .map(|(number, text)| view::Event {
                number,
                at_ms: 0,
                kind: "deployment".into(),
                subject: text.into(),
                text: text.into(),
                by: Some(text.into()),
            })
            .collect();
        let sent: Vec<_> = told.iter().map(|event| Ok::<_, Infallible>(as_sent(event).expect("an event"))).collect();
        let body = Sse::new(stream::iter(sent)).into_response().into_body();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        assert!(!text.contains('\r'), "{text:?}");
        let blocks: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(blocks.len(), hostile.len(), "{text:?}");
        for (block, event) in blocks.into_iter().zip(told) {
            let lines: Vec<&str> = block.split('\n').collect();
            let [id, kind, data] = lines[..] else { panic!("{block:?}") };
            assert_eq!((id, kind), (format!("id: {}", event.number).as_str(), "event: deployment"));
            let data = data.strip_prefix("data: ").expect("data");
            assert_eq!(serde_json::from_str::<view::Event>(data).expect("JSON"), event, "and nothing of it is lost");
        }
    }

    #[test]
    fn a_watcher_is_told_when_what_it_missed_is_not_kept_any_more() {
        let told = |after, oldest| missed(after, oldest).map(|event| (event.number, event.text));
        assert_eq!(told(10, 11), None, "the next one is there");
        assert_eq!(told(0, 500), None, "all there is was asked for");
        assert_eq!(told(u64::MAX, 5), None);
        assert_eq!(told(10, 13), Some((12, "the events from 11 to 12 are not kept any more".into())));
    }
}
