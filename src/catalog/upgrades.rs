//! Upgrades: their plans, their journals record by record, and what tests of the instances found on the way.
//!
//! Journals are in the repository, too (`belay-state`), and can be made again from there; results of tests and what instances were
//! like before are not, and are carried over.

use crate::catalog::values::{from_json, integer, json, maybe_text, parsed, time, unsigned};
use crate::catalog::{Catalog, CatalogError, rows};
use crate::model::id::{RepositoryId, UpgradeId};
use crate::model::name::Name;
use crate::model::upgrade::{Environment, Journal, Plan, Record, Relation};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use serde_json::Value;

pub(super) const TABLES_7: &str = "
    CREATE TABLE upgrades (
        upgrade_id TEXT NOT NULL PRIMARY KEY,
        repository_id TEXT NOT NULL, -- that has its journal, too
        pair TEXT NOT NULL,
        to_version TEXT NOT NULL,
        planned_at TEXT NOT NULL,
        planned_by TEXT NOT NULL,
        plan_json TEXT NOT NULL
    ) STRICT;
    CREATE INDEX upgrades_by_pair ON upgrades (pair, planned_at);

    CREATE TABLE upgrade_records (
        upgrade_id TEXT NOT NULL REFERENCES upgrades ON DELETE CASCADE,
        number INTEGER NOT NULL CHECK (number > 0), -- without gaps, from 1
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        step TEXT,
        said_by TEXT, -- approvals, overrides and changes of course
        record_json TEXT NOT NULL,
        PRIMARY KEY (upgrade_id, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE upgrade_tests (
        upgrade_id TEXT NOT NULL,
        record INTEGER NOT NULL CHECK (record > 0), -- with which the step began that ran them
        ordinal INTEGER NOT NULL,
        name TEXT NOT NULL,
        verdict TEXT NOT NULL,
        duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0),
        details_json TEXT NOT NULL,
        PRIMARY KEY (upgrade_id, record, ordinal)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE upgrade_baselines (
        upgrade_id TEXT NOT NULL,
        hop INTEGER NOT NULL CHECK (hop >= 0),
        environment TEXT NOT NULL CHECK (environment IN ('staging', 'production')),
        json TEXT NOT NULL,
        PRIMARY KEY (upgrade_id, hop, environment)
    ) STRICT, WITHOUT ROWID;
";

/// What one test of an instance found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeTest {
    /// Which test.
    pub name: String,
    /// What it found, in a word.
    pub verdict: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it looked at, a line each.
    pub details: Vec<String>,
}

/// A row of results, as it is carried over to a new catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestRow {
    upgrade: UpgradeId,
    record: u64,
    ordinal: u64,
    test: UpgradeTest,
}

/// A row of what an instance was like before, as it is carried over to a new catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaselineRow {
    upgrade: UpgradeId,
    hop: u64,
    environment: String,
    baseline: Value,
}

/// A journal that is carried over: the newest of the repository may not have it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JournalRow {
    repository: RepositoryId,
    pub(super) journal: Journal,
}

fn read_test(row: &Row<'_>) -> rusqlite::Result<UpgradeTest> {
    Ok(UpgradeTest {
        name: row.get("name")?,
        verdict: row.get("verdict")?,
        duration_ms: unsigned(row, "duration_ms")?,
        details: from_json(row, "details_json")?,
    })
}

pub(super) fn read_test_row(row: &Row<'_>) -> rusqlite::Result<TestRow> {
    Ok(TestRow {
        upgrade: parsed(row, "upgrade_id")?,
        record: unsigned(row, "record")?,
        ordinal: unsigned(row, "ordinal")?,
        test: read_test(row)?,
    })
}

pub(super) fn read_baseline_row(row: &Row<'_>) -> rusqlite::Result<BaselineRow> {
    Ok(BaselineRow {
        upgrade: parsed(row, "upgrade_id")?,
        hop: unsigned(row, "hop")?,
        environment: row.get("environment")?,
        baseline: from_json(row, "json")?,
    })
}

/// The head of a journal: all but its records.
fn read_head(row: &Row<'_>) -> rusqlite::Result<JournalRow> {
    let plan: Plan = from_json(row, "plan_json")?;
    let journal = Journal {
        id: parsed(row, "upgrade_id")?,
        planned_at: parsed(row, "planned_at")?,
        planned_by: row.get("planned_by")?,
        plan,
        records: Vec::new(),
    };
    Ok(JournalRow { repository: parsed(row, "repository_id")?, journal })
}

