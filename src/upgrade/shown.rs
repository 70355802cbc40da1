//! An upgrade as programs are shown it: by the command line, the API, and the jobs that went on with it.

use super::conduct::by_itself::comes_next;
use super::machine::{Decision, State, Upgrade, Waiting};
use crate::catalog::UpgradeTest;
use crate::config::Config;
use crate::model::id::{Sha256, UpgradeId};
use crate::model::name::Name;
use crate::model::upgrade::{Journal, Request};
use crate::model::version::Version;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

/// What an upgrade waits for now, as far as it can be told without looking at an instance, and until when.
pub fn waits(upgrade: &Upgrade, config: &Config) -> (Option<Waiting>, Option<Timestamp>) {
    match comes_next(config, upgrade, false, Timestamp::now()) {
        Decision::Wait { waiting, until } => (Some(waiting), until),
        Decision::Do(_) | Decision::Ended(_) => (None, None),
    }
}

/// All of an upgrade.
#[derive(Serialize)]
pub struct Shown<'a> {
    /// What it is at.
    state: State,
    /// What is known of production's version, in words.
    production: String,
    /// For what it waits; none where it does not.
    waits: Option<Waiting>,
    /// And until when, where that is known.
    until: Option<Timestamp>,
    /// The changes of course that would be heard now.
    possible: Vec<Request>,
    /// What an approval is bound to.
    plan_digest: Sha256,
    #[serde(flatten)]
    journal: &'a Journal,
}

impl<'a> Shown<'a> {
    /// As it is now.
    pub fn of(upgrade: &'a Upgrade, config: &Config) -> Self {
        let (waits, until) = waits(upgrade, config);
        Self {
            state: upgrade.state(),
            production: upgrade.production().to_string(),
            waits,
            until,
            possible: upgrade.possible(),
            plan_digest: upgrade.plan().digest(),
            journal: upgrade.journal(),
        }
    }
}

/// An upgrade with what its tests found.
pub fn with_tests(upgrade: &Upgrade, config: &Config, tests: &[(u64, UpgradeTest)]) -> Value {
    let tests = tests.iter().map(|(record, test)| {
        json!({
            "record": record,
            "name": test.name,
            "verdict": test.verdict,
            "duration_ms": test.duration_ms,
            "details": test.details,
        })
    });
    json!({ "upgrade": Shown::of(upgrade, config), "tests": tests.collect::<Vec<_>>() })
}

/// An upgrade in a list.
#[derive(Serialize)]
pub struct Glance {
    id: UpgradeId,
    pair: Name,
    from: Version,
    to: Version,
    state: State,
    production: String,
    waits: Option<Waiting>,
    until: Option<Timestamp>,
    planned_at: Timestamp,
    planned_by: String,
    changed_at: Timestamp,
}

impl Glance {
    /// As it is now.
    pub fn of(upgrade: &Upgrade, config: &Config) -> Self {
        let (waits, until) = waits(upgrade, config);
        let (journal, plan) = (upgrade.journal(), upgrade.plan());
        Self {
            id: journal.id,
            pair: plan.pair.clone(),
            from: plan.hops[0].from.clone(),
            to: plan.target().clone(),
            state: upgrade.state(),
            production: upgrade.production().to_string(),
            waits,
            until,
            planned_at: journal.planned_at,
            planned_by: journal.planned_by.clone(),
            changed_at: journal.changed_at(),
        }
    }
}
