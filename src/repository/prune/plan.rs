//! Planning: reads, decides, and changes nothing.

use super::inventory::{Inventory, Key, PackState};
use super::used::{Used, first_copy};
use super::{Basis, PackToRemove, PackToRepack, PruneOptions, PrunePlan, PruneTotals};
use crate::model::event::{Cancel, Events};
use crate::model::id::{FileId, SnapshotId};
use crate::repository::blob_index::{BlobIndex, Location};
use crate::repository::format::FormatError;
use crate::repository::format::index::MAX_BLOBS;
use crate::repository::format::pack::{BlobKind, PackedBlob, TARGET_BYTES, pack_size};
use crate::repository::reader::Reader;
use crate::repository::{Repository, RepositoryError, Snapshot};
use crate::store::StoreError;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Packs below this are joined when there are many.
const SMALL_PACK_BYTES: u64 = TARGET_BYTES as u64 / 4;
/// So many small packs of a kind may stay.
const MAX_SMALL_PACKS: usize = 8;
/// Index files with fewer blobs are merged when there are many.
const TINY_INDEX_BLOBS: usize = MAX_BLOBS / 8;
/// So many tiny index files may stay.
const MAX_TINY_INDEXES: usize = 16;

/// Plan a prune as if the snapshots in `forget` were gone already; those of them that are not there are passed over.
///
/// For a dry run a shared lock is enough: what a backup writes meanwhile may then be shown as unindexed. For [`execute`]
/// the exclusive lock must be held from before the plan on.
///
/// A damaged snapshot (unless it is to be forgotten), index file or tree, and a needed blob that is not there, are errors.
///
/// [`execute`]: super::execute()
#[expect(clippy::implicit_hasher, reason = "no caller has a hasher of its own")]
pub fn plan(
    repository: &Arc<Repository>,
    forget: &HashSet<SnapshotId>,
    options: &PruneOptions,
    events: &Events,
    cancel: &Cancel,
) -> Result<PrunePlan, RepositoryError> {
    repository.require_config()?;
    // The snapshots before the index: what a listed snapshot needs was indexed before it was written.
    events.phase("reading", "snapshots");
    let (kept, forget, all) = snapshots(repository, forget)?;
    events.phase("reading", "the index");
    let (mut inventory, index) = Inventory::load(repository, cancel).map_err(name_damage)?;
    events.phase("finding", "what is still needed");
    let reader = Reader::with_index(repository, index);
    let roots = kept.iter().map(|snapshot| snapshot.file.tree);
    let used = Used::walk(&reader, &inventory, roots, events, cancel).map_err(name_damage)?;
    let index = reader.shared_index();

    let mut chosen = attribute(&mut inventory, &index, &used);
    let repack = choose_repacks(&inventory.packs, options);
    prefer_kept_packs(&mut inventory, &index, &mut chosen, &repack);
    let copies = blobs_to_copy(&inventory, &index, &used, &chosen, &repack);

    let mut plan = PrunePlan {
        forget,
        remove_packs: Vec::new(),
        repack: Vec::new(),
        unindexed_packs: Vec::new(),
        missing_packs: Vec::new(),
        rewrite_indexes: Vec::new(),
        totals: PruneTotals { kept_snapshots: kept.len() as u64, ..PruneTotals::default() },
        basis: Basis {
            snapshots: all,
            indexes: inventory.index_files.iter().map(|file| file.id).collect(),
        },
        copies,
    };
    plan.sort_packs(&inventory);
    plan.rewrite_indexes = indexes_to_rewrite(&inventory, &plan.packs_gone());
    Ok(plan)
}

