//! Planning a restore of an instance's parts: what the snapshot has, what the target is like, and what would be done.

use super::beside::{Directory, Making, Redis};
use super::collections::{Collections, details_of};
use super::{PartsPlan, PreparedParts, RedisPlan, failed, room};
use crate::access::Command;
use crate::component::mongodb::tools::Filler;
use crate::component::mongodb::wire::Server;
use crate::component::mongodb::{MongoError, MongodbDetails};
use crate::component::redis::RedisDetails;
use crate::config::{Config, Instance};
use crate::model::manifest::{ComponentManifest, KeyFit, Manifest};
use crate::ops::instance::{Living, MongoDatabase};
use crate::ops::restore::into::{IntoOptions, PresentState, ensure_same_instance};
use crate::ops::restore::stored::component;
use crate::ops::restore::variables::{SnapshotVariables, Words, merged, tell_others};
use crate::ops::restore::{Source, Wanted, begin};
use crate::ops::select::SnapshotRef;
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use crate::platform::recipe::ComponentKind;

/// Plan a restore in place of `instance`. Nothing is changed by that.
pub fn prepare<'a>(
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    snapshot: &SnapshotRef,
    options: &'a IntoOptions,
    context: &Context,
) -> Result<PreparedParts<'a>, OpsError> {
    let busy = begin(config, session, instance, options, context)?;
    let source = Source::open(session, snapshot, context)?;
    let as_clone = ensure_same_instance(session, instance, &source, options)?;
    let manifest = manifest_of(&source)?;
    let chosen = Chosen::of(&options.wanted, manifest)?;
    let living = Living::look(config, instance, context)?;
    let job = context.job_id()?;
    let mut words = Words::default();
    if manifest.key_fit == KeyFit::Unfit {
        words.notes.push("the keys in this snapshot do not decrypt what is encrypted in it".into());
    }
    let (mut collections, mut database) = (None, None);
    if let Some(part) = component(manifest, "mongodb").filter(|part| chosen.has(&part.name)) {
        let details = details_of(&source, part)?;
        let place = living.mongodb(&session.secrets)?;
        let filler = place.filled_by(&details.server_version);
        let place = open((instance, &place), filler.as_ref(), &details, &mut words, context)?;
        let place = (place, filler);
        let (looked, told) =
            Collections::look(&source, details, place, &job.to_string(), failed(instance))?;
        (collections, database) = (Some(looked), Some(told));
    } else if chosen.is_whole() && living.recipe.has(ComponentKind::Mongodb) {
        return Err(OpsError::refused(
            format!("snapshot {} has no MongoDB database", source.snapshot.id.short()),
            "restore it into a directory with --to-dir, and see what it has",
        ));
    }
    let variables = SnapshotVariables::read(&source, manifest)?;
    let environment = if chosen.has("environment") {
        merged(&living, &variables, as_clone, &mut words)?
    } else {
        tell_others(&living, &variables, &mut words);
        None
    };
    let (redis_plan, redis) = redis(&living, manifest, &chosen, &mut words)?.unzip();
    let directories = directories(&living, manifest, &chosen, &mut words)?;
    // An upgrade, which stops what writes itself, brings them back, too.
    let is_left = chosen.is_whole() && !options.writers_are_stopped;
    if is_left && component(manifest, "postgres").is_some() {
        words.warnings.push(format!(
            "PostgreSQL's databases come back by a command of their own: belay restore {} --into {} --component postgres",
            source.snapshot.id.short(),
            instance.name
        ));
    }
    ensure_room(instance, &living, manifest, (collections.as_ref(), &directories))?;
    let making = Making::new(job.to_string(), &living, environment, (directories, redis));
    if collections.is_none() && making.beside.is_empty() {
        return Err(OpsError::refused(
            "there is nothing to be done: what was asked for is there already, or there is no place for it",
            "leave out --component to restore all",
        ));
    }
    let keys = &living.recipe.environment.keys;
    let (environment, environment_added): (Vec<String>, Vec<String>) =
        making.changed().cloned().partition(|name| keys.contains(name));
    let replaces_nothing =
        collections.as_ref().is_none_or(Collections::replaces_nothing) && making.beside.is_empty();
    let plan = PartsPlan {
        snapshot: source.snapshot.id,
        time: source.snapshot.file.time,
        instance: instance.name.to_string(),
        as_clone,
        is_whole: chosen.is_whole(),
        database,
        environment,
        environment_added,
        directories: making
            .directories()
            .iter()
            .map(|directory| (directory.name.clone(), directory.path.clone()))
            .collect(),
        redis: redis_plan,
        // Elsewhere there is no supervisor to be told.
        stops_writers: living.has_writers_that_run(),
        is_down: living.container.as_ref().is_some_and(|container| !container.is_running),
        notes: words.notes,
        warnings: words.warnings,
        present_state: if replaces_nothing {
            PresentState::Nothing
        } else if options.sets_aside || options.discard_current.is_some() {
            PresentState::SetAside
        } else {
            PresentState::Snapshot
        },
    };
    Ok(PreparedParts {
        config,
        session,
        instance,
        options,
        job,
        source,
        living,
        collections,
        making,
        _busy: busy,
        plan,
    })
}

/// An error where what comes back does not fit beside what is there.
fn ensure_room(
    instance: &Instance,
    living: &Living<'_>,
    manifest: &Manifest,
    (collections, directories): (Option<&Collections>, &[Directory]),
) -> Result<(), OpsError> {
    let documents = match collections {
        Some(collections) => {
            let room = collections.server.room(&collections.plan.database);
            let bytes = component(manifest, "mongodb").map_or(0, |part| part.size_bytes);
            room.map_err(failed(instance))?.map(|room| (bytes, room))
        }
        None => None,
    };
    let sizes: Vec<(&str, u64)> = directories
        .iter()
        .map(|directory| {
            let part = manifest.components.iter().find(|part| part.name == directory.name);
            (directory.path.as_str(), part.map_or(0, |part| part.size_bytes))
        })
        .collect();
    room::ensure(documents, &sizes, &living.access)
}

