//! A look at the gate: would an upgrade of a pair to a version go on now, and if not, what would make it?
//!
//! What always holds: looking changes nothing, and opens nothing: whoever upgrades asks again, right before.

use super::draft;
use super::evidence::{self, Copies, Evidence, Question, Scene};
use super::journals::upgrades;
use super::machine::{State, Upgrade};
use super::path;
use super::rules::{self, Case};
use crate::config::pair::Upgrades;
use crate::config::{Config, Pair, SecretSources};
use crate::model::id::UpgradeId;
use crate::model::name::Name;
use crate::model::upgrade::{Environment, Gate, RuleResult, Step};
use crate::model::version::Version;
use crate::ops::{Context, OpsError};
use jiff::Timestamp;
use serde::Serialize;

/// What is asked.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// The pair, by its name.
    pub pair: String,
    /// The version to go to, as a person writes it.
    pub to: String,
    /// What stands behind the gate.
    pub environment: Environment,
}

/// What the rules say.
#[derive(Clone, Debug, Serialize)]
pub struct Gated {
    /// The pair.
    pub pair: Name,
    /// What stands behind the gate.
    pub environment: Environment,
    /// The version that production runs; none where that could not be told.
    pub from: Option<Version>,
    /// The version that comes next: what was asked about, or where an upgrade that is on its way stops before.
    pub to: Version,
    /// The upgrade that is on its way, which is judged with its approvals, overrides and tests; none where there is none.
    pub upgrade: Option<UnderWay>,
    /// Whether no rule says no.
    pub is_open: bool,
    /// When this was so.
    pub at: Timestamp,
    /// What each rule says.
    pub rules: Vec<RuleResult>,
}

/// An upgrade that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnderWay {
    /// Its id.
    pub id: UpgradeId,
    /// What it is at.
    pub state: State,
    /// Which of its moves comes next, from 1.
    pub hop: usize,
    /// How many it has.
    pub hops: usize,
    /// The version that it leads to.
    pub target: Version,
}

/// Ask all rules about a pair, with everything read anew. That a rule says no is no error.
pub fn gate(
    config: &Config,
    secrets: &SecretSources,
    options: &GateOptions,
    context: &Context,
) -> Result<Gated, OpsError> {
    let pair = config.pair(&options.pair)?;
    let (staging, upgrades) = upgrades_of(pair)?;
    let wanted = path::target(&options.to).map_err(|refusal| OpsError::Gate {
        message: refusal.to_string(),
        hint: Some(refusal.hint()),
    })?;
    let scene = Scene { config, secrets, pair, staging, upgrades, context };
    take_in(&scene)?;
    let asked = Asked { pair: &pair.name, environment: options.environment };
    match under_way(config, &pair.name)? {
        Some(upgrade) => {
            ensure_same(&upgrade, &wanted)?;
            asked.of_upgrade(&scene, &upgrade)
        }
        None => asked.of_nobody(&scene, &wanted),
    }
}

/// The repository may know of an upgrade, or of steps of it, that the catalog does not: of another host, or of a process that was killed.
fn take_in(scene: &Scene<'_>) -> Result<(), OpsError> {
    // The rules that need the repository say so themselves.
    scene.caught_up(scene.catch_up(), true)
}

/// The staging instance of a pair, and how both are upgraded.
pub(super) fn upgrades_of(pair: &Pair) -> Result<(&Name, &Upgrades), OpsError> {
    let staging = pair.staging.as_ref().ok_or_else(|| OpsError::Gate {
        message: format!("the pair {} has no staging instance", pair.name),
        hint: Some(format!(
            "an upgrade is tried on staging before production gets it: add staging = \"NAME\" to [pair.{}]",
            pair.name
        )),
    })?;
    let upgrades = pair.upgrades.as_ref().ok_or_else(|| {
        OpsError::usage(
            format!("nothing says how the instances of the pair {} are upgraded", pair.name),
            format!(
                "add driver = \"compose\", or driver = {{ command = \"/PATH\" }}, to [pair.{}]",
                pair.name
            ),
        )
    })?;
    Ok((staging, upgrades))
}

