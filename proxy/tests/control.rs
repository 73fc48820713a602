//! What the agent hears, and what happens when it is not there or talks nonsense.

mod support;

use lapstrake_core::routes::{ROUTES_FORMAT, RouteTable};
use std::os::unix::fs::PermissionsExt;
use support::{Agent, Harness, Job, socket, soon, table, table_file};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn write_table(directory: &tempfile::TempDir, json: &str) {
    std::fs::write(table_file(directory.path()), json).unwrap();
}

#[tokio::test]
async fn the_proxy_greets_with_its_format_version_and_pid() {
    let harness = Harness::start().await;
    let agent = harness.agent().await;
    assert_eq!(agent.hello.format, ROUTES_FORMAT);
    assert_eq!(agent.hello.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(agent.hello.pid, std::process::id());
    let path = harness.proxy.control_path();
    assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("{}.sock", std::process::id()));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[tokio::test]
async fn a_proxy_that_starts_without_an_agent_serves_by_the_table_file() {
    let job = Job::start(1).await;
    let directory = tempfile::tempdir().unwrap();
    write_table(&directory, &serde_json::to_string_pretty(&table(7, &[&job])).unwrap());
    let harness = Harness::in_directory(directory, |_| {}).await;
    assert_eq!(harness.get("/").await.body(), "job 1");
    let report = harness.agent().await.switch(&table(7, &[&job])).await;
    assert_eq!(report.generation, 7);
}

#[tokio::test]
async fn a_table_file_that_cannot_be_used_waits_for_the_agent() {
    let job = Job::start(1).await;
    let mut newer = serde_json::to_value(table(7, &[&job])).unwrap();
    newer["format"] = (ROUTES_FORMAT + 1).into();
    for json in ["", "{", "[]", &newer.to_string()] {
        let directory = tempfile::tempdir().unwrap();
        write_table(&directory, json);
        let harness = Harness::in_directory(directory, |_| {}).await;
        assert_eq!(harness.get("/").await.status(), 503, "{json}");
        assert!(!has_its_table(&harness).await, "whoever waits for the proxy goes on waiting: {json}");
        harness.agent().await.switch(&table(1, &[&job])).await;
        soon("its table holds", harness.proxy.has_its_table()).await;
        assert_eq!(harness.get("/").await.body(), "job 1", "{json}");
    }
}

/// Whether it is so by now.
async fn has_its_table(harness: &Harness) -> bool {
    tokio::select! {
        biased;
        () = harness.proxy.has_its_table() => true,
        () = std::future::ready(()) => false,
    }
}

#[tokio::test]
async fn a_proxy_of_a_node_that_never_had_a_table_keeps_nobody_waiting() {
    let harness = Harness::start().await;
    assert!(has_its_table(&harness).await);
}

#[tokio::test]
async fn an_older_table_is_refused_with_a_report_of_what_holds() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(9, &[&new])).await;
    agent.send(&table(8, &[&old])).await;
    assert_eq!(agent.report().await.generation, 9);
    assert_eq!(harness.get("/").await.body(), "job 2");
}

#[tokio::test]
async fn a_table_of_a_newer_format_is_refused_and_the_old_one_stays() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;
    agent.send(&RouteTable { format: ROUTES_FORMAT + 1, ..table(2, &[&new]) }).await;
    assert_eq!(agent.report().await.generation, 1);
    assert_eq!(harness.get("/").await.body(), "job 1");
}

#[tokio::test]
async fn the_newest_table_wins_whichever_agent_sent_it_and_all_of_them_hear_of_it() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut first = harness.agent().await;
    first.switch(&table(1, &[&old])).await;
    let mut second = harness.agent().await;
    second.switch(&table(2, &[&new])).await;
    assert_eq!(first.report().await.generation, 2);
    assert_eq!(harness.get("/").await.body(), "job 2");
}

#[tokio::test]
async fn garbage_on_the_control_socket_closes_that_connection_only() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    let mut good = harness.agent().await;
    good.switch(&table(1, &[&job])).await;
    for garbage in [&b"hello\n"[..], b"{}\n", b"\xff\xfe\n", b"{\"format\":1}\n", b"\n"] {
        let mut bad = harness.agent().await;
        bad.stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        soon("the end", bad.stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
    }
    assert_eq!(good.switch(&table(2, &[&job])).await.generation, 2);
    assert_eq!(harness.get("/").await.body(), "job 1");
}

#[tokio::test]
async fn an_agent_that_dies_in_the_middle_of_a_table_changes_nothing() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;
    let (stream, _) = socket(harness.address()).await;
    let half = serde_json::to_vec(&table(2, &[&new])).unwrap();
    agent.stream.write_all(&half[..half.len() / 2]).await.unwrap();
    drop(agent);
    assert_eq!(harness.get("/").await.body(), "job 1");

    // The next agent hears what is in flight as the first one would have.
    let mut agent = harness.agent().await;
    assert_eq!(agent.switch(&table(2, &[&new])).await.leaving, [(old.id, 1)]);
    drop(stream);
    agent.until_leaving(0).await;
}

#[tokio::test]
async fn a_table_that_arrives_in_pieces_between_changes_is_read_whole() {
    let (old, new) = (Job::start(1).await, Job::start(2).await);
    let harness = Harness::start().await;
    let mut agent = harness.agent().await;
    agent.switch(&table(1, &[&old])).await;
    let streams = [socket(harness.address()).await, socket(harness.address()).await, socket(harness.address()).await];
    agent.switch(&table(2, &[&new])).await;
    let mut line = serde_json::to_vec(&table(3, &[&new])).unwrap();
    line.push(b'\n');
    // The last piece comes after the three, whatever the length of a table is.
    let pieces: Vec<&[u8]> = line.chunks(line.len() / 4).collect();
    for (left, (piece, stream)) in (0..3).rev().zip(pieces.iter().zip(streams)) {
        agent.stream.write_all(piece).await.unwrap();
        drop(stream);
        let expected = if left == 0 { vec![] } else { vec![(old.id, left)] };
        while agent.report().await.leaving != expected {}
    }
    for piece in &pieces[3..] {
        agent.stream.write_all(piece).await.unwrap();
    }
    while agent.report().await.generation != 3 {}
}

#[tokio::test]
async fn a_stopping_proxy_finishes_what_is_in_flight_and_removes_its_socket() {
    let job = Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&table(1, &[&job])).await;
    let (address, control) = (harness.address(), harness.proxy.control_path().to_owned());
    let asked = tokio::spawn(async move {
        let mut client = support::Client::connect(address).await;
        client.get("/held").await
    });
    job.until_requests(1).await;
    let stopped = tokio::spawn(harness.proxy.stop());
    soon("the end of listening", async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut agent = Agent::dial(&control).await;
    assert_eq!(agent.switch(&table(2, &[])).await.leaving, [(job.id, 1)], "the agent is heard until the end");
    job.release.add_permits(1);
    assert_eq!(asked.await.unwrap(), (200, "job 1".to_owned()));
    soon("the end", stopped).await.unwrap();
    assert!(!control.exists());
}
