//! By what a controller is recognised before the token is shown to it.

use crate::context::Address;
use lapstrake_core::quote::quoted;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::names::server_name;
use lapstrake_pki::pinned::PinnedVerifier;
use lapstrake_pki::provider;
use lapstrake_pki::token::Token;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The environment's word for where trusted roots are.
const ROOTS_VARIABLE: &str = "SSL_CERT_FILE";

/// Where systems keep the roots that they trust: Debian, Fedora, SUSE, Alpine.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// All public roots together are a fifth of this; what is larger is another file.
const MOST_ROOTS_BYTES: u64 = 4 << 20;

/// So many of a certificate's names are said.
const NAMES_SAID: usize = 4;

/// Who is taken for the controller.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whoever has the authority that the token names, or one of these roots, whatever the address.
    Pinned(Vec<Fingerprint>),
    /// Whoever shows a certificate for the address's own name that one of these roots leads to. Only ever the trust of one
    /// address: a token that is stored with it goes nowhere else.
    Roots(Roots),
}

/// Roots, and whose they are.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    whose: String,
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.store.len(), self.whose)
    }
}

/// Why there are no roots.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file cannot be read.
    #[error("the roots in {file} cannot be read, which --ca-file, or for the system's roots SSL_CERT_FILE, names")]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{file} holds no roots that can be trusted: {said}")]
    NotRoots {
        /// Which.
        file: String,
        /// What is wrong.
        said: String,
    },
    /// The system has none.
    #[error(
        "no file with this system's trusted roots was found; install the package ca-certificates, or name a file with --ca-file \
         or {ROOTS_VARIABLE}"
    )]
    NoSystem,
}

impl Roots {
    /// All certificates of a text, each of which must be good.
    pub fn from_pem(pem: &str, whose: &str) -> Result<Roots, RootsError> {
        let wrong = |said: String| RootsError::NotRoots { file: whose.to_owned(), said };
        let mut store = RootCertStore::empty();
        for (number, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
            let number = number + 1;
            let certificate = certificate.map_err(|error| wrong(format!("certificate {number}: {error}")))?;
            store.add(certificate).map_err(|error| wrong(format!("certificate {number}: {error}")))?;
        }
        if store.is_empty() {
            return Err(wrong("there is no `-----BEGIN CERTIFICATE-----` in it".into()));
        }
        Ok(Roots { store: Arc::new(store), whose: whose.to_owned() })
    }

    /// Those that this machine trusts: of the file that the environment names, or else of the system's.
    pub fn of_the_system() -> Result<Roots, RootsError> {
        let named = std::env::var_os(ROOTS_VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from);
        let present = || SYSTEM_ROOTS.iter().map(PathBuf::from).find(|file| file.is_file());
        let file = named.or_else(present).ok_or(RootsError::NoSystem)?;
        let pem = read(&file)?;
        let mut store = RootCertStore::empty();
        // Among a hundred public roots there may be one of a form that nobody needs: that one is not trusted, the others are.
        let readable = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
        store.add_parsable_certificates(readable);
        if store.is_empty() {
            let file = file.display().to_string();
            return Err(RootsError::NotRoots { file, said: "no certificate in it can be understood".into() });
        }
        Ok(Roots { store: Arc::new(store), whose: format!("this system ({})", file.display()) })
    }

    /// The certificates of a text without what else is in it, which may be a private key.
    pub fn only_certificates(pem: &str) -> String {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let mut kept = String::new();
        for piece in pem.split(BEGIN).skip(1) {
            if let Some((body, _)) = piece.split_once(END) {
                kept.push_str(&format!("{BEGIN}{body}{END}\n"));
            }
        }
        kept
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.store.len()
    }

    /// Whose they are, to be said.
    pub fn whose(&self) -> &str {
        &self.whose
    }
}

