//! What only time brings, by a clock that runs ahead: further tries of a way back, after the last of which a person takes production as it is;
//! and the end of what is kept.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::Duration;
use support::clock::Clock;
use support::upgrades::{Pair, killed_at};
use support::{Run, Running, assert_same_text, wait_until};

const OLD: &str = "v3.16.11";
const NEW: &str = "v3.17.0";
/// When a step of a way back that failed is tried again, in minutes.
const TRIES: [u64; 3] = [1, 5, 15];

fn who() -> String {
    let mut id = Command::new("id");
    id.arg("-un");
    Run::of(id).ok().stdout().trim().to_owned()
}

/// `belay upgrade accept main …`.
fn accept(pair: &Pair, more: &[&str]) -> Run {
    pair.belay(&[&["upgrade", "accept", "main"], more].concat())
}

#[test]
fn a_production_that_is_back_and_fails_its_tests_is_taken_as_it_is_by_a_person_alone() {
    let clock = Clock::new();
    let pair = Pair::new(
        "soak = '0s'\nmaintenance = { on = ['SCRIPT', 'keep-out'], off = ['SCRIPT', 'let-in'] }",
    );
    let before = pair.dump(1);
    let why = ["--reason", "the app was given up", "--foreground"];
    accept(&pair, &why).code(1).says(&["no upgrade of main is on its way"]);
    // The version before, once it is started again, has an app that does not open any more.
    pair.platforms[1].breaks(&[(NEW, &["loses-rows"]), (OLD, &["breaks-app"])]);
    let start = ["upgrade", "start", "main", "--to", NEW, "--yes", "--foreground"];
    let mut running = Running::start(clock.by(pair.command(&start)));
    let (mut tries, mut minutes) = (0, 0);
    for after in TRIES {
        tries += 1;
        wait_until("its tests to fail", || failed(&pair).len() == tries || running.has_ended());
        assert!(!running.has_ended(), "{}", running.wait());
        accept(&pair, &why).code(5).says(&["cannot accept production as it is", "is not held"]);
        minutes += after;
        clock.is_ahead(Duration::from_mins(minutes));
    }
    let run = running.wait().code(1);
    assert_eq!(pair.state(), "held", "{run}");
    let failed = failed(&pair);
    assert_eq!(failed.len(), TRIES.len() + 1, "{run}");
    assert!(failed[0]["why"].as_str().unwrap().contains("apps-open failed"), "{failed:#?}");
    // It is back, and nobody gets in.
    let is_as_before = || {
        assert_eq!([pair.version(0), pair.version(1)], [NEW, OLD]);
        assert_same_text(&before, &pair.dump(1));
    };
    is_as_before();
    assert!(pair.platforms[1].keeps_users_out());
    let pid = pair.platforms[1].pid().unwrap();
    let status = pair.belay(&["upgrade", "status", "main"]).ok().stdout();
    for words in ["It waits for a person", "belay upgrade accept main --reason TEXT"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    accept(&pair, &["--foreground"]).code(2).says(&["--reason"]);
    accept(&pair, &["--reason", " ", "--foreground"]).code(5).says(&["without a reason"]);
    assert_eq!(pair.state(), "held");
    assert!(pair.platforms[1].keeps_users_out());

    let run = accept(&pair, &why).code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert!(!pair.platforms[1].keeps_users_out(), "{run}");
    assert_eq!(pair.platforms[1].pid(), Some(pid), "it is taken as it runs: {run}");
    is_as_before();
    let asked = pair.records().into_iter().filter(|it| it["kind"] == "asked");
    let asked: Vec<Value> = asked.collect();
    let [asked] = &asked[..] else { panic!("{asked:#?}") };
    assert_eq!((&asked["by"], &asked["reason"]), (&json!(who()), &json!(why[1])), "{asked:#}");
    assert!(asked.to_string().contains("accept"), "{asked:#}");
    let shown = pair.belay(&["upgrade", "show", "main"]).ok().stdout();
    assert!(shown.contains(why[1]), "{shown}");
    pair.failed_state(1);
    pair.assert_nothing_is_left();
    accept(&pair, &why).code(1).says(&["no upgrade of main is on its way"]);
}

#[test]
fn a_further_try_that_is_killed_is_gone_on_with_at_a_word() {
    // In the middle of it; and at its end, which only the repository knows of.
    for place in ["noted began start_back", "kept done start_back"] {
        let clock = Clock::new();
        let pair = Pair::new("soak = '0s'");
        let before = pair.dump(1);
        pair.platforms[1].breaks(&[(NEW, &["loses-rows"]), (OLD, &["refuses"])]);
        let mut start =
            pair.command(&["upgrade", "start", "main", "--to", NEW, "--yes", "--foreground"]);
        let places = pair.sandbox.path("places");
        start.env("BELAY_ENDS_UPGRADE_AT", &places);
        let mut running = Running::start(clock.by(start));
        wait_until("the next try to be waited for", || {
            running.stderr_so_far().contains("waiting for the next try") || running.has_ended()
        });
        assert!(!running.has_ended(), "{}", running.wait());
        fs::write(&places, format!("{place}\n")).unwrap();
        pair.platforms[1].breaks(&[]);
        clock.is_ahead(Duration::from_mins(1));
        let run = running.wait();
        assert_eq!(run.signal(), Some(9), "{place}: {run}");
        assert_eq!(pair.state(), "rolling_back", "{place}");
        let run = pair.resume().code(1);
        assert_eq!(pair.state(), "rolled_back", "{place}: {run}");
        assert_eq!([pair.version(0), pair.version(1)], [NEW, OLD], "{place}: {run}");
        assert_same_text(&before, &pair.dump(1));
        pair.assert_nothing_is_left();
    }
}

/// The records that say that production's tests failed once it was back.
fn failed(pair: &Pair) -> Vec<Value> {
    let records = pair.belay(&["upgrade", "show", "main", "--json"]);
    // It may not have begun yet.
    if records.exit_code() != Some(0) {
        return Vec::new();
    }
    let records = records.json()["upgrade"]["records"].as_array().unwrap().clone();
    let is_failed = |it: &Value| it["kind"] == "failed" && it["step"] == "verify_back";
    records.into_iter().filter(is_failed).collect()
}

#[test]
fn without_a_daemon_what_was_kept_is_released_at_a_word() {
    let (clock, pair) = (Clock::new(), Pair::new("soak = '0s'"));
    pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional");
    let kept = pair.snapshot_of("back_up_stopped");
    let resumed = |days: u64| {
        clock.is_ahead(Duration::from_hours(24 * days));
        let resume = pair.command(&["upgrade", "resume", "main", "--foreground"]);
        Run::of_long(clock.by(resume))
    };
    resumed(8).code_in(&[0, 3]);
    assert_eq!(pair.state(), "committed");
    resumed(8 + 29).code(1).says(&["no upgrade of main is on its way"]);
    assert_ne!(pair.listed(&kept)["pins"], json!([]));
    let run = resumed(8 + 31).code_in(&[0, 3]);
    assert!(run.stdout().contains("committed"), "{run}");
    assert_eq!(pair.listed(&kept)["pins"], json!([]), "{run}");
    resumed(8 + 31).code(1).says(&["no upgrade of main is on its way"]);
}

#[test]
fn what_is_for_good_and_released_is_so_whatever_is_killed() {
    for [began, done] in [["before", "kept"], ["kept", "noted"], ["noted", "before"]] {
        let (clock, pair) = (Clock::new(), Pair::new("soak = '0s'"));
        pair.start().code_in(&[0, 3]);
        let kept = pair.snapshot_of("back_up_stopped");
        for (days, step, listed) in [(8, "commit", false), (8 + 31, "release_pins", true)] {
            clock.is_ahead(Duration::from_hours(24 * days));
            let places = [format!("{began} began {step}"), format!("{done} done {step}")];
            let by_clock = |arguments: &[&str]| clock.by(pair.command(arguments));
            let file = pair.sandbox.path("places");
            let run = killed_at(&file, &places, &["resume", "main"], by_clock);
            assert_eq!(pair.state(), "committed", "{run}");
            assert_eq!(pair.listed(&kept)["pins"] == json!([]), listed, "{step}: {run}");
        }
        assert_eq!([pair.version(0), pair.version(1)], [NEW, NEW]);
    }
}

#[test]
fn a_production_that_nobody_starts_again_is_started_by_its_own_timer_and_upgraded_later() {
    let pair = Pair::new("soak = '0s'");
    // Within the last backup: what writes is stopped, and whoever would start it is gone.
    pair.start_until("noted began back_up_stopped");
    assert_eq!(pair.platforms[1].pid(), None);
    let note = fs::read(pair.sandbox.state().join("stopped/production.json")).unwrap();
    let note: Value = serde_json::from_slice(&note).unwrap();
    let lease = format!("/tmp/belay-stopped-{}", note["token"].as_str().unwrap());
    let mut touch = Command::new("touch");
    touch.args(["-c", "-d", "2000-01-01", &lease]);
    Run::of(touch).ok();
    wait_until("the timer to start production", || pair.platforms[1].pid().is_some());
    assert!(!std::path::Path::new(&lease).exists());
    assert_eq!(pair.version(1), OLD);
    let database = pair.databases[1].postgres();
    database.sql("tooljet_production", "CREATE TABLE late AS SELECT 1 AS five_hours_of_work");
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!([pair.version(0), pair.version(1)], [NEW, NEW], "{run}");
    let last = pair.manifest(&pair.snapshot_of("back_up_stopped"));
    assert!(
        last.to_string().contains(r#""late":1"#),
        "what was written meanwhile is in the last backup"
    );
    assert_eq!(database.sql("tooljet_production", "SELECT count(*) FROM late").trim(), "1");
    pair.assert_nothing_is_left();
}
