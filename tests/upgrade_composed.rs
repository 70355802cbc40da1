//! Upgrades of ToolJet as most run it: a container of Docker Compose's that is started again whenever it ends, over databases of a server
//! elsewhere. What a new version did to them is taken back while its container does not stay up.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use support::servers::{Docker, Registry, free_port, python_packages};
use support::upgrades::{Database, Kind, SIDES, TOKEN};
use support::{Run, Sandbox, assert_same_text, text, wait_until, write_secret};

const KIND: Kind = Kind::ToolJet;

/// What runs in the container of a version.
fn script_of(version: &str) -> String {
    let server = "/usr/bin/python3 /support/platform_server.py /platform";
    format!("rm -f /platform/ready; exec {server} {version}")
}

/// A pair of instances that run the old version, both backed up.
struct Pair {
    databases: [Database; 2],
    settings: [Value; 2],
    docker: Docker,
    registry: Registry,
    sandbox: Sandbox,
}

impl Pair {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let (docker, mut registry) = (Docker::start(), Registry::start());
        for version in [KIND.old(), KIND.new_version()] {
            registry.push_with(version, &script_of(version), &[]);
        }
        write_secret(&sandbox.path("token"), TOKEN);
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        let made = SIDES.map(|name| {
            let (database, mut settings) = Database::start(KIND);
            let port = free_port();
            settings["port"] = json!(port);
            let directory = sandbox.path(name);
            fs::create_dir_all(directory.join("platform")).unwrap();
            database.write_environment(&directory.join("tooljet.env"), name);
            let packages = python_packages();
            let (packages, platform) = (text(&packages), directory.join("platform"));
            let support = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support");
            let file = format!(
                "version: '2.4'\nservices:\n  app:\n    image: {}:{}\n    container_name: {name}\n    network_mode: host\n    stop_signal: SIGKILL\n    \
                 restart: always\n    env_file: tooljet.env\n    environment:\n      PATH: /usr/bin:/bin\n      PYTHONPATH: {packages}\n    volumes:\n    \
                 - /usr:/usr:ro\n    - {packages}:{packages}:ro\n    - {support}:/support:ro\n    - {}:/platform\n",
                registry.name(),
                KIND.old(),
                text(&platform),
            );
            fs::write(directory.join("docker-compose.yml"), file).unwrap();
            config.extend([format!(
                "\n[instance.{name}]\nplatform = 'tooljet'\nvia = 'docker:{name}'\nurl = 'http://127.0.0.1:{port}'\ntoken = 'file:{}'\n\
                 component.postgres = {{ via = 'local' }}\ncompose = {{ dir = '{}', service = 'app' }}\n",
                text(&sandbox.path("token")),
                text(&directory)
            )]);
            (database, settings)
        });
        config.push_str(
            "\n[pair.main]\nstaging = 'staging'\nproduction = 'production'\ndriver = 'compose'\nsoak = '0s'\n\
             tests = ['health', 'version', 'apps-open', 'counts', 'keys']\n",
        );
        fs::write(sandbox.config(), config).unwrap();
        let [(one, first), (two, second)] = made;
        let (databases, settings) = ([one, two], [first, second]);
        let pair = Self { databases, settings, docker, registry, sandbox };
        for side in [0, 1] {
            pair.breaks(side, &[]);
            pair.up(side);
        }
        pair.belay(&["backup", "--pair", "main"]).code_in(&[0, 3]);
        pair
    }

    /// `docker-compose up` by hand, which makes the container anew, until the server listens.
    #[track_caller]
    fn up(&self, side: usize) {
        let directory = self.sandbox.path(SIDES[side]);
        let ready = directory.join("platform/ready");
        // Of the container before.
        fs::remove_file(&ready).ok();
        let (name, value) = self.docker.variable();
        let mut up = Command::new("docker-compose");
        up.args(["up", "-d"]).env(name, value).current_dir(directory);
        Run::of(up).ok();
        wait_until("the server in the container", || ready.exists());
    }

    /// A container's id, and since when it runs.
    fn running(&self, side: usize) -> String {
        let format = "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
        self.docker.run(&["inspect", "-f", format, SIDES[side]])
    }

    /// How the new version breaks on a side.
    fn breaks(&self, side: usize, breaks: &[&str]) {
        let mut settings = self.settings[side].clone();
        settings["breaks"] = json!({ KIND.new_version(): breaks });
        let path = self.sandbox.path(SIDES[side]).join("platform/settings.json");
        fs::write(path, settings.to_string()).unwrap();
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        let (name, value) = self.docker.variable();
        let mut command = self.sandbox.belay_command(arguments);
        command.env(name, value);
        Run::of_long(command)
    }

    fn start(&self) -> Run {
        let to = KIND.new_version();
        self.belay(&["upgrade", "start", "main", "--to", to, "--yes", "--foreground"])
    }

    fn upgrade(&self) -> Value {
        self.belay(&["upgrade", "show", "main", "--json"]).ok().json()["upgrade"].clone()
    }

    /// The version that a side's database says, and that its container is of.
    fn versions(&self, side: usize) -> [String; 2] {
        let container = self.docker.run(&["inspect", "-f", "{{.Config.Image}}", SIDES[side]]);
        let image = container.trim().split('@').next().unwrap();
        [self.databases[side].version(), image.rsplit(':').next().unwrap().to_owned()]
    }

    /// The snapshot that a step has left.
    fn snapshot_of(&self, step: &str) -> String {
        let upgrade = self.upgrade();
        let records = upgrade["records"].as_array().unwrap();
        let found = records.iter().find(|it| it["kind"] == "done" && it["step"] == step);
        let found = found.unwrap_or_else(|| panic!("{step}: {upgrade:#}"));
        found["outcome"]["snapshot"].as_str().unwrap_or_else(|| panic!("{found}")).to_owned()
    }
}

