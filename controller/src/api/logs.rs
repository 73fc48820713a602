//! The output of a service's jobs, read from their nodes as it is asked for. The controller keeps none of it.

use super::Office;
use super::caller::Caller;
use super::extract::{Path, Query};
use super::page;
use super::problem::ApiError;
use super::services::{look_at, path_in};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use lapstrake::convert::{LogLine, LogSource, LogsEnd, LogsEndReason, LogsWord};
use lapstrake_api::{pattern, view};
use lapstrake_core::assignment::ServicePath;
use lapstrake_core::cluster::paths::slot_word;
use lapstrake_core::ids::{JobId, NodeId};
use lapstrake_core::message::LogRange;
use lapstrake_core::quote::{is_acting, quoted};
use lapstrake_core::report::JobPhase;
use lapstrake_core::time::Wall;
use lapstrake_pki::mint;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Lines between the nodes' streams and the reader: beyond that the nodes are made to wait.
const LINES: usize = 256;
/// Without a word about it, a reader gets so many of each job's last lines.
const TAIL: u32 = 100;
/// After a job's output ended though the job did not, it is asked for again this much later.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A comment line this often keeps proxies between from ending a silent stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which lines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// How many of the last lines of each job first; 100 unless it or `since_ms` is said. With `grep` only lines that match
    /// count.
    tail: Option<u32>,
    /// Only lines of this time and later, by the nodes' clocks.
    since_ms: Option<u64>,
    /// Only lines in which this regular expression finds something: at most 1 KiB, without look-around.
    grep: Option<String>,
    /// Only of the slot of this number.
    slot: Option<u32>,
    /// Only of the job of this id.
    job: Option<String>,
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
    let Which { tail, since_ms, grep, slot, job, follow } = which;
    page::refuse_beyond_counting("since_ms", since_ms)?;
    if let Some(grep) = &grep {
        pattern::check(grep).map_err(|wrong| ApiError::invalid(format!("grep: {wrong}"), vec![]))?;
    }
    let job =
        job.map(|job| job.parse().map_err(|_| ApiError::invalid(format!("job={} is no id", quoted(&job)), vec![])));
    let wish = Wish {
        // Of a time that is named, everything is wanted.
        tail: tail.or(since_ms.is_none().then_some(TAIL)),
        since: since_ms.map(Wall),
        grep,
        slot,
        job: job.transpose()?,
        follow,
    };
    let first = sources(&office, path.clone(), &wish).await?;
    // A slot may get a job later; a job that is not there does not come.
    if first.is_empty() && (wish.job.is_some() || (!follow && wish.slot.is_some())) {
        return Err(ApiError::not_found(format!("{path} has no such job; `lap ps {path} -o json` names them")));
    }
    let (lines, received) = mpsc::channel(LINES);
    let ends = caller.ends(office.clone());
    let collector = Collector { office, path, wish, lines, places: BTreeMap::new(), readers: JoinSet::new() };
    tokio::spawn(collector.collect(first));
    // Without the word that says that it has ended: whoever reads it comes back.
    let events = as_events(received).take_until(Box::pin(ends));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn as_events(received: mpsc::Receiver<view::LogLine>) -> impl Stream<Item = Result<Event, Infallible>> {
    let lines = stream::unfold(received, async |mut received| {
        let line: view::LogLine = received.recv().await?;
        Some((Event::default().event("line").json_data(&line).unwrap_or_default(), received))
    });
    lines.chain(stream::iter([Event::default().event("end").data("{}")])).map(Ok)
}

/// What is wanted of the output.
#[derive(Debug, Clone)]
struct Wish {
    tail: Option<u32>,
    since: Option<Wall>,
    grep: Option<String>,
    slot: Option<u32>,
    job: Option<JobId>,
    follow: bool,
}

/// A job whose output is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    slot: String,
    node_name: String,
    node: NodeId,
    job: JobId,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It goes on.
    GoesOn,
    /// It was told to end, and has.
    Stopped,
    /// It has ended otherwise.
    Ended,
}

/// Every job of the service.
type Sources = BTreeMap<Source, Course>;

impl Course {
    fn of(phase: JobPhase) -> Course {
        match phase {
            JobPhase::Stopped => Course::Stopped,
            phase if phase.is_final() => Course::Ended,
            _ => Course::GoesOn,
        }
    }
}

