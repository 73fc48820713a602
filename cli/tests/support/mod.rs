//! A controller for lap's own logic: real TLS with a real authority, canned answers, and a memory of what was asked.

#![allow(dead_code, reason = "each test binary uses its own part")]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lapstrake_api::tunnel::ToOperator;
use lapstrake_core::ids::ClusterId;
use lapstrake_core::time::Millis;
use lapstrake_pki::authority::{Authority, CLOCK_SKEW, Life, NODE_LIFE};
use lapstrake_pki::token::{Kind, Token};
use lapstrake_pki::{mint, provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a request showed.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub token: Option<String>,
    pub last_event_id: Option<String>,
    pub key: Option<String>,
    pub unchanged: Option<String>,
    pub body: String,
}

/// An answer to one method and address; of several for the same the first is used up, the last stays.
struct Canned {
    line: String,
    status: u16,
    kind: &'static str,
    body: String,
    /// Where a list goes on.
    next: Option<String>,
}

/// Not a status: the connection is closed instead of an answer.
const BREAK_OFF: u16 = 0;

#[derive(Default)]
struct State {
    canned: VecDeque<Canned>,
    /// Whoever asks for a WebSocket gets one that this answers.
    socket: Option<Handler>,
    asked: Vec<Asked>,
}

/// The controller's end of a WebSocket.
pub type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;
type Handler = Arc<dyn Fn(Socket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A word to the operator, as it goes over a WebSocket.
pub fn word(word: &ToOperator) -> Message {
    Message::text(serde_json::to_string(word).expect("JSON"))
}

/// What an operator is told at the beginning of a stream to a job.
pub fn entered(running: u32) -> [Message; 2] {
    let entered = ToOperator::Entered { job: "1".into(), slot: "web.1".into(), node: "n1".into(), running };
    [word(&entered), word(&ToOperator::Started)]
}

pub struct FakeController {
    pub address: SocketAddr,
    authority: Authority,
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl FakeController {
    pub fn start() -> FakeController {
        let authority = Authority::create(ClusterId(mint::id()), mint::wall()).expect("an authority");
        let life = Life { back: CLOCK_SKEW, ahead: Millis(NODE_LIFE.0) };
        let leaf = authority.certify_server(&[], mint::wall(), life).expect("a certificate");
        FakeController::showing(authority, leaf.chain, leaf.key)
    }

    /// One that shows a certificate which is not its authority's.
    pub fn behind(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> FakeController {
        let authority = Authority::create(ClusterId(mint::id()), mint::wall()).expect("an authority");
        FakeController::showing(authority, chain, key)
    }

    fn showing(
        authority: Authority,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> FakeController {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        tls.alpn_protocols = Vec::new();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), state.clone()));
        FakeController { address, authority, state, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// An operator's token for it.
    pub fn token(&self) -> String {
        Token::mint(Kind::Operator, self.authority.cluster(), self.authority.fingerprint()).text()
    }

    /// A join token of it.
    pub fn join_token(&self) -> String {
        Token::mint(Kind::Join, self.authority.cluster(), self.authority.fingerprint()).text()
    }

    /// Cans an answer: `GET /v1/apps`.
    pub fn answer(&self, line: &str, status: u16, body: impl Into<String>) -> &Self {
        self.can(line, status, "application/json", body.into())
    }

    /// Cans a page of a list that goes on elsewhere.
    pub fn page(&self, line: &str, body: &str, next: &str) -> &Self {
        let canned = Canned {
            line: line.to_owned(),
            status: 200,
            kind: "application/json",
            body: body.to_owned(),
            next: Some(next.to_owned()),
        };
        self.state.lock().expect("no panic").canned.push_back(canned);
        self
    }

    /// Cans a connection that breaks off when this is asked.
    pub fn break_off(&self, line: &str) -> &Self {
        self.can(line, BREAK_OFF, "", String::new())
    }

    /// Cans a stream that says this and then breaks off.
    pub fn stream(&self, line: &str, body: &str) -> &Self {
        self.can(line, 200, "text/event-stream", body.to_owned())
    }

    /// Answers every WebSocket like this.
    pub fn socket<F: Future<Output = ()> + Send + 'static>(
        &self,
        handler: impl Fn(Socket) -> F + Send + Sync + 'static,
    ) -> &Self {
        self.state.lock().expect("no panic").socket = Some(Arc::new(move |socket| Box::pin(handler(socket))));
        self
    }

    /// Cans an error with its sentence.
    pub fn refuse(&self, line: &str, status: u16, detail: &str) -> &Self {
        let problem = serde_json::json!({ "type": "about:blank", "title": "", "status": status, "detail": detail });
        self.answer(line, status, problem.to_string())
    }

    fn can(&self, line: &str, status: u16, kind: &'static str, body: String) -> &Self {
        let canned = Canned { line: line.to_owned(), status, kind, body, next: None };
        self.state.lock().expect("no panic").canned.push_back(canned);
        self
    }

    /// Forgets what was canned.
    pub fn forget(&self) -> &Self {
        self.state.lock().expect("no panic").canned.clear();
        self
    }

    /// All that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().expect("no panic").asked.clone()
    }

    /// `lap` with this controller's address and a good token.
    pub fn lap(&self, arguments: &[&str]) -> Output {
        run(lap(arguments).env("LAP_URL", self.url()).env("LAP_TOKEN", self.token()))
    }
}

/// `lap` that knows nothing.
pub fn lap(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lap"));
    command.args(arguments).env_clear().env("XDG_CONFIG_HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// `lap` with contexts in this folder.
pub fn lap_at_home(home: &Path, arguments: &[&str]) -> Command {
    let mut command = lap(arguments);
    command.env("XDG_CONFIG_HOME", home);
    command
}

pub fn run(command: &mut Command) -> Output {
    command.output().expect("lap runs")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { reply(request, &state).await.ok_or(BrokenOff) }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = served.with_upgrades().await;
        });
    }
}

