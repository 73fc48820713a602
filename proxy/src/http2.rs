//! A client that speaks HTTP/2: many requests at a time, each a stream.
//!
//! What h2 bounds and what is bounded here: see `frames`. A stream that its reader takes nothing from is reset alone; the
//! others of its connection go on.

use crate::body::{ServedBody, Source};
use crate::client::Client;
use crate::frames::Frames;
use crate::pipe::{self, Stopped};
use crate::tap::Tap;
use crate::worker::{Phase, Worker};
use bytes::Bytes;
use h2::server::{self, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Body;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

/// What a client may send of one request before the job took it, and of all requests of its connection: what a line of
/// 100 ms carries in that time at 20 and at 80 Mbit/s.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What waits here of one answer for the connection to take it.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// How long a client that is told to go may take to hear it.
const FAREWELL: Duration = Duration::from_secs(2);

/// What comes of waiting for a client.
enum Event {
    Asked(Box<Request<RecvStream>>, SendResponse<Bytes>),
    Ended(Option<h2::Error>),
    Excess(&'static str),
}

/// Serves one client until it or we close the connection. `first` was read from the stream already.
pub async fn converse<S>(worker: Arc<Worker>, stream: S, first: Bytes, client: Client, welcome: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let frames = Arc::new(Frames::default());
    let limits = &worker.shared.limits;
    let handshake = server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .handshake(Tap::resumed(stream, Arc::clone(&frames), first));
    let mut connection = match timeout(limits.header_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(client = %client.address, %error, "a client left at once"),
        Err(_) => return tracing::debug!(client = %client.address, "a client said nothing"),
    };
    let open = Arc::new(AtomicUsize::new(0));
    let look = (limits.header_timeout.min(limits.idle_timeout) / 4).max(Duration::from_millis(10));
    let mut looks = tokio::time::interval(look);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut idle_since = Instant::now();
    let mut going: Option<Instant> = None;
    let mut phase = worker.shared.phase.subscribe();
    loop {
        tokio::select! {
            event = next(&mut connection, &frames) => match event {
                Event::Asked(request, respond) => {
                    idle_since = Instant::now();
                    let stream = Stream {
                        worker: Arc::clone(&worker),
                        client: client.clone(),
                        welcome,
                        open: Open::new(&open),
                    };
                    tokio::spawn(stream.serve(*request, respond));
                    if !welcome && going.is_none() {
                        going = Some(Instant::now());
                        connection.graceful_shutdown();
                    }
                }
                Event::Ended(error) => {
                    return tracing::debug!(client = %client.address, ?error, "a client's connection ended");
                }
                Event::Excess(what) => {
                    tracing::debug!(client = %client.address, what, "a client sent too many");
                    return farewell(connection).await;
                }
            },
            _ = looks.tick() => {
                if open.load(Ordering::Acquire) > 0 {
                    idle_since = Instant::now();
                }
                if frames.head_since().is_some_and(|since| since.elapsed() >= limits.header_timeout) {
                    tracing::debug!(client = %client.address, "a client sent a head too slowly");
                    return farewell(connection).await;
                }
                if idle_since.elapsed() >= limits.idle_timeout {
                    match going {
                        None => connection.graceful_shutdown(),
                        Some(since) if since.elapsed() < FAREWELL => {}
                        Some(_) => return tracing::debug!(client = %client.address, "a client did not go"),
                    }
                    going.get_or_insert_with(Instant::now);
                }
            }
            () = until_handed_over(&mut phase), if going.is_none() => {
                going = Some(Instant::now());
                connection.graceful_shutdown();
            }
            () = worker.shared.stop.cancelled(), if going.is_none() => {
                going = Some(Instant::now());
                connection.graceful_shutdown();
            }
        }
    }
}

async fn until_handed_over(phase: &mut watch::Receiver<Phase>) {
    // The sender outlives every client.
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
}

/// Waits for a request, for the end, or for too much of something.
async fn next<S>(connection: &mut Connection<Tap<S, Frames>, Bytes>, frames: &Frames) -> Event
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        let polled = connection.poll_accept(cx);
        // Frames are read while it is polled and at no other time.
        if let Some(what) = frames.excess() {
            return Poll::Ready(Event::Excess(what));
        }
        polled.map(|accepted| match accepted {
            Some(Ok((request, respond))) => Event::Asked(Box::new(request), respond),
            Some(Err(error)) => Event::Ended(Some(error)),
            None => Event::Ended(None),
        })
    })
    .await
}

/// Ends a connection that is abused, and says so if the client hears it soon.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut connection: Connection<Tap<S, Frames>, Bytes>) {
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let _ = timeout(FAREWELL, poll_fn(|cx| connection.poll_closed(cx))).await;
}

/// One of a connection's streams, counted until this is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Open {
        count.fetch_add(1, Ordering::AcqRel);
        Open(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One request and its answer.
struct Stream {
    worker: Arc<Worker>,
    client: Client,
    welcome: bool,
    open: Open,
}

impl Stream {
    /// Until the answer's last byte is on its way, or one side has broken it off.
    async fn serve(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        if request
            .headers()
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            let mut go_on = Response::new(());
            *go_on.status_mut() = StatusCode::CONTINUE;
            // A stream that has ended meanwhile is found out below.
            let _ = respond.send_informational(go_on);
        }
        let answered = {
            let answer = self.worker.respond(&self.client, request.map(Source::Http2), None, self.welcome);
            tokio::pin!(answer);
            poll_fn(|cx| match respond.poll_reset(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => answer.as_mut().poll(cx).map(Some),
            })
            .await
        };
        match answered {
            Some(Ok(response)) => self.send(response, respond).await,
            Some(Err(reason)) => respond.send_reset(reason),
            None => {}
        }
        drop(self.open);
    }

    async fn send(&self, response: Response<ServedBody>, mut respond: SendResponse<Bytes>) {
        let (mut head, body) = response.into_parts();
        // What else concerns one connection only was taken off a job's answer before; this is what we ourselves say to clients
        // of HTTP/1.1.
        head.headers.remove(header::CONNECTION);
        if !head.headers.contains_key(header::DATE)
            && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
        {
            head.headers.insert(header::DATE, now);
        }
        let ended = body.is_end_stream();
        let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), ended) else { return };
        if ended {
            return;
        }
        match pipe::send(body, &mut stream, Some(self.worker.shared.limits.write_timeout)).await {
            Ok(()) | Err(Stopped::ByReader) => {}
            Err(Stopped::Stalled) => {
                tracing::debug!(client = %self.client.address, "a client took nothing of its answer");
                stream.send_reset(Reason::CANCEL);
            }
            Err(Stopped::Body(error)) => stream.send_reset(error.reason()),
        }
    }
}
