//! Several at once: backups and prunes, restic's unlock, locks that vanish, two hosts. Nobody loses anything, and who
//! has to wait or to stop is told why.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use support::{
    PASSWORD, Run, Running, Sandbox, Tree, change_tree, listed, make_tree, require_root, size,
    text, wait_until, write_file,
};

/// Enough to read that a backup can be stopped in the middle.
const MIB: u64 = 48;

/// What a command must come to whose lock was taken away: done, or stopped with the lock, or what else was removed,
/// named. No signal, no crash.
#[track_caller]
fn assert_done_or_stopped_for_its_lock(run: Run) -> bool {
    let run = run.code_in(&[0, 1, 3, 11]);
    if run.exit_code() == Some(0) {
        return true;
    }
    if run.exit_code() == Some(3) {
        run.says(&["warning: the lock on the repository was lost"]);
        return true;
    }
    let said = run.stderr();
    assert!(
        said.contains("lock") || said.contains("was removed while"),
        "it does not say why it stopped: {run}"
    );
    false
}

/// Ends a backup of `data` that had something done to its lock, and sees that it told the truth about its snapshot.
#[track_caller]
fn assert_backup_is_honest(sandbox: &Sandbox, running: Running, expected: &Tree) {
    let before = sandbox.snapshot_files();
    let done = assert_done_or_stopped_for_its_lock(running.wait());
    let new: Vec<String> = sandbox.snapshot_files().difference(&before).cloned().collect();
    assert_eq!(new.len(), usize::from(done), "done: {done}, new snapshots: {new:?}");
    for id in new {
        sandbox.assert_restores(&id, expected);
    }
    let next = sandbox.backup();
    sandbox.assert_restores(&next, expected);
    sandbox.restic_finds_nothing();
}

fn remove_locks(repository: &Path) {
    let mut removed = 0;
    for entry in fs::read_dir(repository.join("locks")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        removed += 1;
    }
    assert!(removed > 0, "there was no lock to remove");
}

fn open_to_all(directory: &Path) {
    let mode = if directory.is_dir() { 0o777 } else { 0o666 };
    fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
    if directory.is_dir() {
        for entry in fs::read_dir(directory).unwrap() {
            open_to_all(&entry.unwrap().path());
        }
    }
}

#[test]
fn two_backups_and_a_prune_at_once() {
    let sandbox = Sandbox::without_repository();
    sandbox.configure(&["one", "two"], "last = 2");
    sandbox.belay(&["init"]).ok();
    for (seed, name) in [(1, "one"), (2, "two")] {
        make_tree(&sandbox.source_of(name), seed, 16);
        for _ in 0..2 {
            sandbox.backup_of(name);
            change_tree(&sandbox.source_of(name), seed);
        }
    }
    for round in 0..size("BELAY_CONCURRENCY_ROUNDS", 2) {
        for name in ["one", "two"] {
            change_tree(&sandbox.source_of(name), 100 + round);
        }
        let before = sandbox.snapshot_files();
        let commands = [&["backup", "one"][..], &["backup", "two"], &["prune"]];
        let running = commands.map(|command| sandbox.start(command));
        let runs = running.map(|running| running.wait().code_in(&[0, 11]));
        let done: Vec<bool> = runs.iter().map(|run| run.exit_code() == Some(0)).collect();
        assert!(done.contains(&true), "all gave way to each other: {}", runs[0]);
        for run in runs.into_iter().filter(|run| run.exit_code() == Some(11)) {
            run.says(&["lock", "pid"]);
        }
        let new: Vec<String> = sandbox.snapshot_files().difference(&before).cloned().collect();
        assert_eq!(new.len(), done[..2].iter().filter(|done| **done).count(), "{new:?}");
        for snapshot in sandbox.list().iter().filter(|snapshot| new.contains(&snapshot.id)) {
            sandbox
                .assert_restores(&snapshot.id, &Tree::read(&sandbox.source_of(&snapshot.instance)));
        }
        sandbox.restic_finds_nothing();
    }
    sandbox.belay(&["prune"]).ok();
    sandbox.belay_finds_nothing();
    assert_eq!(sandbox.snapshot_files().len(), 4);
}

