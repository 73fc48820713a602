//! Puts an open-loop load on a service and judges whether anything was lost.
//!
//! Requests are due at fixed times. Each must be answered 2xx with its whole body within the deadline, counted from when
//! it was due. Beside them WebSockets are held open and spoken to. What went wrong is written down with its time, so that
//! it can be laid beside the log of what was done to the service meanwhile.
//!
//! `schedule` says what is due when, `connection` and `request` carry one request, `websocket` one socket, `tally`
//! counts, `report` judges. `target` keeps all of it on this machine. `judge` is for afterwards: it lays the reports of
//! everybody involved beside one another.

pub mod clock;
pub mod connection;
pub mod judge;
pub mod report;
pub mod request;
pub mod schedule;
pub mod tally;
pub mod target;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{ms, ms_since, wall_ms};
use crate::connection::{Connection, OpenError, Pool, Use};
use crate::report::{Circumstances, Report};
use crate::request::{Answer, Kind, Wrong, ask, chain};
use crate::schedule::{Asks, Schedule};
use crate::tally::{Failure, Tally};
use crate::target::Target;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which requests when.
    pub schedule: Schedule,
    /// How long; none until told to stop.
    pub duration: Option<Duration>,
    /// How many WebSockets to hold.
    pub websockets: usize,
    /// Where they are.
    pub ws_path: String,
    /// When an answer is too late, counted from when its request was due.
    pub deadline: Duration,
    /// How many kept connections to open at the start. More are opened when all are busy.
    pub connections: usize,
    /// Whether to say on standard error each second how it goes.
    pub progress: bool,
}

/// A load under way: what its requests and sockets share.
struct Load {
    plan: Plan,
    target: Target,
    pool: Pool,
    tally: Tally,
}

/// Runs the load until its time is over or `stop` is ready, then until every request that was due has ended.
pub async fn run(plan: Plan, target: Target, stop: impl Future<Output = ()>) -> Report {
    raise_file_limit();
    let load = Arc::new(Load { plan, target, pool: Pool::default(), tally: Tally::default() });
    load.fill_pool().await;
    let (begun, started_ms, cpu_before) = (Instant::now(), wall_ms(), cpu_used());

    let (stop_sockets, _) = watch::channel(());
    for socket in 0..load.plan.websockets {
        let (load, stop) = (Arc::clone(&load), stop_sockets.subscribe());
        tokio::spawn(async move { websocket::hold(&load, socket, stop).await });
    }
    // Each request under way holds a receiver of this: their number is known, and when the last one has ended.
    let (under_way, _) = watch::channel(());
    tokio::select! {
        () = schedule_all(&load, begun, started_ms, &under_way) => {}
        () = stop => {}
        () = tell_progress(&load, begun, &under_way), if load.plan.progress => {}
    }
    under_way.closed().await;
    stop_sockets.send_replace(());
    stop_sockets.closed().await;

    let counts = std::mem::take(&mut *load.tally.counts());
    Report::new(
        counts,
        Circumstances {
            url: format!("http://{}{}", load.target.address, load.target.path),
            host: load.target.host.clone(),
            rate: load.plan.schedule.rate,
            started_ms,
            ended_ms: wall_ms(),
            closed_idle: load.pool.closed_idle(),
            websockets: load.plan.websockets,
            cpu: cpu_used().saturating_sub(cpu_before),
            elapsed: begun.elapsed(),
        },
    )
}

/// Begins every request when it is due, until the time is over.
async fn schedule_all(load: &Arc<Load>, begun: Instant, started_ms: u64, under_way: &watch::Sender<()>) {
    for number in 0.. {
        let due_after = load.plan.schedule.due(number);
        if load.plan.duration.is_some_and(|duration| due_after >= duration) {
            return;
        }
        let due = begun + due_after;
        // Already due ones are begun at once, so that a late timer delays nothing more than itself.
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        load.tally.counts().scheduled += 1;
        let (load, guard) = (Arc::clone(load), under_way.subscribe());
        let due_ms = started_ms + due_after.as_millis() as u64;
        tokio::spawn(async move {
            load.request(number, due, due_ms).await;
            drop(guard);
        });
    }
}

async fn tell_progress(load: &Load, begun: Instant, under_way: &watch::Sender<()>) {
    let mut ticks = tokio::time::interval_at(begun + Duration::from_secs(1), Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let counts = load.tally.counts();
        // Of the last second that is over.
        let versions = counts.versions.values().rev().take(2).next_back().into_iter().flatten();
        let versions: Vec<String> = versions.map(|(version, number)| format!("{version}:{number}")).collect();
        eprintln!(
            "{:>4.0} s  scheduled {}  answered {}  under way {}  failed {}  retried {}  sockets {}  {}",
            ms_since(begun) / 1000.0,
            counts.scheduled,
            counts.answered,
            under_way.receiver_count(),
            counts.failed.values().sum::<u64>(),
            counts.retried,
            counts.sockets_open,
            versions.join(" "),
        );
    }
}

