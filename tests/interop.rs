//! restic and Belay on one repository: whoever wrote last, both read it, both find it clean, both restore the same.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{
    PASSWORD, Run, Sandbox, Tree, add_link_to_bytes, assert_same, change_tree, listed,
    make_strange_tree, make_tree, text, write_file, write_secret,
};

/// Takes a snapshot of the source with restic and answers its id.
fn restic_backup(sandbox: &Sandbox) -> String {
    let before = sandbox.snapshot_files();
    sandbox.restic(&["backup", "--host", "by-restic", text(&sandbox.source())]).ok();
    let new: Vec<String> = sandbox.snapshot_files().difference(&before).cloned().collect();
    assert_eq!(new.len(), 1, "restic should have made one snapshot: {new:?}");
    new[0].clone()
}

/// The source as a snapshot of restic's has it, which keeps the whole path: restored by either program.
fn assert_restics_restores(sandbox: &Sandbox, snapshot: &str, expected: &Tree) {
    let inside = |target: &Path| target.join(text(&sandbox.source()).trim_start_matches('/'));
    let (by_belay, by_restic) = (sandbox.fresh_directory(), sandbox.fresh_directory());
    sandbox.belay(&["restore", snapshot, "--to-dir", text(by_belay.path())]).ok();
    assert_same(
        expected,
        &Tree::read(&inside(by_belay.path())),
        "restic's snapshot restored by belay",
    );
    sandbox.restic(&["restore", snapshot, "--target", text(by_restic.path())]).ok();
    assert_same(
        expected,
        &Tree::read(&inside(by_restic.path())),
        "restic's snapshot restored by restic",
    );
}

fn both_find_nothing(sandbox: &Sandbox) {
    sandbox.restic_finds_nothing();
    sandbox.belay_finds_nothing();
}

fn both_restore(sandbox: &Sandbox, snapshot: &str, expected: &Tree) {
    sandbox.assert_restores(snapshot, expected);
    sandbox.assert_restic_restores(snapshot, expected);
}

#[test]
fn belay_and_restic_take_turns_on_one_repository() {
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 1, 16);
    let first = Tree::read(&sandbox.source());
    let belay_first = sandbox.backup();
    let restic_first = restic_backup(&sandbox);
    both_find_nothing(&sandbox);

    change_tree(&sandbox.source(), 2);
    let second = Tree::read(&sandbox.source());
    let restic_second = restic_backup(&sandbox);
    let belay_second = sandbox.backup();
    both_find_nothing(&sandbox);

    // restic forgets and prunes.
    sandbox.restic(&["forget", "--prune", &restic_first]).ok();
    both_find_nothing(&sandbox);
    both_restore(&sandbox, &belay_first, &first);
    both_restore(&sandbox, &belay_second, &second);
    assert_restics_restores(&sandbox, &restic_second, &second);

    // Belay does; what restic made is not its to forget.
    sandbox.configure(&["data"], "last = 1");
    sandbox.belay(&["prune"]).ok();
    assert!(!sandbox.snapshot_files().contains(&belay_first));
    assert!(sandbox.snapshot_files().contains(&restic_second));
    both_find_nothing(&sandbox);
    both_restore(&sandbox, &belay_second, &second);
    assert_restics_restores(&sandbox, &restic_second, &second);

    // And the other way round again.
    change_tree(&sandbox.source(), 3);
    let third = Tree::read(&sandbox.source());
    let belay_third = sandbox.backup();
    sandbox.restic(&["forget", &restic_second]).ok();
    sandbox.restic(&["prune", "--max-unused", "0"]).ok();
    sandbox.belay(&["prune"]).ok();
    both_find_nothing(&sandbox);
    both_restore(&sandbox, &belay_third, &third);
    let ids: Vec<String> = sandbox.list().into_iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(ids, [belay_third]);
}

#[test]
fn an_index_that_restic_rebuilt_serves_both() {
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 11, 8);
    let expected = Tree::read(&sandbox.source());
    let by_belay = sandbox.backup();
    let by_restic = restic_backup(&sandbox);
    for index in sandbox.files("index") {
        fs::remove_file(sandbox.repository().join("index").join(index)).unwrap();
    }
    sandbox.belay(&["check"]).code(4);
    sandbox.restic(&["rebuild-index"]).ok();
    both_find_nothing(&sandbox);
    both_restore(&sandbox, &by_belay, &expected);
    assert_restics_restores(&sandbox, &by_restic, &expected);
    let again = sandbox.backup();
    both_find_nothing(&sandbox);
    both_restore(&sandbox, &again, &expected);
}

