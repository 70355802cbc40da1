//! Planning a restore of databases: what the snapshot has, what the target is like, and what would be done.

use super::{
    DatabasesPlan, IntoOptions, PreparedDatabases, PresentState, ReplacedDatabase, Source, part,
    passwords,
};
use crate::component::environment::{EnvironmentFile, Merged, merge};
use crate::component::postgres::restore::{ArchiveFacts, PlannedDatabase, Wanted, look};
use crate::component::postgres::{
    Connection, DatabaseDetails, DatabaseFacts, PostgresDetails, PostgresError,
};
use crate::config::{Config, Instance};
use crate::model::manifest::{ComponentManifest, KeyFit, Manifest};
use crate::ops::instance::{Databases, Living};
use crate::ops::restore::into::ensure_same_instance;
use crate::ops::restore::items::find_nodes;
use crate::ops::select::SnapshotRef;
use crate::ops::session::{InstanceLock, Session};
use crate::ops::{Context, OpsError, job};
use crate::repository::reader::ContentStream;
use std::io::Read as _;

/// Where a server is asked what concerns all of it.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// A list of roles, or an environment file, has fewer bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// The content of a file of the snapshot, by its path there.
pub(in crate::ops::restore) fn content<'a>(
    source: &'a Source,
    path: &str,
) -> Result<ContentStream<'a>, OpsError> {
    let parts: Vec<&[u8]> =
        path.split('/').filter(|part| !part.is_empty()).map(str::as_bytes).collect();
    let node = find_nodes(source, &parts)?.and_then(|mut nodes| nodes.pop());
    let node = node.ok_or_else(|| OpsError::WrongFile {
        object: format!("snapshot {}", source.snapshot.id.short()),
        reason: format!("its manifest names {path}, which is not in it"),
    })?;
    Ok(source.reader.stream(&node))
}

pub(super) fn read_small(
    source: &Source,
    path: &str,
) -> Result<zeroize::Zeroizing<Vec<u8>>, OpsError> {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let unreadable = |error: std::io::Error| OpsError::WrongFile {
        object: path.to_owned(),
        reason: error.to_string(),
    };
    content(source, path)?.take(MOST_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

pub(super) fn component<'a>(manifest: &'a Manifest, kind: &str) -> Option<&'a ComponentManifest> {
    manifest.components.iter().find(|component| component.kind == kind)
}

/// Plan a restore in place of `instance`. Nothing is changed by that.
pub fn prepare<'a>(
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    snapshot: &SnapshotRef,
    options: &'a IntoOptions,
    context: &Context,
) -> Result<PreparedDatabases<'a>, OpsError> {
    let busy = InstanceLock::acquire(&config.state_dir, &instance.name)?;
    if options.dry_run {
        for problem in super::interrupted(&config.state_dir) {
            context.events.warn(problem);
        }
    } else {
        super::finish_interrupted(config, session, instance, context)?;
    }
    let source = Source::open(session, snapshot, context)?;
    let as_clone = ensure_same_instance(session, instance, &source, options)?;
    let (manifest, details) = details_of(&source)?;
    let living = Living::look(config, instance, context)?;
    let databases = living.databases(&session.secrets)?;
    let job = job::random_job_id()?;
    let failed = |source| OpsError::Postgres { instance: instance.name.to_string(), source };
    let (connection, maintenance) = open(&databases, &format!("belay {job}")).map_err(failed)?;
    let mut notes = Vec::new();
    let snapshot = (manifest, &details);
    let passwords = passwords::of_snapshot(&source, snapshot, &living.recipe, &mut notes, context)?;
    let named = named(details.databases, &databases.names)?;
    let chosen = part::choose(&options.wanted, manifest, named)?;
    notes.extend(chosen.notes);
    let details = chosen.databases;
    let globals = read_small(&source, "/postgres/globals.sql")?;
    let facts: Vec<DatabaseFacts> = details.iter().map(|details| details.facts.clone()).collect();
    let archives: Vec<ArchiveFacts> =
        details.iter().map(|details| details.archive.clone()).collect();
    let users = living.recipe.databases.iter().filter_map(|recipe| living.database(recipe).user);
    let kept_roles: Vec<String> = users.chain(databases.target.user.clone()).collect();
    let wanted = Wanted {
        databases: &facts,
        archives: &archives,
        globals: &String::from_utf8_lossy(&globals),
        passwords: &passwords,
        kept_roles: &kept_roles,
    };
    let (restore_plan, roles) =
        look(&connection, maintenance, &wanted, &job.to_string()).map_err(failed)?;
    notes.extend(restore_plan.notes.iter().cloned());
    if manifest.key_fit == KeyFit::Unfit {
        notes.push("the keys in this snapshot do not decrypt what is encrypted in it".into());
    }
    let mut environment = None;
    if chosen.environment {
        environment = merged(&living, &source, manifest, &mut notes)?;
    } else if let Ok(Some((path, merged))) = merged(&living, &source, manifest, &mut Vec::new()) {
        let changed: Vec<&str> = merged.changed().map(String::as_str).collect();
        notes.push(format!(
            "{path} stays as it is, with other values than the snapshot of {}: what is encrypted may not be readable",
            changed.join(", ")
        ));
    }
    if details.is_empty() && environment.is_none() {
        return Err(OpsError::refused(
            "there is nothing to be done: the keys are those of the snapshot, or there is no file to put them into",
            "`--component postgres` restores the databases",
        ));
    }
    if !restore_plan.obstacles.is_empty() {
        let obstacles = restore_plan.obstacles;
        return Err(failed(PostgresError::InTheWay { obstacles }));
    }
    let any_exists =
        details.is_empty() || restore_plan.databases.iter().any(|database| database.old.is_some());
    let plan = DatabasesPlan {
        snapshot: source.snapshot.id,
        time: source.snapshot.file.time,
        instance: instance.name.to_string(),
        as_clone,
        is_whole: chosen.is_whole,
        server: connection.told(),
        databases: restore_plan.databases.iter().zip(&details).map(replaced).collect(),
        creates_roles: restore_plan.creates_roles.clone(),
        changes_roles: restore_plan.changes_roles.iter().map(|role| role.name.clone()).collect(),
        environment: environment.iter().flat_map(|(_, merged)| merged.changed().cloned()).collect(),
        notes,
        present_state: match (&options.discard_current, any_exists) {
            (_, false) => PresentState::Nothing,
            (Some(_), true) => PresentState::SetAside,
            (None, true) => PresentState::Snapshot,
        },
    };
    Ok(PreparedDatabases {
        config,
        session,
        instance,
        options,
        job,
        source,
        connection,
        maintenance: maintenance.to_owned(),
        details,
        restore_plan,
        roles,
        environment,
        _busy: busy,
        plan,
    })
}

