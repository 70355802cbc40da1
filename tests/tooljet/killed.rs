//! `belay restore --into`, killed at each of its steps: the old state or the new one serves, and running it again finishes.
//!
//! Steps are those of PostgreSQL's programs (`killing.py`). Some of them are taken here, all in `tests/soak`.

use crate::support::{self, Run, Running, size, text, wait_until};
use crate::{Instance, assert_workspaces_work, picture, workspaces};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

const DATABASES: [&str; 2] = ["tooljet_production", "tooljet_db"];

/// PostgreSQL's programs, each behind one that kills Belay at a step.
struct Killing(PathBuf);

impl Killing {
    fn new(instance: &Instance) -> Self {
        let killing = Self(instance.sandbox.path("killing"));
        let tools = killing.0.join("tools");
        fs::create_dir_all(&tools).unwrap();
        let real = Command::new("sh")
            .args(["-c", "ls -d /usr/lib/postgresql/*/bin | tail -1"])
            .output()
            .unwrap();
        let real = String::from_utf8(real.stdout).unwrap().trim().to_owned();
        let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tooljet/killing.py");
        for program in ["psql", "pg_dump", "pg_dumpall", "pg_restore"] {
            let path = tools.join(program);
            let script = format!(
                "#!/bin/sh\n[ \"$1\" = --version ] && exec {real}/{program} --version\nexec /usr/bin/python3 {stand_in} {} {real}/{program} \"$@\"\n",
                text(&killing.0)
            );
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        instance.configure(&format!("component.postgres.tools = \"{}\"", tools.display()));
        killing
    }

    /// Kill at this step, counted from 1.
    fn at(&self, step: usize) {
        fs::write(self.0.join("kill-at"), step.to_string()).unwrap();
        fs::write(self.0.join("steps"), "").unwrap();
    }

    /// The steps that were made, and the one at which it was killed.
    fn steps(&self) -> Vec<String> {
        let steps = fs::read_to_string(self.0.join("steps")).unwrap();
        steps.lines().map(ToOwned::to_owned).collect()
    }
}

/// Of an instance that was backed up, and became another since.
struct Scene {
    instance: Instance,
    killing: Killing,
    snapshot: String,
    /// What the snapshot brings back.
    good: String,
    /// The environment file then and since.
    files: [String; 2],
    roles: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let instance = Instance::new(1);
        instance.backup().ok();
        let snapshot = instance.sandbox.list().pop().unwrap().id;
        let good = picture(&instance.postgres);
        let file = fs::read_to_string(instance.environment_path()).unwrap();
        let files = [file.replace("=02020202", "=0b0b0b0b"), file];
        assert_ne!(files[0], files[1]);
        let roles = workspaces(&instance.postgres).into_iter().map(|(role, _)| role).collect();
        let killing = Killing::new(&instance);
        killing.at(0);
        Self { instance, killing, snapshot, good, files, roles }
    }

    /// A table more in each database, a role that changed, one that is gone, and another key.
    fn wreck(&self) {
        for database in DATABASES {
            self.instance.postgres.sql(database, "CREATE TABLE since_then (a int)");
        }
        let [changed, gone] = self.roles.as_slice() else { panic!("two workspaces") };
        self.instance.postgres.sql("tooljet_db", &format!("ALTER ROLE \"{changed}\" PASSWORD 'another' CONNECTION LIMIT 3; DROP OWNED BY \"{gone}\"; DROP ROLE \"{gone}\""));
        self.instance.set_environment(&self.files[0]);
    }

    fn restore(&self) -> Run {
        self.instance.sandbox.belay(&["restore", &self.snapshot, "--into", "tj", "--yes"])
    }

    /// Both databases can be connected to, and are of one state, with the role that changes with them. Tells whether it is
    /// the restored one.
    #[track_caller]
    fn is_restored(&self) -> bool {
        let postgres = &self.instance.postgres;
        let is_new = DATABASES.map(|database| {
            postgres.sql(database, "SELECT to_regclass('since_then') IS NULL").trim() == "t"
        });
        let limit =
            format!("SELECT rolconnlimit FROM pg_roles WHERE rolname = '{}'", self.roles[0]);
        let is_new_role = postgres.sql("postgres", &limit).trim() == "-1";
        assert_eq!([is_new_role; 2], is_new, "half old, half new");
        let file = fs::read_to_string(self.instance.environment_path()).unwrap();
        assert!(file == self.files[0] || (is_new_role && file == self.files[1]));
        is_new_role
    }

    /// Databases that restores have made, or put aside.
    fn made(&self) -> String {
        let made = "SELECT datname FROM pg_database WHERE datname LIKE 'belay%'";
        self.instance.postgres.sql("postgres", made)
    }

    /// All is as in the snapshot, and nothing is left of any restore beside it.
    #[track_caller]
    fn assert_good(&self) {
        support::assert_same_text(&self.good, &picture(&self.instance.postgres));
        assert_workspaces_work(&self.instance.postgres, 1);
        let file = fs::read_to_string(self.instance.environment_path()).unwrap();
        assert_eq!(file, self.files[1]);
        assert!(!self.instance.sandbox.path("tooljet.env.belay-new").exists());
        let journals = support::files_in(&self.instance.sandbox.state().join("database-restores"));
        assert!(journals.is_empty(), "{journals:?}");
    }
}

