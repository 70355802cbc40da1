//! `belay upgrade`.

pub(super) mod arguments;
mod by_daemon;
mod job;
mod text;

pub(super) use job::said;

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::prompt;
use super::remote::Remote;
use crate::catalog::Catalog;
use crate::config::Pair;
use crate::host;
use crate::model::upgrade::Request;
use crate::ops::OpsError;
use crate::upgrade::conduct::{self, Heard};
use crate::upgrade::hands::{Said, Word};
use crate::upgrade::journals;
use crate::upgrade::machine::{State, Upgrade, Waiting};
use crate::upgrade::plan::{describe, lines};
use crate::upgrade::runner::Rest;
use crate::upgrade::shown::{Shown, with_tests};
use arguments::{
    AbortArguments, AcceptArguments, AdoptArguments, OverrideArguments, ReasonArguments,
    ResumeArguments, RollbackArguments, StartArguments, UpgradeArguments, UpgradeCommand,
};
use jiff::Timestamp;
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
                found.extend(journals::upgrades(config, Some(&pair.name))?.into_iter().next());
            }
            let shown: Vec<Shown> =
                found.iter().map(|upgrade| Shown::of(upgrade, config)).collect();
            environment.show(&shown, || text::status(&found, config))
        }
        UpgradeCommand::Approve(arguments) => approve(arguments, environment),
        UpgradeCommand::Override(arguments) => overrule(arguments, environment),
        UpgradeCommand::Resume(arguments) => resume(arguments, environment),
        UpgradeCommand::Abort(arguments) => abort(arguments, environment),
        UpgradeCommand::Rollback(arguments) => rollback(arguments, environment),
        UpgradeCommand::Accept(arguments) => accept(arguments, environment),
        UpgradeCommand::List(arguments) => {
            let pair = arguments.pair.as_deref().map(|pair| config.pair(pair)).transpose()?;
            let upgrades = journals::upgrades(config, pair.map(|pair| &pair.name))?;
            let shown: Vec<Shown> =
                upgrades.iter().map(|upgrade| Shown::of(upgrade, config)).collect();
            environment.show(&shown, || text::list(&upgrades))
        }
        UpgradeCommand::Show(arguments) => show(&arguments.upgrade, environment),
        UpgradeCommand::Adopt(arguments) => adopt(arguments, environment),
    }
}

fn say(
    environment: &Environment,
    pair: &Pair,
    what: Said,
    reason: Option<String>,
) -> Result<(Upgrade, Heard), Failure> {
    let (secrets, context) = (&environment.secrets, &environment.context);
    let scene = conduct::scene(environment.config()?, secrets, pair.name.as_str(), context)?;
    Ok(conduct::say(&scene, &Word { by: host::username(), reason, what })?)
}

/// Say something in this process: no daemon answers.
fn noted(
    environment: &Environment,
    pair: &Pair,
    what: Said,
    reason: Option<String>,
) -> Result<Exit, Failure> {
    let (upgrade, heard) = say(environment, pair, what, reason)?;
    environment.show(&Shown::of(&upgrade, environment.config()?), || match heard {
        Heard::Noted => format!(
            "Noted in the journal of upgrade {}. It goes on when a daemon runs, or with: belay upgrade resume {} --foreground",
            upgrade.journal().id,
            pair.name
        ),
        Heard::Left => text::left(),
    })
}

fn approve(arguments: &ReasonArguments, environment: &Environment) -> Result<Exit, Failure> {
    let (config, reason) = (environment.config()?, arguments.reason.clone());
    let pair = config.pair(&arguments.pair)?;
    if let Some(daemon) = Remote::of(config) {
        return by_daemon::approve(&daemon, pair, reason, environment);
    }
    let plan = conduct::on_its_way(config, pair)?.plan().digest();
    noted(environment, pair, Said::Approve { plan }, reason)
}

fn overrule(arguments: &OverrideArguments, environment: &Environment) -> Result<Exit, Failure> {
    let (config, reason) = (environment.config()?, arguments.reason.clone());
    let (pair, rule) = (config.pair(&arguments.pair)?, arguments.rule);
    if let Some(daemon) = Remote::of(config) {
        return by_daemon::overrule(&daemon, pair, rule, &reason, environment);
    }
    noted(environment, pair, Said::Override { rule }, Some(reason))
}

fn resume(arguments: &ResumeArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let pair = config.pair(&arguments.pair)?;
    if !arguments.going.foreground {
        return by_daemon::resume(pair, environment);
    }
    // What merely waits, or was interrupted, goes on without being asked to; of one that is over, what was kept may be released.
    let Some(current) = conduct::current(config, pair)? else {
        return released(&arguments.pair, environment);
    };
    if current.possible().contains(&Request::Resume) {
        say(environment, pair, Said::Ask { request: Request::Resume }, None)?;
    }
    go_on(&arguments.pair, None, environment)
}

