//! Asking a person, where there is one.
//!
//! Whoever waits here can be interrupted: the terminal is as before then, and locks are given back.

use super::exit::{Exit, Failure};
use super::output::printable;
use crate::config::Secret;
use crate::model::event::Cancel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal as _, Write as _};

/// How often a prompt looks whether somebody interrupted it: a signal may end the wait of any thread, or of none.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Whether a person can be asked.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Ask a question that only a whole `yes` answers.
pub(super) fn confirm(question: &str, cancel: &Cancel) -> Result<bool, Failure> {
    let answer = ask(&format!("{}Type yes to go on: ", printable(question)), cancel)?;
    Ok(answer.trim() == "yes")
}

/// Ask for a password, twice where it is a new one.
pub(super) fn password(what: &str, twice: bool, cancel: &Cancel) -> Result<Secret, Failure> {
    if !is_possible() {
        return Err(Failure::usage(
            format!("{what} is needed, and there is no terminal to ask for it"),
            "give it in a file with --new-password-file",
        ));
    }
    let ask = |prompt: String| {
        let hidden = Hidden::new().map_err(|error| failed(&error))?;
        let answer = ask(&prompt, cancel);
        drop(hidden);
        // The line break that was typed did not show.
        let _ = writeln!(io::stderr());
        let answer = answer?;
        Ok::<_, Failure>(answer.strip_suffix('\n').unwrap_or(&answer).to_owned())
    };
    let first = ask(format!("{what}: "))?;
    if twice && ask(format!("{what}, again: "))? != first {
        return Err(Failure::usage("the two passwords differ", "try again"));
    }
    Secret::new(first).map_err(|error| {
        Failure::usage(format!("{what} cannot be used: {error}"), "use another one")
    })
}

fn failed(error: &io::Error) -> Failure {
    Failure::internal(format!("could not ask: {error}"))
}

/// One line from the terminal, its end included.
fn ask(prompt: &str, cancel: &Cancel) -> Result<String, Failure> {
    // Not locked while waiting: a signal has something to say meanwhile.
    write!(io::stderr(), "{prompt}").map_err(|error| failed(&error))?;
    let stdin = io::stdin();
    loop {
        if cancel.is_cancelled() {
            let message = "interrupted; nothing was done".into();
            return Err(Failure { exit: Exit::Interrupted, message, hint: None });
        }
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&LOOK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(failed(&error.into())),
        }
    }
    let mut answer = String::new();
    stdin.read_line(&mut answer).map_err(|error| failed(&error))?;
    Ok(answer)
}

/// While it lasts, what is typed does not show.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that went away needs nothing back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
