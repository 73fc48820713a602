//! How a key asks for a certificate.

use crate::fingerprint::Fingerprint;
use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};

/// A request of a P-256 key takes less than 1 KiB; what is longer is not read.
const LONGEST_REQUEST_BYTES: usize = 8 * 1024;

/// A key that was just made, and its request. The key stays where it was made.
pub struct NewKey {
    /// PKCS #8 in PEM. Secret.
    pub key_pem: String,
    /// PKCS #10 in PEM.
    pub request_pem: String,
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
#[error("a new key cannot be made")]
pub struct CannotMakeKey(#[from] rcgen::Error);

impl NewKey {
    /// Makes an ECDSA P-256 key and the request that proves its possession. The request names nothing: the controller
    /// chooses the names.
    pub fn make() -> Result<NewKey, CannotMakeKey> {
        NewKey::of(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
    }

    /// The same for a key that was made and stored before.
    pub fn from_pem(key_pem: &str) -> Result<NewKey, CannotMakeKey> {
        NewKey::of(&KeyPair::from_pem(key_pem)?)
    }

    fn of(key: &KeyPair) -> Result<NewKey, CannotMakeKey> {
        let request = CertificateParams::default().serialize_request(key)?;
        Ok(NewKey { key_pem: key.serialize_pem(), request_pem: request.pem()? })
    }
}

/// Why a certificate request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestRefused {
    /// It is longer than any request that we would sign.
    #[error("the certificate request is longer than {LONGEST_REQUEST_BYTES} bytes")]
    TooLong,
    /// It is not a request, or the signature is not by the key that it names.
    #[error("the certificate request cannot be verified")]
    Unverified(#[source] rcgen::Error),
    /// Another kind of key.
    #[error("the certificate request's key is not ECDSA on P-256")]
    OtherKey,
}

/// A request whose sender has shown that it holds the key. Nothing but the key is taken from it.
#[derive(Debug)]
pub struct VerifiedRequest {
    pub(crate) key: rcgen::PublicKey,
}

impl VerifiedRequest {
    /// Reads a request and checks that its key signed it.
    pub fn read(pem: &str) -> Result<VerifiedRequest, RequestRefused> {
        if pem.len() > LONGEST_REQUEST_BYTES {
            return Err(RequestRefused::TooLong);
        }
        let request = CertificateSigningRequestParams::from_pem(pem).map_err(RequestRefused::Unverified)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(RequestRefused::OtherKey);
        }
        Ok(VerifiedRequest { key: request.public_key })
    }

    /// By which the key is recognised when it asks again.
    pub fn key_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.key.subject_public_key_info())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_recognised_by_its_key() {
        let new = NewKey::make().expect("a key");
        let first = VerifiedRequest::read(&new.request_pem).expect("verified").key_fingerprint();
        let again = VerifiedRequest::read(&new.request_pem).expect("verified").key_fingerprint();
        let other = VerifiedRequest::read(&NewKey::make().expect("a key").request_pem).expect("verified");
        assert_eq!(first, again);
        assert_ne!(first, other.key_fingerprint());
    }

    #[test]
    fn a_request_for_a_key_that_its_sender_does_not_hold_is_refused() {
        // One request's names and key with another one's signature: the signature is the end of the DER form.
        let (one, two) = (NewKey::make().expect("a key"), NewKey::make().expect("a key"));
        let lines = |pem: &str| pem.lines().map(str::to_owned).collect::<Vec<_>>();
        let (mut mixed, other) = (lines(&one.request_pem), lines(&two.request_pem));
        let last = mixed.len() - 2;
        mixed[last] = other[other.len() - 2].clone();
        VerifiedRequest::read(&mixed.join("\n")).expect_err("refused");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(matches!(VerifiedRequest::read("hello"), Err(RequestRefused::Unverified(_))));
        assert!(matches!(VerifiedRequest::read(&"x".repeat(9000)), Err(RequestRefused::TooLong)));
    }
}
