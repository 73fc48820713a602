//! The master keys, and what is sealed with them.
//!
//! ```text
//! master.keys ── HKDF, a key for each scope ──▶ AES-256-GCM, bound to cluster, scope, kind, name and version
//! ```
//!
//! The records hold sealed bytes only. They are opened in two places: on a session's way to a node that runs a job with
//! them, and where somebody who may looks at a variable. The first key of the file seals; all of them open, so that the
//! key is replaced while everything runs.

use crate::ca::file::{OWNER_ONLY, replace};
use crate::engine::{CommandError, Engine, Unreadable};
use lapstrake_core::access::Author;
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::cluster::command::Command;
use lapstrake_core::cluster::state::Value;
use lapstrake_core::cluster::values::{Resealed, ValueCommand};
use lapstrake_core::ids::{ClusterId, ValueId};
use lapstrake_core::message::ControllerWord;
use lapstrake_core::values::{Body, Clear, GivenValue, Sealed, ValueKey};
use lapstrake_pki::seal::{KeyId, KeyRing, MasterKey, NotAKey, key_of};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{RwLock, RwLockReadGuard};

/// The file with the keys, in the state folder, unless the configuration names another.
pub const KEYS_FILE: &str = "master.keys";
/// Versions that one command seals again: a record of the longest value is 64 KiB, and a transaction takes 1 MiB.
const AT_ONCE: usize = 8;

/// Why the master keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file cannot be read or written.
    #[error("the master keys {path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what this version writes.
    #[error("the master keys {path} cannot be read")]
    Text {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: NotAKey,
    },
    /// The keys come from elsewhere, and one that is still needed is not among them.
    #[error(
        "{path} has no key {key} any more, which values are still sealed with; put it behind the new one until this has ended"
    )]
    Needed {
        /// The file.
        path: PathBuf,
        /// The key.
        key: KeyId,
    },
    /// The keys come from elsewhere, and no new one is among them.
    #[error("{0} has no new key in its first line; put one there before the others, and ask again")]
    NotNew(PathBuf),
    /// A command was not carried out.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// What became of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The key that seals now.
    pub key: KeyId,
    /// So many versions were sealed again.
    pub resealed: usize,
    /// What could not be opened, by name, and why.
    pub left: Vec<String>,
}

/// The keys, and what can be done with them.
#[derive(Debug)]
pub struct Vault {
    cluster: ClusterId,
    path: PathBuf,
    /// Whether the file is the controller's own to write.
    is_own: bool,
    ring: Mutex<Arc<KeyRing>>,
    /// Held for reading by whoever seals until what was sealed is stored, and for writing while the key changes.
    sealing: RwLock<()>,
    /// One rotation at a time.
    rotation: tokio::sync::Mutex<()>,
}

