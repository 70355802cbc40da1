//! Upgrades from beginning to end, in the foreground: a small platform over real PostgreSQL servers, whose releases break in each way,
//! on staging and on production.
#![allow(clippy::unwrap_used)]

mod support;

use jiff::Timestamp;
use std::fs;
use std::process::Command;
use support::upgrades::Pair;
use support::{Run, assert_same_text};

const OLD: &str = "v3.16.11";
const NEW: &str = "v3.17.0";
/// How the new version breaks, and what is told of that.
const BREAKS: [(&str, &str); 7] = [
    ("refuses", "CHECKPOINT MISSED"),
    ("half", "migration of tooljet_db failed"),
    ("loses-rows", "counts failed"),
    ("breaks-app", "apps-open failed"),
    ("changes-key", "keys failed"),
    ("rewrites-keys", "keys failed"),
    ("pretends", "apps-open failed"),
];
/// The rows and the files of both sides.
type Picture = [(String, String); 2];

fn picture(pair: &Pair) -> Picture {
    [0, 1].map(|side| (pair.dump(side), pair.environment(side)))
}

#[track_caller]
fn assert_as_before(pair: &Pair, side: usize, before: &Picture) {
    assert_eq!(pair.version(side), OLD);
    assert_same_text(&before[side].0, &pair.dump(side));
    assert_eq!(pair.environment(side), before[side].1);
}

/// What the new version left of a side is kept, with what it did to that.
#[track_caller]
fn assert_failed_state_is_kept(pair: &Pair, side: usize, breaks: &str) -> String {
    let id = pair.failed_state(side);
    let manifest = pair.manifest(&id).to_string();
    let has_moved = !["refuses", "half"].contains(&breaks);
    assert_eq!(manifest.contains("\"of_3_17\":0"), has_moved, "{breaks}: {manifest}");
    if breaks == "rewrites-keys" {
        let name = ["staging", "production"][side];
        let kept = pair.unpacked(&id);
        let file = fs::read_to_string(kept.path().join(format!("environment/{name}.env"))).unwrap();
        assert!(file.contains(&format!("\nLOCKBOX_MASTER_KEY={}\n", "04".repeat(32))));
    }
    id
}

/// The seconds that a report says are lost.
fn told_loss(report: &str, snapshot: &str) -> i64 {
    let begin =
        format!("production is as it was in snapshot {}; what changed in the ", &snapshot[..8]);
    let rest = report.split_once(&begin).unwrap_or_else(|| panic!("{begin}: {report}")).1;
    let span = rest.split_once(" since then is not in it").unwrap_or_else(|| panic!("{rest}")).0;
    let seconds = |part: &str| {
        let (count, unit) = part.split_at(part.len() - 1);
        count.parse::<i64>().unwrap()
            * [("s", 1), ("m", 60)].iter().find(|it| it.0 == unit).unwrap().1
    };
    span.split(' ').map(seconds).sum()
}

#[test]
fn a_good_night_with_an_approval() {
    let who = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let pair = Pair::new(&format!(
        "approvers = ['{}']\nsoak = '1s'\nmaintenance = {{ on = ['SCRIPT', 'keep-out'], off = ['SCRIPT', 'let-in'] }}",
        who.trim()
    ));
    let before = picture(&pair);
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
    assert!(!pair.platforms[1].keeps_users_out(), "they are let in");
    // What users make meanwhile is not lost with the way back, by hand, with one command.
    let made = "INSERT INTO organizations (id, name) VALUES (gen_random_uuid(), 'made since')";
    pair.databases[1].postgres().sql("tooljet_production", made);
    // What the new version has made, and a nightly snapshot has, is not missed once it is gone.
    let new = "CREATE TABLE made_since AS SELECT 1 AS one";
    pair.databases[1].postgres().sql("tooljet_production", new);
    pair.belay(&["backup", "production"]).code_in(&[0, 3]);
    let stopped = pair.snapshot_of("back_up_stopped");
    let of_stopped: Timestamp = pair.listed(&stopped)["time"].as_str().unwrap().parse().unwrap();
    let age = || Timestamp::now().duration_since(of_stopped).as_secs();
    let age_before = age();
    let run =
        pair.belay(&["upgrade", "rollback", "main", "--reason", "users complain", "--foreground"]);
    let run = run.code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_as_before(&pair, 1, &before);
    let told = told_loss(&run.stdout(), &stopped);
    assert!((age_before..=age()).contains(&told), "{told} s, of {age_before} s or more: {run}");
    let failed = assert_failed_state_is_kept(&pair, 1, "");
    assert!(run.stdout().contains(&format!("is in snapshot {}, which is pinned", &failed[..8])));
    let kept = pair.unpacked(&failed);
    let mut rows = Command::new("pg_restore");
    rows.args(["--data-only", "--table=organizations", "-f", "-"]);
    rows.arg(kept.path().join("postgres/tooljet_production.dump"));
    let rows = Run::of(rows).ok().stdout();
    assert!(rows.contains("\tmade since\t"), "{rows}");
    // Users were kept out of production whenever it was stopped or got another version, and of staging never.
    let [staging, production] = [0, 1].map(|side| pair.platforms[side].actions());
    assert!(staging.iter().all(|action| action.ends_with(", users in")), "{staging:?}");
    let [first, later @ ..] = &production[..] else { panic!("nothing was done") };
    assert_eq!(first, &format!("install {OLD}, users in"));
    assert!(later.iter().all(|action| action.ends_with(", users out")), "{production:?}");
    let installs: Vec<_> = later.iter().filter(|action| action.starts_with("install")).collect();
    assert_eq!(installs, [NEW, OLD].map(|it| format!("install {it}, users out")).each_ref());
    assert!(!pair.platforms[1].keeps_users_out(), "they are let in: {run}");
}