/// What was read has to be a journal: numbered without gaps, with a hop.
fn checked(journal: Journal) -> rusqlite::Result<Journal> {
    journal
        .checked()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

pub(super) fn read_journal_row(
    transaction: &rusqlite::Connection,
    row: &Row<'_>,
) -> rusqlite::Result<JournalRow> {
    let JournalRow { repository, mut journal } = read_head(row)?;
    let mut statement = transaction.prepare_cached(
        "SELECT record_json FROM upgrade_records WHERE upgrade_id = ?1 ORDER BY number",
    )?;
    journal.records = statement
        .query_map([journal.id.to_string()], |row| from_json(row, "record_json"))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(JournalRow { repository, journal: checked(journal)? })
}

pub(super) fn insert_test(transaction: &Transaction<'_>, row: &TestRow) -> rusqlite::Result<()> {
    let TestRow { upgrade, record, ordinal, test } = row;
    let UpgradeTest { name, verdict, duration_ms, details } = test;
    transaction
        .prepare_cached(
            "INSERT INTO upgrade_tests (upgrade_id, record, ordinal, name, verdict, duration_ms, details_json)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            upgrade.to_string(),
            integer(*record),
            integer(*ordinal),
            name,
            verdict,
            integer(*duration_ms),
            json(details)?,
        ])
        .map(drop)
}

pub(super) fn insert_baseline(
    transaction: &Transaction<'_>,
    row: &BaselineRow,
) -> rusqlite::Result<()> {
    let BaselineRow { upgrade, hop, environment, baseline } = row;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO upgrade_baselines (upgrade_id, hop, environment, json)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![upgrade.to_string(), integer(*hop), environment, json(baseline)?])
        .map(drop)
}

pub(super) fn insert_journal(
    transaction: &Transaction<'_>,
    row: &JournalRow,
) -> rusqlite::Result<()> {
    let JournalRow { repository, journal } = row;
    let Journal { id, planned_at, planned_by, plan, records } = journal;
    transaction
        .prepare_cached(
            "INSERT INTO upgrades (upgrade_id, repository_id, pair, to_version, planned_at, planned_by, plan_json)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            id.to_string(),
            repository.to_string(),
            plan.pair.as_str(),
            plan.target().to_string(),
            time(*planned_at),
            planned_by,
            json(plan)?,
        ])?;
    records.iter().try_for_each(|record| insert_record(transaction, *id, record))
}

fn insert_record(
    transaction: &Transaction<'_>,
    upgrade: UpgradeId,
    record: &Record,
) -> rusqlite::Result<()> {
    let Record { number, at, entry } = record;
    transaction
        .prepare_cached(
            "INSERT INTO upgrade_records (upgrade_id, number, at, kind, step, said_by, record_json)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            upgrade.to_string(),
            integer(*number),
            time(*at),
            entry.kind(),
            maybe_text(entry.step()),
            entry.by(),
            json(record)?,
        ])
        .map(drop)
}

fn stored_record(
    transaction: &Transaction<'_>,
    upgrade: UpgradeId,
    number: u64,
) -> rusqlite::Result<Record> {
    transaction
        .prepare_cached(
            "SELECT record_json FROM upgrade_records WHERE upgrade_id = ?1 AND number = ?2",
        )?
        .query_row(params![upgrade.to_string(), integer(number)], |row| {
            from_json(row, "record_json")
        })
}

fn journals(
    transaction: &Transaction<'_>,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<JournalRow>> {
    let sql = format!("SELECT * FROM upgrades {condition} ORDER BY planned_at DESC, upgrade_id");
    rows(transaction, &sql, parameters, |row| read_journal_row(transaction, row))
}

fn one(transaction: &Transaction<'_>, id: UpgradeId) -> rusqlite::Result<Option<JournalRow>> {
    Ok(journals(transaction, "WHERE upgrade_id = ?1", [id.to_string()])?.pop())
}

/// How many records an upgrade has; none where it is not known.
fn length(transaction: &Transaction<'_>, id: UpgradeId) -> rusqlite::Result<Option<u64>> {
    let found = transaction
        .prepare_cached(
            "SELECT (SELECT count(*) FROM upgrade_records r WHERE r.upgrade_id = u.upgrade_id) AS length
             FROM upgrades u WHERE upgrade_id = ?1",
        )?
        .query_row([id.to_string()], |row| unsigned(row, "length"));
    found.optional()
}

impl Catalog {
    /// Put down a new upgrade, whose journal is kept in that repository, too.
    pub fn add_upgrade(
        &self,
        repository: RepositoryId,
        journal: &Journal,
    ) -> Result<(), CatalogError> {
        let row = JournalRow { repository, journal: journal.clone() };
        self.write("record an upgrade", |transaction| insert_journal(transaction, &row))
    }

    /// Add the next record to an upgrade's journal. One whose number is not the next is refused: another process has written to it. The
    /// last one may be there already, as whoever lists the repository meanwhile takes it in from there.
    pub fn add_upgrade_record(&self, id: UpgradeId, record: &Record) -> Result<(), CatalogError> {
        let (length, is_there) = self.write("record a step of an upgrade", |transaction| {
            let length = length(transaction, id)?;
            if length.is_some_and(|length| length + 1 == record.number) {
                insert_record(transaction, id, record)?;
                return Ok((length, true));
            }
            let is_last = length == Some(record.number);
            Ok((length, is_last && stored_record(transaction, id, record.number)? == *record))
        })?;
        let path = self.path.clone();
        match length {
            Some(_) if is_there => Ok(()),
            Some(length) => Err(CatalogError::Overtaken {
                what: "upgrade",
                id: id.to_string(),
                expected: record.number,
                found: length + 1,
                path,
            }),
            None => Err(CatalogError::Unknown { what: "upgrade", id: id.to_string(), path }),
        }
    }

