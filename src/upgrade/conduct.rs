//! Upgrades as people have to do with them: planned, started, taken up again, asked about, and told what is wanted.
//!
//! What always holds: one process at a time works on the upgrades of a pair; a pair has one upgrade at a time that is not over; and
//! what a person says is noted in the journal, or left for the process that works on it.

pub mod by_itself;

use super::evidence::{self, Copies, Question, Scene};
use super::hands::{Hands, Said, Word};
use super::journals::{replayed, upgrades};
use super::machine::{Refusal, Upgrade};
use super::plan::{self, Asked};
use super::runner::{Rest, Runner, Stopped};
use super::{draft, gate, path};
use crate::catalog::Catalog;
use crate::config::{Config, Pair, SecretSources};
use crate::host;
use crate::model::id::UpgradeId;
use crate::model::name::Name;
use crate::model::upgrade::{Entry, Gate, Journal, Plan, Record, Request, Side, Terms};
use crate::ops::desk::{Desk, leave_word};
use crate::ops::{Context, OpsError, new_job_id};
use crate::platform::recipe::Recipe;
use by_itself::Taken;
use jiff::Timestamp;
use serde::Serialize;

/// The pair, as it is to be upgraded.
pub fn scene<'a>(
    config: &'a Config,
    secrets: &'a SecretSources,
    pair: &str,
    context: &'a Context,
) -> Result<Scene<'a>, OpsError> {
    let pair = config.pair(pair)?;
    let (staging, upgrades) = gate::upgrades_of(pair)?;
    Ok(Scene { config, secrets, pair, staging, upgrades, context })
}

/// The gate says no before anything was done.
fn closed(message: &impl ToString, hint: impl Into<String>) -> OpsError {
    OpsError::Gate { message: message.to_string(), hint: Some(hint.into()) }
}

/// Make a plan from what runs now; nothing is done.
pub fn planned(scene: &Scene<'_>, to: &str, stops: &[String]) -> Result<Plan, OpsError> {
    let target = path::target(to).map_err(|no| closed(&no, no.hint()))?;
    let question = Question {
        gate: Gate::Staging,
        to: &target,
        windows: &[],
        fetched: [None, None],
        copies: Copies::Open,
        stopped_since: None,
        now: Timestamp::now(),
    };
    let evidence = evidence::read_all(scene, &question)?;
    let sides = scene.sides()?;
    let seen = [&evidence.seen.staging, &evidence.seen.production];
    let side = |number: usize| -> Result<Side, OpsError> {
        let (environment, instance) = sides[number];
        let running = seen[number].running.as_ref().ok_or_else(|| {
            let unread = evidence.seen.unread.iter();
            let mut why =
                unread.filter(|it| it.environment == Some(environment)).map(|it| it.why.clone());
            closed(
                &format!(
                    "which version {environment} ({}) runs is not known: {}",
                    instance.name,
                    why.next().unwrap_or_default()
                ),
                "see that it runs and tells its version: `belay doctor`",
            )
        })?;
        let manifest = evidence.newest[number].as_ref().and_then(|newest| newest.manifest.as_ref());
        let id = manifest.map(|manifest| manifest.instance.id).ok_or_else(|| {
            closed(
                &format!("{environment} ({}) was never backed up", instance.name),
                format!("belay backup {}", instance.name),
            )
        })?;
        Ok(Side { id, name: instance.name.clone(), version: running.version.clone() })
    };
    let editions = [seen[1], seen[0]].map(|it| it.running.as_ref()?.edition);
    let platform = sides[1].1.platform;
    plan::plan(Asked {
        pair: scene.pair.name.clone(),
        staging: side(0)?,
        production: side(1)?,
        platform: platform.to_string(),
        edition: editions.into_iter().flatten().next(),
        to,
        stops,
        checkpoints: &Recipe::of(platform).checkpoints,
        terms: Terms { copy_volumes: evidence.copies_volumes, ..draft::terms(scene.upgrades) },
    })
    .map_err(|no| closed(&no, no.hint()))
}

/// The upgrade of a pair that people may have to do with; none where there was none, or the last one is over.
pub fn current(config: &Config, pair: &Pair) -> Result<Option<Upgrade>, OpsError> {
    Ok(upgrades(config, Some(&pair.name))?.into_iter().find(|upgrade| !upgrade.state().is_over()))
}

fn desk_of(config: &Config, pair: &Pair) -> Result<Option<Desk>, OpsError> {
    Desk::take(&config.state_dir, &pair.name)
}

