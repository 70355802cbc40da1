//! Status: each instance's last good snapshot, and what is wrong, without changing anything.

use super::session::Session;
use super::{Context, OpsError, job, prune, restore, select, sync, what_to_do};
use crate::catalog::{Catalog, JobFailure, LastCheck, Outcome};
use crate::config::{Config, Instance, SecretSources};
use crate::model::id::{InstanceId, RepositoryId, SnapshotId};
use crate::model::name::Name;
use crate::policy::objectives;
use crate::repository::keys::RECOVERY_LABEL;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// So many runs are looked at for one that was not interrupted.
const LOOKED_AT: u32 = 10;

/// All there is to know at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of the daemon that tells this; none where none was asked.
    #[serde(default)]
    pub daemon: Option<String>,
    /// Each instance.
    pub instances: Vec<InstanceStatus>,
    /// What a person should do something about.
    pub problems: Vec<String>,
}

/// An instance at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// Its platform.
    pub platform: String,
    /// Its last good snapshot.
    pub last_good: Option<SnapshotId>,
    /// When that was taken.
    pub last_good_at: Option<Timestamp>,
    /// How long ago, in seconds.
    pub age_seconds: Option<i64>,
    /// How many snapshots it has; none where its repository could not be read, and nothing of this is known.
    pub snapshots: Option<usize>,
    /// How its last run ended: `done`, `warned`, `failed`, `interrupted`; `unknown` where the catalog cannot be used; none
    /// where there was none from this host.
    pub last_run: Option<String>,
    /// When that was.
    pub last_run_at: Option<Timestamp>,
    /// Why it failed, where no success followed its last failure.
    pub last_failure: Option<LastFailure>,
    /// Failures frozen forgetting for it.
    pub frozen: bool,
    /// How old its last good snapshot may become, in seconds.
    #[serde(default)]
    pub rpo_seconds: Option<u64>,
    /// Whether it is older, or there is none.
    #[serde(default)]
    pub rpo_breached: bool,
    /// Since when it is measured against that where there is no good snapshot.
    #[serde(skip)]
    pub known_since: Option<Timestamp>,
    /// How long the last good backup took, as far as this host knows.
    #[serde(default)]
    pub duration_seconds: Option<f64>,
    /// Bytes of content of the last good snapshot.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Bytes that were read for it; none without one, or where they were not counted.
    #[serde(default)]
    pub read_bytes: Option<u64>,
    /// Bytes that it added to the repository.
    #[serde(default)]
    pub added_bytes: Option<u64>,
    /// When the daemon takes the next snapshot.
    #[serde(default)]
    pub next_run: Option<Timestamp>,
    /// What is done with it now: `running`, `queued`; none where nothing is.
    #[serde(default)]
    pub now: Option<String>,
}

/// Why the backup of an instance failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// When it ended.
    pub at: Timestamp,
    /// What it was about: `reading uploads`; none where it could not even begin.
    pub stage: Option<String>,
    /// The error with its reasons.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl LastFailure {
    /// The same in a line.
    pub(super) fn told(&self) -> String {
        let at = self.at.strftime("%Y-%m-%d %H:%M UTC");
        let stage = self.stage.as_ref().map(|stage| format!(" while {stage}"));
        let error = self.error.lines().next().unwrap_or_default();
        format!("the backup at {at} failed{}: {error}", stage.unwrap_or_default())
    }
}

/// Look at everything.
pub fn status(
    config: &Config,
    secrets: &SecretSources,
    context: &Context,
) -> Result<Status, OpsError> {
    // Whatever cannot be looked at is a problem to show, and hides nothing of the rest.
    let problems = interrupted(config).unwrap_or_else(|error| vec![problem(&error)]);
    let mut status = Status { daemon: None, instances: Vec::new(), problems };
    for repository in config.repositories.values() {
        context.cancel.check()?;
        let instances: Vec<&Instance> = config
            .instances
            .values()
            .filter(|instance| instance.repository == repository.name)
            .collect();
        let looked = Session::open_for_reading(config, repository, secrets, context)
            .and_then(|session| look_at(session, &instances, context));
        match looked {
            Ok(Status { instances, problems, .. }) => {
                status.instances.extend(instances);
                status.problems.extend(problems);
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                status.problems.push(format!(
                    "Repository {}: {}",
                    repository.name,
                    problem(&error)
                ));
                status.instances.extend(instances.into_iter().map(unknown));
            }
        }
    }
    status.bring_up_to(Timestamp::now(), config);
    Ok(status)
}

fn problem(error: &OpsError) -> String {
    format!("{}.{}", error.told(), what_to_do(error.hint().as_deref()))
}