    /// The upgrade of that id.
    pub fn upgrade(&self, id: UpgradeId) -> Result<Option<Journal>, CatalogError> {
        self.read("read an upgrade", |transaction| Ok(one(transaction, id)?.map(|row| row.journal)))
    }

    /// All upgrades, newest first; of one pair where one is named.
    pub fn upgrades(&self, pair: Option<&Name>) -> Result<Vec<Journal>, CatalogError> {
        let found = self.read("list upgrades", |transaction| match pair {
            Some(pair) => journals(transaction, "WHERE pair = ?1", [pair.as_str()]),
            None => journals(transaction, "", []),
        })?;
        Ok(found.into_iter().map(|row| row.journal).collect())
    }

    /// The upgrades whose journals are kept in a repository, too, oldest first.
    pub fn upgrades_in(&self, repository: RepositoryId) -> Result<Vec<Journal>, CatalogError> {
        let id = repository.to_string();
        let found = self.read("list upgrades", |transaction| {
            journals(transaction, "WHERE repository_id = ?1", [id])
        })?;
        Ok(found.into_iter().rev().map(|row| row.journal).collect())
    }

    /// Take in what a repository has. A journal there that goes on where the one here ends counts, and so does one that has parted
    /// from it; one that ends before the one here does not. Returns those that have parted, whose records here are lost.
    pub fn take_in_upgrades(
        &self,
        repository: RepositoryId,
        journals: &[Journal],
    ) -> Result<Vec<UpgradeId>, CatalogError> {
        if journals.is_empty() {
            return Ok(Vec::new());
        }
        self.write("take in upgrades", |transaction| {
            let mut parted = Vec::new();
            for journal in journals {
                let known = one(transaction, journal.id)?;
                let relation = known.map(|known| known.journal.relation(journal));
                match relation {
                    Some(Relation::Same | Relation::Newer) => continue,
                    Some(Relation::Older) | None => {}
                    Some(Relation::Diverged) => parted.push(journal.id),
                }
                transaction
                    .prepare_cached("DELETE FROM upgrades WHERE upgrade_id = ?1")?
                    .execute([journal.id.to_string()])?;
                let row = JournalRow { repository, journal: journal.clone() };
                insert_journal(transaction, &row)?;
            }
            Ok(parted)
        })
    }

    /// Record what tests found that the step ran which began with record `record`, in the place of what an earlier run of it found.
    pub fn record_upgrade_tests(
        &self,
        upgrade: UpgradeId,
        record: u64,
        tests: &[UpgradeTest],
    ) -> Result<(), CatalogError> {
        self.write("record tests of an upgrade", |transaction| {
            transaction
                .prepare_cached("DELETE FROM upgrade_tests WHERE upgrade_id = ?1 AND record = ?2")?
                .execute(params![upgrade.to_string(), integer(record)])?;
            (0..).zip(tests).try_for_each(|(ordinal, test)| {
                let row = TestRow { upgrade, record, ordinal, test: test.clone() };
                insert_test(transaction, &row)
            })
        })
    }

    /// What tests found, with the number of the record that the step began with which ran them, in the order in which they ran.
    pub fn upgrade_tests(
        &self,
        upgrade: UpgradeId,
    ) -> Result<Vec<(u64, UpgradeTest)>, CatalogError> {
        self.read("list tests of an upgrade", |transaction| {
            rows(
                transaction,
                "SELECT * FROM upgrade_tests WHERE upgrade_id = ?1 ORDER BY record, ordinal",
                [upgrade.to_string()],
                |row| Ok((unsigned(row, "record")?, read_test(row)?)),
            )
        })
    }

    /// Record what an instance was like before a hop.
    pub fn record_upgrade_baseline(
        &self,
        upgrade: UpgradeId,
        hop: usize,
        environment: Environment,
        baseline: &Value,
    ) -> Result<(), CatalogError> {
        let environment = environment.as_str().to_owned();
        let row = BaselineRow { upgrade, hop: hop as u64, environment, baseline: baseline.clone() };
        self.write("record what an instance was like", |transaction| {
            insert_baseline(transaction, &row)
        })
    }

    /// What an instance was like before a hop; none where that was not recorded on this host.
    pub fn upgrade_baseline(
        &self,
        upgrade: UpgradeId,
        hop: usize,
        environment: Environment,
    ) -> Result<Option<Value>, CatalogError> {
        self.read("read what an instance was like", |transaction| {
            transaction
                .prepare_cached(
                    "SELECT json FROM upgrade_baselines
                     WHERE upgrade_id = ?1 AND hop = ?2 AND environment = ?3",
                )?
                .query_row(
                    params![upgrade.to_string(), integer(hop as u64), environment.as_str()],
                    |row| from_json(row, "json"),
                )
                .optional()
        })
    }
}
