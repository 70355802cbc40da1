//! A look at the gate: would an upgrade of a pair to a version go on now, and if not, what would make it?
//!
//! What always holds: looking changes nothing, and opens nothing: whoever upgrades asks again, right before.

use super::draft;
use super::evidence::{self, Question, Scene};
use super::path;
use super::rules::{self, Case};
use crate::config::{Config, SecretSources};
use crate::model::name::Name;
use crate::model::upgrade::{Environment, Gate, RuleResult};
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
    /// The version that is asked about.
    pub to: Version,
    /// Whether no rule says no.
    pub is_open: bool,
    /// When this was so.
    pub at: Timestamp,
    /// What each rule says.
    pub rules: Vec<RuleResult>,
}

/// Ask all rules about a pair, with everything read anew. That a rule says no is no error.
pub fn gate(
    config: &Config,
    secrets: &SecretSources,
    options: &GateOptions,
    context: &Context,
) -> Result<Gated, OpsError> {
    let pair = config.pair(&options.pair)?;
    let upgrades = pair.upgrades.as_ref().ok_or_else(|| {
        OpsError::usage(
            format!("nothing says how the instances of the pair {} are upgraded", pair.name),
            format!(
                "add driver = \"compose\", or driver = {{ command = \"/PATH\" }}, to [pair.{}]",
                pair.name
            ),
        )
    })?;
    let to = path::target(&options.to).map_err(|refusal| OpsError::Gate {
        message: refusal.to_string(),
        hint: Some(refusal.hint()),
    })?;
    let scene = Scene { config, secrets, pair, upgrades, context };
    let windows: Vec<String> = upgrades.windows.all().iter().map(ToString::to_string).collect();
    let question = Question {
        gate: gate_of(options.environment),
        to: &to,
        windows: &windows,
        fetched: [None, None],
        stopped_since: None,
        now: Timestamp::now(),
    };
    let evidence = evidence::read_all(&scene, &question)?;
    // After the reading: what was backed up meanwhile is not from the future.
    let now = Timestamp::now();
    let plan = draft::direct(&scene, &evidence, &to)?;
    let rules = rules::judge(&Case {
        gate: question.gate,
        plan: &plan,
        hop: 0,
        seen: &evidence.seen,
        tested: None,
        approvals: &[],
        overrides: &[],
        now,
    });
    let running = evidence.seen.production.running;
    Ok(Gated {
        pair: pair.name.clone(),
        environment: options.environment,
        from: running.map(|running| running.version),
        is_open: rules::is_open(&rules),
        at: now,
        rules,
        to,
    })
}

/// The gate that can be asked from outside. The one right before production is touched is asked by who has stopped its writers only:
/// nobody else knows that they stayed so.
fn gate_of(environment: Environment) -> Gate {
    match environment {
        Environment::Staging => Gate::Staging,
        Environment::Production => Gate::BeforeStop,
    }
}
