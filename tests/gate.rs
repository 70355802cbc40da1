//! `belay gate` against real instances and a real repository: what closes it, what opens it, and what it says.
#![allow(clippy::unwrap_used)]

mod support;
#[path = "gate/under_way.rs"]
mod under_way;

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use support::pair::{Pair, VERSION};
use support::{Run, text, wait_until};

const NEXT: &str = "3.16.14-lts";

/// The gate before an instance, as JSON; its exit code agrees with what it says.
#[track_caller]
fn asked(pair: &Pair, to: &str, environment: &str) -> Value {
    let run = pair.belay(&["gate", "main", "--to", to, "--environment", environment, "--json"]);
    let json = run.json();
    assert_eq!(run.stdout().lines().count(), 1, "one line: {run}");
    let expected = if json["is_open"] == true { 0 } else { 5 };
    assert_eq!(run.exit_code(), Some(expected), "{run}");
    json
}

fn rule<'a>(gate: &'a Value, name: &str) -> &'a Value {
    let rules = gate["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["rule"] == name).unwrap_or_else(|| panic!("{name}: {gate:#}"))
}

/// The rules that say no.
fn closing(gate: &Value) -> Vec<&str> {
    let rules = gate["rules"].as_array().unwrap().iter();
    rules
        .filter(|rule| rule["verdict"] == "fail")
        .map(|rule| rule["rule"].as_str().unwrap())
        .collect()
}

/// A rule closes the gate, with these words in what it saw or needs.
#[track_caller]
fn assert_closed_by(gate: &Value, name: &str, words: &[&str]) {
    let found = rule(gate, name);
    assert_eq!(found["verdict"], "fail", "{gate:#}");
    for word in words {
        assert!(found.to_string().contains(word), "'{word}' was expected: {found:#}");
    }
}

#[track_caller]
fn assert_refused(run: Run, words: &[&str]) {
    run.code(5).says(words).says(&["hint:"]);
}

/// The packs of the repository, the largest last.
fn packs(pair: &Pair) -> Vec<PathBuf> {
    let packs = pair.sandbox.packs();
    let mut packs: Vec<PathBuf> = packs.iter().map(|id| pair.sandbox.pack_path(id)).collect();
    packs.sort_by_key(|path| fs::metadata(path).unwrap().len());
    packs
}

#[test]
fn it_is_closed_without_backups_and_opens_by_what_it_says() {
    let pair = Pair::new("", "");
    let closed = asked(&pair, NEXT, "staging");
    assert_eq!(closing(&closed), ["both-backed-up", "fresh", "key-fit"]);
    assert_eq!((&closed["pair"], &closed["to"]), (&Value::from("main"), &Value::from(NEXT)));
    assert_eq!(closed["from"], VERSION);
    let needed = rule(&closed, "both-backed-up")["needed"].as_str().unwrap();
    let commands: Vec<&str> = needed.split('`').skip(1).step_by(2).collect();
    assert_eq!(commands, ["belay backup staging", "belay backup production"]);
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        pair.belay(&arguments).ok();
    }
    let open = asked(&pair, NEXT, "staging");
    assert_eq!(closing(&open), [""; 0], "{open:#}");
    for passed in ["both-backed-up", "fresh", "key-fit", "room", "path"] {
        assert_eq!(rule(&open, passed)["verdict"], "pass", "{open:#}");
        assert!(!rule(&open, passed)["evidence"].as_array().unwrap().is_empty());
    }
    // Staging has not gone first.
    let production = asked(&pair, NEXT, "production");
    assert_eq!(closing(&production), ["staging-first", "staging-tested", "soaked"]);
    // Production is what is asked about where nobody says otherwise.
    let usual = pair.belay(&["gate", "main", "--to", NEXT, "--json"]).code(5).json();
    assert_eq!(usual["environment"], "production");
}