impl PrunePlan {
    /// Say of each pack what becomes of it, and count.
    fn sort_packs(&mut self, inventory: &Inventory) {
        let totals = &mut self.totals;
        for (&id, &bytes) in &inventory.unindexed {
            self.unindexed_packs.push(PackToRemove { id, bytes });
            totals.packs += 1;
            totals.pack_bytes += bytes;
            totals.removed_packs += 1;
            totals.removed_bytes += bytes;
        }
        for state in inventory.packs.values() {
            totals.used_blobs += state.used_blobs;
            totals.used_bytes += state.used_bytes;
            totals.unused_blobs += state.unused_blobs();
            totals.unused_bytes += state.unused_bytes();
            let Some(bytes) = state.size else {
                self.missing_packs.push(state.id);
                continue;
            };
            totals.packs += 1;
            totals.pack_bytes += bytes;
            if state.used_blobs == 0 {
                self.remove_packs.push(PackToRemove { id: state.id, bytes });
                totals.removed_packs += 1;
                totals.removed_bytes += bytes;
            } else if let Some(copies) = self.copies.get(&state.id) {
                let (used_bytes, unused_bytes) = (state.used_bytes, state.unused_bytes());
                self.repack.push(PackToRepack { id: state.id, used_bytes, unused_bytes });
                totals.repacked_blobs += state.used_blobs;
                totals.repacked_bytes += used_bytes;
                totals.remaining_bytes += pack_size(copies);
            } else {
                totals.remaining_unused_blobs += state.unused_blobs();
                totals.remaining_unused_bytes += state.unused_bytes();
                totals.remaining_bytes += bytes;
            }
        }
        totals.freed_bytes = totals.pack_bytes.saturating_sub(totals.remaining_bytes);
        self.repack.sort_by_key(|pack| {
            (Reverse(unused_share(pack.unused_bytes, pack.used_bytes)), pack.id)
        });
    }

    /// The packs that no index will list.
    pub(super) fn packs_gone(&self) -> HashSet<FileId> {
        let removed = self.remove_packs.iter().map(|pack| pack.id);
        let repacked = self.repack.iter().map(|pack| pack.id);
        removed.chain(repacked).chain(self.missing_packs.iter().copied()).collect()
    }
}

/// The snapshots that stay, the ids of those to forget, and all ids.
#[expect(clippy::type_complexity, reason = "three lists that are taken apart at once")]
fn snapshots(
    repository: &Repository,
    forget: &HashSet<SnapshotId>,
) -> Result<(Vec<Snapshot>, Vec<SnapshotId>, BTreeSet<SnapshotId>), RepositoryError> {
    let snapshots = repository.snapshots()?;
    let mut all: BTreeSet<SnapshotId> = BTreeSet::new();
    let mut forgotten = Vec::new();
    for (id, error) in snapshots.damaged {
        if !forget.contains(&id) {
            return Err(name_damage(error));
        }
        all.insert(id);
        forgotten.push(id);
    }
    let mut kept = Vec::new();
    for snapshot in snapshots.readable {
        all.insert(snapshot.id);
        if forget.contains(&snapshot.id) {
            forgotten.push(snapshot.id);
        } else {
            kept.push(snapshot);
        }
    }
    Ok((kept, forgotten, all))
}

/// A file that the store finds too short, too long or gone is damage, and is told with its hint.
fn name_damage(error: RepositoryError) -> RepositoryError {
    match error {
        RepositoryError::Store(StoreError { object, source, .. })
            if matches!(
                source.kind(),
                std::io::ErrorKind::InvalidData
                    | std::io::ErrorKind::NotFound
                    | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            RepositoryError::format(&object, FormatError::invalid(source))
        }
        other => other,
    }
}

/// Count the used blobs of each pack. Of a blob that is there several times, one copy is chosen: the one in the pack that
/// is used most, since that is the most likely to be kept. Returns these choices.
fn attribute(inventory: &mut Inventory, index: &BlobIndex, used: &Used) -> HashMap<Key, Location> {
    let Inventory { packs, copies, .. } = inventory;
    let mut state = |location: &Location| {
        packs
            .get_mut(&location.pack)
            .expect("the blob index was made from these packs")
            .take(&location.blob);
    };
    for key in used.keys().filter(|key| !copies.contains_key(key)) {
        state(&first_copy(index, key));
    }
    let mut chosen = HashMap::new();
    for (key, more) in copies.iter().filter(|(key, _)| used.contains(**key)) {
        let candidates = std::iter::once(first_copy(index, *key)).chain(more.iter().copied());
        let share = |location: &Location| {
            let pack = &packs[&location.pack];
            (Reverse(unused_share(pack.unused_bytes(), pack.used_bytes)), Reverse(location.pack))
        };
        let best = candidates.max_by_key(share).expect("there is a first copy");
        packs.get_mut(&best.pack).expect("it was looked at").take(&best.blob);
        chosen.insert(*key, best);
    }
    chosen
}

