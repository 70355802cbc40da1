//! What the manifest says of databases: enough to make them again, and to tell whether all came back.

use super::restore::ArchiveFacts;
use super::{Connection, DatabaseFacts, DumpedDatabase};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the manifest's `details` hold for this component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PostgresDetails {
    /// The server's version, such as `15.18`.
    pub server_version: String,
    /// That of `pg_dump`.
    pub pg_dump_version: String,
    /// Milliseconds between the first database's snapshot and the last one's.
    pub skew_ms: f64,
    /// Whether the globals have the roles' passwords.
    pub has_passwords: bool,
    /// In the order in which they were read.
    pub databases: Vec<DatabaseDetails>,
}

/// What the manifest says of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDetails {
    /// What it is like.
    #[serde(flatten)]
    pub facts: DatabaseFacts,
    /// What its archive needs of a server.
    pub archive: ArchiveFacts,
    /// Where its dump is in the snapshot.
    pub dump: String,
    /// The variable of the platform's environment that has its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// Rows by table: by schema, then by name.
    pub rows: BTreeMap<String, BTreeMap<String, u64>>,
    /// Large objects.
    pub large_objects: u64,
}

impl DatabaseDetails {
    /// Where the values of its settings are in the snapshot.
    pub fn settings(&self) -> String {
        format!("{}.settings.json", self.dump.strip_suffix(".dump").unwrap_or(&self.dump))
    }
}

impl PostgresDetails {
    /// Of a server, without databases yet.
    pub fn of(connection: &Connection, skew_ms: f64) -> Self {
        Self {
            server_version: connection.server().version.clone(),
            pg_dump_version: connection.tools().version.clone(),
            skew_ms,
            has_passwords: connection.server().reads_passwords,
            databases: Vec::new(),
        }
    }

    /// A database was read.
    pub fn add(&mut self, dumped: DumpedDatabase, dump: String, variable: Option<String>) {
        let mut rows: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for table in &dumped.summary.tables {
            rows.entry(table.schema.to_string())
                .or_default()
                .insert(table.table.to_string(), table.rows);
        }
        let large_objects = dumped.summary.large_objects;
        let archive = ArchiveFacts::of(&dumped.summary);
        self.databases.push(DatabaseDetails {
            facts: dumped.facts,
            archive,
            dump,
            variable,
            rows,
            large_objects,
        });
    }
}
