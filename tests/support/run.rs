//! Running a command to its end, or beside the test: with its output, its exit code, and signals to it.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Nothing that is waited for here takes longer on a slow machine, short of never happening.
const PATIENCE: Duration = Duration::from_mins(5);

/// Returns when `condition` holds; fails when it does not for minutes.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A command that ended.
pub struct Run {
    command: String,
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Run {
    pub fn of(command: Command) -> Self {
        Running::start(command).wait()
    }

    /// The same of one that does much, such as starting containers again and again: on a busy machine that takes a while.
    pub fn of_long(command: Command) -> Self {
        Running::start(command).wait_for(PATIENCE * 6)
    }

    /// It must have exited 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// It must have exited with `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// It must have exited with one of `codes`.
    #[track_caller]
    pub fn code_in(self, codes: &[i32]) -> Self {
        assert!(
            self.status.code().is_some_and(|code| codes.contains(&code)),
            "one of {codes:?} was expected: {self}"
        );
        self
    }

    /// The error output must have all `words`, in any case.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let said = self.stderr().to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "'{word}' was expected: {self}");
        }
        self
    }

    /// The exit code; none when a signal ended it.
    pub fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The last JSON value of the standard output: commands that tell events print their result last.
    #[track_caller]
    pub fn json(&self) -> Value {
        let values: Result<Vec<Value>, _> =
            serde_json::Deserializer::from_slice(&self.stdout).into_iter().collect();
        match values {
            Ok(mut values) if !values.is_empty() => values.pop().unwrap(),
            Ok(_) => panic!("no JSON was printed: {self}"),
            Err(error) => panic!("{error}: {self}"),
        }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, .. } = self;
        write!(
            formatter,
            "{command}\n{status}\nstdout:\n{}\nstderr:\n{}",
            self.stdout(),
            self.stderr()
        )
    }
}

/// A command that runs beside the test. It is killed with this handle.
pub struct Running {
    command: String,
    child: Child,
    // Files rather than pipes: a full pipe would stop the command.
    stdout: File,
    stderr: File,
    frozen: bool,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let stdout = tempfile::tempfile().unwrap();
        let stderr = tempfile::tempfile().unwrap();
        command.stdin(Stdio::null());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{program} cannot be started ({error}): tests/run installs what tests need")
        });
        Self { command: format!("{command:?}"), child, stdout, stderr, frozen: false }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself meanwhile.
        kill_process(Pid::from_child(&self.child), signal).ok();
    }

    /// Ends it as a power cut would.
    pub fn kill(self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Stops it where it is, and returns when it stands still. It must not have ended yet.
    #[track_caller]
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
        self.frozen = true;
        let stat = format!("/proc/{}/stat", self.child.id());
        wait_until("the process to stop", || {
            let stat = fs::read_to_string(&stat).unwrap_or_default();
            // After the name in parentheses, which may hold anything.
            let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
            matches!(state, Some('T' | 'Z' | 'X') | None)
        });
        assert!(!self.has_ended(), "it ended before it could be stopped: {}", self.command);
    }

    /// Lets it go on after `freeze`.
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
        self.frozen = false;
    }

    /// What it wrote to its error output so far.
    pub fn stderr_so_far(&self) -> String {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.stderr));
        String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
    }

    /// Returns when it ended by itself.
    #[track_caller]
    pub fn wait(self) -> Run {
        self.wait_for(PATIENCE)
    }

    #[track_caller]
    fn wait_for(mut self, patience: Duration) -> Run {
        let start = Instant::now();
        while !self.has_ended() {
            let so_far = || format!("{}\n{}", self.command, self.stderr_so_far());
            assert!(start.elapsed() < patience, "waited in vain for the end of {}", so_far());
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().unwrap();
        let read = |file: &mut File| {
            let mut content = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut content).unwrap();
            content
        };
        let (stdout, stderr) = (read(&mut self.stdout), read(&mut self.stderr));
        Run { command: std::mem::take(&mut self.command), status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::KILL);
            self.child.wait().ok();
        }
    }
}
