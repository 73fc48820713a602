//! The cluster's certificate authority: made at the first start, kept in the state folder, used for the controller's own
//! listeners and for every node's certificate.

pub(crate) mod file;
mod live;

pub use live::{LiveTls, OwnFiles};

use arc_swap::ArcSwap;
use lapstrake_core::cluster::state as record;
use lapstrake_core::ids::{ClusterId, NodeId};
use lapstrake_core::root::RootId;
use lapstrake_core::time::Millis;
use lapstrake_pki::authority::{Authority, AuthorityError, CLOCK_SKEW, Life, NODE_LIFE, ServerLeaf};
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::mint;
use lapstrake_pki::request::VerifiedRequest;
use lapstrake_pki::returning::Proved;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// The store names a root whose files are not there.
    #[error(
        "the root {root} has no certificate and key in {folder}: without them no node can join or renew; restore them from a \
         backup"
    )]
    RootMissing {
        /// The state folder.
        folder: PathBuf,
        /// Which root.
        root: RootId,
    },
    /// A root without dates.
    #[error("the certificate of the root {0} has no dates")]
    Undated(RootId),
    /// The operators' own certificate.
    #[error("{path} cannot be used for the operators' port: {said}")]
    Own {
        /// Which file.
        path: PathBuf,
        /// Why.
        said: String,
    },
    /// Key or certificate are not what they should be, or a signature failed.
    #[error("the certificate authority cannot be used")]
    Authority(#[from] AuthorityError),
    /// TLS cannot be set up with them.
    #[error("TLS cannot be set up with the authority's certificate")]
    Tls(#[from] rustls::Error),
}

/// The authority: one root with its key, or two while one takes the other's place.
///
/// What it is at any time is the store's record of it; this holds the keys. A root's files carry its fingerprint, save those of
/// the first root.
pub struct Ca {
    cluster: ClusterId,
    folder: PathBuf,
    node_life: Life,
    roots: ArcSwap<Roots>,
}

/// The roots that count now.
struct Roots {
    /// Everybody trusts these; the older one first. Never empty.
    trusted: Vec<Arc<Authority>>,
    /// This one signs.
    signing: Arc<Authority>,
}

impl Ca {
    /// Reads the first root of this cluster from the state folder, or makes it.
    ///
    /// The key is written first. A key without certificate is therefore a first start that did not end: nobody has seen
    /// that root yet, and a new one is made. A certificate without key is an accident that is not repaired here.
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
        let only = Arc::new(authority);
        Ok(Ca::of(folder, cluster, Roots { trusted: vec![only.clone()], signing: only }))
    }

    /// The roots that the store names, from the state folder.
    pub fn load(folder: &Path, cluster: ClusterId, record: &record::Authority) -> Result<Ca, CaError> {
        Ok(Ca::of(folder, cluster, Roots::load(folder, cluster, record)?))
    }

    fn of(folder: &Path, cluster: ClusterId, roots: Roots) -> Ca {
        let node_life = Life { back: CLOCK_SKEW, ahead: NODE_LIFE };
        Ca { cluster, folder: folder.to_owned(), node_life, roots: ArcSwap::from_pointee(roots) }
    }

    /// The same with another life for the nodes' certificates, so that a test sees a renewal.
    pub fn with_node_life(self, node_life: Life) -> Ca {
        Ca { node_life, ..self }
    }

    /// Makes the root that shall take the present one's place, and writes it to the disk. It counts for nothing until the
    /// store names it.
    pub fn make_next(&self) -> Result<record::Root, CaError> {
        let made = Authority::create(self.cluster, mint::wall())?;
        let [certificate, key] = files(&self.folder, made.fingerprint().root());
        write(&key, &made.key_pem(), file::OWNER_ONLY)?;
        write(&certificate, made.certificate_pem(), file::READABLE)?;
        root_of(&made)
    }

    /// Forgets a root that was made and that the store did not take.
    pub fn discard(&self, root: RootId) {
        if !self.roots.load().trusted.iter().any(|known| known.fingerprint().root() == root) {
            remove(&self.folder, root);
        }
    }

    /// Is what the store says from now on; the files of a root that it names no more are removed.
    pub fn follow(&self, record: &record::Authority) -> Result<(), CaError> {
        let next = Roots::load(&self.folder, self.cluster, record)?;
        let before = self.roots.swap(Arc::new(next));
        let kept = self.roots.load();
        for gone in before.trusted.iter().map(|root| root.fingerprint()) {
            if !kept.trusted.iter().any(|root| root.fingerprint() == gone) {
                remove(&self.folder, gone.root());
            }
        }
        Ok(())
    }

    /// The root as the store names it.
    pub fn root(&self) -> Result<record::Root, CaError> {
        root_of(&self.roots.load().signing)
    }

    /// Whose it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What new tokens name it by: the root that signs.
    pub fn fingerprint(&self) -> Fingerprint {
        self.roots.load().signing.fingerprint()
    }

    /// The same as the decisions say it.
    pub fn signing(&self) -> RootId {
        self.fingerprint().root()
    }

    /// How long a node's certificate counts.
    pub fn node_life(&self) -> Millis {
        self.node_life.ahead
    }

    /// The certificates that nodes and operators shall trust, in PEM.
    pub fn trust_pem(&self) -> String {
        self.roots.load().trusted.iter().map(|root| root.certificate_pem()).collect()
    }

    /// The same certificates.
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        self.roots.load().trusted.iter().map(|root| root.certificate().clone()).collect()
    }

    /// A certificate for this node, in PEM.
    pub fn certify_node(&self, node: NodeId, request: &VerifiedRequest) -> Result<String, CaError> {
        Ok(self.roots.load().signing.certify_node(node, request, mint::wall(), self.node_life)?)
    }

    /// A certificate for a node that has proved that it holds the key of one that has ended, in PEM.
    pub fn certify_again(&self, proved: &Proved) -> Result<String, CaError> {
        Ok(self.roots.load().signing.certify_again(proved, mint::wall(), self.node_life)?)
    }

    /// A certificate for the controller's own listeners. While one root takes another's place, its chain leads to both.
    fn certify_server(&self, names: &[String], life: Life) -> Result<ServerLeaf, CaError> {
        let roots = self.roots.load();
        let mut leaf = roots.signing.certify_server(names, mint::wall(), life)?;
        for older in roots.trusted.iter().take_while(|root| !Arc::ptr_eq(root, &roots.signing)) {
            leaf.chain.push(older.vouch_for(&roots.signing, mint::wall(), life)?);
            leaf.chain.push(older.certificate().clone());
        }
        Ok(leaf)
    }
}

