//! Restore of a MongoDB database in place: its collections beside and swapped in.
//!
//! The order is what keeps promises 4 and 5: the new collections are complete and counted, and the present state is in a
//! snapshot, before the first name changes. What is there is only set aside; it is dropped when it is in the snapshot and the
//! server's own log shows that nobody wrote to it since. A journal lets the next start undo what was not swapped, and finish
//! what was.

mod journal;

use self::journal::{Journal, Phase};
pub use self::journal::{finish_interrupted, interrupted};
use super::databases::content;
use super::into::{IntoOptions, PresentState, ensure_same_instance};
use super::{Source, as_job};
use crate::component::mongodb::wire::restore::{Incoming, RestorePlan, look};
use crate::component::mongodb::wire::{Collection, Moment, Server};
use crate::component::mongodb::{CollectionDetails, MongoError, MongodbDetails};
use crate::config::{Config, Instance};
use crate::model::id::{JobId, SnapshotId};
use crate::ops::backup::{BackupOptions, backup_locked, progress_of};
use crate::ops::instance::Living;
use crate::ops::job::{self, JobResult};
use crate::ops::select::SnapshotRef;
use crate::ops::session::{InstanceLock, Session};
use crate::ops::{Context, OpsError, pins};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;

/// The text of options and indexes has fewer bytes.
const MOST_METADATA_BYTES: u64 = 64 * 1024 * 1024;

/// What is replaced.
#[derive(Debug, Serialize)]
pub struct CollectionsPlan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// The instance that is overwritten.
    pub instance: String,
    /// Whether the snapshot is of another instance.
    pub as_clone: bool,
    /// The server, for people.
    pub server: String,
    /// The database that is replaced.
    pub database: String,
    /// Collections and views that come back.
    pub collections: u64,
    /// Their documents.
    pub documents: u64,
    /// Collections that are there now.
    pub replaced: u64,
    /// Those of them that the snapshot does not have: they go.
    pub extra: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What becomes of the present state.
    pub present_state: PresentState,
}

/// What a restore of a database did.
#[derive(Debug, Serialize)]
pub struct RestoredCollections {
    /// What was planned.
    pub plan: CollectionsPlan,
    /// Whether it was done; not in a dry run.
    pub done: bool,
    /// The snapshot of the state before.
    pub before: Option<SnapshotId>,
    /// Old collections that were kept, by the names that they have now.
    pub aside: Vec<String>,
    /// The time between the restored snapshot and now, in seconds: what changed in it is not in the restored state.
    pub loss_window_seconds: i64,
}

impl JobResult for RestoredCollections {
    fn snapshot(&self) -> Option<SnapshotId> {
        Some(self.plan.snapshot)
    }
}

/// A restore that was planned, and may be carried out.
pub struct PreparedCollections<'a> {
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    options: &'a IntoOptions,
    job: JobId,
    source: Source,
    server: Server,
    incoming: Vec<Incoming>,
    /// Where the documents of each collection are in the snapshot.
    files: BTreeMap<String, String>,
    restore_plan: RestorePlan,
    _busy: InstanceLock,
    /// What would be done.
    pub plan: CollectionsPlan,
}

fn failed(instance: &Instance) -> impl Fn(MongoError) -> OpsError {
    let instance = instance.name.to_string();
    move |source| OpsError::Mongodb { instance: instance.clone(), source }
}

