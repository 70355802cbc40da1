//! Prune: decide which snapshots to keep, plan what can be reclaimed, and do it, all under one exclusive lock.

use super::job::{self, JobResult, JobSubject};
use super::select::{self, TAG_BEFORE_RESTORE};
use super::session::Session;
use super::{Context, OpsError, restore, sync};
use crate::catalog::{Catalog, JobKind, Outcome};
use crate::config::{Config, Instance};
use crate::model::id::RepositoryId;
use crate::policy::retention::{self, Candidate, Decision, Frozen, RunEnd, RunOutcome};
use crate::repository::Repository;
use crate::repository::lock::LockMode;
use crate::repository::prune::{self, PruneOptions, PruneOutcome, PrunePlan};
use crate::repository::reader::Reader;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashSet;

/// So many runs are looked at for failures in a row: as long as they all failed, forgetting is frozen anyway.
const RUNS: u32 = 100;

/// What retention says of one instance.
#[derive(Debug, Serialize)]
pub struct InstanceDecisions {
    /// The instance's name.
    pub instance: String,
    /// Its snapshots, newest first, each with why it is kept, or without a reason.
    pub decisions: Vec<Decision>,
}

/// What a prune does, or did.
#[derive(Debug, Serialize)]
pub struct Pruned {
    /// Whether it was only planned.
    pub dry_run: bool,
    /// What retention says.
    pub instances: Vec<InstanceDecisions>,
    /// What is removed and copied.
    pub plan: PrunePlan,
    /// What was done; none after a dry run.
    pub outcome: Option<PruneOutcome>,
}

impl JobResult for Pruned {}

/// Forget what the policies do not keep, and reclaim what nothing needs any more.
pub fn prune(
    config: &Config,
    session: &Session,
    options: &PruneOptions,
    dry_run: bool,
    context: &Context,
) -> Result<Pruned, OpsError> {
    if dry_run {
        let _lock = session.lock_for_reading("prune --dry-run", context)?;
        let (instances, plan) = plan(config, session, options, context)?;
        return Ok(Pruned { dry_run, instances, plan, outcome: None });
    }
    let subject =
        JobSubject { kind: JobKind::Prune, instance: None, repository: session.name.as_ref() };
    let id = context.job_id()?;
    let (pruned, _) = job::run(&config.state_dir, id, &subject, context, |context| {
        let lock = session.lock(LockMode::Exclusive, "prune", context)?;
        let _reserve = KeptReserve(&session.repository);
        // Snapshots and pins are read now, under the lock: none can appear any more.
        let (instances, plan) = plan(config, session, options, context)?;
        let shown = plan.clone();
        let repository = &session.repository;
        let told = (&context.events, &context.cancel);
        let mut outcome = prune::execute(repository, &lock, plan, told.0, told.1)?;
        if outcome.repack_skipped {
            prune::repack_little_by_little((repository, &lock), options, &mut outcome, told)?;
        }
        if outcome.repack_skipped {
            context.events.warn(
                "There is too little room to reclaim the unused parts of all packs. Make some, and prune again.",
            );
        }
        if let Some(catalog) = &session.catalog {
            catalog.forget_snapshots(RepositoryId(repository.id().0), &shown.forget)?;
        }
        Ok(Pruned { dry_run, instances, plan: shown, outcome: Some(outcome) })
    })?;
    Ok(pruned)
}

/// The lock itself may have used the room that is kept aside: however the prune ends, it is there for the next one.
struct KeptReserve<'a>(&'a Repository);

impl Drop for KeptReserve<'_> {
    fn drop(&mut self) {
        // A prune that went well has told already why it cannot be kept.
        let _ = self.0.store().keep_reserve();
    }
}

fn plan(
    config: &Config,
    session: &Session,
    options: &PruneOptions,
    context: &Context,
) -> Result<(Vec<InstanceDecisions>, PrunePlan), OpsError> {
    let catalog = session.require_catalog()?;
    let snapshots = session.repository.snapshots()?;
    let reader = Reader::new(&session.repository)?;
    let view = sync::view_locked(session, &reader, &snapshots, &context.events)?;
    drop(reader);
    if view.is_missing_pins {
        return Err(OpsError::refused(
            "the newest pins cannot be read, or are gone, so nothing is forgotten: a pinned snapshot might be among it",
            "run `belay check --read-data` to see what is damaged; pin again what must stay: that writes all pins that this host knows of",
        ));
    }
    let mut instances = Vec::new();
    let mut forget = HashSet::new();
    let own = config
        .instances
        .values()
        .filter(|instance| Some(&instance.repository) == session.name.as_ref());
    for instance in own {
        let decisions = match decide(catalog, config, instance, &view) {
            Err(OpsError::Refused { message, hint }) => {
                let hint = hint.unwrap_or_default();
                context.events.warn(format!(
                    "None of the snapshots of '{}' are forgotten: {message}. What to do: {hint}.",
                    instance.name
                ));
                continue;
            }
            other => other?,
        };
        let Some(decisions) = decisions else { continue };
        forget.extend(
            decisions.iter().filter(|decision| !decision.is_kept()).map(|decision| decision.id),
        );
        instances.push(InstanceDecisions { instance: instance.name.to_string(), decisions });
    }
    let plan =
        prune::plan(&session.repository, &forget, options, &context.events, &context.cancel)?;
    Ok((instances, plan))
}

/// What retention says of an instance of this host; none where it was never backed up from here.
fn decide(
    catalog: &Catalog,
    config: &Config,
    instance: &Instance,
    view: &sync::View,
) -> Result<Option<Vec<Decision>>, OpsError> {
    let Some(id) = super::adopt::own_id(catalog, instance)? else {
        return Ok(None);
    };
    let needed = restore::needed(&config.state_dir)?;
    let pins = view.pins.iter().map(|pin| (pin.snapshot, &pin.reason));
    let pins: Vec<_> = pins.chain(needed.iter().map(|(id, reason)| (*id, reason))).collect();
    let candidates: Vec<Candidate> = view
        .records
        .iter()
        .filter(|record| record.instance == Some(id))
        .map(|record| Candidate {
            id: record.id,
            time: record.time,
            // The state that a restore overwrote is pinned, and takes no good snapshot's place.
            good: record.is_good() && !select::has_tag(&record.tags, TAG_BEFORE_RESTORE),
            pinned: pins
                .iter()
                .filter(|(pinned, _)| *pinned == record.id)
                .map(|(_, reason)| (*reason).clone())
                .collect(),
        })
        .collect();
    let frozen = frozen(catalog, id)?;
    Ok(Some(retention::decide(
        &instance.keep,
        &candidates,
        frozen.as_ref(),
        &instance.timezone,
        Timestamp::now(),
    )))
}

/// Whether failures freeze forgetting for the instance.
pub(super) fn frozen(
    catalog: &Catalog,
    id: crate::model::id::InstanceId,
) -> Result<Option<Frozen>, OpsError> {
    let runs = catalog.recent_runs(id, RUNS)?;
    let ends: Vec<RunOutcome> = runs
        .iter()
        .map(|run| RunOutcome {
            time: run.time,
            end: match run.outcome {
                Outcome::Done | Outcome::Warned => RunEnd::Sealed,
                Outcome::Failed => RunEnd::Failed,
                Outcome::NoRoom => RunEnd::NoRoom,
                Outcome::Running | Outcome::Interrupted => RunEnd::Interrupted,
            },
        })
        .collect();
    Ok(retention::freeze(&ends))
}
