//! MongoDB read by its own program, which is in no registry: a stand-in gives the archives that the real one wrote, here, in a
//! container and behind ssh, and fails in every way that it can.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use support::servers::{Docker, Sshd};
use support::{Run, Sandbox, text, wait_until};

const URL: &str = "mongodb://appsmith:it's-a%20secret@db.internal:27017/appsmith?authSource=admin";

/// Writes down how it was called, and does what the files beside it say.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
[ "$1" = --version ] && { echo "mongodump version: 100.18.0"; exit 0; }
cat "${1#--config=}" > "$here/config"
tr '\0' '\n' < /proc/$$/cmdline > "$here/arguments"
tr '\0' '\n' < /proc/$$/environ > "$here/environment"
cat "$here/archive"
cat "$here/said" >&2
[ -e "$here/hang" ] && { echo "$PPID $$" > "$here/hanging"; exec sleep 100000; }
exit "$(cat "$here/status")"
"#;

fn fixture(name: &str) -> Vec<u8> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/appsmith");
    fs::read(place.join(name)).unwrap()
}

/// A host with the instance `db`, which is read by the stand-in.
struct Host {
    sandbox: Sandbox,
}

impl Host {
    fn new(via: &str, access: &str) -> Self {
        let sandbox = Sandbox::new();
        support::write_secret(&sandbox.path("url"), URL);
        sandbox.configure(&["data"], "last = 1000");
        let host = Self { sandbox };
        let mut config = fs::read_to_string(host.sandbox.config()).unwrap();
        let table = format!(
            "\n[instance.db]\nplatform = \"mongodb\"\ncomponent.mongodb = {{ url = \"file:{}\", via = \"{via}\", way = \"mongodump\", tools = \"{}\" }}\n{access}",
            host.sandbox.path("url").display(),
            host.tools().display(),
        );
        config.push_str(&table);
        fs::write(host.sandbox.config(), config).unwrap();
        make_stand_in(&host.tools());
        host
    }

    fn tools(&self) -> PathBuf {
        self.sandbox.path("tools")
    }

    fn set(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.tools().join(name), content).unwrap();
    }

    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.tools().join(name)).unwrap()
    }

    fn backup(&self) -> Run {
        self.sandbox.belay(&["backup", "db", "--json"])
    }

    fn assert_nothing_sealed(&self) {
        assert_eq!(self.sandbox.list().len(), 0);
    }
}

fn make_stand_in(tools: &Path) {
    fs::create_dir(tools).unwrap();
    let program = tools.join("mongodump");
    fs::write(&program, STAND_IN).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tools.join("archive"), fixture("appsmith.archive")).unwrap();
    let said = "2026-11-01T02:30:00.000+0000\twriting appsmith.user to archive on stdout\n\
                2026-11-01T02:30:01.000+0000\tdone dumping appsmith.user (40 documents)\n";
    fs::write(tools.join("said"), said).unwrap();
    fs::write(tools.join("status"), "0").unwrap();
}

#[test]
fn the_golden_archives_land_as_the_folder_that_the_same_program_writes() {
    let host = Host::new("local", "");
    for archive in ["appsmith.archive", "with-oplog.archive"] {
        host.set("archive", fixture(archive));
        // Never of one moment, which is a warning.
        let run = host.backup().code(3).says(&["not of one moment"]);
        let snapshot = run.json()["snapshots"][0].clone();
        let id = snapshot["id"].as_str().unwrap();
        let target = host.sandbox.path(archive);
        host.sandbox.belay(&["restore", id, "--to-dir", text(&target)]).ok();
        let mut sums = std::process::Command::new("sha256sum");
        let list = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/appsmith/mongodump-dir.sha256");
        sums.args(["--check", "--quiet", "--strict"]).arg(list).current_dir(target.join("mongodb"));
        Run::of(sums).ok();
        let manifest: Value =
            serde_json::from_slice(&fs::read(target.join("manifest.json")).unwrap()).unwrap();
        let component = &manifest["components"][0];
        assert_eq!(component["counts"]["documents"], 437);
        assert_eq!(component["source"], "mongodump via local");
        let details = &component["details"];
        assert_eq!(
            (&details["server_version"], &details["moment"]),
            (&"6.0.5".into(), &Value::Null)
        );
        assert!(details["not_one_moment"].as_str().unwrap().contains("one collection after"));
        let folders = fs::read_dir(target.join("mongodb")).unwrap().count();
        assert_eq!(folders, 1, "the database alone");
    }
    assert_eq!(host.told("config"), format!("uri: '{}'\n", URL.replace('\'', "''")));
    let arguments = host.told("arguments");
    let expected = "--config=/dev/fd/3\n--db=appsmith\n--archive\n--excludeCollectionsWithPrefix=belay_new_\n--excludeCollectionsWithPrefix=belay_old_\n";
    assert!(arguments.ends_with(expected), "{arguments}");
    let environment = host.told("environment");
    assert!(!environment.contains("secret") && !environment.contains("BELAY_MONGODB"));
    let doctor = host.sandbox.belay(&["doctor", "db"]).to_string();
    assert!(doctor.contains("mongodump 100.18.0, for the database appsmith"), "{doctor}");
    let shown = host.sandbox.belay(&["config", "show"]).ok().stdout();
    assert!(shown.contains("way = \"mongodump\"") && shown.contains("tools = "), "{shown}");
}

