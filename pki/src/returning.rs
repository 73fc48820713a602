//! A node whose certificate has ended proves that it still holds the key.
//!
//! The proof is a signature over the node's id and a value that both ends of one TLS connection derive from its secrets (an
//! exporter). Whoever records it, or stands in between with a connection of its own, holds a signature over a value that no
//! other connection has.

use crate::fingerprint::Fingerprint;
use crate::names::{NodeIdentity, Validity};
use crate::provider;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use lapstrake_core::time::Wall;
use rcgen::{KeyPair, SigningKey, SubjectPublicKeyInfo};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the exporter is asked for with, by both ends.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-lapstrake-return";

/// What one TLS connection has and no other.
pub type Binding = [u8; 32];

/// Why a proof is refused. Its `Display` is for the node's operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotProved {
    /// Not a certificate of a node of an authority that counts.
    #[error("the certificate is not a node's of this cluster; join again with a new token and --replace")]
    Foreign,
    /// It still counts.
    #[error("the certificate has not ended; a node renews it with it")]
    NotEnded,
    /// The signature is not by its key, or for another connection.
    #[error("the proof is not by the certificate's key on this connection")]
    Forged,
}

/// A key that does not sign.
#[derive(Debug, thiserror::Error)]
#[error("the node's key cannot sign")]
pub struct CannotProve(#[from] rcgen::Error);

/// A certificate that has ended, shown by whoever holds its key.
#[derive(Debug)]
pub struct Proved {
    /// Whose it is.
    pub identity: NodeIdentity,
    /// When it ended.
    pub ended: Wall,
    pub(crate) key: SubjectPublicKeyInfo,
}

/// Signs for this connection with a key in PKCS #8, PEM.
pub fn prove(key_pem: &str, identity: NodeIdentity, binding: &Binding) -> Result<Vec<u8>, CannotProve> {
    Ok(KeyPair::from_pem(key_pem)?.sign(&message(identity, binding))?)
}

fn message(identity: NodeIdentity, binding: &Binding) -> Vec<u8> {
    let mut message = b"lapstrake return 1\0".to_vec();
    message.extend_from_slice(&identity.cluster.0.to_be_bytes());
    message.extend_from_slice(&identity.node.0.to_be_bytes());
    message.extend_from_slice(binding);
    message
}

impl Proved {
    /// Checks certificate and proof: signed by one of these roots for a node, ended by now, and the key is held at the other
    /// end of the connection with this binding.
    pub fn read(
        certificate_pem: &str,
        proof: &[u8],
        binding: &Binding,
        roots: &[CertificateDer<'static>],
        now: Wall,
    ) -> Result<Proved, NotProved> {
        let leaf = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| NotProved::Foreign)?;
        let validity = Validity::of(&leaf).ok_or(NotProved::Foreign)?;
        issuer(&leaf, roots).ok_or(NotProved::Foreign)?;
        let identity = NodeIdentity::from_certificate(&leaf).map_err(|_| NotProved::Foreign)?;
        if now < validity.not_after {
            return Err(NotProved::NotEnded);
        }
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| NotProved::Foreign)?;
        let point = &parsed.public_key().subject_public_key.data;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(&message(identity, binding), proof)
            .map_err(|_| NotProved::Forged)?;
        let key = SubjectPublicKeyInfo::from_der(parsed.public_key().raw).map_err(|_| NotProved::Foreign)?;
        Ok(Proved { identity, ended: validity.not_after, key })
    }

    /// By which the key is recognised when it asks again, and which an operator compares.
    pub fn key_fingerprint(&self) -> Fingerprint {
        use rcgen::PublicKeyData as _;
        Fingerprint::of(&self.key.subject_public_key_info())
    }
}

/// The fingerprint of a certificate's key, as `Proved::key_fingerprint` says it; `None` when it is no certificate.
pub fn key_of(certificate: &[u8]) -> Option<Fingerprint> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Fingerprint::of(parsed.public_key().raw))
}

