//! Whether all came back, and the last things that make a database whole.

use super::{PlannedDatabase, Restore};
use crate::component::postgres::PostgresError;
use crate::component::postgres::facts::{EXTENSIONS_TABLES, TableName};
use crate::component::postgres::session::{Session, identifier, literal};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Tables that are counted with one statement.
const TABLES_AT_ONCE: usize = 50;

/// What a database is to have, as the snapshot's manifest says.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// Rows by table: by schema, then by name.
    pub rows: &'a BTreeMap<String, BTreeMap<String, u64>>,
    /// Large objects.
    pub large_objects: u64,
    /// Extensions.
    pub extensions: &'a BTreeSet<String>,
}

/// A table that is there.
#[derive(Deserialize)]
struct Found {
    schema: String,
    name: String,
    is_extensions: bool,
    /// Of which table it is a partition.
    root: Option<String>,
}

#[derive(Deserialize)]
struct Counted {
    rows: u64,
}

#[derive(Deserialize)]
struct Others {
    large_objects: u64,
    extensions: BTreeSet<String>,
}

impl Restore<'_> {
    /// Compare the fresh database with what is expected, and gather its statistics. What differs is returned; it is empty
    /// where all came back.
    pub fn verify(
        &self,
        planned: &PlannedDatabase,
        expected: &Expected<'_>,
    ) -> Result<Vec<String>, PostgresError> {
        let mut session = Session::open(self.connection, &planned.fresh)?;
        // Without it, policies could hide rows from one who is no superuser.
        session.execute("SET row_security = off;")?;
        let differences = differences(&mut session, expected)?;
        analyze(&mut session)?;
        session.close()?;
        Ok(differences)
    }

    /// Give the fresh database its comment and its settings. Who may connect, and how often, comes with the swap.
    pub fn settle(&self, planned: &PlannedDatabase) -> Result<(), PostgresError> {
        let fresh = identifier(&planned.fresh);
        let comment = planned.facts.comment.as_deref().map_or_else(|| "NULL".into(), literal);
        let settings = planned.facts.settings_sql(&planned.fresh);
        let mut session = self.server()?;
        session.execute(&format!(
            "BEGIN;\nCOMMENT ON DATABASE {fresh} IS {comment};\nALTER DATABASE {fresh} RESET ALL;\n{settings}COMMIT;"
        ))?;
        session.close()
    }
}

fn differences(
    session: &mut Session,
    expected: &Expected<'_>,
) -> Result<Vec<String>, PostgresError> {
    let mut tables: Vec<Found> = session.query(&format!(
        "SELECT n.nspname AS schema, c.relname AS name, c.oid IN ({EXTENSIONS_TABLES}) AS is_extensions,
            CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::regclass::text END AS root
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    ))?;
    let had = |table: &Found| expected.rows.get(&table.schema)?.get(&table.name).copied();
    // The rows of extensions' own tables are in a dump only where the extension says so.
    tables.retain(|table| !table.is_extensions || had(table).is_some());
    let mut differences = Vec::new();
    // By what they are partitions of: a row may come back into another one, where it goes by a hash of what has another
    // number in each database.
    let mut moved: BTreeMap<&str, i128> = BTreeMap::new();
    for some in tables.chunks(TABLES_AT_ONCE) {
        let counted = count(session, some)?;
        for (table, there) in some.iter().zip(counted) {
            let Found { schema, name, is_extensions, root } = table;
            match (had(table), root) {
                (None, _) => differences.push(format!("{schema}.{name} was not there before")),
                // Besides the rows that an extension makes itself, a dump has those that were added.
                (Some(had), _) if *is_extensions && there >= had => {}
                (Some(had), Some(root)) => {
                    *moved.entry(root).or_default() += i128::from(there) - i128::from(had);
                }
                (Some(had), None) if there != had => {
                    differences.push(format!("{schema}.{name} has {there} rows and had {had}"));
                }
                _ => {}
            }
        }
    }
    moved.retain(|_, difference| *difference != 0);
    differences.extend(moved.iter().map(|(root, by)| {
        format!(
            "the partitions of {root} have {} rows {} than they had",
            by.abs(),
            if *by < 0 { "fewer" } else { "more" }
        )
    }));
    let found: BTreeSet<(&str, &str)> =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).collect();
    let names = expected.rows.iter().flat_map(|(schema, tables)| {
        tables.keys().map(move |name| (schema.as_str(), name.as_str()))
    });
    let missing = names.filter(|name| !found.contains(name));
    differences.extend(missing.map(|(schema, name)| format!("{schema}.{name} is missing")));
    let others: Others = session.row(
        "SELECT (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects, ARRAY(SELECT extname FROM pg_extension) AS extensions",
    )?;
    if others.large_objects != expected.large_objects {
        differences.push(format!(
            "it has {} large objects and had {}",
            others.large_objects, expected.large_objects
        ));
    }
    let missing = expected.extensions.difference(&others.extensions);
    differences.extend(missing.map(|name| format!("the extension {name} is missing")));
    Ok(differences)
}

/// The rows of each. As in a dump, those of tables that inherit from it are not its own.
fn count(session: &mut Session, tables: &[Found]) -> Result<Vec<u64>, PostgresError> {
    let counts = tables.iter().enumerate().map(|(number, Found { schema, name, .. })| {
        let (schema, name) = (identifier(schema), identifier(name));
        format!("SELECT {number} AS number, count(*) AS rows FROM ONLY {schema}.{name}")
    });
    let counts = counts.collect::<Vec<_>>().join("\nUNION ALL ");
    let counted: Vec<Counted> = session.query(&format!("{counts}\nORDER BY number"))?;
    Ok(counted.into_iter().map(|table| table.rows).collect())
}

/// Table by table: a statement over all would say nothing for long, and could not be cancelled in between.
fn analyze(session: &mut Session) -> Result<(), PostgresError> {
    let tables: Vec<TableName> = session.query(
        "SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
    )?;
    // Those of another owner are passed over with a warning.
    session.execute("SET client_min_messages = error;")?;
    for TableName { schema, name, .. } in tables {
        session.execute(&format!("ANALYZE {}.{};", identifier(&schema), identifier(&name)))?;
    }
    Ok(())
}
