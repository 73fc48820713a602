//! What clients get: the job's words, or the proxy's own with the service's name in them.

mod support;

use std::time::Duration;
use support::{Client, HOST, Harness, Job, soon, table};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_proxy_without_a_table_says_that_it_has_no_routes_yet() {
    let harness = Harness::start().await;
    let answer = harness.get("/").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.body().starts_with("no routes yet"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_service_without_jobs_here_is_answered_with_the_nodes_that_have_some() {
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[])).await;
    let answer = harness.get("/").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.body(), "no job of shop/production/web on node-a; node-b and node-c have some\n");
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_paused_service_is_said_to_be_paused() {
    let harness = Harness::start().await;
    let mut paused = table(1, &[]);
    paused.routes.iter_mut().for_each(|route| route.paused = true);
    harness.agent().await.switch(&paused).await;
    let answer = harness.get("/").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.body(), "shop/production/web is paused; it answers when it is resumed\n");
    assert_eq!(answer.header("retry-after"), None, "nobody knows when that is");
}

#[tokio::test]
async fn a_job_that_refuses_the_connection_is_named_with_its_service() {
    let mut job = Job::start(1).await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    job.address = unused.local_addr().unwrap();
    drop(unused);
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let answer = harness.get("/").await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.body(), "shop/production/web: the job did not answer: connection refused\n");
}

#[tokio::test]
async fn a_job_that_breaks_off_before_it_answers_is_named_with_its_service() {
    let mut job = Job::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    job.address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200").await;
        }
    });
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let answer = harness.get("/").await;
    assert_eq!(answer.status(), 502);
    assert!(answer.body().starts_with("shop/production/web: the job broke off before it answered"), "{answer:?}");
    server.abort();
}

#[tokio::test]
async fn a_job_that_does_not_answer_in_time_is_named_with_its_service() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.first_byte_timeout = Duration::from_millis(100)).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let answer = harness.get("/held").await;
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.body(), "shop/production/web: the job did not answer within 100ms\n");
}

#[tokio::test]
async fn a_client_that_accepts_json_gets_errors_as_json() {
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[])).await;
    let request = "GET / HTTP/1.1\r\nHost: other.example\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
    let answer = harness.ask(request).await;
    assert_eq!((answer.status(), answer.header("content-type")), (404, Some("application/json")));
    assert_eq!(answer.body(), "{\"error\":\"no service answers for host other.example\"}\n");
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_are_refused() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    for head in [
        "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "POST / HTTP/1.1\r\nHost: H\r\nContent-Length : 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: H\r\nHost: H\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "CONNECT H:443 HTTP/1.1\r\nHost: H\r\n\r\n",
    ] {
        let answer = harness
            .ask(&head.replace('H', HOST).replace(&format!("{HOST}TTP"), "HTTP").replace(&format!("{HOST}ost"), "Host"))
            .await;
        assert_eq!(answer.status(), 400, "{head:?}: {answer:?}");
    }
    assert_eq!(job.requests(), 0);
}

#[tokio::test]
async fn a_job_sees_who_asked_and_nothing_of_the_clients_connection() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let request = format!(
        "GET http://{HOST}:80/head?x=1 HTTP/1.1\r\nHost: ignored.example\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Own: 1\r\nX-Stays: 2\r\nConnection: close, X-Own\r\n\r\n"
    );
    let answer = harness.ask(&request).await;
    let seen: Vec<&str> = answer.body().lines().collect();
    assert_eq!(seen[0], "GET /head?x=1", "{answer:?}");
    for line in [
        &format!("host: {HOST}:80"),
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        &format!("x-forwarded-host: {HOST}:80"),
        "x-stays: 2",
    ] {
        assert!(seen.contains(&line), "{line} is missing in {seen:?}");
    }
    assert!(!seen.iter().any(|line| line.starts_with("x-own") || line.contains("6.6.6.6")), "{seen:?}");
}

#[tokio::test]
async fn bodies_stream_in_both_directions_at_the_same_time() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let mut stream = BufReader::new(TcpStream::connect(harness.address()).await.unwrap());
    let head = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = String::new();
    for word in ["plank", "keel"] {
        // The next chunk is sent only when the one before came back: nothing waits for the whole body.
        stream.write_all(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes()).await.unwrap();
        while line.trim() != word {
            line.clear();
            soon("the echo", stream.read_line(&mut line)).await.unwrap();
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    soon("the end", stream.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let body = "0123456789abcdef".repeat(1 << 18);
    let mut client = Client::connect(harness.address()).await;
    let (status, echoed) = soon("the echo", client.send("PUT", "/echo", &body)).await.unwrap();
    assert_eq!((status, echoed.len()), (200, body.len()));
    assert!(echoed == body);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let mut stream = BufReader::new(TcpStream::connect(harness.address()).await.unwrap());
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = String::new();
    soon("100", stream.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    stream.write_all(b"keel").await.unwrap();
    let mut rest = String::new();
    soon("the answer", stream.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.contains("HTTP/1.1 200 OK") && rest.ends_with("\r\n\r\nkeel"), "{rest:?}");
}

#[tokio::test]
async fn a_head_request_gets_the_length_and_no_body() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let answer = harness.ask(&format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")).await;
    assert_eq!((answer.status(), answer.header("content-length"), answer.body()), (200, Some("5"), ""));
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served_and_its_connection_closed() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let answer = harness.ask(&format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!((answer.status(), answer.body()), (200, "job 1"));
}
