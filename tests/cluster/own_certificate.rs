//! The operators' port with a certificate of the operators' own, replaced while the controller's real binary runs.

use crate::bench::{Controller, PATIENCE, until};
use crate::confined::Confined;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use lapstrake_controller::RunError;
use lapstrake_pki::names::server_name;
use lapstrake_pki::pinned::PinnedVerifier;
use lapstrake_pki::token::Token;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What the certificates are for; no DNS knows it.
const NAME: &str = "controller.shop.test";

/// Somebody else's authority: a root, and an intermediate that signs, as public ones have it.
struct TestCa {
    root: CertificateDer<'static>,
    middle: Issuer<'static, KeyPair>,
    middle_pem: String,
}

/// A certificate with its chain, and its key, PEM.
struct Pair {
    leaf: CertificateDer<'static>,
    chain_pem: String,
    key_pem: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl TestCa {
    fn create() -> TestCa {
        let (root_key, middle_key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let root_params = authority("a root of the test");
        let root = root_params.self_signed(&root_key).expect("a root").der().clone();
        let root = (root, Issuer::new(root_params, root_key));
        let middle_params = authority("an intermediate of the test");
        let middle = middle_params.signed_by(&middle_key, &root.1).expect("signed");
        TestCa { root: root.0, middle_pem: middle.pem(), middle: Issuer::new(middle_params, middle_key) }
    }

    fn certify(&self, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.middle).expect("signed");
        let chain_pem = leaf.pem() + &self.middle_pem;
        Pair { leaf: leaf.der().clone(), chain_pem, key_pem: key.serialize_pem() }
    }
}

/// Where the pair lies.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn in_folder(folder: &Path) -> Files {
        Files { certificate: folder.join("own.pem"), key: folder.join("own.key") }
    }

    fn put(&self, certificate: &str, key: &str) {
        std::fs::write(&self.certificate, certificate).expect("written");
        std::fs::write(&self.key, key).expect("written");
    }
}