fn busy(pair: &Pair) -> OpsError {
    OpsError::refused(
        format!("another process works on the upgrade of {}", pair.name),
        format!("`belay upgrade status {}` tells what it does", pair.name),
    )
}

fn ensure_none(config: &Config, pair: &Pair) -> Result<(), OpsError> {
    let Some(upgrade) = current(config, pair)? else { return Ok(()) };
    let (id, state, pair) = (upgrade.journal().id, upgrade.state(), &pair.name);
    Err(OpsError::refused(
        format!("upgrade {id} of {pair} is not over: it is {state}"),
        format!("`belay upgrade status {pair}` tells what it waits for"),
    ))
}

/// Whether one could begin, as far as the catalog tells: the pair says how it is upgraded, and no upgrade of it is on its way.
pub fn may_start(config: &Config, pair: &Pair) -> Result<(), OpsError> {
    gate::upgrades_of(pair)?;
    ensure_none(config, pair)
}

/// Put a planned upgrade down, and go on with it as far as the gate allows.
pub fn start(scene: Scene<'_>, plan: Plan, by: String) -> Result<(Upgrade, Rest), OpsError> {
    let (config, pair) = (scene.config, scene.pair);
    let desk = desk_of(config, pair)?.ok_or_else(|| busy(pair))?;
    ensure_none(config, pair)?;
    // What was said to one that is over is not said to this one.
    while let Some(word) = desk.oldest_word()? {
        desk.clear_away(&word)?;
    }
    let session = scene.production_session()?;
    let id = UpgradeId(new_job_id()?.0);
    let journal = Journal::new(id, plan, Timestamp::now(), by);
    let upgrade = replayed(journal)?;
    let repository = crate::model::id::RepositoryId(session.repository.id().0);
    Catalog::open(&config.state_dir)?.add_upgrade(repository, upgrade.journal())?;
    work_on(scene, desk, upgrade)
}

/// Take the pair's upgrade up where it is, and go on.
pub fn go_on(scene: Scene<'_>) -> Result<(Upgrade, Rest), OpsError> {
    let pair = scene.pair;
    match by_itself::take_up(scene)? {
        Taken::Rested(upgrade, rest) => Ok((*upgrade, rest)),
        Taken::Nothing => Err(none_is_on_its_way(pair)),
        Taken::Busy => Err(busy(pair)),
    }
}

/// Where production stands still, or is on its way back, it need not wait for a repository that cannot be asked.
fn passed_over(
    scene: &Scene<'_>,
    upgrade: &Upgrade,
    caught_up: Result<(), OpsError>,
) -> Result<(), OpsError> {
    let is_urgent = upgrade.has_touched_production()
        || upgrade.writers_are_stopped()
        || upgrade.users_are_kept_out();
    scene.caught_up(caught_up, is_urgent)
}

/// The same as [`current`]; an error where there is none.
pub fn on_its_way(config: &Config, pair: &Pair) -> Result<Upgrade, OpsError> {
    current(config, pair)?.ok_or_else(|| none_is_on_its_way(pair))
}

fn none_is_on_its_way(pair: &Pair) -> OpsError {
    OpsError::refused(
        format!("no upgrade of {} is on its way", pair.name),
        format!("begin one: belay upgrade start {} --to VERSION", pair.name),
    )
}

fn work_on(scene: Scene<'_>, desk: Desk, upgrade: Upgrade) -> Result<(Upgrade, Rest), OpsError> {
    let (id, pair) = (upgrade.journal().id, &scene.pair.name);
    ensure_same_instances(&scene, &upgrade)?;
    let hands = Hands::new(scene, desk)?;
    let broken = |stopped| broken(id, pair, stopped);
    let mut runner = Runner::take_up(upgrade, hands).map_err(broken)?;
    let rest = runner.run().map_err(broken)?;
    Ok((runner.upgrade().clone(), rest))
}

/// An upgrade goes on with the instances that it began with, and no others.
fn ensure_same_instances(scene: &Scene<'_>, upgrade: &Upgrade) -> Result<(), OpsError> {
    let plan = upgrade.plan();
    let (staging, production) = (&plan.staging.name, &plan.production.name);
    let pair = scene.pair;
    if (staging, production) == (scene.staging, &pair.production) {
        return Ok(());
    }
    Err(OpsError::refused(
        format!(
            "upgrade {} is of the instances {staging} and {production}, and {} has {} and {} now",
            upgrade.journal().id,
            pair.name,
            scene.staging,
            pair.production
        ),
        format!("put them back into [pair.{}] until the upgrade is over", pair.name),
    ))
}

