//! A container like Appsmith's own: MongoDB with a login, Redis, a supervisor and git-storage, all on one volume, reached by
//! nothing but `docker exec`.

use super::mongod::{Mongod, picture_of, python_at};
use super::{Docker, mongod};
use crate::support::{Run, text, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const PASSWORD: &str = "fixture-mongo-pw";

/// What the container runs. The supervisor's programs are a file that is there while they run.
const MAIN: &str = r#"#!/usr/bin/bash
exec 2>&1
mkdir -p /appsmith-stacks/run
MONGOD --dbpath /appsmith-stacks/data/mongodb --port "$(cat /appsmith-stacks/data/port)" --bind_ip 127.0.0.1 --replSet mr1 \
  --keyFile /appsmith-stacks/data/mongodb/key --unixSocketPrefix /appsmith-stacks/run --wiredTigerCacheSizeGB 0.25 >/tmp/mongod.log 2>&1 &
redis-server --port 6379 --bind 127.0.0.1 --dir /appsmith-stacks/data/redis --unixsocket /appsmith-stacks/run/redis.sock >/tmp/redis.log 2>&1 &
touch /tmp/backend /tmp/rts
wait -n
cat /tmp/mongod.log /tmp/redis.log
"#;

const SUPERVISORCTL: &str = r#"#!/bin/sh
[ "$APPSMITH_SUPERVISOR_PASSWORD" = fixture-supervisor-pw ] || { echo "Server requires authentication"; exit 1; }
action=$1; shift
echo "$action $*" >> /appsmith-stacks/supervisor.log
for name in "$@"; do
  case $action in
    stop) rm -f "/tmp/$name"; echo "$name: stopped" ;;
    start) touch "/tmp/$name"; echo "$name: started" ;;
  esac
done
"#;

/// A container with its volume.
pub struct Appsmith<'a> {
    docker: &'a Docker,
    pub name: String,
    volume: String,
    stacks: PathBuf,
    port: u16,
}

impl<'a> Appsmith<'a> {
    /// The image that containers are made of.
    pub fn image(docker: &Docker) {
        let programs = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = programs.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let mongod = mongod::python_packages().join("fiftyone/db/bin/mongod");
        let mongod = text(&mongod);
        let main = write("main", &MAIN.replace("MONGOD", mongod));
        let supervisorctl = write("supervisorctl", SUPERVISORCTL);
        docker.image(
            "appsmith",
            &[
                mongod,
                "/usr/bin/bash",
                "/usr/bin/tar",
                "/usr/bin/find",
                "/usr/bin/redis-server",
                "/usr/bin/redis-check-rdb",
                "/usr/bin/redis-cli",
            ],
        );
        let [main, supervisorctl] = [&main, &supervisorctl].map(|path| path.display());
        let info = r#"{"version":"v1.97","commitSha":"0123456"}"#;
        // busybox takes its own programs before others, its shell and `env` among them.
        let build = format!(
            "docker run --name build appsmith rm /usr/bin/env /bin/sh && docker cp /usr/bin/env build:/usr/bin/env && docker cp /usr/bin/dash build:/bin/sh \
             && docker cp {main} build:/bin/main \
             && docker cp {supervisorctl} build:/bin/supervisorctl && mkdir -p info/opt/appsmith && echo '{info}' > info/opt/appsmith/info.json \
             && docker cp info/opt build:/ && docker commit build appsmith && docker rm build"
        );
        let (variable, value) = docker.variable();
        let mut command = std::process::Command::new("sh");
        let work = tempfile::tempdir().unwrap();
        command.args(["-ec", &build]).env(variable, value).current_dir(work.path());
        Run::of(command).ok();
    }

