//! The parts of a platform's instance besides trees of files: its databases, its environment, and what its host would be
//! rebuilt from.

use super::before::Before;
use super::keys::{KeyProof, Proven};
use super::part::Part;
use super::seal::Draft;
use super::{Component, Run, progress_of};
use crate::access::{AccessError, Command};
use crate::component::mongodb::wire::RawDocument;
use crate::component::postgres::archive::TapRow;
use crate::component::postgres::{
    Begun, Connection, DumpedDatabase, PostgresDetails, PostgresError, Tap,
};
use crate::config::{Platform, PostgresSettings};
use crate::model::manifest::{KeyFit, Writers};
use crate::ops::OpsError;
use crate::ops::instance::{AllDatabases, Databases, Living};
use crate::ops::probe;
use crate::ops::quiesce::{self, Quiesced};
use crate::ops::turn::Turn;
use crate::platform::edition;
use crate::platform::http::Limits;
use crate::platform::recipe::{ComponentKind, VersionRecipe};
use crate::repository::RepositoryError;
use crate::repository::writer::Writer;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is known of the whole once its parts were read.
#[derive(Default)]
pub(super) struct PlatformRead {
    /// Which parts had to be read.
    pub(super) parts: Vec<String>,
    pub(super) key_fit: KeyFit,
    /// The platform's version and edition, where they are told.
    pub(super) version: Option<String>,
    pub(super) edition: Option<String>,
    /// What became of who writes, where they were stopped.
    pub(super) writers: Option<Writers>,
    pub(super) warnings: Vec<String>,
}

/// A file of more bytes tells no version.
const MOST_VERSION_BYTES: u64 = 64 * 1024;
/// A server that does not tell its version within this tells none.
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// What the record of migrations tells.
#[derive(Default)]
struct ChangeLog {
    is_there: AtomicBool,
    is_enterprise: AtomicBool,
}

impl ChangeLog {
    fn see(&self, collection: &str, document: &RawDocument) {
        if collection != edition::COLLECTION {
            return;
        }
        self.is_there.store(true, Ordering::Relaxed);
        if document.get_str(edition::MEMBER).is_ok_and(edition::is_enterprise) {
            self.is_enterprise.store(true, Ordering::Relaxed);
        }
    }

    fn edition(&self) -> Option<String> {
        let is_enterprise = self.is_enterprise.load(Ordering::Relaxed);
        let edition = if is_enterprise { "enterprise" } else { "community" };
        self.is_there.load(Ordering::Relaxed).then(|| edition.to_owned())
    }
}

