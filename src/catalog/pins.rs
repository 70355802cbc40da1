//! Pins as the newest `belay-state` snapshot of each repository has them: that snapshot beats what is here.

use crate::catalog::values::{integer, parsed, time, unsigned};
use crate::catalog::{Catalog, CatalogError, rows};
use crate::model::id::RepositoryId;
use crate::model::pin::Pin;
use rusqlite::{OptionalExtension, Row, Transaction, params};

pub(super) const TABLES_1: &str = "
    CREATE TABLE pins (
        repository_id TEXT NOT NULL,
        snapshot_id TEXT NOT NULL, -- need not be known yet
        reason TEXT NOT NULL,
        pinned_by TEXT NOT NULL,
        pinned_at TEXT NOT NULL,
        PRIMARY KEY (repository_id, snapshot_id, reason)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE repository_state (
        repository_id TEXT NOT NULL PRIMARY KEY,
        state_number INTEGER NOT NULL CHECK (state_number >= 0)
    ) STRICT;
";

fn read(row: &Row<'_>) -> rusqlite::Result<Pin> {
    Ok(Pin {
        snapshot: parsed(row, "snapshot_id")?,
        reason: row.get("reason")?,
        pinned_by: row.get("pinned_by")?,
        pinned_at: parsed(row, "pinned_at")?,
    })
}

fn state_number(
    transaction: &Transaction<'_>,
    repository: RepositoryId,
) -> rusqlite::Result<Option<u64>> {
    transaction
        .prepare_cached("SELECT state_number FROM repository_state WHERE repository_id = ?1")?
        .query_row([repository.to_string()], |row| unsigned(row, "state_number"))
        .optional()
}

fn all(transaction: &Transaction<'_>, repository: RepositoryId) -> rusqlite::Result<Vec<Pin>> {
    rows(
        transaction,
        "SELECT * FROM pins WHERE repository_id = ?1 ORDER BY pinned_at, snapshot_id, reason",
        [repository.to_string()],
        read,
    )
}

impl Catalog {
    /// The number of the newest `belay-state` seen in a repository.
    pub fn state_number(&self, repository: RepositoryId) -> Result<Option<u64>, CatalogError> {
        self.read("read the state's number", |transaction| state_number(transaction, repository))
    }

    /// Puts the pins of the `belay-state` of that number in place of those known. An older number than the one known
    /// changes nothing and answers false: another process was faster, and knows more.
    pub fn replace_pins(
        &self,
        repository: RepositoryId,
        number: u64,
        pins: &[Pin],
    ) -> Result<bool, CatalogError> {
        if self.has_pins(repository, number, pins)? {
            return Ok(true);
        }
        self.write("record pins", |transaction| {
            if state_number(transaction, repository)?.is_some_and(|known| known > number) {
                return Ok(false);
            }
            let id = repository.to_string();
            transaction
                .prepare_cached(
                    "INSERT INTO repository_state (repository_id, state_number) VALUES (?1, ?2)
                     ON CONFLICT (repository_id) DO UPDATE SET state_number = excluded.state_number",
                )?
                .execute(params![id, integer(number)])?;
            transaction.prepare_cached("DELETE FROM pins WHERE repository_id = ?1")?.execute([&id])?;
            let mut statement = transaction.prepare_cached(
                "INSERT INTO pins (repository_id, snapshot_id, reason, pinned_by, pinned_at)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?;
            for pin in pins {
                let snapshot = pin.snapshot.to_string();
                let at = time(pin.pinned_at);
                statement.execute(params![id, snapshot, pin.reason, pin.pinned_by, at])?;
            }
            Ok(true)
        })
    }

    /// Whether exactly these pins, of the `belay-state` of that number, are known.
    fn has_pins(
        &self,
        repository: RepositoryId,
        number: u64,
        pins: &[Pin],
    ) -> Result<bool, CatalogError> {
        self.read("compare pins", |transaction| {
            Ok(state_number(transaction, repository)? == Some(number)
                && all(transaction, repository)? == pins)
        })
    }

    /// The pins of a repository, oldest first.
    pub fn pins(&self, repository: RepositoryId) -> Result<Vec<Pin>, CatalogError> {
        self.read("list pins", |transaction| all(transaction, repository))
    }
}
