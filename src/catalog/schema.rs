//! The schema's versions, and opening a file so that it has the newest.
//!
//! The version is SQLite's `user_version`; the `application_id` tells a catalog from other databases. Nothing is
//! written to a file before both were found to be right. A migration, once released, never changes.

use crate::catalog::{
    CatalogError, git, instances, jobs, outbox, pins, queue, repositories, snapshots, upgrades,
};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::path::Path;
use std::time::Duration;

/// `Blay` in ASCII.
pub(super) const APPLICATION_ID: i64 = 0x426c_6179;

/// What each version adds to the one before, beginning with an empty file.
pub(super) const MIGRATIONS: &[&[&str]] = &[
    &[
        repositories::TABLES_1,
        instances::TABLES_1,
        snapshots::TABLES_1,
        pins::TABLES_1,
        jobs::TABLES_1,
    ],
    &[jobs::TABLES_2],
    &[jobs::TABLES_3, queue::TABLES_1],
    &[outbox::TABLES_3],
    &[git::TABLES_5],
    &[snapshots::TABLES_6],
    &[upgrades::TABLES_7],
];

/// How long a writer waits for another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens an existing file (an empty one becomes a catalog) and brings it to the newest version.
pub(super) fn connect(path: &Path) -> Result<Connection, CatalogError> {
    let action = "open the catalog";
    // Without NOFOLLOW, who owns the directory could lead root's writes to any file.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection =
        Connection::open_with_flags(path, flags).map_err(CatalogError::sqlite(action, path))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(CatalogError::sqlite(action, path))?;
    version(&connection, path, MIGRATIONS.len())?;
    let set_up = || {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // A crafted or damaged file must not run anything by its schema.
        connection.pragma_update(None, "trusted_schema", false)
    };
    set_up().map_err(CatalogError::sqlite(action, path))?;
    migrate(&connection, path, MIGRATIONS)?;
    Ok(connection)
}

/// The version of a file that is a catalog, or empty; an error for any other.
fn version(connection: &Connection, path: &Path, known: usize) -> Result<usize, CatalogError> {
    let read = || {
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let entries: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((number("application_id")?, number("user_version")?, entries))
    };
    let (application, found, entries) =
        read().map_err(CatalogError::sqlite("open the catalog", path))?;
    let is_empty = (application, found, entries) == (0, 0, 0);
    if application != APPLICATION_ID && !is_empty {
        return Err(CatalogError::Foreign(path.to_owned()));
    }
    match usize::try_from(found) {
        Ok(version) if version <= known => Ok(version),
        _ => Err(CatalogError::Newer { path: path.to_owned(), found, known }),
    }
}

/// Brings the file to the last of `migrations`, each in a transaction of its own.
pub(super) fn migrate(
    connection: &Connection,
    path: &Path,
    migrations: &[&[&str]],
) -> Result<(), CatalogError> {
    let failed =
        |error| CatalogError::sqlite("bring the tables to the newest version", path)(error);
    while version(connection, path, migrations.len())? < migrations.len() {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
            .map_err(failed)?;
        // Read again: another process may have done it while this one waited for the lock.
        let done = version(&transaction, path, migrations.len())?;
        let Some(statements) = migrations.get(done) else { break };
        let run = || {
            for statement in *statements {
                transaction.execute_batch(statement)?;
            }
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", (done + 1) as u32)
        };
        run().map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}
