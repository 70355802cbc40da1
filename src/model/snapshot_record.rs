//! What is known of a snapshot without reading what it holds: the line of a list.

use crate::model::id::{InstanceId, SnapshotId};
use crate::model::manifest::KeyFit;
use jiff::Timestamp;
use serde::Serialize;

/// A snapshot, as lists, retention and gates see it. One that restic made by itself has no instance,
/// no platform and no verdict on keys, and is not sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotRecord {
    /// Its id in the repository.
    pub id: SnapshotId,
    /// The instance that it belongs to for good.
    pub instance: Option<InstanceId>,
    /// The instance's name at that time; restic's `hostname` where there is no manifest.
    pub instance_name: String,
    /// The name of the host that the run was made on.
    pub host: String,
    /// The platform, such as `files`.
    pub platform: Option<String>,
    /// When the run began: nothing later is certain to be in it.
    pub time: Timestamp,
    /// Whether it kept promise 1.
    pub sealed: bool,
    /// The verdict on the keys, where there is one.
    pub key_fit: Option<KeyFit>,
    /// Bytes of content, before deduplication.
    pub size_bytes: u64,
    /// Bytes that were read, where they were counted; the rest was found unchanged.
    pub read_bytes: Option<u64>,
    /// Bytes that the run added to the repository.
    pub added_bytes: u64,
    /// restic's tags, in the order in which the snapshot has them.
    pub tags: Vec<String>,
}

impl SnapshotRecord {
    /// Good: sealed, and not unfit. Only good snapshots count as the last good one.
    pub fn is_good(&self) -> bool {
        self.sealed && self.key_fit != Some(KeyFit::Unfit)
    }
}
