//! A worker: one thread, one single-threaded runtime, and the clients that it accepted.
//!
//! A request is served from its first byte to its last on one thread, with connections to jobs that belong to that
//! thread, so workers share nothing that is written per request but the counters.

use crate::access_log::AccessLog;
use crate::answer::{Answer, Form};
use crate::body::{ServedBody, Source};
use crate::client::Client;
use crate::config::{Config, Limits};
use crate::forward::Carrier;
use crate::listen::is_exhausted;
use crate::preface::{self, Spoken};
use crate::record::Ledger;
use crate::switchboard::Switchboard;
use crate::{http1, http2};
use h2::Reason;
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use lapstrake_unit::Pulses;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a worker waits before it accepts again when the machine has run out of something.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How often idle connections to jobs are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How many clients beyond the limit are told so at the same time; further ones are closed without a word.
const MAX_TURNED_AWAY: usize = 256;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// Where requests go.
    pub switchboard: Switchboard,
    /// How long and how much.
    pub limits: Limits,
    /// Clients connected now.
    pub clients: AtomicUsize,
    /// Connections that changed their protocol.
    pub upgraded: AtomicUsize,
    /// Told when the last of both has left, after a handover.
    pub left: Notify,
    /// Loops that accept: one for each worker and address, none some time after a handover.
    pub accepting: AtomicUsize,
    /// Whether this process accepts, or another one does by now.
    pub phase: watch::Sender<Phase>,
    /// The same for those who ask with every request.
    handed_over: AtomicBool,
    /// What each worker tells of its requests.
    pub ledgers: Vec<Arc<Ledger>>,
    /// The access log, if there is one.
    pub access_log: Option<Arc<AccessLog>>,
    /// Told to stop accepting and to close what is idle.
    pub stop: CancellationToken,
    /// How long work in flight may go on after that.
    pub grace: Duration,
    /// Each worker's sign of life.
    pub pulses: Pulses,
}

/// Who accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// This process.
    Serving,
    /// Its successor. What this one has goes on to its end, without being cut: connections of HTTP/1.1 end with their next
    /// answer, those of HTTP/2 with their streams.
    HandedOver {
        /// The successor's process id.
        to: u32,
    },
}

impl Shared {
    /// What workers share that begin to serve.
    pub fn new(
        switchboard: Switchboard,
        config: &Config,
        ledgers: Vec<Arc<Ledger>>,
        log: Option<Arc<AccessLog>>,
    ) -> Shared {
        Shared {
            switchboard,
            limits: config.limits.clone(),
            clients: AtomicUsize::new(0),
            upgraded: AtomicUsize::new(0),
            left: Notify::new(),
            accepting: AtomicUsize::new(0),
            phase: watch::Sender::new(Phase::Serving),
            handed_over: AtomicBool::new(false),
            ledgers,
            access_log: log,
            stop: CancellationToken::new(),
            grace: config.shutdown_grace,
            pulses: Pulses::default(),
        }
    }

    /// Another process accepts, or this one again.
    pub fn enter(&self, phase: Phase) {
        self.handed_over.store(phase != Phase::Serving, Ordering::Release);
        self.phase.send_replace(phase);
    }

    /// Whether another process accepts.
    pub fn has_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Whether nobody is connected, nor can be.
    pub fn is_left(&self) -> bool {
        // In this order: a loop that has ended has counted whom it accepted.
        self.accepting.load(Ordering::Acquire) == 0
            && self.clients.load(Ordering::Acquire) == 0
            && self.upgraded.load(Ordering::Acquire) == 0
    }
}

/// One worker's own.
#[derive(Debug)]
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    tasks: TaskTracker,
}

/// Serves until the shared `stop`, then finishes what is in flight within the grace. Returns how many clients and
/// upgraded connections had to be cut.
pub fn serve(shared: Arc<Shared>, number: usize, listeners: Vec<std::net::TcpListener>) -> io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ledger = Arc::clone(&shared.ledgers[number]);
    let worker = Arc::new(Worker { shared, ledger, tasks: TaskTracker::new() });
    let cut = runtime.block_on(worker.run(listeners));
    runtime.shutdown_background();
    cut
}

