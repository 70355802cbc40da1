//! The newest snapshot of an instance, as its repository has it now: what may depend on it, and what it lacks.
//!
//! What always holds: the repository is asked, not the catalog; what would be of no use in a disaster is told, and nothing that could not
//! be read counts as good.

use super::select::{self, TAG_BEFORE_RESTORE};
use super::session::Session;
use super::show::read_manifest;
use super::{Context, OpsError, adopt};
use crate::component::mongodb::MongodbDetails;
use crate::config::Instance;
use crate::model::id::{InstanceId, SnapshotId};
use crate::model::manifest::{KeyFit, Manifest, Writers};
use crate::repository::Snapshot;
use crate::repository::reader::Reader;
use jiff::Timestamp;

/// So many of the newest snapshots tell how much one adds to the repository.
const TELLING: usize = 20;

/// The newest snapshot of an instance, whatever it is worth. Those that a restore took of what it was about to overwrite are passed
/// over: they may be of a part only.
#[derive(Clone, Debug)]
pub struct Newest {
    /// Its id.
    pub id: SnapshotId,
    /// When its run began: nothing later is certain to be in it.
    pub time: Timestamp,
    /// What it says of itself; none where that cannot be read.
    pub manifest: Option<Manifest>,
    /// Why it does not come back wholly, as a clause; none where the repository has all that it refers to.
    pub lost: Option<String>,
    /// The most bytes that one of the instance's last snapshots has added to the repository.
    pub most_added_bytes: u64,
}

impl Newest {
    /// Whether it kept promise 1.
    pub fn is_sealed(&self) -> bool {
        self.manifest.as_ref().is_some_and(|manifest| manifest.sealed)
    }

    /// Whether its keys decrypt what is in it; none where nothing says so.
    pub fn key_fit(&self) -> Option<KeyFit> {
        self.manifest.as_ref().map(|manifest| manifest.key_fit)
    }

    /// Why not all of it is of one moment, as a clause; none where it is.
    pub fn not_one_moment(&self) -> Option<String> {
        self.manifest.as_ref().map_or_else(
            || Some("what it says of itself cannot be read".to_owned()),
            not_one_moment,
        )
    }
}

/// Why not all of a snapshot is of one moment.
fn not_one_moment(manifest: &Manifest) -> Option<String> {
    match manifest.writers {
        // Whatever was read one after the other, nothing changed meanwhile.
        Some(Writers::Stopped) => return None,
        Some(Writers::StartedEarly) => {
            return Some("what writes was started again before all was read".to_owned());
        }
        None => {}
    }
    let of_mongodb = manifest.components.iter().find(|component| component.kind == "mongodb")?;
    match serde_json::from_value::<MongodbDetails>(of_mongodb.details.clone()) {
        Ok(details) => details.not_one_moment,
        Err(_) => Some("its MongoDB database does not say of which moment it is".to_owned()),
    }
}

/// The id that an instance has on this host; none where it was never backed up. An error where snapshots of its name may be another's.
pub fn identity(session: &Session, instance: &Instance) -> Result<Option<InstanceId>, OpsError> {
    adopt::own_id(session.require_catalog()?, instance)
}

/// The snapshots that restores of `restored` took of what they were about to overwrite in an instance, oldest first, each with the time when
/// its run began.
pub fn saved_by_restores(
    session: &Session,
    instance: &Instance,
    restored: SnapshotId,
) -> Result<Vec<(SnapshotId, Timestamp)>, OpsError> {
    let restored = restored.to_string();
    let own = |snapshot: &Snapshot| {
        snapshot.file.hostname == instance.name.as_str()
            && snapshot.file.tag(TAG_BEFORE_RESTORE) == Some(restored.as_str())
    };
    let snapshots = session.repository.snapshots()?.readable;
    let saved = snapshots.into_iter().filter(own);
    let mut saved: Vec<(SnapshotId, Timestamp)> =
        saved.map(|snapshot| (snapshot.id, snapshot.file.time)).collect();
    saved.sort_by_key(|(id, time)| (*time, *id));
    Ok(saved)
}

/// The newest snapshot of each instance; none of one that has no snapshot. Each is walked through: its trees are read, and of all else it is
/// seen that it is there.
pub fn newest(
    session: &Session,
    instances: &[&Instance],
    context: &Context,
) -> Result<Vec<Result<Option<Newest>, OpsError>>, OpsError> {
    let _lock = session.lock_for_reading("look for the newest snapshots", context)?;
    // In this order: whatever a snapshot that was seen needs was listed and stored before.
    let snapshots = session.repository.snapshots()?;
    let reader = Reader::of_what_is_there(&session.repository)?;
    let of = |instance: &&Instance| {
        let Some(id) = identity(session, instance)? else {
            return match of_another(&snapshots.readable, instance) {
                Some(other) => Err(unadopted(instance, other)),
                None => Ok(None),
            };
        };
        of_id(&reader, &snapshots.readable, id, context)
    };
    Ok(instances.iter().map(of).collect())
}