impl Run<'_> {
    /// Read what the instance's platform has besides files.
    pub(super) fn read_platform(
        &self,
        writer: &Writer,
        before: &Before,
        draft: &mut Draft,
    ) -> Result<PlatformRead, OpsError> {
        if matches!(self.instance.platform, Platform::Files | Platform::Git) {
            // Nothing is encrypted in plain files.
            return Ok(PlatformRead::default());
        }
        // Before a restore only that is read which it replaces.
        let is_part = self.options.before_restore_of.is_some();
        self.context.events.phase("looking at", self.instance.name.to_string());
        let living = Living::look(self.config, self.instance, self.context)?;
        let version = self.version_of(&living)?;
        let mut keys = KeyProof::of(&living);
        let (mut parts, mut names, mut edition) = (Vec::new(), Vec::new(), None);
        let mut warnings = Vec::new();
        // Whoever restores has stopped them already.
        let is_asked = self.instance.quiesce && !is_part && !self.options.writers_are_stopped;
        let stopped = is_asked.then(|| quiesce::stop(self.config, &living, self.job, self.context));
        let stopped = stopped.transpose()?.flatten();
        if living.recipe.has(ComponentKind::Mongodb) {
            let place = living.mongodb(&self.session.secrets)?;
            let change_log = ChangeLog::default();
            let tap = |collection: &str, document: &RawDocument| {
                keys.document(collection, document.as_bytes());
                change_log.see(collection, document);
            };
            draft.add(self.read_mongodb(&place, writer, &tap)?);
            parts.push("mongodb".to_owned());
            edition = change_log.edition();
        }
        // Appsmith has one of its own where it has Keycloak or Temporal, which only the configuration says.
        let has_own = self.instance.postgres != PostgresSettings::default();
        if let (Some(path), false) = (&living.recipe.own_postgres, has_own) {
            let test = Command::new("test").arguments(["-d", path]);
            if living.access.run(&test, &[], 0).is_ok() {
                self.context.events.note(format!("{}: its own PostgreSQL ({path}) is not in the snapshot; component.postgres says how it is reached.", self.instance.name));
            }
        }
        if living.recipe.has(ComponentKind::Postgres) || has_own {
            let databases = living.databases(&self.session.secrets)?;
            let (component, read) = self.read_postgres(&databases, writer, &mut keys)?;
            draft.add(component);
            names = read;
            parts.push("postgres".to_owned());
        }
        if let Some(component) = self.read_redis(&living, writer)? {
            draft.add(component);
            parts.push("redis".to_owned());
        }
        if living.recipe.has(ComponentKind::Files) {
            for directory in &living.recipe.files {
                if let Some(component) = self.read_directory(&living, directory, writer, before)? {
                    draft.add(component);
                    parts.push(directory.name.clone());
                }
            }
        }
        let was_stopped = stopped.is_some();
        let started_early = stopped.map(Quiesced::resume).transpose()?.flatten();
        let writers = was_stopped.then_some(match started_early {
            None => Writers::Stopped,
            Some(_) => Writers::StartedEarly,
        });
        if let Some(component) = Self::read_environment(&living, writer)? {
            draft.add(component);
            parts.push("environment".to_owned());
        }
        if let Some(component) = self.read_deployment(&living, writer)? {
            draft.add(component);
            parts.push("deployment".to_owned());
        }
        let Proven { verdict: key_fit, warnings: mut of_environment } =
            keys.finish(&names, is_part);
        for name in &living.recipe.environment.required {
            let is_key = living
                .recipe
                .key_fit
                .as_ref()
                .is_some_and(|recipe| recipe.variables().contains(&name));
            if !is_key && living.variable(name).is_none() {
                of_environment.push(format!("{name} is not set in the environment"));
            }
        }
        warnings
            .extend(of_environment.into_iter().map(|warning| format!("environment: {warning}")));
        for warning in &warnings {
            self.context.events.warn(warning.as_str());
        }
        if let Some(warning) = started_early {
            self.context.events.warn(warning.as_str());
            warnings.push(warning);
        }
        Ok(PlatformRead { parts, key_fit, version, edition, writers, warnings })
    }

    /// The version that the instance's own file tells, or else the server that runs.
    fn version_of(&self, living: &Living<'_>) -> Result<Option<String>, OpsError> {
        let Some(VersionRecipe { file, member }) = &living.recipe.version else {
            return self.version_asked();
        };
        let told = match living.access.read_file(file, MOST_VERSION_BYTES) {
            Ok(json) => serde_json::from_slice::<serde_json::Value>(&json).unwrap_or_default(),
            Err(AccessError::Failed { .. }) => serde_json::Value::Null,
            Err(error) => return Err(error.into()),
        };
        let version = told.get(member).and_then(serde_json::Value::as_str).map(ToOwned::to_owned);
        if version.is_none() {
            let name = &self.instance.name;
            self.context.events.note(format!("{name}: {file} tells no version."));
        }
        Ok(version)
    }

    /// The version that ToolJet tells, by itself or in its database. One that does not is no failure: what is backed up is there all the same.
    fn version_asked(&self) -> Result<Option<String>, OpsError> {
        let is_part = self.options.before_restore_of.is_some();
        if self.instance.platform != Platform::Tooljet || is_part {
            return Ok(None);
        }
        let limits = Limits { connect: ASKED_WITHIN, all: ASKED_WITHIN };
        let secrets = &self.session.secrets;
        match probe::version(self.config, secrets, self.instance, limits, self.context) {
            Ok((found, _)) => Ok(found.map(|found| found.version.to_string())),
            Err(error) if error.is_cancelled() => Err(error),
            Err(error) => {
                let name = &self.instance.name;
                self.context.events.note(format!("{name} tells no version: {}.", error.told()));
                Ok(None)
            }
        }
    }

    fn failed(&self, source: PostgresError) -> OpsError {
        if let PostgresError::Sink { source, database } = source {
            // What the repository says is told as such.
            return match source.downcast::<RepositoryError>() {
                Ok(error) => error.into(),
                Err(source) => self.failed_postgres(PostgresError::Sink { source, database }),
            };
        }
        self.failed_postgres(source)
    }

    fn failed_postgres(&self, source: PostgresError) -> OpsError {
        OpsError::Postgres { instance: self.instance.name.to_string(), source }
    }

    fn read_postgres(
        &self,
        databases: &Databases,
        writer: &Writer,
        keys: &mut KeyProof,
    ) -> Result<(Component, Vec<String>), OpsError> {
        let application = format!("belay {}", self.job);
        let first = databases.names.first().map_or("postgres", String::as_str);
        let connection = Connection::open(
            databases.access.clone(),
            databases.target.clone(),
            first,
            &application,
        )
        .map_err(|error| self.failed(error))?;
        let mut part = Part::new(writer, "postgres");
        let mut names = databases.names.clone();
        if names.is_empty() {
            let all = AllDatabases::of(connection.server());
            names = all.names;
            if let Some(note) = all.note {
                self.context.events.note(note);
            }
            if let Some(warning) = all.warning {
                part.warn(&self.context.events, format!("postgres: {warning}"));
            }
        }
        let dumped = self.dump(&connection, databases, &names, part, keys);
        if dumped.is_err() {
            // What does not end now ends by itself.
            let _ = connection.end_own(first);
        }
        dumped.map(|component| (component, names)).map_err(|error| self.failed(error))
    }

    fn dump(
        &self,
        connection: &Connection,
        databases: &Databases,
        names: &[String],
        mut part: Part<'_>,
        keys: &mut KeyProof,
    ) -> Result<Component, PostgresError> {
        let stored = |error: RepositoryError| PostgresError::Sink {
            database: "globals".into(),
            source: std::io::Error::other(error),
        };
        let mut begun = Begun::begin(connection, names)?.gently(self.options.turn.is_some());
        part.add("globals.sql", &begun.globals()?).map_err(stored)?;
        let mut details = PostgresDetails::of(connection, begun.skew_ms);
        let mut counts = BTreeMap::from([("databases".to_owned(), names.len() as u64)]);
        let events = &self.context.events;
        let mut before = 0;
        for (position, name) in names.iter().enumerate() {
            events.phase("reading", format!("database {name} of {}", self.instance.name));
            let mut stream = part.stream();
            let mut progress = progress_of(events);
            let mut told = |bytes| {
                self.options.turn.iter().for_each(Turn::wait);
                progress(before + bytes, position as u64);
            };
            let wanted = keys.wanted(name);
            let mut seen = |row: &TapRow<'_>| keys.row(row);
            let mut tap = Tap { wanted: &wanted, row: &mut seen };
            let dumped = begun.dump(position, &mut stream, &mut tap, &mut told)?;
            keys.was_read(name, &dumped.summary.missing);
            before += dumped.summary.size_bytes;
            let file = file_name(name);
            part.add_stream(&format!("{file}.dump"), stream).map_err(stored)?;
            let settings = dumped.facts.settings_sql(name);
            part.add(&format!("{file}.settings.sql"), settings.as_bytes()).map_err(stored)?;
            let settings = dumped.facts.settings_json();
            part.add(&format!("{file}.settings.json"), &settings).map_err(stored)?;
            for warning in &dumped.warnings {
                part.warn(events, format!("postgres: {name}: {warning}"));
            }
            for (kind, count) in counts_of(&dumped) {
                *counts.entry(kind.to_owned()).or_insert(0) += count;
            }
            let variable = databases.variable(name).cloned();
            details.add(dumped, format!("/postgres/{file}.dump"), variable);
        }
        begun.end()?;
        let details = serde_json::to_value(details).expect("names, numbers and texts become JSON");
        part.finish(connection.told(), counts, details).map_err(stored)
    }

    /// The environment file as it is.
    fn read_environment(
        living: &Living<'_>,
        writer: &Writer,
    ) -> Result<Option<Component>, OpsError> {
        let (Some(content), Some(path)) = (&living.file, &living.file_path) else {
            return Ok(None);
        };
        let mut part = Part::new(writer, "environment");
        let name = path.rsplit('/').next().unwrap_or("environment");
        part.add(name, content)?;
        Ok(Some(part.finish(path.clone(), BTreeMap::new(), serde_json::Value::Null)?))
    }

    /// What the instance's container would be made from again.
    fn read_deployment(
        &self,
        living: &Living<'_>,
        writer: &Writer,
    ) -> Result<Option<Component>, OpsError> {
        let Some(container) = &living.container else { return Ok(None) };
        let mut part = Part::new(writer, "deployment");
        part.add("container.json", &container.document)?;
        let mut environment = zeroize::Zeroizing::new(Vec::new());
        for variable in &container.environment {
            // Writing to memory does not fail.
            let _ = writeln!(environment, "{}", variable.as_str());
        }
        part.add("environment", &environment)?;
        for (name, content) in living.compose_files(&self.context.events)? {
            part.add(&name, &content)?;
        }
        let source = format!("{} ({})", living.access.via(), container.image);
        let details =
            serde_json::json!({ "image": container.image, "image_id": container.image_id });
        Ok(Some(part.finish(source, BTreeMap::new(), details)?))
    }
}

/// A database's name as that of a file: what a path cannot hold is written as `%NN`.
fn file_name(database: &str) -> String {
    let mut name = String::new();
    for (position, character) in database.char_indices() {
        let is_leading_dot = position == 0 && character == '.';
        if matches!(character, '/' | '%') || character.is_control() || is_leading_dot {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                // Writing to a string does not fail.
                let _ = write!(name, "%{byte:02X}");
            }
        } else {
            name.push(character);
        }
    }
    name
}

fn counts_of(dumped: &DumpedDatabase) -> [(&'static str, u64); 3] {
    let summary = &dumped.summary;
    [
        ("tables", summary.tables.len() as u64),
        ("rows", summary.tables.iter().map(|table| table.rows).sum()),
        ("large objects", summary.large_objects),
    ]
}
