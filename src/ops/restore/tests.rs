//! Restores of real trees: what they put where, what they refuse, and what becomes of the state before.

mod bench;
mod discard;
mod faults;
mod interrupted;
mod losses;

use self::bench::{Bench, listing, tree};
use super::into::IntoOptions;
use super::{Wanted, to_dir};
use crate::model::node::NodeKind;
use crate::ops::OpsError;
use crate::ops::select::SnapshotRef;
use crate::ops::state::snapshot_file;
use crate::ops::tree::{made_directory, made_file, made_tree};
use crate::repository::blob_index::BlobIndex;
use crate::repository::lock::LockMode;
use crate::repository::writer::Writer;
use jiff::Timestamp;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

fn paths(paths: &[&str]) -> Wanted {
    Wanted {
        components: vec![],
        paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
    }
}

#[test]
fn paths_in_each_other_are_restored_once_with_the_directories_that_lead_there() {
    let bench = Bench::new();
    let session = bench.session();
    let directory = bench.path("one/d");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o2710)).unwrap();
    bench.backup(&session);
    fs::remove_dir_all(&directory).unwrap();
    let wanted = paths(&["/files/one/d/e/f", "/files/one/d/e", "/files/one/d/e"]);
    let options = IntoOptions { wanted, ..IntoOptions::default() };
    let restored = bench.restore(&session, &options, &bench.context()).unwrap();
    let from: Vec<String> =
        restored.plan.replaced.iter().map(|item| item.from.to_string()).collect();
    assert_eq!(from, ["/files/one/d/e"]);
    assert!(!restored.plan.is_whole);
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o2710);
    assert_eq!(fs::read_to_string(directory.join("e/f")).unwrap(), "old f");
    assert_eq!(listing(&bench.path("one")), ["a", "d", "d/e", "d/e/f"]);
    let both = IntoOptions::default();
    assert!(bench.restore(&session, &both, &bench.context()).unwrap().plan.is_whole);
}

#[test]
fn directories_that_are_one_through_a_link_are_not_replaced_together() {
    let bench = Bench::new();
    let session = bench.session();
    bench.backup(&session);
    fs::remove_dir_all(bench.path("two")).unwrap();
    symlink(bench.path("one/d"), bench.path("two")).unwrap();
    let before = tree(&bench.path("one"));
    let error = bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
    assert_eq!(tree(&bench.path("one")), before);
}

#[test]
fn what_belay_itself_needs_and_instances_are_no_place_to_restore_to() {
    let bench = Bench::new();
    let session = bench.session();
    bench.backup(&session);
    symlink(bench.path("one"), bench.path("link")).unwrap();
    let latest = SnapshotRef::Latest("data".into());
    for (config, target, what) in [
        (Some(&bench.config), "repository/new", "the repository"),
        (None, "repository/new", "the repository"),
        (Some(&bench.config), "state/new/deep", "the state directory"),
        (Some(&bench.config), "one/new", "instance 'data'"),
        (Some(&bench.config), "link/new", "instance 'data'"),
    ] {
        let error = to_dir(
            (&session, config),
            &latest,
            &Wanted::default(),
            &bench.path(target),
            false,
            &bench.context(),
        )
        .unwrap_err();
        assert!(matches!(error, OpsError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(what), "{target}: {error}");
        assert!(!bench.path(target).exists());
    }
    // In place, too, where a link has led the instance's directory there since.
    fs::remove_dir_all(bench.path("two")).unwrap();
    symlink(&bench.root, bench.path("two")).unwrap();
    let error = bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap_err();
    assert!(error.to_string().contains("cannot be replaced"), "{error}");
}

#[test]
fn a_restore_into_a_directory_that_is_stopped_says_that_a_part_is_there() {
    let bench = Bench::new();
    let session = bench.session();
    bench.backup(&session);
    let cancel = bench.cancel.clone();
    let context = bench.context_with(move |phase| {
        if phase == "restoring" {
            cancel.cancel();
        }
    });
    let (latest, target) = (SnapshotRef::Latest("data".into()), bench.path("target"));
    let error = to_dir((&session, None), &latest, &Wanted::default(), &target, false, &context)
        .unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let warnings = bench.warnings();
    assert!(warnings.contains("holds only a part") && warnings.contains("target"), "{warnings}");
}

#[test]
fn files_that_share_an_inode_number_and_not_their_content_stay_apart() {
    let bench = Bench::new();
    let session = bench.session();
    let context = bench.context();
    let lock = session.lock(LockMode::Shared, "test", &context).unwrap();
    let index = BlobIndex::load(&session.repository).unwrap();
    let writer = Writer::start(&session.repository, index, &context.cancel).unwrap();
    let now = Timestamp::now();
    let file = |name: &str, content: &str| {
        let mut file = made_file(&writer, name, content.as_bytes(), now).unwrap().0;
        (file.node.inode, file.node.device_id, file.node.links) = (7, 1, 4);
        file
    };
    let nodes = vec![file("a", "one"), file("b", "two"), file("c", "one"), file("d", "two")];
    let files = made_directory(&writer, "files", nodes, now).unwrap();
    assert_eq!(files.node.kind, NodeKind::Directory);
    let root = made_tree(&writer, &mut [files]).unwrap();
    let id = writer.commit(snapshot_file(root, now, vec![]), &lock, &context.events).unwrap().id;
    let snapshot = SnapshotRef::Prefix(id.to_string());
    let target = bench.path("target");
    to_dir((&session, None), &snapshot, &Wanted::default(), &target, false, &context).unwrap();
    let read = |name: &str| fs::read_to_string(target.join("files").join(name)).unwrap();
    assert_eq!([read("a"), read("b"), read("c"), read("d")], ["one", "two", "one", "two"]);
    let inode = |name: &str| fs::metadata(target.join("files").join(name)).unwrap().ino();
    assert!(inode("a") == inode("c") && inode("b") == inode("d") && inode("a") != inode("b"));
}
