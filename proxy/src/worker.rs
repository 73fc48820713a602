//! A worker: one thread, one single-threaded runtime, and the clients that it accepted.
//!
//! A request is served from its first byte to its last on one thread, with connections to jobs that belong to that
//! thread, so workers share nothing that is written per request but the counters.

use crate::answer::{Answer, wants_json};
use crate::body::ServedBody;
use crate::config::Limits;
use crate::forward::Carrier;
use crate::listen::is_exhausted;
use crate::patience::Patience;
use crate::switchboard::Switchboard;
use crate::tap::Tap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
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
    /// Told to stop accepting and to close what is idle.
    pub stop: CancellationToken,
    /// How long work in flight may go on after that.
    pub grace: Duration,
}

/// One worker's own.
struct Worker {
    shared: Arc<Shared>,
    number: usize,
    tasks: TaskTracker,
}

/// Serves until the shared `stop`, then finishes what is in flight within the grace. Returns how many clients and
/// upgraded connections had to be cut.
pub fn serve(shared: Arc<Shared>, number: usize, listeners: Vec<std::net::TcpListener>) -> io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let worker = Arc::new(Worker { shared, number, tasks: TaskTracker::new() });
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
        while stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
            for target in self.shared.switchboard.targets() {
                target.sweep(self.number);
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
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
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
    async fn converse(self: Arc<Self>, stream: TcpStream, client: SocketAddr, welcome: bool) {
        if let Err(error) = prepare(&stream, self.shared.limits.write_timeout) {
            tracing::debug!(%client, %error, "a client left at once");
            return;
        }
        let patience = Arc::new(Patience::default());
        let service = service_fn(|mut request: Request<Incoming>| {
            let worker = Arc::clone(&self);
            let turn = patience.turn();
            patience.head.restore_length(request.headers_mut());
            async move {
                let mut response = worker.respond(client, request, welcome).await;
                response.body_mut().turn = Some(turn);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .max_header_size(self.shared.limits.max_header_bytes)
            .max_buf_size(self.shared.limits.max_header_bytes)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(Tap::new(stream, Arc::clone(&patience))), service)
            .with_upgrades();
        tokio::pin!(connection);
        let run_out = patience.run_out(&self.shared.limits);
        tokio::pin!(run_out);
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%client, %error, "a client's connection ended");
                    }
                    return;
                }
                why = run_out.as_mut() => {
                    tracing::debug!(%client, ?why, "a client took too long");
                    return;
                }
                () = self.shared.stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn respond(&self, client: SocketAddr, request: Request<Incoming>, welcome: bool) -> Response<ServedBody> {
        if !welcome {
            let max = self.shared.limits.max_connections;
            let text = format!("this proxy has {max} connections already, which is the limit");
            return Answer { close: true, ..Answer::unavailable(text) }.into_response(wants_json(request.headers()));
        }
        let carrier = Carrier {
            switchboard: &self.shared.switchboard,
            limits: &self.shared.limits,
            worker: self.number,
            upgraded: &self.tasks,
        };
        carrier.carry(client, request).await
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
