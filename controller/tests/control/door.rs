//! The door: peers that hold places without using them are cut, and an honest one gets in meanwhile.

use crate::engine::{Cluster, DAY, PATIENCE};
use crate::machine::{Agent, join_as};
use crate::stranger::{channel, shake_hands, without_certificate};
use lapstrake::v1;
use lapstrake::v1::enrolment_service_client::EnrolmentServiceClient;
use lapstrake_controller::control::Limits;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

fn tight() -> Limits {
    Limits {
        handshakes: 8,
        handshake_time: Duration::from_millis(500),
        strangers: 8,
        stranger_time: Duration::from_millis(800),
        ..Limits::default()
    }
}

async fn is_cut(mut socket: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    // A cut is an end or a reset; both are fine, silence is not.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("the controller cuts it");
}

#[tokio::test]
async fn silent_sockets_and_half_handshakes_are_cut_and_an_honest_machine_joins_meanwhile() {
    let cluster = Cluster::start_with(tight(), DAY).await;
    let mut held = Vec::new();
    for number in 0..60 {
        let mut socket = TcpStream::connect(&cluster.address).await.expect("accepted");
        if number % 2 == 0 {
            // The beginning of a ClientHello record, and then nothing.
            socket.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.expect("sent");
        }
        held.push(socket);
    }
    let folder = tempfile::tempdir().expect("a folder");
    join_as("n1", &cluster, &cluster.token().text(), folder.path()).await.expect("joined in spite of them");
    for socket in held {
        is_cut(socket).await;
    }
}

#[tokio::test]
async fn strangers_who_only_hold_a_connection_are_cut_and_an_honest_machine_joins_meanwhile() {
    let cluster = Cluster::start_with(tight(), DAY).await;
    let mut held = Vec::new();
    for _ in 0..30 {
        held.push(shake_hands(&cluster, without_certificate(&cluster)).await.expect("a handshake"));
    }
    let agent = Agent::start("n1", &cluster).await;
    cluster.until("a session", |book| book.sessions.get(&agent.identity.node).map(|_| ())).await;
    for tls in held {
        is_cut(tls).await;
    }
}

#[tokio::test]
async fn an_older_tls_is_refused() {
    let cluster = Cluster::start().await;
    let config = rustls::ClientConfig::builder_with_provider(lapstrake_pki::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .dangerous()
        .with_custom_certificate_verifier(lapstrake_pki::pinned::PinnedVerifier::new(cluster.ca.fingerprint()))
        .with_no_client_auth();
    shake_hands(&cluster, config).await.expect_err("TLS 1.2");
}

#[tokio::test]
async fn a_machine_whose_request_makes_no_sense_is_told_so_and_recorded_with_its_address() {
    let cluster = Cluster::start_with(Limits::default(), DAY).await;
    let token = cluster.token();
    let sensible = v1::EnrolRequest {
        token_id: vec![0; 16],
        secret: token.secret.bytes().to_vec(),
        certificate_request_pem: "no request".into(),
        node_name: Some("n1".into()),
        hostname: "host".into(),
        agent_version: "0.1.0".into(),
        architecture: "amd64".into(),
    };
    let short = v1::EnrolRequest { secret: vec![1, 2, 3], ..sensible.clone() };
    for senseless in [sensible, short] {
        let channel = channel(&cluster, without_certificate(&cluster)).await.expect("a connection");
        let answer = EnrolmentServiceClient::new(channel).enrol(senseless).await.expect_err("refused");
        assert_eq!(answer.code(), tonic::Code::InvalidArgument, "{answer:?}");
        let (address, said) = cluster.read(|book| book.turned_away.last().cloned()).expect("recorded");
        assert_eq!((address.to_string().as_str(), said.as_str()), ("127.0.0.1", answer.message()));
    }
    assert_eq!(cluster.read(|book| book.turned_away.len()), 2);
}
