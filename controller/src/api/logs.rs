//! The output of a service's jobs, read from their nodes as it is asked for. The controller keeps none of it.

use super::caller::Caller;
use super::extract::{Path, Query};
use super::problem::ApiError;
use super::services::{look_at, path_in};
use super::{Office, views};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use lapstrake::convert::{LogLine, LogSource, LogsEndReason, LogsWord};
use lapstrake_api::view;
use lapstrake_core::assignment::ServicePath;
use lapstrake_core::ids::{JobId, NodeId};
use lapstrake_pki::mint;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Lines between the nodes' streams and the reader: beyond that the nodes are made to wait.
const LINES: usize = 256;
/// Without a word about it, a reader gets so many of each job's last lines.
const TAIL: u32 = 100;
/// A comment line this often keeps proxies between from ending a silent stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// How many of the last lines of each job first.
    tail: Option<u32>,
    /// Go on, also with jobs that come later.
    #[serde(default)]
    follow: bool,
}

/// `GET /v1/services/{app}/{env}/{service}/logs?tail=100&follow=true` as server-sent events, each a `LogLine`. Ends with
/// an event `end`; a stream without one was cut off, as it is when the caller's token ends.
pub async fn stream(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: Path<(String, String, String)>,
    Query(which): Query<Which>,
) -> Result<Response, ApiError> {
    let path = path_in(at);
    let first = sources(&office, path.clone()).await?;
    let (lines, received) = mpsc::channel(LINES);
    let ends = caller.ends(office.clone());
    tokio::spawn(collect(office, path, which, first, lines));
    Ok(Sse::new(as_events(received).take_until(Box::pin(ends)))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

fn as_events(received: mpsc::Receiver<view::LogLine>) -> impl Stream<Item = Result<Event, Infallible>> {
    let lines = stream::unfold(received, async |mut received| {
        let line: view::LogLine = received.recv().await?;
        Some((Event::default().event("line").json_data(&line).unwrap_or_default(), received))
    });
    lines.chain(stream::iter([Event::default().event("end").data("{}")])).map(Ok)
}

/// A job whose output is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    slot: String,
    node_name: String,
    node: NodeId,
    job: JobId,
}

async fn sources(office: &Office, path: ServicePath) -> Result<BTreeSet<Source>, ApiError> {
    let look = |look: &crate::engine::Look<'_>, service: &lapstrake_core::cluster::state::Service| {
        let slots = look.cluster.status(look.live, service.id, look.now).map(|status| status.slots).unwrap_or_default();
        let jobs = slots.into_iter().flat_map(|slot| {
            let name = views::slot_name(service, &slot.slot);
            let node_name = views::node_name(look.cluster, slot.node);
            slot.jobs.into_iter().map(move |job| Source {
                slot: name.clone(),
                node_name: node_name.clone(),
                node: slot.node,
                job: job.job,
            })
        });
        jobs.collect()
    };
    look_at(office, path, look).await
}

/// Reads all sources into one channel until they end, or until the reader leaves; with `follow` also those that come.
async fn collect(
    office: Arc<Office>,
    path: ServicePath,
    which: Which,
    first: BTreeSet<Source>,
    lines: mpsc::Sender<view::LogLine>,
) {
    let mut events = office.engine.events();
    let mut known = BTreeSet::new();
    let mut readers = JoinSet::new();
    let mut fresh = first;
    // Of a job that appears later, everything is new.
    let mut tail = Some(which.tail.unwrap_or(TAIL));
    loop {
        for source in fresh.difference(&known) {
            readers.spawn(read(office.clone(), source.clone(), tail, which.follow, lines.clone()));
        }
        known.extend(fresh);
        tail = None;
        if !which.follow {
            while readers.join_next().await.is_some() {}
            return;
        }
        tokio::select! {
            changed = events.changed() => if changed.is_err() { return },
            () = lines.closed() => return,
        }
        fresh = match sources(&office, path.clone()).await {
            Ok(sources) => sources,
            Err(_) => return,
        };
    }
}

async fn read(
    office: Arc<Office>,
    source: Source,
    tail: Option<u32>,
    follow: bool,
    lines: mpsc::Sender<view::LogLine>,
) {
    let mut logs = match office.sessions.logs(source.node, source.job, tail, follow) {
        Ok(logs) => logs,
        Err(error) => {
            let _ = lines.send(own_word(&source, &error.to_string())).await;
            return;
        }
    };
    while let Some(word) = logs.next().await {
        match word {
            LogsWord::Opening { .. } => {}
            LogsWord::Lines(batch) => {
                for line in batch {
                    if lines.send(job_line(&source, &line)).await.is_err() {
                        return;
                    }
                }
            }
            LogsWord::End(end) => {
                if end.reason != LogsEndReason::Complete {
                    let _ = lines.send(own_word(&source, &end.said)).await;
                }
            }
        }
    }
}

fn job_line(source: &Source, line: &LogLine) -> view::LogLine {
    let stream = match line.source {
        LogSource::Stdout => "stdout",
        LogSource::Stderr => "stderr",
    };
    view::LogLine {
        at_ms: line.at.0,
        slot: source.slot.clone(),
        node: source.node_name.clone(),
        stream: stream.into(),
        text: printable(&String::from_utf8_lossy(&line.text)),
    }
}

fn own_word(source: &Source, said: &str) -> view::LogLine {
    view::LogLine {
        at_ms: mint::wall().0,
        slot: source.slot.clone(),
        node: source.node_name.clone(),
        stream: "lapstrake".into(),
        text: printable(said),
    }
}

/// What a job writes must not act on the terminal of whoever reads it.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_cannot_clear_the_readers_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\tc"), "a\\u{1b}[2Jb\tc");
    }
}
