//! The journal of a restore of databases, in a directory of its own below the state directory.
//!
//! It holds no secret. Before the swap the way is back, after it the way is forward; the server itself tells on which
//! side it is.

use super::look;
use crate::component::postgres::Connection;
use crate::component::postgres::restore::{Restore, RestorePlan, State, Written};
use crate::config::{Config, Instance};
use crate::model::event::Events;
use crate::model::id::JobId;
use crate::model::name::Name;
use crate::model::via::Via;
use crate::ops::instance::Living;
use crate::ops::private::PrivateDirectory;
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use serde::{Deserialize, Serialize};
use std::path::Path;

const DIRECTORY: &str = "database-restores";

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The new state is being made; the present one serves.
    Making,
    /// The names are being exchanged.
    Swapping,
    /// The new state serves.
    Clearing,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    instance: Name,
    job: String,
    phase: Phase,
    maintenance: String,
    plan: RestorePlan,
    /// The environment file that a new one lies beside.
    environment: Option<String>,
    /// What was written to the old databases until they went into a snapshot: what was not written to since may go.
    saved: Option<Written>,
}

/// A journal that is being written.
pub(super) struct Journal {
    directory: PrivateDirectory,
    name: String,
    /// Where the environment file is.
    via: Via,
    entry: Entry,
}

impl Journal {
    /// Begin a journal for a job; `environment` is the file that a new one will lie beside.
    pub(super) fn begin(
        (config, instance): (&Config, &Instance),
        job: JobId,
        maintenance: &str,
        plan: &RestorePlan,
        environment: Option<String>,
    ) -> Result<Self, OpsError> {
        let directory = PrivateDirectory::make(&config.state_dir, DIRECTORY)?;
        let entry = Entry {
            instance: instance.name.clone(),
            job: job.to_string(),
            phase: Phase::Making,
            maintenance: maintenance.to_owned(),
            plan: plan.clone(),
            environment,
            saved: None,
        };
        let name = format!("{}.json", instance.name);
        Ok(Self { directory, name, via: instance.via.clone(), entry })
    }

    /// The restore on a server, as it was planned.
    fn on<'a>(&'a self, connection: &'a Connection) -> Result<Restore<'a>, OpsError> {
        Restore::new(connection, &self.entry.maintenance, &self.entry.plan)
            .map_err(|error| self.failed(error))
    }

    /// The old databases are in a snapshot.
    pub(super) fn saved(&mut self, written: Option<Written>) {
        self.entry.saved = written;
    }

    /// Write it durably, in place of what was written before.
    pub(super) fn write(&mut self, phase: Phase) -> Result<(), OpsError> {
        self.entry.phase = phase;
        let json = serde_json::to_vec_pretty(&self.entry).map_err(|error| OpsError::Io {
            action: "write",
            path: self.directory.path_of(&self.name),
            source: error.into(),
        })?;
        self.directory.write(&self.name, &json)
    }

    fn end(self) -> Result<(), OpsError> {
        self.directory.remove(&self.name)
    }

    fn failed(&self, source: crate::component::postgres::PostgresError) -> OpsError {
        OpsError::Postgres { instance: self.entry.instance.to_string(), source }
    }
}

/// A restore failed, or was interrupted: undo it, or finish it where the swap was made nevertheless. What cannot be done is
/// told, and the journal stays for the next start.
pub(super) fn resolve(connection: &Connection, journal: Journal, events: &Events) {
    let name = journal.entry.instance.clone();
    if let Err(error) = try_resolve(connection, journal, events) {
        events.warn(format!("What the restore of {name} has begun could not be cleared away: {error}. The next restore, or a backup of {name}, does that first."));
    }
}

