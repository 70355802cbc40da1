//! The driver `compose` against a real Docker engine and a real `docker-compose`, reached by ssh: what is pinned stays pinned when somebody
//! runs `up` by hand, and nothing that a person wrote is changed beyond one line.
#![allow(clippy::unwrap_used)]

mod support;

use belay::config::{Config, SecretSources};
use belay::model::event::{Cancel, Events};
use belay::model::upgrade::Gate;
use belay::ops::Context;
use belay::upgrade::driver::{Driver, DriverError, Image};
use belay::upgrade::evidence::{self, Copies, Question, Scene};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use support::servers::{Docker, Registry, Sshd};
use support::{Run, Sandbox, text};

/// Runs until it is killed.
const STAYS: &str = "echo started; while true; do sleep 1; done";

struct Stage {
    sandbox: Sandbox,
    docker: Docker,
    registry: Registry,
    _sshd: Sshd,
    config: &'static Config,
    context: &'static Context,
    /// Finding out which Compose there is takes a while.
    driver: Driver<'static>,
}

impl Stage {
    /// The service `app` at this tag, and one `other` beside it.
    fn new(tag: &str) -> Self {
        Self::with(tag, "")
    }

    /// With more keys of `compose`.
    fn with(tag: &str, keys: &str) -> Self {
        let (sandbox, docker) = (Sandbox::new(), Docker::start());
        let mut registry = Registry::start();
        for tag in ["v1.96", "v1.97", "latest"] {
            registry.push(tag, &format!("echo this is {tag}; {STAYS}"), None);
        }
        let (name, value) = docker.variable();
        let sshd = Sshd::start(&[(name, &value)]);
        let dir = sandbox.path("shop");
        fs::create_dir(&dir).unwrap();
        let name = registry.name();
        fs::write(
            dir.join("docker-compose.yml"),
            format!(
                "# The shop\nversion: '2.4'\nservices:\n  app:\n    image: {name}:{tag}\n    network_mode: none\n  other:\n    image: {name}:v1.96\n    network_mode: none\n"
            ),
        )
        .unwrap();
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        for instance in ["staging", "production"] {
            // Its host is what is reached by ssh.
            config.extend([format!(
                "\n[instance.{instance}]\nplatform = 'appsmith'\nvia = 'ssh:far/docker:app'\ncompose = {{ dir = '{}', service = 'app'{keys} }}\n",
                text(&dir)
            )]);
        }
        config.extend([format!(
            "\n[access]\nssh_config = '{}'\n[pair.main]\nstaging = 'staging'\nproduction = 'production'\ndriver = 'compose'\ntests = ['version', 'counts', 'keys']\n",
            text(&sshd.config())
        )]);
        fs::write(sandbox.config(), config).unwrap();
        let config: &'static Config = Box::leak(Box::new(Config::load(&sandbox.config()).unwrap()));
        let context: &'static Context =
            Box::leak(Box::new(Context::new(Events::ignored(), Cancel::new())));
        let upgrades = config.pair("main").unwrap().upgrades.as_ref().unwrap();
        let instance = config.instance("production").unwrap();
        let driver = Driver::of(config, upgrades, instance, context).unwrap();
        Self { sandbox, docker, registry, _sshd: sshd, config, context, driver }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.sandbox.path("shop").join(name)
    }

    fn pin(&self) -> String {
        fs::read_to_string(self.file("docker-compose.override.yml")).unwrap_or_default()
    }

    /// `docker-compose` by hand.
    #[track_caller]
    fn by_hand(&self, arguments: &[&str]) -> String {
        let (name, value) = self.docker.variable();
        let mut command = Command::new("docker-compose");
        command.args(arguments).env(name, value).current_dir(self.sandbox.path("shop"));
        Run::of(command).ok().stdout().trim().to_owned()
    }

    /// What the service's container said first.
    fn said(&self) -> String {
        self.docker.run(&["logs", &self.by_hand(&["ps", "-q", "app"])])
    }

    fn prepare(&self, version: &str, tested: Option<&Image>) -> Result<Image, DriverError> {
        self.driver.prepare(version, tested).map(Option::unwrap)
    }

