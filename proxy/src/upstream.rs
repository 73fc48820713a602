//! A connection to a job that speaks HTTP/1.1: one request at a time.

use crate::body::{ClientBody, Source};
use crate::tap::Tap;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// A job's response head is allowed twice what a client's request head is by default.
const MAX_RESPONSE_HEAD_BYTES: usize = 128 * 1024;

/// An HTTP/1.1 connection to a job. One request at a time; closed when dropped.
#[derive(Debug)]
pub struct Upstream {
    sender: SendRequest<ClientBody>,
    /// Bytes that ever came from the job on it.
    heard: Arc<AtomicU64>,
    /// Whether it has carried an exchange before.
    used: bool,
    idle_since: Instant,
}

/// Why an exchange ended without a response.
#[derive(Debug)]
pub struct Broken {
    /// What hyper says.
    pub error: hyper::Error,
    /// No byte of a response came.
    pub silent: bool,
    /// Nothing of the request was written either.
    pub unsent: bool,
}

impl Upstream {
    /// Connects within `limit`. The connection is driven by the runtime that this is called in.
    pub async fn connect(address: SocketAddr, limit: Duration) -> io::Result<Upstream> {
        let stream = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit:?}"))),
        };
        stream.set_nodelay(true)?;
        let heard = Arc::new(AtomicU64::new(0));
        let tap = TokioIo::new(Tap::new(stream, Arc::clone(&heard)));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_RESPONSE_HEAD_BYTES)
            .handshake(tap)
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%address, %error, "a connection to a job ended");
            }
        });
        Ok(Upstream { sender, heard, used: false, idle_since: Instant::now() })
    }

    /// Sends a request and waits for the head of its response.
    pub async fn exchange(&mut self, request: Request<ClientBody>) -> Result<Response<Source>, Broken> {
        let before = self.heard.load(Ordering::Acquire);
        let sent = self.sender.try_send_request(request).await;
        sent.map(|response| response.map(Source::Http1)).map_err(|mut refused| {
            let unsent = refused.take_message().is_some();
            let silent = self.heard.load(Ordering::Acquire) == before;
            Broken { error: refused.into_error(), silent, unsent }
        })
    }

    /// The same connection, now idle.
    pub fn rested(mut self) -> Upstream {
        self.used = true;
        self.idle_since = Instant::now();
        self
    }

    /// Whether it has carried an exchange before, so that the job may be closing it right now.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// How long it has been idle.
    pub fn idle_for(&self) -> Duration {
        self.idle_since.elapsed()
    }

    /// Whether a request can be sent now.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it is known to be closed.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
