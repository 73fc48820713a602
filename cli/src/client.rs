//! The controller's HTTPS interface: one connection a command, opened to exactly the controller that the token names.

mod connect;
mod error;
mod socket;
mod sse;
mod trust;

pub use error::ClientError;
pub use socket::{Gone, Received, Receiver, SIGN_OF_LIFE, Sender, Socket};
pub use sse::SseStream;
pub use trust::{Roots, RootsError, Trust, read as read_roots};

use crate::context::Address;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use lapstrake_api::view::Problem;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::mint;
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
    /// By what the controller is recognised.
    trust: Trust,
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
    /// When the controller wrote it, by its own clock, as HTTP writes dates.
    pub date: Option<String>,
    /// Where the list goes on, if it is one that does.
    next: Option<String>,
}

/// A text as it stands in an address's query: all but letters, digits and a few marks as bytes in hexadecimal (RFC 3986).
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// The address in `Link: </v1/services?after=web>; rel="next"`.
fn next_page(response: &Response<Incoming>) -> Option<String> {
    let link = response.headers().get(header::LINK)?.to_str().ok()?;
    let (address, rest) = link.strip_prefix('<')?.split_once('>')?;
    (rest.contains("rel=\"next\"") && address.starts_with('/')).then(|| address.to_owned())
}

impl Answer {
    /// The body as its type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(ClientError::NotUnderstood)
    }
}

/// A request is asked so often at most: over some seconds, in which a controller is started again.
const TRIES: u32 = 6;

/// Before the second try passes so much; before each further one twice as much.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// However long the controller says to wait, it is asked again after so much at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a request is for, besides its address.
#[derive(Default)]
struct Head {
    /// Carries it out once, however often it arrives.
    key: Option<String>,
    /// The tag that it was decided on.
    unchanged: Option<String>,
}

/// A request's body.
#[derive(Clone)]
enum Sent {
    Nothing,
    Json(Vec<u8>),
    Yaml(Vec<u8>),
}

impl Client {
    /// For this controller; nothing is sent yet.
    pub fn new(address: Address, token: Token, trust: Trust) -> Client {
        Client { address, token, trust, successor: None, connection: None }
    }

    /// The token, and a root that takes the place of one that is trusted for it, if one was seen.
    pub fn successor(&self) -> Option<(&Token, Fingerprint)> {
        Some((&self.token, self.successor?))
    }

    /// Reads.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::GET, path, Sent::Nothing).await
    }

    /// Reads, and is content with no answer: for whoever reads again and again, and tells when nobody answers.
    pub async fn get_now(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.ask_once(&Method::GET, path, &Head::default(), Sent::Nothing).await
    }

    /// Asks for something to be done.
    pub async fn post(&mut self, path: &str, ask: &impl Serialize) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(ask).map_err(ClientError::NotUnderstood)?;
        self.ask(Method::POST, path, Sent::Json(body)).await
    }

    /// Sends a spec file as it is; with a tag, to be applied only if nothing has changed since.
    pub async fn post_spec(&mut self, path: &str, text: &[u8], tag: Option<&str>) -> Result<Answer, ClientError> {
        let head = Head { unchanged: tag.map(str::to_owned), ..Head::default() };
        self.persist(Method::POST, path, head, Sent::Yaml(text.to_vec())).await
    }

    /// Reads a list to its end, page after page. The answer is as if it had come whole.
    pub async fn list(&mut self, path: &str) -> Result<Answer, ClientError> {
        let mut answer = self.get(path).await?;
        if answer.next.is_none() {
            return Ok(answer);
        }
        let mut all: Vec<serde_json::Value> = answer.read()?;
        while let Some(next) = answer.next.take() {
            answer = self.get(&next).await?;
            all.extend(answer.read::<Vec<serde_json::Value>>()?);
        }
        answer.body = serde_json::Value::from(all).to_string().into();
        Ok(answer)
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
        self.persist(method, path, Head::default(), sent).await
    }

    /// Asks until there is an answer. A connection that broke, or a controller that is just starting, is asked again; a
    /// mutation has a key by which the controller carries it out once however often it arrives.
    async fn persist(&mut self, method: Method, path: &str, head: Head, sent: Sent) -> Result<Answer, ClientError> {
        let key = (method != Method::GET).then(|| format!("lap-{:032x}", u128::from_be_bytes(mint::bytes())));
        let head = Head { key, ..head };
        let mut pause = FIRST_PAUSE;
        let mut sent_once = self.connection.is_some();
        for _ in 1..TRIES {
            match self.ask_once(&method, path, &head, sent.clone()).await {
                Err(error) if error.is_worth_another_try(sent_once) => {
                    sent_once = true;
                    let wait = error.retry_after().unwrap_or(pause);
                    tokio::time::sleep(wait.min(LONGEST_PAUSE)).await;
                    pause *= 2;
                }
                ended => return ended,
            }
        }
        self.ask_once(&method, path, &head, sent).await
    }

    async fn ask_once(&mut self, method: &Method, path: &str, head: &Head, sent: Sent) -> Result<Answer, ClientError> {
        let mut request = self.request(method.clone(), path, sent)?;
        for (name, value) in [
            ("idempotency-key", head.key.clone()),
            ("if-match", head.unchanged.as_ref().map(|tag| format!("\"{tag}\""))),
        ] {
            if let Some(value) = value {
                let value =
                    header::HeaderValue::try_from(value).map_err(|error| ClientError::NotARequest(error.into()))?;
                request.headers_mut().insert(name, value);
            }
        }
        let response = self.exchange(request).await?;
        let response = self.accepted(response).await?;
        let (status, next) = (response.status(), next_page(&response));
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        Ok(Answer { status, body: self.whole(response).await?, date, next })
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
                let connected = connect::connect(&self.address, &self.token, &self.trust).await?;
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
    async fn accepted(&self, response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = wait.map(Duration::from_secs);
        let body = self.whole(response).await?;
        let problem = serde_json::from_slice::<Problem>(&body);
        Err(match problem {
            Ok(problem) => ClientError::Problem { status: status.as_u16(), problem: Box::new(problem), wait },
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
