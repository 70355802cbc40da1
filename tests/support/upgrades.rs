//! Pairs of instances of the small platform, each over a database server of its own, that a script upgrades: both run the old version, and
//! both are backed up.

use super::servers::{Mongod, POSTGRES_PASSWORD, Platform, Postgres, free_port};
use super::{Run, Sandbox, files_in, text, wait_until, write_secret};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Of ToolJet's interface for other programs.
pub const TOKEN: &str = "external-api-token-of-tests";
/// Places in arrays of both.
pub const SIDES: [&str; 2] = ["staging", "production"];
/// The tests of an instance, where the terms of a pair name no others.
const TESTS: &str = "tests = ['health', 'version', 'apps-open', 'counts', 'keys']";

/// What both instances of a pair are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over PostgreSQL.
    ToolJet,
    /// Over MongoDB.
    Appsmith,
}

impl Kind {
    /// What runs before an upgrade.
    pub fn old(self) -> &'static str {
        match self {
            Self::ToolJet => "v3.16.11",
            Self::Appsmith => "v1.96",
        }
    }

    /// What an upgrade leads to.
    pub fn new_version(self) -> &'static str {
        match self {
            Self::ToolJet => "v3.17.0",
            Self::Appsmith => "v1.97",
        }
    }
}

/// The database server of one instance.
pub enum Database {
    Postgres(Postgres),
    Mongod(Mongod),
}

impl Database {
    /// Filled, and the settings of a small platform over it, without its port.
    pub fn start(kind: Kind) -> (Self, Value) {
        match kind {
            Kind::ToolJet => {
                let server = Postgres::start();
                let seed = tempfile::NamedTempFile::new().unwrap();
                let mut made = Command::new("/usr/bin/python3");
                made.args(["tests/fixtures/tooljet/seed.py", "1"]);
                fs::write(seed.path(), Run::of(made).ok().stdout()).unwrap();
                server.script(seed.path());
                let old = kind.old();
                let release = format!(
                    "UPDATE metadata SET data = json_build_object('installed_version', '{old}')"
                );
                server.sql("tooljet_production", &release);
                let psql = json!({ "PGHOST": "127.0.0.1", "PGPORT": server.port.to_string(), "PGUSER": "postgres", "PGPASSWORD": POSTGRES_PASSWORD });
                let settings = json!({ "platform": "tooljet", "token": TOKEN, "psql": psql });
                (Self::Postgres(server), settings)
            }
            Kind::Appsmith => {
                let server = Mongod::start();
                server.seed("appsmith", 1);
                let settings = json!({
                    "platform": "appsmith", "mongodb": server.url("appsmith"),
                    "login": "username=belay%40example.com&password=pass%20word%261",
                });
                (Self::Mongod(server), settings)
            }
        }
    }

    /// Write the environment file of the instance `name`.
    pub fn write_environment(&self, path: &Path, name: &str) {
        let file = match self {
            Self::Postgres(server) => {
                let file = fs::read_to_string("tests/fixtures/tooljet/tooljet.env").unwrap();
                let port = server.port;
                let file = file
                    .replace("localhost", "127.0.0.1")
                    .replace("PG_PORT=5432", &format!("PG_PORT={port}"));
                format!("{file}TOOLJET_DB_PORT={port}\n")
            }
            Self::Mongod(server) => {
                let file = fs::read_to_string("tests/fixtures/appsmith/docker.env").unwrap();
                let others = ["APPSMITH_REDIS", "APPSMITH_DB_URL", "APPSMITH_SUPERVISOR_USER"];
                let kept =
                    file.lines().filter(|line| !others.iter().any(|it| line.starts_with(it)));
                let url = server.url("appsmith");
                // `supervisorctl` below goes by the user.
                let own = format!("APPSMITH_DB_URL={url}\nAPPSMITH_SUPERVISOR_USER={name}\n");
                kept.collect::<Vec<_>>().join("\n") + "\n" + &own
            }
        };
        fs::write(path, file).unwrap();
    }

    /// The version that the database says.
    pub fn version(&self) -> String {
        let said = match self {
            Self::Postgres(server) => {
                server.sql("tooljet_production", "SELECT data->>'installed_version' FROM metadata")
            }
            Self::Mongod(server) => server.python(
                "print(client.appsmith.config.find_one({'name': 'release-of-tests'})['value'])",
            ),
        };
        said.trim().to_owned()
    }

