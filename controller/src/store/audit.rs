//! The audit's table: rows in a chain, and the chain's head.
//!
//! The head stands in a table of its own, so that cutting off the last rows is found, and its hash goes to the log at every
//! commit. Whoever can write the file can also compute a new chain from any row on and a head that fits; only a head that was
//! noted elsewhere (that log, a printed `lap audit verify`) tells then.

use super::StoreError;
use super::sqlite::failed;
use lapstrake_core::audit::{Deed, Entry, Link};
use lapstrake_core::time::Wall;
use lapstrake_pki::fingerprint::sha256;
use lapstrake_pki::token::SecretHash;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// Added by format 2.
pub(super) const TABLES: &str = "
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        who TEXT NOT NULL,
        token TEXT NOT NULL,
        address TEXT NOT NULL,
        verb TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        verdict TEXT NOT NULL,
        said TEXT NOT NULL,
        hash TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_who ON audit (who, number);
    CREATE TABLE audit_head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        number INTEGER NOT NULL,
        hash TEXT NOT NULL
    ) STRICT;
";

/// A row as it is read. The hash is as it stands there, right or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number.
    pub number: u64,
    /// What it says.
    pub entry: Entry,
    /// 64 hexadecimal digits, unless somebody has altered it.
    pub hash: String,
}

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only of this name.
    pub who: Option<String>,
    /// Only from this time on, in milliseconds since 1970.
    pub since_ms: Option<u64>,
}

fn hex(hash: &[u8; 32]) -> String {
    SecretHash(*hash).to_hex()
}

/// The head that the store holds; none before the first row was ever written.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Option<Link>> {
    let read = |row: &Row<'_>| {
        let hash: String = row.get(1)?;
        // A head that is no hash fits no row; every later row then stands on something that nobody can compute.
        let hash = SecretHash::from_hex(&hash).map_or([0; 32], |hash| hash.0);
        Ok(Link { number: row.get::<_, i64>(0)? as u64, hash })
    };
    connection.query_row("SELECT number, hash FROM audit_head", [], read).optional()
}

/// Adds rows to the chain within the transaction of what they tell of. Returns the new head.
pub(super) fn append(transaction: &Transaction<'_>, mut head: Link, entries: &[Entry]) -> rusqlite::Result<Link> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO audit (number, at_ms, who, token, address, verb, subject, detail, verdict, said, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for entry in entries {
        head = head.next(entry, sha256);
        let Entry { wall, who, token, address, deed, verdict, said } = entry;
        insert.execute(params![
            head.number as i64,
            wall.0 as i64,
            who,
            token,
            address,
            deed.verb,
            deed.subject,
            deed.detail,
            verdict,
            said,
            hex(&head.hash)
        ])?;
    }
    transaction.execute(
        "INSERT INTO audit_head (one, number, hash) VALUES (1, ?1, ?2)
         ON CONFLICT (one) DO UPDATE SET number = excluded.number, hash = excluded.hash",
        params![head.number as i64, hex(&head.hash)],
    )?;
    Ok(head)
}

/// Rows after a number, oldest first, at most `limit`.
pub(super) fn after(
    connection: &Connection,
    number: u64,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let cannot = failed("read its audit");
    let mut statement = connection
        .prepare_cached(
            "SELECT number, at_ms, who, token, address, verb, subject, detail, verdict, said, hash FROM audit
             WHERE number > ?1 AND (?2 IS NULL OR who = ?2) AND (?3 IS NULL OR at_ms >= ?3)
             ORDER BY number LIMIT ?4",
        )
        .map_err(&cannot)?;
    let since = filter.since_ms.map(|since| since.min(i64::MAX as u64) as i64);
    let number = number.min(i64::MAX as u64) as i64;
    let rows = statement.query_map(params![number, filter.who, since, limit], row).map_err(&cannot)?;
    rows.collect::<Result<_, _>>().map_err(&cannot)
}

fn row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        number: row.get::<_, i64>(0)? as u64,
        entry: Entry {
            wall: Wall(row.get::<_, i64>(1)? as u64),
            who: row.get(2)?,
            token: row.get(3)?,
            address: row.get(4)?,
            deed: Deed { verb: row.get(5)?, subject: row.get(6)?, detail: row.get(7)? },
            verdict: row.get(8)?,
            said: row.get(9)?,
        },
        hash: row.get(10)?,
    })
}

/// The number after which the last rows follow that a filter lets through.
pub(super) fn number_before_last(connection: &Connection, last: u32, filter: &AuditFilter) -> Result<u64, StoreError> {
    let since = filter.since_ms.map(|since| since.min(i64::MAX as u64) as i64);
    let number: Option<i64> = connection
        .query_row(
            "SELECT number FROM audit WHERE (?2 IS NULL OR who = ?2) AND (?3 IS NULL OR at_ms >= ?3)
             ORDER BY number DESC LIMIT 1 OFFSET ?1",
            params![last, filter.who, since],
            |row| row.get(0),
        )
        .optional()
        .map_err(failed("read its audit"))?;
    Ok(number.unwrap_or(0) as u64)
}
