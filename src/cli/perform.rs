//! What a job does, whoever runs it: the command line by itself, or the daemon for somebody. Both show the same.

use super::exit::{Exit, Failure};
use super::{backup, check, prune, restore, upgrade};
use crate::config::{Config, SecretSources};
use crate::model::event::{Event, Events};
use crate::model::job::{self, Ended, Work};
use crate::ops::session::Session;
use crate::ops::{Context, OpsError, backup as backing_up, restore as restoring};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a job that went well says.
pub(super) struct Said {
    pub(super) exit: Exit,
    pub(super) text: String,
    pub(super) document: Value,
}

impl Said {
    pub(super) fn new(exit: Exit, text: String, document: &impl Serialize) -> Self {
        // All of these can be written as JSON.
        Self { exit, text, document: serde_json::to_value(document).unwrap_or_default() }
    }
}

/// Do it.
pub(super) fn perform(
    config: &Config,
    secrets: &SecretSources,
    work: &Work,
    context: &Context,
) -> Ended {
    let warned = Arc::new(AtomicBool::new(false));
    let events = {
        let (events, warned) = (context.events.clone(), Arc::clone(&warned));
        Events::new(move |event| {
            if matches!(event, Event::Warning { .. }) {
                warned.store(true, Ordering::SeqCst);
            }
            events.send(event);
        })
    };
    let context = context.with_events(events);
    match attempt(config, secrets, work, &context) {
        Ok(Said { exit, text, document }) => {
            let is_warned = exit == Exit::Done && warned.load(Ordering::SeqCst);
            let exit = if is_warned { Exit::Warned } else { exit };
            Ended { exit_code: exit as u8, text, document, failure: None, may_pass: false }
        }
        Err(error) => {
            // An upgrade is gone on with by who looks after upgrades.
            let may_pass = !matches!(work, Work::Upgrade(_)) && error.may_pass();
            Ended { may_pass, ..failed(error.into()) }
        }
    }
}

/// How a job ended that went well, or why it did not.
pub(super) fn succeeded(ended: Ended) -> Result<Ended, Failure> {
    let exit = Exit::from_code(ended.exit_code);
    match ended.failure {
        Some(job::Failure { error, hint }) => Err(Failure { exit, message: error, hint }),
        None => Ok(ended),
    }
}

/// How a job ended that failed, or that could not even be asked for.
pub(super) fn failed(Failure { exit, message, hint }: Failure) -> Ended {
    Ended {
        exit_code: exit as u8,
        text: String::new(),
        document: Value::Null,
        failure: Some(job::Failure { error: message, hint }),
        may_pass: false,
    }
}

fn attempt(
    config: &Config,
    secrets: &SecretSources,
    work: &Work,
    context: &Context,
) -> Result<Said, OpsError> {
    let open = |name: &crate::model::name::Name| {
        Session::open(config, config.repository(name.as_str())?, secrets)
    };
    match work {
        Work::Backup { instance, reread, allow_empty } => {
            let instance = config.instance(instance.as_str())?;
            let session = Session::open(config, config.repository_of(instance)?, secrets)
                .inspect_err(|error| {
                    backing_up::record_failure(config, instance, error, context);
                })?;
            let options = backing_up::BackupOptions {
                reread: *reread,
                allow_empty: *allow_empty,
                ..backing_up::BackupOptions::default()
            };
            let outcome = backing_up::backup(config, &session, instance, &options, context)?;
            Ok(backup::said(&outcome))
        }
        Work::Restore(work) => restore::said(config, secrets, work, context),
        Work::Upgrade(work) => upgrade::said(config, secrets, work, context),
        Work::Recover { instance } => {
            let instance = config.instance(instance.as_str())?;
            restoring::recover(config, instance, secrets, context)?;
            let text = format!("{}: nothing of interrupted runs is left.", instance.name);
            Ok(Said::new(Exit::Done, text, &serde_json::json!({ "instance": instance.name })))
        }
        Work::Check { repository, read_data } => {
            let session = Session::open_for_reading(
                config,
                config.repository(repository.as_str())?,
                secrets,
                context,
            )?;
            let read_data = read_data.as_deref().map(str::parse).transpose();
            let read_data =
                read_data.map_err(|error: crate::repository::check::ParseSliceError| {
                    OpsError::Usage { message: error.to_string(), hint: None }
                })?;
            check::said(&session, read_data, context)
        }
        Work::Prune { repository, dry_run, max_unused } => {
            prune::said(config, &open(repository)?, *dry_run, *max_unused, context)
        }
    }
}