fn broken(id: UpgradeId, pair: &Name, stopped: Stopped<OpsError>) -> OpsError {
    match stopped {
        Stopped::Journal(error) => error,
        Stopped::Misfit(misfit) => OpsError::refused(
            format!("the journal of upgrade {id} does not take what came next: {misfit}"),
            format!(
                "this is a fault of Belay: tell its developers; `belay upgrade show {id}` has the journal"
            ),
        ),
        Stopped::Before => OpsError::refused(
            format!("upgrade {id} could not be gone on with"),
            format!("take it up again: belay upgrade resume {pair}"),
        ),
    }
}

/// Where a word went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// Into the journal.
    Noted,
    /// To the process that works on the upgrade, which reads it when its present step has ended.
    Left,
}

/// Say something to the pair's upgrade.
pub fn say(scene: &Scene<'_>, word: &Word) -> Result<(Upgrade, Heard), OpsError> {
    let (config, pair) = (scene.config, scene.pair);
    let desk = desk_of(config, pair)?;
    // What people say would otherwise be noted in the place of a step that the catalog does not know of, and be lost.
    let caught_up = if desk.is_some() { scene.catch_up() } else { Ok(()) };
    let Some(mut upgrade) = current(config, pair)? else {
        return Err(too_late(config, pair, word)?);
    };
    passed_over(scene, &upgrade, caught_up)?;
    let resumes = matches!(word.what, Said::Ask { request: Request::Resume });
    if resumes && !upgrade.possible().contains(&Request::Resume) {
        // What was caught up with has mended it: it goes on without being asked to.
        return Ok((upgrade, Heard::Noted));
    }
    let known = upgrade.journal().records.len();
    if desk.is_some() && upgrade.is_in_a_step() {
        // Who did that was killed. It comes before what is said, as it does for whoever takes it up.
        add(&mut upgrade, Entry::TakenUp { host: host::hostname() })?;
    }
    // Also where another process works on it: what makes no sense now is told at once.
    let entry = upgrade
        .hear(&word.command())
        .map_err(|Refusal { message, hint }| closed(&message, hint))?;
    if desk.is_none() {
        let json = serde_json::to_vec(word).unwrap_or_default();
        leave_word(&config.state_dir, &pair.name, &json)?;
        return Ok((upgrade, Heard::Left));
    }
    add(&mut upgrade, entry)?;
    let catalog = Catalog::open(&config.state_dir)?;
    for record in &upgrade.journal().records[known..] {
        catalog.add_upgrade_record(upgrade.journal().id, record)?;
    }
    Ok((upgrade, Heard::Noted))
}

/// Add what happens now to an upgrade; it is not durable yet.
fn add(upgrade: &mut Upgrade, entry: Entry) -> Result<(), OpsError> {
    let number = upgrade.journal().records.len() as u64 + 1;
    let record = Record { number, at: Timestamp::now(), entry };
    upgrade.apply(record).map_err(|misfit| {
        closed(&misfit, format!("`belay upgrade status {}`", upgrade.plan().pair))
    })
}

/// What is said where no upgrade is on its way: that the last one takes no turn back any more, where that is asked for.
fn too_late(config: &Config, pair: &Pair, word: &Word) -> Result<OpsError, OpsError> {
    let turns_back = matches!(
        word.what,
        Said::Ask { request: Request::Abort { .. } | Request::RollBack { .. } }
    );
    let last = upgrades(config, Some(&pair.name))?.into_iter().next().filter(|_| turns_back);
    let refusal = last.and_then(|upgrade| upgrade.hear(&word.command()).err());
    Ok(refusal.map_or_else(
        || none_is_on_its_way(pair),
        |Refusal { message, hint }| closed(&message, hint),
    ))
}

/// Pin what an instance runs today, so that nothing but an upgrade changes it.
pub fn adopt(scene: &Scene<'_>, instance: &str) -> Result<super::driver::Image, OpsError> {
    let instance = scene.config.instance(instance)?;
    let limits = crate::platform::http::Limits::default();
    let (found, _) =
        crate::ops::probe::version(scene.config, scene.secrets, instance, limits, scene.context)?;
    let version = found.map(|found| found.version.to_string());
    let driven = super::driver::Driver::of(scene.config, scene.upgrades, instance, scene.context)
        .and_then(|driver| driver.adopt(version.as_deref()));
    driven.map_err(|error| {
        let hint = error.hint().unwrap_or_default();
        OpsError::refused(error.to_string(), hint)
    })
}