#[test]
fn whatever_goes_wrong_is_a_failed_run() {
    let host = Host::new("local", "");
    let whole = fixture("appsmith.archive");
    let mut random = support::Random::new(17);
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    let failed = "2026-11-01T02:30:02.000+0000\tFailed: error writing data for collection";
    let fewer = "2026-11-01T02:30:02.000+0000\tdone dumping appsmith.user (41 documents)";
    let cases: [(&[u8], &str, &str, &str); 9] = [
        (b"", "", "0", "not one byte came"),
        (b"", "Failed: can't create session: auth error", "1", "auth error"),
        (&whole[..whole.len() / 2], failed, "1", "error writing data"),
        (&whole[..whole.len() / 2], "", "0", "cut off"),
        (&whole, failed, "0", "complained"),
        (&whole, "", "1", "exit status 1"),
        (&whole, fewer, "0", "has 41"),
        (&changed, "", "0", "not whole"),
        (b"connection refused\n", "", "0", "no archive of mongodump"),
    ];
    for (archive, said, status, expected) in cases {
        host.set("archive", archive);
        host.set("said", said);
        host.set("status", status);
        host.backup().code(1).says(&[expected]);
    }
    host.set("said", "");
    host.set("status", "0");
    for _ in 0..6 {
        host.set("archive", &whole[..random.below(whole.len() as u64) as usize]);
        host.backup().code(1);
    }
    host.set("archive", &whole);
    support::write_secret(&host.sandbox.path("url"), &URL.replace("/appsmith?", "/other?"));
    host.backup().code(1).says(&["no collection of the database 'other'", "appsmith"]);
    support::write_secret(&host.sandbox.path("url"), &URL.replace("/appsmith?", "/?"));
    host.backup().code(2).says(&["names no database"]);
    support::write_secret(&host.sandbox.path("url"), URL);
    fs::remove_file(host.tools().join("mongodump")).unwrap();
    host.backup().code(1).says(&["not found"]);
    host.assert_nothing_sealed();
}

#[test]
fn in_a_container_and_when_that_is_stopped_meanwhile() {
    let docker = Docker::start();
    let host = Host::new("docker:db", "");
    let tools = host.tools();
    docker.image("tools", &[text(&tools)]);
    docker.run(&["run", "-d", "--name", "db", "--init", "tools", "sleep", "100000"]);
    let belay = |arguments: &[&str]| {
        let (name, value) = docker.variable();
        let mut command = host.sandbox.belay_command(arguments);
        command.env(name, value);
        command
    };
    Run::of(belay(&["backup", "db"])).code(3).says(&["not of one moment"]);
    assert_eq!(host.sandbox.list().len(), 1);

    let half = fixture("appsmith.archive");
    host.set("half", &half[..half.len() / 2]);
    let within = |name: &str| tools.join(name).display().to_string();
    docker.run(&["cp", &within("half"), &format!("db:{}", within("archive"))]);
    docker.run(&["exec", "db", "touch", &within("hang")]);
    let running = support::Running::start(belay(&["backup", "db"]));
    wait_until("half of the dump", || {
        let looked = docker.command(&["exec", "db", "test", "-s", &within("hanging")]).output();
        looked.unwrap().status.success()
    });
    docker.run(&["stop", "-t", "1", "db"]);
    let run = running.wait().code(1);
    let said = run.to_string();
    assert!(!said.contains("it's-a"), "{said}");
    assert_eq!(host.sandbox.list().len(), 1);
    Run::of(belay(&["backup", "db"])).code(1).says(&["not running"]);
}

#[test]
fn behind_ssh_and_when_the_line_breaks() {
    let sshd = Sshd::start(&[]);
    let access = format!("\n[access]\nssh_config = \"{}\"\n", sshd.config().display());
    let host = Host::new("ssh:far", &access);
    host.backup().code(3).says(&["not of one moment"]);
    assert_eq!(host.told("config"), format!("uri: '{}'\n", URL.replace('\'', "''")));
    let archive = fixture("appsmith.archive");
    host.set("archive", &archive[..archive.len() / 2]);
    host.set("hang", "");
    let running = host.sandbox.start(&["backup", "db"]);
    let hanging = || fs::read_to_string(host.tools().join("hanging")).unwrap_or_default();
    wait_until("half of the dump", || hanging().ends_with('\n'));
    let ids: Vec<i32> = hanging().split_whitespace().map(|id| id.parse().unwrap()).collect();
    // The connection's own process of the server, and then what it has left.
    for id in ids {
        let _ = kill_process(Pid::from_raw(id).unwrap(), Signal::KILL);
    }
    let said = running.wait().code(1).to_string();
    assert!(!said.contains("it's-a"), "{said}");
    assert_eq!(host.sandbox.list().len(), 1);
}