#[test]
fn people_get_a_table_with_the_reason_and_the_remedy() {
    let pair = Pair::new("approvers = [\"alice\"]\nwindow = \"Sat 01:00-01:01\"", "");
    pair.back_up();
    let run = pair.belay(&["gate", "main", "--to", NEXT]).code(5);
    let text = run.stdout();
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("both-backed-up").contains("pass"), "{text}");
    assert!(row("staging-first").contains("FAIL"), "{text}");
    assert!(row("approved").contains("FAIL"), "{text}");
    assert!(row("drilled").contains("not applicable"), "{text}");
    assert!(text.contains("to pass: upgrade staging to 3.16.14-lts"), "{text}");
    assert!(
        text.contains("The gate is closed: production of main, where production runs 3.16.12-lts"),
        "{text}"
    );
}

#[test]
fn a_snapshot_that_is_too_old_closes_it() {
    let pair = Pair::new("fresh = \"1s\"", "");
    pair.back_up();
    let mut closed = Value::Null;
    wait_until("the snapshots to be older than a second", || {
        closed = asked(&pair, NEXT, "staging");
        let needed = rule(&closed, "fresh")["needed"].to_string();
        needed.contains("belay backup staging") && needed.contains("belay backup production")
    });
    assert_eq!(closing(&closed), ["fresh"]);
    assert_closed_by(
        &closed,
        "fresh",
        &["staging: snapshot", "production: snapshot", "at most 1s old"],
    );
}

#[test]
fn a_snapshot_that_lacks_something_closes_it_until_there_is_another() {
    let pair = Pair::new("", "");
    pair.back_up();
    fs::remove_file(packs(&pair).pop().unwrap()).unwrap();
    let closed = asked(&pair, NEXT, "staging");
    assert_closed_by(&closed, "both-backed-up", &["does not come back", "missing", "belay backup"]);
    // What was lost is stored again.
    pair.belay(&["backup", "--pair", "main"]).code_in(&[0, 3]);
    assert_eq!(closing(&asked(&pair, NEXT, "staging")), [""; 0]);
    // Without any pack not even the manifest can be read: nothing of that is taken for good.
    for pack in packs(&pair) {
        fs::remove_file(pack).unwrap();
    }
    let closed = asked(&pair, NEXT, "staging");
    assert_eq!(closing(&closed), ["both-backed-up", "key-fit"], "{closed:#}");
}

#[test]
fn keys_that_do_not_fit_close_it() {
    let pair = Pair::new("", "");
    let file = pair.environment("production");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("LOCKBOX_MASTER_KEY=01", "LOCKBOX_MASTER_KEY=02")).unwrap();
    pair.belay(&["backup", "--pair", "main"]).code_in(&[1, 4]);
    let closed = asked(&pair, NEXT, "staging");
    assert_eq!(closing(&closed), ["key-fit"]);
    assert_closed_by(&closed, "key-fit", &["production's own keys", "do not decrypt"]);
    fs::write(&file, good).unwrap();
    pair.belay(&["backup", "production"]).ok();
    assert_eq!(closing(&asked(&pair, NEXT, "staging")), [""; 0]);
}

#[test]
fn ways_that_are_none_are_refused_with_the_reason() {
    let pair = Pair::new("", "");
    pair.back_up();
    for (to, words) in [
        ("3.16.11-lts", ["that is a downgrade", "belay restore"]),
        (VERSION, ["it runs already", "nothing to do"]),
    ] {
        let closed = asked(&pair, to, "production");
        assert_closed_by(&closed, "path", &words);
    }
    assert_closed_by(&asked(&pair, "3.16.11", "staging"), "path", &["that is a downgrade"]);
    for name in ["staging", "production"] {
        pair.set_version(name, "2.40.0");
    }
    let closed = asked(&pair, "3.0.0", "staging");
    assert_closed_by(&closed, "path", &["may not be skipped", "go to v2.50.0-LTS first"]);
    assert_eq!(closing(&closed), ["path"]);
    assert_eq!(closing(&asked(&pair, "2.50.0-LTS", "staging")), [""; 0]);
    for to in ["latest", "3.16-lts-latest", "v3"] {
        let words = ["no version that stays the same", "name a release"];
        assert_refused(pair.belay(&["gate", "main", "--to", to]), &words);
    }
}

