//! A job in the catalog: that it began, what happened in it, and how it ended, also when it ended badly.

use super::{Context, OpsError};
use crate::catalog::{Catalog, JobFailure, JobKind, JobStart, Outcome, Process};
use crate::host;
use crate::model::event::{Event, Events};
use crate::model::id::{InstanceId, JobId, SnapshotId};
use crate::model::name::Name;
use crate::repository::RepositoryError;
use jiff::Timestamp;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a job is about.
pub(super) struct JobSubject<'a> {
    pub(super) kind: JobKind,
    pub(super) instance: Option<(&'a Name, InstanceId)>,
    pub(super) repository: Option<&'a Name>,
}

/// What an operation says of its end.
pub(super) trait JobResult {
    /// The snapshot that it made.
    fn snapshot(&self) -> Option<SnapshotId> {
        None
    }
}

/// A random job id.
pub(super) fn random_job_id() -> Result<JobId, OpsError> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|error| RepositoryError::Internal(error.to_string()))?;
    Ok(JobId(id))
}

/// Run `work` as a job. Returns besides whether it warned of something.
pub(super) fn run<T: JobResult>(
    state_dir: &Path,
    id: JobId,
    subject: &JobSubject<'_>,
    context: &Context,
    work: impl FnOnce(&Context) -> Result<T, OpsError>,
) -> Result<(T, bool), OpsError> {
    // A connection of its own: events come from several threads.
    let catalog = begin(state_dir, id, subject)?;
    let catalog = Arc::new(Mutex::new(catalog));
    let warned = Arc::new(AtomicBool::new(false));
    let recorded = recording(&context.events, Arc::clone(&catalog), id, Arc::clone(&warned));
    let result = work(&context.with_events(recorded));
    let warned = warned.load(Ordering::SeqCst);
    let (outcome, failure) = match &result {
        Ok(_) if warned => (Outcome::Warned, None),
        Ok(_) => (Outcome::Done, None),
        Err(error) => outcome_of(error),
    };
    let snapshot = result.as_ref().ok().and_then(JobResult::snapshot);
    let catalog = catalog.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) =
        catalog.finish_job(id, Timestamp::now(), outcome, snapshot, failure.as_ref())
    {
        // What the job did is done, and is in the repository: the catalog follows with the next command.
        context.events.warn(format!("The end of the job could not be recorded: {error}."));
    }
    result.map(|value| (value, warned))
}

/// Record a job that could not even begin.
pub(super) fn record_failure(
    state_dir: &Path,
    subject: &JobSubject<'_>,
    error: &OpsError,
    context: &Context,
) -> Result<(), OpsError> {
    let id = context.job_id()?;
    let catalog = begin(state_dir, id, subject)?;
    let (outcome, failure) = outcome_of(error);
    Ok(catalog.finish_job(id, Timestamp::now(), outcome, None, failure.as_ref())?)
}

fn begin(state_dir: &Path, id: JobId, subject: &JobSubject<'_>) -> Result<Catalog, OpsError> {
    let catalog = Catalog::open(state_dir)?;
    let process = host::Process::current();
    let pid = u32::try_from(process.pid).unwrap_or_default();
    catalog.begin_job(&JobStart {
        id,
        kind: subject.kind,
        instance: subject.instance.map(|(_, id)| id),
        instance_name: subject.instance.map(|(name, _)| name.clone()),
        repository: subject.repository.cloned(),
        started_at: Timestamp::now(),
        process: Process { pid, boot_id: process.boot_id, start: process.start },
    })?;
    Ok(catalog)
}

fn outcome_of(error: &OpsError) -> (Outcome, Option<JobFailure>) {
    let failure = || Some(JobFailure { error: error.told(), hint: error.hint() });
    match error {
        error if error.is_cancelled() => (Outcome::Interrupted, None),
        error if error.is_no_room() => (Outcome::NoRoom, failure()),
        _ => (Outcome::Failed, failure()),
    }
}

fn recording(
    events: &Events,
    catalog: Arc<Mutex<Catalog>>,
    id: JobId,
    warned: Arc<AtomicBool>,
) -> Events {
    let events = events.clone();
    Events::new(move |event| {
        if matches!(event, Event::Warning { .. }) {
            warned.store(true, Ordering::SeqCst);
        }
        if !matches!(event, Event::Progress { .. }) {
            let catalog = catalog.lock().unwrap_or_else(PoisonError::into_inner);
            // A full disk under the catalog must not stop a backup that runs already; its end is recorded or told.
            let _ = catalog.add_event(id, Timestamp::now(), &event);
        }
        events.send(event);
    })
}

/// Mark the jobs of processes that are gone as interrupted; returns what they were about.
pub(super) fn mark_interrupted(catalog: &Catalog) -> Result<Vec<String>, OpsError> {
    let is_alive = |process: &Process| {
        let pid = i32::try_from(process.pid).unwrap_or_default();
        let process = host::Process { pid, boot_id: process.boot_id.clone(), start: process.start };
        !process.is_gone()
    };
    let gone = catalog.mark_interrupted(is_alive)?;
    let told = gone.into_iter().map(|job| {
        let start = job.start;
        let instance = start.instance_name.map(|name| format!(" of {name}")).unwrap_or_default();
        let at = start.started_at.strftime("%Y-%m-%d %H:%M:%S UTC");
        format!(
            "The {}{instance} that began at {at} was interrupted: its process is gone.",
            start.kind.as_str()
        )
    });
    Ok(told.collect())
}
