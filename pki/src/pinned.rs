//! Recognising a controller by the hash of its authority, before anything is said to it.

use crate::fingerprint::Fingerprint;
use crate::provider;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use std::sync::{Arc, OnceLock};

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

/// Accepts a server whose chain contains the authority of this fingerprint and whose leaf is valid under it for the
/// name that the client asks for.
///
/// Guarantees: the handshake fails before the client has sent anything of the application, unless all of it holds.
/// Afterwards `authority` is the certificate itself, to be trusted from then on.
#[derive(Debug)]
pub struct PinnedVerifier {
    pin: Fingerprint,
    authority: OnceLock<CertificateDer<'static>>,
}

impl PinnedVerifier {
    /// For this authority.
    pub fn new(pin: Fingerprint) -> Arc<PinnedVerifier> {
        Arc::new(PinnedVerifier { pin, authority: OnceLock::new() })
    }

    /// The authority's certificate, after a handshake.
    pub fn authority(&self) -> Option<&CertificateDer<'static>> {
        self.authority.get()
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
        let authority = others
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.pin)
            .ok_or_else(|| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherAuthority)))))?;
        let authority = authority.clone().into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(leaf, others, name, ocsp, now)?;
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
}
