//! Copies of the volumes that hold an instance's own databases: made while all of it is stopped, and exchanged for the volumes on the way
//! back, which so works when the new version does not stay up, and when its databases opened their files for good.

use super::forward::taken;
use super::{Hands, Problem};
use crate::config::Instance;
use crate::model::upgrade::{Entry, Environment, Outcome, Step, VolumeCopy};
use crate::ops::backup::{BackupOptions, backup};
use crate::ops::quiesce::{self, LEASE};
use crate::ops::volumes::{self, CopyState, Shelf};
use crate::ops::{self, pins};
use crate::upgrade::evidence::{Can, can_be_copied};
use crate::upgrade::machine::Upgrade;
use crate::upgrade::words::span;
use jiff::Timestamp;
use std::time::Instant;

impl Hands<'_> {
    /// Which volumes of an instance are copied aside in this hop, and where to; none where they are not.
    pub(super) fn volumes_to_copy(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<Vec<VolumeCopy>, Problem> {
        let is_production = environment == Environment::Production;
        if is_production && !upgrade.plan().terms.copy_volumes {
            return Ok(Vec::new());
        }
        let instance = self.instance(environment);
        let volumes = match can_be_copied(&self.scene, instance)? {
            Can::Be(volumes) if is_production || volumes::fits(&volumes) => volumes,
            _ => return Ok(Vec::new()),
        };
        let area = format!(".belay-upgrade-{}", upgrade.journal().id);
        let label = format!("hop{}-{environment}", upgrade.hop_number() + 1);
        Ok(volumes.iter().map(|volume| volume.copy_in(&area, &label)).collect())
    }

    fn shelf(&self, environment: Environment) -> Result<Shelf, Problem> {
        let (config, instance) = (self.scene.config, self.instance(environment));
        Shelf::of(config, instance, &self.context()).ok_or_else(|| {
            Problem::new(
                format!("{} is in no container any more", instance.name),
                "let its `via` end in the container that it was in when its volumes were copied",
            )
        })
    }

    /// Stop all of production, and copy its volumes aside. What writes is stopped already; from here on its databases are, too.
    pub(super) fn copy_volumes(&mut self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        let copies = noted(upgrade, Step::BaselineProduction);
        if copies.is_empty() {
            return Err(Problem::new(
                format!("which volumes of {} are to be copied is not known", self.production.name),
                "see that its databases are still in its own container, or abort the upgrade and plan another one",
            ));
        }
        self.stop_whole()?;
        let place = self.shelf(Environment::Production)?;
        // The way back to a version before the last one is a restore of its snapshot, which stays pinned.
        for earlier in all_noted(upgrade, Environment::Production) {
            if !copies.contains(earlier) {
                place.remove(earlier)?;
            }
        }
        let token = ops::new_job_id()?;
        for copy in copies {
            self.scene.context.events.phase("copying", copy.source.clone());
            place.copy(copy, token, false)?;
        }
        let kept_at = joined(copies.iter().map(|copy| copy.copy.as_str()));
        let notes = vec![format!("its volumes are copied to {kept_at}")];
        let volumes = copies.to_vec();
        Ok(Outcome { kept_at: Some(kept_at), volumes, notes, ..Outcome::default() })
    }

    /// What writes is stopped; now everything is, with a timer on the host that starts it all again.
    fn stop_whole(&mut self) -> Result<(), Problem> {
        let begun = Instant::now();
        let Some((stopped, since)) = self.stopped.take() else { return Err(self.were_started()) };
        if !stopped.is_unbroken() {
            // Dropping it starts what may be stopped of it.
            return Err(self.were_started());
        }
        let switch = self.driver(Environment::Production)?.switch()?.ok_or_else(|| {
            Problem::new(
                format!("nothing says how {} is stopped and started", self.production.name),
                "add stop = \"/PATH\" and start = \"/PATH\" to driver = { command = … }",
            )
        })?;
        let (config, job) = (self.scene.config, ops::new_job_id()?);
        let whole =
            quiesce::stop_whole_for_upgrade(config, self.production, switch, job, &self.context())?;
        // The note of it is that of the whole by now.
        stopped.leave();
        // The timer in the container, which ended with that, may have started them before.
        if begun.elapsed() >= LEASE / 2 {
            drop(whole);
            return Err(self.were_started());
        }
        self.stopped = Some((whole, since));
        Ok(())
    }

    fn were_started(&self) -> Problem {
        Problem::new(
            format!(
                "what writes to {} was started again before its volumes were copied",
                self.production.name
            ),
            "see who starts it; it is stopped anew for the next try",
        )
    }

    /// What was copied has not run since: nothing was written that the copies do not have.
    pub(super) fn ensure_at_rest(&self, upgrade: &Upgrade) -> Result<(), Problem> {
        if noted(upgrade, Step::CopyVolumes).is_empty()
            || !self.shelf(Environment::Production)?.runs()?
        {
            return Ok(());
        }
        let name = &self.production.name;
        Err(Problem::new(
            format!("{name} was started after its volumes were copied"),
            "see who starts it; it is stopped and copied anew for the next try",
        ))
    }

    /// The upgrade is for good: staging does not go back any more. Returns what was removed, and what could not be, a sentence each.
    pub(super) fn drop_copies_of_staging(&self, upgrade: &Upgrade) -> Vec<String> {
        let copies = all_noted(upgrade, Environment::Staging);
        copies.into_iter().filter_map(|copy| self.dropped(Environment::Staging, copy)).collect()
    }

    /// Remove a copy. That its host is gone keeps no upgrade from its end: what could not be removed is said.
    fn dropped(&self, environment: Environment, copy: &VolumeCopy) -> Option<String> {
        let removed = self.shelf(environment).and_then(|place| Ok(place.remove(copy)?));
        match removed {
            Ok(true) => Some(format!("the copy {} was removed", copy.copy)),
            Ok(false) => None,
            Err(problem) => Some(format!(
                "the copy {} could not be removed ({}): rm -rf it where {} lives",
                copy.copy,
                problem.why(),
                self.instance(environment).name
            )),
        }
    }

    /// Production goes on: copies of what it was are of no use.
    pub(super) fn drop_copies(&self, upgrade: &Upgrade) -> Result<(), Problem> {
        for copy in noted(upgrade, Step::BaselineProduction) {
            self.shelf(Environment::Production)?.remove(copy)?;
        }
        Ok(())
    }

    /// The copies of production that a way back can be gone by; none where there are none, or not all of them any more.
    pub(super) fn copies_of_production(
        &self,
        upgrade: &Upgrade,
    ) -> Result<Vec<VolumeCopy>, Problem> {
        let copies = noted(upgrade, Step::CopyVolumes);
        for copy in copies {
            if self.shelf(Environment::Production)?.state(copy)? == CopyState::Missing {
                self.scene.context.events.warn(format!(
                    "The copy {} is not there any more: the way back is a restore of the snapshot.",
                    copy.copy
                ));
                return Ok(Vec::new());
            }
        }
        Ok(copies.to_vec())
    }

    /// Whether the container of an instance runs; none where it is in none.
    pub(super) fn runs(&self, environment: Environment) -> Result<Option<bool>, Problem> {
        let (config, instance) = (self.scene.config, self.instance(environment));
        let place = Shelf::of(config, instance, &self.context());
        Ok(place.map(|place| place.runs()).transpose()?)
    }

    /// A snapshot of what the new version left, where its databases still answer. In any case its volumes are moved aside as they are.
    pub(super) fn save_before_swap(&mut self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        let name = &self.production.name;
        let kept = "what the new version left is kept as it is, with its volumes";
        if !self.shelf(Environment::Production)?.runs()? {
            let note =
                format!("{name} does not run, so that no snapshot of it can be taken; {kept}");
            return Ok(Outcome { notes: vec![note], ..Outcome::default() });
        }
        let before_restore_of = Some(taken(upgrade, Step::BackUpStopped)?);
        let options = BackupOptions {
            before_restore_of,
            // Nothing but this upgrade starts them.
            writers_are_stopped: true,
            ..BackupOptions::default()
        };
        let saved = self.session(Environment::Production).and_then(|session| {
            let (config, context) = (self.scene.config, self.context());
            let outcome = backup(config, &session, self.production, &options, &context)?;
            Ok((session, outcome))
        });
        match saved {
            Ok((session, outcome)) => {
                pins::pin_present(&session, outcome.id, name, &self.context())?;
                let note = format!(
                    "what the new version left of {name} is in snapshot {}, which is pinned",
                    outcome.id.short()
                );
                Ok(Outcome { snapshot: Some(outcome.id), notes: vec![note], ..Outcome::default() })
            }
            Err(error) if error.is_cancelled() => Err(error.into()),
            Err(error) => {
                let note =
                    format!("no snapshot of {name} could be taken ({}); {kept}", error.told());
                Ok(Outcome { notes: vec![note], ..Outcome::default() })
            }
        }
    }

    /// Exchange production's volumes for their copies. It stays stopped.
    pub(super) fn swap_production(
        &mut self,
        upgrade: &Upgrade,
        copies: &[VolumeCopy],
    ) -> Result<Outcome, Problem> {
        self.leave_writers();
        self.driver(Environment::Production)?.stop()?;
        quiesce::forget_of_upgrade(self.scene.config, self.production, &self.context())?;
        let since = done_at(upgrade, Step::BackUpStopped).unwrap_or_else(Timestamp::now);
        let lost = Timestamp::now().duration_since(since).unsigned_abs();
        let what = format!(
            "{} has the volumes back that it had when what writes to it was stopped; what changed in the {} since then is not in them",
            self.production.name,
            span(lost)
        );
        self.swap(Environment::Production, copies, what)
    }

    /// The same of staging, where there are copies of it.
    pub(super) fn swap_staging(&self, upgrade: &Upgrade) -> Result<Option<Outcome>, Problem> {
        let copies = noted(upgrade, Step::BaselineStaging);
        if copies.is_empty() {
            return Ok(None);
        }
        self.driver(Environment::Staging)?.stop()?;
        let place = self.shelf(Environment::Staging)?;
        for copy in copies {
            // It is copied before anything is changed.
            if place.state(copy)? == CopyState::Missing {
                place.remove(copy)?;
                let note = "its volumes were not touched yet".to_owned();
                return Ok(Some(Outcome { notes: vec![note], ..Outcome::default() }));
            }
        }
        let what = format!("{} has the volumes back that it had before", self.staging.name);
        self.swap(Environment::Staging, copies, what).map(Some)
    }

    fn swap(
        &self,
        environment: Environment,
        copies: &[VolumeCopy],
        what: String,
    ) -> Result<Outcome, Problem> {
        let (place, mut kept) = (self.shelf(environment)?, Vec::new());
        for copy in copies {
            self.scene.context.events.phase("swapping", copy.source.clone());
            kept.extend(place.swap(copy)?);
        }
        let Instance { via, .. } = self.instance(environment);
        let kept_at = joined(kept.iter().map(String::as_str));
        let notes = vec![
            what,
            format!(
                "what the new version left is kept as it was, in {kept_at} on the host of the container (via {}); nothing removes that but a person: rm -rf PATH",
                via.host()
            ),
        ];
        Ok(Outcome { kept_at: Some(kept_at), notes, ..Outcome::default() })
    }

    /// Copy staging's volumes aside, all of it stopped, before it gets another version.
    pub(super) fn copy_staging(&self, upgrade: &Upgrade) -> Result<(), Problem> {
        let copies = noted(upgrade, Step::BaselineStaging);
        if copies.is_empty() {
            return Ok(());
        }
        self.driver(Environment::Staging)?.stop()?;
        let (place, token) = (self.shelf(Environment::Staging)?, ops::new_job_id()?);
        for copy in copies {
            self.scene.context.events.phase("copying", copy.source.clone());
            // What it was before the first try counts.
            place.copy(copy, token, true)?;
        }
        Ok(())
    }

    /// Remove all copies of an upgrade that is over. Returns what was removed, and what is left, a sentence each.
    pub(super) fn release_copies(&self, upgrade: &Upgrade) -> Vec<String> {
        let mut notes = Vec::new();
        for environment in [Environment::Staging, Environment::Production] {
            for copy in all_noted(upgrade, environment) {
                notes.extend(self.dropped(environment, copy));
                let state = self.shelf(environment).and_then(|place| Ok(place.state(copy)?));
                if matches!(state, Ok(CopyState::Swapped)) {
                    notes.push(format!(
                        "what a new version left of {} is still kept beside it: rm -rf {}",
                        copy.source,
                        copy.copy.rsplit_once('/').map_or("", |(area, _)| area)
                    ));
                }
            }
        }
        notes
    }
}

fn joined<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    paths.collect::<Vec<_>>().join(", ")
}

/// What a step of this hop has noted.
fn noted(upgrade: &Upgrade, step: Step) -> &[VolumeCopy] {
    upgrade.outcome(step).map_or(&[], |outcome| &outcome.volumes)
}

/// What was noted of an instance in all hops, each once.
fn all_noted(upgrade: &Upgrade, environment: Environment) -> Vec<&VolumeCopy> {
    let mut all: Vec<&VolumeCopy> = Vec::new();
    for record in &upgrade.journal().records {
        if let Entry::Done { step, outcome } = &record.entry
            && step.environment() == Some(environment)
        {
            let new: Vec<_> = outcome.volumes.iter().filter(|copy| !all.contains(copy)).collect();
            all.extend(new);
        }
    }
    all
}

/// When a step was done last.
fn done_at(upgrade: &Upgrade, wanted: Step) -> Option<Timestamp> {
    let mut records = upgrade.journal().records.iter().rev();
    let is_it = |entry: &Entry| matches!(entry, Entry::Done { step, .. } if *step == wanted);
    records.find(|record| is_it(&record.entry)).map(|record| record.at)
}
