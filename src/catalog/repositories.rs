//! The repositories that this host has used, and what was verified of them when, which only this host knows.

use crate::catalog::values::{maybe_parsed, maybe_text, maybe_time, parsed, time};
use crate::catalog::{Catalog, CatalogError, rows};
use crate::model::id::{FileId, RepositoryId};
use crate::model::name::Name;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Params, Row, Transaction, params};

pub(super) const TABLES_1: &str = "
    CREATE TABLE repositories (
        repository_id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL, -- in the configuration; a replaced repository keeps its row
        url TEXT NOT NULL,
        recovery_key_id TEXT,
        recovery_key_verified_at TEXT,
        last_check_at TEXT,
        last_check_ok INTEGER CHECK (last_check_ok IN (0, 1)),
        last_check_read_data INTEGER CHECK (last_check_read_data IN (0, 1)),
        CHECK ((last_check_at IS NULL) = (last_check_ok IS NULL)),
        CHECK ((last_check_at IS NULL) = (last_check_read_data IS NULL))
    ) STRICT;
";

/// A repository as this host knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Its id for good.
    pub id: RepositoryId,
    /// Its name in the configuration when it was last used.
    pub name: Name,
    /// Where it was when it was last used, without secrets.
    pub url: String,
    /// The key file that the recovery key opens.
    pub recovery_key: Option<FileId>,
    /// When the recovery key last opened the repository: it is known to work, and to be kept somewhere.
    pub recovery_key_verified_at: Option<Timestamp>,
    /// The newest check.
    pub last_check: Option<LastCheck>,
}

/// How a check of a repository ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastCheck {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it found nothing wrong.
    pub ok: bool,
    /// Whether it read every byte.
    pub read_data: bool,
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Repository> {
    let last_check = match maybe_parsed(row, "last_check_at")? {
        None => None,
        Some(at) => Some(LastCheck {
            at,
            ok: row.get("last_check_ok")?,
            read_data: row.get("last_check_read_data")?,
        }),
    };
    Ok(Repository {
        id: parsed(row, "repository_id")?,
        name: parsed(row, "name")?,
        url: row.get("url")?,
        recovery_key: maybe_parsed(row, "recovery_key_id")?,
        recovery_key_verified_at: maybe_parsed(row, "recovery_key_verified_at")?,
        last_check,
    })
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    repository: &Repository,
) -> rusqlite::Result<()> {
    let check = repository.last_check;
    transaction
        .prepare_cached(
            "INSERT INTO repositories (repository_id, name, url, recovery_key_id, recovery_key_verified_at,
                                       last_check_at, last_check_ok, last_check_read_data)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            repository.id.to_string(),
            repository.name.as_str(),
            repository.url,
            maybe_text(repository.recovery_key),
            maybe_time(repository.recovery_key_verified_at),
            maybe_time(check.map(|check| check.at)),
            check.map(|check| check.ok),
            check.map(|check| check.read_data),
        ])?;
    Ok(())
}

impl Catalog {
    /// Records under which name and where a repository was used; what was verified of it stays. Writes only what is new:
    /// every command comes here, and must not have to wait for one that writes.
    pub fn record_repository(
        &self,
        id: RepositoryId,
        name: &Name,
        url: &str,
    ) -> Result<(), CatalogError> {
        let known = self.repository(id)?;
        if known.is_some_and(|known| known.name == *name && known.url == url) {
            return Ok(());
        }
        self.write("record a repository", |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO repositories (repository_id, name, url) VALUES (?1, ?2, ?3)
                     ON CONFLICT (repository_id) DO UPDATE SET name = excluded.name, url = excluded.url",
                )?
                .execute(params![id.to_string(), name.as_str(), url])
                .map(drop)
        })
    }

    /// What is known of a repository.
    pub fn repository(&self, id: RepositoryId) -> Result<Option<Repository>, CatalogError> {
        self.read("look up a repository", |transaction| {
            transaction
                .prepare_cached("SELECT * FROM repositories WHERE repository_id = ?1")?
                .query_row([id.to_string()], read)
                .optional()
        })
    }

    /// All repositories, by name and id.
    pub fn repositories(&self) -> Result<Vec<Repository>, CatalogError> {
        self.read("list repositories", |transaction| {
            rows(transaction, "SELECT * FROM repositories ORDER BY name, repository_id", [], read)
        })
    }

    /// A recovery key was made; it has yet to prove itself.
    pub fn set_recovery_key(&self, id: RepositoryId, key: FileId) -> Result<(), CatalogError> {
        self.update_repository(
            id,
            "UPDATE repositories SET recovery_key_id = ?2, recovery_key_verified_at = NULL WHERE repository_id = ?1",
            params![id.to_string(), key.to_string()],
        )
    }

    /// The recovery key opened the repository.
    pub fn recovery_key_verified(
        &self,
        id: RepositoryId,
        key: FileId,
        at: Timestamp,
    ) -> Result<(), CatalogError> {
        self.update_repository(
            id,
            "UPDATE repositories SET recovery_key_id = ?2, recovery_key_verified_at = ?3 WHERE repository_id = ?1",
            params![id.to_string(), key.to_string(), time(at)],
        )
    }

    /// A check ended.
    pub fn record_check(&self, id: RepositoryId, check: LastCheck) -> Result<(), CatalogError> {
        self.update_repository(
            id,
            "UPDATE repositories SET last_check_at = ?2, last_check_ok = ?3, last_check_read_data = ?4
             WHERE repository_id = ?1",
            params![id.to_string(), time(check.at), check.ok, check.read_data],
        )
    }

    fn update_repository(
        &self,
        id: RepositoryId,
        sql: &str,
        parameters: impl Params,
    ) -> Result<(), CatalogError> {
        let changed = self.write("record what is known of a repository", |transaction| {
            transaction.prepare_cached(sql)?.execute(parameters)
        })?;
        self.must_exist(changed, "repository", &id)
    }

    /// An error when a statement that names a row by its id found none.
    pub(super) fn must_exist(
        &self,
        changed: usize,
        what: &'static str,
        id: &impl ToString,
    ) -> Result<(), CatalogError> {
        if changed == 0 {
            return Err(CatalogError::Unknown {
                what,
                id: id.to_string(),
                path: self.path.clone(),
            });
        }
        Ok(())
    }
}
