//! The node's own seal: no value is at rest here in the clear.
//!
//! A value comes in the clear through the session's TLS and is sealed before anything else happens to it. The ledger holds
//! it sealed, and it is opened when a container is made or an image is pulled. What is authenticated with it is whose it
//! is: the cluster, the node and the version, so that a ledger's sealed bodies cannot be exchanged.

use crate::durable;
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::ids::{ClusterId, NodeId, ValueId};
use lapstrake_core::node::ledger::Ledger;
use lapstrake_core::values::{Body, Clear, GivenValue, Sealed};
use lapstrake_pki::seal::{KeyRing, MasterKey, NotAKey};
use std::io;
use std::path::{Path, PathBuf};

/// The key's file in the state folder.
const FILE: &str = "seal.key";
/// Derived keys of the node differ from those of the controller's environments, should somebody use one key for both.
const DOMAIN: &str = "node";
/// So many values are named when several cannot be read.
const NAMED: usize = 3;

/// Seals and opens the values of one node.
pub struct Vault {
    cluster: ClusterId,
    node: NodeId,
    /// Or why there is none.
    keys: Result<KeyRing, String>,
}

impl Vault {
    /// The vault of this node. Without `elsewhere` the key lies in the state folder, which the caller has locked, and is
    /// made there when there is none. A key that cannot be used is no reason not to start: what runs needs no value.
    pub fn open(cluster: ClusterId, node: NodeId, state_dir: &Path, elsewhere: &Path) -> Vault {
        let keys = if elsewhere.as_os_str().is_empty() { own(&state_dir.join(FILE)) } else { given(elsewhere) };
        Vault { cluster, node, keys }
    }

    /// Why nothing can be sealed or opened here, if it is so: a sentence for the node's troubles.
    pub fn trouble(&self) -> Option<String> {
        self.keys.as_ref().err().map(|why| format!("this node can neither keep nor read secrets and variables: {why}"))
    }

    /// Seals what a set brings in the clear. Afterwards nothing in it is clear.
    pub fn seal_set(&self, set: &mut AssignmentSet) {
        for (id, value) in &mut set.values {
            if let Body::Clear(clear) = &value.body {
                value.body = match &self.keys {
                    Ok(keys) => Body::Sealed(Sealed::from(keys.seal(DOMAIN, &self.place(*id), &clear.0))),
                    Err(why) => Body::Unreadable { said: format!("this node cannot keep it: {why}") },
                };
            }
        }
    }

    /// What a value is, or a sentence that names it and says why that is not known.
    pub fn open_value(&self, id: ValueId, value: &GivenValue) -> Result<Clear, String> {
        self.opened(id, &value.body).map_err(|why| format!("{} cannot be read: {why}", value.called))
    }

    fn opened(&self, id: ValueId, body: &Body) -> Result<Clear, String> {
        match body {
            Body::Clear(clear) => Ok(clear.clone()),
            Body::Unreadable { said } => Err(said.clone()),
            // Never sent: the wire has no word for it.
            Body::Stored { .. } => Err("it is sealed under the controller's key".into()),
            Body::Sealed(Sealed(sealed)) => {
                let keys = self.keys.as_ref().map_err(Clone::clone)?;
                keys.open(DOMAIN, &self.place(id), sealed).map(Clear).map_err(|error| error.to_string())
            }
        }
    }

    /// Marks the values of a ledger from the disk that this node's key does not open, with the reason: such a value counts
    /// as not held, so that the next set brings it anew. Values in the clear are no ledger's.
    pub fn mark_unreadable(&self, ledger: &mut Ledger) {
        // A key that is not there now may be back with the next start; what was sealed with it is worth keeping.
        if self.keys.is_err() {
            return;
        }
        for (id, value) in &mut ledger.values {
            if let Err(said) = self.opened(*id, &value.body) {
                value.body = Body::Unreadable { said };
            }
        }
    }

