//! A Redis server with a password.

use super::{Server, free_port};
use crate::support::{Run, wait_until};
use std::fs;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub const PASSWORD: &str = "p@ss:w0rd-of-redis";

pub struct Redis {
    _directory: TempDir,
    server: Server,
    pub port: u16,
}

impl Redis {
    pub fn start() -> Self {
        Self::with_file(None)
    }

    /// With what is in this file.
    pub fn with_file(file: Option<&str>) -> Self {
        let directory = tempfile::Builder::new().prefix("belay-redis-").tempdir().unwrap();
        let port = free_port();
        if let Some(file) = file {
            fs::copy(file, directory.path().join("dump.rdb")).unwrap();
        }
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--requirepass", PASSWORD])
            .args(["--save", "", "--appendonly", "no", "--enable-debug-command", "yes", "--dir"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("redis-server is installed");
        let mut redis = Self { _directory: directory, server: Server(child), port };
        wait_until("Redis to answer", || {
            redis.server.assert_runs("");
            let answer = redis.command(&["ping"]).output().unwrap();
            answer.stdout == b"PONG\n"
        });
        redis
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(words).env("REDISCLI_AUTH", PASSWORD);
        command
    }

    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        Run::of(self.command(words)).ok().stdout().trim().to_owned()
    }

    /// A sum over all that it holds.
    pub fn digest(&self) -> String {
        self.run(&["debug", "digest"])
    }

    /// Without a password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.server.stop(rustix::process::Signal::TERM);
    }
}
