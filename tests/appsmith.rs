//! An Appsmith-shaped instance in one container, with MongoDB, Redis and git-storage on a volume: backed up and restored through
//! `docker:` and through `ssh:…/docker:…`.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;
use support::servers::{Appsmith, Docker, POSTGRES_PASSWORD, Postgres, Sshd};
use support::{
    Run, Running, Sandbox, Tree, assert_same, assert_same_text, text, wait_until, write_secret,
};

/// Belay with instances of an engine.
struct World {
    sandbox: Sandbox,
    variable: (&'static str, String),
}

impl World {
    fn new(docker: &Docker, instances: &str) -> Self {
        let sandbox = Sandbox::new();
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        write!(config, "\n[daemon]\nsocket = \"{}\"\n", text(&sandbox.path("belay.sock"))).unwrap();
        // Last: tests add to them.
        config.push_str(instances);
        fs::write(sandbox.config(), config).unwrap();
        Self { sandbox, variable: docker.variable() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.belay_command(arguments);
        command.env(self.variable.0, &self.variable.1);
        command
    }

    /// Run to its end, while no process on this machine shows a secret in its arguments.
    fn belay(&self, arguments: &[&str]) -> Run {
        let mut running = Running::start(self.command(arguments));
        while !running.has_ended() {
            // Looking all the time would take a processor from what is looked at.
            std::thread::sleep(Duration::from_millis(20));
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line);
                // The tests' own ways to the server.
                assert!(!shows_secret(&line) || line.contains("pymongo"), "{line}");
            }
        }
        let run = running.wait();
        assert!(!shows_secret(&[run.stdout(), run.stderr()].concat()), "{run}");
        run
    }

    /// Start Belay, and hold it up once what writes is stopped.
    fn start_until_stopped(&self, app: &Appsmith<'_>, arguments: &[&str]) -> Running {
        let stops = || app.supervised().matches("stop").count();
        let before = stops();
        let mut running = Running::start(self.command(arguments));
        wait_until("what writes to be stopped", || {
            assert!(!running.has_ended(), "{}", running.stderr_so_far());
            stops() > before
        });
        running.freeze();
        assert!(!app.writers_run(), "it was held up before it started them again");
        running
    }
}

fn shows_secret(text: &str) -> bool {
    ["fixture-mongo-pw", "fixture-encryption", "fixture-supervisor"]
        .iter()
        .any(|secret| text.contains(secret))
}

/// Stops the server once somebody has a cursor open on the large collection, and prints its process id.
const HOLDS_STILL_WHILE_MUCH_IS_READ: &str = "import os, signal, time
server = int(client.admin.command('serverStatus')['pid'])
argv = client.admin.command('getCmdLineOpts')['argv']
def is_it(pid):
    try: return open(f'/proc/{pid}/cmdline').read().split('\\0')[:-1] == argv
    except OSError: return False
# What is called so in its container has another number here.
[here] = [int(pid) for pid in os.listdir('/proc') if pid.isdigit() and is_it(pid)]
until = time.monotonic() + 180
look = [{'$currentOp': {'idleCursors': True, 'allUsers': True, 'localOps': True}}]
while not any(op.get('ns') == 'appsmith.much' for op in client.admin.aggregate(look)):
    assert time.monotonic() < until, 'nobody reads'
os.kill(here, signal.SIGSTOP)
print(server)";

const APP: &str = "\n[instance.app]\nplatform = \"appsmith\"\nvia = \"docker:app\"\n";

#[test]
fn an_instance_in_one_container_comes_back_into_a_new_one() {
    let docker = Docker::start();
    Appsmith::image(&docker);
    let (variable, socket) = docker.variable();
    let sshd = Sshd::start(&[(variable, &socket)]);
    for instances in [APP, &far(&sshd)] {
        comes_back_into_a_new_one(&docker, instances);
    }
}

