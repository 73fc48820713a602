//! What the proxy tells of its work: metrics and the access log.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::h2c::{H2Client, until};
use support::process::Place;
use support::{Harness, Job, PATIENCE, soon, table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The samples by their names with labels.
async fn samples(harness: &Harness) -> BTreeMap<String, String> {
    let mut stream = UnixStream::connect(harness.directory.path().join("metrics.sock")).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n").await.unwrap();
    let mut text = String::new();
    soon("the metrics", stream.read_to_string(&mut text)).await.unwrap();
    let body = text.split_once("\r\n\r\n").expect("a body").1;
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The samples when one of them has this value.
async fn until_counted(harness: &Harness, name: &str, value: &str) -> BTreeMap<String, String> {
    let began = Instant::now();
    loop {
        let seen = samples(harness).await;
        if seen.get(name).is_some_and(|now| now == value) {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "{name} is {:?} and not {value}: {seen:#?}", seen.get(name));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn observed(change: impl FnOnce(&mut lapstrake_proxy::Config)) -> Harness {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    Harness::in_directory(directory, |config| {
        config.metrics_listen = Some(path.to_str().unwrap().parse().unwrap());
        change(config);
    })
    .await
}

#[tokio::test]
async fn requests_are_counted_by_service_and_class_and_never_by_what_a_client_says() {
    let job = Job::start(1).await;
    let harness = observed(|_| {}).await;
    let mut agent = harness.agent().await;
    agent.switch(&table(7, &[&job])).await;
    for _ in 0..3 {
        assert_eq!(harness.get("/").await.status(), 200);
    }
    let modern = H2Client::connect(harness.address()).await;
    let post = H2Client::request("POST", "/echo").body(()).unwrap();
    assert_eq!(modern.try_send(post, "12345").await.unwrap().body, "12345");
    for stranger in ["a.example", "b.example\\\"}"] {
        harness.ask(&format!("GET /{stranger} HTTP/1.1\r\nHost: {stranger}\r\nConnection: close\r\n\r\n")).await;
    }
    let service = "service=\"shop/production/web\"";
    let of = |name: &str| format!("lapstrake_proxy_{name}{{{service}}}");
    let classed = |class: &str| format!("lapstrake_proxy_requests_total{{{service},class=\"{class}\"}}");
    // A request is counted when its answer was written, a moment after the client has it.
    let seen = until_counted(&harness, &classed("2xx"), "4").await;
    assert_eq!(seen["lapstrake_proxy_requests_total{service=\"none\",class=\"4xx\"}"], "2");
    assert_eq!(seen["lapstrake_proxy_table_generation"], "7");
    assert_eq!(seen[&of("received_bytes_total")], "5");
    assert_eq!(seen[&of("sent_bytes_total")], (3 * "job 1".len() + 5).to_string());
    assert_eq!(seen[&of("request_duration_seconds_count")], "4");
    assert_eq!(seen[&of("requests_open")], "0");
    assert!(!seen.keys().any(|name| name.contains("example")), "{seen:?}");

    // A service that is gone takes its series with it.
    let mut other = table(8, &[]);
    other.routes[0].name.service = "api".to_owned();
    other.routes[0].service = lapstrake_core::ids::ServiceId(2);
    agent.switch(&other).await;
    assert_eq!(harness.get("/").await.status(), 503);
    let api = "lapstrake_proxy_requests_total{service=\"shop/production/api\",class=\"5xx\"}";
    let seen = until_counted(&harness, api, "1").await;
    assert!(!seen.contains_key(&classed("2xx")));
}

#[tokio::test]
async fn jobs_that_cannot_be_connected_to_and_tries_after_the_first_are_counted() {
    let (dead, job) = (Job::start(1).await, Job::start(2).await);
    let harness = observed(|_| {}).await;
    let mut routes = table(1, &[&dead, &job]);
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    routes.routes[0].backends[0].address = free;
    harness.agent().await.switch(&routes).await;
    for _ in 0..2 {
        assert_eq!(harness.get("/").await.body(), "job 2");
    }
    let seen = samples(&harness).await;
    let service = "{service=\"shop/production/web\"}";
    assert_eq!(seen[&format!("lapstrake_proxy_connect_failures_total{service}")], "1");
    assert_eq!(seen[&format!("lapstrake_proxy_retries_total{service}")], "1");
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request_and_none_without_it() {
    let job = Job::start(1).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let harness = Harness::in_directory(directory, |config| config.access_log = Some(path.clone())).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    harness.get("/a/b?secret=1").await;
    let modern = H2Client::connect(harness.address()).await;
    assert_eq!(modern.get("/c").await.status, 200);
    harness.ask("GET / HTTP/1.1\r\nHost: unknown.example\r\nConnection: close\r\n\r\n").await;
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    until("three lines", || read().lines().count() == 3).await;
    let lines: Vec<serde_json::Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
    let first = of("/a/b");
    for (field, value) in
        [("service", "shop/production/web"), ("method", "GET"), ("protocol", "HTTP/1.1"), ("client", "127.0.0.1")]
    {
        assert_eq!(first[field], value);
    }
    assert_eq!((&first["status"], &first["sent"], &first["retried"]), (&200.into(), &5.into(), &0.into()));
    assert_eq!(first["job"], job.id.to_string());
    assert!(first["first_byte_us"].as_u64() <= first["duration_us"].as_u64());
    assert_eq!(of("/c")["protocol"], "HTTP/2.0");
    assert!(of("/").get("service").is_none() && of("/")["status"] == 404);
    assert!(!read().contains("secret"));
}

#[tokio::test]
async fn the_successor_tells_the_metrics_at_the_same_place() {
    let job = Job::start(1).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = Place::new(&format!("metrics_listen = \"{free}\""));
    place.write_table(&table(3, &[&job]));
    let mut old = place.start();
    place.until_said("serving listen=", 1).await;
    let _new = place.start();
    place.until_said("serving listen=", 2).await;
    assert_eq!(support::process::ended(&mut old).await, Some(0));
    let mut stream = tokio::net::TcpStream::connect(free).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n").await.unwrap();
    let mut text = String::new();
    soon("the metrics", stream.read_to_string(&mut text)).await.unwrap();
    assert!(text.contains("lapstrake_proxy_table_generation 3"), "{text}");
}
