//! A request that becomes a WebSocket (RFC 6455): the handshake on a connection that hyper has opened.

use super::problem::{ApiError, Kind};
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use lapstrake_api::tunnel::MESSAGE_BYTES;
use std::future::Future;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// From the answer to the connection being a WebSocket; it is only written in between.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// What waits to be written to one that does not read.
const WRITE_BUFFER_BYTES: usize = 2 * MESSAGE_BYTES;

/// The socket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a request brings that wants to become a WebSocket, or why it cannot. Looked at last, so that whoever asks about what
/// is not there hears that.
pub struct Wanted(Result<Upgrade, &'static str>);

/// A request that can become one.
pub struct Upgrade {
    accept: HeaderValue,
    on_upgrade: OnUpgrade,
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Wanted, Self::Rejection> {
        Ok(Wanted(upgrade(parts)))
    }
}

fn upgrade(parts: &mut Parts) -> Result<Upgrade, &'static str> {
    let has = |name, word| names(&parts.headers, name, word);
    if parts.method != Method::GET || !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err("this address speaks WebSocket: ask over HTTP/1.1 with Connection: Upgrade and Upgrade: websocket");
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("this address speaks version 13 of WebSocket");
    }
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).ok_or("the request has no Sec-WebSocket-Key")?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| "the Sec-WebSocket-Key cannot be answered")?;
    let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or("this connection cannot become a WebSocket")?;
    Ok(Upgrade { accept, on_upgrade })
}

fn names(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
}

impl Wanted {
    /// The request as one that can become a WebSocket.
    pub fn ready(self) -> Result<Upgrade, ApiError> {
        self.0.map_err(|said| ApiError::new(Kind::UpgradeRequired, said))
    }
}

impl Upgrade {
    /// The answer, after which the connection is a WebSocket and `carry` has it.
    pub fn answer<F>(self, carry: impl FnOnce(Socket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        let Upgrade { accept, on_upgrade } = self;
        tokio::spawn(async move {
            let Ok(Ok(upgraded)) = timeout(HANDSHAKE, on_upgrade).await else { return };
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES))
                .max_frame_size(Some(MESSAGE_BYTES))
                .write_buffer_size(0)
                .max_write_buffer_size(WRITE_BUFFER_BYTES);
            carry(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await).await;
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}
