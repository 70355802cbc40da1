//! How many rows or documents an instance has now, of what a snapshot says that it had.

use super::{connection, failed};
use crate::component::mongodb::MongodbDetails;
use crate::component::postgres::{PostgresDetails, PostgresError, Session, identifier};
use crate::config::{Config, Instance, SecretSources};
use crate::model::manifest::Manifest;
use crate::ops::instance::Living;
use crate::ops::{Context, OpsError};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// A table or a collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// Its database.
    pub database: String,
    /// Its schema; none of a collection.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
}

/// `DATABASE/SCHEMA.TABLE` or `DATABASE/COLLECTION`.
impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, schema, name } = self;
        match schema {
            Some(schema) => write!(formatter, "{database}/{schema}.{name}"),
            None => write!(formatter, "{database}/{name}"),
        }
    }
}

/// What a manifest says of rows and documents, without tables and collections that are empty: there is nothing to lose.
pub fn counted_in(manifest: &Manifest) -> BTreeMap<Counted, u64> {
    let mut all = BTreeMap::new();
    for component in &manifest.components {
        let details = component.details.clone();
        match component.kind.as_str() {
            "postgres" => {
                let details: Option<PostgresDetails> = serde_json::from_value(details).ok();
                for database in details.into_iter().flat_map(|it| it.databases) {
                    for (schema, tables) in database.rows {
                        for (name, rows) in tables {
                            let (database, schema) =
                                (database.facts.name.clone(), Some(schema.clone()));
                            all.insert(Counted { database, schema, name }, rows);
                        }
                    }
                }
            }
            "mongodb" => {
                let details: Option<MongodbDetails> = serde_json::from_value(details).ok();
                let Some(MongodbDetails { database, collections, .. }) = details else { continue };
                for collection in collections.into_iter().filter(|it| it.file.is_some()) {
                    let (database, name) = (database.clone(), collection.name);
                    all.insert(Counted { database, schema: None, name }, collection.documents);
                }
            }
            _ => {}
        }
    }
    all.retain(|_, rows| *rows > 0);
    all
}

/// Count these tables and collections now, within a time. One that is not there has none.
pub fn count(
    config: &Config,
    secrets: &SecretSources,
    instance: &Instance,
    wanted: &BTreeSet<Counted>,
    limit: Duration,
    context: &Context,
) -> Result<BTreeMap<Counted, u64>, OpsError> {
    let until = Instant::now() + limit;
    let mut counted: BTreeMap<Counted, u64> = wanted.iter().map(|it| (it.clone(), 0)).collect();
    let living = Living::look(config, instance, context)?;
    if wanted.iter().any(|it| it.schema.is_none()) {
        documents(&living, secrets, &mut counted, until, context)?;
    }
    if wanted.iter().any(|it| it.schema.is_some()) {
        rows(&living, secrets, &mut counted, until)?;
    }
    Ok(counted)
}

