//! What one client, one request and one service may take.

mod support;

use std::time::{Duration, Instant};
use support::{Client, HOST, Harness, Job, socket, soon, table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let head = |filler: usize| {
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nX-Filler: {}\r\n\r\n", "x".repeat(filler))
    };
    assert_eq!(harness.ask(&head(32 * 1024)).await.status(), 200);
    assert_eq!(harness.ask(&head(70 * 1024)).await.status(), 431);
    assert_eq!(job.requests(), 1);
}

/// Sends one byte of a head again and again until the proxy closes the connection.
async fn drip(address: std::net::SocketAddr) -> Duration {
    // The proxy counts from its accept, which may come before we hear of the connection.
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ").as_bytes()).await.unwrap();
    let mut byte = [0];
    soon("the cut", async {
        loop {
            if stream.write_all(b"x").await.is_err() {
                return;
            }
            match tokio::time::timeout(Duration::from_millis(20), stream.read(&mut byte)).await {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(_)) => panic!("an answer to half a request"),
                Err(_) => {}
            }
        }
    })
    .await;
    began.elapsed()
}

#[tokio::test]
async fn a_client_that_sends_its_head_slowly_is_cut_though_it_never_stops_sending() {
    let harness = Harness::with(|config| config.limits.header_timeout = Duration::from_millis(400)).await;
    let lasted = drip(harness.address()).await;
    assert!(lasted >= Duration::from_millis(400), "{lasted:?}");
}

#[tokio::test]
async fn a_kept_alive_connection_may_rest_longer_than_a_head_may_take() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| {
        config.limits.header_timeout = Duration::from_millis(100);
        config.limits.idle_timeout = Duration::from_millis(1500);
    })
    .await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let mut client = Client::connect(harness.address()).await;
    client.get("/").await;
    let rested = Instant::now();
    while rested.elapsed() < Duration::from_millis(500) {
        assert!(!client.is_closed(), "closed after {:?}", rested.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.get("/").await.0, 200);
    soon("the end of an idle connection", async {
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_answer_is_not_a_slow_head() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| {
        config.limits.header_timeout = Duration::from_millis(100);
        config.limits.idle_timeout = Duration::from_millis(100);
    })
    .await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let address = harness.address();
    let asked = tokio::spawn(async move { Client::connect(address).await.get("/held").await });
    job.until_requests(1).await;
    // The limits run out for a second client that says nothing; the first one is still waited for.
    let mut silent = TcpStream::connect(harness.address()).await.unwrap();
    assert_eq!(soon("the cut", silent.read(&mut [0])).await.unwrap_or(0), 0);
    job.release.add_permits(1);
    assert_eq!(asked.await.unwrap().0, 200);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_the_clients_fault() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.first_byte_timeout = Duration::from_millis(200)).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let request = format!("POST /held HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(harness.ask(&request).await.status(), 408);
}

#[tokio::test]
async fn a_service_with_as_much_in_flight_as_it_may_says_so() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.max_in_flight = 1).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let (stream, _) = socket(harness.address()).await;
    let answer = harness.get("/").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.body(), "shop/production/web: 1 requests are in flight already, which is the limit\n");
    drop(stream);
    soon("room again", async { while harness.get("/").await.status() != 200 {} }).await;
}

#[tokio::test]
async fn a_proxy_with_as_many_connections_as_it_may_says_so() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.max_connections = 1).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let mut first = Client::connect(harness.address()).await;
    assert_eq!(first.get("/").await.0, 200);
    let answer = harness.get("/").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.body().contains("1 connections already"), "{answer:?}");
    assert_eq!(first.get("/").await.0, 200, "who is inside stays inside");
    drop(first);
    soon("room again", async { while harness.get("/").await.status() != 200 {} }).await;
}

/// Writes without ever reading, until the proxy closes the connection.
async fn write_until_cut(stream: &mut TcpStream) {
    let block = vec![b'x'; 256 * 1024];
    soon("the cut", async { while stream.write_all(&block).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_client_that_stops_reading_its_answer_is_cut() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.write_timeout = Duration::from_millis(300)).await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&job])).await;
    let mut stream = TcpStream::connect(harness.address()).await.unwrap();
    let head = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    write_until_cut(&mut stream).await;
    let report = agent.switch(&table(2, &[])).await;
    if !report.leaving.is_empty() {
        agent.until_leaving(0).await;
    }
}

#[tokio::test]
async fn a_websocket_that_stops_reading_is_cut() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.write_timeout = Duration::from_millis(300)).await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&job])).await;
    let (stream, _) = socket(harness.address()).await;
    write_until_cut(&mut stream.into_inner()).await;
    let report = agent.switch(&table(2, &[])).await;
    if !report.leaving.is_empty() {
        agent.until_leaving(0).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_cut() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.write_timeout = Duration::from_millis(600)).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let (stream, _) = socket(harness.address()).await;
    let (mut read, mut write) = stream.into_inner().into_split();
    let writer = tokio::spawn(async move {
        let block = vec![b'x'; 256 * 1024];
        while write.write_all(&block).await.is_ok() {}
    });
    let mut block = vec![0; 256 * 1024];
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        soon("a block", read.read_exact(&mut block)).await.expect("still connected");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!writer.is_finished(), "nobody closed the connection");
    writer.abort();
}
