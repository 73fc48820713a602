//! What a session with the controller uses of the engine: it brings sets, and takes reports away.

use crate::given;
use crate::grep;
use crate::observe::View;
use crate::runtime::{LogLine, LogRange, Runtime, RuntimeError};
use crate::tunnel::Commands;
use crate::vault::Vault;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::ids::{JobId, SlotId, ValueId};
use lapstrake_core::message::Elsewhere;
use lapstrake_core::node::seen::{Attempt, Container};
use lapstrake_core::report::{NodeReport, Use};
use lapstrake_core::spec::ImageSource;
use lapstrake_core::time::Tick;
use lapstrake_core::values::GivenValue;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// What became of an assignment set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetOutcome {
    /// The ledger holds it.
    Accepted,
    /// The ledger holds it already, or a newer one.
    Older,
    /// The ledger could not be written. The engine keeps the newest such set and tries again; nothing has followed from it.
    NotWritten(String),
}

/// Why there is no output of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoOutput {
    /// It has no container yet, or none any more.
    #[error("the job {0} has no container on this node")]
    UnknownJob(JobId),
    /// The engine does not give it.
    #[error(transparent)]
    CannotRead(RuntimeError),
    /// The regular expression is none, or too large when it is compiled.
    #[error("the pattern cannot be used: {0}")]
    Pattern(String),
}

/// A set on its way to the engine.
pub(crate) struct SetOrder {
    pub(crate) set: AssignmentSet,
    pub(crate) reply: oneshot::Sender<SetOutcome>,
}

/// The engine's other end. A clone is the same one.
#[derive(Clone)]
pub struct EngineLink {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) view: View,
    pub(crate) vault: Arc<Vault>,
    pub(crate) sets: mpsc::Sender<SetOrder>,
    pub(crate) elsewhere: watch::Sender<Option<Vec<Elsewhere>>>,
    pub(crate) reports: watch::Receiver<NodeReport>,
    pub(crate) waits: watch::Receiver<Vec<(SlotId, String)>>,
    pub(crate) used: watch::Receiver<Use>,
    pub(crate) commands: Commands,
}

impl EngineLink {
    /// Seals the values of a set under this node's key.
    pub fn seal(&self, set: &mut AssignmentSet) {
        self.vault.seal_set(set);
    }

    /// Hands over a set, its values sealed from here on, and waits until the ledger holds it, or not. `None` when the
    /// engine has ended.
    pub async fn apply(&self, mut set: AssignmentSet) -> Option<SetOutcome> {
        // What was sealed already stays so.
        self.seal(&mut set);
        let (reply, outcome) = oneshot::channel();
        self.sets.send(SetOrder { set, reply }).await.ok()?;
        outcome.await.ok()
    }

    /// Hands over where jobs of other nodes run; the newest counts.
    pub fn set_elsewhere(&self, elsewhere: Vec<Elsewhere>) {
        self.elsewhere.send_replace(Some(elsewhere));
    }

    /// Says until when the controller counts this node as known: `lease` after *sending* the heartbeat that was answered.
    pub fn set_lease(&self, ends: Tick) {
        self.view.change(|seen| seen.lease_ends.replace(ends) != Some(ends));
    }

    /// The picture for the controller; changes after every change.
    pub fn reports(&self) -> watch::Receiver<NodeReport> {
        self.reports.clone()
    }

    /// What waits, and why.
    pub fn waits(&self) -> watch::Receiver<Vec<(SlotId, String)>> {
        self.waits.clone()
    }

    /// What the machine uses; read it for each heartbeat.
    pub fn used(&self) -> Use {
        *self.used.borrow()
    }

    /// What an image reference means now, or in words why that is not known. The credentials are for its registry.
    pub async fn resolve_image(
        &self,
        image: &ImageSource,
        login: Option<(ValueId, GivenValue)>,
    ) -> Result<String, String> {
        let login = login.map(|(id, value)| given::opened_login(&self.vault, id, &value)).transpose()?;
        self.runtime.resolve(image, login.as_ref()).await.map_err(|error| error.to_string())
    }

    /// The attempt of a job whose container runs, and its address.
    pub fn running(&self, job: JobId) -> Option<(Attempt, Option<IpAddr>)> {
        let all = Attempt { job, number: 0 }..=Attempt { job, number: u32::MAX };
        let runs = |(attempt, container): (&Attempt, &Container)| {
            matches!(container, Container::Running { .. }).then_some(*attempt)
        };
        let attempt = self.view.read(|seen| seen.containers.range(all).rev().find_map(runs))?;
        let address = self.reports.borrow().jobs.iter().find(|report| report.job == job).and_then(|it| it.address);
        Some((attempt, address))
    }

    /// What a job's newest attempt writes and wrote, or why there is nothing: all of it, or the lines in which the regular
    /// expression finds something. The stream ends with the container or, without `follow`, at the present end.
    pub async fn logs(
        &self,
        job: JobId,
        range: LogRange,
        grep: Option<&str>,
    ) -> Result<BoxStream<'static, Result<LogLine, String>>, NoOutput> {
        let pattern = grep.map(grep::compiled).transpose().map_err(NoOutput::Pattern)?;
        let all = Attempt { job, number: 0 }..=Attempt { job, number: u32::MAX };
        let newest = self.view.read(|seen| seen.containers.range(all).next_back().map(|(attempt, _)| *attempt));
        let newest = newest.ok_or(NoOutput::UnknownJob(job))?;
        let lines = match pattern {
            None => self.runtime.logs(newest, range).await,
            Some(pattern) => grep::matching(self.runtime.clone(), newest, range, pattern).await,
        };
        Ok(lines.map_err(NoOutput::CannotRead)?.map(|line| line.map_err(|error| error.to_string())).boxed())
    }
}
