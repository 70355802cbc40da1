//! The catalog: the local SQLite database of what was backed up where, and of the jobs that did it.
//!
//! Always so: it holds no secret; SQL is written nowhere else, and values are bound, never pasted; each change is one
//! transaction, durable when the call returns; times are UTC. Everything but jobs, events, the adopted instances, what was
//! verified when, notices with what they are about, and what tests found in upgrades can be made again from the repositories (see
//! [`Catalog::recreate`]).
//!
//! Several processes may have it open at once: writers wait for each other for up to ten seconds. A [`Catalog`] may be
//! sent between threads; to share one, put it behind a mutex or open another.

mod dump;
mod error;
mod files;
mod git;
mod instances;
mod jobs;
mod outbox;
mod pins;
mod queue;
mod recreate;
mod repositories;
mod schema;
mod snapshots;
mod upgrades;
mod values;

pub use error::{CatalogError, SqliteReason};
pub use files::give_to_owner_of;
pub use instances::Instance;
pub use jobs::{Job, JobFailure, JobKind, JobStart, Outcome, Process, Run, StoredEvent};
pub use outbox::{Delivery, Problem, ProblemChange};
pub use queue::{Entry, EntryState, Handled, Origin};
pub use recreate::Recreated;
pub use repositories::{LastCheck, Repository};
pub use upgrades::UpgradeTest;

use files::{DirectoryLock, beside};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};

/// The database's file name in the state directory.
pub const FILE_NAME: &str = "catalog.sqlite";

/// An open catalog.
#[derive(Debug)]
pub struct Catalog {
    connection: Connection,
    path: PathBuf,
    // After the connection, so that the file is closed before the lock is given up.
    _lock: DirectoryLock,
}

impl Catalog {
    /// Opens the catalog in `state_dir`, and makes the directory, the file and newer tables where they are missing.
    pub fn open(state_dir: &Path) -> Result<Self, CatalogError> {
        let directory = files::prepare_directory(state_dir)?;
        let lock = DirectoryLock::for_opening(&directory)?;
        Self::open_locked(&directory, lock)
    }

    fn open_locked(directory: &Path, lock: DirectoryLock) -> Result<Self, CatalogError> {
        let path = directory.join(FILE_NAME);
        files::prepare_file(directory, &path)?;
        let connection = schema::connect(&path)?;
        // SQLite itself gives these the database's mode and owner; this covers those of an earlier version of it.
        for suffix in ["-wal", "-shm"] {
            let file = beside(&path, suffix);
            if file.exists() {
                give_to_owner_of(directory, &file)?;
            }
        }
        let lock = lock.share(directory)?;
        Ok(Self { connection, path, _lock: lock })
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number that is another one after somebody else has changed something: another connection, here or elsewhere.
    pub fn data_version(&self) -> Result<i64, CatalogError> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(CatalogError::sqlite("look for changes of the catalog", &self.path))
    }

    /// Reads the whole file for damage, and whether each row refers to rows that are there.
    pub fn integrity_check(&self) -> Result<(), CatalogError> {
        let action = "check the catalog";
        let problem = self.read(action, |transaction| {
            let found: String =
                transaction.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            if found != "ok" {
                return Ok(Some(found));
            }
            let orphans: i64 = transaction.query_row(
                "SELECT count(*) FROM pragma_foreign_key_check",
                [],
                |row| row.get(0),
            )?;
            Ok((orphans > 0).then(|| format!("{orphans} rows refer to rows that are not there")))
        })?;
        problem.map_or(Ok(()), |problem| {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            let error = rusqlite::Error::SqliteFailure(code, Some(problem));
            Err(CatalogError::sqlite(action, &self.path)(error))
        })
    }

    /// Does `work` on one consistent state.
    fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        self.in_transaction(action, TransactionBehavior::Deferred, work)
    }

    /// Does `work` wholly or not at all. The lock for writing is taken first, so that what `work` reads stays so.
    fn write<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        self.in_transaction(action, TransactionBehavior::Immediate, work)
    }

    fn in_transaction<T>(
        &self,
        action: &'static str,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let run = || {
            // Dropped without commit, it rolls back.
            let transaction = Transaction::new_unchecked(&self.connection, behavior)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(CatalogError::sqlite(action, &self.path))
    }
}

/// All rows that a query finds.
fn rows<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    transaction.prepare_cached(sql)?.query_map(parameters, read)?.collect()
}

#[cfg(test)]
mod tests;