    /// All that is in it, as text: the same text for the same data.
    pub fn dump(&self) -> String {
        match self {
            Self::Postgres(server) => {
                let dump = |database| server.run("pg_dump", &["--no-owner", database]);
                let both = ["tooljet_production", "tooljet_db"].map(dump).join("\n");
                // What differs with each run of pg_dump.
                both.lines()
                    .filter(|line| !line.contains("restrict "))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
            Self::Mongod(server) => {
                server.picture("appsmith") + "\n" + &server.python(MONGODB_DOCUMENTS)
            }
        }
    }

    pub fn postgres(&self) -> &Postgres {
        match self {
            Self::Postgres(server) => server,
            Self::Mongod(_) => panic!("it is MongoDB"),
        }
    }

    pub fn mongod(&self) -> &Mongod {
        match self {
            Self::Mongod(server) => server,
            Self::Postgres(_) => panic!("it is PostgreSQL"),
        }
    }
}

/// Prints each document of each collection, with the types of all values.
const MONGODB_DOCUMENTS: &str = "
from bson import json_util
db = client.appsmith
for each in sorted(db.command('listCollections')['cursor']['firstBatch'], key=lambda each: each['name']):
    if each['type'] == 'view' or each['name'] == 'system.views': continue
    for document in db[each['name']].find().sort('_id', 1):
        print(each['name'], json_util.dumps(document, json_options=json_util.CANONICAL_JSON_OPTIONS))
";

/// The pair `main` of the instances `staging` and `production`.
pub struct Pair {
    pub kind: Kind,
    /// Stopped while their files are still there.
    pub platforms: [Platform; 2],
    pub databases: [Database; 2],
    pub sandbox: Sandbox,
}

impl Pair {
    /// Over PostgreSQL; `terms` are more keys of the pair's table.
    pub fn new(terms: &str) -> Self {
        Self::of(Kind::ToolJet, terms)
    }

    /// Of either kind.
    pub fn of(kind: Kind, terms: &str) -> Self {
        Self::driven(kind, terms, true)
    }

    /// Of either kind; whether the script also stops and starts an instance, or only puts versions in place. `SCRIPT` in the terms stands
    /// for its path.
    pub fn driven(kind: Kind, terms: &str, stops: bool) -> Self {
        let sandbox = Sandbox::new();
        let directory = sandbox.path("platforms");
        fs::create_dir_all(&directory).unwrap();
        let script = Platform::script(&directory);
        write_supervisor(&bin(&sandbox), &script);
        write_secret(&sandbox.path("token"), TOKEN);
        write_secret(&sandbox.path("login"), "pass word&1");
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        let made = SIDES.map(|name| {
            let (database, mut settings) = Database::start(kind);
            let port = free_port();
            settings["port"] = json!(port);
            let environment = sandbox.path(&format!("{name}.env"));
            database.write_environment(&environment, name);
            settings["environment"] = json!(text(&environment));
            let platform = match kind {
                Kind::ToolJet => {
                    format!("'tooljet'\ntoken = 'file:{}'", text(&sandbox.path("token")))
                }
                Kind::Appsmith => format!(
                    "'appsmith'\nlogin = {{ user = 'belay@example.com', password = 'file:{}' }}",
                    text(&sandbox.path("login"))
                ),
            };
            config.extend([format!(
                "\n[instance.{name}]\nurl = 'http://127.0.0.1:{port}'\nenvironment = '{}'\nplatform = {platform}\n",
                text(&environment)
            )]);
            (database, Platform::new(&directory, name, settings))
        });
        let tests = if terms.contains("tests = ") { "" } else { TESTS };
        let command = text(&script);
        let terms = terms.replace("SCRIPT", command);
        let both = if stops {
            format!("stop = ['{command}', 'stop'], start = ['{command}', 'start'], ")
        } else {
            String::new()
        };
        config.extend([format!(
            "\n[pair.main]\nstaging = 'staging'\nproduction = 'production'\n{tests}\n\
             driver = {{ command = '{command}', {both}timeout = '60s' }}\n{terms}\n"
        )]);
        fs::write(sandbox.config(), config).unwrap();
        let [(one, first), (two, second)] = made;
        let pair = Self { kind, sandbox, databases: [one, two], platforms: [first, second] };
        for name in SIDES {
            let mut install = Command::new(command);
            install.env("BELAY_INSTANCE", name).env("BELAY_VERSION", kind.old());
            Run::of(install).ok();
        }
        pair.belay(&["backup", "--pair", "main"]).code_in(&[0, 3]);
        pair
    }

