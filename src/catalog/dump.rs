//! What the repositories can tell again, as a value to compare a catalog with one that was made again.

use crate::catalog::{Catalog, CatalogError, rows};
use rusqlite::types::ValueRef;
use rusqlite::{Row, Transaction};
use serde_json::{Map, Value};

/// The tables, their columns that can be made again, and the columns that order the rows.
const TABLES: &[(&str, &str, &str)] = &[
    ("components", "*", "repository_id, snapshot_id, ordinal"),
    ("instances", "instance_id, name, repository, host, host_id", "instance_id"),
    ("manifests", "*", "repository_id, snapshot_id"),
    ("pins", "*", "repository_id, snapshot_id, reason"),
    ("repositories", "repository_id, name, url", "repository_id"),
    ("repository_state", "*", "repository_id"),
    ("snapshots", "*", "repository_id, snapshot_id"),
    ("upgrade_records", "*", "upgrade_id, number"),
    ("upgrades", "*", "upgrade_id"),
];

fn object(row: &Row<'_>) -> rusqlite::Result<Value> {
    let statement: &rusqlite::Statement<'_> = row.as_ref();
    let mut object = Map::new();
    for (index, column) in statement.column_names().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into(),
            ValueRef::Blob(bytes) => hex::encode(bytes).into(),
        };
        object.insert(column.to_owned(), value);
    }
    Ok(object.into())
}

fn table(
    transaction: &Transaction<'_>,
    (name, columns, order): &(&str, &str, &str),
) -> rusqlite::Result<(String, Value)> {
    let sql = format!("SELECT {columns} FROM {name} ORDER BY {order}");
    Ok(((*name).to_owned(), rows(transaction, &sql, [], object)?.into()))
}

impl Catalog {
    /// Every row that can be made again from the repositories, by table: the same content gives the same value.
    /// Left out are jobs, events, what was verified when, and when an instance was adopted.
    pub fn dump(&self) -> Result<Value, CatalogError> {
        self.read("dump the catalog", |transaction| {
            TABLES.iter().map(|entry| table(transaction, entry)).collect::<Result<Map<_, _>, _>>()
        })
        .map(Value::Object)
    }
}
