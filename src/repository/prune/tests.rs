//! What remains reads back after a prune, whatever happens during it, and what nothing needs is gone.

mod damage;
mod faults;
mod histories;
mod support;

use super::*;
use crate::model::event::Cancel;
use crate::repository::RepositoryError;
use crate::repository::blob_index::BlobIndex;
use crate::repository::format::pack::BlobKind;
use crate::store::{FileKind, FileName};
use support::{Bench, bytes};

const EVERYTHING: PruneOptions = PruneOptions { max_unused_percent: 0.0, max_repack_bytes: None };

#[test]
fn where_everything_is_needed_nothing_is_done() {
    let mut bench = Bench::new();
    let pack = bench.data_pack(&[b"one", b"two"]);
    let snapshot = bench.snapshot(&[("a", &[b"one", b"two"])]);
    let before = bench.files();
    let plan = bench.plan(&[], &EVERYTHING).unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(plan.totals.kept_snapshots, 1);
    assert_eq!((plan.totals.used_blobs, plan.totals.unused_blobs), (4, 0), "two of each kind");
    assert_eq!(plan.totals.freed_bytes, 0);
    assert_eq!(bench.execute(plan).unwrap(), PruneOutcome::default());
    assert_eq!(bench.files(), before);
    assert!(bench.has(FileKind::Pack, pack) && bench.has(FileKind::Snapshot, snapshot.into()));
    bench.assert_remaining_read_back();
}

#[test]
fn what_only_a_forgotten_snapshot_needed_goes_and_shared_data_stays() {
    let mut bench = Bench::new();
    let shared = bench.data_pack(&[b"shared"]);
    let first = bench.snapshot(&[("a", &[b"shared"])]);
    let own = bench.data_pack(&[b"own 1", b"own 2"]);
    let second = bench.snapshot(&[("a", &[b"shared"]), ("b", &[b"own 1", b"own 2"])]);
    let plan = bench.plan(&[second], &EVERYTHING).unwrap();
    assert_eq!(plan.forget, [second]);
    assert_eq!(plan.remove_packs.len(), 2, "the data and the tree");
    assert!(plan.remove_packs.iter().any(|pack| pack.id == own));
    assert!(plan.repack.is_empty());
    assert!(plan.totals.freed_bytes > 0);
    assert_eq!(plan.totals.pack_bytes - plan.totals.freed_bytes, plan.totals.remaining_bytes);
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["forget"][0], second.to_string());
    assert_eq!(json["totals"]["removed_packs"], 2);

    let freed = plan.totals.freed_bytes;
    let outcome = bench.execute(plan).unwrap();
    assert_eq!((outcome.forgotten_snapshots, outcome.removed_packs), (1, 2));
    assert_eq!(outcome.removed_bytes, freed);
    bench.expected.remove(&second);
    bench.assert_remaining_read_back();
    bench.assert_all_is_used();
    assert!(bench.has(FileKind::Pack, shared) && !bench.has(FileKind::Pack, own));
    assert_eq!(bench.repository.snapshot_ids().unwrap(), [first]);
}

#[test]
fn a_dry_run_changes_nothing_and_snapshots_that_are_gone_are_passed_over() {
    let mut bench = Bench::new();
    bench.data_pack(&[b"one"]);
    let snapshot = bench.snapshot(&[("a", &[b"one"])]);
    let before = bench.files();
    let unknown = crate::model::id::SnapshotId([7; 32]);
    assert_eq!(bench.plan(&[snapshot, unknown], &EVERYTHING).unwrap().forget, [snapshot]);
    assert_eq!(bench.files(), before);
}

#[test]
fn packs_that_no_index_lists_and_leftovers_of_writes_go() {
    let mut bench = Bench::new();
    bench.data_pack(&[b"one"]);
    bench.snapshot(&[("a", &[b"one"])]);
    let lost = bench.unindexed_pack(BlobKind::Data, &[b"lost"]).id;
    let leftover = bench.path().join(format!("index/{lost}-tmp-1"));
    std::fs::write(&leftover, b"12345").unwrap();
    let plan = bench.plan(&[], &PruneOptions::default()).unwrap();
    assert_eq!(plan.unindexed_packs.iter().map(|pack| pack.id).collect::<Vec<_>>(), [lost]);
    let outcome = bench.execute(plan).unwrap();
    assert_eq!((outcome.removed_packs, outcome.written_indexes), (1, 0));
    assert_eq!((outcome.leftover_files, outcome.leftover_bytes), (1, 5));
    assert!(!leftover.exists() && !bench.has(FileKind::Pack, lost));
    bench.assert_remaining_read_back();
}

