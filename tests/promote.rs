//! `belay apps import` and `belay apps pull` against a server that speaks the platforms' HTTP interfaces: every request, literally,
//! and every way to fail.
#![allow(clippy::unwrap_used)]

#[path = "support/platform_api.rs"]
mod platform_api;
mod support;

use belay::platform::http::{Call, Client, Identity, Limits};
use platform_api::{Answer, PASSWORD, PlatformApi, TOKEN, USER};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};
use support::servers::{Mongod, Postgres};
use support::{Run, Sandbox, text, write_secret};

const LOGIN: &str = "POST /api/v1/login [content-type: application/x-www-form-urlencoded; x-requested-by: Appsmith] \
    username=belay%40example.com&password=pass%20word%26for%3Dtests";
const SESSION: &str = "[cookie: SESSION=session-1; x-requested-by: Appsmith]";
const SESSION_JSON: &str =
    "[content-type: application/json; cookie: SESSION=session-1; x-requested-by: Appsmith]";

/// A host that mirrors the samples, and has instances that are reached at a server.
struct Host {
    sandbox: Sandbox,
    api: PlatformApi,
}

impl Host {
    /// `environment` is that of the instances.
    fn new(platform: &str, git: &str, apps: &[&str], environment: &str) -> Self {
        let sandbox = Sandbox::new();
        let samples = sandbox.path("samples");
        let mut make = Command::new("tests/fixtures/git/make.sh");
        make.arg(&samples);
        Run::of(make).ok();
        let remote = text(&samples.join(format!("{git}.git"))).to_owned();
        let api = PlatformApi::start(apps, &remote, "master");
        write_secret(
            &sandbox.path("secret"),
            if platform == "appsmith" { PASSWORD } else { TOKEN },
        );
        fs::write(sandbox.path("environment"), environment).unwrap();
        let secret = format!("file:{}", text(&sandbox.path("secret")));
        let identity = if platform == "appsmith" {
            format!("login = {{ user = '{USER}', password = '{secret}' }}")
        } else {
            format!("token = '{secret}'")
        };
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        for name in ["staging", "production"] {
            let environment = sandbox.path("environment");
            write!(
                config,
                "[instance.{name}]\nplatform = '{platform}'\nenvironment = '{}'\nurl = '{}'\n{identity}\n",
                text(&environment),
                api.url()
            )
            .unwrap();
        }
        let branches = if platform == "appsmith" {
            "branches = { staging = 'staging', production = 'master' }"
        } else {
            ""
        };
        write!(
            config,
            "[pair.main]\nstaging = 'staging'\nproduction = 'production'\n\
             [git.{git}]\nplatform = '{platform}'\npair = 'main'\nurl = '{remote}'\n{branches}\n"
        )
        .unwrap();
        fs::write(sandbox.config(), config).unwrap();
        let host = Self { sandbox, api };
        host.belay(&["apps", "fetch"]).ok();
        host
    }

    fn appsmith(apps: &[&str]) -> Self {
        Self::new("appsmith", "appsmith-orders", apps, "")
    }

    fn tooljet(apps: &[&str]) -> Self {
        Self::new("tooljet", "tooljet-metafree", apps, "")
    }

    /// Whatever happens, no secret is told.
    fn belay(&self, arguments: &[&str]) -> Run {
        let run = self.sandbox.belay(arguments);
        for secret in [PASSWORD, "pass%20word", TOKEN, "session-1"] {
            assert!(!run.stdout().contains(secret), "{}", run.stdout());
            assert!(!run.stderr().contains(secret), "{}", run.stderr());
        }
        run
    }

    fn remote(&self, git: &str) -> String {
        text(&self.sandbox.path("samples").join(format!("{git}.git"))).to_owned()
    }
}

const IMPORT: [&str; 8] = [
    "apps",
    "import",
    "appsmith-orders",
    "--into",
    "production",
    "--instance-version",
    "v2.5.0",
    "--yes",
];