/// Plan a restore in place of `instance`. Nothing is changed by that.
pub fn prepare<'a>(
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    snapshot: &SnapshotRef,
    options: &'a IntoOptions,
    context: &Context,
) -> Result<PreparedCollections<'a>, OpsError> {
    let busy = InstanceLock::acquire(&config.state_dir, &instance.name)?;
    if options.dry_run {
        for problem in interrupted(&config.state_dir) {
            context.events.warn(problem);
        }
    } else {
        finish_interrupted(config, session, instance, context)?;
    }
    if !options.wanted.components.is_empty() || !options.wanted.paths.is_empty() {
        return Err(OpsError::usage(
            "--component and --path restore parts of files; a database comes back as a whole",
            "leave them out, or restore the part with --to-dir",
        ));
    }
    let source = Source::open(session, snapshot, context)?;
    let as_clone = ensure_same_instance(session, instance, &source, options)?;
    let details = details_of(&source)?;
    let living = Living::look(config, instance, context)?;
    let place = living.mongodb(&session.secrets)?;
    let server = place.open(context)?;
    let database = place.name(&server)?;
    let incoming = incoming(&source, &details).map_err(|error| match error {
        Incomplete::Mongo(error) => failed(instance)(error),
        Incomplete::Ops(error) => error,
    })?;
    let job = job::random_job_id()?;
    let restore_plan =
        look(&server, &database, &incoming, &job.to_string()).map_err(failed(instance))?;
    let comes = |name: &String| details.collections.iter().any(|each| each.name == *name);
    let old = || restore_plan.old.iter().map(|old| &old.name);
    let is_empty = restore_plan.old.is_empty() && restore_plan.old_views.is_empty();
    let mut notes = Vec::new();
    if let Some(reason) = &details.not_one_moment {
        notes.push(format!("the snapshot is not of one moment: {reason}"));
    }
    if details.database != database {
        notes.push(format!("the database of the snapshot is called {}", details.database));
    }
    let plan = CollectionsPlan {
        snapshot: source.snapshot.id,
        time: source.snapshot.file.time,
        instance: instance.name.to_string(),
        as_clone,
        server: server.told(),
        database,
        collections: details.collections.len() as u64,
        documents: details.collections.iter().map(|each| each.documents).sum(),
        replaced: restore_plan.old.len() as u64,
        extra: old().filter(|name| !comes(name)).cloned().collect(),
        notes,
        present_state: match &options.discard_current {
            _ if is_empty => PresentState::Nothing,
            Some(_) => PresentState::SetAside,
            None => PresentState::Snapshot,
        },
    };
    let files = details.collections.into_iter();
    let files = files.filter_map(|each| Some((each.name, each.file?))).collect();
    Ok(PreparedCollections {
        config,
        session,
        instance,
        options,
        job,
        source,
        server,
        incoming,
        files,
        restore_plan,
        _busy: busy,
        plan,
    })
}

/// What the manifest says of the database.
fn details_of(source: &Source) -> Result<MongodbDetails, OpsError> {
    let short = source.snapshot.id.short();
    let to_dir = "restore it into a directory with --to-dir, and see what it has";
    let components = source.manifest.iter().flat_map(|manifest| &manifest.components);
    let Some(component) = { components }.find(|component| component.kind == "mongodb") else {
        return Err(OpsError::refused(format!("snapshot {short} has no MongoDB database"), to_dir));
    };
    serde_json::from_value(component.details.clone()).map_err(|error| OpsError::WrongFile {
        object: format!("the manifest of snapshot {short}"),
        reason: error.to_string(),
    })
}

enum Incomplete {
    Mongo(MongoError),
    Ops(OpsError),
}

/// What comes back, from the metadata in the snapshot.
fn incoming(source: &Source, details: &MongodbDetails) -> Result<Vec<Incoming>, Incomplete> {
    let read = |CollectionDetails { name, documents, metadata, .. }: &CollectionDetails| {
        let mut text = String::new();
        let stream = content(source, metadata).map_err(Incomplete::Ops)?;
        stream.take(MOST_METADATA_BYTES).read_to_string(&mut text).map_err(|error| {
            Incomplete::Ops(OpsError::WrongFile {
                object: metadata.clone(),
                reason: error.to_string(),
            })
        })?;
        let collection = Collection::from_metadata(name, &text).map_err(Incomplete::Mongo)?;
        Ok(Incoming { collection, documents: *documents })
    };
    details.collections.iter().map(read).collect()
}