/// What the repository and the catalog know of the instances.
fn look_at(
    session: Session,
    instances: &[&Instance],
    context: &Context,
) -> Result<Status, OpsError> {
    let (view, session) = sync::view_now(session, context)?;
    let mut status = Status { daemon: None, instances: Vec::new(), problems: Vec::new() };
    if let Some(catalog) = &session.catalog {
        status.problems.extend(check_problem(catalog, &session)?);
    }
    for instance in instances {
        let instance = of_instance(session.catalog.as_ref(), instance, &view)?;
        if instance.last_good.is_none() {
            status.problems.push(format!("{} has no good snapshot.", instance.name));
        }
        if let Some(failure) = &instance.last_failure {
            let (name, hint) = (&instance.name, what_to_do(failure.hint.as_deref()));
            status.problems.push(format!("{name}: {}.{hint}", failure.told()));
        }
        if instance.frozen {
            status.problems.push(format!(
                "The last run of {} failed; nothing of it is forgotten until one succeeds.",
                instance.name
            ));
        }
        status.instances.push(instance);
    }
    // Last: what failed is more urgent.
    if let Some(catalog) = &session.catalog {
        status.problems.extend(recovery_key_problem(catalog, &session)?);
    }
    Ok(status)
}

/// An instance whose repository cannot be read.
fn unknown(instance: &Instance) -> InstanceStatus {
    InstanceStatus {
        name: instance.name.to_string(),
        platform: instance.platform.to_string(),
        last_good: None,
        last_good_at: None,
        age_seconds: None,
        snapshots: None,
        last_run: Some("unknown".into()),
        last_run_at: None,
        last_failure: None,
        frozen: false,
        rpo_seconds: None,
        rpo_breached: false,
        known_since: None,
        duration_seconds: None,
        size_bytes: None,
        read_bytes: None,
        added_bytes: None,
        next_run: None,
        now: None,
    }
}

/// The subject of an instance's schedule, in the catalog and for what differs between subjects.
pub fn schedule_subject(noun: &str, name: &Name) -> String {
    format!("{noun}:{name}")
}

/// When the daemon takes the next snapshot of an instance.
fn next_run(instance: &Instance) -> Option<Timestamp> {
    let schedule = instance.schedule.as_ref()?;
    let subject = schedule_subject("backup", &instance.name);
    schedule.next_after(Timestamp::now())?.checked_add(schedule.jitter_of(subject.as_bytes())).ok()
}

impl Status {
    /// What passes by itself, as it is now: ages, objectives, times of next runs. The problems have what was wrong when it was
    /// looked up, and the objectives.
    pub fn bring_up_to(&mut self, now: Timestamp, config: &Config) {
        for instance in &mut self.instances {
            instance.age_seconds = instance.last_good_at.map(|at| now.duration_since(at).as_secs());
            let Some(configured) =
                config.instances.values().find(|it| it.name.as_str() == instance.name)
            else {
                continue;
            };
            instance.next_run = next_run(configured);
            let was_breached = instance.rpo_breached;
            // One that never had a good snapshot is measured from when the daemon learned of it.
            let known_since = instance.known_since.unwrap_or(now);
            let by_schedule = || {
                let schedule = configured.schedule.as_ref()?;
                objectives::of_schedule(schedule, instance.last_good_at, known_since, now)
            };
            let rpo = configured.objectives.rpo.or_else(by_schedule);
            instance.rpo_seconds = rpo.map(|rpo| rpo.as_secs());
            if let Some(rpo) = rpo {
                let standing = objectives::rpo(instance.last_good_at, known_since, rpo, now);
                instance.rpo_breached = standing.breached;
            }
            if instance.rpo_breached
                && !was_breached
                && let Some(rpo) = rpo
            {
                let rpo = SignedDuration::try_from(rpo).unwrap_or(SignedDuration::MAX);
                self.problems.insert(
                    0,
                    format!(
                        "The last good snapshot of {} is older than its {}, {rpo:#}.",
                        instance.name,
                        if configured.objectives.rpo.is_some() {
                            "objective"
                        } else {
                            "schedule allows"
                        }
                    ),
                );
            }
        }
    }
}

/// Since when the daemon knows an instance.
fn known_since(
    catalog: Option<&Catalog>,
    instance: &Instance,
) -> Result<Option<Timestamp>, OpsError> {
    let subject = schedule_subject("backup", &instance.name);
    let handled = catalog.map(|catalog| catalog.handled(&subject)).transpose()?.flatten();
    Ok(handled.map(|handled| handled.known_since))
}

/// Tell what a process that is gone left half done. Jobs are marked as interrupted; restores are only told.
pub fn interrupted(config: &Config) -> Result<Vec<String>, OpsError> {
    let mut told = restore::interrupted(&config.state_dir);
    told.extend(restore::interrupted_platforms(&config.state_dir));
    told.extend(job::mark_interrupted(&Catalog::open(&config.state_dir)?)?);
    Ok(told)
}

