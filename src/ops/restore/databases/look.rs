//! Planning a restore of databases: what the snapshot has, what the target is like, and what would be done.

use super::named::{self, Renamed};
use super::{
    DatabasesPlan, IntoOptions, PreparedDatabases, PresentDatabases, ReplacedDatabase, Source,
    part, passwords,
};
use crate::component::postgres::restore::{
    ArchiveFacts, PlannedDatabase, Wanted, has_rights_of, look,
};
use crate::component::postgres::{
    Connection, DatabaseDetails, DatabaseFacts, PostgresDetails, PostgresError, identifier,
};
use crate::config::{Config, Instance};
use crate::model::manifest::{KeyFit, Manifest};
use crate::ops::instance::{Databases, Living};
use crate::ops::restore::begin;
use crate::ops::restore::into::ensure_same_instance;
use crate::ops::restore::stored::{component, read_small};
use crate::ops::restore::variables::{SnapshotVariables, Words, merged, tell_others};
use crate::ops::select::SnapshotRef;
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use std::collections::BTreeSet;

/// Plan a restore in place of `instance`. Nothing is changed by that.
pub fn prepare<'a>(
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    snapshot: &SnapshotRef,
    options: &'a IntoOptions,
    context: &Context,
) -> Result<PreparedDatabases<'a>, OpsError> {
    let busy = begin(config, session, instance, options, context)?;
    let source = Source::open(session, snapshot, context)?;
    let as_clone = ensure_same_instance(session, instance, &source, options)?;
    let (manifest, mut details) = details_of(&source)?;
    let living = Living::look(config, instance, context)?;
    let databases = living.databases(&session.secrets)?;
    let job = context.job_id()?;
    let failed = |source| OpsError::Postgres { instance: instance.name.to_string(), source };
    let mut words = Words::default();
    let notes = &mut words.notes;
    let variables = SnapshotVariables::read(&source, manifest)?;
    let snapshot = (&details, &variables);
    let passwords = passwords::of_snapshot(&source, snapshot, &living.recipe, notes, context)?;
    let renamed = named::give_names(&mut details.databases, &databases, as_clone, notes)?;
    let chosen = part::choose(&options.wanted, manifest, details.databases)?;
    notes.extend(chosen.notes);
    let details = chosen.databases;
    let maintenance = maintenance(&details);
    let connection = open(&databases, maintenance, &format!("belay {job}")).map_err(failed)?;
    let globals = read_small(&source, "/postgres/globals.sql")?;
    let facts =
        details.iter().map(|details| facts_of(&source, details)).collect::<Result<Vec<_>, _>>()?;
    let archives: Vec<ArchiveFacts> =
        details.iter().map(|details| details.archive.clone()).collect();
    let wanted = Wanted {
        databases: &facts,
        archives: &archives,
        globals: &String::from_utf8_lossy(&globals),
        passwords: &passwords,
        kept_roles: &kept_roles(&living, &databases),
    };
    let (restore_plan, roles) =
        look(&connection, maintenance, &wanted, &job.to_string()).map_err(failed)?;
    notes.extend(restore_plan.notes.iter().cloned());
    if manifest.key_fit == KeyFit::Unfit {
        notes.push("the keys in this snapshot do not decrypt what is encrypted in it".into());
    }
    let environment = if chosen.environment {
        merged(&living, &variables, as_clone, &mut words)?
    } else {
        tell_others(&living, &variables, &mut words);
        None
    };
    if !details.is_empty() {
        tell_rights((&living, &variables), &connection, maintenance, &mut words).map_err(failed)?;
    }
    let keys = &living.recipe.environment.keys;
    let changed = environment.iter().flat_map(|(_, merged)| merged.changed().cloned());
    let (changed, added): (Vec<String>, Vec<String>) =
        changed.partition(|name| keys.contains(name));
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
    let changes_beside = environment.is_some() || !restore_plan.changes_roles.is_empty();
    let plan = DatabasesPlan {
        snapshot: source.snapshot.id,
        time: source.snapshot.file.time,
        instance: instance.name.to_string(),
        as_clone,
        is_whole: chosen.is_whole,
        server: connection.told(),
        databases: restore_plan
            .databases
            .iter()
            .zip(&details)
            .map(|(planned, details)| replaced(planned, details, &renamed))
            .collect(),
        creates_roles: restore_plan.creates_roles.clone(),
        changes_roles: restore_plan.changes_roles.iter().map(|role| role.name.clone()).collect(),
        environment: changed,
        environment_added: added,
        notes: words.notes,
        warnings: words.warnings,
        present_state: present_state(options, any_exists, changes_beside),
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

/// Those with which the platform and Belay connect.
fn kept_roles(living: &Living<'_>, databases: &Databases) -> Vec<String> {
    let users = living.recipe.databases.iter().filter_map(|recipe| living.database(recipe).user);
    users.chain(databases.target.user.clone()).collect()
}

fn present_state(options: &IntoOptions, exists: bool, changes_beside: bool) -> PresentDatabases {
    match (&options.discard_current, exists) {
        (_, false) if changes_beside => PresentDatabases::KeptBeside,
        (_, false) => PresentDatabases::Nothing,
        (Some(_), true) => PresentDatabases::SetAside,
        (None, true) => PresentDatabases::Snapshot,
    }
}

/// Tell where the platform connects as somebody else than it did, who has no rights in what comes back.
fn tell_rights(
    (living, variables): (&Living<'_>, &SnapshotVariables),
    connection: &Connection,
    maintenance: &str,
    words: &mut Words,
) -> Result<(), PostgresError> {
    let users = living.recipe.databases.iter().map(|database| &database.user);
    let then_and_now: BTreeSet<(&str, &str)> = users
        .filter_map(|variable| Some((variables.get(variable)?, living.variable(variable)?)))
        .filter(|(then, now)| then != now)
        .collect();
    for (owner, user) in then_and_now {
        if !has_rights_of(connection, maintenance, user, owner)? {
            words.warnings.push(format!(
                "what comes back belongs to the role {owner}, and {user}, as which the platform connects here, has no rights in it: GRANT {} TO {}, or make it the owner",
                identifier(owner),
                identifier(user)
            ));
        }
    }
    Ok(())
}

fn replaced(
    planned: &PlannedDatabase,
    details: &DatabaseDetails,
    renamed: &Renamed,
) -> ReplacedDatabase {
    ReplacedDatabase {
        name: planned.facts.name.clone(),
        from: renamed.get(&planned.facts.name).cloned(),
        rows: details.rows.values().flat_map(|tables| tables.values()).sum(),
        exists: planned.old.is_some(),
    }
}

/// What the snapshot has of a database, the values of its settings included.
fn facts_of(source: &Source, details: &DatabaseDetails) -> Result<DatabaseFacts, OpsError> {
    let mut facts = details.facts.clone();
    let path = details.settings();
    facts.take_settings(&read_small(source, &path)?).map_err(|error| OpsError::WrongFile {
        object: path,
        reason: format!("it has no settings (line {})", error.line()),
    })?;
    Ok(facts)
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

/// Reach the server where the databases are, through one that is not itself put back.
pub(super) fn open(
    databases: &Databases,
    maintenance: &str,
    application: &str,
) -> Result<Connection, PostgresError> {
    let (access, target) = (databases.access.clone(), databases.target.clone());
    Connection::open(access, target, maintenance, application)
}

/// A database that is not itself put back; a template is in no snapshot.
fn maintenance(details: &[DatabaseDetails]) -> &'static str {
    let is_put_back = details.iter().any(|details| details.facts.name == "postgres");
    if is_put_back { "template1" } else { "postgres" }
}
