//! Restore of a platform's instance in place: its databases beside and swapped in, and the keys that belong to them.
//!
//! The order is what keeps promises 4 and 5: the new databases are complete and counted, the new environment file lies beside
//! the old one, and the present state is in a snapshot, before one transaction exchanges the names. What that snapshot does not
//! have, because somebody wrote meanwhile, is kept aside and named. A journal lets the next start undo what was not swapped,
//! and finish what was.

mod journal;
mod look;
mod making;
mod named;
mod part;
mod passwords;

pub(super) use self::journal::DIRECTORY as JOURNALS;
use self::journal::{Journal, Left, Phase};
pub(super) use self::journal::{finish_interrupted, interrupted};
pub use self::look::prepare;
use self::making::Making;
use super::into::IntoOptions;
use super::{Source, as_job};
use crate::component::environment::Merged;
use crate::component::postgres::restore::{Restore, RestorePlan, RoleWork, Written};
use crate::component::postgres::{Connection, DatabaseDetails, PostgresError};
use crate::config::{Config, Instance};
use crate::model::id::{JobId, SnapshotId};
use crate::ops::backup::{BackupOptions, backup_locked};
use crate::ops::job::JobResult;
use crate::ops::session::{InstanceLock, Session};
use crate::ops::turn::Turn;
use crate::ops::{Context, OpsError, pins};
use jiff::Timestamp;
use serde::Serialize;

/// What is replaced.
#[derive(Debug, Serialize)]
pub struct DatabasesPlan {
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
    /// The server, for people.
    pub server: String,
    /// Each database that comes back.
    pub databases: Vec<ReplacedDatabase>,
    /// Roles that are made.
    pub creates_roles: Vec<String>,
    /// Roles that become what they were.
    pub changes_roles: Vec<String>,
    /// Variables of the environment that get the snapshot's value: keys.
    pub environment: Vec<String>,
    /// Variables that the environment lacks, and gets besides.
    pub environment_added: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What is left for a person to do, or may not work: said again at the end.
    pub warnings: Vec<String>,
    /// What becomes of the present state.
    pub present_state: PresentDatabases,
}

/// What becomes of the state that is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PresentDatabases {
    /// Nothing is there.
    Nothing,
    /// The databases are not there. What changes besides, the environment file and roles, is kept beside as it was.
    KeptBeside,
    /// A snapshot is taken first, and pinned; where that fails, all is kept beside.
    Snapshot,
    /// It is only kept beside, as a person asked for.
    SetAside,
}

/// A database that comes back.
#[derive(Debug, Serialize)]
pub struct ReplacedDatabase {
    /// Its name on the server.
    pub name: String,
    /// Its name in the snapshot, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The rows that the snapshot has of it.
    pub rows: u64,
    /// Whether there is one of this name now.
    pub exists: bool,
}

/// What a restore of databases did.
#[derive(Debug, Serialize)]
pub struct RestoredDatabases {
    /// What was planned.
    pub plan: DatabasesPlan,
    /// Whether it was done; not in a dry run.
    pub done: bool,
    /// The snapshot of the state before.
    pub before: Option<SnapshotId>,
    /// Old databases that were kept, by the names that they have now.
    pub aside: Vec<String>,
    /// The environment file as it was, beside the new one; none where the snapshot of the state before has it.
    pub environment_before: Option<String>,
    /// A file with the statements that make roles what they were. It holds hashes of passwords.
    pub roles_before: Option<String>,
    /// The time between the restored snapshot and now, in seconds: what changed in it is not in the restored state.
    pub loss_window_seconds: i64,
}

impl JobResult for RestoredDatabases {
    fn snapshot(&self) -> Option<SnapshotId> {
        Some(self.plan.snapshot)
    }
}

/// A restore that was planned, and may be carried out.
pub struct PreparedDatabases<'a> {
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    options: &'a IntoOptions,
    job: JobId,
    source: Source,
    connection: Connection,
    maintenance: String,
    details: Vec<DatabaseDetails>,
    restore_plan: RestorePlan,
    roles: RoleWork,
    /// The new environment file, where it differs from the present one.
    environment: Option<(String, Merged)>,
    _busy: InstanceLock,
    /// What would be done.
    pub plan: DatabasesPlan,
}