    fn install(&self, image: &Image) -> Result<(), DriverError> {
        self.driver.install(&image.tag, None, Some(image))
    }
}

#[test]
fn an_image_is_pinned_by_its_digest_so_that_an_up_by_hand_keeps_it() {
    let mut stage = Stage::new("v1.96");
    let driver = &stage.driver;
    assert_eq!(driver.is_running().unwrap(), Some(false));
    assert_eq!(driver.running_image().unwrap(), None);
    driver.start().unwrap();
    assert_eq!(driver.is_running().unwrap(), Some(true));
    let old = stage.driver.running_image().unwrap().unwrap();
    assert_eq!((old.name.as_str(), old.tag.as_str()), (stage.registry.name().as_str(), "v1.96"));
    let compose_file = fs::read(stage.file("docker-compose.yml")).unwrap();
    fs::set_permissions(
        stage.file("docker-compose.yml"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();

    // Written as the tag before it.
    let new = stage.prepare("1.97", None).unwrap();
    assert_eq!(new.tag, "v1.97");
    assert!(new.digest.starts_with("sha256:") && new.digest != old.digest);
    assert!(stage.driver.has(&new).unwrap());
    assert_eq!(stage.pin(), "", "preparing changes nothing");
    stage.install(&new).unwrap();
    assert!(stage.said().contains("this is v1.97"));
    assert!(
        stage.pin().contains(&format!("image: \"{new}\" # pinned by Belay")),
        "{}",
        stage.pin()
    );
    assert_eq!(fs::read(stage.file("docker-compose.yml")).unwrap(), compose_file);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(stage.file("docker-compose.override.yml")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o644, "who runs `up` has to read it");
    assert_eq!(stage.driver.running_image().unwrap(), Some(new.clone()));

    // The registry moves the tag: who runs `up` by hand keeps what was tested, and so does the other instance.
    stage.registry.push("v1.97", &format!("echo this is another; {STAYS}"), None);
    let container = stage.by_hand(&["ps", "-q", "app"]);
    stage.by_hand(&["pull", "-q", "app"]);
    stage.by_hand(&["up", "-d", "app"]);
    assert_eq!(stage.by_hand(&["ps", "-q", "app"]), container);
    assert_eq!(stage.prepare("v1.97", Some(&new)).unwrap(), new);
    let error = stage.prepare("v1.96", Some(&new)).unwrap_err();
    assert!(error.to_string().contains("was tested, and"), "{error}");
    assert_ne!(stage.prepare("v1.97", None).unwrap().digest, new.digest);
    stage.docker.run(&["rm", "-f", &container]);
    stage.docker.run(&["rmi", "-f", &new.by_digest()]);
    assert!(!stage.driver.has(&new).unwrap());
    assert_eq!(stage.prepare("v1.97", Some(&new)).unwrap(), new, "by its digest");

    // Again, as after a crash; and back.
    stage.install(&new).unwrap();
    stage.install(&new).unwrap();
    let driver = &stage.driver;
    driver.stop().unwrap();
    assert_eq!(driver.is_running().unwrap(), Some(false));
    assert_eq!(driver.running_image().unwrap(), Some(new.clone()), "of the stopped one");
    driver.stop().unwrap();
    stage.install(&old).unwrap();
    assert!(stage.said().contains("this is v1.96"));
    assert!(stage.pin().contains(&old.to_string()) && !stage.pin().contains(&new.to_string()));
}

#[test]
fn workers_are_stopped_with_the_service_and_get_its_version() {
    let stage = Stage::with("v1.96", ", workers = ['other']");
    let ids = |service: &str| stage.by_hand(&["ps", "-q", service]);
    let runs = |service: &str| {
        let id = ids(service);
        stage.docker.run(&["inspect", "-f", "{{.State.Running}}", &id]).trim() == "true"
    };
    stage.driver.start().unwrap();
    let old = stage.driver.running_image().unwrap().unwrap();
    let image = stage.prepare("v1.97", None).unwrap();
    stage.install(&image).unwrap();
    for service in ["app", "other"] {
        let said = stage.docker.run(&["logs", &ids(service)]);
        assert!(said.contains("this is v1.97"), "{service}: {said}");
    }
    assert_eq!(stage.pin().matches(&image.to_string()).count(), 2, "{}", stage.pin());
    stage.driver.stop().unwrap();
    assert!(!runs("app") && !runs("other"));
    // Whoever stops them with a timer beside them stops and starts the same.
    let switch = stage.driver.switch().unwrap().unwrap();
    assert!(switch.stop.ends_with(&["app".into(), "other".into()]), "{switch:?}");
    assert!(switch.start.ends_with(&["app".into(), "other".into()]), "{switch:?}");
    stage.install(&old).unwrap();
    for service in ["app", "other"] {
        let said = stage.docker.run(&["logs", &ids(service)]);
        assert!(runs(service) && said.contains("this is v1.96"), "{service}: {said}");
    }
    assert_eq!(stage.pin().matches(&old.to_string()).count(), 2, "{}", stage.pin());

    // One that the compose file does not have is a mistake, and nothing is done.
    let stage = Stage::with("v1.96", ", workers = ['othr']");
    let image = stage.prepare("v1.97", None).unwrap();
    let error = stage.install(&image).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("othr") && error.hint().unwrap().contains("compose.workers"), "{told}");
    assert_eq!(stage.pin(), "");
}

#[test]
fn a_release_that_does_not_stay_up_is_told_with_what_it_said() {
    let mut stage = Stage::new("v1.96");
    stage.driver.start().unwrap();
    let old = stage.driver.running_image().unwrap().unwrap();
    stage.registry.push("v1.98", "echo CHECKPOINT MISSED; exit 7", None);
    let image = stage.prepare("v1.98", None).unwrap();
    let error = stage.install(&image).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("does not stay up") && told.contains("exit code 7"), "{told}");
    assert!(
        told.contains("CHECKPOINT MISSED") && error.hint().unwrap().contains("docker logs"),
        "{told}"
    );
    assert_eq!(stage.driver.is_running().unwrap(), Some(false));
    stage.install(&old).unwrap();
    assert!(stage.said().contains("this is v1.96"));

    // One that checks itself is waited for until it says that it is healthy.
    stage.registry.push(
        "v1.99",
        &format!("touch /tmp/begun; sleep 3; touch /tmp/healthy; {STAYS}"),
        Some("test -e /tmp/healthy"),
    );
    let image = stage.prepare("v1.99", None).unwrap();
    stage.install(&image).unwrap();
    let container = stage.by_hand(&["ps", "-q", "app"]);
    let health = stage.docker.run(&["inspect", "-f", "{{.State.Health.Status}}", &container]);
    assert_eq!(health.trim(), "healthy");
}

