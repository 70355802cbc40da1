//! `belay import`.

use super::arguments::ImportArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::prompt;
use super::render::{counted, local_time};
use crate::config::Secret;
use crate::model::id::SnapshotId;
use crate::model::manifest::KeyFit;
use crate::model::size::Bytes;
use crate::ops::backup::import::{self, ImportOptions, ImportOutcome, Keys, Looked};
use crate::ops::session::Session;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a dry run shows.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    looked: &'a Looked,
    imported_before: Option<SnapshotId>,
}

pub(super) fn run(arguments: &ImportArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let instance = config.instance(&arguments.instance)?;
    let password = password(arguments, environment)?;
    let context = &environment.context;
    let looked = import::look(&arguments.file, password.as_ref(), context)?;
    import::ensure_platform(instance, &looked)?;
    let session = Session::open(config, config.repository_of(instance)?, &environment.secrets)?;
    if arguments.dry_run {
        for warning in &looked.warnings {
            context.events.warn(warning);
        }
        let imported_before = import::imported_before(&session, instance, &looked)?;
        let document = Document { looked: &looked, imported_before };
        return environment.show(&document, || planned(&looked, imported_before));
    }
    let keys = keys(arguments, &looked, environment)?;
    let options = ImportOptions { password, keys, again: arguments.again };
    let outcome = import::import(config, &session, instance, &looked, &options, context)?;
    let exit = environment.show(&outcome, || text(&outcome))?;
    Ok(if outcome.key_fit == KeyFit::Unfit { Exit::Damaged } else { exit })
}

/// What opens the file, where it is encrypted.
fn password(
    arguments: &ImportArguments,
    environment: &Environment,
) -> Result<Option<Secret>, Failure> {
    let file = &arguments.file;
    if !import::is_encrypted(file)? {
        if arguments.archive_password_file.is_some() {
            environment.context.events.note("The file is not encrypted: no password is needed.");
        }
        return Ok(None);
    }
    match &arguments.archive_password_file {
        Some(path) => Ok(Some(Secret::read_file(path)?)),
        None if prompt::is_possible() => {
            environment.pause_progress();
            let what = format!("Password of {}", file.display());
            Ok(Some(prompt::password(&what, false, &environment.context.cancel)?))
        }
        None => Err(Failure::usage(
            format!(
                "{} is encrypted, and there is no terminal to ask for its password",
                file.display()
            ),
            "give it in a file with --archive-password-file",
        )),
    }
}

/// The keys: those that were given, those in the file, or those that a person types.
fn keys(
    arguments: &ImportArguments,
    looked: &Looked,
    environment: &Environment,
) -> Result<Keys, Failure> {
    if let Some(path) = &arguments.keys {
        return Ok(Keys::of_file(path)?);
    }
    if let (true, Some(reason)) = (arguments.without_keys, &arguments.reason) {
        return Ok(Keys::Without(reason.clone()));
    }
    if looked.has_keys || !prompt::is_possible() {
        return Ok(Keys::Archive);
    }
    environment.pause_progress();
    let ask = |name: &String| prompt::password(name, false, &environment.context.cancel);
    let [password, salt] = import::key_variables();
    Ok(Keys::of([&ask(&password)?, &ask(&salt)?])?)
}

/// What a file holds, of what it has.
fn held(counts: &BTreeMap<String, u64>) -> String {
    let kinds = [
        ("databases", "database"),
        ("rows", "row"),
        ("collections", "collection"),
        ("documents", "document"),
        ("files", "file"),
    ];
    let told = kinds.iter().filter_map(|(many, one)| Some(counted(*counts.get(*many)?, one, many)));
    told.collect::<Vec<String>>().join(", ")
}

fn planned(looked: &Looked, imported_before: Option<SnapshotId>) -> String {
    let version = looked.version.as_deref().unwrap_or("of a version that it does not tell");
    let mut text = format!(
        "{}: {} of {} {version}, of {}\n  {}{}\n  {}",
        looked.file,
        Bytes(looked.size_bytes),
        looked.platform,
        local_time(looked.time),
        looked.database.as_ref().map(|name| format!("database {name}: ")).unwrap_or_default(),
        held(&looked.counts),
        if looked.database.is_none() {
            "an export of Belay, with all that its snapshot has"
        } else if looked.has_keys {
            "it holds the instance's encryption keys"
        } else {
            "it holds no encryption keys: they have to be given, with --keys FILE or on the terminal"
        }
    );
    if let Some(before) = imported_before {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  it was imported already: snapshot {}", before.short());
    }
    text
}

fn text(outcome: &ImportOutcome) -> String {
    let keys = match outcome.key_fit {
        KeyFit::Fit => "; its keys fit",
        KeyFit::Unfit => {
            "\nIts keys do NOT decrypt what is encrypted in it: it is kept, and does not count as a good snapshot.\n\
             What to do: if there are other keys, import the file again with them: --keys FILE --again."
        }
        KeyFit::Unproven => "; nothing is encrypted in it",
    };
    format!(
        "{}: snapshot {} of {} sealed from {}: {}, {}, {} new{keys}",
        outcome.instance,
        outcome.id.short(),
        local_time(outcome.time),
        outcome.file,
        held(&outcome.counts),
        Bytes(outcome.size_bytes),
        Bytes(outcome.added_bytes),
    )
}