fn start(arguments: &StartArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let (secrets, context) = (&environment.secrets, &environment.context);
    let asked = &arguments.plan;
    if !arguments.going.foreground {
        // Nobody is asked about a plan that nobody would carry out.
        by_daemon::needed(config)?;
    }
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
    if !arguments.going.foreground {
        let name = &scene.pair.name;
        return by_daemon::start(name, &asked.to, &asked.stops, &plan, environment);
    }
    let (upgrade, rest) = conduct::start(scene, plan, host::username())?;
    rested(upgrade, rest, None, environment)
}

/// Go on until a person has to say something, or it is over.
fn go_on(pair: &str, wanted: Option<State>, environment: &Environment) -> Result<Exit, Failure> {
    let (secrets, context) = (&environment.secrets, &environment.context);
    let scene = conduct::scene(environment.config()?, secrets, pair, context)?;
    let (upgrade, rest) = conduct::go_on(scene)?;
    rested(upgrade, rest, wanted, environment)
}

/// Release what was kept of an upgrade that is over; how that had ended was told then.
fn released(pair: &str, environment: &Environment) -> Result<Exit, Failure> {
    let (config, context) = (environment.config()?, &environment.context);
    let scene = conduct::scene(config, &environment.secrets, pair, context)?;
    let (upgrade, rest) = conduct::go_on(scene)?;
    match rest {
        // That another host's is on its way was known to the repository only.
        _ if !upgrade.state().is_over() => rested(upgrade, rest, None, environment),
        Rest::Waits { waiting: Waiting::Retry, .. } => {
            let pair = &upgrade.plan().pair;
            Err(OpsError::refused(
                format!("what was kept of the upgrade of {pair} could not be released"),
                format!("`belay upgrade show {pair}` says why; run this again"),
            )
            .into())
        }
        _ => {
            environment.show(&Shown::of(&upgrade, config), || text::rested(&upgrade, &rest, config))
        }
    }
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
    let config = environment.config()?;
    let shown = Shown::of(&upgrade, config);
    let shown = environment.show(&shown, || text::rested(&upgrade, &rest, config))?;
    let state = upgrade.state();
    Ok(if wanted == Some(state) { shown } else { job::exit_of(state).or(shown) })
}

fn abort(arguments: &AbortArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let request = Request::Abort { keep_staging: arguments.keep_staging };
    let (pair, reason) = (config.pair(&arguments.pair)?, arguments.reason.clone());
    if !arguments.going.foreground {
        return by_daemon::abort(pair, request, reason, environment);
    }
    let (_, heard) = say(environment, pair, Said::Ask { request }, reason)?;
    followed(heard, &arguments.pair, State::Aborted, environment)
}

fn rollback(arguments: &RollbackArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let request = Request::RollBack { discard_current: arguments.discard_current };
    let (pair, reason) = (config.pair(&arguments.pair)?, arguments.reason.clone());
    if !arguments.going.foreground {
        return by_daemon::rollback(pair, request, reason, environment);
    }
    let (_, heard) = say(environment, pair, Said::Ask { request }, reason)?;
    followed(heard, &arguments.pair, State::RolledBack, environment)
}

fn accept(arguments: &AcceptArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let (pair, reason) = (config.pair(&arguments.pair)?, arguments.reason.clone());
    if !arguments.going.foreground {
        return by_daemon::accept(pair, reason, environment);
    }
    let what = Said::Ask { request: Request::AcceptBack };
    let (_, heard) = say(environment, pair, what, Some(reason))?;
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
        Heard::Left => environment.show(&json!({ "heard": Heard::Left }), text::left),
    }
}

fn show(wanted: &str, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let all = match config.pairs.values().find(|pair| pair.name.as_str() == wanted) {
        Some(pair) => journals::upgrades(config, Some(&pair.name))?,
        None => journals::upgrades(config, None)?
            .into_iter()
            .filter(|upgrade| upgrade.journal().id.to_string().starts_with(wanted))
            .collect(),
    };
    let upgrade = all.first().ok_or_else(|| {
        Failure::usage(format!("there is no pair and no upgrade '{wanted}'"), "belay upgrade list")
    })?;
    let catalog = Catalog::open(&config.state_dir).map_err(OpsError::from)?;
    let tests = catalog.upgrade_tests(upgrade.journal().id).map_err(OpsError::from)?;
    let document = with_tests(upgrade, config, &tests);
    environment.show(&document, || text::show(upgrade, config, &tests))
}

fn adopt(arguments: &AdoptArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let instance = config.instance(&arguments.name)?;
    let pair = config.pairs.values().find(|pair| {
        pair.upgrades.is_some() && pair.instances().any(|name| *name == instance.name)
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
