//! The hands of an upgrade: the driver `command` and the tests of an instance, against a small platform over a real PostgreSQL and a
//! real MongoDB. Each way in which a release can break is found by the test that should find it.
#![allow(clippy::unwrap_used)]

mod support;

use belay::config::pair::DriverSettings;
use belay::config::{Config, Instance, SecretSources};
use belay::model::event::{Cancel, Event, Events};
use belay::model::manifest::Manifest;
use belay::model::trial::{Baseline, TrialResult, TrialVerdict};
use belay::ops::Context;
use belay::upgrade::driver::Driver;
use belay::upgrade::maintenance;
use belay::upgrade::tests::{Target, Trials};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::servers::{Mongod, POSTGRES_PASSWORD, Platform, Postgres, Sshd, free_port};
use support::{Run, Sandbox, text, wait_until, write_secret};

const TOKEN: &str = "external-api-token-of-tests";
const TESTS: &str = r#"tests = ["health", "version", "apps-open", "counts", "keys", { command = ["/bin/sh", "-c", "test $BELAY_VERSION != v3.16.99 && echo $BELAY_INSTANCE at $BELAY_URL"] }, { http = { url = "/api/health", body = "yeah" }, timeout = "10s" }]"#;

/// An instance `production` of a sandbox, its small platform, and what has been told.
struct Stage {
    /// Stopped while its files are still there.
    platform: Platform,
    sandbox: Sandbox,
    config: Config,
    context: Context,
    told: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    /// `instance` are the keys of both instances of the pair but their address.
    fn new(sandbox: Sandbox, settings: serde_json::Value, instance: &str, tests: &str) -> Self {
        let directory = sandbox.path("platforms");
        fs::create_dir_all(&directory).unwrap();
        let port = settings["port"].as_u64().unwrap();
        let platform = Platform::new(&directory, "production", settings);
        let script = Platform::script(&directory);
        let script = text(&script);
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        for name in ["staging", "production"] {
            config.extend([format!(
                "\n[instance.{name}]\nurl = 'http://127.0.0.1:{port}'\n{instance}\n"
            )]);
        }
        config.extend([format!(
            "\n[pair.main]\nstaging = 'staging'\nproduction = 'production'\n{tests}\n\
             driver = {{ command = '{script}', stop = ['{script}', 'stop'], start = ['{script}', 'start'], timeout = '5m' }}\n"
        )]);
        fs::write(sandbox.config(), config).unwrap();
        let config = Config::load(&sandbox.config()).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&told);
        let events = Events::new(move |event| {
            if let Event::Note { message } | Event::Warning { message } = event {
                hear.lock().unwrap().push(message);
            }
        });
        Self { sandbox, platform, config, context: Context::new(events, Cancel::new()), told }
    }

    fn instance(&self) -> &Instance {
        self.config.instance("production").unwrap()
    }

    fn with_driver<T>(&self, work: impl FnOnce(&Driver<'_>) -> T) -> T {
        let upgrades = self.config.pair("main").unwrap().upgrades.as_ref().unwrap();
        work(&Driver::of(&self.config, upgrades, self.instance(), &self.context).unwrap())
    }

    fn with_trials<T>(&self, work: impl FnOnce(&Trials<'_>) -> T) -> T {
        let upgrades = self.config.pair("main").unwrap().upgrades.as_ref().unwrap();
        let secrets = SecretSources::of_process();
        work(&Trials::new(&self.config, &secrets, upgrades, self.instance(), &self.context))
    }

    /// Put a version in place; what is wrong with it where that fails.
    fn install(&self, version: &str, previous: &str) -> Result<(), String> {
        self.with_driver(|driver| driver.install(version, Some(previous), None))
            .map_err(|error| error.to_string())
    }

    fn backup(&self) -> Manifest {
        let run = self.sandbox.belay(&["backup", "production", "--json"]).code_in(&[0, 3]);
        let id = run.json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
        let shown = self.sandbox.belay(&["show", &id, "--json"]).ok().json();
        serde_json::from_value(shown["manifest"].clone()).unwrap()
    }

    fn baseline(&self, snapshot: &Manifest) -> Baseline {
        self.with_trials(|trials| trials.baseline(Some(snapshot))).unwrap()
    }

    fn run(&self, version: &str, snapshot: &Manifest, baseline: &Baseline) -> Vec<TrialResult> {
        let target = Target {
            version,
            previous: Some("v3.16.11"),
            snapshot: Some(snapshot),
            is_back: false,
        };
        self.with_trials(|trials| trials.run(&target, baseline)).unwrap()
    }

    /// Install a version, and see which tests fail: these, and no others. Returns what they found.
    #[track_caller]
    fn fails(
        &self,
        version: &str,
        failing: &[&str],
        snapshot: &Manifest,
        baseline: &Baseline,
    ) -> Vec<TrialResult> {
        self.install(version, "v3.16.11").unwrap();
        let results = self.run(version, snapshot, baseline);
        let failed: Vec<&str> = results
            .iter()
            .filter(|it| it.verdict == TrialVerdict::Failed)
            .map(|it| it.name.split(' ').next().unwrap())
            .collect();
        assert_eq!(failed, failing, "{version}: {results:#?}");
        results
    }
}

/// What a test found.
#[track_caller]
fn details(results: &[TrialResult], name: &str) -> String {
    results.iter().find(|it| it.name.starts_with(name)).unwrap().details.join("\n")
}

fn tooljet() -> (Postgres, Stage) {
    let postgres = Postgres::start();
    let sandbox = Sandbox::new();
    let seed = Command::new("/usr/bin/python3")
        .args(["tests/fixtures/tooljet/seed.py", "1"])
        .output()
        .unwrap();
    assert!(seed.status.success(), "{}", String::from_utf8_lossy(&seed.stderr));
    let path = sandbox.path("seed.sql");
    fs::write(&path, seed.stdout).unwrap();
    postgres.script(&path);
    let release = "UPDATE metadata SET data = json_build_object('installed_version', 'v3.16.11')";
    postgres.sql("tooljet_production", release);
    let (environment, port) = (sandbox.path("tooljet.env"), postgres.port);
    let file = fs::read_to_string("tests/fixtures/tooljet/tooljet.env").unwrap();
    let file =
        file.replace("localhost", "127.0.0.1").replace("PG_PORT=5432", &format!("PG_PORT={port}"));
    fs::write(&environment, format!("{file}TOOLJET_DB_PORT={port}\n")).unwrap();
    let token = sandbox.path("token");
    write_secret(&token, TOKEN);
    let psql = json!({ "PGHOST": "127.0.0.1", "PGPORT": port.to_string(), "PGUSER": "postgres", "PGPASSWORD": POSTGRES_PASSWORD });
    let settings =
        json!({ "platform": "tooljet", "port": free_port(), "token": TOKEN, "psql": psql });
    let instance = format!(
        "platform = 'tooljet'\nenvironment = '{}'\ntoken = 'file:{}'",
        text(&environment),
        text(&token)
    );
    (postgres, Stage::new(sandbox, settings, &instance, TESTS))
}

/// All tests pass, and say what they looked at.
#[track_caller]
fn assert_all_pass(results: &[TrialResult], expected: &[(&str, &str)]) {
    for (name, words) in expected {
        let result = results.iter().find(|it| it.name.starts_with(name)).unwrap();
        assert_eq!(result.verdict, TrialVerdict::Passed, "{results:#?}");
        assert!(result.details.join("\n").contains(words), "{words}: {result:#?}");
    }
    assert_eq!(results.len(), expected.len(), "{results:#?}");
}

#[test]
fn a_good_release_on_postgresql_passes_and_nothing_that_changes_is_asked() {
    let (postgres, stage) = tooljet();
    stage.install("v3.16.11", "").unwrap();
    let snapshot = stage.backup();
    let baseline = stage.baseline(&snapshot);
    assert_eq!(baseline.version.as_deref(), Some("v3.16.11"));
    assert_eq!(baseline.apps.as_ref().map(Vec::len), Some(12));
    assert!(baseline.unknown.is_empty() && baseline.keys.unwrap().fit > 8, "{baseline:?}");
    let rows = baseline.counts.as_ref().unwrap();
    assert_eq!(rows.get("tooljet_production/public.app_versions"), Some(&36));

    let before = postgres.sql("tooljet_production", "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE relname <> 'metadata'");
    stage.install("v3.17.0", "v3.16.11").unwrap();
    let healthy = stage
        .with_trials(|it| it.wait_until_healthy(Duration::from_mins(1), &Baseline::default()))
        .unwrap();
    assert_eq!(healthy.verdict, TrialVerdict::Passed, "{healthy:?}");
    let results = stage.run("v3.17.0", &snapshot, &baseline);
    assert_all_pass(
        &results,
        &[
            ("health", "GET /api/health was answered with 200"),
            ("version", "GET /api/metadata says v3.17.0"),
            ("apps-open", "12 apps"),
            ("counts", "rows and documents"),
            ("keys", "values that were tried decrypt"),
            ("command", "production at http://127.0.0.1:"),
            ("http", "/api/health was answered with 200"),
        ],
    );
    let after = postgres.sql("tooljet_production", "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE relname <> 'metadata'");
    assert_eq!(after, before);
    let changing =
        |line: &String| !line.starts_with("GET ") && !line.starts_with("POST /api/ext/export/");
    let requests = stage.platform.requests();
    assert!(!requests.is_empty() && !requests.iter().any(changing), "{requests:#?}");

    let told = stage.told.lock().unwrap().clone();
    for line in
        ["production: replacing nothing by v3.16.11", "production: replacing v3.16.11 by v3.17.0"]
    {
        assert!(told.iter().any(|it| it == line), "{told:#?}");
    }
    // Once the schema has moved the release before does not start on it.
    let error = stage.install("v3.16.11", "v3.17.0").unwrap_err();
    assert!(error.contains("the database is of v3.17.0, which v3.16.11 cannot read"), "{error}");
}

#[test]
fn each_break_on_postgresql_is_found_by_the_test_that_should_find_it() {
    let (postgres, stage) = tooljet();
    stage.install("v3.16.11", "").unwrap();
    let snapshot = stage.backup();
    let baseline = stage.baseline(&snapshot);
    stage.platform.breaks(&[
        ("v3.16.12", &["refuses"]),
        ("v3.16.13", &["breaks-app"]),
        ("v3.16.14", &["drops-app"]),
        ("v3.16.15", &["pretends"]),
        ("v3.16.16", &["hangs"]),
        ("v3.16.17", &["old-version"]),
        ("v3.16.18", &["changes-key"]),
        ("v3.16.19", &["loses-rows"]),
        ("v3.17.0", &["half"]),
    ]);
    let error = stage.install("v3.16.12", "v3.16.11").unwrap_err();
    assert!(
        error.contains("failed with the exit status 1") && error.contains("CHECKPOINT MISSED"),
        "{error}"
    );

    let results = stage.fails("v3.16.13", &["apps-open"], &snapshot, &baseline);
    let found = details(&results, "apps-open");
    assert!(found.contains("App 3") && found.contains("500: cannot read properties"), "{found}");
    assert!(!found.contains("App 4"), "{found}");
    // An app that was broken before does not count.
    let broken = stage.baseline(&snapshot);
    let results = stage.fails("v3.16.13", &[], &snapshot, &broken);
    assert!(details(&results, "apps-open").contains("1 were broken before"), "{results:#?}");

    let results = stage.fails("v3.16.14", &["apps-open"], &snapshot, &baseline);
    assert!(details(&results, "apps-open").contains("is not there any more"), "{results:#?}");

    // The address that says that all is well says nothing of the rest.
    let results = stage.fails("v3.16.15", &["apps-open"], &snapshot, &baseline);
    assert!(
        details(&results, "version").contains("the table metadata says v3.16.15"),
        "{results:#?}"
    );

    stage.fails("v3.16.17", &["version"], &snapshot, &baseline);
    stage.fails("v3.16.99", &["command"], &snapshot, &baseline);
    let results = stage.fails("v3.16.18", &["keys"], &snapshot, &baseline);
    assert!(
        details(&results, "keys").contains("credentials.value_ciphertext of row"),
        "{results:#?}"
    );

    let baseline = stage.baseline(&snapshot);
    let results = stage.fails("v3.16.19", &["counts"], &snapshot, &baseline);
    assert!(
        details(&results, "counts")
            .contains("tooljet_production/public.app_versions lost 12 of 36"),
        "{results:#?}"
    );
    assert!(details(&results, "keys").contains("1 did not decrypt before"), "{results:#?}");

    let error = stage.install("v3.17.0", "v3.16.11").unwrap_err();
    assert!(error.contains("the migration of tooljet_db failed"), "{error}");
    let column = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'of_3_17'";
    assert_eq!(postgres.sql("tooljet_production", column).trim(), "1", "the half that was moved");

    // What health does not look at.
    postgres.sql("postgres", "ALTER DATABASE tooljet_db RENAME TO elsewhere");
    stage.install("v3.16.20", "v3.16.11").unwrap();
    let results = stage.run("v3.16.20", &snapshot, &baseline);
    let found = details(&results, "health");
    assert!(found.contains("the database tooljet_db:"), "{results:#?}");
    assert!(details(&results, "counts").contains("tooljet_db/"), "{results:#?}");
}

#[test]
fn a_release_that_hangs_is_given_up_and_so_is_a_script() {
    let tests = r#"tests = ["health", { http = { url = "/api/health" }, timeout = "2s" }, { command = ["/bin/sh", "-c", "echo waiting; sleep 1000"], timeout = "2s" }]"#;
    let (postgres, stage) = tooljet();
    let config = fs::read_to_string(stage.sandbox.config()).unwrap();
    fs::write(stage.sandbox.config(), config.replace(TESTS, tests)).unwrap();
    let stage = Stage { config: Config::load(&stage.sandbox.config()).unwrap(), ..stage };
    stage.platform.breaks(&[("v3.16.12", &["hangs"])]);
    stage.install("v3.16.12", "v3.16.11").unwrap();
    let healthy = stage
        .with_trials(|it| it.wait_until_healthy(Duration::from_secs(4), &Baseline::default()))
        .unwrap();
    assert_eq!(healthy.verdict, TrialVerdict::Failed);
    assert!(healthy.details[0].contains("there was no answer in time"), "{healthy:?}");
    let upgrades = stage.config.pair("main").unwrap().upgrades.clone().unwrap();
    let mut short = upgrades.clone();
    short.tests.retain(|test| test.timeout == Duration::from_secs(2));
    let secrets = SecretSources::of_process();
    let trials = Trials::new(&stage.config, &secrets, &short, stage.instance(), &stage.context);
    let target = Target { version: "v3.16.12", previous: None, snapshot: None, is_back: false };
    let results = trials.run(&target, &Baseline::default()).unwrap();
    assert!(results.iter().all(|it| it.verdict == TrialVerdict::Failed), "{results:#?}");
    assert!(
        details(&results, "command").contains("it did not end within 2 seconds")
            || details(&results, "command").contains("it was ended after 2 seconds"),
        "{results:#?}"
    );

    let pid = stage.platform.pid().unwrap();
    stage.platform.is_slow(true);
    let DriverSettings::Command(command) = &mut short.driver else { panic!("{short:?}") };
    command.timeout = Duration::from_secs(15);
    let driver = Driver::of(&stage.config, &short, stage.instance(), &stage.context).unwrap();
    let error = driver.install("v3.16.13", Some("v3.16.12"), None).unwrap_err().to_string();
    assert!(error.contains("was ended: it took longer than 15 seconds"), "{error}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the version before was stopped");
    drop(postgres);
}

#[test]
fn the_script_stops_and_starts_what_runs_and_is_safe_to_run_again() {
    let (_postgres, stage) = tooljet();
    stage.install("v3.16.11", "").unwrap();
    let first = stage.platform.pid().unwrap();
    stage.with_driver(|driver| {
        assert!(driver.can_stop());
        driver.stop().unwrap();
        driver.stop().unwrap();
        assert_eq!(stage.platform.pid(), None);
        driver.start().unwrap();
        driver.start().unwrap();
        assert_eq!(driver.is_running().unwrap(), None);
        assert_eq!(driver.running_image().unwrap(), None);
        assert!(driver.adopt(None).unwrap_err().hint().is_some());
    });
    assert_ne!(stage.platform.pid(), Some(first));
    let second = stage.platform.pid();
    stage.install("v3.16.11", "v3.16.11").unwrap();
    assert!(stage.platform.pid().is_some() && stage.platform.pid() != second);
    let healthy = stage
        .with_trials(|it| it.wait_until_healthy(Duration::from_mins(1), &Baseline::default()))
        .unwrap();
    assert_eq!(healthy.verdict, TrialVerdict::Passed, "{healthy:?}");

    stage.context.cancel.cancel();
    let error = stage.with_driver(|driver| driver.install("v3.16.12", None, None)).unwrap_err();
    assert!(error.is_cancelled());
    assert!(stage.with_trials(|it| it.baseline(None)).is_err());
}

fn appsmith(tests: &str) -> (Mongod, Stage) {
    let mongod = Mongod::start();
    mongod.seed("appsmith", 1);
    let sandbox = Sandbox::new();
    let environment = sandbox.path("docker.env");
    let file = fs::read_to_string("tests/fixtures/appsmith/docker.env").unwrap();
    let kept = file
        .lines()
        .filter(|line| !line.starts_with("APPSMITH_REDIS") && !line.starts_with("APPSMITH_DB_URL"));
    let url = mongod.url("appsmith");
    let file = kept.collect::<Vec<_>>().join("\n") + "\n";
    fs::write(&environment, format!("{file}APPSMITH_DB_URL={url}\n")).unwrap();
    let password = sandbox.path("login");
    write_secret(&password, "pass word&1");
    let settings = json!({
        "platform": "appsmith", "port": free_port(), "mongodb": url,
        "login": "username=belay%40example.com&password=pass%20word%261",
    });
    let instance = format!(
        "platform = 'appsmith'\nenvironment = '{}'\nlogin = {{ user = 'belay@example.com', password = 'file:{}' }}",
        text(&environment),
        text(&password)
    );
    (mongod, Stage::new(sandbox, settings, &instance, tests))
}

#[test]
fn a_good_release_on_mongodb_passes_and_each_break_is_found() {
    let (mongod, stage) = appsmith("");
    stage.install("v1.96", "").unwrap();
    let snapshot = stage.backup();
    let baseline = stage.baseline(&snapshot);
    assert_eq!(baseline.version.as_deref(), Some("v1.96"));
    let apps = baseline.apps.as_ref().unwrap();
    assert_eq!((apps.len(), apps[0].pages.len()), (12, 3), "{apps:#?}");
    assert_eq!(baseline.counts.as_ref().unwrap().get("appsmith/newPage"), Some(&36));

    stage.platform.breaks(&[
        ("v1.97", &["limited"]),
        ("v1.97.1", &["breaks-app"]),
        ("v1.97.2", &["drops-app"]),
        ("v1.97.3", &["pretends"]),
        ("v1.97.4", &["loses-rows"]),
        ("v1.97.5", &["changes-key"]),
        ("v1.98", &["half"]),
    ]);
    stage.install("v1.97", "v1.96").unwrap();
    let results = stage.run("v1.97", &snapshot, &baseline);
    assert_all_pass(
        &results,
        &[
            ("health", "also in the answer"),
            ("version", "GET /info says v1.97"),
            ("apps-open", "12 apps with 36 pages"),
            ("counts", "rows and documents"),
            ("keys", "16 of 16 values"),
        ],
    );
    assert!(results[0].duration_ms > 1_000, "it was asked again after a while: {:?}", results[0]);
    let requests = stage.platform.requests();
    let changing = |line: &String| !line.starts_with("GET ") && line != "POST /api/v1/login";
    assert!(
        !requests.iter().any(|it| changing(it) || it == "GET /" || it.contains("/pull")),
        "{requests:#?}"
    );

    let results = stage.fails("v1.97.1", &["apps-open"], &snapshot, &baseline);
    let found = details(&results, "apps-open");
    assert!(
        found.contains("App 3") && found.contains("page Page1: the page was answered with 500"),
        "{found}"
    );
    stage.fails("v1.97.2", &["apps-open"], &snapshot, &baseline);
    stage.fails("v1.97.3", &["version", "apps-open"], &snapshot, &baseline);
    let results = stage.fails("v1.97.4", &["counts"], &snapshot, &baseline);
    assert!(
        details(&results, "counts").contains("appsmith/newAction lost 36 of 216"),
        "{results:#?}"
    );
    let baseline = stage.baseline(&snapshot);
    let results = stage.fails("v1.97.5", &["keys"], &snapshot, &baseline);
    assert!(
        details(&results, "keys")
            .contains("datasourceStorage.datasourceConfiguration.authentication.password"),
        "{results:#?}"
    );

    let error = stage.install("v1.98", "v1.97").unwrap_err();
    assert!(error.contains("the migration of pages failed"), "{error}");
    assert_eq!(
        mongod.python("print(client.appsmith.application.count_documents({'of_1_98': True}))"),
        "12"
    );
}

#[test]
fn by_ssh_a_script_that_takes_too_long_ends_there_with_all_it_started() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start(&[]);
    let pids = sandbox.path("pids");
    let state = sandbox.path("maintenance");
    sandbox.configure(&["data"], "last = 1000");
    let mut config = fs::read_to_string(sandbox.config()).unwrap();
    let slow = format!(
        "echo replacing $BELAY_PREVIOUS_VERSION by $BELAY_VERSION; (sleep 1000 & echo $! >> {0}; wait) & echo $$ >> {0}; trap \"\" TERM HUP; wait",
        text(&pids)
    );
    config.extend([format!(
        "\n[access]\nssh_config = '{}'\n[instance.staging]\nplatform = 'tooljet'\nvia = 'ssh:far/docker:a'\n[instance.production]\nplatform = 'tooljet'\nvia = 'ssh:far/docker:b'\n\
         [pair.main]\nstaging = 'staging'\nproduction = 'production'\ntests = ['version']\ndriver = {{ command = ['/bin/sh', '-c', '{slow}'], timeout = '3s' }}\n\
         maintenance = {{ on = ['/bin/sh', '-c', 'echo $BELAY_INSTANCE > {1}'], off = ['/bin/rm', '-f', '{1}'] }}\n",
        text(&sshd.config()),
        text(&state),
    )]);
    fs::write(sandbox.config(), config).unwrap();
    let config = Config::load(&sandbox.config()).unwrap();
    let upgrades = config.pair("main").unwrap().upgrades.as_ref().unwrap();
    let instance = config.instance("production").unwrap();
    let context = Context::new(Events::ignored(), Cancel::new());
    let driver = Driver::of(&config, upgrades, instance, &context).unwrap();
    let error = driver.install("v3.16.12", Some("v3.16.11"), None).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("via ssh:far) was ended: it took longer than 3 seconds"), "{told}");
    assert!(told.contains("replacing v3.16.11 by v3.16.12"), "{told}");
    assert!(!error.hint().unwrap().contains("may still run"), "{error:?}");
    let started = fs::read_to_string(&pids).unwrap();
    assert_eq!(started.lines().count(), 2);
    for pid in started.lines() {
        wait_until("the script to end", || {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        });
    }
    assert!(driver.stop().unwrap_err().hint().unwrap().contains("add stop"));

    let maintenance = upgrades.maintenance.as_ref().unwrap();
    for _ in 0..2 {
        maintenance::begin(&config, maintenance, instance, &context).unwrap();
        assert_eq!(fs::read_to_string(&state).unwrap(), "production\n");
    }
    for _ in 0..2 {
        maintenance::end(&config, maintenance, instance, &context).unwrap();
        assert!(!state.exists());
    }
}

