//! Upgrades of instances in one container, their databases among it, on a real Docker engine: what the new version does to the files of its
//! databases is taken back with the volumes, also where its container does not stay up.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::disk::SmallDisk;
use support::servers::{Docker, Mongod, Registry, free_port, python_at, python_packages};
use support::{Run, Sandbox, text, wait_until, write_secret};

const OLD: &str = "v1.96";
const NEW: &str = "v1.97";
const SIDES: [&str; 2] = ["staging", "production"];
const SUPERVISORCTL: &str = r#"#!/bin/sh
case $1 in
  stop) rm -f /tmp/backend.want; while [ -e /tmp/backend.pid ]; do sleep 0.05; done ;;
  start) touch /tmp/backend.want; while [ ! -e /tmp/backend.pid ]; do sleep 0.05; done ;;
esac
echo "backend: $1"
"#;

/// A pair of instances that run the old version, both backed up. Staging is on a directory, production on a volume of Docker's.
struct Pair {
    sandbox: Sandbox,
    docker: Docker,
    _registry: Registry,
    stacks: [PathBuf; 2],
    /// Of the databases.
    ports: [u16; 2],
    settings: [Value; 2],
}

impl Pair {
    fn new(terms: &str) -> Self {
        Self::of(Sandbox::new(), None, terms)
    }

