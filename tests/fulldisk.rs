//! A full disk, under the repository, the state directory and the restore target: told clearly, nothing sealed, nothing
//! lost, and everything works again when there is room.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use support::disk::SmallDisk;
use support::servers::{POSTGRES_PASSWORD, Postgres};
use support::{Sandbox, Tree, change_tree, make_tree, text, write_file};

#[test]
fn a_full_repository_fails_the_backup_and_loses_nothing() {
    let sandbox = Sandbox::without_repository();
    let disk = SmallDisk::mount(&sandbox.path("disk"), 40);
    let repository = sandbox.path("disk/repository");
    let state = sandbox.state();
    sandbox.configure_at(&repository, &state, &["data"], "last = 5");
    sandbox.belay(&["init"]).ok();
    write_file(&sandbox.source().join("fits"), b"fits");
    let small = Tree::read(&sandbox.source());
    let list_before = {
        sandbox.belay(&["backup", "data"]).ok();
        sandbox.list()
    };
    assert_eq!(list_before.len(), 1);

    make_tree(&sandbox.source(), 51, 96);
    let run = sandbox.belay(&["backup", "data"]).code(1).says(&["space"]);
    assert!(run.stderr().contains(text(&repository)), "it does not say where: {run}");
    assert_eq!(support::files_in(&repository.join("snapshots")).len(), 1, "something was sealed");
    assert_eq!(support::files_in(&repository.join("locks")).len(), 0, "the lock was left");
    sandbox.assert_restores(&list_before[0].id, &small);
    sandbox.restic_on(&repository, &sandbox.password_file(), &["check", "--read-data"]).ok();

    disk.grow(256);
    let expected = Tree::read(&sandbox.source());
    sandbox.belay(&["backup", "data"]).ok();
    sandbox.assert_restores("latest:data", &expected);
    sandbox.assert_restores(&list_before[0].id, &small);
    sandbox.restic_on(&repository, &sandbox.password_file(), &["check", "--read-data"]).ok();
}

#[test]
fn a_repository_that_is_full_in_the_middle_of_a_dump_fails_the_backup_and_loses_nothing() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql("shop", "CREATE EXTENSION pgcrypto; CREATE TABLE photos (data bytea)");
    let sandbox = Sandbox::without_repository();
    let disk = SmallDisk::mount(&sandbox.path("disk"), 40);
    let repository = sandbox.path("disk/repository");
    sandbox.configure_at(&repository, &sandbox.state(), &["data"], "last = 5");
    let password = sandbox.path("postgres-password");
    support::write_secret(&password, POSTGRES_PASSWORD);
    let mut config = fs::read_to_string(sandbox.config()).unwrap();
    config.extend([format!(
        "\n[instance.shop]\nplatform = \"postgres\"\nvia = \"local\"\ncomponent.postgres = {{ host = \"127.0.0.1\", port = {}, user = \"postgres\", password = \"file:{}\", databases = [\"shop\"] }}\n",
        postgres.port,
        text(&password)
    )]);
    fs::write(sandbox.config(), config).unwrap();
    sandbox.belay(&["init"]).ok();
    sandbox.belay(&["backup", "shop"]).ok();

    let fill = "INSERT INTO photos SELECT gen_random_bytes(1024) FROM generate_series(1, 49152)";
    postgres.sql("shop", fill);
    let run = sandbox.belay(&["backup", "shop"]).code(1).says(&["space"]);
    assert!(run.stderr().contains(text(&repository)), "it does not say where: {run}");
    assert_eq!(support::files_in(&repository.join("snapshots")).len(), 1, "something was sealed");
    assert_eq!(support::files_in(&repository.join("locks")).len(), 0, "the lock was left");
    let own = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'belay%'";
    support::wait_until("its connections to end", || postgres.sql("postgres", own).trim() == "0");

    disk.grow(256);
    sandbox.belay(&["backup", "shop"]).ok();
    assert_eq!(support::files_in(&repository.join("snapshots")).len(), 2);
    sandbox.restic_on(&repository, &sandbox.password_file(), &["check", "--read-data"]).ok();
}

