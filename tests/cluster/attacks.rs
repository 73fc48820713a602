//! The agents' port under attack, against the controller's real binary with 512 file descriptors.
//!
//! After each attack: nothing in the store has changed, no event was written, the enrolled agent was never thought silent, the
//! controller answers and lets a machine join within five seconds, and its memory has not grown beyond bounds.

use crate::bench::{Controller, Node, join_with, until};
use crate::confined::Confined;
use lapstrake::v1;
use lapstrake::v1::agent_service_client::AgentServiceClient;
use lapstrake::v1::enrolment_service_client::EnrolmentServiceClient;
use lapstrake_core::ids::{BootId, NodeId};
use lapstrake_core::message::{AgentWord, Hello};
use lapstrake_core::report::NodeReport;
use lapstrake_core::time::{Millis, Wall};
use lapstrake_pki::authority::{Authority, Life};
use lapstrake_pki::mint;
use lapstrake_pki::names::server_name;
use lapstrake_pki::pinned::PinnedVerifier;
use lapstrake_pki::request::{NewKey, VerifiedRequest};
use lapstrake_pki::token::{Kind, Token};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Of the 64 MiB that a controller may grow by.
const MOST_GROWTH_KIB: u64 = 64 << 10;
/// Two heartbeats in a row are missing.
const SUSPECT_MS: u64 = 4_000;
/// How long a node may be kept waiting after an attack.
const RECOVERY: Duration = Duration::from_secs(5);
/// A word to the kernel that it may take long.
const STEP: Duration = Duration::from_secs(20);

/// A controller with one enrolled node, and what is true before an attack.
struct Scene {
    confined: Confined,
    node: Node,
}

/// What came of an attack.
#[derive(Debug)]
struct Measured {
    /// The longest that the enrolled agent was silent, as operators saw it.
    longest_silence_ms: u64,
    /// How much more memory it had, at most.
    growth_kib: u64,
    /// From the attack's end until a new machine was a node.
    joined_after: Duration,
}

impl Scene {
    async fn set() -> Scene {
        let confined = Confined::start(512).await;
        let [node] = confined.controller.nodes(["n1"]).await;
        Scene { confined, node }
    }

    fn controller(&self) -> &Controller {
        &self.confined.controller
    }