/// Whether a job was told to end and another one has its slot: that its container is gone is no news to whoever did not ask for
/// this very job.
fn was_replaced(source: &Source, present: &Sources) -> bool {
    let is_next = |(other, course): (&Source, &Course)| other.slot == source.slot && *course == Course::GoesOn;
    present.get(source) == Some(&Course::Stopped) && present.iter().any(is_next)
}

async fn sources(office: &Office, path: ServicePath, wish: &Wish) -> Result<Sources, ApiError> {
    let (wanted_slot, wanted_job) = (wish.slot, wish.job);
    let look = move |look: &crate::engine::Look<'_>, service: &lapstrake_core::cluster::state::Service| {
        let slots = look.cluster.status(look.live, service.id, look.now).map(|status| status.slots).unwrap_or_default();
        let slots = slots.into_iter().filter(|slot| wanted_slot.is_none_or(|number| slot.slot.number == number));
        let jobs = slots.flat_map(|slot| {
            let name = slot_word(&slot.slot);
            let node_name = look.cluster.node_name(slot.node);
            let jobs = slot.jobs.into_iter().filter(move |job| wanted_job.is_none_or(|wanted| job.job == wanted));
            jobs.map(move |job| {
                let source = Source { slot: name.clone(), node_name: node_name.clone(), node: slot.node, job: job.job };
                (source, Course::of(job.phase))
            })
        });
        let mut jobs: Sources = jobs.collect();
        // One-off jobs are no part of what a service writes; whoever wants theirs names it.
        let one_offs = look.cluster.one_offs_of(service.id).filter(|one| wanted_job == Some(one.job));
        jobs.extend(one_offs.map(|one| {
            let node_name = look.cluster.node_name(one.node);
            let source = Source { slot: slot_word(&one.slot()), node_name, node: one.node, job: one.job };
            (source, if one.end.is_some() { Course::Ended } else { Course::GoesOn })
        }));
        jobs
    };
    look_at(office, path, look).await
}

/// How far one job's output was read.
struct Place {
    /// What is asked for at the beginning.
    tail: Option<u32>,
    /// The time of the last line that was passed on, and how many lines of that time were.
    last: Option<(Wall, usize)>,
    /// What was last said about it instead of lines.
    told: Option<String>,
    /// Whether it had ended when it was asked last: only then is all of it read.
    had_ended: bool,
    /// Whether it had been replaced when it was asked last.
    was_replaced: bool,
    next: Next,
}

/// When a job is asked next.
enum Next {
    /// It is being read.
    Ends,
    /// Its output ended, though the job has not.
    At(Instant),
    /// It has ended, and so has its output.
    Never,
}

/// Carries the output of a service's jobs to one reader.
struct Collector {
    office: Arc<Office>,
    path: ServicePath,
    wish: Wish,
    lines: mpsc::Sender<view::LogLine>,
    places: BTreeMap<Source, Place>,
    readers: JoinSet<(Source, Place)>,
}

impl Collector {
    /// Reads until all has ended, or until the reader leaves or the controller stops. With `follow` nothing ends but with
    /// the service: jobs come, get another container, or are out of reach for a while.
    async fn collect(mut self, first: Sources) {
        let (gone, stopping) = (self.lines.clone(), self.office.stopping.clone());
        tokio::select! {
            () = self.read_on(first) => {}
            () = gone.closed() => {}
            () = stopping.cancelled() => {}
        }
    }

    async fn read_on(&mut self, first: Sources) {
        let mut events = self.office.engine.events();
        // Of a job that appears later, everything is new.
        let mut tail = Some(self.wish.tail);
        let mut present = first;
        loop {
            self.read_what_is_due(&present, tail);
            tail = None;
            let is_gone = self.wish.job.is_some() && present.is_empty();
            if self.readers.is_empty() && (!self.wish.follow || is_gone || self.is_run_to_its_end()) {
                return;
            }
            let again = self.places.values().filter_map(|place| match place.next {
                Next::At(at) => Some(at),
                Next::Ends | Next::Never => None,
            });
            let again = again.min();
            tokio::select! {
                changed = events.changed() => if changed.is_err() { return },
                Some(ended) = self.readers.join_next() => self.note_end(ended.ok(), &present),
                () = until(again) => {}
            }
            present = match sources(&self.office, self.path.clone(), &self.wish).await {
                Ok(sources) => sources,
                Err(_) => return,
            };
        }
    }