#[test]
fn appsmith_imports_with_these_calls() {
    let host = Host::appsmith(&["Something else"]);
    let dry: Vec<&str> = IMPORT.into_iter().chain(["--dry-run", "--json"]).collect();
    let planned = host.belay(&dry).ok().json();
    let lookups = [
        LOGIN.to_owned(),
        format!("GET /api/v1/workspaces/home {SESSION}"),
        format!("GET /api/v1/applications/home?workspaceId=w1 {SESSION}"),
    ];
    assert_eq!(host.api.requests(), lookups, "a dry run only looks");
    assert_eq!(planned["is_done"], false, "{planned}");
    assert_eq!(planned["readable"]["verdict"], "readable", "{planned}");
    let change = planned["calls"].as_array().unwrap().last().unwrap();
    assert_eq!(change["path"], "/api/v1/git/artifacts/import?workspaceId=w1");
    assert_eq!(change["body"]["remoteUrl"], host.remote("appsmith-orders").as_str());

    let done = host.belay(&IMPORT).ok();
    assert!(done.stdout().contains("production has imported appsmith-orders"), "{}", done.stdout());
    let import = format!(
        "POST /api/v1/git/artifacts/import?workspaceId=w1 {SESSION_JSON} \
         {{\"remoteUrl\":\"{}\",\"gitProfile\":{{\"useGlobalProfile\":true}}}}",
        host.remote("appsmith-orders")
    );
    let [login, workspaces, apps] = lookups;
    assert_eq!(host.api.requests(), [login, workspaces, apps, import]);
}

#[test]
fn tooljet_imports_with_these_calls() {
    let host = Host::tooljet(&["Something else"]);
    let import = |more: &[&'static str]| {
        let base = ["apps", "import", "tooljet-metafree/orders", "--into", "production", "--yes"];
        let all: Vec<&str> = base.into_iter().chain(more.iter().copied()).collect();
        host.belay(&all)
    };
    import(&[]).code(2).says(&["several workspaces", "--workspace: Acme, Others"]);
    host.api.requests();
    // Its files do not say what wrote them, which is told.
    import(&["--workspace", "Acme", "--name", "Orders 2", "--editable"])
        .code(3)
        .says(&["not known"]);
    let basic = format!("authorization: Basic {TOKEN}");
    assert_eq!(
        host.api.requests(),
        [
            format!("GET /api/ext/workspaces [{basic}]"),
            format!("GET /api/ext/workspace/o1/apps [{basic}]"),
            format!(
                "POST /api/ext/apps?createMode=git [{basic}; content-type: application/json] \
                 {{\"gitAppId\":\"8f14e45f-0001\",\"gitVersionId\":\"main\",\"organizationId\":\"o1\",\"appName\":\"Orders 2\",\"allowEditing\":true}}"
            ),
        ]
    );
    import(&["--workspace", "Acme"]).code(3);
    let last = host.api.requests().pop().unwrap();
    assert!(
        last.ends_with(
            "{\"gitAppId\":\"8f14e45f-0001\",\"gitVersionId\":\"main\",\"organizationId\":\"o1\"}"
        ),
        "{last}"
    );
}

#[test]
fn a_name_that_is_there_is_not_imported_over() {
    let host = Host::appsmith(&["appsmith-orders"]);
    host.belay(&IMPORT).code(1).says(&["has an app 'appsmith-orders' already", "belay apps pull"]);
    assert_eq!(host.api.requests().len(), 3, "only lookups");
    let host = Host::tooljet(&["orders"]);
    let import =
        ["apps", "import", "orders", "--into", "production", "--workspace", "Acme", "--yes"];
    host.belay(&import).code(1).says(&["has an app 'orders' already", "--name"]);
    assert_eq!(host.api.requests().len(), 2, "only lookups");
}