#[test]
fn a_version_that_moves_a_half_and_ends_again_and_again_is_taken_back() {
    let pair = Pair::new();
    let before = [pair.databases[0].dump(), pair.databases[1].dump()];
    pair.breaks(1, &["half"]);
    let run = pair.start().code(1);
    assert_eq!(pair.upgrade()["state"], "rolled_back", "{run}");
    assert_eq!(pair.versions(1), [KIND.old(), KIND.old()], "{run}");
    assert_same_text(&before[1], &pair.databases[1].dump());
    assert_eq!(pair.versions(0), [KIND.new_version(); 2], "staging keeps what it has proved");
    // What failed is in a snapshot, as it was: one of its two databases was moved.
    let failed = pair.snapshot_of("put_back_production");
    let target = pair.sandbox.fresh_directory();
    pair.belay(&["restore", &failed, "--to-dir", text(target.path())]).ok();
    let mut restore = Command::new("pg_restore");
    restore.args(["--schema-only", "-f", "-"]);
    restore.arg(target.path().join("postgres/tooljet_production.dump"));
    let schema = Run::of(restore).ok().stdout();
    assert!(schema.contains("of_3_17"), "what the new version left");
}

#[test]
fn on_staging_it_is_taken_back_there_and_production_is_not_touched() {
    let pair = Pair::new();
    let before = [pair.databases[0].dump(), pair.databases[1].dump()];
    let ran = pair.running(1);
    pair.breaks(0, &["half"]);
    let run = pair.start().code(1);
    assert_eq!(pair.upgrade()["state"], "aborted", "{run}");
    assert_eq!(pair.running(1), ran, "it was not even stopped");
    for (side, before) in before.iter().enumerate() {
        assert_eq!(pair.versions(side), [KIND.old(), KIND.old()], "{run}");
        assert_same_text(before, &pair.databases[side].dump());
    }
}

#[test]
fn a_good_night_is_gone_back_from_by_hand() {
    let pair = Pair::new();
    let before = pair.databases[1].dump();
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.upgrade()["state"], "provisional", "{run}");
    assert_eq!(pair.versions(1), [KIND.new_version(); 2]);
    let made = "INSERT INTO organizations (id, name) VALUES (gen_random_uuid(), 'made since')";
    pair.databases[1].postgres().sql("tooljet_production", made);
    let reason = ["--reason", "users complain"];
    let run = pair.belay(&[&["upgrade", "rollback", "main", "--foreground"][..], &reason].concat());
    let run = run.code_in(&[0, 3]);
    assert_eq!(pair.upgrade()["state"], "rolled_back", "{run}");
    assert_eq!(pair.versions(1), [KIND.old(), KIND.old()], "{run}");
    assert_same_text(&before, &pair.databases[1].dump());
}

