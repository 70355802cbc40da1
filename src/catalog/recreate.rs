//! Making the catalog anew: the old file is kept aside, and what only it knows is carried over where it can be read.
//!
//! The new file is complete before it takes the old one's place, so that a kill leaves one or the other.

use crate::catalog::files::{self, DirectoryLock, beside, give_to_owner_of};
use crate::catalog::values::parsed;
use crate::catalog::{
    Catalog, CatalogError, Delivery, Entry, FILE_NAME, Handled, Instance, Job, Problem, Repository,
    StoredEvent, git, instances, jobs, outbox, queue, repositories, schema, upgrades,
};
use crate::model::id::JobId;
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How unfinished new files are called.
const NEW_PREFIX: &str = ".catalog.sqlite.new-";

/// A catalog that was made anew.
#[derive(Debug)]
pub struct Recreated {
    /// The new catalog, without snapshots and pins.
    pub catalog: Catalog,
    /// Where the old file is now, if there was one.
    pub kept: Option<PathBuf>,
    /// How many jobs of the history were carried over.
    pub jobs: usize,
    /// What could not be carried over, each a phrase with its reason; empty when nothing was lost.
    pub lost: Vec<String>,
}

/// What no repository holds.
#[derive(Default)]
struct History {
    instances: Vec<Instance>,
    repositories: Vec<Repository>,
    jobs: Vec<Job>,
    events: Vec<(JobId, StoredEvent)>,
    outbox: Vec<Delivery>,
    problems: Vec<Problem>,
    queue: Vec<Entry>,
    schedules: Vec<(String, Handled)>,
    journal: Vec<git::JournalRow>,
    upgrades: Vec<upgrades::JournalRow>,
    tests: Vec<upgrades::TestRow>,
    baselines: Vec<upgrades::BaselineRow>,
    lost: Vec<String>,
}

impl History {
    /// Reads what can be read of a file. Errors are for files that should stay where they are.
    fn read(path: &Path) -> Result<Self, CatalogError> {
        let connection = match schema::connect(path) {
            Ok(connection) => connection,
            Err(error @ (CatalogError::Damaged { .. } | CatalogError::Sqlite { .. })) => {
                let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                let lost = vec![format!("the whole history: {reason}")];
                return Ok(Self { lost, ..Self::default() });
            }
            Err(error) => return Err(error),
        };
        let mut history = Self::default();
        let lost = &mut history.lost;
        history.instances = each(&connection, "instances", "rowid", lost, instances::read);
        history.repositories = each(&connection, "repositories", "rowid", lost, repositories::read);
        history.jobs = each(&connection, "jobs", "sequence", lost, jobs::read);
        let jobs: HashSet<_> = history.jobs.iter().map(|job| job.start.id).collect();
        history.events = each(&connection, "events", "job_id, ordinal", lost, |row| {
            Ok((parsed(row, "job_id")?, jobs::read_event(row)?))
        });
        history.outbox = each(&connection, "outbox", "sequence", lost, outbox::read);
        history.problems = each(&connection, "problems", "problem_key", lost, outbox::read_problem);
        history.queue = each(&connection, "queue", "sequence", lost, queue::read);
        history.schedules = each(&connection, "schedules", "subject", lost, queue::read_schedule);
        history.journal = each(&connection, "rewrites", "git_name, kept", lost, git::read_journal);
        history.upgrades = each(&connection, "upgrades", "upgrade_id", lost, |row| {
            upgrades::read_journal_row(&connection, row)
        });
        let order = "upgrade_id, record, ordinal";
        history.tests = each(&connection, "upgrade_tests", order, lost, upgrades::read_test_row);
        let order = "upgrade_id, hop, environment";
        history.baselines =
            each(&connection, "upgrade_baselines", order, lost, upgrades::read_baseline_row);
        history.events.retain(|(job, _)| jobs.contains(job));
        Ok(history)
    }

    fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        self.instances.iter().try_for_each(|row| instances::insert(transaction, row))?;
        self.repositories.iter().try_for_each(|row| repositories::insert(transaction, row))?;
        self.jobs.iter().try_for_each(|row| jobs::insert(transaction, row))?;
        self.events.iter().try_for_each(|(job, row)| jobs::insert_event(transaction, *job, row))?;
        self.outbox.iter().try_for_each(|row| outbox::insert(transaction, row))?;
        self.problems.iter().try_for_each(|row| outbox::insert_problem(transaction, row))?;
        self.queue.iter().try_for_each(|row| queue::put(transaction, row))?;
        self.journal.iter().try_for_each(|row| git::insert_journal(transaction, row))?;
        self.upgrades.iter().try_for_each(|row| upgrades::insert_journal(transaction, row))?;
        self.tests.iter().try_for_each(|row| upgrades::insert_test(transaction, row))?;
        self.baselines.iter().try_for_each(|row| upgrades::insert_baseline(transaction, row))?;
        let mut schedules = self.schedules.iter();
        schedules.try_for_each(|(subject, row)| queue::put_schedule(transaction, subject, row))
    }
}

