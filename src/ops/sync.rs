//! The catalog follows the repository: what is new there is read, what is gone there is dropped here.

use super::select::{self, TAG_STATE};
use super::session::{Session, warn_of_catalog};
use super::show::read_manifest;
use super::{Context, OpsError, state};
use crate::model::event::Events;
use crate::model::id::{RepositoryId, SnapshotId};
use crate::model::manifest::Manifest;
use crate::model::name::Name;
use crate::model::pin::Pin;
use crate::model::snapshot_record::SnapshotRecord;
use crate::repository::reader::Reader;
use crate::repository::{RepositoryError, Snapshot, Snapshots};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

/// A snapshot as `list` shows it.
#[derive(Debug, Serialize)]
pub struct ListedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The instance's name.
    pub instance: String,
    /// What the configuration calls the repository that it is in; none without a configuration.
    pub repository: Option<Name>,
    /// The rest of what is known.
    #[serde(flatten)]
    pub details: ListedDetails,
}

/// What `list` tells besides id and name.
#[derive(Debug, Serialize)]
pub struct ListedDetails {
    /// The instance for good.
    pub instance_id: Option<crate::model::id::InstanceId>,
    /// The host that Belay ran on.
    pub host: String,
    /// The platform; none for snapshots of other programs.
    pub platform: Option<String>,
    /// When it was taken.
    pub time: jiff::Timestamp,
    /// Whether it kept promise 1.
    pub sealed: bool,
    /// Whether the keys fit.
    pub key_fit: Option<crate::model::manifest::KeyFit>,
    /// Whether something pins it.
    pub pinned: bool,
    /// Why it is pinned.
    pub pins: Vec<String>,
    /// Bytes of content.
    pub size_bytes: u64,
    /// Bytes that were new in the repository.
    pub added_bytes: u64,
    /// restic's tags.
    pub tags: Vec<String>,
}

/// The repository's snapshots and pins, as they are now.
pub struct View {
    /// Newest first.
    pub records: Vec<SnapshotRecord>,
    /// All pins.
    pub pins: Vec<Pin>,
    /// Whether there may be more pins, which cannot be read.
    pub is_missing_pins: bool,
}

/// All snapshots, newest first; the catalog is brought up to date on the way.
pub fn list(session: &mut Session, context: &Context) -> Result<Vec<ListedSnapshot>, OpsError> {
    let view = view_anyway(session, context)?;
    let mut pins: HashMap<SnapshotId, Vec<String>> = HashMap::new();
    for pin in view.pins {
        pins.entry(pin.snapshot).or_default().push(pin.reason);
    }
    let listed = view.records.into_iter().map(|record| {
        let pins = pins.remove(&record.id).unwrap_or_default();
        ListedSnapshot {
            id: record.id,
            instance: record.instance_name,
            repository: session.name.clone(),
            details: ListedDetails {
                instance_id: record.instance,
                host: record.host,
                platform: record.platform,
                time: record.time,
                sealed: record.sealed,
                key_fit: record.key_fit,
                pinned: !pins.is_empty(),
                pins,
                size_bytes: record.size_bytes,
                added_bytes: record.added_bytes,
                tags: record.tags,
            },
        }
    });
    Ok(listed.collect())
}

/// The same as [`view`], also where the catalog cannot be used: that is told, and the repository alone is read.
pub fn view_anyway(session: &mut Session, context: &Context) -> Result<View, OpsError> {
    match view(session, context) {
        Err(OpsError::Catalog(error)) => {
            warn_of_catalog(error, context);
            session.catalog = None;
            view(session, context)
        }
        other => other,
    }
}

/// The same, without waiting for anybody who holds the repository: what the catalog knows has to do then, and that is noted.
pub(super) fn view_now(session: Session, context: &Context) -> Result<(View, Session), OpsError> {
    let mut session = session.without_waiting();
    let view = match view_anyway(&mut session, context) {
        Err(OpsError::Repository(error @ RepositoryError::Locked { .. })) => {
            let repository = RepositoryId(session.repository.id().0);
            let Some(catalog) = &session.catalog else { return Err(error.into()) };
            context.events.note(format!("This is what was known before: {error}."));
            View {
                records: catalog.snapshots(repository)?,
                pins: catalog.pins(repository)?,
                is_missing_pins: false,
            }
        }
        other => other?,
    };
    Ok((view, session))
}

