//! Upgrades as the daemon goes on with them: without a person who looks on.
//!
//! What always holds: that there is nothing to do, or that another process does it, is no failure; and looking whether something is to be
//! done reads the catalog alone.

use super::{closed, desk_of, passed_over, planned, start, work_on};
use crate::catalog::Catalog;
use crate::config::{Config, Pair};
use crate::model::job::UpgradeStart;
use crate::ops::OpsError;
use crate::upgrade::evidence::{self, Scene};
use crate::upgrade::hands;
use crate::upgrade::journals::upgrades;
use crate::upgrade::machine::{Decision, Facts, Upgrade};
use crate::upgrade::runner::Rest;
use jiff::Timestamp;

/// What became of going on.
#[derive(Debug)]
pub enum Taken {
    /// It was gone on with, and rests now.
    Rested(Box<Upgrade>, Rest),
    /// No upgrade of the pair has anything left to do.
    Nothing,
    /// Another process works on it.
    Busy,
}

/// Take the pair's upgrade up where it is, and go on as far as the gate allows. Where none is on its way, an older one may have pins to
/// release.
pub fn take_up(scene: Scene<'_>) -> Result<Taken, OpsError> {
    let Some(desk) = desk_of(scene.config, scene.pair)? else { return Ok(Taken::Busy) };
    let caught_up = scene.catch_up();
    let Some(upgrade) = with_work_left(scene.config, scene.pair)? else {
        return caught_up.map(|()| Taken::Nothing);
    };
    passed_over(&scene, &upgrade, caught_up)?;
    let (upgrade, rest) = work_on(scene, desk, upgrade)?;
    Ok(Taken::Rested(Box::new(upgrade), rest))
}

/// The upgrade that is not over, or else one that is, and whose pins can be released.
fn with_work_left(config: &Config, pair: &Pair) -> Result<Option<Upgrade>, OpsError> {
    let all = upgrades(config, Some(&pair.name))?;
    let now = Timestamp::now();
    let is_due =
        |upgrade: &Upgrade| matches!(upgrade.next(now, &Facts::default()), Decision::Do(_));
    let found = all.iter().position(|upgrade| !upgrade.state().is_over());
    let found = found.or_else(|| all.iter().position(is_due));
    Ok(found.and_then(|at| all.into_iter().nth(at)))
}

/// Begin what a person wants who has seen a plan, where that would be the plan now, too. What was cut off after it had begun goes on.
pub fn start_as_shown(scene: Scene<'_>, wanted: &UpgradeStart) -> Result<Taken, OpsError> {
    if let Some(upgrade) = super::current(scene.config, scene.pair)?
        && upgrade.plan().digest() == wanted.plan
        && upgrade.journal().planned_by == wanted.by
    {
        return take_up(scene);
    }
    let plan = planned(&scene, &wanted.to, &wanted.stops)?;
    if plan.digest() != wanted.plan {
        let pair = &scene.pair.name;
        return Err(closed(
            &format!(
                "the upgrade of {pair} would go by another plan than the one that was looked at"
            ),
            format!(
                "an instance or the configuration has changed meanwhile; look again: belay upgrade plan {pair} --to {}",
                wanted.to
            ),
        ));
    }
    let (upgrade, rest) = start(scene, plan, wanted.by.clone())?;
    Ok(Taken::Rested(Box::new(upgrade), rest))
}

/// What comes next, as far as it can be told without looking at an instance; `is_healthy` is what the last look at production found.
pub fn comes_next(
    config: &Config,
    upgrade: &Upgrade,
    is_healthy: bool,
    now: Timestamp,
) -> Decision {
    let windows = &upgrade.plan().terms.windows;
    let production = config.instances.get(&upgrade.plan().production.name);
    let window = production.and_then(|production| evidence::window(production, windows, now));
    let facts = Facts {
        window_is_open: window.as_ref().is_some_and(|window| window.is_open),
        window_opens_at: window.and_then(|window| window.opens_at),
        production_is_healthy: is_healthy,
    };
    upgrade.next(now, &facts)
}

/// What is wrong with production, if anything is that was not before the upgrade. Nothing is changed there.
pub fn ails(scene: &Scene<'_>, upgrade: &Upgrade) -> Result<Option<String>, OpsError> {
    hands::ails(scene, &Catalog::open(&scene.config.state_dir)?, upgrade)
}