    /// Whether all that is wanted is a one-off job's output, and that was read to its end: nothing comes after it.
    fn is_run_to_its_end(&self) -> bool {
        let is_one_off = |source: &Source| is_one_off(&source.slot);
        !self.places.is_empty()
            && self.places.iter().all(|(source, place)| is_one_off(source) && matches!(place.next, Next::Never))
    }

    /// `first` says how many lines of those that are there from the beginning; of what comes later all are wanted.
    fn read_what_is_due(&mut self, present: &Sources, first: Option<Option<u32>>) {
        // What is gone and read to its end is forgotten, so that a reader may stay for months.
        self.places.retain(|source, place| matches!(place.next, Next::Ends) || present.contains_key(source));
        let now = Instant::now();
        for (source, course) in present {
            let fresh = || Place {
                tail: first.flatten(),
                last: None,
                told: None,
                had_ended: false,
                was_replaced: false,
                next: Next::At(now),
            };
            let known = self.places.contains_key(source);
            if known || self.wish.follow || first.is_some() {
                let place = self.places.entry(source.clone()).or_insert_with(fresh);
                if matches!(place.next, Next::At(at) if at <= now) {
                    let place = std::mem::replace(place, Place { next: Next::Ends, ..fresh() });
                    let had_ended = *course != Course::GoesOn;
                    let place = Place { had_ended, was_replaced: was_replaced(source, present), ..place };
                    let reading =
                        read(self.office.clone(), source.clone(), place, self.wish.clone(), self.lines.clone());
                    self.readers.spawn(reading);
                }
            }
        }
    }

    fn note_end(&mut self, ended: Option<(Source, Place)>, present: &Sources) {
        let Some((source, mut place)) = ended else { return };
        // What was written between the asking and the end is still to come.
        let is_over = place.had_ended || !present.contains_key(&source);
        place.next = if self.wish.follow && !is_over { Next::At(Instant::now() + ASK_AGAIN) } else { Next::Never };
        self.places.insert(source, place);
    }
}

