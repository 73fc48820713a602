//! A connection to a job that speaks HTTP/2 without TLS: many requests at a time.

use crate::body::{BodyError, ClientBody};
use crate::pipe::{self, Stopped};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use h2::client::{self, SendRequest};
use h2::{Ping, Reason, RecvStream};
use http::{Request, Response};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// A job's response head is allowed twice what a client's request head is by default.
const MAX_RESPONSE_HEAD_BYTES: u32 = 128 * 1024;

/// Streams on one connection, also where the job would take more: a connection is one queue, in which a lost packet or a
/// large frame holds up all of them.
const MAX_STREAMS: usize = 128;

/// What a job may send of one response before the client took it, and of all responses of the connection: as much as all of its
/// streams together may keep, so that clients who take nothing hold up nobody else's.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;

/// What waits here of one request's body for the connection to take it.
const MAX_SEND_BUFFER: usize = 64 * 1024;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> u64 {
    STARTED.elapsed().as_millis() as u64
}

/// An HTTP/2 connection to a job. It closes when the last clone is gone and the last stream has ended.
#[derive(Debug, Clone)]
pub struct Trunk {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Streams in use.
    open: AtomicU32,
    closed: AtomicBool,
    /// Milliseconds since `STARTED` at which the last stream ended.
    used: AtomicU64,
}

/// A place on a trunk: one of its streams, from before it is opened to its end.
#[derive(Debug)]
pub struct Seat(Arc<State>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.used.store(now(), SeqCst);
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// A request under way on a trunk. Dropped before its end, the stream is reset.
#[derive(Debug)]
pub struct Ride {
    _body: Option<AbortOnDropHandle<()>>,
    _seat: Seat,
}

/// A connection that is being made; who waits for it, drives it.
pub type Dialing = Shared<BoxFuture<'static, Result<Trunk, Arc<io::Error>>>>;

/// Why an exchange ended without a response.
#[derive(Debug)]
pub enum Lost {
    /// The job has said that it did nothing with the request, or nothing of it was sent.
    Refused(h2::Error),
    /// The job has reset the stream.
    Reset(Reason),
    /// The connection broke.
    Broken(h2::Error),
}

impl Trunk {
    /// Connects within `connect`, and hears the job's settings within `settings`: how many streams it takes is known then,
    /// and that it speaks HTTP/2 at all. The connection is driven by the runtime that this is polled in.
    pub fn dial(address: SocketAddr, connect: Duration, settings: Duration) -> Dialing {
        let dialed = async move { Trunk::connect(address, connect, settings).await.map_err(Arc::new) };
        dialed.boxed().shared()
    }

    async fn connect(address: SocketAddr, connect: Duration, settings: Duration) -> io::Result<Trunk> {
        let late = |limit| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit:?}"));
        let stream = tokio::time::timeout(connect, TcpStream::connect(address)).await.map_err(|_| late(connect))??;
        stream.set_nodelay(true)?;
        let handshake = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_RESPONSE_HEAD_BYTES)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .handshake::<_, Bytes>(stream)
            .await;
        let (sender, mut connection) = handshake.map_err(io::Error::other)?;
        let mut ping = connection.ping_pong();
        let state =
            Arc::new(State { open: AtomicU32::new(0), closed: AtomicBool::new(false), used: AtomicU64::new(now()) });
        let ended = Arc::clone(&state);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "a connection to a job ended");
            }
            ended.closed.store(true, SeqCst);
        });
        if let Some(ping) = &mut ping {
            let heard = tokio::time::timeout(settings, ping.ping(Ping::opaque())).await;
            let heard = heard.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not speak HTTP/2"))?;
            heard.map_err(|error| io::Error::other(format!("it does not speak HTTP/2 ({error})")))?;
        }
        Ok(Trunk { sender, state })
    }

    /// A place on it, if there is one.
    pub fn seat(&self) -> Option<Seat> {
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        if self.is_closed() || self.state.open.load(SeqCst) as usize >= most {
            return None;
        }
        // Places are taken on one thread, so that nobody takes this one meanwhile.
        self.state.open.fetch_add(1, SeqCst);
        Some(Seat(Arc::clone(&self.state)))
    }

    /// Takes no new streams any more.
    pub fn close(&self) {
        self.state.closed.store(true, SeqCst);
    }

    /// Whether it takes no new streams.
    pub fn is_closed(&self) -> bool {
        self.state.closed.load(SeqCst)
    }

    /// How long no stream has been open on it; `None` while one is.
    pub fn idle_for(&self) -> Option<Duration> {
        let idle = self.state.open.load(SeqCst) == 0;
        idle.then(|| Duration::from_millis(now().saturating_sub(self.state.used.load(SeqCst))))
    }

    /// Sends a request and waits for the head of its response. The body goes on meanwhile, and after it.
    pub async fn exchange(
        self,
        seat: Seat,
        request: Request<()>,
        body: ClientBody,
    ) -> Result<(Response<RecvStream>, Ride), Lost> {
        let Trunk { sender, state } = self;
        // An error here is one of the whole connection: it takes no new streams.
        let unsent = |error| {
            state.closed.store(true, SeqCst);
            Lost::Refused(error)
        };
        let mut sender = sender.ready().await.map_err(unsent)?;
        let (response, mut stream) = sender.send_request(request, body.is_empty()).map_err(unsent)?;
        drop(sender);
        let sending = (!body.is_empty()).then(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                match pipe::send(body, &mut stream, None).await {
                    Ok(()) | Err(Stopped::ByReader | Stopped::Stalled) => {}
                    Err(Stopped::Body(error)) => stream.send_reset(cancelled(&error)),
                }
            }))
        });
        let response = response.await.map_err(|error| match error.reason() {
            Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => Lost::Refused(error),
            Some(reason) if error.is_reset() && error.is_remote() => Lost::Reset(reason),
            // Only streams above the last one that the job says it saw end so (RFC 9113, 6.8).
            _ if error.is_go_away() && error.is_remote() => unsent(error),
            _ => Lost::Broken(error),
        })?;
        Ok((response, Ride { _body: sending, _seat: seat }))
    }
}

/// What a job is told of a client that broke its request off.
fn cancelled(error: &BodyError) -> Reason {
    match error.reason() {
        Reason::NO_ERROR | Reason::INTERNAL_ERROR => Reason::CANCEL,
        reason => reason,
    }
}
