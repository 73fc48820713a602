//! One held WebSocket: it sends a numbered message every half second, expects it back, and is opened again whenever the
//! service closes it.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::Load;
use crate::clock::wall_ms;
use crate::connection::{OpenError, open_tcp};
use crate::request::{Kind, Wrong, chain};
use crate::tally::{Failure, Socket};

/// How often a message is sent.
const MESSAGE_EVERY: Duration = Duration::from_millis(500);
/// How long to wait for the other side's close frame, once ours is out.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a conversation ended.
enum End {
    /// The server sent a close frame.
    Server(Option<CloseFrame>),
    /// The load stops.
    Load,
    /// The connection ended without a close frame.
    Cut(String),
    /// An echo was late or wrong.
    BadEcho(String),
}

/// Holds socket number `socket` open until told to stop.
pub async fn hold(load: &Load, socket: usize, mut stop: watch::Receiver<()>) {
    // Not all of them in the same millisecond.
    let offset = MESSAGE_EVERY * socket as u32 / load.plan.websockets.max(1) as u32;
    tokio::time::sleep(offset).await;
    loop {
        let begun = wall_ms();
        let opened = tokio::select! {
            opened = timeout(load.plan.deadline, open(load)) => opened,
            _ = stop.changed() => return,
        };
        match opened {
            Ok(Ok((stream, answer, local_port))) => {
                if converse(load, socket, stream, &answer, local_port, &mut stop).await {
                    return;
                }
            }
            Ok(Err(wrong)) => fail(load, begun, wrong, 0),
            Err(_) => {
                fail(load, begun, Wrong::unanswered(Kind::WebsocketOpen, "not open within the deadline"), 0);
            }
        }
        tokio::select! {
            // A service that refuses is asked again at the pace of the messages, not in a busy loop.
            () = tokio::time::sleep(MESSAGE_EVERY / 10) => {}
            _ = stop.changed() => return,
        }
    }
}

async fn open(load: &Load) -> Result<(WebSocketStream<TcpStream>, Response<()>, u16), Wrong> {
    let stream = open_tcp(load.target.address).await.map_err(|error| {
        let kind = if let OpenError::Exhausted(_) = error { Kind::Generator } else { Kind::WebsocketOpen };
        Wrong::unanswered(kind, chain(&error))
    })?;
    let local_port = stream.local_addr().map_or(0, |local| local.port());
    let request = Request::get(format!("ws://{}{}", load.target.host, load.plan.ws_path))
        .header(HOST, &load.target.host)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, generate_key())
        .body(())
        .map_err(|error| Wrong::unanswered(Kind::Generator, format!("the request cannot be built: {error}")))?;
    match client_async(request, stream).await {
        Ok((stream, answer)) => Ok((stream, answer.map(|_| ()), local_port)),
        Err(Error::Http(answer)) => Err(Wrong {
            kind: Kind::WebsocketOpen,
            status: Some(answer.status().as_u16()),
            body: String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned(),
            detail: "the server did not switch protocols".into(),
        }),
        Err(error) => Err(Wrong::unanswered(Kind::WebsocketOpen, chain(&error))),
    }
}

