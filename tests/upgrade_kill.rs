//! Upgrades, and their ways back, whose process is killed before and after each step: whoever takes the upgrade up goes on, and it ends as an
//! undisturbed one does.
//!
//! `BELAY_KILL_SEED` gives the random moments of an earlier run again.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::upgrades::{Kind, Pair, SIDES};
use support::{Random, Running, assert_same_text, size, text, wait_until};

/// Where a step of the journal is killed in one upgrade: at its beginning, which is written anew by whoever takes it up, and at its end, which
/// is written once. Never more than two kills are within one step, as a third would count as a failure.
type Share = [(&'static str, &'static str)];
const OUTSIDE: &Share = &[("before", "began"), ("kept", "end")];
const BETWEEN: &Share = &[("kept", "began"), ("noted", "end")];
const INSIDE: &Share = &[("noted", "began"), ("before", "end")];
const SHARES: [&Share; 3] = [OUTSIDE, BETWEEN, INSIDE];

/// What is the same of an undisturbed upgrade and of one that was killed.
#[derive(Debug, PartialEq)]
struct Ended {
    state: String,
    versions: [String; 2],
    /// Of the last tests: which, and what they found.
    verdicts: Vec<(String, String)>,
    /// The instances of the snapshots that steps have left, by the step.
    snapshots: Vec<(String, String)>,
}

/// The records that say that something happened, as the switch calls them: `began pull_staging`.
type Steps = Vec<String>;

fn pair(broken: Option<usize>) -> Pair {
    let flag = "FLAG";
    let pair = Pair::new(&format!(
        "soak = '1s'\nmaintenance = {{ on = ['/usr/bin/touch', '{flag}'], off = ['/bin/rm', '-f', '{flag}'] }}"
    ));
    let config = fs::read_to_string(pair.sandbox.config()).unwrap();
    let place = pair.sandbox.path("kept-out");
    fs::write(pair.sandbox.config(), config.replace(flag, text(&place))).unwrap();
    if let Some(side) = broken {
        pair.platforms[side].breaks(&[(Kind::ToolJet.new_version(), &["loses-rows"])]);
    }
    pair
}

fn steps(pair: &Pair) -> Steps {
    let records = pair.records();
    let told = records.iter().filter(|record| record["kind"] != "taken_up");
    told.map(|record| {
        let kind = record["kind"].as_str().unwrap();
        let step = match kind {
            "judged" => format!("gate_{}", record["gate"].as_str().unwrap()),
            _ => record["step"].as_str().unwrap().to_owned(),
        };
        format!("{kind} {step}")
    })
    .collect()
}

fn ended(pair: &Pair) -> Ended {
    let shown = pair.shown();
    let tests = shown["tests"].as_array().unwrap();
    let last = tests.iter().filter_map(|test| test["record"].as_u64()).max();
    let of_last = tests.iter().filter(|test| test["record"].as_u64() == last);
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let all = pair.belay(&["list", "--json"]).ok().json();
    // When a step was done last counts, and it is there and pinned where that is meant.
    let mut snapshots = BTreeSet::new();
    for record in shown["upgrade"]["records"].as_array().unwrap() {
        let (step, outcome) = (&record["step"], &record["outcome"]);
        if let Some(id) = outcome["snapshot"].as_str() {
            let found = all.as_array().unwrap().iter().find(|it| it["id"] == id);
            let found = found.unwrap_or_else(|| panic!("{step}: {id} is gone: {all:#}"));
            snapshots.insert((word(step), word(&found["instance"])));
        }
    }
    let pins =
        [["back_up_staging", "back_up_production"], ["back_up_staging_again", "back_up_stopped"]];
    for (step, pinned_by) in pins.iter().zip(["pin_both", "pin_last"]) {
        if pair.done().iter().any(|done| done == pinned_by) {
            for step in step {
                let listed = pair.listed(&pair.snapshot_of(step));
                assert!(listed["pins"].to_string().contains("upgrade "), "{step}: {listed:#}");
            }
        }
    }
    Ended {
        state: pair.state(),
        versions: [pair.version(0), pair.version(1)],
        verdicts: of_last.map(|test| (word(&test["name"]), word(&test["verdict"]))).collect(),
        snapshots: snapshots.into_iter().collect(),
    }
}

