//! The ledger on disk: the agent's memory over its own death.
//!
//! One file, replaced whole. The secrets and variables of jobs are in it as the vault sealed them, never in the clear: a
//! ledger with an open value cannot be written. What a spec itself writes out is in it as it stands, so only root may read
//! it.

use crate::durable;
use lapstrake_core::node::ledger::{LEDGER_FORMAT, Ledger};
use serde::Deserialize;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a ledger cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The folder, the lock or the file cannot be used.
    #[error("{path} cannot be used")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent has the folder.
    #[error("another agent runs on {0}")]
    Locked(PathBuf),
    /// A newer agent wrote it; this one could lose what it does not understand.
    #[error(
        "the ledger {path} has format {found}, this agent knows up to {LEDGER_FORMAT}: install the newer agent again"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It cannot be put into text.
    #[error("the ledger cannot be serialized")]
    Unserializable(#[source] serde_json::Error),
}

/// What was found at the start.
#[derive(Debug)]
pub enum Found {
    /// A whole ledger.
    Whole(Box<Ledger>),
    /// None: the node's first start.
    Nothing,
    /// A file that is no ledger; it was put aside. The agent starts from an empty ledger, which stops nothing, and adopts
    /// what runs by its labels.
    Corrupt {
        /// Where the file is now.
        kept: PathBuf,
        /// What is wrong with it.
        said: String,
    },
}

/// The ledger's place. While this lives, no second agent can have it.
#[derive(Debug)]
pub struct LedgerFile {
    path: PathBuf,
    _lock: File,
}

/// Read before the rest, which an older reader may not understand.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl LedgerFile {
    /// Takes the folder for this process and reads what is there.
    pub fn open(state_dir: &Path) -> Result<(Self, Found), LedgerError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| LedgerError::Unusable { path, source }
        };
        std::fs::create_dir_all(state_dir).map_err(unusable(state_dir))?;
        let lock_path = state_dir.join("agent.lock");
        let lock = File::create(&lock_path).map_err(unusable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Locked(state_dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(LedgerError::Unusable { path: lock_path, source }),
        }
        let file = LedgerFile { path: state_dir.join("ledger.json"), _lock: lock };
        let found = file.read()?;
        Ok((file, found))
    }

    fn read(&self) -> Result<Found, LedgerError> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(source) => return Err(LedgerError::Unusable { path: self.path.clone(), source }),
        };
        match serde_json::from_slice::<Format>(&text) {
            Ok(Format { format }) if format > LEDGER_FORMAT => {
                return Err(LedgerError::Newer { path: self.path.clone(), found: format });
            }
            Ok(_) => {}
            Err(error) => return self.put_aside(&error),
        }
        match serde_json::from_slice(&text) {
            Ok(ledger) => Ok(Found::Whole(Box::new(ledger))),
            Err(error) => self.put_aside(&error),
        }
    }

    fn put_aside(&self, error: &serde_json::Error) -> Result<Found, LedgerError> {
        let free = (1..).map(|n| self.path.with_file_name(format!("ledger.corrupt-{n}"))).find(|path| !path.exists());
        let kept = free.unwrap_or_else(|| self.path.with_file_name("ledger.corrupt"));
        match std::fs::rename(&self.path, &kept) {
            Ok(()) => Ok(Found::Corrupt { kept, said: error.to_string() }),
            Err(source) => Err(LedgerError::Unusable { path: self.path.clone(), source }),
        }
    }

    /// Writes it. When this returns, a crash does not lose it; when it fails, the old one is still there.
    pub fn write(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        let text = serde_json::to_vec(ledger).map_err(LedgerError::Unserializable)?;
        lapstrake_crash::point("ledger.before-write");
        durable::replace(&self.path, &text, 0o600, || lapstrake_crash::point("ledger.before-rename"))
            .map_err(|source| LedgerError::Unusable { path: self.path.clone(), source })?;
        lapstrake_crash::point("ledger.after-write");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::ids::{BootId, ClusterId, NodeId};
    use lapstrake_core::node::seen::NodeConfig;
    use lapstrake_core::time::Millis;
    use std::os::unix::fs::PermissionsExt;

    fn ledger() -> Ledger {
        let pool = std::net::Ipv4Addr::new(10, 201, 0, 0);
        let config = NodeConfig { name: "n1".into(), pool, pool_prefix: 16, subnet_prefix: 24, keep_images: Millis(0) };
        Ledger::new(ClusterId(1), NodeId(2), BootId(3), &config)
    }

    #[test]
    fn a_written_ledger_is_read_back_and_only_root_may_read_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, found) = LedgerFile::open(dir.path()).expect("opened");
        assert!(matches!(found, Found::Nothing));
        file.write(&ledger()).expect("written");
        drop(file);
        let (file, found) = LedgerFile::open(dir.path()).expect("opened");
        assert!(matches!(found, Found::Whole(read) if *read == ledger()));
        assert_eq!(std::fs::metadata(&file.path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_ledger_is_kept_aside_and_the_agent_starts() {
        let dir = tempfile::tempdir().expect("a folder");
        for n in 1..=2 {
            std::fs::write(dir.path().join("ledger.json"), "{\"format\":1,\"clus").expect("torn");
            let (_file, found) = LedgerFile::open(dir.path()).expect("opened");
            let Found::Corrupt { kept, .. } = found else { panic!("{found:?}") };
            assert_eq!(kept, dir.path().join(format!("ledger.corrupt-{n}")));
            assert!(kept.exists() && !dir.path().join("ledger.json").exists());
        }
    }

    #[test]
    fn a_newer_agents_ledger_is_not_touched() {
        let dir = tempfile::tempdir().expect("a folder");
        let text = "{\"format\":99,\"something\":\"new\"}";
        std::fs::write(dir.path().join("ledger.json"), text).expect("written");
        let error = LedgerFile::open(dir.path()).expect_err("refused");
        assert!(matches!(error, LedgerError::Newer { found: 99, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join("ledger.json")).expect("there"), text);
    }

    #[test]
    fn a_second_agent_on_the_same_folder_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let (_first, _) = LedgerFile::open(dir.path()).expect("opened");
        assert!(matches!(LedgerFile::open(dir.path()), Err(LedgerError::Locked(_))));
    }
}
