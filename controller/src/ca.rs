//! The cluster's certificate authority: made at the first start, kept in the state folder, used for the controller's own
//! listeners and for every node's certificate.

pub(crate) mod file;
mod live;

pub use live::LiveTls;

use lapstrake_core::ids::{ClusterId, NodeId};
use lapstrake_pki::authority::{Authority, AuthorityError, CLOCK_SKEW, Life, NODE_LIFE};
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::mint;
use lapstrake_pki::request::VerifiedRequest;
use std::path::{Path, PathBuf};

const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.pem";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read or written.
    #[error("{path} cannot be used")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody took the key away.
    #[error(
        "{certificate} is there and {key} is not: without the key no node can join or renew; restore it from a backup"
    )]
    KeyMissing {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Key or certificate are not what they should be, or a signature failed.
    #[error("the certificate authority cannot be used")]
    Authority(#[from] AuthorityError),
    /// TLS cannot be set up with them.
    #[error("TLS cannot be set up with the authority's certificate")]
    Tls(#[from] rustls::Error),
}

/// The authority with its key.
pub struct Ca {
    authority: Authority,
    node_life: Life,
}

impl Ca {
    /// Reads the authority of this cluster from the state folder, or makes it.
    ///
    /// The key is written first. A key without certificate is therefore a first start that did not end: nobody has seen
    /// that authority yet, and a new one is made. A certificate without key is an accident that is not repaired here.
    pub fn open(folder: &Path, cluster: ClusterId) -> Result<Ca, CaError> {
        let (key_file, certificate_file) = (folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE));
        let authority = match (read(&certificate_file)?, read(&key_file)?) {
            (Some(certificate), Some(key)) => Authority::load(cluster, &certificate, &key)?,
            (Some(_), None) => return Err(CaError::KeyMissing { certificate: certificate_file, key: key_file }),
            (None, _) => {
                let made = Authority::create(cluster, mint::wall())?;
                write(&key_file, &made.key_pem(), file::OWNER_ONLY)?;
                write(&certificate_file, made.certificate_pem(), file::READABLE)?;
                made
            }
        };
        Ok(Ca { authority, node_life: Life { back: CLOCK_SKEW, ahead: NODE_LIFE } })
    }

    /// The same with another life for the nodes' certificates, so that a test sees a renewal.
    pub fn with_node_life(self, node_life: Life) -> Ca {
        Ca { node_life, ..self }
    }

    /// Whose it is.
    pub fn cluster(&self) -> ClusterId {
        self.authority.cluster()
    }

    /// What tokens name it by.
    pub fn fingerprint(&self) -> Fingerprint {
        self.authority.fingerprint()
    }

    /// The certificates that nodes and operators shall trust, in PEM. One until there is rotation.
    pub fn trust_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// A certificate for this node, in PEM.
    pub fn certify_node(&self, node: NodeId, request: &VerifiedRequest) -> Result<String, CaError> {
        Ok(self.authority.certify_node(node, request, mint::wall(), self.node_life)?)
    }
}

fn read(path: &Path) -> Result<Option<String>, CaError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CaError::Unusable { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    file::replace(path, text.as_bytes(), mode).map_err(|source| CaError::Unusable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_of_the_first_start_is_that_of_every_later_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Ca::open(folder.path(), ClusterId(1)).expect("made").fingerprint();
        assert_eq!(Ca::open(folder.path(), ClusterId(1)).expect("read").fingerprint(), first);
        let mode = std::fs::metadata(folder.path().join(KEY_FILE)).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        Ca::open(folder.path(), ClusterId(2)).err().expect("another cluster's store beside this authority");
    }

    #[test]
    fn a_first_start_that_did_not_end_is_begun_again_and_a_lost_key_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(KEY_FILE), "half a k").expect("written");
        Ca::open(folder.path(), ClusterId(1)).expect("made");
        std::fs::remove_file(folder.path().join(KEY_FILE)).expect("removed");
        let error = Ca::open(folder.path(), ClusterId(1)).err().expect("told");
        assert!(matches!(error, CaError::KeyMissing { .. }), "{error}");
    }
}
