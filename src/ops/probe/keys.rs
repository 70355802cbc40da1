//! Whether what is encrypted in an instance's database decrypts with the keys that it has now: of what a backup proves of all, a part.

use super::{connection, failed};
use crate::component::postgres::{PostgresError, Session};
use crate::config::{Config, Instance, SecretSources};
use crate::ops::instance::Living;
use crate::ops::{Context, OpsError};
use crate::platform::keyfit::appsmith::{self, Key};
use crate::platform::keyfit::tooljet::{self, MasterKey, ORGANIZATION_IDS, SCHEMA};
use crate::platform::keyfit::{FitPlace, FitReport};
use crate::platform::recipe::KeyFitRecipe;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// So many rows or documents of each field are tried.
const MOST_VALUES: u32 = 2_000;
/// Nobody has more organizations.
const MOST_ORGANIZATIONS: u32 = 100_000;
/// Documents that are deeper are none that a platform writes.
const MOST_DEPTH: usize = 64;

/// What trying showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysTried {
    /// Values that decrypted.
    pub fit: u64,
    /// Values that did not.
    pub unfit: u64,
    /// What a person should know: places, never values.
    pub told: Vec<String>,
}

impl KeysTried {
    fn of(report: &FitReport) -> Self {
        Self { fit: report.fit, unfit: report.unfit.count, told: report.warnings() }
    }
}

/// Try the keys of an instance; none where its platform encrypts nothing.
pub fn try_keys(
    config: &Config,
    secrets: &SecretSources,
    instance: &Instance,
    context: &Context,
) -> Result<Option<KeysTried>, OpsError> {
    let living = Living::look(config, instance, context)?;
    let Some(recipe) = living.recipe.key_fit.clone() else { return Ok(None) };
    let variable = |name: &str| {
        living.variable(name).ok_or_else(|| {
            let message = format!("{name} is not set in the environment of {}", instance.name);
            OpsError::refused(message, "without it nothing that is encrypted can be read")
        })
    };
    let report = match &recipe {
        KeyFitRecipe::Appsmith { password, salt } => {
            let key = Key::derive(variable(password)?, variable(salt)?);
            appsmith_report(&living, secrets, key, context)?
        }
        KeyFitRecipe::Tooljet { key, database } => {
            let master = MasterKey::parse(variable(key)?).map_err(|problem| {
                let message = format!("{key} of {}: {problem}", instance.name);
                OpsError::refused(
                    message,
                    "put the key back: `belay restore --component environment`",
                )
            })?;
            let name = living.database_name(database).ok_or_else(|| {
                let message =
                    format!("the environment of {} does not say {database}", instance.name);
                OpsError::refused(message, format!("set {database} there"))
            })?;
            tooljet_report(&living, secrets, master, &name)?
        }
    };
    Ok(Some(KeysTried::of(&report)))
}

fn appsmith_report(
    living: &Living<'_>,
    secrets: &SecretSources,
    key: Key,
    context: &Context,
) -> Result<FitReport, OpsError> {
    let place = living.mongodb(secrets)?;
    let server = place.open(context)?;
    let database = place.name(&server)?;
    let mut proof = appsmith::FitProof::new(key);
    for field in appsmith::FIELDS {
        let path = field.document.join(".");
        let found = server.having(&database, field.collection, &path, &[&path], MOST_VALUES);
        let documents = found.map_err(|source| OpsError::Mongodb {
            instance: living.instance.name.to_string(),
            source,
        })?;
        for document in &documents {
            let inner = field.document.iter().fold(document, |outer, name| &outer[*name]);
            texts_below(inner, field.members, MOST_DEPTH, &mut |member, text| {
                let column = format!("{path}.{member}");
                proof.add(FitPlace::new(field.collection, &column, None), text);
            });
        }
    }
    Ok(proof.finish())
}

/// Each text that a member of one of these names holds, at any depth.
fn texts_below(value: &Value, members: &[&str], depth: usize, found: &mut dyn FnMut(&str, &str)) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Array(items) => {
            for item in items {
                texts_below(item, members, depth - 1, found);
            }
        }
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if members.contains(&name.as_str()) => found(name, text),
                    value => texts_below(value, members, depth - 1, found),
                }
            }
        }
        _ => {}
    }
}

#[derive(Deserialize)]
struct NameRow {
    name: String,
}

#[derive(Deserialize)]
struct ValueRow {
    id: Option<String>,
    value: Option<String>,
}

fn tooljet_report(
    living: &Living<'_>,
    secrets: &SecretSources,
    master: MasterKey,
    database: &str,
) -> Result<FitReport, OpsError> {
    let databases = living.databases(secrets)?;
    let connection = connection(living, &databases, database)?;
    let asked = || {
        let mut session = Session::open(&connection, database)?;
        let report = ask_tooljet(&mut session, master)?;
        session.close()?;
        Ok(report)
    };
    asked().map_err(failed(living))
}

fn ask_tooljet(session: &mut Session, master: MasterKey) -> Result<FitReport, PostgresError> {
    session.execute("SET default_transaction_read_only = on;")?;
    let tables: Vec<NameRow> = session.query(&format!(
        "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = '{SCHEMA}' AND c.relkind IN ('r', 'p')"
    ))?;
    let tables: BTreeSet<&str> = tables.iter().map(|row| row.name.as_str()).collect();
    let mut proof = tooljet::FitProof::new(master);
    // All names are of the platform's own tables and columns, and need no quotes. A column that a release does not have is
    // null in its JSON.
    for field in tooljet::FIELDS.iter().filter(|field| tables.contains(field.table)) {
        let rows: Vec<ValueRow> = session.query(&format!(
            "SELECT to_jsonb(t)->>'{}' AS id, to_jsonb(t)->>'{}' AS value FROM {SCHEMA}.{} t LIMIT {MOST_VALUES}",
            field.id_column, field.value_column, field.table
        ))?;
        for row in rows {
            let bytes = |text: &Option<String>| text.as_ref().map(|it| it.as_bytes().to_vec());
            proof.add(field, bytes(&row.id).as_deref(), bytes(&row.value).as_deref());
        }
    }
    let (table, column) = ORGANIZATION_IDS;
    if tables.contains(table) {
        let rows: Vec<ValueRow> = session.query(&format!(
            "SELECT to_jsonb(t)->>'{column}' AS id, NULL AS value FROM {SCHEMA}.{table} t LIMIT {MOST_ORGANIZATIONS}"
        ))?;
        for id in rows.into_iter().filter_map(|row| row.id) {
            proof.add_organization(id.as_bytes());
        }
    }
    Ok(proof.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_at_any_depth_by_the_names_of_their_members() {
        let value = serde_json::json!({
            "password": "one", "user": "no", "properties": [{ "key": "x", "value": "two" }],
            "nested": { "password": { "value": "three" } }, "value": 4,
        });
        let mut found = Vec::new();
        texts_below(&value, &["password", "value"], 8, &mut |member, text| {
            found.push(format!("{member}={text}"));
        });
        assert_eq!(found, ["password=one", "value=two", "value=three"]);
        texts_below(&value, &["password"], 0, &mut |_, _| panic!("too deep"));
    }
}