/// Every row of a table that can be read; what cannot is counted, with the first reason.
fn each<T>(
    connection: &Connection,
    table: &str,
    order: &str,
    lost: &mut Vec<String>,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    let mut unreadable = 0;
    let mut reason = None;
    let mut read_all = || {
        let mut statement =
            connection.prepare(&format!("SELECT * FROM {table} ORDER BY {order}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match read(row) {
                Ok(value) => found.push(value),
                Err(error) => {
                    unreadable += 1;
                    reason.get_or_insert(error);
                }
            }
        }
        Ok::<_, rusqlite::Error>(())
    };
    if let Err(error) = read_all() {
        lost.push(format!("{table} after the first {}: {error}", found.len()));
    } else if let Some(error) = reason {
        lost.push(format!("{unreadable} of the {table}: {}", super::SqliteReason(error)));
    }
    found
}

/// Makes a complete new database beside the old one. It has no `-wal` when this returns.
fn make(directory: &Path, history: &History) -> Result<tempfile::TempPath, CatalogError> {
    let action = "make a new catalog";
    // What a killed process left; the caller's lock says that nobody is at work on one.
    for entry in fs::read_dir(directory).map_err(CatalogError::io("list", directory))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(NEW_PREFIX) {
            files::remove(&entry.path())?;
        }
    }
    let path = tempfile::Builder::new()
        .prefix(NEW_PREFIX)
        .tempfile_in(directory)
        .map_err(CatalogError::io("make a new catalog in", directory))?
        .into_temp_path();
    give_to_owner_of(directory, &path)?;
    let connection = schema::connect(&path)?;
    let fill = || {
        let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
        history.write(&transaction)?;
        transaction.commit()
    };
    fill().map_err(CatalogError::sqlite(action, &path))?;
    connection.close().map_err(|(_, error)| CatalogError::sqlite(action, &path)(error))?;
    Ok(path)
}

/// A free name for the old file.
fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let name = beside(path, &format!(".old-{}", now.strftime("%Y%m%dT%H%M%SZ")));
    let mut kept = name.clone();
    let mut number = 1;
    while [&kept, &beside(&kept, "-wal")].iter().any(|name| name.symlink_metadata().is_ok()) {
        number += 1;
        kept = beside(&name, &format!("-{number}"));
    }
    kept
}

/// Gives a file a second name, so that the first may be taken by another.
fn keep(path: &Path, kept: &Path) -> Result<(), CatalogError> {
    match fs::hard_link(path, kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CatalogError::io("keep the old catalog as", kept)(error))
        }
        _ => Ok(()),
    }
}

impl Catalog {
    /// Puts an empty catalog in place of the one in `state_dir`, which is kept as `catalog.sqlite.old-TIME` and never
    /// deleted. Adopted instances, what was verified of repositories, jobs, events and upgrades are carried over; snapshots,
    /// manifests and pins are for the caller to record again.
    ///
    /// Nobody may have the old one open, this process included. A newer Belay's catalog, and a file that is another
    /// program's, are refused and stay.
    pub fn recreate(state_dir: &Path, now: Timestamp) -> Result<Recreated, CatalogError> {
        let directory = files::prepare_directory(state_dir)?;
        let path = directory.join(FILE_NAME);
        let lock = DirectoryLock::exclusive(&directory)?
            .ok_or_else(|| CatalogError::InUse(path.clone()))?;
        let exists = path.symlink_metadata().is_ok();
        let kept = exists.then(|| aside(&path, now));
        // SQLite may remove the `-wal` of a file that it finds damaged, and with it what was written last.
        if let Some(kept) = &kept {
            keep(&beside(&path, "-wal"), &beside(kept, "-wal"))?;
        }
        let history = if exists { History::read(&path)? } else { History::default() };
        let new = make(&directory, &history)?;
        if let Some(kept) = &kept {
            keep(&path, kept)?;
        }
        for suffix in ["-wal", "-shm"] {
            files::remove(&beside(&path, suffix))?;
        }
        new.persist(&path).map_err(|error| CatalogError::io("replace", &path)(error.error))?;
        lock.sync(&directory)?;
        let catalog = Self::open_locked(&directory, lock)?;
        Ok(Recreated { catalog, kept, jobs: history.jobs.len(), lost: history.lost })
    }
}
