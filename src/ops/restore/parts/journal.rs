//! The journal of a restore of an instance's parts, in a directory of its own below the state directory.
//!
//! It holds no secret. Before the swap the way is back, from there on forward: all steps can be run again.

use super::beside::Beside;
use crate::access::Access;
use crate::component::mongodb::MongoError;
use crate::component::mongodb::wire::Server;
use crate::component::mongodb::wire::restore::RestorePlan;
use crate::config::{Config, Instance};
use crate::model::id::SnapshotId;
use crate::model::name::Name;
use crate::ops::instance::Living;
use crate::ops::private::PrivateDirectory;
use crate::ops::restore::Source;
use crate::ops::restore::by_instance::{self, Found};
use crate::ops::select::SnapshotRef;
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
    snapshot: SnapshotId,
    phase: Phase,
    /// The database's part; none where that does not come back.
    plan: Option<RestorePlan>,
    #[serde(default)]
    beside: Beside,
    /// The state before is in a snapshot.
    #[serde(default)]
    is_saved: bool,
    /// The old collections are, and nobody wrote to them since.
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
        (config, instance): (&Config, &Instance),
        snapshot: SnapshotId,
        plan: Option<RestorePlan>,
        beside: Beside,
    ) -> Result<Self, OpsError> {
        let directory = PrivateDirectory::make(&config.state_dir, DIRECTORY)?;
        let instance = instance.name.clone();
        let name = format!("{instance}.json");
        let (phase, is_saved, removes_old) = (Phase::Making, false, false);
        let entry = Entry { instance, snapshot, phase, plan, beside, is_saved, removes_old };
        Ok(Self { directory, name, entry })
    }

    /// Write it durably, in place of what was written before.
    pub(super) fn write(&mut self, phase: Phase) -> Result<(), OpsError> {
        self.entry.phase = phase;
        self.directory.write_json(&self.name, &self.entry)
    }

    /// Whether the state before is in a snapshot, which the next write says.
    pub(super) fn saved(&mut self, is_saved: bool) {
        self.entry.is_saved = is_saved;
    }

    /// The new state is in place.
    pub(super) fn write_clearing(&mut self, removes_old: bool) -> Result<(), OpsError> {
        self.entry.removes_old = removes_old;
        self.write(Phase::Clearing)
    }

    fn failed(&self, source: MongoError) -> OpsError {
        OpsError::Mongodb { instance: self.entry.instance.to_string(), source }
    }

    /// The database's part with the server that it is on.
    fn collections<'a>(
        &'a self,
        server: Option<&'a Server>,
    ) -> Option<(&'a RestorePlan, &'a Server)> {
        self.entry.plan.as_ref().zip(server)
    }

    /// Nothing is swapped: remove what was made.
    pub(super) fn undo(&self, server: Option<&Server>, access: &Access) -> Result<(), OpsError> {
        if let Some((plan, server)) = self.collections(server) {
            plan.abandon(server).map_err(|error| self.failed(error))?;
        }
        self.entry.beside.abandon(access)?;
        self.directory.remove(&self.name)
    }

    /// Put all that was made in its place, or finish that. Returns where what was there is kept that no snapshot has.
    pub(super) fn swap(
        &self,
        server: Option<&Server>,
        living: &Living<'_>,
        source: Option<&Source>,
    ) -> Result<Vec<String>, OpsError> {
        let aside = self.entry.beside.swap(&living.access, self.entry.is_saved)?;
        if let Some((plan, server)) = self.collections(server) {
            plan.swap(server).map_err(|error| self.failed(error))?;
        }
        self.entry.beside.fill_redis(living, source)?;
        Ok(aside)
    }

    /// The new state is in place: drop what is old where it is saved. Returns the names of the collections that are kept.
    pub(super) fn clear(
        &self,
        server: Option<&Server>,
        access: &Access,
    ) -> Result<Vec<String>, OpsError> {
        let mut aside = Vec::new();
        if let Some((plan, server)) = self.collections(server) {
            if self.entry.removes_old {
                plan.drop_old(server).map_err(|error| self.failed(error))?;
            }
            aside = plan.aside(server).map_err(|error| self.failed(error))?;
        }
        self.entry.beside.clear(access, self.entry.is_saved)?;
        self.directory.remove(&self.name)?;
        Ok(aside)
    }
}

/// Undo or finish what an interrupted restore of this instance has left.
pub(in crate::ops::restore) fn finish_interrupted(
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
    let living = Living::look(config, instance, context)?;
    let server = match &journal.entry.plan {
        Some(_) => Some(living.mongodb(&session.secrets)?.open(context)?),
        None => None,
    };
    let (server, access) = (server.as_ref(), &living.access);
    let name = &instance.name;
    if journal.entry.phase == Phase::Making {
        journal.undo(server, access)?;
        context.events.note(format!("The restore of {name} ended before its swap: the state before it serves, and what it had made is cleared away."));
        return Ok(());
    }
    let mut aside = Vec::new();
    if journal.entry.phase == Phase::Swapping {
        let source = journal.entry.beside.needs_snapshot().then(|| {
            let snapshot = SnapshotRef::Prefix(journal.entry.snapshot.to_string());
            Source::open(session, &snapshot, context)
        });
        aside = journal.swap(server, &living, source.transpose()?.as_ref())?;
        journal.write(Phase::Clearing)?;
    }
    aside.extend(journal.clear(server, access)?);
    context
        .events
        .note(format!("The restore of {name} ended while it swapped, and is finished now."));
    if !aside.is_empty() {
        context.events.warn(format!("Kept from before it: {}.", aside.join(", ")));
    }
    Ok(())
}

/// What interrupted restores have left, one sentence each.
pub(in crate::ops::restore) fn interrupted(state_dir: &Path) -> Vec<String> {
    by_instance::interrupted(state_dir, DIRECTORY, "parts")
}
