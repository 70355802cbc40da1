//! Mirrors of git repositories: their refs, and the journal of what was pushed away.
//!
//! The mirrors themselves and the manifests hold the same, so all of it can be made again; but for who was told of what.

use crate::catalog::values::{maybe_text, parsed, time, unsigned};
use crate::catalog::{Catalog, CatalogError, Delivery, outbox, rows};
use crate::model::git::{MirrorRecord, Rewrite};
use crate::model::name::Name;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use std::collections::BTreeMap;

pub(super) const TABLES_5: &str = "
    CREATE TABLE mirrors (
        git_name TEXT NOT NULL PRIMARY KEY,
        url TEXT NOT NULL,
        fetched_at TEXT NOT NULL,
        head TEXT,
        digest TEXT NOT NULL -- of the refs
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE app_refs (
        git_name TEXT NOT NULL REFERENCES mirrors ON DELETE CASCADE,
        ref TEXT NOT NULL,
        target TEXT NOT NULL,
        PRIMARY KEY (git_name, ref)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE rewrites (
        git_name TEXT NOT NULL,
        kept TEXT NOT NULL, -- the ref that keeps the old target
        ref TEXT NOT NULL,
        from_id TEXT NOT NULL,
        to_id TEXT, -- NULL: it vanished
        seen_at TEXT NOT NULL,
        commits_dropped INTEGER NOT NULL,
        moved_by TEXT,
        told_at TEXT, -- NULL: nobody was told yet
        PRIMARY KEY (git_name, kept)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX rewrites_to_tell ON rewrites (git_name) WHERE told_at IS NULL;
";

/// A row of the journal, as it is carried over to a new catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JournalRow {
    git: Name,
    rewrite: Rewrite,
    told_at: Option<Timestamp>,
}

fn read_rewrite(row: &Row<'_>) -> rusqlite::Result<Rewrite> {
    Ok(Rewrite {
        kept: row.get("kept")?,
        name: row.get("ref")?,
        from: row.get("from_id")?,
        to: row.get("to_id")?,
        seen_at: parsed(row, "seen_at")?,
        commits_dropped: unsigned(row, "commits_dropped")?,
        by: row.get("moved_by")?,
    })
}

pub(super) fn read_journal(row: &Row<'_>) -> rusqlite::Result<JournalRow> {
    Ok(JournalRow {
        git: parsed(row, "git_name")?,
        rewrite: read_rewrite(row)?,
        told_at: super::values::maybe_parsed(row, "told_at")?,
    })
}

pub(super) fn insert_journal(
    transaction: &Transaction<'_>,
    row: &JournalRow,
) -> rusqlite::Result<()> {
    insert_rewrite(transaction, &row.git, &row.rewrite, row.told_at).map(|_| ())
}

/// Whether it was not there yet.
fn insert_rewrite(
    transaction: &Transaction<'_>,
    git: &Name,
    rewrite: &Rewrite,
    told_at: Option<Timestamp>,
) -> rusqlite::Result<bool> {
    let inserted = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO rewrites
             (git_name, kept, ref, from_id, to_id, seen_at, commits_dropped, moved_by, told_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            git.as_str(),
            rewrite.kept,
            rewrite.name,
            rewrite.from,
            rewrite.to,
            time(rewrite.seen_at),
            super::values::integer(rewrite.commits_dropped),
            rewrite.by,
            maybe_text(told_at.map(time)),
        ])?;
    Ok(inserted > 0)
}

fn refs_of(
    transaction: &Transaction<'_>,
    git: &Name,
) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut statement =
        transaction.prepare_cached("SELECT ref, target FROM app_refs WHERE git_name = ?1")?;
    statement.query_map([git.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

impl Catalog {
    /// Record what a mirror has. Returns what was pushed away and is new in the journal; `told_at` is for what people know
    /// already.
    pub fn record_mirror(
        &self,
        git: &Name,
        mirror: &MirrorRecord,
        told_at: Option<Timestamp>,
    ) -> Result<Vec<Rewrite>, CatalogError> {
        self.write("record a mirror", |transaction| {
            let MirrorRecord { url, fetched_at, head, refs, rewrites, digest } = mirror;
            transaction
                .prepare_cached(
                    "INSERT INTO mirrors (git_name, url, fetched_at, head, digest) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (git_name) DO UPDATE SET url = ?2, fetched_at = ?3, head = ?4, digest = ?5",
                )?
                .execute(params![git.as_str(), url, time(*fetched_at), head, digest])?;
            let known = refs_of(transaction, git)?;
            for (name, target) in refs.iter().filter(|(name, to)| known.get(*name) != Some(to)) {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO app_refs (git_name, ref, target) VALUES (?1, ?2, ?3)")?
                    .execute(params![git.as_str(), name, target])?;
            }
            for name in known.keys().filter(|name| !refs.contains_key(*name)) {
                transaction
                    .prepare_cached("DELETE FROM app_refs WHERE git_name = ?1 AND ref = ?2")?
                    .execute(params![git.as_str(), name])?;
            }
            let mut new = Vec::new();
            for rewrite in rewrites {
                if insert_rewrite(transaction, git, rewrite, told_at)? {
                    new.push(rewrite.clone());
                }
            }
            Ok(new)
        })
    }

    /// It was fetched, and has what it had: whether that is what is recorded.
    pub fn same_mirror(
        &self,
        git: &Name,
        url: &str,
        digest: &str,
        fetched_at: Timestamp,
    ) -> Result<bool, CatalogError> {
        self.write("record a fetch", |transaction| {
            let updated = transaction
                .prepare_cached(
                    "UPDATE mirrors SET fetched_at = ?4 WHERE git_name = ?1 AND url = ?2 AND digest = ?3",
                )?
                .execute(params![git.as_str(), url, digest, time(fetched_at)])?;
            Ok(updated > 0)
        })
    }

    /// A person let the mirror go, with what it kept.
    pub fn forget_rewrites(&self, git: &Name) -> Result<(), CatalogError> {
        self.write("forget a journal", |transaction| {
            transaction
                .execute("DELETE FROM rewrites WHERE git_name = ?1", [git.as_str()])
                .map(drop)
        })
    }

    /// What the mirror of a git repository had when it was fetched last; nothing where it never was.
    pub fn mirror(&self, git: &Name) -> Result<Option<MirrorRecord>, CatalogError> {
        self.read("read of a mirror", |transaction| {
            let found = transaction
                .query_row("SELECT * FROM mirrors WHERE git_name = ?1", [git.as_str()], |row| {
                    let (url, fetched_at) = (row.get("url")?, parsed(row, "fetched_at")?);
                    Ok((url, fetched_at, row.get("head")?, row.get("digest")?))
                })
                .optional()?;
            let Some((url, fetched_at, head, digest)) = found else { return Ok(None) };
            let refs = refs_of(transaction, git)?;
            let rewrites = rows(
                transaction,
                "SELECT * FROM rewrites WHERE git_name = ?1 ORDER BY seen_at, ref",
                [git.as_str()],
                read_rewrite,
            )?;
            Ok(Some(MirrorRecord { url, fetched_at, head, refs, rewrites, digest }))
        })
    }

    /// People are told of these: the deliveries are put down in the same transaction.
    pub fn tell_rewrites(
        &self,
        git: &Name,
        rewrites: &[Rewrite],
        deliveries: &[Delivery],
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        self.write("tell what was pushed away", |transaction| {
            deliveries.iter().try_for_each(|delivery| outbox::insert(transaction, delivery))?;
            rewrites.iter().try_for_each(|rewrite| {
                transaction
                    .prepare_cached(
                        "UPDATE rewrites SET told_at = ?3 WHERE git_name = ?1 AND kept = ?2",
                    )?
                    .execute(params![git.as_str(), rewrite.kept, time(now)])
                    .map(drop)
            })
        })
    }

    /// What was pushed away and nobody was told of yet, oldest first.
    pub fn untold_rewrites(&self) -> Result<Vec<(Name, Rewrite)>, CatalogError> {
        self.read("look for what was pushed away", |transaction| {
            rows(
                transaction,
                "SELECT * FROM rewrites WHERE told_at IS NULL ORDER BY git_name, seen_at, ref",
                [],
                |row| Ok((parsed(row, "git_name")?, read_rewrite(row)?)),
            )
        })
    }
}