/// A file of roots, as text.
pub fn read(file: &Path) -> Result<String, RootsError> {
    let unreadable = |source| RootsError::Unreadable { file: file.into(), source };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(MOST_ROOTS_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MOST_ROOTS_BYTES {
        let said = format!("it is larger than {} MiB", MOST_ROOTS_BYTES >> 20);
        return Err(RootsError::NotRoots { file: file.display().to_string(), said });
    }
    Ok(text)
}

/// The TLS of one connection.
pub struct Handshake {
    /// What to shake hands with.
    pub config: ClientConfig,
    /// The name that is asked for.
    pub name: ServerName<'static>,
    /// Remembers what it saw, where the authority is pinned.
    pub pinned: Option<Arc<PinnedVerifier>>,
}

impl Trust {
    /// What one connection to this address needs.
    pub fn handshake(&self, address: &Address, token: &Token) -> Result<Handshake, Error> {
        match self {
            Trust::Pinned(roots) => {
                let pins = std::iter::once(token.authority).chain(roots.iter().copied()).collect();
                let verifier = PinnedVerifier::any_of(pins);
                // Controllers are recognised by the cluster's name, so that any address that leads to one will do.
                let name = server_name(token.cluster);
                Ok(Handshake { config: verifier.client_config()?, name, pinned: Some(verifier) })
            }
            Trust::Roots(roots) => {
                let config = ClientConfig::builder_with_provider(provider())
                    .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
                    .with_root_certificates(roots.store.clone())
                    .with_no_client_auth();
                let wrong = |error: InvalidDnsNameError| Error::General(error.to_string());
                let name = ServerName::try_from(address.host.clone()).map_err(wrong)?;
                Ok(Handshake { config, name, pinned: None })
            }
        }
    }
}

/// What is wrong with a certificate that no root's owner would have us take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It is for other names than the address's.
    OtherName(String),
    /// None of the roots leads to it.
    OtherIssuer,
}

impl Flaw {
    /// Reads it from why a handshake failed.
    pub fn of(error: &std::io::Error) -> Option<Flaw> {
        let Error::InvalidCertificate(judgement) = error.get_ref()?.downcast_ref::<Error>()? else { return None };
        match judgement {
            CertificateError::NotValidForName => Some(Flaw::OtherName("another name".into())),
            CertificateError::NotValidForNameContext { presented, .. } => Some(Flaw::OtherName(said(presented))),
            // The latter when a root of the issuer's name is there and has not signed it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(Flaw::OtherIssuer),
            _ => None,
        }
    }
}

/// The names that a stranger's certificate has: `DnsName("shop.test")` and the like, as rustls tells them.
fn said(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        quoted(inner.trim_matches('"'))
    };
    let mut names = presented.iter().take(NAMES_SAID).map(bare).collect::<Vec<_>>().join(", ");
    match presented.len() {
        0 => names.push_str("no name at all"),
        1..=NAMES_SAID => {}
        more => names.push_str(&format!(" and {} more", more - NAMES_SAID)),
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_strangers_certificate_are_said_quoted_and_not_without_end() {
        assert_eq!(said(&[]), "no name at all");
        assert_eq!(
            said(&["DnsName(\"shop.test\")".into(), "IpAddress(10.0.0.1)".into()]),
            "\"shop.test\", \"10.0.0.1\""
        );
        let many: Vec<String> = (0..9).map(|n| format!("DnsName(\"a{n}\u{1b}[2J\")")).collect();
        let said = said(&many);
        assert!(said.ends_with(" and 5 more") && !said.contains('\u{1b}'), "{said}");
    }

    #[test]
    fn a_file_without_roots_or_with_half_of_one_is_refused_and_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = |text: &str| {
            let file = folder.path().join("roots.pem");
            std::fs::write(&file, text).expect("written");
            let pem = read(&file).expect("text");
            Roots::from_pem(&pem, "roots.pem").expect_err("refused").to_string()
        };
        assert!(refused("").contains("roots.pem holds no roots"));
        assert!(refused("-----BEGIN CERTIFICATE-----\nAAAA").contains("certificate 1"));
        assert!(refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").contains("certificate 1"));
        let large = folder.path().join("large");
        std::fs::write(&large, "x".repeat(5 << 20)).expect("written");
        assert!(read(&large).expect_err("refused").to_string().contains("larger than 4 MiB"));
        assert!(read(&folder.path().join("absent")).expect_err("refused").to_string().contains("cannot be read"));
    }
}
