//! The old process's side of a handover: it offers its sockets to one successor at a time, and goes on itself whenever that
//! one does not get to the end.

use crate::handover::{self, AtTheDoor, HANDOVER_FORMAT, Hello, Passed, Progress, Reply};
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

/// How long a process waits that has found its successor dead, before it accepts again: one that was just taking over from the
/// successor has the door a moment later. New connections wait in the kernel's queue.
const DOOR_MAY_TAKE: Duration = Duration::from_millis(500);

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
    own: PathBuf,
    control_dir: PathBuf,
}

impl Door {
    /// Makes all of it that can fail, where nobody asks yet: as long as a predecessor serves, the door is that one's.
    pub fn make(control_dir: &Path) -> io::Result<Door> {
        let own = control_dir.join(format!("handover.{}.new", std::process::id()));
        match std::fs::remove_file(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&own)?;
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600))?;
        Ok(Door { listener, own, control_dir: control_dir.to_owned() })
    }

    /// Takes the place of a predecessor's, which may listen there still.
    pub fn open(&self) -> io::Result<()> {
        std::fs::rename(&self.own, handover::path_in(&self.control_dir))
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
                        match Door::make(&self.control_dir).and_then(|door| door.open().map(|()| door)) {
                            Ok(door) => self = door,
                            Err(error) => tracing::error!(%error, "no successor can ask for a handover"),
                        }
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let peer = stream.peer_cred().map(|peer| (peer.uid(), peer.pid()));
                        let pid = match peer {
                            Ok((uid, pid)) if handover::is_ours(uid) => pid.unwrap_or_default().unsigned_abs(),
                            other => {
                                tracing::warn!(?other, "refused a handover to a stranger");
                                continue;
                            }
                        };
                        let (shared, sockets, asked_by) = (Arc::clone(&shared), Arc::clone(&sockets), Arc::clone(&asked_by));
                        let control_dir = self.control_dir.clone();
                        // A thread of its own: it ends with the process, whatever the successor does.
                        let spawned = std::thread::Builder::new().name("handover".to_owned()).spawn(move || {
                            let spoken = stream.into_std().and_then(|stream| {
                                let has_taken_over = converse(&stream, pid, &shared, &sockets, &asked_by)?;
                                // A stopped process closes its sockets, and may watch for as long as its grace lasts.
                                drop(sockets);
                                if has_taken_over {
                                    watch_over(stream, pid, &control_dir, &shared);
                                }
                                Ok(())
                            });
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
            && let Err(error) = std::fs::remove_file(handover::path_in(&self.control_dir))
        {
            tracing::debug!(%error, "the handover socket was gone already");
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Gone if the door was opened. One that never was is nobody's.
        let _ = std::fs::remove_file(&self.own);
    }
}

/// Frees the place of the one successor.
struct Asked<'a>(&'a AtomicU32);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.store(0, SeqCst);
    }
}

/// True if the successor serves now.
fn converse(
    stream: &UnixStream,
    pid: u32,
    shared: &Shared,
    sockets: &Sockets,
    asked_by: &AtomicU32,
) -> io::Result<bool> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SUCCESSOR_MAY_TAKE))?;
    stream.set_write_timeout(Some(SUCCESSOR_MAY_TAKE))?;
    // Whoever only looks who serves says nothing.
    let Some((hello, _)) = handover::receive::<Hello>(stream)? else { return Ok(false) };
    tracing::info!(pid, version = hello.version, "a successor asks for a handover");
    let refuse = |why: String| {
        tracing::warn!(pid, why, "refused a handover");
        handover::send(stream, &Reply::Refused { why }, &[]).map(|()| false)
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
    Ok(true)
}

/// Looks until it is clear who serves, and twice where nobody seems to.
fn who_serves(successor: u32, control_dir: &Path) -> AtTheDoor {
    let mut seemed_dead = false;
    loop {
        match handover::at_the_door(control_dir) {
            AtTheDoor::Unclear => {}
            AtTheDoor::Dead if !seemed_dead => {
                tracing::info!(successor, "nobody answers at the door; looking once more");
                seemed_dead = true;
            }
            clear => return clear,
        }
        std::thread::sleep(DOOR_MAY_TAKE);
    }
}

/// Waits for the end of the successor, and comes back if it is missed.
fn watch_over(mut stream: UnixStream, pid: u32, control_dir: &Path, shared: &Shared) {
    // It says nothing more: what ends the connection is its own end. An error on it is no sign of life either.
    if let Err(error) = stream.set_read_timeout(None).and_then(|()| io::copy(&mut stream, &mut io::sink())) {
        tracing::debug!(pid, %error, "the successor is not heard any more");
    }
    match who_serves(pid, control_dir) {
        AtTheDoor::Process(other) if other != pid && other != std::process::id() => {
            tracing::info!(pid, other, "the successor is gone; its own serves on");
            // This process would not notice that one's death: let systemd look after it.
            lapstrake_unit::main_process(other);
        }
        AtTheDoor::Nobody => tracing::info!(pid, "the successor ended"),
        // A process that was told to end does not come back.
        _ if shared.stop.is_cancelled() => {}
        AtTheDoor::Process(_) | AtTheDoor::Dead | AtTheDoor::Unclear => {
            tracing::error!(pid, "the successor is gone; accepting again");
            shared.enter(Phase::Serving);
        }
    }
}

fn offer(stream: &UnixStream, shared: &Shared, sockets: &Sockets) -> io::Result<()> {
    let public = sockets.public.iter().map(|(address, listener)| (Passed::Public(*address), listener.as_fd()));
    let metrics = sockets.metrics.iter();
    let metrics = metrics.map(|(endpoint, listener)| (Passed::Metrics(endpoint.to_string()), listener.as_fd()));
    let (passed, descriptors): (Vec<Passed>, Vec<BorrowedFd<'_>>) = public.chain(metrics).unzip();
    let generation = shared.switchboard.report().generation;
    handover::send(stream, &Reply::Offer { sockets: passed, generation }, &descriptors)
}
