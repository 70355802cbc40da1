//! The tests' own instrument: comparing trees sees every kind of difference, so that "restores the same" means it.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use support::{Run, Sandbox, Tree, add_link_to_bytes, assert_same, make_strange_tree, text};

/// Does something to a copy of the tree.
type Change<'a> = &'a dyn Fn(&Path);

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.arg("--archive").arg(from).arg(to);
    Run::of(command).ok();
}

#[test]
fn a_faithful_copy_of_the_strange_tree_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (original, copied) = (directory.path().join("original"), directory.path().join("copied"));
    make_strange_tree(&original);
    add_link_to_bytes(&original);
    copy(&original, &copied);
    assert_same(&Tree::read(&original), &Tree::read(&copied), "a copy");
}

#[test]
fn each_kind_of_difference_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    make_strange_tree(&original);
    let expected = Tree::read(&original);
    let shell = |script: &'static str| {
        move |tree: &Path| {
            let mut command = Command::new("sh");
            command.args(["-e", "-c", script]).current_dir(tree);
            Run::of(command).ok();
        }
    };
    let changes: [(&str, Change); 10] = [
        ("missing", &|tree| fs::remove_file(tree.join("contents/empty")).unwrap()),
        ("unexpected", &|tree| fs::write(tree.join("new"), b"").unwrap()),
        ("content", &|tree| {
            let file = File::options().write(true).open(tree.join("contents/many-chunks")).unwrap();
            file.write_all_at(b"changed", 5_000_000).unwrap();
        }),
        ("mode", &|tree| {
            fs::set_permissions(tree.join("contents/empty"), Permissions::from_mode(0o640))
                .unwrap();
        }),
        ("mode", &shell("chmod u-s modes/file-4755")),
        ("mtime", &shell("touch -d @1000000000.000000002 times/one-nanosecond")),
        ("hard link", &shell("cp -a links/second links/copy; mv links/copy links/second")),
        ("content", &|tree| {
            fs::remove_file(tree.join("links/relative")).unwrap();
            symlink("second", tree.join("links/relative")).unwrap();
        }),
        ("attributes", &shell("setfattr -n user.comment -v other attributes/file")),
        ("attributes", &shell("setfacl -b attributes/acl; chmod 644 attributes/acl")),
    ];
    for (number, (kind, change)) in changes.into_iter().enumerate() {
        let copied = directory.path().join(format!("copy-{number}"));
        copy(&original, &copied);
        change(&copied);
        let differences = expected.differences(&Tree::read(&copied));
        assert!(
            differences.iter().any(|one| one.contains(kind)),
            "{number}, {kind}: {differences:?}"
        );
    }
}

/// So that a difference after restic's restore of Belay's snapshot is Belay's, or else known.
#[test]
fn restic_brings_the_strange_tree_back_from_its_own_snapshot() {
    let sandbox = Sandbox::without_repository();
    make_strange_tree(&sandbox.source());
    sandbox.restic(&["init"]).ok();
    sandbox.restic(&["backup", text(&sandbox.source())]).ok();
    let target = sandbox.fresh_directory();
    sandbox.restic(&["restore", "latest", "--target", text(target.path())]).ok();
    let found = Tree::read(&target.path().join(text(&sandbox.source()).trim_start_matches('/')));
    assert_same(&Tree::read(&sandbox.source()), &found, "restored by restic");
}