#[test]
fn one_that_cannot_be_reached_hides_nothing_of_the_other() {
    let pair = Pair::new("", "");
    pair.back_up();
    let file = pair.environment("staging");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace(&pair.staging.port.to_string(), "1")).unwrap();
    let closed = asked(&pair, NEXT, "staging");
    assert_eq!(closing(&closed), ["room", "path"], "{closed:#}");
    assert_closed_by(
        &closed,
        "path",
        &[
            "staging: what it runs could not be read",
            "production runs 3.16.12-lts",
            "does the server run there",
        ],
    );
    assert_eq!(rule(&closed, "both-backed-up")["verdict"], "pass");
    assert_eq!(closed["from"], VERSION);
}

#[test]
fn a_version_that_nobody_tells_is_not_guessed() {
    let pair = Pair::new("", "");
    pair.back_up();
    pair.production.sql("tooljet_production", "DROP TABLE metadata");
    let closed = asked(&pair, NEXT, "staging");
    assert_eq!(closing(&closed), ["path"]);
    assert_closed_by(
        &closed,
        "path",
        &["production: what it runs could not be told", "belay doctor"],
    );
    assert_eq!(closed["from"], Value::Null);
}

#[test]
fn a_repository_that_is_away_or_another_hosts_is_told() {
    let pair = Pair::new("", "");
    pair.back_up();
    // The new host has not said who it is.
    fs::rename(pair.sandbox.state(), pair.sandbox.path("burnt")).unwrap();
    let closed = asked(&pair, NEXT, "staging");
    assert_closed_by(
        &closed,
        "both-backed-up",
        &["this host has never backed it up", "belay adopt staging --id"],
    );
    assert_eq!(closing(&closed), ["both-backed-up", "fresh", "key-fit"]);
    fs::remove_dir_all(pair.sandbox.state()).unwrap();
    fs::rename(pair.sandbox.path("burnt"), pair.sandbox.state()).unwrap();

    fs::rename(pair.sandbox.repository(), pair.sandbox.path("away")).unwrap();
    let closed = asked(&pair, NEXT, "staging");
    assert_closed_by(&closed, "both-backed-up", &["could not be read", "is its disk mounted"]);
    assert!(!rule(&closed, "both-backed-up").to_string().contains("no snapshot"), "{closed:#}");
    assert_closed_by(&closed, "room", &["could not be read"]);
    assert_eq!(rule(&closed, "path")["verdict"], "pass");
}

#[test]
fn what_a_restore_was_about_to_overwrite_is_no_backup() {
    let pair = Pair::new("", "");
    pair.back_up();
    let ids: Vec<String> = pair.sandbox.list().into_iter().map(|listed| listed.id).collect();
    pair.belay(&["restore", "latest:staging", "--into", "staging", "--yes"]).code_in(&[0, 3]);
    let open = asked(&pair, NEXT, "staging");
    let shown = rule(&open, "key-fit")["evidence"].to_string();
    assert!(ids.iter().any(|id| shown.contains(&id[..8])), "{shown}");
    let before: Vec<String> = pair
        .sandbox
        .list()
        .into_iter()
        .map(|listed| listed.id)
        .filter(|id| !ids.contains(id))
        .collect();
    assert!(!before.is_empty() && before.iter().all(|id| !shown.contains(&id[..8])), "{shown}");
}

#[test]
fn a_drill_that_is_asked_for_is_missing() {
    let pair = Pair::new("drilled = \"30d\"", "");
    pair.back_up();
    assert_closed_by(&asked(&pair, NEXT, "staging"), "drilled", &["never drilled"]);
}

