//! A target: one port of one job, with what is in flight to it and the idle connections to it.

use crate::trunk::{Dialing, Seat, Trunk};
use crate::upstream::Upstream;
use lapstrake_core::ids::JobId;
use lapstrake_core::routes::Speaks;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a target that refused a connection is chosen only when there is no other. Longer than a connect can take,
/// so that a dead job costs at most one slow request in this time; short, because the agent's probes say more.
const AVOIDED_FOR: Duration = Duration::from_secs(3);

/// The most idle connections to one target that a worker keeps: as many requests as one job usually answers at a time.
const MAX_IDLE: usize = 128;

/// After this time an idle connection is closed. Most applications close theirs after 5 s or later by themselves.
pub const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Names a target. A job with two public ports has two targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// The job.
    pub job: JobId,
    /// The job's own address and port.
    pub address: SocketAddr,
}

/// One port of one job.
///
/// The count is raised only by `Switchboard::begin`, under the lock that also says which table holds. It may be lowered
/// at any time.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub key: TargetKey,
    /// How it is spoken to.
    pub speaks: Speaks,
    open: AtomicU32,
    /// No table names it any more.
    leaving: AtomicBool,
    /// Told when the count of a leaving target changes.
    changed: Arc<watch::Sender<()>>,
    /// Milliseconds since `STARTED` until which other targets are preferred.
    avoided_until: AtomicU64,
    /// One pool per worker: a connection is driven by the runtime that opened it, and is cheapest to use from there.
    pools: Box<[Mutex<Pool>]>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Least recently used first.
    idle: Vec<Upstream>,
    /// Oldest first; most have streams open.
    trunks: Vec<Trunk>,
    /// The trunk that all wait for who find no place on another one.
    dialing: Option<Dialing>,
    closed: bool,
}

/// What a request finds that needs a place on a trunk.
#[derive(Debug)]
pub enum Place {
    /// One.
    Here(Trunk, Seat),
    /// A trunk that is being made.
    Soon(Dialing),
}

impl Target {
    /// A target without connections.
    pub fn new(key: TargetKey, speaks: Speaks, workers: usize, changed: Arc<watch::Sender<()>>) -> Target {
        Target {
            key,
            speaks,
            open: AtomicU32::new(0),
            leaving: AtomicBool::new(false),
            changed,
            avoided_until: AtomicU64::new(0),
            pools: (0..workers).map(|_| Mutex::default()).collect(),
        }
    }

    /// Requests and upgraded connections in flight.
    pub fn open(&self) -> u32 {
        self.open.load(SeqCst)
    }

    /// One more in flight. Only under the switchboard's lock.
    pub fn begin(&self) {
        self.open.fetch_add(1, SeqCst);
    }

    /// One less in flight.
    ///
    /// Lower first, look at `leaving` second; `leave` does it the other way round before a report reads the count. So
    /// either the report has the new count or this call announces it.
    pub fn end(&self) {
        self.open.fetch_sub(1, SeqCst);
        if self.leaving.load(SeqCst) {
            self.changed.send_replace(());
        }
    }

    /// Takes note that no table names this target any more: its idle connections are closed now, those in use after
    /// their last byte.
    pub fn leave(&self) {
        self.leaving.store(true, SeqCst);
        for pool in &self.pools {
            let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
            pool.closed = true;
            pool.idle.clear();
            // Those with streams close when these have ended.
            pool.trunks.clear();
        }
    }

    /// Takes note that a table names this target, perhaps again: a replacement may be switched back.
    pub fn stay(&self) {
        if self.leaving.swap(false, SeqCst) {
            for pool in &self.pools {
                pool.lock().unwrap_or_else(PoisonError::into_inner).closed = false;
            }
        }
    }

    /// Takes the most recently used idle connection of this worker that is still open and, if asked, was used within
    /// `used_within`.
    pub fn take_idle(&self, worker: usize, used_within: Duration) -> Option<Upstream> {
        let mut pool = self.pools[worker].lock().unwrap_or_else(PoisonError::into_inner);
        pool.idle.retain(|upstream| !upstream.is_closed());
        let at = pool.idle.iter().rposition(Upstream::is_ready)?;
        (pool.idle[at].idle_for() < used_within).then(|| pool.idle.remove(at))
    }

