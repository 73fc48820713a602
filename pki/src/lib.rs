//! Who is who.
//!
//! Controller, agent and `lap` agree here on the text of tokens, on the names in certificates, on how a key asks for a
//! certificate and on how a controller's certificate authority is recognised. Nothing here opens a socket or a file.

pub mod authority;
mod base32;
pub mod fingerprint;
pub mod mint;
pub mod names;
pub mod pinned;
pub mod request;
pub mod returning;
pub mod seal;
pub mod token;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, OnceLock};

/// The one implementation of cryptography that Lapstrake uses. Given explicitly to every configuration, so that no
/// `main` has to install it first.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}