/// What ends a connection without an answer.
#[derive(Debug)]
struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off")
    }
}

impl std::error::Error for BrokenOff {}

async fn reply(mut request: Request<Incoming>, state: &Mutex<State>) -> Option<Response<Full<Bytes>>> {
    let line = format!("{} {}", request.method(), request.uri());
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let token = header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
    let last_event_id = header("last-event-id");
    let (key, unchanged) = (header("idempotency-key"), header("if-match"));
    let accept = header("sec-websocket-key");
    let upgrade = hyper::upgrade::on(&mut request);
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut state = state.lock().expect("no panic");
    state.asked.push(Asked { line: line.clone(), token, last_event_id, key, unchanged, body });
    if let (Some(key), Some(handler)) = (accept, state.socket.clone()) {
        tokio::spawn(async move {
            let upgraded = upgrade.await.expect("a WebSocket");
            handler(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await).await;
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let accept = derive_accept_key(key.as_bytes());
        for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accept)] {
            response.headers_mut().insert(name, value.parse().expect("a header"));
        }
        return Some(response);
    }
    let fitting: Vec<usize> = (0..state.canned.len()).filter(|at| state.canned[*at].line == line).collect();
    let mut response = Response::new(Full::default());
    let (status, kind, body, next) = match fitting.as_slice() {
        [] => (501, "text/plain", format!("nobody canned {line}"), None),
        [only] => {
            let only = &state.canned[*only];
            (only.status, only.kind, only.body.clone(), only.next.clone())
        }
        [first, ..] => {
            let used = state.canned.remove(*first).expect("it is there");
            (used.status, used.kind, used.body, used.next)
        }
    };
    if status == BREAK_OFF {
        return None;
    }
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("content-type", kind.parse().expect("a header"));
    if let Some(next) = next {
        response.headers_mut().insert("link", format!("<{next}>; rel=\"next\"").parse().expect("a header"));
    }
    *response.body_mut() = Full::from(body);
    Some(response)
}
