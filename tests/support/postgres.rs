//! A private PostgreSQL server: its own directory, a free port on loopback, and a socket. It ends with the test.

use belay::access::Access;
use belay::component::postgres::{Connection, Target};
use belay::model::event::Cancel;
use belay::model::via::Via;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where the programs are.
pub const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Connections through the socket are trusted; those through the port need a password.
const SETTINGS: &str = "listen_addresses = '127.0.0.1'
fsync = off
max_prepared_transactions = 10
wal_level = logical
shared_buffers = 16MB
";

pub struct PostgresServer {
    directory: TempDir,
    pub port: u16,
    process: Child,
}

/// A program as the user `postgres`, as whom alone the server's own run.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]);
    command.arg(format!("{PROGRAMS}/{program}")).current_dir("/").stdin(Stdio::null());
    command
}

impl PostgresServer {
    pub fn start() -> Self {
        super::require_root("the server runs as the user postgres");
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let owned = Command::new("chown").arg("postgres:").arg(&data).status().unwrap();
        assert!(owned.success(), "there is no user postgres: apt-get install postgresql");
        let made = as_postgres("initdb")
            .args([
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .output()
            .expect("initdb is there: apt-get install postgresql");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut settings =
            fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        settings.write_all(SETTINGS.as_bytes()).unwrap();
        let port = super::servers::free_port();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let process = as_postgres("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-k"])
            .arg(&data)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { directory, port, process };
        let begun = Instant::now();
        // Its last line, once connections are taken.
        let state = server.socket().join("postmaster.pid");
        let is_ready = |state: String| state.lines().nth(7).is_some_and(|it| it.trim() == "ready");
        while !fs::read_to_string(&state).is_ok_and(is_ready) {
            assert!(begun.elapsed() < Duration::from_mins(1), "{}", server.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        server
    }

    /// The directory with its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory that goes with the server.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// One of the client programs, which connects as the superuser.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(format!("{PROGRAMS}/{name}"));
        command
            .env("LC_ALL", "C")
            .env("PGHOST", self.socket())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .stdin(Stdio::null());
        command
    }

    /// `psql` in a database, not started yet; the statements are an argument.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = self.program("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).env("PGDATABASE", database);
        command
    }

    /// What statements answer with. They have to succeed.
    pub fn run(&self, database: &str, statements: &str) -> String {
        Self::output(self.psql(database).args(["-c", statements]))
    }

    /// Runs a file of statements.
    pub fn run_file(&self, path: &Path) {
        Self::output(self.psql("postgres").arg("-f").arg(path));
    }

    /// The same as a role with a password, through the port.
    pub fn run_as(&self, role: &str, password: &str, database: &str, statements: &str) -> String {
        Self::output(
            self.psql(database)
                .env("PGHOST", "127.0.0.1")
                .env("PGUSER", role)
                .env("PGPASSWORD", password)
                .args(["-c", statements]),
        )
    }

    /// What a program says on its standard output. It has to end well.
    pub fn output(command: &mut Command) -> String {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// How it is reached, as the superuser.
    pub fn target(&self) -> Target {
        Target {
            host: Some(self.socket().to_str().unwrap().to_owned()),
            port: Some(self.port),
            user: Some("postgres".into()),
            password: None,
            ssl_mode: None,
            tools: Some(PROGRAMS.into()),
        }
    }

    /// Belay's own connection, which its server's list names `application`.
    pub fn connect(&self, application: &str) -> Connection {
        let access = Access::new(Via::local(), None, &Cancel::new());
        Connection::open(access, self.target(), "postgres", application).unwrap()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // SIGQUIT ends it at once.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.process.wait();
    }
}