    /// With production on a directory of the sandbox, where one is given.
    fn of(sandbox: Sandbox, directory: Option<&str>, terms: &str) -> Self {
        let (docker, mut registry) = (Docker::start(), Registry::start());
        let mongod = python_packages().join("fiftyone/db/bin/mongod");
        for version in [OLD, NEW] {
            let script =
                format!("exec /usr/bin/python3 /support/one_container.py {}", text(&mongod));
            let info = json!({ "version": version }).to_string();
            let files =
                [("opt/appsmith/info.json", info.as_str()), ("bin/supervisorctl", SUPERVISORCTL)];
            registry.push_with(version, &script, &files);
        }
        docker.run(&["volume", "create", "shop"]);
        let volume = docker.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "shop"]);
        let production =
            directory.map_or_else(|| PathBuf::from(volume.trim()), |name| sandbox.path(name));
        let stacks = [sandbox.path("stacks"), production];
        let password = sandbox.path("login");
        write_secret(&password, "pass word&1");
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        let made = [0, 1].map(|side| {
            let (name, stacks) = (SIDES[side], &stacks[side]);
            let port = seed(stacks);
            let web = free_port();
            let settings = json!({
                "platform": "appsmith", "port": web, "breaks": {},
                "mongodb": format!("mongodb://127.0.0.1:{port}/appsmith"),
                "login": "username=belay%40example.com&password=pass%20word%261",
            });
            let is_volume = side == 1 && directory.is_none();
            let mount = if is_volume { "shop" } else { text(stacks) };
            compose_file(&sandbox, name, &format!("{}:{OLD}", registry.name()), mount);
            config.extend([format!(
                "\n[instance.{name}]\nplatform = 'appsmith'\nvia = 'docker:{name}'\nurl = 'http://127.0.0.1:{web}'\n\
                 login = {{ user = 'belay@example.com', password = 'file:{}' }}\ncompose = {{ dir = '{}', service = 'app' }}\n",
                text(&password),
                text(&sandbox.path(name))
            )]);
            (port, settings)
        });
        config.extend([format!(
            "\n[pair.main]\nstaging = 'staging'\nproduction = 'production'\ndriver = 'compose'\nsoak = '0s'\n\
             tests = ['health', 'version', 'apps-open', 'counts', 'keys']\n{terms}\n"
        )]);
        fs::write(sandbox.config(), config).unwrap();
        let [(one, first), (two, second)] = made;
        let (ports, settings) = ([one, two], [first, second]);
        let pair = Self { sandbox, docker, _registry: registry, stacks, ports, settings };
        for side in [0, 1] {
            pair.breaks(side, &[]);
            pair.compose(side, &["up", "-d"]);
            pair.wait(side);
        }
        pair.belay(&["backup", "--pair", "main"]).code_in(&[0, 3]);
        pair
    }

    /// How the new version breaks on a side.
    fn breaks(&self, side: usize, breaks: &[&str]) {
        let mut settings = self.settings[side].clone();
        settings["breaks"] = json!({ NEW: breaks });
        let path = self.sandbox.path(SIDES[side]).join("platform/settings.json");
        fs::write(path, settings.to_string()).unwrap();
    }

    #[track_caller]
    fn compose(&self, side: usize, arguments: &[&str]) {
        let (name, value) = self.docker.variable();
        let mut command = Command::new("docker-compose");
        command.args(arguments).env(name, value).current_dir(self.sandbox.path(SIDES[side]));
        Run::of(command).ok();
    }

    /// Until its server listens.
    fn wait(&self, side: usize) {
        let ready = self.sandbox.path(SIDES[side]).join("platform/ready");
        wait_until("the server in the container", || {
            let running =
                self.docker.run(&["ps", "-q", "--filter", &format!("name={}", SIDES[side])]);
            assert!(!running.trim().is_empty(), "{}", self.why_stopped(side));
            ready.exists()
        });
    }

    fn why_stopped(&self, side: usize) -> String {
        let state = self.docker.run(&["inspect", "-f", "{{json .State}}", SIDES[side]]);
        let mut logs = self.docker.command(&["logs", SIDES[side]]);
        let said = logs.output().unwrap();
        format!("{state}{}", String::from_utf8_lossy(&[said.stdout, said.stderr].concat()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (name, value) = self.docker.variable();
        let mut command = self.sandbox.belay_command(arguments);
        command.env(name, value);
        command
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        Run::of_long(self.command(arguments))
    }

    fn start(&self) -> Run {
        self.belay(&["upgrade", "start", "main", "--to", NEW, "--yes", "--foreground"])
    }

    fn shown(&self) -> Value {
        self.belay(&["upgrade", "show", "main", "--json"]).ok().json()
    }

    fn state(&self) -> String {
        self.shown()["upgrade"]["state"].as_str().unwrap().to_owned()
    }

    /// What the steps left that were done, by their names.
    fn outcomes(&self, step: &str) -> Vec<Value> {
        let records = self.shown()["upgrade"]["records"].as_array().unwrap().clone();
        let done = records.iter().filter(|it| it["kind"] == "done" && it["step"] == step);
        done.map(|record| record["outcome"].clone()).collect()
    }

    #[track_caller]
    fn python(&self, side: usize, script: &str) -> String {
        let url = format!("mongodb://127.0.0.1:{}/", self.ports[side]);
        Run::of(python_at(&url, script)).ok().stdout().trim().to_owned()
    }

    /// All documents that a side has, but for what each start writes.
    #[track_caller]
    fn documents(&self, side: usize) -> String {
        self.python(
            side,
            "from bson import json_util
db = client.appsmith
for name in sorted(db.list_collection_names()):
    for each in db[name].find().sort('_id'):
        print(name, json_util.dumps(each))",
        )
    }

    /// The version that a side's database says, and that its container is of.
    #[track_caller]
    fn versions(&self, side: usize) -> (String, String) {
        let script =
            "print(client.appsmith.config.find_one({'name': 'release-of-tests'})['value'])";
        let container = self.docker.run(&["inspect", "-f", "{{.Config.Image}}", SIDES[side]]);
        let tag =
            container.trim().split('@').next().unwrap().rsplit(':').next().unwrap().to_owned();
        (self.python(side, script), tag)
    }

    /// What is kept of the failed state beside a side's volume.
    fn kept(&self, side: usize) -> Vec<PathBuf> {
        let parent = self.stacks[side].parent().unwrap();
        let names = |directory: &Path, start: &str| -> Vec<PathBuf> {
            let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            let begins =
                |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(start);
            entries.filter(begins).collect()
        };
        names(parent, ".belay-upgrade-").iter().flat_map(|area| names(area, "")).collect()
    }
}

/// Fill a volume as an Appsmith of its own has it, and return the port of its database.
fn seed(stacks: &Path) -> u16 {
    for directory in ["data/mongodb", "configuration"] {
        fs::create_dir_all(stacks.join(directory)).unwrap();
    }
    let server = Mongod::start_on(&stacks.join("data/mongodb"));
    let port = server.port;
    server.seed("appsmith", 1);
    let release = format!(
        "client.appsmith.config.update_one({{'name': 'release-of-tests'}}, {{'$set': {{'value': '{OLD}'}}}}, upsert=True)"
    );
    server.python(&release);
    server.shut_down();
    fs::write(stacks.join("data/port"), port.to_string()).unwrap();
    let file = fs::read_to_string("tests/fixtures/appsmith/docker.env").unwrap();
    let is_kept =
        |line: &&str| !line.starts_with("APPSMITH_REDIS") && !line.starts_with("APPSMITH_DB_URL");
    let file: Vec<&str> = file.lines().filter(is_kept).collect();
    let url = format!("APPSMITH_DB_URL=mongodb://127.0.0.1:{port}/appsmith");
    fs::write(stacks.join("configuration/docker.env"), format!("{}\n{url}\n", file.join("\n")))
        .unwrap();
    port
}

/// The service `app` of a side: this machine's programs, on the side's volume.
fn compose_file(sandbox: &Sandbox, name: &str, image: &str, stacks: &str) {
    let directory = sandbox.path(name);
    fs::create_dir_all(directory.join("platform")).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let packages = python_packages();
    let (packages, support) =
        (text(&packages), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support"));
    let volumes =
        if stacks.starts_with('/') { "" } else { "volumes:\n  shop:\n    external: true\n" };
    let file = format!(
        "version: '2.4'\nservices:\n  app:\n    image: {image}\n    container_name: {name}\n    network_mode: host\n    stop_signal: SIGTERM\n    \
         environment:\n      PATH: /usr/bin:/bin\n      PYTHONPATH: {packages}\n    volumes:\n    - /usr:/usr:ro\n    - {packages}:{packages}:ro\n    \
         - {support}:/support:ro\n    - {}:/platform\n    - {stacks}:/appsmith-stacks\n{volumes}",
        text(&directory.join("platform")),
    );
    fs::write(directory.join("docker-compose.yml"), file).unwrap();
}

#[test]
fn a_version_that_takes_its_database_along_and_ends_is_taken_back_with_the_volume() {
    let pair = Pair::new("");
    let before = [pair.documents(0), pair.documents(1)];
    let plan = pair.belay(&["upgrade", "plan", "main", "--to", NEW]).ok().stdout();
    assert!(plan.contains("Copy the volumes of 'production' aside."), "{plan}");
    pair.breaks(1, &["exits"]);
    let run = pair.start().code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before[1], "as it was");
    assert_eq!(pair.versions(0).0, NEW, "staging keeps what it has proved");
    // What failed is kept, named, and still what it was.
    let kept = pair.kept(1);
    let [failed] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(fs::read_to_string(failed.join("data/mongodb/engine")).unwrap(), NEW);
    assert_eq!(pair.outcomes("put_back_production")[0]["kept_at"], text(failed), "{run}");
    assert!(run.stdout().contains(text(failed)), "{run}");
    let shown = pair.belay(&["upgrade", "show", "main"]).ok().stdout();
    assert!(shown.contains(text(failed)) && shown.contains("does not run"), "{shown}");
}

#[test]
fn on_staging_it_is_taken_back_there_and_production_is_not_touched() {
    let pair = Pair::new("");
    let before = [pair.documents(0), pair.documents(1)];
    let of_production = || {
        let format = "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
        pair.docker.run(&["inspect", "-f", format, "production"])
    };
    let ran = of_production();
    pair.breaks(0, &["exits"]);
    let run = pair.start().code(1);
    assert_eq!(pair.state(), "aborted", "{run}");
    assert_eq!(of_production(), ran, "it was not even stopped");
    assert_eq!(pair.versions(0), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!([pair.documents(0), pair.documents(1)], before);
    let kept = pair.kept(0);
    let [failed] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(fs::read_to_string(failed.join("data/mongodb/engine")).unwrap(), NEW);
    assert!(run.stdout().contains(text(failed)), "{run}");
    assert!(pair.kept(1).is_empty(), "{:?}", pair.kept(1));
}

/// Ends Belay, and the script that it runs, between the renames by which production's volume is exchanged; once.
const KILLING_MV: &str = r#"#!/bin/sh
case "$*" in
  *"/hop1-production-_data _data") [ -e MARK ] || {
    : > MARK
    kill -9 "$(cut -d ' ' -f 4 "/proc/$PPID/stat")" "$PPID"
    exit 1
  } ;;
esac
exec /usr/bin/mv "$@"
"#;

#[test]
fn a_kill_between_the_renames_is_gone_on_from() {
    let pair = Pair::new("");
    let before = pair.documents(1);
    pair.breaks(1, &["exits"]);
    let programs = pair.sandbox.path("programs");
    fs::create_dir(&programs).unwrap();
    let mark = pair.sandbox.path("killed");
    fs::write(programs.join("mv"), KILLING_MV.replace("MARK", text(&mark))).unwrap();
    fs::set_permissions(programs.join("mv"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command =
        pair.command(&["upgrade", "start", "main", "--to", NEW, "--yes", "--foreground"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", text(&programs)));
    let run = Run::of_long(command);
    assert_eq!(run.signal(), Some(9), "{run}");
    assert!(mark.exists() && !pair.stacks[1].exists(), "{run}");
    assert_eq!(pair.kept(1).len(), 2, "the old one and the failed one: {run}");
    assert_eq!(pair.state(), "rolling_back");
    let run = pair.belay(&["upgrade", "resume", "main", "--foreground"]).code_in(&[0, 1, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before);
    let kept = pair.kept(1);
    let [failed] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(fs::read_to_string(failed.join("data/mongodb/engine")).unwrap(), NEW);
}

#[test]
fn a_good_night_is_gone_back_from_by_hand_with_all_that_came_since_kept() {
    let pair = Pair::new("");
    let before = pair.documents(1);
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!(pair.versions(1), (NEW.to_owned(), NEW.to_owned()));
    let copies = pair.kept(1);
    let [copy] = &copies[..] else { panic!("{copies:?}") };
    assert_eq!(pair.outcomes("copy_volumes")[0]["kept_at"], text(copy), "{run}");
    let area = fs::metadata(copy.parent().unwrap()).unwrap();
    assert_eq!(area.permissions().mode() & 0o777, 0o700, "nobody else looks into it");
    let records = pair.shown()["upgrade"]["records"].to_string();
    assert!(records.contains("its way back is a copy of its volumes, which is there"), "{records}");
    pair.python(1, "client.appsmith.application.insert_one({'_id': 'new', 'name': 'made since'})");
    let reason = ["--reason", "users complain"];
    let run = pair.belay(&[&["upgrade", "rollback", "main", "--foreground"][..], &reason].concat());
    let run = run.code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before, "as it was");
    // What came since is in a snapshot, too, as its databases answered.
    let saved = pair.outcomes("save_production");
    let snapshot = saved[0]["snapshot"].as_str().unwrap_or_else(|| panic!("{saved:?}"));
    let listed = pair.belay(&["list", "--json"]).ok().stdout();
    assert!(listed.contains(snapshot), "{listed}");
    assert!(run.stdout().contains(&snapshot[..8]), "{run}");
    assert_eq!(pair.kept(1).len(), 1, "{:?}", pair.kept(1));
}

#[test]
fn where_there_is_no_room_for_copies_the_plan_and_the_gate_say_so() {
    let sandbox = Sandbox::new();
    let disk = SmallDisk::mount(&sandbox.path("small"), 900);
    let pair = Pair::of(sandbox, Some("small/stacks"), "");
    let used = Run::of({
        let mut du = Command::new("du");
        du.args(["-sm", text(&pair.stacks[1])]);
        du
    });
    let used: u64 = used.ok().stdout().split_whitespace().next().unwrap().parse().unwrap();
    // A restore beside what is there fits, and a copy of all does not.
    disk.grow(used + used * 15 / 16);
    let plan = pair.belay(&["upgrade", "plan", "main", "--to", NEW]).ok().stdout();
    assert!(!plan.contains("Copy the volumes"), "{plan}");
    let gate =
        pair.belay(&["gate", "main", "--to", NEW, "--environment", "staging", "--json"]).code(5);
    let said = "production: its way back is a restore of its snapshot, as its volumes cannot be copied aside: that needs";
    assert!(gate.stdout().contains(said), "{gate}");
}

#[test]
fn where_the_volume_cannot_be_copied_the_data_come_back_out_of_the_snapshot() {
    let sandbox = Sandbox::new();
    // What is itself a mount cannot be renamed.
    let _disk = SmallDisk::mount(&sandbox.path("small"), 2_000);
    let pair = Pair::of(sandbox, Some("small"), "");
    let before = pair.documents(1);
    let plan = pair.belay(&["upgrade", "plan", "main", "--to", NEW]).ok().stdout();
    assert!(!plan.contains("Copy the volumes"), "{plan}");
    pair.breaks(1, &["loses-rows"]);
    let run = pair.start().code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before, "as it was");
    // Staging's copy lies in the same directory.
    let of_production = |path: &&PathBuf| text(path).contains("production");
    assert_eq!(pair.kept(1).iter().find(of_production), None);
}

#[test]
fn where_no_version_starts_on_what_is_left_the_one_before_begins_anew_and_gets_its_data_back() {
    let sandbox = Sandbox::new();
    let _disk = SmallDisk::mount(&sandbox.path("small"), 2_000);
    let pair = Pair::of(sandbox, Some("small"), "");
    let before = pair.documents(1);
    pair.breaks(1, &["exits"]);
    let run = pair.start().code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before, "as it was");
    let put_back = pair.outcomes("put_back_production");
    let kept = put_back[0]["kept_at"].as_str().unwrap_or_else(|| panic!("{run}"));
    assert!(kept.starts_with(text(&pair.stacks[1].join("data/.belay-failed-"))), "{kept}");
    assert_eq!(fs::read_to_string(Path::new(kept).join("engine")).unwrap(), NEW);
    assert!(run.stdout().contains(kept), "{run}");
}
