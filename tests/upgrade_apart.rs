//! What stands beside an upgrade: other jobs on its instances and its repository, which wait or are refused, a repository that is away, a
//! host that is lost, and the branches that a production which went back cannot read any more.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use support::upgrades::Pair;
use support::{Run, assert_same_text, text, wait_until};

/// Two programs: one that does nothing, and one that says that it was reached and waits for a word.
fn write_maintenance(directory: &Path) -> String {
    let directory = text(directory);
    for (name, script) in [
        ("on", String::new()),
        (
            "off",
            format!(
                "touch {directory}/reached\nwhile [ ! -e {directory}/go ]; do sleep 0.05; done\n"
            ),
        ),
    ] {
        let path = format!("{directory}/{name}");
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!(
        "maintenance = {{ on = '{directory}/on', off = '{directory}/off', timeout = '5m' }}\nsoak = '1s'"
    )
}

#[test]
fn others_keep_off_both_instances_and_nobody_has_the_repository_for_himself() {
    let scripts = tempfile::tempdir().unwrap();
    let pair = Pair::new(&write_maintenance(scripts.path()));
    let to = pair.kind.new_version();
    let arguments = ["upgrade", "start", "main", "--to", to, "--yes", "--foreground"];
    let mut upgrade = pair
        .command(&arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (reached, go) = (scripts.path().join("reached"), scripts.path().join("go"));
    let mut ended = None;
    wait_until("the step after production's tests", || {
        ended = upgrade.try_wait().unwrap();
        reached.exists() || ended.is_some()
    });
    assert_eq!(ended, None, "it ended before");
    for side in ["staging", "production"] {
        pair.belay(&["backup", side]).code(11).says(&["is busy", side]);
        let snapshot = format!("latest:{side}");
        pair.belay(&["restore", &snapshot, "--into", side, "--yes"]).code(11).says(&["is busy"]);
    }
    let config = fs::read_to_string(pair.sandbox.config()).unwrap();
    fs::write(
        pair.sandbox.config(),
        config.replacen("[repository.main]", "[repository.main]\nlock_wait = '0s'", 1),
    )
    .unwrap();
    pair.belay(&["prune"]).code(11).says(&["upgrade", "of main"]);
    fs::write(go, "").unwrap();
    assert!(upgrade.wait().unwrap().success());
    assert_eq!(pair.state(), "provisional");
    pair.belay(&["prune"]).ok();
    pair.belay(&["backup", "production"]).ok();
}

/// A git repository of apps, as ToolJet of a version writes it.
struct Apps<'a>(&'a Path);

impl Apps<'_> {
    fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.0).args(arguments);
        let who = [("NAME", "Kim Example"), ("EMAIL", "kim@example.com")];
        for (key, value) in who {
            git.env(format!("GIT_AUTHOR_{key}"), value).env(format!("GIT_COMMITTER_{key}"), value);
        }
        Run::of(git).ok();
    }

    fn commit(&self, version: &str, message: &str) {
        let files = [
            (".meta/appMeta.json", r#"{"8f14e45f-0001":{"appPath":"apps/orders"}}"#.to_owned()),
            ("apps/orders/app/app.json", r#"{"name":"orders","type":"front-end"}"#.to_owned()),
            (
                "apps/orders/schema/schema.json",
                format!(r#"{{"tooljet_version":"{version}","of":"{message}"}}"#),
            ),
        ];
        for (path, content) in files {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }
}

#[test]
fn commits_that_the_old_version_cannot_read_are_told_with_a_way_back() {
    let directory = tempfile::tempdir().unwrap();
    let apps = Apps(directory.path());
    apps.git(&["init", "-q", "-b", "main"]);
    apps.commit("3.16.5", "Orders as they were");
    let pair = Pair::new("soak = '1s'");
    let config = fs::read_to_string(pair.sandbox.config()).unwrap();
    let git = format!(
        "\n[git.orders]\nplatform = 'tooljet'\npair = 'main'\nurl = '{}'\n\
         branches = {{ staging = 'main', production = 'main' }}\n",
        text(directory.path())
    );
    fs::write(pair.sandbox.config(), config + &git).unwrap();
    pair.belay(&["apps", "fetch"]).ok();
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    apps.commit("3.17.0", "A chart for the orders");
    let run = pair
        .belay(&["upgrade", "rollback", "main", "--reason", "charts are wrong", "--foreground"])
        .code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    let said = run.stdout();
    let told = said.lines().find(|line| line.contains("cannot read, so do not pull"));
    let told = told.unwrap_or_else(|| panic!("{run}"));
    assert!(told.contains("main has 1 commit that v3.16.11 cannot read"), "{told}");
    assert!(told.contains("(Kim Example: A chart for the orders)"), "{told}");
    // What it says is done as it says it, but for the push.
    let (_, offered) = told.split_once("belay apps restore ").unwrap();
    let mut offered: Vec<&str> = offered.split_whitespace().take(5).collect();
    offered.splice(0..0, ["apps", "restore"]);
    let restored = pair.belay(&offered).ok();
    assert!(restored.stdout().contains("readable"), "{restored}");
}

#[test]
fn a_production_that_stands_still_is_started_again_while_the_repository_is_away() {
    let pair = Pair::new("soak = '1s'");
    pair.start_until("noted done hold_writers");
    assert_eq!(pair.platforms[1].pid(), None, "no timer starts it");
    let (repository, away) = (pair.sandbox.repository(), pair.sandbox.path("away"));
    fs::rename(&repository, &away).unwrap();
    let run = pair.resume().code(10);
    assert!(pair.platforms[1].pid().is_some(), "users work with it: {run}");
    assert_eq!(pair.done().last().unwrap(), "resume_writers", "{run}");
    assert!(run.stderr().contains("knows more of upgrades of main could not be told"), "{run}");
    fs::rename(&away, &repository).unwrap();
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    pair.assert_nothing_is_left();
}

/// What production was like before is known to nobody any more, nor what was stopped: that keeps nothing from coming back.
#[test]
fn an_upgrade_whose_host_is_lost_goes_back_from_the_repository_alone() {
    let pair = Pair::new("soak = '1s'");
    let before = pair.dump(1);
    let run = pair.start_until("noted done upgrade_production");
    assert_eq!(pair.version(1), pair.kind.new_version(), "{run}");
    fs::remove_dir_all(pair.sandbox.path("state")).unwrap();
    pair.belay(&["catalog", "rebuild"]).code_in(&[0, 3]);
    let run = pair.resume().code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.version(1), pair.kind.old(), "{run}");
    assert_same_text(&before, &pair.dump(1));
}
