//! Peers that are no agent of ours: raw gRPC over a TLS configuration of the test's choice.

use crate::engine::Cluster;
use lapstrake::v1::agent_service_client::AgentServiceClient;
use lapstrake_agent::clock::Clock;
use lapstrake_agent::identity::Identity;
use lapstrake_core::ids::{ClusterId, NodeId};
use lapstrake_core::message::{AgentWord, Hello};
use lapstrake_core::time::Wall;
use lapstrake_pki::authority::Authority;
use lapstrake_pki::names::server_name;
use lapstrake_pki::pinned::PinnedVerifier;
use lapstrake_pki::request::{NewKey, VerifiedRequest};
use lapstrake_pki::{mint, provider};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

pub async fn shake_hands(cluster: &Cluster, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(&cluster.address).await?;
    TlsConnector::from(Arc::new(config)).connect(server_name(cluster.ca.cluster()), tcp).await
}

pub fn without_certificate(cluster: &Cluster) -> ClientConfig {
    let mut config = PinnedVerifier::new(cluster.ca.fingerprint()).client_config().expect("TLS");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// With a certificate that another authority made for this node of this cluster.
pub fn with_foreign_certificate(cluster: &Cluster, node: NodeId) -> ClientConfig {
    let foreign = Authority::create(cluster.ca.cluster(), mint::wall()).expect("an authority");
    let key = NewKey::make().expect("a key");
    let request = VerifiedRequest::read(&key.request_pem).expect("a request");
    let pem = foreign.certify_node(node, &request, mint::wall(), crate::engine::DAY).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(PinnedVerifier::new(cluster.ca.fingerprint()))
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")],
            PrivateKeyDer::from_pem_slice(key.key_pem.as_bytes()).expect("a key"),
        )
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub async fn channel(cluster: &Cluster, config: ClientConfig) -> Result<Channel, tonic::transport::Error> {
    let tls = shake_hands(cluster, config).await.expect("the client's half of the handshake succeeds in TLS 1.3");
    let once = Arc::new(Mutex::new(Some(hyper_util::rt::TokioIo::new(tls))));
    let connector = tower::service_fn(move |_: http::Uri| {
        let tls = once.lock().expect("not poisoned").take();
        async move { tls.ok_or_else(|| std::io::Error::other("only once")) }
    });
    Endpoint::from_static("http://controller").connect_with_connector(connector).await
}

pub async fn agent_client(cluster: &Cluster, config: ClientConfig) -> AgentServiceClient<Channel> {
    AgentServiceClient::new(channel(cluster, config).await.expect("HTTP/2")).max_decoding_message_size(16 << 20)
}

pub fn hello(cluster: ClusterId, node: NodeId) -> AgentWord {
    AgentWord::Hello(Hello {
        cluster,
        node,
        boot: Clock::of_this_boot().expect("a clock").boot(),
        version: "0".into(),
        architecture: "amd64".into(),
        wall: Wall(0),
        report: crate::machine::report("stranger"),
    })
}

/// What an agent's own configuration is.
pub fn with_certificate_of(identity: &Identity, folder: &std::path::Path) -> ClientConfig {
    (*crate::machine::credentials(identity, folder).client_config()).clone()
}
