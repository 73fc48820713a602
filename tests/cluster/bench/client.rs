//! An operator's client: it trusts the certificate authority that its token names, and nobody else.

use super::{PATIENCE, until};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use lapstrake_api::view;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::pinned::PinnedVerifier;
use lapstrake_pki::token::Token;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Speaks to the operators' port.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub token: String,
    /// The root to trust instead of the one that the token names.
    pub root: Option<Fingerprint>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// The body of an answer that is no error.
    pub fn json<T: DeserializeOwned>(self) -> T {
        assert!(self.status < 300, "{}: {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).expect("the JSON of that type")
    }

    /// The problem that is told, which every error has to be.
    pub fn problem(self, status: u16) -> view::Problem {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.content_type, "application/problem+json", "{text}");
        let problem: view::Problem = serde_json::from_str(&text).expect("a problem");
        assert_eq!(problem.status, status, "the body says the status too");
        assert!(!problem.detail.is_empty(), "and what happened");
        assert!(problem.type_uri.starts_with("/problems/"), "a kind that programs can compare: {}", problem.type_uri);
        assert!(problem.instance.starts_with("urn:lapstrake:problem:"), "{}", problem.instance);
        problem
    }
}

impl Client {
    /// With the first operator's token.
    pub fn new(address: SocketAddr, token: &str) -> Client {
        Client { address, token: token.trim().to_owned(), root: None }
    }

    /// The same, trusting this root instead.
    pub fn trusting(&self, root: Fingerprint) -> Client {
        Client { root: Some(root), ..self.clone() }
    }

    /// A connection on which nothing was said yet.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let named = Token::operator(&self.token).expect("an operator's token").authority;
        let pin = self.root.unwrap_or(named);
        let config = PinnedVerifier::new(pin).client_config().expect("TLS");
        let tcp = TcpStream::connect(self.address).await.expect("the operators' port takes connections");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("the right authority")
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.connect().await)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await
    }

    pub(super) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
    }

    /// The answer to a request that is as it is.
    pub async fn ask_raw(&self, request: Request<Full<Bytes>>) -> Answer {
        self.try_ask(request).await.expect("the controller answers")
    }

    async fn try_ask(&self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        let whole = async {
            let (head, body) = self.send(request).await?.into_parts();
            let content_type = head.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().expect("text"));
            let content_type = content_type.unwrap_or_default().to_owned();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), content_type, headers: head.headers, body })
        };
        timeout(PATIENCE, whole).await.expect("an answer in time")
    }

    /// Asks with a body; an empty one is none.
    pub async fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask_raw(self.request(method, path).body(Full::new(body.into())).expect("a request")).await
    }

    /// Asks with more to say in headers.
    pub async fn ask_with<const N: usize>(
        &self,
        method: Method,
        path: &str,
        headers: [(&str, &str); N],
        body: impl Into<Bytes>,
    ) -> Answer {
        let request =
            headers.into_iter().fold(self.request(method, path), |request, (name, value)| request.header(name, value));
        self.ask_raw(request.body(Full::new(body.into())).expect("a request")).await
    }

    /// Sends a request and goes away without reading the answer once `enough` is there.
    pub async fn ask_and_leave(&self, request: Request<Full<Bytes>>, enough: impl Future<Output = ()>) {
        tokio::select! {
            _ = self.send(request) => {}
            () = enough => {}
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "").await
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask(Method::POST, path, body).await
    }

    pub async fn patch(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask(Method::PATCH, path, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, "").await
    }

    /// Applies a spec that is right.
    pub async fn apply(&self, spec: &str) -> view::Changes {
        self.post("/v1/apply", spec.to_owned()).await.json()
    }

    pub async fn service(&self, path: &str) -> view::Service {
        self.get(&format!("/v1/services/{path}")).await.json()
    }

    pub async fn why(&self, path: &str) -> view::Why {
        self.get(&format!("/v1/services/{path}/why")).await.json()
    }

    pub async fn deployment(&self, path: &str, number: u32) -> view::Deployment {
        self.get(&format!("/v1/services/{path}/deployments/{number}")).await.json()
    }

    pub async fn node(&self, name: &str) -> view::Node {
        self.get(&format!("/v1/nodes/{name}")).await.json()
    }

    /// Waits until a deployment has ended, and gives it.
    pub async fn ended(&self, path: &str, number: u32) -> view::Deployment {
        let what = format!("deployment {number} of {path} ends");
        until(&what, || async { Some(self.deployment(path, number).await).filter(|deployment| deployment.ended) }).await
    }

    /// Waits until a deployment is complete.
    pub async fn complete(&self, path: &str, number: u32) -> view::Deployment {
        let deployment = self.ended(path, number).await;
        assert_eq!(deployment.phase, "complete", "{deployment:#?}");
        deployment
    }

    /// Waits until a service is what the test wants.
    pub async fn until_service(&self, what: &str, path: &str, good: impl Fn(&view::Service) -> bool) -> view::Service {
        until(what, || async { Some(self.service(path).await).filter(|service| good(service)) }).await
    }

    /// Waits until a service is healthy, each slot with one job.
    pub async fn until_settled(&self, path: &str) -> view::Service {
        let settled =
            |service: &view::Service| service.state == "healthy" && service.jobs.len() == service.scale as usize;
        self.until_service(&format!("{path} is healthy, with one job in each slot"), path, settled).await
    }

    /// Opens a stream of server-sent events.
    pub async fn follow(&self, path: &str, last_id: Option<u64>) -> Words {
        let mut request = self.request(Method::GET, path);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id.to_string());
        }
        let request = request.body(Full::default()).expect("a request");
        let response = self.send(request).await.expect("the controller answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Words { body: response.into_body(), read: BytesMut::new() }
    }
}

/// A server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    pub id: Option<u64>,
    pub kind: String,
    pub text: String,
}

/// A stream of server-sent events.
pub struct Words {
    body: Incoming,
    read: BytesMut,
}

impl Words {
    /// The next event; `None` at the stream's end, or when it is cut.
    pub async fn next(&mut self) -> Option<Word> {
        timeout(PATIENCE, self.read_next()).await.expect("an event in time")
    }

    async fn read_next(&mut self) -> Option<Word> {
        loop {
            while let Some(end) = self.read.windows(2).position(|two| two == b"\n\n") {
                let block = self.read.split_to(end + 2);
                let word = Words::parse(std::str::from_utf8(&block).expect("UTF-8"));
                if word != Word::default() {
                    return Some(word);
                }
            }
            let frame = self.body.frame().await?.ok()?;
            self.read.extend_from_slice(frame.data_ref()?);
        }
    }

    fn parse(block: &str) -> Word {
        let mut word = Word::default();
        for (field, value) in block.lines().filter_map(|line| line.split_once(": ")) {
            match field {
                "id" => word.id = value.parse().ok(),
                "event" => word.kind = value.to_owned(),
                "data" => word.text.push_str(value),
                _ => {}
            }
        }
        word
    }
}
