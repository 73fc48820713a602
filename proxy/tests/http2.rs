//! HTTP/2 of clients and of jobs, each with either.

mod support;

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use std::sync::atomic::Ordering::SeqCst;
use support::h2c::{self, H2Client, H2Job, give, settled, until, whole};
use support::{Client, HOST, Harness, Job, soon, table};

#[tokio::test]
async fn a_client_and_a_job_may_speak_different_http() {
    let (one, two) = (Job::start(1).await, H2Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    for generation in 1..=2 {
        let routes = if generation == 1 { table(1, &[&one]) } else { h2c::table(2, &[&two]) };
        agent.switch(&routes).await;
        let expected = format!("job {generation}");
        assert_eq!(Client::connect(harness.address()).await.get("/").await, (200, expected.clone()));
        let modern = H2Client::connect(harness.address()).await;
        let answer = modern.get("/").await;
        assert_eq!((answer.status, answer.body), (200, expected));
        assert!(answer.headers.contains_key("date"));
        let mut old = Client::connect(harness.address()).await;
        assert_eq!(soon("an echo", old.send("POST", "/echo", "said")).await.unwrap(), (200, "said".to_owned()));
        let post = H2Client::request("POST", "/echo").body(()).unwrap();
        assert_eq!(modern.try_send(post, "said").await.unwrap().body, "said");
    }
}

#[tokio::test]
async fn curl_speaks_http2_with_prior_knowledge() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let url = format!("http://{}/head", harness.address());
    let curl = tokio::process::Command::new("curl")
        .args(["-sS", "--max-time", "20", "--http2-prior-knowledge", "-w", "\nversion %{http_version}", "-d", "a=b"])
        .args(["-H", &format!("Host: {HOST}"), &url])
        .output();
    let said = curl.await.expect("curl is installed");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(text.starts_with("POST /head\n") && text.ends_with("version 2"), "{said:?}");
}

