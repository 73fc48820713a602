//! A small web service to deploy: it answers HTTP and WebSockets, says in its log what happens to it, and stops when it
//! is told to without losing a request.
//!
//! Three files: this one listens, and stops; `web` answers; `failure` makes it a bad version on purpose, so that one can
//! watch what a failed deployment looks like.

mod failure;
mod web;

use std::io::Write as _;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut sigterm = signal(SignalKind::terminate())?;
    log(&format!("started version={} pid={}", web::version(), std::process::id()));
    failure::begin().await;

    let port = number_from_env("PORT").unwrap_or(8080);
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).await?;
    log(&format!("ready port={}", listener.local_addr()?.port()));

    // Every open connection holds a receiver of `stop`: it hears when to finish, and its end is heard here.
    let (stop, _) = watch::channel(());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => drop(tokio::spawn(serve(connection, stop.subscribe()))),
                // Out of file descriptors, say. Connections that end make room again.
                Err(error) => {
                    log(&format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = asked_to_stop(&mut sigterm) => break,
        }
    }

    drop(listener);
    stop.send_replace(());
    stop.closed().await;
    tokio::time::sleep(Duration::from_millis(number_from_env("STOP_DELAY_MS").unwrap_or(0))).await;
    log("stopped");
    Ok(())
}

/// Serves one connection, until its peer has had enough or, once stopping, until the request under way is answered.
async fn serve(connection: TcpStream, mut stop: watch::Receiver<()>) {
    // An answer goes out at once; it does not wait for the acknowledgement of the one before it.
    let _ = connection.set_nodelay(true);
    let websockets = stop.clone();
    let service = service_fn(move |request| web::answer(request, websockets.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // An error here is a peer that went away: nothing that one could do about it.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Returns at SIGTERM; with IGNORE_TERM=1 never.
async fn asked_to_stop(sigterm: &mut Signal) {
    loop {
        sigterm.recv().await;
        log("SIGTERM received");
        if std::env::var("IGNORE_TERM").as_deref() != Ok("1") {
            return;
        }
        log("SIGTERM ignored, as IGNORE_TERM=1 asks");
    }
}

/// A line of the log: the time in UTC to the millisecond, then the words. Flushed, so that it is out before whatever
/// happens next. A log that nobody reads any more is no reason to stop serving.
fn log(words: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{:.3} {words}", jiff::Timestamp::now()).and_then(|()| out.flush());
}

/// The number in an environment variable; none if it is not set or not a number.
fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
