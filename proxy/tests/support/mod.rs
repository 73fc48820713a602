//! A proxy in this process, jobs that are real servers, an agent and clients with real sockets.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod h2c;
pub mod process;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lapstrake_core::assignment::ServicePath;
use lapstrake_core::ids::{JobId, ServiceId};
use lapstrake_core::routes::{Backend, ProxyHello, ProxyReport, ROUTES_FORMAT, Route, RouteTable, Speaks};
use lapstrake_proxy::{Config, Proxy};
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Longer than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const HOST: &str = "shop.example.com";

/// Waits, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen"),
    }
}

/// A proxy and its directory.
pub struct Harness {
    pub proxy: Proxy,
    pub directory: tempfile::TempDir,
}

impl Harness {
    pub async fn start() -> Harness {
        Harness::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Harness {
        let directory = tempfile::tempdir().unwrap();
        Harness::in_directory(directory, change).await
    }

    pub async fn in_directory(directory: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Harness {
        let mut config = Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            control_dir: directory.path().join("proxy"),
            table_file: table_file(directory.path()),
            workers: 2,
            ..Config::default()
        };
        change(&mut config);
        let proxy = Proxy::start(config).await.unwrap();
        Harness { proxy, directory }
    }

    pub fn address(&self) -> SocketAddr {
        self.proxy.listen()[0]
    }

    pub async fn agent(&self) -> Agent {
        Agent::dial(self.proxy.control_path()).await
    }

    /// One request on a connection of its own.
    pub async fn get(&self, path: &str) -> Answered {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")).await
    }

    /// Raw bytes on a connection of their own, and all that comes back until it closes.
    pub async fn ask(&self, request: &str) -> Answered {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = soon("the end of the answer", stream.read_to_end(&mut bytes)).await;
        Answered(String::from_utf8_lossy(&bytes).into_owned())
    }
}

pub fn table_file(directory: &Path) -> PathBuf {
    directory.join("routes.json")
}

/// A raw response.
#[derive(Debug)]
pub struct Answered(pub String);

impl Answered {
    pub fn status(&self) -> u16 {
        self.0.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
    pub fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.0.split_once("\r\n\r\n")?.0;
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The agent's end of the control socket.
pub struct Agent {
    pub stream: BufReader<UnixStream>,
    pub hello: ProxyHello,
}

impl Agent {
    pub async fn dial(path: &Path) -> Agent {
        let mut stream = BufReader::new(UnixStream::connect(path).await.unwrap());
        let hello = read_line(&mut stream).await.expect("the proxy greets");
        Agent { stream, hello }
    }

    pub async fn send(&mut self, table: &RouteTable) {
        let mut line = serde_json::to_vec(table).unwrap();
        line.push(b'\n');
        self.stream.write_all(&line).await.unwrap();
    }

    pub async fn report(&mut self) -> ProxyReport {
        read_line(&mut self.stream).await.expect("a report")
    }

    /// Sends a table and waits until it holds.
    pub async fn switch(&mut self, table: &RouteTable) -> ProxyReport {
        self.send(table).await;
        loop {
            let report = self.report().await;
            if report.generation == table.generation {
                return report;
            }
        }
    }

    /// Waits for a report with this many jobs leaving.
    pub async fn until_leaving(&mut self, jobs: usize) -> ProxyReport {
        loop {
            let report = self.report().await;
            if report.leaving.len() == jobs {
                return report;
            }
        }
    }
}

async fn read_line<T: DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> Option<T> {
    let mut line = String::new();
    let read = soon("a line from the proxy", stream.read_line(&mut line)).await.ok()?;
    (read > 0).then(|| serde_json::from_str(&line).unwrap())
}

pub fn backend(job: JobId, address: SocketAddr, speaks: Speaks) -> Backend {
    Backend { job, address, speaks, weight: 1 }
}

/// One route of the test's host to these jobs.
pub fn table(generation: u64, jobs: &[&Job]) -> RouteTable {
    let mut backends: Vec<Backend> = jobs.iter().map(|job| backend(job.id, job.address, Speaks::Http)).collect();
    backends.sort_by_key(|backend| backend.job);
    let name =
        ServicePath { application: "shop".to_owned(), environment: "production".to_owned(), service: "web".to_owned() };
    let route = Route {
        host: HOST.to_owned(),
        path: "/".to_owned(),
        service: ServiceId(1),
        name,
        backends,
        elsewhere: vec!["node-b".to_owned(), "node-c".to_owned()],
        paused: false,
    };
    RouteTable { format: ROUTES_FORMAT, generation, node: "node-a".to_owned(), routes: vec![route] }
}

/// A job: a server that answers with its number.
pub struct Job {
    pub id: JobId,
    pub address: SocketAddr,
    /// Requests that reached it.
    pub requests: Arc<AtomicU32>,
    /// Connections that were made to it.
    pub connections: Arc<AtomicU32>,
    /// `/held` answers as often as this has permits.
    pub release: Arc<Semaphore>,
    /// Told to close kept-alive connections.
    close: watch::Sender<u32>,
    server: JoinHandle<()>,
}

type JobResponse = Response<BoxBody<Bytes, hyper::Error>>;

impl Job {
    pub async fn start(number: u128) -> Job {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let connections = Arc::new(AtomicU32::new(0));
        let release = Arc::new(Semaphore::new(0));
        let (close, closing) = watch::channel(0);
        let (counted, connected, held) = (Arc::clone(&requests), Arc::clone(&connections), Arc::clone(&release));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connected.fetch_add(1, Ordering::SeqCst);
                let (counted, held, mut closing) = (Arc::clone(&counted), Arc::clone(&held), closing.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        counted.fetch_add(1, Ordering::SeqCst);
                        answer(number, request, Arc::clone(&held))
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    tokio::pin!(connection);
                    closing.mark_unchanged();
                    tokio::select! {
                        _ = connection.as_mut() => {}
                        _ = closing.changed() => {
                            connection.as_mut().graceful_shutdown();
                            let _ = connection.await;
                        }
                    }
                });
            }
        });
        Job { id: JobId(number), address, requests, connections, release, close, server }
    }

    /// Closes its idle kept-alive connections, as servers do after a while.
    pub fn close_idle(&self) {
        self.close.send_modify(|count| *count += 1);
    }

    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until this many requests reached it.
    pub async fn until_requests(&self, count: u32) {
        soon("requests at the job", async {
            while self.requests() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(number: u128, mut request: Request<Incoming>, held: Arc<Semaphore>) -> Result<JobResponse, Infallible> {
    let text = |text: String| Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    Ok(match request.uri().path() {
        "/echo" => Response::new(request.into_body().boxed()),
        "/head" => {
            let mut lines: Vec<String> = vec![format!("{} {}", request.method(), request.uri())];
            for (name, value) in request.headers() {
                lines.push(format!("{name}: {}", value.to_str().unwrap_or("?")));
            }
            text(lines.join("\n"))
        }
        "/held" => {
            held.acquire().await.unwrap().forget();
            text(format!("job {number}"))
        }
        "/socket" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                let _ = write.write_all(format!("hello from {number}\n").as_bytes()).await;
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.write_all(b"bye\n").await;
                let _ = write.shutdown().await;
            });
            let mut response = text(String::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "echo".parse().unwrap());
            response
        }
        _ => text(format!("job {number}")),
    })
}

/// An upgraded connection to `/socket`, after the job's greeting.
pub async fn socket(address: SocketAddr) -> (BufReader<TcpStream>, String) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let request =
        format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    soon("the status", stream.read_line(&mut line)).await.unwrap();
    assert!(line.starts_with("HTTP/1.1 101"), "{line}");
    while line != "\r\n" {
        line.clear();
        soon("a header", stream.read_line(&mut line)).await.unwrap();
    }
    line.clear();
    soon("the greeting", stream.read_line(&mut line)).await.unwrap();
    (stream, line.trim().to_owned())
}

/// A client that keeps its connection.
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub async fn send(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String), hyper::Error> {
        let request = Request::builder().method(method).uri(path).header("host", HOST);
        let request = request.body(Full::from(body.to_owned())).unwrap();
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    pub async fn get(&mut self, path: &str) -> (u16, String) {
        soon("an answer", self.send("GET", path, "")).await.unwrap()
    }
}
