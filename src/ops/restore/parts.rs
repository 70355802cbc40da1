//! Restore of an instance in place, part by part: its MongoDB database, and what it has beside that.
//!
//! The order is what keeps promises 4 and 5: all that comes back is complete beside what is there, and the present state is in a
//! snapshot, before the first name changes; what writes is stopped for the last part of that. What is there is only set aside; it
//! is dropped when it is in the snapshot and nobody wrote to it since. A journal lets the next start undo what was not swapped,
//! and finish what was.

mod beside;
mod collections;
mod journal;
mod look;
pub(in crate::ops) mod room;

use self::beside::Making;
use self::collections::Collections;
pub(super) use self::journal::DIRECTORY as JOURNALS;
use self::journal::{Journal, Phase};
pub(super) use self::journal::{finish_interrupted, interrupted};
pub use self::look::prepare;
use super::into::{IntoOptions, PresentState};
use super::{Source, as_job};
use crate::component::mongodb::MongoError;
use crate::component::mongodb::wire::{Moment, Server};
use crate::config::{Config, Instance};
use crate::model::id::{JobId, SnapshotId};
use crate::ops::backup::{BackupOptions, backup_locked};
use crate::ops::instance::Living;
use crate::ops::job::JobResult;
use crate::ops::quiesce::{self, Quiesced};
use crate::ops::session::{InstanceLock, Session};
use crate::ops::{Context, OpsError, pins};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// What is replaced.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each may be so without the others")]
pub struct PartsPlan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// The instance that is overwritten.
    pub instance: String,
    /// Whether the snapshot is of another instance.
    pub as_clone: bool,
    /// Whether all of the snapshot comes back that belongs to the instance.
    pub is_whole: bool,
    /// The database that is replaced.
    #[serde(flatten)]
    pub database: Option<DatabasePlan>,
    /// Variables of the environment that get the snapshot's value: keys.
    pub environment: Vec<String>,
    /// Variables that the environment lacks, and gets besides.
    pub environment_added: Vec<String>,
    /// Directories that come back, by their component.
    pub directories: BTreeMap<String, String>,
    /// Its Redis server.
    pub redis: Option<RedisPlan>,
    /// Whether what writes is stopped meanwhile, and started again.
    pub stops_writers: bool,
    /// Whether its container does not run.
    pub is_down: bool,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What is left for a person to do, or may not work: said again at the end.
    pub warnings: Vec<String>,
    /// What becomes of the present state.
    pub present_state: PresentState,
}

/// A database that is replaced.
#[derive(Debug, Serialize)]
pub struct DatabasePlan {
    /// The server, for people.
    pub server: String,
    /// Its name.
    pub database: String,
    /// Collections and views that come back.
    pub collections: u64,
    /// Their documents.
    pub documents: u64,
    /// Collections that are there now.
    pub replaced: u64,
    /// Those of them that the snapshot does not have: they go.
    pub extra: Vec<String>,
}

/// A Redis server that is flushed.
#[derive(Debug, Serialize)]
pub struct RedisPlan {
    /// The server, for people.
    pub server: String,
    /// What of it: all its databases, or the one that the instance uses.
    pub scope: String,
    /// Whether the snapshot's keys that are no caches are loaded then.
    pub loads: bool,
}

/// What a restore of an instance's parts did.
#[derive(Debug, Serialize)]
pub struct RestoredParts {
    /// What was planned.
    pub plan: PartsPlan,
    /// Whether it was done; not in a dry run.
    pub done: bool,
    /// The snapshot of the state before.
    pub before: Option<SnapshotId>,
    /// What was kept of the state before, by the names that it has now.
    pub aside: Vec<String>,
    /// The time between the restored snapshot and now, in seconds: what changed in it is not in the restored state.
    pub loss_window_seconds: i64,
}

impl JobResult for RestoredParts {
    fn snapshot(&self) -> Option<SnapshotId> {
        Some(self.plan.snapshot)
    }
}

/// A restore that was planned, and may be carried out.
pub struct PreparedParts<'a> {
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    options: &'a IntoOptions,
    job: JobId,
    source: Source,
    living: Living<'a>,
    collections: Option<Collections>,
    making: Making,
    _busy: InstanceLock,
    /// What would be done.
    pub plan: PartsPlan,
}