#[test]
fn a_second_backup_beside_a_running_one_succeeds_and_a_prune_gives_way() {
    let sandbox = Sandbox::new();
    sandbox.configure(&["data", "other"], "last = 5");
    make_tree(&sandbox.source(), 3, MIB);
    write_file(&sandbox.source_of("other").join("file"), b"content");
    let expected = Tree::read(&sandbox.source());
    let mut running = sandbox.start_and_freeze(&["backup", "data"]);
    let other = sandbox.backup_of("other");
    // It may wait for a while before it gives up, and says for whom.
    let mut prune = sandbox.start(&["prune"]);
    wait_until("prune to give way", || {
        prune.has_ended() || prune.stderr_so_far().to_lowercase().contains("lock")
    });
    assert!(sandbox.packs().len() > 1 && sandbox.snapshot_files().contains(&other));
    running.thaw();
    running.wait().ok();
    prune.wait().code_in(&[0, 11]).says(&["lock"]);
    let list = sandbox.list();
    let data =
        list.iter().find(|snapshot| snapshot.instance == "data").expect("the backup was sealed");
    sandbox.assert_restores(&data.id, &expected);
    sandbox.restic_finds_nothing();
}

#[test]
fn a_prune_of_restics_keeps_a_backup_out_and_is_named() {
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 4, 16);
    sandbox.backup();
    let mut restic = Running::start(sandbox.restic_command(&["prune", "--max-unused", "0"]));
    wait_until("restic's lock", || restic.has_ended() || !sandbox.files("locks").is_empty());
    restic.freeze();
    let before = sandbox.snapshot_files();
    let mut backup = sandbox.start(&["backup", "data"]);
    wait_until("backup to give way", || {
        backup.has_ended() || backup.stderr_so_far().to_lowercase().contains("lock")
    });
    assert_eq!(sandbox.snapshot_files(), before, "a backup went on under an exclusive lock");
    restic.thaw();
    restic.wait().ok();
    backup.wait().code_in(&[0, 11]).says(&["lock"]);
    sandbox.backup();
    sandbox.restic_finds_nothing();
}

#[test]
fn restics_unlock_by_the_same_user_leaves_a_running_backup_alone() {
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 5, MIB);
    let expected = Tree::read(&sandbox.source());
    let mut running = sandbox.start_and_freeze(&["backup", "data"]);
    sandbox.restic(&["unlock"]).ok();
    assert_eq!(sandbox.files("locks").len(), 1, "the lock of a living process was taken for stale");
    // The signal that restic probed with arrives now.
    running.thaw();
    sandbox.restic(&["unlock"]).ok();
    running.wait().ok();
    let ids: Vec<String> = sandbox.snapshot_files().into_iter().collect();
    assert_eq!(ids.len(), 1);
    sandbox.assert_restores(&ids[0], &expected);
    sandbox.restic_finds_nothing();
}

#[test]
fn restics_unlock_by_another_user_loses_nothing() {
    require_root("to act as another user");
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 6, MIB);
    let expected = Tree::read(&sandbox.source());
    let mut running = sandbox.start_and_freeze(&["backup", "data"]);
    open_to_all(&sandbox.repository());
    let password_file = sandbox.path("password-of-another");
    write_file(&password_file, format!("{PASSWORD}\n").as_bytes());
    let unlock = sandbox.restic_command(&["unlock"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(unlock.get_program()).args(unlock.get_args());
    sandbox.tidy(&mut command);
    command.env("RESTIC_PASSWORD_FILE", password_file);
    Run::of(command).ok();
    // restic takes a process that it may not signal for dead: that is the case which is tried here.
    assert_eq!(
        sandbox.files("locks").len(),
        0,
        "this restic spares the lock: the test tries nothing"
    );
    running.thaw();
    assert_backup_is_honest(&sandbox, running, &expected);
}

#[test]
fn a_backup_whose_lock_vanished_notices() {
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 7, MIB);
    let expected = Tree::read(&sandbox.source());
    let mut running = sandbox.start_and_freeze(&["backup", "data"]);
    remove_locks(&sandbox.repository());
    running.thaw();
    assert_backup_is_honest(&sandbox, running, &expected);
}

