//! Asking a person, where there is one.

use super::exit::Failure;
use crate::config::Secret;
use std::io::{self, IsTerminal as _, Write as _};

/// Whether a person can be asked.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Ask a question that only a whole `yes` answers.
pub(super) fn confirm(question: &str) -> Result<bool, Failure> {
    let failed = |error: io::Error| Failure::internal(format!("could not ask: {error}"));
    // Not locked while waiting: a signal has something to say meanwhile.
    write!(io::stderr(), "{question} Type yes to go on: ").map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim() == "yes")
}

/// Ask for a password, twice where it is a new one.
pub(super) fn password(what: &str, twice: bool) -> Result<Secret, Failure> {
    if !is_possible() {
        return Err(Failure::usage(
            format!("{what} is needed, and there is no terminal to ask for it"),
            "give it in a file with --new-password-file",
        ));
    }
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt)
            .map_err(|error| Failure::internal(format!("could not ask for {what}: {error}")))
    };
    let first = ask(format!("{what}: "))?;
    if twice && ask(format!("{what}, again: "))? != first {
        return Err(Failure::usage("the two passwords differ", "try again"));
    }
    Secret::new(first).map_err(|error| {
        Failure::usage(format!("{what} cannot be used: {error}"), "use another one")
    })
}