/// What is known once the present state is saved.
struct Saved {
    before: Option<SnapshotId>,
    /// The moment of the server before that.
    since: Option<Moment>,
    stopped: Option<Quiesced>,
}

fn failed(instance: &Instance) -> impl Fn(MongoError) -> OpsError {
    let instance = instance.name.to_string();
    move |source| OpsError::Mongodb { instance: instance.clone(), source }
}

impl PreparedParts<'_> {
    /// Nothing but the plan.
    pub fn dry_run(self) -> RestoredParts {
        self.result(false, None, Vec::new())
    }

    fn result(self, done: bool, before: Option<SnapshotId>, aside: Vec<String>) -> RestoredParts {
        let loss_window_seconds = Timestamp::now().duration_since(self.plan.time).as_secs();
        RestoredParts { plan: self.plan, done, before, aside, loss_window_seconds }
    }

    /// Do what was planned.
    pub fn execute(self, context: &Context) -> Result<RestoredParts, OpsError> {
        let place = (self.config, self.session, self.instance);
        as_job(place, self.job, context, |context| {
            let restored = self.run(context)?;
            for warning in &restored.plan.warnings {
                context.events.warn(warning.as_str());
            }
            Ok(restored)
        })
    }

    fn run(self, context: &Context) -> Result<RestoredParts, OpsError> {
        let name = self.instance.name.to_string();
        let plan = self.collections.as_ref().map(|collections| collections.plan.clone());
        let mut journal = Journal::begin(
            (self.config, self.instance),
            self.plan.snapshot,
            plan,
            self.making.beside.clone(),
        )?;
        journal.write(Phase::Making)?;
        let made = self.make(context).and_then(|()| self.save(context));
        let held = made.and_then(|mut saved| {
            saved.stopped.as_mut().map_or(Ok(()), Quiesced::hold)?;
            self.ensure_still_down()?;
            Ok(saved)
        });
        let Saved { before, since, stopped } = match held {
            Ok(saved) => saved,
            Err(error) => {
                self.undo(&journal, context);
                return Err(error);
            }
        };
        // From here on the only way is forward.
        journal.saved(before.is_some());
        journal.write(Phase::Swapping)?;
        context.events.phase("swapping", name.clone());
        let aside = match journal.swap(self.server(), &self.living.access) {
            Ok(aside) => aside,
            Err(error) => {
                // Nothing may write to what is half swapped.
                let is_down = stopped.is_some();
                if let Some(stopped) = stopped {
                    stopped.leave();
                }
                let down = if is_down { ", and what writes to it is stopped" } else { "" };
                context.events.warn(format!("{name} is half in its new state{down}: the restore stopped while it swapped. When what is in the way is gone, run the same restore again, or `belay backup {name}`: that finishes it, and starts what is stopped."));
                return Err(error);
            }
        };
        let (is_cleared, aside) = self.clear(&mut journal, (before, since), aside, context);
        if is_cleared {
            self.end(journal, before.is_some(), context);
        }
        if let Some(stopped) = stopped {
            context.events.phase("starting", format!("what writes to {name}"));
            if let Err(error) = stopped.resume() {
                context.events.warn(format!("{name} is restored, but what writes to it could not be started again: {error}. The next backup or restore of {name} tries again."));
            }
        }
        Ok(self.result(true, before, aside))
    }

    /// What was down at the beginning was not told to stop.
    fn ensure_still_down(&self) -> Result<(), OpsError> {
        if !self.plan.is_down
            || !self.living.access.container_facts()?.is_some_and(|it| it.is_running)
        {
            return Ok(());
        }
        Err(OpsError::refused(
            format!("the container of {} was started meanwhile, and may write", self.instance.name),
            "nothing is changed: stop it, or leave it running, and run the restore again",
        ))
    }

    /// Redis last, and only where a snapshot has what it holds now.
    fn end(&self, mut journal: Journal, is_saved: bool, context: &Context) {
        let is_saved = is_saved || self.plan.present_state == PresentState::Nothing;
        let ended = if journal.has_redis() && is_saved {
            journal.fill_redis(&self.living, &self.source, context)
        } else {
            if journal.has_redis() {
                context.events.warn(journal::REDIS_STAYS);
            }
            journal.end()
        };
        if let Err(error) = ended {
            let name = &self.instance.name;
            context.events.warn(format!("{name} is restored, but the journal of that could not be ended: {error}. The next restore, or a backup of {name}, does that first."));
        }
    }

    fn server(&self) -> Option<&Server> {
        self.collections.as_ref().map(|collections| &collections.server)
    }

    /// Make all that comes back beside what is there.
    fn make(&self, context: &Context) -> Result<(), OpsError> {
        if let Some(collections) = &self.collections {
            collections.fill(&self.source, context).map_err(failed(self.instance))?;
        }
        self.making.make(&self.source, context)
    }

    fn undo(&self, journal: &Journal, context: &Context) {
        let name = &self.instance.name;
        let server = self.server().map(Server::anew);
        if let Err(error) = journal.undo(server.as_ref(), &self.living.access.anew()) {
            context.events.warn(format!("What the restore of {name} has begun could not be cleared away: {error}. The next restore, or a backup of {name}, does that first."));
        }
    }

    /// The new state is in place: what fails from here on does not make that untrue. Returns whether all is
    /// cleared away, which otherwise the next start does, and what is kept of the old one.
    fn clear(
        &self,
        journal: &mut Journal,
        (before, since): (Option<SnapshotId>, Option<Moment>),
        mut aside: Vec<String>,
        context: &Context,
    ) -> (bool, Vec<String>) {
        let name = &self.instance.name;
        let was_written =
            self.collections.as_ref().zip(since).map(|(collections, since)| {
                collections.plan.was_written(&collections.server, since)
            });
        let removes_old = before.is_some() && matches!(was_written, Some(Ok(false)));
        let cleared = journal
            .write_clearing(removes_old)
            .and_then(|()| journal.clear(self.server(), &self.living.access));
        let is_cleared = cleared.is_ok();
        let collections = cleared.unwrap_or_else(|error| {
            context.events.warn(format!("{name} is restored, but not all is cleared away: {error}. The next restore, or a backup of {name}, does that first."));
            Vec::new()
        });
        if !collections.is_empty() && before.is_some() {
            let why = match was_written {
                Some(Ok(_)) => "Somebody wrote after the snapshot of the present state was taken",
                _ => "Whether somebody wrote after the snapshot of the present state is not known",
            };
            let kept = collections.join(", ");
            context.events.warn(format!("{why}: the old collections are kept as {kept}."));
        }
        aside.extend(collections);
        (is_cleared, aside)
    }

    /// Stop what writes, snapshot what is about to be overwritten, and pin that.
    fn save(&self, context: &Context) -> Result<Saved, OpsError> {
        let name = &self.instance.name;
        let stopped = if self.plan.stops_writers {
            quiesce::stop(self.config, &self.living, self.job, context)?
        } else {
            None
        };
        let lost = Saved { before: None, since: None, stopped };
        match self.plan.present_state {
            PresentState::Nothing => return Ok(lost),
            PresentState::Snapshot => {}
            _ => {
                context.events.warn(match &self.options.discard_current {
                    Some(reason) => format!("The present state of {name} is in no snapshot, which was asked for: {reason}."),
                    None => format!("No snapshot is taken of the database of {name}, whose container does not run: its collections are set aside in it as belay_old_{}_….", self.job),
                });
                self.tell_views(context);
                return Ok(lost);
            }
        }
        let since = self.server().and_then(|server| server.now().ok());
        let before_restore_of = Some(self.plan.snapshot);
        let options = BackupOptions { before_restore_of, ..BackupOptions::default() };
        match backup_locked(self.config, self.session, self.instance, &options, context) {
            Ok(outcome) => {
                pins::pin_present(self.session, outcome.id, name, context)?;
                Ok(Saved { before: Some(outcome.id), since, ..lost })
            }
            Err(error) if error.is_cancelled() => Err(error),
            Err(error) => {
                context.events.warn(format!("No snapshot of the present state of {name} could be taken ({error}); what is replaced is kept aside."));
                self.tell_views(context);
                Ok(lost)
            }
        }
    }

    /// Views are not set aside: what they were is said.
    fn tell_views(&self, context: &Context) {
        let views = self.collections.iter().flat_map(|collections| &collections.plan.old_views);
        for (view, definition) in views {
            context
                .events
                .warn(format!("The view '{view}' goes, and no snapshot has it: {definition}"));
        }
    }
}
