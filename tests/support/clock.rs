//! A clock that runs ahead, for tests of what days and weeks bring: `belay` is run under it, and nothing else is.

use super::{Run, text};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The file and the library are there as long as this is.
pub struct Clock {
    directory: TempDir,
}

impl Clock {
    /// It shows what the machine's shows.
    pub fn new() -> Self {
        let clock = Self { directory: tempfile::tempdir().unwrap() };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", text(&clock.library())]);
        cc.arg(source);
        Run::of(cc).ok();
        clock.is_ahead(Duration::ZERO);
        clock
    }

    fn library(&self) -> PathBuf {
        self.directory.path().join("clock.so")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ahead")
    }

    /// So much ahead of the machine's, from now on: also in processes that run.
    pub fn is_ahead(&self, time: Duration) {
        let new = self.directory.path().join("new");
        fs::write(&new, time.as_secs().to_string()).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    /// The same command, by this clock.
    pub fn by(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", self.library()).env("CLOCK_OF_TESTS", self.file());
        command
    }
}
