//! Upgrades from beginning to end, in the foreground: a small platform over real PostgreSQL servers, whose releases break in each way,
//! on staging and on production.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use support::servers::{POSTGRES_PASSWORD, Platform, Postgres, free_port};
use support::{Run, Sandbox, text, write_secret};

const TOKEN: &str = "external-api-token-of-tests";
const OLD: &str = "v3.16.11";
const NEW: &str = "v3.17.0";
const SIDES: [&str; 2] = ["staging", "production"];

/// A pair of instances that run the old version, both backed up.
struct Pair {
    sandbox: Sandbox,
    servers: [Postgres; 2],
    platforms: [Platform; 2],
}

impl Pair {
    fn new(terms: &str) -> Self {
        let sandbox = Sandbox::new();
        let directory = sandbox.path("platforms");
        fs::create_dir_all(&directory).unwrap();
        let seed = Command::new("/usr/bin/python3")
            .args(["tests/fixtures/tooljet/seed.py", "1"])
            .output()
            .unwrap();
        assert!(seed.status.success(), "{}", String::from_utf8_lossy(&seed.stderr));
        let seed_path = sandbox.path("seed.sql");
        fs::write(&seed_path, seed.stdout).unwrap();
        let token = sandbox.path("token");
        write_secret(&token, TOKEN);
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        let made = SIDES.map(|name| {
            let server = Postgres::start();
            server.script(&seed_path);
            server.sql(
                "tooljet_production",
                &format!("UPDATE metadata SET data = json_build_object('installed_version', '{OLD}')"),
            );
            let port = free_port();
            let psql = json!({ "PGHOST": "127.0.0.1", "PGPORT": server.port.to_string(), "PGUSER": "postgres", "PGPASSWORD": POSTGRES_PASSWORD });
            let settings = json!({ "platform": "tooljet", "port": port, "token": TOKEN, "psql": psql });
            let environment = sandbox.path(&format!("{name}.env"));
            let file = fs::read_to_string("tests/fixtures/tooljet/tooljet.env").unwrap();
            let file = file
                .replace("localhost", "127.0.0.1")
                .replace("PG_PORT=5432", &format!("PG_PORT={}", server.port));
            fs::write(&environment, format!("{file}TOOLJET_DB_PORT={}\n", server.port)).unwrap();
            config.extend([format!(
                "\n[instance.{name}]\nplatform = 'tooljet'\nurl = 'http://127.0.0.1:{port}'\n\
                 environment = '{}'\ntoken = 'file:{}'\n",
                text(&environment),
                text(&token)
            )]);
            (server, Platform::new(&directory, name, settings))
        });
        let script = Platform::script(&directory);
        let script = text(&script);
        config.extend([format!(
            "\n[pair.main]\nstaging = 'staging'\nproduction = 'production'\n\
             tests = ['health', 'version', 'apps-open', 'counts', 'keys']\n\
             driver = {{ command = '{script}', stop = ['{script}', 'stop'], start = ['{script}', 'start'], timeout = '60s' }}\n{terms}\n"
        )]);
        fs::write(sandbox.config(), config).unwrap();
        let [(one, first), (two, second)] = made;
        let pair = Self { sandbox, servers: [one, two], platforms: [first, second] };
        for name in SIDES {
            let mut install = Command::new(script);
            install.env("BELAY_INSTANCE", name).env("BELAY_VERSION", OLD);
            Run::of(install).ok();
        }
        pair.belay(&["backup", "--pair", "main"]).code_in(&[0, 3]);
        pair
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        self.sandbox.belay(arguments)
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

    /// The version that an instance's database says.
    fn version(&self, side: usize) -> String {
        let query = "SELECT data->>'installed_version' FROM metadata";
        self.servers[side].sql("tooljet_production", query).trim().to_owned()
    }

    /// All that a side holds, but for what differs with each start.
    fn dump(&self, side: usize) -> String {
        let dump = |database| self.servers[side].run("pg_dump", &["--no-owner", database]);
        let both = ["tooljet_production", "tooljet_db"].map(dump).join("\n");
        both.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
    }

    /// The steps that were done, in order.
    fn done(&self) -> Vec<String> {
        let records = self.shown()["upgrade"]["records"].as_array().unwrap().clone();
        let done = records.iter().filter(|record| record["kind"] == "done");
        done.map(|record| record["step"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_good_night_with_an_approval() {
    let who = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let pair = Pair::new(&format!("approvers = ['{}']\nsoak = '1s'", who.trim()));
    let plan = pair.belay(&["upgrade", "plan", "main", "--to", NEW]).ok().stdout();
    assert!(plan.contains("Wait until one of"), "{plan}");
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "awaiting_approval", "{run}");
    assert_eq!((pair.version(0).as_str(), pair.version(1).as_str()), (NEW, OLD));
    // A kill between the repository and the catalog: the repository has one record more.
    let newest =
        "DELETE FROM upgrade_records WHERE number = (SELECT max(number) FROM upgrade_records)";
    rusqlite::Connection::open(pair.sandbox.state().join("catalog.sqlite"))
        .unwrap()
        .execute(newest, [])
        .unwrap();
    let run = pair.belay(&["upgrade", "resume", "main", "--foreground"]).code_in(&[0, 3]);
    assert!(!run.stderr().contains("could not be written"), "{run}");
    assert_eq!(pair.state(), "awaiting_approval", "{run}");
    pair.belay(&["upgrade", "approve", "main", "--reason", "looked at it"]).ok();
    let run = pair.belay(&["upgrade", "resume", "main", "--foreground"]).code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!(pair.version(1), NEW);
    let done = pair.done();
    let place = |step: &str| {
        done.iter().position(|it| it == step).unwrap_or_else(|| panic!("{step}: {done:?}"))
    };
    assert!(place("test_staging") < place("stop_writers"), "{done:?}");
    assert!(place("back_up_stopped") < place("upgrade_production"), "{done:?}");
    assert!(place("verify") > place("upgrade_production"), "{done:?}");
    // Both snapshots from right before are pinned.
    let listed = pair.belay(&["list", "--json"]).ok().stdout();
    assert!(listed.contains("upgrade "), "{listed}");
    // By hand it goes back, with one command.
    let run =
        pair.belay(&["upgrade", "rollback", "main", "--reason", "users complain", "--foreground"]);
    let run = run.code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!(pair.version(1), OLD);
    assert!(run.stdout().contains("which is pinned"), "{run}");
}

#[test]
fn what_breaks_on_staging_never_reaches_production() {
    for (breaks, words) in [
        ("refuses", "CHECKPOINT MISSED"),
        ("half", "migration of tooljet_db failed"),
        ("loses-rows", "counts failed"),
        ("breaks-app", "apps-open failed"),
        ("changes-key", "keys failed"),
        ("pretends", "failed"),
    ] {
        let pair = Pair::new("");
        let before = [pair.dump(0), pair.dump(1)];
        pair.platforms[0].breaks(&[(NEW, &[breaks])]);
        let run = pair.start().code(1);
        assert_eq!(pair.state(), "aborted", "{breaks}: {run}");
        assert!(run.stdout().contains(words) || run.stderr().contains(words), "{breaks}: {run}");
        assert_eq!(pair.version(0), OLD, "{breaks}: staging has its old version back");
        assert_eq!(pair.dump(0), before[0], "{breaks}: and its data");
        assert_eq!(pair.dump(1), before[1], "{breaks}: production is untouched");
        assert!(!pair.done().iter().any(|step| step == "stop_writers"), "{breaks}");
    }
}

#[test]
fn what_breaks_on_production_is_taken_back_with_the_data() {
    for breaks in ["refuses", "half", "loses-rows", "breaks-app", "changes-key", "pretends"] {
        let pair = Pair::new("soak = '1s'");
        let before = pair.dump(1);
        pair.platforms[1].breaks(&[(NEW, &[breaks])]);
        let run = pair.start().code(1);
        assert_eq!(pair.state(), "rolled_back", "{breaks}: {run}");
        assert_eq!(pair.version(1), OLD, "{breaks}");
        assert_eq!(pair.dump(1), before, "{breaks}: as it was");
        assert_eq!(pair.version(0), NEW, "{breaks}: staging keeps what it has proved");
        let said = run.stdout();
        assert!(said.contains("which is pinned") || said.contains("is kept"), "{breaks}: {run}");
    }
}
