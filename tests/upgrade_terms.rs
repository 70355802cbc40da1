//! What a pair asks for, and what people may say, in upgrades from beginning to end: a failure that is held, several hops, gates that are
//! closed, approvers, windows, and the time after which nothing is taken back.
#![allow(clippy::unwrap_used)]

mod support;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use support::upgrades::{Pair, SIDES};
use support::{Run, assert_same_text, text, wait_until};

const OLD: &str = "v3.16.11";
const NEW: &str = "v3.17.0";
const NEWER: &str = "v3.18.0";
const BACKUPS: [&str; 4] =
    ["back_up_staging", "back_up_production", "back_up_staging_again", "back_up_stopped"];

fn who() -> String {
    let mut id = Command::new("id");
    id.arg("-un");
    Run::of(id).ok().stdout().trim().to_owned()
}

/// The process, the version and the data of an instance: what stays where nothing is done to it.
type Seen = (i32, String, String);

fn seen(pair: &Pair, side: usize) -> Seen {
    (pair.platforms[side].pid().unwrap(), pair.version(side), pair.dump(side))
}

#[track_caller]
fn assert_untouched(pair: &Pair, side: usize, before: &Seen) {
    let now = seen(pair, side);
    assert_eq!((before.0, &before.1), (now.0, &now.1), "{}", SIDES[side]);
    assert_same_text(&before.2, &now.2);
}

fn versions(pair: &Pair) -> [String; 2] {
    [0, 1].map(|side| pair.version(side))
}

/// Let an instance be of a version whose data look the same.
fn runs(pair: &Pair, side: usize, version: &str) {
    let release =
        format!("UPDATE metadata SET data = json_build_object('installed_version', '{version}')");
    pair.databases[side].postgres().sql("tooljet_production", &release);
    let mut install = Command::new(pair.sandbox.path("platforms/upgrade.sh"));
    install.env("BELAY_INSTANCE", SIDES[side]).env("BELAY_VERSION", version);
    Run::of(install).ok();
}

/// How many rows there are in the table of which a release loses some.
fn rows(pair: &Pair, side: usize) -> u64 {
    let count = "SELECT count(*) FROM app_versions";
    pair.databases[side].postgres().sql("tooljet_production", count).trim().parse().unwrap()
}

/// The same in a snapshot.
fn rows_in(pair: &Pair, id: &str) -> u64 {
    let manifest = pair.manifest(id);
    let components = manifest["components"].as_array().unwrap().iter();
    let databases = components.filter_map(|it| it["details"]["databases"].as_array()).flatten();
    let rows = databases.filter_map(|it| it["rows"]["public"]["app_versions"].as_u64());
    assert_eq!(rows.clone().count(), 1, "{manifest:#}");
    rows.sum()
}

/// `belay upgrade …`.
fn upgrade(pair: &Pair, arguments: &[&str]) -> Run {
    pair.belay(&[&["upgrade"], arguments].concat())
}

fn start_by_way_of(pair: &Pair, stop: &str, to: &str) -> Run {
    let arguments = ["start", "main", "--to", to, "--stop-at", stop, "--yes", "--foreground"];
    upgrade(pair, &arguments)
}

/// The upgrade as the list for people has it: which pair, from where to where, its state, and who began it.
#[track_caller]
fn assert_listed(pair: &Pair, from_to: [&str; 2], state: &str) {
    let shown = pair.shown();
    let id = shown["upgrade"]["id"].as_str().unwrap();
    let text = upgrade(pair, &["list", "main"]).ok().stdout();
    assert_eq!(text, upgrade(pair, &["list"]).ok().stdout());
    upgrade(pair, &["list", "other"]).code(2).says(&["other"]);
    let row = text.lines().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    let [from, to] = from_to;
    assert!(row.contains(&format!(" {state} ")), "{text}");
    assert_eq!(words[1..4], ["main", from, to], "{text}");
    assert_eq!(words.last().unwrap(), &who(), "{text}");
    let all = upgrade(pair, &["list", "--json"]).ok().json();
    assert_eq!((&all[0]["id"], all.as_array().unwrap().len()), (&json!(id), 1), "{all:#}");
    assert_eq!(all[0]["state"], state.replace(' ', "_"), "{all:#}");
    let status = upgrade(pair, &["status", "main"]).ok().stdout();
    let first = format!("Upgrade {id} of main to {to}: {state}. Production ");
    assert!(status.starts_with(&first), "{status}");
}