#[test]
fn a_pull_comes_after_a_snapshot_and_never_where_it_cannot_be_read() {
    let mongod = Mongod::start();
    mongod.seed("appsmith", 1);
    let environment = format!(
        "APPSMITH_DB_URL={}\nAPPSMITH_ENCRYPTION_PASSWORD=fixture-encryption-password\nAPPSMITH_ENCRYPTION_SALT=fixture-encryption-salt\n",
        mongod.url("appsmith")
    );
    let host = Host::new("appsmith", "appsmith-orders", &["Orders"], &environment);
    let pull = |into: &'static str, version: &'static str, more: &[&'static str]| {
        let base =
            ["apps", "pull", "appsmith-orders", "--into", into, "--instance-version", version];
        let all: Vec<&str> = base.into_iter().chain(more.iter().copied()).collect();
        host.belay(&all)
    };
    let snapshots = || host.sandbox.list().len();
    // The staging branch is of schema 13: nothing is asked, taken or pulled, and no flag helps.
    pull("staging", "v2.4.1", &["--yes"]).code(5).says(&[
        "staging cannot read it",
        "server schema 13",
        "v2.5.0",
    ]);
    assert_eq!((host.api.requests(), snapshots()), (Vec::new(), 0));
    // Nobody is there to be asked.
    pull("production", "v2.4.1", &[]).code(2).says(&["--dry-run"]);
    let dry = pull("production", "v2.4.1", &["--dry-run"]).ok();
    let printed = dry.stdout();
    assert!(printed.contains("would be sent: GET /api/v1/git/applications/a0/pull"), "{printed}");
    assert!(printed.contains("was sent:      POST /api/v1/login\n"), "{printed}");
    assert!(!host.api.requests().iter().any(|request| request.contains("/pull")));
    assert_eq!(snapshots(), 0);

    let pulled = pull("production", "v2.4.1", &["--yes", "--json"]).code_in(&[0, 3]).json();
    assert_eq!(
        host.api.requests(),
        [
            LOGIN.to_owned(),
            format!("GET /api/v1/workspaces/home {SESSION}"),
            format!("GET /api/v1/applications/home?workspaceId=w1 {SESSION}"),
            format!("GET /api/v1/git/applications/a0/pull {SESSION}"),
        ]
    );
    let listed = host.sandbox.list();
    assert_eq!(listed.len(), 1);
    assert_eq!(pulled["snapshot"], listed[0].id.as_str(), "{pulled}");
    assert_eq!((listed[0].instance.as_str(), listed[0].sealed), ("production", true));

    // The app is on master there, and staging's branch is another.
    pull("staging", "v2.5.0", &["--yes"]).code(1).says(&["has no app", "belay apps import"]);
    host.api.requests();
    // Without a snapshot nothing is pulled.
    drop(mongod);
    pull("production", "v2.4.1", &["--yes"]).code(1).says(&["component mongodb of production"]);
    assert!(!host.api.requests().iter().any(|request| request.contains("/pull")));
}

#[test]
fn tooljet_pulls_after_a_snapshot() {
    let postgres = Postgres::start();
    let mut seed = Command::new("/usr/bin/python3");
    seed.args(["tests/fixtures/tooljet/seed.py", "1"]);
    let port = postgres.port;
    let file = fs::read_to_string("tests/fixtures/tooljet/tooljet.env").unwrap();
    let file =
        file.replace("localhost", "127.0.0.1").replace("PG_PORT=5432", &format!("PG_PORT={port}"));
    let environment = format!("{file}TOOLJET_DB_PORT={port}\n");
    let host = Host::new("tooljet", "tooljet-metafree", &["orders"], &environment);
    let script = host.sandbox.path("seed.sql");
    fs::write(&script, Run::of(seed).ok().stdout()).unwrap();
    postgres.script(&script);
    host.belay(&["apps", "pull", "orders", "--into", "production", "--yes"]).code(3);
    let basic = format!("authorization: Basic {TOKEN}");
    assert_eq!(
        host.api.requests(),
        [
            format!("GET /api/ext/workspaces [{basic}]"),
            format!("GET /api/ext/workspace/o1/apps [{basic}]"),
            format!("GET /api/ext/workspace/o2/apps [{basic}]"),
            // The snapshot asks which version it is of.
            "GET /api/metadata []".to_owned(),
            format!(
                "PUT /api/ext/apps/t0?createMode=git [{basic}; content-type: application/json] {{}}"
            ),
        ]
    );
    assert_eq!(host.sandbox.list().len(), 1);
}