#[test]
fn what_would_not_last_is_refused() {
    let stage = Stage::new("v1.96");
    for (version, words) in [
        ("latest", "is moved to other releases"),
        ("v1", "is no version"),
        ("release", "is moved to other releases"),
    ] {
        let error = stage.prepare(version, None).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint().unwrap().contains("whole version"), "{error}");
    }
    let error = stage.prepare("v1.100", None).unwrap_err();
    assert!(error.to_string().contains("manifest unknown"), "{error}");

    stage.driver.start().unwrap();
    let image = stage.prepare("v1.97", None).unwrap();
    let refused = |words: &str| {
        let error = stage.install(&image).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(error.hint().is_some());
    };
    let files = || -> Vec<String> {
        let entries = fs::read_dir(stage.sandbox.path("shop")).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let over = stage.file("docker-compose.override.yml");
    let own = format!("services:\n  app:\n    image: {}:latest\n", stage.registry.name());
    fs::write(&over, &own).unwrap();
    refused("names an image for app itself");
    assert_eq!(fs::read_to_string(&over).unwrap(), own);
    let flow = "services: { app: { hostname: shop } }\n";
    fs::write(&over, flow).unwrap();
    refused("cannot be pinned in");
    assert_eq!(fs::read_to_string(&over).unwrap(), flow);
    // A text in which a line of ours would mean something else.
    let block =
        "services:\n  other:\n    environment:\n      TEXT: |\n        x\nx-note: |\n  services:\n";
    fs::write(&over, block).unwrap();
    stage.install(&image).unwrap();
    assert_eq!(
        fs::read_to_string(&over).unwrap(),
        block.replacen(
            "services:\n",
            &format!("services:\n  app:\n    image: \"{image}\" # pinned by Belay\n"),
            1
        )
    );
    fs::write(stage.file("compose.override.yml"), "services: {}\n").unwrap();
    refused("has compose.override.yml and docker-compose.override.yml");
    fs::remove_file(stage.file("compose.override.yml")).unwrap();
    fs::remove_file(&over).unwrap();
    fs::write(stage.file(".env"), "COMPOSE_FILE=docker-compose.yml\n").unwrap();
    refused("Docker Compose does not read");
    assert_eq!(files(), [".env", "docker-compose.yml"]);
}