/// How a request went: on which connection, from which port.
struct Ended {
    result: Result<Answer, Wrong>,
    connection: Use,
    local_port: u16,
}

impl Load {
    /// Opens the kept connections. One that cannot be opened now is tried again by the request that lacks it.
    async fn fill_pool(&self) {
        for _ in 0..self.plan.connections {
            if let Ok(Ok(connection)) =
                tokio::time::timeout(self.plan.deadline, Connection::open(self.target.address)).await
            {
                self.tally.counts().pool_opened += 1;
                self.pool.put(connection);
            }
        }
    }

    /// Carries one request to its end and counts how it ended.
    async fn request(&self, number: u64, due: Instant, due_ms: u64) {
        let lag = due.elapsed();
        {
            let mut counts = self.tally.counts();
            counts.max_lag = counts.max_lag.max(lag);
        }
        let fresh = self.plan.schedule.is_fresh(number);
        let asks = self.plan.schedule.asks(number);
        // Twice the deadline, so that a late answer is told from none.
        let mut ended = tokio::time::timeout_at(due + self.plan.deadline * 2, self.attempt(fresh, asks, due_ms))
            .await
            .unwrap_or_else(|_| Ended {
                result: Err(Wrong::unanswered(Kind::NoAnswer, "no whole answer within twice the deadline")),
                connection: if fresh { Use::Fresh } else { Use::Kept },
                local_port: 0,
            });
        let latency = due.elapsed();
        if ended.result.is_ok() && latency > self.plan.deadline {
            let kind = if lag > Duration::from_secs(1) { Kind::Generator } else { Kind::Late };
            ended.result = Err(Wrong::unanswered(kind, format!("answered {:.0} ms after it was due", ms(latency))));
        }
        let mut counts = self.tally.counts();
        match ended.result {
            Ok(answer) => counts.answer(latency, answer.version),
            Err(wrong) => counts.request_failed(Failure::now(due_ms, wrong, ended.connection.name(), ended.local_port)),
        }
    }

    /// Sends the request, on a connection of its own or on a kept one.
    ///
    /// A server may close a kept connection at any time between two requests, and then a request can meet the close on
    /// its way. Where not one byte of an answer has come, a client sends it again, once, on a new connection (RFC 9112,
    /// section 9.3.1); so does this one, and counts it as retried. Anything else is a loss.
    async fn attempt(&self, fresh: bool, asks: Asks, due_ms: u64) -> Ended {
        if fresh {
            return self.attempt_on_new(Use::Fresh, asks).await;
        }
        let Some(mut connection) = self.pool.take().await else {
            return self.attempt_on_new(Use::New, asks).await;
        };
        let (received, local_port) = (connection.received(), connection.local_port);
        self.tally.counts().sent += 1;
        match self.ask(&mut connection, asks).await {
            Err(wrong) if wrong.kind == Kind::Reset && connection.received() == received => {
                self.tally.counts().retry(Failure::now(due_ms, wrong, Use::Kept.name(), local_port));
                self.attempt_on_new(Use::Again, asks).await
            }
            result => {
                self.keep(connection, &result);
                Ended { result, connection: Use::Kept, local_port }
            }
        }
    }

    async fn attempt_on_new(&self, connection_use: Use, asks: Asks) -> Ended {
        let ended = |result, local_port| Ended { result, connection: connection_use, local_port };
        let mut connection = match Connection::open(self.target.address).await {
            Ok(connection) => connection,
            Err(error) => {
                let kind = if let OpenError::Exhausted(_) = error { Kind::Generator } else { Kind::Connect };
                return ended(Err(Wrong::unanswered(kind, chain(&error))), 0);
            }
        };
        self.tally.counts().opened(connection_use);
        let result = self.ask(&mut connection, asks).await;
        let local_port = connection.local_port;
        if connection_use != Use::Fresh {
            self.keep(connection, &result);
        }
        ended(result, local_port)
    }

    async fn ask(&self, connection: &mut Connection, asks: Asks) -> Result<Answer, Wrong> {
        ask(connection, &self.target.host, &self.target.path, asks).await
    }

    fn keep(&self, connection: Connection, result: &Result<Answer, Wrong>) {
        if result.is_ok() {
            self.pool.put(connection);
        }
    }
}

/// Lets the process have as many sockets as it may: a service that hangs keeps `rate * 2 * deadline` of them open.
fn raise_file_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Refused or not, the load runs; without sockets it says that it is at fault itself.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn cpu_used() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let used = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(used.unsigned_abs())
}
