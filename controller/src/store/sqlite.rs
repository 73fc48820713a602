//! The store in one SQLite file.

use super::audit::{self, AuditFilter, AuditRow};
use super::{Batch, Row, StoreError};
use lapstrake_core::audit::Link;
use lapstrake_pki::token::SecretHash;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// What each version of the tables adds to the one before, the first one first. A file of an older version gets what it
/// lacks; one of a newer version is refused.
const FORMATS: [&str; 2] = [TABLES, audit::TABLES];

/// A commit drops at most so many events that are too old: more than a usual one brings, and little enough work.
const EVENTS_DROPPED: u32 = 200;

const TABLES: &str = "
    CREATE TABLE state (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL,
        change INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE event (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        text TEXT NOT NULL,
        actor TEXT
    ) STRICT;
    CREATE INDEX event_subject ON event (subject, number);
";

/// The writer's connection. One exists per file; a lock beside the file keeps a second process out.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    newest: u64,
    /// The end of the audit's chain; none until it is known whose chain it is.
    head: Option<Link>,
    /// So many events are kept.
    events_kept: u64,
    /// It was restored, and what nodes have beyond it was not looked at.
    restored: bool,
    /// Held for the life of the process.
    _lock: File,
}

pub(super) fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Failed { what, source }
}

impl Store {
    /// Opens the file, makes it when it is absent, and keeps it for this process alone.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let opening = |source| StoreError::Open { path: path.into(), source };
        let lock = lock_beside(path)?;
        let mut connection = Connection::open(path).map_err(opening)?;
        // FULL: a commit that returned survives a power cut. WAL: readers do not hold the writer up.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(opening)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(opening)?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(opening)?;
        let known = FORMATS.len();
        let newer = || StoreError::Newer { path: path.into(), found, known: known as i64 };
        let had = usize::try_from(found).ok().filter(|had| *had <= known).ok_or_else(newer)?;
        if had < known {
            let transaction = connection.transaction().map_err(opening)?;
            for lacking in &FORMATS[had..] {
                transaction.execute_batch(lacking).map_err(opening)?;
            }
            transaction.pragma_update(None, "user_version", known as i64).map_err(opening)?;
            transaction.commit().map_err(opening)?;
        }
        let newest: i64 = connection
            .query_row("SELECT coalesce(max(change), 0) FROM state", [], |row| row.get(0))
            .map_err(failed("be read"))?;
        let head = audit::head(&connection).map_err(failed("be read"))?;
        let (path, newest) = (PathBuf::from(path), newest as u64);
        let restored = super::backup::is_restored(&path);
        Ok(Store { connection, path, newest, head, events_kept: u64::MAX, restored, _lock: lock })
    }

    /// Whether it was restored from a backup and an operator has not accepted yet that nodes stop what it does not name.
    pub fn is_restored(&self) -> bool {
        self.restored
    }

    /// Keeps only so many events from now on; older ones go a few at a time, with the commits that bring newer ones.
    pub fn keeping_events(self, events_kept: u64) -> Store {
        Store { events_kept, ..self }
    }

    /// Every row, by key.
    pub fn load(&self) -> Result<Vec<Row>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT key, value, change FROM state ORDER BY key").map_err(failed("be read"))?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Row { key: row.get(0)?, value: row.get(1)?, change: row.get::<_, i64>(2)? as u64 })
        };
        let rows = statement.query_map([], row).map_err(failed("be read"))?;
        rows.collect::<Result<_, _>>().map_err(failed("be read"))
    }

    /// The newest change number of any row; 0 of a new store.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Says where the audit's chain begins, if it has not begun.
    pub fn audit_begins(&mut self, beginning: Link) {
        self.head.get_or_insert(beginning);
    }

    /// Makes all of it durable, or nothing. Returns the number of the last event written, if there is one.
    pub fn commit(&mut self, batch: &Batch) -> Result<Option<u64>, StoreError> {
        // Counted as the records in memory count, which know a change's number before it is stored.
        let number = self.newest + u64::from(!batch.changes.is_empty());
        let written = write(&mut self.connection, number as i64, self.head, batch, self.events_kept);
        let (last, head) = written.map_err(failed("take a change"))?;
        self.newest = number;
        self.head = head;
        if let Some(Link { number, hash }) = head.filter(|_| !batch.audit.is_empty()) {
            // Once more, where whoever can write the file cannot: in the machine's log.
            tracing::info!(number, hash = SecretHash(hash).to_hex(), "the audit's head");
        }
        Ok(last)
    }

    /// A reader of the event log of this store.
    pub fn event_log(&self) -> Result<EventLog, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)
            .map_err(|source| StoreError::Open { path: self.path.clone(), source })?;
        Ok(EventLog { connection })
    }
}