#[track_caller]
fn assert_pinned(pair: &Pair, id: &str) {
    let listed = pair.listed(id);
    assert_eq!((&listed["sealed"], &listed["pinned"]), (&json!(true), &json!(true)), "{listed:#}");
}

#[test]
fn what_is_held_stays_as_it_broke_until_a_person_brings_the_old_version_back() {
    let pair = Pair::new("soak = '0s'\non_failure = 'hold'");
    let (before, all) = (pair.dump(1), rows(&pair, 1));
    pair.platforms[1].breaks(&[(NEW, &["loses-rows"])]);
    let run = pair.start().code(1);
    assert_eq!(pair.state(), "held", "{run}");
    assert_eq!(versions(&pair), [NEW, NEW]);
    let (left, rows_left) = (seen(&pair, 1), rows(&pair, 1));
    assert!(rows(&pair, 0) == all && rows_left < all, "{rows_left} of {all}");
    assert!(left.2.contains("of_3_17 text"), "its schema is the new one");
    let [status, show] = ["status", "show"].map(|word| upgrade(&pair, &[word, "main"]).ok());
    for said in [run, status, show].map(|run| run.stdout()) {
        for words in [
            "to v3.17.0: held. Production is between v3.16.11 and v3.17.0",
            "It could not test production: ",
            "public.app_versions lost 12 of 36",
            "It waits for a person",
            "`belay upgrade rollback main` brings v3.16.11 back",
            "`belay upgrade resume main` goes on",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("belay upgrade abort"), "that is no way: {said}");
    }
    // Nobody has mended it: its tests find the same, also where a nightly snapshot is of what was left.
    pair.belay(&["backup", "production"]).code_in(&[0, 3]);
    pair.resume().code(1).says(&["counts failed"]);
    assert_eq!(pair.state(), "held");
    assert_untouched(&pair, 1, &left);
    assert!(!pair.done().iter().any(|step| step == "stop_production"));

    let rollback = ["rollback", "main", "--reason", "rows are missing", "--foreground"];
    let run = upgrade(&pair, &rollback).code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(versions(&pair), [NEW, OLD]);
    assert_same_text(&before, &pair.dump(1));
    assert!(pair.platforms[1].pid().is_some(), "it runs");
    assert!(run.stdout().contains("which is pinned"), "{run}");
    pair.assert_nothing_is_left();
    let failed = pair.snapshot_of("put_back_production");
    assert_pinned(&pair, &failed);
    assert_eq!(rows_in(&pair, &failed), rows_left, "what the new version left");
    assert_eq!(rows_in(&pair, &pair.snapshot_of("back_up_stopped")), all);
}