    /// Gives a connection back after an exchange that was read to its end.
    pub fn put_back(&self, worker: usize, upstream: Upstream) {
        let mut pool = self.pools[worker].lock().unwrap_or_else(PoisonError::into_inner);
        if !pool.closed && pool.idle.len() < MAX_IDLE && !upstream.is_closed() {
            pool.idle.push(upstream.rested());
        }
    }

    /// Finds a place on one of this worker's trunks, or a trunk to wait for, which `dial` begins to make if nobody has. It is
    /// made to its end by a task of its own: whoever waits may leave, and what nobody finished would be met by the next one
    /// long after its time.
    pub fn place(self: &Arc<Self>, worker: usize, dial: impl FnOnce() -> Dialing) -> Place {
        let mut pool = self.pools[worker].lock().unwrap_or_else(PoisonError::into_inner);
        pool.trunks.retain(|trunk| !trunk.is_closed());
        if let Some((trunk, seat)) = pool.trunks.iter().find_map(|trunk| Some((trunk.clone(), trunk.seat()?))) {
            return Place::Here(trunk, seat);
        }
        let begun = || {
            let dialing = dial();
            let (target, waited) = (Arc::clone(self), dialing.clone());
            tokio::spawn(async move {
                let made = waited.clone().await;
                target.dialed(worker, &waited, made.as_ref().ok());
            });
            dialing
        };
        Place::Soon(pool.dialing.get_or_insert_with(begun).clone())
    }

    /// Takes note of how the making of a trunk ended; everybody who waited says it.
    pub fn dialed(&self, worker: usize, dialing: &Dialing, made: Option<&Trunk>) {
        let mut pool = self.pools[worker].lock().unwrap_or_else(PoisonError::into_inner);
        if pool.dialing.take_if(|waited| waited.ptr_eq(dialing)).is_some() && !pool.closed {
            pool.trunks.extend(made.cloned());
        }
    }

    /// Closes the worker's connections that were idle for long.
    pub fn sweep(&self, worker: usize) {
        let mut pool = self.pools[worker].lock().unwrap_or_else(PoisonError::into_inner);
        pool.idle.retain(|upstream| !upstream.is_closed() && upstream.idle_for() < MAX_IDLE_TIME);
        pool.trunks.retain(|trunk| !trunk.is_closed() && trunk.idle_for().is_none_or(|idle| idle < MAX_IDLE_TIME));
    }

    /// Takes note that it could not be connected to.
    pub fn avoid(&self) {
        let until = STARTED.elapsed() + AVOIDED_FOR;
        self.avoided_until.store(until.as_millis() as u64, SeqCst);
    }

    /// Whether it could not be connected to a moment ago.
    pub fn is_avoided(&self) -> bool {
        let until = self.avoided_until.load(SeqCst);
        until != 0 && (STARTED.elapsed().as_millis() as u64) < until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::io;

    #[tokio::test]
    async fn a_trunk_that_everybody_stopped_waiting_for_is_not_waited_for_by_the_next_one() {
        let key = TargetKey { job: JobId(1), address: SocketAddr::from(([127, 0, 0, 1], 1)) };
        let target = Arc::new(Target::new(key, Speaks::H2c, 1, Arc::default()));
        let (fail, failed) = tokio::sync::oneshot::channel::<()>();
        let refused = || Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let dialing = async move {
            let _ = failed.await;
            Err(refused())
        };
        // A client asked and went away.
        drop(target.place(0, || dialing.boxed().shared()));
        fail.send(()).unwrap();
        let again = || std::future::pending().boxed().shared();
        tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                let Place::Soon(dialing) = target.place(0, again) else { panic!("there is no trunk") };
                if dialing.now_or_never().is_none() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("a new trunk is dialed");
    }
}
