//! The way back to the version before, with its data.

use super::forward::taken;
use super::{Hands, Problem};
use crate::config::Instance;
use crate::model::id::SnapshotId;
use crate::model::upgrade::{Entry, Environment, Outcome, Step};
use crate::ops::restore::apart::DatabaseApart;
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
    /// Where its databases as the new version left them are, where the version before did not run on them.
    aside: Vec<String>,
    /// What a person should know of that.
    notes: Vec<String>,
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
        reached: Reached,
    ) -> Result<Outcome, Problem> {
        let (session, instance) = (self.session(environment)?, self.instance(environment));
        let discard = (environment == Environment::Production && upgrade.may_discard_current())
            .then(|| format!("rollback of upgrade {}", upgrade.journal().id));
        let place = (self.scene.config, &session, instance);
        let PutBack { before, aside, loss_window_seconds, warnings } =
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
            let but = if reached.aside.is_empty() { "" } else { ", but for its databases," };
            notes.push(format!(
                "what the new version left of {name}{but} is in snapshot {id}, which is pinned"
            ));
        }
        notes.extend(reached.notes);
        notes.extend(warnings);
        let aside: Vec<String> = reached.aside.into_iter().chain(aside).collect();
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
        let back = (snapshot, Step::PutBackProduction);
        let versions = hop_versions(upgrade);
        let reached = self.reach(upgrade, Environment::Production, snapshot, &versions)?;
        let was_started = reached.was_started;
        let outcome = self.data_back(upgrade, Environment::Production, back, reached)?;
        if was_started {
            self.driver(Environment::Production)?.stop()?;
        }
        Ok(outcome)
    }

    /// Where what an instance keeps is reached through its container, and the new version's does not run: start the version before, which
    /// then has to get on with what there is until its data are back. Where it cannot, its databases go aside first.
    fn reach(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
        snapshot: SnapshotId,
        versions: &(String, String),
    ) -> Result<Reached, Problem> {
        let (instance, context) = (self.instance(environment), self.context());
        let mut reached = Reached::default();
        if !has_writers_apart(instance) {
            return Ok(reached);
        }
        let name = format!("{}-hop{}", upgrade.journal().id, upgrade.hop_number() + 1);
        let (files, moved) = self.own_files(instance, &name)?;
        if let Some(moved) = &moved {
            reached.files_are_at(moved.clone(), instance);
        }
        let (runs, back) =
            (self.runs(environment)? != Some(false), self.database_back(upgrade, environment)?);
        if runs && back.is_none() {
            return Ok(reached);
        }
        let session = self.session(environment)?;
        let apart = DatabaseApart::of((self.scene.config, &session, instance), &context)?;
        if let (Some(apart), Some(job)) = (&apart, back) {
            reached.collections_are(apart.set_aside(job)?, instance);
        }
        if runs {
            return Ok(reached);
        }
        if let (Some(files), Some(_)) = (&files, moved) {
            // An earlier try may have been killed in the middle of that.
            files.move_aside(&name)?;
        }
        // What is half swapped is no state to start on; only the container itself can finish what is inside of it.
        if let Some(Err(error)) = apart.as_ref().map(DatabaseApart::finish_interrupted) {
            context.cancel.check()?;
            self.scene.context.events.warn(format!(
                "What an interrupted restore of {} has left could not be finished without its container: {}.",
                instance.name,
                error.told()
            ));
        }
        let mut started = self.try_before(upgrade, environment, versions)?;
        // Once: what is there then is what a version before has to run on.
        if let Err(why) = &started
            && reached.aside.is_empty()
            && (files.is_some() || apart.is_some())
        {
            let (before, new) = versions;
            self.scene.context.events.warn(format!(
                "{before} of {} does not run on what {new} left ({why}): its database goes aside.",
                instance.name
            ));
            self.driver(environment)?.stop()?;
            if let Some(files) = &files {
                reached.files_are_at(files.move_aside(&name)?, instance);
            } else if let Some(apart) = &apart {
                let job = ops::new_job_id()?;
                // Before it begins: what it sets aside has names that tell it.
                self.note_database_back(upgrade, environment, job)?;
                let back = apart.put_back(snapshot, job).map_err(|error| {
                    let why = format!("nothing of {} runs ({why}), and its database alone could not be put back: {}", instance.name, error.told());
                    self.unreached(environment, why, &versions.0)
                })?;
                reached.collections_are(back.aside, instance);
                reached.notes.extend(back.warnings);
            }
            started = self.try_before(upgrade, environment, versions)?;
        }
        started.map_err(|why| {
            let why = format!(
                "what {} keeps is reached through its container, of which neither {} nor {} runs, and there is no copy of its volumes: {why}",
                instance.name, versions.1, versions.0
            );
            self.unreached(environment, why, &versions.0)
        })?;
        // Whoever works with it now works with what is about to be replaced.
        if let Err(problem) = self.stop_writers_for_good(environment) {
            let why = problem.why();
            reached.notes.push(format!(
                "what writes could not be stopped before the data were put back: {why}"
            ));
        }
        reached.was_started = true;
        Ok(reached)
    }

    /// Start the version before; why it does not run, where it does not.
    fn try_before(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
        (before, new): &(String, String),
    ) -> Result<Result<(), String>, Problem> {
        let (driver, image) = (self.driver(environment)?, self.image_before(upgrade, environment)?);
        match driver.install(before, Some(new), image.as_ref()) {
            // Its databases may take a while to answer; whether it is well then is not asked here.
            Ok(()) => self.wait_until_healthy(upgrade, environment)?,
            Err(error @ DriverError::NotRunning { .. }) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        // One that ends after some seconds was started as far as its driver can tell.
        let ended = self.runs(environment)? == Some(false);
        Ok(if ended { Err("its container has ended".into()) } else { Ok(()) })
    }

    fn unreached(&self, environment: Environment, why: String, before: &str) -> Problem {
        let (name, pair) = (&self.instance(environment).name, &self.scene.pair.name);
        Problem::new(
            why,
            format!(
                "see why {before} of {name} does not start (`docker logs`); where its database is on another server, say how that is reached without its container: component.mongodb = {{ via = \"…\" }} or {{ url = \"file:/PATH\" }}; then `belay upgrade resume {pair}`. That database alone comes back by `belay restore SNAPSHOT --into {name} --component mongodb`, of the snapshot that `belay upgrade show {pair}` names"
            ),
        )
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
            let reached = self.reach(upgrade, Environment::Staging, snapshot, &versions)?;
            let back = (snapshot, Step::PutBackStaging);
            self.data_back(upgrade, Environment::Staging, back, reached)?
        };
        let image = self.image_before(upgrade, Environment::Staging)?;
        let before = super::staging_version_before(upgrade);
        driver.install(&before, Some(&upgrade.hop().to.to_string()), image.as_ref())?;
        self.writers_were_replaced(Environment::Staging)?;
        Ok(Outcome { image: image.map(|image| image.digest), ..outcome })
    }
}

impl Reached {
    fn collections_are(&mut self, aside: Vec<String>, instance: &Instance) {
        if !aside.is_empty() {
            self.notes.push(format!(
                "the database of {} came back before its container ran; its collections as the new version left them are kept in it, and nothing removes them but a person",
                instance.name
            ));
            self.aside.extend(aside);
        }
    }

    fn files_are_at(&mut self, path: String, instance: &Instance) {
        self.notes.push(format!(
            "the files of its databases as the new version left them are on the host of its container (via {}); nothing removes them but a person",
            instance.via.host()
        ));
        self.aside.push(path);
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