#[test]
fn what_cannot_be_dumped_is_kept_aside_when_the_old_version_comes_back() {
    let pair = Pair::new("soak = '0s'");
    let before = pair.dump(1);
    pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional");
    let server = pair.databases[1].postgres();
    let sql = |statement: &str| server.sql("tooljet_production", statement);
    sql("INSERT INTO organizations (id, name) VALUES (gen_random_uuid(), 'made since')");
    // The file of a table is lost.
    sql("CHECKPOINT");
    let lost = sql("SELECT pg_relation_filepath('app_versions')");
    fs::remove_file(server.directory().join("data").join(lost.trim())).unwrap();

    let rollback = ["rollback", "main", "--reason", "the disk is bad", "--foreground"];
    let run = upgrade(&pair, &rollback).code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(versions(&pair), [NEW, OLD]);
    assert_same_text(&before, &pair.dump(1));
    pair.assert_nothing_is_left();
    let is_put_back = |it: &&Value| it["kind"] == "done" && it["step"] == "put_back_production";
    let outcome = pair.records().iter().find(is_put_back).unwrap()["outcome"].clone();
    assert!(outcome["snapshot"].is_null(), "{outcome:#}");
    let kept = outcome["kept_at"].as_str().unwrap();
    assert!(run.stdout().contains(&format!("what the new version left is kept: {kept}")), "{run}");
    let since = "SELECT count(*) FROM organizations WHERE name = 'made since'";
    let names = server.sql("postgres", "SELECT datname FROM pg_database");
    let with_it = names.lines().filter(|name| kept.contains(name)).filter(|name| {
        server.sql("postgres", &format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true"));
        let there = "SELECT count(*) FROM pg_class WHERE relname = 'organizations'";
        server.sql(name, there).trim() == "1" && server.sql(name, since).trim() == "1"
    });
    assert_eq!(with_it.count(), 1, "{kept}: {names}");
}

/// What a rule said, each time that it was asked.
fn verdicts(pair: &Pair, rule: &str) -> Vec<String> {
    let records = pair.records();
    let results = records.iter().filter_map(|record| record["results"].as_array()).flatten();
    let verdicts = results.filter(|it| it["rule"] == rule).map(|it| it["verdict"].as_str());
    verdicts.map(|verdict| verdict.unwrap().to_owned()).collect()
}

#[test]
fn each_hop_has_gates_and_backups_and_tests_of_its_own() {
    let pair = Pair::new("soak = '0s'");
    let run = start_by_way_of(&pair, NEW, NEWER).code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!(versions(&pair), [NEWER, NEWER]);
    for side in [0, 1] {
        let dump = pair.dump(side);
        assert!(dump.contains("of_3_17 text") && dump.contains("of_3_18 text"), "{}", SIDES[side]);
    }
    assert_listed(&pair, [OLD, NEWER], "provisional");
    let (records, tests) = (pair.records(), pair.shown()["tests"].clone());
    let second = records.iter().position(|it| it["kind"] == "began" && it["hop"] == 1).unwrap();
    let (one, two) = records.split_at(second);
    let mut snapshots = BTreeSet::new();
    for (hop, [from, to]) in [(one, [OLD, NEW]), (two, [NEW, NEWER])] {
        let judged = hop.iter().filter(|it| it["kind"] == "judged");
        let judged: Vec<&str> = judged.map(|it| it["gate"].as_str().unwrap()).collect();
        assert_eq!(judged, ["staging", "before_stop", "production"]);
        let only = |kind: &str, step: &str| {
            let mut found = hop.iter().filter(|it| it["kind"] == kind && it["step"] == step);
            let record = found.next().unwrap_or_else(|| panic!("{kind} {step}: {hop:#?}"));
            assert!(found.next().is_none(), "{kind} {step} twice: {hop:#?}");
            record
        };
        for step in BACKUPS {
            let id = only("done", step)["outcome"]["snapshot"].as_str().unwrap();
            assert_pinned(&pair, id);
            snapshots.insert(id.to_owned());
            let expected = if step == "back_up_staging_again" { to } else { from };
            assert_eq!(pair.manifest(id)["version"], expected, "{step}");
        }
        for step in ["test_staging", "verify"] {
            only("done", step);
            let number = &only("began", step)["number"];
            let found = tests.as_array().unwrap().iter().filter(|it| it["record"] == *number);
            let passed = found.filter(|it| it["verdict"] == "passed");
            let names: BTreeSet<&str> = passed.map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!(names, BTreeSet::from(["apps-open", "counts", "health", "keys", "version"]));
        }
    }
    assert_eq!(snapshots.len(), 2 * BACKUPS.len(), "none counts for both");
}

#[test]
fn a_hop_that_breaks_on_production_leaves_the_hop_before() {
    let pair = Pair::new(&format!("soak = '0s'\napprovers = ['{}']", who()));
    pair.platforms[1].breaks(&[(NEWER, &["loses-rows"])]);
    let all = rows(&pair, 1);
    start_by_way_of(&pair, NEW, NEWER).code_in(&[0, 3]);
    let approve = || upgrade(&pair, &["approve", "main", "--reason", "looked at it"]).ok();
    approve();
    // A word counts for the hop that was looked at, and no other.
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "awaiting_approval", "{run}");
    assert!(run.stdout().contains("Hop 2 of 2: v3.17.0 to v3.18.0."), "{run}");
    assert_eq!(versions(&pair), [NEWER, NEW]);
    let before = pair.dump(1);
    let words = ["has not been touched since hop 1", "belay upgrade abort main", "belay restore"];
    let why = ["rollback", "main", "--reason", "all of it", "--foreground"];
    upgrade(&pair, &why).code(5).says(&words);
    approve();
    let run = pair.resume().code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert!(run.stderr().contains("counts failed"), "{run}");
    assert!(run.stdout().contains("Production runs v3.17.0"), "{run}");
    assert_eq!(versions(&pair), [NEWER, NEW]);
    assert_eq!(rows(&pair, 1), all);
    let dump = pair.dump(1);
    assert!(dump.contains("of_3_17 text") && !dump.contains("of_3_18"));
    assert_same_text(&before, &dump);
    assert!(pair.platforms[1].pid().is_some(), "it runs");
    assert_pinned(&pair, &pair.snapshot_of("put_back_production"));
    pair.assert_nothing_is_left();
}

