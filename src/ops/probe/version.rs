//! Which version of its platform an instance runs: as the server that runs says, or else its files, or else its database.

use super::{connection, failed};
use crate::access::AccessError;
use crate::component::postgres::Session;
use crate::config::{Config, Instance, Platform, SecretSources, VersionFile};
use crate::model::version::Version;
use crate::notify::install_crypto;
use crate::ops::instance::Living;
use crate::ops::{Context, OpsError};
use crate::platform::http::{Limits, plain};
use crate::platform::recipe::VersionRecipe;
use serde::Deserialize;

/// A file of more bytes tells no version.
const MOST_BYTES: u64 = 64 * 1024;
/// Where `ToolJet`'s own image has it.
const TOOLJET_FILE: &str = "/app/server/.version";
/// The variable that names `ToolJet`'s database of apps.
const TOOLJET_DATABASE: &str = "PG_DB";

/// A version, and who said so.
#[derive(Clone, Debug)]
pub struct VersionFound {
    /// The version.
    pub version: Version,
    /// Such as `GET /info` or `/opt/appsmith/info.json`.
    pub source: String,
}

/// Ask for the version of what runs. The last element is what each source said that told none.
pub fn version(
    config: &Config,
    secrets: &SecretSources,
    instance: &Instance,
    limits: Limits,
    context: &Context,
) -> Result<(Option<VersionFound>, Vec<String>), OpsError> {
    let mut without = Vec::new();
    if let Some(found) = by_http(instance, limits, &mut without) {
        return Ok((Some(found), without));
    }
    let living = Living::look(config, instance, context)?;
    let found = match by_file(&living, &mut without)? {
        Some(found) => Some(found),
        None => match instance.platform {
            Platform::Postgres | Platform::Mongodb => {
                by_server(&living, secrets, &mut without, context)?
            }
            _ => by_database(&living, secrets, &mut without)?,
        },
    };
    Ok((found, without))
}

/// A text that says so, if it is a version.
fn found(text: Option<&str>, source: &str, without: &mut Vec<String>) -> Option<VersionFound> {
    match text.map(str::parse) {
        Some(Ok(version)) => return Some(VersionFound { version, source: source.to_owned() }),
        Some(Err(error)) => without.push(format!("{source}: {error}")),
        None => without.push(format!("{source} tells no version")),
    }
    None
}

fn by_http(instance: &Instance, limits: Limits, without: &mut Vec<String>) -> Option<VersionFound> {
    let web = instance.web.as_ref()?;
    let (path, members) = match instance.platform {
        Platform::Appsmith => ("/info", ["version", "version"]),
        Platform::Tooljet => ("/api/metadata", ["installed_version", "version"]),
        _ => return None,
    };
    install_crypto();
    let source = format!("GET {path}");
    let answer = match plain::get(&plain::below(&web.url, path)?, limits) {
        Ok(answer) if answer.is_success() => answer,
        Ok(answer) => {
            without.push(format!("{source} was answered with {}", answer.status));
            return None;
        }
        Err(error) => {
            without.push(error.to_string());
            return None;
        }
    };
    let json = answer.json();
    // Newer releases wrap what they say.
    let said = members
        .iter()
        .find_map(|name| json[*name].as_str().or_else(|| json["data"][*name].as_str()));
    found(said, &source, without)
}

fn is_tooljet_container(living: &Living<'_>) -> bool {
    living.instance.platform == Platform::Tooljet && living.container.is_some()
}

fn by_file(
    living: &Living<'_>,
    without: &mut Vec<String>,
) -> Result<Option<VersionFound>, OpsError> {
    let configured = living.instance.version.as_ref().and_then(|version| {
        let VersionFile { file, member } = version;
        Some((file.to_str()?, member.as_deref()))
    });
    let (file, member) = match (configured, &living.recipe.version) {
        (Some(configured), _) => configured,
        (None, Some(VersionRecipe { file, member })) => (file.as_str(), Some(member.as_str())),
        (None, None) if is_tooljet_container(living) => (TOOLJET_FILE, None),
        (None, None) => return Ok(None),
    };
    let content = match living.access.read_file(file, MOST_BYTES) {
        Ok(content) => content,
        Err(error @ AccessError::Failed { .. }) => {
            without.push(error.to_string());
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let text = match member {
        Some(member) => {
            let json: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
            json[member].as_str().map(ToOwned::to_owned)
        }
        None => Some(String::from_utf8_lossy(&content).trim().to_owned()),
    };
    Ok(found(text.as_deref(), file, without))
}

/// Where the platform is a database server and nothing else, its version is the server's.
fn by_server(
    living: &Living<'_>,
    secrets: &SecretSources,
    without: &mut Vec<String>,
    context: &Context,
) -> Result<Option<VersionFound>, OpsError> {
    if living.instance.platform == Platform::Postgres {
        let databases = living.databases(secrets)?;
        let database = databases.names.first().map_or("postgres", String::as_str);
        let connection = connection(living, &databases, database)?;
        return Ok(found(Some(&connection.server().version), "the PostgreSQL server", without));
    }
    let place = living.mongodb(secrets)?;
    if place.dumped_by()?.is_some() {
        without.push("mongodump does not tell the version of its server".to_owned());
        return Ok(None);
    }
    Ok(found(Some(&place.open(context)?.version), "the MongoDB server", without))
}

#[derive(Deserialize)]
struct MetadataRow {
    version: Option<String>,
}

/// `ToolJet` writes down at its start which release it is.
fn by_database(
    living: &Living<'_>,
    secrets: &SecretSources,
    without: &mut Vec<String>,
) -> Result<Option<VersionFound>, OpsError> {
    if living.instance.platform != Platform::Tooljet {
        return Ok(None);
    }
    let Some(database) = living.database_name(TOOLJET_DATABASE) else { return Ok(None) };
    let databases = living.databases(secrets)?;
    let connection = connection(living, &databases, &database)?;
    let asked = || {
        let mut session = Session::open(&connection, &database)?;
        session
            .execute("SET default_transaction_read_only = on; SET statement_timeout = '20s';")?;
        let is_there: Vec<MetadataRow> = session.query(
            "SELECT 'yes' AS version FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'public' AND c.relname = 'metadata'",
        )?;
        let mut rows: Vec<MetadataRow> = Vec::new();
        if !is_there.is_empty() {
            rows = session.query(
                "SELECT to_jsonb(m)->'data'->>'installed_version' AS version FROM public.metadata m LIMIT 1",
            )?;
        }
        session.close()?;
        Ok(rows.pop().and_then(|row| row.version))
    };
    let text = asked().map_err(failed(living))?;
    Ok(found(text.as_deref(), "the table metadata", without))
}
