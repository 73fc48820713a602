//! Who this node is in its cluster: what joining wrote and every start reads.

use lapstrake_core::ids::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file's name in the state folder.
const FILE: &str = "identity.json";

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster that the join token belonged to.
    pub cluster: ClusterId,
    /// The id that the controller gave.
    pub node: NodeId,
    /// The name that the controller knows the node by.
    pub name: String,
    /// Where the controller's agents' port is: `host:port`.
    pub controller: String,
}

/// Why the node does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It never joined.
    #[error(
        "this node has not joined a cluster ({0} does not exist); run: lapstrake-agent join TOKEN --controller HOST:PORT"
    )]
    NotJoined(PathBuf),
    /// The file cannot be read or written.
    #[error("{path} cannot be used")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} does not hold a node's identity")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Identity {
    /// Where it is kept.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(FILE)
    }

    /// What joining wrote into this state folder.
    pub fn load(state_dir: &Path) -> Result<Self, IdentityError> {
        let path = state_dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(IdentityError::NotJoined(path)),
            Err(source) => return Err(IdentityError::Unusable { path, source }),
        };
        serde_json::from_slice(&text).map_err(|source| IdentityError::Malformed { path, source })
    }

    /// Writes it. When this returns, a crash does not lose it.
    pub fn store(&self, state_dir: &Path) -> Result<(), IdentityError> {
        let path = state_dir.join(FILE);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| IdentityError::Malformed { path: path.clone(), source })?;
        crate::durable::replace(&path, &text, 0o600, || ()).map_err(|source| IdentityError::Unusable { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_and_a_node_without_one_is_told_to_join() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = Identity::load(dir.path()).expect_err("nothing is there");
        assert!(error.to_string().contains("lapstrake-agent join"), "{error}");
        let identity = Identity {
            cluster: ClusterId(1),
            node: NodeId(2),
            name: "n1".into(),
            controller: "c.example.com:7443".into(),
        };
        identity.store(dir.path()).expect("stored");
        assert_eq!(Identity::load(dir.path()).expect("loaded"), identity);
    }
}
