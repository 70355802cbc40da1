//! Upgrades over MongoDB from beginning to end, in the foreground: a small platform over real servers, whose releases break in each way, on
//! staging and on production.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;
use support::upgrades::{Kind, Pair};
use support::{assert_same_text, files_in, text};

const OLD: &str = "v1.96";
const NEW: &str = "v1.97";

fn broken(side: usize, breaks: &str, stops: bool) -> Pair {
    let pair = Pair::driven(Kind::Appsmith, "soak = '1s'", stops);
    pair.platforms[side].breaks(&[(NEW, &[breaks])]);
    pair
}

/// The documents and the environment file of production.
fn production(pair: &Pair) -> [String; 2] {
    [pair.dump(1), pair.environment(1)]
}

/// Production is as it was, staging keeps what it has proved, and what the new version left is in a snapshot that stays.
#[track_caller]
fn assert_taken_back(pair: &Pair, before: &[String; 2], seen: &str) -> String {
    assert_eq!(pair.state(), "rolled_back", "{seen}");
    assert_eq!((pair.version(0).as_str(), pair.version(1).as_str()), (NEW, OLD), "{seen}");
    let [documents, environment] = before;
    assert_same_text(documents, &pair.dump(1));
    assert_eq!(&pair.environment(1), environment, "{seen}");
    assert!(pair.platforms[1].pid().is_some(), "it runs: {seen}");
    pair.assert_nothing_is_left();
    pair.failed_state(1)
}

/// What breaks in that way on production is taken back. Answers the snapshot of what the new version left.
fn taken_back(breaks: &str) -> (Pair, String) {
    let pair = broken(1, breaks, true);
    let before = production(&pair);
    let run = pair.start().code(1);
    let id = assert_taken_back(&pair, &before, &format!("{breaks}: {run}"));
    assert!(run.stdout().contains("which is pinned"), "{breaks}: {run}");
    (pair, id)
}

#[test]
fn a_good_night_with_an_approval() {
    let who = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let terms = format!("approvers = ['{}']\nsoak = '1s'", who.trim());
    let pair = Pair::of(Kind::Appsmith, &terms);
    let count = "print(client.appsmith.newAction.count_documents({}), client.appsmith.newPage.count_documents({'of_1_97': True}))";
    assert_eq!(pair.databases[1].mongod().python(count), "216 0");
    let before = production(&pair);
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "awaiting_approval", "{run}");
    assert_eq!((pair.version(0).as_str(), pair.version(1).as_str()), (NEW, OLD));
    assert_same_text(&before[0], &pair.dump(1));
    pair.belay(&["upgrade", "approve", "main", "--reason", "looked at it"]).ok();
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!(pair.version(1), NEW);
    assert_eq!(pair.databases[1].mongod().python(count), "216 36", "moved, and all there");
    pair.assert_nothing_is_left();
    for step in ["back_up_staging_again", "back_up_stopped"] {
        let listed = pair.listed(&pair.snapshot_of(step));
        assert!(listed["pins"].to_string().contains("upgrade "), "{step}: {listed:#}");
    }
    let run =
        pair.belay(&["upgrade", "rollback", "main", "--reason", "users complain", "--foreground"]);
    assert_taken_back(&pair, &before, &run.code_in(&[0, 3]).to_string());
}

#[test]
fn a_release_that_refuses_or_dies_half_way_is_taken_back() {
    taken_back("refuses");
    taken_back("half");
}

#[test]
fn a_release_that_loses_documents_is_taken_back_and_what_it_left_can_be_looked_at() {
    let (pair, id) = taken_back("loses-rows");
    let kept = pair.unpacked(&id);
    let database = kept.path().join("mongodb/appsmith");
    let names = files_in(&database);
    assert!(names.contains("newAction.bson") && names.contains("config.bson"), "{names:?}");
    let script = format!(
        "directory = {:?}\nread = lambda name: bson.decode_all(open(f'{{directory}}/{{name}}.bson', 'rb').read())\n\
         print(len(read('newAction')), [it['value'] for it in read('config') if it['name'] == 'release-of-tests'])",
        text(&database)
    );
    let found = pair.databases[1].mongod().python(&script);
    assert_eq!(found, format!("180 ['{NEW}']"), "what the new version left");
}

#[test]
fn a_release_that_changes_a_key_or_breaks_an_app_is_taken_back() {
    taken_back("changes-key");
    let (pair, id) = taken_back("rewrites-keys");
    let kept = pair.unpacked(&id);
    let file = fs::read_to_string(kept.path().join("environment/production.env")).unwrap();
    assert!(file.contains("\nAPPSMITH_ENCRYPTION_PASSWORD=another-password\n"));
    taken_back("breaks-app");
}

#[test]
fn a_release_that_only_pretends_or_drops_an_app_is_taken_back() {
    taken_back("pretends");
    taken_back("drops-app");
}

#[test]
fn what_breaks_on_staging_never_reaches_production() {
    for (breaks, words) in [
        ("refuses", "CHECKPOINT MISSED"),
        ("half", "the migration of pages failed"),
        ("loses-rows", "counts failed"),
        ("breaks-app", "apps-open failed"),
        ("changes-key", "keys failed"),
        ("pretends", "apps-open failed"),
    ] {
        let pair = broken(0, breaks, true);
        let before = [pair.dump(0), pair.dump(1)];
        let run = pair.start().code(1);
        assert_eq!(pair.state(), "aborted", "{breaks}: {run}");
        assert!(run.stdout().contains(words) || run.stderr().contains(words), "{breaks}: {run}");
        for (side, before) in before.iter().enumerate() {
            assert_eq!(pair.version(side), OLD, "{breaks}: {run}");
            assert_same_text(before, &pair.dump(side));
        }
        assert!(!pair.done().iter().any(|step| step == "stop_writers"), "{breaks}");
        pair.failed_state(0);
        pair.assert_nothing_is_left();
    }
}

/// What writes is stopped by the platform's own supervisor, and the script only puts versions in place: whoever takes the rollback up must
/// not start the version that was replaced.
#[test]
fn a_rollback_that_is_killed_starts_nothing_but_the_version_before() {
    for (breaks, ends) in [("half", "failed"), ("loses-rows", "done")] {
        let pair = broken(1, breaks, false);
        let before = production(&pair);
        let places = [
            "noted began upgrade_production".to_owned(),
            format!("before {ends} upgrade_production"),
            "before done stop_production".to_owned(),
            "noted done stop_production".to_owned(),
            "before done put_back_production".to_owned(),
            "noted began start_back".to_owned(),
            "before done start_back".to_owned(),
        ];
        let run = pair.killed_at(&places).code(1);
        assert_taken_back(&pair, &before, &format!("{breaks}: {run}"));
    }
}
