//! What instances of real databases say of git-stored apps: what they pulled, and what they have that Git does not hold.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::servers::{Mongod, Postgres};
use support::{Run, Sandbox, text};

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(directory).args(["-c", "user.name=Dev", "-c", "user.email=dev@example.com"]);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").args(arguments);
    Run::of(git).ok().stdout().trim().to_owned()
}

/// A host with a pair, and a git repository of two branches: master, and staging with a commit more.
struct Host {
    sandbox: Sandbox,
    server: PathBuf,
    master: String,
}

impl Host {
    fn new(platform: &str, environment: &str) -> Self {
        let sandbox = Sandbox::new();
        let (server, work) = (sandbox.path("orders.git"), sandbox.path("work"));
        fs::create_dir(&work).unwrap();
        git(&work, &["init", "-q", "--bare", "-b", "master", text(&server)]);
        git(&work, &["init", "-q", "-b", "master"]);
        let commit = |name: &str| {
            fs::write(work.join(name), name).unwrap();
            git(&work, &["add", "-A"]);
            git(&work, &["commit", "-q", "-m", name]);
            git(&work, &["rev-parse", "HEAD"])
        };
        let master = commit("one");
        git(&work, &["push", "-q", text(&server), "master"]);
        commit("two");
        git(&work, &["push", "-q", text(&server), "master:staging"]);
        fs::write(sandbox.path("environment"), environment).unwrap();
        let file = sandbox.path("environment");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        for name in ["staging", "production"] {
            config.extend([format!(
                "[instance.{name}]\nplatform = '{platform}'\nenvironment = '{}'\n",
                text(&file)
            )]);
        }
        config.extend([format!(
            "[pair.main]\nstaging = 'staging'\nproduction = 'production'\n\
             [git.orders]\nplatform = '{platform}'\npair = 'main'\nurl = '{}'\n",
            text(&server)
        )]);
        fs::write(sandbox.config(), config).unwrap();
        let host = Self { sandbox, server, master };
        host.belay(&["apps", "fetch"]).ok();
        host
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        self.sandbox.belay(arguments)
    }

    fn status(&self) -> Value {
        let run = self.belay(&["apps", "status", "--live", "--json"]).code_in(&[0, 3]);
        run.json()["git"][0].clone()
    }
}

