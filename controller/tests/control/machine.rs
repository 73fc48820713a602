//! A machine with the real agent's side of the channel and no engine behind it.

use crate::engine::{Cluster, PATIENCE};
use lapstrake::convert::{LogLine, LogSource, LogsEnd, LogsEndReason, TunnelEnd, TunnelEndReason};
use lapstrake_agent::clock::Clock;
use lapstrake_agent::identity::Identity;
use lapstrake_agent::join::{Join, JoinError, join};
use lapstrake_agent::session::{Host, Node, run};
use lapstrake_agent::tls::Credentials;
use lapstrake_agent::tunnel::{self, Operator};
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::ids::{JobId, ValueId};
use lapstrake_core::message::{Elsewhere, LogRange, ResolvedImage, Way};
use lapstrake_core::report::{Capacity, NodeReport, Use};
use lapstrake_core::spec::ImageSource;
use lapstrake_core::time::{Tick, Wall};
use lapstrake_core::values::GivenValue;
use lapstrake_pki::names::NodeIdentity;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What the controller has told the node.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub set: Option<AssignmentSet>,
    pub elsewhere: Option<Vec<Elsewhere>>,
    pub lease: Option<Tick>,
    pub trouble: Option<String>,
}

pub struct Machine {
    pub told: watch::Sender<Told>,
    pub report: watch::Sender<NodeReport>,
    /// Batches of the output that readers wanted so far.
    pub batches: watch::Sender<u64>,
}

pub fn report(trouble: &str) -> NodeReport {
    NodeReport {
        generation: None,
        jobs: Vec::new(),
        replacements: Vec::new(),
        capacity: Capacity { cpu_milli: 2_000, memory_bytes: 1 << 30 },
        troubles: vec![trouble.to_owned()],
        full_disk: None,
        strays: Vec::new(),
        strays_unclear: false,
    }
}

impl Host for Machine {
    fn reports(&self) -> watch::Receiver<NodeReport> {
        self.report.subscribe()
    }
    fn used(&self) -> Use {
        Use::default()
    }
    fn seal(&self, _set: &mut AssignmentSet) {}
    async fn apply(&self, set: AssignmentSet) {
        self.told.send_modify(|told| told.set = Some(set));
    }
    fn set_elsewhere(&self, services: Vec<Elsewhere>) {
        self.told.send_modify(|told| told.elsewhere = Some(services));
    }
    fn set_lease(&self, ends: Tick) {
        self.told.send_modify(|told| told.lease = Some(ends));
    }
    fn set_trouble(&self, sentence: Option<String>) {
        self.told.send_modify(|told| told.trouble = sentence);
    }
    async fn resolve_image(
        &self,
        image: ImageSource,
        _: Option<(ValueId, GivenValue)>,
    ) -> Result<ResolvedImage, String> {
        match image.reference.as_str() {
            "absent" => Err("no such image".into()),
            other => Ok(ResolvedImage { pinned: format!("{other}@sha256:1") }),
        }
    }
    /// No job runs here.
    async fn tunnel(&self, job: JobId, _: Way, _: Operator) -> TunnelEnd {
        tunnel::ended(TunnelEndReason::UnknownJob, format!("the job {job} does not run"))
    }
    /// Follows an output without end; without `follow` it has three batches.
    async fn logs(&self, _: JobId, range: LogRange, _: Option<String>, lines: mpsc::Sender<Vec<LogLine>>) -> LogsEnd {
        let line = LogLine { source: LogSource::Stdout, at: Wall(1), text: vec![b'x'; 16 << 10] };
        let mut left = 3;
        while (range.follow || left > 0) && lines.send(vec![line.clone(); 16]).await.is_ok() {
            self.batches.send_modify(|batches| *batches += 1);
            left -= i32::from(!range.follow);
        }
        LogsEnd { reason: LogsEndReason::Complete, said: String::new() }
    }
}

/// An agent that runs.
pub struct Agent {
    pub identity: Identity,
    pub credentials: Arc<Credentials>,
    pub machine: Arc<Machine>,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn join_as(name: &str, cluster: &Cluster, token: &str, folder: &Path) -> Result<Identity, JoinError> {
    join(Join {
        token,
        controller: &cluster.address,
        name: Some(name),
        hostname: "host",
        state_dir: folder,
        replace: false,
    })
    .await
}

pub fn credentials(identity: &Identity, folder: &Path) -> Arc<Credentials> {
    let who = NodeIdentity { cluster: identity.cluster, node: identity.node };
    Arc::new(Credentials::load(folder, who).expect("joining stored them"))
}

impl Agent {
    /// Joins and runs, until it is dropped.
    pub async fn start(name: &str, cluster: &Cluster) -> Agent {
        let folder = tempfile::tempdir().expect("a folder");
        let identity = join_as(name, cluster, &cluster.token().text(), folder.path()).await.expect("joined");
        let credentials = credentials(&identity, folder.path());
        let machine = Arc::new(Machine {
            told: watch::channel(Told::default()).0,
            report: watch::channel(report("fresh")).0,
            batches: watch::channel(0).0,
        });
        let stop = CancellationToken::new();
        let node = Node {
            identity: identity.clone(),
            credentials: credentials.clone(),
            clock: Clock::of_this_boot().expect("a clock"),
            host: machine.clone(),
        };
        tokio::spawn(run(node, stop.clone()));
        Agent { identity, credentials, machine, stop, _folder: folder }
    }

    /// Waits until the node was told it.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&Told) -> Option<T>) -> T {
        let mut told = self.machine.told.subscribe();
        let seen = timeout(PATIENCE, told.wait_for(|told| look(told).is_some())).await;
        let seen = seen.unwrap_or_else(|_| panic!("not reached: {what}")).expect("the machine is there");
        look(&seen).expect("it was there")
    }
}