/// Steps that are always taken, one after the other, each with the one before it: on both sides of all that changes something.
const BOUNDARIES: [[&str; 2]; 12] = [
    // Roles are made.
    ["COMMIT", "end of the answer"],
    ["pg_restore: part", "pg_restore: ends"],
    // The settings of a database.
    ["COMMIT", "end of the answer"],
    ["IN DATABASE", "COMMIT"],
    // The new environment file is there.
    ["end of the answer", "psql: starts"],
    ["pg_dump: starts", "pg_dump: part"],
    // The present state is saved.
    ["pg_dump: ends", "psql: starts"],
    // The names are exchanged.
    ["ALLOW_CONNECTIONS true", "COMMIT"],
    ["COMMIT", "end of the answer"],
    // The environment file is in its place.
    ["end of the answer", "psql: starts"],
    ["DROP DATABASE IF EXISTS \"belay_old", "end of the answer"],
    ["DROP DATABASE IF EXISTS \"belay_old", "end of the answer"],
];

/// The boundaries among the steps of a restore, counted from 1.
fn boundaries(steps: &[String]) -> Vec<usize> {
    let mut at = 0;
    let mut next = |[before, step]: [&str; 2]| {
        let is_it = |pair: &[String]| pair[0].contains(before) && pair[1].contains(step);
        let found = steps[at..].windows(2).position(is_it);
        at += 1 + found.unwrap_or_else(|| panic!("no '{step}' after '{before}': {steps:#?}"));
        at + 1
    };
    BOUNDARIES.map(&mut next).to_vec()
}

/// Kill the restore at a step, and see what is there, and that the next run finishes.
fn round(scene: &Scene, step: usize, is_past_swap: bool) {
    let Scene { instance, killing, .. } = scene;
    scene.wreck();
    let wrecked = picture(&instance.postgres);
    killing.at(step);
    let killed = scene.restore();
    let steps = killing.steps();
    let what = format!("step {step} of {}: {:?}\n{killed}", steps.len(), steps.get(step - 1));
    // Its other programs may have come a little further.
    assert!(killed.signal() == Some(9) && steps.len() >= step, "{what}");
    killing.at(0);
    assert_eq!(scene.is_restored(), is_past_swap, "{what}");
    if step.is_multiple_of(3) {
        instance.backup().code_in(&[0, 3]);
        let after = picture(&instance.postgres);
        support::assert_same_text(if is_past_swap { &scene.good } else { &wrecked }, &after);
    }
    scene.restore().code_in(&[0, 3]);
    scene.assert_good();
    assert_eq!(scene.made(), "", "{what}");
}

#[test]
fn a_restore_that_is_killed_serves_the_old_state_or_the_new_and_the_next_run_finishes() {
    let scene = Scene::new();
    scene.wreck();
    scene.killing.at(0);
    scene.restore().ok();
    scene.assert_good();
    let steps = scene.killing.steps();
    let boundaries = boundaries(&steps);
    let swapped = boundaries[7];
    let chosen = match size("BELAY_KILL_RESTORE_EVERY", 0) as usize {
        0 => boundaries,
        every => (1..=steps.len()).filter(|step| step.is_multiple_of(every)).collect(),
    };
    for step in chosen {
        round(&scene, step, step > swapped);
    }
}

#[test]
fn what_a_killed_restore_left_at_work_on_the_server_has_ended_before_the_next_one_begins() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let good = picture(&instance.postgres);
    let arguments = ["restore", "latest:tj", "--into", "tj", "--yes"];
    let count = |condition: &str| {
        let query = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
        instance.postgres.sql("postgres", &query).trim().to_owned()
    };
    // Somebody is at work on one of the databases for as long as it takes.
    let mut holder = instance.postgres.program("psql");
    let holds = "BEGIN; COMMENT ON DATABASE tooljet_db IS 'held'; SELECT pg_sleep(100000)";
    holder.args(["-d", "postgres", "-c", holds]);
    let holder = Running::start(holder);
    wait_until("somebody to be at work", || count("wait_event = 'PgSleep'") == "1");
    let exchanging = "wait_event_type = 'Lock' AND application_name LIKE 'belay%'";
    let killed = instance.sandbox.start(&arguments);
    wait_until("the exchange to begin", || count(exchanging) == "1");
    let of_first =
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let of_first = instance.postgres.sql("postgres", of_first);
    let first = format!("application_name = '{}'", of_first.trim());
    killed.kill();
    assert_eq!(count(&format!("{exchanging} AND {first}")), "1", "it is still at work");

    let next = instance.sandbox.start(&arguments);
    wait_until("the next one to come as far", || {
        count(&format!("{exchanging} AND NOT {first}")) == "1"
    });
    assert_eq!(count(&first), "0");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    instance.postgres.sql("postgres", end);
    holder.wait();
    next.wait().code_in(&[0, 3]);
    support::assert_same_text(&good, &picture(&instance.postgres));
    assert_workspaces_work(&instance.postgres, 1);
    let made = "SELECT count(*) FROM pg_database WHERE datname LIKE 'belay%'";
    assert_eq!(instance.postgres.sql("postgres", made).trim(), "0");
}
