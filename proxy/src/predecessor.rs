//! The old process's side of a handover: it offers its sockets to one successor at a time, and goes on itself whenever that
//! one does not get to the end.

use crate::handover::{self, HANDOVER_FORMAT, Hello, Passed, Progress, Reply};
use crate::worker::{Phase, Shared};
use lapstrake_metrics::{Endpoint, Listener};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// How long a successor may take from the offer to its first accept: it may wait for the agent's table meanwhile.
const SUCCESSOR_MAY_TAKE: Duration = Duration::from_secs(30);

/// How long accepting waits after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets of this process, as the configuration writes their addresses.
#[derive(Debug)]
pub struct Sockets {
    /// Public ones.
    pub public: Vec<(SocketAddr, TcpListener)>,
    /// The metrics' own.
    pub metrics: Option<(Endpoint, Listener)>,
}

/// The socket at which a successor asks.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Takes the place of a predecessor's, which may listen there still.
    pub fn open(control_dir: &Path) -> io::Result<Door> {
        let path = handover::path_in(control_dir);
        let own = control_dir.join(format!("handover.{}.new", std::process::id()));
        match std::fs::remove_file(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&own)?;
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&own, &path)?;
        Ok(Door { listener, path })
    }

    /// Answers successors until `stop`. The file stays if a successor has put its own there.
    pub async fn serve(mut self, shared: Arc<Shared>, sockets: Arc<Sockets>, stop: CancellationToken) {
        let asked_by = Arc::new(AtomicU32::new(0));
        let mut phase = shared.phase.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = phase.changed() => {
                    // A successor that died after it took over has left its own file at our place.
                    if changed.is_ok() && *phase.borrow_and_update() == Phase::Serving {
                        match self.path.parent().map(Door::open) {
                            Some(Ok(door)) => self = door,
                            failed => tracing::error!(?failed, "no successor can ask for a handover"),
                        }
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let peer = stream.peer_cred().map(|peer| (peer.uid(), peer.pid()));
                        let (uid, pid) = match peer {
                            Ok((uid, pid)) if handover::is_ours(uid) => (uid, pid.unwrap_or_default().unsigned_abs()),
                            other => {
                                tracing::warn!(?other, "refused a handover to a stranger");
                                continue;
                            }
                        };
                        let (shared, sockets, asked_by) = (Arc::clone(&shared), Arc::clone(&sockets), Arc::clone(&asked_by));
                        // A thread of its own: it ends with the process, whatever the successor does.
                        let spawned = std::thread::Builder::new().name("handover".to_owned()).spawn(move || {
                            tracing::info!(uid, pid, "a successor asks for a handover");
                            let spoken = stream.into_std().and_then(|stream| converse(&stream, pid, &shared, &sockets, &asked_by));
                            if let Err(error) = spoken {
                                tracing::warn!(pid, %error, "the handover came to nothing; serving on");
                            }
                        });
                        if let Err(error) = spawned {
                            tracing::error!(%error, "no thread for a handover");
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the handover socket cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        if !shared.has_handed_over()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "the handover socket was gone already");
        }
    }
}

/// Frees the place of the one successor.
struct Asked<'a>(&'a AtomicU32);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.store(0, SeqCst);
    }
}

fn converse(stream: &UnixStream, pid: u32, shared: &Shared, sockets: &Sockets, asked_by: &AtomicU32) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SUCCESSOR_MAY_TAKE))?;
    stream.set_write_timeout(Some(SUCCESSOR_MAY_TAKE))?;
    let Some((hello, _)) = handover::receive::<Hello>(stream)? else { return Ok(()) };
    let refuse = |why: String| {
        tracing::warn!(pid, why, "refused a handover");
        handover::send(stream, &Reply::Refused { why }, &[])
    };
    if hello.format != HANDOVER_FORMAT {
        let theirs = hello.format;
        return refuse(format!(
            "it speaks version {theirs} of the handover, this proxy version {HANDOVER_FORMAT}; restart the unit"
        ));
    }
    if let Err(other) = asked_by.compare_exchange(0, pid.max(1), SeqCst, SeqCst) {
        return refuse(format!("process {other} is taking over already"));
    }
    let _asked = Asked(asked_by);
    if shared.has_handed_over() {
        return refuse("this proxy has handed over already".to_owned());
    }
    offer(stream, shared, sockets)?;
    match handover::receive::<Progress>(stream)? {
        Some((Progress::Accepting, _)) => {}
        other => {
            return Err(io::Error::other(format!(
                "the successor said {:?} instead of accepting",
                other.map(|(said, _)| said)
            )));
        }
    }
    shared.enter(Phase::HandedOver { to: pid });
    tracing::info!(pid, version = hello.version, "handed over; finishing what is in flight");
    if let Err(error) = handover::send(stream, &Reply::Released, &[]) {
        tracing::warn!(pid, %error, "the successor was not told");
    }
    stream.set_read_timeout(None)?;
    match handover::receive::<Progress>(stream) {
        Ok(Some((Progress::Ended, _))) => tracing::info!(pid, "the successor ended"),
        gone => {
            tracing::error!(pid, ?gone, "the successor is gone; accepting again");
            shared.enter(Phase::Serving);
        }
    }
    Ok(())
}

fn offer(stream: &UnixStream, shared: &Shared, sockets: &Sockets) -> io::Result<()> {
    let public = sockets.public.iter().map(|(address, listener)| (Passed::Public(*address), listener.as_fd()));
    let metrics = sockets.metrics.iter();
    let metrics = metrics.map(|(endpoint, listener)| (Passed::Metrics(endpoint.to_string()), listener.as_fd()));
    let (passed, descriptors): (Vec<Passed>, Vec<BorrowedFd<'_>>) = public.chain(metrics).unzip();
    let generation = shared.switchboard.report().generation;
    handover::send(stream, &Reply::Offer { sockets: passed, generation }, &descriptors)
}