#[test]
fn a_closed_gate_opens_by_a_word_with_a_reason_and_what_is_committed_stays() {
    let pair = Pair::new("soak = '0s'\ndrilled = '30d'\ncommit_after = '8s'");
    let before = [0, 1].map(|side| seen(&pair, side));
    let run = pair.start().code(5);
    assert_eq!(pair.state(), "gate_closed", "{run}");
    assert!(run.stdout().contains("These rules say no: drilled."), "{run}");
    assert!(!pair.done().iter().any(|step| step == "upgrade_staging"));
    for side in [0, 1] {
        assert_untouched(&pair, side, &before[side]);
    }
    let without = ["both-backed-up", "fresh", "key-fit", "path", "staging-first", "staging-tested"];
    for rule in without {
        let run = upgrade(&pair, &["override", "main", rule, "--reason", "I am in a hurry"]);
        run.code(5).says(&[rule, "it has no override"]);
    }
    upgrade(&pair, &["override", "main", "drilled"]).code(2).says(&["--reason"]);
    upgrade(&pair, &["override", "main", "drilled", "--reason", " "]).code(5).says(&["a reason"]);
    upgrade(&pair, &["override", "main", "drill", "--reason", "a slip"]).code(2).says(&["drill"]);
    // Nothing has changed by all that.
    assert!(!pair.records().iter().any(|record| record["kind"] == "overridden"));
    pair.resume().code(5);
    assert_eq!(pair.state(), "gate_closed");
    for side in [0, 1] {
        assert_untouched(&pair, side, &before[side]);
    }

    let reason = "restored by hand on Monday";
    upgrade(&pair, &["override", "main", "drilled", "--reason", reason]).ok();
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!(versions(&pair), [NEW, NEW]);
    let words = pair.records().into_iter().filter(|it| it["kind"] == "overridden");
    let words: Vec<Value> = words.collect();
    assert_eq!(words.len(), 1, "{words:#?}");
    let word = ["rule", "by", "reason"].map(|key| words[0][key].as_str().unwrap());
    assert_eq!(word, ["drilled", &who(), reason]);
    // Twice in vain, and then at each gate.
    let asked = ["fail", "fail", "overridden", "overridden", "overridden"];
    assert_eq!(verdicts(&pair, "drilled"), asked);
    let shown = upgrade(&pair, &["show", "main"]).ok().stdout();
    assert!(shown.contains(&format!("drilled overridden by {}: {reason}", who())), "{shown}");
    let tests = pair.shown()["tests"].as_array().unwrap().clone();
    assert!(tests.iter().all(|it| it["duration_ms"].is_u64()), "{tests:#?}");
    let of_health = tests.iter().filter(|it| it["name"] == "health");
    assert_eq!(of_health.clone().count(), 2, "{tests:#?}");
    assert!(of_health.clone().all(|it| it["duration_ms"].as_u64() > Some(0)), "{tests:#?}");

    // Users work with it: there is a way back, by another word.
    let run = upgrade(&pair, &["abort", "main", "--reason", "too late", "--foreground"]).code(5);
    run.says(&["production has been touched", "belay upgrade rollback main"]);
    assert_eq!(pair.state(), "provisional");
    let records = pair.records();
    let verified = records.iter().find(|it| it["kind"] == "done" && it["step"] == "verify");
    let since: Timestamp = verified.unwrap()["at"].as_str().unwrap().parse().unwrap();
    wait_until("the end of the watch", || Timestamp::now() >= since + 8.seconds());
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "committed", "{run}");
    for step in ["back_up_staging_again", "back_up_stopped"] {
        assert_pinned(&pair, &pair.snapshot_of(step));
    }
    let after = seen(&pair, 1);
    let rollback = ["rollback", "main", "--reason", "much too late", "--foreground"];
    upgrade(&pair, &rollback).code(5).says(&["the upgrade is committed", "`belay restore`"]);
    assert_untouched(&pair, 1, &after);
    assert_listed(&pair, [OLD, NEW], "committed");
}

