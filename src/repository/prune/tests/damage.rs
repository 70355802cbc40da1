//! Where something that is needed is damaged or missing, there is no plan, and nothing is removed.

use super::EVERYTHING;
use super::support::Bench;
use crate::model::id::{FileId, SnapshotId};
use crate::repository::RepositoryError;
use crate::repository::format::pack::BlobKind;
use crate::store::{FileKind, FileName};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// Two snapshots, of which the newer is to be forgotten.
fn bench() -> (Bench, FileId, SnapshotId) {
    let mut bench = Bench::new();
    let needed = bench.data_pack(&[b"needed"]);
    bench.snapshot(&[("a", &[b"needed"])]);
    bench.data_pack(&[b"other"]);
    let other = bench.snapshot(&[("a", &[b"other"])]);
    (bench, needed, other)
}

fn assert_refused(bench: &Bench, forget: SnapshotId, words: &str) {
    let before = bench.files();
    let error = bench.plan(&[forget], &EVERYTHING).unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("belay check")), "{error}");
    assert_eq!(bench.files(), before);
}

fn change(bench: &Bench, name: FileName, change: impl FnOnce(&mut Vec<u8>)) {
    let path = bench.path().join(name.to_string());
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, bytes).unwrap();
}

fn ids(bench: &Bench, kind: FileKind) -> Vec<FileId> {
    bench.files().into_iter().filter(|(of, _)| *of == kind).map(|(_, id)| id).collect()
}

#[test]
fn a_needed_pack_that_is_missing_or_too_short_stops_the_plan() {
    let (bench, needed, forget) = bench();
    let name = FileName::Id(FileKind::Pack, needed);
    change(&bench, name, |bytes| {
        bytes.pop();
    });
    assert_refused(&bench, forget, "too short");
    bench.repository.store.remove(name).unwrap();
    assert_refused(&bench, forget, &name.to_string());
}

#[test]
fn a_missing_pack_that_nothing_needs_is_taken_off_the_index() {
    let (mut bench, needed, _) = bench();
    let first = bench.repository.snapshots().unwrap().readable[0].id;
    bench.repository.store.remove(FileName::Id(FileKind::Pack, needed)).unwrap();
    let plan = bench.plan(&[first], &EVERYTHING).unwrap();
    assert_eq!(plan.missing_packs, [needed]);
    bench.execute(plan).unwrap();
    bench.expected.remove(&first);
    bench.assert_remaining_read_back();
    bench.assert_all_is_used();
}

#[test]
fn of_a_blob_in_two_packs_the_one_that_is_there_is_enough() {
    let mut bench = Bench::new();
    let packs = [bench.data_pack(&[b"twice", b"1"]), bench.data_pack(&[b"twice", b"2"])];
    bench.snapshot(&[("a", &[b"twice"])]);
    for (lost, found) in [(0, 1), (1, 0)] {
        let path = bench.path().join(FileName::Id(FileKind::Pack, packs[lost]).to_string());
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        let plan = bench.plan(&[], &EVERYTHING).unwrap();
        assert_eq!(plan.missing_packs, [packs[lost]]);
        assert_eq!(plan.repack[0].id, packs[found]);
        fs::rename(&aside, &path).unwrap();
    }
}

#[test]
fn a_damaged_snapshot_stops_the_plan_unless_it_is_to_be_forgotten() {
    let (bench, _, forget) = bench();
    let kept = ids(&bench, FileKind::Snapshot).into_iter().find(|id| *id != forget.into()).unwrap();
    let name = FileName::Id(FileKind::Snapshot, kept);
    change(&bench, name, |bytes| bytes[20] ^= 1);
    assert_refused(&bench, forget, &name.to_string());
    let plan = bench.plan(&[kept.into()], &EVERYTHING).unwrap();
    assert_eq!(plan.forget, [kept.into()]);
    change(&bench, name, Vec::clear);
    assert_refused(&bench, forget, &name.to_string());
}

#[test]
fn a_damaged_index_stops_the_plan_and_so_does_one_that_is_gone() {
    let (bench, needed, forget) = bench();
    let index = bench
        .repository
        .index_files()
        .unwrap()
        .into_iter()
        .find(|(_, file)| file.as_ref().unwrap().packs[0].id == needed)
        .unwrap()
        .0;
    let name = FileName::Id(FileKind::Index, index);
    change(&bench, name, |bytes| bytes[20] ^= 1);
    assert_refused(&bench, forget, &name.to_string());
    bench.repository.store.remove(name).unwrap();
    assert_refused(&bench, forget, "is missing");
}

#[test]
fn a_damaged_tree_stops_the_plan_and_a_damaged_file_stops_its_copying() {
    let mut bench = Bench::new();
    let pack = bench.data_pack(&[b"needed", b"not needed"]);
    bench.snapshot(&[("a", &[b"needed"])]);
    let forget = bench.snapshot(&[("b", &[b"not needed"])]);
    change(&bench, FileName::Id(FileKind::Pack, pack), |bytes| bytes[17] ^= 1);
    let plan = bench.plan(&[forget], &EVERYTHING).unwrap();
    let error = bench.execute(plan).unwrap_err();
    assert!(matches!(&error, RepositoryError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(&pack.to_string()), "{error}");
    assert!(bench.has(FileKind::Pack, pack), "no pack is removed");

    let trees: Vec<FileId> = bench
        .repository
        .index_files()
        .unwrap()
        .into_iter()
        .flat_map(|(_, file)| file.unwrap().packs)
        .filter(|pack| pack.blobs().any(|blob| blob.kind == BlobKind::Tree))
        .map(|pack| pack.id)
        .collect();
    for tree in trees {
        change(&bench, FileName::Id(FileKind::Pack, tree), |bytes| bytes[17] ^= 1);
    }
    assert_refused(&bench, forget, "the authentication code does not fit");
}
