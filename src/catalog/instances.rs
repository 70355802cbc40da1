//! Which instance id this host uses for each configured instance. It is a decision of this host (see `adopt`), so it is
//! carried over when the catalog is made again.

use crate::catalog::values::{parsed, time};
use crate::catalog::{Catalog, CatalogError, rows};
use crate::model::id::InstanceId;
use crate::model::name::Name;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};

pub(super) const TABLES_1: &str = "
    CREATE TABLE instances (
        instance_id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        repository TEXT NOT NULL, -- its name in the configuration
        host TEXT NOT NULL,
        host_id TEXT NOT NULL,
        adopted_at TEXT NOT NULL,
        UNIQUE (name, repository)
    ) STRICT;
";

/// An instance as this host knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id for good.
    pub id: InstanceId,
    /// Its name in the configuration.
    pub name: Name,
    /// The repository's name in the configuration.
    pub repository: Name,
    /// The name of the host that adopted it.
    pub host: String,
    /// What tells hosts of one name apart.
    pub host_id: String,
    /// When this host began to use the id.
    pub adopted_at: Timestamp,
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Instance> {
    Ok(Instance {
        id: parsed(row, "instance_id")?,
        name: parsed(row, "name")?,
        repository: parsed(row, "repository")?,
        host: row.get("host")?,
        host_id: row.get("host_id")?,
        adopted_at: parsed(row, "adopted_at")?,
    })
}

pub(super) fn insert(transaction: &Transaction<'_>, instance: &Instance) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM instances WHERE instance_id = ?1 OR (name = ?2 AND repository = ?3)",
        )?
        .execute(params![
            instance.id.to_string(),
            instance.name.as_str(),
            instance.repository.as_str()
        ])?;
    transaction
        .prepare_cached(
            "INSERT INTO instances (instance_id, name, repository, host, host_id, adopted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            instance.id.to_string(),
            instance.name.as_str(),
            instance.repository.as_str(),
            instance.host,
            instance.host_id,
            time(instance.adopted_at),
        ])?;
    Ok(())
}

impl Catalog {
    /// The id that this host uses for an instance, if it has one yet.
    pub fn instance_id(
        &self,
        name: &Name,
        repository: &Name,
    ) -> Result<Option<InstanceId>, CatalogError> {
        Ok(self.instance(name, repository)?.map(|instance| instance.id))
    }

    /// What the catalog knows of an instance; its host may be another one, where the catalog was copied from there.
    pub fn instance(
        &self,
        name: &Name,
        repository: &Name,
    ) -> Result<Option<Instance>, CatalogError> {
        self.read("look up an instance", |transaction| {
            transaction
                .prepare_cached("SELECT * FROM instances WHERE name = ?1 AND repository = ?2")?
                .query_row(params![name.as_str(), repository.as_str()], read)
                .optional()
        })
    }

    /// Who uses an id on this host, if anybody does.
    pub fn instance_with_id(&self, id: InstanceId) -> Result<Option<Instance>, CatalogError> {
        self.read("look up an instance", |transaction| {
            transaction
                .prepare_cached("SELECT * FROM instances WHERE instance_id = ?1")?
                .query_row([id.to_string()], read)
                .optional()
        })
    }

    /// All instances, by name and repository.
    pub fn instances(&self) -> Result<Vec<Instance>, CatalogError> {
        self.read("list instances", |transaction| {
            rows(transaction, "SELECT * FROM instances ORDER BY name, repository", [], read)
        })
    }

    /// From now on this host uses the id for that name and repository. The name's former id, and the id's former name,
    /// are let go: ask [`Catalog::instance_with_id`] first where that matters.
    pub fn adopt(&self, instance: &Instance) -> Result<(), CatalogError> {
        self.write("adopt an instance", |transaction| insert(transaction, instance))
    }
}
