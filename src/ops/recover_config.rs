//! Bringing this host's configuration back out of the newest snapshot, on a machine that has nothing yet.

use super::session::Session;
use super::{Context, OpsError, select};
use crate::model::id::SnapshotId;
use crate::repository::Snapshot;
use crate::repository::reader::Reader;
use serde::Serialize;

/// A configuration is a page or two.
const MAX_BYTES: usize = 4 * 1024 * 1024;
const FILE: &[u8] = b"belay.toml";

/// A configuration that was found.
#[derive(Debug, Serialize)]
pub struct RecoveredConfig {
    /// The snapshot that it is from.
    pub snapshot: SnapshotId,
    /// When that was taken.
    pub time: jiff::Timestamp,
    /// The instance that the snapshot is of.
    pub instance: String,
    /// The host whose configuration it is, where the manifest says so.
    pub host: Option<String>,
    /// Its text. Secrets are only references in it.
    pub text: String,
}

/// The configuration in the newest snapshot that holds one; of `host` only, where it is given.
pub fn recover_config(
    session: &Session,
    host: Option<&str>,
    context: &Context,
) -> Result<RecoveredConfig, OpsError> {
    let _lock = session.lock_for_reading("config recover", context)?;
    let reader = Reader::new(&session.repository)?;
    let snapshots = session.repository.snapshots()?;
    for snapshot in snapshots.readable.iter().rev() {
        if select::instance_of(&snapshot.file).is_none() {
            continue;
        }
        let found_host = match super::show::read_manifest(&reader, snapshot) {
            Ok(manifest) => manifest.map(|manifest| manifest.instance.host),
            Err(error) if error.is_damage() => continue,
            Err(error) => return Err(error.into()),
        };
        if host.is_some() && host != found_host.as_deref() {
            continue;
        }
        if let Some(text) = read(&reader, snapshot)? {
            let Snapshot { id, file } = snapshot;
            let (snapshot, time, instance) = (*id, file.time, file.hostname.clone());
            return Ok(RecoveredConfig { snapshot, time, instance, host: found_host, text });
        }
    }
    Err(OpsError::usage(
        "no snapshot of this repository holds a configuration",
        "`belay list` shows the snapshots that there are",
    ))
}

/// The configuration in one snapshot; none where it has none, or a damaged one.
fn read(reader: &Reader, snapshot: &Snapshot) -> Result<Option<String>, OpsError> {
    let read = || {
        let root = reader.tree(snapshot.file.tree)?;
        let Some(node) = root.iter().find(|node| node.node.name == FILE) else { return Ok(None) };
        Ok(String::from_utf8(reader.content(node, MAX_BYTES)?).ok())
    };
    match read() {
        Ok(text) => Ok(text),
        Err::<_, crate::repository::RepositoryError>(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
