//! The proxy of a node: it brings requests from outside to the node's jobs.
//!
//! It decides nothing. The agent tells it a whole route table over the control socket and it obeys: look up, choose the
//! least loaded of the route's jobs, carry the request, count it. It serves on when the agent is gone.
//!
//! A request's way: `worker` (accept), `http1` or `http2` (the client's protocol) - `forward` (tries) - `switchboard` (the
//! table that holds, the counting rule) - `target` with `upstream` (HTTP/1.1) and `trunk` (HTTP/2), the job's connections -
//! `body` and `pipe` (the response back) - `record` (what is told of it).
//!
//! # The order of starting
//! 1. The control socket `<control_dir>/<pid>.sock` is made and listens.
//! 2. The table file is read. The agent owns it; the proxy never writes it.
//! 3. Only then the public addresses are bound.
//!
//! The agent does it the other way round: it writes the file, then lists the directory, then needs an acknowledgement
//! from every live socket there. So whenever a proxy starts, either its socket is in that list, and it acknowledges, or
//! it was made after the list and the file that it reads is the new one. No proxy ever serves by a table that the agent
//! believes to be gone.
//!
//! Where a proxy serves already, the addresses are not bound: see `handover`.
//!
//! # Room for later
//! TLS, names and node-to-node connections come next: `worker` is where a client's protocol is chosen, by its first bytes
//! today and by ALPN then; `http1` and `http2` speak it over any stream; `client` is told the scheme.
#![forbid(unsafe_code)]

mod access_log;
mod answer;
mod asked;
mod body;
mod client;
pub mod config;
mod control;
mod exposition;
mod forward;
mod frames;
mod handover;
mod headers;
mod http1;
mod http2;
mod listen;
mod meters;
mod patience;
mod pipe;
mod predecessor;
mod preface;
mod record;
mod smuggling;
mod successor;
mod switchboard;
mod table;
mod tap;
mod target;
#[cfg(test)]
mod testing;
mod trunk;
mod upgrade;
mod upstream;
mod worker;

use access_log::AccessLog;
pub use config::{Config, ConfigError};
use control::ControlSocket;
use handover::AtTheDoor;
use lapstrake_metrics::{Endpoint, Listener};
use lapstrake_unit::Pulses;
use meters::ServiceMeters;
use predecessor::{Door, Sockets};
use record::Ledger;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use successor::{Inheritance, Succession};
use switchboard::Switchboard;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
pub use tokio_util::sync::CancellationToken;
use worker::{Phase, Shared};