impl Worker {
    async fn run(self: Arc<Self>, listeners: Vec<std::net::TcpListener>) -> io::Result<usize> {
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            self.tasks.spawn(Arc::clone(&self).accept(listener));
        }
        let stop = &self.shared.stop;
        let pulse = self.shared.pulses.of(format!("worker {}", self.ledger.worker));
        while stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
            pulse.beat();
            for target in self.shared.switchboard.targets() {
                target.sweep(self.ledger.worker);
            }
        }
        self.tasks.close();
        match tokio::time::timeout(self.shared.grace, self.tasks.wait()).await {
            Ok(()) => Ok(0),
            Err(_) => Ok(self.tasks.len()),
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let stop = self.shared.stop.clone();
        let mut phase = self.shared.phase.subscribe();
        // The socket stays open while another process accepts: if that one dies, this one goes on.
        while stop.run_until_cancelled(phase.wait_for(|phase| *phase == Phase::Serving)).await.is_some() {
            self.shared.accepting.fetch_add(1, Ordering::AcqRel);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = phase.changed() => {}
                () = self.accept_on(&listener) => {}
            }
            self.shared.accepting.fetch_sub(1, Ordering::AcqRel);
            tell_if_left(&self.shared);
        }
    }

    async fn accept_on(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => self.admit(stream, client),
                Err(error) if is_exhausted(&error) => {
                    tracing::warn!(%error, "cannot accept connections; waiting for some to end");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                Err(error) => tracing::debug!(%error, "a connection ended before it was accepted"),
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, client: SocketAddr) {
        let guest = Guest::new(&self.shared);
        let max = self.shared.limits.max_connections;
        if guest.number > max + MAX_TURNED_AWAY {
            return;
        }
        let welcome = guest.number <= max;
        let worker = Arc::clone(self);
        self.tasks.spawn(async move {
            worker.converse(stream, client, welcome).await;
            drop(guest);
        });
    }

    /// Serves one client until it or we close the connection.
    async fn converse(self: Arc<Self>, mut stream: TcpStream, address: SocketAddr, welcome: bool) {
        if let Err(error) = prepare(&stream, self.shared.limits.write_timeout) {
            tracing::debug!(client = %address, %error, "a client left at once");
            return;
        }
        let client = Client::new(address, "http");
        let spoken = preface::listen(&mut stream, &self.shared.stop);
        match tokio::time::timeout(self.shared.limits.header_timeout, spoken).await {
            Ok(Ok((Spoken::Http1, read))) => http1::converse(self, stream, read, client, welcome).await,
            Ok(Ok((Spoken::Http2, read))) => http2::converse(self, stream, read, client, welcome).await,
            Ok(Err(error)) => tracing::debug!(client = %address, %error, "a client left at once"),
            Err(_) => tracing::debug!(client = %address, "a client said nothing"),
        }
    }

    /// Answers one request, or says with which word of HTTP/2 its stream is reset.
    pub async fn respond(
        &self,
        client: &Client,
        request: Request<Source>,
        on_upgrade: Option<OnUpgrade>,
        welcome: bool,
    ) -> Result<Response<ServedBody>, Reason> {
        if !welcome {
            let max = self.shared.limits.max_connections;
            let text = format!("this proxy has {max} connections already, which is the limit");
            let form = Form::of(request.version(), request.headers());
            return Ok(Answer { close: true, ..Answer::unavailable(text) }.into_response(form));
        }
        let carrier = Carrier {
            switchboard: &self.shared.switchboard,
            limits: &self.shared.limits,
            ledger: &self.ledger,
            upgraded: &self.tasks,
            shared: &self.shared,
        };
        carrier.carry(client, request, on_upgrade).await
    }
}

/// A connected client, counted until dropped.
struct Guest {
    shared: Arc<Shared>,
    number: usize,
}

impl Guest {
    fn new(shared: &Arc<Shared>) -> Guest {
        let number = shared.clients.fetch_add(1, Ordering::AcqRel) + 1;
        Guest { shared: Arc::clone(shared), number }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.clients.fetch_sub(1, Ordering::AcqRel);
        tell_if_left(&self.shared);
    }
}

/// A connection that changed its protocol, counted until dropped.
pub struct Upgraded(Arc<Shared>);

impl Upgraded {
    /// One more.
    pub fn new(shared: &Arc<Shared>) -> Upgraded {
        shared.upgraded.fetch_add(1, Ordering::AcqRel);
        Upgraded(Arc::clone(shared))
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        self.0.upgraded.fetch_sub(1, Ordering::AcqRel);
        tell_if_left(&self.0);
    }
}

fn tell_if_left(shared: &Shared) {
    if shared.is_left() && shared.has_handed_over() {
        shared.left.notify_one();
    }
}

/// Small writes go at once, and a client that vanished without a word, or takes nothing of what it asked for, is found out by
/// the kernel. Only the kernel can tell the latter from a slow one: a socket whose buffer drains slowly takes no write for
/// minutes, though its client reads all the time.
fn prepare(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(write_timeout))
}
