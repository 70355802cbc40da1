//! The way to the new version.

use super::{Hands, Problem};
use crate::model::id::SnapshotId;
use crate::model::upgrade::{Environment, Gate, Outcome, RuleName, Step};
use crate::ops::backup::{BackupOptions, backup};
use crate::ops::{self, OpsError, SnapshotRef, pins, quiesce};
use crate::upgrade::driver::Image;
use crate::upgrade::evidence::Scene;
use crate::upgrade::machine::Upgrade;
use crate::upgrade::maintenance;
use crate::upgrade::rules::{Seen, Unread};
use jiff::Timestamp;

impl Hands<'_> {
    /// The image of the version to come: of production the one that staging has proved.
    fn image_to_come(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<Option<Image>, Problem> {
        let tested = match environment {
            Environment::Staging => None,
            Environment::Production => self.driver(Environment::Staging)?.running_image()?,
        };
        let version = upgrade.hop().to.to_string();
        let image = self.driver(environment)?.prepare(&version, tested.as_ref())?;
        let pulled = match environment {
            Environment::Staging => Step::PullStaging,
            Environment::Production => Step::PullProduction,
        };
        let pulled = upgrade.outcome(pulled).and_then(|outcome| outcome.image.clone());
        // What the tag means may be another image by now than when it was fetched.
        Ok(image.map(|image| match pulled {
            Some(digest) => Image { digest, ..image },
            None => image,
        }))
    }

    pub(super) fn pull(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<Outcome, Problem> {
        let image = self.image_to_come(upgrade, environment)?;
        Ok(Outcome { image: image.map(|image| image.digest), ..Outcome::default() })
    }

    pub(super) fn back_up(&self, environment: Environment) -> Result<Outcome, Problem> {
        self.snapshot(environment, &BackupOptions::default())
    }

    fn snapshot(
        &self,
        environment: Environment,
        options: &BackupOptions,
    ) -> Result<Outcome, Problem> {
        let (session, instance) = (self.session(environment)?, self.instance(environment));
        let taken = backup(self.scene.config, &session, instance, options, &self.context())?;
        Ok(Outcome { snapshot: Some(taken.id), notes: taken.warnings, ..Outcome::default() })
    }

    pub(super) fn pin(
        &self,
        upgrade: &Upgrade,
        staging: Step,
        production: Step,
    ) -> Result<Outcome, Problem> {
        for (environment, step) in
            [(Environment::Staging, staging), (Environment::Production, production)]
        {
            let snapshot = taken(upgrade, step)?;
            let session = self.session(environment)?;
            let snapshot = SnapshotRef::Prefix(snapshot.to_string());
            pins::pin(&session, &snapshot, &Self::pin_reason(upgrade), &self.context())?;
        }
        Ok(Outcome::default())
    }

    pub(super) fn release_pins(&self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        let reason = Self::pin_reason(upgrade);
        for environment in [Environment::Staging, Environment::Production] {
            let session = self.session(environment)?;
            pins::release(&session, &reason, &self.context())?;
        }
        Ok(Outcome { notes: self.release_copies(upgrade), ..Outcome::default() })
    }

    pub(super) fn install(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<Outcome, Problem> {
        let image = self.image_to_come(upgrade, environment).map_err(Problem::before_anything)?;
        let driver = self.driver(environment).map_err(Problem::before_anything)?;
        let hop = upgrade.hop();
        match environment {
            Environment::Staging => self.copy_staging(upgrade)?,
            Environment::Production if !Self::was_tried(upgrade) => {
                self.ensure_at_rest(upgrade).map_err(Problem::before_anything)?;
            }
            Environment::Production => {}
        }
        driver.install(&hop.to.to_string(), Some(&hop.from.to_string()), image.as_ref())?;
        self.writers_were_replaced(environment)?;
        Ok(Outcome { image: image.map(|image| image.digest), ..Outcome::default() })
    }

    pub(super) fn keep_users_out(&self) -> Result<Outcome, Problem> {
        let Scene { config, upgrades, context, .. } = self.scene;
        if let Some(configured) = &upgrades.maintenance {
            maintenance::begin(config, configured, self.production, context)?;
        }
        Ok(Outcome::default())
    }

    pub(super) fn let_users_in(&self) -> Result<Outcome, Problem> {
        let Scene { config, upgrades, context, .. } = self.scene;
        if let Some(configured) = &upgrades.maintenance {
            maintenance::end(config, configured, self.production, context)?;
        }
        Ok(Outcome::default())
    }

    pub(super) fn stop_writers(&mut self) -> Result<Outcome, Problem> {
        if self.stopped_since().is_some() {
            return Ok(Outcome::default());
        }
        // What an earlier try has left is started, so that it is stopped with a lease of our own.
        self.stopped = None;
        let (config, production) = (self.scene.config, self.production);
        quiesce::resume_of_upgrade(config, production, &self.context())?;
        let switch = self.driver(Environment::Production)?.switch()?;
        let job = ops::new_job_id()?;
        let stopped = quiesce::stop_for_upgrade(config, production, switch, job, &self.context())?;
        let stopped = stopped.ok_or_else(|| {
            Problem::new(
                format!("nothing says how what writes to {} is stopped", production.name),
                "add stop = \"/PATH\" and start = \"/PATH\" to driver = { command = … }",
            )
        })?;
        self.stopped = Some((stopped, Timestamp::now()));
        Ok(Outcome::default())
    }

    pub(super) fn back_up_stopped(&self) -> Result<Outcome, Problem> {
        self.ensure_stopped()?;
        let options = BackupOptions { writers_are_stopped: true, ..BackupOptions::default() };
        let outcome = self.snapshot(Environment::Production, &options)?;
        self.ensure_stopped()?;
        Ok(outcome)
    }

    fn ensure_stopped(&self) -> Result<(), Problem> {
        if self.stopped_since().is_some() {
            return Ok(());
        }
        let name = &self.production.name;
        Err(Problem::new(
            format!("what writes to {name} was started again before its last backup was whole"),
            "see who starts it; it is stopped anew for the next try",
        ))
    }

    /// Right before production is upgraded for the first time: what was written since its last backup would be lost by a rollback.
    pub(super) fn ensure_still_stopped(&self, upgrade: &Upgrade) -> Result<(), OpsError> {
        if Self::was_tried(upgrade) || self.stopped_since().is_some() {
            return Ok(());
        }
        Err(OpsError::refused(
            format!(
                "what writes to {} was started again after its last backup, so that it is not upgraded",
                self.production.name
            ),
            format!(
                "see who starts it; then belay upgrade resume {}: it is stopped and backed up anew",
                upgrade.plan().pair
            ),
        ))
    }

    pub(super) fn hold_writers(&mut self) -> Result<Outcome, Problem> {
        self.ensure_stopped()?;
        if let Some((stopped, _)) = &mut self.stopped {
            stopped.hold()?;
        }
        Ok(Outcome::default())
    }

    /// A platform that tells its version itself tells nothing while it is stopped: it runs what it ran when it was, as nobody else has
    /// started it since.
    pub(super) fn with_what_ran(&mut self, gate: Gate, mut seen: Seen) -> Seen {
        match gate {
            Gate::BeforeStop => self.ran.clone_from(&seen.production.running),
            Gate::Production
                if seen.production.running.is_none() && seen.production.stopped_since.is_some() =>
            {
                if let Some(ran) = self.ran.clone() {
                    let is_its_version = |unread: &Unread| {
                        unread.environment == Some(Environment::Production)
                            && unread.rules == [RuleName::Path]
                    };
                    seen.unread.retain(|unread| !is_its_version(unread));
                    seen.production.running = Some(ran);
                }
            }
            _ => {}
        }
        seen
    }

    pub(super) fn resume_writers(&mut self, upgrade: &Upgrade) -> Result<Outcome, Problem> {
        match self.stopped.take() {
            Some((stopped, _)) => drop(stopped.resume()?),
            None => {
                quiesce::resume_of_upgrade(self.scene.config, self.production, &self.context())?;
            }
        }
        if upgrade.plan().terms.copy_volumes {
            self.drop_copies(upgrade)?;
            // All of it may have been stopped, and what comes next asks it.
            self.wait_until_healthy(upgrade, Environment::Production)?;
        }
        Ok(Outcome::default())
    }
}

/// The snapshot that a step of this hop has taken.
pub(super) fn taken(upgrade: &Upgrade, step: Step) -> Result<SnapshotId, OpsError> {
    let snapshot = upgrade.outcome(step).and_then(|outcome| outcome.snapshot);
    snapshot.ok_or_else(|| {
        OpsError::refused(
            format!(
                "the journal of upgrade {} names no snapshot of the step {step}",
                upgrade.journal().id
            ),
            format!("look at it with `belay upgrade show {}`", upgrade.plan().pair),
        )
    })
}