/// Between two looks at who answers at the door, for a process that has nothing else to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control socket cannot be made.
    #[error("cannot make the control socket in {}", directory.display())]
    Control {
        /// Where.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A public address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A proxy serves already and does not hand over.
    #[error("cannot take over from the proxy that serves")]
    Handover(#[source] io::Error),
    /// The metrics' endpoint cannot be had.
    #[error("cannot tell metrics at {endpoint}")]
    Metrics {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log {}", path.display())]
    AccessLog {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A worker cannot be started.
    #[error("cannot start worker {number}")]
    Worker {
        /// Which one.
        number: usize,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Proxy {
    listen: Vec<SocketAddr>,
    control_path: PathBuf,
    control_dir: PathBuf,
    shared: Arc<Shared>,
    /// Whether the file that was there at the start holds a table, or there was none.
    has_table: bool,
    /// The control socket, the door for successors and the metrics.
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    workers: Vec<oneshot::Receiver<io::Result<usize>>>,
    succession: Option<Succession>,
    /// After a handover.
    grace: Duration,
}

/// Serves until `shutdown`, finishes what is in flight within the configured grace, and returns.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    let proxy = Proxy::start(config).await?;
    shutdown.cancelled().await;
    proxy.stop().await;
    Ok(())
}

/// The control conversations see the switchboard through this.
#[derive(Debug, Clone)]
struct Board(Arc<Shared>);

impl AsRef<Switchboard> for Board {
    fn as_ref(&self) -> &Switchboard {
        &self.0.switchboard
    }
}

impl Proxy {
    /// Starts in the order that this crate's documentation gives. When this returns, all addresses answer.
    pub async fn start(config: Config) -> Result<Proxy, StartError> {
        let of_control = |source| StartError::Control { directory: config.control_dir.clone(), source };
        let control = ControlSocket::bind(&config.control_dir).map_err(of_control)?;
        let control_path = control.path().to_owned();

        let shared = Arc::new(share(&config)?);
        let has_table = obey_table_file(&config.table_file, &shared.switchboard);
        // Agents are listened to from here on: a successor may have to wait for a table.
        let stop = CancellationToken::new();
        let mut tasks = vec![tokio::spawn(control.serve(Board(Arc::clone(&shared)), stop.clone()))];
        let mut inheritance = successor::ask(&config.control_dir).map_err(StartError::Handover)?;
        if let Some(inheritance) = &inheritance {
            inheritance.until_table(&shared.switchboard).await.map_err(StartError::Handover)?;
        }

        let public = listen::bind_all(&config.listen, |address| inheritance.as_mut()?.take_public(address))
            .map_err(|(address, source)| StartError::Listen { address, source })?;
        if let Some(inheritance) = &inheritance {
            inheritance.refuse_unwanted().map_err(StartError::Handover)?;
        }
        let metrics =
            config.metrics_listen.clone().map(|endpoint| bind_metrics(endpoint, inheritance.as_mut())).transpose()?;
        let sockets = Arc::new(Sockets { public, metrics });
        let cannot_tell = |source| StartError::Listen { address: config.listen[0], source };
        let addresses = sockets.public.iter().map(|(_, listener)| listener.local_addr());
        let listen = addresses.collect::<io::Result<Vec<_>>>().map_err(cannot_tell)?;
        // What can fail is made before the predecessor lets go: a process that ends after it has accepted somebody cuts them.
        let metrics_listener = sockets.metrics.as_ref().map(|(endpoint, listener)| {
            let of_metrics = |source| StartError::Metrics { endpoint: endpoint.clone(), source };
            listener.try_clone().map_err(of_metrics)
        });
        let metrics_listener = metrics_listener.transpose()?;
        let door = Door::make(&config.control_dir).map_err(of_control)?;
        // From the predecessor's word on nobody else accepts. Before it this process accepts nobody: whom it had taken would be
        // cut if the handover came to nothing.
        let taken_over = inheritance.map(|inheritance| inheritance.take_over(&config.control_dir));
        let succession = taken_over.transpose().map_err(StartError::Handover)?;
        door.open().map_err(of_control)?;
        let count = shared.ledgers.len();
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let done = start_worker(&shared, number, &sockets).inspect_err(|_| shared.stop.cancel());
            workers.push(done.map_err(|source| StartError::Worker { number, source })?);
        }
        if let Some(listener) = metrics_listener {
            tasks.push(tokio::spawn(serve_metrics(listener, Arc::clone(&shared), stop.clone())));
        }
        // It holds the public sockets, which have to be closed when this process accepts nobody any more.
        let accepting = shared.stop.clone();
        tasks.push(tokio::spawn(door.serve(Arc::clone(&shared), sockets, accepting)));
        tracing::info!(?listen, control = %control_path.display(), workers = count, "serving");
        let (control_dir, grace) = (config.control_dir, config.handover_grace);
        Ok(Proxy { listen, control_path, control_dir, shared, has_table, tasks, stop, workers, succession, grace })
    }

    /// Where clients connect, with the ports that the system chose for port 0.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Where agents connect.
    pub fn control_path(&self) -> &Path {
        &self.control_path
    }

    /// Waits until a successor has taken over, and returns its process id.
    pub async fn handed_over(&self) -> u32 {
        let mut phase = self.shared.phase.subscribe();
        loop {
            if let Phase::HandedOver { to } = *phase.borrow_and_update() {
                return to;
            }
            if phase.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Who is to be the unit's main process after this one: its successor, which watches over those that follow, or, if that has
    /// ended by now, the process that serves. Never this one, whose door stands until the successor's has taken its place.
    pub fn who_follows(&self, successor: u32) -> u32 {
        if handover::lives(successor) {
            return successor;
        }
        match handover::at_the_door(&self.control_dir) {
            AtTheDoor::Process(pid) if pid != std::process::id() => pid,
            AtTheDoor::Process(_) | AtTheDoor::Dead | AtTheDoor::Nobody | AtTheDoor::Unclear => successor,
        }
    }

    /// After a handover: waits until everything that this process has is finished, at most for the configured grace, and until
    /// its successor can be asked who serves. False when the successor died meanwhile and this process serves again.
    pub async fn retire(&self) -> bool {
        let mut phase = self.shared.phase.subscribe();
        let finished = async {
            while !self.shared.is_left() {
                self.shared.left.notified().await;
            }
        };
        let over = async {
            // Either is an end.
            let _ = tokio::time::timeout(self.grace, finished).await;
            self.somebody_follows().await;
        };
        tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Serving) => false,
            () = over => true,
        }
    }

    /// The successor takes connections a moment before it has the door: if this process ended between, the one before it would
    /// find nobody there and accept again, beside the successor. And where the successor has died, this process is about to come
    /// back (`watch_over`).
    async fn somebody_follows(&self) {
        loop {
            match handover::at_the_door(&self.control_dir) {
                AtTheDoor::Process(pid) if pid != std::process::id() => return,
                AtTheDoor::Nobody => return,
                AtTheDoor::Process(_) | AtTheDoor::Dead | AtTheDoor::Unclear => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Opens the access log's file again.
    pub fn reopen_log(&self) {
        if let Some(log) = &self.shared.access_log {
            log.reopen();
        }
    }

    /// Returns when requests are served by the agent's word: at once if its table file could be used, or if it never wrote
    /// one and so nothing is routed; else with its first table.
    pub async fn has_its_table(&self) {
        let mut changes = self.shared.switchboard.changes();
        while !self.has_table && self.shared.switchboard.report().generation == 0 {
            // The switchboard, which sends, outlives this.
            let _ = changes.changed().await;
        }
    }

    /// Each worker's sign of life.
    pub fn pulses(&self) -> &Pulses {
        &self.shared.pulses
    }

    /// Stops accepting, finishes what is in flight within the grace, cuts the rest. The agent is listened to until the
    /// end, so that a switch during the grace holds here too.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        let mut cut = 0;
        for worker in self.workers {
            match worker.await {
                Ok(Ok(left)) => cut += left,
                Ok(Err(error)) => tracing::error!(%error, "a worker failed"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the proxy failed");
            }
        }
        if let Some(log) = &self.shared.access_log {
            log.end();
        }
        // Only now does the predecessor look who serves, and finds that the door is gone.
        drop(self.succession);
        tracing::info!(cut, "stopped");
    }
}

/// What all workers share.
fn share(config: &Config) -> Result<Shared, StartError> {
    let workers = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        number => number,
    };
    let opened = config
        .access_log
        .as_ref()
        .map(|path| AccessLog::open(path).map_err(|source| StartError::AccessLog { path: path.clone(), source }));
    let access_log = opened.transpose()?.map(Arc::new);
    let ledger = |worker| Arc::new(Ledger { worker, unrouted: ServiceMeters::default(), log: access_log.clone() });
    let ledgers = (0..workers).map(ledger).collect();
    let switchboard = Switchboard::new(workers, config.limits.max_in_flight);
    Ok(Shared::new(switchboard, config, ledgers, access_log))
}

fn bind_metrics(endpoint: Endpoint, inheritance: Option<&mut Inheritance>) -> Result<(Endpoint, Listener), StartError> {
    let passed = inheritance.and_then(|inheritance| inheritance.take_metrics(&endpoint.to_string()));
    let listener = match passed {
        Some(socket) => Listener::passed(&endpoint, socket),
        None => Listener::bind(&endpoint),
    };
    match listener {
        Ok(listener) => Ok((endpoint, listener)),
        Err(source) => Err(StartError::Metrics { endpoint, source }),
    }
}

/// Answers for as long as this process accepts: after a handover the successor answers at the same place.
async fn serve_metrics(listener: Listener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut phase = shared.phase.subscribe();
    while stop.run_until_cancelled(phase.wait_for(|phase| *phase == Phase::Serving)).await.is_some() {
        let counts = Arc::clone(&shared);
        let listener = match listener.try_clone() {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the metrics are not told any more"),
        };
        let turn = stop.child_token();
        let served = listener.serve(move || exposition::render(&counts), turn.clone());
        tokio::select! {
            () = served => return,
            _ = phase.changed() => turn.cancel(),
        }
    }
}

fn start_worker(
    shared: &Arc<Shared>,
    number: usize,
    sockets: &Sockets,
) -> io::Result<oneshot::Receiver<io::Result<usize>>> {
    let listeners = sockets.public.iter().map(|(_, listener)| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
    let (ended, done) = oneshot::channel();
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        // Nobody waits any more when starting failed halfway.
        let _ = ended.send(worker::serve(shared, number, listeners));
    })?;
    Ok(done)
}

/// A table file that cannot be used is no reason not to start: the agent will send its table. False if there is one and it
/// is of no use.
fn obey_table_file(path: &Path, switchboard: &Switchboard) -> bool {
    let json = match std::fs::read(path) {
        Ok(json) => json,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no route table yet; waiting for the agent");
            return error.kind() == io::ErrorKind::NotFound;
        }
    };
    match control::read_table(&json) {
        Ok(routes) => {
            switchboard.switch(&routes);
            tracing::info!(path = %path.display(), generation = routes.generation, "read the route table");
            true
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(path = %path.display(), %error, cause, "cannot use the route table; waiting for the agent");
            false
        }
    }
}
