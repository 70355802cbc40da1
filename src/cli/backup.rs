//! `belay backup`.

use super::arguments::BackupArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use super::render::{counted, local_time};
use crate::config::Instance;
use crate::model::manifest::KeyFit;
use crate::model::size::Bytes;
use crate::ops::backup::{BackupOptions, BackupOutcome, backup, record_failure};
use crate::ops::session::Session;
use serde::Serialize;

#[derive(Serialize)]
struct Document {
    snapshots: Vec<BackupOutcome>,
    failures: Vec<FailedBackup>,
}

#[derive(Serialize)]
struct FailedBackup {
    instance: String,
    error: String,
    hint: Option<String>,
    exit_code: u8,
}

pub(super) fn run(arguments: &BackupArguments, environment: &Environment) -> Result<Exit, Failure> {
    let instances = chosen(arguments, environment)?;
    let &BackupArguments { reread, allow_empty, .. } = arguments;
    let options = BackupOptions { reread, allow_empty, before_restore_of: None };
    let mut document = Document { snapshots: Vec::new(), failures: Vec::new() };
    let mut failures: Vec<Failure> = Vec::new();
    for instance in &instances {
        match one(instance, &options, environment) {
            Ok(outcome) => {
                if !environment.global.json {
                    environment.pause_progress();
                    output::line(text(&outcome))?;
                }
                document.snapshots.push(outcome);
            }
            // One that fails keeps none of the others from its backup.
            Err(failure) => {
                environment.pause_progress();
                let message = if instances.len() > 1 {
                    format!("{}: {}", instance.name, failure.message)
                } else {
                    failure.message.clone()
                };
                let (error, hint) = (failure.message, failure.hint);
                let told = Failure { message, hint: hint.clone(), exit: failure.exit };
                output::failure(&told, false);
                document.failures.push(FailedBackup {
                    instance: instance.name.to_string(),
                    error,
                    hint,
                    exit_code: told.exit as u8,
                });
                failures.push(told);
                if failure.exit == Exit::Interrupted {
                    break;
                }
            }
        }
    }
    let shown = environment.show(&document, String::new)?;
    let is_unfit = document.snapshots.iter().any(|outcome| outcome.key_fit == KeyFit::Unfit);
    let fitting = if is_unfit { Exit::Damaged } else { shown };
    Ok(exit(&failures, !document.snapshots.is_empty()).unwrap_or(fitting))
}

/// How it ends where something failed: with the failures' own code (locked, wrong password, no repository) where all
/// failed for the same.
fn exit(failures: &[Failure], any_done: bool) -> Option<Exit> {
    let first = failures.first()?.exit;
    if failures.iter().any(|failure| failure.exit == Exit::Interrupted) {
        return Some(Exit::Interrupted);
    }
    let is_one = !any_done && failures.iter().all(|failure| failure.exit == first);
    Some(if is_one { first } else { Exit::Failed })
}

fn chosen<'a>(
    arguments: &BackupArguments,
    environment: &'a Environment,
) -> Result<Vec<&'a Instance>, Failure> {
    let config = environment.config()?;
    if arguments.all {
        if config.instances.is_empty() {
            return Err(Failure::usage(
                "the configuration has no instances",
                "add an [instance.NAME] to it",
            ));
        }
        return Ok(config.instances.values().collect());
    }
    if let Some(pair) = &arguments.pair {
        let pair = config.pair(pair)?;
        let names = [&pair.staging, &pair.production];
        return Ok(names
            .into_iter()
            .map(|name| config.instance(name.as_str()))
            .collect::<Result<_, _>>()?);
    }
    let mut names = arguments.names.clone();
    names.sort();
    names.dedup();
    Ok(names.iter().map(|name| config.instance(name)).collect::<Result<_, _>>()?)
}

fn one(
    instance: &Instance,
    options: &BackupOptions,
    environment: &Environment,
) -> Result<BackupOutcome, Failure> {
    let config = environment.config()?;
    let session = Session::open(config, config.repository_of(instance)?, &environment.secrets)
        .inspect_err(|error| record_failure(config, instance, error, &environment.context))?;
    Ok(backup(config, &session, instance, options, &environment.context)?)
}

fn text(outcome: &BackupOutcome) -> String {
    let count = |kind: &str| outcome.counts.get(kind).copied().unwrap_or(0);
    let held = if count("databases") > 0 {
        let databases = counted(count("databases"), "database", "databases");
        format!("{databases}, {}", counted(count("rows"), "row", "rows"))
    } else {
        counted(count("files"), "file", "files")
    };
    let keys = match outcome.key_fit {
        KeyFit::Fit => "; its keys fit",
        KeyFit::Unfit => {
            "\nIts keys do NOT decrypt what is encrypted in it: it is kept, and does not count as a good snapshot.\n\
             What to do: put the right key into the instance's environment, and run the backup again."
        }
        KeyFit::Unproven => "",
    };
    format!(
        "{}: snapshot {} sealed at {}: {held}, {}, {} new, in {:.1} s{keys}",
        outcome.instance,
        outcome.id.short(),
        local_time(jiff::Timestamp::now()),
        Bytes(outcome.size_bytes),
        Bytes(outcome.added_bytes),
        outcome.duration_seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_kind_keep_their_code_where_nothing_was_done() {
        let of = |codes: &[Exit], any_done| {
            let failures: Vec<Failure> =
                codes.iter().map(|&exit| Failure { exit, ..Failure::internal("") }).collect();
            exit(&failures, any_done)
        };
        assert_eq!(of(&[], true), None);
        assert_eq!(of(&[Exit::NoRepository], false), Some(Exit::NoRepository));
        assert_eq!(of(&[Exit::Locked, Exit::Locked], false), Some(Exit::Locked));
        assert_eq!(of(&[Exit::Locked, Exit::NoRepository], false), Some(Exit::Failed));
        assert_eq!(of(&[Exit::Locked], true), Some(Exit::Failed));
        assert_eq!(of(&[Exit::Locked, Exit::Interrupted], true), Some(Exit::Interrupted));
    }
}