#[test]
fn what_runs_under_a_floating_tag_is_adopted_under_its_own_version() {
    let stage = Stage::new("latest");
    let error = stage.driver.adopt(None).unwrap_err();
    assert!(error.to_string().contains("has no container"), "{error}");
    stage.driver.start().unwrap();
    let error = stage.driver.adopt(None).unwrap_err();
    assert!(error.to_string().contains("is moved to other releases"), "{error}");
    assert!(error.hint().unwrap().contains("its version is not known"), "{error}");
    assert_eq!(stage.pin(), "");
    // What ran comes back, whatever it was called.
    let running = stage.driver.running_image().unwrap().unwrap();
    let new = stage.prepare("v1.96", None).unwrap();
    stage.install(&new).unwrap();
    assert!(stage.said().contains("this is v1.96"));
    stage.install(&running).unwrap();
    assert!(stage.said().contains("this is latest"));
    assert!(stage.pin().contains(&format!(":latest@{}", running.digest)), "{}", stage.pin());
    let image = stage.driver.adopt(Some("v1.97")).unwrap();
    assert_eq!(image.tag, "v1.97");
    assert!(stage.pin().contains(&image.to_string()));
    let before = stage.driver.running_image().unwrap().unwrap();
    assert_eq!(before.digest, image.digest);
    stage.by_hand(&["up", "-d", "app"]);
    assert!(stage.said().contains("this is latest"), "the same bits");
    assert_eq!(stage.driver.running_image().unwrap(), Some(image));
}

#[test]
fn the_evidence_has_the_images_that_are_there_by_digest_and_gets_none() {
    let stage = Stage::new("v1.96");
    let fetched = |version: &str| stage.driver.fetched_image(version).unwrap();
    assert_eq!((fetched("v1.97"), fetched("latest")), (None, None));
    stage.driver.start().unwrap();
    let old = stage.driver.running_image().unwrap().unwrap();
    let seen = |digest: Option<&str>| {
        let pair = stage.config.pair("main").unwrap();
        let scene = Scene {
            config: stage.config,
            secrets: &SecretSources::of_process(),
            pair,
            staging: pair.workshop(),
            upgrades: pair.upgrades.as_ref().unwrap(),
            context: stage.context,
        };
        let question = Question {
            gate: Gate::Staging,
            to: &"v1.97".parse().unwrap(),
            windows: &[],
            fetched: [digest, None],
            copies: Copies::Open,
            stopped_since: None,
            now: jiff::Timestamp::now(),
        };
        evidence::read(&scene, &question).unwrap().staging.images.unwrap()
    };
    let images = seen(None);
    assert_eq!((images.old.as_deref(), images.new), (Some(old.digest.as_str()), None));
    assert_eq!(fetched("v1.97"), None, "looking gets nothing");
    let new = stage.prepare("v1.97", None).unwrap();
    assert_eq!(fetched("v1.97"), Some(new.clone()));
    assert_eq!(seen(None).new.as_deref(), Some(new.digest.as_str()));
    assert_eq!(seen(Some(&new.digest)).new.as_deref(), Some(new.digest.as_str()));
    let gone = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        seen(Some(&gone)).new,
        None,
        "another image of that tag is not the one that was fetched"
    );
}