    /// `belay --config … ARGUMENTS`, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.belay_command(arguments);
        let rest = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{rest}", text(&bin(&self.sandbox))));
        command
    }

    pub fn belay(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments))
    }

    /// Upgrade to the new version, as far as that goes.
    pub fn start(&self) -> Run {
        let to = self.kind.new_version();
        self.belay(&["upgrade", "start", "main", "--to", to, "--yes", "--foreground"])
    }

    /// Start it, until the process is killed at a place of its journal.
    #[track_caller]
    pub fn start_until(&self, place: &str) -> Run {
        let file = self.sandbox.path("places");
        fs::write(&file, format!("{place}\n")).unwrap();
        let to = self.kind.new_version();
        let mut start =
            self.command(&["upgrade", "start", "main", "--to", to, "--yes", "--foreground"]);
        start.env("BELAY_ENDS_UPGRADE_AT", &file);
        let run = Run::of(start);
        assert_eq!(run.signal(), Some(9), "{run}");
        run
    }

    /// Start it, until each of these places has ended a process. Answers the run that was not killed.
    pub fn killed_at(&self, places: &[String]) -> Run {
        let to = self.kind.new_version();
        self.killed_after(&["start", "main", "--to", to, "--yes"], places)
    }

    /// The same of another word about it.
    pub fn killed_after(&self, word: &[&str], places: &[String]) -> Run {
        let command = |arguments: &[&str]| self.command(arguments);
        killed_at(&self.sandbox.path("places"), places, word, command)
    }

    /// Go on with it.
    pub fn resume(&self) -> Run {
        self.belay(&["upgrade", "resume", "main", "--foreground"])
    }

    pub fn shown(&self) -> Value {
        self.belay(&["upgrade", "show", "main", "--json"]).ok().json()
    }

    pub fn state(&self) -> String {
        self.shown()["upgrade"]["state"].as_str().unwrap().to_owned()
    }

    /// The records of its journal.
    pub fn records(&self) -> Vec<Value> {
        self.shown()["upgrade"]["records"].as_array().unwrap().clone()
    }

    /// The steps that were done, in order.
    pub fn done(&self) -> Vec<String> {
        let records = self.records();
        let done = records.iter().filter(|record| record["kind"] == "done");
        done.map(|record| record["step"].as_str().unwrap().to_owned()).collect()
    }

    /// The snapshot that a step left behind when it was done last.
    pub fn snapshot_of(&self, step: &str) -> String {
        let records = self.records();
        let mut done = records.iter().rev();
        let done = done.find(|record| record["kind"] == "done" && record["step"] == step);
        let outcome =
            &done.unwrap_or_else(|| panic!("{step} was not done: {records:#?}"))["outcome"];
        outcome["snapshot"].as_str().unwrap_or_else(|| panic!("{step}: {outcome}")).to_owned()
    }

    /// A snapshot as `belay list` has it.
    pub fn listed(&self, id: &str) -> Value {
        let all = self.belay(&["list", "--json"]).ok().json();
        let found = all.as_array().unwrap().iter().find(|snapshot| snapshot["id"] == id);
        found.unwrap_or_else(|| panic!("{id} is not listed: {all:#}")).clone()
    }

    /// What the new version left of a side is in a snapshot that was taken before its data were put back, and that stays. Answers it.
    #[track_caller]
    pub fn failed_state(&self, side: usize) -> String {
        let name = SIDES[side];
        let back = ["back_up_staging", "back_up_stopped"][side];
        let (id, back) = (self.snapshot_of(&format!("put_back_{name}")), self.snapshot_of(back));
        let listed = self.listed(&id);
        assert_eq!(listed["instance"], name, "{listed:#}");
        assert_eq!((&listed["sealed"], &listed["pinned"]), (&json!(true), &json!(true)));
        assert_eq!(listed["pins"], json!([format!("state of {name} before a restore")]));
        let tag = json!(format!("before-restore={back}"));
        assert!(listed["tags"].as_array().unwrap().contains(&tag), "{back}: {listed:#}");
        id
    }

    /// The files that a snapshot has, in a directory.
    pub fn unpacked(&self, id: &str) -> TempDir {
        let target = self.sandbox.fresh_directory();
        self.belay(&["restore", id, "--to-dir", text(target.path())]).ok();
        target
    }

    /// The instance's environment file, which has no other beside it of a restore.
    #[track_caller]
    pub fn environment(&self, side: usize) -> String {
        let name = format!("{}.env", SIDES[side]);
        let beside = files_in(&self.sandbox.path(""));
        let of_it: Vec<&String> = beside.iter().filter(|it| it.contains(&name)).collect();
        assert_eq!(of_it, [&name]);
        fs::read_to_string(self.sandbox.path(&name)).unwrap()
    }

    /// What the manifest of a snapshot says.
    pub fn manifest(&self, id: &str) -> Value {
        self.belay(&["show", id, "--json"]).ok().json()["manifest"].clone()
    }

    /// The processes beside the writers of an instance that start them when Belay is not heard of any more.
    fn timers(&self) -> Vec<String> {
        let place = text(&self.sandbox.path("platforms")).to_owned();
        let processes = fs::read_dir("/proc").unwrap();
        let lines = processes.filter_map(|it| fs::read(it.ok()?.path().join("cmdline")).ok());
        let lines = lines.map(|it| String::from_utf8_lossy(&it).into_owned());
        lines.filter(|it| it.contains("belay-stopped-") && it.contains(&place)).collect()
    }

    /// Nothing of an upgrade is left beside the journal: no note of what was stopped, no timer that starts it, no word.
    pub fn assert_nothing_is_left(&self) {
        assert_eq!(files_in(&self.sandbox.state().join("stopped")), BTreeSet::new());
        let words = files_in(&self.sandbox.state().join("upgrades"));
        assert_eq!(words, BTreeSet::from(["main.lock".to_owned()]));
        // One whose lease is gone ends with its next look.
        wait_until("the timers beside the writers to end", || self.timers().is_empty());
    }

    /// The version that an instance's database says.
    pub fn version(&self, side: usize) -> String {
        self.databases[side].version()
    }

    /// All that a side holds.
    pub fn dump(&self, side: usize) -> String {
        self.databases[side].dump()
    }
}