impl Vault {
    /// Reads the keys, or makes the first one. One that others keep, as in a credential of systemd, is only read.
    pub fn open(state_dir: &Path, elsewhere: Option<&Path>, cluster: ClusterId) -> Result<Vault, VaultError> {
        let own = state_dir.join(KEYS_FILE);
        let (path, is_own) = elsewhere.map_or((own.clone(), true), |path| (path.to_owned(), false));
        let ring = match std::fs::read_to_string(&path) {
            Ok(text) => ring_of(&path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_own => {
                let ring = KeyRing::new(MasterKey::generate(), Vec::new());
                write(&path, &ring)?;
                tracing::info!(file = %path.display(), "the master key was made; without it, a backup's secrets cannot be read");
                ring
            }
            Err(source) => return Err(VaultError::File { path, source }),
        };
        let (ring, sealing) = (Mutex::new(Arc::new(ring)), RwLock::new(()));
        Ok(Vault { cluster, path, is_own, ring, sealing, rotation: tokio::sync::Mutex::new(()) })
    }

    fn ring(&self) -> Arc<KeyRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that seals.
    pub fn current(&self) -> KeyId {
        self.ring().current()
    }

    fn use_ring(&self, ring: KeyRing) {
        *self.ring.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// To be held from before a value is sealed until its record is stored: the key does not change meanwhile.
    pub async fn sealing(&self) -> RwLockReadGuard<'_, ()> {
        self.sealing.read().await
    }

    /// Seals a version of a value, while `sealing` is held.
    pub fn seal(&self, key: &ValueKey, id: ValueId, clear: &[u8]) -> Sealed {
        Sealed::from(self.ring().seal(&key.scope.to_string(), &self.place(key, id), clear))
    }

    /// Opens a version of a value, or says why not.
    pub fn open_value(&self, key: &ValueKey, id: ValueId, sealed: &Sealed) -> Result<Clear, String> {
        let opened = self.ring().open(&key.scope.to_string(), &self.place(key, id), &sealed.0);
        opened.map(Clear).map_err(|error| error.to_string())
    }

    /// What a sealed value is bound to. Neither part has a line end.
    fn place(&self, key: &ValueKey, id: ValueId) -> String {
        format!("{}\n{key}\n{id}", self.cluster)
    }

    /// Opens what a word to a node holds: the last thing before it is sent. What cannot be opened is told so, and the rest
    /// goes its way.
    pub fn open_word(&self, word: ControllerWord) -> ControllerWord {
        match word {
            ControllerWord::Assignments(AssignmentSet {
                mut values,
                generation,
                stop_absent,
                assignments,
                kept_images,
            }) => {
                values.values_mut().for_each(|given| self.open_given(given));
                ControllerWord::Assignments(AssignmentSet { values, generation, stop_absent, assignments, kept_images })
            }
            ControllerWord::ResolveImage { request, image, mut login } => {
                if let Some((_, given)) = &mut login {
                    self.open_given(given);
                }
                ControllerWord::ResolveImage { request, image, login }
            }
            other => other,
        }
    }

    fn open_given(&self, given: &mut GivenValue) {
        let Body::Stored { key, version, sealed } = &given.body else { return };
        given.body = match self.open_value(key, *version, sealed) {
            Ok(clear) => Body::Clear(clear),
            Err(said) => {
                tracing::error!(value = given.called, said, "a value cannot be opened; jobs that need it cannot start");
                Body::Unreadable { said }
            }
        };
    }

    /// Puts a new key before the others, seals everything again, and forgets the others once nothing needs them. Sessions,
    /// jobs and deployments go on meanwhile. What a crash interrupts, the next start ends.
    pub async fn rotate(&self, engine: &Engine, author: Author) -> Result<Rotated, VaultError> {
        let _one = self.rotation.lock().await;
        let before = self.ring();
        let values = values(engine).await?;
        let next = if self.is_own {
            // Somebody may have put an old key back into the file, which is not forgotten before it was tried.
            let held = read(&self.path).map_or_else(|_| (*before).clone(), |file| file.opening_also(&before));
            let next = held.with_first(MasterKey::generate());
            write(&self.path, &next)?;
            next
        } else {
            let next = read(&self.path)?;
            if next.current() == before.current() {
                return Err(VaultError::NotNew(self.path.clone()));
            }
            // A crash in the middle would leave what is not sealed again yet without its key.
            let known = next.ids();
            if let Some(key) = keys_of(&values).find(|key| !known.contains(key) && before.ids().contains(key)) {
                return Err(VaultError::Needed { path: self.path.clone(), key });
            }
            next
        };
        {
            let _nobody = self.sealing.write().await;
            // What is sealed already and not stored yet is opened with the key of before.
            self.use_ring(next.opening_also(&before));
        }
        self.reseal(engine, author).await
    }

    /// At the start: says what cannot be opened, and ends what an interrupted rotation has left, which is nothing on almost
    /// every start.
    pub async fn begin(&self, engine: &Engine) -> Result<(), VaultError> {
        let _one = self.rotation.lock().await;
        let values = values(engine).await?;
        engine.unreadable(unreadable(self, &values));
        let (ring, current) = (self.ring(), self.ring().current());
        let waits = keys_of(&values).any(|key| key != current && ring.ids().contains(&key));
        if waits || (self.is_own && ring.ids().len() > 1) {
            let Rotated { key, resealed, .. } = self.reseal(engine, Author::Controller).await?;
            tracing::info!(%key, resealed, "the rotation of the master key was ended");
        }
        Ok(())
    }

    async fn reseal(&self, engine: &Engine, author: Author) -> Result<Rotated, VaultError> {
        let ring = self.ring();
        let key = ring.current();
        let values = values(engine).await?;
        let (mut versions, mut left) = (Vec::new(), Vec::new());
        for (called, value) in &values {
            for version in value.versions.iter().filter(|version| key_of(&version.body.0) != Some(key)) {
                match self.open_value(&value.key, version.id, &version.body) {
                    Ok(clear) => versions.push(Resealed {
                        key: value.key.clone(),
                        id: version.id,
                        before: version.body.clone(),
                        after: self.seal(&value.key, version.id, &clear.0),
                    }),
                    Err(said) => {
                        tracing::error!(value = called, version = version.number, said, "a value was not sealed again");
                        left.push(format!("{called} (v{}): {said}", version.number));
                    }
                }
            }
        }
        let resealed = versions.len();
        // That somebody asked for it is in the audit before it begins: the request is a command of its own.
        for chunk in versions.chunks(AT_ONCE) {
            let command = Command::Value(ValueCommand::Reseal { versions: chunk.to_vec() });
            engine.command(command, author.clone()).await?;
        }
        engine.unreadable(unreadable(self, &self::values(engine).await?));
        // What could not be opened with any key is not helped by an old one. In memory the old keys stay until the process
        // ends: what was on its way to a slow node before is still sealed with them.
        if self.is_own {
            write(&self.path, &ring.only_current())?;
        }
        Ok(Rotated { key, resealed, left })
    }
}

/// What cannot be opened with the keys that there are.
fn unreadable(vault: &Vault, values: &[(String, Value)]) -> Unreadable {
    let mut unreadable = Unreadable::new();
    for (called, value) in values {
        for version in &value.versions {
            if let Err(said) = vault.open_value(&value.key, version.id, &version.body) {
                tracing::error!(value = called, version = version.number, said, "a value cannot be opened");
                unreadable.insert((value.key.clone(), version.id), said);
            }
        }
    }
    unreadable
}

/// All values, with what people call them.
async fn values(engine: &Engine) -> Result<Vec<(String, Value)>, CommandError> {
    let look = engine.look(|look| {
        let cluster = look.cluster;
        cluster.all::<Value>().map(|value| (cluster.value_called(&value.key), value.clone())).collect()
    });
    look.await
}

/// The keys that values are sealed with.
fn keys_of(values: &[(String, Value)]) -> impl Iterator<Item = KeyId> {
    values.iter().flat_map(|(_, value)| &value.versions).filter_map(|version| key_of(&version.body.0))
}

fn ring_of(path: &Path, text: &str) -> Result<KeyRing, VaultError> {
    KeyRing::from_text(text).map_err(|source| VaultError::Text { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<KeyRing, VaultError> {
    let text = std::fs::read_to_string(path).map_err(|source| VaultError::File { path: path.to_owned(), source })?;
    ring_of(path, &text)
}

fn write(path: &Path, ring: &KeyRing) -> Result<(), VaultError> {
    replace(path, ring.to_text().as_bytes(), OWNER_ONLY)
        .map_err(|source| VaultError::File { path: path.to_owned(), source })
}