/// How an upgrade without a kill ends, and what its journal has; once for each way that it can go.
fn undisturbed(broken: Option<usize>) -> &'static (Steps, Ended, Duration) {
    static ALL: [OnceLock<(Steps, Ended, Duration)>; 3] = [const { OnceLock::new() }; 3];
    ALL[broken.unwrap_or(2)].get_or_init(|| {
        let pair = pair(broken);
        let begun = Instant::now();
        pair.start().code_in(&[0, 1, 3]);
        let took = begun.elapsed();
        pair.assert_nothing_is_left();
        (steps(&pair), ended(&pair), took)
    })
}

/// The places of a share, for each of these steps.
fn places(steps: &[String], share: &Share) -> Vec<String> {
    let mut places = Vec::new();
    for step in steps {
        let is_beginning = step.starts_with("began ");
        let meant = share.iter().filter(|(_, of)| is_beginning == (*of == "began"));
        places.extend(meant.map(|(moment, _)| format!("{moment} {step}")));
    }
    places
}

/// An upgrade that is killed at a share of the places from the step `from` on ends as an undisturbed one, and leaves nothing behind.
fn killed(broken: Option<usize>, from: &str, share: &Share) -> Pair {
    let (steps, expected, _) = undisturbed(broken);
    let from = steps.iter().position(|step| *step == format!("began {from}")).unwrap();
    let mut places = places(&steps[from..], share);
    if share == OUTSIDE {
        places.extend(["before", "kept", "noted"].map(|moment| format!("{moment} taken_up -")));
    }
    let pair = pair(broken);
    let before = [pair.dump(0), pair.dump(1)];
    let run = pair.killed_at(&places);
    assert_eq!(&ended(&pair), expected, "{run}");
    pair.assert_nothing_is_left();
    assert!(!pair.sandbox.path("kept-out").exists(), "users are kept out: {run}");
    for (side, before) in before.iter().enumerate() {
        if pair.version(side) == Kind::ToolJet.old() {
            assert_same_text(before, &pair.dump(side));
        }
    }
    assert!(pair.platforms.iter().all(|platform| platform.pid().is_some()), "both run: {run}");
    pair.sandbox.belay(&["check"]).ok();
    pair
}

#[test]
fn the_shares_have_each_moment_of_each_step() {
    let mut all: Vec<_> = SHARES.concat();
    all.sort_unstable();
    let moments = ["before", "kept", "noted"];
    let mut expected: Vec<_> =
        moments.iter().flat_map(|moment| [(*moment, "began"), (*moment, "end")]).collect();
    expected.sort_unstable();
    assert_eq!(all, expected);
    let steps: Steps = ["began verify", "failed verify"].map(str::to_owned).into();
    let of_steps: Vec<String> = SHARES.iter().flat_map(|share| places(&steps, share)).collect();
    assert_eq!(of_steps.len(), 6, "{of_steps:?}");
}

#[test]
fn an_upgrade_that_is_killed_before_and_after_each_step_ends_as_an_undisturbed_one() {
    killed(None, "pull_staging", OUTSIDE);
}

#[test]
fn an_upgrade_that_is_killed_between_its_records_ends_as_an_undisturbed_one() {
    killed(None, "pull_staging", BETWEEN);
}

#[test]
fn an_upgrade_that_is_killed_at_both_ends_of_each_step_ends_as_an_undisturbed_one() {
    killed(None, "pull_staging", INSIDE);
}

fn assert_pinned_and_sealed(pair: &Pair, id: &str) {
    let listed = pair.listed(id);
    assert_eq!((&listed["sealed"], &listed["pinned"]), (&Value::from(true), &Value::from(true)));
}

/// The snapshot of the failed state has what the new version left, and stays.
fn assert_failed_state_is_kept(pair: &Pair, step: &str) {
    let id = pair.snapshot_of(step);
    assert_pinned_and_sealed(pair, &id);
    // The new version's table, and what it lost.
    let manifest = pair.manifest(&id).to_string();
    assert!(manifest.contains("\"of_3_17\":0"), "{manifest}");
    assert!(manifest.contains("\"app_versions\":24"), "{manifest}");
}

#[test]
fn a_rollback_that_is_killed_around_each_step_ends_as_an_undisturbed_one() {
    for share in [OUTSIDE, BETWEEN] {
        assert_failed_state_is_kept(
            &killed(Some(1), "upgrade_production", share),
            "put_back_production",
        );
    }
}

#[test]
fn a_rollback_that_is_killed_at_both_ends_of_each_step_ends_as_an_undisturbed_one() {
    let pair = killed(Some(1), "upgrade_production", INSIDE);
    assert_failed_state_is_kept(&pair, "put_back_production");
}

