//! The way back to the version before, with its data.

use super::forward::taken;
use super::{Hands, Problem};
use crate::config::Instance;
use crate::model::id::SnapshotId;
use crate::model::upgrade::{Entry, Environment, Outcome, Step};
use crate::ops::restore::in_place::{PutBack, put_back};
use crate::ops::{self, newest, pins, quiesce};
use crate::platform::recipe::Recipe;
use crate::upgrade::machine::Upgrade;
use jiff::Timestamp;

impl Hands<'_> {
    /// Stop an instance before its data are put back, and say what a person should know of that; none where there is no way to. Nothing
    /// starts it any more, also not where this process ends: the version that was replaced would move what is put back to its own schema.
    fn stop_for_good(&self, environment: Environment) -> Result<Option<Vec<String>>, Problem> {
        let (config, instance) = (self.scene.config, self.instance(environment));
        let driver = self.driver(environment)?;
        // The databases may be in the same container: they have to run for what comes.
        let stops_writers = has_writers_apart(instance)
            && (instance.via.container().is_some() || !driver.can_stop());
        let mut notes = Vec::new();
        quiesce::forget_of_upgrade(config, instance, &self.context())?;
        if stops_writers && self.runs(environment)? != Some(false) {
            match self.stop_writers_for_good(environment) {
                Ok(()) => return Ok(Some(notes)),
                Err(problem) if !driver.can_stop() => return Err(problem),
                Err(problem) => notes.push(format!(
                    "what writes could not be stopped alone, so that all is stopped: {}",
                    problem.why()
                )),
            }
        }
        if !driver.can_stop() {
            return Ok(None);
        }
        driver.stop()?;
        Ok(Some(notes))
    }

    fn stop_writers_for_good(&self, environment: Environment) -> Result<(), Problem> {
        let (config, instance, job) =
            (self.scene.config, self.instance(environment), ops::new_job_id()?);
        let stopped = quiesce::stop_for_upgrade(config, instance, None, job, &self.context())?;
        if let Some(mut stopped) = stopped {
            stopped.hold()?;
            stopped.leave();
        }
        Ok(())
    }

    pub(super) fn stop_production(&mut self) -> Result<Outcome, Problem> {
        self.leave_writers();
        let notes = self.stop_for_good(Environment::Production)?.unwrap_or_else(|| {
            vec![format!(
                "nothing says how {} is stopped: what it writes until its data are replaced is kept aside",
                self.production.name
            )]
        });
        Ok(Outcome { notes, ..Outcome::default() })
    }

    /// Put the data back. What is overwritten is in a snapshot first, or set aside.
    fn data_back(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
        (snapshot, step): (SnapshotId, Step),
    ) -> Result<Outcome, Problem> {
        let (session, instance) = (self.session(environment)?, self.instance(environment));
        let discard = (environment == Environment::Production && upgrade.may_discard_current())
            .then(|| format!("rollback of upgrade {}", upgrade.journal().id));
        let place = (self.scene.config, &session, instance);
        let PutBack { before, aside, loss_window_seconds } =
            put_back(place, snapshot, discard, &self.context())?;
        let mut notes = vec![format!(
            "{} is as it was in snapshot {}; what changed in the {} since then is not in it",
            instance.name,
            snapshot.short(),
            crate::upgrade::words::span(std::time::Duration::from_secs(
                loss_window_seconds.unsigned_abs()
            ))
        )];
        // An earlier try that was interrupted may have saved it, and put the old data back already.
        let earlier = newest::saved_by_restores(&session, instance, snapshot)?;
        let first_try = first_began(upgrade, step);
        let first = earlier.into_iter().find(|(_, time)| Some(*time) >= first_try);
        let before = first.map(|(id, _)| id).or(before);
        if let Some(before) = before {
            let (name, id) = (&instance.name, before.short());
            pins::pin_present(&session, before, name, &self.context())?;
            notes.push(format!(
                "what the new version left of {name} is in snapshot {id}, which is pinned"
            ));
        }
        let kept_at = (!aside.is_empty()).then(|| aside.join(", "));
        if let Some(kept_at) = &kept_at {
            notes.push(format!("what the new version left is kept: {kept_at}"));
        }
        Ok(Outcome { snapshot: before, kept_at, notes, ..Outcome::default() })
    }

    pub(super) fn put_back_production(&mut self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        let copies = self.copies_of_production(upgrade)?;
        if !copies.is_empty() {
            return self.swap_production(upgrade, &copies);
        }
        // Whoever has started it meanwhile would write to what is replaced.
        self.stop_for_good(Environment::Production)?;
        let snapshot = taken(upgrade, Step::BackUpStopped)?;
        let was_started = self.reach(upgrade, Environment::Production, &hop_versions(upgrade))?;
        let back = (snapshot, Step::PutBackProduction);
        let outcome = self.data_back(upgrade, Environment::Production, back)?;
        if was_started {
            self.driver(Environment::Production)?.stop()?;
        }
        Ok(outcome)
    }

    /// Where what an instance keeps is reached through its container, and the new version's does not run: start the version before, which
    /// then has to get on with what there is until its data are back. Returns whether it was started.
    fn reach(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
        (before, new): &(String, String),
    ) -> Result<bool, Problem> {
        if !has_writers_apart(self.instance(environment)) || self.runs(environment)? != Some(false)
        {
            return Ok(false);
        }
        let image = self.image_before(upgrade, environment)?;
        self.driver(environment)?.install(before, Some(new), image.as_ref()).map_err(|error| {
            let name = &self.instance(environment).name;
            Problem::new(
                format!(
                    "what {name} keeps is reached through its container, of which neither {new} nor {before} runs with what {new} left, and there is no copy of its volumes: {error}"
                ),
                format!(
                    "move its data directory aside, start {before} on an empty one, and bring the snapshot back that `belay upgrade show` names: belay restore SNAPSHOT --into {name}"
                ),
            )
        })?;
        // Its databases may take a while to answer; whether it is well then is not asked here.
        self.wait_until_healthy(upgrade, environment)?;
        Ok(true)
    }

    pub(super) fn start_back(&mut self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        let hop = upgrade.hop();
        let image = self.image_before(upgrade, Environment::Production)?;
        let driver = self.driver(Environment::Production)?;
        driver.install(&hop.from.to_string(), Some(&hop.to.to_string()), image.as_ref())?;
        self.writers_were_replaced(Environment::Production)?;
        Ok(Outcome { image: image.map(|image| image.digest), ..Outcome::default() })
    }

    pub(super) fn put_back_staging(&self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        let driver = self.driver(Environment::Staging)?;
        let outcome = if let Some(outcome) = self.swap_staging(upgrade)? {
            outcome
        } else {
            self.stop_for_good(Environment::Staging)?;
            let snapshot = taken(upgrade, Step::BackUpStaging)?;
            let versions = (super::staging_version_before(upgrade), upgrade.hop().to.to_string());
            self.reach(upgrade, Environment::Staging, &versions)?;
            self.data_back(upgrade, Environment::Staging, (snapshot, Step::PutBackStaging))?
        };
        let image = self.image_before(upgrade, Environment::Staging)?;
        let before = super::staging_version_before(upgrade);
        driver.install(&before, Some(&upgrade.hop().to.to_string()), image.as_ref())?;
        self.writers_were_replaced(Environment::Staging)?;
        Ok(Outcome { image: image.map(|image| image.digest), ..outcome })
    }
}

/// When a step of this hop began for the first time.
fn first_began(upgrade: &Upgrade, wanted: Step) -> Option<Timestamp> {
    let hop_now = upgrade.hop_number();
    let mut records = upgrade.journal().records.iter();
    let found = records.find(|record| {
        matches!(record.entry, Entry::Began { hop, step } if hop == hop_now && step == wanted)
    });
    found.map(|record| record.at)
}

/// The version before a hop, and the one after it.
fn hop_versions(upgrade: &Upgrade) -> (String, String) {
    let hop = upgrade.hop();
    (hop.from.to_string(), hop.to.to_string())
}

/// Whether its recipe says how what writes is stopped while its databases go on.
fn has_writers_apart(instance: &Instance) -> bool {
    Recipe::of(instance.platform).quiesce.is_some()
}