#[test]
fn partly_used_packs_are_copied_as_far_as_asked() {
    let mut bench = Bench::new();
    let (keep, drop) = (bytes(30_000, 1), bytes(10_000, 2));
    let pack = bench.data_pack(&[&keep, &drop, b"behind the gap"]);
    let old = bench.snapshot(&[("a", &[&drop])]);
    bench.snapshot(&[("a", &[&keep]), ("b", &[b"behind the gap"])]);
    let tolerant = PruneOptions { max_unused_percent: 50.0, ..EVERYTHING };
    let plan = bench.plan(&[old], &tolerant).unwrap();
    assert!(plan.repack.is_empty());
    assert_eq!(plan.totals.remaining_unused_blobs, 1);
    assert!(plan.totals.remaining_unused_bytes >= 10_000);

    let plan = bench.plan(&[old], &EVERYTHING).unwrap();
    assert_eq!(plan.repack.iter().map(|pack| pack.id).collect::<Vec<_>>(), [pack]);
    assert_eq!(plan.totals.repacked_blobs, 2);
    assert_eq!(plan.totals.remaining_unused_bytes, 0);
    let outcome = bench.execute(plan).unwrap();
    assert_eq!((outcome.repacked_packs, outcome.removed_packs), (1, 2));
    assert!(outcome.written_packs > 0);
    assert!(!bench.has(FileKind::Pack, pack));
    bench.expected.remove(&old);
    bench.assert_remaining_read_back();
    bench.assert_all_is_used();
}

#[test]
fn of_a_blob_in_two_packs_the_copy_in_the_fuller_one_stays() {
    let mut bench = Bench::new();
    let twice = bytes(5_000, 3);
    let partly = bench.data_pack(&[&twice, &bytes(5_000, 4)]);
    let full = bench.data_pack(&[&twice, b"more"]);
    let again = bench.data_pack(&[&twice]);
    bench.snapshot(&[("a", &[&twice, b"more"])]);
    let plan = bench.plan(&[], &EVERYTHING).unwrap();
    let mut removed: Vec<FileId> = plan.remove_packs.iter().map(|pack| pack.id).collect();
    removed.sort_unstable();
    let mut expected = [partly, again];
    expected.sort_unstable();
    assert_eq!(removed, expected);
    assert!(plan.repack.is_empty());
    assert_eq!(plan.totals.unused_blobs, 3);
    bench.execute(plan).unwrap();
    assert!(bench.has(FileKind::Pack, full));
    bench.assert_remaining_read_back();
    bench.assert_all_is_used();
}

#[test]
fn packs_with_nothing_but_second_copies_of_each_other_lose_one_of_them() {
    let mut bench = Bench::new();
    let blobs = [bytes(900, 1), bytes(800, 2), bytes(700, 3)];
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    bench.data_pack(&blobs);
    bench.data_pack(&[blobs[2], blobs[1], blobs[0]]);
    bench.snapshot(&[("a", &blobs)]);
    let plan = bench.plan(&[], &EVERYTHING).unwrap();
    assert_eq!((plan.remove_packs.len(), plan.repack.len()), (1, 0));
    bench.execute(plan).unwrap();
    bench.assert_remaining_read_back();
    bench.assert_all_is_used();
}

#[test]
fn many_small_packs_and_tiny_indexes_are_joined() {
    let mut bench = Bench::new();
    let blobs: Vec<Vec<u8>> = (0..18).map(|number| bytes(1_000, number)).collect();
    for blob in &blobs {
        bench.data_pack(&[blob]);
    }
    let content: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    bench.snapshot(&[("a", &content)]);
    let plan = bench.plan(&[], &PruneOptions::default()).unwrap();
    assert_eq!(plan.repack.len(), 18, "the only tree pack stays");
    assert_eq!(plan.rewrite_indexes.len(), 19);
    bench.execute(plan).unwrap();
    assert!(bench.count(FileKind::Pack) <= 3);
    assert_eq!(bench.count(FileKind::Index), 2, "the copies have their own");
    bench.assert_remaining_read_back();
    assert!(bench.plan(&[], &PruneOptions::default()).unwrap().is_empty());
}