    fn place(&self, id: ValueId) -> String {
        format!("{}/{}/{id}", self.cluster, self.node)
    }
}

/// A sentence about the values of a ledger that nobody can open; `None` when there are none.
pub fn unreadable(ledger: &Ledger) -> Option<String> {
    let sentences = ledger.values.values().filter_map(|value| match &value.body {
        Body::Unreadable { said } => Some(format!("{} cannot be read: {said}", value.called)),
        Body::Sealed(_) | Body::Clear(_) | Body::Stored { .. } => None,
    });
    let mut sentences: Vec<String> = sentences.collect();
    let more = sentences.len().saturating_sub(NAMED);
    sentences.truncate(NAMED);
    if more > 0 {
        sentences.push(format!("and so it is with {more} more"));
    }
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

/// The key that the operator gives.
fn given(path: &Path) -> Result<KeyRing, String> {
    let said = |why: &dyn std::fmt::Display| format!("the key {} cannot be used: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| said(&error))?;
    KeyRing::from_text(&text).map_err(|error| said(&error))
}

/// The key that the agent made, or a new one. A file that is no key is kept aside: what was sealed under it comes again
/// from the controller.
fn own(path: &Path) -> Result<KeyRing, String> {
    match std::fs::read(path) {
        Ok(bytes) => match KeyRing::from_text(&String::from_utf8_lossy(&bytes)) {
            Ok(keys) => return Ok(keys),
            // The next program knows it again.
            Err(error) if is_newer(&error) => return Err(unusable(path, &error)),
            Err(error) => {
                let kept = put_aside(path).map_err(|error| unusable(path, &error))?;
                tracing::warn!(%error, kept = %kept.display(), "this node's key could not be read; a new one is made");
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(path, &error)),
    }
    let keys = KeyRing::new(MasterKey::generate(), Vec::new());
    durable::replace(path, keys.to_text().as_bytes(), 0o600, || ()).map_err(|error| unusable(path, &error))?;
    tracing::info!(key = %keys.current(), "this node has a new key for its secrets");
    Ok(keys)
}

fn is_newer(error: &NotAKey) -> bool {
    match error {
        NotAKey::Newer => true,
        NotAKey::Line { why, .. } => is_newer(why),
        NotAKey::Form | NotAKey::Altered | NotAKey::Empty => false,
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("the key {} cannot be used: {error}", path.display())
}

fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let free = (1..).map(|n| path.with_file_name(format!("{FILE}.broken-{n}"))).find(|path| !path.exists());
    let kept = free.unwrap_or_else(|| path.with_file_name(format!("{FILE}.broken")));
    std::fs::rename(path, &kept).map(|()| kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::assignment::Generation;
    use lapstrake_core::ids::{BootId, EpochId};
    use lapstrake_core::node::seen::NodeConfig;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    const ID: ValueId = ValueId(9);

    fn vault(dir: &Path) -> Vault {
        Vault::open(ClusterId(1), NodeId(2), dir, Path::new(""))
    }

    fn value(body: Body) -> GivenValue {
        GivenValue { called: "the secret api-key of shop/production".into(), body }
    }

    fn sealed(vault: &Vault, text: &str) -> GivenValue {
        let values = BTreeMap::from([(ID, value(Body::Clear(Clear(text.into()))))]);
        let generation = Generation { epoch: EpochId(1), number: 1 };
        let mut set =
            AssignmentSet { generation, stop_absent: true, assignments: Vec::new(), values, kept_images: None };
        vault.seal_set(&mut set);
        set.values.remove(&ID).expect("still there")
    }

    #[test]
    fn a_value_is_sealed_when_it_comes_and_opened_by_the_next_start() {
        let dir = tempfile::tempdir().expect("a folder");
        let held = sealed(&vault(dir.path()), "hunter2");
        assert!(matches!(&held.body, Body::Sealed(Sealed(bytes)) if !bytes.windows(7).any(|at| at == b"hunter2")));
        assert_eq!(vault(dir.path()).open_value(ID, &held), Ok(Clear(b"hunter2".to_vec())));
        let mode = std::fs::metadata(dir.path().join(FILE)).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_value_opens_neither_as_another_one_nor_on_another_node() {
        let dir = tempfile::tempdir().expect("a folder");
        let held = sealed(&vault(dir.path()), "hunter2");
        let error = vault(dir.path()).open_value(ValueId(10), &held).expect_err("another version");
        assert!(error.starts_with("the secret api-key of shop/production cannot be read: "), "{error}");
        let other = Vault::open(ClusterId(1), NodeId(3), dir.path(), Path::new(""));
        other.open_value(ID, &held).expect_err("another node");
    }

    #[test]
    fn a_broken_key_is_kept_aside_and_a_new_one_made() {
        let dir = tempfile::tempdir().expect("a folder");
        let held = sealed(&vault(dir.path()), "hunter2");
        std::fs::write(dir.path().join(FILE), "lapk1_torn").expect("written");
        let next = vault(dir.path());
        assert_eq!(next.trouble(), None);
        let error = next.open_value(ID, &held).expect_err("another key");
        assert!(error.contains("which is not here"), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join("seal.key.broken-1")).expect("kept"), "lapk1_torn");
        next.open_value(ID, &sealed(&next, "again")).expect("the new key works");
    }

    #[test]
    fn a_key_of_the_operators_is_never_made_and_without_it_values_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("credential");
        let open = || Vault::open(ClusterId(1), NodeId(2), dir.path(), &path);
        let without = open();
        assert!(without.trouble().is_some_and(|said| said.contains("credential")), "{:?}", without.trouble());
        let refused = sealed(&without, "hunter2");
        assert!(matches!(&refused.body, Body::Unreadable { said } if !said.contains("hunter2")), "{refused:?}");
        assert!(!path.exists() && !dir.path().join(FILE).exists());
        std::fs::write(&path, format!("# of the vault\n{}\n", MasterKey::generate().to_text())).expect("written");
        open().open_value(ID, &sealed(&open(), "hunter2")).expect("one key, two starts");
    }

    #[test]
    fn a_key_that_is_away_for_one_start_costs_no_value() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("credential");
        let open = || Vault::open(ClusterId(1), NodeId(2), dir.path(), &path);
        let key = MasterKey::generate().to_text();
        std::fs::write(&path, &key).expect("written");
        let config = NodeConfig {
            name: "n".into(),
            pool: [10, 0, 0, 0].into(),
            pool_prefix: 16,
            subnet_prefix: 24,
            keep_images: lapstrake_core::time::Millis(0),
        };
        let mut ledger = Ledger::new(ClusterId(1), NodeId(2), BootId(1), &config);
        ledger.values.insert(ID, sealed(&open(), "hunter2"));
        let held = ledger.clone();
        std::fs::remove_file(&path).expect("away");
        open().mark_unreadable(&mut ledger);
        assert_eq!(ledger, held, "it may be back with the next start");
        std::fs::write(&path, &key).expect("back");
        open().mark_unreadable(&mut ledger);
        assert_eq!(open().open_value(ID, &ledger.values[&ID]), Ok(Clear(b"hunter2".to_vec())));
        // Another key in its place is another matter: that value has to come again.
        std::fs::write(&path, MasterKey::generate().to_text()).expect("another");
        open().mark_unreadable(&mut ledger);
        assert!(matches!(ledger.values[&ID].body, Body::Unreadable { .. }));
    }

    #[test]
    fn a_key_of_a_newer_agent_is_left_where_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(FILE), "lapk2_x").expect("written");
        assert!(vault(dir.path()).trouble().is_some_and(|said| said.contains("newer")));
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).expect("there"), "lapk2_x");
    }
}
