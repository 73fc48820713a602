//! Recognising a controller by the hash of its authority, before anything is said to it.

use crate::fingerprint::Fingerprint;
use crate::provider;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use std::sync::{Arc, OnceLock};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The peer is not led to by the authority that the token names: another controller, or somebody in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the controller there has another certificate authority than the token names: the token is another controller's, or \
     somebody stands in between"
)]
pub struct OtherAuthority;

impl OtherAuthority {
    /// Whether this, somewhere in its chain of causes, is why a handshake failed.
    pub fn caused(error: &(dyn std::error::Error + 'static)) -> bool {
        if let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) =
            error.downcast_ref::<Error>()
        {
            return other.is::<OtherAuthority>();
        }
        // An I/O error hides what it wraps from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        match inner {
            Some(inner) => OtherAuthority::caused(inner),
            None => error.source().is_some_and(OtherAuthority::caused),
        }
    }
}

/// Accepts a server whose chain contains an authority of one of these fingerprints and whose leaf is valid under it for
/// the name that the client asks for.
///
/// Guarantees: the handshake fails before the client has sent anything of the application, unless all of it holds.
/// Afterwards `authority` is the certificate itself, to be trusted from then on, and `successor` the root that takes its
/// place, if it has vouched for one.
#[derive(Debug)]
pub struct PinnedVerifier {
    pins: Vec<Fingerprint>,
    authority: OnceLock<CertificateDer<'static>>,
    successor: OnceLock<Fingerprint>,
}

impl PinnedVerifier {
    /// For this authority.
    pub fn new(pin: Fingerprint) -> Arc<PinnedVerifier> {
        PinnedVerifier::any_of(vec![pin])
    }

    /// For any of these, tried in this order.
    pub fn any_of(pins: Vec<Fingerprint>) -> Arc<PinnedVerifier> {
        Arc::new(PinnedVerifier { pins, authority: OnceLock::new(), successor: OnceLock::new() })
    }

    /// The authority's certificate, after a handshake.
    pub fn authority(&self) -> Option<&CertificateDer<'static>> {
        self.authority.get()
    }

    /// After a handshake: the root that takes the authority's place and is none of the pins. The authority has vouched for its
    /// key, and the leaf is by that key.
    pub fn successor(&self) -> Option<Fingerprint> {
        self.successor.get().copied()
    }

    /// A TLS 1.3 client that trusts nobody else.
    pub fn client_config(self: &Arc<Self>) -> Result<rustls::ClientConfig, Error> {
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_no_client_auth();
        Ok(config)
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = |pin: &Fingerprint| others.iter().find(|certificate| Fingerprint::of(certificate) == *pin);
        let authority =
            self.pins.iter().find_map(pinned).ok_or_else(|| {
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherAuthority))))
            })?;
        let authority = authority.clone().into_owned();
        verify_under(&authority, leaf, others, name, ocsp, now)?;
        // Under the authority and directly under another root: then the leaf's signer is one key, which the authority has
        // signed for.
        let successor = others
            .iter()
            .filter(|other| **other != authority && is_self_signed(other))
            .find(|other| verify_under(other, leaf, &[], name, ocsp, now).is_ok())
            .map(|root| Fingerprint::of(root))
            .filter(|root| !self.pins.contains(root));
        if let Some(successor) = successor {
            let _ = self.successor.set(successor);
        }
        let _ = self.authority.set(authority);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn verify_under(
    root: &CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    ocsp: &[u8],
    now: UnixTime,
) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned())?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))?
        .verify_server_cert(leaf, others, name, ocsp, now)
        .map(|_| ())
}

/// Whether it is a root and not a certificate by which one root vouches for another: those have the same names in both places,
/// so the key identifiers decide.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let mut own = None;
    let mut issuer = None;
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0),
            ParsedExtension::AuthorityKeyIdentifier(id) => issuer = id.key_identifier.as_ref().map(|id| id.0),
            _ => {}
        }
    }
    issuer.is_none() || issuer == own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, CLOCK_SKEW, Life, NODE_LIFE};
    use crate::mint;
    use crate::names::server_name;
    use lapstrake_core::ids::ClusterId;

    const LIFE: Life = Life { back: CLOCK_SKEW, ahead: NODE_LIFE };

    fn judge(pin: Fingerprint, chain: &[CertificateDer<'static>], cluster: ClusterId) -> Result<(), Error> {
        PinnedVerifier::new(pin)
            .verify_server_cert(&chain[0], &chain[1..], &server_name(cluster), &[], UnixTime::now())
            .map(|_| ())
    }

    #[test]
    fn only_a_leaf_of_the_pinned_authority_for_the_cluster_is_accepted() {
        let ours = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let theirs = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let leaf = |authority: &Authority| authority.certify_server(&[], mint::wall(), LIFE).expect("signed").chain;
        let (good, foreign) = (leaf(&ours), leaf(&theirs));
        judge(ours.fingerprint(), &good, ClusterId(1)).expect("accepted");
        judge(ours.fingerprint(), &good, ClusterId(2)).expect_err("another cluster's name");
        let refused = judge(ours.fingerprint(), &foreign, ClusterId(1)).expect_err("another authority");
        assert!(OtherAuthority::caused(&std::io::Error::other(refused)));
        // Showing our authority's certificate beside a leaf that it did not sign gains nothing.
        let borrowed = [foreign[0].clone(), good[1].clone()];
        judge(ours.fingerprint(), &borrowed, ClusterId(1)).expect_err("a borrowed certificate");
    }

    #[test]
    fn whoever_knows_only_the_old_root_recognises_the_next_one_and_learns_it() {
        let (old, next) = (
            Authority::create(ClusterId(1), mint::wall()).expect("made"),
            Authority::create(ClusterId(1), mint::wall()).expect("made"),
        );
        let leaf = next.certify_server(&[], mint::wall(), LIFE).expect("signed").chain;
        let vouched = old.vouch_for(&next, mint::wall(), LIFE).expect("signed");
        let chain = [leaf[0].clone(), leaf[1].clone(), vouched, old.certificate().clone()];
        let see = |pins: Vec<Fingerprint>, chain: &[CertificateDer<'static>]| {
            let verifier = PinnedVerifier::any_of(pins);
            verifier
                .verify_server_cert(&chain[0], &chain[1..], &server_name(ClusterId(1)), &[], UnixTime::now())
                .map(|_| verifier.successor())
        };
        assert_eq!(see(vec![old.fingerprint()], &chain), Ok(Some(next.fingerprint())));
        assert_eq!(see(vec![next.fingerprint()], &chain), Ok(None));
        assert_eq!(see(vec![old.fingerprint(), next.fingerprint()], &chain), Ok(None), "it is known");
        // Without the old root's word for it the next one is a stranger.
        let unvouched = [leaf[0].clone(), leaf[1].clone(), old.certificate().clone()];
        see(vec![old.fingerprint()], &unvouched).expect_err("nobody vouched for it");
        // A stranger's root beside an honest chain is not learnt.
        let stranger = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let honest = old.certify_server(&[], mint::wall(), LIFE).expect("signed").chain;
        let chain = [honest[0].clone(), stranger.certificate().clone(), honest[1].clone()];
        assert_eq!(see(vec![old.fingerprint()], &chain), Ok(None));
    }
}
