//! WebSockets to the controller: a stream to a job.

use super::connect::connect;
use super::{ANSWER_WITHIN, Client, ClientError, Sent};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use lapstrake_api::tunnel::{FromOperator, MESSAGE_BYTES, SILENT_SECONDS, STDERR, STDIN, STDOUT, ToOperator};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// The controller says something three times as often; a stream that is silent for so long is dead.
const SILENT: Duration = Duration::from_secs(SILENT_SECONDS);

/// Before a stream that the controller had no room for is asked for again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// So often it is asked for: over some seconds, in which other streams end.
const TRIES: u32 = 5;

/// How often to say something, so that the controller knows that somebody is there.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(SILENT_SECONDS / 3);

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// Both ends of a stream to a job. The two directions do not wait for each other.
pub struct Socket {
    /// What is said.
    pub sender: Sender,
    /// What is heard.
    pub receiver: Receiver,
}

/// What is said to the job.
pub struct Sender(SplitSink<Stream, Message>);

/// What the job says.
pub struct Receiver(SplitStream<Stream>);

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Bytes that the job wrote.
    Piece {
        /// Whether to standard error.
        to_stderr: bool,
        /// As they are.
        bytes: Bytes,
    },
    /// A word.
    Word(ToOperator),
}

/// The connection is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl Client {
    /// Opens a stream, over a connection of its own. When there are too many at the moment, it is asked for again.
    pub async fn socket(&self, path: &str) -> Result<Socket, ClientError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.socket_once(path).await {
                Err(error) if error.retry_after().is_some() => {
                    tokio::time::sleep(error.retry_after().unwrap_or(pause).min(SIGN_OF_LIFE)).await;
                    pause *= 2;
                }
                ended => return ended,
            }
        }
        self.socket_once(path).await
    }

    async fn socket_once(&self, path: &str) -> Result<Socket, ClientError> {
        let url = || self.address.url.clone();
        let key = generate_key();
        let mut request = self.request(Method::GET, path, Sent::Nothing)?;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let shown = HeaderValue::try_from(&key).map_err(|error| ClientError::NotARequest(error.into()))?;
        headers.insert(header::SEC_WEBSOCKET_KEY, shown);
        let mut connected = connect(&self.address, &self.token, &self.trust).await?;
        let answer = tokio::time::timeout(ANSWER_WITHIN, connected.sender.send_request(request)).await;
        let answer = answer.map_err(|_| ClientError::Silent { url: url() })?;
        let response = answer.map_err(|source| ClientError::CutOff { url: url(), source: source.into() })?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.accepted(response).await?;
            return Err(ClientError::NoStream { url: url() });
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).and_then(|value| value.to_str().ok());
        if accept != Some(derive_accept_key(key.as_bytes()).as_str()) {
            return Err(ClientError::NoStream { url: url() });
        }
        let upgraded = hyper::upgrade::on(response).await;
        let upgraded = upgraded.map_err(|source| ClientError::CutOff { url: url(), source: source.into() })?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES))
            .write_buffer_size(0);
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        let (sender, receiver) = stream.split();
        Ok(Socket { sender: Sender(sender), receiver: Receiver(receiver) })
    }

    /// Whether a stream could be opened there, by an answer that is not one.
    pub async fn may_open(&mut self, path: &str) -> Result<(), ClientError> {
        match self.get_now(path).await {
            Err(ClientError::Problem { status, .. }) if status == StatusCode::UPGRADE_REQUIRED => Ok(()),
            answer => answer.map(drop),
        }
    }
}

impl Sender {
    /// Says bytes, at most as many as a piece has.
    pub async fn input(&mut self, piece: &[u8]) -> Result<(), Gone> {
        let mut bytes = Vec::with_capacity(piece.len() + 1);
        bytes.push(STDIN);
        bytes.extend_from_slice(piece);
        self.send(Message::binary(bytes)).await
    }

    /// Says a word.
    pub async fn word(&mut self, word: &FromOperator) -> Result<(), Gone> {
        self.send(Message::text(serde_json::to_string(word).map_err(|_| Gone)?)).await
    }

    /// Says that somebody is there.
    pub async fn sign_of_life(&mut self) -> Result<(), Gone> {
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.0.send(message).await.map_err(|_| Gone)
    }
}

impl Receiver {
    /// What is said next, or that the connection is gone.
    pub async fn next(&mut self) -> Result<Received, Gone> {
        loop {
            let message = tokio::time::timeout(SILENT, self.0.next()).await.map_err(|_| Gone)?;
            match message.ok_or(Gone)?.map_err(|_| Gone)? {
                Message::Binary(bytes) => match bytes.first() {
                    Some(&STDOUT) => return Ok(Received::Piece { to_stderr: false, bytes: bytes.slice(1..) }),
                    Some(&STDERR) => return Ok(Received::Piece { to_stderr: true, bytes: bytes.slice(1..) }),
                    // Of a later controller.
                    _ => {}
                },
                Message::Text(word) => {
                    // A word of a later controller is skipped.
                    if let Ok(word) = serde_json::from_str(&word) {
                        return Ok(Received::Word(word));
                    }
                }
                Message::Close(_) => return Err(Gone),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}