#[test]
fn a_backup_whose_packs_were_pruned_away_is_withdrawn() {
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 8, MIB);
    let expected = Tree::read(&sandbox.source());
    let mut running = sandbox.start_and_freeze(&["backup", "data"]);
    running.thaw();
    wait_until("packs", || running.has_ended() || !sandbox.packs().is_empty());
    running.freeze();
    remove_locks(&sandbox.repository());
    // Nothing refers to the packs yet, and nobody seems to be here.
    sandbox.restic(&["prune", "--max-unused", "0"]).ok();
    assert_eq!(sandbox.packs().len(), 0, "restic should have removed packs without a snapshot");
    running.thaw();
    assert_backup_is_honest(&sandbox, running, &expected);
}

#[test]
fn a_prune_whose_lock_vanished_does_no_harm() {
    let sandbox = Sandbox::new();
    sandbox.configure(&["data"], "last = 1");
    make_tree(&sandbox.source(), 9, 24);
    let precious = sandbox.source().join("large/part-0");
    let content = fs::read(&precious).unwrap();
    sandbox.backup();
    fs::remove_file(&precious).unwrap();
    sandbox.backup();

    let mut prune = sandbox.start_and_freeze(&["prune"]);
    remove_locks(&sandbox.repository());
    // The content that the prune is about to drop is needed again, and found already stored.
    fs::write(&precious, content).unwrap();
    let expected = Tree::read(&sandbox.source());
    let snapshot = sandbox.backup();
    prune.thaw();
    assert_done_or_stopped_for_its_lock(prune.wait());
    sandbox.assert_restores(&snapshot, &expected);
    sandbox.restic_finds_nothing();
    sandbox.belay(&["prune"]).ok();
    sandbox.assert_restores(&snapshot, &expected);
    sandbox.restic_finds_nothing();
}

#[test]
fn pins_of_several_commands_at_once_all_stay() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("file"), b"content");
    let snapshot = sandbox.backup();
    let reasons = ["a", "b", "c", "d", "e"];
    let running = reasons.map(|reason| sandbox.start(&["pin", &snapshot, "--reason", reason]));
    for pin in running {
        pin.wait().ok();
    }
    let list = sandbox.belay(&["list", "--json"]).ok().json();
    let mut pins: Vec<&str> =
        list[0]["pins"].as_array().unwrap().iter().filter_map(|pin| pin.as_str()).collect();
    pins.sort_unstable();
    assert_eq!(pins, reasons);
}

/// `belay` as if on another host: own name and machine id, own state, own source, the same repository.
fn on_another_host(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let machine_id = sandbox.path("other-machine-id");
    write_file(&machine_id, b"0123456789abcdef0123456789abcdef\n");
    let config = sandbox.path("other.toml");
    let source = sandbox.path("other-source-data");
    let repository = sandbox.repository();
    let state = sandbox.path("other-state");
    let keep = "last = 1";
    let content =
        support::config(&repository, &sandbox.password_file(), &state, keep, &["data"], |_| {
            source.clone()
        });
    write_file(&config, content.as_bytes());
    let script =
        "hostname other-host && mount --bind \"$1\" /etc/machine-id && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--uts", "--mount", "sh", "-c", script, "sh", text(&machine_id)]);
    command.arg(env!("CARGO_BIN_EXE_belay")).arg("--config").arg(config).args(arguments);
    sandbox.tidy(&mut command);
    Run::of(command)
}

/// A sandbox in which the instance `data` has another source on the other host.
fn two_hosts() -> Sandbox {
    require_root("to act as another host");
    let sandbox = Sandbox::new();
    sandbox.configure(&["data"], "last = 1");
    write_file(&sandbox.source().join("here"), b"here");
    write_file(&sandbox.path("other-source-data").join("there"), b"there");
    sandbox
}

