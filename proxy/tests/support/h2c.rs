//! Jobs and clients that speak HTTP/2 without TLS, on h2 itself, so that a test says each frame that matters.

use super::{HOST, PATIENCE, soon};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use lapstrake_core::ids::JobId;
use lapstrake_core::routes::{RouteTable, Speaks};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What a job of HTTP/2 has seen.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicU32,
    pub closed: AtomicU32,
    pub requests: AtomicU32,
    /// Streams that the proxy has reset.
    pub resets: AtomicU32,
    /// Bytes that `/flood` could send and `/slow` was sent.
    pub bytes: AtomicU64,
}

/// A job that speaks HTTP/2.
pub struct H2Job {
    pub id: JobId,
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    /// `/held` answers as often as this has permits.
    pub release: Arc<Semaphore>,
    server: JoinHandle<()>,
}

impl Drop for H2Job {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl H2Job {
    pub async fn start(number: u128) -> H2Job {
        H2Job::with_streams(number, 1000).await
    }

    /// One that takes so many streams on a connection.
    pub async fn with_streams(number: u128, streams: u32) -> H2Job {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, release) = (Arc::new(Seen::default()), Arc::new(Semaphore::new(0)));
        let (known, held) = (Arc::clone(&seen), Arc::clone(&release));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                known.connections.fetch_add(1, SeqCst);
                let (known, held) = (Arc::clone(&known), Arc::clone(&held));
                tokio::spawn(async move {
                    let mut builder = h2::server::Builder::new();
                    let handshake = builder.max_concurrent_streams(streams).handshake::<_, Bytes>(stream);
                    let Ok(mut connection) = handshake.await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        known.requests.fetch_add(1, SeqCst);
                        if request.uri().path() == "/go-away" {
                            connection.graceful_shutdown();
                        }
                        tokio::spawn(answer(number, request, respond, Arc::clone(&known), Arc::clone(&held)));
                    }
                    known.closed.fetch_add(1, SeqCst);
                });
            }
        });
        H2Job { id: JobId(number), address, seen, release, server }
    }
}

async fn answer(
    number: u128,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: Arc<Seen>,
    held: Arc<Semaphore>,
) {
    let path = request.uri().path().to_owned();
    let first = seen.requests.load(SeqCst) == 1;
    match path.as_str() {
        "/refused-once" if first => return respond.send_reset(Reason::REFUSED_STREAM),
        "/calm" => return respond.send_reset(Reason::ENHANCE_YOUR_CALM),
        "/silent" => {
            let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            seen.resets.fetch_add(1, SeqCst);
            return;
        }
        "/held" => held.acquire().await.unwrap().forget(),
        _ => {}
    }
    let head = Response::new(());
    let text = match path.as_str() {
        "/head" => {
            let mut lines = vec![format!("{} {}", request.method(), request.uri())];
            lines.extend(request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
            lines.join("\n")
        }
        "/echo" | "/trailers" => {
            let mut body = request.into_body();
            let mut stream = respond.send_response(head, false).unwrap();
            while let Some(Ok(bytes)) = body.data().await {
                body.flow_control().release_capacity(bytes.len()).unwrap();
                if give(&mut stream, bytes).await.is_none() {
                    seen.resets.fetch_add(1, SeqCst);
                    return;
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-last", HeaderValue::from_static("word"));
            let _ = stream.send_trailers(trailers);
            return;
        }
        "/flood" => {
            let mut stream = respond.send_response(head, false).unwrap();
            while give(&mut stream, Bytes::from_static(&[7; 8192])).await.is_some() {
                seen.bytes.fetch_add(8192, SeqCst);
            }
            seen.resets.fetch_add(1, SeqCst);
            return;
        }
        // Takes nothing of the body until it is let go, then all.
        "/slow" => {
            let mut body = request.into_body();
            held.acquire().await.unwrap().forget();
            while let Some(Ok(bytes)) = body.data().await {
                body.flow_control().release_capacity(bytes.len()).unwrap();
                seen.bytes.fetch_add(bytes.len() as u64, SeqCst);
            }
            format!("job {number}")
        }
        _ => format!("job {number}"),
    };
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    let _ = stream.send_data(Bytes::from(text), true);
}

/// Sends as the reader takes; `None` when the reader has gone.
pub async fn give(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Option<()> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        if stream.capacity() == 0 {
            poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        }
        let room = stream.capacity().min(bytes.len());
        stream.send_data(bytes.split_to(room), false).ok()?;
    }
    Some(())
}

/// One route of the test's host to these jobs of HTTP/2.
pub fn table(generation: u64, jobs: &[&H2Job]) -> RouteTable {
    let mut routes = super::table(generation, &[]);
    routes.routes[0].backends = jobs.iter().map(|job| super::backend(job.id, job.address, Speaks::H2c)).collect();
    routes
}

/// A client that speaks HTTP/2.
#[derive(Clone)]
pub struct H2Client {
    pub sender: SendRequest<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Whole {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

impl H2Client {
    pub async fn connect(address: SocketAddr) -> H2Client {
        let stream = TcpStream::connect(address).await.unwrap();
        // More room on the connection than one stream can fill, or a stream that is not read stops the others.
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(64 * 1024).initial_connection_window_size(16 * 1024 * 1024);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        H2Client { sender }
    }

    pub fn request(method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{HOST}{path}")).version(http::Version::HTTP_2)
    }

    /// Opens a stream.
    pub async fn open(&self, request: Request<()>, ended: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = soon("room for a stream", self.sender.clone().ready()).await.unwrap();
        sender.send_request(request, ended).unwrap()
    }

    pub async fn try_send(&self, request: Request<()>, body: &str) -> Result<Whole, h2::Error> {
        let (response, mut stream) = self.open(request, body.is_empty()).await;
        if !body.is_empty() {
            stream.send_data(Bytes::from(body.to_owned()), true)?;
        }
        whole(response).await
    }

    pub async fn get(&self, path: &str) -> Whole {
        self.try_send(H2Client::request("GET", path).body(()).unwrap(), "").await.unwrap()
    }
}

/// Reads an answer to its end.
pub async fn whole(response: ResponseFuture) -> Result<Whole, h2::Error> {
    let read = async {
        let (head, mut body) = response.await?.into_parts();
        let mut text = Vec::new();
        while let Some(bytes) = body.data().await {
            let bytes = bytes?;
            body.flow_control().release_capacity(bytes.len())?;
            text.extend_from_slice(&bytes);
        }
        let trailers = body.trailers().await?;
        let body = String::from_utf8_lossy(&text).into_owned();
        Ok(Whole { status: head.status.as_u16(), headers: head.headers, body, trailers })
    };
    soon("an answer", read).await
}

/// Waits until a number is what it should be.
pub async fn until(what: &str, reached: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !reached() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until a number has not changed for a while: nothing moves any more.
pub async fn settled(number: &AtomicU64) -> u64 {
    let mut last = number.load(SeqCst);
    let mut calm = 0;
    while calm < 20 || last == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = number.load(SeqCst);
        calm = if now == last { calm + 1 } else { 0 };
        last = now;
    }
    last
}