#[test]
fn prune_makes_room_on_a_disk_without_a_free_byte() {
    let sandbox = Sandbox::without_repository();
    let disk = SmallDisk::mount(&sandbox.path("disk"), 128);
    let repository = sandbox.path("disk/repository");
    sandbox.configure_at(&repository, &sandbox.state(), &["data"], "last = 1");
    sandbox.belay(&["init"]).ok();
    make_tree(&sandbox.source(), 61, 24);
    for night in 0..3 {
        change_tree(&sandbox.source(), night);
        sandbox.belay(&["backup", "data"]).ok();
    }
    let expected = Tree::read(&sandbox.source());
    let filler = disk.fill();
    change_tree(&sandbox.source(), 99);
    sandbox.belay(&["backup", "data"]).code(1).says(&["space"]);

    // What lies scattered in large packs may need more room to be copied than there is; that is a warning.
    sandbox.belay(&["prune"]).code_in(&[0, 3]);
    assert_eq!(support::files_in(&repository.join("snapshots")).len(), 1);
    let free = rustix::fs::statvfs(&repository).unwrap();
    let free = free.f_bavail * free.f_frsize;
    assert!(free > 1 << 20, "prune made no room: {free} bytes");
    sandbox.assert_restores("latest:data", &expected);
    sandbox.restic_on(&repository, &sandbox.password_file(), &["check", "--read-data"]).ok();

    fs::remove_file(filler).unwrap();
    let changed = Tree::read(&sandbox.source());
    sandbox.belay(&["backup", "data"]).ok();
    sandbox.assert_restores("latest:data", &changed);
    sandbox.restic_on(&repository, &sandbox.password_file(), &["check", "--read-data"]).ok();
}

#[test]
fn a_full_state_directory_fails_the_backup_and_loses_nothing() {
    let sandbox = Sandbox::without_repository();
    let disk = SmallDisk::mount(&sandbox.path("disk"), 4);
    let state = sandbox.path("disk/state");
    sandbox.configure_at(&sandbox.repository(), &state, &["data"], "last = 5");
    sandbox.belay(&["init"]).ok();
    make_tree(&sandbox.source(), 71, 8);
    let first = sandbox.backup();
    let expected = Tree::read(&sandbox.source());

    let filler = disk.fill();
    change_tree(&sandbox.source(), 72);
    let run = sandbox.belay(&["backup", "data"]).code(1);
    let said = run.stderr().to_lowercase();
    assert!(said.contains("space") || said.contains("room"), "{run}");
    assert!(said.contains(&text(&state).to_lowercase()), "it does not say where: {run}");
    assert_eq!(sandbox.snapshot_files().len(), 1, "something was sealed");
    assert_eq!(sandbox.files("locks").len(), 0, "the lock was left");
    // Reading needs no state. What the catalog does not know yet cannot be noted there, and is shown all the same.
    sandbox.restic(&["backup", "--host", "elsewhere", text(&sandbox.source())]).ok();
    let listed = sandbox.belay(&["list"]).code(3).says(&["the catalog cannot be used"]);
    assert!(listed.stdout().contains(&first[..8]), "{listed}");
    assert!(listed.stdout().contains("elsewhere"), "{listed}");
    for arguments in [&["status"][..], &["check"], &["show", "latest:data"], &["ls", &first]] {
        sandbox.belay(arguments).code_in(&[0, 3]);
    }
    let target = sandbox.fresh_directory();
    sandbox.belay(&["restore", "latest:data", "--to-dir", text(target.path())]).code_in(&[0, 3]);
    // On a bare machine there is none.
    let target = sandbox.fresh_directory();
    let arguments = ["restore", &first, "--to-dir", text(target.path())];
    sandbox.belay_bare(&sandbox.repository(), &sandbox.password_file(), &arguments).ok();
    support::assert_same(
        &expected,
        &Tree::read(&target.path().join("files/source-data")),
        "restored",
    );

    fs::remove_file(filler).unwrap();
    let changed = Tree::read(&sandbox.source());
    let second = sandbox.backup();
    sandbox.assert_restores(&second, &changed);
    assert_eq!(sandbox.list().len(), 3);
    sandbox.restic_finds_nothing();
}

#[test]
fn a_full_restore_target_fails_the_restore_and_works_again() {
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 81, 24);
    let snapshot = sandbox.backup();
    let expected = Tree::read(&sandbox.source());
    let disk = SmallDisk::mount(&sandbox.path("disk"), 12);
    let target = sandbox.path("disk/target");
    let arguments = ["restore", &snapshot, "--to-dir", text(&target)];
    // It is told before anything is written.
    let run = sandbox.belay(&arguments).code(1).says(&["12.0 mib free", "needs 24.4 mib"]);
    assert!(run.stderr().contains(text(&sandbox.path("disk"))), "it does not say where: {run}");
    assert!(!target.exists(), "an empty directory was left");
    sandbox.belay(&[&arguments[..], &["--dry-run"]].concat()).code(1).says(&["needs 24.4 mib"]);
    disk.grow(128);
    sandbox.belay(&arguments).ok();
    support::assert_same(
        &expected,
        &Tree::read(&target.join("files/source-data")),
        "restored with room",
    );
}

