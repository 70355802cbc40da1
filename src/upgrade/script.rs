//! A program of the user's own, run somewhere with a limit of time.
//!
//! What always holds: what it says is told while it says it; it gets no variable of Belay's own environment but a few that no secret
//! is in; and when its time is over, when the job is cancelled, when the line breaks or Belay itself ends, all that it has
//! started ends with it, unless that made itself independent. A program that ended leaves running what it started.

use crate::access::{Access, AccessError, Command, Output};
use crate::config::pair::Script;
use crate::model::event::{Cancel, Cancelled};
use crate::model::via::Via;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How soon a cancelled job and a limit of time are noticed.
const LOOK: Duration = Duration::from_millis(50);
/// How long what was ended may take until it has.
const GRACE: Duration = Duration::from_secs(10);
/// A longer line is cut.
const MOST_LINE_BYTES: u64 = 2_000;
/// Lines that wait until somebody has heard them.
const WAITING_LINES: usize = 64;
/// The last lines, for the error.
const LAST_LINES: usize = 20;

/// Runs a program in a session of its own, so that all of it can be ended. What ends it is the end of its input: Belay closes
/// that when the time is over, the system when Belay is not there any more, and the line when it breaks.
const SUPERVISE: &str = r#"set -u
dir=$1; token=$2; shift 2
[ -z "$dir" ] || cd -- "$dir" || exit 1
for n in PATH HOME USER LOGNAME LANG LC_ALL TZ TMPDIR XDG_RUNTIME_DIR SSH_AUTH_SOCK DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG DOCKER_CERT_PATH DOCKER_TLS_VERIFY; do
  eval "[ -z \"\${$n+x}\" ] || set -- \"$n=\${$n}\" \"\$@\""
done
exec 3<&0
setsid env -i "$@" </dev/null 2>&1 3<&- &
child=$!
setsid sh -c 'cat <&3 >/dev/null; kill -KILL "-$1" || kill -KILL "$1"' belay "$child" >/dev/null 2>&1 &
watcher=$!
wait "$child"
status=$?
kill -KILL "-$watcher" 2>/dev/null || kill -KILL "$watcher" 2>/dev/null
printf '\n%s %s\n' "$token" "$status""#;

/// Becomes the program: behind it no argument is taken for a variable.
const BECOME: [&str; 4] = ["sh", "-c", r#"exec "$@""#, "belay"];

/// Why a program did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It could not be started, or the line broke.
    #[error(transparent)]
    Access(AccessError),
    /// It ended badly.
    #[error("{script} (via {via}) failed with the exit status {status}{}", and_said(said))]
    Failed {
        /// The program.
        script: String,
        /// Where.
        via: Via,
        /// Its status.
        status: i32,
        /// The last lines of what it said.
        said: Vec<String>,
    },
    /// It took too long, and was ended with all that it had started.
    #[error("{script} (via {via}) was ended: it took longer than {} seconds{}", limit.as_secs(), and_said(said))]
    TooLong {
        /// The program.
        script: String,
        /// Where.
        via: Via,
        /// Than what.
        limit: Duration,
        /// The last lines of what it said.
        said: Vec<String>,
        /// Whether it is known that it has ended.
        has_ended: bool,
    },
    /// The way to it broke off before it ended.
    #[error("{script} (via {via}) broke off before it ended{}", and_said(said))]
    BrokeOff {
        /// The program.
        script: String,
        /// Where.
        via: Via,
        /// The last lines of what it said.
        said: Vec<String>,
    },
    /// The job was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn and_said(said: &[String]) -> String {
    if said.is_empty() { ": it said nothing".to_owned() } else { format!(": {}", said.join(" | ")) }
}

impl From<AccessError> for ScriptError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Access(error),
        }
    }
}

impl ScriptError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Access(error) => error.hint(),
            Self::Failed { status: 126 | 127, via, .. } => {
                Some(format!("is it there (via {via}), and may it be run?"))
            }
            Self::Failed { .. } | Self::Cancelled(_) => None,
            Self::TooLong { has_ended: false, via, .. } => {
                Some(format!("it may still run (via {via}): look there before it is run again"))
            }
            Self::TooLong { .. } => Some("raise its timeout, or see what it waits for".to_owned()),
            Self::BrokeOff { .. } => Some("is the host up, and does `ssh` reach it?".to_owned()),
        }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }
}

/// A program that is to be run.
pub(super) struct ScriptRun<'a> {
    /// The way to where it runs.
    pub(super) access: &'a Access,
    /// The directory that it runs in; empty is where the way leads to.
    pub(super) dir: &'a str,
    /// The program.
    pub(super) script: &'a Script,
    /// Variables of its environment, none of which is a secret.
    pub(super) variables: &'a [(&'static str, String)],
    /// How long it may take.
    pub(super) limit: Duration,
    /// How it is asked to stop.
    pub(super) cancel: &'a Cancel,
}