/// An upgrade that goes back has stopped what writes, and only it knows which version may start on what is put back.
#[test]
fn a_restore_starts_nothing_that_an_upgrade_has_stopped() {
    let docker = Docker::start();
    Appsmith::image(&docker);
    let app = Appsmith::start(&docker, "app", 1);
    let world = World::new(&docker, APP);
    let wanted = app.picture();
    let taken = world.belay(&["backup", "app", "--json"]).ok().json();
    let id = taken["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let stopped = world.sandbox.state().join("stopped");
    fs::create_dir_all(&stopped).unwrap();
    fs::set_permissions(&stopped, fs::Permissions::from_mode(0o700)).unwrap();
    let note = r#"{"instance":"app","token":"0","by_upgrade":true}"#;
    write_secret(&stopped.join("app.json"), note);
    let run = world.belay(&["restore", &id, "--into", "app", "--yes"]).code_in(&[0, 3]);
    assert_same_text(&wanted, &app.picture());
    assert_eq!(app.supervised(), "", "neither stopped nor started: {run}");
    assert!(stopped.join("app.json").exists(), "it is still the upgrade's: {run}");
    app.remove();
}

/// The same behind ssh.
fn far(sshd: &Sshd) -> String {
    let app = APP.replace("docker:app", "ssh:far/docker:app");
    format!("\n[access]\nssh_config = \"{}\"\n{app}", sshd.config().display())
}

fn comes_back_into_a_new_one(docker: &Docker, instances: &str) {
    let app = Appsmith::start(docker, "app", 1);
    let world = World::new(docker, instances);
    let git = app.path("git-storage/ws1/app1/orders");
    fs::create_dir_all(&git).unwrap();
    fs::write(git.join("uncommitted work.js"), "export default {}\n").unwrap();
    std::os::unix::fs::chown(git.join("uncommitted work.js"), Some(1000), Some(1001)).unwrap();
    app.redis(&["SET", "spring:session:1", "a session"]);
    app.redis(&["HSET", "branches:app1", "main", "0123456"]);
    let wanted = app.picture();
    let git_before = Tree::read(&app.path("git-storage"));
    let taken = world.belay(&["backup", "app", "--json"]).ok().json();
    let taken = &taken["snapshots"][0];
    assert_eq!((&taken["sealed"], &taken["key_fit"]), (&true.into(), &"fit".into()), "{taken}");
    let id = taken["id"].as_str().unwrap();
    let shown = world.belay(&["show", id, "--json"]).ok().json();
    let manifest = &shown["manifest"];
    assert_eq!(manifest["version"], "v1.97", "{shown}");
    assert_eq!(manifest["edition"], "community", "{shown}");
    assert_eq!(app.supervised(), "", "nobody asked for it to be stopped");

    app.remove();
    let app = Appsmith::start(docker, "app", 0);
    let file = app.path("configuration/docker.env");
    let fresh = fs::read_to_string(&file).unwrap().replace("fixture-encryption", "fresh");
    fs::write(&file, &fresh).unwrap();
    app.redis(&["SET", "spring:session:2", "another"]);
    let dry = world.belay(&["restore", id, "--into", "app", "--dry-run"]).ok().stdout();
    assert!(dry.contains("directory git-storage: /appsmith-stacks/git-storage"), "{dry}");
    assert!(dry.contains("keys of the snapshot: APPSMITH_ENCRYPTION_PASSWORD"), "{dry}");
    world.belay(&["restore", id, "--into", "app", "--yes"]).ok();
    assert_same_text(&wanted, &app.picture());
    assert_same(&git_before, &Tree::read(&app.path("git-storage")), "git-storage");
    assert_eq!(app.redis(&["KEYS", "*"]), "branches:app1");
    assert_eq!(app.redis(&["HGET", "branches:app1", "main"]), "0123456");
    assert!(!app.path("ssl").exists());
    let restored = fs::read_to_string(&file).unwrap();
    assert!(restored.contains("APPSMITH_ENCRYPTION_PASSWORD=fixture-encryption-password"));
    let url = fresh.lines().find(|line| line.starts_with("APPSMITH_DB_URL")).unwrap();
    assert!(restored.contains(url), "the connection is the target's: {restored}");
    assert_eq!(app.supervised(), "stop backend rts\nstart backend rts\n");
    assert!(app.writers_run());

    // A part, over what was there.
    fs::write(app.path("git-storage/ws1/more"), "more").unwrap();
    let part = ["restore", id, "--into", "app", "--yes", "--component", "git-storage"];
    world.belay(&part).ok();
    assert_same(&git_before, &Tree::read(&app.path("git-storage")), "git-storage");
    let before = ["restore", "latest:app", "--into", "app", "--yes"];
    world.belay(&before).ok();
    let state = Command::new("grep").args(["-rla", "fixture-"]).arg(world.sandbox.state()).output();
    assert_eq!(
        String::from_utf8_lossy(&state.unwrap().stdout),
        "",
        "secrets in the state directory"
    );
    app.remove();
}

#[test]
fn what_writes_is_started_again_whatever_ends_a_backup() {
    let docker = Docker::start();
    Appsmith::image(&docker);
    let app = Appsmith::start(&docker, "app", 1);
    let world = World::new(&docker, &format!("{APP}quiesce = true\n"));
    fs::create_dir(app.path("git-storage")).unwrap();
    fs::write(app.path("git-storage/work"), "work").unwrap();
    let wanted = app.picture();
    let taken = world.belay(&["backup", "app", "--json"]).ok().json();
    let id = taken["snapshots"][0]["id"].as_str().unwrap();
    assert_eq!(taken["snapshots"][0]["warnings"], serde_json::json!([]), "{taken}");
    assert_eq!(app.supervised(), "stop backend rts\nstart backend rts\n");

    // Killed: the next start starts what it has left.
    world.start_until_stopped(&app, &["backup", "app"]).kill();
    assert!(!app.writers_run());
    let status = world.belay(&["status"]).code(3).stdout();
    assert!(status.contains("has stopped what writes to app"), "{status}");
    let again = world.belay(&["backup", "app"]).ok();
    assert!(again.stderr().contains("is started again"), "{}", again.stderr());
    assert!(app.writers_run());
    let status = world.belay(&["status"]).code(3).stdout();
    assert!(!status.contains("has stopped"), "{status}");

    // Killed, and nobody backs it up: a daemon that starts does not leave it so either.
    world.start_until_stopped(&app, &["backup", "app"]).kill();
    assert!(!app.writers_run());
    let daemon = Running::start(world.command(&["daemon"]));
    wait_until("what writes to be started again", || app.writers_run());
    daemon.signal(Signal::TERM);
    daemon.wait().ok();

    whatever_ends_a_restore(&world, &app, id, &wanted);

    // Asked to stop.
    let mut running = world.start_until_stopped(&app, &["backup", "app"]);
    running.signal(Signal::INT);
    running.thaw();
    running.wait().code(130);
    assert!(app.writers_run());

    // What it reads is not there.
    app.python("client.appsmith.command('updateUser', 'appsmith', pwd='another')");
    let failed = world.belay(&["backup", "app"]).code(1);
    failed.says(&["component mongodb of app", "refused the login"]);
    assert!(app.writers_run());
    app.python("client.appsmith.command('updateUser', 'appsmith', pwd='fixture-mongo-pw')");

    // The container ends under it.
    let count = world.sandbox.list().len();
    let mut running = world.start_until_stopped(&app, &["backup", "app"]);
    docker.run(&["kill", "app"]);
    running.thaw();
    running.wait().code(1).says(&["app", "hint:"]);
    assert_eq!(world.sandbox.list().len(), count);
    docker.run(&["start", "app"]);
    app.wait();
    assert!(app.writers_run());
    world.belay(&["backup", "app"]).ok();
}

#[test]
fn a_line_that_is_cut_while_it_reads_leaves_nothing_stopped() {
    let docker = Docker::start();
    Appsmith::image(&docker);
    let app = Appsmith::start(&docker, "app", 1);
    app.python(
        "import os\nfor _ in range(60): client.appsmith.much.insert_one({'x': os.urandom(1 << 20)})",
    );
    let (variable, socket) = docker.variable();
    let sshd = Sshd::start(&[(variable, &socket)]);
    let far = far(&sshd) + "quiesce = true\n";
    let behind_ssh = World::new(&docker, &far);
    let mut running = Running::start(behind_ssh.command(&["backup", "app"]));
    // Its server holds still in the middle of the large collection, however fast it is read.
    let server = app.python(HOLDS_STILL_WHILE_MUCH_IS_READ);
    let parent = sshd.id().to_string();
    let connections = Command::new("pgrep").args(["-P", &parent]).output().unwrap().stdout;
    let connections = String::from_utf8(connections).unwrap();
    assert!(!running.has_ended(), "{}", running.stderr_so_far());
    // One that had nothing more to do may have ended by itself meanwhile.
    let kill = |id: &&str| Command::new("kill").args(["-9", *id]).status().unwrap().success();
    assert_ne!(connections.lines().filter(kill).count(), 0, "{connections}");
    docker.run(&["exec", "app", "kill", "-CONT", &server]);
    running.wait().code(1).says(&["component mongodb of app", "ssh", "hint:"]);
    assert!(app.writers_run());
    assert!(behind_ssh.sandbox.list().is_empty());
}

fn whatever_ends_a_restore(world: &World, app: &Appsmith<'_>, id: &str, wanted: &str) {
    // The lease has run out meanwhile.
    let mut running = world.start_until_stopped(app, &["backup", "app", "--json"]);
    app.run_out_lease();
    running.thaw();
    let late = running.wait().code(3).stdout();
    assert!(late.contains("not all is of one moment"), "{late}");
    let restore = ["restore", id, "--into", "app", "--yes"];
    let mut running = world.start_until_stopped(app, &restore);
    app.python("client.appsmith.late.insert_one({})");
    app.run_out_lease();
    running.thaw();
    running.wait().code(1).says(&["was started again before its new state was in place"]);
    assert!(app.writers_run() && app.picture().contains("late"));

    // Killed while it swaps: nobody starts them, and what is written nevertheless is kept.
    let journal = world.sandbox.state().join("collection-restores/app.json");
    let mut running = Running::start(world.command(&restore));
    wait_until("the swap", || {
        assert!(!running.has_ended(), "{}", running.stderr_so_far());
        fs::read_to_string(&journal).is_ok_and(|journal| journal.contains("\"swapping\""))
    });
    running.kill();
    assert!(!app.writers_run());
    let _ = fs::write(app.path("git-storage/later"), "five hours of work");
    app.redis(&["SET", "branches:later", "1"]);
    let finished = world.belay(&["backup", "app"]).code(3);
    finished.says(&["Kept from before it: ", "belay_old_", "Redis is not flushed"]);
    assert_eq!(app.redis(&["GET", "branches:later"]), "1", "no snapshot has it");
    app.python(
        "[client.appsmith.drop_collection(name) for name in client.appsmith.list_collection_names() if name.startswith('belay_old_')]",
    );
    assert_same_text(wanted, &app.picture());
    assert!(app.writers_run());
    let find = Command::new("find").arg(app.path("")).args(["-name", "later"]).output().unwrap();
    assert!(!find.stdout.is_empty(), "it is in its place or aside");

    // A Redis that does not let itself be flushed decides nothing over the rest.
    app.redis(&["ACL", "SETUSER", "default", "-flushall"]);
    world.belay(&restore).code(3).says(&["is restored, but its Redis is not", "--component redis"]);
    assert_same_text(wanted, &app.picture());
    assert!(app.writers_run() && !journal.exists());
    app.redis(&["ACL", "SETUSER", "default", "+flushall"]);
}

#[test]
fn keys_that_do_not_fit_are_found_and_the_container_s_own_count() {
    let docker = Docker::start();
    Appsmith::image(&docker);
    let app = Appsmith::start(&docker, "app", 1);
    let world = World::new(&docker, APP);
    let verdict = |taken: &Run| taken.json()["snapshots"][0]["key_fit"].clone();
    let file = app.path("configuration/docker.env");
    let right = fs::read_to_string(&file).unwrap();
    fs::write(&file, right.replace("fixture-encryption-salt", "another")).unwrap();
    let taken = world.belay(&["backup", "app", "--json"]).code(4);
    assert_eq!(verdict(&taken), "unfit");
    fs::write(&file, right.replace("APPSMITH_ENCRYPTION_SALT", "NOTHING")).unwrap();
    let taken = world.belay(&["backup", "app", "--json"]).code(4);
    assert!(taken.stdout().contains("APPSMITH_ENCRYPTION_SALT is not set"), "{}", taken.stdout());
    assert!(world.belay(&["list"]).ok().stdout().contains("unfit"));

    // The file is wrong, and overridden by the container's own.
    docker.run(&["rm", "-f", "app"]);
    app.run(&[("APPSMITH_ENCRYPTION_SALT", "fixture-encryption-salt")]);
    let taken = world.belay(&["backup", "app", "--json"]).ok();
    assert_eq!(verdict(&taken), "fit");

    // Its own PostgreSQL, of which the configuration says.
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE keycloak");
    postgres.sql("keycloak", "CREATE TABLE realm AS SELECT 'apps' AS name");
    write_secret(&world.sandbox.path("pg"), POSTGRES_PASSWORD);
    let mut config = fs::read_to_string(world.sandbox.config()).unwrap();
    config.extend([format!(
        "component.postgres = {{ via = \"local\", host = \"127.0.0.1\", port = {}, user = \"postgres\", password = \"file:{}\" }}\n",
        postgres.port,
        text(&world.sandbox.path("pg"))
    )]);
    fs::write(world.sandbox.config(), config).unwrap();
    world.belay(&["backup", "app"]).ok();
    postgres.sql("postgres", "DROP DATABASE keycloak");
    let dry = world.belay(&["restore", "latest:app", "--into", "app", "--dry-run"]).ok().stdout();
    assert!(dry.contains("WARNING: PostgreSQL's databases come back"), "{dry}");
    let restore = ["restore", "latest:app", "--into", "app", "--yes", "--component", "postgres"];
    world.belay(&restore).ok();
    assert_eq!(postgres.sql("keycloak", "SELECT name FROM realm").trim(), "apps");
}

#[test]
fn a_newcomer_needs_a_password_and_what_discover_prints() {
    let docker = Docker::start();
    Appsmith::image(&docker);
    let (variable, socket) = docker.variable();
    let sandbox = Sandbox::without_repository();
    let belay = |arguments: &[&str]| {
        let mut command = sandbox.belay_command(arguments);
        command.env(variable, &socket).env("BELAY_CREDENTIALS_DIR", sandbox.path("credentials"));
        Run::of(command)
    };
    let _ = fs::remove_file(sandbox.config());
    belay(&["discover"]).code(1).says(&["no container of Appsmith or ToolJet runs", "hint:"]);
    let app = Appsmith::start(&docker, "app", 1);
    docker.run(&["rm", "-f", "app"]);
    app.run(&[("APPSMITH_ENCRYPTION_SALT", "fixture-encryption-salt")]);
    docker.run(&["run", "-d", "--name", "other", "appsmith", "sleep", "1000000"]);
    let found = belay(&["discover"]).ok();
    let config = found.stdout();
    assert!(config.contains("# appsmith v1.97, from the image appsmith"), "{config}");
    assert!(config.contains("#   MongoDB runs inside of it"), "{config}");
    assert!(
        config.contains("via = \"docker:app\"") && !config.contains("docker:other"),
        "{config}"
    );
    assert!(!config.contains("fixture-"), "{config}");
    let json = belay(&["discover", "--json"]).ok().json();
    assert_eq!(json["instances"][0]["platform"], "appsmith", "{json}");

    let config = config.replace("/srv/backup/belay", text(&sandbox.repository()));
    let state = format!("\n[state]\ndir = \"{}\"\n", text(&sandbox.state()));
    fs::write(sandbox.config(), config + &state).unwrap();
    fs::create_dir_all(sandbox.path("credentials")).unwrap();
    write_secret(&sandbox.path("credentials/repository-password"), "a long password");
    belay(&["init"]).ok();
    let taken = belay(&["backup", "--all", "--json"]).ok().json();
    assert_eq!(taken["snapshots"][0]["key_fit"], "fit", "{taken}");

    // ToolJet of a compose project, whose server's container is called otherwise than its service.
    docker.run(&["tag", "appsmith", "postgres:15"]);
    let labels = ["-l", "com.docker.compose.project=tools", "-l"];
    let server = ["run", "-d", "--name", "tools-server-1", "-e", "LOCKBOX_MASTER_KEY"];
    let mut command = docker.command(&server);
    command.args(labels).arg("com.docker.compose.service=server");
    command.args(["-e", "PG_DB=tj", "-e", "PG_HOST=postgresql", "appsmith", "sleep", "1000000"]);
    command.env("LOCKBOX_MASTER_KEY", "fixture-lockbox");
    Run::of(command).ok();
    let mut command = docker.command(&["run", "-d", "--name", "tools-db-1"]);
    command.args(labels).arg("com.docker.compose.service=postgresql");
    command.args(["postgres:15", "sleep", "1000000"]);
    Run::of(command).ok();
    let json = belay(&["discover", "--json"]).ok().json();
    let config = json["config"].as_str().unwrap();
    let platforms: Vec<&str> = json["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["platform"].as_str().unwrap())
        .collect();
    assert_eq!(
        (platforms.contains(&"appsmith"), platforms.contains(&"tooljet")),
        (true, true),
        "{json}"
    );
    assert!(config.contains("component.postgres = { via = \"docker:tools-db-1\" }"), "{config}");
}