#[test]
fn what_is_no_way_is_refused_and_who_is_no_approver_approves_nothing() {
    let pair = Pair::new("soak = '0s'\napprovers = ['alice']");
    let (dumps, snapshots) = ([pair.dump(0), pair.dump(1)], pair.sandbox.list().len());
    let refused = |arguments: &[&str], words: &[&str]| {
        let processes = || [0, 1].map(|side| pair.platforms[side].pid().unwrap());
        let before = processes();
        let plan = [&["plan", "main"], arguments].concat();
        let start = [&["start", "main"], arguments, &["--yes", "--foreground"]].concat();
        for asked in [plan, start] {
            upgrade(&pair, &asked).code(5).says(words).says(&["hint:"]);
        }
        assert_eq!(processes(), before, "{arguments:?}");
    };
    for (to, words) in [
        ("latest", &["no version that stays the same", "name a release"][..]),
        ("v3.16-lts-latest", &["no version that stays the same"]),
        ("v3.16.10", &["from v3.16.11 to v3.16.10", "that is a downgrade", "belay restore"]),
        (OLD, &["it runs already", "nothing to do"]),
    ] {
        refused(&["--to", to], words);
    }
    refused(&["--to", NEW, "--stop-at", NEWER], &["by way of v3.18.0", "does not lie between"]);
    refused(&["--to", "v3.17.0-ee"], &["which edition runs is not known", "without the edition"]);
    runs(&pair, 1, "v3.16.11-ce");
    let words =
        ["from the community edition to the enterprise edition", "of the edition that runs"];
    refused(&["--to", "v3.17.0-ee"], &words);
    // A checkpoint is a hop of its own, which staging cannot do without either.
    for side in [0, 1] {
        runs(&pair, side, "v2.40.0");
    }
    let plan = upgrade(&pair, &["plan", "main", "--to", "v3.0.0", "--json"]).ok().json();
    let hops = plan["hops"].as_array().unwrap().iter();
    let hops: Vec<&str> = hops.map(|hop| hop["to"].as_str().unwrap()).collect();
    assert_eq!(hops, ["v2.50.0-LTS", "v3.0.0"]);
    runs(&pair, 1, "v2.50.0");
    let words = ["staging cannot go first", "may not be skipped", "go to v2.50.0-LTS first"];
    refused(&["--to", "v3.0.0"], &words);
    for side in [0, 1] {
        runs(&pair, side, OLD);
    }
    assert_eq!(upgrade(&pair, &["list", "--json"]).ok().json(), json!([]));
    assert_eq!(upgrade(&pair, &["list"]).ok().stdout().trim(), "There was no upgrade yet.");
    assert_eq!(pair.sandbox.list().len(), snapshots);
    for side in [0, 1] {
        assert_same_text(&dumps[side], &pair.dump(side));
    }

    let before = seen(&pair, 1);
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "awaiting_approval", "{run}");
    assert!(run.stdout().contains("It waits for one of the approvers."), "{run}");
    let none = format!("{} is none of the approvers, alice", who());
    let words = [none.as_str(), "belay upgrade approve main` as that user"];
    upgrade(&pair, &["approve", "main", "--reason", "looks good to me"]).code(5).says(&words);
    upgrade(&pair, &["override", "main", "approved", "--reason", "she is away"])
        .code(5)
        .says(&[&none]);
    pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "awaiting_approval");
    assert_listed(&pair, [OLD, NEW], "awaiting approval");
    assert_untouched(&pair, 1, &before);
    assert_eq!(pair.version(0), NEW);
    upgrade(&pair, &["abort", "main", "--reason", "not this week", "--foreground"]).ok();
    assert_listed(&pair, [OLD, NEW], "aborted");
    assert_eq!(pair.version(0), OLD, "staging is put back");
    assert_same_text(&dumps[0], &pair.dump(0));
    assert_untouched(&pair, 1, &before);
    pair.assert_nothing_is_left();
}

