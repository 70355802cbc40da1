//! Snapshots, their manifests and components: all made again from the repository.
//!
//! A snapshot that restic made by itself has a row, and no manifest.

use crate::catalog::values::{
    from_json, from_word, integer, json, maybe, maybe_parsed, maybe_text, parsed, time, unsigned,
    word,
};
use crate::catalog::{Catalog, CatalogError, rows};
use crate::model::id::{RepositoryId, SnapshotId};
use crate::model::manifest::Manifest;
use crate::model::snapshot_record::SnapshotRecord;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::collections::BTreeSet;

pub(super) const TABLES_1: &str = "
    CREATE TABLE snapshots (
        repository_id TEXT NOT NULL,
        snapshot_id TEXT NOT NULL,
        instance_id TEXT,
        instance_name TEXT NOT NULL,
        host TEXT NOT NULL,
        platform TEXT,
        time TEXT NOT NULL,
        sealed INTEGER NOT NULL CHECK (sealed IN (0, 1)),
        key_fit TEXT,
        size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
        added_bytes INTEGER NOT NULL CHECK (added_bytes >= 0),
        tags_json TEXT NOT NULL,
        PRIMARY KEY (repository_id, snapshot_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX snapshots_by_time ON snapshots (repository_id, time);

    CREATE TABLE manifests (
        repository_id TEXT NOT NULL,
        snapshot_id TEXT NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (repository_id, snapshot_id),
        FOREIGN KEY (repository_id, snapshot_id) REFERENCES snapshots ON DELETE CASCADE
    ) STRICT;

    CREATE TABLE components (
        repository_id TEXT NOT NULL,
        snapshot_id TEXT NOT NULL,
        ordinal INTEGER NOT NULL, -- in the order of the manifest, from 0
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        path TEXT NOT NULL,
        source TEXT NOT NULL,
        size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
        counts_json TEXT NOT NULL,
        PRIMARY KEY (repository_id, snapshot_id, ordinal),
        FOREIGN KEY (repository_id, snapshot_id) REFERENCES snapshots ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
";

pub(super) const TABLES_6: &str =
    "ALTER TABLE snapshots ADD COLUMN read_bytes INTEGER CHECK (read_bytes >= 0)";

fn read(row: &Row<'_>) -> rusqlite::Result<SnapshotRecord> {
    Ok(SnapshotRecord {
        id: parsed(row, "snapshot_id")?,
        instance: maybe_parsed(row, "instance_id")?,
        instance_name: row.get("instance_name")?,
        host: row.get("host")?,
        platform: row.get("platform")?,
        time: parsed(row, "time")?,
        sealed: row.get("sealed")?,
        key_fit: maybe(row, "key_fit", from_word)?,
        size_bytes: unsigned(row, "size_bytes")?,
        read_bytes: maybe(row, "read_bytes", unsigned)?,
        added_bytes: unsigned(row, "added_bytes")?,
        tags: from_json(row, "tags_json")?,
    })
}

fn delete(
    transaction: &Transaction<'_>,
    repository: RepositoryId,
    id: SnapshotId,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("DELETE FROM snapshots WHERE repository_id = ?1 AND snapshot_id = ?2")?
        .execute([repository.to_string(), id.to_string()])
}

fn insert(
    transaction: &Transaction<'_>,
    repository: RepositoryId,
    record: &SnapshotRecord,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO snapshots (repository_id, snapshot_id, instance_id, instance_name, host, platform, time,
                                    sealed, key_fit, size_bytes, added_bytes, tags_json, read_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            repository.to_string(),
            record.id.to_string(),
            maybe_text(record.instance),
            record.instance_name,
            record.host,
            record.platform,
            time(record.time),
            record.sealed,
            record.key_fit.as_ref().map(word).transpose()?,
            integer(record.size_bytes),
            integer(record.added_bytes),
            json(&record.tags)?,
            record.read_bytes.map(integer),
        ])?;
    Ok(())
}

fn insert_manifest(
    transaction: &Transaction<'_>,
    repository: RepositoryId,
    id: SnapshotId,
    manifest: &Manifest,
) -> rusqlite::Result<()> {
    let (repository, id) = (repository.to_string(), id.to_string());
    transaction
        .prepare_cached(
            "INSERT INTO manifests (repository_id, snapshot_id, json) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![repository, id, json(manifest)?])?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO components (repository_id, snapshot_id, ordinal, name, kind, path, source, size_bytes, counts_json)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for (ordinal, component) in manifest.components.iter().enumerate() {
        statement.execute(params![
            repository,
            id,
            integer(ordinal as u64),
            component.name,
            component.kind,
            component.path,
            component.source,
            integer(component.size_bytes),
            json(&component.counts)?,
        ])?;
    }
    Ok(())
}

impl Catalog {
    /// Records a snapshot, with its manifest if it has one, in place of what was known of it.
    pub fn record_snapshot(
        &self,
        repository: RepositoryId,
        record: &SnapshotRecord,
        manifest: Option<&Manifest>,
    ) -> Result<(), CatalogError> {
        self.write("record a snapshot", |transaction| {
            delete(transaction, repository, record.id)?;
            insert(transaction, repository, record)?;
            manifest.map_or(Ok(()), |manifest| {
                insert_manifest(transaction, repository, record.id, manifest)
            })
        })
    }

    /// Drops snapshots that are no longer in the repository, with their manifests. Those that are not known are passed
    /// over. Pins are not touched: they are the repository's (see [`Catalog::replace_pins`]).
    pub fn forget_snapshots(
        &self,
        repository: RepositoryId,
        ids: &[SnapshotId],
    ) -> Result<(), CatalogError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.write("forget snapshots", |transaction| {
            ids.iter().try_for_each(|id| delete(transaction, repository, *id).map(drop))
        })
    }

    /// The snapshots in a repository, newest first; those of one time by id, downward.
    pub fn snapshots(&self, repository: RepositoryId) -> Result<Vec<SnapshotRecord>, CatalogError> {
        self.read("list snapshots", |transaction| {
            rows(
                transaction,
                "SELECT * FROM snapshots WHERE repository_id = ?1 ORDER BY time DESC, snapshot_id DESC",
                [repository.to_string()],
                read,
            )
        })
    }

    /// The newest snapshots in a repository, newest first, of all instances or of those that had a name then.
    pub fn newest_snapshots(
        &self,
        repository: RepositoryId,
        instance_name: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SnapshotRecord>, CatalogError> {
        self.read("list the newest snapshots", |transaction| {
            rows(
                transaction,
                "SELECT * FROM snapshots WHERE repository_id = ?1 AND (?2 IS NULL OR instance_name = ?2)
                 ORDER BY time DESC, snapshot_id DESC LIMIT ?3",
                params![repository.to_string(), instance_name, limit],
                read,
            )
        })
    }

    /// The ids of the snapshots that are known in a repository, to be compared with those that are there.
    pub fn snapshot_ids(
        &self,
        repository: RepositoryId,
    ) -> Result<BTreeSet<SnapshotId>, CatalogError> {
        self.read("list snapshots", |transaction| {
            rows(
                transaction,
                "SELECT snapshot_id FROM snapshots WHERE repository_id = ?1",
                [repository.to_string()],
                |row| parsed(row, "snapshot_id"),
            )
        })
        .map(BTreeSet::from_iter)
    }

    /// A snapshot's manifest. None when it has none, or the snapshot is not known.
    pub fn manifest(
        &self,
        repository: RepositoryId,
        id: SnapshotId,
    ) -> Result<Option<Manifest>, CatalogError> {
        self.read("read a manifest", |transaction| {
            transaction
                .prepare_cached(
                    "SELECT json FROM manifests WHERE repository_id = ?1 AND snapshot_id = ?2",
                )?
                .query_row([repository.to_string(), id.to_string()], |row| from_json(row, "json"))
                .optional()
        })
    }
}
