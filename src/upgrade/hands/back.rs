//! The way back to the version before, with its data.

use super::forward::taken;
use super::{Hands, Problem};
use crate::model::id::SnapshotId;
use crate::model::upgrade::{Environment, Outcome, Step};
use crate::ops::restore::in_place::{PutBack, put_back};
use crate::platform::recipe::Recipe;
use crate::upgrade::machine::Upgrade;

impl Hands<'_> {
    /// Whether its recipe says how what writes is stopped while its databases go on.
    fn has_writers_apart(&self) -> bool {
        Recipe::of(self.production.platform).quiesce.is_some()
    }

    pub(super) fn stop_production(&mut self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        if !self.copies_of_production(upgrade)?.is_empty() {
            return self.stop_new_version();
        }
        let driver = self.driver(Environment::Production)?;
        if self.has_writers_apart() {
            // They are reached through its container, which has to run for what comes.
            return self.stop_new_version();
        }
        if driver.can_stop() {
            driver.stop()?;
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
        snapshot: SnapshotId,
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
        if let Some(before) = before {
            let (name, id) = (&instance.name, before.short());
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
        let driver = self.driver(Environment::Production)?;
        if !self.has_writers_apart() && driver.can_stop() {
            driver.stop()?;
        }
        let snapshot = taken(upgrade, Step::BackUpStopped)?;
        let was_started = self.reach(upgrade, Environment::Production, &hop_versions(upgrade))?;
        let outcome = self.data_back(upgrade, Environment::Production, snapshot)?;
        if was_started {
            driver.stop()?;
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
        if !self.has_writers_apart() || self.runs(environment)? != Some(false) {
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
        self.writers_were_replaced()?;
        Ok(Outcome { image: image.map(|image| image.digest), ..Outcome::default() })
    }

    pub(super) fn put_back_staging(&self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        let driver = self.driver(Environment::Staging)?;
        let outcome = if let Some(outcome) = self.swap_staging(upgrade)? {
            outcome
        } else {
            if !self.has_writers_apart() && driver.can_stop() {
                driver.stop()?;
            }
            let snapshot = taken(upgrade, Step::BackUpStaging)?;
            let versions = (super::staging_version_before(upgrade), upgrade.hop().to.to_string());
            self.reach(upgrade, Environment::Staging, &versions)?;
            self.data_back(upgrade, Environment::Staging, snapshot)?
        };
        let image = self.image_before(upgrade, Environment::Staging)?;
        let before = super::staging_version_before(upgrade);
        driver.install(&before, Some(&upgrade.hop().to.to_string()), image.as_ref())?;
        Ok(Outcome { image: image.map(|image| image.digest), ..outcome })
    }
}

/// The version before a hop, and the one after it.
fn hop_versions(upgrade: &Upgrade) -> (String, String) {
    let hop = upgrade.hop();
    (hop.from.to_string(), hop.to.to_string())
}