fn write(
    connection: &mut Connection,
    number: i64,
    head: Option<Link>,
    batch: &Batch,
    events_kept: u64,
) -> rusqlite::Result<(Option<u64>, Option<Link>)> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT INTO state (key, value, change) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, change = excluded.change",
        )?;
        let mut remove = transaction.prepare_cached("DELETE FROM state WHERE key = ?1")?;
        for change in &batch.changes {
            match &change.value {
                Some(value) => put.execute(params![change.key, value, number])?,
                None => remove.execute(params![change.key])?,
            };
        }
        let mut append = transaction
            .prepare_cached("INSERT INTO event (at_ms, kind, subject, text, actor) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for event in &batch.events {
            append.execute(params![event.at_ms as i64, event.kind, event.subject, event.text, event.by])?;
        }
    }
    let last = (!batch.events.is_empty()).then(|| transaction.last_insert_rowid() as u64);
    let head = match head {
        _ if batch.audit.is_empty() => head,
        Some(head) => Some(audit::append(&transaction, head, &batch.audit)?),
        // What is not known to belong to a cluster has no chain yet, and must not go without one.
        None => return Err(rusqlite::Error::InvalidQuery),
    };
    if let Some(oldest) = last.and_then(|last| i64::try_from(last.checked_sub(events_kept)?).ok()) {
        transaction
            .prepare_cached(
                "DELETE FROM event WHERE number IN (SELECT number FROM event WHERE number <= ?1 ORDER BY number LIMIT ?2)",
            )?
            .execute(params![oldest, EVENTS_DROPPED])?;
    }
    transaction.commit()?;
    Ok((last, head))
}

/// Refuses the file of a newer version.
pub(super) fn known_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let opening = |source| StoreError::Open { path: path.into(), source };
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(opening)?;
    let known = FORMATS.len() as i64;
    if found > known { Err(StoreError::Newer { path: path.into(), found, known }) } else { Ok(()) }
}

/// A second process on the same file would decide against the first one's memory. The lock ends with the process, however
/// it ends.
pub(super) fn lock_beside(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let cannot = |error: std::io::Error| StoreError::Open {
        path: path.into(),
        source: rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
    };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(PathBuf::from(name)).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.into() }),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

/// Reads the log of events and the audit; does not hold the writer up.
#[derive(Debug)]
pub struct EventLog {
    connection: Connection,
}

impl EventLog {
    /// Events after `number`, oldest first, at most `limit`; only of `subject` or what lies under it when one is given. (`0` is
    /// the character after `/`.) The history is bounded, so that even a look through all of it takes milliseconds.
    pub fn after(
        &self,
        number: u64,
        subject: Option<&str>,
        limit: u32,
    ) -> Result<Vec<lapstrake_api::view::Event>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT number, at_ms, kind, subject, text, actor FROM event
                 WHERE number > ?1 AND (?2 IS NULL OR subject = ?2 OR subject > ?2 || '/' AND subject < ?2 || '0')
                 ORDER BY number LIMIT ?3",
            )
            .map_err(failed("read its events"))?;
        let rows = statement
            .query_map(params![i64::try_from(number).unwrap_or(i64::MAX), subject, limit], |row| {
                Ok(lapstrake_api::view::Event {
                    number: row.get::<_, i64>(0)? as u64,
                    at_ms: row.get::<_, i64>(1)? as u64,
                    kind: row.get(2)?,
                    subject: row.get(3)?,
                    text: row.get(4)?,
                    by: row.get(5)?,
                })
            })
            .map_err(failed("read its events"))?;
        rows.collect::<Result<_, _>>().map_err(failed("read its events"))
    }

    /// The number of the oldest event that is kept; none when there is no event.
    pub fn oldest(&self) -> Result<Option<u64>, StoreError> {
        let oldest = self.connection.query_row("SELECT min(number) FROM event", [], |row| row.get::<_, Option<i64>>(0));
        Ok(oldest.map_err(failed("read its events"))?.and_then(|number| u64::try_from(number).ok()))
    }

    /// The number after which `last` events follow, of `subject` and what lies under it when one is given: where a reader
    /// starts who wants only the newest.
    pub fn number_before_last(&self, last: u32, subject: Option<&str>) -> Result<u64, StoreError> {
        let number: Option<i64> = self
            .connection
            .query_row(
                "SELECT number FROM event
                 WHERE ?2 IS NULL OR subject = ?2 OR subject > ?2 || '/' AND subject < ?2 || '0'
                 ORDER BY number DESC LIMIT 1 OFFSET ?1",
                params![last, subject],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed("read its events"))?;
        Ok(number.unwrap_or(0) as u64)
    }
}