    /// Attacks, and judges what became of it.
    async fn survives<T>(&self, what: &str, attack: impl Future<Output = T>) -> T {
        let stored = self.controller().stored();
        let before = self.confined.memory_kib();
        let (silence, memory) = (AtomicU64::new(0), AtomicU64::new(before));
        let watching = async {
            loop {
                let seen = self.controller().client.node("n1").await;
                assert_eq!(seen.liveness, "ready", "{what}: {seen:?}");
                silence.fetch_max(seen.silent_ms, Ordering::Relaxed);
                memory.fetch_max(self.confined.memory_kib(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let outcome = tokio::select! {
            outcome = attack => outcome,
            () = watching => unreachable!("it watches for ever"),
        };
        let ended = Instant::now();
        assert_eq!(self.controller().stored(), stored, "{what}: the store has changed");
        let token = self.controller().join_token(json!({})).await;
        let folder = self.controller().folder().join(format!("after-{}", what.replace(' ', "-")));
        let name = format!("after-{}", what.len());
        join_with(&token.token, &token.address, &name, &folder).await.expect("a machine joins");
        let joined_after = ended.elapsed();
        assert_eq!(self.controller().client.delete(&format!("/v1/nodes/{name}")).await.status, 204);
        let measured = Measured {
            longest_silence_ms: silence.into_inner(),
            growth_kib: memory.into_inner() - before,
            joined_after,
        };
        eprintln!("{what}: {measured:?}, {} descriptors", self.confined.descriptors());
        assert!(measured.longest_silence_ms < SUSPECT_MS, "{what}: {measured:?}");
        assert!(measured.joined_after < RECOVERY, "{what}: {measured:?}");
        assert!(measured.growth_kib < MOST_GROWTH_KIB, "{what}: {measured:?}");
        outcome
    }

    /// The cluster's authority, as a thief of the controller's folder would have it.
    fn authority(&self) -> Authority {
        let read = |name: &str| std::fs::read_to_string(self.controller().state_dir().join(name)).expect("a file");
        Authority::load(self.node.identity.cluster, &read("ca.pem"), &read("ca.key")).expect("an authority")
    }

    async fn tcp(&self) -> TcpStream {
        let address = self.controller().control_address().parse().expect("an address");
        let connecting = TcpSocket::new_v4().expect("a socket").connect(address);
        timeout(STEP, connecting).await.expect("in time").expect("accepted")
    }

    async fn tls(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let connecting =
            TlsConnector::from(Arc::new(config)).connect(server_name(self.node.identity.cluster), self.tcp().await);
        timeout(STEP, connecting).await.map_err(std::io::Error::other)?
    }

    async fn channel(&self, config: ClientConfig) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
        let once = Arc::new(Mutex::new(Some(hyper_util::rt::TokioIo::new(self.tls(config).await?))));
        let connector = tower::service_fn(move |_: http::Uri| {
            let tls = once.lock().expect("not poisoned").take();
            async move { tls.ok_or_else(|| std::io::Error::other("only once")) }
        });
        Ok(Endpoint::from_static("http://controller").connect_with_connector(connector).await?)
    }

    fn stranger(&self) -> ClientConfig {
        let mut config = PinnedVerifier::new(self.authority().fingerprint()).client_config().expect("TLS");
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// A client with this certificate and key.
    fn with(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(lapstrake_pki::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(PinnedVerifier::new(self.authority().fingerprint()))
            .with_client_auth_cert(chain, key)
            .expect("a pair");
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// The enrolled node's own.
    fn own(&self) -> ClientConfig {
        let pem = std::fs::read(self.node.config.state_dir.join("node.pem")).expect("the pair");
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().expect("a certificate");
        self.with(chain, PrivateKeyDer::from_pem_slice(&pem).expect("a key"))
    }

    fn hello(&self, node: NodeId) -> v1::OpenSessionRequest {
        let report = NodeReport {
            generation: None,
            jobs: Vec::new(),
            replacements: Vec::new(),
            capacity: Default::default(),
            troubles: vec!["a forgery".into()],
            full_disk: None,
            strays: Vec::new(),
            strays_unclear: false,
        };
        let (cluster, boot) = (self.node.identity.cluster, BootId(mint::id()));
        AgentWord::Hello(Hello {
            cluster,
            node,
            boot,
            version: "0".into(),
            architecture: "amd64".into(),
            wall: Wall(0),
            report,
        })
        .into()
    }

    /// Tries to open a session as this node; it must not work.
    async fn is_kept_out(&self, what: &str, config: ClientConfig, node: NodeId) {
        let Ok(channel) = self.channel(config).await else { return };
        let (words, outgoing) = tokio::sync::mpsc::channel(1);
        let _ = words.send(self.hello(node)).await;
        let opened = timeout(STEP, AgentServiceClient::new(channel).open_session(ReceiverStream::new(outgoing))).await;
        let status = opened.expect("an answer").err().unwrap_or_else(|| panic!("{what}: a session was opened"));
        assert!(!status.message().is_empty() || status.code() != tonic::Code::Ok, "{what}: {status:?}");
    }
}

/// A certificate of this authority for a node, and its key.
fn certificate(
    authority: &Authority,
    node: NodeId,
    life: Life,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = NewKey::make().expect("a key");
    let request = VerifiedRequest::read(&key.request_pem).expect("verified");
    let pem = authority.certify_node(node, &request, mint::wall(), life).expect("signed");
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    (vec![leaf], PrivateKeyDer::from_pem_slice(key.key_pem.as_bytes()).expect("a key"))
}

const HOUR: Life = Life { back: Millis::secs(3600), ahead: Millis::secs(3600) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_certificate_but_a_nodes_own_opens_a_session_and_only_as_that_node() {
    let scene = Scene::set().await;
    let (own, ours) = (scene.node.identity.node, scene.authority());
    scene
        .survives("wrong certificates", async {
            let foreign = Authority::create(ours.cluster(), mint::wall()).expect("an authority");
            let (chain, key) = certificate(&foreign, own, HOUR);
            scene.is_kept_out("of another authority", scene.with(chain, key), own).await;

            let (chain, key) = certificate(&ours, own, Life { back: Millis::secs(3600), ahead: Millis(0) });
            // Its dates are whole seconds.
            let made = Instant::now();
            until("it has ended", || async { (made.elapsed() > Duration::from_millis(1_100)).then_some(()) }).await;
            scene.is_kept_out("ended", scene.with(chain, key), own).await;

            let stranger = NodeId(mint::id());
            let (chain, key) = certificate(&ours, stranger, HOUR);
            scene.is_kept_out("of a node that does not exist", scene.with(chain, key), stranger).await;

            // The root itself as a client certificate: it names no node.
            let key = PrivateKeyDer::from_pem_slice(ours.key_pem().as_bytes()).expect("a key");
            scene.is_kept_out("the root's own", scene.with(vec![ours.certificate().clone()], key), own).await;

            // Another root of the same name claims to be an authority, with ours beside it.
            let (mut chain, key) = certificate(&foreign, own, HOUR);
            chain.extend([foreign.certificate().clone(), ours.certificate().clone()]);
            scene.is_kept_out("with a borrowed root", scene.with(chain, key), own).await;
            let key = PrivateKeyDer::from_pem_slice(foreign.key_pem().as_bytes()).expect("a key");
            scene.is_kept_out("a root of our name", scene.with(vec![foreign.certificate().clone()], key), own).await;

            // The controller's certificate is no node's.
            let server = ours.certify_server(&[], mint::wall(), HOUR).expect("signed");
            scene.is_kept_out("of a server", scene.with(server.chain, server.key), own).await;

            // Node A reports for node B.
            scene.is_kept_out("of another node", scene.own(), stranger).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_silent_ones_and_slow_handshakes_keep_nobody_out() {
    let scene = Scene::set().await;
    scene
        .survives("2000 silent connections", async {
            let mut held = Vec::new();
            for _ in 0..2_000 {
                held.push(scene.tcp().await);
            }
            // They stay for longer than a handshake may last.
            tokio::time::sleep(Duration::from_secs(6)).await;
            drop(held);
        })
        .await;
    scene
        .survives("handshakes byte by byte", async {
            let slow = (0..200).map(|_| async {
                let mut tcp = scene.tcp().await;
                // A ClientHello record of 512 bytes, one byte at a time.
                let mut bytes = vec![22, 3, 1, 2, 0, 1, 0, 1, 252];
                bytes.resize(512, 7);
                for byte in bytes {
                    if tcp.write_all(&[byte]).await.is_err() {
                        return true;
                    }
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                false
            });
            let cut = futures_util::future::join_all(slow).await;
            assert!(cut.iter().all(|cut| *cut), "some handshake was let go on for 20 s");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_messages_endless_streams_and_rapid_resets_cost_the_controller_little() {
    let scene = Scene::set().await;
    scene
        .survives("oversize messages", async {
            for _ in 0..20 {
                let channel = scene.channel(scene.stranger()).await.expect("a stranger may connect");
                let request = v1::EnrolRequest { certificate_request_pem: "x".repeat(32 << 20), ..Default::default() };
                let mut client = EnrolmentServiceClient::new(channel).max_encoding_message_size(usize::MAX);
                timeout(STEP, client.enrol(request)).await.expect("an answer").expect_err("refused");
            }
            let mut hello = scene.hello(NodeId(1));
            if let Some(v1::open_session_request::Word::Hello(hello)) = &mut hello.word {
                hello.agent_version = "x".repeat(32 << 20);
            }
            // With another node's certificate, so that the enrolled one keeps its session.
            let (chain, key) = certificate(&scene.authority(), NodeId(mint::id()), HOUR);
            let channel = scene.channel(scene.with(chain, key)).await.expect("a certificate of the cluster connects");
            let (words, outgoing) = tokio::sync::mpsc::channel(1);
            words.send(hello).await.expect("room");
            let mut client = AgentServiceClient::new(channel).max_encoding_message_size(usize::MAX);
            let opened = timeout(STEP, client.open_session(ReceiverStream::new(outgoing))).await.expect("an answer");
            opened.expect_err("refused");
        })
        .await;
    scene
        .survives("endless streams", async {
            // With the enrolled node's own certificate: streams that are opened and then say nothing, and ones that never end.
            for _ in 0..8 {
                let Ok(channel) = scene.channel(scene.own()).await else { continue };
                let mut held = Vec::new();
                for number in 0..200 {
                    let (words, outgoing) = tokio::sync::mpsc::channel(8);
                    let mut client = AgentServiceClient::new(channel.clone());
                    let opening = v1::LogsOpening { request_id: vec![number; 16], job_id: vec![1; 16] };
                    let word = v1::stream_logs_request::Word::Opening(opening);
                    if number % 2 == 0 {
                        let _ = words.try_send(v1::StreamLogsRequest { word: Some(word) });
                    }
                    let call =
                        tokio::spawn(async move { client.stream_logs(ReceiverStream::new(outgoing)).await.is_err() });
                    held.push((words, call));
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                held.iter().for_each(|(_, call)| call.abort());
            }
        })
        .await;
    scene
        .survives("rapid resets", async {
            let attacks = (0..8).map(|_| async {
                let mut sent = 0u32;
                for _ in 0..4 {
                    let Ok(tls) = scene.tls(scene.stranger()).await else { continue };
                    sent += reset_rapidly(tls).await;
                }
                sent
            });
            let sent: u32 = futures_util::future::join_all(attacks).await.into_iter().sum();
            eprintln!("{sent} streams were opened and reset");
        })
        .await;
}

/// Opens streams and resets them at once, until the controller hangs up. How many.
async fn reset_rapidly(mut tls: TlsStream<TcpStream>) -> u32 {
    // `:method POST`, `:scheme http`, `:path /x`, `:authority c`, without indexing.
    let headers = [0x83, 0x86, 0x04, 0x02, b'/', b'x', 0x01, 0x01, b'c'];
    let mut hail = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hail.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    if tls.write_all(&hail).await.is_err() {
        return 0;
    }
    let mut sent = 0;
    for batch in 0..200u32 {
        let mut frames = Vec::new();
        for at in 0..50u32 {
            let stream = (2 * (batch * 50 + at) + 1).to_be_bytes();
            frames.extend([0, 0, headers.len() as u8, 1, 0x05]);
            frames.extend(stream);
            frames.extend(headers);
            frames.extend([0, 0, 4, 3, 0]);
            frames.extend(stream);
            frames.extend([0, 0, 0, 8]);
        }
        let mut answer = [0; 4096];
        let written = tokio::select! {
            written = tls.write_all(&frames) => written.is_ok(),
            () = tokio::time::sleep(STEP) => false,
        };
        if !written || matches!(timeout(Duration::from_millis(1), tls.read(&mut answer)).await, Ok(Ok(0) | Err(_))) {
            break;
        }
        sent += 50;
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_at_join_tokens_makes_no_node_and_does_not_hold_up_a_machine_that_joins() {
    let scene = Scene::set().await;
    let authority = scene.authority();
    let (guesses, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let legitimate = scene.controller().join_token(json!({})).await;
    let nodes = scene.controller().client.get("/v1/nodes").await.json::<Vec<lapstrake_api::view::Node>>().len();
    let guess = || async {
        loop {
            let Ok(channel) = scene.channel(scene.stranger()).await else { continue };
            let token = Token::mint(Kind::Join, authority.cluster(), authority.fingerprint());
            let request = v1::EnrolRequest {
                token_id: token.id.0.to_be_bytes().to_vec(),
                secret: token.secret.bytes().to_vec(),
                certificate_request_pem: NewKey::make().expect("a key").request_pem,
                node_name: None,
                hostname: "guess".into(),
                agent_version: "0".into(),
                architecture: "amd64".into(),
            };
            guesses.fetch_add(1, Ordering::Relaxed);
            match timeout(STEP, EnrolmentServiceClient::new(channel).enrol(request)).await {
                Ok(Err(status)) if status.code() == tonic::Code::Unauthenticated => {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Err(_)) | Err(_) => {}
                Ok(Ok(_)) => panic!("a guessed token made a node"),
            }
        }
    };
    let all = futures_util::future::join_all((0..32).map(|_| guess()));
    let joining = async {
        until("guessing is under way", || async { (refused.load(Ordering::Relaxed) > 20).then_some(()) }).await;
        let began = Instant::now();
        let folder = scene.controller().folder().join("legitimate");
        join_with(&legitimate.token, &legitimate.address, "honest", &folder).await.expect("it joins meanwhile");
        began.elapsed()
    };
    let took = tokio::select! {
        _ = all => unreachable!("they guess for ever"),
        took = joining => took,
    };
    let (guesses, refused) = (guesses.into_inner(), refused.into_inner());
    eprintln!("{guesses} guesses, {refused} answered, the honest machine joined in {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let now = scene.controller().client.get("/v1/nodes").await.json::<Vec<lapstrake_api::view::Node>>().len();
    assert_eq!(now, nodes + 1, "one node more, the honest one");
    // A guess that was on its way when the guessing ended may be a row, too.
    let rows = crate::audit::rows(&scene.controller().client).await;
    let of_a_guess = |row: &&lapstrake_api::view::AuditRow| row.subject == "node/guess";
    let (mut counted, mut seen) = (0, BTreeSet::new());
    for row in rows.iter().filter(of_a_guess) {
        counted += 1;
        assert_eq!((row.verb.as_str(), row.verdict.as_str()), ("enrol-node", "refused"), "{row:?}");
        assert!(row.address == "127.0.0.1" && !row.said.is_empty(), "{row:?}");
        assert!(seen.insert(row.number), "{row:?}");
    }
    eprintln!("{counted} rows in the audit");
    assert!(
        (refused..=guesses).contains(&counted),
        "{counted} rows in the audit for {refused} guesses that were answered"
    );
    let enrolled: Vec<&str> = rows
        .iter()
        .filter(|row| row.verb == "enrol-node" && row.verdict == "done")
        .map(|row| row.subject.as_str())
        .collect();
    assert_eq!(enrolled, ["node/n1", "node/honest"], "nobody else has an identity");
    crate::audit::verify(&scene.controller().client).await.expect("the chain is whole");
}