impl PreparedCollections<'_> {
    /// Nothing but the plan.
    pub fn dry_run(self) -> RestoredCollections {
        self.result(false, None, Vec::new())
    }

    fn result(
        self,
        done: bool,
        before: Option<SnapshotId>,
        aside: Vec<String>,
    ) -> RestoredCollections {
        let loss_window_seconds = Timestamp::now().duration_since(self.plan.time).as_secs();
        RestoredCollections { plan: self.plan, done, before, aside, loss_window_seconds }
    }

    /// Do what was planned.
    pub fn execute(self, context: &Context) -> Result<RestoredCollections, OpsError> {
        let place = (self.config, self.session, self.instance);
        as_job(place, self.job, context, |context| self.run(context))
    }

    fn run(self, context: &Context) -> Result<RestoredCollections, OpsError> {
        let failed = failed(self.instance);
        let name = self.instance.name.to_string();
        let mut journal = Journal::begin(self.config, self.instance, &self.restore_plan)?;
        journal.write(Phase::Making)?;
        let made = self.fill(context).and_then(|()| self.save(context));
        let (before, since) = match made {
            Ok(saved) => saved,
            Err(error) => {
                journal::undo(&self.server.anew(), &journal, &context.events);
                return Err(error);
            }
        };
        if before.is_none() {
            for (view, definition) in &self.restore_plan.old_views {
                context
                    .events
                    .warn(format!("The view '{view}' goes, and no snapshot has it: {definition}"));
            }
        }
        // From here on the only way is forward.
        journal.write(Phase::Swapping)?;
        context.events.phase("swapping", name.clone());
        self.restore_plan.swap(&self.server).map_err(&failed).inspect_err(|_| {
            context.events.warn(format!("The restore into {name} stopped while it swapped; the next one, or a backup of {name}, finishes it first."));
        })?;
        // The new state is in place: what fails from here on does not make that untrue.
        let was_written = since.map(|since| self.restore_plan.was_written(&self.server, since));
        let removes_old = before.is_some() && matches!(was_written, Some(Ok(false)));
        let aside = journal
            .write_clearing(removes_old)
            .and_then(|()| journal::clear(&self.server, &journal));
        let aside = aside.unwrap_or_else(|error| {
            context.events.warn(format!("{name} is restored, but not all is cleared away: {error}. The next restore, or a backup of {name}, does that first."));
            Vec::new()
        });
        if !aside.is_empty() && before.is_some() {
            let why = match was_written {
                Some(Ok(_)) => "Somebody wrote after the snapshot of the present state was taken",
                _ => "Whether somebody wrote after the snapshot of the present state is not known",
            };
            context.events.warn(format!(
                "{why}: the old collections are kept in {} as {}.",
                self.plan.database,
                aside.join(", ")
            ));
        }
        Ok(self.result(true, before, aside))
    }

    /// Make the new collections beside the present ones.
    fn fill(&self, context: &Context) -> Result<(), OpsError> {
        context.events.phase("restoring", format!("database {}", self.plan.database));
        let progress = Mutex::new(progress_of(&context.events));
        let told = |bytes| {
            if let Ok(mut progress) = progress.lock() {
                progress(bytes, 0);
            }
        };
        let (source, files) = (&self.source, &self.files);
        let open = |name: &str| -> io::Result<Box<dyn Read + '_>> {
            let path = files.get(name).ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(content(source, path).map_err(io::Error::other)?))
        };
        self.restore_plan
            .fill(&self.server, &self.incoming, &open, &told)
            .map_err(failed(self.instance))
    }

    /// Snapshot what is about to be overwritten, and pin that. Returns also the moment of the server before that, where it has one.
    fn save(&self, context: &Context) -> Result<(Option<SnapshotId>, Option<Moment>), OpsError> {
        let name = &self.instance.name;
        match self.plan.present_state {
            PresentState::Nothing => return Ok((None, None)),
            PresentState::Snapshot => {}
            _ => {
                let reason = self.options.discard_current.as_deref().unwrap_or_default();
                context.events.warn(format!(
                    "The present state of {name} is in no snapshot, which was asked for: {reason}."
                ));
                return Ok((None, None));
            }
        }
        let since = self.server.now().ok();
        let before_restore_of = Some(self.plan.snapshot);
        let options = BackupOptions { before_restore_of, ..BackupOptions::default() };
        match backup_locked(self.config, self.session, self.instance, &options, context) {
            Ok(outcome) => {
                let reason = format!("state of {name} before a restore");
                let snapshot = SnapshotRef::Prefix(outcome.id.to_string());
                pins::pin(self.session, &snapshot, &reason, context)?;
                Ok((Some(outcome.id), since))
            }
            Err(error) if error.is_cancelled() => Err(error),
            Err(error) => {
                context.events.warn(format!("No snapshot of the present state of {name} could be taken ({error}); the old collections are kept aside."));
                Ok((None, None))
            }
        }
    }
}
