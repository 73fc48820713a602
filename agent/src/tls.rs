//! The node's key, its certificate and whom it trusts: on the disk, and ready for the next dial.
//!
//! Key and certificate are one file, so that they change together. A change is written first and used afterwards; a
//! stream that is open keeps what it was opened with.

use crate::durable;
use lapstrake_core::ids::{ClusterId, NodeId};
use lapstrake_core::message::Credentials as Said;
use lapstrake_core::root::RootId;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::names::{NodeIdentity, Validity};
use lapstrake_pki::returning::{issuer, key_of};
use lapstrake_pki::{mint, provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The node's key and certificate, in this order. Nobody but the agent reads it.
const PAIR_FILE: &str = "node.pem";
/// The authorities that the controller's certificate may be from.
const TRUST_FILE: &str = "trust.pem";

/// Where the certificate begins in the pair's file.
const CERTIFICATE_BEGINS: &str = "-----BEGIN CERTIFICATE-----";

/// Why the node cannot prove who it is.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read or written.
    #[error("{path} cannot be used")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What should be PEM is not.
    #[error("the {what} cannot be read")]
    Malformed {
        /// Key, certificate or trust bundle.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Key and certificate do not fit together.
    #[error("the node's key and certificate cannot be used")]
    Mismatched(#[source] rustls::Error),
    /// The certificate names another node or none.
    #[error("the certificate is not that of the node {node} of the cluster {cluster}")]
    OtherNode {
        /// Who we are.
        node: NodeId,
        /// Of which cluster.
        cluster: ClusterId,
    },
    /// A trust bundle that shares nothing with ours, or is empty: who follows it, locks itself out.
    #[error("the new trust bundle has no certificate in common with the old one")]
    Disjoint,
}

/// A key and the certificate for it, with whom to trust.
pub(crate) struct Pair<'a> {
    /// PKCS #8 in PEM.
    pub key_pem: &'a str,
    /// The certificate and its chain in PEM.
    pub certificate_pem: &'a str,
    /// The authorities in PEM.
    pub trust_pem: &'a str,
}

/// What the next dial uses.
#[derive(Clone)]
struct Loaded {
    pair_pem: String,
    trust_pem: String,
    validity: Validity,
    /// The fingerprint of the certificate's key.
    key: Option<Fingerprint>,
    config: Arc<ClientConfig>,
    without_certificate: Arc<ClientConfig>,
    said: Said,
}

/// The node's credentials, shared by its sessions and its renewal.
pub struct Credentials {
    folder: PathBuf,
    identity: NodeIdentity,
    loaded: Mutex<Loaded>,
    said: watch::Sender<Said>,
    wanted: watch::Sender<Option<RootId>>,
}

impl Credentials {
    /// What joining or the last renewal wrote.
    pub fn load(folder: &Path, identity: NodeIdentity) -> Result<Credentials, CredentialsError> {
        let loaded = Loaded::from_pem(identity, read(folder, PAIR_FILE)?, read(folder, TRUST_FILE)?)?;
        let said = watch::Sender::new(loaded.said.clone());
        Ok(Credentials {
            folder: folder.to_owned(),
            identity,
            loaded: Mutex::new(loaded),
            said,
            wanted: watch::Sender::new(None),
        })
    }

    /// Checks a first pair and writes it. When this returns, `load` finds it after any crash.
    pub(crate) fn create(folder: &Path, identity: NodeIdentity, pair: &Pair<'_>) -> Result<(), CredentialsError> {
        let loaded = Loaded::from_pem(identity, pair.joined(), pair.trust_pem.to_owned())?;
        write(folder, TRUST_FILE, &loaded.trust_pem)?;
        write(folder, PAIR_FILE, &loaded.pair_pem)
    }

    /// Whose they are.
    pub fn identity(&self) -> NodeIdentity {
        self.identity
    }
    /// From when until when the certificate counts.
    pub fn validity(&self) -> Validity {
        self.now().validity
    }
    /// For the next dial.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.now().config
    }

    /// Replaces key and certificate for every later dial.
    pub(crate) fn replace(&self, pair: &Pair<'_>) -> Result<(), CredentialsError> {
        let present = self.now();
        let trust = if shares_a_certificate(&present.trust_pem, pair.trust_pem)? {
            pair.trust_pem.to_owned()
        } else {
            return Err(CredentialsError::Disjoint);
        };
        let loaded = Loaded::from_pem(self.identity, pair.joined(), trust)?;
        write(&self.folder, PAIR_FILE, &loaded.pair_pem)?;
        if loaded.trust_pem != present.trust_pem {
            write(&self.folder, TRUST_FILE, &loaded.trust_pem)?;
        }
        self.take(loaded);
        Ok(())
    }

    /// Trusts these authorities from the next dial on. Nothing happens when they are the present ones.
    pub(crate) fn trust(&self, trust_pem: &str) -> Result<(), CredentialsError> {
        let present = self.now();
        if present.trust_pem == trust_pem {
            return Ok(());
        }
        if !shares_a_certificate(&present.trust_pem, trust_pem)? {
            return Err(CredentialsError::Disjoint);
        }
        let loaded = Loaded::from_pem(self.identity, present.pair_pem, trust_pem.to_owned())?;
        write(&self.folder, TRUST_FILE, &loaded.trust_pem)?;
        self.take(loaded);
        Ok(())
    }

    /// Whether the certificate has ended, by this machine's clock.
    pub(crate) fn has_ended(&self) -> bool {
        mint::wall() >= self.validity().not_after
    }

    /// For a dial that shows no certificate.
    pub(crate) fn without_certificate(&self) -> Arc<ClientConfig> {
        self.now().without_certificate
    }

    /// The key in PKCS #8, PEM, with the certificate behind it. Secret.
    pub(crate) fn pair_pem(&self) -> String {
        self.now().pair_pem
    }

    /// The key alone. Secret.
    pub(crate) fn key_pem(&self) -> Result<String, CredentialsError> {
        let pair = self.pair_pem();
        let end = pair.find(CERTIFICATE_BEGINS).ok_or(self.other_node())?;
        Ok(pair[..end].to_owned())
    }

    /// The certificate alone.
    pub(crate) fn certificate_pem(&self) -> Result<String, CredentialsError> {
        let pair = self.pair_pem();
        let begin = pair.find(CERTIFICATE_BEGINS).ok_or(self.other_node())?;
        Ok(pair[begin..].to_owned())
    }

    fn other_node(&self) -> CredentialsError {
        CredentialsError::OtherNode { node: self.identity.node, cluster: self.identity.cluster }
    }

    /// By which an operator recognises the key.
    pub fn key_fingerprint(&self) -> String {
        self.now().key.map(|key| key.to_string()).unwrap_or_default()
    }

    /// What the controller is told, as it changes.
    pub(crate) fn said(&self) -> watch::Receiver<Said> {
        self.said.subscribe()
    }

    /// The controller wants the certificate to be from this root.
    pub(crate) fn want_issuer(&self, root: RootId) {
        self.wanted.send_if_modified(|wanted| wanted.replace(root) != Some(root));
    }

    /// Waits until the controller wants the certificate from another root than it is from.
    pub(crate) async fn issuer_is_another_than_wanted(&self) {
        let mut wanted = self.wanted.subscribe();
        let differs = |wanted: &Option<RootId>| wanted.is_some_and(|root| self.now().said.issuer != Some(root));
        if wanted.wait_for(differs).await.is_err() {
            std::future::pending().await
        }
    }

    fn take(&self, loaded: Loaded) {
        self.said.send_if_modified(|said| {
            let changed = *said != loaded.said;
            said.clone_from(&loaded.said);
            changed
        });
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
    }

    fn now(&self) -> Loaded {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Pair<'_> {
    fn joined(&self) -> String {
        format!("{}\n{}", self.key_pem.trim_end(), self.certificate_pem)
    }
}

impl Loaded {
    fn from_pem(identity: NodeIdentity, pair_pem: String, trust_pem: String) -> Result<Loaded, CredentialsError> {
        let key = PrivateKeyDer::from_pem_slice(pair_pem.as_bytes())
            .map_err(|source| CredentialsError::Malformed { what: "node's key", source })?;
        let chain = certificates("node's certificate", &pair_pem)?;
        let other_node = CredentialsError::OtherNode { node: identity.node, cluster: identity.cluster };
        let Some((leaf, validity)) = chain.first().and_then(|leaf| Some((leaf, Validity::of(leaf)?))) else {
            return Err(other_node);
        };
        if NodeIdentity::from_certificate(leaf) != Ok(identity) {
            return Err(other_node);
        }
        let trusted = certificates("trust bundle", &trust_pem)?;
        let key_fingerprint = key_of(leaf);
        let said = Said {
            roots: trusted.iter().map(|root| Fingerprint::of(root).root()).collect(),
            issuer: issuer(leaf, &trusted).map(Fingerprint::root),
        };
        let mut roots = RootCertStore::empty();
        for root in trusted {
            roots.add(root).map_err(CredentialsError::Mismatched)?;
        }
        let builder = || {
            ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(CredentialsError::Mismatched)
                .map(|builder| builder.with_root_certificates(roots.clone()))
        };
        let with = builder()?.with_client_auth_cert(chain, key).map_err(CredentialsError::Mismatched)?;
        let [config, without_certificate] = [with, builder()?.with_no_client_auth()].map(|mut config| {
            config.alpn_protocols = vec![b"h2".to_vec()];
            // A resumed handshake would not show a certificate that was renewed in between.
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config)
        });
        Ok(Loaded { pair_pem, trust_pem, validity, key: key_fingerprint, config, without_certificate, said })
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| CredentialsError::Malformed { what, source })
}

fn shares_a_certificate(old: &str, new: &str) -> Result<bool, CredentialsError> {
    let old = certificates("trust bundle", old)?;
    Ok(certificates("trust bundle", new)?.iter().any(|certificate| old.contains(certificate)))
}

fn read(folder: &Path, name: &str) -> Result<String, CredentialsError> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).map_err(|source| CredentialsError::Unusable { path, source })
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), CredentialsError> {
    let path = folder.join(name);
    durable::replace(&path, text.as_bytes(), 0o600, || ()).map_err(|source| CredentialsError::Unusable { path, source })
}
