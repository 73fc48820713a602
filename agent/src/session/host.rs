//! What a session needs from the rest of the agent, and what it brings.

use crate::link::{EngineLink, NoOutput};
use crate::runtime;
use crate::tunnel::{self, Operator};
use futures_util::StreamExt;
use lapstrake::convert::{LogLine, LogSource, LogsEnd, LogsEndReason, TunnelEnd, TunnelEndReason};
use lapstrake::limits;
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::ids::{JobId, ValueId};
use lapstrake_core::message::{Elsewhere, LogRange, ResolvedImage, Way};
use lapstrake_core::report::{NodeReport, Use};
use lapstrake_core::spec::ImageSource;
use lapstrake_core::time::Tick;
use lapstrake_core::values::GivenValue;
use std::future::Future;
use tokio::sync::{mpsc, watch};

/// Under which name the node's troubles have this one.
const TROUBLE: &str = "session";

/// Lines that are handed over together when they are there already.
const BATCH: usize = 256;

/// The node as a session sees it. The calls that are not futures must not wait.
pub trait Host: Send + Sync + 'static {
    /// The node's picture of itself; every change is sent, the newest only.
    fn reports(&self) -> watch::Receiver<NodeReport>;

    /// What the machine uses now, for the next heartbeat: the last reading.
    fn used(&self) -> Use;

    /// Seals the values of a set under this node's key. The first thing that happens to one.
    fn seal(&self, set: &mut AssignmentSet);

    /// Takes what the node should run from now on, or refuses it. While this waits, newer sets replace each other.
    fn apply(&self, set: AssignmentSet) -> impl Future<Output = ()> + Send;

    /// Takes what runs on other nodes.
    fn set_elsewhere(&self, services: Vec<Elsewhere>);

    /// The controller counts on this node until then, in ticks of this boot.
    fn set_lease(&self, ends: Tick);

    /// Why there is no session, or what it brought that cannot be taken, as a sentence for the node's troubles; `None` as soon
    /// as all is well.
    fn set_trouble(&self, sentence: Option<String>);

    /// Asks the engine what an image means now, with these credentials for its registry. Dropped when the session ends.
    fn resolve_image(
        &self,
        image: ImageSource,
        login: Option<(ValueId, GivenValue)>,
    ) -> impl Future<Output = Result<ResolvedImage, String>> + Send;

    /// Reads a job's output into `lines` and says why it ended. A full channel is a slow reader: wait. A closed one is
    /// a reader who left: return anything. Dropped when the session ends.
    fn logs(
        &self,
        job: JobId,
        range: LogRange,
        grep: Option<String>,
        lines: mpsc::Sender<Vec<LogLine>>,
    ) -> impl Future<Output = LogsEnd> + Send;

    /// Carries a stream between an operator and a job, and says how it ended. Dropped when the session ends; then, and when
    /// the operator is gone, what was begun for it is ended.
    fn tunnel(&self, job: JobId, way: Way, operator: Operator) -> impl Future<Output = TunnelEnd> + Send;
}

impl Host for EngineLink {
    fn reports(&self) -> watch::Receiver<NodeReport> {
        EngineLink::reports(self)
    }

    fn used(&self) -> Use {
        EngineLink::used(self)
    }

    fn seal(&self, set: &mut AssignmentSet) {
        EngineLink::seal(self, set);
    }

    async fn apply(&self, set: AssignmentSet) {
        let number = set.generation.number;
        let outcome = EngineLink::apply(self, set).await;
        tracing::debug!(number, ?outcome, "an assignment set came");
    }

    fn set_elsewhere(&self, services: Vec<Elsewhere>) {
        EngineLink::set_elsewhere(self, services);
    }

    fn set_lease(&self, ends: Tick) {
        EngineLink::set_lease(self, ends);
    }

    fn set_trouble(&self, sentence: Option<String>) {
        self.view.trouble(TROUBLE, sentence);
    }

    async fn resolve_image(
        &self,
        image: ImageSource,
        login: Option<(ValueId, GivenValue)>,
    ) -> Result<ResolvedImage, String> {
        EngineLink::resolve_image(self, &image, login).await.map(|pinned| ResolvedImage { pinned })
    }

    async fn tunnel(&self, job: JobId, way: Way, operator: Operator) -> TunnelEnd {
        let Some((attempt, address)) = self.running(job) else {
            let said = format!("the job {job} does not run on this node");
            return tunnel::ended(TunnelEndReason::UnknownJob, said);
        };
        match (way, address) {
            (Way::Exec(exec), _) => tunnel::exec(self.runtime.clone(), attempt, exec, operator, &self.commands).await,
            (Way::Forward { port }, Some(address)) => {
                tunnel::forward(self.runtime.clone(), attempt, address, port, operator).await
            }
            (Way::Forward { .. }, None) => {
                tunnel::ended(TunnelEndReason::Failed, format!("the job {job} has no address"))
            }
        }
    }

    async fn logs(
        &self,
        job: JobId,
        range: LogRange,
        grep: Option<String>,
        lines: mpsc::Sender<Vec<LogLine>>,
    ) -> LogsEnd {
        let cannot_read = |said| LogsEnd { reason: LogsEndReason::CannotRead, said };
        let read = match EngineLink::logs(self, job, range, grep.as_deref()).await {
            Ok(read) => read,
            Err(error @ (NoOutput::CannotRead(_) | NoOutput::Pattern(_))) => return cannot_read(error.to_string()),
            Err(error @ NoOutput::UnknownJob(_)) => {
                return LogsEnd { reason: LogsEndReason::UnknownJob, said: error.to_string() };
            }
        };
        let mut read = read.ready_chunks(BATCH);
        while let Some(some) = read.next().await {
            let mut batch = Vec::with_capacity(some.len());
            let mut failure = None;
            for line in some {
                match line {
                    Ok(line) => batch.extend(pieces(line)),
                    Err(said) => failure = Some(said),
                }
            }
            if lines.send(batch).await.is_err() {
                break;
            }
            if let Some(said) = failure {
                return cannot_read(said);
            }
        }
        LogsEnd { reason: LogsEndReason::Complete, said: String::new() }
    }
}

/// A line in pieces that the wire takes.
fn pieces(line: runtime::LogLine) -> Vec<LogLine> {
    let source = if line.to_stderr { LogSource::Stderr } else { LogSource::Stdout };
    let (at, text) = (line.at, line.text);
    if text.is_empty() {
        return vec![LogLine { source, at, text: Vec::new() }];
    }
    text.as_bytes().chunks(limits::LOG_LINE_BYTES).map(|piece| LogLine { source, at, text: piece.to_vec() }).collect()
}
