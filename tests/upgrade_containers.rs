//! Upgrades of instances in one container, their databases among it, on a real Docker engine: what the new version does to the files of its
//! databases is taken back with the volumes, also where its container does not stay up.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::clock::Clock;
use support::disk::SmallDisk;
use support::servers::{Docker, Mongod, Registry, free_port, python_at, python_packages};
use support::upgrades::killed_at;
use support::{
    Run, Running, Sandbox, Tree, assert_same, files_in, text, wait_until, write_file, write_secret,
};

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
    /// Where the databases are not in the containers.
    _servers: Vec<Mongod>,
}

/// Where a pair's data are.
#[derive(Clone, Copy)]
enum Data<'a> {
    /// In the containers' own databases; production's on a volume of Docker's.
    Own,
    /// The same, with production on this directory of the sandbox.
    OwnOn(&'a str),
    /// In databases that run beside the containers.
    Apart,
}

impl Pair {
    fn new(terms: &str) -> Self {
        Self::of(Sandbox::new(), Data::Own, terms)
    }

    fn of(sandbox: Sandbox, data: Data<'_>, terms: &str) -> Self {
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
        let production = match data {
            Data::OwnOn(directory) => sandbox.path(directory),
            Data::Own | Data::Apart => PathBuf::from(volume.trim()),
        };
        let stacks = [sandbox.path("stacks"), production];
        let password = sandbox.path("login");
        write_secret(&password, "pass word&1");
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        let is_apart = matches!(data, Data::Apart);
        let component = if is_apart { "component.mongodb = { via = 'local' }\n" } else { "" };
        let mut servers = Vec::new();
        let made = [0, 1].map(|side| {
            let (name, stacks) = (SIDES[side], &stacks[side]);
            let server = seed(stacks, is_apart);
            let port = server.port;
            if is_apart {
                servers.push(server);
            } else {
                server.shut_down();
            }
            let web = free_port();
            let settings = json!({
                "platform": "appsmith", "port": web, "breaks": {},
                "mongodb": format!("mongodb://127.0.0.1:{port}/appsmith"),
                "login": "username=belay%40example.com&password=pass%20word%261",
            });
            let is_volume = side == 1 && !matches!(data, Data::OwnOn(_));
            let mount = if is_volume { "shop" } else { text(stacks) };
            compose_file(&sandbox, name, &format!("{}:{OLD}", registry.name()), mount);
            config.extend([format!(
                "\n[instance.{name}]\nplatform = 'appsmith'\nvia = 'docker:{name}'\nurl = 'http://127.0.0.1:{web}'\n\
                 login = {{ user = 'belay@example.com', password = 'file:{}' }}\ncompose = {{ dir = '{}', service = 'app' }}\n{component}",
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
        let pair = Self {
            sandbox,
            docker,
            _registry: registry,
            stacks,
            ports,
            settings,
            _servers: servers,
        };
        for side in [0, 1] {
            pair.breaks(side, &[]);
            pair.compose(side, &["up", "-d"]);
            pair.wait(side);
        }
        pair.belay(&["backup", "--pair", "main"]).code_in(&[0, 3]);
        pair
    }

    /// With production on what is itself a mount, which cannot be renamed. The pair has to go before its disk.
    fn on_a_mount() -> (SmallDisk, Self) {
        let sandbox = Sandbox::new();
        let disk = SmallDisk::mount(&sandbox.path("small"), 2_000);
        (disk, Self::of(sandbox, Data::OwnOn("small"), ""))
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
        let mut looks = 0;
        wait_until("the server in the container", || {
            looks += 1;
            // Asking Docker takes longer than looking for the file.
            if looks % 100 == 0 {
                let filter = format!("name={}", SIDES[side]);
                let running = self.docker.run(&["ps", "-q", "--filter", &filter]);
                assert!(!running.trim().is_empty(), "{}", self.why_stopped(side));
            }
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

    /// All documents that a side has, but for what a restore has set aside.
    #[track_caller]
    fn documents(&self, side: usize) -> String {
        self.python(
            side,
            "from bson import json_util
db = client.appsmith
for name in sorted(name for name in db.list_collection_names() if not name.startswith('belay_old_')):
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

    /// What a side has beside its databases: the environment file with its keys, and the trees of files.
    fn beside(&self, side: usize) -> (String, [Tree; 2]) {
        let at = |name| self.stacks[side].join(name);
        let environment = fs::read_to_string(at("configuration/docker.env")).unwrap();
        (environment, ["git-storage", "ssl"].map(|name| Tree::read(&at(name))))
    }

    #[track_caller]
    fn assert_beside(&self, side: usize, (environment, trees): &(String, [Tree; 2])) {
        let configuration = files_in(&self.stacks[side].join("configuration"));
        assert_eq!(configuration.iter().collect::<Vec<_>>(), ["docker.env"]);
        let found = self.beside(side);
        assert_eq!(&found.0, environment);
        assert_same(&trees[0], &found.1[0], "git-storage");
        assert_same(&trees[1], &found.1[1], "ssl");
    }

    /// The snapshot of what a new version that `spoils-files` left of production has that, and stays.
    #[track_caller]
    fn assert_spoiled_in_snapshot(&self, run: &Run) {
        let put_back = self.outcomes("put_back_production");
        let id = put_back[0]["snapshot"].as_str().unwrap_or_else(|| panic!("{run}"));
        let listed = self.belay(&["list", "--json"]).ok().json();
        let listed = listed.as_array().unwrap().iter().find(|it| it["id"] == id).unwrap();
        assert_eq!(listed["pins"], json!(["state of production before a restore"]));
        assert!(listed["tags"].to_string().contains("\"before-restore="), "{listed:#}");
        assert!(run.stdout().contains(&id[..8]), "{run}");
        let target = self.sandbox.fresh_directory();
        self.belay(&["restore", id, "--to-dir", text(target.path())]).ok();
        assert_spoiled(&target.path().join("environment/docker.env"), &target.path().join("files"));
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

/// It is all as a new version that `spoils-files` left it.
#[track_caller]
fn assert_spoiled(environment: &Path, files: &Path) {
    let environment = fs::read_to_string(environment).unwrap();
    assert!(environment.contains("APPSMITH_ENCRYPTION_PASSWORD=another-password"));
    let git = files.join("git-storage");
    assert_eq!(fs::read_to_string(git.join("app/HEAD")).unwrap(), "ref: refs/heads/moved\n");
    assert_eq!(fs::read_to_string(git.join("of-the-new-version")).unwrap(), NEW);
    assert!(!git.join("app/page.json").exists() && !files.join("ssl").exists());
}

/// Fill a volume as an Appsmith has it, and its database, which runs.
fn seed(stacks: &Path, is_apart: bool) -> Mongod {
    let data = stacks.join("data/mongodb");
    fs::create_dir_all(stacks.join("configuration")).unwrap();
    write_file(&stacks.join("git-storage/app/HEAD"), b"ref: refs/heads/main\n");
    write_file(&stacks.join("git-storage/app/page.json"), b"{}\n");
    write_file(&stacks.join("ssl/fullchain.pem"), b"a certificate\n");
    let server = if is_apart {
        Mongod::start()
    } else {
        fs::create_dir_all(&data).unwrap();
        Mongod::start_on(&data)
    };
    let port = server.port;
    server.seed("appsmith", 1);
    let release = format!(
        "client.appsmith.config.update_one({{'name': 'release-of-tests'}}, {{'$set': {{'value': '{OLD}'}}}}, upsert=True)"
    );
    server.python(&release);
    if !is_apart {
        fs::write(stacks.join("data/port"), port.to_string()).unwrap();
    }
    let file = fs::read_to_string("tests/fixtures/appsmith/docker.env").unwrap();
    let is_kept =
        |line: &&str| !line.starts_with("APPSMITH_REDIS") && !line.starts_with("APPSMITH_DB_URL");
    let file: Vec<&str> = file.lines().filter(is_kept).collect();
    let url = format!("APPSMITH_DB_URL=mongodb://127.0.0.1:{port}/appsmith");
    fs::write(stacks.join("configuration/docker.env"), format!("{}\n{url}\n", file.join("\n")))
        .unwrap();
    server
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
    let (before, beside) = ([pair.documents(0), pair.documents(1)], pair.beside(1));
    let plan = pair.belay(&["upgrade", "plan", "main", "--to", NEW]).ok().stdout();
    assert!(plan.contains("Copy the volumes of 'production' aside."), "{plan}");
    pair.breaks(1, &["spoils-files", "exits"]);
    let run = pair.start().code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before[1], "as it was");
    pair.assert_beside(1, &beside);
    assert_eq!(pair.versions(0).0, NEW, "staging keeps what it has proved");
    // What failed is kept, named, and still what it was.
    let kept = pair.kept(1);
    let [failed] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(fs::read_to_string(failed.join("data/mongodb/engine")).unwrap(), NEW);
    assert_spoiled(&failed.join("configuration/docker.env"), failed);
    assert_eq!(pair.outcomes("put_back_production")[0]["kept_at"], text(failed), "{run}");
    assert!(run.stdout().contains(text(failed)), "{run}");
    let shown = pair.belay(&["upgrade", "show", "main"]).ok().stdout();
    assert!(shown.contains(text(failed)) && shown.contains("does not run"), "{shown}");
}

#[test]
fn on_staging_it_is_taken_back_there_and_production_is_not_touched() {
    let pair = Pair::new("");
    let (before, beside) =
        ([pair.documents(0), pair.documents(1)], [pair.beside(0), pair.beside(1)]);
    let of_production = || {
        let format = "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
        pair.docker.run(&["inspect", "-f", format, "production"])
    };
    let ran = of_production();
    pair.breaks(0, &["spoils-files", "exits"]);
    let run = pair.start().code(1);
    assert_eq!(pair.state(), "aborted", "{run}");
    assert_eq!(of_production(), ran, "it was not even stopped");
    assert_eq!(pair.versions(0), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!([pair.documents(0), pair.documents(1)], before);
    pair.assert_beside(0, &beside[0]);
    pair.assert_beside(1, &beside[1]);
    let kept = pair.kept(0);
    let [failed] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(fs::read_to_string(failed.join("data/mongodb/engine")).unwrap(), NEW);
    assert_spoiled(&failed.join("configuration/docker.env"), failed);
    assert!(run.stdout().contains(text(failed)), "{run}");
    assert!(pair.kept(1).is_empty(), "{:?}", pair.kept(1));
}

/// The steps around the copies of production's volumes, and of the way back by them.
const KILLED: [&str; 8] = [
    "stop_writers",
    "back_up_stopped",
    "copy_volumes",
    "hold_writers",
    "stop_production",
    "save_production",
    "put_back_production",
    "start_back",
];

#[test]
fn a_way_by_the_copies_that_is_killed_in_each_step_ends_as_an_undisturbed_one() {
    let pair = Pair::new("");
    let (before, beside) = (pair.documents(1), pair.beside(1));
    pair.breaks(1, &["spoils-files", "exits"]);
    // Before anything of it is done, and once all of it is, which nobody has noted.
    let places = KILLED.map(|step| [format!("noted began {step}"), format!("before done {step}")]);
    let file = pair.sandbox.path("places");
    let start = ["start", "main", "--to", NEW, "--yes"];
    let run = killed_at(&file, places.as_flattened(), &start, |arguments| pair.command(arguments));
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.versions(0).0, NEW, "staging keeps what it has proved");
    assert_eq!(pair.documents(1), before, "as it was");
    pair.assert_beside(1, &beside);
    let kept = pair.kept(1);
    let [failed] = &kept[..] else { panic!("{kept:?}: {run}") };
    assert_eq!(fs::read_to_string(failed.join("data/mongodb/engine")).unwrap(), NEW);
    assert_spoiled(&failed.join("configuration/docker.env"), failed);
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

/// Days, as a clock is moved.
fn days(days: u64) -> Duration {
    Duration::from_hours(24 * days)
}

#[test]
fn a_good_night_is_for_good_after_a_week_and_nothing_of_it_is_kept_a_month_later() {
    let (clock, pair) = (Clock::new(), Pair::new(""));
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    let snapshots =
        ["back_up_staging", "back_up_production", "back_up_staging_again", "back_up_stopped"]
            .map(|step| pair.outcomes(step)[0]["snapshot"].as_str().unwrap().to_owned());
    let id = pair.shown()["upgrade"]["id"].as_str().unwrap().to_owned();
    let reason = format!("upgrade {id} of main to {NEW}");
    // Which snapshots, and for what, are pinned.
    let pinned = || -> Vec<Value> {
        let all = pair.belay(&["list", "--json"]).ok().json();
        let of = |id: &String| all.as_array().unwrap().iter().find(|it| it["id"] == *id).unwrap();
        snapshots.iter().map(|id| of(id)["pins"].clone()).collect()
    };
    let all_pinned = vec![json!([reason]); snapshots.len()];
    let areas = |side: usize| {
        let beside = files_in(pair.stacks[side].parent().unwrap());
        beside.iter().filter(|name| name.starts_with(".belay-upgrade-")).count()
    };
    let copies = || [0, 1].map(|side| (areas(side), pair.kept(side).len()));
    assert_eq!((pinned(), copies()), (all_pinned.clone(), [(1, 1), (1, 1)]));
    let resumed = |ahead: Duration| {
        clock.is_ahead(ahead);
        let resume = pair.command(&["upgrade", "resume", "main", "--foreground"]);
        Run::of_long(clock.by(resume)).code_in(&[0, 3])
    };
    let run = resumed(Duration::from_hours(7 * 24 - 1));
    assert_eq!(pair.state(), "provisional", "the week is not over: {run}");
    pair.compose(1, &["stop"]);
    let run = resumed(Duration::from_hours(7 * 24 + 1));
    assert_eq!(pair.state(), "provisional", "nothing is committed that is not well: {run}");
    assert!(run.stdout().contains("It waits for production to be healthy"), "{run}");
    assert_eq!((pinned(), copies()), (all_pinned.clone(), [(1, 1), (1, 1)]));
    pair.compose(1, &["start"]);
    pair.wait(1);
    let run = resumed(Duration::from_hours(7 * 24 + 1));
    assert_eq!(pair.state(), "committed", "{run}");
    assert_eq!((pinned(), copies()), (all_pinned.clone(), [(0, 0), (1, 1)]), "{run}");
    let runs_new = || {
        for side in [0, 1] {
            assert_eq!(pair.versions(side), (NEW.to_owned(), NEW.to_owned()));
            let file = pair.sandbox.path(SIDES[side]).join("docker-compose.override.yml");
            let pin = fs::read_to_string(file).unwrap();
            assert!(pin.contains(&format!(":{NEW}@sha256:")), "{pin}");
        }
    };
    runs_new();
    let back = ["upgrade", "rollback", "main", "--reason", "much too late", "--foreground"];
    pair.belay(&back).code(5).says(&["the upgrade is committed", "`belay restore`"]);

    // Nobody has to say anything for the rest.
    let socket = pair.sandbox.path("belay.sock");
    let config = fs::read_to_string(pair.sandbox.config()).unwrap();
    let config =
        config.replace("[repository.main]\n", "[repository.main]\nprune = 'off'\ncheck = 'off'\n");
    let config = format!("{config}\n[daemon]\nsocket = '{}'\n", text(&socket));
    fs::write(pair.sandbox.config(), config).unwrap();
    clock.is_ahead(days(7 + 29));
    let mut daemon = Running::start(clock.by(pair.command(&["daemon"])));
    wait_until("the daemon to listen", || daemon.has_ended() || socket.exists());
    assert!(!daemon.has_ended(), "{}", daemon.stderr_so_far());
    assert_eq!((pinned(), copies()), (all_pinned, [(0, 0), (1, 1)]));
    clock.is_ahead(days(7 + 31));
    wait_until("the pins to be released", || {
        daemon.has_ended() || !pair.outcomes("release_pins").is_empty()
    });
    let said = daemon.stderr_so_far();
    daemon.kill();
    assert_eq!(pair.state(), "committed", "{said}");
    assert_eq!(
        (pinned(), copies()),
        (vec![json!([]); snapshots.len()], [(0, 0), (0, 0)]),
        "{said}"
    );
    let at = |step: &str| -> jiff::Timestamp {
        let records = pair.shown()["upgrade"]["records"].as_array().unwrap().clone();
        let done = records.iter().find(|it| it["kind"] == "done" && it["step"] == step).unwrap();
        done["at"].as_str().unwrap().parse().unwrap()
    };
    let kept_for = at("release_pins").duration_since(at("commit"));
    assert!(kept_for >= days(30).try_into().unwrap(), "{kept_for}: {said}");
    runs_new();
}

#[test]
fn where_there_is_no_room_for_copies_the_plan_and_the_gate_say_so() {
    let sandbox = Sandbox::new();
    let disk = SmallDisk::mount(&sandbox.path("small"), 900);
    let pair = Pair::of(sandbox, Data::OwnOn("small/stacks"), "");
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
    let (_disk, pair) = Pair::on_a_mount();
    let (before, beside) = (pair.documents(1), pair.beside(1));
    let plan = pair.belay(&["upgrade", "plan", "main", "--to", NEW]).ok().stdout();
    assert!(!plan.contains("Copy the volumes"), "{plan}");
    pair.breaks(1, &["spoils-files", "loses-rows"]);
    let run = pair.start().code(1).says(&["counts failed", "keys failed"]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before, "as it was");
    pair.assert_beside(1, &beside);
    pair.assert_spoiled_in_snapshot(&run);
    // Staging's copy lies in the same directory.
    let of_production = |path: &&PathBuf| text(path).contains("production");
    assert_eq!(pair.kept(1).iter().find(of_production), None);
}

#[test]
fn where_no_version_starts_on_what_is_left_the_one_before_begins_anew_and_gets_its_data_back() {
    let (_disk, pair) = Pair::on_a_mount();
    let (before, beside) = (pair.documents(1), pair.beside(1));
    pair.breaks(1, &["spoils-files", "exits"]);
    let run = pair.start().code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before, "as it was");
    pair.assert_beside(1, &beside);
    // What is reached through the container is in a snapshot, and what it could not run on beside it.
    pair.assert_spoiled_in_snapshot(&run);
    let put_back = pair.outcomes("put_back_production");
    let kept = put_back[0]["kept_at"].as_str().unwrap_or_else(|| panic!("{run}"));
    assert!(kept.starts_with(text(&pair.stacks[1].join("data/.belay-failed-"))), "{kept}");
    assert_eq!(fs::read_to_string(Path::new(kept).join("engine")).unwrap(), NEW);
    assert!(run.stdout().contains(kept), "{run}");
}

#[test]
fn a_database_elsewhere_on_which_no_version_starts_comes_back_once_without_the_container() {
    let pair = Pair::of(Sandbox::new(), Data::Apart, "");
    let (before, beside) = ([pair.documents(0), pair.documents(1)], pair.beside(1));
    // The version before does not start for another reason, either.
    let mut settings = pair.settings[1].clone();
    settings["breaks"] = json!({ NEW: ["spoils-files", "exits"], OLD: ["refuses"] });
    let path = pair.sandbox.path("production/platform/settings.json");
    fs::write(path, settings.to_string()).unwrap();
    let start = ["upgrade", "start", "main", "--to", NEW, "--yes", "--foreground"];
    let mut running = Running::start(pair.command(&start));
    let (moved, down) =
        ("v1.96 of production does not run on what v1.97 left", "neither v1.97 nor v1.96 runs");
    wait_until("the version before to be tried", || {
        running.has_ended() || running.stderr_so_far().contains(moved)
    });
    wait_until("it to be tried on its own data", || {
        running.has_ended() || running.stderr_so_far().contains(down)
    });
    running.signal(Signal::INT);
    let run = running.wait().code(130);
    assert_eq!(pair.documents(1), before[1], "it has its data: {run}");
    // What keeps it from starting is mended.
    pair.breaks(1, &["spoils-files", "exits"]);
    let run = pair.belay(&["upgrade", "resume", "main", "--foreground"]).code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before[1], "as it was");
    pair.assert_beside(1, &beside);
    pair.assert_spoiled_in_snapshot(&run);
    assert_eq!(pair.versions(0).0, NEW, "staging keeps what it has proved");
    // What failed is kept beside it, once, named, and still what it was.
    let aside = "[name for name in client.appsmith.list_collection_names() if name.startswith('belay_old_')]";
    let jobs = format!("print(len({{name.split('_')[2] for name in {aside}}}))");
    assert_eq!(pair.python(1, &jobs), "1", "{run}");
    let moved = format!(
        "print([name for name in {aside} if client.appsmith[name].find_one({{'title': 'moved'}})][0])"
    );
    let put_back = pair.outcomes("put_back_production");
    let kept = put_back[0]["kept_at"].as_str().unwrap_or_else(|| panic!("{run}"));
    assert!(kept.contains(&pair.python(1, &moved)), "{kept}");
    assert!(run.stdout().contains(kept), "{run}");
}

/// Ends Belay, and the script that it runs, right before the version before is started on the database that came back; once.
const KILLING_COMPOSE: &str = r#"#!/bin/sh
if [ "$1" = up ] && [ "$PWD" = "PRODUCTION" ] && [ ! -e MARK ]; then
  PYTHONPATH=PACKAGES /usr/bin/python3 -c '
import pymongo, sys
database = pymongo.MongoClient("mongodb://127.0.0.1:PORT/", directConnection=True).appsmith
sys.exit(not any(name.startswith("belay_old_") for name in database.list_collection_names()))' && {
    : > MARK
    kill -9 "$(cut -d ' ' -f 4 "/proc/$PPID/stat")" "$PPID"
    exit 1
  }
fi
exec /usr/bin/docker-compose "$@"
"#;

#[test]
fn a_kill_between_the_database_that_is_back_and_the_start_leads_to_no_second_one() {
    let pair = Pair::of(Sandbox::new(), Data::Apart, "");
    let (before, beside) = (pair.documents(1), pair.beside(1));
    pair.breaks(1, &["spoils-files", "exits"]);
    let programs = pair.sandbox.path("programs");
    fs::create_dir(&programs).unwrap();
    let mark = pair.sandbox.path("killed");
    let script = KILLING_COMPOSE
        .replace("PRODUCTION", text(&pair.sandbox.path("production")))
        .replace("PACKAGES", text(&python_packages()))
        .replace("PORT", &pair.ports[1].to_string())
        .replace("MARK", text(&mark));
    fs::write(programs.join("docker-compose"), script).unwrap();
    fs::set_permissions(programs.join("docker-compose"), fs::Permissions::from_mode(0o755))
        .unwrap();
    let mut command =
        pair.command(&["upgrade", "start", "main", "--to", NEW, "--yes", "--foreground"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", text(&programs)));
    let run = Run::of_long(command);
    assert_eq!(run.signal(), Some(9), "{run}");
    assert!(mark.exists(), "{run}");
    assert_eq!(pair.state(), "rolling_back");
    assert_eq!(pair.documents(1), before, "it has its data: {run}");
    let format = "{{.State.Running}}";
    let runs = pair.docker.run(&["inspect", "-f", format, "production"]);
    assert_eq!(runs.trim(), "false", "nothing of it was started yet: {run}");
    let run = pair.belay(&["upgrade", "resume", "main", "--foreground"]).code(1);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.versions(1), (OLD.to_owned(), OLD.to_owned()), "{run}");
    assert_eq!(pair.documents(1), before, "as it was");
    pair.assert_beside(1, &beside);
    pair.assert_spoiled_in_snapshot(&run);
    // What failed is kept beside it once, as the new version left it, and told by whoever went on.
    let aside = "[name for name in client.appsmith.list_collection_names() if name.startswith('belay_old_')]";
    let jobs = format!("print(len({{name.split('_')[2] for name in {aside}}}))");
    assert_eq!(pair.python(1, &jobs), "1", "{run}");
    let moved = format!(
        "print([name for name in {aside} if client.appsmith[name].find_one({{'title': 'moved'}})][0])"
    );
    let put_back = pair.outcomes("put_back_production");
    let kept = put_back[0]["kept_at"].as_str().unwrap_or_else(|| panic!("{run}"));
    assert!(kept.contains(&pair.python(1, &moved)), "{kept}");
}
