//! Sessions: who gets one, what goes through it, and how it ends.

use crate::engine::{Cluster, PATIENCE};
use crate::machine::{Agent, join_as, report};
use crate::stranger::{agent_client, hello, with_certificate_of, with_foreign_certificate, without_certificate};
use lapstrake::convert::{LogsEndReason, LogsWord};
use lapstrake::v1;
use lapstrake_controller::control::{Limits, NoLogs, SessionOver};
use lapstrake_core::assignment::{AssignmentSet, Generation};
use lapstrake_core::cluster::standing::HelloRefused;
use lapstrake_core::cluster::state::Standing;
use lapstrake_core::ids::{EpochId, JobId, NodeId, RequestId};
use lapstrake_core::message::{ControllerWord, Elsewhere, LogRange, ResolvedImage};
use lapstrake_core::spec::{ImageSource, Pull};
use lapstrake_core::time::Millis;
use lapstrake_pki::authority::Life;
use lapstrake_pki::mint;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

fn set(number: u64) -> AssignmentSet {
    AssignmentSet {
        generation: Generation { epoch: EpochId(1), number },
        stop_absent: true,
        assignments: Vec::new(),
        values: Default::default(),
        kept_images: None,
    }
}

const ALL: LogRange = LogRange { tail: None, since: None, follow: false };

/// Something of about 1 MiB to say.
fn much(number: usize) -> Vec<Elsewhere> {
    let path = lapstrake_core::assignment::ServicePath {
        application: "shop".into(),
        environment: "production".into(),
        service: "web".into(),
    };
    let nodes = (0..5_000).map(|node| format!("{}-{number}-{node:05}", "n".repeat(180))).collect();
    let service = lapstrake_core::ids::ServiceId(number as u128);
    vec![Elsewhere { service, path, routes: Vec::new(), nodes, paused: false }]
}

#[tokio::test]
async fn a_node_is_told_what_to_run_and_says_how_it_is() {
    let cluster = Cluster::start().await;
    let agent = Agent::start("n1", &cluster).await;
    let node = agent.identity.node;
    let (_, outbox) = cluster.until("a session", |book| book.sessions.get(&node).cloned()).await;
    outbox.assign(set(7));
    outbox.elsewhere(much(1));
    agent.until("the set", |told| told.set.clone().filter(|told| *told == set(7))).await;
    agent.until("what runs elsewhere", |told| told.elsewhere.clone().filter(|told| *told == much(1))).await;
    agent.machine.report.send_replace(report("on fire"));
    cluster
        .until("the report", |book| book.reports.get(&node).filter(|told| **told == report("on fire")).map(|_| ()))
        .await;
    let first = agent.until("a lease", |told| told.lease).await;
    agent.until("a longer lease", |told| told.lease.filter(|lease| *lease > first)).await;
    let ask = |reference: &str| {
        let request = RequestId(mint::id());
        let image = ImageSource { reference: reference.into(), pull: Pull::Registry };
        outbox.resolve_image(request, image, None).expect("asked");
        request
    };
    let (known, absent) = (ask("shop/web:1"), ask("absent"));
    let answer = cluster.until("an answer", |book| book.resolved.get(&known).cloned()).await;
    assert_eq!(answer, Ok(ResolvedImage { pinned: "shop/web:1@sha256:1".into() }));
    let answer = cluster.until("an answer", |book| book.resolved.get(&absent).cloned()).await;
    assert_eq!(answer, Err("no such image".into()));
}

#[tokio::test]
async fn the_output_of_a_job_comes_to_its_reader_and_ends_with_a_reason() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.sessions.logs(NodeId(1), JobId(1), ALL, None).err(), Some(NoLogs::NoSession));
    let agent = Agent::start("n1", &cluster).await;
    let node = agent.identity.node;
    cluster.until("a heartbeat", |book| book.heartbeats.values().next().copied()).await;
    let mut logs = cluster.sessions.logs(node, JobId(1), ALL, None).expect("asked");
    let mut lines = 0;
    let end = loop {
        match timeout(PATIENCE, logs.next()).await.expect("in time").expect("an end comes first") {
            LogsWord::Lines(some) => lines += some.len(),
            LogsWord::End(end) => break end,
            LogsWord::Opening { .. } => panic!("the opening is not the reader's"),
        }
    };
    assert_eq!((lines, end.reason), (48, LogsEndReason::Complete));
    assert!(logs.next().await.is_none());
}

