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
            return self.stop_for_swap();
        }
        let driver = self.driver(Environment::Production)?;
        if self.has_writers_apart() {
            // Its databases are in the same container: they have to run for what comes.
            return self.stop_writers();
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
        self.data_back(upgrade, Environment::Production, snapshot)
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
            self.data_back(upgrade, Environment::Staging, snapshot)?
        };
        let image = self.image_before(upgrade, Environment::Staging)?;
        let before = super::staging_version_before(upgrade);
        driver.install(&before, Some(&upgrade.hop().to.to_string()), image.as_ref())?;
        Ok(Outcome { image: image.map(|image| image.digest), ..outcome })
    }
}
