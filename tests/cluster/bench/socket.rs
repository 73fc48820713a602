//! A WebSocket to a job, as an operator's program has it.

use super::{Answer, Client, PATIENCE};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use lapstrake_api::tunnel::{FromOperator, STDIN, STDOUT, ToOperator};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

type Stream = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// An open one: what is said, and what is heard.
pub struct Socket {
    says: Says,
    hears: Hears,
}

/// What is said to the job.
pub struct Says(SplitSink<Stream, Message>);

/// What the job says.
pub struct Hears(SplitStream<Stream>);

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Word(ToOperator),
    /// It has ended.
    End,
}

/// A text as an address has it.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// The address of a command in a job of a service.
pub fn exec(service: &str, more: &str, command: &[&str]) -> String {
    let words: String = command.iter().map(|word| format!("&command={}", encoded(word))).collect();
    format!("/v1/services/{service}/exec?{more}{words}")
}

impl Client {
    /// Opens one, or gives the answer that refuses it.
    pub async fn try_socket(&self, path: &str) -> Result<Socket, Answer> {
        let request = self
            .request(Method::GET, path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .body(Full::<Bytes>::default())
            .expect("a request");
        let opening = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(self.connect().await)).await.expect("HTTP");
            tokio::spawn(connection.with_upgrades());
            let response = sender.send_request(request).await.expect("the controller answers");
            if response.status() != 101 {
                let (head, body) = response.into_parts();
                let content_type = head.headers.get("content-type").map(|value| value.to_str().expect("text"));
                let content_type = content_type.unwrap_or_default().to_owned();
                let body = body.collect().await.expect("a body").to_bytes();
                return Err(Answer { status: head.status.as_u16(), content_type, headers: head.headers, body });
            }
            let upgraded = hyper::upgrade::on(response).await.expect("a WebSocket");
            let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
            let (says, hears) = stream.split();
            Ok(Socket { says: Says(says), hears: Hears(hears) })
        };
        timeout(PATIENCE, opening).await.expect("an answer in time")
    }

    /// Opens one that is let in.
    pub async fn socket(&self, path: &str) -> Socket {
        match self.try_socket(path).await {
            Ok(socket) => socket,
            Err(answer) => panic!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
        }
    }
}

impl Socket {
    /// Both, for whoever does both at once.
    pub fn split(self) -> (Says, Hears) {
        (self.says, self.hears)
    }

    pub async fn word(&mut self, word: FromOperator) {
        self.says.word(word).await;
    }

    pub async fn input(&mut self, bytes: &[u8]) {
        self.says.input(bytes).await;
    }

    pub async fn next(&mut self) -> Heard {
        self.hears.next().await
    }

    pub async fn whole(self) -> (Vec<u8>, Vec<u8>, Option<ToOperator>) {
        self.hears.whole().await
    }

    /// Waits until the command runs or the connection is open, and gives the job and its slot.
    pub async fn started(&mut self) -> (String, String) {
        let Heard::Word(ToOperator::Entered { job, slot, .. }) = self.next().await else {
            panic!("which job comes first")
        };
        assert_eq!(self.next().await, Heard::Word(ToOperator::Started));
        (job, slot)
    }
}

impl Says {
    pub async fn word(&mut self, word: FromOperator) {
        let text = serde_json::to_string(&word).expect("JSON");
        // A stream that has ended says so to whoever hears.
        let _ = self.0.send(Message::text(text)).await;
    }

    pub async fn input(&mut self, bytes: &[u8]) {
        let _ = self.0.send(Message::binary([&[STDIN], bytes].concat())).await;
    }
}

impl Hears {
    /// What is said next.
    pub async fn next(&mut self) -> Heard {
        loop {
            return match timeout(PATIENCE, self.0.next()).await.expect("a message in time") {
                Some(Ok(Message::Binary(bytes))) => {
                    let (kind, rest) = bytes.split_first().expect("a first byte");
                    if *kind == STDOUT { Heard::Stdout(rest.to_vec()) } else { Heard::Stderr(rest.to_vec()) }
                }
                Some(Ok(Message::Text(text))) => Heard::Word(serde_json::from_str(&text).expect("a word")),
                Some(Ok(Message::Close(_)) | Err(_)) | None => Heard::End,
                Some(Ok(_)) => continue,
            };
        }
    }

    /// All to the end: standard output, standard error, and the last word.
    pub async fn whole(mut self) -> (Vec<u8>, Vec<u8>, Option<ToOperator>) {
        let (mut out, mut err, mut last) = (Vec::new(), Vec::new(), None);
        loop {
            match self.next().await {
                Heard::Stdout(bytes) => out.extend(bytes),
                Heard::Stderr(bytes) => err.extend(bytes),
                Heard::Word(word) => last = Some(word),
                Heard::End => return (out, err, last),
            }
        }
    }
}