#[tokio::test]
async fn readers_who_do_not_read_hold_up_neither_heartbeats_nor_memory() {
    let cluster = Cluster::start().await;
    let agent = Agent::start("n1", &cluster).await;
    let node = agent.identity.node;
    let session = cluster.until("a session", |book| book.sessions.get(&node).map(|(session, _)| *session)).await;
    cluster.until("a heartbeat", |book| book.heartbeats.get(&session).copied()).await;
    let mut stuck: Vec<_> = (0..30)
        .map(|_| cluster.sessions.logs(node, JobId(1), LogRange { follow: true, ..ALL }, None).expect("asked"))
        .collect();
    for logs in &mut stuck {
        let word = timeout(PATIENCE, logs.next()).await.expect("the output begins");
        assert!(matches!(word, Some(LogsWord::Lines(_))), "{word:?}");
    }
    let before = cluster.read(|book| book.heartbeats[&session]);
    cluster
        .until("ten more heartbeats", |book| book.heartbeats.get(&session).filter(|now| **now > before + 10).copied())
        .await;
    let batches = *agent.machine.batches.borrow();
    assert!(batches < 30 * 16, "{batches} batches of 256 KiB were read for nobody");
    drop(stuck);
    cluster.until("ten more", |book| book.heartbeats.get(&session).filter(|now| **now > before + 20).copied()).await;
}

#[tokio::test]
async fn a_certificate_is_renewed_while_the_session_goes_on() {
    let life = Life { back: Millis(0), ahead: Millis::secs(6) };
    let cluster = Cluster::start_with(Limits::default(), life).await;
    let agent = Agent::start("n1", &cluster).await;
    let node = agent.identity.node;
    let session = cluster.until("a session", |book| book.sessions.get(&node).map(|(session, _)| *session)).await;
    let first = agent.credentials.validity();
    let renewed = |_: &_| (agent.credentials.validity().not_after > first.not_after).then_some(());
    cluster.until("another certificate", renewed).await;
    let before = cluster.read(|book| book.heartbeats[&session]);
    cluster
        .until("more heartbeats", |book| book.heartbeats.get(&session).filter(|now| **now > before + 5).copied())
        .await;
    // The session outlives the certificate that it began with, and so do the calls beside it on the same connection.
    cluster.until("the first certificate's end", |_| (mint::wall() > first.not_after).then_some(())).await;
    let mut logs = cluster.sessions.logs(node, JobId(1), ALL, None).expect("asked");
    let end = loop {
        match timeout(PATIENCE, logs.next()).await.expect("in time").expect("an end comes first") {
            LogsWord::End(end) => break end,
            LogsWord::Lines(_) | LogsWord::Opening { .. } => {}
        }
    };
    assert_eq!(end.reason, LogsEndReason::Complete, "{}", end.said);
    assert!(cluster.read(|book| book.ended.is_empty()), "the session ended");
}

#[tokio::test]
async fn a_removed_node_is_cut_off_and_does_not_come_back() {
    let cluster = Cluster::start().await;
    let agent = Agent::start("n1", &cluster).await;
    let node = agent.identity.node;
    let session = cluster.until("a session", |book| book.sessions.get(&node).map(|(session, _)| *session)).await;
    cluster.until("a heartbeat", |book| book.heartbeats.get(&session).copied()).await;
    cluster.change(|book| book.nodes.remove(&node));
    let why = SessionOver::NotAdmitted(HelloRefused::UnknownNode);
    cluster.read(|book| book.sessions[&node].1.clone()).end(why);
    cluster.until("the end", |book| book.ended.contains(&session).then_some(())).await;
    let trouble =
        agent.until("the reason", |told| told.trouble.clone().filter(|said| said.contains("does not know"))).await;
    assert!(trouble.contains("refused this node's certificate"), "{trouble}");
    assert!(cluster.read(|book| book.sessions[&node].0 == session), "another session was opened");
}

/// A joined node whose words the test chooses.
struct Raw {
    words: mpsc::Sender<v1::OpenSessionRequest>,
    opened: Result<Streaming<v1::OpenSessionResponse>, tonic::Status>,
}

async fn open(cluster: &Cluster, config: rustls::ClientConfig, claimed: NodeId) -> Raw {
    let (words, outgoing) = mpsc::channel(4);
    words.send(hello(cluster.ca.cluster(), claimed).into()).await.expect("room");
    let mut client = agent_client(cluster, config).await;
    let opened = timeout(PATIENCE, client.open_session(ReceiverStream::new(outgoing))).await.expect("an answer");
    Raw { words, opened: opened.map(tonic::Response::into_inner) }
}

#[tokio::test]
async fn nobody_gets_a_session_without_a_certificate_or_with_another_clusters() {
    let cluster = Cluster::start().await;
    let stranger = open(&cluster, without_certificate(&cluster), NodeId(1)).await;
    assert_eq!(stranger.opened.err().map(|status| status.code()), Some(Code::Unimplemented));
    let foreign = with_foreign_certificate(&cluster, NodeId(1));
    let refused = crate::stranger::channel(&cluster, foreign).await;
    let error = match refused {
        Err(error) => Some(error.to_string()),
        Ok(channel) => {
            let (words, outgoing) = mpsc::channel(4);
            words.send(hello(cluster.ca.cluster(), NodeId(1)).into()).await.expect("room");
            let mut client = v1::agent_service_client::AgentServiceClient::new(channel);
            client.open_session(ReceiverStream::new(outgoing)).await.err().map(|status| status.to_string())
        }
    };
    assert!(error.is_some(), "a certificate of another authority opened a session");
    assert!(cluster.read(|book| book.sessions.is_empty()));
}