/// Reach the server that the database goes to, and what fills it; its name there.
fn open(
    (instance, place): (&Instance, &MongoDatabase),
    filler: Option<&Filler>,
    details: &MongodbDetails,
    words: &mut Words,
    context: &Context,
) -> Result<(Server, String), OpsError> {
    let server = place.open(context).map_err(|error| match error {
        OpsError::Mongodb { instance, source } if filler.is_some() => {
            let source = MongoError::NoWire(Box::new(source));
            OpsError::Mongodb { instance, source }
        }
        other => other,
    })?;
    let database = place.name(&server)?;
    if let Some(filler) = filler {
        let version = filler.tools.restore_version().map_err(failed(instance))?;
        words.notes.push(format!("mongorestore {version} fills the new collections"));
    }
    if let Some(reason) = &details.not_one_moment {
        words.notes.push(format!("the snapshot is not of one moment: {reason}"));
    }
    if details.database != database {
        words.notes.push(format!("the database of the snapshot is called {}", details.database));
    }
    Ok((server, database))
}

/// The Redis server of the instance: what it has belongs to the database. One that does not answer keeps nobody from restoring the
/// rest.
fn redis(
    living: &Living<'_>,
    manifest: &Manifest,
    chosen: &Chosen<'_>,
    words: &mut Words,
) -> Result<Option<(RedisPlan, Redis)>, OpsError> {
    let Some(recipe) = &living.recipe.redis else { return Ok(None) };
    if !chosen.has("redis") {
        if chosen.has("mongodb") {
            words.notes.push(
                "Redis stays as it is: what it holds may not fit; --component redis flushes it"
                    .into(),
            );
        }
        return Ok(None);
    }
    let server = match living.redis(recipe) {
        Ok(None) => return Ok(None),
        Ok(Some(server)) => server,
        Err(error) if chosen.is_whole() && !error.is_cancelled() => {
            words.warnings.push(format!(
                "Redis stays as it is, for it does not answer ({error}): what it holds may not fit; --component redis flushes it"
            ));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let lasting = |part: &&ComponentManifest| {
        let details = serde_json::from_value::<RedisDetails>(part.details.clone());
        details.is_err() || details.is_ok_and(|details| details.lasting > 0)
    };
    let part = component(manifest, "redis").filter(lasting);
    let file = part.and_then(|part| part.files.first()).map(|file| file.path.clone());
    let plan = RedisPlan { server: server.told(), scope: server.scope(), loads: file.is_some() };
    Ok(Some((plan, Redis { file })))
}

/// The directories of the snapshot that come back, and where they go.
fn directories(
    living: &Living<'_>,
    manifest: &Manifest,
    chosen: &Chosen<'_>,
    words: &mut Words,
) -> Result<Vec<Directory>, OpsError> {
    let mut directories = Vec::new();
    let parts = manifest.components.iter().filter(|part| part.kind == "files");
    for part in parts.filter(|part| chosen.has(&part.name)) {
        let recipe = living.recipe.files.iter().find(|recipe| recipe.name == part.name);
        let Some(recipe) = recipe else {
            words.warnings.push(format!(
                "{} has no place in {}, and stays in the snapshot: --to-dir restores it",
                part.path, living.instance.name
            ));
            continue;
        };
        let path = living.directory(recipe)?.to_owned();
        directories.push(Directory { name: part.name.clone(), path });
    }
    for recipe in living.recipe.files.iter().filter(|_| chosen.is_whole()) {
        let path = living.directory(recipe)?;
        let test = Command::new("test").arguments(["-d", path]);
        let is_there = || living.access.run(&test, &[], 0).is_ok();
        if manifest.components.iter().all(|part| part.name != recipe.name) && is_there() {
            words.warnings.push(format!(
                "the snapshot has no {}: what is in {path} stays, and may not fit",
                recipe.name
            ));
        }
    }
    Ok(directories)
}

/// Which components come back.
struct Chosen<'a> {
    /// None is all.
    names: &'a [String],
}

impl<'a> Chosen<'a> {
    fn of(wanted: &'a Wanted, manifest: &Manifest) -> Result<Self, OpsError> {
        let names = wanted.components.as_slice();
        let kinds = ["mongodb", "environment", "files", "redis"];
        let parts = manifest.components.iter().filter(|part| kinds.contains(&part.kind.as_str()));
        let parts: Vec<&str> = parts.map(|part| part.name.as_str()).collect();
        let unknown = names.iter().find(|name| !parts.contains(&name.as_str()));
        if unknown.is_some() || !wanted.paths.is_empty() {
            return Err(OpsError::usage(
                "only whole parts of an instance come back in place",
                format!(
                    "name them with --component: {}; restore other things with --to-dir",
                    parts.join(", ")
                ),
            ));
        }
        Ok(Self { names })
    }

    fn is_whole(&self) -> bool {
        self.names.is_empty()
    }

    fn has(&self, name: &str) -> bool {
        self.is_whole() || self.names.iter().any(|wanted| wanted == name)
    }
}

fn manifest_of(source: &Source) -> Result<&Manifest, OpsError> {
    source.manifest.as_ref().ok_or_else(|| {
        OpsError::refused(
            format!(
                "snapshot {} has no manifest that says what belongs where",
                source.snapshot.id.short()
            ),
            "restore it into a directory with --to-dir, and see what it has",
        )
    })
}
