//! `belay upgrade`.

pub(super) mod arguments;
mod text;

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::prompt;
use crate::catalog::Catalog;
use crate::config::Pair;
use crate::host;
use crate::model::upgrade::{Journal, Request};
use crate::ops::OpsError;
use crate::upgrade::conduct::{self, Heard};
use crate::upgrade::hands::{Said, Word};
use crate::upgrade::machine::{State, Upgrade, Waiting};
use crate::upgrade::plan::{describe, lines};
use crate::upgrade::runner::Rest;
use arguments::{
    AbortArguments, AdoptArguments, RollbackArguments, StartArguments, UpgradeArguments,
    UpgradeCommand,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// How often who waits for time to pass looks whether a person wants to stop.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(
    arguments: &UpgradeArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let config = environment.config()?;
    match &arguments.command {
        UpgradeCommand::Plan(asked) => {
            let (secrets, context) = (&environment.secrets, &environment.context);
            let scene = conduct::scene(config, secrets, &asked.pair, context)?;
            let plan = conduct::planned(&scene, &asked.to, &asked.stops)?;
            environment.show(&describe(&plan), || lines(&plan).join("\n"))
        }
        UpgradeCommand::Start(arguments) => start(arguments, environment),
        UpgradeCommand::Status(arguments) => {
            let pairs: Vec<&Pair> = match &arguments.pair {
                Some(pair) => vec![config.pair(pair)?],
                None => config.pairs.values().collect(),
            };
            let mut found = Vec::new();
            for pair in pairs {
                found.extend(conduct::upgrades(config, Some(pair))?.into_iter().next());
            }
            let shown: Vec<Shown> = found.iter().map(Shown::of).collect();
            environment.show(&shown, || text::status(&found))
        }
        UpgradeCommand::Approve(arguments) => {
            let pair = config.pair(&arguments.pair)?;
            let plan = conduct::on_its_way(config, pair)?.plan().digest();
            said(environment, pair, Said::Approve { plan }, arguments.reason.clone())
        }
        UpgradeCommand::Override(arguments) => {
            let said_ = Said::Override { rule: arguments.rule };
            said(environment, config.pair(&arguments.pair)?, said_, Some(arguments.reason.clone()))
        }
        UpgradeCommand::Resume(arguments) => {
            let pair = config.pair(&arguments.pair)?;
            let upgrade = conduct::on_its_way(config, pair)?;
            // What merely waits, or was interrupted, goes on without being asked to.
            if upgrade.possible().contains(&Request::Resume) {
                say(environment, pair, Said::Ask { request: Request::Resume }, None)?;
            }
            go_on(&arguments.pair, None, environment)
        }
        UpgradeCommand::Abort(arguments) => abort(arguments, environment),
        UpgradeCommand::Rollback(arguments) => rollback(arguments, environment),
        UpgradeCommand::List => {
            let upgrades = conduct::upgrades(config, None)?;
            let shown: Vec<Shown> = upgrades.iter().map(Shown::of).collect();
            environment.show(&shown, || text::list(&upgrades))
        }
        UpgradeCommand::Show(arguments) => show(&arguments.upgrade, environment),
        UpgradeCommand::Adopt(arguments) => adopt(arguments, environment),
    }
}

/// An upgrade at a glance, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    state: State,
    production: String,
    waits: Option<Waiting>,
    until: Option<Timestamp>,
    possible: Vec<Request>,
    #[serde(flatten)]
    journal: &'a Journal,
}

impl<'a> Shown<'a> {
    fn of(upgrade: &'a Upgrade) -> Self {
        let (waits, until) = text::waits(upgrade);
        Self {
            state: upgrade.state(),
            production: upgrade.production().to_string(),
            waits,
            until,
            possible: upgrade.possible(),
            journal: upgrade.journal(),
        }
    }
}

/// Who asks: whoever became root says who that was, since nobody is root by birth.
fn who() -> String {
    let name = host::username();
    match std::env::var("SUDO_USER") {
        Ok(user) if name == "root" && !user.is_empty() => user,
        _ => name,
    }
}

fn say(
    environment: &Environment,
    pair: &Pair,
    what: Said,
    reason: Option<String>,
) -> Result<(Upgrade, Heard), Failure> {
    let config = environment.config()?;
    let (secrets, context) = (&environment.secrets, &environment.context);
    conduct::catch_up(&conduct::scene(config, secrets, pair.name.as_str(), context)?)?;
    Ok(conduct::say(config, pair, &Word { by: who(), reason, what })?)
}

fn said(
    environment: &Environment,
    pair: &Pair,
    what: Said,
    reason: Option<String>,
) -> Result<Exit, Failure> {
    let (upgrade, heard) = say(environment, pair, what, reason)?;
    environment.show(&Shown::of(&upgrade), || match heard {
        Heard::Noted => format!(
            "Noted in the journal of upgrade {}. Go on: belay upgrade resume {} --foreground",
            upgrade.journal().id,
            pair.name
        ),
        Heard::Left => format!(
            "The process that works on upgrade {} hears it when its present step has ended.",
            upgrade.journal().id
        ),
    })
}

