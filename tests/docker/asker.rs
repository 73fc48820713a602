//! A client that asks without a pause, each time on a connection of its own, and notes what is not answered well.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// At least so many requests are judged.
const LEAST: u32 = 20;

/// Asks until it is told to stop.
pub struct Asker {
    stop: CancellationToken,
    end: JoinHandle<Tally>,
}

/// What was asked and answered.
#[derive(Debug, Default)]
pub struct Tally {
    pub asked: u32,
    pub failures: Vec<String>,
    pub versions: BTreeSet<String>,
}

impl Asker {
    /// Begins to ask this proxy for this host.
    pub fn start(proxy: SocketAddr, host: &'static str) -> Asker {
        let stop = CancellationToken::new();
        let told = stop.clone();
        let end = tokio::spawn(async move {
            let mut tally = Tally::default();
            // Also after a deployment that fails within milliseconds there is something to judge.
            while !told.is_cancelled() || tally.asked < LEAST {
                tally.asked += 1;
                match timeout(Duration::from_secs(5), ask(proxy, host)).await {
                    Ok(Ok(version)) => drop(tally.versions.insert(version)),
                    Ok(Err(said)) => tally.failures.push(said),
                    Err(_) => tally.failures.push("no answer within 5 s".into()),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tally
        });
        Asker { stop, end }
    }

    /// Stops; every request must have been answered well, by one of these versions and each of them.
    pub async fn saw_only(self, versions: &[&str]) {
        self.stop.cancel();
        let tally = self.end.await.expect("the asker ends");
        assert!(tally.failures.is_empty(), "{} of {} failed: {:?}", tally.failures.len(), tally.asked, tally.failures);
        assert!(tally.versions.iter().eq(versions), "{:?}, not {versions:?}", tally.versions);
    }
}

/// The version that answers; anything but a whole good answer is an error.
pub async fn ask(proxy: SocketAddr, host: &str) -> Result<String, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(proxy).await.map_err(told)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(told)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(told)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("cut short: {answer:?}"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(answer);
    }
    let body: serde_json::Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body:?}"))?;
    body["version"].as_str().map(str::to_owned).ok_or_else(|| format!("no version: {body}"))
}
