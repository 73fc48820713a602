//! Joining: once, and clear words for everything else.

use crate::engine::{Cluster, PATIENCE};
use crate::machine::join_as;
use lapstrake_agent::identity::Identity;
use lapstrake_agent::join::{Join, JoinError, join};
use lapstrake_agent::session::DialError;
use lapstrake_pki::token::{Kind, Token, TokenError};
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn is_no_node(folder: &Path) -> bool {
    Identity::load(folder).is_err() && !folder.join("node.pem").exists()
}

#[tokio::test]
async fn a_machine_becomes_a_node_with_a_token() {
    let (cluster, folder) = (Cluster::start().await, folder());
    let identity = join_as("n1", &cluster, &cluster.token().text(), folder.path()).await.expect("joined");
    assert_eq!(identity.name, "n1");
    assert_eq!(Identity::load(folder.path()).expect("stored"), identity);
    assert!(cluster.read(|book| book.nodes.contains_key(&identity.node)));
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|file| file.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("joining")), "{left:?}");
}

#[tokio::test]
async fn a_token_works_once() {
    let (cluster, first, second) = (Cluster::start().await, folder(), folder());
    let token = cluster.token().text();
    join_as("n1", &cluster, &token, first.path()).await.expect("joined");
    let error = join_as("n2", &cluster, &token, second.path()).await.expect_err("used");
    assert!(error.to_string().contains("was used already"), "{error}");
    assert_eq!(error.exit_code(), 3);
    assert!(is_no_node(second.path()));
}

#[tokio::test]
async fn an_expired_or_unknown_token_is_refused_and_a_taken_name_too() {
    let (cluster, folder) = (Cluster::start().await, folder());
    let expired = join_as("n1", &cluster, &cluster.expired_token().text(), folder.path()).await.expect_err("expired");
    assert!(expired.to_string().contains("has expired"), "{expired}");
    let forged = Token::mint(Kind::Join, cluster.ca.cluster(), cluster.ca.fingerprint());
    let unknown = join_as("n1", &cluster, &forged.text(), folder.path()).await.expect_err("unknown");
    assert!(unknown.to_string().contains("is not known"), "{unknown}");
    cluster.change(|book| book.nodes.insert(lapstrake_core::ids::NodeId(1), "n1".into()));
    let taken = join_as("n1", &cluster, &cluster.token().text(), folder.path()).await.expect_err("taken");
    assert!(taken.to_string().contains("this name already"), "{taken}");
    assert_eq!([expired.exit_code(), unknown.exit_code(), taken.exit_code()], [3, 3, 3]);
    assert!(is_no_node(folder.path()));
}

#[tokio::test]
async fn a_token_with_one_changed_character_is_a_wrong_command_line() {
    let (cluster, folder) = (Cluster::start().await, folder());
    let text = cluster.token().text();
    let changed = format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' });
    let error = join_as("n1", &cluster, &changed, folder.path()).await.expect_err("altered");
    assert!(matches!(error, JoinError::Token(TokenError::Altered)), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[tokio::test]
async fn a_join_whose_answer_was_lost_is_repeated_with_the_same_token() {
    let (cluster, folder) = (Cluster::start().await, folder());
    let token = cluster.token().text();
    cluster.change(|book| book.loses_the_answer = true);
    let lost = join_as("n1", &cluster, &token, folder.path()).await.expect_err("lost");
    assert_eq!(lost.exit_code(), 1, "{lost}");
    let identity = join_as("n1", &cluster, &token, folder.path()).await.expect("joined");
    assert!(cluster.read(|book| book.nodes.len() == 1 && book.nodes.contains_key(&identity.node)));
}

#[tokio::test]
async fn a_node_becomes_another_one_only_when_it_is_told_to() {
    let (cluster, folder) = (Cluster::start().await, folder());
    let first = join_as("n1", &cluster, &cluster.token().text(), folder.path()).await.expect("joined");
    let token = cluster.token().text();
    let error = join_as("n2", &cluster, &token, folder.path()).await.expect_err("joined already");
    assert!(error.to_string().contains("already the node n1"), "{error}");
    assert_eq!(error.exit_code(), 3);
    let controller = cluster.address.as_str();
    let again =
        Join { token: &token, controller, name: Some("n2"), hostname: "host", state_dir: folder.path(), replace: true };
    let second = join(again).await.expect("replaced");
    assert_ne!(first.node, second.node);
    assert_eq!(Identity::load(folder.path()).expect("stored"), second);
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_named() {
    let (mut cluster, folder) = (Cluster::start().await, folder());
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    cluster.address = nobody.local_addr().expect("an address").to_string();
    drop(nobody);
    let error = join_as("n1", &cluster, &cluster.token().text(), folder.path()).await.expect_err("nobody");
    assert!(matches!(error, JoinError::Dial(DialError::Unreachable { .. })), "{error}");
    assert!(error.to_string().contains(&cluster.address), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn a_controller_with_another_authority_hears_nothing() {
    let (cluster, other, folder) = (Cluster::start().await, Cluster::start().await, folder());
    // The token of one cluster, the port of another one that has even the same name in its certificate.
    let authority = lapstrake_pki::authority::Authority::create(cluster.ca.cluster(), lapstrake_pki::mint::wall());
    let leaf = authority.expect("made").certify_server(&[], lapstrake_pki::mint::wall(), crate::engine::DAY);
    let leaf = leaf.expect("signed");
    let mut config = rustls::ServerConfig::builder_with_provider(lapstrake_pki::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(leaf.chain, leaf.key)
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let impostor = listener.local_addr().expect("an address").to_string();
    let heard = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let mut heard = Vec::new();
        if let Ok(mut tls) = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(tcp).await {
            let _ = tls.read_to_end(&mut heard).await;
        }
        heard
    });
    let token = cluster.token().text();
    for controller in [impostor.as_str(), other.address.as_str()] {
        let ask =
            Join { token: &token, controller, name: None, hostname: "host", state_dir: folder.path(), replace: false };
        let error = join(ask).await.expect_err("another authority");
        assert!(matches!(error, JoinError::Dial(DialError::OtherAuthority { .. })), "{error:?}");
        assert_eq!(error.exit_code(), 3);
    }
    let heard = timeout(PATIENCE, heard).await.expect("the impostor ends").expect("no panic");
    assert_eq!(heard, b"", "the impostor heard something");
    assert!(is_no_node(folder.path()));
    assert!(cluster.read(|book| book.nodes.is_empty()));
}
