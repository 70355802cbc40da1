//! `belay backup`.

use super::arguments::BackupArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use super::render::{counted, local_time};
use crate::config::Instance;
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
}

pub(super) fn run(arguments: &BackupArguments, environment: &Environment) -> Result<Exit, Failure> {
    let instances = chosen(arguments, environment)?;
    let &BackupArguments { reread, allow_empty, .. } = arguments;
    let options = BackupOptions { reread, allow_empty, before_restore_of: None };
    let mut document = Document { snapshots: Vec::new(), failures: Vec::new() };
    let mut first_failure = None;
    for instance in &instances {
        match one(instance, &options, environment) {
            Ok(outcome) => document.snapshots.push(outcome),
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            // One that fails keeps none of the others from its backup.
            Err(failure) => {
                environment.pause_progress();
                if instances.len() > 1 {
                    let message = format!("{}: {}", instance.name, failure.message);
                    output::failure(
                        &Failure { message, hint: failure.hint.clone(), ..failure },
                        false,
                    );
                }
                let (error, hint) = (failure.message.clone(), failure.hint.clone());
                document.failures.push(FailedBackup {
                    instance: instance.name.to_string(),
                    error,
                    hint,
                });
                first_failure.get_or_insert(failure);
            }
        }
    }
    match first_failure {
        // A single one keeps its own code: locked, wrong password, no repository.
        Some(failure) if instances.len() == 1 && !environment.global.json => Err(failure),
        Some(failure) => {
            environment.show(&document, || text(&document))?;
            if instances.len() == 1 {
                output::failure(&failure, false);
                return Ok(failure.exit);
            }
            Ok(Exit::Failed)
        }
        None => environment.show(&document, || text(&document)),
    }
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

fn text(document: &Document) -> String {
    let lines = document.snapshots.iter().map(|outcome| {
        format!(
            "{}: snapshot {} sealed at {}: {}, {}, {} new, in {:.1} s",
            outcome.instance,
            outcome.id.short(),
            local_time(jiff::Timestamp::now()),
            counted(outcome.counts.get("files").copied().unwrap_or(0), "file", "files"),
            Bytes(outcome.size_bytes),
            Bytes(outcome.added_bytes),
            outcome.duration_seconds
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
