//! Reclaiming what no snapshot needs: first a plan, then its execution. A dry run prints the very plan.
//!
//! What always holds, also between any two steps of [`execute`]: each blob that a remaining snapshot needs is in a durable
//! pack that a durable index file lists. A crash leaves at worst packs that no index lists, and the next prune removes
//! them. Where anything that is needed is damaged or missing, there is no plan, and so nothing is removed.
//!
//! ```text
//! forget snapshots ─▶ copy what is used of partly used packs ─▶ index the copies ─▶ replace index files ─▶ remove packs
//! ```

mod execute;
mod inventory;
mod little;
mod plan;
mod progress;
mod reindex;
mod repack;
#[cfg(test)]
mod tests;
mod used;

pub use execute::execute;
pub use little::repack_little_by_little;
pub use plan::plan;

use super::format::pack::PackedBlob;
use crate::model::id::{FileId, SnapshotId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How much a prune reclaims.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PruneOptions {
    /// The share of bytes that may stay unused in packs that are partly used, in percent of all bytes of blobs. Less means
    /// more copying. Below 0 counts as 0; 100 and more means that nothing is copied for this reason.
    pub max_unused_percent: f64,
    /// The bytes that may be copied.
    pub max_repack_bytes: Option<u64>,
}

impl Default for PruneOptions {
    /// 5 percent, as restic has it, and no limit.
    fn default() -> Self {
        Self { max_unused_percent: 5.0, max_repack_bytes: None }
    }
}

/// A pack that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PackToRemove {
    /// The pack.
    pub id: FileId,
    /// Its size.
    pub bytes: u64,
}

/// A pack of which a part is to be copied into a new one, before it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PackToRepack {
    /// The pack.
    pub id: FileId,
    /// Bytes of the blobs that are copied.
    pub used_bytes: u64,
    /// Bytes of the blobs that are not; 0 where a small pack is only joined with others.
    pub unused_bytes: u64,
}

/// The numbers of a plan. Bytes of blobs are as stored: compressed and encrypted, without the packs' headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PruneTotals {
    /// Snapshots that stay.
    pub kept_snapshots: u64,
    /// All packs that are there.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Blobs that the remaining snapshots need, each counted once.
    pub used_blobs: u64,
    /// Their bytes.
    pub used_bytes: u64,
    /// Blobs in indexed packs that nothing needs, second copies included.
    pub unused_blobs: u64,
    /// Their bytes.
    pub unused_bytes: u64,
    /// Packs that are removed without a copy, those that no index lists included.
    pub removed_packs: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Blobs that are copied into new packs.
    pub repacked_blobs: u64,
    /// Their bytes.
    pub repacked_bytes: u64,
    /// Unused blobs that stay in partly used packs.
    pub remaining_unused_blobs: u64,
    /// Their bytes.
    pub remaining_unused_bytes: u64,
    /// Bytes of all packs afterwards, but for a few bytes of the new packs' headers.
    pub remaining_bytes: u64,
    /// What is gained.
    pub freed_bytes: u64,
}

/// What a prune will do. It is worth nothing once the snapshots or the index files change, and [`execute`] refuses it then.
#[derive(Clone, Debug, Serialize)]
pub struct PrunePlan {
    /// Snapshots to forget.
    pub forget: Vec<SnapshotId>,
    /// Packs that an index lists and of which nothing is needed.
    pub remove_packs: Vec<PackToRemove>,
    /// Packs of which a part is needed elsewhere, the worst first.
    pub repack: Vec<PackToRepack>,
    /// Packs that no index lists: what killed runs left.
    pub unindexed_packs: Vec<PackToRemove>,
    /// Packs that an index lists, that are not there, and that nothing needs: they are taken off the index.
    pub missing_packs: Vec<FileId>,
    /// Index files that are replaced.
    pub rewrite_indexes: Vec<FileId>,
    /// The numbers.
    pub totals: PruneTotals,
    /// What the plan was made from.
    #[serde(skip)]
    basis: Basis,
    /// What is copied, by pack, in the order of the pack.
    #[serde(skip)]
    copies: BTreeMap<FileId, Vec<PackedBlob>>,
}

impl PrunePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.forget.is_empty()
            && self.remove_packs.is_empty()
            && self.repack.is_empty()
            && self.unindexed_packs.is_empty()
            && self.rewrite_indexes.is_empty()
    }
}

/// The state of the repository that a plan is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Basis {
    /// All snapshots, those to forget included.
    snapshots: BTreeSet<SnapshotId>,
    /// All index files.
    indexes: BTreeSet<FileId>,
}

/// What a prune did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PruneOutcome {
    /// Snapshots that were forgotten.
    pub forgotten_snapshots: u64,
    /// Packs that were removed.
    pub removed_packs: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packs that were copied from; they are among the removed ones.
    pub repacked_packs: u64,
    /// New packs that took the copies.
    pub written_packs: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Index files that were written.
    pub written_indexes: u64,
    /// Index files that were removed.
    pub removed_indexes: u64,
    /// What interrupted writes had left: files.
    pub leftover_files: u64,
    /// Their bytes.
    pub leftover_bytes: u64,
    /// There was no room for the copies: only what is wholly unused was reclaimed (see [`repack_little_by_little`]).
    pub repack_skipped: bool,
}

impl PruneOutcome {
    /// Count what another run did, too.
    fn add(&mut self, other: &Self) {
        self.forgotten_snapshots += other.forgotten_snapshots;
        self.removed_packs += other.removed_packs;
        self.removed_bytes += other.removed_bytes;
        self.repacked_packs += other.repacked_packs;
        self.written_packs += other.written_packs;
        self.written_bytes += other.written_bytes;
        self.written_indexes += other.written_indexes;
        self.removed_indexes += other.removed_indexes;
        self.leftover_files += other.leftover_files;
        self.leftover_bytes += other.leftover_bytes;
    }
}