/// Zero time is no limit to a server.
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn documents(
    living: &Living<'_>,
    secrets: &SecretSources,
    counted: &mut BTreeMap<Counted, u64>,
    until: Instant,
    context: &Context,
) -> Result<(), OpsError> {
    let place = living.mongodb(secrets)?;
    let server = place.open(context)?;
    let database = place.name(&server)?;
    for (key, count) in counted.iter_mut().filter(|(key, _)| key.schema.is_none()) {
        // The data may have been in a database of another name when the snapshot was taken.
        let counting = server.count_documents(&database, &key.name, left(until));
        *count = counting.map_err(|source| OpsError::Mongodb {
            instance: living.instance.name.to_string(),
            source,
        })?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct TableRow {
    schema: String,
    name: String,
    is_partitioned: bool,
}

#[derive(Deserialize)]
struct CountRow {
    rows: u64,
}

fn rows(
    living: &Living<'_>,
    secrets: &SecretSources,
    counted: &mut BTreeMap<Counted, u64>,
    until: Instant,
) -> Result<(), OpsError> {
    let databases = living.databases(secrets)?;
    let names: BTreeSet<String> =
        counted.keys().filter(|it| it.schema.is_some()).map(|it| it.database.clone()).collect();
    let first = databases.names.first().or(names.first()).map_or("postgres", String::as_str);
    let connection = connection(living, &databases, first)?;
    for database in &names {
        if !connection.server().databases.contains(database) {
            continue;
        }
        let mut counting = || {
            let mut session = Session::open(&connection, database)?;
            let of_database = counted
                .iter_mut()
                .filter(|(key, _)| key.schema.is_some() && key.database == *database);
            rows_of(&mut session, of_database, until)?;
            session.close()
        };
        if let Err(error) = counting() {
            // What was asked may still be counted.
            let _ = connection.end_own(first);
            return Err(failed(living)(error));
        }
    }
    Ok(())
}

fn rows_of<'a>(
    session: &mut Session,
    tables: impl Iterator<Item = (&'a Counted, &'a mut u64)>,
    until: Instant,
) -> Result<(), PostgresError> {
    session.execute(
        "SET default_transaction_read_only = on; SET row_security = off; BEGIN ISOLATION LEVEL REPEATABLE READ;",
    )?;
    let present: Vec<TableRow> = session.query(
        "SELECT n.nspname AS schema, c.relname AS name, c.relkind = 'p' AS is_partitioned
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')",
    )?;
    let present: BTreeMap<(&str, &str), bool> = present
        .iter()
        .map(|row| ((row.schema.as_str(), row.name.as_str()), row.is_partitioned))
        .collect();
    for (key, count) in tables {
        let schema = key.schema.as_deref().unwrap_or_default();
        let Some(is_partitioned) = present.get(&(schema, key.name.as_str())) else { continue };
        // A dump has the rows of a table without those of the tables that inherit from it.
        let only = if *is_partitioned { "" } else { "ONLY " };
        let (schema, name) = (identifier(schema), identifier(&key.name));
        session.execute(&format!("SET statement_timeout = {};", left(until).as_millis()))?;
        let row: CountRow =
            session.row(&format!("SELECT count(*) AS rows FROM {only}{schema}.{name}"))?;
        *count = row.rows;
    }
    session.execute("COMMIT;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_tells_what_there_was_and_empty_ones_count_for_nothing() {
        let component = |kind: &str, details: serde_json::Value| {
            serde_json::json!({
                "name": kind, "kind": kind, "path": "/x", "source": "x", "started": "2026-01-05T00:00:00Z",
                "finished": "2026-01-05T00:00:00Z", "size_bytes": 0, "counts": {}, "details": details,
            })
        };
        let mongodb = serde_json::json!({
            "server_version": "6.0.5", "database": "appsmith", "moment": 1, "not_one_moment": null, "apart": [],
            "collections": [
                { "name": "application", "documents": 7, "file": "/a", "metadata": "/b" },
                { "name": "empty", "documents": 0, "file": "/a", "metadata": "/b" },
                { "name": "view", "documents": 3, "file": null, "metadata": "/b" },
            ],
        });
        let manifest = serde_json::json!({
            "schema": 1, "program": "belay", "instance": { "id": "0123456789abcdef0123456789abcdef", "name": "a", "host": "h", "host_id": "h" },
            "job": "0123456789abcdef", "platform": "appsmith", "started": "2026-01-05T00:00:00Z", "finished": "2026-01-05T00:00:00Z",
            "sealed": true, "key_fit": "fit", "components": [component("mongodb", mongodb), component("postgres", serde_json::json!({}))],
            "size_bytes": 0, "added_bytes": 0, "warnings": [],
        });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        let told: Vec<String> =
            counted_in(&manifest).iter().map(|(key, rows)| format!("{key}: {rows}")).collect();
        assert_eq!(told, ["appsmith/application: 7"]);
        let table = Counted { database: "d".into(), schema: Some("s".into()), name: "t".into() };
        assert_eq!(table.to_string(), "d/s.t");
    }
}
