//! `belay key`.

use super::arguments::{KeyArguments, KeyCommand};
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::prompt;
use super::render::{local_time, table};
use crate::config::Secret;
use crate::model::id::FileId;
use crate::ops::keys;
use crate::repository::keys::{KeyInfo, RECOVERY_LABEL};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Removed {
    removed: FileId,
}

pub(super) fn run(arguments: &KeyArguments, environment: &Environment) -> Result<Exit, Failure> {
    // The catalog only notes what is done here.
    let session = environment.session_anywhere()?;
    let context = &environment.context;
    match &arguments.command {
        KeyCommand::Add { recovery: true, .. } => {
            let added = keys::add_recovery(&session, context)?;
            environment.show(&added, || {
                let key = added.recovery_key.as_deref().unwrap_or_default();
                format!(
                    "Added the key {}.\n\nRecovery key:  {key}\n\nKeep it somewhere else than on this host. \
                     It is not shown again.\nProve that you wrote it down right:  belay key test",
                    added.id.short()
                )
            })
        }
        KeyCommand::Add { new_password_file, label, .. } => {
            let password =
                secret(new_password_file.as_deref(), "the new password", true, environment)?;
            let added = keys::add(&session, &password, label.clone(), context)?;
            environment.show(&added, || format!("Added the key {}.", added.id.short()))
        }
        KeyCommand::List => {
            let keys = keys::list(&session, context)?;
            environment.show(&keys, || {
                let rows = keys.iter().map(row).collect();
                table(&["ID", "CREATED", "BY", "LABEL", ""], &[], rows)
            })
        }
        KeyCommand::Remove { id } => {
            let removed = keys::remove(&session, id, context)?;
            environment
                .show(&Removed { removed }, || format!("Removed the key {}.", removed.short()))
        }
        KeyCommand::Test { new_password_file } => {
            let password =
                secret(new_password_file.as_deref(), "the password to try", false, environment)?;
            let key = keys::test(&session, environment.repository()?, &password)?;
            environment.show(&key, || {
                let id = key.id.short();
                match key.label.as_deref() {
                    Some(RECOVERY_LABEL) => {
                        format!("The recovery key {id} opens the repository, and is proven now.")
                    }
                    _ => format!("The password opens the repository: it is the key {id}."),
                }
            })
        }
    }
}

fn secret(
    file: Option<&Path>,
    what: &str,
    twice: bool,
    environment: &Environment,
) -> Result<Secret, Failure> {
    if let Some(file) = file {
        return Ok(Secret::read_file(file)?);
    }
    environment.pause_progress();
    prompt::password(what, twice, &environment.context.cancel)
}

fn row(key: &KeyInfo) -> Vec<String> {
    vec![
        key.id.short(),
        local_time(key.created),
        format!("{}@{}", key.username, key.hostname),
        key.label.clone().unwrap_or_default(),
        if key.in_use { "in use".into() } else { String::new() },
    ]
}
