//! Snapshot files: one small document for each snapshot, which names its root tree.

use crate::model::id::{BlobId, SnapshotId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// JSON that a snapshot file may unfold to.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A snapshot file's content, as restic has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// When it was taken.
    pub time: Timestamp,
    /// The snapshot that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// Its root.
    pub tree: BlobId,
    /// What was backed up; Belay writes `/`, since its snapshots have a layout of their own.
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// Belay writes the instance's name.
    #[serde(default)]
    pub hostname: String,
    /// Who wrote it.
    #[serde(default)]
    pub username: String,
    /// The user's number.
    #[serde(default)]
    pub uid: u32,
    /// The group's number.
    #[serde(default)]
    pub gid: u32,
    /// What was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes: Option<Vec<String>>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The snapshot that this one was rewritten from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<SnapshotId>,
    /// The program that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_version: Option<String>,
}

impl SnapshotFile {
    /// Its tags; none where it has none.
    pub fn tags(&self) -> &[String] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// The value of the tag `NAME=value`.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags().iter().find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether it has the tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags().iter().any(|own| own == tag)
    }
}