fn of_instance(
    catalog: Option<&Catalog>,
    instance: &Instance,
    view: &sync::View,
) -> Result<InstanceStatus, OpsError> {
    let id = match catalog {
        Some(catalog) => catalog.instance_id(&instance.name, &instance.repository)?,
        None => only_id(&instance.name, view),
    };
    let own: Vec<_> =
        view.records.iter().filter(|record| id.is_some() && record.instance == id).collect();
    let is_counted = |tags: &[String]| !select::has_tag(tags, select::TAG_BEFORE_RESTORE);
    let last_good = own.iter().find(|record| record.is_good() && is_counted(&record.tags));
    let known = catalog.zip(id);
    let runs = known.map(|(catalog, id)| catalog.recent_runs(id, 1)).transpose()?;
    let last_run = runs.as_ref().and_then(|runs| runs.first());
    let outcome = |outcome: Outcome| match outcome {
        Outcome::Running => "running",
        Outcome::Done => "done",
        Outcome::Warned => "warned",
        Outcome::Failed => "failed",
        Outcome::NoRoom => "found no room",
        Outcome::Interrupted => "interrupted",
    };
    let last_good_at = last_good.map(|record| record.time);
    let duration = |id: SnapshotId| {
        let job = catalog?.job_of_snapshot(id).ok().flatten()?;
        Some(job.finished_at?.duration_since(job.start.started_at).as_secs_f64())
    };
    Ok(InstanceStatus {
        name: instance.name.to_string(),
        platform: instance.platform.to_string(),
        last_good: last_good.map(|record| record.id),
        last_good_at,
        age_seconds: None,
        snapshots: Some(own.len()),
        last_run: match catalog {
            Some(_) => last_run.map(|run| outcome(run.outcome).to_owned()),
            None => Some("unknown".into()),
        },
        last_run_at: last_run.map(|run| run.time),
        last_failure: known.map(|(catalog, id)| last_failure(catalog, id)).transpose()?.flatten(),
        frozen: known
            .map(|(catalog, id)| prune::frozen(catalog, id))
            .transpose()?
            .flatten()
            .is_some(),
        rpo_seconds: None,
        rpo_breached: false,
        known_since: known_since(catalog, instance)?,
        duration_seconds: last_good.and_then(|record| duration(record.id)),
        size_bytes: last_good.map(|record| record.size_bytes),
        read_bytes: last_good.and_then(|record| record.read_bytes),
        added_bytes: last_good.map(|record| record.added_bytes),
        next_run: None,
        now: None,
    })
}

/// Why the last backup that failed did, where no success followed it. Interruptions in between say nothing.
pub(super) fn last_failure(
    catalog: &Catalog,
    id: InstanceId,
) -> Result<Option<LastFailure>, OpsError> {
    let runs = catalog.recent_runs(id, LOOKED_AT)?;
    let Some(run) = runs.into_iter().find(|run| run.outcome != Outcome::Interrupted) else {
        return Ok(None);
    };
    let Some(JobFailure { error, hint }) = run.failure else { return Ok(None) };
    let stage = catalog.last_phase(run.job)?.map(|(phase, subject)| format!("{phase} {subject}"));
    Ok(Some(LastFailure { at: run.time, stage, error, hint }))
}

/// The instance of that name, where the repository has but one.
fn only_id(name: &Name, view: &sync::View) -> Option<InstanceId> {
    let named = view.records.iter().filter(|record| record.instance_name == name.as_str());
    let ids: BTreeSet<InstanceId> = named.filter_map(|record| record.instance).collect();
    if ids.len() == 1 { ids.into_iter().next() } else { None }
}

/// A recovery key that was never tried may have been written down wrong.
pub(super) fn recovery_key_problem(
    catalog: &Catalog,
    session: &Session,
) -> Result<Option<String>, OpsError> {
    let known = catalog.repository(RepositoryId(session.repository.id().0))?;
    let Some(known) = known.filter(|known| known.recovery_key_verified_at.is_none()) else {
        return Ok(None);
    };
    let is_labelled = || {
        let keys = session.repository.keys()?.readable;
        Ok::<_, OpsError>(keys.iter().any(|key| key.label.as_deref() == Some(RECOVERY_LABEL)))
    };
    // A host that lost its state directory knows it by its label only.
    let has_one = known.recovery_key.is_some() || is_labelled()?;
    let name = &known.name;
    Ok(Some(if has_one {
        format!(
            "Repository {name} has a recovery key, which this host has never seen open it. Prove that you have it: belay key test --repository {name}"
        )
    } else {
        format!(
            "Repository {name} has no recovery key that this host knows of. Make one: belay key add --recovery --repository {name}"
        )
    }))
}

fn check_problem(catalog: &Catalog, session: &Session) -> Result<Option<String>, OpsError> {
    let known = catalog.repository(RepositoryId(session.repository.id().0))?;
    let problem = match known.as_ref().and_then(|known| known.last_check) {
        Some(LastCheck { ok: false, at, .. }) => Some(format!(
            "The check of {} at {} found damage. Look again: belay check --read-data",
            session.repository.location(),
            at.strftime("%Y-%m-%d %H:%M UTC")
        )),
        _ => None,
    };
    Ok(problem)
}