#[tokio::test]
async fn a_job_reads_of_http2_what_it_would_read_of_http1() {
    let (plain, modern) = (Job::start(1).await, H2Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    let client = H2Client::connect(harness.address()).await;
    for generation in 1..=2 {
        let routes = if generation == 1 { table(1, &[&plain]) } else { h2c::table(2, &[&modern]) };
        agent.switch(&routes).await;
        let request = H2Client::request("GET", "/head?q=1")
            .header("x-forwarded-for", "1.1.1.1")
            .header("forwarded", "for=1.1.1.1")
            .header("proxy-authorization", "x")
            .header("te", "trailers")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let answer = client.try_send(request.body(()).unwrap(), "").await.unwrap();
        let mut lines: Vec<&str> = answer.body.lines().collect();
        lines[1..].sort_unstable();
        let forwarded = format!("forwarded: for=127.0.0.1;host=\"{HOST}\";proto=http");
        let host = format!("host: {HOST}");
        let mut expected = match generation {
            1 => vec!["GET /head?q=1".to_owned(), host],
            _ => vec![format!("GET http://{HOST}/head?q=1"), "te: trailers".to_owned()],
        };
        expected.extend([
            "cookie: a=1; b=2".to_owned(),
            forwarded,
            "x-forwarded-for: 127.0.0.1".to_owned(),
            format!("x-forwarded-host: {HOST}"),
            "x-forwarded-proto: http".to_owned(),
        ]);
        expected[1..].sort_unstable();
        assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn a_request_that_says_two_hosts_or_the_headers_of_a_connection_is_refused() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let two_hosts = H2Client::request("GET", "/").header("host", "other.example.com").body(()).unwrap();
    assert_eq!(client.try_send(two_hosts, "").await.unwrap().status, 400);
    let same_host = H2Client::request("GET", "/").header("host", HOST).body(()).unwrap();
    assert_eq!(client.try_send(same_host, "").await.unwrap().status, 200);
    let connect = http::Request::builder().method("CONNECT").uri(format!("{HOST}:80")).body(()).unwrap();
    assert_eq!(client.try_send(connect, "").await.unwrap().status, 400);
    let short = H2Client::request("POST", "/echo").header("content-length", "9").body(()).unwrap();
    let refused = client.try_send(short, "four").await;
    assert!(refused.as_ref().map_or(true, |answer| answer.status >= 400), "{refused:?}");
    // The connection is as good as before.
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn many_streams_share_one_connection_to_the_job_and_each_is_one_open_request() {
    let (old, new) = (H2Job::start(1).await, H2Job::start(2).await);
    let harness = Harness::with(|config| config.workers = 1).await;
    let mut agent = harness.agent().await;
    agent.switch(&h2c::table(1, &[&old])).await;
    let client = H2Client::connect(harness.address()).await;
    let asked: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { client.get("/held").await.body }
            })
        })
        .collect();
    until("20 requests at the job", || old.seen.requests.load(SeqCst) == 20).await;
    assert_eq!(old.seen.connections.load(SeqCst), 1);
    let report = agent.switch(&h2c::table(2, &[&new])).await;
    assert_eq!(report.leaving, [(old.id, 20)]);
    assert_eq!(client.get("/").await.body, "job 2", "the client's connection is kept");
    assert_eq!(old.seen.closed.load(SeqCst), 0, "its streams go on");
    old.release.add_permits(20);
    for one in asked {
        assert_eq!(one.await.unwrap(), "job 1");
    }
    agent.until_leaving(0).await;
    until("the end of the connection to the old job", || old.seen.closed.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn a_job_that_takes_few_streams_gets_more_connections_and_refuses_none() {
    let job = H2Job::with_streams(1, 3).await;
    let harness = Harness::with(|config| config.workers = 1).await;
    harness.agent().await.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let asked: Vec<_> = (0..9)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { client.get("/held").await.status }
            })
        })
        .collect();
    until("9 requests at the job", || job.seen.requests.load(SeqCst) == 9).await;
    assert_eq!(job.seen.connections.load(SeqCst), 3);
    job.release.add_permits(9);
    for one in asked {
        assert_eq!(one.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_stream_that_the_job_refused_is_tried_again_with_its_body() {
    let job = H2Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let post = H2Client::request("POST", "/refused-once").body(()).unwrap();
    assert_eq!(client.try_send(post, "body").await.unwrap().body, "job 1");
    assert_eq!(job.seen.requests.load(SeqCst), 2);
}

#[tokio::test]
async fn a_job_that_says_goodbye_gets_the_next_request_on_a_new_connection() {
    let job = H2Job::start(1).await;
    let harness = Harness::with(|config| config.workers = 1).await;
    harness.agent().await.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    assert_eq!(client.get("/go-away").await.status, 200);
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(job.seen.connections.load(SeqCst), 2);
}

#[tokio::test]
async fn a_reset_passes_both_ways_and_reaches_no_other_stream() {
    let job = H2Job::start(1).await;
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let calm = client.try_send(H2Client::request("GET", "/calm").body(()).unwrap(), "").await.unwrap_err();
    assert_eq!(calm.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    // A client of HTTP/1.1 has no streams.
    assert_eq!(harness.get("/calm").await.status(), 502);

    let (response, mut stream) = client.open(H2Client::request("GET", "/silent").body(()).unwrap(), false).await;
    until("the request at the job", || job.seen.requests.load(SeqCst) == 3).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    until("the reset at the job", || job.seen.resets.load(SeqCst) == 1).await;
    assert_eq!(client.get("/").await.status, 200);
    // What was reset is not counted.
    if !agent.switch(&h2c::table(2, &[])).await.leaving.is_empty() {
        agent.until_leaving(0).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_its_stream_frees_a_job_of_http1_too() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let (response, mut stream) = client.open(H2Client::request("GET", "/held").body(()).unwrap(), true).await;
    job.until_requests(1).await;
    assert_eq!(agent.switch(&table(2, &[])).await.leaving, [(job.id, 1)]);
    stream.send_reset(Reason::CANCEL);
    drop(response);
    agent.until_leaving(0).await;
}

#[tokio::test]
async fn trailers_and_both_directions_of_a_stream_pass_while_it_is_open() {
    let job = H2Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let request = H2Client::request("POST", "/trailers").body(()).unwrap();
    let (response, mut stream) = client.open(request, false).await;
    let mut body = soon("the head", response).await.unwrap().into_body();
    for word in ["one", "two"] {
        give(&mut stream, Bytes::from_static(word.as_bytes())).await.unwrap();
        assert_eq!(soon("an echo", body.data()).await.unwrap().unwrap(), word);
    }
    // A client's own trailers end at the proxy.
    stream.send_trailers(HeaderMap::from_iter([("x-claim".parse().unwrap(), "1".parse().unwrap())])).unwrap();
    assert!(soon("the end", body.data()).await.is_none());
    assert_eq!(soon("trailers", body.trailers()).await.unwrap().unwrap()["x-last"], "word");
}

/// What windows and buffers between a writer and a reader may hold: those of the reader, of both sides of the proxy and of
/// the kernel.
const HELD_AT_MOST: u64 = 12 * 1024 * 1024;

#[tokio::test]
async fn a_reader_that_takes_nothing_stops_the_writer() {
    let job = H2Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let (response, mut asking) = client.open(H2Client::request("GET", "/flood").body(()).unwrap(), true).await;
    let answer = soon("the head", response).await.unwrap();
    let sent = settled(&job.seen.bytes).await;
    assert!(sent < HELD_AT_MOST, "{sent}");
    assert_eq!(client.get("/").await.status, 200, "another stream goes on meanwhile");
    asking.send_reset(Reason::CANCEL);
    drop(answer);
    until("the reset at the job", || job.seen.resets.load(SeqCst) == 1).await;

    // The other way: a job that takes nothing.
    let given = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (response, mut stream) = client.open(H2Client::request("POST", "/slow").body(()).unwrap(), false).await;
    let counted = std::sync::Arc::clone(&given);
    let giving = tokio::spawn(async move {
        for _ in 0..4096 {
            give(&mut stream, Bytes::from_static(&[7; 8192])).await.unwrap();
            counted.fetch_add(8192, SeqCst);
        }
        stream.send_data(Bytes::new(), true).unwrap();
    });
    let held = settled(&given).await;
    assert!(held < HELD_AT_MOST, "{held}");
    job.seen.bytes.store(0, SeqCst);
    job.release.add_permits(1);
    soon("the whole body", giving).await.unwrap();
    assert_eq!(whole(response).await.unwrap().body, "job 1");
    assert_eq!(job.seen.bytes.load(SeqCst), 4096 * 8192);
}