#[test]
fn an_upgrade_that_is_given_up_and_killed_at_each_step_ends_as_an_undisturbed_one() {
    for share in SHARES {
        let pair = killed(Some(0), "upgrade_staging", share);
        assert_failed_state_is_kept(&pair, "put_back_staging");
    }
}

/// Both ends of these steps, as the switch calls them.
fn ends(steps: &[&str]) -> Steps {
    steps.iter().flat_map(|step| ["began", "done"].map(|end| format!("{end} {step}"))).collect()
}

#[test]
fn a_rollback_by_hand_that_is_killed_at_each_step_ends_as_an_undisturbed_one() {
    let steps = [
        "keep_users_out",
        "stop_production",
        "save_production",
        "put_back_production",
        "start_back",
        "verify_back",
        "let_users_in",
    ];
    for share in SHARES {
        let pair = pair(None);
        let before = pair.dump(1);
        pair.start().code_in(&[0, 3]);
        assert_eq!(pair.state(), "provisional");
        let places = places(&ends(&steps), share);
        let run = pair.killed_after(&["rollback", "main", "--reason", "users complain"], &places);
        assert_eq!(pair.state(), "rolled_back", "{run}");
        assert_eq!(pair.version(1), Kind::ToolJet.old(), "{run}");
        assert_same_text(&before, &pair.dump(1));
        assert_pinned_and_sealed(&pair, &pair.snapshot_of("put_back_production"));
        pair.assert_nothing_is_left();
        assert!(!pair.sandbox.path("kept-out").exists(), "users are kept out: {run}");
    }
}

#[test]
fn a_production_that_stands_still_and_is_left_alone_serves_whatever_is_killed() {
    for share in SHARES {
        let pair = pair(None);
        let before = [pair.dump(0), pair.dump(1)];
        pair.start_until("noted began hold_writers");
        assert_eq!(pair.platforms[1].pid(), None, "it stands still");
        assert!(pair.sandbox.path("kept-out").exists());
        let places = places(&ends(&["resume_writers", "end_maintenance"]), share);
        let run = pair.killed_after(&["abort", "main", "--reason", "not tonight"], &places);
        assert_eq!(pair.state(), "aborted", "{run}");
        for (side, before) in before.iter().enumerate() {
            assert_eq!(pair.version(side), Kind::ToolJet.old(), "{run}");
            assert_same_text(before, &pair.dump(side));
            assert!(pair.platforms[side].pid().is_some(), "it serves: {run}");
        }
        pair.assert_nothing_is_left();
        assert!(!pair.sandbox.path("kept-out").exists(), "users are kept out: {run}");
    }
}

#[test]
fn a_third_kill_while_production_is_upgraded_leads_back() {
    let pair = pair(None);
    let before = pair.dump(1);
    let place = "noted began upgrade_production".to_owned();
    let run = pair.killed_at(&[place.clone(), place.clone(), place]).code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.version(1), Kind::ToolJet.old());
    assert_same_text(&before, &pair.dump(1));
    pair.assert_nothing_is_left();
}

#[test]
fn an_interrupt_while_production_is_upgraded_starts_nothing() {
    let pair = pair(None);
    pair.platforms[1].is_slow(true);
    let to = pair.kind.new_version();
    let arguments = ["upgrade", "start", "main", "--to", to, "--yes", "--foreground"];
    let mut running = Running::start(pair.command(&arguments));
    let begun = format!("production: replacing {} by {to}", pair.kind.old());
    wait_until("production to be upgraded", || {
        running.has_ended() || running.stderr_so_far().contains(&begun)
    });
    running.signal(Signal::INT);
    let run = running.wait().code(130);
    // Who took it up would find what was written meanwhile in no backup.
    assert_eq!(pair.platforms[1].pid(), None, "{run}");
    assert!(pair.sandbox.state().join("stopped/production.json").exists(), "{run}");
    assert_eq!(pair.state(), "upgrading_production", "{run}");
    pair.platforms[1].is_slow(false);
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!(pair.version(1), to);
    pair.assert_nothing_is_left();
}

