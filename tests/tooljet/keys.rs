//! Which keys `belay restore --into` brings back, and what it says of those that will not be in effect.
//!
//! The instance is in a container that a stand-in for `docker` makes of this machine: its variables are in its description.

use crate::support::{Run, text, write_secret};
use crate::{Instance, environment};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const RIGHT: &str =
    "LOCKBOX_MASTER_KEY=0101010101010101010101010101010101010101010101010101010101010101";
const STAND_IN: &str = r#"#!/bin/sh
[ "$1" = inspect ] && exec cat "${0%/*}/inspect.json"
shift 2
while [ "$1" = -e ]; do shift 2; done
shift
exec "$@"
"#;

fn other(word: &str) -> String {
    RIGHT.replace("=01010101", &format!("={word}"))
}

/// Put the instance into a container with these variables of its own.
fn contain(instance: &Instance, own: &[&str]) {
    let directory = instance.sandbox.path("bin");
    fs::create_dir_all(&directory).unwrap();
    let docker = directory.join("docker");
    fs::write(&docker, STAND_IN).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let facts = serde_json::json!([{
        "Image": "sha256:1",
        "State": { "Running": true },
        "Config": { "Env": own, "Image": "tj" },
    }]);
    fs::write(directory.join("inspect.json"), facts.to_string()).unwrap();
    instance.configure("via = \"docker:app\"\ncomponent.postgres.via = \"local\"");
}

fn belay(instance: &Instance, arguments: &[&str]) -> Run {
    let mut command = instance.sandbox.belay_command(arguments);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", instance.sandbox.path("bin").display()));
    Run::of(command)
}

const RESTORE: [&str; 6] = ["restore", "latest:tj", "--into", "tj", "--yes", "--json"];

#[track_caller]
fn backup_fits(instance: &Instance) {
    let run = belay(instance, &["backup", "tj", "--json"]).ok();
    assert_eq!(run.json()["snapshots"][0]["key_fit"], "fit");
}

/// A restore with warnings that say these words, and no keys.
#[track_caller]
fn restore_warns(instance: &Instance, words: &[&str]) -> Value {
    let run = belay(instance, &RESTORE).code(3).says(words);
    for word in ["01010101", "0a0a0a0a", "0b0b0b0b"] {
        assert!(!run.to_string().contains(word), "{run}");
    }
    run.json()["plan"].clone()
}

#[test]
fn the_key_that_was_proven_comes_back() {
    let instance = Instance::new(1);
    let good = environment(&instance.postgres);
    // The file is stale; the container has the key that counts.
    instance.set_environment(&good.replace(RIGHT, &other("0a0a0a0a")));
    contain(&instance, &[RIGHT]);
    backup_fits(&instance);
    let file = || fs::read_to_string(instance.environment_path()).unwrap();
    instance.set_environment(&good);
    belay(&instance, &RESTORE).ok();
    assert_eq!(file(), good, "a right key was replaced by a stale one");
    instance.set_environment(&good.replace(RIGHT, &other("0b0b0b0b")));
    belay(&instance, &RESTORE).ok();
    assert_eq!(file(), good);

    // Only the container has it, and then another one; that is said before, and afterwards.
    instance.set_environment(&good.replace(&format!("{RIGHT}\n"), ""));
    backup_fits(&instance);
    contain(&instance, &[&other("0b0b0b0b")]);
    let told = "LOCKBOX_MASTER_KEY of the snapshot will not be in effect";
    let plan = [&RESTORE[..4], &["--dry-run"]].concat();
    let planned = belay(&instance, &plan).ok().stdout();
    assert!(planned.contains(&format!("WARNING: {told}")), "{planned}");
    let plan = restore_warns(&instance, &[told, "make it anew"]);
    assert_eq!(plan["environment"], serde_json::json!(["LOCKBOX_MASTER_KEY"]));
    assert!(file().contains(RIGHT));

    // The container has it out of the file.
    instance.set_environment(&good.replace(RIGHT, &other("0b0b0b0b")));
    // What was there did not fit, so the run has a warning of its own.
    let plan = belay(&instance, &RESTORE).code(3).json()["plan"].clone();
    assert!(plan["notes"].to_string().contains("a restart is not enough"), "{plan}");
    assert_eq!(plan["warnings"], serde_json::json!([]));
    assert_eq!(file(), good);

    // The snapshot has none of a kind that the target has.
    let without: String =
        good.split_inclusive('\n').filter(|line| !line.starts_with("PGRST")).collect();
    contain(&instance, &[]);
    instance.set_environment(&without);
    backup_fits(&instance);
    belay(&instance, &RESTORE).ok();
    instance.set_environment(&good);
    restore_warns(&instance, &["the snapshot has no PGRST_JWT_SECRET"]);
    assert_eq!(file(), good);
}

#[test]
fn a_clone_gets_keys_and_no_other_variables_and_is_told_what_it_may_not_read() {
    let instance = Instance::new(1);
    let good = environment(&instance.postgres);
    instance.set_environment(&format!("{good}SMTP_PASSWORD=of-production\n"));
    instance.backup().ok();
    let password = instance.sandbox.path("password-of-clone");
    write_secret(&password, crate::support::servers::POSTGRES_PASSWORD);
    let file = instance.sandbox.path("clone.env");
    let clone = good
        .replace("PG_DB=tooljet_production", "PG_DB=clone_production")
        .replace("TOOLJET_DB=tooljet_db", "TOOLJET_DB=clone_db")
        .replace("_USER=tooljet", "_USER=cloner")
        .replace(RIGHT, &other("0a0a0a0a"));
    fs::write(&file, &clone).unwrap();
    let mut config = fs::read_to_string(instance.sandbox.config()).unwrap();
    config.extend([format!(
        "\n[instance.clone]\nplatform = \"tooljet\"\nenvironment = \"{}\"\ncomponent.postgres.user = \"postgres\"\ncomponent.postgres.password = \"file:{}\"\n",
        text(&file),
        text(&password)
    )]);
    fs::write(instance.sandbox.config(), config).unwrap();
    instance.postgres.sql("postgres", "CREATE ROLE cloner LOGIN");
    let restore = || {
        instance.sandbox.belay(&[
            "restore",
            "latest:tj",
            "--into",
            "clone",
            "--as-clone",
            "--confirm",
            "clone",
            "--yes",
            "--json",
        ])
    };
    let run =
        restore().code(3).says(&["belongs to the role tooljet", "GRANT \"tooljet\" TO \"cloner\""]);
    assert_eq!(run.json()["plan"]["environment_added"], serde_json::json!([]));
    assert_eq!(fs::read_to_string(&file).unwrap(), clone.replace(&other("0a0a0a0a"), RIGHT));
    instance.postgres.sql("postgres", "GRANT tooljet TO cloner");
    restore().ok();

    // The instance itself gets what it lacks, which is told apart from the keys.
    instance.set_environment(&good);
    let plan = instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--yes", "--json"]);
    let plan = plan.ok().json()["plan"].clone();
    assert_eq!(plan["environment_added"], serde_json::json!(["SMTP_PASSWORD"]));
    assert_eq!(plan["environment"], serde_json::json!([]));
}
