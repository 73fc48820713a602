//! The operators' listener: TLS, limits, and one task per connection.

use super::caller::PeerAddress;
use super::first_words::FirstWords;
use arc_swap::ArcSwap;
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// People and their programs: enough for a large team with a dashboard each, little enough memory when all are hostile.
const CONNECTIONS: usize = 512;
/// A handshake that takes longer is not one.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Request headers that take longer are not sent to be read.
const HEADERS: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection: a person's page has a handful.
const STREAMS: u32 = 64;
/// After accept() failed (no file descriptors left), it is tried again this much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// From the handshake to the first words: nobody shakes hands to say nothing, and places are few.
const FIRST_WORDS: Duration = Duration::from_secs(5);
/// On shutdown, answers under way get so long; then their connections are cut.
const FINISH: Duration = Duration::from_secs(3);

/// Serves until `shutdown`. The certificate is looked up for each connection, so that a renewed one is used at once.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    router: Router,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (acceptor, router, shutdown) =
                    (TlsAcceptor::from(tls.load_full()), router.clone(), shutdown.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = connection(stream, peer.ip(), acceptor, router, shutdown.clone()) => {}
                        () = time_to_cut(&shutdown) => tracing::info!("an operator's connection is cut"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the operators' port was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    connections.close();
    // Each of them sees to it that this ends.
    connections.wait().await;
}

async fn time_to_cut(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(FINISH).await;
}

async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
) {
    // Small answers should not wait for more of the same.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "an operator's handshake failed"),
        Err(_) => return tracing::debug!("an operator's handshake took too long"),
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS).keep_alive_interval(HEADERS);
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer.to_canonical()));
        request
    });
    // One that becomes a WebSocket leaves its place here: streams to jobs are counted by themselves.
    let serving = builder.serve_connection_with_upgrades(
        TokioIo::new(FirstWords::within(FIRST_WORDS, stream)),
        TowerToHyperService::new(router),
    );
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error, "an operator's connection ended early");
    }
}
