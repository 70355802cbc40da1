//! What can go wrong with a command, with what to do about it.

use crate::model::event::Cancelled;
use crate::model::via::Via;
use std::fmt;
use std::io;
use std::time::Duration;

/// How a command ended that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "exit status {status}"),
            Self::Signal(signal) => write!(formatter, "ended by signal {signal}"),
        }
    }
}

/// A failure to run a command somewhere.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The program on this host that begins the chain could not be started.
    #[error("could not start {program} (for {via}): {source}")]
    Start {
        /// `ssh`, `docker`, or the command itself where it is local.
        program: String,
        /// Where to.
        via: Via,
        /// What the system said.
        source: io::Error,
    },
    /// It ended badly.
    #[error("{program} (via {via}) failed, {ending}: {}", said_or_nothing(said))]
    Failed {
        /// The command.
        program: String,
        /// Where.
        via: Via,
        /// How it ended.
        ending: Ending,
        /// The end of what it said on its standard error.
        said: String,
    },
    /// It neither said nor took anything.
    #[error("{program} (via {via}) was ended: nothing came from it for {} seconds{}", after.as_secs(), and_said(said))]
    Silent {
        /// The command.
        program: String,
        /// Where.
        via: Via,
        /// For how long.
        after: Duration,
        /// What it had said before.
        said: String,
    },
    /// Its output could not be read, or its input not be written.
    #[error("could not {action} {program} (via {via}): {source}")]
    Stream {
        /// `read from` or `write to`.
        action: &'static str,
        /// The command.
        program: String,
        /// Where.
        via: Via,
        /// What the system said.
        source: io::Error,
    },
    /// It said more than was asked for.
    #[error("{program} (via {via}) said more than {limit} bytes")]
    TooMuch {
        /// The command.
        program: String,
        /// Where.
        via: Via,
        /// How many were expected at most.
        limit: u64,
    },
    /// What it said is not what it should have said.
    #[error("{program} (via {via}) answered with something else than expected: {reason}")]
    Strange {
        /// The command.
        program: String,
        /// Where.
        via: Via,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret cannot go through.
    #[error("the secret for {name} holds a line break, and cannot be handed over through ssh")]
    SecretWithLineBreak {
        /// The variable that it is for.
        name: String,
    },
    /// The job was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn said_or_nothing(said: &str) -> &str {
    if said.is_empty() { "it said nothing" } else { said }
}

fn and_said(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; before that: {said}") }
}

/// The status of `ssh` when the line, and not the command, failed.
const SSH_FAILED: i32 = 255;
/// The status of what was killed, as `docker exec` hands it on.
const KILLED: i32 = 137;
/// The statuses of shells and of `docker exec` for a program that is not there.
const NOT_THERE: [i32; 2] = [126, 127];

impl AccessError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Start { program, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(format!("install {program} on this host, or name another way with `via`"))
            }
            Self::Failed { via, ending, said, program } => {
                hint_of_failure(via, ending, said, program)
            }
            Self::Silent { .. } => Some("is it waiting for a lock, or is the line dead?".into()),
            _ => None,
        }
    }
}

fn hint_of_failure(via: &Via, ending: &Ending, said: &str, program: &str) -> Option<String> {
    let has = |text: &str| said.contains(text);
    let hint = if has("permission denied while trying to connect to the Docker")
        || has("Got permission denied")
    {
        "run Belay as root, or as a user in the group docker".to_owned()
    } else if has("Cannot connect to the Docker daemon") {
        "is Docker running there? `systemctl status docker`".to_owned()
    } else if has("No such container") {
        "see the names of what runs there: `docker ps`".to_owned()
    } else if has("is not running") || has("is paused") {
        "start it, then run this again: `docker start NAME` or `docker unpause NAME`".to_owned()
    } else if has("Host key verification failed") {
        "log in once by hand as the user that runs Belay, and compare the host's key".to_owned()
    } else if has("Permission denied (") {
        "let the user that runs Belay log in there with a key, without a prompt".to_owned()
    } else if *ending == Ending::Status(SSH_FAILED) && via.to_string().contains("ssh:") {
        "the line broke or never stood: is the host up, and does `ssh` reach it from here?"
            .to_owned()
    } else if *ending == Ending::Status(KILLED) && via.container().is_some() {
        "it was killed: did the container stop, or did memory run out? `docker ps -a`, `dmesg`"
            .to_owned()
    } else if NOT_THERE.map(Ending::Status).contains(ending) || has("executable file not found") {
        format!("install {program} there")
    } else {
        return None;
    };
    Some(hint)
}
