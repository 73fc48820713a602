//! The control socket: where the agent says which table holds and hears what is still in flight outside it.
//!
//! One JSON message per line. The proxy greets with `ProxyHello`; each `RouteTable` is answered with a `ProxyReport`;
//! after the first table further reports follow whenever one would differ, at most one per `REPORT_PACE`, and always one
//! after the last change. A line that is no table closes its connection and changes nothing. Several agents, or one agent
//! several times, may be connected: the newest generation wins, whoever sent it.

use crate::switchboard::{Switchboard, Switched};
use lapstrake_core::routes::{ProxyHello, ProxyReport, REPORT_PACE, ROUTES_FORMAT, RouteTable};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A table of 100,000 routes has about 40 MB; more than that is not a table.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// An agent that does not take a report for this long is gone; it dials again when it is back.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long accepting waits after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a line is not a table that can be obeyed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not JSON of the right shape.
    #[error("it is not a route table")]
    Shape(#[source] serde_json::Error),
    /// A later version of Lapstrake wrote it.
    #[error("it has format {format}, this proxy reads up to {ROUTES_FORMAT}; a newer proxy is needed")]
    NewerFormat {
        /// Its format.
        format: u32,
    },
}

/// Reads a table. The format is looked at first, so that a newer one is named as such and not as a syntax error.
pub fn read_table(json: &[u8]) -> Result<RouteTable, TableError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(json).map_err(TableError::Shape)?;
    if format > ROUTES_FORMAT {
        return Err(TableError::NewerFormat { format });
    }
    serde_json::from_slice(json).map_err(TableError::Shape)
}

/// The bound control socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the directory (0700) if absent, and `<pid>.sock` (0600) in it.
    pub fn bind(directory: &Path) -> io::Result<ControlSocket> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(format!("{}.sock", std::process::id()));
        // A dead process had our pid. Sockets of dead processes with other pids are the agent's to remove.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(ControlSocket { listener, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Speaks with agents until `stop`.
    pub async fn serve(self, switchboard: impl AsRef<Switchboard> + Clone + Send + 'static, stop: CancellationToken) {
        let agents = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let (switchboard, stop) = (switchboard.clone(), stop.clone());
                    agents.spawn(async move {
                        let spoken = stop.run_until_cancelled(converse(stream, switchboard.as_ref())).await;
                        if let Some(Err(error)) = spoken {
                            tracing::warn!(%error, "closed a connection of the control socket");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        agents.close();
        agents.wait().await;
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the control socket was gone already");
        }
    }
}

async fn converse(stream: UnixStream, switchboard: &Switchboard) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let hello =
        ProxyHello { format: ROUTES_FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() };
    send(&mut write, &hello).await?;
    let mut read = BufReader::new(read);
    let mut changes = switchboard.changes();
    let mut said: Option<(ProxyReport, Instant)> = None;
    let mut line = Vec::new();
    loop {
        let pace = said.as_ref().map(|(_, at)| *at + REPORT_PACE.std());
        tokio::select! {
            // A line may come in parts: what was read of it stays in `line` when the other branch wins.
            whole = next_line(&mut read, &mut line) => {
                if !whole? {
                    return Ok(());
                }
                obey(&line, switchboard)?;
                line.clear();
                changes.mark_unchanged();
                let report = switchboard.report();
                send(&mut write, &report).await?;
                said = Some((report, Instant::now()));
            }
            () = changed_after(&mut changes, pace), if pace.is_some() => {
                let report = switchboard.report();
                if said.as_ref().is_none_or(|(last, _)| *last != report) {
                    send(&mut write, &report).await?;
                    said = Some((report, Instant::now()));
                }
            }
        }
    }
}

/// Waits for a change, then for the pace. A change is marked as seen only after that, so that none is lost.
async fn changed_after(changes: &mut tokio::sync::watch::Receiver<()>, pace: Option<Instant>) {
    if let Some(pace) = pace {
        sleep_until(pace).await;
    }
    // The switchboard, which sends, outlives this conversation.
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Reads on until `line` is whole. False at the end of the connection.
async fn next_line(read: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    let left = MAX_LINE_BYTES.saturating_sub(line.len() as u64);
    read.take(left).read_until(b'\n', line).await?;
    if line.ends_with(b"\n") {
        return Ok(true);
    }
    if line.len() as u64 >= MAX_LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line longer than any route table"));
    }
    Ok(false)
}

/// Takes a table. Only a line that is no table at all is an error; a refused one is answered with what holds.
fn obey(line: &[u8], switchboard: &Switchboard) -> io::Result<()> {
    let routes = match read_table(line) {
        Ok(routes) => routes,
        Err(error @ TableError::NewerFormat { .. }) => {
            tracing::error!(%error, "refused the agent's route table; the old one stays");
            return Ok(());
        }
        Err(error @ TableError::Shape(_)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    match switchboard.switch(&routes) {
        Switched::Holds => {
            tracing::info!(generation = routes.generation, routes = routes.routes.len(), "a new route table holds");
        }
        Switched::Older { have } => {
            tracing::warn!(generation = routes.generation, have, "refused an older route table");
        }
    }
    Ok(())
}

async fn send(write: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    match timeout(WRITE_TIMEOUT, write.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the agent does not read")),
    }
}