#[test]
fn what_somebody_runs_under_a_floating_tag_is_adopted_and_then_upgraded() {
    let mut pair = Pair::new();
    pair.registry.push_with("latest", &script_of(KIND.old()), &[]);
    let (name, directory) = (pair.registry.name(), pair.sandbox.path("production"));
    let path = directory.join("docker-compose.yml");
    let file = fs::read_to_string(&path).unwrap();
    let file = file.replace(&format!("{name}:{}", KIND.old()), &format!("{name}:latest"));
    fs::write(&path, &file).unwrap();
    pair.up(1);
    let image = pair.docker.run(&["inspect", "-f", "{{.Config.Image}}", "production"]);
    assert_eq!(image.trim(), format!("{name}:latest"));
    // The tag is moved, and got: it is not what runs.
    pair.registry.push_with("latest", &script_of(KIND.new_version()), &[]);
    pair.docker.run(&["pull", "-q", &format!("{name}:latest")]);
    let image = pair.docker.run(&["inspect", "-f", "{{.Image}}", "production"]);
    let of = "{{json .RepoDigests}}";
    let digests = pair.docker.run(&["image", "inspect", "-f", of, image.trim()]);
    let digests: Vec<String> = serde_json::from_str(&digests).unwrap();
    let (_, digest) = digests[0].split_once('@').unwrap();
    let (ran, before) = (pair.running(1), pair.databases[1].dump());
    let over = directory.join("docker-compose.override.yml");

    // What is not known is not pinned, and neither is what nobody upgrades.
    let adopt = |name: &str| pair.belay(&["upgrade", "adopt", name]);
    adopt("shop").code(2).says(&["shop"]);
    let config = fs::read_to_string(pair.sandbox.config()).unwrap();
    let (others, _) = config.split_once("driver = 'compose'").unwrap();
    fs::write(pair.sandbox.config(), others).unwrap();
    adopt("production").code(2).says(&["'production' belongs to no pair that is upgraded"]);
    fs::write(pair.sandbox.config(), &config).unwrap();
    assert!(!over.exists());

    let pinned = format!("{name}:{}@{digest}", KIND.old());
    let run = adopt("production").ok();
    assert_eq!(
        run.stdout().trim(),
        format!("production runs {pinned}, and stays with it."),
        "{run}"
    );
    assert_eq!(pair.running(1), ran, "it runs on");
    assert_eq!(fs::read_to_string(&path).unwrap(), file, "what a person wrote stays");
    let pin = fs::read_to_string(&over).unwrap();
    assert!(pin.contains(&format!("image: \"{pinned}\" # pinned by Belay")), "{pin}");
    // Again it changes nothing.
    let again = pair.belay(&["upgrade", "adopt", "production", "--json"]).ok().json();
    assert_eq!(again, json!({ "name": name, "tag": KIND.old(), "digest": digest }));
    assert_eq!(fs::read_to_string(&over).unwrap(), pin);
    assert!(!pair.sandbox.path("staging/docker-compose.override.yml").exists());

    // Who runs `up` by hand keeps what ran.
    pair.up(1);
    assert_eq!(pair.versions(1), [KIND.old(), KIND.old()]);
    let runs = || pair.docker.run(&["inspect", "-f", "{{.Image}}", "production"]);
    assert_eq!(runs(), image);
    assert_same_text(&before, &pair.databases[1].dump());

    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.upgrade()["state"], "provisional", "{run}");
    assert_eq!(pair.versions(1), [KIND.new_version(); 2]);
    let run = pair.belay(&["upgrade", "rollback", "main", "--reason", "no", "--foreground"]);
    let run = run.code_in(&[0, 3]);
    assert_eq!(runs(), image, "what was adopted is what comes back: {run}");
    assert_eq!(fs::read_to_string(&over).unwrap(), pin, "{run}");
    assert_same_text(&before, &pair.databases[1].dump());
}
