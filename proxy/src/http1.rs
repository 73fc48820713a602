//! A client that speaks HTTP/1.1: one request at a time, and what it upgrades to.

use crate::body::Source;
use crate::client::Client;
use crate::patience::Patience;
use crate::tap::Tap;
use crate::worker::Worker;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves one client until it or we close the connection. `first` was read from the stream already.
pub async fn converse<S>(worker: Arc<Worker>, stream: S, first: Bytes, client: Client, welcome: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let patience = Arc::new(Patience::default());
    let client = &client;
    let service = service_fn(|mut request: Request<Incoming>| {
        let worker = Arc::clone(&worker);
        let turn = patience.turn();
        patience.head.restore_length(request.headers_mut());
        async move {
            let on_upgrade = hyper::upgrade::on(&mut request);
            // Where a stream would be reset the connection is closed: that is an error here.
            let mut response = worker
                .respond(client, request.map(Source::Http1), Some(on_upgrade), welcome)
                .await
                .map_err(h2::Error::from)?;
            if worker.shared.has_handed_over() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // The client's next request goes to the successor. Closing a connection that rests would meet a request
                // that is on its way.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response.body_mut().turn = Some(turn);
            Ok::<_, h2::Error>(response)
        }
    });
    let limits = &worker.shared.limits;
    let connection = http1::Builder::new()
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Tap::resumed(stream, Arc::clone(&patience), first)), service)
        .with_upgrades();
    tokio::pin!(connection);
    let run_out = patience.run_out(limits);
    tokio::pin!(run_out);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(client = %client.address, %error, "a client's connection ended");
                }
                return;
            }
            why = run_out.as_mut() => {
                tracing::debug!(client = %client.address, ?why, "a client took too long");
                return;
            }
            () = worker.shared.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
