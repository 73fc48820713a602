//! What has happened so far, counted. Requests and WebSockets write it, the report reads it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::wall_ms;
use crate::connection::Use;
use crate::request::{Kind, Wrong};

/// How many failures, retries and closed sockets are kept with all they said. The rest is only counted: a service that
/// is down for an hour must not fill the memory.
const KEPT: usize = 10_000;

/// One failure, with what is needed to find it in other logs.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// When it was known, in milliseconds since 1970.
    pub at_ms: u64,
    /// When the request was due.
    pub due_ms: u64,
    /// Which kind.
    pub kind: Kind,
    /// The status, if a head came.
    pub status: Option<u16>,
    /// The first bytes of the body.
    pub body: String,
    /// What exactly was wrong.
    pub detail: String,
    /// The word of its `Use`, or `websocket`.
    pub connection: &'static str,
    /// Our port of that connection.
    pub local_port: u16,
}

impl Failure {
    /// A failure that is known now.
    pub fn now(due_ms: u64, wrong: Wrong, connection: &'static str, local_port: u16) -> Self {
        let Wrong { kind, status, body, detail } = wrong;
        Self { at_ms: wall_ms(), due_ms, kind, status, body, detail, connection, local_port }
    }
}

/// The life of one WebSocket.
#[derive(Debug, Clone, Serialize)]
pub struct Socket {
    /// Which of the held sockets, from 0.
    pub socket: usize,
    /// Our port.
    pub local_port: u16,
    /// The `x-host` and `x-version` of the answer: which job it was connected to.
    pub host: Option<String>,
    /// See `host`.
    pub version: Option<String>,
    /// When it was open, in milliseconds since 1970.
    pub opened_ms: u64,
    /// When the close frame came, or the end without one.
    pub closed_ms: u64,
    /// `server` (with a close frame), `load` (it stopped) or `cut` (without a close frame).
    pub closed_by: &'static str,
    /// The code of the server's close frame.
    pub code: Option<u16>,
    /// Its reason.
    pub reason: String,
    /// Messages that came back.
    pub echoed: u64,
    /// Messages that had not come back when it closed; after a close frame no server owes an answer.
    pub unanswered: usize,
}

/// Everything counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that became due.
    pub scheduled: u64,
    /// Requests handed to an open connection.
    pub sent: u64,
    /// Requests answered 2xx with the whole body before the deadline.
    pub answered: u64,
    /// Requests sent a second time, see `attempt` in lib.rs.
    pub retried: u64,
    /// Requests on a connection of their own.
    pub fresh: u64,
    /// Connections opened for the pool.
    pub pool_opened: u64,
    /// Failures by kind.
    pub failed: BTreeMap<Kind, u64>,
    /// Failures of requests, without those of WebSockets.
    pub requests_failed: u64,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// The first retries: what had gone wrong.
    pub retries: Vec<Failure>,
    /// Microseconds from due to the end of the body, of answers in time.
    pub latencies_us: Vec<u32>,
    /// Answers by second since 1970 and version.
    pub versions: BTreeMap<u64, BTreeMap<String, u64>>,
    /// The longest time by which a request was begun after it was due.
    pub max_lag: Duration,
    /// WebSockets opened.
    pub sockets_opened: u64,
    /// Open now.
    pub sockets_open: u64,
    /// Messages sent on WebSockets.
    pub messages_sent: u64,
    /// Messages that came back.
    pub messages_echoed: u64,
    /// The first closed sockets.
    pub sockets: Vec<Socket>,
}

/// The counts, shared.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

impl Tally {
    /// The counts, to read or to add to.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Adds an answer in time.
    pub fn answer(&mut self, latency: Duration, version: Option<String>) {
        self.answered += 1;
        self.latencies_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        if let Some(version) = version {
            *self.versions.entry(wall_ms() / 1000).or_default().entry(version).or_default() += 1;
        }
    }

    /// Adds a request that goes out on a connection just opened; one that is sent again has been counted as sent.
    pub fn opened(&mut self, connection_use: Use) {
        match connection_use {
            Use::Fresh => self.fresh += 1,
            Use::Kept | Use::New | Use::Again => self.pool_opened += 1,
        }
        if connection_use != Use::Again {
            self.sent += 1;
        }
    }

    /// Adds the failure of a request.
    pub fn request_failed(&mut self, failure: Failure) {
        self.requests_failed += 1;
        self.fail(failure);
    }

    /// Adds the failure of a WebSocket.
    pub fn websocket_failed(&mut self, failure: Failure) {
        self.fail(failure);
    }

    fn fail(&mut self, failure: Failure) {
        *self.failed.entry(failure.kind).or_default() += 1;
        keep(&mut self.failures, failure);
    }

    /// Adds a request that has to be sent again.
    pub fn retry(&mut self, failure: Failure) {
        self.retried += 1;
        keep(&mut self.retries, failure);
    }

    /// Adds the end of a WebSocket.
    pub fn socket_closed(&mut self, socket: Socket) {
        self.sockets_open -= 1;
        keep(&mut self.sockets, socket);
    }
}

fn keep<T>(list: &mut Vec<T>, item: T) {
    if list.len() < KEPT {
        list.push(item);
    }
}
