//! The proxy of a node: it brings requests from outside to the node's jobs.
//!
//! It decides nothing. The agent tells it a whole route table over the control socket and it obeys: look up, choose the
//! least loaded of the route's jobs, carry the request, count it. It serves on when the agent is gone.
//!
//! A request's way: `worker` (accept, HTTP/1.1) - `forward` (tries) - `switchboard` (the table that holds, the counting
//! rule) - `target` and `upstream` (the job's connections) - `body` (the response back).
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
//! # Room for later
//! TLS, HTTP/2, names and node-to-node connections come next: `worker` is where a client's protocol is chosen, `asked`
//! where its scheme and address are known, `listen` where sockets will come from a predecessor instead of being bound.
#![forbid(unsafe_code)]

mod answer;
mod asked;
mod body;
pub mod config;
mod control;
mod forward;
mod listen;
mod patience;
mod smuggling;
mod switchboard;
mod table;
mod tap;
mod target;
#[cfg(test)]
mod testing;
mod upgrade;
mod upstream;
mod worker;

pub use config::{Config, ConfigError};
use control::ControlSocket;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use switchboard::Switchboard;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
pub use tokio_util::sync::CancellationToken;
use worker::Shared;

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
    shared: Arc<Shared>,
    control: JoinHandle<()>,
    control_stop: CancellationToken,
    workers: Vec<oneshot::Receiver<io::Result<usize>>>,
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
        let control = ControlSocket::bind(&config.control_dir)
            .map_err(|source| StartError::Control { directory: config.control_dir.clone(), source })?;
        let control_path = control.path().to_owned();

        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            number => number,
        };
        let shared = Arc::new(Shared {
            switchboard: Switchboard::new(workers, config.limits.max_in_flight),
            limits: config.limits,
            clients: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            grace: config.shutdown_grace,
        });
        obey_table_file(&config.table_file, &shared.switchboard);

        let listeners =
            listen::bind_all(&config.listen).map_err(|(address, source)| StartError::Listen { address, source })?;
        let cannot_tell = |source| StartError::Listen { address: config.listen[0], source };
        let listen = listeners
            .iter()
            .map(std::net::TcpListener::local_addr)
            .collect::<io::Result<Vec<_>>>()
            .map_err(cannot_tell)?;
        let mut serving = Vec::with_capacity(workers);
        for number in 0..workers {
            let done = start_worker(&shared, number, &listeners).inspect_err(|_| shared.stop.cancel());
            serving.push(done.map_err(|source| StartError::Worker { number, source })?);
        }
        let control_stop = CancellationToken::new();
        let control = tokio::spawn(control.serve(Board(Arc::clone(&shared)), control_stop.clone()));
        tracing::info!(?listen, control = %control_path.display(), workers, "serving");
        Ok(Proxy { listen, control_path, shared, control, control_stop, workers: serving })
    }

    /// Where clients connect, with the ports that the system chose for port 0.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Where agents connect.
    pub fn control_path(&self) -> &Path {
        &self.control_path
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
        self.control_stop.cancel();
        if let Err(error) = self.control.await {
            tracing::error!(%error, "the control socket failed");
        }
        tracing::info!(cut, "stopped");
    }
}

fn start_worker(
    shared: &Arc<Shared>,
    number: usize,
    listeners: &[std::net::TcpListener],
) -> io::Result<oneshot::Receiver<io::Result<usize>>> {
    let listeners = listeners.iter().map(std::net::TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
    let (ended, done) = oneshot::channel();
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        // Nobody waits any more when starting failed halfway.
        let _ = ended.send(worker::serve(shared, number, listeners));
    })?;
    Ok(done)
}

/// A table file that cannot be used is no reason not to start: the agent will send its table.
fn obey_table_file(path: &Path, switchboard: &Switchboard) {
    let json = match std::fs::read(path) {
        Ok(json) => json,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no route table yet; waiting for the agent");
            return;
        }
    };
    match control::read_table(&json) {
        Ok(routes) => {
            switchboard.switch(&routes);
            tracing::info!(path = %path.display(), generation = routes.generation, "read the route table");
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(path = %path.display(), %error, cause, "cannot use the route table; waiting for the agent");
        }
    }
}