#[test]
fn a_restore_into_an_instance_without_room_leaves_it_as_it_was() {
    let sandbox = Sandbox::without_repository();
    let disk = SmallDisk::mount(&sandbox.path("disk"), 48);
    let source = sandbox.path("disk/uploads");
    let (repository, password_file) = (sandbox.repository(), sandbox.password_file());
    let config = support::config(
        &repository,
        &password_file,
        &sandbox.state(),
        "last = 5",
        &["data"],
        |_| source.clone(),
    );
    fs::write(sandbox.config(), config).unwrap();
    sandbox.belay(&["init"]).ok();
    make_tree(&source, 91, 16);
    let snapshot = sandbox.backup();
    let taken = Tree::read(&source);
    change_tree(&source, 92);
    let filler = disk.fill();
    let current = Tree::read(&source);
    let run = sandbox.belay(&["restore", &snapshot, "--into", "data", "--yes"]).code(1);
    assert!(
        run.stderr().to_lowercase().contains("space")
            || run.stderr().to_lowercase().contains("room"),
        "{run}"
    );
    support::assert_same(&current, &Tree::read(&source), "after a restore that failed");
    fs::remove_file(filler).unwrap();
    disk.grow(128);
    sandbox.belay(&["restore", &snapshot, "--into", "data", "--yes"]).ok();
    support::assert_same(&taken, &Tree::read(&source), "after a restore with room");
}

#[test]
fn without_room_for_both_the_old_state_is_deleted_first_where_somebody_says_so() {
    let sandbox = Sandbox::without_repository();
    let disk = SmallDisk::mount(&sandbox.path("disk"), 40);
    let source = sandbox.path("disk/uploads");
    let (repository, password_file) = (sandbox.repository(), sandbox.password_file());
    let state = sandbox.state();
    let config =
        support::config(&repository, &password_file, &state, "last = 5", &["data"], |_| {
            source.clone()
        });
    fs::write(sandbox.config(), config).unwrap();
    sandbox.belay(&["init"]).ok();
    make_tree(&source, 93, 24);
    let snapshot = sandbox.backup();
    let taken = Tree::read(&source);
    change_tree(&source, 94);
    let current = Tree::read(&source);
    let restore = ["restore", &snapshot, "--into", "data"];
    for way in ["--dry-run", "--yes"] {
        sandbox
            .belay(&[&restore[..], &[way]].concat())
            .code(1)
            .says(&["beside what is there now", "--discard-current --reason text"]);
    }
    support::assert_same(&current, &Tree::read(&source), "after a refusal");

    let discard = ["--discard-current", "--reason", "a bad upgrade"];
    let restore = [&restore[..], &discard].concat();
    let plan = sandbox.belay(&[&restore[..], &["--dry-run"]].concat()).ok();
    let text = plan.stdout();
    assert!(text.contains("which is DELETED first"), "{plan}");
    assert!(text.contains("before the new one is made"), "{plan}");
    support::assert_same(&current, &Tree::read(&source), "after a dry run");

    // Killed once the old state is gone; where that was too late, the second one has the same to do.
    let restore = [&restore[..], &["--yes"]].concat();
    let mut running = sandbox.start(&restore);
    support::wait_until("the old state is gone", || !source.exists() || running.has_ended());
    running.kill();
    sandbox.belay(&["status"]).code_in(&[0, 3]);
    let run = sandbox.belay(&restore).code(3).says(&["a bad upgrade"]);
    assert!(
        run.stdout().contains("Loss window: ") && run.stdout().contains("a bad upgrade"),
        "{run}"
    );
    support::assert_same(&taken, &Tree::read(&source), "after the same restore again");
    assert_eq!(fs::read_dir(sandbox.path("disk")).unwrap().count(), 1, "{run}");
    assert!(support::files_in(&state.join("restores")).is_empty());
    sandbox.belay(&["backup", "data"]).ok();
    drop(disk);
}