#[test]
fn a_repository_that_restic_made_takes_belays_keys_and_snapshots() {
    let sandbox = Sandbox::without_repository();
    sandbox.restic(&["init"]).ok();
    make_tree(&sandbox.source(), 21, 8);
    let first = Tree::read(&sandbox.source());
    let by_restic = restic_backup(&sandbox);

    let new_password = sandbox.path("new-password");
    write_secret(&new_password, "another password");
    sandbox.belay(&["key", "add", "--new-password-file", text(&new_password)]).ok();
    let keys = sandbox.belay(&["key", "list", "--json"]).ok().json();
    assert_eq!(keys.as_array().map(Vec::len), Some(2), "{keys:#}");
    sandbox.restic_on(&sandbox.repository(), &new_password, &["snapshots"]).ok();

    let belay_first = sandbox.backup();
    change_tree(&sandbox.source(), 22);
    let second = Tree::read(&sandbox.source());
    let belay_second = sandbox.backup();
    both_find_nothing(&sandbox);
    both_restore(&sandbox, &belay_first, &first);
    sandbox.configure(&["data"], "last = 1");
    sandbox.belay(&["prune"]).ok();
    assert!(!sandbox.snapshot_files().contains(&belay_first));
    both_find_nothing(&sandbox);
    both_restore(&sandbox, &belay_second, &second);
    assert_restics_restores(&sandbox, &by_restic, &first);
}

#[test]
fn the_recovery_key_opens_the_repository_for_both() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("file"), b"content");
    let expected = Tree::read(&sandbox.source());
    let snapshot = sandbox.backup();
    let key_file = sandbox.path("recovery");
    write_secret(&key_file, &sandbox.recovery_key);
    sandbox.restic_on(&sandbox.repository(), &key_file, &["check"]).ok();
    let target = sandbox.fresh_directory();
    let arguments = ["restore", &snapshot, "--to-dir", text(target.path())];
    sandbox.belay_bare(&sandbox.repository(), &key_file, &arguments).ok();
    assert_same(
        &expected,
        &Tree::read(&target.path().join("files/source-data")),
        "restored on a bare machine",
    );

    let wrong = sandbox.path("wrong");
    write_secret(&wrong, "not the password");
    let refused = sandbox.belay_bare(&sandbox.repository(), &wrong, &["list"]).code(12);
    assert!(!refused.stderr().contains("not the password"), "{refused}");
    sandbox.belay_bare(&sandbox.path("nowhere"), &key_file, &["list"]).code(10).says(&["nowhere"]);
}

#[test]
fn everything_strange_about_files_comes_back_by_either_program() {
    let sandbox = Sandbox::new();
    make_strange_tree(&sandbox.source());
    add_link_to_bytes(&sandbox.source());
    let expected = Tree::read(&sandbox.source());
    assert!(expected.len() > 60, "the strange tree is not what it was: {} entries", expected.len());
    let snapshot = sandbox.backup();
    both_find_nothing(&sandbox);
    sandbox.assert_restores(&snapshot, &expected);
    let restored = sandbox.restic_restore(&snapshot);
    let found = Tree::read(&restored.tree());
    // restic 0.14 reads only the lossy form of such a target.
    let lossy = "links/to-bytes";
    assert_same(&expected.clone().without(lossy), &found.without(lossy), "restored by restic");

    // Into the place it came from, where other things are now.
    fs::remove_dir_all(sandbox.source().join("links")).unwrap();
    write_file(&sandbox.source().join("names/new"), b"new");
    sandbox.belay(&["restore", &snapshot, "--into", "data", "--yes"]).ok();
    assert_same(&expected, &Tree::read(&sandbox.source()), "restored into the instance");

    // What was read once more is the same tree, and nothing is stored twice.
    let packs = sandbox.packs().len();
    let again = sandbox.backup();
    sandbox.assert_restores(&again, &expected);
    assert!(sandbox.packs().len() <= packs + 2, "an unchanged tree was stored again");
}

#[test]
fn sparse_files_come_back_sparse() {
    use std::os::unix::fs::MetadataExt;
    let sandbox = Sandbox::new();
    make_strange_tree(&sandbox.source());
    let snapshot = sandbox.backup();
    let restored = sandbox.restore(&snapshot);
    let sparse = fs::metadata(restored.tree().join("contents/sparse")).unwrap();
    assert_eq!(sparse.len(), 24 << 20);
    assert!(sparse.blocks() * 512 < 12 << 20, "{} bytes are allocated", sparse.blocks() * 512);
}

#[test]
fn sums_in_a_snapshot_are_those_that_sha256sum_checks() {
    let sandbox = Sandbox::new();
    make_strange_tree(&sandbox.source());
    let snapshot = sandbox.backup();
    let restored = sandbox.restic_restore(&snapshot);
    let mut command = Command::new("sha256sum");
    command
        .args(["--check", "--strict", "--quiet", "../checksums/source-data.sha256"])
        .current_dir(restored.root().join("files"));
    Run::of(command).ok();
    let sums = fs::read(restored.root().join("checksums/source-data.sha256")).unwrap();
    let files = Command::new("find")
        .arg(restored.tree())
        .args(["-type", "f", "-printf", "x"])
        .output()
        .unwrap();
    assert_eq!(sums.split(|byte| *byte == b'\n').count() - 1, files.stdout.len());
}

