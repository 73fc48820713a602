//! The controller's HTTPS interface: one connection a command, opened to exactly the controller that the token names.

mod connect;
mod error;
mod sse;

pub use error::ClientError;
pub use sse::SseStream;

use crate::context::Address;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use lapstrake_api::view::Problem;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::token::Token;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The controller answers in milliseconds; what takes so long will not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The largest listing is some MiB; more is not an answer of ours.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A controller, and who asks it.
pub struct Client {
    address: Address,
    token: Token,
    /// Roots that are trusted besides the one that the token names.
    roots: Vec<Fingerprint>,
    /// A root that takes the place of one of those, as it has said itself.
    successor: Option<Fingerprint>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// An answer that is no error.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body, to be passed on as it is.
    pub body: Bytes,
}

impl Answer {
    /// The body as its type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(ClientError::NotUnderstood)
    }
}

/// A request's body.
enum Sent {
    Nothing,
    Json(Vec<u8>),
    Yaml(Vec<u8>),
}

impl Client {
    /// For this controller; nothing is sent yet.
    pub fn new(address: Address, token: Token) -> Client {
        Client { address, token, roots: Vec::new(), successor: None, connection: None }
    }

    /// The same that trusts these roots too.
    pub fn trusting(self, roots: Vec<Fingerprint>) -> Client {
        Client { roots, ..self }
    }

    /// The token, and a root that takes the place of one that is trusted for it, if one was seen.
    pub fn successor(&self) -> Option<(&Token, Fingerprint)> {
        Some((&self.token, self.successor?))
    }

    /// Reads.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::GET, path, Sent::Nothing).await
    }

    /// Asks for something to be done.
    pub async fn post(&mut self, path: &str, ask: &impl Serialize) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(ask).map_err(ClientError::NotUnderstood)?;
        self.ask(Method::POST, path, Sent::Json(body)).await
    }

    /// Sends a spec file as it is.
    pub async fn post_spec(&mut self, path: &str, text: &[u8]) -> Result<Answer, ClientError> {
        self.ask(Method::POST, path, Sent::Yaml(text.to_vec())).await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&mut self, path: &str, ask: &impl Serialize) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(ask).map_err(ClientError::NotUnderstood)?;
        self.ask(Method::PATCH, path, Sent::Json(body)).await
    }

    /// Asks for something to go.
    pub async fn delete(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::DELETE, path, Sent::Nothing).await
    }

    /// Opens a stream of events, after the last that the reader has.
    pub async fn stream(&mut self, path: &str, last_event_id: Option<&str>) -> Result<SseStream, ClientError> {
        let mut request = self.request(Method::GET, path, Sent::Nothing)?;
        request.headers_mut().insert(header::ACCEPT, header::HeaderValue::from_static("text/event-stream"));
        if let Some(value) = last_event_id.and_then(|id| id.parse().ok()) {
            request.headers_mut().insert("last-event-id", value);
        }
        let response = self.exchange(request).await?;
        let response = self.accepted(response).await?;
        // The stream keeps the connection; another request opens its own.
        let connection = self.connection.take();
        Ok(SseStream::new(response.into_body(), connection))
    }

    async fn ask(&mut self, method: Method, path: &str, sent: Sent) -> Result<Answer, ClientError> {
        let repeat = method == Method::GET && self.connection.is_some();
        let request = self.request(method.clone(), path, sent)?;
        let response = match self.exchange(request).await {
            // A connection from before may have been closed under the request; to read twice does no harm.
            Err(ClientError::CutOff { .. }) if repeat => {
                let request = self.request(method, path, Sent::Nothing)?;
                self.exchange(request).await?
            }
            response => response?,
        };
        let response = self.accepted(response).await?;
        let status = response.status();
        Ok(Answer { status, body: self.whole(response).await? })
    }

    fn request(&self, method: Method, path: &str, sent: Sent) -> Result<Request<Full<Bytes>>, ClientError> {
        let host = self.address.url.trim_start_matches("https://");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("lap/", env!("CARGO_PKG_VERSION")))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.text()));
        let body = match sent {
            Sent::Nothing => Vec::new(),
            Sent::Json(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                body
            }
            Sent::Yaml(body) => {
                request = request.header(header::CONTENT_TYPE, "application/yaml");
                body
            }
        };
        request.body(Full::from(body)).map_err(ClientError::NotARequest)
    }

    /// Sends a request over the open connection, or over a new one.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let mut connection = match self.open_connection().await {
            Some(open) => open,
            None => {
                let connected = connect::connect(&self.address, &self.token, &self.roots).await?;
                self.successor = connected.successor.or(self.successor);
                connected.sender
            }
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, connection.send_request(request)).await;
        let answer = answer.map_err(|_| ClientError::Silent { url: self.address.url.clone() })?;
        let response =
            answer.map_err(|source| ClientError::CutOff { url: self.address.url.clone(), source: source.into() })?;
        self.connection = Some(connection);
        Ok(response)
    }

    /// The connection of the request before, unless it was closed since.
    async fn open_connection(&mut self) -> Option<SendRequest<Full<Bytes>>> {
        let mut open = self.connection.take()?;
        open.ready().await.ok().map(|()| open)
    }

    /// The response, unless it is an error.
    async fn accepted(&mut self, response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.whole(response).await?;
        let problem = serde_json::from_slice::<Problem>(&body);
        Err(match problem {
            Ok(problem) => ClientError::Problem { status: status.as_u16(), problem: Box::new(problem) },
            Err(_) => ClientError::Unexplained { url: self.address.url.clone(), status: status.as_u16() },
        })
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect();
        let body = tokio::time::timeout(ANSWER_WITHIN, body).await;
        let body = body.map_err(|_| ClientError::Silent { url: self.address.url.clone() })?;
        let body = body.map_err(|source| ClientError::CutOff { url: self.address.url.clone(), source })?;
        Ok(body.to_bytes())
    }
}
