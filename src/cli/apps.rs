//! `belay apps`.

pub(super) mod arguments;
mod instances;
mod promote;
mod text;

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use crate::config::GitRepository;
use crate::ops::apps::restore::{AppSource, AppTarget, RestoreOptions};
use crate::ops::apps::status::StatusOptions;
use crate::ops::apps::{self, choose};
use crate::ops::{OpsError, git};
use arguments::{AppsArguments, AppsCommand, FetchArguments, RestoreArguments, StatusArguments};
use serde_json::json;

pub(super) fn run(arguments: &AppsArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    match &arguments.command {
        AppsCommand::List => {
            let list = apps::list(config);
            let shown = environment.show(&list, || text::list(&list))?;
            Ok(if list.unread.is_empty() { shown } else { shown.or(Exit::Warned) })
        }
        AppsCommand::Fetch(arguments) => fetch(arguments, environment),
        AppsCommand::Show(arguments) => {
            let chosen = choose(config, &arguments.app)?;
            let (secrets, context) = (&environment.secrets, &environment.context);
            let shown = apps::show(config, secrets, &chosen, arguments.at.as_deref(), context)?;
            environment.show(&shown, || text::shown(&shown))
        }
        AppsCommand::Log(arguments) => {
            let chosen = choose(config, &arguments.app)?;
            let (at, limit) = (arguments.at.as_deref(), arguments.limit);
            let log = apps::log(&chosen, at, arguments.kept, limit)?;
            environment.show(&log, || text::log(&log, arguments.kept))
        }
        AppsCommand::Status(arguments) => status(arguments, environment),
        AppsCommand::Diff(arguments) => {
            let diff = apps::diff(&choose(config, &arguments.app)?, &arguments.range)?;
            environment.show(&diff, || text::difference(&diff.difference))
        }
        AppsCommand::Restore(arguments) => restore(arguments, environment),
        AppsCommand::Import(arguments) => promote::import(arguments, environment),
        AppsCommand::Pull(arguments) => promote::pull(arguments, environment),
    }
}

/// Each is tried, whatever becomes of the others.
fn fetch(arguments: &FetchArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let gits: Vec<&GitRepository> = match arguments.names.as_slice() {
        [] => config.gits.values().collect(),
        names => names.iter().map(|name| config.git(name)).collect::<Result<_, _>>()?,
    };
    if gits.is_empty() {
        return Err(Failure::usage(
            "the configuration has no git repository",
            "add a table [git.NAME] with platform and url",
        ));
    }
    let (mut fetched, mut failures) = (Vec::new(), Vec::new());
    let mut ended = None;
    let (secrets, context) = (&environment.secrets, &environment.context);
    git::fetch(config, secrets, &gits, arguments.new_history, context, |git, outcome| {
        match outcome {
            Ok(outcome) => fetched.push(outcome),
            Err(error) if error.is_cancelled() || gits.len() == 1 => ended = Some(error),
            Err(error) => {
                let failure = Failure::from(error);
                environment.pause_progress();
                output::failure(&failure, false);
                let Failure { exit, message, hint } = failure;
                let name = &git.name;
                failures.push(
                    json!({ "git": name, "error": message, "hint": hint, "exit_code": exit as u8 }),
                );
            }
        }
        ended.is_none()
    })?;
    if let Some(error) = ended {
        return Err(error.into());
    }
    let exit = if failures.is_empty() { Exit::Done } else { Exit::Failed };
    let document = json!({ "fetched": fetched, "failures": failures });
    let shown = environment.show(&document, || text::fetched(&fetched))?;
    Ok(exit.or(shown))
}

fn status(arguments: &StatusArguments, environment: &Environment) -> Result<Exit, Failure> {
    let options = StatusOptions {
        pair: arguments.pair.clone(),
        production_version: arguments.production_version.clone(),
        staging_version: arguments.staging_version.clone(),
    };
    let live = arguments.live.then_some((&environment.secrets, &environment.context));
    let status = apps::status::status(environment.config()?, &options, live)?;
    let shown = environment.show(&status, || text::status(&status))?;
    let is_known = status
        .git
        .iter()
        .all(|git| git.trouble.is_none() && (live.is_none() || git.is_pulled_known()));
    Ok(if is_known { shown } else { shown.or(Exit::Warned) })
}

fn restore(arguments: &RestoreArguments, environment: &Environment) -> Result<Exit, Failure> {
    let unsaid = || {
        OpsError::usage("it is not said what to restore, and where to", "belay apps restore --help")
    };
    let options = RestoreOptions {
        app: arguments.app.clone(),
        source: match (&arguments.at, &arguments.from) {
            (Some(commit), _) => AppSource::Commit(commit.clone()),
            (None, Some(snapshot)) => AppSource::Snapshot(snapshot.clone()),
            (None, None) => return Err(unsaid().into()),
        },
        target: match (&arguments.branch, &arguments.to_dir) {
            (Some(name), _) => AppTarget::Branch { name: name.clone(), is_pushed: arguments.push },
            (None, Some(directory)) => AppTarget::Directory(directory.clone()),
            (None, None) => return Err(unsaid().into()),
        },
        onto: arguments.onto.clone(),
    };
    let config = environment.config()?;
    let restored =
        apps::restore::restore(config, &environment.secrets, &options, &environment.context)?;
    for left_out in restored.directory.iter().flat_map(|it| &it.written.left_out) {
        environment.context.events.warn(format!("Not written: {left_out}."));
    }
    environment.show(&restored, || text::restored(&restored))
}