#[test]
fn two_hosts_with_an_instance_of_one_name_never_forget_each_others_snapshots() {
    let sandbox = two_hosts();
    let here = Tree::read(&sandbox.source());
    let there = Tree::read(&sandbox.path("other-source-data"));

    sandbox.backup();
    // A person has to say that it is another one.
    on_another_host(&sandbox, &["backup", "data"]).code(1).says(&[
        "another instance",
        "belay adopt data --new",
        "--id",
    ]);
    assert_eq!(sandbox.snapshot_files().len(), 1);
    on_another_host(&sandbox, &["adopt", "data", "--new"]).ok();
    on_another_host(&sandbox, &["backup", "data"]).ok();
    sandbox.backup();
    on_another_host(&sandbox, &["backup", "data"]).ok();
    assert_eq!(sandbox.snapshot_files().len(), 4);
    sandbox.belay(&["prune"]).ok();
    assert_eq!(
        sandbox.snapshot_files().len(),
        3,
        "one of this host's two is forgotten, none of the other's"
    );
    on_another_host(&sandbox, &["prune"]).ok();
    assert_eq!(
        sandbox.snapshot_files().len(),
        2,
        "one of the other's two is forgotten, none of this host's"
    );

    // `latest:` goes by the instance, not by its name.
    sandbox.assert_restores("latest:data", &here);
    let target = sandbox.fresh_directory();
    on_another_host(&sandbox, &["restore", "latest:data", "--to-dir", text(target.path())]).ok();
    let found = Tree::read(&target.path().join("files/other-source-data"));
    support::assert_same(&there, &found, "restored on the other host");
    let all = listed(&sandbox.belay(&["list", "--json"]).ok().json());
    assert!(!all.is_empty());
    sandbox.restic_finds_nothing();
}

#[test]
fn a_state_directory_that_was_copied_to_another_host_acts_for_nobody_until_a_person_says_so() {
    let sandbox = two_hosts();
    let here = Tree::read(&sandbox.source());
    sandbox.backup();
    let newest = sandbox.backup();
    let both = sandbox.snapshot_files();
    Run::of({
        let mut copy = Command::new("cp");
        copy.args(["-a", text(&sandbox.state()), text(&sandbox.path("other-state"))]);
        copy
    })
    .ok();

    let refused = ["belay adopt data --id", "belay adopt data --new"];
    on_another_host(&sandbox, &["backup", "data"]).code(1).says(&refused);
    let status = on_another_host(&sandbox, &["status", "--json"]).code_in(&[0, 1, 3]).json();
    let last_run = status["instances"][0]["last_run"].as_str().unwrap().to_owned();
    assert_eq!(last_run, "failed", "a backup that was refused is a failed run: {status}");
    on_another_host(&sandbox, &["pin", &newest, "--reason", "mine"]).code(1).says(&refused);
    on_another_host(&sandbox, &["unpin", &newest]).code(1).says(&refused);
    on_another_host(&sandbox, &["restore", "latest:data", "--into", "data", "--yes"])
        .code(1)
        .says(&refused);
    on_another_host(&sandbox, &["prune"]).code(3).says(&refused);
    assert_eq!(sandbox.snapshot_files(), both, "another host changed this one's snapshots");

    // A clone goes its own way.
    on_another_host(&sandbox, &["adopt", "data", "--new"]).ok();
    on_another_host(&sandbox, &["backup", "data"]).ok();
    on_another_host(&sandbox, &["prune"]).ok();
    assert!(sandbox.snapshot_files().is_superset(&both));
    sandbox.assert_restores("latest:data", &here);

    // A host that took the place of one which still runs: that one says so.
    let list = sandbox.belay(&["list", "--json"]).ok().json();
    let of_newest = |snapshot: &&serde_json::Value| snapshot["id"] == newest.as_str();
    let id = list.as_array().unwrap().iter().find(of_newest).unwrap()["instance_id"].clone();
    on_another_host(&sandbox, &["adopt", "data", "--id", id.as_str().unwrap()]).ok();
    on_another_host(&sandbox, &["backup", "data"]).ok();
    sandbox.belay(&["backup", "data"]).code_in(&[0, 3]).says(&["two hosts", "other-host"]);
}
