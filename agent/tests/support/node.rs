//! An agent's engine on a machine of the test's, and a proxy that speaks the control socket's protocol.

#![allow(dead_code, reason = "each test binary uses its own part")]

use crate::support::{fresh, run};
use lapstrake_agent::config::Config;
use lapstrake_agent::engine::{Engine, Machine};
use lapstrake_agent::identity::Identity;
use lapstrake_agent::link::EngineLink;
use lapstrake_agent::network::Fence;
use lapstrake_agent::runtime::Runtime;
use lapstrake_core::assignment::{Assignment, AssignmentSet, BoundImage, Generation, Traffic};
use lapstrake_core::ids::{ClusterId, DeploymentId, EnvironmentId, EpochId, JobId, NodeId, ServiceId, SlotId};
use lapstrake_core::report::NodeReport;
use lapstrake_core::routes::{ProxyHello, ProxyReport, ROUTES_FORMAT, RouteTable};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The folders and the name of one node; engines come and go on it.
pub struct Node {
    /// Removed with the node.
    _dir: TempDir,
    pub config: Config,
    pub identity: Identity,
}

/// A running engine.
pub struct Agent {
    pub link: EngineLink,
    shutdown: CancellationToken,
    end: JoinHandle<()>,
}

impl Node {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (state_dir, run_dir) = (dir.path().join("state"), dir.path().join("run"));
        let config = Config { name: "n1".into(), state_dir, run_dir, ..Config::default() };
        let config = config.completed().expect("good");
        let (cluster, node) = (ClusterId(fresh()), NodeId(fresh()));
        let identity = Identity { cluster, node, name: "n1".into(), controller: "nobody:1".into() };
        std::fs::create_dir_all(&config.proxy.control_dir).expect("made");
        Node { _dir: dir, config, identity }
    }

    pub fn start(&self, runtime: Arc<dyn Runtime>, fence: Fence) -> Agent {
        let engine = Engine::open(&self.config, &self.identity, Machine { runtime, fence }).expect("begins");
        let link = engine.link();
        let shutdown = CancellationToken::new();
        let end = tokio::spawn(engine.run(shutdown.clone()));
        Agent { link, shutdown, end }
    }
}

impl Agent {
    /// Waits for a report that satisfies.
    pub async fn report(&self, what: &str, good: impl Fn(&NodeReport) -> bool) -> NodeReport {
        let mut reports = self.link.reports();
        let found = tokio::time::timeout(Duration::from_secs(60), reports.wait_for(|report| good(report))).await;
        let found = found.map(|report| report.expect("the engine runs").clone());
        found.unwrap_or_else(|_| {
            panic!("waited a minute until {what}; the last report: {:#?}", *self.link.reports().borrow())
        })
    }

    /// Ends the engine; what it started keeps running.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.end.await.expect("ends");
    }
}

/// One slot's assignment.
pub fn assignment(
    environment: EnvironmentId,
    job: JobId,
    deployment: u128,
    image: BoundImage,
    command: &[&str],
) -> Assignment {
    Assignment {
        slot: SlotId { service: ServiceId(7), target: "web".into(), number: 1 },
        job,
        deployment: DeploymentId(deployment),
        run: run(environment, image, command),
        traffic: Traffic::Full,
        once: None,
    }
}

/// A set of these assignments.
pub fn set(number: u64, assignments: Vec<Assignment>) -> AssignmentSet {
    AssignmentSet {
        generation: Generation { epoch: EpochId(1), number },
        stop_absent: true,
        assignments,
        values: Default::default(),
        kept_images: None,
    }
}

/// A proxy of the test's own: it keeps the newest table and acknowledges it when it may.
pub struct Peer {
    pub table: watch::Receiver<Option<RouteTable>>,
    pub may_acknowledge: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Peer {
    /// Listens as this process would.
    pub fn listen(control_dir: &Path) -> Self {
        let listener = UnixListener::bind(control_dir.join(format!("{}.sock", std::process::id()))).expect("bound");
        let (tables, table) = watch::channel(None);
        let (may_acknowledge, may) = watch::channel(true);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(speak(stream, tables.clone(), may.clone()));
            }
        });
        Peer { table, may_acknowledge, server }
    }

    /// Waits for a table in which this job is the only backend.
    pub async fn routes_to(&self, job: JobId) {
        let only = |table: &Option<RouteTable>| {
            let jobs: Vec<JobId> =
                table.iter().flat_map(|t| &t.routes).flat_map(|r| &r.backends).map(|b| b.job).collect();
            jobs == [job]
        };
        let mut table = self.table.clone();
        let found = tokio::time::timeout(Duration::from_secs(60), table.wait_for(only)).await;
        assert!(found.is_ok(), "no table leads to {job}: {:?}", *self.table.borrow());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn speak(stream: UnixStream, tables: watch::Sender<Option<RouteTable>>, mut may: watch::Receiver<bool>) {
    let (read, mut write) = stream.into_split();
    let hello = ProxyHello { format: ROUTES_FORMAT, version: "test".into(), pid: std::process::id() };
    let line = |value: serde_json::Result<String>| value.expect("text") + "\n";
    if write.write_all(line(serde_json::to_string(&hello)).as_bytes()).await.is_err() {
        return;
    }
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let table: RouteTable = serde_json::from_str(&text).expect("a table");
        let generation = table.generation;
        tables.send_replace(Some(table));
        if may.wait_for(|may| *may).await.is_err() {
            return;
        }
        let report = ProxyReport { generation, leaving: Vec::new() };
        if write.write_all(line(serde_json::to_string(&report)).as_bytes()).await.is_err() {
            return;
        }
    }
}
