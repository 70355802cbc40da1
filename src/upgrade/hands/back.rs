//! The way back to the version before, with its data.

use super::forward::taken;
use super::{Hands, Problem};
use crate::config::Instance;
use crate::model::id::SnapshotId;
use crate::model::upgrade::{Entry, Environment, Outcome, Step};
use crate::ops::restore::in_place::{PutBack, put_back};
use crate::ops::volumes::OwnFiles;
use crate::ops::{self, OpsError, newest, pins, quiesce};
use crate::platform::recipe::Recipe;
use crate::upgrade::driver::DriverError;
use crate::upgrade::machine::Upgrade;
use jiff::Timestamp;

/// How an instance is reached whose data are put back.
#[derive(Default)]
struct Reached {
    /// The version before was started for that.
    was_started: bool,
    /// Where the files of its own databases are that it begins without.
    files_at: Option<String>,
}

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
        reached: &Reached,
    ) -> Result<Outcome, Problem> {
        let (session, instance) = (self.session(environment)?, self.instance(environment));
        let discard = (environment == Environment::Production && upgrade.may_discard_current())
            .then(|| format!("rollback of upgrade {}", upgrade.journal().id));
        let place = (self.scene.config, &session, instance);
        let PutBack { before, mut aside, loss_window_seconds, warnings } =
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
            let but = if reached.files_at.is_some() { ", but for its databases," } else { "" };
            notes.push(format!(
                "what the new version left of {name}{but} is in snapshot {id}, which is pinned"
            ));
        }
        if let Some(files) = &reached.files_at {
            notes.push(format!(
                "the files of its databases as the new version left them are on the host of its container (via {}); nothing removes them but a person",
                instance.via.host()
            ));
            aside.push(files.clone());
        }
        notes.extend(warnings);
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
        let reached = self.reach(upgrade, Environment::Production, &hop_versions(upgrade))?;
        let back = (snapshot, Step::PutBackProduction);
        let outcome = self.data_back(upgrade, Environment::Production, back, &reached)?;
        if reached.was_started {
            self.driver(Environment::Production)?.stop()?;
        }
        Ok(outcome)
    }

    /// Where what an instance keeps is reached through its container, and the new version's does not run: start the version before, which
    /// then has to get on with what there is until its data are back. Where its own databases cannot, their files go aside, and it begins
    /// on none.
    fn reach(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
        (before, new): &(String, String),
    ) -> Result<Reached, Problem> {
        let instance = self.instance(environment);
        if !has_writers_apart(instance) {
            return Ok(Reached::default());
        }
        let name = format!("{}-hop{}", upgrade.journal().id, upgrade.hop_number() + 1);
        let (files, moved) = self.own_files(instance, &name)?;
        if self.runs(environment)? != Some(false) {
            return Ok(Reached { was_started: false, files_at: moved });
        }
        let moved = match (&files, moved) {
            // An earlier try may have been killed in the middle of that.
            (Some(files), Some(_)) => Some(files.move_aside(&name)?),
            (_, moved) => moved,
        };
        let (driver, image) = (self.driver(environment)?, self.image_before(upgrade, environment)?);
        let start = || driver.install(before, Some(new), image.as_ref());
        let (started, files_at) = match (start(), files) {
            // Only what its container cannot get on with goes aside: not where that was never made.
            (Err(error @ DriverError::NotRunning { .. }), Some(files)) if moved.is_none() => {
                self.scene.context.events.warn(format!(
                    "{before} of {} does not run on what {new} left ({error}): the files of its own databases go aside, and it begins on none.",
                    instance.name
                ));
                driver.stop()?;
                let kept = files.move_aside(&name)?;
                (start(), Some(kept))
            }
            (started, _) => (started, moved),
        };
        started.map_err(|error| {
            let name = &instance.name;
            Problem::new(
                format!(
                    "what {name} keeps is reached through its container, of which neither {new} nor {before} runs, and there is no copy of its volumes: {error}"
                ),
                format!(
                    "see why {before} does not start (`docker logs`); then `belay upgrade resume {0}`, or bring the snapshot back that `belay upgrade show {0}` names: belay restore SNAPSHOT --into {name}",
                    self.scene.pair.name
                ),
            )
        })?;
        // Its databases may take a while to answer; whether it is well then is not asked here.
        self.wait_until_healthy(upgrade, environment)?;
        Ok(Reached { was_started: true, files_at })
    }

    /// The files of an instance's own databases, where it has such, and where they were moved to. That they cannot be looked for
    /// hinders nothing that does not need them.
    fn own_files(
        &self,
        instance: &Instance,
        name: &str,
    ) -> Result<(Option<OwnFiles>, Option<String>), Problem> {
        let look = || {
            let files = OwnFiles::of(self.scene.config, instance, &self.context())?;
            let moved = files.as_ref().map(|files| files.aside(name)).transpose()?;
            Ok((files, moved.flatten()))
        };
        look().or_else(|error: OpsError| {
            if error.is_cancelled() {
                return Err(error.into());
            }
            self.scene.context.events.warn(format!(
                "Where the files of {}'s own databases are could not be told: {}.",
                instance.name,
                error.told()
            ));
            Ok((None, None))
        })
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
            let reached = self.reach(upgrade, Environment::Staging, &versions)?;
            let back = (snapshot, Step::PutBackStaging);
            self.data_back(upgrade, Environment::Staging, back, &reached)?
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
