//! The controller of the cluster.

use super::{Client, Node, PATIENCE, Process, until};
use lapstrake_api::view;
use lapstrake_controller::config::{Config, RateLimits};
use lapstrake_controller::{Addresses, RunError};
use std::path::PathBuf;
use std::sync::mpsc;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A controller that runs, or is dead and can be started again.
pub struct Controller {
    pub client: Client,
    addresses: Addresses,
    config: Config,
    process: Option<Process>,
    stop: Stop,
    folder: TempDir,
}

/// How a controller is asked to end, and where its end is told.
struct Stop {
    shutdown: CancellationToken,
    ended: oneshot::Receiver<()>,
}

/// All that the store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Keys and records.
    pub rows: Vec<(String, String)>,
    /// The number of the last event.
    pub last_event: i64,
}

impl Controller {
    /// A new cluster.
    pub async fn start() -> Controller {
        Controller::start_with(|_| ()).await
    }

    /// A new cluster whose controller is configured so.
    pub async fn start_with(configure: impl FnOnce(&mut Config)) -> Controller {
        let (folder, config) = configured(configure);
        let (process, stop, addresses) = run(&config).expect("a new controller starts");
        let token = std::fs::read_to_string(&addresses.first_token).expect("the first operator's token");
        let client = Client::new(addresses.api, &token);
        // Nodes and clients know these ports; a controller that is started again has to have them again.
        let config = Config { api_listen: addresses.api, control_listen: addresses.control, ..config };
        Controller { client, addresses, config, process: Some(process), stop, folder }
    }

    /// Why a controller that is configured so does not start.
    pub fn refused(configure: impl FnOnce(&mut Config)) -> RunError {
        let (_folder, config) = configured(configure);
        run(&config).err().expect("it does not start")
    }

    /// A controller that runs elsewhere, on this state folder.
    pub fn elsewhere(folder: TempDir, config: Config, addresses: Addresses, token: &str) -> Controller {
        let client = Client::new(addresses.api, token);
        let stop = Stop { shutdown: CancellationToken::new(), ended: oneshot::channel().1 };
        Controller { client, addresses, config, process: None, stop, folder }
    }

    /// Where its store and its keys are.
    pub fn state_dir(&self) -> &std::path::Path {
        &self.config.state_dir
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end, as SIGTERM does, and waits until it has.
    pub async fn stop(&mut self) {
        self.stop.shutdown.cancel();
        let ended = timeout(PATIENCE, &mut self.stop.ended).await.expect("it ends when it is asked to");
        ended.expect("without an error");
        self.process = None;
    }

    /// Starts it again on what it has left, with another configuration.
    pub async fn start_again_with(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.start_again().await;
    }

    /// Starts it again on what it has left.
    pub async fn start_again(&mut self) {
        self.kill();
        let started = until("the dead controller has let go of its store and its ports", || async {
            match run(&self.config) {
                Ok(started) => Some(started),
                Err(
                    RunError::Store(lapstrake_controller::store::StoreError::InUse { .. }) | RunError::Listen { .. },
                ) => None,
                Err(error) => panic!("it does not start again: {error}"),
            }
        });
        let (process, stop, addresses) = started.await;
        assert_eq!(addresses, self.addresses);
        (self.process, self.stop) = (Some(process), stop);
    }

    /// Where agents join.
    pub fn control_address(&self) -> String {
        self.addresses.control.to_string()
    }

    /// The store's file.
    pub fn store_file(&self) -> PathBuf {
        self.config.state_dir.join("store.db")
    }

    /// A folder of the test's, gone with the controller.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What the store holds now.
    pub fn stored(&self) -> Stored {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let reader = rusqlite::Connection::open_with_flags(self.store_file(), flags).expect("the store");
        let mut statement = reader.prepare("SELECT key, value FROM state ORDER BY key").expect("the rows");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("the rows");
        let rows = rows.collect::<Result<_, _>>().expect("the rows");
        let last = reader.query_row("SELECT coalesce(max(number), 0) FROM event", [], |row| row.get(0));
        Stored { rows, last_event: last.expect("the events") }
    }

    /// A join token.
    pub async fn join_token(&self, ask: serde_json::Value) -> view::JoinToken {
        self.client.post("/v1/node-tokens", ask.to_string()).await.json()
    }

    /// Nodes that are given to `shop/production`, and ready.
    pub async fn nodes<const N: usize>(&self, names: [&str; N]) -> [Node; N] {
        if self.client.get("/v1/envs?app=shop").await.status == 404 {
            let created = self.client.post("/v1/apps", r#"{"name":"shop"}"#).await;
            assert_eq!(created.status, 201, "{created:?}");
        }
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(Node::join(self, name).await);
        }
        nodes.try_into().unwrap_or_else(|_| unreachable!("as many nodes as names"))
    }
}

/// A folder, and a configuration for a controller in it on ports of its own.
fn configured(configure: impl FnOnce(&mut Config)) -> (TempDir, Config) {
    let folder = tempfile::Builder::new().prefix("lapt-").tempdir().expect("a folder");
    let loopback = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut config = Config {
        state_dir: folder.path().join("controller"),
        api_listen: loopback(0),
        control_listen: loopback(0),
        ..Config::default()
    };
    configure(&mut config);
    (folder, config)
}

/// Starts a controller and waits until it takes connections, or says why it does not.
fn run(config: &Config) -> Result<(Process, Stop, Addresses), RunError> {
    let (config, shutdown) = (config.clone(), CancellationToken::new());
    let (tell, told) = mpsc::channel();
    let (end, ended) = oneshot::channel();
    let stop = Stop { shutdown: shutdown.clone(), ended };
    let process = Process::start(async move {
        let ready = |addresses: &Addresses| tell.send(Ok(addresses.clone())).expect("the test waits");
        match lapstrake_controller::run(config, shutdown, ready).await {
            Ok(()) => drop(end.send(())),
            Err(error) => drop(tell.send(Err(error))),
        }
    });
    told.recv().expect("it is ready, or says why not").map(|addresses| (process, stop, addresses))
}