fn bin(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("bin")
}

/// Say `word` of the upgrade of `main`, such as that it starts, and take that up again whenever it was killed, until each of these places of its
/// journal (`kept began verify`), which are put into `file`, has ended a process. Answers the run that was not killed.
pub fn killed_at(
    file: &Path,
    places: &[String],
    word: &[&str],
    command: impl Fn(&[&str]) -> Command,
) -> Run {
    let lines: Vec<String> = places.iter().map(|place| format!("{place}\n")).collect();
    fs::write(file, lines.concat()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = command(&[&["upgrade"], arguments, &["--foreground"]].concat());
        command.env("BELAY_ENDS_UPGRADE_AT", file);
        Run::of_long(command)
    };
    let mut last = run(word);
    let mut kills = 0;
    while last.signal() == Some(9) {
        kills += 1;
        last = run(&["resume", "main"]);
    }
    let left = fs::read_to_string(file).unwrap();
    assert_eq!(left, "", "places that were not reached, of {}: {last}", places.len());
    assert_eq!(kills, places.len(), "{last}");
    last
}

/// What Appsmith's container has to stop and start what writes.
fn write_supervisor(directory: &Path, script: &Path) {
    fs::create_dir_all(directory).unwrap();
    let path = directory.join("supervisorctl");
    let content = format!(
        "#!/bin/sh\nset -eu\n[ \"$2 $3\" = 'backend rts' ]\nBELAY_INSTANCE=$APPSMITH_SUPERVISOR_USER exec {} \"$1\"\n",
        text(script)
    );
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}