/// Talks until the socket ends, and records how. Returns whether the load stops.
async fn converse(
    load: &Load,
    socket: usize,
    stream: WebSocketStream<TcpStream>,
    answer: &Response<()>,
    local_port: u16,
    stop: &mut watch::Receiver<()>,
) -> bool {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let opened_ms = wall_ms();
    {
        let mut counts = load.tally.counts();
        counts.sockets_opened += 1;
        counts.sockets_open += 1;
    }
    let mut talk = Talk { load, socket, stream, waiting: VecDeque::new(), sent: 0, echoed: 0 };
    let end = talk.until_it_ends(stop).await;
    let closed_ms = wall_ms();
    let (closed_by, frame) = match &end {
        End::Server(frame) => ("server", frame.clone()),
        End::Load => ("load", None),
        End::Cut(_) | End::BadEcho(_) => ("cut", None),
    };
    let record = Socket {
        socket,
        local_port,
        host: header("x-host"),
        version: header("x-version"),
        opened_ms,
        closed_ms,
        closed_by,
        code: frame.as_ref().map(|frame| frame.code.into()),
        reason: frame.map(|frame| frame.reason.to_string()).unwrap_or_default(),
        echoed: talk.echoed,
        unanswered: talk.waiting.len(),
    };
    load.tally.counts().socket_closed(record);
    match end {
        End::Cut(detail) => fail(load, opened_ms, Wrong::unanswered(Kind::WebsocketCut, detail), local_port),
        End::BadEcho(detail) => fail(load, opened_ms, Wrong::unanswered(Kind::WebsocketEcho, detail), local_port),
        End::Server(_) => talk.see_off().await,
        End::Load => {
            let closing = talk.stream.close(None);
            if let Ok(Ok(())) = timeout(FAREWELL, closing).await {
                talk.see_off().await;
            }
            return true;
        }
    }
    false
}

/// A conversation under way.
struct Talk<'a> {
    load: &'a Load,
    socket: usize,
    stream: WebSocketStream<TcpStream>,
    /// What was sent and has not come back, oldest first, with its deadline.
    waiting: VecDeque<(String, Instant)>,
    sent: u64,
    echoed: u64,
}

impl Talk<'_> {
    async fn until_it_ends(&mut self, stop: &mut watch::Receiver<()>) -> End {
        let mut ticks = tokio::time::interval(MESSAGE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ended = tokio::select! {
                message = self.stream.next() => self.take(message),
                _ = ticks.tick() => self.send().await,
                _ = stop.changed() => return End::Load,
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    fn take(&mut self, message: Option<Result<Message, Error>>) -> Option<End> {
        match message {
            Some(Ok(Message::Text(text))) => match self.waiting.pop_front() {
                Some((expected, deadline)) if expected == text.as_str() => {
                    self.echoed += 1;
                    self.load.tally.counts().messages_echoed += 1;
                    (Instant::now() > deadline).then(|| End::BadEcho(format!("the echo of {expected} was late")))
                }
                Some((expected, _)) => Some(End::BadEcho(format!("{expected} was sent, {text} came back"))),
                None => Some(End::BadEcho(format!("{text} came back and had not been sent"))),
            },
            Some(Ok(Message::Close(frame))) => Some(End::Server(frame)),
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(End::Cut(chain(&error))),
            None => Some(End::Cut("the connection ended".into())),
        }
    }

    /// Sends the next message, unless the oldest one that is not back yet is overdue.
    async fn send(&mut self) -> Option<End> {
        let now = Instant::now();
        if let Some((overdue, _)) = self.waiting.front().filter(|(_, deadline)| now > *deadline) {
            return Some(End::BadEcho(format!("no echo of {overdue} before the deadline")));
        }
        let text = format!("{}:{}", self.socket, self.sent);
        let deadline = now + self.load.plan.deadline;
        match tokio::time::timeout_at(deadline, self.stream.send(Message::text(text.clone()))).await {
            Ok(Ok(())) => {
                self.sent += 1;
                self.waiting.push_back((text, deadline));
                self.load.tally.counts().messages_sent += 1;
                None
            }
            // The close frame may have come first: reading tells.
            Ok(Err(_)) => match self.stream.next().await {
                Some(Ok(message)) => self.take(Some(Ok(message))),
                Some(Err(error)) => Some(End::Cut(chain(&error))),
                None => Some(End::Cut("the connection ended".into())),
            },
            Err(_) => Some(End::BadEcho(format!("{text} could not be sent before its deadline"))),
        }
    }

    /// Reads to the end of the stream, which also sends the answer to a close frame.
    async fn see_off(&mut self) {
        let _ = timeout(FAREWELL, async { while let Some(Ok(_)) = self.stream.next().await {} }).await;
    }
}

fn fail(load: &Load, due_ms: u64, wrong: Wrong, local_port: u16) {
    load.tally.counts().websocket_failed(Failure::now(due_ms, wrong, "websocket", local_port));
}