#[tokio::test]
async fn a_node_that_claims_to_be_another_one_is_refused() {
    let (cluster, folder) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let a = join_as("a", &cluster, &cluster.token().text(), folder.path()).await.expect("joined");
    let other = tempfile::tempdir().expect("a folder");
    let b = join_as("b", &cluster, &cluster.token().text(), other.path()).await.expect("joined");
    let raw = open(&cluster, with_certificate_of(&a, folder.path()), b.node).await;
    let status = raw.opened.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(cluster.read(|book| book.sessions.is_empty()));
}

#[tokio::test]
async fn a_second_session_of_a_node_ends_the_first() {
    let (cluster, folder) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let a = join_as("a", &cluster, &cluster.token().text(), folder.path()).await.expect("joined");
    let config = with_certificate_of(&a, folder.path());
    let first = open(&cluster, config.clone(), a.node).await;
    let mut heard = first.opened.expect("a session");
    let session = cluster.read(|book| book.sessions[&a.node].0);
    let second = open(&cluster, config, a.node).await;
    let status = loop {
        match timeout(PATIENCE, heard.message()).await.expect("the first one ends") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Aborted, "{status}");
    cluster.until("the end", |book| book.ended.contains(&session).then_some(())).await;
    assert!(cluster.read(|book| !book.ended.contains(&book.sessions[&a.node].0)));
    second.opened.expect("the second one stays");
    drop((first.words, second.words));
}

#[tokio::test]
async fn an_agent_that_does_not_read_gets_the_newest_in_the_end_and_not_the_backlog() {
    const WORDS: usize = 200;
    let (cluster, folder) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let a = join_as("a", &cluster, &cluster.token().text(), folder.path()).await.expect("joined");
    let raw = open(&cluster, with_certificate_of(&a, folder.path()), a.node).await;
    let mut heard = raw.opened.expect("a session");
    let outbox = cluster.read(|book| book.sessions[&a.node].1.clone());
    for number in 0..WORDS {
        outbox.elsewhere(much(number));
        // Lets the connection take what it takes.
        tokio::task::yield_now().await;
    }
    let mut came = 0;
    loop {
        let word = timeout(PATIENCE, heard.message()).await.expect("in time").expect("open").expect("a word");
        if let ControllerWord::Elsewhere(services) = ControllerWord::try_from(word).expect("well formed") {
            came += 1;
            if services[0].service.0 == WORDS as u128 - 1 {
                break;
            }
        }
    }
    assert!(came < WORDS / 4, "{came} of {WORDS} words of 1 MiB had been kept");
}

#[tokio::test]
async fn an_agent_that_falls_silent_loses_its_session() {
    let (cluster, folder) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let a = join_as("a", &cluster, &cluster.token().text(), folder.path()).await.expect("joined");
    let raw = open(&cluster, with_certificate_of(&a, folder.path()), a.node).await;
    raw.opened.as_ref().expect("a session");
    let session = cluster.read(|book| book.sessions[&a.node].0);
    cluster.until("the end", |book| book.ended.contains(&session).then_some(())).await;
    assert_eq!(cluster.read(|book| book.sessions[&a.node].1.over()), Some(SessionOver::Silent));
}

#[tokio::test]
async fn a_session_whose_node_does_not_renew_ends_with_its_certificate() {
    // Shorter than the silence that ends a session: what ends it is the certificate.
    let life = Life { back: Millis(0), ahead: Millis::secs(2) };
    let (cluster, folder) =
        (Cluster::start_with(Limits::default(), life).await, tempfile::tempdir().expect("a folder"));
    let a = join_as("a", &cluster, &cluster.token().text(), folder.path()).await.expect("joined");
    let raw = open(&cluster, with_certificate_of(&a, folder.path()), a.node).await;
    raw.opened.as_ref().expect("a session");
    let session = cluster.read(|book| book.sessions[&a.node].0);
    cluster.until("the end", |book| book.ended.contains(&session).then_some(())).await;
    assert_eq!(cluster.read(|book| book.sessions[&a.node].1.over()), Some(SessionOver::Expired));
}

#[tokio::test]
async fn a_quarantined_node_is_told_why_and_asks_less_often() {
    let (cluster, folder) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let a = join_as("a", &cluster, &cluster.token().text(), folder.path()).await.expect("joined");
    cluster.change(|book| book.standings.insert(a.node, Standing::Quarantined));
    let raw = open(&cluster, with_certificate_of(&a, folder.path()), a.node).await;
    let status = raw.opened.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("lap node unquarantine"), "{status}");
    cluster.change(|book| book.standings.insert(a.node, Standing::Revoked));
    let raw = open(&cluster, with_certificate_of(&a, folder.path()), a.node).await;
    assert_eq!(raw.opened.expect_err("refused").code(), Code::Unauthenticated);
    assert!(cluster.read(|book| book.sessions.is_empty()));
}