    /// A container whose database is the fixture, at this scale; zero is none.
    pub fn start(docker: &'a Docker, name: &str, scale: u32) -> Self {
        let volume = format!("{name}-stacks");
        docker.run(&["volume", "create", &volume]);
        let stacks = docker.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
        let stacks = PathBuf::from(stacks.trim());
        let mongodb = stacks.join("data/mongodb");
        for directory in ["data/mongodb", "data/redis", "configuration", "run"] {
            fs::create_dir_all(stacks.join(directory)).unwrap();
        }
        let server = Mongod::start_on(&mongodb);
        let port = server.port;
        if scale > 0 {
            server.seed("appsmith", scale);
        }
        server.python(&format!(
            "db = client.appsmith
db.command('createUser', 'appsmith', pwd={PASSWORD:?}, roles=['dbOwner', *({{'role': role, 'db': 'admin'}} for role in ['backup', 'restore', 'clusterMonitor'])])
db.command('createUser', 'test', pwd={PASSWORD:?}, roles=[{{'role': 'root', 'db': 'admin'}}])"
        ));
        server.shut_down();
        fs::write(mongodb.join("key"), "a key for a set of one member\n").unwrap();
        fs::set_permissions(mongodb.join("key"), fs::Permissions::from_mode(0o400)).unwrap();
        fs::write(stacks.join("data/port"), port.to_string()).unwrap();
        let environment = fs::read_to_string("tests/fixtures/appsmith/docker.env").unwrap();
        let environment = environment.replace("localhost:27017", &format!("localhost:{port}"));
        fs::write(stacks.join("configuration/docker.env"), environment).unwrap();
        let container = Self { docker, name: name.to_owned(), volume, stacks, port };
        container.run(&[]);
        container
    }

    /// Make the container on its volume, with variables of its own.
    pub fn run(&self, variables: &[(&str, &str)]) {
        let mount = format!("{}:/appsmith-stacks", self.volume);
        let mut arguments =
            vec!["run", "-d", "--network", "none", "--name", &self.name, "-v", &mount];
        arguments.extend(variables.iter().flat_map(|(name, _)| ["-e", *name]));
        arguments.extend(["appsmith", "/bin/main"]);
        let mut command = self.docker.command(&arguments);
        command.envs(variables.iter().copied());
        Run::of(command).ok();
        self.wait();
    }

    /// Remove it with its volume.
    pub fn remove(self) {
        self.docker.run(&["rm", "-f", "-v", &self.name]);
        self.docker.run(&["volume", "rm", &self.volume]);
    }

    /// Wait until it answers.
    pub fn wait(&self) {
        wait_until("the container's MongoDB", || {
            let running =
                self.docker.run(&["ps", "-q", "--filter", &format!("name={}", self.name)]);
            assert!(!running.trim().is_empty(), "{}", self.docker.run(&["logs", &self.name]));
            let asked =
                self.python_command("print(client.admin.command('hello')['isWritablePrimary'])");
            let mut asked = asked;
            asked.output().is_ok_and(|output| output.stdout.starts_with(b"True"))
        });
    }

    /// A path below `/appsmith-stacks`, as this host sees it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.stacks.join(name)
    }

    fn python_command(&self, script: &str) -> std::process::Command {
        let socket = self.stacks.join(format!("run/mongodb-{}.sock", self.port));
        let socket = socket.display().to_string().replace('/', "%2F");
        python_at(&format!("mongodb://test:{PASSWORD}@{socket}/appsmith"), script)
    }

    /// What a script prints that has `client`.
    #[track_caller]
    pub fn python(&self, script: &str) -> String {
        Run::of(self.python_command(script)).ok().stdout().trim().to_owned()
    }

    /// All that its database has.
    #[track_caller]
    pub fn picture(&self) -> String {
        self.python(&picture_of("appsmith"))
    }

    /// What its Redis answers.
    #[track_caller]
    pub fn redis(&self, arguments: &[&str]) -> String {
        let client = ["exec", &self.name, "redis-cli", "--raw"];
        self.docker.run(&[&client, arguments].concat()).trim().to_owned()
    }

    /// What its supervisor was told.
    pub fn supervised(&self) -> String {
        fs::read_to_string(self.path("supervisor.log")).unwrap_or_default()
    }

    /// What becomes of it when Belay is not heard of for too long.
    pub fn run_out_lease(&self) {
        let age = "touch -d '2000-01-01 00:00:00' /tmp/belay-stopped-*";
        self.docker.run(&["exec", &self.name, "sh", "-c", age]);
        wait_until("the timer", || self.writers_run());
    }

    /// Whether what writes runs.
    pub fn writers_run(&self) -> bool {
        let test = ["exec", &self.name, "sh", "-c", "[ -e /tmp/backend ] && [ -e /tmp/rts ]"];
        self.docker.command(&test).status().unwrap().success()
    }
}
