//! Status: each instance's last good snapshot, and what is wrong, without changing anything.

use super::session::Session;
use super::{Context, OpsError, job, prune, restore, select, sync};
use crate::catalog::{Catalog, LastCheck, Outcome};
use crate::config::{Config, Instance, SecretSources};
use crate::model::id::{RepositoryId, SnapshotId};
use jiff::Timestamp;
use serde::Serialize;

/// All there is to know at a glance.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Each instance.
    pub instances: Vec<InstanceStatus>,
    /// What a person should do something about.
    pub problems: Vec<String>,
}

/// An instance at a glance.
#[derive(Debug, Serialize)]
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
    /// How many snapshots it has.
    pub snapshots: usize,
    /// How its last run ended: `done`, `warned`, `failed`, `interrupted`; none where there was none from this host.
    pub last_run: Option<String>,
    /// When that was.
    pub last_run_at: Option<Timestamp>,
    /// Failures frozen forgetting for it.
    pub frozen: bool,
}

/// Look at everything.
pub fn status(
    config: &Config,
    secrets: &SecretSources,
    context: &Context,
) -> Result<Status, OpsError> {
    let mut status = Status { instances: Vec::new(), problems: interrupted(config)? };
    for repository in config.repositories.values() {
        let session = match Session::open(config, repository, secrets) {
            Ok(session) => session,
            Err(error) => {
                status.problems.push(format!("Repository {}: {error}.", repository.name));
                continue;
            }
        };
        let view = sync::view(&session, context)?;
        let catalog = session.require_catalog()?;
        status.problems.extend(recovery_key_problem(catalog, &session)?);
        status.problems.extend(check_problem(catalog, &session)?);
        for instance in
            config.instances.values().filter(|instance| instance.repository == repository.name)
        {
            let instance = of_instance(catalog, instance, &view)?;
            if instance.last_good.is_none() {
                status.problems.push(format!("{} has no good snapshot.", instance.name));
            }
            if instance.frozen {
                status.problems.push(format!(
                    "The last run of {} failed; nothing of it is forgotten until one succeeds.",
                    instance.name
                ));
            }
            status.instances.push(instance);
        }
    }
    Ok(status)
}

/// Tell what a process that is gone left half done. Jobs are marked as interrupted; restores are only told.
pub fn interrupted(config: &Config) -> Result<Vec<String>, OpsError> {
    let mut told = restore::interrupted(&config.state_dir);
    told.extend(job::mark_interrupted(&Catalog::open(&config.state_dir)?)?);
    Ok(told)
}

fn of_instance(
    catalog: &Catalog,
    instance: &Instance,
    view: &sync::View,
) -> Result<InstanceStatus, OpsError> {
    let id = catalog.instance_id(&instance.name, &instance.repository)?;
    let own: Vec<_> =
        view.records.iter().filter(|record| id.is_some() && record.instance == id).collect();
    let is_counted = |tags: &[String]| !select::has_tag(tags, select::TAG_BEFORE_RESTORE);
    let last_good = own.iter().find(|record| record.is_good() && is_counted(&record.tags));
    let runs = id.map(|id| catalog.recent_runs(id, 1)).transpose()?.unwrap_or_default();
    let last_run = runs.first();
    let outcome = |outcome: Outcome| match outcome {
        Outcome::Running => "running",
        Outcome::Done => "done",
        Outcome::Warned => "warned",
        Outcome::Failed => "failed",
        Outcome::NoRoom => "found no room",
        Outcome::Interrupted => "interrupted",
    };
    Ok(InstanceStatus {
        name: instance.name.to_string(),
        platform: instance.platform.to_string(),
        last_good: last_good.map(|record| record.id),
        last_good_at: last_good.map(|record| record.time),
        age_seconds: last_good.map(|record| Timestamp::now().duration_since(record.time).as_secs()),
        snapshots: own.len(),
        last_run: last_run.map(|run| outcome(run.outcome).to_owned()),
        last_run_at: last_run.map(|run| run.time),
        frozen: id.map(|id| prune::frozen(catalog, id)).transpose()?.flatten().is_some(),
    })
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
    Ok(Some(match known.recovery_key {
        Some(_) => format!(
            "The recovery key of repository {} has never opened it. Prove it: belay key test --repository {}",
            known.name, known.name
        ),
        None => format!(
            "Repository {} has no recovery key that this host knows of. Make one: belay key add --recovery --repository {}",
            known.name, known.name
        ),
    }))
}

fn check_problem(catalog: &Catalog, session: &Session) -> Result<Option<String>, OpsError> {
    let known = catalog.repository(RepositoryId(session.repository.id().0))?;
    let problem = match known.as_ref().and_then(|known| known.last_check) {
        Some(LastCheck { ok: false, at, .. }) => Some(format!(
            "The check of {} at {} found damage. Look again: belay check",
            session.repository.location(),
            at.strftime("%Y-%m-%d %H:%M UTC")
        )),
        _ => None,
    };
    Ok(problem)
}
