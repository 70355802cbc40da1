//! An Appsmith-shaped instance in one container, with MongoDB, Redis and git-storage on a volume: backed up and restored through
//! `docker:` and through `ssh:…/docker:…`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use support::servers::{Appsmith, Docker};
use support::{Run, Sandbox, assert_same_text};

struct World {
    sandbox: Sandbox,
    variable: (&'static str, String),
}

impl World {
    fn new(docker: &Docker, instances: &str) -> Self {
        let sandbox = Sandbox::new();
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        config.push_str(instances);
        fs::write(sandbox.config(), config).unwrap();
        Self { sandbox, variable: docker.variable() }
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        let mut command = self.sandbox.belay_command(arguments);
        command.env(self.variable.0, &self.variable.1);
        Run::of(command)
    }
}

const APP: &str = "\n[instance.app]\nplatform = \"appsmith\"\nvia = \"docker:app\"\n";

#[test]
fn an_instance_in_one_container_comes_back_into_a_new_one() {
    let docker = Docker::start();
    Appsmith::image(&docker);
    let app = Appsmith::start(&docker, "app", 1);
    let world = World::new(&docker, APP);
    let wanted = app.picture();
    let taken = world.belay(&["backup", "app", "--json"]).ok().json();
    let taken = &taken["snapshots"][0];
    assert_eq!((&taken["sealed"], &taken["key_fit"]), (&true.into(), &"fit".into()), "{taken}");
    let id = taken["id"].as_str().unwrap();
    let shown = world.belay(&["show", id, "--json"]).ok().json();
    let manifest = &shown["manifest"];
    assert_eq!(manifest["version"], "v1.97", "{shown}");
    assert_eq!(manifest["edition"], "community", "{shown}");
    assert_eq!(app.supervised(), "", "nobody asked for it to be stopped");

    docker.run(&["rm", "-f", "-v", "app"]);
    docker.run(&["volume", "rm", "app-stacks"]);
    let app = Appsmith::start(&docker, "app", 0);
    let file = app.path("configuration/docker.env");
    let fresh = fs::read_to_string(&file).unwrap().replace("fixture-encryption", "fresh");
    fs::write(&file, &fresh).unwrap();
    world.belay(&["restore", id, "--into", "app", "--yes"]).ok();
    assert_same_text(&wanted, &app.picture());
    let restored = fs::read_to_string(&file).unwrap();
    assert!(restored.contains("APPSMITH_ENCRYPTION_PASSWORD=fixture-encryption-password"));
    let url = fresh.lines().find(|line| line.starts_with("APPSMITH_DB_URL")).unwrap();
    assert!(restored.contains(url), "the connection is the target's: {restored}");
    assert_eq!(app.supervised(), "stop backend rts\nstart backend rts\n");
    assert!(app.writers_run());
}