/// Which of these roots signed a node's certificate, whether or not it still counts.
pub fn issuer(leaf: &CertificateDer<'_>, roots: &[CertificateDer<'static>]) -> Option<Fingerprint> {
    let validity = Validity::of(leaf)?;
    // An instant at which it counted.
    let then = UnixTime::since_unix_epoch(Duration::from_millis(validity.not_after.0.saturating_sub(1000)));
    roots.iter().find_map(|root| {
        let mut store = RootCertStore::empty();
        store.add(root.clone()).ok()?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider()).build().ok()?;
        verifier.verify_client_cert(leaf, &[], then).ok().map(|_| Fingerprint::of(root))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, Life};
    use crate::mint;
    use crate::request::{NewKey, VerifiedRequest};
    use lapstrake_core::ids::{ClusterId, NodeId};
    use lapstrake_core::time::Millis;

    const WHO: NodeIdentity = NodeIdentity { cluster: ClusterId(1), node: NodeId(9) };
    const HERE: Binding = [7; 32];

    /// A key with a certificate of this life.
    fn node(authority: &Authority, life: Life) -> (NewKey, String) {
        let key = NewKey::make().expect("a key");
        let request = VerifiedRequest::read(&key.request_pem).expect("verified");
        let pem = authority.certify_node(WHO.node, &request, mint::wall(), life).expect("signed");
        (key, pem)
    }

    fn ended() -> Life {
        // From an hour ago to a minute ago: the end is counted from a moment that has passed.
        Life { back: Millis::secs(3600), ahead: Millis(0) }
    }

    #[test]
    fn only_the_key_of_an_ended_certificate_proves_and_only_on_its_connection() {
        let authority = Authority::create(WHO.cluster, mint::wall()).expect("made");
        let roots = [authority.certificate().clone()];
        let (key, pem) = node(&authority, ended());
        let proof = prove(&key.key_pem, WHO, &HERE).expect("signed");
        let now = mint::wall() + Millis::secs(60);
        let read = |proof: &[u8], binding: &Binding, now: Wall| Proved::read(&pem, proof, binding, &roots, now);
        let proved = read(&proof, &HERE, now).expect("proved");
        assert_eq!(proved.identity, WHO);
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        assert_eq!(Some(proved.key_fingerprint()), key_of(&der));
        assert_eq!(read(&proof, &[8; 32], now).err(), Some(NotProved::Forged), "replayed on another connection");
        let other = prove(&NewKey::make().expect("a key").key_pem, WHO, &HERE).expect("signed");
        assert_eq!(read(&other, &HERE, now).err(), Some(NotProved::Forged), "by another key");
        let before = Wall(proved.ended.0 - 1);
        assert_eq!(read(&proof, &HERE, before).err(), Some(NotProved::NotEnded));
    }

    #[test]
    fn a_certificate_of_another_authority_and_one_that_names_no_node_prove_nothing() {
        let authority = Authority::create(WHO.cluster, mint::wall()).expect("made");
        let roots = [authority.certificate().clone()];
        let foreign = Authority::create(WHO.cluster, mint::wall()).expect("made");
        let (key, pem) = node(&foreign, ended());
        let proof = prove(&key.key_pem, WHO, &HERE).expect("signed");
        let now = mint::wall() + Millis::secs(60);
        for pem in [pem.as_str(), authority.certificate_pem(), "hello"] {
            assert_eq!(Proved::read(pem, &proof, &HERE, &roots, now).err(), Some(NotProved::Foreign));
        }
    }

    #[test]
    fn of_two_roots_with_one_name_the_one_that_signed_is_found() {
        let (one, two) = (
            Authority::create(WHO.cluster, mint::wall()).expect("made"),
            Authority::create(WHO.cluster, mint::wall()).expect("made"),
        );
        let roots = [one.certificate().clone(), two.certificate().clone()];
        let (_, pem) = node(&two, Life { back: Millis::secs(60), ahead: Millis::secs(60) });
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        assert_eq!(issuer(&der, &roots), Some(two.fingerprint()));
        assert_eq!(issuer(&der, &roots[..1]), None);
    }
}
