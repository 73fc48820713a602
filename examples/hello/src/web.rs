//! What the service answers.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::{failure, log};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// The longest body that `/body` makes, so that one request cannot take all the memory.
const LONGEST_BODY: u64 = 16 << 20;

/// The version baked into the image when it was built.
pub fn version() -> String {
    std::env::var("VERSION").unwrap_or_else(|_| "unknown".into())
}

/// The name of the machine, or of the container.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim_end().to_owned()
}

/// Answers one request.
pub async fn answer(
    mut request: Request<Incoming>,
    stop: watch::Receiver<()>,
) -> Result<Response<Body>, hyper::http::Error> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => hello(),
        (&Method::GET, "/healthz") => match failure::unhealthy() {
            None => text(StatusCode::OK, "ok\n"),
            Some(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
        },
        (&Method::GET, "/body") => bytes(parameter(&request, "bytes").unwrap_or(1024)),
        (&Method::GET, "/slow") => {
            let wait = parameter(&request, "ms").unwrap_or(1000);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            text(StatusCode::OK, format!("answered after {wait} ms\n"))
        }
        (&Method::GET, "/stream") => {
            stream(parameter(&request, "chunks").unwrap_or(10), parameter(&request, "ms").unwrap_or(100))
        }
        (&Method::POST, "/echo") => Response::builder().body(request.into_body().boxed_unsync()),
        (&Method::GET, "/ws") => websocket(&mut request, stop),
        _ => text(StatusCode::NOT_FOUND, "nothing here\n"),
    }
}

/// Which version answers, and where it runs.
fn hello() -> Result<Response<Body>, hyper::http::Error> {
    let body = serde_json::json!({ "version": version(), "host": host() });
    Response::builder().header(CONTENT_TYPE, "application/json").body(full(body.to_string()))
}

/// A body of exactly so many bytes. Byte i is i modulo 251, a prime, so that a piece that is lost, doubled or swapped shows.
fn bytes(length: u64) -> Result<Response<Body>, hyper::http::Error> {
    if length > LONGEST_BODY {
        return text(StatusCode::BAD_REQUEST, format!("at most {LONGEST_BODY} bytes\n"));
    }
    let body: Vec<u8> = (0..length).map(|position| (position % 251) as u8).collect();
    Response::builder().header(CONTENT_TYPE, "application/octet-stream").body(full(body))
}

/// So many lines, one every `pause` milliseconds.
fn stream(chunks: u64, pause: u64) -> Result<Response<Body>, hyper::http::Error> {
    let lines = futures_util::stream::iter(0..chunks).then(move |number| async move {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Ok(Frame::data(Bytes::from(format!("chunk {number}\n"))))
    });
    Response::builder().header(CONTENT_TYPE, "text/plain").body(StreamBody::new(lines).boxed_unsync())
}

/// Accepts a WebSocket (RFC 6455) and leaves the connection to `echo`.
fn websocket(request: &mut Request<Incoming>, stop: watch::Receiver<()>) -> Result<Response<Body>, hyper::http::Error> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::UPGRADE_REQUIRED, "this address speaks WebSocket\n");
    };
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(echo(hyper::upgrade::on(request), stop));
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accept)
        .header("x-version", version())
        .header("x-host", host())
        .body(full(""))
}

/// Sends every message back, until the peer closes or the service stops; then says goodbye with a close frame, code
/// 1001 (going away), so that the peer knows to connect again. Pings are answered by the library as it reads.
async fn echo(upgrade: OnUpgrade, mut stop: watch::Receiver<()>) {
    let Ok(connection) = upgrade.await else {
        return;
    };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if socket.send(message).await.is_err() { return }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            _ = stop.changed() => break,
        }
    }
    let goodbye = CloseFrame { code: CloseCode::Away, reason: "the service stops".into() };
    if socket.close(Some(goodbye)).await.is_ok() {
        // The peer answers with its own close frame. One that does not within a second is not waited for.
        let farewell = async { while let Some(Ok(_)) = socket.next().await {} };
        if tokio::time::timeout(Duration::from_secs(1), farewell).await.is_err() {
            log("a WebSocket did not answer the close frame");
        }
    }
}

/// The number of a query parameter: `?ms=250`.
fn parameter(request: &Request<Incoming>, name: &str) -> Option<u64> {
    let mut pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name)?.1.parse().ok()
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Result<Response<Body>, hyper::http::Error> {
    Response::builder().status(status).header(CONTENT_TYPE, "text/plain").body(full(words))
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}