/// What comes from a program.
enum Heard {
    Line(String),
    Ended(i32),
}

/// How a program ended.
enum End {
    Status(i32),
    TimeIsOver,
    Cancelled,
    BrokeOff,
}

impl ScriptRun<'_> {
    /// Run it to its end. `heard` gets each line of what it says, without control characters.
    pub(super) fn run(&self, heard: &mut dyn FnMut(&str)) -> Result<(), ScriptError> {
        self.cancel.check()?;
        let token = token();
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={value}"));
        let command = Command::shell(SUPERVISE)
            .arguments([self.dir, token.as_str()])
            .arguments(variables)
            .arguments(BECOME)
            .argument(&self.script.program)
            .arguments(&self.script.arguments)
            // It may think for as long as it may take.
            .silence(Duration::MAX);
        // Ended by its input alone: were what supervises it killed, nobody would tell that it has ended.
        let mut running = self.access.anew().start(&command, true)?;
        let (input, output) = (running.stdin(), running.stdout());
        let (lines, come) = sync_channel(WAITING_LINES);
        std::thread::spawn(move || listen(output, &token, &lines));
        let mut last = VecDeque::new();
        let end = self.follow(&come, &mut |line: &str| {
            heard(line);
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line.to_owned());
        });
        drop(input);
        let said: Vec<String> = last.into();
        let (script, via) = (self.script.to_string(), self.access.via().clone());
        let has_ended = match end {
            End::Status(_) | End::BrokeOff => true,
            End::TimeIsOver | End::Cancelled => ends(&come),
        };
        // What does not end is ended on this side.
        let finished = if has_ended {
            running.finish().map(drop)
        } else {
            drop(running);
            Ok(())
        };
        match end {
            End::Status(0) => Ok(()),
            End::Status(status) => Err(ScriptError::Failed { script, via, status, said }),
            End::TimeIsOver => {
                Err(ScriptError::TooLong { script, via, limit: self.limit, said, has_ended })
            }
            End::Cancelled => Err(Cancelled.into()),
            End::BrokeOff => {
                finished?;
                Err(ScriptError::BrokeOff { script, via, said })
            }
        }
    }

    fn follow(&self, come: &Receiver<Heard>, heard: &mut dyn FnMut(&str)) -> End {
        let begun = Instant::now();
        loop {
            if self.cancel.is_cancelled() {
                return End::Cancelled;
            }
            if begun.elapsed() >= self.limit {
                return End::TimeIsOver;
            }
            match come.recv_timeout(LOOK) {
                Ok(Heard::Line(line)) => heard(&line),
                Ok(Heard::Ended(status)) => return End::Status(status),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return End::BrokeOff,
            }
        }
    }
}