#[test]
fn each_failure_says_what_was_tried_and_what_to_do() {
    let host = Host::appsmith(&[]);
    let fails = |words: &[&str]| {
        host.belay(&IMPORT).code(1).says(words).says(&["production: "]);
    };
    let limited = r#"{"responseMeta":{"status":429,"success":false,"error":{"code":"AE-429","message":"slow down, pass word&for=tests"}}}"#;
    host.api.tell("GET /api/v1/workspaces", Answer::Status(200, limited));
    fails(&["GET /api/v1/workspaces/home", "429: slow down, ***", "in a minute"]);
    host.api.tell("GET /api/v1/workspaces", Answer::Status(200, "<html>loading</html>"));
    fails(&["the answer is no JSON", "`url`"]);
    host.api.tell("GET /api/v1/workspaces", Answer::Status(200, "{}"));
    fails(&["no responseMeta.status"]);
    host.api.tell("GET /api/v1/workspaces", Answer::Redirect("http://127.0.0.1:1/elsewhere"));
    fails(&["answered with 302"]);
    host.api.tell("GET /api/v1/workspaces", Answer::CutOff);
    fails(&["GET /api/v1/workspaces/home", "was cut off"]);
    host.api.tell("GET /api/v1/workspaces", Answer::Status(404, ""));
    fails(&["404", "another route"]);
    let good = r#"{"responseMeta":{"status":200},"data":[{"id":"w1","name":"Acme"}]}"#;
    host.api.tell("GET /api/v1/workspaces", Answer::Status(200, good));
    for (answer, words) in
        [(Answer::Status(500, ""), "answered with 500"), (Answer::CutOff, "was cut off")]
    {
        host.api.tell("POST /api/v1/git", answer);
        fails(&[
            "POST /api/v1/git/artifacts/import?workspaceId=w1",
            words,
            "whether it was done is not known",
        ]);
    }
    write_secret(&host.sandbox.path("secret"), "another password");
    fails(&["POST /api/v1/login", "401: the login was refused", "`login`"]);

    let host = Host::tooljet(&[]);
    let import =
        ["apps", "import", "orders", "--into", "production", "--workspace", "Acme", "--yes"];
    host.api.tell(
        "POST /api/ext/apps",
        Answer::Status(409, r#"{"message":["orders already exists"]}"#),
    );
    host.belay(&import).code(1).says(&["409: orders already exists", "--name"]);
    write_secret(&host.sandbox.path("secret"), "another token");
    host.belay(&import).code(1).says(&["403: Unauthorized", "ENABLE_EXTERNAL_API"]);
}

#[test]
fn one_that_says_nothing_is_given_up() {
    let api = PlatformApi::start(&[], "", "");
    api.tell("GET", Answer::Silence);
    belay::notify::install_crypto();
    let limits = Limits { connect: Duration::from_secs(5), all: Duration::from_millis(300) };
    let token = TOKEN.to_owned().into();
    let client = Client::new(api.url().parse().unwrap(), Identity::Token(token), limits).unwrap();
    let begun = Instant::now();
    let error = client.ask(&Call::tooljet_workspaces()).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(4), "{error}");
    assert!(error.to_string().contains("there was no answer in time"), "{error}");
    let pull = client.ask(&Call::appsmith_pull("1")).unwrap_err();
    assert!(pull.hint().contains("whether it was done is not known"), "{pull}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_asked() {
    let host = Host::appsmith(&[]);
    let with = |more: &[&'static str]| {
        let all: Vec<&str> = IMPORT.into_iter().chain(more.iter().copied()).collect();
        host.belay(&all)
    };
    with(&["--name", "Other"]).code(2).says(&["after its git repository"]);
    with(&["--editable"]).code(2).says(&["protected"]);
    host.belay(&["apps", "pull", "appsmith-orders", "--into", "data", "--yes"])
        .code(2)
        .says(&["is of files"]);
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    let lines = config.lines().filter(|line| !line.starts_with("login"));
    fs::write(host.sandbox.config(), lines.collect::<Vec<_>>().join("\n")).unwrap();
    with(&[]).code(2).says(&["who asks production", "login = {"]);
    assert_eq!(host.api.requests(), Vec::<String>::new());
    let shown: Value = Value::String(host.belay(&["config", "show"]).ok().stdout());
    assert!(shown.as_str().unwrap().contains(&format!("url = \"{}/\"", host.api.url())), "{shown}");
}