#[test]
fn what_is_said_after_a_kill_is_not_lost() {
    // The end of the step is in the repository, and not in the catalog.
    let pair = pair(None);
    let before = pair.dump(1);
    pair.start_until("kept done test_staging_again");
    let run = pair.belay(&["upgrade", "abort", "main", "--reason", "not tonight", "--foreground"]);
    let run = run.code_in(&[0, 3]);
    assert_eq!(pair.state(), "aborted", "{run}");
    let records = pair.records();
    assert!(records.iter().any(|it| it["kind"] == "asked" && it["reason"] == "not tonight"));
    assert!(records.iter().any(|it| it["kind"] == "done" && it["step"] == "test_staging_again"));
    assert_eq!([pair.version(0), pair.version(1)], [Kind::ToolJet.old(); 2]);
    assert_same_text(&before, &pair.dump(1));
    pair.assert_nothing_is_left();
}

#[test]
fn what_is_said_after_a_kill_in_the_middle_of_a_step_is_heard() {
    for (place, what, state, versions) in [
        ("noted began test_staging", "abort", "aborted", [Kind::ToolJet.old(); 2]),
        (
            "noted began verify",
            "rollback",
            "rolled_back",
            [Kind::ToolJet.new_version(), Kind::ToolJet.old()],
        ),
    ] {
        let pair = pair(None);
        let before = pair.dump(1);
        pair.start_until(place);
        let run = pair.belay(&["upgrade", what, "main", "--reason", "not tonight", "--foreground"]);
        let run = run.code_in(&[0, 3]);
        assert_eq!(pair.state(), state, "{run}");
        assert_eq!([pair.version(0), pair.version(1)], versions, "{run}");
        assert_same_text(&before, &pair.dump(1));
        pair.assert_nothing_is_left();
    }
}

/// What tells why a run of random kills has failed: printed where its test panics, wherever that is.
struct Told<'a> {
    pair: &'a Pair,
    seed: u64,
    /// Each process so far: when it was killed, where it was, and what it has said.
    runs: Vec<String>,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Self { pair, seed, runs } = self;
        eprintln!("BELAY_KILL_SEED={seed}\n{}", runs.join("\n"));
        for arguments in [&["upgrade", "show", "main"][..], &["upgrade", "status", "main"]] {
            eprintln!("{}", pair.belay(arguments));
        }
        for (side, platform) in SIDES.iter().zip(&pair.platforms) {
            eprintln!("{side} has the process {:?}: {:#?}", platform.pid(), platform.actions());
        }
    }
}

#[test]
fn killed_at_random_moments_production_is_old_good_or_new_good_in_the_end() {
    let seed = size("BELAY_KILL_SEED", 1);
    let mut random = Random::new(seed);
    let (_, expected, usual) = undisturbed(Some(1));
    let pair = pair(Some(1));
    let mut told = Told { pair: &pair, seed, runs: Vec::new() };
    let before = [pair.dump(0), pair.dump(1)];
    let to = pair.kind.new_version();
    let mut arguments = vec!["upgrade", "start", "main", "--to", to, "--yes", "--foreground"];
    let mut has_ended = false;
    for _ in 0..12 {
        // Of how long it usually takes here, so that a seed means the same on any machine.
        let moment = *usual * u32::try_from(random.below(1_000)).unwrap() / 1_000;
        let begun = Instant::now();
        let mut running = Running::start(pair.command(&arguments));
        wait_until("the moment", || running.has_ended() || begun.elapsed() >= moment);
        has_ended = running.has_ended();
        if !has_ended {
            running.signal(Signal::KILL);
        }
        told.runs.push(format!("after {moment:?} of {usual:?}: {}", running.wait()));
        // Killed before there was anything to go on with, it begins anew.
        if pair.belay(&["upgrade", "status", "main", "--json"]).ok().json()[0].is_object() {
            arguments = vec!["upgrade", "resume", "main", "--foreground"];
        }
        if has_ended {
            break;
        }
    }
    if !has_ended {
        told.runs.push(pair.belay(&arguments).to_string());
    }
    // What was interrupted three times has failed: of a backup that is for a person to see.
    for _ in 0..3 {
        if pair.state() == "held" {
            told.runs.push(pair.resume().to_string());
        }
    }
    let state = pair.state();
    assert!(state == expected.state || state == "aborted", "{state}");
    assert_eq!(pair.version(1), Kind::ToolJet.old());
    assert_same_text(&before[1], &pair.dump(1));
    if state == "aborted" {
        assert_same_text(&before[0], &pair.dump(0));
    }
    pair.assert_nothing_is_left();
    assert!(!pair.sandbox.path("kept-out").exists(), "users are kept out");
    assert!(pair.platforms.iter().all(|platform| platform.pid().is_some()), "both run");
}