fn replaced((planned, details): (&PlannedDatabase, &DatabaseDetails)) -> ReplacedDatabase {
    ReplacedDatabase {
        name: planned.facts.name.clone(),
        rows: details.rows.values().flat_map(|tables| tables.values()).sum(),
        exists: planned.old.is_some(),
    }
}

/// What the manifest says of the databases.
fn details_of(source: &Source) -> Result<(&Manifest, PostgresDetails), OpsError> {
    let short = source.snapshot.id.short();
    let to_dir =
        "restore it into a directory with --to-dir, and follow the runbook in docs/OPERATIONS.md";
    let Some(manifest) = &source.manifest else {
        let message = format!("snapshot {short} has no manifest that says what belongs where");
        return Err(OpsError::refused(message, to_dir));
    };
    let Some(postgres) = component(manifest, "postgres") else {
        return Err(OpsError::refused(format!("snapshot {short} has no databases"), to_dir));
    };
    let details =
        serde_json::from_value(postgres.details.clone()).map_err(|error| OpsError::WrongFile {
            object: format!("the manifest of snapshot {short}"),
            reason: error.to_string(),
        })?;
    Ok((manifest, details))
}

/// A connection to a database that is not itself put back.
pub(super) fn open(
    databases: &Databases,
    application: &str,
) -> Result<(Connection, &'static str), PostgresError> {
    let mut free =
        MAINTENANCE.into_iter().filter(|name| !databases.names.iter().any(|other| other == name));
    let maintenance = free.next().unwrap_or("template1");
    let (access, target) = (databases.access.clone(), databases.target.clone());
    Connection::open(access, target, maintenance, application)
        .map(|connection| (connection, maintenance))
}

/// The databases of the snapshot under the names that the target's environment has for them.
fn named(
    mut details: Vec<DatabaseDetails>,
    names: &[String],
) -> Result<Vec<DatabaseDetails>, OpsError> {
    // What was saved before a restore of one of them has no others.
    let is_there = |details: &DatabaseDetails| names.contains(&details.facts.name);
    if names.is_empty() || details.iter().all(is_there) {
        return Ok(details);
    }
    if names.len() != details.len() {
        return Err(OpsError::refused(
            format!(
                "the snapshot has {} databases, and the target names {}",
                details.len(),
                names.len()
            ),
            "name as many in the target's configuration, in the same order",
        ));
    }
    for (details, name) in details.iter_mut().zip(names) {
        details.facts.name.clone_from(name);
    }
    Ok(details)
}

/// The target's environment file with the keys of the snapshot; none where nothing changes.
fn merged(
    living: &Living<'_>,
    source: &Source,
    manifest: &Manifest,
    notes: &mut Vec<String>,
) -> Result<Option<(String, Merged)>, OpsError> {
    let recipe = &living.recipe.environment;
    let Some(path) = component(manifest, "environment").and_then(|part| part.files.first()) else {
        if !recipe.keys.is_empty() {
            notes.push("the snapshot has no environment file: set the keys by hand, from /deployment/environment".into());
        }
        return Ok(None);
    };
    let snapshot = read_small(source, &path.path)?;
    let (Some(target), Some(place)) = (&living.file, &living.instance.environment) else {
        notes.push(format!(
            "set in the environment by hand, from {} of the snapshot: {}",
            path.path,
            recipe.keys.join(", ")
        ));
        return Ok(None);
    };
    let parsed = |bytes: &[u8]| {
        EnvironmentFile::parse(bytes)
            .map_err(|error| OpsError::refused(error.to_string(), "look at the environment file"))
    };
    let (keys, stay): (Vec<&str>, Vec<&str>) = (
        recipe.keys.iter().map(String::as_str).collect(),
        recipe.connection.iter().map(String::as_str).collect(),
    );
    let merged = merge(&parsed(target)?, &parsed(&snapshot)?, &keys, &stay)
        .map_err(|error| OpsError::refused(error.to_string(), error.hint()))?;
    let changes = merged.changed().next().is_some();
    Ok(changes.then(|| (place.display().to_string(), merged)))
}