/// The upgrade of a pair that has begun and not ended. In one that is provisional nothing comes that a gate stands before.
fn under_way(config: &Config, pair: &Name) -> Result<Option<Upgrade>, OpsError> {
    let mut all = upgrades(config, Some(pair))?.into_iter();
    Ok(all.find(|upgrade| !upgrade.state().is_over() && upgrade.state() != State::Provisional))
}

/// One upgrade of a pair at a time.
fn ensure_same(upgrade: &Upgrade, wanted: &Version) -> Result<(), OpsError> {
    let (plan, next) = (upgrade.plan(), &upgrade.hop().to);
    if wanted == next || wanted == plan.target() {
        return Ok(());
    }
    let (pair, target) = (&plan.pair, plan.target());
    Err(OpsError::Gate {
        message: format!("{pair} is on its way to {target}, and not to {wanted}"),
        hint: Some(format!("`belay gate {pair} --to {target}` asks about that one")),
    })
}

/// Who is asked about, and where.
struct Asked<'a> {
    pair: &'a Name,
    environment: Environment,
}

impl Asked<'_> {
    /// The gate that can be asked from outside. The one right before production is touched is asked by who has stopped its writers only:
    /// nobody else knows that they stayed so.
    fn gate(&self) -> Gate {
        match self.environment {
            Environment::Staging => Gate::Staging,
            Environment::Production => Gate::BeforeStop,
        }
    }

    /// As an upgrade that were planned now would.
    fn of_nobody(&self, scene: &Scene<'_>, to: &Version) -> Result<Gated, OpsError> {
        let windows = draft::terms(scene.upgrades).windows;
        let evidence =
            evidence::read_all(scene, &self.question(to, &windows, [None, None], Copies::Open))?;
        let plan = draft::direct(scene, &evidence, to)?;
        // After the reading: what was backed up meanwhile is not from the future.
        let now = Timestamp::now();
        let results = rules::judge(&Case {
            gate: self.gate(),
            plan: &plan,
            hop: 0,
            seen: &evidence.seen,
            tested: None,
            approvals: &[],
            overrides: &[],
            now,
        });
        Ok(self.gated(evidence, to, None, (results, now)))
    }

    /// As the upgrade that is on its way does.
    fn of_upgrade(&self, scene: &Scene<'_>, upgrade: &Upgrade) -> Result<Gated, OpsError> {
        let plan = upgrade.plan();
        let to = &upgrade.hop().to;
        let fetched = [Step::PullStaging, Step::PullProduction]
            .map(|step| upgrade.outcome(step).and_then(|outcome| outcome.image.as_deref()));
        let question = self.question(
            to,
            &plan.terms.windows,
            fetched,
            Copies::Planned(plan.terms.copy_volumes),
        );
        let evidence = evidence::read_all(scene, &question)?;
        let now = Timestamp::now();
        let results = rules::judge(&upgrade.case(self.gate(), &evidence.seen, now));
        let under_way = UnderWay {
            id: upgrade.journal().id,
            state: upgrade.state(),
            hop: upgrade.hop_number() + 1,
            hops: plan.hops.len(),
            target: plan.target().clone(),
        };
        Ok(self.gated(evidence, to, Some(under_way), (results, now)))
    }

    fn question<'a>(
        &self,
        to: &'a Version,
        windows: &'a [String],
        fetched: [Option<&'a str>; 2],
        copies: Copies<'a>,
    ) -> Question<'a> {
        let (gate, now) = (self.gate(), Timestamp::now());
        Question { gate, to, windows, fetched, copies, stopped_since: None, now }
    }

    fn gated(
        &self,
        evidence: Evidence,
        to: &Version,
        upgrade: Option<UnderWay>,
        (rules, at): (Vec<RuleResult>, Timestamp),
    ) -> Gated {
        Gated {
            pair: self.pair.clone(),
            environment: self.environment,
            from: evidence.seen.production.running.map(|running| running.version),
            to: to.clone(),
            upgrade,
            is_open: rules::is_open(&rules),
            at,
            rules,
        }
    }
}