#[test]
fn production_waits_for_its_window_or_a_word() {
    // Not tomorrow: midnight may be near.
    let day = Timestamp::now().to_zoned(TimeZone::UTC).date() + 3.days();
    let window = day.strftime("%a 01:00-05:00").to_string();
    let pair = Pair::new(&format!("soak = '0s'\nwindow = '{window}'"));
    let before = seen(&pair, 1);
    let run = pair.start().code_in(&[0, 3]);
    assert_listed(&pair, [OLD, NEW], "awaiting window");
    // Also for whoever only looks.
    for said in [run.stdout(), pair.belay(&["upgrade", "status", "main"]).ok().stdout()] {
        assert!(said.contains("It waits for a window, until "), "{said}");
    }
    let status = pair.belay(&["upgrade", "status", "main", "--json"]).ok().json();
    let until = status[0]["until"].as_str().unwrap();
    assert_eq!(until, format!("{}T01:00:00Z", day.strftime("%Y-%m-%d")), "{status:#}");
    let done = pair.done();
    assert_eq!(done[done.len() - 2..], ["test_staging", "pull_production"], "{done:?}");
    assert_eq!(pair.version(0), NEW);
    assert_untouched(&pair, 1, &before);
    // Without a word nothing changes.
    pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.done(), done);
    assert_untouched(&pair, 1, &before);
    let reason = "nobody is at work";
    upgrade(&pair, &["override", "main", "window", "--reason", reason]).ok();
    let run = pair.resume().code_in(&[0, 3]);
    assert_listed(&pair, [OLD, NEW], "provisional");
    assert_eq!(versions(&pair), [NEW, NEW], "{run}");
    assert_eq!(verdicts(&pair, "window"), ["not_applicable", "overridden", "overridden"]);
}

#[test]
fn a_production_that_nothing_could_be_compared_with_later_is_not_touched() {
    let pair = Pair::new("soak = '0s'");
    let before = seen(&pair, 1);
    let mut config = fs::read_to_string(pair.sandbox.config()).unwrap();
    let (token, wrong) = (text(&pair.sandbox.path("token")).to_owned(), pair.sandbox.path("wrong"));
    support::write_secret(&wrong, "not the token");
    let of_production = config.find("[instance.production]").unwrap();
    config.replace_range(of_production.., &config[of_production..].replace(&token, text(&wrong)));
    fs::write(pair.sandbox.config(), config).unwrap();
    let run = pair.start().code(1);
    assert_eq!(pair.done().last().map(String::as_str), Some("back_up_staging_again"), "{run}");
    run.says(&["apps-open could not look at production", "belay upgrade resume main"]);
    assert_eq!(pair.version(0), NEW);
    assert_untouched(&pair, 1, &before);
    support::write_secret(&wrong, support::upgrades::TOKEN);
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(
        (pair.state().as_str(), versions(&pair)),
        ("provisional", [NEW, NEW].map(str::to_owned)),
        "{run}"
    );
}
