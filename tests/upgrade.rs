//! Upgrades from beginning to end, in the foreground: a small platform over real PostgreSQL servers, whose releases break in each way,
//! on staging and on production.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use support::Run;
use support::upgrades::Pair;

const OLD: &str = "v3.16.11";
const NEW: &str = "v3.17.0";

#[test]
fn a_good_night_with_an_approval() {
    let who = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let pair = Pair::new(&format!("approvers = ['{}']\nsoak = '1s'", who.trim()));
    let plan = pair.belay(&["upgrade", "plan", "main", "--to", NEW]).ok().stdout();
    assert!(plan.contains("Wait until one of"), "{plan}");
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "awaiting_approval", "{run}");
    assert_eq!((pair.version(0).as_str(), pair.version(1).as_str()), (NEW, OLD));
    // A kill between the repository and the catalog: the repository has one record more.
    let newest =
        "DELETE FROM upgrade_records WHERE number = (SELECT max(number) FROM upgrade_records)";
    let catalog = pair.sandbox.state().join("catalog.sqlite");
    let lose = || rusqlite::Connection::open(&catalog).unwrap().execute(newest, []).unwrap();
    assert_eq!(lose(), 1);
    let gated = pair.belay(&["gate", "main", "--to", NEW, "--json"]).code_in(&[0, 5]).json();
    assert_eq!(gated["upgrade"]["state"], "awaiting_approval", "{gated:#}");
    assert_eq!(lose(), 1);
    let run = pair.resume().code_in(&[0, 3]);
    assert!(!run.stderr().contains("could not be written"), "{run}");
    assert_eq!(pair.state(), "awaiting_approval", "{run}");
    // Who says so is who the process runs as: a variable is no credential.
    let mut approve = pair.command(&["upgrade", "approve", "main", "--reason", "looked at it"]);
    approve.env("SUDO_USER", "alice");
    Run::of(approve).ok();
    let approved = pair.records().into_iter().find(|record| record["kind"] == "approved").unwrap();
    assert_eq!(approved["by"], who.trim());
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!(pair.version(1), NEW);
    let done = pair.done();
    let place = |step: &str| {
        done.iter().position(|it| it == step).unwrap_or_else(|| panic!("{step}: {done:?}"))
    };
    assert!(place("test_staging") < place("stop_writers"), "{done:?}");
    assert!(place("back_up_stopped") < place("upgrade_production"), "{done:?}");
    assert!(place("verify") > place("upgrade_production"), "{done:?}");
    // Both snapshots from right before are pinned.
    let listed = pair.belay(&["list", "--json"]).ok().stdout();
    assert!(listed.contains("upgrade "), "{listed}");
    // By hand it goes back, with one command.
    let run =
        pair.belay(&["upgrade", "rollback", "main", "--reason", "users complain", "--foreground"]);
    let run = run.code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.version(1), OLD);
    assert!(run.stdout().contains("which is pinned"), "{run}");
}

#[test]
fn what_breaks_on_staging_never_reaches_production() {
    for (breaks, words) in [
        ("refuses", "CHECKPOINT MISSED"),
        ("half", "migration of tooljet_db failed"),
        ("loses-rows", "counts failed"),
        ("breaks-app", "apps-open failed"),
        ("changes-key", "keys failed"),
        ("pretends", "failed"),
    ] {
        let pair = Pair::new("");
        let before = [pair.dump(0), pair.dump(1)];
        pair.platforms[0].breaks(&[(NEW, &[breaks])]);
        let run = pair.start().code(1);
        assert_eq!(pair.state(), "aborted", "{breaks}: {run}");
        assert!(run.stdout().contains(words) || run.stderr().contains(words), "{breaks}: {run}");
        assert_eq!(pair.version(0), OLD, "{breaks}: staging has its old version back");
        assert_eq!(pair.dump(0), before[0], "{breaks}: and its data");
        assert_eq!(pair.dump(1), before[1], "{breaks}: production is untouched");
        assert!(!pair.done().iter().any(|step| step == "stop_writers"), "{breaks}");
    }
}

/// A release that takes connections and never answers, on one side.
fn hangs(side: usize) -> (Pair, bool) {
    let terms = "soak = '1s'\ntests = [{ health = {}, timeout = '20s' }, 'version', 'apps-open', 'counts', 'keys']";
    let pair = Pair::new(terms);
    let before = [pair.dump(0), pair.dump(1)];
    pair.platforms[side].breaks(&[(NEW, &["hangs"])]);
    let run = pair.start().code(1);
    assert!(run.stderr().contains("there was no answer in time"), "{run}");
    assert_eq!(pair.version(1), OLD, "production is never left on it: {run}");
    assert_eq!(pair.dump(1), before[1], "{run}");
    pair.assert_nothing_is_left();
    let staging_is_as_before = pair.dump(0) == before[0];
    (pair, staging_is_as_before)
}

#[test]
fn a_release_that_hangs_on_staging_is_given_up_in_time() {
    let (pair, staging_is_as_before) = hangs(0);
    assert_eq!(pair.state(), "aborted");
    assert!(staging_is_as_before && pair.version(0) == OLD);
    assert!(!pair.done().iter().any(|step| step == "stop_writers"));
}

#[test]
fn a_release_that_hangs_on_production_is_taken_back_in_time() {
    let (pair, staging_is_as_before) = hangs(1);
    assert_eq!(pair.state(), "rolled_back");
    assert!(!staging_is_as_before && pair.version(0) == NEW, "it keeps what it has proved");
}

#[test]
fn what_breaks_on_production_is_taken_back_with_the_data() {
    for breaks in ["refuses", "half", "loses-rows", "breaks-app", "changes-key", "pretends"] {
        let pair = Pair::new("soak = '1s'");
        let before = pair.dump(1);
        pair.platforms[1].breaks(&[(NEW, &[breaks])]);
        let run = pair.start().code(1);
        assert_eq!(pair.state(), "rolled_back", "{breaks}: {run}");
        assert_eq!(pair.version(1), OLD, "{breaks}");
        assert_eq!(pair.dump(1), before, "{breaks}: as it was");
        assert_eq!(pair.version(0), NEW, "{breaks}: staging keeps what it has proved");
        let said = run.stdout();
        assert!(said.contains("which is pinned") || said.contains("is kept"), "{breaks}: {run}");
    }
}
