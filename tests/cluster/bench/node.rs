//! A node of the cluster: the real agent, joined with a token, on a container engine in memory.

use super::{Controller, PATIENCE, Process, until};
use lapstrake_agent::config::Config;
use lapstrake_agent::engine::{EngineError, Machine};
use lapstrake_agent::identity::Identity;
use lapstrake_agent::join::{Join, JoinError, join};
use lapstrake_agent::ledger::LedgerError;
use lapstrake_agent::network::Fence;
use lapstrake_agent::runtime::fake::FakeRuntime;
use lapstrake_agent::{RunError, run_on};
use lapstrake_core::ids::JobId;
use lapstrake_core::node::seen::Attempt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A machine. Its containers outlive its agent.
pub struct Node {
    pub engine: FakeRuntime,
    pub identity: Identity,
    pub config: Config,
    agent: Option<Process>,
    shutdown: CancellationToken,
    ended: CancellationToken,
    _folders: [TempDir; 2],
}

/// Joins a cluster with a token.
pub async fn join_with(token: &str, controller: &str, name: &str, folder: &Path) -> Result<Identity, JoinError> {
    join(Join { token, controller, name: Some(name), hostname: "host", state_dir: folder, replace: false }).await
}

impl Node {
    /// Joins, given to `shop/production`, and waits until it is ready.
    pub async fn join(controller: &Controller, name: &str) -> Node {
        let token = controller.join_token(serde_json::json!({ "environment": "shop/production" })).await;
        let folder = tempfile::Builder::new().prefix("lapt-").tempdir().expect("a folder");
        let (state_dir, run_dir) = (folder.path().join("state"), folder.path().join("run"));
        // The folder's own disk holds no secrets.
        let memory = tempfile::Builder::new().prefix("lapt-").tempdir_in("/dev/shm").expect("a folder in memory");
        let memory_dir = memory.path().join("files");
        let metrics_listen = folder.path().join("metrics.sock").to_str().and_then(|path| path.parse().ok());
        let config = Config { name: name.into(), state_dir, run_dir, memory_dir, metrics_listen, ..Config::default() };
        let config = config.completed().expect("a good configuration");
        let identity = join_with(&token.token, &token.address, name, &config.state_dir).await.expect("joined");
        let mut node = Node {
            engine: FakeRuntime::default(),
            identity,
            config,
            agent: None,
            shutdown: CancellationToken::new(),
            ended: CancellationToken::new(),
            _folders: [folder, memory],
        };
        node.start();
        until(&format!("{name} is ready"), || async {
            let seen = controller.client.node(name).await;
            (seen.liveness == "ready" && seen.capacity.memory_bytes > 0).then_some(())
        })
        .await;
        node
    }

    /// Starts its agent. One that was just killed may still hold the ledger for an instant.
    pub fn start(&mut self) {
        let (config, identity, engine) = (self.config.clone(), self.identity.clone(), self.engine.clone());
        (self.shutdown, self.ended) = (CancellationToken::new(), CancellationToken::new());
        let (shutdown, done) = (self.shutdown.clone(), self.ended.clone());
        self.agent = Some(Process::start(async move {
            loop {
                let machine = Machine { runtime: Arc::new(engine.clone()), fence: Fence::Open };
                let run = run_on(config.clone(), identity.clone(), machine, shutdown.clone());
                match run.await {
                    Err(RunError::Engine(EngineError::Ledger(LedgerError::Locked(_)))) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Ok(()) if shutdown.is_cancelled() => return done.cancel(),
                    ended => panic!("the agent has ended by itself: {ended:?}"),
                }
            }
        }));
    }

    /// Ends its agent without a warning. The containers run on.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// Ends its agent in order, as systemd does, and waits for its end. The containers run on.
    pub async fn stop_agent(&mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.ended.cancelled()).await.expect("the agent ends");
        self.agent = None;
    }

    /// How often a container was started, from the beginning.
    pub fn starts(&self) -> usize {
        self.engine.done().iter().filter(|(verb, _)| *verb == "run").count()
    }

    /// Whether exactly these jobs run, each in its first container.
    pub fn runs(&self, jobs: &[String]) -> bool {
        let mut wanted: Vec<Attempt> = jobs.iter().map(|job| Attempt { job: id(job), number: 1 }).collect();
        wanted.sort();
        self.engine.running() == wanted
    }
}

/// A job's id as people read it.
pub fn id(job: &str) -> JobId {
    job.parse().expect("a job's id")
}
