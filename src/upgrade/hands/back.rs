//! The way back to the version before, with its data.

use super::forward::taken;
use super::{Hands, Problem};
use crate::model::id::SnapshotId;
use crate::model::upgrade::{Entry, Environment, Outcome, Step};
use crate::ops::restore::in_place::{PutBack, put_back};
use crate::ops::{self, SnapshotRef, newest, pins, quiesce};
use crate::platform::recipe::Recipe;
use crate::upgrade::machine::Upgrade;
use jiff::Timestamp;

impl Hands<'_> {
    /// Stop an instance before its data are put back; whether there is a way to. Nothing starts it any more, also not where this process
    /// ends: the version that was replaced would move what is put back to its own schema.
    fn stop_for_good(&self, environment: Environment) -> Result<bool, Problem> {
        let (config, instance) = (self.scene.config, self.instance(environment));
        let driver = self.driver(environment)?;
        let has_writers_apart = Recipe::of(instance.platform).quiesce.is_some();
        // The databases may be in the same container: they have to run for what comes.
        let stops_writers =
            has_writers_apart && (instance.via.container().is_some() || !driver.can_stop());
        if !stops_writers {
            if driver.can_stop() {
                driver.stop()?;
            }
            return Ok(driver.can_stop());
        }
        quiesce::forget_of_upgrade(config, instance, &self.context())?;
        let job = ops::new_job_id()?;
        if let Some(mut stopped) =
            quiesce::stop_for_upgrade(config, instance, None, job, &self.context())?
        {
            stopped.hold()?;
            stopped.leave();
        }
        Ok(true)
    }

    pub(super) fn stop_production(&mut self) -> Result<Outcome, Problem> {
        self.leave_writers();
        if self.stop_for_good(Environment::Production)? {
            return Ok(Outcome::default());
        }
        let note = format!(
            "nothing says how {} is stopped: what it writes until its data are replaced is kept aside",
            self.production.name
        );
        Ok(Outcome { notes: vec![note], ..Outcome::default() })
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
            let reason = format!("state of {name} before a restore");
            pins::pin(
                &session,
                &SnapshotRef::Prefix(before.to_string()),
                &reason,
                &self.context(),
            )?;
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
        // Whoever has started it meanwhile would write to what is replaced.
        self.stop_for_good(Environment::Production)?;
        let snapshot = taken(upgrade, Step::BackUpStopped)?;
        self.data_back(upgrade, Environment::Production, (snapshot, Step::PutBackProduction))
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
        self.stop_for_good(Environment::Staging)?;
        let snapshot = taken(upgrade, Step::BackUpStaging)?;
        let told = (snapshot, Step::PutBackStaging);
        let outcome = self.data_back(upgrade, Environment::Staging, told)?;
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
