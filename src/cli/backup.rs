//! `belay backup`.

use super::arguments::BackupArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use super::perform::{Said, failed};
use super::render::{counted, local_time};
use crate::model::job::{self, Work};
use crate::model::manifest::KeyFit;
use crate::model::name::Name;
use crate::model::size::Bytes;
use crate::ops::backup::BackupOutcome;
use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
struct Document {
    snapshots: Vec<Value>,
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
    let mut document = Document { snapshots: Vec::new(), failures: Vec::new() };
    let (mut failures, mut worst) = (Vec::new(), Exit::Done);
    let is_one = instances.len() == 1;
    for instance in instances {
        let work = Work::Backup { instance: instance.clone(), reread, allow_empty };
        let ended = environment.perform(&work, &environment.context).unwrap_or_else(failed);
        let exit = Exit::from_code(ended.exit_code);
        let Some(failure) = ended.failure else {
            if !environment.global.json {
                environment.pause_progress();
                output::line(ended.text)?;
            }
            document.snapshots.push(ended.document);
            // A key that does not fit outweighs a warning.
            worst = if worst == Exit::Damaged { worst } else { exit.or(worst) };
            continue;
        };
        // One that fails keeps none of the others from its backup.
        environment.pause_progress();
        let job::Failure { error, hint } = failure;
        let message = if is_one { error.clone() } else { format!("{instance}: {error}") };
        let told = Failure { message, hint: hint.clone(), exit };
        output::failure(&told, false);
        let instance = instance.to_string();
        document.failures.push(FailedBackup { instance, error, hint, exit_code: exit as u8 });
        failures.push(told);
        if exit == Exit::Interrupted {
            break;
        }
    }
    let shown = environment.show(&document, String::new)?;
    let worst = if worst == Exit::Done { shown } else { worst };
    Ok(self::exit(&failures, !document.snapshots.is_empty()).unwrap_or(worst))
}

/// What a backup says.
pub(super) fn said(outcome: &BackupOutcome) -> Said {
    let is_unfit = outcome.key_fit == KeyFit::Unfit;
    let exit = if is_unfit { Exit::Damaged } else { Exit::Done };
    Said::new(exit, text(outcome), outcome)
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

fn chosen(arguments: &BackupArguments, environment: &Environment) -> Result<Vec<Name>, Failure> {
    let config = environment.config()?;
    if arguments.all {
        if config.instances.is_empty() {
            return Err(Failure::usage(
                "the configuration has no instances",
                "add an [instance.NAME] to it",
            ));
        }
        return Ok(config.instances.keys().cloned().collect());
    }
    if let Some(pair) = &arguments.pair {
        let pair = config.pair(pair)?;
        return Ok(pair.instances().cloned().collect());
    }
    let mut names = arguments.names.clone();
    names.sort();
    names.dedup();
    names.iter().map(|name| Ok(config.instance(name)?.name.clone())).collect()
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