/// An open connection of a program that trusts the test's root, and the certificate that it was shown.
struct Connection {
    shown: CertificateDer<'static>,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    async fn open(address: SocketAddr, ca: &TestCa) -> Connection {
        let mut roots = RootCertStore::empty();
        roots.add(ca.root.clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(lapstrake_pki::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(address).await.expect("the operators' port takes connections");
        let name = ServerName::try_from(NAME).expect("a name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let tls = timeout(PATIENCE, connecting).await.expect("in time").expect("trusted under its name");
        let shown = tls.get_ref().1.peer_certificates().expect("a certificate")[0].clone().into_owned();
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.expect("HTTP");
        tokio::spawn(connection);
        Connection { shown, sender }
    }

    /// Asks over this connection and no other.
    async fn asks(&mut self, token: &str) -> u16 {
        let request = Request::builder()
            .uri("/v1/apps")
            .header(header::HOST, NAME)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::default())
            .expect("a request");
        let answer = timeout(PATIENCE, async {
            self.sender.ready().await.expect("the connection is open");
            self.sender.send_request(request).await
        });
        let answer = answer.await.expect("in time").expect("an answer");
        let status = answer.status().as_u16();
        http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body");
        status
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_certificate_is_replaced_on_sighup_while_open_connections_go_on_and_a_bad_one_changes_nothing() {
    let folder = tempfile::Builder::new().prefix("lapt-").tempdir().expect("a folder");
    let (files, ca) = (Files::in_folder(folder.path()), TestCa::create());
    let (first, second, third) = (ca.certify(1, |_| ()), ca.certify(2, |_| ()), ca.certify(3, |_| ()));
    files.put(&first.chain_pem, &first.key_pem);
    let log = folder.path().join("log");
    let more = format!("api_certificate = {:?}\napi_key = {:?}\n", files.certificate, files.key);
    let written = Stdio::from(std::fs::File::create(&log).expect("a file"));
    let confined = Confined::start_with(512, &more, written).await;
    let client = &confined.controller.client;
    let (address, token) = (client.address, &client.token);
    let lines = |part: &str| {
        let text = std::fs::read_to_string(&log).expect("the log");
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect::<Vec<_>>()
    };
    let replaced = async |pair: &Pair| {
        files.put(&pair.chain_pem, &pair.key_pem);
        let before = lines("was read again").len();
        confined.hang_up();
        until("the log says that it was read", || async { (lines("was read again").len() > before).then_some(()) })
            .await;
    };

    let mut from_first = Connection::open(address, &ca).await;
    assert_eq!(from_first.shown, first.leaf);
    assert_eq!(from_first.asks(token).await, 200);

    replaced(&second).await;
    let mut from_second = Connection::open(address, &ca).await;
    assert_eq!(from_second.shown, second.leaf, "a new connection is shown the new one");
    assert_eq!(from_second.asks(token).await, 200);
    assert_eq!(from_first.asks(token).await, 200, "and the old connection goes on");

    let ended = ca.certify(4, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    let half = &third.chain_pem[..third.chain_pem.len() / 3];
    let bad: [(&str, &str, &str); 6] = [
        ("the key of another certificate", &third.chain_pem, &second.key_pem),
        ("half of a file", half, &third.key_pem),
        ("an empty file", "", &third.key_pem),
        ("a certificate in place of the key", &third.chain_pem, &third.chain_pem),
        ("a certificate that has ended", &ended.chain_pem, &ended.key_pem),
        ("no PEM at all", "\0\u{1b}[2J not a certificate", "nor a key"),
    ];
    for (number, (what, certificate, key)) in bad.into_iter().enumerate() {
        files.put(certificate, key);
        confined.hang_up();
        let said = until(&format!("the log says so: {what}"), || async {
            let said = lines("nothing was changed");
            (said.len() > number).then_some(said)
        })
        .await;
        let last = &said[number];
        let names_a_file =
            [&files.certificate, &files.key].iter().any(|file| last.contains(file.to_str().expect("UTF-8")));
        assert!(names_a_file && last.contains("the certificate from before serves on"), "{what}: {last}");
        assert!(!last.contains("PRIVATE") && !last.contains('\u{1b}'), "{what}: {last}");
        let mut after = Connection::open(address, &ca).await;
        assert_eq!(after.shown, second.leaf, "{what}");
        assert_eq!(after.asks(token).await, 200, "{what}");
    }
    std::fs::remove_file(&files.key).expect("removed");
    confined.hang_up();
    until("the log says so: no key", || async { (lines("nothing was changed").len() > bad.len()).then_some(()) }).await;
    assert_eq!(Connection::open(address, &ca).await.shown, second.leaf);

    replaced(&third).await;
    assert_eq!(Connection::open(address, &ca).await.shown, third.leaf, "once it is mended it is taken");
    assert_eq!((from_first.asks(token).await, from_second.asks(token).await), (200, 200));
    // Whoever pins the authority and asks for the cluster's name, as `lap` does, is shown the authority's through all of it.
    let named = Token::operator(token).expect("an operator's token");
    let config = PinnedVerifier::new(named.authority).client_config().expect("TLS");
    let tcp = TcpStream::connect(address).await.expect("the operators' port takes connections");
    let connecting = TlsConnector::from(Arc::new(config)).connect(server_name(named.cluster), tcp);
    timeout(PATIENCE, connecting).await.expect("in time").expect("the authority that the token names");
}

#[tokio::test]
async fn a_controller_whose_own_certificate_is_bad_does_not_start_and_names_the_file() {
    let folder = tempfile::Builder::new().prefix("lapt-").tempdir().expect("a folder");
    let (files, ca) = (Files::in_folder(folder.path()), TestCa::create());
    files.put(&ca.certify(1, |_| ()).chain_pem, &ca.certify(2, |_| ()).key_pem);
    let error = Controller::refused(|config| {
        (config.api_certificate, config.api_key) = (Some(files.certificate.clone()), Some(files.key.clone()));
    });
    assert!(matches!(error, RunError::Authority(_)), "{error:?}");
    let said = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let said = said.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(said.contains("own.key") && said.contains("operators' port"), "{said}");
}
