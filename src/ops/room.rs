//! The room that something needs which may have to be taken back: a restore in place makes the new state beside the present one, and
//! every snapshot adds to the repository.

use super::instance::Living;
use super::restore::parts::room as parts;
use super::{Context, OpsError};
use crate::component::mongodb::wire::Room as MongoRoom;
use crate::component::postgres::{Connection, Session, size_of};
use crate::config::{self, Config, Instance, Location, Platform, SecretSources};
use crate::model::manifest::Manifest;
use crate::platform::recipe::ComponentKind;

/// Room that is needed in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomNeeded {
    /// What for, such as `a restore beside the present databases`.
    pub what: String,
    /// Where, such as a directory.
    pub place: String,
    /// Bytes that it takes.
    pub needed_bytes: u64,
    /// Bytes that are free; none where that cannot be seen from here.
    pub free_bytes: Option<u64>,
}

/// What a restore in place of an instance would need. `manifest` is of its newest snapshot, which says how large directories are.
pub fn of_instance(
    config: &Config,
    secrets: &SecretSources,
    instance: &Instance,
    manifest: Option<&Manifest>,
    context: &Context,
) -> Result<Vec<RoomNeeded>, OpsError> {
    if matches!(instance.platform, Platform::Files | Platform::Git) {
        return Ok(Vec::new());
    }
    let living = Living::look(config, instance, context)?;
    let mut needed = Vec::new();
    if living.recipe.has(ComponentKind::Postgres) {
        needed.push(of_postgres(&living, secrets)?);
    }
    let sizes = |name: &str| {
        let mut parts = manifest.into_iter().flat_map(|manifest| &manifest.components);
        parts.find(|part| part.name == name).map(|part| part.size_bytes)
    };
    let mut documents = None;
    if living.recipe.has(ComponentKind::Mongodb) {
        match of_mongodb(&living, secrets, context)? {
            Some(room) => documents = Some((room.data, room)),
            None => needed.push(RoomNeeded {
                what: "a restore beside the present collections".into(),
                place: "the disk of the MongoDB server".into(),
                needed_bytes: sizes("mongodb").unwrap_or(0),
                free_bytes: None,
            }),
        }
    }
    let mut directories = Vec::new();
    for recipe in living.recipe.files.iter().filter(|_| living.recipe.has(ComponentKind::Files)) {
        if let Some(bytes) = sizes(&recipe.name) {
            directories.push((living.directory(recipe)?, bytes));
        }
    }
    let needs = parts::needs(documents, &directories, &living.access)?;
    needed.extend(needs.iter().map(|need| RoomNeeded {
        what: format!("a restore of {} beside what is there", need.what),
        place: if need.what.starts_with('/') {
            need.what.clone()
        } else {
            "the disk of the MongoDB server".into()
        },
        needed_bytes: parts::on_disk_of(need, &needs),
        free_bytes: Some(need.disk.free),
    }));
    Ok(needed)
}

fn of_postgres(living: &Living<'_>, secrets: &SecretSources) -> Result<RoomNeeded, OpsError> {
    let databases = living.databases(secrets)?;
    let first = databases.names.first().map_or("postgres", String::as_str);
    let asked = || {
        let (access, target) = (databases.access.clone(), databases.target.clone());
        let connection = Connection::open(access, target, first, "belay looks")?;
        let names = if databases.names.is_empty() {
            &connection.server().databases
        } else {
            &databases.names
        };
        let mut session = Session::open(&connection, first)?;
        let needed_bytes = size_of(&mut session, names)?;
        let disk = connection.disk(&mut session)?;
        session.close()?;
        Ok(RoomNeeded {
            what: "a restore beside the present databases".into(),
            place: disk.as_ref().map_or_else(
                || "the disk of the PostgreSQL server".into(),
                |disk| disk.directory.clone(),
            ),
            needed_bytes,
            free_bytes: disk.map(|disk| disk.free_bytes),
        })
    };
    let instance = living.instance.name.to_string();
    asked().map_err(|source| OpsError::Postgres { instance, source })
}

/// None where the server does not tell, or is read by programs that do not ask.
fn of_mongodb(
    living: &Living<'_>,
    secrets: &SecretSources,
    context: &Context,
) -> Result<Option<MongoRoom>, OpsError> {
    let place = living.mongodb(secrets)?;
    if place.dumped_by()?.is_some() {
        return Ok(None);
    }
    let server = place.open(context)?;
    let room = server.room(&place.name(&server)?);
    let instance = living.instance.name.to_string();
    room.map_err(|source| OpsError::Mongodb { instance, source })
}

/// Bytes that are free where a repository is.
pub fn free_in_repository(repository: &config::Repository) -> Result<u64, OpsError> {
    let Location::Local(path) = &repository.location;
    let filesystem = rustix::fs::statvfs(path).map_err(|error| OpsError::Io {
        action: "look for room in",
        path: path.clone(),
        source: error.into(),
    })?;
    Ok(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
}