impl Roots {
    fn load(folder: &Path, cluster: ClusterId, record: &record::Authority) -> Result<Roots, CaError> {
        let load = |root: &record::Root| load_root(folder, cluster, root.id).map(Arc::new);
        let trusted = record.trusted().into_iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let signing = record.signing().id;
        let found = trusted.iter().find(|root| root.fingerprint().root() == signing).cloned();
        let signing = found.ok_or_else(|| CaError::RootMissing { folder: folder.to_owned(), root: signing })?;
        Ok(Roots { trusted, signing })
    }
}

fn root_of(authority: &Authority) -> Result<record::Root, CaError> {
    let id = authority.fingerprint().root();
    let validity = authority.validity().ok_or(CaError::Undated(id))?;
    Ok(record::Root { id, made: validity.not_before + CLOCK_SKEW, ends: validity.not_after })
}

/// Certificate and key of a root that is not the first.
fn files(folder: &Path, root: RootId) -> [PathBuf; 2] {
    let name = root.to_string();
    let short = &name[..16];
    [folder.join(format!("ca-{short}.pem")), folder.join(format!("ca-{short}.key"))]
}

/// Where a root's files may be: under its fingerprint, or as the first.
fn places(folder: &Path, root: RootId) -> [[PathBuf; 2]; 2] {
    [files(folder, root), [folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE)]]
}

fn load_root(folder: &Path, cluster: ClusterId, root: RootId) -> Result<Authority, CaError> {
    for [certificate_file, key_file] in places(folder, root) {
        let Some(certificate) = read(&certificate_file)? else { continue };
        let Some(key) = read(&key_file)? else { continue };
        let authority = Authority::load(cluster, &certificate, &key)?;
        if authority.fingerprint().root() == root {
            return Ok(authority);
        }
    }
    Err(CaError::RootMissing { folder: folder.to_owned(), root })
}

/// The key goes first: it is what could do harm.
fn remove(folder: &Path, root: RootId) {
    for [certificate_file, key_file] in places(folder, root) {
        let is_it = |pem: String| {
            CertificateDer::from_pem_slice(pem.as_bytes()).is_ok_and(|der| Fingerprint::of(&der).root() == root)
        };
        if !read(&certificate_file).ok().flatten().is_some_and(is_it) {
            continue;
        }
        for path in [key_file, certificate_file] {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a file of a root that counts no more was not removed");
            }
        }
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
    fn the_roots_are_those_that_the_store_names_and_a_dropped_key_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::open(folder.path(), ClusterId(1)).expect("made");
        let (old, next) = (ca.root().expect("dated"), ca.make_next().expect("made"));
        let rotation = |stage| record::Authority {
            root: old.clone(),
            rotation: Some(record::Rotation {
                next: next.clone(),
                stage,
                begun: old.made,
                since: old.made,
                by: "a".into(),
            }),
        };
        let loads =
            |record: &record::Authority| Ca::load(folder.path(), ClusterId(1), record).expect("found").signing();
        for (stage, signing) in
            [(record::RotationStage::Announcing, old.id), (record::RotationStage::Reissuing, next.id)]
        {
            ca.follow(&rotation(stage)).expect("followed");
            assert_eq!((ca.signing(), ca.trusted().len()), (signing, 2));
            assert_eq!(loads(&rotation(stage)), signing, "and so after a restart");
        }
        let after = record::Authority { root: next.clone(), rotation: None };
        assert_eq!(loads(&after), next.id, "a start between the record and the files");
        ca.follow(&after).expect("followed");
        assert_eq!((ca.signing(), ca.trusted().len()), (next.id, 1));
        assert!(!folder.path().join(KEY_FILE).exists(), "the dropped key is gone");
        assert_eq!(loads(&after), next.id);
        let before = record::Authority { root: old, rotation: None };
        let told = Ca::load(folder.path(), ClusterId(1), &before).err().expect("a store from before the rotation");
        assert!(matches!(told, CaError::RootMissing { .. }), "{told}");
    }

    #[test]
    fn a_root_that_the_store_did_not_take_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::open(folder.path(), ClusterId(1)).expect("made");
        let made = ca.make_next().expect("made").id;
        ca.discard(made);
        ca.discard(ca.signing());
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|it| it.file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(folder.path().join(KEY_FILE).exists(), "the root that counts stays");
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