/// Read the repository under a lock of its own.
pub fn view(session: &Session, context: &Context) -> Result<View, OpsError> {
    let _lock = session.lock_for_reading("list", context)?;
    let reader = Reader::new(&session.repository)?;
    view_locked(session, &reader, &session.repository.snapshots()?, &context.events)
}

/// What the repository holds, with the catalog brought up to date; damaged snapshots are told.
pub(super) fn view_locked(
    session: &Session,
    reader: &Reader,
    snapshots: &Snapshots,
    events: &Events,
) -> Result<View, OpsError> {
    for (id, error) in &snapshots.damaged {
        events.warn(format!("Snapshot {} cannot be read: {error}.", id.short()));
    }
    let repository = RepositoryId(session.repository.id().0);
    let state = state::read(reader, snapshots, events)?;
    let known = match &session.catalog {
        Some(catalog) => catalog.snapshot_ids(repository)?,
        None => BTreeSet::new(),
    };
    let mut records = Vec::new();
    for snapshot in shown(snapshots) {
        if known.contains(&snapshot.id) {
            continue;
        }
        let manifest = match read_manifest(reader, snapshot) {
            Ok(manifest) => manifest,
            Err(error) if error.is_damage() => {
                events.warn(format!(
                    "The manifest of snapshot {} cannot be read: {error}.",
                    snapshot.id.short()
                ));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let record = record_of(snapshot, manifest.as_ref());
        match &session.catalog {
            Some(catalog) => catalog.record_snapshot(repository, &record, manifest.as_ref())?,
            None => records.push(record),
        }
    }
    let Some(catalog) = &session.catalog else {
        records.sort_by_key(|record| std::cmp::Reverse((record.time, record.id)));
        return Ok(View { records, pins: state.pins, is_missing_pins: state.is_incomplete });
    };
    let present: BTreeSet<SnapshotId> = shown(snapshots).map(|snapshot| snapshot.id).collect();
    let gone: Vec<SnapshotId> = known.difference(&present).copied().collect();
    catalog.forget_snapshots(repository, &gone)?;
    // What the catalog knows of a state that cannot be read is all that is left of it. One that it has seen, and that is
    // newer than all here, was lost, or is newer than the listing.
    let journals = super::upgrades::understood(&state, |message| events.warn(message));
    for upgrade in catalog.take_in_upgrades(repository, &journals)? {
        events.warn(format!(
            "What this host has recorded of upgrade {upgrade} is not what the repository has, and is dropped: another host has gone \
             on with it."
        ));
    }
    let is_behind =
        state.is_incomplete || !catalog.replace_pins(repository, state.number, &state.pins)?;
    Ok(View {
        records: catalog.snapshots(repository)?,
        pins: state.pins,
        is_missing_pins: is_behind,
    })
}

/// Snapshots that a person is shown: all but those that only hold state.
fn shown(snapshots: &Snapshots) -> impl Iterator<Item = &Snapshot> {
    snapshots.readable.iter().filter(|snapshot| !snapshot.file.has_tag(TAG_STATE))
}

/// The line of a list for a snapshot.
pub(super) fn record_of(snapshot: &Snapshot, manifest: Option<&Manifest>) -> SnapshotRecord {
    let file = &snapshot.file;
    SnapshotRecord {
        id: snapshot.id,
        instance: manifest
            .map(|manifest| manifest.instance.id)
            .or_else(|| select::instance_of(file)),
        instance_name: file.hostname.clone(),
        host: manifest
            .map_or_else(|| file.hostname.clone(), |manifest| manifest.instance.host.clone()),
        platform: manifest.map(|manifest| manifest.platform.clone()),
        time: file.time,
        sealed: manifest.is_some_and(|manifest| manifest.sealed),
        key_fit: manifest.map(|manifest| manifest.key_fit),
        size_bytes: manifest.map_or(0, |manifest| manifest.size_bytes),
        read_bytes: manifest.and_then(|manifest| manifest.read_bytes),
        added_bytes: manifest.map_or(0, |manifest| manifest.added_bytes),
        tags: file.tags().to_vec(),
    }
}