#[test]
fn restic_lists_what_belay_wrote() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("sub/file"), b"content");
    let snapshot = sandbox.backup();
    let list = sandbox.restic(&["ls", &snapshot]).ok().stdout();
    for path in [
        "/manifest.json",
        "/belay.toml",
        "/files/source-data/sub/file",
        "/checksums/source-data.sha256",
    ] {
        assert!(list.lines().any(|line| line == path), "{path} is not in:\n{list}");
    }
    let snapshots: Value = sandbox.restic(&["snapshots", "--json"]).ok().json();
    assert_eq!(snapshots[0]["id"], snapshot.as_str());
    assert_eq!(snapshots[0]["hostname"], "data");
    let tags: Vec<&str> =
        snapshots[0]["tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(tags.contains(&"belay") && tags.contains(&"platform=files"), "{tags:?}");

    // No secret is in the configuration that goes along.
    let restored = sandbox.restic_restore(&snapshot);
    let config = fs::read_to_string(restored.root().join("belay.toml")).unwrap();
    assert!(config.contains("[instance.data]") && !config.contains(PASSWORD), "{config}");
    let manifest: Value =
        serde_json::from_slice(&fs::read(restored.root().join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["sealed"], true);
    assert_eq!(manifest["instance"]["name"], "data");
    assert_eq!(manifest["components"][0]["counts"]["files"], 1);
}

#[test]
fn a_repository_that_restic_0_14_wrote_is_read_to_the_last_attribute() {
    let sandbox = Sandbox::without_repository();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(fixtures.join("restic-repo.tar")).arg("-C").arg(sandbox.path(""));
    Run::of(unpack).ok();
    let repository = sandbox.path("restic-repo");
    let password_file = sandbox.path("fixture-password");
    write_secret(&password_file, "fixture-repository-password");
    let bare = |arguments: &[&str]| sandbox.belay_bare(&repository, &password_file, arguments);

    let report = bare(&["check", "--read-data", "--json"]).ok().json();
    assert_eq!(report["errors"].as_array().map(Vec::len), Some(0), "{report:#}");
    let snapshots =
        sandbox.restic_on(&repository, &password_file, &["snapshots", "--json"]).ok().json();
    let ids: Vec<&str> =
        snapshots.as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(ids.len(), 2, "{snapshots:#}");
    // In the order of their times, as restic gives them.
    for (id, is_latest) in [(ids[0], false), (ids[1], true)] {
        let (by_belay, by_restic) = (sandbox.fresh_directory(), sandbox.fresh_directory());
        bare(&["restore", id, "--to-dir", text(by_belay.path())]).ok();
        sandbox
            .restic_on(
                &repository,
                &password_file,
                &["restore", id, "--target", text(by_restic.path())],
            )
            .ok();
        let inside = |target: &Path| Tree::read(&target.join("srv/fixture"));
        assert_same(
            &inside(by_restic.path()),
            &inside(by_belay.path()),
            &format!("fixture's snapshot {id}"),
        );
        if is_latest {
            let mut sums = Command::new("sha256sum");
            sums.args(["--check", "--strict", "--quiet"])
                .arg(fixtures.join("restic-repo.latest.sha256"));
            sums.current_dir(by_belay.path().join("srv/fixture"));
            Run::of(sums).ok();
        }
    }
}

#[test]
fn snapshots_of_restic_are_neither_forgotten_nor_hidden() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("file"), b"content");
    let by_restic = restic_backup(&sandbox);
    sandbox.configure(&["data"], "last = 1");
    for _ in 0..2 {
        sandbox.backup();
    }
    let list = listed(&sandbox.belay(&["list", "--json"]).ok().json());
    assert_eq!(list.iter().filter(|snapshot| snapshot.instance == "data").count(), 2, "{list:?}");
    assert!(
        list.iter().filter(|snapshot| snapshot.id == by_restic).all(|snapshot| !snapshot.sealed),
        "{list:?}"
    );
    sandbox.belay(&["prune"]).ok();
    assert_eq!(sandbox.snapshot_files().len(), 2);
    assert!(sandbox.snapshot_files().contains(&by_restic));
    both_find_nothing(&sandbox);
}

#[test]
fn pins_that_restic_forgot_keep_prune_from_forgetting_until_they_are_written_again() {
    let sandbox = Sandbox::new();
    sandbox.configure(&["data"], "last = 1");
    let ids = sandbox.nights(3);
    sandbox.belay(&["pin", &ids[0], "--reason", "audit"]).ok();
    let listed = sandbox.restic(&["snapshots", "--tag", "belay-state", "--json"]).ok().json();
    for state in listed.as_array().unwrap() {
        sandbox.restic(&["forget", state["id"].as_str().unwrap()]).ok();
    }
    sandbox.belay(&["prune"]).code(1).says(&["pins", "gone", "pin again"]);
    assert_eq!(sandbox.list().len(), 3);

    sandbox.belay(&["pin", &ids[1], "--reason", "again"]).ok();
    sandbox.belay(&["prune"]).ok();
    let left: Vec<String> = sandbox.list().into_iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(left.len(), 3, "the last good one and both that are pinned: {left:?}");
    sandbox.belay(&["unpin", &ids[1]]).ok();
    sandbox.belay(&["prune"]).ok();
    assert_eq!(sandbox.list().len(), 2);
}