fn start(arguments: &StartArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let (secrets, context) = (&environment.secrets, &environment.context);
    let asked = &arguments.plan;
    let scene = conduct::scene(config, secrets, &asked.pair, context)?;
    let plan = conduct::planned(&scene, &asked.to, &asked.stops)?;
    if !arguments.yes {
        environment.pause_progress();
        if !prompt::is_possible() {
            return Err(Failure::usage(
                "an upgrade changes both instances, and there is no terminal to ask whether it is meant",
                "look at `belay upgrade plan`, and give --yes",
            ));
        }
        if !prompt::confirm(&format!("{}\n", lines(&plan).join("\n")), &context.cancel)? {
            return Err(Failure::usage("nothing was done", "only a whole `yes` goes on"));
        }
    }
    let (upgrade, rest) = conduct::start(scene, plan, who())?;
    rested(upgrade, rest, None, environment)
}

/// Go on until a person has to say something, or it is over.
fn go_on(pair: &str, wanted: Option<State>, environment: &Environment) -> Result<Exit, Failure> {
    let (secrets, context) = (&environment.secrets, &environment.context);
    let scene = conduct::scene(environment.config()?, secrets, pair, context)?;
    let (upgrade, rest) = conduct::go_on(scene)?;
    rested(upgrade, rest, wanted, environment)
}

/// What only needs time is waited for: a soak, and the next try of what failed.
fn rested(
    mut upgrade: Upgrade,
    mut rest: Rest,
    wanted: Option<State>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let context = &environment.context;
    while let Rest::Waits { waiting: Waiting::Soak | Waiting::Retry, until: Some(until) } = rest {
        context.events.phase("waiting", text::wait(&rest));
        while Timestamp::now() < until {
            context.cancel.check().map_err(OpsError::from)?;
            std::thread::sleep(LOOK);
        }
        let pair = upgrade.plan().pair.to_string();
        let scene = conduct::scene(environment.config()?, &environment.secrets, &pair, context)?;
        (upgrade, rest) = conduct::go_on(scene)?;
    }
    let shown = environment.show(&Shown::of(&upgrade), || text::rested(&upgrade, &rest))?;
    let state = upgrade.state();
    Ok(match state {
        _ if wanted == Some(state) => shown,
        State::GateClosed => Exit::Gated,
        State::Held | State::RolledBack | State::Aborted => Exit::Failed,
        _ => shown,
    })
}

fn abort(arguments: &AbortArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let request = Request::Abort { keep_staging: arguments.keep_staging };
    let pair = config.pair(&arguments.pair)?;
    let (_, heard) = say(environment, pair, Said::Ask { request }, arguments.reason.clone())?;
    followed(heard, &arguments.pair, State::Aborted, environment)
}

fn rollback(arguments: &RollbackArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let request = Request::RollBack { discard_current: arguments.discard_current };
    let pair = config.pair(&arguments.pair)?;
    let (_, heard) = say(environment, pair, Said::Ask { request }, arguments.reason.clone())?;
    followed(heard, &arguments.pair, State::RolledBack, environment)
}

fn followed(
    heard: Heard,
    pair: &str,
    wanted: State,
    environment: &Environment,
) -> Result<Exit, Failure> {
    match heard {
        Heard::Noted => go_on(pair, Some(wanted), environment),
        Heard::Left => environment.show(&json!({ "heard": "left" }), || {
            "The process that works on the upgrade hears it when its present step has ended.".into()
        }),
    }
}

fn show(wanted: &str, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let all = match config.pairs.values().find(|pair| pair.name.as_str() == wanted) {
        Some(pair) => conduct::upgrades(config, Some(pair))?,
        None => conduct::upgrades(config, None)?
            .into_iter()
            .filter(|upgrade| upgrade.journal().id.to_string().starts_with(wanted))
            .collect(),
    };
    let upgrade = all.first().ok_or_else(|| {
        Failure::usage(format!("there is no pair and no upgrade '{wanted}'"), "belay upgrade list")
    })?;
    let catalog = Catalog::open(&config.state_dir).map_err(OpsError::from)?;
    let tests = catalog.upgrade_tests(upgrade.journal().id).map_err(OpsError::from)?;
    let document = json!({
        "upgrade": Shown::of(upgrade),
        "tests": tests.iter().map(|(record, test)| json!({ "record": record, "name": test.name, "verdict": test.verdict,
            "duration_ms": test.duration_ms, "details": test.details })).collect::<Vec<_>>(),
    });
    environment.show(&document, || text::show(upgrade, &tests))
}

fn adopt(arguments: &AdoptArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let instance = config.instance(&arguments.name)?;
    let pair = config.pairs.values().find(|pair| {
        pair.upgrades.is_some()
            && (pair.staging == instance.name || pair.production == instance.name)
    });
    let pair = pair.ok_or_else(|| {
        Failure::usage(
            format!("'{}' belongs to no pair that is upgraded", instance.name),
            "name it in a [pair.NAME] with driver = \"compose\"",
        )
    })?;
    let (secrets, context) = (&environment.secrets, &environment.context);
    let scene = conduct::scene(config, secrets, pair.name.as_str(), context)?;
    let image = conduct::adopt(&scene, &arguments.name)?;
    environment.show(&image, || format!("{} runs {image}, and stays with it.", instance.name))
}