fn names<'a>(outside: &'a Value, kind: &str) -> (u64, Vec<&'a str>) {
    let kinds = outside["kinds"].as_array().unwrap();
    let found = kinds.iter().find(|it| it["kind"] == kind).unwrap_or_else(|| panic!("{outside}"));
    let names = found["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    (found["count"].as_u64().unwrap(), names.collect())
}

#[test]
fn tooljet_says_what_it_pulled_and_its_snapshot_what_git_does_not_hold() {
    let postgres = Postgres::start();
    let mut seed = Command::new("/usr/bin/python3");
    seed.args(["tests/fixtures/tooljet/seed.py", "1"]);
    let file = fs::read_to_string("tests/fixtures/tooljet/tooljet.env").unwrap();
    let port = postgres.port;
    let file =
        file.replace("localhost", "127.0.0.1").replace("PG_PORT=5432", &format!("PG_PORT={port}"));
    let host = Host::new("tooljet", &format!("{file}TOOLJET_DB_PORT={port}\n"));
    let script = host.sandbox.path("seed.sql");
    fs::write(&script, Run::of(seed).ok().stdout()).unwrap();
    postgres.script(&script);
    let sql = |statements: &str| postgres.sql("tooljet_production", statements);
    sql(&format!("UPDATE organization_git_ssh SET git_url = 'file://{}'", text(&host.server)));
    sql("DELETE FROM app_git_sync");
    sql(&format!(
        "INSERT INTO app_git_sync (id, app_id, git_app_name, last_commit_id, last_commit_message, allow_editing)
         SELECT gen_random_uuid(), id, 'orders', '{}', 'one', true FROM apps WHERE name LIKE 'App 0%'",
        host.master
    ));
    sql(
        "INSERT INTO app_git_sync (id, app_id, git_app_name, last_commit_id, last_commit_message)
         SELECT gen_random_uuid(), id, 'lost', 'feedfeedfeedfeedfeedfeedfeedfeedfeedfeed', 'never pushed' FROM apps WHERE name LIKE 'App 1 %'",
    );

    let compared = host.status();
    let staging = &compared["staging"]["pulled"];
    assert_eq!(staging.as_array().unwrap().len(), 2, "{compared}");
    assert_eq!(staging[0]["commit"], host.master.as_str(), "{compared}");
    assert_eq!(staging[0]["may_edit"], true, "{compared}");
    assert_eq!((&staging[0]["is_in_mirror"], &staging[0]["behind"]), (&true.into(), &1.into()));
    let production = &compared["production"]["pulled"];
    assert_eq!(production[0]["behind"], 0, "{compared}");
    assert_eq!(
        (&production[1]["is_in_mirror"], &production[1]["behind"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(production[1]["may_edit"], false, "{compared}");
    let told = host.belay(&["apps", "status", "--live"]).code_in(&[0, 3]).stdout();
    for words in ["1 commit behind its branch", "was it never pushed?", "may be edited there"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // Asked for by nobody, nothing is asked.
    let quiet = host.belay(&["apps", "status", "--json"]).ok().json();
    let unknown = quiet["git"][0]["staging"]["pulled_unknown"].as_str().unwrap();
    assert!(unknown.contains("--live"), "{quiet}");

    // One instance may be both, with a workspace for each; nothing is upgraded then.
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    fs::write(host.sandbox.config(), config.replace("staging = 'staging'\n", "")).unwrap();
    let alone = host.status();
    for side in ["staging", "production"] {
        assert_eq!(alone[side]["instance"], "production", "{alone}");
        assert_eq!(alone[side]["branch"], compared[side]["branch"], "{alone}");
    }
    assert_eq!(alone["commits"], compared["commits"]);
    for asked in
        [&["gate"][..], &["upgrade", "plan"], &["upgrade", "start", "--yes", "--foreground"]]
    {
        let run = host.belay(&[asked, &["main", "--to", "v3.17.0"]].concat());
        run.code(5).says(&["the pair main has no staging instance", "add staging ="]);
    }
    fs::write(host.sandbox.config(), config).unwrap();

    // Where there is no snapshot, it says how to get one.
    let none = host.belay(&["apps", "show", "orders"]).code_in(&[0, 3]).stdout();
    assert!(none.contains("`belay backup` takes one"), "{none}");
    host.belay(&["backup", "production"]).code_in(&[0, 3]);
    let run = host.belay(&["apps", "show", "orders", "--json"]).code_in(&[0, 3]);
    let json = run.json();
    let outside = &json["outside"];
    let of_production =
        outside.as_array().unwrap().iter().find(|it| it["instance"] == "production");
    let of_production = of_production.unwrap();
    let sources: Vec<String> = (0..8).map(|number| format!("postgresql{number}")).collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    assert_eq!(names(of_production, "credentials"), (8, sources));
    assert_eq!(names(of_production, "constants").1[0], "CONST_0");
    assert_eq!(names(of_production, "workspaces").1, ["Workspace 0", "Workspace 1"]);
    assert_eq!(names(of_production, "users"), (40, Vec::new()));
    assert!(of_production["advice"].as_str().unwrap().contains("off when"), "{json}");
    let printed = run.stdout();
    for secret in ["s3cret", "value_ciphertext", "db0.internal", "private key"] {
        assert!(!printed.contains(secret), "{secret}: {printed}");
    }
    let restored =
        host.belay(&["apps", "restore", "orders", "--at", "staging", "--branch", "back"]);
    let restored = restored.code_in(&[0, 3]).stdout();
    for words in [
        "data sources with credentials (8): postgresql0",
        "belay restore",
        "Make application editable",
    ] {
        assert!(restored.contains(words), "{words}: {restored}");
    }

    // One that does not answer keeps nobody from the rest.
    drop(postgres);
    let run = host.belay(&["apps", "status", "--live", "--json"]).code(3);
    let compared = &run.json()["git"][0];
    assert_eq!(compared["relation"]["ahead"], 1, "{compared}");
    let reason = compared["production"]["pulled_unknown"].as_str().unwrap();
    assert!(reason.contains("component postgres of production"), "{reason}");
}

#[test]
fn appsmith_says_what_it_pulled_and_its_snapshot_what_git_does_not_hold() {
    let mongod = Mongod::start();
    mongod.seed("appsmith", 1);
    let environment = format!(
        "APPSMITH_DB_URL={}\nAPPSMITH_ENCRYPTION_PASSWORD=fixture-encryption-password\nAPPSMITH_ENCRYPTION_SALT=fixture-encryption-salt\n",
        mongod.url("appsmith")
    );
    let host = Host::new("appsmith", &environment);
    mongod.python(&format!(
        "client.appsmith.application.update_many({{'name': {{'$in': ['App 0', 'App 1']}}}}, {{'$set': {{'gitApplicationMetadata.remoteUrl': 'file://{}', 'gitApplicationMetadata.isProtectedBranch': True}}}})\n\
         client.appsmith.application.update_one({{'name': 'App 1'}}, {{'$set': {{'deletedAt': '2026-01-05'}}}})\n\
         client.appsmith.permissionGroup.insert_one({{'name': 'Administrator - Workspace 0'}})",
        text(&host.server)
    ));

    let run = host.belay(&["apps", "status", "--live", "--json"]).code_in(&[0, 3]);
    let compared = &run.json()["git"][0];
    let pulled = compared["staging"]["pulled"].as_array().unwrap();
    assert_eq!(pulled.len(), 1, "{compared}");
    assert_eq!((&pulled[0]["app"], &pulled[0]["branch"]), (&"App 0".into(), &"master".into()));
    assert_eq!((&pulled[0]["may_edit"], &pulled[0]["commit"]), (&false.into(), &Value::Null));
    assert_eq!(pulled[0]["at"], "2026-01-05T09:30:00.123Z");
    assert!(!run.stdout().contains("privateKey") && !run.stdout().contains("ssh-ed25519"));

    host.belay(&["backup", "staging"]).code_in(&[0, 3]);
    let run = host.belay(&["apps", "show", "orders", "--json"]).code_in(&[0, 3]);
    let json = run.json();
    let all = json["outside"].as_array().unwrap();
    let staging = all.iter().find(|it| it["instance"] == "staging").unwrap();
    let (count, sources) = names(staging, "credentials");
    assert_eq!((count, sources[0]), (8, "Datasource 0"), "{json}");
    assert_eq!(names(staging, "workspaces").1, ["Workspace 0", "Workspace 1"]);
    assert_eq!(names(staging, "groups").1, ["Administrator - Workspace 0"]);
    assert_eq!(names(staging, "users"), (40, Vec::new()));
    assert!(!run.stdout().contains(".internal"), "{json}");
}
