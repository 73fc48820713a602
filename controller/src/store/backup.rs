//! Backups of the store, and what a restored one is.
//!
//! A backup is older than the cluster. What was created since runs on the nodes, and the restored store knows nothing of it.
//! So restoring mints an epoch, which makes its sets newer than any of before, and leaves a mark beside the store: as long as
//! it is there, nodes are told to stop nothing only because a set does not name it. An operator looks and takes it away, which
//! mints another epoch.

use super::sqlite::{failed, known_format, lock_beside};
use super::{StoreError, sqlite};
use lapstrake_core::cluster::Record;
use lapstrake_core::ids::EpochId;
use lapstrake_pki::mint;
use rusqlite::{Connection, OpenFlags, params};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why there is no backup, or no restored store.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error("{path} cannot be {done}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        done: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is a database of something else.
    #[error("{0} is no store of a cluster: it does not say which")]
    NotAStore(PathBuf),
    /// There is nothing to accept.
    #[error("the store was not restored, or that was accepted already")]
    NotRestored,
}

/// Beside the store of a controller that stops nothing yet.
fn mark(store: &Path) -> PathBuf {
    beside(store, ".restored")
}

fn beside(store: &Path, end: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Whether this store was restored and nobody has looked at what the nodes have beyond it.
pub(super) fn is_restored(store: &Path) -> bool {
    // Nobody stops anything on the word of a folder that cannot be read.
    mark(store).try_exists().unwrap_or(true)
}

/// Copies the store into a new file for its owner alone, also while a controller uses it.
pub fn backup(store: &Path, to: &Path) -> Result<(), BackupError> {
    let source = read_only(store)?;
    known_format(&source, store)?;
    copy(&source, to)
}

/// Puts a backup in the place of the store, which no controller may use meanwhile; what was there stays beside it.
pub fn restore(from: &Path, store: &Path) -> Result<(), BackupError> {
    let _lock = lock_beside(store)?;
    let source = read_only(from)?;
    known_format(&source, from)?;
    let fresh = beside(store, ".restoring");
    remove(&fresh)?;
    copy(&source, &fresh)?;
    drop(source);
    mint_epoch(&fresh)?;
    give_to_the_folders_owner(&fresh)?;
    // The mark comes first: a crash after it leaves a controller that stops nothing, never one that stops too much.
    let marked = mark(store);
    let made = File::create(&marked).and_then(|file| file.sync_all());
    made.map_err(|source| BackupError::File { path: marked.clone(), done: "made", source })?;
    give_to_the_folders_owner(&marked)?;
    give_to_the_folders_owner(&beside(store, ".lock"))?;
    // The newest changes may be in the log beside the store; in it, they stay with it whatever happens next.
    if store.exists() {
        let opening = |source| StoreError::Open { path: store.into(), source };
        let old = Connection::open(store).map_err(opening)?;
        old.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(opening)?;
        old.close().map_err(|(_, source)| sqlite::failed("be closed")(source))?;
    }
    let aside = beside(store, &format!(".before-{}", mint::wall().0));
    for end in ["-wal", "-shm"] {
        rename(&beside(store, end), &beside(&aside, end))?;
    }
    // With two names the old one is never missing: without any store a controller would begin a new cluster.
    match std::fs::hard_link(store, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(BackupError::File { path: aside, done: "made", source: error });
        }
        _ => {}
    }
    let moved = std::fs::rename(&fresh, store);
    moved.map_err(|source| BackupError::File { path: fresh, done: "moved", source })?;
    sync_folder(store)
}

/// From the next start on nodes stop what the restored store does not name.
pub fn accept_restored(store: &Path) -> Result<(), BackupError> {
    let _lock = lock_beside(store)?;
    if !is_restored(store) {
        return Err(BackupError::NotRestored);
    }
    mint_epoch(store)?;
    remove(&mark(store))?;
    sync_folder(store)
}

fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    opened.map_err(|source| StoreError::Open { path: path.into(), source })
}

fn copy(source: &Connection, to: &Path) -> Result<(), BackupError> {
    let file = |source| BackupError::File { path: to.into(), done: "made", source };
    // SQLite takes an empty file for a new one; made here, nobody else can read it from the first moment on.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(file)?;
    // By its whole name, which SQLite takes for nothing else than a file's.
    let whole = std::fs::canonicalize(to).map_err(file)?;
    let name = whole.to_str().ok_or_else(|| file(io::Error::other("its name is not UTF-8")));
    let copied = name.and_then(|name| Ok(source.execute("VACUUM INTO ?1", [name]).map_err(failed("be copied"))?));
    let done = copied.and_then(|_| made.sync_all().map_err(file));
    done.inspect_err(|_| {
        let _ = std::fs::remove_file(to);
    })?;
    sync_folder(to)
}

/// Gives a store that nobody uses another epoch.
fn mint_epoch(path: &Path) -> Result<(), BackupError> {
    let opening = |source| StoreError::Open { path: path.into(), source };
    let writing = failed("take a new epoch");
    let mut connection = Connection::open(path).map_err(opening)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(opening)?;
    let transaction = connection.transaction().map_err(&writing)?;
    let found = transaction.query_row("SELECT key, value FROM state WHERE key LIKE 'meta/%'", [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    });
    let not_a_store = || BackupError::NotAStore(path.into());
    let (key, value) = found.map_err(|_| not_a_store())?;
    let Ok(Record::Meta(mut meta)) = serde_json::from_str(&value) else { return Err(not_a_store()) };
    meta.epoch = EpochId(mint::id());
    let value = serde_json::to_string(&Record::Meta(meta)).map_err(|_| not_a_store())?;
    transaction
        .execute(
            "UPDATE state SET value = ?1, change = (SELECT max(change) + 1 FROM state) WHERE key = ?2",
            params![value, key],
        )
        .map_err(&writing)?;
    transaction.commit().map_err(&writing)?;
    connection.close().map_err(|(_, source)| sqlite::failed("be closed")(source))?;
    Ok(())
}

/// Who restores is root more often than the controller is.
fn give_to_the_folders_owner(path: &Path) -> Result<(), BackupError> {
    let owner = std::fs::metadata(folder_of(path));
    let given = owner.and_then(|owner| std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())));
    given.map_err(|source| BackupError::File { path: path.into(), done: "given to the owner of its folder", source })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn rename(from: &Path, to: &Path) -> Result<(), BackupError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::File { path: from.into(), done: "moved", source: error })
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::File { path: path.into(), done: "removed", source: error })
        }
        _ => Ok(()),
    }
}

fn sync_folder(of: &Path) -> Result<(), BackupError> {
    let folder = folder_of(of);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| BackupError::File { path: folder.into(), done: "made durable", source })
}
