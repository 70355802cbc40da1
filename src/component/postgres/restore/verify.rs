//! Whether all came back, and the last things that make a database whole.

use super::{PlannedDatabase, Restore};
use crate::component::postgres::PostgresError;
use crate::component::postgres::facts::{TABLES, TableName};
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

#[derive(Deserialize)]
struct Counted {
    schema: String,
    name: String,
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
    let own: Vec<TableName> = session.query(TABLES)?;
    // The rows of extensions' own tables are in a dump only where the extension says so.
    let expected_there: Vec<TableName> = session.query(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND c.relpersistence <> 't'",
    )?;
    let is_expected = |table: &TableName| {
        expected.rows.get(&table.schema).is_some_and(|tables| tables.contains_key(&table.name))
    };
    let mut tables: Vec<TableName> = expected_there.into_iter().filter(is_expected).collect();
    tables.extend(own.into_iter().filter(|table| !is_expected(table)));
    let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
    for some in tables.chunks(TABLES_AT_ONCE) {
        let counts = some.iter().map(|TableName { schema, name }| {
            format!(
                "SELECT {} AS schema, {} AS name, count(*) AS rows FROM {}.{}",
                literal(schema),
                literal(name),
                identifier(schema),
                identifier(name)
            )
        });
        let query = counts.collect::<Vec<_>>().join("\nUNION ALL ");
        let counted = session.query::<Counted>(&query)?;
        found.extend(counted.into_iter().map(|table| ((table.schema, table.name), table.rows)));
    }
    let mut differences = Vec::new();
    for (schema, tables) in expected.rows {
        for (name, rows) in tables {
            match found.remove(&(schema.clone(), name.clone())) {
                Some(there) if there == *rows => {}
                Some(there) => {
                    differences.push(format!("{schema}.{name} has {there} rows and had {rows}"));
                }
                None => differences.push(format!("{schema}.{name} is missing")),
            }
        }
    }
    differences
        .extend(found.keys().map(|(schema, name)| format!("{schema}.{name} was not there before")));
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

/// Table by table: a statement over all would say nothing for long, and could not be cancelled in between.
fn analyze(session: &mut Session) -> Result<(), PostgresError> {
    let tables: Vec<TableName> = session.query(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
    )?;
    // Those of another owner are passed over with a warning.
    session.execute("SET client_min_messages = error;")?;
    for TableName { schema, name } in tables {
        session.execute(&format!("ANALYZE {}.{};", identifier(&schema), identifier(&name)))?;
    }
    Ok(())
}
