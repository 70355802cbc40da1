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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// What happens in a job, in the order and with the numbers with which whoever follows it is told. The catalog keeps it under
/// the same numbers, also what happened before it knew of the job.
#[derive(Default)]
pub(super) struct History(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    /// A connection of its own, and the job there.
    begun: Option<(Catalog, JobId)>,
    /// What happened before that.
    before: Vec<(Timestamp, Event)>,
    next: u64,
    warned: bool,
}

impl History {
    /// Events that are kept, and told to `events`.
    pub(super) fn recording(self: &Arc<Self>, events: &Events) -> Events {
        let (history, events) = (Arc::clone(self), events.clone());
        Events::new(move |event| {
            let mut recorded = history.lock();
            recorded.keep(&event);
            // They come from several threads: told under the lock, they have one order for all.
            events.send(event);
        })
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the catalog knows of the job.
    fn begin(&self, catalog: Catalog, id: JobId) {
        let mut recorded = self.lock();
        for (ordinal, (at, event)) in (0..).zip(std::mem::take(&mut recorded.before)) {
            // As below: the job is worth more than its history.
            let _ = catalog.add_event(id, ordinal, at, &event);
        }
        recorded.warned = false;
        recorded.begun = Some((catalog, id));
    }
}

impl Recorded {
    fn keep(&mut self, event: &Event) {
        if matches!(event, Event::Progress { .. }) {
            return;
        }
        self.warned |= matches!(event, Event::Warning { .. });
        let at = Timestamp::now();
        match &self.begun {
            // A full disk under the catalog must not stop a backup that runs already; its end is recorded or told.
            Some((catalog, id)) => {
                let _ = catalog.add_event(*id, self.next, at, event);
            }
            None => self.before.push((at, event.clone())),
        }
        self.next += 1;
    }
}

/// Run `work` as a job. Returns besides whether it warned of something.
pub(super) fn run<T: JobResult>(
    state_dir: &Path,
    id: JobId,
    subject: &JobSubject<'_>,
    context: &Context,
    work: impl FnOnce(&Context) -> Result<T, OpsError>,
) -> Result<(T, bool), OpsError> {
    let catalog = begin(state_dir, id, subject)?;
    let (history, events) = if let Some(history) = context.history_of(id) {
        (history, context.events.clone())
    } else {
        let history = Arc::<History>::default();
        let events = history.recording(&context.events);
        (history, events)
    };
    history.begin(catalog, id);
    let result = work(&context.with_events(events));
    let finished = {
        let recorded = history.lock();
        let (outcome, failure) = match &result {
            Ok(_) if recorded.warned => (Outcome::Warned, None),
            Ok(_) => (Outcome::Done, None),
            Err(error) => outcome_of(error),
        };
        let snapshot = result.as_ref().ok().and_then(JobResult::snapshot);
        let (catalog, id) = recorded.begun.as_ref().expect("it began above");
        let now = Timestamp::now();
        let finished = catalog.finish_job(*id, now, outcome, snapshot, failure.as_ref());
        finished.map(|()| recorded.warned).map_err(|error| (error, recorded.warned))
    };
    let warned = finished.unwrap_or_else(|(error, warned)| {
        // What the job did is done, and is in the repository: the catalog follows with the next command.
        context.events.warn(format!("The end of the job could not be recorded: {error}."));
        warned
    });
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
    catalog.finish_job(id, Timestamp::now(), outcome, None, failure.as_ref())?;
    if let Some(history) = context.history_of(id) {
        history.begin(catalog, id);
    }
    Ok(())
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
