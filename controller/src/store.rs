//! What was acknowledged, on disk.
//!
//! State is rows of (key, versioned message, change number). The engine is the only writer; it hands over a batch of
//! changes and events, and nothing of it is answered or sent before `commit` returned. Readers of the event log have a
//! connection of their own and never hold the writer up. So have readers of the audit, which is a log too.
//!
//! One small trait would stand between this and a second store; with only one, the type itself is the interface: `load`,
//! `commit`, `events`.

mod audit;
mod backup;
mod sqlite;

pub use audit::{AuditFilter, AuditRow};
pub use backup::{BackupError, accept_restored, backup, restore};
use lapstrake_core::audit::Entry;
pub use sqlite::{EventLog, Store};

/// One row that changes. `value` is the record's JSON; none removes the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// For example `service/01…`.
    pub key: String,
    /// The record.
    pub value: Option<String>,
}

/// One row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// For example `service/01…`.
    pub key: String,
    /// The record.
    pub value: String,
    /// The number of the batch that wrote it.
    pub change: u64,
}

/// One event to append, without the number that the store gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// A word.
    pub kind: String,
    /// A path or a name.
    pub subject: String,
    /// The sentence.
    pub text: String,
    /// Who did it; none for what the controller did by itself.
    pub by: Option<String>,
}

/// What is made durable at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Rows of state, each at most once.
    pub changes: Vec<Change>,
    /// What happened, oldest first.
    pub events: Vec<NewEvent>,
    /// Who tried what, oldest first.
    pub audit: Vec<Entry>,
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.events.is_empty() && self.audit.is_empty()
    }
}

/// The largest batch in changes, so that a store with a limit per transaction (etcd: 128 operations) can take it too.
pub const BATCH_CHANGES: usize = 100;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or is no database.
    #[error("the store {path} cannot be opened")]
    Open {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The store was written by a newer version.
    #[error(
        "the store {path} has format {found}; this version reads up to {known}: install the version that wrote it, or a newer one"
    )]
    Newer {
        /// Which.
        path: std::path::PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another controller holds it.
    #[error("another controller is using the store {path}")]
    InUse {
        /// Which.
        path: std::path::PathBuf,
    },
    /// A statement failed: the disk is full, the file is damaged.
    #[error("the store cannot {what}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}
