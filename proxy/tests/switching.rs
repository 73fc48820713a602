//! Switching from an old job to a new one while clients are at work.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use support::{Client, HOST, Harness, Job, socket, soon, table};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn switching_back_and_forth_under_load_loses_no_request() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;

    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let address = harness.address();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                while !stop.load(Ordering::SeqCst) {
                    if served.fetch_add(1, Ordering::SeqCst) % 10 == number {
                        client = Client::connect(address).await;
                    }
                    let (method, path, body) =
                        if number % 2 == 0 { ("GET", "/", "") } else { ("POST", "/echo", "job of a body") };
                    let answer = soon("an answer", client.send(method, path, body)).await.unwrap();
                    assert_eq!(answer.0, 200, "{answer:?}");
                    assert!(answer.1.starts_with("job "), "{answer:?}");
                }
            })
        })
        .collect();

    for generation in 2..60 {
        let job = if generation % 2 == 0 { &new } else { &old };
        let other = if generation % 2 == 0 { &old } else { &new };
        let mut report = agent.switch(&table(generation, &[job])).await;
        while !report.leaving.is_empty() {
            report = agent.report().await;
        }
        // The old job has nothing in flight and, as the proxy acknowledged, never gets anything again.
        let before = other.requests();
        other.close_idle();
        let enough = served.load(Ordering::SeqCst) + 20;
        soon("more requests", async {
            while served.load(Ordering::SeqCst) < enough && !clients.iter().any(tokio::task::JoinHandle::is_finished) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(other.requests(), before, "the old job was asked again after generation {generation} held");
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_in_flight_ends_on_the_old_job_and_is_reported_until_then() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;
    let mut client = Client::connect(harness.address()).await;
    let held = tokio::spawn(async move { client.get("/held").await });
    old.until_requests(1).await;

    let report = agent.switch(&table(2, &[&new])).await;
    assert_eq!(report.leaving, [(old.id, 1)]);
    assert_eq!(harness.get("/").await.body(), "job 2");

    old.release.add_permits(1);
    assert_eq!(held.await.unwrap(), (200, "job 1".to_owned()));
    assert_eq!(agent.until_leaving(0).await.generation, 2);
}

#[tokio::test]
async fn an_upgraded_connection_stays_on_the_old_job_and_is_reported_until_it_closes() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;
    let (mut stream, greeting) = socket(harness.address()).await;
    assert_eq!(greeting, "hello from 1");

    assert_eq!(agent.switch(&table(2, &[&new])).await.leaving, [(old.id, 1)]);
    stream.write_all(b"still here\n").await.unwrap();
    let mut line = String::new();
    soon("the echo", stream.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "still here\n");
    assert_eq!(socket(harness.address()).await.1, "hello from 2");

    // One direction ends; what the job still says arrives.
    stream.shutdown().await.unwrap();
    line.clear();
    soon("the rest", stream.read_to_string(&mut line)).await.unwrap();
    assert_eq!(line, "bye\n");
    agent.until_leaving(0).await;
}

#[tokio::test]
async fn a_job_that_is_switched_back_to_takes_requests_again() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;
    let (stream, _) = socket(harness.address()).await;
    assert_eq!(agent.switch(&table(2, &[&new])).await.leaving, [(old.id, 1)]);
    assert_eq!(agent.switch(&table(3, &[&old])).await.leaving, [], "a job that the table names does not leave");
    assert_eq!(harness.get("/").await.body(), "job 1");
    assert_eq!(agent.switch(&table(4, &[&new])).await.leaving, [(old.id, 1)]);
    drop(stream);
    agent.until_leaving(0).await;
}

#[tokio::test]
async fn a_kept_alive_connection_that_the_job_closed_is_not_seen_by_the_client() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let mut client = Client::connect(harness.address()).await;
    for round in 0..30 {
        assert_eq!(client.get("/").await, (200, "job 1".to_owned()), "round {round}");
        job.close_idle();
    }
}

/// Answers the first request of each connection and closes when the second one arrives: the worst moment.
#[tokio::test]
async fn a_job_that_closes_just_as_a_request_arrives_is_asked_again_on_a_fresh_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut job = Job::start(1).await;
    job.address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                assert!(stream.read(&mut bytes).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                let _ = stream.read(&mut bytes).await;
            });
        }
    });
    let harness = Harness::with(|config| config.workers = 1).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let mut client = Client::connect(harness.address()).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await, (200, "ok".to_owned()));
    }
    server.abort();
}

#[tokio::test]
async fn kept_alive_connections_to_a_job_are_used_again_and_closed_at_the_switch() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::with(|config| config.workers = 1).await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;
    let mut client = Client::connect(harness.address()).await;
    for _ in 0..20 {
        client.get("/").await;
    }
    assert!(old.connections() <= 2, "{} connections for 20 requests", old.connections());

    // A job that only listens sees the end of its idle connection when it leaves.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut mute = Job::start(3).await;
    mute.address = listener.local_addr().unwrap();
    agent.switch(&table(2, &[&mute])).await;
    let asked = tokio::spawn(async move { client.get("/").await });
    let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut bytes = [0; 4096];
    assert!(soon("a request", stream.read(&mut bytes)).await.unwrap() > 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    asked.await.unwrap();
    agent.switch(&table(3, &[&new])).await;
    assert_eq!(soon("the end", stream.read(&mut bytes)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_job_that_refuses_connections_costs_no_request_while_another_one_serves() {
    let (dead, alive) = (Job::start(1).await, Job::start(2).await);
    let mut gone = Job::start(3).await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    gone.address = unused.local_addr().unwrap();
    drop((unused, dead));
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&gone, &alive])).await;
    for _ in 0..10 {
        assert_eq!(harness.get("/").await.body(), "job 2");
        let posted = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(harness.ask(&posted).await.body(), "hi");
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_job() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;
    let mut stream = TcpStream::connect(harness.address()).await.unwrap();
    stream.write_all(format!("GET /held HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    old.until_requests(1).await;
    assert_eq!(agent.switch(&table(2, &[&new])).await.leaving, [(old.id, 1)]);
    drop(stream);
    agent.until_leaving(0).await;
}
