//! The journal of a restore of databases, in a directory of its own below the state directory.
//!
//! It holds no secret. Beside it, and readable by its owner alone, lies what changes roles back, hashes of passwords among that:
//! it stays where no snapshot has it, or as long as old databases are kept. Before the swap the way is back, after it the way is
//! forward; the server itself tells on which side it is.

use super::look;
use crate::component::postgres::Connection;
use crate::component::postgres::PostgresError;
use crate::component::postgres::restore::{Restore, RestorePlan, RolesBefore, State, Written};
use crate::config::{Config, Instance};
use crate::model::event::Events;
use crate::model::id::JobId;
use crate::model::name::Name;
use crate::model::via::Via;
use crate::ops::instance::Living;
use crate::ops::private::PrivateDirectory;
use crate::ops::restore::by_instance::{self, Found};
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(in crate::ops::restore) const DIRECTORY: &str = "database-restores";

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
    /// Whether the present state is in a snapshot.
    #[serde(default)]
    is_saved: bool,
    /// What was written to the old databases until they went into a snapshot: what was not written to since may go.
    saved: Option<Written>,
}

/// What a restore has left of the state before it.
#[derive(Default)]
pub(super) struct Left {
    /// Old databases, by the names that they have now.
    pub(super) aside: Vec<String>,
    /// Why they were kept, where they are in a snapshot.
    pub(super) why: Option<&'static str>,
    /// The old environment file.
    pub(super) environment: Option<String>,
    /// The file with the statements that change roles back.
    pub(super) roles: Option<String>,
}

const WAS_WRITTEN: &str =
    "Somebody wrote to the databases after the snapshot of the present state was taken";
const MAY_BE_WRITTEN: &str = "Whether somebody wrote to the databases after the snapshot of the present state was taken, this server cannot tell (it is older than 15, or has track_counts off)";

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
            is_saved: false,
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

    /// Whether the present state is in a snapshot, and what had been written to the databases before it was taken.
    pub(super) fn saved(&mut self, is_saved: bool, written: Option<Written>) {
        self.entry.is_saved = is_saved;
        self.entry.saved = written;
    }

    /// Write down durably what changes the roles back.
    pub(super) fn keep_roles(&self, before: &RolesBefore) -> Result<(), OpsError> {
        if before.sql().is_empty() {
            return Ok(());
        }
        self.directory.write(&self.roles(), before.sql().as_bytes())
    }

    fn roles(&self) -> String {
        format!("{}.{}.roles-before.sql", self.entry.instance, self.entry.job)
    }

    /// Write it durably, in place of what was written before.
    pub(super) fn write(&mut self, phase: Phase) -> Result<(), OpsError> {
        self.entry.phase = phase;
        self.directory.write_json(&self.name, &self.entry)
    }

    fn end(self) -> Result<(), OpsError> {
        self.directory.remove(&self.name)
    }

    fn failed(&self, source: PostgresError) -> OpsError {
        if let PostgresError::Unclear { .. } = source {
            return OpsError::refused(
                format!(
                    "the interrupted restore of {} can be neither undone nor finished: {source}",
                    self.entry.instance
                ),
                format!(
                    "look at the server for databases called belay_new_… and belay_old_…, rename or drop them by hand, then remove the journal, {}",
                    self.directory.path_of(&self.name).display()
                ),
            );
        }
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
            let Left { aside, environment, roles, .. } = finish(&connection, journal, events)?;
            events
                .note(format!("The restore of {name} ended after its swap, and is finished now."));
            let kept: Vec<String> = aside.into_iter().chain(environment).chain(roles).collect();
            if !kept.is_empty() {
                events.warn(format!("What was there before it is kept: {}.", kept.join(", ")));
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
    journal.directory.remove(&journal.roles())?;
    journal.end()
}

/// The swap was made: put the new environment file in place, and drop what is old where it is saved. Returns what is kept. Where
/// one of these fails the others are done nevertheless.
pub(super) fn finish(
    connection: &Connection,
    journal: Journal,
    events: &Events,
) -> Result<Left, OpsError> {
    let connection = connection.anew();
    let placed = place_environment(&connection, &journal, events);
    let restore = journal.on(&connection)?;
    // What is not known for certain is kept.
    let why = match (&journal.entry.saved, restore.written().unwrap_or_default()) {
        (Some(then), Some(now)) if then.is_all(&now) => None,
        (Some(_), Some(_)) => Some(WAS_WRITTEN),
        _ => Some(MAY_BE_WRITTEN),
    };
    let cleared =
        if why.is_none() { restore.clear_old().map(|()| Vec::new()) } else { restore.keep_old() };
    let aside = cleared.map_err(|error| journal.failed(error))?;
    let roles = journal.roles();
    if aside.is_empty() && journal.entry.is_saved {
        journal.directory.remove(&roles)?;
    }
    let roles = journal.directory.read(&roles)?.map(|_| journal.directory.path_of(&roles));
    let left = Left {
        why: why.filter(|_| journal.entry.is_saved && !aside.is_empty()),
        aside,
        environment: placed?,
        roles: roles.map(|path| path.display().to_string()),
    };
    journal.end()?;
    Ok(left)
}

/// Returns the path of the old file, which is kept where no snapshot has it.
fn place_environment(
    connection: &Connection,
    journal: &Journal,
    events: &Events,
) -> Result<Option<String>, OpsError> {
    let Entry { instance, job, environment, is_saved, .. } = &journal.entry;
    let Some(path) = environment else { return Ok(None) };
    let keep = (!is_saved).then(|| format!("belay-before-{job}"));
    let access = connection.access().to(journal.via.clone());
    let kept = access.commit_staged(path, keep.as_deref()).map_err(|error| {
        OpsError::refused(
            format!("the restored databases of {instance} serve, but their keys could not be put into {path}: {error}"),
            format!("put the content of {path}.belay-new into {path} by hand, remove {path}.belay-new, and run `belay backup {instance}`"),
        )
    })?;
    events.note(format!(
        "{path} has the keys of the snapshot. Restart the platform, so that it reads them."
    ));
    Ok(kept)
}

/// Undo or finish what an interrupted restore of this instance has left.
pub(in crate::ops::restore) fn finish_interrupted(
    config: &Config,
    session: &Session,
    instance: &Instance,
    context: &Context,
) -> Result<(), OpsError> {
    let hint = "look at the server for databases called belay_new_… and belay_old_…, then remove the journal";
    let Some(Found { directory, name, entry }) =
        by_instance::find::<Entry>(&config.state_dir, DIRECTORY, &instance.name, hint)?
    else {
        return Ok(());
    };
    let living = Living::look(config, instance, context)?;
    let databases = living.databases(&session.secrets)?;
    let application = format!("belay {}", entry.job);
    let via = instance.via.clone();
    let journal = Journal { directory, name, via, entry };
    let connection = look::open(&databases, &journal.entry.maintenance, &application)
        .map_err(|error| journal.failed(error))?;
    try_resolve(&connection, journal, &context.events)
}

/// What interrupted restores have left, one sentence each.
pub(in crate::ops::restore) fn interrupted(state_dir: &Path) -> Vec<String> {
    by_instance::interrupted(state_dir, DIRECTORY, "databases")
}