/// The unused part of a pack, as a number to compare by.
fn unused_share(unused_bytes: u64, used_bytes: u64) -> u128 {
    let all = u128::from(unused_bytes) + u128::from(used_bytes);
    (u128::from(unused_bytes) << 32).checked_div(all).unwrap_or(0)
}

/// The bytes that may stay unused beside `used_bytes`.
fn tolerated(used_bytes: u64, max_unused_percent: f64) -> u64 {
    if max_unused_percent >= 100.0 {
        return u64::MAX;
    }
    // Not a number counts as 0, too.
    let share = max_unused_percent.max(0.0) / 100.0;
    #[expect(clippy::cast_sign_loss, reason = "no factor is negative")]
    let bytes = (share / (1.0 - share) * used_bytes as f64) as u64;
    bytes
}

/// The packs to copy from: partly used ones, the worst first, until little enough stays unused; then small ones, where
/// there are many.
fn choose_repacks(packs: &BTreeMap<FileId, PackState>, options: &PruneOptions) -> HashSet<FileId> {
    let mut repack = HashSet::new();
    let mut budget = options.max_repack_bytes.unwrap_or(u64::MAX);
    let used_bytes = packs.values().map(|pack| pack.used_bytes).sum();
    let limit = tolerated(used_bytes, options.max_unused_percent);

    let in_use = || packs.values().filter(|pack| pack.used_blobs > 0);
    let mut partly: Vec<&PackState> = in_use().filter(|pack| pack.unused_blobs() > 0).collect();
    partly.sort_by_key(|pack| Reverse(unused_share(pack.unused_bytes(), pack.used_bytes)));
    let mut unused: u64 = partly.iter().map(|pack| pack.unused_bytes()).sum();
    for pack in partly {
        if unused > limit && pack.used_bytes <= budget {
            budget -= pack.used_bytes;
            unused -= pack.unused_bytes();
            repack.insert(pack.id);
        }
    }

    for kind in [BlobKind::Data, BlobKind::Tree] {
        let is_small = |pack: &&PackState| {
            pack.kind == Some(kind)
                && pack.size.is_some_and(|size| size < SMALL_PACK_BYTES)
                && !repack.contains(&pack.id)
        };
        let small: Vec<&PackState> = in_use().filter(is_small).collect();
        if small.len() <= MAX_SMALL_PACKS {
            continue;
        }
        let mut joined = Vec::new();
        for pack in small {
            if pack.used_bytes <= budget {
                budget -= pack.used_bytes;
                joined.push(pack.id);
            }
        }
        // One alone would only be copied.
        if joined.len() > 1 {
            repack.extend(joined);
        }
    }
    repack
}

/// A blob that was to be copied, and of which a pack that stays has a copy, is not copied after all.
fn prefer_kept_packs(
    inventory: &mut Inventory,
    index: &BlobIndex,
    chosen: &mut HashMap<Key, Location>,
    repack: &HashSet<FileId>,
) {
    let Inventory { packs, copies, .. } = inventory;
    for (key, location) in chosen.iter_mut().filter(|(_, old)| repack.contains(&old.pack)) {
        let stays =
            |other: &Location| !repack.contains(&other.pack) && packs[&other.pack].used_blobs > 0;
        let mut others =
            std::iter::once(first_copy(index, *key)).chain(copies[key].iter().copied());
        let Some(better) = others.find(stays) else { continue };
        packs.get_mut(&location.pack).expect("it was chosen").give_up(&location.blob);
        packs.get_mut(&better.pack).expect("it was looked at").take(&better.blob);
        *location = better;
    }
}

