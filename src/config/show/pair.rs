//! `[pair.NAME]` and `compose` of instances in effect.

use super::shown_duration;
use crate::config::Pair;
use crate::config::pair::{
    Compose, CountsSettings, DriverSettings, HttpSettings, Maintenance, Script, TrialKind,
    TrialSettings, Upgrades,
};
use crate::model::name::Name;
use serde::Serialize;
use std::borrow::Cow;

#[derive(Serialize)]
pub(super) struct ShownPair<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    staging: Option<&'a Name>,
    production: &'a Name,
    #[serde(flatten)]
    upgrades: Option<ShownUpgrades<'a>>,
}

#[derive(Serialize)]
struct ShownUpgrades<'a> {
    fresh: String,
    soak: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    window: Vec<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    approvers: &'a [String],
    on_failure: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    drilled: Option<String>,
    commit_after: String,
    tests: Vec<ShownTrial<'a>>,
    driver: ShownDriver<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance: Option<ShownMaintenance<'a>>,
}

#[derive(Serialize)]
pub(super) struct ShownCompose<'a> {
    dir: Cow<'a, str>,
    service: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    workers: &'a [String],
}

/// A program, with its arguments where it has some.
#[derive(Serialize)]
#[serde(untagged)]
enum ShownScript<'a> {
    Program(&'a str),
    All(Vec<&'a str>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownDriver<'a> {
    Named(&'static str),
    Command(ShownCommand<'a>),
}

#[derive(Serialize)]
struct ShownCommand<'a> {
    command: ShownScript<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<ShownScript<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<ShownScript<'a>>,
    timeout: String,
}

#[derive(Serialize)]
struct ShownMaintenance<'a> {
    on: ShownScript<'a>,
    off: ShownScript<'a>,
    timeout: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownTrial<'a> {
    Named(&'static str),
    Table(ShownTrialTable<'a>),
}

#[derive(Default, Serialize)]
struct ShownTrialTable<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Plain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Plain>,
    #[serde(rename = "apps-open", skip_serializing_if = "Option::is_none")]
    apps_open: Option<Plain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Plain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<ShownCounts<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<ShownScript<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<ShownHttp<'a>>,
    timeout: String,
}

/// A test without settings of its own, `{}`.
#[derive(Serialize)]
struct Plain {}

#[derive(Serialize)]
struct ShownCounts<'a> {
    tolerance: String,
    except: &'a [String],
}

#[derive(Serialize)]
struct ShownHttp<'a> {
    url: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
}

pub(super) fn pair(pair: &Pair) -> ShownPair<'_> {
    ShownPair {
        staging: pair.staging.as_ref(),
        production: &pair.production,
        upgrades: pair.upgrades.as_ref().map(upgrades),
    }
}

pub(super) fn compose(compose: &Compose) -> ShownCompose<'_> {
    ShownCompose {
        dir: compose.dir.to_string_lossy(),
        service: &compose.service,
        workers: &compose.workers,
    }
}

fn upgrades(upgrades: &Upgrades) -> ShownUpgrades<'_> {
    ShownUpgrades {
        fresh: shown_duration(upgrades.fresh),
        soak: shown_duration(upgrades.soak),
        window: upgrades.windows.all().iter().map(ToString::to_string).collect(),
        approvers: &upgrades.approvers,
        on_failure: upgrades.on_failure.as_str(),
        drilled: upgrades.drilled.map(shown_duration),
        commit_after: shown_duration(upgrades.commit_after),
        tests: upgrades.tests.iter().map(trial).collect(),
        driver: driver(&upgrades.driver),
        maintenance: upgrades.maintenance.as_ref().map(maintenance),
    }
}

fn script(script: &Script) -> ShownScript<'_> {
    if script.arguments.is_empty() {
        return ShownScript::Program(&script.program);
    }
    let arguments = script.arguments.iter().map(String::as_str);
    ShownScript::All(std::iter::once(script.program.as_str()).chain(arguments).collect())
}

fn driver(driver: &DriverSettings) -> ShownDriver<'_> {
    match driver {
        DriverSettings::Compose => ShownDriver::Named("compose"),
        DriverSettings::Command(command) => ShownDriver::Command(ShownCommand {
            command: script(&command.install),
            stop: command.stop.as_ref().map(script),
            start: command.start.as_ref().map(script),
            timeout: shown_duration(command.timeout),
        }),
    }
}

fn maintenance(it: &Maintenance) -> ShownMaintenance<'_> {
    ShownMaintenance {
        on: script(&it.on),
        off: script(&it.off),
        timeout: shown_duration(it.timeout),
    }
}

fn trial(trial: &TrialSettings) -> ShownTrial<'_> {
    // A word says all of it where everything is as usual.
    let usual = TrialKind::of_name(trial.kind.name());
    if usual.as_ref() == Some(&trial.kind) && trial.timeout == trial.kind.usual_timeout() {
        return ShownTrial::Named(trial.kind.name());
    }
    let table = ShownTrialTable { timeout: shown_duration(trial.timeout), ..Default::default() };
    ShownTrial::Table(match &trial.kind {
        TrialKind::Health => ShownTrialTable { health: Some(Plain {}), ..table },
        TrialKind::Version => ShownTrialTable { version: Some(Plain {}), ..table },
        TrialKind::AppsOpen => ShownTrialTable { apps_open: Some(Plain {}), ..table },
        TrialKind::Keys => ShownTrialTable { keys: Some(Plain {}), ..table },
        TrialKind::Counts(CountsSettings { tolerance, except }) => {
            let counts = ShownCounts { tolerance: tolerance.to_string(), except };
            ShownTrialTable { counts: Some(counts), ..table }
        }
        TrialKind::Command(command) => ShownTrialTable { command: Some(script(command)), ..table },
        TrialKind::Http(HttpSettings { target, status, body }) => {
            let http =
                ShownHttp { url: target.to_string(), status: *status, body: body.as_deref() };
            ShownTrialTable { http: Some(http), ..table }
        }
    })
}
