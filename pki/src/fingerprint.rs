//! By what a certificate is recognised.

use crate::base32;
use aws_lc_rs::digest;
use lapstrake_core::root::RootId;
use std::fmt;

/// The SHA-256 of a certificate's DER form, or of a public key's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of these bytes.
    pub fn of(der: &[u8]) -> Fingerprint {
        Fingerprint(sha256(der))
    }

    /// From 64 hexadecimal digits, as people copy them; colons between the bytes are left out. `None` when it is none.
    pub fn from_hex(text: &str) -> Option<Fingerprint> {
        text.trim().replace(':', "").to_ascii_lowercase().parse::<RootId>().ok().map(|root| Fingerprint(root.0))
    }

    /// As the decisions call a root of the authority.
    pub const fn root(self) -> RootId {
        RootId(self.0)
    }

    pub(crate) fn to_base32(self) -> String {
        base32::encode(&self.0)
    }

    pub(crate) fn from_base32(text: &str) -> Option<Fingerprint> {
        base32::decode(text).map(Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    /// In hexadecimal, as `openssl x509 -fingerprint -sha256` says it without the colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}