/// Whether a slot is that of a one-off job.
fn is_one_off(slot: &str) -> bool {
    matches!(slot.split_once('.'), Some(("run" | "release", _)))
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Reads one job's output from its place to its end, and gives back how far it came.
async fn read(
    office: Arc<Office>,
    source: Source,
    mut place: Place,
    wish: Wish,
    lines: mpsc::Sender<view::LogLine>,
) -> (Source, Place) {
    let follow = wish.follow;
    let range = match place.last {
        Some((at, _)) => LogRange { tail: None, since: Some(at), follow },
        None => LogRange { tail: place.tail, since: wish.since, follow },
    };
    // The lines of the last one's time come again; as many as were passed on are left out.
    let mut passed = place.last;
    let began = mint::wall();
    let mut said = None;
    match office.sessions.logs(source.node, source.job, range, wish.grep) {
        Err(error) => said = Some(error.to_string()),
        Ok(mut logs) => {
            while let Some(word) = logs.next().await {
                let batch = match word {
                    LogsWord::Opening { .. } => continue,
                    LogsWord::End(end) => {
                        said = place.end(end, began, follow);
                        continue;
                    }
                    LogsWord::Lines(batch) => batch,
                };
                for line in batch {
                    if was_passed(&mut passed, line.at) {
                        continue;
                    }
                    place.note(line.at);
                    if lines.send(job_line(&source, &line)).await.is_err() {
                        return (source, place);
                    }
                }
            }
        }
    }
    // Once is enough, however often it is asked.
    if let Some(said) = said.filter(|said| place.told.as_ref() != Some(said)) {
        let _ = lines.send(own_word(&source, &said)).await;
        place.told = Some(said);
    }
    (source, place)
}

impl Place {
    /// Notes how a reading ended, and gives what the reader should be told of it.
    fn end(&mut self, end: LogsEnd, began: Wall, follow: bool) -> Option<String> {
        match end.reason {
            // Its container is still to come, and then all that it writes is new.
            LogsEndReason::UnknownJob if self.last.is_none() => self.tail = None,
            // The last lines that were asked for did not come; they still may.
            LogsEndReason::CannotRead if self.tail != Some(0) => {}
            // Nothing was written until then; two clocks that differ shift that by their difference.
            _ => self.last = self.last.or(Some((began, 0))),
        }
        let is_worth_a_word = match end.reason {
            LogsEndReason::Complete => false,
            // Whoever follows waits for it.
            LogsEndReason::UnknownJob => !follow && !self.was_replaced,
            LogsEndReason::CannotRead => true,
        };
        is_worth_a_word.then_some(end.said)
    }

    fn note(&mut self, at: Wall) {
        let before = self.last.filter(|(last, _)| *last == at).map_or(0, |(_, count)| count);
        self.last = Some((at, before + 1));
        self.told = None;
    }
}

/// Whether a line of this time is one of those that were passed on before the output was asked for again.
fn was_passed(passed: &mut Option<(Wall, usize)>, at: Wall) -> bool {
    match passed {
        Some((last, _)) if at < *last => true,
        Some((last, left)) if at == *last && *left > 0 => {
            *left -= 1;
            true
        }
        Some(_) | None => false,
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
        if is_acting(c) && c != '\t' { shown.extend(c.escape_default()) } else { shown.push(c) }
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

    #[tokio::test]
    async fn no_line_of_a_job_begins_a_second_event_or_ends_the_stream() {
        let hostile = [
            "x\n\nevent: end\ndata: {}\n\n",
            "x\r\revent: end\rdata: {}\r\r",
            "\r\n\r\nid: 7\r\nretry: 1\r\n\r\n",
            "event: end",
            "",
        ];
        let source = Source { slot: "web.1".into(), node_name: "a\n\nb".into(), node: NodeId(1), job: JobId(1) };
        let (lines, received) = mpsc::channel(LINES);
        for text in hostile {
            let line = LogLine { at: Wall(1), source: LogSource::Stdout, text: text.as_bytes().to_vec() };
            lines.send(job_line(&source, &line)).await.expect("room");
            lines.send(own_word(&source, text)).await.expect("room");
        }
        drop(lines);
        let body = Sse::new(as_events(received)).into_response().into_body();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        assert!(!text.contains('\r'), "{text:?}");
        let blocks: Vec<&str> = text.split_terminator("\n\n").collect();
        let (last, blocks) = blocks.split_last().expect("events");
        assert_eq!((*last, blocks.len()), ("event: end\ndata: {}", 2 * hostile.len()), "{text:?}");
        for block in blocks {
            let data = block.strip_prefix("event: line\ndata: ").expect("one kind and one line of data");
            let line: view::LogLine = serde_json::from_str(data).expect("JSON");
            assert!(!line.text.contains(is_acting), "{line:?}");
        }
    }

    fn place() -> Place {
        Place { tail: None, last: None, told: None, had_ended: false, was_replaced: false, next: Next::Ends }
    }

    #[test]
    fn a_job_is_replaced_when_it_was_told_to_end_and_another_one_has_its_slot() {
        let source =
            |slot: &str, job| Source { slot: slot.into(), node_name: "a".into(), node: NodeId(1), job: JobId(job) };
        let (first, second, other) = (source("web.1", 1), source("web.1", 2), source("web.2", 3));
        let replaced = |course, next| {
            let present = [(first.clone(), course), (second.clone(), next), (other.clone(), Course::GoesOn)];
            was_replaced(&first, &present.into())
        };
        assert!(replaced(Course::Stopped, Course::GoesOn));
        assert!(!replaced(Course::Ended, Course::GoesOn), "it failed, and the one before it goes on");
        assert!(!replaced(Course::Stopped, Course::Stopped), "the service is paused");
        assert!(!was_replaced(&first, &[(first.clone(), Course::Stopped), (other.clone(), Course::GoesOn)].into()));
    }

    #[test]
    fn that_a_container_is_gone_is_told_unless_another_job_has_its_slot() {
        let told = |was_replaced| {
            let end = LogsEnd { reason: LogsEndReason::UnknownJob, said: "it is gone".into() };
            Place { had_ended: true, was_replaced, ..place() }.end(end, Wall(1), false)
        };
        assert_eq!((told(false).as_deref(), told(true)), (Some("it is gone"), None));
    }

    #[test]
    fn output_that_is_asked_for_again_goes_on_after_the_last_line() {
        let mut place = place();
        [1, 2, 2].into_iter().for_each(|at| place.note(Wall(at)));
        let mut passed = place.last;
        let again = [1, 2, 2, 2, 3, 3].map(|at| was_passed(&mut passed, Wall(at)));
        assert_eq!(again, [true, true, true, false, false, false]);
    }
}
