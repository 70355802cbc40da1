//! The entries of the queue: new ones, those that come back, those that are over.

use super::State;
use crate::catalog::{Catalog, Entry, EntryState, JobFailure, Origin, Outcome};
use crate::config::{Config, UnknownName};
use crate::model::id::JobId;
use crate::model::job::{Ended, Failure, RestoreWork, UpgradeWork, Work};
use crate::model::name::Name;
use crate::ops::{self, OpsError};
use crate::policy::queue::{self, Beside, Kind};
use jiff::Timestamp;
use std::time::Duration;

/// How long a job that looks after a repository may take.
const UPKEEP_DEADLINE: Duration = Duration::from_hours(24);

pub(super) fn new_entry(
    work: Work,
    origin: Origin,
    by: &str,
    due: Option<Timestamp>,
) -> Result<Entry, OpsError> {
    Ok(Entry {
        id: ops::new_job_id()?,
        work,
        state: EntryState::Queued,
        origin,
        submitted_by: by.to_owned(),
        submitted_at: Timestamp::now(),
        due,
        not_before: None,
        attempt: 1,
        gave_way: 0,
        cut_off: 0,
        ended_at: None,
        ended: None,
    })
}

/// The same once more.
pub(super) fn again(entry: &Entry, attempts: u32) -> Result<Entry, OpsError> {
    Ok(Entry {
        id: ops::new_job_id()?,
        state: EntryState::Queued,
        not_before: None,
        attempt: entry.attempt + attempts,
        ended_at: None,
        ended: None,
        ..entry.clone()
    })
}

/// ` as job ID`, where it is known.
pub(super) fn as_job(next: Option<&Entry>) -> String {
    next.map(|next| format!(" as job {}", next.id)).unwrap_or_default()
}

/// The job itself only knows that it was asked to stop, or nothing at all.
pub(super) fn record_as_failed(catalog: &Catalog, id: JobId, ended: &Ended) {
    let failure = ended
        .failure
        .as_ref()
        .map(|Failure { error, hint }| JobFailure { error: error.clone(), hint: hint.clone() });
    let recorded =
        catalog.finish_job(id, Timestamp::now(), Outcome::Failed, None, failure.as_ref());
    if let Err(error) = recorded {
        tracing::error!(JOB = %id, "the end of a job could not be recorded: {error}");
    }
}

pub(super) fn end_entry(entry: &mut Entry, ended: Ended) {
    entry.state = EntryState::Ended;
    entry.ended_at = Some(Timestamp::now());
    entry.ended = Some(ended);
}

pub(super) fn failed(error: &str, hint: Option<&str>, exit_code: u8) -> Ended {
    Ended {
        exit_code,
        text: String::new(),
        document: serde_json::Value::Null,
        failure: Some(Failure { error: error.to_owned(), hint: hint.map(str::to_owned) }),
        may_pass: false,
    }
}

/// How long it may take. Nobody wants a restore or an upgrade to end half-way because a night may not take longer.
pub(super) fn deadline_of(config: &Config, work: &Work) -> Duration {
    let instance = work.instance().and_then(|name| config.instances.get(name));
    match (instance, work) {
        (_, Work::Restore(_) | Work::Upgrade(_)) => Duration::MAX,
        (Some(instance), _) => instance.deadline,
        (None, _) => UPKEEP_DEADLINE,
    }
}

/// What is never begun again by itself: a person has to look first.
pub(super) fn is_of_a_person(work: &Work) -> bool {
    matches!(work, Work::Restore(_))
}

/// The repository that a job works with.
pub(super) fn repository_of<'a>(config: &'a Config, work: &Work) -> Result<&'a Name, UnknownName> {
    match work {
        Work::Backup { instance, .. }
        | Work::Recover { instance }
        | Work::Restore(RestoreWork { repository: None, instance, .. }) => {
            Ok(&config.instance(instance.as_str())?.repository)
        }
        Work::Restore(RestoreWork { repository: Some(repository), instance, .. }) => {
            config.instance(instance.as_str())?;
            Ok(&config.repository(repository.as_str())?.name)
        }
        Work::Check { repository, .. } | Work::Prune { repository, .. } => {
            Ok(&config.repository(repository.as_str())?.name)
        }
        Work::Upgrade(UpgradeWork { pair, .. }) => {
            let pair = config.pair(pair.as_str())?;
            Ok(&config.instance(pair.production.as_str())?.repository)
        }
    }
}

/// The two instances that an upgrade works on, production first; none where the configuration does not have them any more.
fn both<'a>(config: &'a Config, pair: &Name) -> Option<(&'a Name, Beside<'a>)> {
    let pair = config.pairs.get(pair)?;
    let staging = config.instances.get(pair.staging.as_ref()?)?;
    let (instance, repository) = (staging.name.as_str(), staging.repository.as_str());
    Some((&pair.production, Beside { instance, repository }))
}

/// What may begin is decided over these: what waits, and what runs.
pub(super) fn sorted<'a>(
    state: &'a State,
    config: &'a Config,
) -> (Vec<queue::Job<'a>>, Vec<queue::Job<'a>>) {
    let (mut waiting, mut running) = (Vec::new(), Vec::new());
    for (&order, held) in &state.held {
        let Entry { id, work, gave_way, .. } = &held.entry;
        // What the configuration does not have any more fails by itself, and holds nobody up.
        let repository = repository_of(config, work).unwrap_or_else(|_| work.subject());
        let kind = match work {
            Work::Restore(_) => Kind::Restore,
            Work::Backup { .. } => Kind::Backup,
            Work::Check { .. } => Kind::Check,
            Work::Recover { .. } | Work::Prune { dry_run: true, .. } => Kind::Other,
            Work::Prune { .. } => Kind::Prune,
            Work::Upgrade(_) => Kind::Upgrade,
        };
        let both = match work {
            Work::Upgrade(UpgradeWork { pair, .. }) => both(config, pair),
            _ => None,
        };
        let instance = both.map(|(production, _)| production).or(work.instance());
        let job = queue::Job {
            id: *id,
            kind,
            instance: instance.map(Name::as_str),
            repository: repository.as_str(),
            beside: both.map(|(_, staging)| staging),
            not_before: held.entry.not_before.unwrap_or(held.entry.submitted_at),
            order,
            gave_way: *gave_way,
        };
        if held.running.is_some() { running.push(job) } else { waiting.push(job) }
    }
    (waiting, running)
}