#[test]
fn looking_changes_nothing() {
    let pair = Pair::new("", "");
    pair.back_up();
    let files = |folder| pair.sandbox.files(folder);
    let before = ["snapshots", "index", "data"].map(files);
    asked(&pair, NEXT, "staging");
    asked(&pair, NEXT, "production");
    assert_eq!(["snapshots", "index", "data"].map(files), before);
    assert_eq!(files("locks").len(), 0);
}

#[test]
fn nothing_turns_a_rule_off() {
    let pair = Pair::new("", "");
    for option in ["--force", "--yes", "--override", "--skip", "--no-backup", "--without"] {
        pair.belay(&["gate", "main", "--to", NEXT, option]).code(2);
        pair.belay(&["gate", "main", "--to", NEXT, option, "both-backed-up"]).code(2);
    }
    let help = pair.belay(&["gate", "--help"]).ok().stdout();
    assert!(!help.contains("overrid") && !help.contains("force"), "{help}");
    for (word, more) in [("start", &["--to", NEXT, "--yes"][..]), ("resume", &[])] {
        for option in ["--force", "--override", "--skip", "--no-backup", "--without-backup"] {
            pair.belay(&[&["upgrade", word, "main"], more, &[option]].concat()).code(2);
        }
        let help = pair.belay(&["upgrade", word, "--help"]).ok().stdout();
        for offered in ["--force", "--override", "--skip", "--no-", "--without"] {
            assert!(!help.contains(offered), "{help}");
        }
    }
    // No key of the configuration does either.
    for key in ["backup = false", "both_backed_up = false", "override = [\"both-backed-up\"]"] {
        pair.configure(key, "");
        pair.belay(&["gate", "main", "--to", NEXT]).code(2).says(&["unknown key"]);
    }
}

#[test]
fn a_pair_that_nothing_upgrades_is_a_mistake_of_the_configuration() {
    let pair = Pair::new("", "");
    let config = fs::read_to_string(pair.sandbox.config()).unwrap();
    let kept = |line: &&str| !line.starts_with("driver") && !line.starts_with("tests");
    let without: Vec<&str> = config.lines().filter(kept).collect();
    fs::write(pair.sandbox.config(), without.join("\n")).unwrap();
    pair.belay(&["gate", "main", "--to", NEXT]).code(2).says(&["nothing says how", "driver ="]);
    pair.belay(&["gate", "mian", "--to", NEXT]).code(2).says(&["mian"]);
    pair.belay(&["gate", "main"]).code(2).says(&["--to"]);
}

#[test]
fn apps_that_the_new_version_cannot_read_close_it() {
    let pair = Pair::new("", "");
    let gits = pair.sandbox.path("gits");
    let mut make = Command::new("bash");
    make.args(["tests/fixtures/git/make.sh", text(&gits)]);
    Run::of(make).ok();
    let url = gits.join("tooljet-granular.git");
    let git = format!(
        "[git.orders]\nplatform = \"tooljet\"\npair = \"main\"\nurl = \"{}\"\n\
         branches = {{ staging = \"main\", production = \"main\" }}",
        text(&url)
    );
    pair.configure("", &git);
    pair.back_up();
    let closed = asked(&pair, NEXT, "staging");
    assert_closed_by(&closed, "apps-readable", &["orders: ", "belay apps fetch"]);
    pair.belay(&["apps", "fetch"]).ok();
    let closed = asked(&pair, NEXT, "staging");
    assert_eq!(closing(&closed), ["apps-readable"]);
    assert_closed_by(
        &closed,
        "apps-readable",
        &["orders: orders", "written by ToolJet 3.20.40", "runs 3.16.14-lts", "0 of 1 apps"],
    );
    assert_eq!(closing(&asked(&pair, "3.20.41", "staging")), [""; 0]);
}