impl PreparedDatabases<'_> {
    /// Nothing but the plan.
    pub fn dry_run(self) -> RestoredDatabases {
        self.result(false, None, Left::default())
    }

    fn result(self, done: bool, before: Option<SnapshotId>, left: Left) -> RestoredDatabases {
        let loss_window_seconds = Timestamp::now().duration_since(self.plan.time).as_secs();
        RestoredDatabases {
            plan: self.plan,
            done,
            before,
            aside: left.aside,
            environment_before: left.environment,
            roles_before: left.roles,
            loss_window_seconds,
        }
    }

    /// Do what was planned.
    pub fn execute(self, context: &Context) -> Result<RestoredDatabases, OpsError> {
        let place = (self.config, self.session, self.instance);
        as_job(place, self.job, context, |context| {
            let restored = self.run(context)?;
            for warning in &restored.plan.warnings {
                context.events.warn(warning.as_str());
            }
            Ok(restored)
        })
    }

    fn failed(&self, source: PostgresError) -> OpsError {
        OpsError::Postgres { instance: self.instance.name.to_string(), source }
    }

    fn run(self, context: &Context) -> Result<RestoredDatabases, OpsError> {
        let restore = Restore::new(&self.connection, &self.maintenance, &self.restore_plan)
            .map_err(|error| self.failed(error))?;
        if self.restore_plan.databases.is_empty() {
            let (before, left) = self.replace_environment(&restore, context)?;
            return Ok(self.result(true, before, left));
        }
        let environment = self.environment.as_ref().map(|(path, _)| path.clone());
        let place = (self.config, self.instance);
        let mut journal =
            Journal::begin(place, self.job, &self.maintenance, &self.restore_plan, environment)?;
        journal.write(Phase::Making)?;
        let saved = self.make_and_save(&restore, context);
        let swapped = saved.and_then(|(before, written)| {
            journal.saved(before.is_some(), written);
            journal.keep_roles(&self.roles.before)?;
            journal.write(Phase::Swapping)?;
            context.events.phase("swapping", self.instance.name.to_string());
            restore.swap(&self.roles).map_err(|error| self.failed(error))?;
            Ok(before)
        });
        let before = match swapped {
            Ok(swapped) => swapped,
            Err(error) => {
                journal::resolve(&self.connection, journal, &context.events);
                return Err(error);
            }
        };
        // The new state is in place: what fails from here on does not make that untrue.
        let cleared = journal
            .write(Phase::Clearing)
            .and_then(|()| journal::finish(&self.connection, journal, &context.events));
        let left = cleared.unwrap_or_else(|error| {
            let name = &self.instance.name;
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            context.events.warn(format!("{name} is restored, but not all is done: {error}{hint}. The next restore, or a backup of {name}, does that first."));
            Left::default()
        });
        if let Some(why) = left.why {
            let aside = left.aside.join(", ");
            context.events.warn(format!("{why}: the old databases are kept as {aside}."));
        }
        Ok(self.result(true, before, left))
    }

    /// Only the keys: one file, replaced in one step.
    fn replace_environment(
        &self,
        restore: &Restore<'_>,
        context: &Context,
    ) -> Result<(Option<SnapshotId>, Left), OpsError> {
        let (before, _) = self.save(restore, None, context)?;
        let mut left = Left::default();
        if let Some((path, merged)) = &self.environment {
            let place = self.place();
            place.stage_file(path, &merged.content)?;
            let keep = before.is_none().then(|| format!("belay-before-{}", self.job));
            left.environment = place.commit_staged(path, keep.as_deref())?;
        }
        Ok((before, left))
    }

    /// Make the new state beside the present one, and save that.
    fn make_and_save(
        &self,
        restore: &Restore<'_>,
        context: &Context,
    ) -> Result<(Option<SnapshotId>, Option<Written>), OpsError> {
        let making = Making {
            instance: &self.instance.name,
            source: &self.source,
            databases: &self.restore_plan.databases,
            details: &self.details,
            roles: &self.roles,
            environment: self.environment.as_ref(),
            place: self.place(),
        };
        if !self.options.writers_are_stopped {
            // As late as can be: what is written after it is not in it.
            making.make(restore, None, context)?;
            return self.save(restore, None, context);
        }
        // One reads what the other does not touch, and each leaves processors idle at times.
        let (quiet, turn) = (making::quiet(context), Turn::with_places(restore.processors()));
        std::thread::scope(|scope| {
            let made = scope.spawn(|| making.make(restore, Some(&turn), &quiet));
            let saved = self.save(restore, Some(turn.clone()), context);
            let made = made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            made.and(saved)
        })
    }

    /// Where the environment file is.
    fn place(&self) -> crate::access::Access {
        self.connection.access().to(self.instance.via.clone())
    }

    /// Take a snapshot of what is overwritten, when it is its turn. Returns besides what had been written to it before.
    fn save(
        &self,
        restore: &Restore<'_>,
        turn: Option<Turn>,
        context: &Context,
    ) -> Result<(Option<SnapshotId>, Option<Written>), OpsError> {
        let name = &self.instance.name;
        match self.plan.present_state {
            PresentDatabases::Nothing | PresentDatabases::KeptBeside => return Ok((None, None)),
            PresentDatabases::Snapshot => {}
            PresentDatabases::SetAside => {
                let reason = self.options.discard_current.as_deref().unwrap_or_default();
                context.events.warn(format!(
                    "The present state of {name} is in no snapshot, which was asked for: {reason}."
                ));
                return Ok((None, None));
            }
        }
        let written = restore.written().unwrap_or_default();
        let before_restore_of = Some(self.plan.snapshot);
        let options = BackupOptions { before_restore_of, turn, ..BackupOptions::default() };
        // A part of them may be gone: what is there is saved.
        let mut instance = self.instance.clone();
        let existing = self.restore_plan.databases.iter().filter(|database| database.old.is_some());
        instance.postgres.databases =
            existing.map(|database| database.facts.name.clone()).collect();
        match backup_locked(self.config, self.session, &instance, &options, context) {
            Ok(outcome) => {
                pins::pin_present(self.session, outcome.id, name, context)?;
                Ok((Some(outcome.id), written))
            }
            // The file is kept nowhere else.
            Err(error) if error.is_cancelled() || self.restore_plan.databases.is_empty() => {
                Err(error)
            }
            Err(error) => {
                context.events.warn(format!("No snapshot of the present state of {name} could be taken ({error}); the old databases are kept aside, and the environment file as it was beside the new one."));
                Ok((None, None))
            }
        }
    }
}
