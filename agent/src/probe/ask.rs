//! One question to a job, and its answer in words.

use super::grpc;
use crate::runtime::{Runtime, RuntimeError};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::probe::Answer;
use lapstrake_core::spec::{Check, CheckKind};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpStream;

/// As much of a bad answer's body is kept: enough for a message, too little for a page.
const KEPT_BODY: usize = 200;

/// Asks once. Takes at most the check's time limit.
pub async fn ask(runtime: &dyn Runtime, attempt: Attempt, address: Ipv4Addr, check: &Check) -> Answer {
    if let Some(answer) = runtime.answer(attempt, check) {
        return answer;
    }
    let limit = check.timeout.std();
    let asked = async {
        match &check.kind {
            CheckKind::Http { port, path } => http(SocketAddr::from((address, *port)), path).await,
            CheckKind::Tcp { port } => tcp(SocketAddr::from((address, *port))).await,
            CheckKind::Grpc { port, service } => grpc::serving(SocketAddr::from((address, *port)), service).await,
            CheckKind::Exec { command } => exec(runtime, attempt, command, limit).await,
        }
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(())) => Answer::Good,
        Ok(Err(said)) => Answer::Bad(said),
        Err(_) => Answer::Bad(format!("no answer within {}", check.timeout)),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("nothing listens on port {}", address.port()),
        _ => format!("no connection to port {}: {error}", address.port()),
    })
}

async fn tcp(address: SocketAddr) -> Result<(), String> {
    connect(address).await.map(drop)
}

async fn http(address: SocketAddr, path: &str) -> Result<(), String> {
    let io = TokioIo::new(connect(address).await?);
    let broke = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broke)?;
    // Ends with the exchange: dropping the sender closes the connection.
    let connection = tokio::spawn(connection);
    let _close = AbortOnDrop(connection.abort_handle());
    let request = http::Request::get(path)
        .header(http::header::HOST, address.to_string())
        .header(http::header::USER_AGENT, concat!("lapstrake-agent/", env!("CARGO_PKG_VERSION"), " (health check)"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the path cannot be asked for: {error}"))?;
    let response = sender.send_request(request).await.map_err(broke)?;
    let status = response.status();
    if (200..400).contains(&status.as_u16()) {
        return Ok(());
    }
    let body = beginning(response.into_body()).await;
    if body.is_empty() {
        Err(format!("status {}", status.as_u16()))
    } else {
        Err(format!("status {}: {body}", status.as_u16()))
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn beginning(mut body: hyper::body::Incoming) -> String {
    let mut kept = Vec::new();
    while kept.len() < KEPT_BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(piece) = frame.data_ref() {
            let room = (KEPT_BODY - kept.len()).min(piece.len());
            kept.extend_from_slice(&piece[..room]);
        }
    }
    printable(&String::from_utf8_lossy(&kept))
}

/// What a stranger's program wrote, safe for a terminal and a log: control characters are escaped.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.trim().chars() {
        if c.is_control() { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

async fn exec(
    runtime: &dyn Runtime,
    attempt: Attempt,
    command: &[String],
    limit: std::time::Duration,
) -> Result<(), String> {
    match runtime.exec(attempt, command, limit).await {
        Ok(end) if end.code == 0 => Ok(()),
        Ok(end) => {
            let output = printable(&end.output);
            if output.is_empty() {
                Err(format!("exit code {}", end.code))
            } else {
                Err(format!("exit code {}: {output}", end.code))
            }
        }
        Err(RuntimeError::NotThere(_)) => Err("the container does not run".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Owner;
    use crate::runtime::docker::DockerRuntime;
    use lapstrake_core::ids::{ClusterId, JobId, NodeId};
    use lapstrake_core::time::Millis;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn answer_of(reply: &'static [u8]) -> Answer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0u8; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(reply).await;
            let _ = stream.read(&mut request).await;
        });
        let answer = ask_port(CheckKind::Http { port, path: "/healthz".into() }).await;
        server.abort();
        answer
    }

    async fn ask_port(kind: CheckKind) -> Answer {
        let owner = Owner { cluster: ClusterId(1), node: NodeId(1) };
        let nobody = DockerRuntime::new("unix:///nonexistent", owner);
        let check = Check { kind, interval: Millis(1), timeout: Millis(500), grace: Millis(0), restart_after: 1 };
        ask(&nobody, Attempt { job: JobId(1), number: 1 }, Ipv4Addr::LOCALHOST, &check).await
    }

    #[tokio::test]
    async fn a_status_from_200_to_399_is_healthy() {
        assert_eq!(answer_of(b"HTTP/1.1 204 No Content\r\n\r\n").await, Answer::Good);
        assert_eq!(answer_of(b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n").await, Answer::Good);
    }

    #[tokio::test]
    async fn a_bad_answer_tells_its_status_and_the_bodys_beginning_without_control_characters() {
        let answer = answer_of(b"HTTP/1.1 503 X\r\ncontent-length: 16\r\n\r\nno \x1b[31m database").await;
        assert_eq!(answer, Answer::Bad("status 503: no \\u{1b}[31m databas".into()));
    }

    #[tokio::test]
    async fn a_port_on_which_nothing_listens_is_said_so() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(ask_port(CheckKind::Tcp { port }).await, Answer::Good);
        drop(listener);
        assert_eq!(ask_port(CheckKind::Tcp { port }).await, Answer::Bad(format!("nothing listens on port {port}")));
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up_after_the_time_limit() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let answer = ask_port(CheckKind::Http { port, path: "/".into() }).await;
        assert_eq!(answer, Answer::Bad("no answer within 500 ms".into()));
    }
}
