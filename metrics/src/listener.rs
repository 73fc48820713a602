//! The address at which Prometheus asks: a Unix socket, or a loopback address.
//!
//! What a daemon counts names services and tells how busy they are, so it is never told to the network: somebody who wants
//! it from elsewhere puts something with a login before it.

use crate::text::CONTENT_TYPE;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Deserializer, de};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Askers at the same time. Each renders a text of its own, and Prometheus needs one.
const MAX_ASKERS: usize = 8;

/// How long one may take to ask and to hear. Prometheus itself gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long accepting waits after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a daemon tells what it counts. Written as `127.0.0.1:9464`, `[::1]:9464`, or an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A loopback address.
    Loopback(SocketAddr),
    /// A Unix socket, readable and writable for its owner only.
    Unix(PathBuf),
}

/// Why a text names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointError {
    /// Neither an address nor a path.
    Unreadable(String),
    /// Others could ask there.
    Public(SocketAddr),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointError::Unreadable(text) => {
                write!(out, "{text:?} is neither an address like 127.0.0.1:9464 nor an absolute path of a socket")
            }
            EndpointError::Public(address) => {
                write!(out, "{address} is not a loopback address, and metrics are not told to the network")
            }
        }
    }
}

impl std::error::Error for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        if Path::new(text).is_absolute() {
            return Ok(Endpoint::Unix(PathBuf::from(text)));
        }
        let address: SocketAddr = text.parse().map_err(|_| EndpointError::Unreadable(text.to_owned()))?;
        if address.ip().to_canonical().is_loopback() {
            Ok(Endpoint::Loopback(address))
        } else {
            Err(EndpointError::Public(address))
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Loopback(address) => write!(out, "{address}"),
            Endpoint::Unix(path) => write!(out, "{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Endpoint, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A bound endpoint.
#[derive(Debug)]
pub enum Listener {
    /// A loopback address.
    Loopback(std::net::TcpListener),
    /// A Unix socket. Its file stays when this is dropped: a successor may have taken its place.
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    /// Binds. A socket's file that is there already is replaced; anything else at its path is left alone, an error.
    pub fn bind(endpoint: &Endpoint) -> io::Result<Listener> {
        match endpoint {
            Endpoint::Loopback(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Loopback(listener))
            }
            Endpoint::Unix(path) => {
                match std::fs::symlink_metadata(path) {
                    Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path)?,
                    Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else")),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(listener))
            }
        }
    }

    /// The bound socket of another process, which listens at `endpoint`.
    pub fn passed(endpoint: &Endpoint, socket: OwnedFd) -> io::Result<Listener> {
        match endpoint {
            Endpoint::Loopback(_) => {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                Ok(Listener::Loopback(listener))
            }
            Endpoint::Unix(_) => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(listener))
            }
        }
    }

    /// The same socket once more.
    pub fn try_clone(&self) -> io::Result<Listener> {
        match self {
            Listener::Loopback(listener) => Ok(Listener::Loopback(listener.try_clone()?)),
            Listener::Unix(listener) => Ok(Listener::Unix(listener.try_clone()?)),
        }
    }

    /// Where it is, with the port that the system chose for port 0. `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Loopback(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }

    /// Answers `GET /metrics` with what `render` gives, until `stop`. Needs a runtime of tokio's with I/O and time.
    pub async fn serve(self, render: impl Fn() -> String + Send + Sync + 'static, stop: CancellationToken) {
        let render: Arc<Render> = Arc::new(render);
        let served = match self {
            Listener::Loopback(listener) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    accept_all(|| async { Ok(listener.accept().await?.0) }, render, &stop).await;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Listener::Unix(listener) => match tokio::net::UnixListener::from_std(listener) {
                Ok(listener) => {
                    accept_all(|| async { Ok(listener.accept().await?.0) }, render, &stop).await;
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = served {
            tracing::error!(%error, "the metrics cannot be served");
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Loopback(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

type Render = dyn Fn() -> String + Send + Sync;

async fn accept_all<S, F>(accept: impl Fn() -> F, render: Arc<Render>, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let places = Arc::new(Semaphore::new(MAX_ASKERS));
    while let Some(accepted) = stop.run_until_cancelled(accept()).await {
        match accepted {
            Ok(stream) => {
                // Whoever finds no place is closed without a word.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let render = Arc::clone(&render);
                tokio::spawn(async move {
                    answer(stream, &*render).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics' listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One question on each connection: keeping it would keep its place.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, render: &Render) {
    let service = service_fn(|request| {
        let response = respond(&request, render);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a question for the metrics broke off"),
        Err(_) => tracing::debug!("a question for the metrics took too long"),
    }
}

fn respond(request: &Request<Incoming>, render: &Render) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, CONTENT_TYPE, render()),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "only GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "only /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn metrics_are_not_told_to_the_network() {
        for text in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "[::ffff:192.0.2.1]:9464"] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Public(_))), "{text}");
        }
        for text in ["localhost:9464", "9464", "metrics.sock", ""] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Unreadable(_))), "{text}");
        }
        for text in ["127.0.0.1:9464", "[::1]:9464", "/run/lapstrake/metrics.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[tokio::test]
    async fn a_loopback_address_answers_one_path() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(listener.serve(|| "a 1\n".to_owned(), stop.clone()));
        for (request, status) in [("GET /metrics", "200"), ("GET /", "404"), ("POST /metrics", "405")] {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let answer = ask(stream, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert_eq!(answer.ends_with("\r\n\r\na 1\n"), status == "200", "{answer}");
        }
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_of_a_former_process_is_replaced_and_another_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.sock");
        let endpoint = Endpoint::Unix(path.clone());
        drop(Listener::bind(&endpoint).unwrap());
        let listener = Listener::bind(&endpoint).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        tokio::spawn(listener.serve(|| "a 1\n".to_owned(), CancellationToken::new()));
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        assert!(ask(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.contains("text/plain; version=0.0.4"));

        let other = directory.path().join("file");
        std::fs::write(&other, "kept").unwrap();
        assert!(Listener::bind(&Endpoint::Unix(other.clone())).is_err());
        assert_eq!(std::fs::read_to_string(other).unwrap(), "kept");
    }
}