/// Whether what was told to end does so soon.
fn ends(come: &Receiver<Heard>) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < GRACE {
        match come.recv_timeout(LOOK) {
            Ok(Heard::Ended(_)) | Err(RecvTimeoutError::Disconnected) => return true,
            Ok(Heard::Line(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
    false
}

/// What no program says by chance.
fn token() -> String {
    let mut bytes = [0; 16];
    // Where the system has no random numbers a program would have to guess the words.
    let _ = getrandom::fill(&mut bytes);
    format!("belay-ended-{}", hex::encode(bytes))
}

/// Hand on what a program says, a line at a time.
fn listen(output: Output, token: &str, lines: &SyncSender<Heard>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut output).take(MOST_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            _ => return,
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if let Some(status) = text.strip_prefix(token) {
            let _ = lines.send(Heard::Ended(status.trim().parse().unwrap_or(-1)));
            return;
        }
        let printable: String =
            text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
        if !printable.trim().is_empty() && lines.send(Heard::Line(printable)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn script(text: &str) -> Script {
        Script { program: "/bin/sh".into(), arguments: vec!["-c".into(), text.into()] }
    }

    fn run_with(
        text: &str,
        limit: Duration,
        cancel: &Cancel,
    ) -> (Vec<String>, Result<(), ScriptError>) {
        let access = Access::new(Via::local(), None, cancel);
        let variables = [("BELAY_VERSION", "v1.97".to_owned())];
        let script = script(text);
        let run = ScriptRun {
            access: &access,
            dir: "",
            script: &script,
            variables: &variables,
            limit,
            cancel,
        };
        let mut lines = Vec::new();
        let result = run.run(&mut |line| lines.push(line.to_owned()));
        (lines, result)
    }

    fn run(text: &str) -> (Vec<String>, Result<(), ScriptError>) {
        run_with(text, Duration::from_mins(1), &Cancel::new())
    }

    /// The process of this number, unless it has ended.
    fn is_running(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    }

    fn wait_for(what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_it_says_is_heard_and_how_it_ended_is_told() {
        let (lines, result) = run("echo one; echo two >&2; printf 'thr\\033[2Jee'");
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(lines, ["one", "two", "thr [2Jee"]);
        let (_, result) = run("echo no room; exit 3");
        let error = result.unwrap_err();
        assert_eq!(
            error.to_string(),
            "/bin/sh -c echo no room; exit 3 (via local) failed with the exit status 3: no room"
        );
        let (_, result) = run("kill -TERM $$");
        assert!(matches!(result, Err(ScriptError::Failed { status: 143, .. })), "{result:?}");
        let access = Access::new(Via::local(), None, &Cancel::new());
        let missing = Script { program: "/nonexistent/a=b".into(), arguments: Vec::new() };
        let cancel = Cancel::new();
        let run = ScriptRun {
            access: &access,
            dir: "",
            script: &missing,
            variables: &[],
            limit: Duration::from_mins(1),
            cancel: &cancel,
        };
        let error = run.run(&mut |_| {}).unwrap_err();
        assert!(error.hint().unwrap().contains("is it there (via local)"), "{error}");
    }

    #[test]
    fn it_gets_its_variables_and_none_of_belays_own() {
        let (lines, result) = run("env");
        result.unwrap();
        assert!(lines.contains(&"BELAY_VERSION=v1.97".to_owned()), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("PATH=")), "{lines:?}");
        let allowed = SUPERVISE.split_once("for n in ").unwrap().1.split_once(';').unwrap().0;
        // The last three are what shells make themselves.
        let allowed: Vec<&str> =
            allowed.split(' ').chain(["BELAY_VERSION", "PWD", "SHLVL", "_"]).collect();
        for line in &lines {
            let (name, _) = line.split_once('=').unwrap();
            assert!(allowed.contains(&name), "{name}");
        }
    }

    #[test]
    fn when_its_time_is_over_all_that_it_started_ends() {
        let text = "sleep 1000 & echo $!; echo $$; trap '' TERM INT HUP; wait; sleep 1000";
        let (lines, result) = run_with(text, Duration::from_secs(1), &Cancel::new());
        let error = result.unwrap_err();
        assert!(matches!(error, ScriptError::TooLong { has_ended: true, .. }), "{error:?}");
        assert!(error.to_string().contains("it took longer than 1 seconds"), "{error}");
        assert_eq!(lines.len(), 2);
        for pid in &lines {
            wait_for("the script to end", || !is_running(pid));
        }
    }

    #[test]
    fn a_cancelled_job_ends_it_as_well() {
        let cancel = Cancel::new();
        let stop = cancel.clone();
        let access = Access::new(Via::local(), None, &cancel);
        let script = script("echo $$; sleep 1000");
        let run = ScriptRun {
            access: &access,
            dir: "",
            script: &script,
            variables: &[],
            limit: Duration::from_mins(5),
            cancel: &cancel,
        };
        let mut pid = String::new();
        let result = run.run(&mut |line| {
            line.clone_into(&mut pid);
            stop.cancel();
        });
        assert!(result.unwrap_err().is_cancelled());
        wait_for("the script to end", || !is_running(&pid));
    }

    #[test]
    fn a_server_that_it_starts_stays_and_nobody_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let text = format!("sleep 1000 & echo $! > {}; echo started", file.display());
        let (lines, result) = run_with(&text, Duration::from_mins(5), &Cancel::new());
        result.unwrap();
        assert_eq!(lines, ["started"]);
        let pid = std::fs::read_to_string(&file).unwrap();
        assert!(is_running(pid.trim()));
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn it_runs_in_its_directory_and_long_lines_are_cut() {
        let access = Access::new(Via::local(), None, &Cancel::new());
        let cancel = Cancel::new();
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().canonicalize().unwrap();
        let script = script("pwd; head -c 5000 /dev/zero | tr '\\0' x");
        let run = ScriptRun {
            access: &access,
            dir: dir.to_str().unwrap(),
            script: &script,
            variables: &[],
            limit: Duration::from_mins(1),
            cancel: &cancel,
        };
        let mut lines = Vec::new();
        run.run(&mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(Path::new(&lines[0]), dir);
        assert_eq!(lines[1..].iter().map(String::len).collect::<Vec<_>>(), [2000, 2000, 1000]);
    }
}
