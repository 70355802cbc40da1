//! What the instances are like before, and whether they do as well afterwards.

use super::forward::taken;
use super::{Hands, Problem};
use crate::catalog::{Catalog, CatalogError, UpgradeTest};
use crate::config::pair::TrialKind;
use crate::model::id::JobId;
use crate::model::manifest::Manifest;
use crate::model::trial::{Baseline, TrialResult, TrialVerdict};
use crate::model::upgrade::{Environment, Outcome, Step};
use crate::ops::newest::newest;
use crate::ops::show::show;
use crate::ops::{OpsError, SnapshotRef};
use crate::upgrade::driver::Image;
use crate::upgrade::evidence::Scene;
use crate::upgrade::machine::{State, Upgrade};
use crate::upgrade::tests::{Target, Trials};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long one that runs may take to say so.
const WATCHED_WITHIN: Duration = Duration::from_secs(30);
/// What is wrong with production only for so long does not keep it from its upgrade.
const LOOKED_WITHIN: Duration = Duration::from_mins(1);
const LOOKS_AGAIN: Duration = Duration::from_secs(2);
/// More reasons are not told at once.
const MOST_REASONS: usize = 5;

/// What an instance was like before a hop, as the catalog has it.
#[derive(Default, Serialize, Deserialize)]
struct Before {
    baseline: Baseline,
    /// The image that ran, where the driver has images.
    image: Option<Image>,
    /// The restore that put its database back alone, as no version ran on what the new one had left.
    #[serde(default)]
    database_back: Option<JobId>,
}

