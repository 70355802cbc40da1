//! A PostgreSQL server with passwords, and its programs.

use super::{Server, free_port};
use crate::support::{Run, wait_until};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The superuser's password.
pub const PASSWORD: &str = "superuser-password-of-tests";

/// Small segments: a copy of a server's files is half as large with them.
const INITDB: [&str; 8] =
    ["-A", "scram-sha-256", "-U", "postgres", "-N", "-E", "UTF8", "--wal-segsize=1"];

pub struct Postgres {
    directory: TempDir,
    server: Server,
    pub port: u16,
}

/// Where Debian has the programs: the newest version.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL's server is installed")
}

/// A command as the user `postgres`: the server refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

fn chown(path: &Path) {
    let status = Command::new("chown").arg("postgres:").arg(path).status().unwrap();
    assert!(status.success());
}

/// A copy of the files of a server that was never started. `initdb` takes several times as long as the copy: it runs once for all tests
/// of a target directory.
fn copy_cluster(data: &Path) {
    let programs = programs();
    // Another one for other programs or arguments.
    let mut kind = DefaultHasher::new();
    (&programs, INITDB, PASSWORD).hash(&mut kind);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgresql");
    let made = place.join(format!("{:x}", kind.finish()));
    if !made.exists() {
        make_cluster(&programs, &made);
    }
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(&made).arg(data);
    Run::of(copy).ok();
}

fn make_cluster(programs: &Path, made: &Path) {
    let directory = tempfile::Builder::new().prefix("belay-pg-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("password"), PASSWORD).unwrap();
    chown(directory.path());
    chown(&path("password"));
    let mut initdb = as_postgres(&programs.join("initdb"));
    initdb.args(INITDB).arg("--pwfile").arg(path("password")).arg("-D").arg(path("data"));
    Run::of(initdb).ok();
    let parent = made.parent().unwrap();
    fs::create_dir_all(parent).unwrap();
    // Under a name of its own first: a copy finds it whole. Of several that make it at once the first is kept.
    let unfinished = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(parent).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(path("data")).arg(unfinished.path().join("data"));
    Run::of(copy).ok();
    let renamed = fs::rename(unfinished.path().join("data"), made);
    assert!(renamed.is_ok() || made.exists(), "{renamed:?}");
}

impl Postgres {
    /// With the superuser `postgres` and [`PASSWORD`].
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With settings of its own, each as `name=value`.
    pub fn start_with(settings: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("belay-pg-").tempdir().unwrap();
        chown(directory.path());
        let data = directory.path().join("data");
        copy_cluster(&data);
        let port = free_port();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut command = as_postgres(&programs().join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(directory.path());
        command.args([
            "-p",
            &port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
            "-c",
            "shared_buffers=16MB",
        ]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut postgres = Self { directory, server: Server(child), port };
        wait_until("PostgreSQL to take connections", || {
            let log = fs::read_to_string(postgres.directory.path().join("log")).unwrap_or_default();
            postgres.server.assert_runs(&log);
            // Its last line, once connections are taken.
            let state = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            state.lines().nth(7).is_some_and(|state| state.trim() == "ready")
        });
        postgres
    }

    /// The directory of its socket, in which tests may put things of their own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// One of the programs, connecting as the superuser.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", PASSWORD)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    fn psql_command(&self, database: &str) -> Command {
        let mut command = self.program("psql");
        // As an argument a name could be taken for a connection string.
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).env("PGDATABASE", database);
        command
    }

    /// What statements answer with, as the superuser.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let mut command = self.psql_command(database);
        command.args(["-c", statements]);
        Run::of(command).ok().stdout()
    }

    /// The same as somebody else, whose connection may fail.
    pub fn sql_as(&self, user: &str, password: &str, database: &str, statements: &str) -> Run {
        let mut command = self.psql_command(database);
        command.env("PGUSER", user).env("PGPASSWORD", password).args(["-c", statements]);
        Run::of(command)
    }

    /// Run a script.
    #[track_caller]
    pub fn script(&self, path: &Path) {
        let mut command = self.psql_command("postgres");
        command.arg("-f").arg(path);
        Run::of(command).ok();
    }

    /// A program of PostgreSQL's with these arguments, which has to do well.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = self.program(program);
        command.args(arguments);
        Run::of(command).ok().stdout()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT: clients are cut off, and it ends in an orderly way.
        self.server.stop(rustix::process::Signal::INT);
    }
}
