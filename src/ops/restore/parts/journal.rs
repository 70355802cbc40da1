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
use crate::ops::quiesce::{self, Quiesced};
use crate::ops::restore::Source;
use crate::ops::restore::by_instance::{self, Found};
use crate::ops::select::SnapshotRef;
use crate::ops::session::Session;
use crate::ops::{Context, OpsError, job};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(in crate::ops::restore) const DIRECTORY: &str = "collection-restores";

/// Said where Redis is not flushed.
pub(super) const REDIS_STAYS: &str = "Redis is not flushed, for no snapshot has what it holds; what it holds may not fit. Flush it by hand, or run the restore with --component redis.";

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The new collections are being made; the present ones serve.
    Making,
    /// The names are being exchanged.
    Swapping,
    /// The new ones are in place.
    Clearing,
    /// All but Redis is done.
    Redis,
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
        access: &Access,
    ) -> Result<Vec<String>, OpsError> {
        let aside = self.entry.beside.swap(access, self.entry.is_saved)?;
        if let Some((plan, server)) = self.collections(server) {
            plan.swap(server).map_err(|error| self.failed(error))?;
        }
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
        Ok(aside)
    }

    /// All but Redis is done: flush that, and load what is no cache. It decides nothing over the rest: where it does not want to,
    /// a person is told what to do, and the restore ends.
    pub(super) fn fill_redis(
        &mut self,
        living: &Living<'_>,
        source: &Source,
        context: &Context,
    ) -> Result<(), OpsError> {
        self.write(Phase::Redis)?;
        let Self { entry: Entry { instance, beside, .. }, .. } = self;
        if let Err(error) = beside.fill_redis(living, source) {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            context.events.warn(format!("{instance} is restored, but its Redis is not: {error}{hint}. What it holds may not fit: flush it by hand, or run the restore with --component redis."));
        }
        self.end()
    }

    /// All is done.
    pub(super) fn end(&self) -> Result<(), OpsError> {
        self.directory.remove(&self.name)
    }

    pub(super) fn has_redis(&self) -> bool {
        self.entry.beside.has_redis()
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
    // Whoever started it meanwhile wrote to what is half swapped: that is kept.
    let mut stopped = None;
    if living.has_writers_that_run() {
        stopped = quiesce::stop(config, &living, job::random_job_id()?, context)?;
    }
    let finished = finish_swap(&mut journal, (session, &living), server, stopped.as_mut(), context);
    let aside = match finished {
        Ok(aside) => aside,
        Err(error) => {
            if let Some(stopped) = stopped {
                stopped.leave();
            }
            return Err(error);
        }
    };
    context
        .events
        .note(format!("The restore of {name} ended while it swapped, and is finished now."));
    if !aside.is_empty() {
        context.events.warn(format!("Kept from before it: {}.", aside.join(", ")));
    }
    stopped.map_or(Ok(None), Quiesced::resume).map(drop)
}

/// Go on from the swap to the end. Returns what is kept of the old state. Redis is flushed only where that had begun: what it got
/// since the snapshot of the old state is in none.
fn finish_swap(
    journal: &mut Journal,
    (session, living): (&Session, &Living<'_>),
    server: Option<&Server>,
    stopped: Option<&mut Quiesced>,
    context: &Context,
) -> Result<Vec<String>, OpsError> {
    if let Some(stopped) = stopped {
        stopped.hold()?;
    }
    let access = &living.access;
    let mut aside = Vec::new();
    if journal.entry.phase == Phase::Swapping {
        journal.saved(false);
        aside = journal.swap(server, access)?;
        journal.write(Phase::Clearing)?;
    }
    if journal.entry.phase == Phase::Clearing {
        aside.extend(journal.clear(server, access)?);
    }
    if journal.entry.phase != Phase::Redis {
        if journal.has_redis() {
            context.events.warn(REDIS_STAYS);
        }
        journal.end()?;
        return Ok(aside);
    }
    let snapshot = SnapshotRef::Prefix(journal.entry.snapshot.to_string());
    match Source::open(session, &snapshot, context) {
        Ok(source) => journal.fill_redis(living, &source, context)?,
        Err(error) if error.is_cancelled() => return Err(error),
        Err(error) => {
            context.events.warn(format!("Redis is as it was before the restore, for the snapshot cannot be read any more: {error}"));
            journal.end()?;
        }
    }
    Ok(aside)
}

/// What interrupted restores have left, one sentence each.
pub(in crate::ops::restore) fn interrupted(state_dir: &Path) -> Vec<String> {
    by_instance::interrupted(state_dir, DIRECTORY, "parts")
}