#[test]
fn a_pack_in_two_index_files_is_listed_once_afterwards() {
    let mut bench = Bench::new();
    let pack = bench.unindexed_pack(BlobKind::Data, &[b"one", b"two"]);
    bench.index(&[&pack]);
    bench.index(&[&pack]);
    bench.snapshot(&[("a", &[b"one", b"two"])]);
    let plan = bench.plan(&[], &EVERYTHING).unwrap();
    assert_eq!((plan.totals.used_blobs, plan.totals.unused_blobs), (4, 0), "two of each kind");
    assert_eq!(plan.rewrite_indexes.len(), 2);
    bench.execute(plan).unwrap();
    assert_eq!(bench.count(FileKind::Index), 2, "one of them and the tree's");
    bench.assert_remaining_read_back();
    bench.assert_all_is_used();
}

#[test]
fn a_pack_of_which_two_index_files_list_a_part_each_keeps_both() {
    use crate::repository::format::index::IndexPack;
    let mut bench = Bench::new();
    let pack = bench.unindexed_pack(BlobKind::Data, &[b"one", b"two"]);
    let blobs: Vec<PackedBlob> = pack.blobs().collect();
    bench.index(&[&IndexPack::new(pack.id, &blobs[..1])]);
    bench.index(&[&IndexPack::new(pack.id, &blobs[1..])]);
    bench.snapshot(&[("a", &[b"one", b"two"])]);
    let plan = bench.plan(&[], &EVERYTHING).unwrap();
    assert_eq!((plan.totals.used_blobs, plan.totals.unused_blobs), (4, 0), "two of each kind");
    bench.execute(plan).unwrap();
    assert!(BlobIndex::load(&bench.repository).unwrap().damaged.is_empty());
    bench.assert_remaining_read_back();
}

#[test]
fn forgetting_all_leaves_an_empty_repository() {
    let mut bench = Bench::new();
    bench.data_pack(&[b"one"]);
    let first = bench.snapshot(&[("a", &[b"one"])]);
    let second = bench.snapshot(&[]);
    let plan = bench.plan(&[first, second], &EVERYTHING).unwrap();
    assert_eq!(plan.totals.remaining_bytes, 0);
    bench.execute(plan).unwrap();
    for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
        assert_eq!(bench.count(kind), 0, "{kind:?}");
    }
}

#[test]
fn a_plan_is_refused_once_snapshots_or_indexes_changed() {
    let mut bench = Bench::new();
    bench.data_pack(&[b"one"]);
    let first = bench.snapshot(&[("a", &[b"one"])]);
    let plan = bench.plan(&[first], &EVERYTHING).unwrap();
    bench.snapshot(&[("b", &[b"one"])]);
    let before = bench.files();
    let error = bench.execute(plan).unwrap_err();
    assert!(matches!(&error, RepositoryError::Refused(reason) if reason.contains("snapshots")));
    let plan = bench.plan(&[first], &EVERYTHING).unwrap();
    bench.data_pack(&[b"two"]);
    let error = bench.execute(plan).unwrap_err();
    assert!(matches!(&error, RepositoryError::Refused(reason) if reason.contains("index files")));
    assert!(bench.files().is_superset(&before));
}

#[test]
fn a_lost_lock_or_a_cancelled_job_removes_nothing() {
    let mut bench = Bench::new();
    bench.data_pack(&[b"one"]);
    let snapshot = bench.snapshot(&[("a", &[b"one"])]);
    let before = bench.files();
    let cancel = Cancel::new();
    let plan = bench.plan(&[snapshot], &EVERYTHING).unwrap();
    cancel.cancel();
    let events = crate::model::event::Events::ignored();
    let error = execute(&bench.repository, &bench.lock, plan, &events, &cancel).unwrap_err();
    assert!(matches!(error, RepositoryError::Cancelled(_)), "{error}");
    assert_eq!(bench.files(), before);

    let plan = bench.plan(&[snapshot], &EVERYTHING).unwrap();
    for listed in bench.repository.store.list(FileKind::Lock).unwrap() {
        bench.repository.store.remove(FileName::Id(FileKind::Lock, listed.id)).unwrap();
    }
    let error = bench.execute(plan).unwrap_err();
    assert!(matches!(error, RepositoryError::LockLost { .. }), "{error}");
    assert_eq!(bench.files(), before);
}
