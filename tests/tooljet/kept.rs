//! What `belay restore --into` keeps of the state before it where no snapshot has that, and restores that something outside
//! stands in the way of.

use crate::support::{self, Run, text, wait_until};
use crate::{Instance, assert_workspaces_work, picture, workspaces};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const RESTORE: [&str; 6] = ["restore", "latest:tj", "--into", "tj", "--yes", "--json"];

/// An instance that was backed up, and got another key and a role with another limit since. Returns the file of then and of now.
fn changed_instance() -> (Instance, [String; 2]) {
    let instance = Instance::new(1);
    instance.backup().ok();
    let good = fs::read_to_string(instance.environment_path()).unwrap();
    let now = good.replace("=02020202", "=0b0b0b0b");
    instance.set_environment(&now);
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(instance.environment_path(), mode).unwrap();
    let (role, _) = workspaces(&instance.postgres).remove(0);
    instance.postgres.sql("postgres", &format!("ALTER ROLE \"{role}\" CONNECTION LIMIT 7"));
    (instance, [good, now])
}

fn limits(instance: &Instance) -> String {
    let limits = "SELECT count(*) FROM pg_roles WHERE rolconnlimit = 7";
    instance.postgres.sql("postgres", limits).trim().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The file that a restore named, which is no other's to read.
#[track_caller]
fn named(result: &Value, field: &str) -> PathBuf {
    PathBuf::from(result[field].as_str().unwrap_or_else(|| panic!("no {field}: {result}")))
}

/// The old keys are beside the new ones, and what roles were can be had back.
#[track_caller]
fn assert_kept(instance: &Instance, [good, old]: &[String; 2], result: &Value) {
    let kept = named(result, "environment_before");
    assert!(kept.to_str().unwrap().contains(".env.belay-before-"), "{}", kept.display());
    assert_eq!(&fs::read_to_string(&kept).unwrap(), old);
    assert_eq!(mode(&kept), 0o640);
    assert_eq!(&fs::read_to_string(instance.environment_path()).unwrap(), good);
    assert_eq!(limits(instance), "0");
    let roles = named(result, "roles_before");
    assert_eq!(mode(&roles), 0o600);
    instance.postgres.script(&roles);
    assert_eq!(limits(instance), "1");
}

#[test]
fn what_no_snapshot_has_is_kept_and_named() {
    let (instance, files) = changed_instance();
    let discard = [&RESTORE[..], &["--discard-current", "--reason", "a test"]].concat();
    let run = instance.sandbox.belay(&discard).code(3);
    let result = run.json();
    assert!(result["before"].is_null());
    assert_eq!(result["aside"].as_array().unwrap().len(), 2);
    assert_kept(&instance, &files, &result);

    // The snapshot of the present state failed.
    instance.set_environment(&files[1]);
    instance.with_pg_dump("exit 1");
    let run = instance.sandbox.belay(&RESTORE).code(3).says(&["No snapshot of the present state"]);
    assert_kept(&instance, &files, &run.json());
    instance.configure("");

    // The databases are gone, the file is not; for people, this time.
    destroy_databases(&instance);
    instance.set_environment(&files[1]);
    let planned = instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--dry-run"]);
    let planned = planned.ok().stdout();
    assert!(
        planned.contains("is kept as it was") && !planned.contains("Nothing is there"),
        "{planned}"
    );
    let run = instance.sandbox.belay(&RESTORE).ok();
    assert_eq!(run.json()["plan"]["present_state"], "kept_beside");
    assert_kept(&instance, &files, &run.json());

    // What a snapshot has is not kept twice.
    instance.set_environment(&files[1]);
    let result = instance.sandbox.belay(&RESTORE).ok().json();
    assert!(result["before"].is_string());
    assert!(result["environment_before"].is_null() && result["roles_before"].is_null(), "{result}");
    assert_workspaces_work(&instance.postgres, 1);
}

fn destroy_databases(instance: &Instance) {
    for database in ["tooljet_production", "tooljet_db"] {
        instance.postgres.sql("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"));
    }
}

#[test]
fn old_databases_that_are_kept_are_told_with_what_opens_them_and_why() {
    let instance = Instance::new(1);
    instance.backup().ok();
    // A server that does not count cannot tell whether somebody wrote.
    instance.postgres.sql("postgres", "ALTER SYSTEM SET track_counts = off");
    instance.postgres.sql("postgres", "SELECT pg_reload_conf()");
    let run = instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--yes"]).code(3);
    let run = run.says(&["Whether somebody wrote", "track_counts"]);
    let told = run.stdout();
    let statement = told.split('`').find(|part| part.starts_with("ALTER DATABASE")).unwrap();
    instance.postgres.sql("postgres", statement);
    let database = statement.split('"').nth(1).unwrap();
    assert!(database.starts_with("belay_old_"), "{told}");
    assert_eq!(instance.postgres.sql(database, "SELECT 1").trim(), "1");
}

