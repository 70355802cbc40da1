//! The journal of a restore of a MongoDB database, in a directory of its own below the state directory.
//!
//! It holds no secret. Before the swap the way is back, from there on forward: all steps can be run again.

use crate::component::mongodb::MongoError;
use crate::component::mongodb::wire::Server;
use crate::component::mongodb::wire::restore::RestorePlan;
use crate::config::{Config, Instance};
use crate::model::event::Events;
use crate::model::name::Name;
use crate::ops::instance::Living;
use crate::ops::private::PrivateDirectory;
use crate::ops::restore::by_instance::{self, Found};
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use serde::{Deserialize, Serialize};
use std::path::Path;

const DIRECTORY: &str = "collection-restores";

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The new collections are being made; the present ones serve.
    Making,
    /// The names are being exchanged.
    Swapping,
    /// The new ones serve.
    Clearing,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    instance: Name,
    phase: Phase,
    plan: RestorePlan,
    /// The old collections are in a snapshot, and nobody wrote to them since.
    removes_old: bool,
}

/// A journal that is being written.
pub(super) struct Journal {
    directory: PrivateDirectory,
    name: String,
    entry: Entry,
}

impl Journal {
    /// Begin a journal.
    pub(super) fn begin(
        config: &Config,
        instance: &Instance,
        plan: &RestorePlan,
    ) -> Result<Self, OpsError> {
        let directory = PrivateDirectory::make(&config.state_dir, DIRECTORY)?;
        let (instance, plan) = (instance.name.clone(), plan.clone());
        let name = format!("{instance}.json");
        let entry = Entry { instance, phase: Phase::Making, plan, removes_old: false };
        Ok(Self { directory, name, entry })
    }

    /// Write it durably, in place of what was written before.
    pub(super) fn write(&mut self, phase: Phase) -> Result<(), OpsError> {
        self.entry.phase = phase;
        self.directory.write_json(&self.name, &self.entry)
    }

    /// The new state is in place.
    pub(super) fn write_clearing(&mut self, removes_old: bool) -> Result<(), OpsError> {
        self.entry.removes_old = removes_old;
        self.write(Phase::Clearing)
    }

    fn failed(&self, source: MongoError) -> OpsError {
        OpsError::Mongodb { instance: self.entry.instance.to_string(), source }
    }
}

/// Nothing is swapped: remove what was made. What cannot be done is told, and the journal stays for the next start.
pub(super) fn undo(server: &Server, journal: &Journal, events: &Events) {
    let name = journal.entry.instance.clone();
    if let Err(error) = try_undo(server, journal) {
        events.warn(format!("What the restore of {name} has begun could not be cleared away: {error}. The next restore, or a backup of {name}, does that first."));
    }
}

fn try_undo(server: &Server, journal: &Journal) -> Result<(), OpsError> {
    journal.entry.plan.abandon(server).map_err(|error| journal.failed(error))?;
    journal.directory.remove(&journal.name)
}

/// The new state is in place: drop what is old where it is saved. Returns the names of what is kept.
pub(super) fn clear(server: &Server, journal: &Journal) -> Result<Vec<String>, OpsError> {
    let plan = &journal.entry.plan;
    if journal.entry.removes_old {
        plan.drop_old(server).map_err(|error| journal.failed(error))?;
    }
    let aside = plan.aside(server).map_err(|error| journal.failed(error))?;
    journal.directory.remove(&journal.name)?;
    Ok(aside)
}

/// Undo or finish what an interrupted restore of this instance has left.
pub fn finish_interrupted(
    config: &Config,
    session: &Session,
    instance: &Instance,
    context: &Context,
) -> Result<(), OpsError> {
    let hint = "look into the database for collections called belay_new_… and belay_old_…, then remove the journal";
    let Some(Found { directory, name, entry }) =
        by_instance::find::<Entry>(&config.state_dir, DIRECTORY, &instance.name, hint)?
    else {
        return Ok(());
    };
    let mut journal = Journal { directory, name, entry };
    let place = Living::look(config, instance, context)?.mongodb(&session.secrets)?;
    let server = place.open(context)?;
    let name = &instance.name;
    if journal.entry.phase == Phase::Making {
        try_undo(&server, &journal)?;
        context.events.note(format!("The restore of {name} ended before its swap: the state before it serves, and what it had made is cleared away."));
        return Ok(());
    }
    if journal.entry.phase == Phase::Swapping {
        journal.entry.plan.swap(&server).map_err(|error| journal.failed(error))?;
        journal.write(Phase::Clearing)?;
    }
    let database = journal.entry.plan.database.clone();
    let aside = clear(&server, &journal)?;
    context
        .events
        .note(format!("The restore of {name} ended while it swapped, and is finished now."));
    if !aside.is_empty() {
        context.events.warn(format!(
            "The collections from before it are kept in {database} as {}.",
            aside.join(", ")
        ));
    }
    Ok(())
}

/// What interrupted restores have left, one sentence each.
pub fn interrupted(state_dir: &Path) -> Vec<String> {
    by_instance::interrupted(state_dir, DIRECTORY, "database")
}