fn try_resolve(connection: &Connection, journal: Journal, events: &Events) -> Result<(), OpsError> {
    // Also after somebody asked to stop; and nothing of that run may still be at work.
    let connection = connection.anew();
    connection.end_own(&journal.entry.maintenance).map_err(|error| journal.failed(error))?;
    let state = journal.on(&connection)?.state().map_err(|error| journal.failed(error))?;
    let name = journal.entry.instance.clone();
    match state {
        State::Old { .. } => {
            undo(&connection, journal, events)?;
            events.note(format!("The restore of {name} ended before its swap: the state before it serves, and what it had made is cleared away."));
        }
        State::New { .. } => {
            let aside = finish(&connection, journal, events)?;
            events
                .note(format!("The restore of {name} ended after its swap, and is finished now."));
            if !aside.is_empty() {
                events.warn(format!(
                    "The databases from before it are kept as {}.",
                    aside.join(", ")
                ));
            }
        }
    }
    Ok(())
}

/// The swap was not made: drop what was made for it.
fn undo(connection: &Connection, journal: Journal, events: &Events) -> Result<(), OpsError> {
    let restore = journal.on(connection)?;
    let stayed = restore.clear_new().map_err(|error| journal.failed(error))?;
    if !stayed.is_empty() {
        events.warn(format!("These roles were made, and had to stay: {}.", stayed.join(", ")));
    }
    if let Some(path) = &journal.entry.environment {
        connection.access().to(journal.via.clone()).drop_staged(path)?;
    }
    journal.end()
}

/// The swap was made: put the new environment file in place, and drop what is old where it is saved. Returns the names of
/// the old databases that are kept.
pub(super) fn finish(
    connection: &Connection,
    journal: Journal,
    events: &Events,
) -> Result<Vec<String>, OpsError> {
    let connection = connection.anew();
    if let Some(path) = &journal.entry.environment {
        connection.access().to(journal.via.clone()).commit_staged(path)?;
        events.note(format!(
            "{path} has the keys of the snapshot. Restart the platform, so that it reads them."
        ));
    }
    let restore = journal.on(&connection)?;
    // What is not known for certain is kept.
    let now = restore.written().unwrap_or_default();
    let is_saved =
        journal.entry.saved.as_ref().is_some_and(|saved| now.is_some_and(|now| saved.is_all(&now)));
    let cleared =
        if is_saved { restore.clear_old().map(|()| Vec::new()) } else { restore.keep_old() };
    let aside = cleared.map_err(|error| journal.failed(error))?;
    journal.end()?;
    Ok(aside)
}

/// Undo or finish what an interrupted restore of this instance has left.
pub fn finish_interrupted(
    config: &Config,
    session: &Session,
    instance: &Instance,
    context: &Context,
) -> Result<(), OpsError> {
    let Some(directory) = PrivateDirectory::open(&config.state_dir, DIRECTORY)? else {
        return Ok(());
    };
    let name = format!("{}.json", instance.name);
    let Some(json) = directory.read(&name)? else { return Ok(()) };
    let path = directory.path_of(&name);
    let entry: Entry = serde_json::from_slice(&json).map_err(|error| {
        OpsError::refused(
            format!("the journal of an interrupted restore, {}, cannot be read: {error}", path.display()),
            "look at the server for databases called belay_new_… and belay_old_…, then remove the journal",
        )
    })?;
    let living = Living::look(config, instance, context)?;
    let databases = living.databases(&session.secrets)?;
    let application = format!("belay {}", entry.job);
    let via = instance.via.clone();
    let journal = Journal { directory, name, via, entry };
    let (connection, _) =
        look::open(&databases, &application).map_err(|error| journal.failed(error))?;
    try_resolve(&connection, journal, &context.events)
}

/// What interrupted restores have left, one sentence each.
pub fn interrupted(state_dir: &Path) -> Vec<String> {
    let names = PrivateDirectory::open(state_dir, DIRECTORY)
        .ok()
        .flatten()
        .and_then(|directory| directory.names().ok())
        .unwrap_or_default();
    let instances = names.iter().filter_map(|name| name.strip_suffix(".json"));
    instances
        .map(|name| format!("A restore of the databases of {name} was interrupted. The next restore, or a backup of {name}, undoes or finishes it first."))
        .collect()
}
