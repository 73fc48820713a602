//! What one client of HTTP/2 may take.

mod support;

use bytes::Bytes;
use h2::Reason;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::h2c::{self, H2Client, H2Job, until, whole};
use support::{Harness, Job, soon, table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A connection that has sent its preface and settings.
async fn raw(harness: &Harness) -> TcpStream {
    let mut stream = TcpStream::connect(harness.address()).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    stream
}

/// The rest of a connection until the proxy closes it, and with which word it says goodbye.
async fn goodbye(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<u32> {
    let mut last = None;
    let read = async {
        loop {
            let mut header = [0; 9];
            if stream.read_exact(&mut header).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            if header[3] == 7 {
                last = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
            }
        }
    };
    soon("the proxy's goodbye", read).await;
    last
}

async fn flood(harness: &Harness, frames: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Option<u32> {
    let (mut read, mut write) = raw(harness).await.into_split();
    let writing = tokio::spawn(async move {
        for frame in frames {
            if write.write_all(&frame).await.is_err() {
                break;
            }
        }
        write
    });
    let said = goodbye(&mut read).await;
    drop(writing.await);
    said
}

/// GET / of the test's host, in literals without indexing.
fn get(stream: u32, flags: u8) -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x86, 0x41, support::HOST.len() as u8];
    block.extend(support::HOST.as_bytes());
    frame(1, flags, stream, &block)
}

#[tokio::test]
async fn floods_end_the_connection_they_come_on_and_no_other() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let bystander = H2Client::connect(harness.address()).await;
    assert_eq!(bystander.get("/").await.status, 200);
    let calm = Some(u32::from(Reason::ENHANCE_YOUR_CALM));

    let pings = flood(&harness, (0..200_000).map(|_| frame(6, 0, 0, &[0; 8]))).await;
    assert_eq!(pings, calm, "pings");
    let settings = flood(&harness, (0..200_000).map(|_| frame(4, 0, 0, &[]))).await;
    assert_eq!(settings, calm, "settings");
    let resets = (0..100_000u32).flat_map(|n| [get(2 * n + 1, 5), frame(3, 0, 2 * n + 1, &8u32.to_be_bytes())]);
    assert_eq!(flood(&harness, resets).await, calm, "rapid reset");
    let reached = job.requests();
    assert!(reached < 2_000, "{reached} requests reached the job");
    let endless = std::iter::once(get(1, 1)).chain((0..100_000).map(|_| frame(9, 0, 1, &[0; 1])));
    assert!(flood(&harness, endless).await.is_some(), "endless CONTINUATION");

    assert_eq!(bystander.get("/").await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_one_that_never_ends_is_cut() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.header_timeout = Duration::from_millis(300)).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let large = H2Client::request("GET", "/").header("x-filler", "x".repeat(70 * 1024)).body(()).unwrap();
    assert_eq!(client.try_send(large, "").await.unwrap().status, 431);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(job.requests(), 1);
    // HEADERS without END_HEADERS, and nothing after it.
    assert!(flood(&harness, std::iter::once(get(1, 1))).await.is_some());
    // A head whose last frame says that it is whole, with the half of its bytes.
    let half = get(1, 5);
    assert!(flood(&harness, std::iter::once(half[..half.len() / 2 + 5].to_vec())).await.is_some());
    // Part of a preface, and nothing after it.
    let mut stream = TcpStream::connect(harness.address()).await.unwrap();
    stream.write_all(&PREFACE[..10]).await.unwrap();
    assert_eq!(soon("the cut", stream.read(&mut [0])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn streams_beyond_the_limit_wait_at_the_client() {
    let job = H2Job::start(1).await;
    let harness = Harness::with(|config| config.limits.max_streams = 3).await;
    harness.agent().await.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    assert_eq!(client.get("/").await.status, 200);
    let asked: Vec<_> = (0..5)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { client.get("/held").await.status }
            })
        })
        .collect();
    until("3 requests at the job", || job.seen.requests.load(SeqCst) == 4).await;
    assert_eq!(client.sender.current_max_send_streams(), 3);
    job.release.add_permits(5);
    for one in asked {
        assert_eq!(one.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_one_answer_loses_that_stream_alone() {
    let job = H2Job::start(1).await;
    let harness = Harness::with(|config| config.limits.write_timeout = Duration::from_millis(300)).await;
    harness.agent().await.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let (response, _stream) = client.open(H2Client::request("GET", "/flood").body(()).unwrap(), true).await;
    let mut body = soon("the head", response).await.unwrap().into_body();
    until("the reset at the job", || job.seen.resets.load(SeqCst) == 1).await;
    let error = loop {
        match soon("the end of the stream", body.data()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the stream ended as if it were whole"),
        }
    };
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn a_call_to_a_job_of_http1_is_not_waited_for_without_end() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.first_byte_timeout = Duration::from_millis(300)).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let call = H2Client::request("POST", "/held").header("content-type", "application/grpc").header("te", "trailers");
    let (response, _stream) = client.open(call.body(()).unwrap(), false).await;
    let answer = soon("an answer", response).await.unwrap();
    assert!(answer.headers().contains_key("grpc-status"), "{answer:?}");
}

#[tokio::test]
async fn a_client_without_streams_is_told_to_go_after_a_while() {
    let job = Job::start(1).await;
    let harness = Harness::with(|config| config.limits.idle_timeout = Duration::from_millis(300)).await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let (response, mut stream) = client.open(H2Client::request("POST", "/echo").body(()).unwrap(), false).await;
    let mut answer = soon("the head", response).await.unwrap().into_body();
    // An open stream is no idleness, however long nothing is said on it.
    tokio::time::sleep(Duration::from_millis(900)).await;
    stream.send_data(Bytes::from_static(b"late"), true).unwrap();
    assert_eq!(soon("an echo", answer.data()).await.unwrap().unwrap(), "late");
    drop((answer, stream));
    let mut idle = raw(&harness).await;
    assert_eq!(goodbye(&mut idle).await, Some(u32::from(Reason::NO_ERROR)));
}

#[tokio::test]
async fn a_service_with_as_much_in_flight_as_it_may_refuses_streams_as_it_refuses_requests() {
    let job = H2Job::start(1).await;
    let harness = Harness::with(|config| config.limits.max_in_flight = 1).await;
    harness.agent().await.switch(&h2c::table(1, &[&job])).await;
    let client = H2Client::connect(harness.address()).await;
    let (held, _stream) = client.open(H2Client::request("GET", "/held").body(()).unwrap(), true).await;
    until("the request at the job", || job.seen.requests.load(SeqCst) == 1).await;
    assert_eq!(client.get("/").await.status, 503);
    job.release.add_permits(1);
    assert_eq!(whole(held).await.unwrap().status, 200);
}
