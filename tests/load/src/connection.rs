//! Connections: kept ones in a pool, fresh ones for one request each.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// An open HTTP/1.1 connection without a request under way.
pub struct Connection {
    /// Where requests go in.
    pub requests: SendRequest<Empty<Bytes>>,
    /// Our port: with it a packet capture or the proxy's log finds the connection.
    pub local_port: u16,
    received: Arc<AtomicU64>,
}

/// What a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A connection of its own.
    Fresh,
    /// A kept connection.
    Kept,
    /// A new connection that is kept afterwards, since all kept ones were busy.
    New,
    /// The same, since the kept one that was tried first had been closed.
    Again,
}

impl Use {
    /// The word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Kept => "kept",
            Self::New => "new",
            Self::Again => "again",
        }
    }
}

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The other side refused, or nobody answered.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// This process or machine has no socket or port left: the load's fault, not the service's.
    #[error("the load generator has no socket left")]
    Exhausted(#[source] io::Error),
    /// The connection ended as it began.
    #[error("the connection ended as it began")]
    Http(#[source] hyper::Error),
}

impl Connection {
    /// Opens a connection.
    pub async fn open(address: SocketAddr) -> Result<Self, OpenError> {
        let stream = open_tcp(address).await?;
        let local_port = stream.local_addr().map_or(0, |local| local.port());
        let received = Arc::new(AtomicU64::new(0));
        let counted = Counted { stream, received: Arc::clone(&received) };
        let (requests, connection) = http1::handshake(TokioIo::new(counted)).await.map_err(OpenError::Http)?;
        // Its errors reach whoever waits for an answer. It ends when `requests` is dropped or the server closes.
        tokio::spawn(connection);
        Ok(Self { requests, local_port, received })
    }

    /// How many bytes have come from the server so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Opens a TCP connection that sends without delay.
pub async fn open_tcp(address: SocketAddr) -> Result<TcpStream, OpenError> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.raw_os_error() {
        Some(nix::libc::EMFILE | nix::libc::ENFILE | nix::libc::EADDRNOTAVAIL) => OpenError::Exhausted(error),
        _ => OpenError::Connect(error),
    })?;
    stream.set_nodelay(true).map_err(OpenError::Connect)?;
    Ok(stream)
}

/// Kept connections. The one that rested longest is taken first, so that all of them stay in use and many are open at
/// any instant at which the service is replaced.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<VecDeque<Connection>>,
    closed_idle: AtomicU64,
}

impl Pool {
    /// A kept connection; none if all are busy.
    pub async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.lock().pop_front()?;
            // An error is a server that closed between two requests, as it may. Nothing had been sent.
            match connection.requests.ready().await {
                Ok(()) => return Some(connection),
                Err(_) => self.closed_idle.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    /// Takes a connection back after a whole answer.
    pub fn put(&self, connection: Connection) {
        if connection.requests.is_closed() {
            self.closed_idle.fetch_add(1, Ordering::Relaxed);
        } else {
            self.lock().push_back(connection);
        }
    }

    /// How many kept connections the server closed after an answer, before the next request was sent.
    pub fn closed_idle(&self) -> u64 {
        self.closed_idle.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that counts what it receives. Whether a single byte of an answer has come decides whether a client may
/// send its request again.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let new = buffer.filled().len() - before;
        self.received.fetch_add(new as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