impl EventLog {
    /// Rows of the audit after `number`, oldest first, at most `limit`.
    pub fn audit_after(&self, number: u64, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        audit::after(&self.connection, number, filter, limit)
    }

    /// The number after which `last` rows of the audit follow.
    pub fn audit_before_last(&self, last: u32, filter: &AuditFilter) -> Result<u64, StoreError> {
        audit::number_before_last(&self.connection, last, filter)
    }

    /// The end of the audit's chain; none before the first row.
    pub fn audit_head(&self) -> Result<Option<Link>, StoreError> {
        audit::head(&self.connection).map_err(failed("read its audit"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, NewEvent};
    use super::*;

    fn change(key: &str, value: Option<&str>) -> Change {
        Change { key: key.into(), value: value.map(Into::into) }
    }

    fn batch(changes: &[Change], events: &[NewEvent]) -> Batch {
        Batch { changes: changes.into(), events: events.into(), audit: Vec::new() }
    }

    fn event(subject: &str) -> NewEvent {
        NewEvent { at_ms: 5, kind: "kind".into(), subject: subject.into(), text: "text".into(), by: None }
    }

    #[test]
    fn what_was_committed_is_there_when_the_store_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        {
            let mut store = Store::open(&path).expect("opens");
            store.commit(&batch(&[change("a/1", Some("{}")), change("b/1", Some("1"))], &[])).expect("commits");
            store.commit(&batch(&[change("a/1", None), change("b/1", Some("2"))], &[])).expect("commits");
        }
        let store = Store::open(&path).expect("opens again");
        let row = Row { key: "b/1".into(), value: "2".into(), change: 2 };
        assert_eq!(store.load().expect("loads"), [row]);
        assert_eq!(store.newest(), 2);
    }

    #[test]
    fn a_batch_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(&folder.path().join("store.db")).expect("opens");
        store
            .connection
            .execute_batch("CREATE TRIGGER no BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'full'); END")
            .expect("sql");
        store.commit(&batch(&[change("a/1", Some("{}"))], &[event("x")])).expect_err("fails");
        assert_eq!(store.load().expect("loads"), []);
        store.commit(&batch(&[change("a/1", Some("{}"))], &[])).expect("works again");
    }

    #[test]
    fn a_second_controller_on_the_same_store_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let _first = Store::open(&path).expect("opens");
        assert!(matches!(Store::open(&path), Err(StoreError::InUse { .. })));
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        drop(Store::open(&path).expect("opens"));
        Connection::open(&path)
            .expect("opens")
            .pragma_update(None, "user_version", FORMATS.len() as i64 + 1)
            .expect("sql");
        let said = Store::open(&path).expect_err("refused").to_string();
        assert!(said.contains(&format!("format {}", FORMATS.len() + 1)), "{said}");
    }

    #[test]
    fn a_watcher_resumes_after_the_last_event_that_it_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(&folder.path().join("store.db")).expect("opens");
        let log = store.event_log().expect("reads");
        store.commit(&batch(&[], &[event("shop/production/web"), event("shop/production/webby")])).expect("commits");
        let last = store.commit(&batch(&[], &[event("shop/production")])).expect("commits").expect("a number");
        let numbers = |after, subject| {
            log.after(after, subject, 500).expect("reads").iter().map(|e| e.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(0, None), [1, 2, 3]);
        assert_eq!(numbers(2, None), [last]);
        assert_eq!(numbers(0, Some("shop/production/web")), [1], "a name that only begins alike is another");
        assert_eq!(numbers(0, Some("shop")), [1, 2, 3]);
        assert_eq!(log.number_before_last(2, None).expect("reads"), 1);
        assert_eq!(log.number_before_last(20, None).expect("reads"), 0);
        assert_eq!(log.number_before_last(0, Some("shop/production/webby")).expect("reads"), 2);
    }

    #[test]
    fn of_a_long_history_the_newest_events_are_kept_and_numbers_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let mut store = Store::open(&path).expect("opens").keeping_events(3);
        let log = store.event_log().expect("reads");
        assert_eq!(log.oldest().expect("reads"), None);
        for _ in 0..5 {
            store.commit(&batch(&[], &[event("a"), event("b")])).expect("commits");
        }
        let numbers =
            || log.after(0, None, 10_000).expect("reads").iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(numbers(), [8, 9, 10]);
        assert_eq!(log.oldest().expect("reads"), Some(8));
        assert_eq!(
            log.after(u64::MAX, Some("a"), 10).expect("reads"),
            [],
            "a number that never comes has nothing after it"
        );
        drop(store);
        let mut store = Store::open(&path).expect("opens again").keeping_events(1);
        assert_eq!(store.commit(&batch(&[], &[event("c")])).expect("commits"), Some(11));
        assert_eq!(numbers(), [11], "a smaller history is reached in the end");
    }
}