#[test]
fn an_environment_file_that_is_gone_is_told_with_what_brings_it_back() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let path = instance.environment_path();
    let good = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for arguments in
        [&["backup", "tj"][..], &RESTORE, &["restore", "latest:tj", "--into", "tj", "--dry-run"]]
    {
        let run = instance.sandbox.belay(arguments).code(1);
        run.says(&["the environment file of tj could not be read", "latest:tj --to-dir"]);
    }
    let doctor = instance.sandbox.belay(&["doctor", "tj"]).to_string();
    assert!(doctor.contains("latest:tj --to-dir"), "{doctor}");
    let target = instance.sandbox.path("brought-back");
    let back = ["restore", "latest:tj", "--to-dir", text(&target), "--path", "/environment"];
    instance.sandbox.belay(&back).ok();
    fs::copy(target.join("environment/tooljet.env"), &path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), good);
    instance.sandbox.belay(&RESTORE).ok();
}

/// A file mounted over itself, as a container has it; unmounted with this handle.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: PathBuf) -> Self {
        let mut command = Command::new("mount");
        command.args(["--bind", text(&path), text(&path)]);
        Run::of(command).ok();
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[test]
fn an_environment_file_that_is_a_mount_is_written_in_place() {
    let (instance, [good, now]) = changed_instance();
    let path = instance.environment_path();
    let mounted = Mounted::new(path.clone());
    let environment = || fs::read_to_string(&path).unwrap();
    instance.sandbox.belay(&RESTORE).ok();
    assert_eq!(environment(), good);

    // It becomes read-only after it was looked at: all else is done, and it is said what is left.
    fs::write(&path, &now).unwrap();
    instance
        .with_pg_dump(&format!("mount -o remount,bind,ro '{}'; exec $REAL \"$@\"", text(&path)));
    let run = instance.sandbox.belay(&RESTORE).code(3);
    run.says(&["their keys could not be put into", "by hand"]);
    let made = "SELECT count(*) FROM pg_database WHERE datname LIKE 'belay%'";
    assert_eq!(instance.postgres.sql("postgres", made).trim(), "0", "old databases are there");
    instance.configure("");
    instance.backup().code(1).says(&["their keys could not be put into", "by hand"]);
    // The next restore would find that out before it does anything, but for the journal, which comes first.
    let mut command = Command::new("mount");
    command.args(["-o", "remount,bind,rw", text(&path)]);
    Run::of(command).ok();
    instance.backup().ok();
    assert_eq!(environment(), good);

    let mut command = Command::new("mount");
    command.args(["-o", "remount,bind,ro", text(&path)]);
    fs::write(&path, &now).unwrap();
    Run::of(command).ok();
    let before = picture(&instance.postgres);
    instance.sandbox.belay(&RESTORE).code(1).says(&["nobody may write to it"]);
    support::assert_same_text(&before, &picture(&instance.postgres));
    drop(mounted);
}

/// Kill a restore of a snapshot while it fills a database.
fn kill_while_filling(instance: &Instance, snapshot: &str) {
    instance.with_pg_dump("exec $REAL \"$@\"");
    let pg_restore = instance.sandbox.path("tools/pg_restore");
    fs::remove_file(&pg_restore).unwrap();
    let mark = instance.sandbox.path("filling");
    let script =
        format!("#!/bin/sh\ntouch '{0}'; while [ -e '{0}' ]; do :; done\n", mark.display());
    fs::write(&pg_restore, script).unwrap();
    fs::set_permissions(&pg_restore, fs::Permissions::from_mode(0o755)).unwrap();
    let running = instance.sandbox.start(&["restore", snapshot, "--into", "tj", "--yes"]);
    wait_until("the restore to fill a database", || mark.exists());
    running.kill();
    fs::remove_file(&mark).unwrap();
    instance.configure("");
}

#[test]
fn a_restore_that_was_killed_is_undone_although_the_old_databases_are_gone() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let snapshot = instance.sandbox.list().remove(0).id;
    let good = picture(&instance.postgres);
    let restore = || instance.sandbox.belay(&["restore", &snapshot, "--into", "tj", "--yes"]);
    // What was spoilt anyway is dropped by somebody, who may have begun anew.
    kill_while_filling(&instance, &snapshot);
    destroy_databases(&instance);
    restore().ok();
    support::assert_same_text(&good, &picture(&instance.postgres));
    kill_while_filling(&instance, &snapshot);
    instance.postgres.sql("postgres", "DROP DATABASE tooljet_db WITH (FORCE)");
    instance.postgres.sql("postgres", "CREATE DATABASE tooljet_db");
    restore().ok();
    support::assert_same_text(&good, &picture(&instance.postgres));

    // Nothing is left that tells on which side of the exchange it was: the way on is told.
    kill_while_filling(&instance, &snapshot);
    let made = "SELECT datname FROM pg_database WHERE datname LIKE 'belay%'";
    for database in instance.postgres.sql("postgres", made).lines() {
        instance.postgres.sql("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"));
    }
    instance.postgres.sql("postgres", "DROP DATABASE tooljet_db WITH (FORCE)");
    let journal = instance.sandbox.state().join("database-restores/tj.json");
    restore().code(1).says(&["neither undone nor finished", "belay_old_", text(&journal)]);
    fs::remove_file(&journal).unwrap();
    restore().ok();
    support::assert_same_text(&good, &picture(&instance.postgres));
}
