//! Pins: what keeps a snapshot whatever the retention policy says.

use crate::model::id::SnapshotId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A reason to keep one snapshot. A snapshot may have several, and is kept until the last of them is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The snapshot that is kept.
    pub snapshot: SnapshotId,
    /// Why, in words for people. Together with the snapshot it tells pins apart.
    pub reason: String,
    /// Who asked for it: a user, or `belay` for an upgrade.
    pub pinned_by: String,
    /// When.
    pub pinned_at: Timestamp,
}