/// What to copy out of the packs in `repack`, in the order of each pack.
fn blobs_to_copy(
    inventory: &Inventory,
    index: &BlobIndex,
    used: &Used,
    chosen: &HashMap<Key, Location>,
    repack: &HashSet<FileId>,
) -> BTreeMap<FileId, Vec<PackedBlob>> {
    let mut blobs: BTreeMap<FileId, Vec<PackedBlob>> = BTreeMap::new();
    for key in used.keys() {
        let location = chosen.get(&key).copied().unwrap_or_else(|| first_copy(index, key));
        if repack.contains(&location.pack) {
            blobs.entry(location.pack).or_default().push(location.blob);
        }
    }
    for (pack, blobs) in &mut blobs {
        blobs.sort_by_key(|blob| blob.offset);
        debug_assert_eq!(blobs.len() as u64, inventory.packs[pack].used_blobs);
    }
    blobs
}

/// Index files that list a pack that goes, or one that another file lists, too; and tiny ones where there are many.
fn indexes_to_rewrite(inventory: &Inventory, gone: &HashSet<FileId>) -> Vec<FileId> {
    let files = &inventory.index_files;
    let mut listed: HashMap<FileId, usize> = HashMap::new();
    for pack in files.iter().flat_map(|file| &file.packs) {
        *listed.entry(*pack).or_default() += 1;
    }
    let is_tiny = |blobs: usize| blobs < TINY_INDEX_BLOBS;
    let many_tiny = files.iter().filter(|file| is_tiny(file.blobs)).count() > MAX_TINY_INDEXES;
    files
        .iter()
        .filter(|file| {
            let changes = |pack: &FileId| gone.contains(pack) || listed[pack] > 1;
            file.packs.is_empty()
                || file.packs.iter().any(changes)
                || many_tiny && is_tiny(file.blobs)
        })
        .map(|file| file.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(number: u8, size: u64, used_bytes: u64, unused_bytes: u64) -> PackState {
        PackState {
            id: FileId([number; 32]),
            size: Some(size),
            kind: Some(BlobKind::Data),
            blobs: 2,
            blob_bytes: used_bytes + unused_bytes,
            used_blobs: if unused_bytes == 0 { 2 } else { u64::from(used_bytes > 0) },
            used_bytes,
        }
    }

    fn chosen(packs: Vec<PackState>, percent: f64, budget: Option<u64>) -> Vec<u8> {
        let packs = packs.into_iter().map(|pack| (pack.id, pack)).collect();
        let options = PruneOptions { max_unused_percent: percent, max_repack_bytes: budget };
        let mut numbers: Vec<u8> =
            choose_repacks(&packs, &options).into_iter().map(|id| id.0[0]).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn the_worst_packs_are_copied_until_little_enough_is_unused() {
        let size = 8_000_000;
        let packs = || {
            vec![
                pack(1, size, 7_000_000, 1_000_000),
                pack(2, size, 1_000_000, 7_000_000),
                pack(3, size, 4_000_000, 4_000_000),
                pack(4, size, 8_000_000, 0),
                pack(5, size, 0, 8_000_000),
            ]
        };
        // 20 MB are used and 12 MB are not, beside pack 5, which goes anyway.
        assert_eq!(chosen(packs(), 0.0, None), [1, 2, 3]);
        assert_eq!(chosen(packs(), f64::NAN, None), [1, 2, 3]);
        assert_eq!(chosen(packs(), 5.0, None), [2, 3]);
        assert_eq!(chosen(packs(), 20.0, None), [2]);
        assert_eq!(chosen(packs(), 38.0, None), [0_u8; 0]);
        assert_eq!(chosen(packs(), 100.0, None), [0_u8; 0]);
        assert_eq!(chosen(packs(), 0.0, Some(4_999_999)), [2], "the next would be too much");
    }

    #[test]
    fn small_packs_are_joined_when_there_are_many() {
        let small = |count: u8| (1..=count).map(|number| pack(number, 1000, 900, 0)).collect();
        assert!(chosen(small(8), 5.0, None).is_empty());
        assert_eq!(chosen(small(9), 5.0, None).len(), 9);
        assert_eq!(chosen(small(9), 5.0, Some(2500)).len(), 2);
        assert!(
            chosen(small(9), 5.0, Some(1500)).is_empty(),
            "one alone is not joined with anything"
        );
    }
}