impl Hands<'_> {
    fn trials(&self, environment: Environment) -> Trials<'_> {
        let Scene { config, secrets, upgrades, context, .. } = self.scene;
        Trials::new(config, secrets, upgrades, self.instance(environment), context)
    }

    /// What the newest snapshot says of itself, which is one of before where nothing was touched yet.
    fn newest_manifest(&self, environment: Environment) -> Result<Option<Manifest>, Problem> {
        let (session, instance) = (self.session(environment)?, self.instance(environment));
        let found = newest(&session, &[instance], &self.context())?.into_iter().next();
        Ok(found.transpose()?.flatten().and_then(|newest| newest.manifest))
    }

    /// What the hop's own snapshot of before says of itself. A newer one may have lost already what is looked for, or have what came since.
    fn manifest_before(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<Option<Manifest>, Problem> {
        let step = match environment {
            Environment::Staging => Step::BackUpStaging,
            Environment::Production => Step::BackUpStopped,
        };
        let snapshot = SnapshotRef::Prefix(taken(upgrade, step)?.to_string());
        Ok(show(&self.session(environment)?, &snapshot, &self.context())?.manifest)
    }

    pub(super) fn baseline(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<Outcome, Problem> {
        // What the new version has touched is no measure of what it leaves.
        if environment == Environment::Staging && upgrade.has_touched_staging() {
            let mut noted = upgrade.outcome(Step::BaselineStaging).cloned().unwrap_or_default();
            noted.notes = vec!["what it was like before its first try counts".into()];
            return Ok(noted);
        }
        let manifest = self.newest_manifest(environment)?;
        let begun = Instant::now();
        let baseline = loop {
            let baseline = self.trials(environment).baseline(manifest.as_ref())?;
            if environment == Environment::Staging {
                break baseline;
            }
            match self.ensure_looked_at(&baseline) {
                Ok(()) => break baseline,
                Err(problem) if begun.elapsed() >= LOOKED_WITHIN => return Err(problem),
                // It may be only for a moment.
                Err(_) => self.scene.context.cancel.check()?,
            }
            std::thread::sleep(LOOKS_AGAIN);
        };
        let image = self.driver(environment)?.running_image()?;
        let digest = image.as_ref().map(|image| image.digest.clone());
        let unknown = baseline.unknown.iter();
        let notes = unknown.map(|(test, why)| format!("{test} could not look before: {why}"));
        let notes = notes.collect();
        let before = Before { baseline, image, database_back: None };
        self.note_before(upgrade, environment, &before)?;
        let volumes = self.volumes_to_copy(upgrade, environment)?;
        Ok(Outcome { image: digest, notes, volumes, ..Outcome::default() })
    }

    /// Of a production that stands still, or that a test cannot look at, nobody could tell afterwards what it was like before.
    fn ensure_looked_at(&self, baseline: &Baseline) -> Result<(), Problem> {
        let pair = &self.scene.pair.name;
        let goes_on = format!("`belay upgrade resume {pair}` goes on");
        let trials = self.trials(Environment::Production);
        let found = trials.wait_until_healthy(WATCHED_WITHIN, baseline)?;
        if !found.verdict.is_fine() {
            let why = format!("production does not answer: {}", found.details.join("; "));
            return Err(Problem::new(why, format!("see that it runs; {goes_on}")));
        }
        let Some((test, why)) = baseline.unknown.first_key_value() else { return Ok(()) };
        let why = format!("{test} could not look at production, to compare it with later: {why}");
        Err(Problem::new(why, format!("mend that; {goes_on}")))
    }

    fn note_before(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
        before: &Before,
    ) -> Result<(), Problem> {
        let before = serde_json::to_value(before)
            .map_err(|error| Problem::new(error.to_string(), "tell the developers of Belay"))?;
        let (id, hop) = (upgrade.journal().id, upgrade.hop_number());
        self.catalog.record_upgrade_baseline(id, hop, environment, &before).map_err(catalog)
    }

    /// The restore that puts the database back alone is about to begin.
    pub(super) fn note_database_back(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
        job: JobId,
    ) -> Result<(), Problem> {
        let before = self.before(upgrade, environment)?;
        self.note_before(upgrade, environment, &Before { database_back: Some(job), ..before })
    }

    /// That restore, where one had begun.
    pub(super) fn database_back(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<Option<JobId>, Problem> {
        Ok(self.before(upgrade, environment)?.database_back)
    }

    /// What was noted before the hop; nothing where another host noted it.
    fn before(&self, upgrade: &Upgrade, environment: Environment) -> Result<Before, Problem> {
        before(&self.catalog, upgrade, environment).map_err(catalog)
    }

    /// The image of the version before; none where the driver has none, or it is not known any more.
    pub(super) fn image_before(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<Option<Image>, Problem> {
        if let Some(image) = self.before(upgrade, environment)?.image {
            return Ok(Some(image));
        }
        // Another host has noted it; the journal has its digest.
        let (step, version) = match environment {
            Environment::Staging => (Step::BaselineStaging, super::staging_version_before(upgrade)),
            Environment::Production => (Step::BaselineProduction, upgrade.hop().from.to_string()),
        };
        let Some(digest) = upgrade.outcome(step).and_then(|outcome| outcome.image.clone()) else {
            return Ok(None);
        };
        Ok(self.driver(environment)?.image(&version, digest)?)
    }

    /// Whether production is as well as it was before.
    pub(super) fn production_is_healthy(&self, upgrade: &Upgrade) -> bool {
        ails(&self.scene, &self.catalog, upgrade).is_ok_and(|ails| ails.is_none())
    }

    /// Give an instance that was started the time that it may take until it is healthy; what it says in the end.
    pub(super) fn wait_until_healthy(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
    ) -> Result<TrialResult, Problem> {
        // Once it has started a platform migrates its databases, which the limit of the test of health has to allow for.
        let tests = self.scene.upgrades.tests.iter();
        let limit = tests.filter(|test| test.kind == TrialKind::Health).map(|test| test.timeout);
        let before = self.before(upgrade, environment)?;
        let limit = limit.max().unwrap_or(WATCHED_WITHIN);
        Ok(self.trials(environment).wait_until_healthy(limit, &before.baseline)?)
    }

    pub(super) fn test(
        &self,
        upgrade: &Upgrade,
        environment: Environment,
        version: &str,
    ) -> Result<Outcome, Problem> {
        let trials = self.trials(environment);
        let before = self.before(upgrade, environment)?;
        let healthy = self.wait_until_healthy(upgrade, environment)?;
        let hop = upgrade.hop();
        let other = if version == hop.to.to_string() { &hop.from } else { &hop.to };
        let other = other.to_string();
        let is_back = upgrade.state() == State::RollingBack;
        let manifest = match self.manifest_before(upgrade, environment) {
            // Nothing keeps production from coming back that is only compared with.
            Err(problem) if is_back => {
                self.scene.context.cancel.check()?;
                let why = problem.why();
                let text = format!("What the snapshot of before has could not be read: {why}.");
                self.scene.context.events.warn(text);
                None
            }
            read => read?,
        };
        let snapshot = manifest.as_ref();
        let target = Target { version, previous: Some(&other), snapshot, is_back };
        let results = if healthy.verdict.is_fine() {
            trials.run(&target, &before.baseline)?
        } else {
            // Nothing of what is asked of one that does not come up would say more.
            vec![healthy]
        };
        let record = upgrade.journal().records.len() as u64;
        let rows: Vec<UpgradeTest> = results.iter().map(row).collect();
        self.catalog.record_upgrade_tests(upgrade.journal().id, record, &rows).map_err(catalog)?;
        let failed: Vec<&TrialResult> =
            results.iter().filter(|result| !result.verdict.is_fine()).collect();
        if failed.is_empty() {
            let image = self.driver(environment)?.running_image()?;
            let notes = results.iter().map(said).collect();
            return Ok(Outcome {
                image: image.map(|image| image.digest),
                notes,
                ..Outcome::default()
            });
        }
        let reasons: Vec<String> =
            failed.iter().take(MOST_REASONS).map(|result| said(result)).collect();
        let name = &self.instance(environment).name;
        Err(Problem::new(
            format!(
                "{name}: {} of {} tests failed: {}",
                failed.len(),
                results.len(),
                reasons.join("; ")
            ),
            format!("`belay upgrade show {}` has all that they found", self.scene.pair.name),
        ))
    }
}

/// What is wrong with production, if anything is that was not before the upgrade: what its test of health finds. Nothing is changed there.
pub(in crate::upgrade) fn ails(
    scene: &Scene<'_>,
    catalog: &Catalog,
    upgrade: &Upgrade,
) -> Result<Option<String>, OpsError> {
    let Scene { config, secrets, upgrades, context, pair, .. } = *scene;
    let production = config.instance(pair.production.as_str())?;
    let before = before(catalog, upgrade, Environment::Production)?;
    let trials = Trials::new(config, secrets, upgrades, production, context);
    let found = trials.wait_until_healthy(WATCHED_WITHIN, &before.baseline)?;
    Ok((!found.verdict.is_fine()).then(|| found.details.join("; ")))
}

fn before(
    catalog: &Catalog,
    upgrade: &Upgrade,
    environment: Environment,
) -> Result<Before, CatalogError> {
    let found =
        catalog.upgrade_baseline(upgrade.journal().id, upgrade.hop_number(), environment)?;
    Ok(found.and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default())
}

fn catalog(error: CatalogError) -> Problem {
    OpsError::from(error).into()
}

fn word(verdict: TrialVerdict) -> &'static str {
    match verdict {
        TrialVerdict::Passed => "passed",
        TrialVerdict::Failed => "failed",
        TrialVerdict::NotApplicable => "says nothing",
    }
}

fn row(result: &TrialResult) -> UpgradeTest {
    let TrialResult { name, verdict, details, duration_ms } = result.clone();
    UpgradeTest { name, verdict: word(verdict).to_owned(), duration_ms, details }
}

fn said(result: &TrialResult) -> String {
    let details: Vec<&str> = result.details.iter().take(3).map(String::as_str).collect();
    format!("{} {} ({})", result.name, word(result.verdict), details.join(", "))
}
