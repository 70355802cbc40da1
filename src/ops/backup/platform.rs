//! The parts of a platform's instance besides trees of files: its databases, its environment, and what its host would be
//! rebuilt from.

use super::keys::{KeyProof, Proven};
use super::part::Part;
use super::seal::Draft;
use super::{Component, Run, progress_of};
use crate::component::postgres::archive::TapRow;
use crate::component::postgres::{
    Begun, Connection, DumpedDatabase, PostgresDetails, PostgresError, Tap,
};
use crate::config::Platform;
use crate::model::manifest::KeyFit;
use crate::ops::OpsError;
use crate::ops::instance::{AllDatabases, Databases, Living};
use crate::platform::recipe::ComponentKind;
use crate::repository::RepositoryError;
use crate::repository::writer::Writer;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// What is known of the whole once its parts were read.
pub(super) struct PlatformRead {
    /// Which parts had to be read.
    pub(super) parts: Vec<&'static str>,
    pub(super) key_fit: KeyFit,
    pub(super) warnings: Vec<String>,
}

impl Run<'_> {
    /// Read what the instance's platform has besides files.
    pub(super) fn read_platform(
        &self,
        writer: &Writer,
        draft: &mut Draft,
    ) -> Result<PlatformRead, OpsError> {
        if self.instance.platform == Platform::Files {
            // Nothing is encrypted in plain files.
            return Ok(PlatformRead {
                parts: Vec::new(),
                key_fit: KeyFit::Unproven,
                warnings: Vec::new(),
            });
        }
        self.context.events.phase("looking at", self.instance.name.to_string());
        let living = Living::look(self.config, self.instance, self.context)?;
        let mut keys = KeyProof::of(&living);
        let (mut parts, mut names) = (Vec::new(), Vec::new());
        if living.recipe.has(ComponentKind::Mongodb) {
            let place = living.mongodb(&self.session.secrets)?;
            draft.add(self.read_mongodb(&place, writer)?);
            parts.push("mongodb");
        }
        if living.recipe.has(ComponentKind::Postgres) {
            let databases = living.databases(&self.session.secrets)?;
            let (component, read) = self.read_postgres(&databases, writer, &mut keys)?;
            draft.add(component);
            names = read;
            parts.push("postgres");
        }
        if let Some(component) = self.read_environment(&living, writer)? {
            draft.add(component);
            parts.push("environment");
        }
        if let Some(component) = self.read_deployment(&living, writer)? {
            draft.add(component);
            parts.push("deployment");
        }
        // Before a restore only that is read which it replaces.
        let is_part = self.options.before_restore_of.is_some();
        let Proven { verdict: key_fit, mut warnings } = keys.finish(&names, is_part);
        for name in &living.recipe.environment.required {
            let is_key = living
                .recipe
                .key_fit
                .as_ref()
                .is_some_and(|recipe| recipe.variables().contains(&name));
            if !is_key && living.variable(name).is_none() {
                warnings.push(format!("{name} is not set in the environment"));
            }
        }
        for warning in &mut warnings {
            *warning = format!("environment: {warning}");
            self.context.events.warn(warning.as_str());
        }
        Ok(PlatformRead { parts, key_fit, warnings })
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
        let mut begun = Begun::begin(connection, names)?;
        part.add("globals.sql", &begun.globals()?).map_err(stored)?;
        let mut details = PostgresDetails::of(connection, begun.skew_ms);
        let mut counts = BTreeMap::from([("databases".to_owned(), names.len() as u64)]);
        let events = &self.context.events;
        let mut before = 0;
        for (position, name) in names.iter().enumerate() {
            events.phase("reading", format!("database {name} of {}", self.instance.name));
            let mut stream = part.stream();
            let mut progress = progress_of(events);
            let mut told = |bytes| progress(before + bytes, position as u64);
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
        &self,
        living: &Living<'_>,
        writer: &Writer,
    ) -> Result<Option<Component>, OpsError> {
        let (Some(content), Some(path)) = (&living.file, &self.instance.environment) else {
            return Ok(None);
        };
        let mut part = Part::new(writer, "environment");
        let name = path.file_name().map_or("environment".into(), |name| name.to_string_lossy());
        part.add(&name, content)?;
        let source = path.display().to_string();
        Ok(Some(part.finish(source, BTreeMap::new(), serde_json::Value::Null)?))
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