#[test]
fn what_breaks_on_staging_never_reaches_production() {
    for (breaks, words) in BREAKS {
        let pair = Pair::new("");
        let before = picture(&pair);
        pair.platforms[0].breaks(&[(NEW, &[breaks])]);
        let run = pair.start().code(1);
        assert_eq!(pair.state(), "aborted", "{breaks}: {run}");
        assert!(run.stdout().contains(words) || run.stderr().contains(words), "{breaks}: {run}");
        assert_as_before(&pair, 0, &before);
        assert_as_before(&pair, 1, &before);
        assert!(!pair.done().iter().any(|step| step == "stop_writers"), "{breaks}");
        let failed = assert_failed_state_is_kept(&pair, 0, breaks);
        let kept = format!("left of staging is in snapshot {}, which is pinned", &failed[..8]);
        assert!(run.stdout().contains(&kept), "{breaks}: {run}");
    }
}

/// A release that takes connections and never answers, on one side.
fn hangs(side: usize) -> (Pair, Picture) {
    let terms = "soak = '1s'\ntests = [{ health = {}, timeout = '20s' }, 'version', 'apps-open', 'counts', 'keys']";
    let pair = Pair::new(terms);
    let before = picture(&pair);
    pair.platforms[side].breaks(&[(NEW, &["hangs"])]);
    let run = pair.start().code(1);
    assert!(run.stderr().contains("there was no answer in time"), "{run}");
    // Production is never left on it.
    assert_as_before(&pair, 1, &before);
    assert_failed_state_is_kept(&pair, side, "hangs");
    pair.assert_nothing_is_left();
    (pair, before)
}

#[test]
fn a_release_that_hangs_on_staging_is_given_up_in_time() {
    let (pair, before) = hangs(0);
    assert_eq!(pair.state(), "aborted");
    assert_as_before(&pair, 0, &before);
    assert!(!pair.done().iter().any(|step| step == "stop_writers"));
}

#[test]
fn a_release_that_hangs_on_production_is_taken_back_in_time() {
    let (pair, before) = hangs(1);
    assert_eq!(pair.state(), "rolled_back");
    assert_eq!(pair.version(0), NEW, "it keeps what it has proved");
    assert_ne!(pair.dump(0), before[0].0);
}

#[test]
fn what_breaks_on_production_is_taken_back_with_the_data() {
    for (breaks, words) in BREAKS {
        let pair = Pair::new("soak = '1s'");
        let before = picture(&pair);
        pair.platforms[1].breaks(&[(NEW, &[breaks])]);
        let run = pair.start().code(1);
        assert_eq!(pair.state(), "rolled_back", "{breaks}: {run}");
        assert!(run.stdout().contains(words) || run.stderr().contains(words), "{breaks}: {run}");
        assert_as_before(&pair, 1, &before);
        assert_eq!(pair.version(0), NEW, "{breaks}: staging keeps what it has proved");
        let failed = assert_failed_state_is_kept(&pair, 1, breaks);
        let kept = format!("left of production is in snapshot {}, which is pinned", &failed[..8]);
        assert!(run.stdout().contains(&kept), "{breaks}: {run}");
    }
}