#[test]
fn who_may_not_see_the_apps_before_is_told_then_and_the_test_does_not_pass() {
    let (_mongod, stage) = appsmith("tests = ['apps-open', 'counts']");
    write_secret(&stage.sandbox.path("login"), "wrong");
    stage.install("v1.96", "").unwrap();
    let baseline = stage.with_trials(|trials| trials.baseline(None)).unwrap();
    assert!(baseline.unknown["apps-open"].contains("the login was refused"), "{baseline:?}");
    let target = Target { version: "v1.96", previous: None, snapshot: None, is_back: false };
    let results = stage.with_trials(|trials| trials.run(&target, &baseline)).unwrap();
    assert!(
        details(&results, "apps-open").contains("which apps there were before is not known"),
        "{results:#?}"
    );
    assert!(details(&results, "counts").contains("there is no snapshot"), "{results:#?}");
    assert!(results.iter().all(|it| it.verdict == TrialVerdict::Failed));
    assert!(!format!("{results:?} {baseline:?}").contains("wrong"), "a password is told");
}

#[test]
fn the_configuration_of_the_stage_is_one_that_the_command_line_takes() {
    let (_mongod, stage) = appsmith("");
    let shown = stage.sandbox.belay(&["config", "show"]).ok().stdout();
    assert!(shown.contains("[pair.main.driver]") && shown.contains("commit_after"), "{shown}");
    Run::of(stage.sandbox.belay_command(&["config", "check"])).ok();
}