/// The id of an instance that has snapshots under the name, as another host made them.
fn of_another(snapshots: &[Snapshot], instance: &Instance) -> Option<InstanceId> {
    let named = snapshots.iter().filter(|it| it.file.hostname == instance.name.as_str());
    named.filter_map(|it| select::instance_of(&it.file)).next_back()
}

fn unadopted(instance: &Instance, other: InstanceId) -> OpsError {
    let name = &instance.name;
    OpsError::refused(
        format!(
            "the repository has snapshots of an instance called '{name}', and this host has never backed it up"
        ),
        format!(
            "if this is the same instance: `belay adopt {name} --id {other}`; if it is another one: `belay adopt {name} --new`"
        ),
    )
}

fn of_id(
    reader: &Reader,
    snapshots: &[Snapshot],
    id: InstanceId,
    context: &Context,
) -> Result<Option<Newest>, OpsError> {
    let own = || snapshots.iter().rev().filter(|it| select::instance_of(&it.file) == Some(id));
    let Some(snapshot) = own().find(|it| it.file.tag(TAG_BEFORE_RESTORE).is_none()) else {
        return Ok(None);
    };
    let manifest = match read_manifest(reader, snapshot) {
        Ok(manifest) => Ok(manifest),
        Err(error) if error.is_damage() => Err(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let (manifest, lost) = match manifest {
        Ok(manifest) => (manifest, reader.first_lost(snapshot.file.tree, &context.cancel)?),
        Err(lost) => (None, Some(lost)),
    };
    let mut most_added_bytes = 0;
    for snapshot in own().take(TELLING) {
        context.cancel.check()?;
        // One that cannot be read says nothing of how much it added.
        if let Ok(Some(manifest)) = read_manifest(reader, snapshot) {
            most_added_bytes = manifest.added_bytes.max(most_added_bytes);
        }
    }
    let Snapshot { id, file } = snapshot;
    Ok(Some(Newest { id: *id, time: file.time, manifest, lost, most_added_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::JobId;
    use crate::model::manifest::{ComponentManifest, InstanceRef};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn manifest(writers: Option<Writers>, mongodb: Option<Value>) -> Manifest {
        let time = Timestamp::UNIX_EPOCH;
        let component = |details| ComponentManifest {
            name: "mongodb".into(),
            kind: "mongodb".into(),
            path: "/mongodb".into(),
            source: "here".into(),
            started: time,
            finished: time,
            size_bytes: 1,
            counts: BTreeMap::new(),
            files: Vec::new(),
            checksums: None,
            details,
        };
        Manifest {
            schema: 1,
            program: "belay".into(),
            instance: InstanceRef {
                id: InstanceId([1; 16]),
                name: "production".parse().unwrap(),
                host: "h".into(),
                host_id: "h".into(),
            },
            job: JobId([1; 8]),
            platform: "appsmith".into(),
            version: None,
            edition: None,
            started: time,
            finished: time,
            sealed: true,
            key_fit: KeyFit::Fit,
            writers,
            components: mongodb.map(component).into_iter().collect(),
            size_bytes: 1,
            read_bytes: None,
            added_bytes: 1,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_is_of_one_moment_where_its_database_is_or_nobody_wrote() {
        let details = |why: Option<&str>| {
            json!({ "server_version": "6.0.5", "database": "appsmith", "moment": null,
                "not_one_moment": why, "apart": [], "collections": [] })
        };
        let (one, many) = (details(None), details(Some("it is a standalone server")));
        for (writers, mongodb, is_of_one_moment) in [
            (None, None, true),
            (None, Some(&one), true),
            (None, Some(&many), false),
            (None, Some(&Value::Null), false),
            (Some(Writers::Stopped), Some(&many), true),
            (Some(Writers::StartedEarly), Some(&one), false),
            (Some(Writers::StartedEarly), None, false),
        ] {
            let found = not_one_moment(&manifest(writers, mongodb.cloned()));
            assert_eq!(found.is_none(), is_of_one_moment, "{writers:?}, {mongodb:?}: {found:?}");
        }
    }

    #[test]
    fn one_that_cannot_be_read_counts_as_nothing_good() {
        let newest = Newest {
            id: SnapshotId([1; 32]),
            time: Timestamp::UNIX_EPOCH,
            manifest: None,
            lost: Some("a blob is missing".into()),
            most_added_bytes: 0,
        };
        assert!(!newest.is_sealed() && newest.key_fit().is_none());
        assert!(newest.not_one_moment().is_some());
    }
}
